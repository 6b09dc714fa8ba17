#!/usr/bin/env bash
# Makes the base image of a runtime: Debian with its own Python, the wheels that the runtime needs, and the server that serves a lamina model.
#
# usage: build.sh RUNTIME [--architecture ARCH] [--or-newest] [arguments for `hs base import`: --to DEST, --data-dir DIR, --add-platform]
#        build.sh RUNTIME [--architecture ARCH] --lock
#
# RUNTIME is `name:version`, as in runtimes.yaml: the recipe is the folder name/version beside this file. ARCH is a word of Debian's, `amd64` or
# `arm64`; left out, it is this machine's. What goes into the image is in the
# recipe's lock: of each Debian package and each wheel the version, the file, its size and its SHA-256. The files are downloaded, compared with
# the lock, and nothing else is installed. `--lock` asks the mirrors what is newest and writes the lock anew. A package that is gone from its mirror
# is exit code 66; with `--or-newest` the newest packages are taken then, and that is said: another image, but one.
#
# Up to four files are made, and then handed to `hs base import`, one layer per tar:
#   debian.tar    all of Debian; no byte of it changes when our sources or the wheels do
#   wheels.tar    the wheels, below /usr/local/lib; not where a recipe has none
#   runtime.tar   our server and hydro_serving_grpc, below /opt/lamina
#   config.json   the image configuration: entry point, environment, user, port
#
# Environment:
#   HS                 the `hs` to import with (default: the one in PATH)
#   OUT                leave the files in this folder. Unless HS is set too, nothing is imported
#   PACKAGES           keep the downloaded files in this folder, and take from it what it has: with all of them there, no network is needed
#   PROTO_DIR          the repository's proto folder (default: ../proto beside this file)
#   APT_SOURCES        a file in deb822 form to take packages from, instead of this machine's apt sources
#   PIP                the pip to download wheels with (default: python3 -m pip); index and mirrors are those of its own settings
#   MMDEBSTRAP_MODE    root or unshare, instead of the first that works
#   SOURCE_DATE_EPOCH  the newest time that a file in the image may have (default: 0)
#
# It needs, as Debian packages: mmdebstrap, protobuf-compiler, python3; for wheels also python3-pip; for users other than root also uidmap, and an
# entry in /etc/subuid. It needs apt sources of Debian, and uses this machine's: mirrors, keys, proxies and all. 0.5 GB of space below TMPDIR, 5 GB
# for TensorFlow. An image for another architecture than this machine's takes a kernel that runs its programs, since Debian's installation scripts and
# Python's compiler are such: the packages arch-test and qemu-user-static. A lock for it takes neither.
#
# What must stay true: the same lock gives the same bytes, on each machine, in each mode, on each day. Exit code 69 means that this machine lacks
# something, and stderr says what.
set -euo pipefail

home=opt/lamina
bases=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
proto_dir=${PROTO_DIR:-$bases/../proto}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
# Sort order, messages and Python's idea of file names must not come from the user's settings; nor may bytecode land beside the sources.
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
umask 022

# What every recipe has. What installation scripts take for granted (from base-files to tar), what people and Kubernetes want to find in a container
# (dash, coreutils, findutils, grep, sed, gzip), libgomp1 for the wheels that expect it from the system, tzdata for TZ.
# shellcheck disable=SC2034  # Recipes read it.
common=(
    base-files base-passwd libc-bin usr-is-merged debianutils diffutils dpkg perl-base tar
    dash coreutils findutils grep sed gzip
    ca-certificates libgomp1 tzdata
)

say() { printf '%s: %s\n' "${runtime:-build.sh}" "$1" >&2; }

# What went wrong, and the exit code.
refuse() {
    say "$1"
    exit "$2"
}

unavailable() { refuse "$1" 69; }

need() {
    command -v "$1" >/dev/null || unavailable "$1 is not installed: apt-get install $2"
}

# What the kernel calls the machines of an architecture of Debian's, which is their name in wheels.
machine_of() {
    case $1 in
        amd64) printf x86_64 ;;
        arm64) printf aarch64 ;;
        ppc64el) printf ppc64le ;;
        riscv64 | s390x) printf '%s' "$1" ;;
        *) [ "$1" != "$own_architecture" ] || uname -m ;;
    esac
}

# Takes the command's arguments into `runtime`, `architecture`, `lock_only`, `or_newest` and `import_arguments`, and reads the recipe.
read_arguments() {
    local known
    known=$(cd "$bases" && printf '%s\n' */*/recipe | sed -e 's,/recipe$,,' -e 's,/,:,' | tr '\n' ' ')
    runtime=${1:-}
    case " $known" in
        *" $runtime "*) [ -n "$runtime" ] || refuse "usage: build.sh RUNTIME [--lock]; the runtimes are: $known" 2 ;;
        *) refuse "there is no recipe for \`$runtime\`; the runtimes are: $known" 2 ;;
    esac
    shift
    lock_only=no or_newest=no import_arguments=()
    own_architecture=$(dpkg --print-architecture)
    architecture=$own_architecture
    while [ $# -gt 0 ]; do
        case $1 in
            --architecture)
                architecture=${2:-}
                [ $# = 1 ] || shift
                ;;
            --lock) lock_only=yes ;;
            --or-newest) or_newest=yes ;;
            *) import_arguments+=("$1") ;;
        esac
        shift
    done
    machine=$(machine_of "$architecture")
    [ -n "$machine" ] || refuse "\`$architecture\` is no architecture that bases are made for: expected a word of Debian's, as in \`--architecture arm64\`" 2
    # What the user would type to write this lock anew.
    lock_command="base-images/build.sh $runtime --lock"
    [ "$architecture" = "$own_architecture" ] || lock_command="$lock_command --architecture $architecture"
    folder=$bases/${runtime%%:*}/${runtime#*:}
    # Another recipe's lock, where that is made of the same files.
    lock_of=$runtime
    release='' python_minor='' description='' packages=() wheels=() without=() leave_out=() environment=()
    # shellcheck source=/dev/null
    . "$folder/recipe"
    lock=$bases/${lock_of/:/\/}/$architecture.lock
}

make_runtime() {
    bash "$bases/assemble/python_tree.sh" "$proto_dir" "$work/python"
    python3 "$bases/assemble/layer_tar.py" pack "$work/python" "$home" "$out/runtime.tar"
}

make_config() {
    local python_version lock_digest
    python_version=$(tar -xOf "$out/debian.tar" usr/share/lamina/packages.txt | sed -n "s/^python$python_minor \\([0-9.]*\\).*/\\1/p")
    lock_digest=$(sha256sum <"$lock" | cut -d' ' -f1)
    python3 "$bases/assemble/image_config.py" "$runtime" "$architecture" "$python_version" "$lock_digest" "$description" \
        "${environment[@]}" >"$out/config.json"
}

# Before the downloads, so that they are not for nothing.
check_emulation() {
    [ "$architecture" != "$own_architecture" ] || return 0
    need arch-test arch-test
    arch-test "$architecture" >/dev/null 2>&1 ||
        unavailable "this machine's kernel does not run programs of $architecture, and installing its packages takes that: apt-get install qemu-user-static (for a container, on the machine that it runs on), or make the base on a machine of that architecture"
}

need dpkg dpkg
read_arguments "$@"
need python3 python3
need apt-get apt
[ ${#wheels[@]} = 0 ] || ${PIP:-python3 -m pip} --version >/dev/null 2>&1 || unavailable "pip is not installed: apt-get install python3-pip"
if [ "$lock_only" = no ]; then
    check_emulation
    need mmdebstrap mmdebstrap
    need protoc protobuf-compiler
fi
import=yes
if [ "$lock_only" = yes ] || { [ -n "${OUT:-}" ] && [ -z "${HS:-}" ]; }; then
    import=no
elif ! command -v "${HS:-hs}" >/dev/null; then
    unavailable "there is no ${HS:-hs} to import the image with: set HS to the hs binary, or OUT to a folder to keep the files in"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=assemble/fetch.sh
. "$bases/assemble/fetch.sh"
# shellcheck source=assemble/debian.sh
. "$bases/assemble/debian.sh"

if [ "$lock_only" = yes ]; then
    write_lock "$lock"
    say "wrote $lock"
    exit
fi

out=${OUT:-$work/out}
mkdir -p "$out"
out=$(cd "$out" && pwd -P)
rm -f "$out"/{debian,wheels,runtime}.tar

# The quick one first: a protoc that is missing or wrong should not be found out after the downloads.
make_runtime
fetch
make_debian
make_config
layers=("$out/debian.tar")
[ ! -e "$out/wheels.tar" ] || layers+=("$out/wheels.tar")
layers+=("$out/runtime.tar")
say "made $(cd "$out" && du -h -- *.tar | awk '{printf "%s%s %s", separator, $1, $2; separator = ", "}')"

if [ "$import" = yes ]; then
    # Full paths, and no change of folder: what the user gave (HS, --to, --data-dir) may be relative to this one.
    "${HS:-hs}" base import --name "$runtime" --image-config "$out/config.json" "${layers[@]}" "${import_arguments[@]}"
fi
