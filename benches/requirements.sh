#!/usr/bin/env bash
# What a layer of packages costs: numpy and scikit-learn with every wheel here already, to the finished layer, beside `pip install --target --no-compile`
# of the same lock from the same wheels. The index is asked once, before anything is measured.
#
#   benches/requirements.sh [HS]      HS is the program, target/release/hs by default; uv and a pip of Python 3.11 must be in PATH, or in HS_UV and PIP
#
# What must stay true: both begin with the same files in the page cache, neither has the network, and hs remembers nothing of an earlier build.
set -euo pipefail
hs=$(realpath "${1:-$(dirname "$0")/../target/release/hs}")
pip=${PIP:-pip3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data"

mkdir -p "$work/root" "$work/model/src"
echo base >"$work/root/base"
tar -C "$work/root" -cf "$work/root.tar" .
echo '{"architecture":"amd64","os":"linux","config":{"Labels":{"io.lamina.python-version":"3.11","io.lamina.libc":"glibc 2.36"}}}' >"$work/config.json"
"$hs" -q base import --name base:1 --image-config "$work/config.json" --to "oci:$work/base:base:1" "$work/root.tar" >/dev/null
printf 'numpy\nscikit-learn\n' >"$work/model/requirements.txt"
echo 'def predict(x): return {}' >"$work/model/src/func_main.py"
build() { "$hs" -q build "$work/model" --no-contract --runtime "oci:$work/base:base:1" --no-cache "$@" >/dev/null; }

build # chooses and fetches
mkdir "$work/wheels"
find "$XDG_CACHE_HOME/lamina/wheels" -name '*.whl' -exec ln -t "$work/wheels" {} +
now() { date +%s%N; }
for round in 1 2 3 4 5; do
    begin=$(now)
    build
    middle=$(now)
    "$pip" install -q --disable-pip-version-check --no-index --find-links "$work/wheels" --no-deps --require-hashes --no-compile --target "$work/lib" -r "$work/model/requirements.lock"
    end=$(now)
    rm -rf "$work/lib"
    awk -v hs=$((middle - begin)) -v pip=$((end - middle)) -v n=$round 'BEGIN { printf "round %d: hs %.2f s, pip %.2f s, ratio %.2f\n", n, hs / 1e9, pip / 1e9, hs / pip }' | tee -a "$work/rounds"
done
awk '{ print $NF }' "$work/rounds" | sort -n | awk 'NR == 3 { print "median of the ratios: " $1 }'
