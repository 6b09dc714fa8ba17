"""The recipe's tools: what they write does not depend on the machine, and what they read of apt's settings is all of it."""

import io
import os
import sys
import tarfile
import tempfile
import unittest

BASES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(BASES, "assemble"))

import apt_sources  # noqa: E402
import layer_tar  # noqa: E402


def rewritten(entries, newest=0):
    """Entries: (name, type, link, content, mode, mtime)."""
    source = io.BytesIO()
    with tarfile.open(fileobj=source, mode="w") as tar:
        for name, kind, link, content, mode, mtime in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode, info.mtime = kind, link, len(content), mode, mtime
            info.uname, info.gname, info.uid = "builder", "builders", 7
            tar.addfile(info, io.BytesIO(content))
    source.seek(0)
    out = io.BytesIO()
    with tarfile.open(fileobj=source) as tar:
        layer_tar.rewrite(tar, out, newest)
    return out.getvalue()


FILE, FOLDER, SYMLINK, HARDLINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
LONG = "./" + "/".join(["folder-with-a-name-of-some-length"] * 6)

ENTRIES = [
    ("./", FOLDER, "", b"", 0o755, 5),
    ("./doc", FOLDER, "", b"", 0o755, 5),
    ("./doc/b", FILE, "", b"content", 0o4755, 500),
    ("./doc/a", HARDLINK, "./doc/b", b"", 0o755, 5),
    ("./doc-base", FILE, "", b"", 0o644, 5),
    ("./dev", FOLDER, "", b"", 0o755, 5),
    ("./dev/null", tarfile.CHRTYPE, "", b"", 0o666, 5),
    ("./link", SYMLINK, LONG, b"", 0o777, 5),
    (LONG, FILE, "", b"deep", 0o644, 5),
]


class LayerTar(unittest.TestCase):
    def read(self, encoded):
        return tarfile.open(fileobj=io.BytesIO(encoded))

    def test_the_order_of_the_source_is_nothing(self):
        self.assertEqual(rewritten(ENTRIES), rewritten(ENTRIES[::-1]))

    def test_entries_are_sorted_by_path_and_plain(self):
        names = self.read(rewritten(ENTRIES)).getnames()
        self.assertEqual(names, ["dev", "doc", "doc/a", "doc/b", "doc-base", LONG[2:], "link"])

    def test_the_first_name_of_a_file_carries_its_content(self):
        tar = self.read(rewritten(ENTRIES))
        self.assertTrue(tar.getmember("doc/a").isfile())
        self.assertEqual(tar.getmember("doc/b").linkname, "doc/a")
        self.assertEqual(tar.extractfile("doc/b").read(), b"content")

    def test_nothing_of_the_machine_is_left(self):
        for entry in self.read(rewritten(ENTRIES, newest=100)):
            self.assertEqual((entry.uname, entry.gname), ("", ""))
            self.assertLessEqual(entry.mtime, 100)
            self.assertEqual(entry.mode & 0o6000, 0)

    def test_long_names_and_links(self):
        tar = self.read(rewritten(ENTRIES))
        self.assertEqual(tar.extractfile(LONG[2:]).read(), b"deep")
        self.assertEqual(tar.getmember("link").linkname, LONG)

    def test_a_folder_is_packed_with_its_parents(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "b"))
            for name in ("b/x.py", "a.py"):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(name)
            os.chmod(os.path.join(folder, "a.py"), 0o600)
            out = io.BytesIO()
            layer_tar.pack(folder, "opt/here", out, 0)
        tar = self.read(out.getvalue())
        self.assertEqual(
            [(entry.name, entry.mode, entry.uid, entry.mtime) for entry in tar],
            [("opt", 0o755, 0, 0), ("opt/here", 0o755, 0, 0), ("opt/here/a.py", 0o644, 0, 0), ("opt/here/b", 0o755, 0, 0), ("opt/here/b/x.py", 0o644, 0, 0)],
        )


class AptSources(unittest.TestCase):
    def test_one_line(self):
        source = apt_sources._one_line("deb [signed-by=/k.gpg arch=amd64,arm64 trusted=yes] http://mirror.test/debian bookworm main contrib # ours")
        self.assertEqual(
            source,
            {"uris": ["http://mirror.test/debian"], "suites": ["bookworm"], "components": ["main", "contrib"],
             "options": [("Signed-By", "/k.gpg"), ("Trusted", "yes")]},
        )

    def test_lines_that_are_no_source_of_packages(self):
        for line in ("", "# deb http://mirror.test/debian bookworm main", "deb-src http://mirror.test/debian bookworm main"):
            self.assertIsNone(apt_sources._one_line(line), line)

    def test_deb822_with_a_key_in_it(self):
        source = apt_sources._deb822(
            "# ours\nTypes: deb deb-src\nURIs: http://a.test/debian http://b.test/debian\nSuites: bookworm bookworm-updates\n"
            "Components: main\nSigned-By:\n -----BEGIN\n .\n -----END"
        )
        self.assertEqual(source["uris"], ["http://a.test/debian", "http://b.test/debian"])
        self.assertEqual(source["suites"], ["bookworm", "bookworm-updates"])
        self.assertEqual(source["options"], [("Signed-By", "\n -----BEGIN\n .\n -----END")])

    def test_deb822_that_is_off(self):
        for stanza in ("Types: deb-src\nURIs: http://a.test", "Types: deb\nEnabled: no\nURIs: http://a.test", ""):
            self.assertIsNone(apt_sources._deb822(stanza), stanza)
