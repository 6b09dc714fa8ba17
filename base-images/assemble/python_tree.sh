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
destination=$2

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

mkdir -p "$destination"
# File by file, without bytecode that a test run may have left beside the sources.
(cd "$server" && find . -name '*.py' | LC_ALL=C sort) | while IFS= read -r file; do
    install -D -m 0644 "$server/$file" "$destination/$file"
done

# Messages of models and runtimes and no others: a change in what other parts of the product read must not make a new runtime. The health protocol is
# left out too: lamina_runtime/health.py says why.
(cd "$proto_dir" && find hydro_serving_grpc -name '*.proto' -print0 | LC_ALL=C sort -z) |
    xargs -0 protoc -I "$proto_dir" --python_out "$destination"
