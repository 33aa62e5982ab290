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

failed=0
while read -r package name; do
	echo "=== $package $name"
	go test -run='^$' -fuzz="^$name\$" -fuzztime="${FUZZTIME:-5s}" "$package" </dev/null || failed=1
done <<<"$targets"
exit "$failed"
