#!/usr/bin/env bash
# Puts together the runtime's Python folder: our server, and hydro_serving_grpc with its message modules made by protoc.
#
# usage: python_tree.sh PROTO_DIR DESTINATION
#
# It is not the image: build.sh packs DESTINATION, and the tests run from one. What must stay true: the same sources and the same release of
# protoc give the same files. Releases outside of the accepted ones are refused, because what a newer protoc writes does not load with
# Debian bookworm's protobuf, and what an older one writes is refused by it; the container would find out first.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
server=$here/../server
proto_dir=$1
mkdir -p "$2"
destination=$(cd "$2" && pwd -P)

unavailable() {
    printf 'serving-runtime-python: %s\n' "$1" >&2
    exit 69
}

command -v protoc >/dev/null || unavailable "protoc is not installed: apt-get install protobuf-compiler"
# 3.20 and 3.21 are also called 20 and 21 by their own --version, depending on who built them.
release=$(protoc --version | sed 's/^libprotoc //')
case $release in
3.20.* | 3.21.* | 20.* | 21.*) ;;
*) unavailable "protoc is $release, and modules for Debian bookworm's protobuf need 3.20 or 3.21: apt-get install protobuf-compiler on Debian bookworm" ;;
esac
[ -f "$proto_dir/hydro_serving_grpc/contract/model_contract.proto" ] ||
    unavailable "there are no .proto files in $proto_dir: set PROTO_DIR to this repository's proto folder"

# File by file, without bytecode that a test run may have left beside the sources.
(cd "$server" && find serve.py probe.py lamina_runtime hydro_serving_grpc -name '*.py' | LC_ALL=C sort) | while IFS= read -r file; do
    install -D -m 0644 "$server/$file" "$destination/$file"
done

# Messages of models and runtimes and no others: a change in what other parts of the product read must not make a new runtime. The protocols of
# health and reflection get no modules: lamina_runtime/health.py says why.
messages=$(cd "$proto_dir" && find hydro_serving_grpc -name '*.proto' | LC_ALL=C sort)
# shellcheck disable=SC2086  # One word a file: the names are ours, and without blanks.
(cd "$proto_dir" && protoc -I . --python_out "$destination" $messages)
# What lamina_runtime/reflection.py tells of them.
# shellcheck disable=SC2086
(cd "$proto_dir" && protoc -I . --include_imports --descriptor_set_out "$destination/lamina_runtime/descriptors.bin" \
    $messages grpc/health/v1/health.proto grpc/reflection/v1/reflection.proto grpc/reflection/v1alpha/reflection.proto)
