"""Wheels as a layer: where their files go, what is left out, and that nothing depends on the machine."""

import io
import os
import sys
import tarfile
import tempfile
import unittest
import zipfile

BASES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(BASES, "assemble"))

import image_config  # noqa: E402
import layer_tar  # noqa: E402
import wheels  # noqa: E402

RECORD = "pkg/__init__.py,sha256=x,1\npkg/tests/test_a.py,sha256=x,1\npkg-1.data/scripts/run,sha256=x,1\npkg-1.dist-info/RECORD,,\n"


class Wheels(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def wheel(self, name, files, executable=()):
        path = os.path.join(self.folder, name)
        with zipfile.ZipFile(path, "w") as archive:
            for file, content in files.items():
                info = zipfile.ZipInfo(file, (2020, 1, 1, 0, 0, 0))
                info.external_attr = (0o755 if file in executable else 0o600) << 16
                archive.writestr(info, content)
        return path

    def unpacked(self, *paths, patterns=()):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            wheels.unpack(paths, "lib", tar, patterns)
        out.seek(0)
        with tarfile.open(fileobj=out) as tar:
            return {entry.name: (entry.mode, entry.mtime, entry.uid, tar.extractfile(entry).read()) for entry in tar}

    def test_files_go_where_an_installer_puts_them(self):
        files = {
            "pkg/__init__.py": "1", "pkg-1.data/purelib/pure.py": "2", "pkg-1.data/platlib/native.so": "3", "pkg-1.data/scripts/run": "4",
            "pkg-1.data/headers/a.h": "5", "pkg-1.data/data/share/x": "6",
        }
        unpacked = self.unpacked(self.wheel("pkg-1-py3-none-any.whl", files, executable=["pkg-1.data/platlib/native.so"]))
        self.assertEqual(unpacked, {
            "lib/pkg/__init__.py": (0o644, 0, 0, b"1"), "lib/pure.py": (0o644, 0, 0, b"2"), "lib/native.so": (0o755, 0, 0, b"3"),
        })

    def test_record_names_what_is_there(self):
        files = {"pkg/__init__.py": "", "pkg/tests/test_a.py": "", "pkg-1.data/scripts/run": "", "pkg-1.dist-info/RECORD": RECORD}
        unpacked = self.unpacked(self.wheel("pkg-1-py3-none-any.whl", files), patterns=["*/tests"])
        self.assertEqual(sorted(unpacked), ["lib/pkg-1.dist-info/RECORD", "lib/pkg/__init__.py"])
        self.assertEqual(unpacked["lib/pkg-1.dist-info/RECORD"][3], b"pkg/__init__.py,sha256=x,1\npkg-1.dist-info/RECORD,,\n")

    def test_the_same_file_of_two_wheels_has_to_be_the_same(self):
        one = self.wheel("a-1-py3-none-any.whl", {"shared/__init__.py": "1"})
        same = self.wheel("b-1-py3-none-any.whl", {"shared/__init__.py": "1"})
        other = self.wheel("c-1-py3-none-any.whl", {"shared/__init__.py": "2"})
        self.unpacked(one, same)
        with self.assertRaisesRegex(SystemExit, "c-1-py3-none-any.whl brings shared/__init__.py"):
            self.unpacked(one, other)

    def test_a_path_that_leaves_the_folder_is_refused(self):
        for name in ("../x.py", "/x.py", "a/../../x.py"):
            with self.assertRaisesRegex(SystemExit, "leaves the folder"):
                self.unpacked(self.wheel("a-1-py3-none-any.whl", {name: ""}))


class Layers(unittest.TestCase):
    def test_what_is_below_the_prefix_is_a_layer_of_its_own(self):
        source = io.BytesIO()
        with tarfile.open(fileobj=source, mode="w") as tar:
            for name, kind in (("./usr", tarfile.DIRTYPE), ("./usr/local", tarfile.DIRTYPE), ("./usr/local/lib", tarfile.DIRTYPE),
                               ("./usr/local/lib/x.py", tarfile.REGTYPE), ("./usr/local/library", tarfile.REGTYPE), ("./usr/lib", tarfile.DIRTYPE)):
                info = tarfile.TarInfo(name)
                info.type, info.mode = kind, 0o755
                tar.addfile(info)
        source.seek(0)
        rest, below = io.BytesIO(), io.BytesIO()
        with tarfile.open(fileobj=source) as tar:
            layer_tar.rewrite(tar, rest, 0, "usr/local/lib", below)
        names = []
        for layer in (rest, below):
            layer.seek(0)
            with tarfile.open(fileobj=layer) as tar:
                names.append(tar.getnames())
        self.assertEqual(names, [
            ["usr", "usr/lib", "usr/local", "usr/local/lib", "usr/local/library"], ["usr", "usr/local", "usr/local/lib", "usr/local/lib/x.py"],
        ])


class ImageConfig(unittest.TestCase):
    def test_the_user_is_a_number_and_what_the_recipe_sets_is_there(self):
        config = image_config.config("serving-runtime-x:1.2", "ppc64el", "3.11.2", "00", "Serves", ["LAMINA_BACKEND=x"])
        self.assertEqual(config["architecture"], "ppc64le")
        self.assertRegex(config["config"]["User"], "^[1-9][0-9]*:[1-9][0-9]*$")
        self.assertIn("LAMINA_BACKEND=x", config["config"]["Env"])
        self.assertIn("PYTHON_VERSION=3.11.2", config["config"]["Env"])
        labels = config["config"]["Labels"]
        self.assertEqual((labels["io.lamina.runtime"], labels["org.opencontainers.image.version"]), ("serving-runtime-x", "1.2"))
        self.assertEqual(labels["io.lamina.lock"], "sha256:00")
