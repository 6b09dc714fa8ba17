#!/usr/bin/env python3
"""Makes SavedModels with the first versions of TensorFlow 2, as their users did.

What it is: a module with its signature, and a Keras model saved by `Model.save`, which wrote SavedModels until Keras 3.
  Folders are named for the version that wrote them: `tf2_0_…`.
What it is not: run with today's TensorFlow, whose models `make_saved_models.py` makes.
What must stay true: it runs in Python 3.7 with TensorFlow 2.0 and in Python 3.8 with TensorFlow 2.4.

usage: make_saved_models_tf2.py [NAME…]    in a Python with the packages of README.md
"""

import sys

import tensorflow_says

import tensorflow as tf

VERSION = "tf%s_%s" % tuple(tf.__version__.split(".")[:2])
MODELS = {}


def model(make):
    MODELS[VERSION + "_" + make.__name__] = make
    return make


@model
def module(path):
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.scale = tf.Variable(2.0, name="scale")

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.bfloat16, "x"), tf.TensorSpec(None, tf.string, "words")])
        def infer(self, x, words):
            return {"y": tf.cast(x, tf.float32) * self.scale, "words_out": words}

    made = Module()
    tf.saved_model.save(made, path, signatures={"infer": made.infer})


@model
def keras_save(path):
    # Small, since all that Keras knows of a model is saved with it: no optimizer, one layer.
    network = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(4,), name="price")])
    network.save(path, save_format="tf")


def load_every_graph(path, said):
    assert len(said["meta_graphs"]) == 1
    tf.saved_model.load(path, tags=said["meta_graphs"][0]["tags"])


if __name__ == "__main__":
    tensorflow_says.make(MODELS, sys.argv[1:], load_every_graph)
