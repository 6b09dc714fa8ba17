# From the files of a lock to the layers below ours: `make_debian` leaves debian.tar, and wheels.tar where the recipe has wheels.
#
# It is not a program of its own: build.sh reads it, and its variables are build.sh's. Nothing is downloaded here. What must stay true: apt sees a
# repository with the lock's packages and no other, so what it makes of them is the same on each day; and the process in the tree may not open this user's
# files (in mmdebstrap's unshare mode), so all that goes in is handed in by mmdebstrap.

# Never unpacked at all. Copyright files are, as the licences ask.
never=(doc doc-base man info locale lintian bug bash-completion pixmaps polkit-1)

# Where Debian's Python looks for packages that are not Debian's.
wheels_home=usr/local/lib

# The first mode of mmdebstrap that can work here. Each is tried with what it rests on, before half a minute of work.
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

make_debian() {
    local mode name
    mode=$(choose_mode)
    python3 "$bases/assemble/locked.py" repository "$lock" "$fetched" "$work/repository.tar"

    local -a options=()
    for name in "${never[@]}"; do
        options+=("--dpkgopt=path-exclude=/usr/share/$name/*")
    done
    options+=('--dpkgopt=path-include=/usr/share/doc/*/copyright')
    # apt is told of the repository where the tree is, and that is known only then.
    options+=('--setup-hook=mkdir "$1/lamina-packages"' "--setup-hook=tar-in $work/repository.tar /lamina-packages")
    options+=('--setup-hook=echo "deb [trusted=yes] copy://$1/lamina-packages ./" >"$1/etc/apt/sources.list"')
    options+=('--customize-hook=rm -rf "$1/lamina-packages"')
    if grep -q '^wheel ' "$lock"; then
        python3 "$bases/assemble/wheels.py" "$lock" "$fetched" "$wheels_home/python$python_minor/dist-packages" "$work/unpacked.tar" "${leave_out[@]}"
        options+=("--customize-hook=tar-in $work/unpacked.tar /")
    fi

    say "installing Debian $release (mmdebstrap, mode $mode)"
    # apt is not called again after our hook (cleanup/apt): there is nothing left of it in the tree that it could clean.
    # The tar is on standard output: in unshare mode the process may not open files of this user.
    if ! mmdebstrap --quiet --mode="$mode" --variant=custom --architectures="$architecture" --format=tar --skip=cleanup/apt \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include="$(python3 "$bases/assemble/locked.py" names deb "$lock")" \
        "${options[@]}" --customize-hook="$(sed "s/@PYTHON_MINOR@/$python_minor/g" "$bases/assemble/customise.sh")" \
        "$release" - - </dev/null >"$work/mmdebstrap.tar" 2>"$work/mmdebstrap.log"; then
        tail -n 20 "$work/mmdebstrap.log" >&2
        unavailable "mmdebstrap could not install Debian $release in mode $mode; the end of its log is above"
    fi
    rm -f "$work/repository.tar" "$work/unpacked.tar"
    if grep -q '^wheel ' "$lock"; then
        python3 "$bases/assemble/layer_tar.py" rewrite "$work/mmdebstrap.tar" "$out/debian.tar" "$wheels_home" "$out/wheels.tar"
    else
        python3 "$bases/assemble/layer_tar.py" rewrite "$work/mmdebstrap.tar" "$out/debian.tar"
    fi
    rm "$work/mmdebstrap.tar"
}
