"""Asks a served model, and computes the same with the framework itself, in this process.

usage: frameworks.py TREE PORT onnx|tensorflow MODEL

TREE is a folder with the module hydro_serving_grpc (base-images/assemble/python_tree.sh makes it), MODEL an ONNX file or a SavedModel's folder. Inputs are made of the
model's own shapes. Printed is JSON: for each signature and output the dtype, and the values as they were served and as they were computed. Messages are written and read
by TensorFlow's own functions, and for ONNX by the few lines below, not by the server's. Not a test: that is container_frameworks.rs, which compares.
"""

import json
import sys

import grpc
import numpy as np

tree, port, framework, model = sys.argv[1:]
sys.path.insert(0, tree)

import hydro_serving_grpc as hs  # noqa: E402

READY_TIMEOUT_S = 120
UNKNOWN_SIZE = 3


def made(shape, dtype):
    """An array of that shape: small numbers, all different."""
    shape = [size if isinstance(size, int) and size >= 0 else UNKNOWN_SIZE for size in shape]
    count = int(np.prod(shape))
    if dtype in (object, np.object_):
        return np.array([f"word {at}" for at in range(count)], dtype=object).reshape(shape)
    if dtype in (bool, np.bool_):
        return (np.arange(count) % 2 == 1).reshape(shape)
    return (np.arange(count) % 7).astype(dtype).reshape(shape)


def plain(array):
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        return [element.decode() if isinstance(element, bytes) else str(element) for element in array.ravel().tolist()]
    if array.dtype.kind == "c":
        return [[element.real, element.imag] for element in array.ravel().tolist()]
    return array.astype(bool if array.dtype.kind == "b" else np.float64).ravel().tolist()


def of_tensorflow():
    import tensorflow as tf
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.python.saved_model import loader_impl

    # TensorFlow's own messages have the same bytes.
    def message(array):
        return hs.TensorProto.FromString(tf.make_tensor_proto(array).SerializeToString())

    def array(tensor):
        return tf.make_ndarray(TensorProto.FromString(tensor.SerializeToString()))

    for graph in loader_impl.parse_saved_model(model).meta_graphs:
        loaded = tf.saved_model.load(model, tags=list(graph.meta_info_def.tags))
        for name, function in loaded.signatures.items():
            infos = graph.signature_def[name].inputs
            inputs = {}
            for key in sorted(infos):
                shape = [] if infos[key].tensor_shape.unknown_rank else [dim.size for dim in infos[key].tensor_shape.dim]
                inputs[key] = made(shape, tf.dtypes.as_dtype(infos[key].dtype).as_numpy_dtype)
            computed = {key: value.numpy() for key, value in function(**{key: tf.constant(value) for key, value in inputs.items()}).items()}
            yield name, {key: message(value) for key, value in inputs.items()}, computed, array


def of_onnx():
    import onnxruntime

    lists = {"float32": ("DT_FLOAT", "float_val"), "float64": ("DT_DOUBLE", "double_val"), "int64": ("DT_INT64", "int64_val"),
             "int32": ("DT_INT32", "int_val"), "bool": ("DT_BOOL", "bool_val"), "object": ("DT_STRING", "string_val")}
    arrays = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
              "tensor(bool)": np.bool_, "tensor(string)": np.object_}

    def message(array):
        dtype, member = lists[array.dtype.name]
        shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=size) for size in array.shape])
        values = [value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()]
        return hs.TensorProto(dtype=hs.DataType.Value(dtype), tensor_shape=shape, **{member: values})

    def array(tensor):
        if tensor.dtype == hs.DT_MAP:
            return [f"{key}={value.float_val[0]:.5f}" for element in tensor.map_val for key, value in sorted(element.subtensors.items())]
        member = next(member for dtype, member in lists.values() if hs.DataType.Value(dtype) == tensor.dtype)
        return np.array(list(getattr(tensor, member))).reshape([dim.size for dim in tensor.tensor_shape.dim])

    def flat(value):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [f"{key}={number:.5f}" for entry in value for key, number in sorted((str(key), number) for key, number in entry.items())]
        return value

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = {value.name: made(value.shape, arrays[value.type]) for value in session.get_inputs()}
    results = session.run(None, inputs)
    computed = {value.name: flat(result) for value, result in zip(session.get_outputs(), results)}
    yield "infer", {key: message(value) for key, value in inputs.items()}, computed, array


channel = grpc.insecure_channel(f"127.0.0.1:{port}")
grpc.channel_ready_future(channel).result(timeout=READY_TIMEOUT_S)
predict = hs.PredictionServiceStub(channel).Predict

found = {}
for signature, inputs, computed, read in of_tensorflow() if framework == "tensorflow" else of_onnx():
    answer = predict(hs.PredictRequest(model_spec=hs.ModelSpec(signature_name=signature), inputs=inputs), timeout=60).outputs
    found[signature] = {
        name: {"dtype": hs.DataType.Name(answer[name].dtype), "served": plain(read(answer[name])), "computed": plain(value)}
        for name, value in computed.items()
    }
print(json.dumps(found))
