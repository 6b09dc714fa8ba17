#!/usr/bin/env bash
# What the layers of packages cost: numpy and scikit-learn with every wheel here already, to the finished layers, beside `pip install --target` of the same lock from the
# same wheels. Twice: with the bytecode of the wheels here as well, beside `pip install --no-compile`; and without it, beside pip as it comes, which
# compiles too. The index is asked once, before anything is measured.
#
#   benches/requirements.sh [HS]      HS is the program, target/release/hs by default; uv and a pip of Python 3.11 must be in PATH, or in HS_UV and PIP; and what
#                                     base-images/build.sh needs, with PACKAGES its folder of downloaded packages
#
# What must stay true: both begin with the same files in the page cache, neither has the network, and hs remembers nothing of an earlier build but what is said.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd -P)
hs=$(realpath "${1:-$here/target/release/hs}")
pip=${PIP:-pip3}
base=serving-runtime-python:3.11
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data"

HS="$hs" PACKAGES="${PACKAGES:-$work/packages}" "$here/base-images/build.sh" "$base" --or-newest >&2
mkdir -p "$work/model/src"
printf 'numpy\nscikit-learn\n' >"$work/model/requirements.txt"
echo 'def predict(x): return {}' >"$work/model/src/func_main.py"
build() { "$hs" -q build "$work/model" --no-contract --runtime "$base" --no-cache >/dev/null; }

build # chooses, fetches and compiles
mkdir "$work/wheels"
find "$XDG_CACHE_HOME/lamina/wheels" -name '*.whl' -exec ln -t "$work/wheels" {} +
install() {
    "$pip" install -q --disable-pip-version-check --no-index --find-links "$work/wheels" --no-deps --require-hashes "$@" --target "$work/lib" \
        -r "$work/model/requirements.lock"
}
now() { date +%s%N; }

# Five rounds of hs and pip in turn; the first argument says what is compared, the others are pip's.
compare() {
    local what=$1 round begin middle end
    shift
    : >"$work/rounds"
    for round in 1 2 3 4 5; do
        [ "$what" = warm ] || rm -rf "$XDG_CACHE_HOME/lamina/bytecode" "$XDG_CACHE_HOME/lamina/interpreters"
        begin=$(now)
        build
        middle=$(now)
        install "$@"
        end=$(now)
        rm -rf "$work/lib"
        awk -v hs=$((middle - begin)) -v pip=$((end - middle)) -v n=$round \
            'BEGIN { printf "round %d: hs %.2f s, pip %.2f s, ratio %.2f\n", n, hs / 1e9, pip / 1e9, hs / pip }' | tee -a "$work/rounds"
    done
    awk '{ print $NF }' "$work/rounds" | sort -n | awk -v what="$what" 'NR == 3 { print "median of the ratios, " what ": " $1 }'
}
compare warm --no-compile
compare compiling
