"""Writes archives that must be refused, one a file, to the folder that is named.

Made with Python's own tarfile, which is what the clients of 2018 pack with, and by hand where it refuses to lie.
"""

import gzip
import io
import os
import struct
import sys
import tarfile

FOLDER = sys.argv[1]


def member(name, data=b"x", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar(members, format=tarfile.GNU_FORMAT, **options):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, **options) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if info.size else None)
    return out.getvalue()


def write(case, data, packed=True):
    with open(os.path.join(FOLDER, case), "wb") as file:
        file.write(gzip.compress(data, mtime=0) if packed else data)


def link(name, target, type=tarfile.SYMTYPE):
    return member(name, b"", type=type, linkname=target)


def folder(name):
    return member(name, b"", type=tarfile.DIRTYPE)


def resum(data, at=0):
    """The check sum of the header at `at`, made right again."""
    block = bytearray(data[at : at + 512])
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data[:at] + bytes(block) + data[at + 512 :]


GOOD = member("good.txt")

for case, members in {
    "dotdot": [GOOD, member("../evil")],
    "dotdot-inside": [GOOD, member("a/../../evil")],
    "absolute": [GOOD, member("/etc/cron.d/evil")],
    "absolute-folder": [folder("/")],
    "symlink-absolute": [GOOD, link("l", "/etc/passwd")],
    "symlink-leaves": [GOOD, link("a/l", "../../evil")],
    "symlink-dangles": [GOOD, link("l", "gone")],
    "symlink-loop": [link("l", "m"), link("m", "l")],
    "symlink-above": [GOOD, link("a/l", "..")],
    "symlink-through": [folder("d"), link("l", "/tmp"), member("l/evil")],
    "hardlink-leaves": [GOOD, link("l", "../evil", tarfile.LNKTYPE)],
    "hardlink-absolute": [GOOD, link("l", "/etc/shadow", tarfile.LNKTYPE)],
    "hardlink-dangles": [GOOD, link("l", "gone", tarfile.LNKTYPE)],
    "character-device": [GOOD, member("dev", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5)],
    "block-device": [GOOD, member("dev", b"", type=tarfile.BLKTYPE)],
    "pipe": [GOOD, member("pipe", b"", type=tarfile.FIFOTYPE)],
    "twice": [member("a"), member("a", b"other")],
    "twice-spelt": [member("a/b"), member("./a//b")],
    "twice-link": [member("a"), link("a", "good.txt"), GOOD],
    "below-file": [member("a"), member("a/b")],
    "file-and-folder": [member("a/b"), member("a")],
    "whiteout": [GOOD, member("a/.wh.b")],
    "whiteout-opaque": [GOOD, member("a/.wh..wh..opq")],
    "control": [GOOD, member("a\nb")],
    "component": [GOOD, member("n" * 256)],
    "sparse": [GOOD, member("s", type=tarfile.GNUTYPE_SPARSE)],
    "volumes": [GOOD, member("s", type=b"M")],
    "unknown": [GOOD, member("s", type=b"Z")],
    "long": [GOOD, member("/".join(["n" * 200] * 21))],
}.items():
    write(case, tar(members))

write("not-utf8", tar([GOOD, member("a\udcff")], encoding="utf-8", errors="surrogateescape"))
write("pax-size", tar([GOOD, member("s", b"12345", pax_headers={"size": "3"})], tarfile.PAX_FORMAT))
write("pax-sparse", tar([GOOD, member("s", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.name": "s"})], tarfile.PAX_FORMAT))
write("pax-control", tar([GOOD, member("a\nb")], tarfile.PAX_FORMAT))
write("pax-global", tar([GOOD], tarfile.PAX_FORMAT, pax_headers={"path": "evil"}))
write("pax-huge", tar([member("s", pax_headers={"comment": "x" * (2 << 20)})], tarfile.PAX_FORMAT))

# A folder with bytes: a reader that believes the size misses the next member, one that does not sees it.
lie = bytearray(tar([folder("d"), GOOD]))
lie[124:136] = b"%011o\0" % 1024
write("folder-with-bytes", resum(bytes(lie)))
huge = bytearray(tar([GOOD]))
huge[124:136] = b"\x80\0\0\0" + struct.pack(">Q", (1 << 64) - 1)
write("size-overflow", resum(bytes(huge)))
negative = bytearray(tar([GOOD]))
negative[124:136] = b"\xff" * 12
write("size-negative", resum(bytes(negative)))
broken = bytearray(tar([GOOD, GOOD]))
broken[1024] ^= 1
write("check-sum", bytes(broken))

whole = tar([GOOD, member("w", bytes(range(256)) * 400)])
for case, end in {"cut-header": 1024 + 100, "cut-file": 4096, "cut-padding": 1024 + 512 + 102400 - 200 + 100, "cut-end": 1024 + 512 + 102400}.items():
    write(case, whole[:end])
    write(case + "-plain", whole[:end], packed=False)
packed = gzip.compress(whole, mtime=0)
write("cut-gzip", packed[: len(packed) // 2], packed=False)
write("cut-gzip-end", packed[:-4], packed=False)
write("flipped-gzip", packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:], packed=False)
write("after-gzip", packed + b"and more, which is not gzip", packed=False)
write("second-archive", whole + tar([member("hidden")]))
write("bomb", tar([member("zeros", bytes(200 << 20))]))
write("empty", b"", packed=False)
write("text", b"this is no archive at all, " * 100, packed=False)
write("xz", b"\xfd7zXZ\0\0\4", packed=False)
write("zip", b"PK\3\4" + bytes(100), packed=False)
