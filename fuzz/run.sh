#!/usr/bin/env bash
# Fuzzes the readers of strangers' bytes, one target after the other, and fails where one ends, hangs or eats memory.
#
#   fuzz/run.sh SECONDS [TARGET…]      SECONDS in all, shared among the targets (default: every target)
#
# What must stay true: the limits below are those that a reader has to keep. What is found stays in fuzz/artifacts/, with the line that shows it.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET…]}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list --fuzz-dir .)
share=$((seconds / ${#targets[@]}))
[ "$share" -gt 0 ] || { echo "$seconds seconds are too few for ${#targets[@]} targets" >&2; exit 2; }

# A reader may hold 256 MiB at once and take five seconds, with the sanitiser in it (a tenth of that without). An input is at most what the
# readers of text take, and a little; what a reader makes of millions of bytes is asked by tests (tests/contract/*_limits.rs).
limits=(-malloc_limit_mb=256 -rss_limit_mb=2048 -timeout=5 -max_len=1100000 -len_control=50)
# All of it first, so that the time is spent on running.
cargo fuzz build --fuzz-dir .
failed=()
for target in "${targets[@]}"; do
    echo "== $target, $share s"
    mkdir -p "corpus/$target" "found/$target"
    # What is new goes to found/; the corpus is changed by a merge only (README.md).
    cargo fuzz run --fuzz-dir . "$target" "found/$target" "corpus/$target" -- \
        "${limits[@]}" -max_total_time="$share" -print_final_stats=1 -verbosity=1 || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "found something: ${failed[*]} (fuzz/artifacts/)" >&2
    exit 1
fi
echo "nothing found in ${#targets[@]} targets"
