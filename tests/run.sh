#!/usr/bin/env bash
# Passes all tests, on a fresh Debian machine with Rust: installs what they stand on, then runs them, fast stage first.
#
#   tests/run.sh              everything
#   tests/run.sh fast         without the slow stage (containers, gigabytes, real clients)
#   tests/run.sh tensorflow   only TensorFlow in containers: a download of 300 MB, 5 GB of space; part of everything where there is that space
#
# What must stay true: it does its own set-up, it fails where anything is missing, and its last lines are the test runner's.
set -euo pipefail
cd "$(dirname "$0")/.."
stage=${1:-all}

# Real parts, by what each is for: the compiler's C (zstd, ring, SQLite) · registries and image tools · the base's recipe · the base's own tests, and
# the environment of uv and pip ·
# contracts' judge · a browser · the clock with a memory, and the witness of opened files.
packages=(
    build-essential
    docker-registry skopeo umoci podman runc uidmap fuse-overlayfs slirp4netns netavark iptables
    mmdebstrap protobuf-compiler python3
    python3-grpcio python3-protobuf python3-numpy python3-pip python3-venv
    chromium chromium-driver
    time openssl curl strace
)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    # With what they recommend: podman has its network that way, mmdebstrap its keys.
    echo "installing: ${missing[*]}"
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi

# The runtimes' server and the bases' recipes are Python, and are tested in Python.
if [ "$stage" != tensorflow ]; then
    /usr/bin/python3 -B -m unittest discover -s base-images/server/tests
    /usr/bin/python3 -B -m unittest discover -s base-images/assemble/tests
fi

# One profile for everything: what is tested is what is shipped, and it is built once.
cargo test --release --locked --no-run
if cargo nextest --version >/dev/null 2>&1; then
    run() { cargo nextest run --release --locked --no-fail-fast -E "$1"; }
    fast() { run 'not test(slow_)'; }
    all() { run 'not test(slow_tensorflow)'; }
    tensorflow() { run 'test(slow_tensorflow)'; }
else
    run() { cargo test --release --locked --no-fail-fast "$@"; }
    fast() { run -- --skip slow_; }
    all() { fast && run --test it -- --test-threads 1 slow_ --skip slow_tensorflow; }
    tensorflow() { run --test it -- --test-threads 1 slow_tensorflow; }
fi

# Downloads, the base in two forms and podman's copy of it.
space_gb=8
tensorflow_where_there_is_space() {
    local free_gb
    free_gb=$(df --output=avail --block-size=1G target | tail -n 1 | tr -d ' ')
    if [ "$free_gb" -lt "$space_gb" ]; then
        echo "LEFT OUT: TensorFlow in containers, which takes up to $space_gb GB, and $free_gb GB are free here; tests/run.sh tensorflow runs it alone"
    else
        tensorflow
    fi
}

case $stage in
    fast) fast ;;
    tensorflow) tensorflow ;;
    all)
        # Clients from the package index, which the fast stage does without.
        /usr/bin/python3 -B -m unittest discover -s base-images/server/tests/clients
        all
        tensorflow_where_there_is_space
        ;;
    *) echo "usage: tests/run.sh [fast|tensorflow]" >&2; exit 2 ;;
esac
