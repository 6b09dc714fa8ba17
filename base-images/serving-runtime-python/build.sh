#!/usr/bin/env bash
# Makes the base image `serving-runtime-python:3.11`: Debian bookworm with its own Python, gRPC, protobuf and NumPy, and the server that
# serves a lamina model.
#
# usage: build.sh [arguments for `hs base import`: --to DEST, --data-dir DIR]
#
# Three files are made, and then handed to `hs base import`, one layer per tar:
#   debian.tar    all of Debian; no byte of it changes when our sources do
#   runtime.tar   our server and hydro_serving_grpc, below /opt/lamina
#   config.json   the image configuration: entry point, environment, user, port
#
# Environment:
#   HS                 the `hs` to import with (default: the one in PATH)
#   OUT                leave the three files in this folder. Unless HS is set too, nothing is imported
#   PROTO_DIR          the repository's proto folder (default: ../../proto beside this recipe)
#   APT_SOURCES        a file in deb822 form to take packages from, instead of this machine's apt sources
#   MMDEBSTRAP_MODE    root or unshare, instead of the first that works
#   SOURCE_DATE_EPOCH  the newest time that a file in the image may have (default: 0)
#
# It needs, as Debian packages: mmdebstrap, protobuf-compiler, python3; for users other than root also uidmap, and an entry in /etc/subuid.
# It needs apt sources for Debian bookworm, and uses this machine's: mirrors, keys, proxies and all. 0.5 GB of space below TMPDIR.
# The image is for this machine's architecture.
#
# What must stay true: the same package versions give the same bytes, on each machine, in each mode, on each day. Exit code 69 means that this
# machine lacks something, and stderr says what.
set -euo pipefail

release=bookworm
python_minor=3.11
home=opt/lamina

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
proto_dir=${PROTO_DIR:-$here/../../proto}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
# Sort order, messages and Python's idea of file names must not come from the user's settings; nor may bytecode land beside the sources.
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
umask 022

# Besides the four libraries and their dependencies: what installation scripts take for granted (from base-files to tar), what people and
# Kubernetes want to find in a container (dash, coreutils, findutils, grep, sed, gzip), libgomp1 for the wheels that expect it from the
# system, tzdata for TZ. Debian's plain libblas3 is slow and small: a model that multiplies large matrices lists numpy in its
# requirements.txt and gets the wheel's OpenBLAS.
packages=(
    base-files base-passwd libc-bin usr-is-merged debianutils diffutils dpkg perl-base tar
    dash coreutils findutils grep sed gzip
    "python${python_minor}" python3 python3-grpcio python3-protobuf python3-numpy
    ca-certificates libgomp1 tzdata
)

# Never unpacked at all. Copyright files are, as the licences ask.
never=(doc doc-base man info locale lintian bug bash-completion pixmaps polkit-1)

say() { printf 'serving-runtime-python: %s\n' "$1" >&2; }

unavailable() {
    say "$1"
    exit 69
}

need() {
    command -v "$1" >/dev/null || unavailable "$1 is not installed: apt-get install $2"
}

# The first mode of mmdebstrap that can work here. Each is tried with what it rests on, before half a minute of downloads.
choose_mode() {
    if [ -n "${MMDEBSTRAP_MODE:-}" ]; then
        printf '%s' "$MMDEBSTRAP_MODE"
    elif [ "$(id -u)" = 0 ]; then
        chroot / /bin/true 2>/dev/null ||
            unavailable "this root user may not chroot, so no Debian can be installed: run it in a container that has CAP_SYS_CHROOT, or as another user with unprivileged user namespaces"
        printf root
    else
        need newuidmap uidmap
        mmdebstrap --unshare-helper /bin/true >/dev/null 2>&1 ||
            unavailable "this user can have no user namespace of its own, so no Debian can be installed: run it as root, or give the user a range in /etc/subuid and /etc/subgid and let the kernel create unprivileged user namespaces"
        printf unshare
    fi
}

# This machine's apt settings that decide whether and how a download works. mmdebstrap keeps apt's other settings away from the tree, and these
# are removed from it in the end (customise.sh): they may hold a proxy's password.
apt_options() {
    apt-config dump |
        grep -E '^Acquire::((http|https|tor|ftp)[: ]|Retries|ForceIPv|Queue-Mode|Check-Valid-Until|Check-Date|Max-FutureTime|AllowInsecure|AllowWeak)' |
        grep -vE ' "";$' || true
    local netrc='' parts=''
    eval "$(apt-config shell netrc Dir::Etc::netrc/f parts Dir::Etc::netrcparts/d)"
    [ ! -r "$netrc" ] || printf 'Dir::Etc::netrc "%s";\n' "$netrc"
    [ ! -d "$parts" ] || printf 'Dir::Etc::netrcparts "%s";\n' "$parts"
}

make_debian() {
    local mode option name
    mode=$(choose_mode)
    if [ -n "${APT_SOURCES:-}" ]; then
        cp "$APT_SOURCES" "$work/$release.sources"
    else
        python3 "$here/assemble/apt_sources.py" "$release" >"$work/$release.sources" ||
            unavailable "this machine has no apt source for Debian $release: name a file with one in APT_SOURCES"
    fi

    local -a options=()
    while IFS= read -r option; do
        options+=("--aptopt=$option")
    done < <(apt_options)
    for name in "${never[@]}"; do
        options+=("--dpkgopt=path-exclude=/usr/share/$name/*")
    done
    options+=('--dpkgopt=path-include=/usr/share/doc/*/copyright')

    say "installing Debian $release (mmdebstrap, mode $mode)"
    # apt is not called again after our hook (cleanup/apt): there is nothing left of it in the tree that it could clean.
    # Sources on standard input and the tar on standard output: in unshare mode the process may not open files of this user.
    if ! mmdebstrap --quiet --mode="$mode" --variant=custom --format=tar --skip=cleanup/apt \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include="$(IFS=, && printf '%s' "${packages[*]}")" \
        --customize-hook="$(cat "$here/assemble/customise.sh")" \
        "${options[@]}" "$release" - - <"$work/$release.sources" >"$work/mmdebstrap.tar" 2>"$work/mmdebstrap.log"; then
        tail -n 20 "$work/mmdebstrap.log" >&2
        unavailable "mmdebstrap could not install Debian $release in mode $mode; the end of its log is above"
    fi
    python3 "$here/assemble/layer_tar.py" rewrite "$work/mmdebstrap.tar" "$out/debian.tar"
    rm "$work/mmdebstrap.tar"
}

make_runtime() {
    bash "$here/assemble/python_tree.sh" "$proto_dir" "$work/python"
    python3 "$here/assemble/layer_tar.py" pack "$work/python" "$home" "$out/runtime.tar"
}

make_config() {
    local architecture python_version
    architecture=$(dpkg --print-architecture)
    # Debian's names are Go's for all that bookworm's 64-bit machines are called, but one.
    [ "$architecture" != ppc64el ] || architecture=ppc64le
    python_version=$(tar -xOf "$out/debian.tar" usr/share/lamina/packages.txt | sed -n "s/^python$python_minor \\([0-9.]*\\).*/\\1/p")
    sed -e "s/@ARCHITECTURE@/$architecture/" -e "s/@PYTHON_VERSION@/$python_version/" "$here/assemble/config.json.in" >"$out/config.json"
}

need mmdebstrap mmdebstrap
need protoc protobuf-compiler
need python3 python3
need dpkg dpkg
need apt-config apt
import=yes
if [ -n "${OUT:-}" ] && [ -z "${HS:-}" ]; then
    import=no
elif ! command -v "${HS:-hs}" >/dev/null; then
    unavailable "there is no ${HS:-hs} to import the image with: set HS to the hs binary, or OUT to a folder to keep the files in"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=${OUT:-$work/out}
mkdir -p "$out"
out=$(cd "$out" && pwd -P)

# The quick one first: a protoc that is missing or wrong should not be found out after the downloads.
make_runtime
make_debian
make_config
say "made $(du -h "$out/debian.tar" | cut -f1) debian.tar, $(du -h "$out/runtime.tar" | cut -f1) runtime.tar"

if [ "$import" = yes ]; then
    # Full paths, and no change of folder: what the user gave (HS, --to, --data-dir) may be relative to this one.
    "${HS:-hs}" base import --name "serving-runtime-python:$python_minor" \
        --image-config "$out/config.json" "$out/debian.tar" "$out/runtime.tar" "$@"
fi
