"""Unpacks the wheels of a lock into a tar, as an installer would place them, without running anything of theirs.

usage: wheels.py LOCK FOLDER PREFIX OUT.tar [PATTERN…]

It is not an installer: a wheel's commands, headers and data files have no use in a container that runs one server, and are left out, and so is
what the patterns name (shell patterns on the path below PREFIX; a folder's stands for all in it). Bytecode is made later, by the image's own Python.
What must stay true: RECORD, METADATA and licences stay, as scanners tell from them what is inside, and RECORD names what is there; two wheels that bring the
same file with different contents are an error, not a matter of order.
"""

import csv
import fnmatch
import io
import os
import posixpath
import sys
import tarfile
import zipfile

import locked


def main(arguments):
    if len(arguments) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    lock, folder, prefix, out, *patterns = arguments
    wheels = [os.path.join(folder, entry.file) for entry in locked.read(lock) if entry.kind == "wheel"]
    with tarfile.open(out, mode="w") as tar:
        unpack(wheels, prefix.strip("/"), tar, patterns)
    return 0


def unpack(wheels, prefix, tar, patterns=()):
    seen = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            left_out = set()
            records = []
            for info in archive.infolist():
                if info.is_dir():
                    continue
                path = _placed(info.filename)
                if path is None or any(_matches(path, pattern) for pattern in patterns):
                    left_out.add(info.filename)
                elif path.endswith(".dist-info/RECORD"):
                    records.append((path, info))
                elif seen.setdefault(path, (info.CRC, info.file_size)) != (info.CRC, info.file_size):
                    raise SystemExit(f"wheels.py: {os.path.basename(wheel)} brings {path}, which another wheel has with other contents")
                else:
                    executable = (info.external_attr >> 16) & 0o111
                    with archive.open(info) as data:
                        _add(tar, f"{prefix}/{path}", data, info.file_size, 0o755 if executable else 0o644)
            for path, info in records:
                text = _record(archive.read(info).decode(), left_out)
                _add(tar, f"{prefix}/{path}", io.BytesIO(text), len(text), 0o644)


def _placed(name):
    """The path below site-packages; None for what goes elsewhere."""
    path = posixpath.normpath(name)
    if path.startswith(("/", "../")) or "\\" in path:
        raise SystemExit(f"wheels.py: {name!r} leaves the folder that it is unpacked into")
    top, _, rest = path.partition("/")
    if not top.endswith(".data"):
        return path
    kind, _, rest = rest.partition("/")
    return rest if kind in ("purelib", "platlib") else None


def _matches(path, pattern):
    # fnmatch's `*` crosses slashes: `*/tests` is a folder of tests at any depth.
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, pattern + "/*")


def _record(text, left_out):
    rows = [row for row in csv.reader(io.StringIO(text)) if row and row[0] not in left_out]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_placed(row[0]) or row[0], *row[1:]] for row in rows)
    return out.getvalue().encode()


def _add(tar, name, data, size, mode):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    tar.addfile(info, data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
