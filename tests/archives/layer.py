"""The layer of a model folder, written by an independent writer: Python's tarfile.

    layer.py FOLDER ROOT OUTPUT

The parents first, sorted, ustar with PAX records only where ustar cannot say it, no owner, no time.
"""

import io
import os
import sys
import tarfile

FOLDER, ROOT, OUTPUT = sys.argv[1:]


def entries():
    parts = ROOT.split("/")
    for depth in range(len(parts)):
        yield "/".join(parts[: depth + 1]), None
    for above, folders, files in os.walk(FOLDER):
        for name in folders + files:
            path = os.path.join(above, name)
            yield ROOT + "/" + os.path.relpath(path, FOLDER), None if os.path.isdir(path) else path


def block(name, mode, size, kind):
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, size
    data = bytearray(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
    if data[0] == 0:
        raise ValueError("tarfile splits a folder's name at its own last slash, which leaves an empty name; Go and GNU tar do not")
    data[156:157] = kind
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def record(keyword, value):
    """Counts itself; found by trying."""
    length = next(n for n in range(1, 9999) if len(f"{n} {keyword}={value}\n".encode()) == n)
    return f"{length} {keyword}={value}\n".encode()


def header(name, mode, size, kind):
    try:
        return block(name, mode, size, kind)
    except (ValueError, UnicodeEncodeError):
        records = record("path", name)
        start = name.encode("ascii", "replace").decode().split("?")[0][:100]
        extension = block("PaxHeaders.0/entry", 0o644, len(records), tarfile.XHDTYPE)
        return extension + records + bytes(-len(records) % 512) + block(start, mode, size, kind)


out = io.BytesIO()
for name, path in sorted(entries(), key=lambda entry: entry[0].encode()):
    if path is None:
        out.write(header(name + "/", 0o755, 0, tarfile.DIRTYPE))
    else:
        data = open(path, "rb").read()
        mode = 0o755 if os.stat(path).st_mode & 0o111 else 0o644
        out.write(header(name, mode, len(data), tarfile.REGTYPE) + data + bytes(-len(data) % 512))
out.write(bytes(1024))
open(OUTPUT, "wb").write(out.getvalue())
