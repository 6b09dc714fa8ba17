# Turns a freshly installed Debian tree, with the wheels in it, into the base's tree. mmdebstrap runs this text with `sh -c`, the tree's path in $1;
# debian.sh puts Python's version where @ PYTHON_MINOR @ stands (without the blanks).
#
# It is not run by hand, and it is handed over as text because in mmdebstrap's unshare mode the process may not read the recipe's folder. What
# must stay true: nothing that depends on the day, the machine or the mirror stays in the tree; dpkg's own records stay, since scanners
# tell from them what is inside.
set -eu
root=$1

# The user of the ancestor's runtimes. A number is what Kubernetes checks for runAsNonRoot; a home that can be written to (where anything can)
# is what caches of model libraries want.
echo 'app:*:42069:42069:lamina serving runtime:/tmp:/usr/sbin/nologin' >>"$root/etc/passwd"
echo 'app:*:42069:' >>"$root/etc/group"

# Needed by installation scripts only, which have all run: an interpreter less to patch.
chroot "$root" dpkg --purge --force-depends --force-remove-essential debconf perl-base >/dev/null

# Traces of the installation: proxies and mirrors of this site among them. /tmp is mmdebstrap's own to clear: the configuration that keeps apt
# inside the tree is in there, and an apt that does not find it works on the machine instead. One file is expected to be there at the end.
rm -rf "$root/etc/apt" "$root/var/lib/apt" "$root/var/cache"/* "$root/var/log"/* "$root/var/backups"/*
install -D -m 0644 /dev/null "$root/etc/apt/apt.conf.d/00mmdebstrap"
rm -rf "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$root/var/lib/dpkg"/*-old "$root/var/lib/dpkg"/lock* "$root/var/lib/dpkg/triggers/Lock"
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/machine-id" "$root/etc"/*- "$root/etc/.pwd.lock"

# Bulk that no server reads; copyright files stay, as their licences ask. dpkg was told to leave most of it out, this is what scripts made.
find "$root/usr/share/doc" -mindepth 1 ! -name copyright ! -type d -delete
find "$root/usr/share/doc" -mindepth 1 -type d -empty -delete
rm -rf "$root/usr/share/perl5" "$root/usr/share/debconf" "$root/usr/share/gcc" "$root/usr/lib/valgrind" "$root/usr/share/gdb"

# Test suites of the packages, a third of NumPy's Python files.
rm -rf "$root/usr/lib/python@PYTHON_MINOR@/test" "$root/usr/lib/python@PYTHON_MINOR@/pydoc_data"
# Debian's package has NumPy's core a second time, where no interpreter looks.
rm -rf "$root/usr/lib/python@PYTHON_MINOR@/dist-packages"
# numpy.testing, which models import, takes one file of NumPy 2's own tests.
if [ -d "$root/usr/lib/python3/dist-packages" ]; then
    find "$root/usr/lib/python3/dist-packages" -type d -name tests ! -path '*/numpy/_core/tests' -prune -exec rm -rf {} +
    find "$root/usr/lib/python3/dist-packages" -path '*/numpy/_core/tests/*' ! -name _natype.py -delete
fi

# Bytecode. What the installation made carries each source's mtime, and the mtimes change when the tree is packed; so it is made again, valid by
# definition ("unchecked hash") and the same on each machine: one process, sorted folders, a fixed hash seed. Left out, every start
# of a container would compile all that it imports, since neither its user nor a read-only root could keep the result.
find "$root/usr/lib" "$root/usr/share" -type d -name __pycache__ -prune -exec rm -rf {} +
for folder in usr/lib/python@PYTHON_MINOR@ usr/lib/python3/dist-packages usr/local/lib/python@PYTHON_MINOR@/dist-packages; do
    [ ! -d "$root/$folder" ] || chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 PYTHONHASHSEED=0 \
        /usr/bin/python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash "/$folder"
done

mkdir -p "$root/usr/share/lamina"
# Sorted as bytes, so that it can be compared with `comm` and `diff` anywhere. In two steps, as a pipe would hide a failure of the first.
# shellcheck disable=SC2016  # The braces are dpkg-query's.
chroot "$root" dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n' >"$root/usr/share/lamina/packages"
LC_ALL=C sort "$root/usr/share/lamina/packages" >"$root/usr/share/lamina/packages.txt"
rm "$root/usr/share/lamina/packages"
