#!/usr/bin/env python3
"""Makes SavedModels with TensorFlow 1 itself, the way that its users of 2018 did.

What it is: the two recipes of the ancestor's page on models (the builder with the tags `foo_tag` and `bar_tag`; a Keras model through
  the backend's session), and what else the builder of TensorFlow 1 offered. Folders are named for the version that wrote them: `tf1_4_…`.
What it is not: TensorFlow 2 in the clothes of 1, which `make_saved_models.py` uses: graphs, dtypes and fields were others then.
What must stay true: it runs in Python 3.6 with TensorFlow 1.4 and Keras 2.1, and in Python 3.7 with TensorFlow 1.15 and Keras 2.2.

usage: make_saved_models_tf1.py [NAME…]    in a Python with the packages of README.md
"""

import sys

import tensorflow_says

import tensorflow as tf

VERSION = "tf%s_%s" % tuple(tf.__version__.split(".")[:2])
SINCE_1_15 = VERSION == "tf1_15"
MODELS = {}


def model(make):
    MODELS[VERSION + "_" + make.__name__] = make
    return make


@model
def models_page(path):
    """"Uploading TensorFlow" of the ancestor's page, with a linear model in the place of its dots."""
    builder = tf.saved_model.builder.SavedModelBuilder(path)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 2], name="x")
        weights = tf.get_variable("weights", initializer=[[1.0], [2.0]])
        y = tf.matmul(x, weights, name="y")
        sess.run(tf.global_variables_initializer())
        info = tf.saved_model.utils.build_tensor_info
        foo_signatures = {
            "infer": tf.saved_model.signature_def_utils.build_signature_def(
                inputs={"x": info(x)}, outputs={"y": info(y)}, method_name=tf.saved_model.signature_constants.PREDICT_METHOD_NAME
            )
        }
        builder.add_meta_graph_and_variables(sess=sess, tags=["foo_tag", "bar_tag"], signature_def_map=foo_signatures)
    builder.save()


@model
def keras_page(path):
    """"Uploading Keras" of the ancestor's page, first way."""
    from keras import backend
    from keras.layers import Dense
    from keras.models import Sequential

    backend.clear_session()
    model = Sequential([Dense(3, activation="relu", input_shape=(4,)), Dense(1)])

    # From here on as it stands on the page.
    builder = tf.saved_model.builder.SavedModelBuilder(path)
    signature = tf.saved_model.signature_def_utils.predict_signature_def(
        inputs={"input": model.input}, outputs={"output": model.output}
    )
    builder.add_meta_graph_and_variables(
        sess=backend.get_session(),
        tags=[tf.saved_model.tag_constants.SERVING],
        signature_def_map={tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
    )
    builder.save()


@model
def every_kind(path):
    """One signature of each method, a sparse tensor, unknown rank, a scalar; in text, whose constants look like the text's own marks."""
    builder = tf.saved_model.builder.SavedModelBuilder(path)
    with tf.Graph().as_default(), tf.Session() as sess:
        examples = tf.placeholder(tf.string, [None], name="tf_example")
        marks = tf.constant(["}} }", 'signature_def { key: "none" }', "# \\ ' \" <", "ü\n\0]"], name="marks")
        scores = tf.reduce_sum(tf.one_hot(tf.strings.length(examples) if SINCE_1_15 else tf.string_to_hash_bucket(examples, 4), 4), axis=1)
        sparse = tf.sparse_placeholder(tf.float32, name="sparse")
        anything = tf.placeholder(tf.int64, None, name="anything")
        utils = tf.saved_model.signature_def_utils
        info = tf.saved_model.utils.build_tensor_info
        inputs = {"anything": info(anything), "half": info(tf.placeholder(tf.float16, [], name="half"))}
        if SINCE_1_15:
            # The builder of the first versions refuses what has no name of its own.
            inputs["sparse"] = info(sparse)
        predict = utils.build_signature_def(
            inputs=inputs,
            outputs={"total": info(tf.sparse_reduce_sum(sparse)), "größe {": info(tf.size(anything))},
            method_name=tf.saved_model.signature_constants.PREDICT_METHOD_NAME,
        )
        signatures = {
            "predict": predict,
            "classify": utils.classification_signature_def(examples, marks, scores),
            "regress": utils.regression_signature_def(examples, scores),
        }
        builder.add_meta_graph_and_variables(sess, ["serve"], signatures)
        builder.add_meta_graph(["serve", "gpu"], {"predict": predict})
    builder.save(as_text=True)


@model
def simple_save(path):
    """`tf.saved_model.simple_save`, which came with 1.7; an asset and an initialiser of tables, which are no signatures."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None], name="x")
        scale = tf.get_variable("scale", initializer=2.0)
        table = tf.contrib.lookup.index_table_from_tensor(["a", "b"])
        words = tf.placeholder(tf.string, [None], name="words")
        sess.run([tf.global_variables_initializer(), tf.tables_initializer()])
        outputs = {"y": tf.multiply(x, scale, name="y"), "ids": table.lookup(words)}
        tf.saved_model.simple_save(sess, path, inputs={"x": x, "words": words}, outputs=outputs, legacy_init_op=tf.tables_initializer())


if not hasattr(tf.saved_model, "simple_save"):
    del MODELS[VERSION + "_simple_save"]


def load_every_graph(path, said):
    for graph in said["meta_graphs"]:
        with tf.Graph().as_default(), tf.Session() as session:
            tf.saved_model.loader.load(session, graph["tags"], path)


if __name__ == "__main__":
    tensorflow_says.make(MODELS, sys.argv[1:], load_every_graph)
