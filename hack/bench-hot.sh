#!/usr/bin/env bash
# Measures the hot paths and compares them with the baseline: benchstat shows everything, and more allocations than there fail.
# With SAVE set the baseline is replaced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

baseline=hack/tools/bench/baseline.txt
# The packages that have benchmarks called BenchmarkHot….
packages=(./runtime/ews ./runtime/credential ./runtime/push/apns ./hack/loadgen)
# benchstat wants six runs of each to say how far they differ.
runs=6
# A run of posts takes about a second with so many.
events=1500x

now=$(mktemp)
trap 'rm -f "$now"' EXIT
# How many events share a statement depends on how many run at once: two, wherever there are more.
GOMAXPROCS=2 go test -run='^$' -bench='^BenchmarkHot' -benchtime="$events" -count="$runs" "${packages[@]}" >"$now" || { cat "$now"; exit 1; }
if [ -n "${SAVE:-}" ]; then
	grep -v '^ok\|^PASS\|^cpu:' "$now" >"$baseline"
	echo "saved in $baseline"
	exit
fi
go tool -modfile=hack/tools/bench/go.mod benchstat -ignore goos,goarch,cpu "$baseline" "$now"
go -C hack/tools/bench run . "$PWD/$baseline" "$now"
