#!/usr/bin/env bash
# How soon a container answers: a scikit-learn model in an image that hs built, beside the same model, base and packages in one that buildah made from a
# Dockerfile with `pip install`; from `podman run` to the first answer over HTTP. Beside them, what hs builds with `--no-bytecode`.
#
#   benches/container_start.sh [HS]      HS is the program, target/release/hs by default; podman, buildah, curl, and what base-images/build.sh needs
#
# What must stay true: all images have been started once before anything is measured, all are started in the same way, and all give the same number.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd -P)
hs=$(realpath "${1:-$here/target/release/hs}")
port=${PORT:-19092}
# podman takes no upper case in the path of a layout.
work=${TMPDIR:-/tmp}/hs-container-start-$$
mkdir "$work"
store=(--root "$work/images" --runroot "$work/run")
cleanup() {
    podman "${store[@]}" system reset --force >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
export XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data"

# The model: three features, one number.
mkdir -p "$work/model/src"
printf 'scikit-learn==1.5.2\nnumpy==1.26.4\n' >"$work/model/requirements.txt"
cat >"$work/model/src/func_main.py" <<'END'
import hydro_serving_grpc as hs
import numpy as np
from sklearn.linear_model import LinearRegression

MODEL = LinearRegression().fit([[0, 0], [1, 0], [0, 1]], [1.0, 1.5, 1.25])


def infer(x):
    rows = np.frombuffer(x.tensor_content) if x.tensor_content else np.array(x.double_val)
    y = MODEL.predict(rows.reshape(-1, 2)).round(6)
    shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=len(y))])
    return hs.PredictResponse(outputs={"y": hs.TensorProto(dtype=hs.DT_DOUBLE, tensor_shape=shape, double_val=y)})
END
cat >"$work/model/serving.yaml" <<'END'
kind: Model
name: start
model-type: python:3.11
contract:
  infer:
    inputs: {x: {shape: [-1, 2], type: double}}
    outputs: {y: {shape: [-1], type: double}}
END

base=serving-runtime-python:3.11
OUT="$work/base" HS="$hs" PACKAGES="${PACKAGES:-$work/packages}" "$here/base-images/build.sh" "$base" --or-newest >&2
build() { "$hs" -q build "$work/model" --runtime "$base" "$@" >/dev/null; }
build --to "oci:$work/layout:ours:1"
build --no-bytecode --to "oci:$work/layout:bare:1"

# The same by pip: a Dockerfile on the same base, with the wheels of the same lock; pip comes as its wheel, since the base has none.
mkdir -p "$work/context/wheels"
find "$XDG_CACHE_HOME/lamina/wheels" -name '*.whl' -exec cp -t "$work/context/wheels" {} +
python3 -m pip download -q --disable-pip-version-check --no-deps -d "$work/context/pip" pip
"$hs" -q pull "oci:$work/layout:ours:1" "$work/context/files" >/dev/null
"$hs" -q contract compile "$work/model/serving.yaml" -o "$work/context/contract.protobin" >/dev/null
cat >"$work/context/Dockerfile" <<'END'
FROM localhost/base
USER root
COPY pip /tmp/pip
COPY wheels /tmp/wheels
COPY files/requirements.txt /tmp/requirements.txt
RUN PYTHONPATH=$(echo /tmp/pip/*.whl) python3 -m pip install --no-cache-dir --no-index --find-links /tmp/wheels --target /model/lib -r /tmp/requirements.txt && rm -rf /tmp/pip /tmp/wheels
COPY files /model/files
COPY contract.protobin /model/contract.protobin
ENV MODEL_DIR=/model
WORKDIR /model/files
USER 42069
END
"$hs" -q base import --name base:1 --image-config "$work/base/config.json" --to "oci:$work/layout:base:1" "$work/base/debian.tar" "$work/base/runtime.tar" >/dev/null
for name in base ours bare; do
    id=$(podman "${store[@]}" pull -q "oci:$work/layout:$name:1")
    podman "${store[@]}" tag "$id" "localhost/$name"
done
buildah "${store[@]}" bud -q --isolation chroot --pull-never -t localhost/pip "$work/context" >&2

# From `podman run` to the first answer, in milliseconds.
start() {
    local begin end answer
    begin=$(date +%s%N)
    podman "${store[@]}" run -d --rm --name model --network=host --read-only --cap-drop=all --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 \
        -e APP_PORT=$((port - 2)) -e HTTP_PORT="$port" "localhost/$1" >/dev/null
    until answer=$(curl -sf -H 'Content-Type: application/json' -d '{"x": [[1, 1], [4, -2]]}' "http://127.0.0.1:$port/predict/infer"); do sleep 0.005; done
    end=$(date +%s%N)
    podman "${store[@]}" stop -t 0 model >/dev/null
    [ "$(tr -d ' \n' <<<"$answer")" = '{"y":[1.75,2.5]}' ] || { echo "$1 answers $answer" >&2; exit 1; }
    echo $(((end - begin) / 1000000))
}
for name in ours bare pip; do start "$name" >/dev/null; done
for round in 1 2 3 4 5 6 7; do
    ours=$(start ours) pip=$(start pip) bare=$(start bare)
    awk -v n=$round -v o="$ours" -v p="$pip" -v b="$bare" \
        'BEGIN { printf "round %d: ours %d ms, pip %d ms, without bytecode %d ms, ratios %.2f %.2f\n", n, o, p, b, o / p, b / p }' | tee -a "$work/rounds"
done
awk '{ print $(NF - 1) }' "$work/rounds" | sort -n | awk 'NR == 4 { print "median of the ratios, with bytecode: " $1 }'
awk '{ print $NF }' "$work/rounds" | sort -n | awk 'NR == 4 { print "median of the ratios, without: " $1 }'
