"""Writes a tar as image layers want it: a function of names, modes, contents and links, and of nothing else.

usage: layer_tar.py rewrite FROM.tar TO.tar [PREFIX OTHER.tar]   every entry of a tar, in our order and form; what is below PREFIX, with the
                                                              folders that lead there, goes to OTHER.tar
       layer_tar.py pack FOLDER PREFIX TO.tar                    a folder's files below PREFIX, owned by root

It is not a general tar program. Headers are written here and not by the tarfile module, whose bytes have changed between Python releases. What
must stay true: entries sorted by path, a folder's own right after it, and none twice; no `./` before names; numeric owners only; times at most SOURCE_DATE_EPOCH
(0 where it is not set); no set-user-id bits, as nothing in a container should gain rights; no devices, which the container runtime makes.
"""

import io
import os
import sys
import tarfile

BLOCK_BYTES = 512
COPY_BYTES = 1024 * 1024


def main(arguments):
    newest = int(os.environ.get("SOURCE_DATE_EPOCH") or "0")
    if len(arguments) in (3, 5) and arguments[0] == "rewrite":
        prefix, other = arguments[3:] or ("", os.devnull)
        with tarfile.open(arguments[1], "r:") as source, open(arguments[2], "wb") as out, open(other, "wb") as below:
            rewrite(source, out, newest, prefix.strip("/"), below)
        return 0
    if len(arguments) == 4 and arguments[0] == "pack":
        with open(arguments[3], "wb") as out:
            pack(arguments[1], arguments[2].strip("/"), out, newest)
        return 0
    print(__doc__, file=sys.stderr)
    return 2


def rewrite(source, rest, newest, prefix="", below=None):
    # A later entry of the same name replaces an earlier one, as it would when unpacking.
    entries = {_plain(entry.name): entry for entry in source.getmembers()}
    first_names = {}
    for name in sorted(entries, key=_order):
        entry = entries[name]
        # The folder itself stays, as a place to mount the runtime's own /dev on.
        if not name or name.startswith("dev/"):
            continue
        for out in _destinations(name, prefix, rest, below):
            _rewrite_entry(source, entries, name, out, newest, first_names)
    _end(rest)
    if prefix:
        _end(below)


def _destinations(name, prefix, rest, below):
    if prefix and name.startswith(prefix + "/"):
        return [below]
    # A layer has the folders of its own files; an image's upper layers may not change those of the lower ones.
    return [rest, below] if prefix and (prefix + "/").startswith(name + "/") else [rest]


def _rewrite_entry(source, entries, name, out, newest, first_names):
    entry = entries[name]
    common = {"mode": entry.mode & 0o1777, "uid": entry.uid, "gid": entry.gid, "mtime": min(int(entry.mtime), newest)}
    if entry.isdir():
        _write(out, name + "/", tarfile.DIRTYPE, **common)
    elif entry.issym():
        _write(out, name, tarfile.SYMTYPE, link=entry.linkname, **dict(common, mode=0o777))
    elif entry.isfile() or entry.islnk():
        # Sorting may have moved a hard link before the file that it names: whichever name comes first carries the content.
        content = _plain(entry.linkname) if entry.islnk() else name
        if content in first_names:
            _write(out, name, tarfile.LNKTYPE, link=first_names[content], **common)
        else:
            first_names[content] = name
            _write(out, name, tarfile.REGTYPE, size=entries[content].size, data=source.extractfile(entries[content]), **common)
    else:
        raise SystemExit(f"layer_tar.py: {name} is neither a file, a folder nor a link")


def pack(folder, prefix, out, newest):
    paths = {}
    for parent, _folders, files in os.walk(folder):
        for file in files:
            path = os.path.join(parent, file)
            paths[f"{prefix}/{os.path.relpath(path, folder)}"] = path
    names = set(paths)
    for name in paths:
        names.update(name[:position] + "/" for position, letter in enumerate(name) if letter == "/")
    for name in sorted(names, key=_order):
        if name.endswith("/"):
            _write(out, name, tarfile.DIRTYPE, mode=0o755, uid=0, gid=0, mtime=newest)
        else:
            with open(paths[name], "rb") as data:
                _write(out, name, tarfile.REGTYPE, mode=0o644, uid=0, gid=0, mtime=newest, size=os.path.getsize(paths[name]), data=data)
    _end(out)


def _order(name):
    # By folders: what is in `doc` comes right after it, and `doc-base` after all of that, though "-" sorts before "/".
    return os.fsencode(name.strip("/")).split(b"/")


def _plain(name):
    return name.removeprefix("./").strip("/") if name != "." else ""


def _write(out, name, kind, mode, uid, gid, mtime, size=0, link="", data=None):
    encoded_name, encoded_link = os.fsencode(name), os.fsencode(link)
    records = {}
    if len(encoded_name) > 100:
        records[b"path"] = encoded_name
    if len(encoded_link) > 100:
        records[b"linkpath"] = encoded_link
    if records:
        body = b"".join(_record(key, value) for key, value in sorted(records.items()))
        out.write(_header(b"pax/" + encoded_name[-90:], tarfile.XHDTYPE, 0o644, 0, 0, 0, len(body), b""))
        _content(out, io.BytesIO(body), len(body))
    out.write(_header(encoded_name[:100], kind, mode, uid, gid, mtime, size, encoded_link[:100]))
    if data is not None:
        _content(out, data, size)


def _record(key, value):
    # The length counts its own digits.
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _header(name, kind, mode, uid, gid, mtime, size, link):
    block = bytearray(BLOCK_BYTES)
    block[0 : len(name)] = name
    for start, width, value in ((100, 8, mode), (108, 8, uid), (116, 8, gid), (124, 12, size), (136, 12, mtime)):
        digits = b"%0*o" % (width - 1, value)
        if len(digits) >= width:
            raise SystemExit(f"layer_tar.py: {os.fsdecode(name)}: {value} is too large for a tar header")
        block[start : start + width - 1] = digits
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _content(out, data, size):
    left = size
    while left:
        piece = data.read(min(left, COPY_BYTES))
        if not piece:
            raise SystemExit("layer_tar.py: a file ended before its size")
        out.write(piece)
        left -= len(piece)
    out.write(b"\0" * (-size % BLOCK_BYTES))


def _end(out):
    out.write(b"\0" * (2 * BLOCK_BYTES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
