#!/bin/sh
# What it is: gets the ancestor's real client, hs 0.0.10, from PyPI into a folder of its own and prints the path of its `hs`.
#   usage: client.sh [DIR]     default DIR: ${XDG_CACHE_HOME:-$HOME/.cache}/lamina-tests/hs-0.0.10
#   PYTHON36, PYTHON311        interpreters to use before any that is found
# What it is not: a part of lamina, nor a user of lamina's own `hs`.
# What must stay true: stdout holds the one path and nothing else; a folder is used only when its stamp says that it is whole and of
# these very pins; exit 0 = path printed, 77 = no Python for it here (said loudly; the caller leaves the stage out), 1 = failed.
set -eu
unset PYTHONPATH PYTHONHOME

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/lamina-tests/hs-0.0.10}

say() { printf 'client.sh: %s\n' "$*" >&2; }

# A pyenv shim for a version that is not selected exists but does not run, so every candidate is asked for its version.
is_python() { # VERSION INTERPRETER
    [ "$("$2" -c 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]
}

find_python() { # VERSION ASKED_FOR
    for candidate in "$2" "$(command -v "python$1" || true)" "$HOME/.pyenv/versions/$1".*/bin/"python$1"; do
        if [ -n "$candidate" ] && is_python "$1" "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

if python=$(find_python 3.6 "${PYTHON36:-}"); then
    version=3.6
elif python=$(find_python 3.11 "${PYTHON311:-}"); then
    version=3.11
    say "Python 3.6 is missing; hs 0.0.10 runs on Python 3.11 with two dependencies newer than its own pins."
else
    say "****************************************************************************************"
    say "The stage with the real hs 0.0.10 client is LEFT OUT: Python 3.6 is missing (so is 3.11)."
    say "Set PYTHON36 to a Python 3.6 interpreter, or install one: pyenv install 3.6.15"
    say "****************************************************************************************"
    exit 77
fi

requirements=$here/requirements-$version.txt
want="$python $(cksum <"$requirements")"
mkdir -p "$dir"
dir=$(CDPATH= cd -- "$dir" && pwd)
hs=$dir/venv/bin/hs

pip() { "$dir/venv/bin/python" -m pip --disable-pip-version-check --no-cache-dir install --quiet "$@"; }

# Chained by hand: `set -e` does not hold inside a function whose result is tested.
install() {
    "$python" -m venv "$dir/venv" &&
        if [ "$version" = 3.6 ]; then
            pip pip==21.3.1 && # the one that comes with 3.6 does not know today's wheel tags
                pip --no-deps --only-binary :all: -r "$requirements"
        else
            pip --no-deps setuptools==65.5.1 wheel==0.40.0 &&
                pip --no-deps --no-build-isolation -r "$requirements"
        fi && "$hs" --help >/dev/null
}

# Two test runs may come here at once: the second waits.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$dir/lock"
    flock 9
fi

if [ "$(cat "$dir/stamp" 2>/dev/null || true)" != "$want" ] || ! [ -x "$hs" ]; then
    say "installing hs 0.0.10 into $dir with $python"
    rm -rf "$dir/venv" "$dir/stamp"
    install >&2 || { say "hs 0.0.10 could not be installed; see above"; exit 1; }
    printf '%s\n' "$want" >"$dir/stamp"
fi

printf '%s\n' "$hs"
