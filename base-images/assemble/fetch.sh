# From a recipe to the files that it is made of: `write_lock FILE` asks the mirrors what is newest, `fetch` downloads what the lock says.
#
# It is not a program of its own: build.sh reads it, and its variables are build.sh's. Nothing is installed here. What must stay true: apt and pip
# are called with this machine's own settings for mirrors, keys and proxies, and work in folders of their own, so that neither what is installed here
# nor what others have downloaded decides anything; and no file goes on whose size and SHA-256 are not those of the lock.

# apt in folders of its own, where nothing is installed; the first call reads the package lists.
apt() {
    local state=$work/apt
    if [ ! -d "$state" ]; then
        mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
        : >"$state/status"
        if [ -n "${APT_SOURCES:-}" ]; then
            cp "$APT_SOURCES" "$state/list.sources"
        else
            python3 "$bases/assemble/apt_sources.py" "$release" >"$state/list.sources" ||
                unavailable "this machine has no apt source of Debian: name a file with one for $release in APT_SOURCES"
        fi
        apt update -qq >"$work/apt.log" 2>&1 || {
            tail -n 5 "$work/apt.log" >&2
            unavailable "the package lists of Debian $release could not be read"
        }
    fi
    # Root's apt would hand downloads to another user, who may not enter our folder.
    apt-get -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
        -o Dir::Etc::SourceList="$state/list.sources" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null \
        -o Dir::Etc::PreferencesParts=/dev/null -o Acquire::Languages=none -o Acquire::ForceHash=SHA256 -o APT::Install-Recommends=false \
        -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=true "$@"
}

# pip, judging as on the image's machine.
pip() {
    # shellcheck disable=SC2086  # PIP is a command with its arguments.
    LAMINA_MACHINE=$machine PYTHONPATH="$bases/assemble/machine${PYTHONPATH:+:$PYTHONPATH}" ${PIP:-python3 -m pip} --disable-pip-version-check "$@"
}

# With whose eyes pip looks at the markers of requirements (`python_version < "3.12"`): its Python's release, and the machine.
pip_sees() {
    local environment='import json, sys; said = json.load(sys.stdin)["environment"]; print(said["python_version"], said["platform_machine"])'
    pip inspect --path "$work/nowhere" 2>/dev/null | python3 -c "$environment" 2>/dev/null || true
}

# pip for the image's Python and libc, not for this machine's.
pip_download() {
    local -a platforms=()
    local minor
    # No shorter way: pip takes each platform by its word only. Bookworm's libc is 2.36.
    for minor in $(seq 36 -1 17); do
        platforms+=(--platform "manylinux_2_${minor}_$machine")
    done
    pip download --quiet --only-binary :all: --implementation cp --python-version "$python_minor" \
        "${platforms[@]}" --platform "manylinux2014_$machine" "$@"
}

write_lock() {
    local answer=$work/uris
    say "asking for the newest packages of Debian $release"
    apt install --print-uris --yes -qq "${packages[@]}" >"$answer" 2>"$work/apt.log" || {
        tail -n 5 "$work/apt.log" >&2
        unavailable "apt finds no way to install the recipe's packages"
    }
    mkdir -p "$work/newest"
    if [ ${#wheels[@]} -gt 0 ]; then
        local seen
        seen=$(pip_sees)
        [ "${seen% *}" = "$python_minor" ] ||
            unavailable "wheels for Python $python_minor can be chosen by a pip of Python $python_minor only: name one in PIP"
        [ "${seen#* }" = "$machine" ] ||
            unavailable "this pip judges requirements for ${seen#* }, whatever it is told, and the wheels are for $machine: name another one in PIP, one that reads PYTHONPATH"
        say "asking for the newest wheels"
        pip_download --dest "$work/newest" "${wheels[@]}" >&2 || unavailable "pip finds no wheels for the recipe; its reasons are above"
    fi
    python3 "$bases/assemble/locked.py" write "$lock_of" "$architecture" "$answer" "$work/newest" "${without[@]}" >"$work/lock"
    mv "$work/lock" "$1"
}

# Leaves all files of the lock in the folder `fetched`, or ends.
fetch() {
    fetched=${PACKAGES:-$work/packages}
    mkdir -p "$fetched"
    fetched=$(cd "$fetched" && pwd -P)
    [ -e "$lock" ] || {
        [ "$or_newest" = yes ] || refuse "there is no lock for $architecture: write it with \`$lock_command\`" 66
        lock_newest "there is no lock for $architecture"
    }
    download && return
    [ "$or_newest" = yes ] ||
        refuse "what the recipe is locked to is gone from the mirror (above): lock anew with \`$lock_command\`" 66
    lock_newest "what the recipe is locked to is gone from the mirror"
    download || refuse "what the mirror offers changes from one moment to the next" 69
}

lock_newest() {
    say "warning: $1, so the newest packages are taken: the image has another digest"
    lock=$work/newest.lock
    write_lock "$lock"
}

# Fails where something is gone. What is there already is not asked for.
download() {
    local -a missing=()
    mapfile -t missing < <(python3 "$bases/assemble/locked.py" missing deb "$lock" "$fetched")
    if [ ${#missing[@]} -gt 0 ]; then
        say "downloading ${#missing[@]} Debian packages"
        mkdir -p "$work/downloads"
        if ! (cd "$work/downloads" && apt download -qq "${missing[@]}") >"$work/apt.log" 2>&1; then
            # A version that the lists do not have, or a file that the mirror has not.
            ! grep -E "^E: (Version '|Unable to locate|Failed to fetch .* 404|No packages found|Can't find)" "$work/apt.log" >&2 || return 1
            tail -n 5 "$work/apt.log" >&2
            unavailable "the Debian packages could not be downloaded"
        fi
        python3 "$bases/assemble/locked.py" keep "$lock" "$work/downloads" "$fetched" || exit 65
    fi
    python3 "$bases/assemble/locked.py" missing wheel "$lock" "$fetched" >"$work/requirements.txt"
    if [ -s "$work/requirements.txt" ]; then
        say "downloading $(wc -l <"$work/requirements.txt") wheels"
        if ! pip_download --no-deps --require-hashes --dest "$work/downloads" --requirement "$work/requirements.txt" >"$work/pip.log" 2>&1; then
            ! grep -E 'No matching distribution|DO NOT MATCH' "$work/pip.log" >&2 || return 1
            tail -n 5 "$work/pip.log" >&2
            unavailable "the wheels could not be downloaded"
        fi
        python3 "$bases/assemble/locked.py" keep "$lock" "$work/downloads" "$fetched" || exit 65
    fi
}
