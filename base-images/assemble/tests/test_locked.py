"""The lock of a recipe: what it says is what goes on, and nothing else does."""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import unittest

BASES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(BASES, "assemble"))

import locked  # noqa: E402

DIGEST = hashlib.sha256(b"content").hexdigest()
URIS = f"'http://mirror.test/d/dash_0.5_amd64.deb' dash_1%3a0.5_amd64.deb 7 SHA256:{DIGEST}\n"
LOCK = f"# of a test\ndeb dash 1:0.5 dash_1%3a0.5_amd64.deb 7 {DIGEST}\nwheel a-b 1.0 a_b-1.0-py3-none-any.whl 7 {DIGEST}\n"


class Locked(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.downloads = self.enterContext(tempfile.TemporaryDirectory())

    def write(self, folder, name, content):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def lock(self, text=LOCK):
        return locked.read(self.write(self.folder, "amd64.lock", text.encode()))

    def test_a_lock_is_written_of_what_apt_and_pip_say_and_read_back(self):
        self.write(self.downloads, "a_b-1.0-py3-none-any.whl", b"content")
        self.write(self.downloads, "Left.Out-2.0-py3-none-any.whl", b"content")
        uris = self.write(self.folder, "uris", URIS.encode())
        text = locked.write("runtime:1", "amd64", uris, self.downloads, ["left_out"])
        self.assertIn("base-images/build.sh runtime:1 --lock", text)
        self.assertEqual(self.lock(text), self.lock())

    def test_what_apt_cannot_vouch_for_is_not_locked(self):
        uris = self.write(self.folder, "uris", b"'http://mirror.test/x_1_all.deb' x_1_all.deb 7 MD5Sum:00\n")
        with self.assertRaisesRegex(SystemExit, "no SHA-256"):
            locked.write("runtime:1", "amd64", uris, self.downloads)

    def test_a_damaged_lock_is_refused_with_its_line(self):
        for line in ("deb dash", LOCK.splitlines()[1].replace("dash_", "../dash_"), LOCK.splitlines()[1][:-1], "tar" + LOCK.splitlines()[1][3:]):
            with self.assertRaisesRegex(SystemExit, "line 2: expected"):
                self.lock(f"# of a test\n{line}\n")

    def test_what_is_missing_is_said_as_apt_and_pip_take_it(self):
        self.assertEqual(list(locked.missing("deb", self.lock(), self.downloads)), ["dash=1:0.5"])
        self.assertEqual(list(locked.missing("wheel", self.lock(), self.downloads)), [f"a-b==1.0 --hash=sha256:{DIGEST}"])
        self.write(self.downloads, "dash_1%3a0.5_amd64.deb", b"content")
        self.write(self.downloads, "a_b-1.0-py3-none-any.whl", b"changed")
        self.assertEqual(list(locked.missing("deb", self.lock(), self.downloads)), [])
        self.assertEqual(len(list(locked.missing("wheel", self.lock(), self.downloads))), 1)

    def test_a_file_that_is_not_the_locks_goes_no_further(self):
        self.write(self.downloads, "dash_1%3a0.5_amd64.deb", b"changed")
        with self.assertRaisesRegex(SystemExit, "not the file that the lock names"):
            locked.keep(self.lock(), self.downloads, self.folder)
        self.assertNotIn("dash_1%3a0.5_amd64.deb", os.listdir(self.folder))

    def test_only_what_is_locked_is_kept(self):
        self.write(self.downloads, "dash_1%3a0.5_amd64.deb", b"content")
        self.write(self.downloads, "other_1_all.deb", b"content")
        kept = self.enterContext(tempfile.TemporaryDirectory())
        locked.keep(self.lock(), self.downloads, kept)
        self.assertEqual(os.listdir(kept), ["dash_1%3a0.5_amd64.deb"])

    def test_the_repository_has_the_locked_packages_and_their_index(self):
        root = self.enterContext(tempfile.TemporaryDirectory())
        os.makedirs(os.path.join(root, "DEBIAN"))
        self.write(os.path.join(root, "DEBIAN"), "control", b"Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.test>\nDescription: tiny\n")
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, os.path.join(self.downloads, "tiny_1_all.deb")], check=True, capture_output=True)
        path = os.path.join(self.downloads, "tiny_1_all.deb")
        entry = locked.Locked("deb", "tiny", "1", "tiny_1_all.deb", os.path.getsize(path), locked.sha256_of(path))
        out = os.path.join(self.folder, "repository.tar")
        with open(out, "wb") as file:
            locked.repository([entry], self.downloads, file)
        with tarfile.open(out) as tar:
            self.assertEqual(sorted(tar.getnames()), sorted([f"{entry.sha256}.deb", "Packages"]))
            index = tar.extractfile("Packages").read().decode()
        for line in ("Package: tiny", f"Filename: ./{entry.sha256}.deb", f"SHA256: {entry.sha256}", f"Size: {entry.size_bytes}"):
            self.assertIn(line + "\n", index)


class BuildScript(unittest.TestCase):
    """build.sh with recipes and locks that cannot be made; no mirror is asked."""

    def run_it(self, *arguments, **environment):
        command = ["bash", os.path.join(BASES, "build.sh"), *arguments]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)

    def test_an_unknown_runtime_is_answered_with_the_known_ones(self):
        for name in ("no-such:1", "serving-runtime-python", ""):
            ended = self.run_it(name)
            self.assertEqual(ended.returncode, 2, ended.stderr)
            self.assertIn("serving-runtime-python:3.11", ended.stderr)

    def test_a_package_that_is_gone_names_the_command_that_locks_anew(self):
        with tempfile.TemporaryDirectory() as folder:
            # The recipes as they are, and a lock with a version that no mirror has.
            bases = os.path.join(folder, "base-images")
            subprocess.run(["cp", "-r", BASES, bases], check=True)
            for path in os.listdir(os.path.join(bases, "serving-runtime-python", "3.11")):
                if path.endswith(".lock"):
                    with open(os.path.join(bases, "serving-runtime-python", "3.11", path), "w", encoding="utf-8") as file:
                        file.write(f"deb dash 0.0.0-none dash_0.0.0-none_amd64.deb 7 {DIGEST}\n")
            command = ["bash", os.path.join(bases, "build.sh"), "serving-runtime-python:3.11"]
            # A mirror that has nothing.
            with open(os.path.join(folder, "Packages"), "w", encoding="utf-8"):
                pass
            sources = os.path.join(folder, "list.sources")
            with open(sources, "w", encoding="utf-8") as file:
                file.write(f"Types: deb\nURIs: copy:{folder}\nSuites: ./\nTrusted: yes\n")
            environment = {**os.environ, "OUT": os.path.join(folder, "out"), "PROTO_DIR": os.path.join(os.path.dirname(BASES), "proto"), "APT_SOURCES": sources}
            environment.pop("HS", None)
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(ended.returncode, 66, ended.stderr)
        self.assertIn("dash", ended.stderr)
        self.assertIn("`base-images/build.sh serving-runtime-python:3.11 --lock`", ended.stderr)
