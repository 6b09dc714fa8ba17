#!/usr/bin/env python3
"""Makes the ONNX models of this folder, and what ONNX and ONNX Runtime say of each.

What it is: the `onnx` package's helpers and skl2onnx write <name>/model.onnx; then `onnx.load` and, where it takes the model, an
  `onnxruntime.InferenceSession` read it back, and what both say goes to <name>/expected.json. The README says what each model is for.
What it is not: run by the tests; they use the committed results. Nothing of lamina takes part, so that an error of ours in reading
  cannot be in the expectation too. The models of 2018 are not made here but by make_old_onnx_models.py; only their expectation is.
What must stay true: two runs give the same bytes; every folder is below 40 KB and names no path of the machine.

usage: make_onnx_models.py [NAME…]    in a Python 3.12 with the packages of README.md
"""

import json
import os
import pathlib
import re
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
import skl2onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper
from skl2onnx.common import data_types as skl_types
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

HERE = pathlib.Path(__file__).resolve().parent
LARGEST = 40_000
MODELS = {}


def model(make):
    MODELS[make.__name__] = make
    return make


def value(name, dtype=T.FLOAT, shape=()):
    return h.make_tensor_value_info(name, dtype, shape)


def typed(name, type_proto):
    return h.make_value_info(name, type_proto)


def identity(names):
    """A node for each name: `x` to `x_out`."""
    return [h.make_node("Identity", [name], [f"{name}_out"]) for name in names]


def make_model(graph, opset=21, ir_version=10, **more):
    more.setdefault("producer_name", "lamina-tests")
    more.setdefault("producer_version", "1.0")
    return h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=ir_version, **more)


# ---- the `onnx` package ----------------------------------------------------------------------------------------------------------


def dense_graph(weights_are_inputs=False):
    """y = x w + b, as exporters of fully connected layers write it."""
    initializers = [
        numpy_helper.from_array(np.full((4, 3), 0.5, np.float32), "w"),
        numpy_helper.from_array(np.zeros(3, np.float32), "b"),
    ]
    inputs = [value("x", T.FLOAT, ["batch", 4])]
    if weights_are_inputs:
        inputs = [value("w", T.FLOAT, [4, 3])] + inputs + [value("b", T.FLOAT, [3])]
    nodes = [h.make_node("MatMul", ["x", "w"], ["xw"]), h.make_node("Add", ["xw", "b"], ["y"])]
    return h.make_graph(nodes, "dense", inputs, [value("y", T.FLOAT, ["batch", 3])], initializers)


@model
def opset_7():
    return make_model(dense_graph(weights_are_inputs=True), opset=7, ir_version=3)


@model
def opset_9():
    return make_model(dense_graph(), opset=9, ir_version=4)


@model
def opset_13():
    return make_model(dense_graph(), opset=13, ir_version=7)


@model
def opset_newest():
    return make_model(dense_graph(), opset=onnx.defs.onnx_opset_version(), ir_version=onnx.IR_VERSION)


@model
def inputs_with_defaults():
    """From IR version 4 on an input may have an initializer: a default that a caller may replace."""
    return make_model(dense_graph(weights_are_inputs=True), opset=13, ir_version=8)


@model
def dtypes():
    kinds = ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
    kinds += ["BOOL", "STRING"]
    return echo({kind.lower(): (T.DataType.Value(kind), ["n", 2]) for kind in kinds})


@model
def dtypes_complex():
    """Apart from the others, because ONNX Runtime has no kernels for them."""
    return echo({"complex64": (T.COMPLEX64, ["n", 2]), "complex128": (T.COMPLEX128, ["n", 2])})


@model
def dtypes_no_contract_has():
    """Every type but those of the two models before, whatever the newest `onnx` knows."""
    later = [name for name, number in T.DataType.items() if number > T.BFLOAT16]
    assert later[0] == "FLOAT8E4M3FN"
    return echo({kind.lower(): (T.DataType.Value(kind), ["n", 2]) for kind in later}, opset=onnx.defs.onnx_opset_version())


def echo(fields, **more):
    inputs = [value(name, dtype, shape) for name, (dtype, shape) in fields.items()]
    outputs = [value(f"{name}_out", dtype, shape) for name, (dtype, shape) in fields.items()]
    return make_model(h.make_graph(identity(fields), "echo", inputs, outputs), **more)


@model
def shapes():
    forms = {
        "scalar": [],
        "not_stated": None,
        "vector": ["n"],
        "fixed": [2, 3],
        "image": ["batch", 3, "height", "width"],
        "unnamed": [None, None],
        "empty_name": ["", 2],
        "zero": [None, 0],
        "large": [None, 2**33],
        "minus_one": [-1, 2],
        "minus_five": [-5, 2],
    }
    return echo({name: (T.FLOAT, shape) for name, shape in forms.items()})


@model
def names():
    return echo({name: (T.INT64, ["größe"]) for name in ["serving_default/dense_1:0", "größe", "Größe", "x 1", "StatefulPartitionedCall:1", "日本"]})


@model
def containers():
    """A sequence, an optional tensor and an optional sequence, which ONNX Runtime takes as inputs and outputs."""
    floats = h.make_tensor_type_proto(T.FLOAT, ["n", 2])
    sequence = h.make_sequence_type_proto(h.make_tensor_type_proto(T.INT64, None))
    inputs = [
        typed("sequence", sequence),
        typed("optional", h.make_optional_type_proto(floats)),
        typed("optional_sequence", h.make_optional_type_proto(sequence)),
    ]
    outputs = [typed("sequence_out", sequence), value("optional_out", T.BOOL, []), value("optional_sequence_out", T.BOOL, [])]
    nodes = [h.make_node("Identity", ["sequence"], ["sequence_out"])]
    nodes += [h.make_node("OptionalHasElement", [name], [f"{name}_out"]) for name in ["optional", "optional_sequence"]]
    return make_model(h.make_graph(nodes, "containers", inputs, outputs), opset=18, ir_version=8)


@model
def containers_in_containers():
    """Types that the format has and no runtime is known to take."""
    text = h.make_tensor_type_proto(T.STRING, [])
    floats = h.make_tensor_type_proto(T.FLOAT, None)
    by_text = h.make_map_type_proto(T.STRING, floats)
    kinds = {
        "sparse": h.make_sparse_tensor_type_proto(T.DOUBLE, ["n", 5]),
        "sequence_of_optionals": h.make_sequence_type_proto(h.make_optional_type_proto(floats)),
        "sequence_of_sequences": h.make_sequence_type_proto(h.make_sequence_type_proto(text)),
        "map_of_text": by_text,
        "map_of_numbers": h.make_map_type_proto(T.INT64, h.make_sequence_type_proto(floats)),
        "maps_in_two_sequences": h.make_sequence_type_proto(h.make_sequence_type_proto(by_text)),
        "optional_sequence_of_maps": h.make_optional_type_proto(h.make_sequence_type_proto(by_text)),
    }
    inputs = [typed(name, kind) for name, kind in kinds.items()]
    outputs = [typed(f"{name}_out", kind) for name, kind in kinds.items()]
    return make_model(h.make_graph(identity(kinds), "containers", inputs, outputs))


@model
def opaque():
    kind = onnx.TypeProto()
    kind.opaque_type.domain, kind.opaque_type.name = "com.example", "handle"
    return make_model(h.make_graph(identity(["x"]), "opaque", [typed("x", kind)], [typed("x_out", kind)]))


@model
def untyped_output():
    """An output with nothing but its name, as editors of graphs leave it; ONNX Runtime infers its type."""
    output = onnx.ValueInfoProto(name="x_out")
    return make_model(h.make_graph(identity(["x"]), "untyped", [value("x", T.FLOAT, ["n", 2])], [output]))


@model
def no_inputs():
    node = h.make_node("RandomNormal", [], ["noise"], shape=[2, 2])
    return make_model(h.make_graph([node], "no_inputs", [], [value("noise", T.FLOAT, [2, 2])]))


@model
def no_outputs():
    return make_model(h.make_graph(identity(["x"]), "no_outputs", [value("x", T.FLOAT, [2])], []))


@model
def producer_with_blank():
    """tf2onnx writes its version so: the number, a blank, a commit."""
    return make_model(dense_graph(), opset=13, ir_version=7, producer_name="tf2onnx", producer_version="1.9.3 1190aa")


@model
def producer_with_colon():
    return make_model(dense_graph(), opset=13, ir_version=7, producer_name="ACME: export", producer_version="größe/2")


@model
def producer_unknown():
    return make_model(dense_graph(), opset=13, ir_version=7, producer_name="", producer_version="")


@model
def external_data():
    """Weights in two files beside the model, one of them in a folder; a small one stays inside."""
    made = make_model(dense_graph(), opset=13, ir_version=7)
    for tensor, location in zip(made.graph.initializer, ["weights/w.bin", "b.bin"]):
        onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=len(tensor.raw_data))
    return made


@model
def sparse_initializer():
    values = numpy_helper.from_array(np.array([1.5, 2.5], np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 5], np.int64), "w_indices")
    sparse = h.make_sparse_tensor(values, indices, [3, 2])
    inputs = [value("x", T.FLOAT, ["n", 3]), value("w", T.FLOAT, [3, 2])]
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", "w"], ["y"])], "sparse", inputs, [value("y", T.FLOAT, ["n", 2])], sparse_initializer=[sparse]
    )
    return make_model(graph, opset=13, ir_version=7)


@model
def functions_and_training():
    """A function of the model's own, a training graph and metadata: all of it beside the graph that is asked."""
    function = h.make_function(
        "local", "twice", ["a"], ["b"], [h.make_node("Add", ["a", "a"], ["b"])], [h.make_opsetid("", 18)]
    )
    graph = h.make_graph(
        [h.make_node("twice", ["x"], ["y"], domain="local")], "main", [value("x", T.FLOAT, ["n"])], [value("y", T.FLOAT, ["n"])]
    )
    opsets = [h.make_opsetid("", 18), h.make_opsetid("local", 1)]
    made = h.make_model(graph, opset_imports=opsets, ir_version=9, functions=[function], producer_name="lamina-tests")
    algorithm = h.make_graph(identity(["t"]), "training", [value("t", T.INT64, [1])], [value("t_out", T.INT64, [1])])
    made.training_info.append(h.make_training_info(algorithm, [], None, None))
    h.set_model_props(made, {"author": "größe"})
    made.doc_string = "A graph of a function."
    return made


# ---- scikit-learn, by skl2onnx ---------------------------------------------------------------------------------------------------


def from_sklearn(estimator, initial_types, **more):
    made = skl2onnx.convert_sklearn(estimator, "model", initial_types, target_opset={"": 15, "ai.onnx.ml": 3}, **more)
    # They come out of a set, in an order that differs from one run to the next.
    made.opset_import.sort(key=lambda opset: opset.domain)
    return made


def iris():
    features, classes = load_iris(return_X_y=True)
    return features.astype(np.float32), classes


FLOATS = [("float_input", skl_types.FloatTensorType([None, 4]))]


@model
def sklearn_zipmap_numbers():
    features, classes = iris()
    return from_sklearn(LogisticRegression(max_iter=500).fit(features, classes), FLOATS)


@model
def sklearn_zipmap_text():
    features, classes = iris()
    names = np.array(["setosa", "versicolor", "virginica"])[classes]
    return from_sklearn(DecisionTreeClassifier(max_depth=2, random_state=0).fit(features, names), FLOATS)


@model
def sklearn_no_zipmap():
    features, classes = iris()
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, classes)
    return from_sklearn(fitted, FLOATS, options={"zipmap": False})


@model
def sklearn_columns():
    """A table of columns of different types, an input each."""
    import pandas

    table = pandas.DataFrame({"town": ["a", "b", "a", "c"], "rooms": [1, 2, 3, 4], "area": np.array([30, 45, 61, 80], np.float32)})
    columns = ColumnTransformer([("town", OneHotEncoder(), ["town"]), ("rest", "passthrough", ["rooms", "area"])])
    fitted = make_pipeline(columns, LinearRegression()).fit(table, [100.0, 150.0, 190.0, 260.0])
    types = [
        ("town", skl_types.StringTensorType([None, 1])),
        ("rooms", skl_types.Int64TensorType([None, 1])),
        ("area", skl_types.FloatTensorType([None, 1])),
    ]
    return from_sklearn(fitted, types)


@model
def sklearn_dictionary():
    """A map as an input."""
    fitted = DictVectorizer(sparse=False).fit([{"a": 1.0, "b": 2.0}, {"a": 3.0}])
    return from_sklearn(fitted, [("row", skl_types.DictionaryType(skl_types.StringTensorType([1]), skl_types.FloatTensorType([1])))])


# ---- what ONNX and ONNX Runtime say ----------------------------------------------------------------------------------------------


def type_and_shape(kind):
    """The type in ONNX's words, and the shape of a tensor, optional or not: null where there is none, else numbers, names and nulls."""
    which = kind.WhichOneof("value")
    if which is None:
        return None, None
    if which in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(kind, which)
        dims = None
        if tensor.HasField("shape"):
            said = [(dim.WhichOneof("value"), dim) for dim in tensor.shape.dim]
            dims = [getattr(dim, which_dim) if which_dim else None for which_dim, dim in said]
        return f"{which.removesuffix('_type')}({T.DataType.Name(tensor.elem_type)})", dims
    if which == "opaque_type":
        return f"opaque({kind.opaque_type.domain},{kind.opaque_type.name})", None
    if which == "map_type":
        inner, _ = type_and_shape(kind.map_type.value_type)
        return f"map({T.DataType.Name(kind.map_type.key_type)},{inner})", None
    inner, dims = type_and_shape(getattr(kind, which).elem_type)
    return f"{which.removesuffix('_type')}({inner})", dims if which == "optional_type" else None


def field(info):
    kind, shape = type_and_shape(info.type)
    return {"name": info.name, "type": kind, "shape": shape}


def runtime(path):
    """What ONNX Runtime says of inputs and outputs; the name of its refusal where it does not take the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        code = re.search(r"\[ONNXRuntimeError\] : \d+ : (\w+)", str(error))
        print(f"  onnxruntime: {str(error)[:200]}")
        return {"refused": code.group(1) if code else type(error).__name__}

    def said(args):
        return [{"name": arg.name, "type": arg.type, "shape": arg.shape} for arg in args]

    return {"inputs": said(session.get_inputs()), "outputs": said(session.get_outputs())}


def external_files(loaded):
    helper = onnx.external_data_helper
    external = [tensor for tensor in loaded.graph.initializer if helper.uses_external_data(tensor)]
    return sorted({helper.ExternalDataInfo(tensor).location for tensor in external})


def expected(path):
    loaded = onnx.load(path, load_external_data=False)
    graph = loaded.graph
    return {
        "ir_version": loaded.ir_version,
        "opsets": {opset.domain: opset.version for opset in loaded.opset_import},
        "producer_name": loaded.producer_name,
        "producer_version": loaded.producer_version,
        "inputs": [field(info) for info in graph.input],
        "initializers": [tensor.name for tensor in graph.initializer] + [tensor.values.name for tensor in graph.sparse_initializer],
        "outputs": [field(info) for info in graph.output],
        "external_files": external_files(loaded),
        "onnxruntime": runtime(path),
    }


def check_folder(folder):
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size < LARGEST, f"{folder.name}: {size} bytes"
    for file in folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for path in (str(HERE), os.path.expanduser("~"), sys.prefix):
            assert path.encode() not in content, f"{file} names {path}"
    print(f"{folder.name}: {size} bytes")


def main():
    wanted = sys.argv[1:] or sorted({*MODELS, *(path.parent.name for path in HERE.glob("*/model.onnx"))})
    for name in wanted:
        folder = HERE / name
        path = str(folder / "model.onnx")
        if name in MODELS:
            shutil.rmtree(folder, ignore_errors=True)
            made = MODELS[name]()
            for location in ["model.onnx", *external_files(made)]:
                (folder / location).parent.mkdir(parents=True, exist_ok=True)
            # The external files are written with the model, from the bytes that its tensors still have.
            onnx.save(made, path)
        (folder / "expected.json").write_text(json.dumps(expected(path), indent=1, ensure_ascii=False) + "\n")
        check_folder(folder)


if __name__ == "__main__":
    main()
