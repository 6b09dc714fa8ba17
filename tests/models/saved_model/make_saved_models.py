#!/usr/bin/env python3
"""Makes the SavedModels of this folder, and what TensorFlow itself says of each.

What it is: TensorFlow writes <name>/saved_model/, then TensorFlow's own reader reads it back, and what it says goes to
  <name>/expected.json (`tensorflow_says.py`). The README says what each model is for.
What it is not: run by the tests; they use the committed results. Nothing of lamina takes part, so that an error of ours in reading
  cannot be in the expectation too.
What must stay true: every folder is loaded by TensorFlow before it is kept, is below 60 KB, and names no path of the machine.

usage: make_saved_models.py [NAME…]    in a Python 3.11 with the tensorflow-cpu of README.md
"""

import pathlib
import sys

import tensorflow_says

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

tf1 = tf.compat.v1
sm1 = tf1.saved_model
MODELS = {}


def model(make):
    MODELS[make.__name__] = make
    return make


# ---- TensorFlow 2 ---------------------------------------------------------------------------------------------------------------


def spec(shape, dtype, name=None):
    return tf.TensorSpec(shape, dtype, name)


@model
def half_plus_two(path):
    class HalfPlusTwo(tf.Module):
        def __init__(self):
            super().__init__()
            self.a = tf.Variable(0.5, name="a")
            self.b = tf.Variable(2.0, name="b")

        @tf.function(input_signature=[spec([None], tf.float32, "x")])
        def predict(self, x):
            return {"y": self.a * x + self.b}

    module = HalfPlusTwo()
    tf.saved_model.save(module, path, signatures={"serving_default": module.predict})
    served = tf.saved_model.load(path).signatures["serving_default"]
    assert served(x=tf.constant([1.0, 2.0]))["y"].numpy().tolist() == [2.5, 3.0]


@model
def several_signatures(path):
    class Several(tf.Module):
        @tf.function(input_signature=[spec([None, 3], tf.float32, "features"), spec([None, 1], tf.int64, "id")])
        def predict(self, features, id):
            return {"score": tf.reduce_sum(features, axis=1), "id": id}

        @tf.function(input_signature=[spec([None], tf.string, "text")])
        def length(self, text):
            return {"length": tf.strings.length(text)}

        @tf.function(input_signature=[])
        def version(self):
            return {"version": tf.constant("7")}

    module = Several()
    signatures = {"zeta": module.length, "serving_default": module.predict, "predict": module.predict, "alpha": module.version}
    tf.saved_model.save(module, path, signatures=signatures)


@model
def dtypes(path):
    kinds = [
        tf.bool, tf.string, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64,
        tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128,
        tf.qint8, tf.quint8, tf.qint16, tf.quint16, tf.qint32,
    ]

    class Dtypes(tf.Module):
        @tf.function(input_signature=[spec([None, 2], kind, f"in_{kind.name}") for kind in kinds])
        def echo(self, *tensors):
            return {f"out_{kind.name}": tf.identity(tensor) for kind, tensor in zip(kinds, tensors)}

    module = Dtypes()
    tf.saved_model.save(module, path, signatures={"serving_default": module.echo})


@model
def dtypes_after_2018(path):
    """TensorFlow took 24 to 33 for these later; the ancestor's enum has 24 (DT_ANY) and 27 (DT_MAP) for its own."""
    names = [
        "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz",
        "int4", "uint4", "int2", "uint2", "float4_e2m1fn",
    ]
    kinds = [types_pb2.DataType.Value(f"DT_{name.upper()}") for name in names]

    class Later(tf.Module):
        @tf.function(input_signature=[spec([None], tf.as_dtype(kind), f"in_{name}") for name, kind in zip(names, kinds)])
        def echo(self, *tensors):
            return {f"out_{name}": tf.identity(tensor) for name, tensor in zip(names, tensors)}

    module = Later()
    tf.saved_model.save(module, path, signatures={"serving_default": module.echo})


@model
def handles(path):
    """Dtypes that are no data: a variant and a resource."""

    class Handles(tf.Module):
        @tf.function(input_signature=[spec([], tf.variant, "variant"), spec([], tf.resource, "resource")])
        def echo(self, variant, resource):
            return {"variant_out": tf.identity(variant), "resource_out": tf.identity(resource)}

    module = Handles()
    tf.saved_model.save(module, path, signatures={"serving_default": module.echo})


@model
def shapes(path):
    forms = {
        "scalar": [],
        "unknown_rank": None,
        "vector": [None],
        "fixed": [2, 3],
        "image": [None, 28, 28, 1],
        "all_unknown": [None, None, None],
        "empty_dim": [None, 0],
        "large_dim": [None, 2**33],
    }

    class Shapes(tf.Module):
        @tf.function(input_signature=[spec(form, tf.float32, name) for name, form in forms.items()])
        def echo(self, *tensors):
            return {f"{name}_out": tf.identity(tensor) for name, tensor in zip(forms, tensors)}

    module = Shapes()
    tf.saved_model.save(module, path, signatures={"serving_default": module.echo})


@model
def no_signatures(path):
    class Bare(tf.Module):
        @tf.function(input_signature=[spec([None], tf.float32)])
        def up(self, x):
            return x + 1.0

        @tf.function(input_signature=[spec([None], tf.float32)])
        def down(self, x):
            return x - 1.0

    tf.saved_model.save(Bare(), path)


@model
def default_signature(path):
    """No signature is asked for; TensorFlow makes one out of __call__ and names its output."""

    class Callable(tf.Module):
        @tf.function(input_signature=[spec([None], tf.float32)])
        def __call__(self, x):
            return x + 1.0

    tf.saved_model.save(Callable(), path)


@model
def keras_export(path):
    tf.keras.utils.set_random_seed(7)
    inputs = tf.keras.Input(shape=(4,), name="features")
    hidden = tf.keras.layers.Dense(3, activation="relu", name="hidden")(inputs)
    outputs = tf.keras.layers.Dense(1, name="price")(hidden)
    tf.keras.Model(inputs, outputs, name="house").export(path, verbose=False)


@model
def keras_export_two_inputs(path):
    left = tf.keras.Input(shape=(2,), name="left")
    right = tf.keras.Input(shape=(None, 3), name="right", dtype="int32")
    merged = tf.keras.layers.Concatenate(name="merged")([left, left])
    total = tf.keras.layers.Lambda(lambda t: tf.reduce_sum(t, axis=1), output_shape=(3,), name="total")(right)
    network = tf.keras.Model({"left": left, "right": right}, {"merged": merged, "total": total})
    network.export(path, verbose=False)


# ---- TensorFlow 1: graphs in a session, the builder that users of 2018 had -------------------------------------------------------


def tf1_half_plus_two():
    """In the current graph: y = a * x + b, and y's signature."""
    x = tf1.placeholder(tf.float32, [None], name="x")
    a = tf1.get_variable("a", initializer=0.5)
    b = tf1.get_variable("b", initializer=2.0)
    return x, tf.add(a * x, b, name="y")


def in_session(build):
    with tf.Graph().as_default(), tf1.Session() as session:
        x, y = tf1_half_plus_two()
        session.run(tf1.global_variables_initializer())
        build(session, x, y)


def predict_signature(x, y):
    return sm1.predict_signature_def({"x": x}, {"y": y})


@model
def tf1_serve(path):
    builder = sm1.Builder(path)

    def build(session, x, y):
        serialized = tf1.placeholder(tf.string, [None], name="tf_example")
        labels = tf1.constant(["low", "high"])
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": predict_signature(x, y),
                "classify_x_to_y": sm1.classification_signature_def(serialized, labels, y),
                "regress_x_to_y": sm1.regression_signature_def(serialized, y),
            },
            strip_default_attrs=True,
        )

    in_session(build)
    builder.save()


@model
def tf1_other_tags(path):
    builder = sm1.Builder(path)
    in_session(
        lambda session, x, y: builder.add_meta_graph_and_variables(
            session, ["foo_tag", "bar_tag"], {"predict": predict_signature(x, y)}, strip_default_attrs=True
        )
    )
    builder.save()


@model
def tf1_many_graphs(path):
    """The same signature name in several meta graphs, with another field in the one for training."""
    builder = sm1.Builder(path)
    in_session(
        lambda session, x, y: builder.add_meta_graph_and_variables(
            session, ["train"], {"train": sm1.predict_signature_def({"x": x, "label": y}, {"loss": y})}, strip_default_attrs=True
        )
    )
    in_session(
        lambda session, x, y: builder.add_meta_graph(
            ["serve"], {"serving_default": predict_signature(x, y)}, strip_default_attrs=True
        )
    )
    in_session(
        lambda session, x, y: builder.add_meta_graph(
            ["serve", "gpu"], {"serving_default": sm1.predict_signature_def({"x_gpu": x}, {"y": y})}, strip_default_attrs=True
        )
    )
    builder.save()


@model
def tf1_composite(path, as_text=False):
    """A coo_sparse input, a ragged one (composite_tensor), and a dense output."""
    builder = sm1.Builder(path)
    with tf.Graph().as_default(), tf1.Session() as session:
        sparse = tf1.sparse_placeholder(tf.float32, shape=[None, 5], name="sparse")
        ragged = tf1.ragged.placeholder(tf.int64, ragged_rank=1, value_shape=[], name="ragged")
        total = tf.sparse.reduce_sum(sparse, axis=1)
        infos = {"sparse": sm1.build_tensor_info(sparse), "ragged": sm1.build_tensor_info(ragged)}
        outputs = {"total": sm1.build_tensor_info(total), "sparse_too": sm1.build_tensor_info(sparse)}
        signature = sm1.build_signature_def(infos, outputs, sm1.PREDICT_METHOD_NAME)
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, strip_default_attrs=True)
    builder.save(as_text=as_text)


@model
def tf1_text_composite(path):
    tf1_composite(path, as_text=True)


@model
def tf1_tensor_infos(path):
    """What no helper makes but the builder takes: no shape, a named dimension, a default, a reference, odd names."""
    builder = sm1.Builder(path)

    def build(session, x, y):
        shapeless = meta_graph_pb2.TensorInfo(name=x.name, dtype=types_pb2.DT_FLOAT)
        named = sm1.build_tensor_info(x)
        named.tensor_shape.dim[0].name = "batch"
        signature = sm1.build_signature_def({"shapeless": shapeless, "named": named}, {"y": sm1.build_tensor_info(y)}, sm1.PREDICT_METHOD_NAME)
        signature.defaults["named"].CopyFrom(tf.make_tensor_proto([1.0]))
        nameless = sm1.build_signature_def({"x": sm1.build_tensor_info(x)}, {"y": sm1.build_tensor_info(y)}, None)
        only_outputs = sm1.build_signature_def({}, {"y": sm1.build_tensor_info(y)}, sm1.PREDICT_METHOD_NAME)
        reference = tf1.get_variable("reference", initializer=[1.0, 2.0], use_resource=False)
        session.run(reference.initializer)
        references = sm1.predict_signature_def({"x": x}, {"reference": reference})
        odd_names = sm1.predict_signature_def({"dense_1/BiasAdd:0": x}, {"größe": y, "Größe": y, "y 1": y})
        signatures = {
            "serving_default": signature,
            "nameless": nameless,
            "only_outputs": only_outputs,
            "references": references,
            "odd names": odd_names,
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signatures, strip_default_attrs=True)

    in_session(build)
    builder.save()


@model
def tf1_text(path):
    """The text form, saved_model.pbtxt."""
    builder = sm1.Builder(path)
    in_session(
        lambda session, x, y: builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": predict_signature(x, y)}, strip_default_attrs=True
        )
    )
    builder.save(as_text=True)


BY_HAND = r"""
  collection_def { key: "}" value { bytes_list { value: "signature_def {" "\"}" } } }  # } ' "
  signature_def: < key: 'serving' "_def"
    "ault"; value: {
      inputs [ { key: "x", value { name: "x:0", dtype: 1 tensor_shape < dim [ { size: -1 name: "b\x61tch" }, { size: 0x10; name: '\'' } ] > } },
               < key: "none" value: { name: 'x:0' dtype: DT_INT64_REF tensor_shape { dim: [] unknown_rank: True } } > ]
      outputs { value { dtype: DT_BFLOAT16, tensor_shape {}, name: 'y:0' } key: "gr\303\266\u00dfe" }
      outputs: { key: 'größe' value { name: "y:0" dtype: DT_VARIANT } },
      method_name: "tensorflow/serving/predict"
    } >
}
"""


@model
def tf1_text_by_hand(path):
    """All that the text format allows, in a signature that TensorFlow takes."""
    tf1_text(path)
    file = pathlib.Path(path) / "saved_model.pbtxt"
    written = file.read_text()
    file.write_text(written[: written.index("  signature_def {")] + BY_HAND.lstrip("\n"))


# -----------------------------------------------------------------------------------------------------------------------------------


def load_every_graph(path, said):
    """TensorFlow 1's loader takes what both write, one meta graph at a time, and restores the variables."""
    for graph in said["meta_graphs"]:
        with tf.Graph().as_default(), tf1.Session() as session:
            sm1.loader.load(session, graph["tags"], path)


if __name__ == "__main__":
    tensorflow_says.make(MODELS, sys.argv[1:], load_every_graph)
