"""The lock of a recipe: which files it is made of.

usage: locked.py write RUNTIME ARCHITECTURE URIS WHEELS [LEFT_OUT…]   a lock on stdout, from apt's --print-uris and a folder of wheels
       locked.py missing deb|wheel LOCK FOLDER      what FOLDER lacks: package=version for apt, lines of a requirements file for pip
       locked.py keep LOCK DOWNLOADS FOLDER         moves what was downloaded into FOLDER, compared with the lock
       locked.py repository LOCK FOLDER OUT.tar     the Debian packages as a repository, for apt's copy: method
       locked.py names deb LOCK                     the packages' names, by commas

A lock is lines of text, `kind name version file size_bytes sha256`, sorted, so that a change of it is read in a diff. It is not a requirements file:
it is for one runtime on one architecture, and says all. What must stay true: a file that is not what the lock says goes no further, whatever it is called
and whoever left it there.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.parse
from dataclasses import dataclass

KINDS = ("deb", "wheel")


@dataclass(frozen=True, order=True)
class Locked:
    kind: str
    name: str
    version: str
    file: str
    size_bytes: int
    sha256: str

    def is_in(self, folder):
        path = os.path.join(folder, self.file)
        return os.path.isfile(path) and os.path.getsize(path) == self.size_bytes and sha256_of(path) == self.sha256


def main(arguments):
    command, *rest = arguments or [""]
    if command == "write" and len(rest) >= 4:
        print(write(*rest[:4], left_out=rest[4:]), end="")
    elif command == "missing" and len(rest) == 3:
        for line in missing(rest[0], read(rest[1]), rest[2]):
            print(line)
    elif command == "keep" and len(rest) == 3:
        keep(read(rest[0]), rest[1], rest[2])
    elif command == "repository" and len(rest) == 3:
        with open(rest[2], "wb") as out:
            repository(read(rest[0]), rest[1], out)
    elif command == "names" and len(rest) == 2:
        print(",".join(locked.name for locked in read(rest[1]) if locked.kind == rest[0]))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


def read(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    return [_entry(path, number, line.split()) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]


def _entry(path, number, words):
    well_formed = len(words) == 6 and words[0] in KINDS and words[4].isdigit() and re.fullmatch("[0-9a-f]{64}", words[5])
    if not well_formed or "/" in words[3] or words[3].startswith("."):
        raise SystemExit(f"{path}, line {number}: expected `deb|wheel name version file size_bytes sha256`")
    return Locked(*words[:4], int(words[4]), words[5])


def write(runtime, architecture, uris, wheels, left_out=()):
    entries = []
    with open(uris, encoding="utf-8") as file:
        for line in file:
            # 'URI' file size SHA256:digest
            match = re.fullmatch(r"'[^']*' (\S+) (\d+) SHA256:([0-9a-f]{64})", line.strip())
            if not match:
                raise SystemExit(f"locked.py: apt gives no SHA-256: {line.strip()}")
            name, version, _architecture = match[1].removesuffix(".deb").split("_")
            entries.append(Locked("deb", name, urllib.parse.unquote(version), match[1], int(match[2]), match[3]))
    for file in os.listdir(wheels):
        name, version = file.split("-")[:2]
        if plain_name(name) not in map(plain_name, left_out):
            path = os.path.join(wheels, file)
            entries.append(Locked("wheel", plain_name(name), version, file, os.path.getsize(path), sha256_of(path)))
    lines = [
        f"# What {runtime} is made of on {architecture}. Written by `base-images/build.sh {runtime} --lock --architecture {architecture}`, not by hand.",
        "# kind name version file size_bytes sha256",
    ]
    lines += [f"{e.kind} {e.name} {e.version} {e.file} {e.size_bytes} {e.sha256}" for e in sorted(entries)]
    return "\n".join(lines) + "\n"


def plain_name(name):
    # PEP 503: the names that are one project's.
    return re.sub(r"[-_.]+", "-", name).lower()


def missing(kind, entries, folder):
    for locked in entries:
        if locked.kind == kind and not locked.is_in(folder):
            if kind == "deb":
                yield f"{locked.name}={locked.version}"
            else:
                yield f"{locked.name}=={locked.version} --hash=sha256:{locked.sha256}"


def keep(entries, downloads, folder):
    for locked in entries:
        path = os.path.join(downloads, locked.file)
        if not os.path.isfile(path):
            continue
        if not locked.is_in(downloads):
            raise SystemExit(
                f"{locked.file} is not the file that the lock names: it has {os.path.getsize(path)} bytes and SHA-256 {sha256_of(path)}, "
                f"and the lock says {locked.size_bytes} and {locked.sha256}"
            )
        # The folder may be on another file system, and another recipe may fill it at the same time.
        part = os.path.join(folder, f".{locked.file}.{os.getpid()}")
        shutil.copyfile(path, part)
        os.replace(part, os.path.join(folder, locked.file))
        os.remove(path)


def repository(entries, folder, out):
    """A tar with the packages and the index that apt asks a repository for. Written to a stream: mmdebstrap unpacks it where this user cannot."""
    index = []
    with tarfile.open(fileobj=out, mode="w") as tar:
        for locked in (entry for entry in entries if entry.kind == "deb"):
            path = os.path.join(folder, locked.file)
            control = subprocess.run(["dpkg-deb", "--field", path], check=True, capture_output=True, text=True).stdout.rstrip("\n")
            # Its own name for apt: `%` and `:` mean something in an address.
            name = f"{locked.sha256}.deb"
            index.append(f"{control}\nFilename: ./{name}\nSize: {locked.size_bytes}\nSHA256: {locked.sha256}\n")
            _add(tar, name, path)
        packages = os.path.join(os.path.dirname(out.name), "Packages")
        with open(packages, "w", encoding="utf-8") as file:
            file.write("\n".join(index))
        _add(tar, "Packages", packages)
        os.remove(packages)


def _add(tar, name, path):
    info = tar.gettarinfo(path, name)
    # The installation may run as another user than this one.
    info.mode, info.uid, info.gid, info.uname, info.gname = 0o644, 0, 0, "", ""
    with open(path, "rb") as file:
        tar.addfile(info, file)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
