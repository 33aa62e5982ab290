#!/usr/bin/env bash
# Runs every fuzz target of the given packages for $FUZZTIME (default 5s), one after the other: `go test -fuzz` takes
# one target at a time. Inputs that fail are written to the package's testdata/fuzz, where they belong into a commit.
set -euo pipefail

# `go test -list` prints the targets of a package and then the package.
targets=$(go test -list '^Fuzz' "$@" | awk '
	/^Fuzz/ { names[++count] = $1; next }
	$1 == "ok" { for (i = 1; i <= count; i++) print $2, names[i] }
	{ count = 0 }')
if [ -z "$targets" ]; then
	echo "no fuzz target found in $*" >&2
	exit 1
fi

# fuzz runs one target. An input that shows something new is made smaller in a few tries only: a minute of that, as is usual,
# would leave no time for anything else.
#
# On a busy machine `go test` may end a run at its deadline with "context deadline exceeded" though no input has failed
# (golang/go#75804); such a run is made once more. An input that fails is told in other words.
fuzz() {
	local output
	output=$(mktemp)
	trap 'rm -f "$output"' RETURN
	run() { go test -run='^$' -fuzz="^$2\$" -fuzztime="${FUZZTIME:-5s}" -fuzzminimizetime=10x "$1" </dev/null 2>&1 | tee "$output"; }
	run "$@" && return
	grep -q '^    context deadline exceeded$' "$output" && ! grep -q 'Failing input' "$output" || return 1
	echo "=== $1 $2, once more"
	run "$@"
}

failed=0
while read -r package name; do
	echo "=== $package $name"
	fuzz "$package" "$name" || failed=1
done <<<"$targets"
exit "$failed"
