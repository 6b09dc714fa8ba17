"""What TensorFlow itself says of a SavedModel, and whether one may be kept here.

What it is: the part that the scripts of this folder share: a file's bytes go through TensorFlow's own protobuf classes and come out as
  the JSON of expected.json.
What it is not: run by the tests; they use the committed results. Nothing of lamina takes part, so that an error of ours in reading
  cannot be in the expectation too.
What must stay true: it runs in Python 3.6 with TensorFlow 1.4 and in today's.
"""

import json
import os
import pathlib
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from tensorflow.core.framework import types_pb2
from tensorflow.python.saved_model import loader_impl

HERE = pathlib.Path(__file__).resolve().parent
LARGEST = 60000


def shape_of(info):
    if not info.HasField("tensor_shape"):
        return None
    if info.tensor_shape.unknown_rank:
        return {"unknown_rank": True}
    return {"dims": [dim.size for dim in info.tensor_shape.dim]}


def field(name, info):
    said = {"name": name, "dtype": types_pb2.DataType.Name(info.dtype), "shape": shape_of(info)}
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        coo = info.coo_sparse
        tensors = [coo.values_tensor_name, coo.indices_tensor_name, coo.dense_shape_tensor_name]
        said.update(kind="coo_sparse", tensor_name=None, tensors=tensors)
    elif encoding == "composite_tensor":
        said.update(kind="composite", tensor_name=None)
        said["type_spec"] = info.composite_tensor.type_spec.type_spec_class_name
        said["components"] = [field(str(i), component) for i, component in enumerate(info.composite_tensor.components)]
    else:
        assert encoding == "name", encoding
        said.update(kind="dense", tensor_name=info.name)
    return said


def fields(infos):
    return [field(name, infos[name]) for name in sorted(infos)]


def meta_graph(graph):
    signatures = []
    for name in sorted(graph.signature_def):
        signature = graph.signature_def[name]
        said = {"name": name, "method_name": signature.method_name}
        said["inputs"] = fields(signature.inputs)
        said["outputs"] = fields(signature.outputs)
        # Versions before 2.11 know no default values.
        if getattr(signature, "defaults", None):
            said["defaults"] = sorted(signature.defaults)
        signatures.append(said)
    info = graph.meta_info_def
    return {"tags": list(info.tags), "tensorflow_version": info.tensorflow_version, "signatures": signatures}


def expected(path):
    # Its name before 1.12.
    parse = getattr(loader_impl, "parse_saved_model", None) or loader_impl._parse_saved_model
    return {"meta_graphs": [meta_graph(graph) for graph in parse(path).meta_graphs]}


def check_folder(folder):
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size < LARGEST, "%s: %d bytes" % (folder.name, size)
    for file in folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for path in (str(HERE), os.path.expanduser("~"), sys.prefix):
            assert path.encode() not in content, "%s names %s" % (file, path)
    print("%s: %d bytes" % (folder.name, size))


def make(models, names, load_every_graph):
    """Makes each model anew, has TensorFlow read and load it, and keeps what it says."""
    for name in names or models:
        folder = HERE / name
        shutil.rmtree(str(folder), ignore_errors=True)
        folder.mkdir()
        path = str(folder / "saved_model")
        models[name](path)
        said = expected(path)
        load_every_graph(path, said)
        (folder / "expected.json").write_text(json.dumps(said, indent=1) + "\n")
        check_folder(folder)
