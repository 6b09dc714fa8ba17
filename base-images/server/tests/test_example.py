"""The example in docs/examples, served as it is: its numbers, both ways of sending a tensor, batches."""

import os
import shutil
import tempfile
import unittest

import numpy as np

import support
from support import Server, hs, request
from test_names import IMAGE_BYTES


def rows(array, as_bytes):
    shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=size) for size in array.shape])
    elements = {"tensor_content": array.astype("<f8").tobytes()} if as_bytes else {"double_val": array.ravel()}
    return hs.TensorProto(dtype=hs.DT_DOUBLE, tensor_shape=shape, **elements)


class Example(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="lamina-model-"))
        os.makedirs(os.path.join(folder, "files"))
        shutil.copytree(os.path.join(support.EXAMPLE, "src"), os.path.join(folder, "files", "src"), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(os.path.join(support.EXAMPLE, "weights.json"), os.path.join(folder, "files"))
        # The example says /model, as users' code does; here, the folder is elsewhere.
        func_main = os.path.join(folder, "files", "src", "func_main.py")
        with open(func_main, encoding="utf-8") as file:
            text = file.read()
        with open(func_main, "w", encoding="utf-8") as file:
            file.write(text.replace("/model/files/", folder + "/files/"))
        with open(os.path.join(folder, "contract.protobin"), "wb") as file:
            file.write(IMAGE_BYTES)
        cls.server = cls.enterClassContext(Server(folder))

    def infer(self, array, as_bytes):
        answer = self.server.predict(request(x=rows(np.array(array, dtype=float), as_bytes)), timeout=10).outputs["y"]
        self.assertEqual([dim.size for dim in answer.tensor_shape.dim], [len(array)])
        return list(answer.double_val)

    def test_its_numbers(self):
        for as_bytes in (True, False):
            with self.subTest(as_bytes=as_bytes):
                self.assertEqual(self.infer([[0, 0], [2, 4], [1, 1]], as_bytes), [1, 3, 1.75])

    def test_no_rows(self):
        self.assertEqual(self.infer(np.zeros((0, 2)), as_bytes=False), [])
