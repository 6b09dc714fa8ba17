"""The model files of Keras 2.15 and 3: every form in which the two save."""

import os


def double(t):
    """What a Lambda does: a lambda's own code would be in the file, with the path of this one."""
    return t * 2


def write(keras, save):
    layers = keras.layers
    three = keras.__version__.startswith("3")

    def small():
        return keras.Sequential([keras.Input((4,), name="features"), layers.Dense(3, activation="relu"), layers.Dense(2, name="answer")])

    def functional():
        age, words = keras.Input((4,), name="age"), keras.Input((7,), name="words", dtype="int32")
        inner = keras.Sequential([keras.Input((7,)), layers.Embedding(10, 2), layers.Flatten()], name="inner")
        x = layers.Concatenate()([age, inner(words)])
        model = keras.Model([words, age], [layers.Dense(1, name="score")(x), layers.Dense(3, name="class", activation="softmax")(x)])
        model.compile("sgd", "mse")
        return model

    def deep():
        """A config past the 64 KiB that an object header's message can hold."""
        x = y = keras.Input((4,), name="x")
        for _ in range(70):
            y = layers.Add()([y, layers.Activation("tanh")(y)])
        return keras.Model(x, layers.Dense(2, name="y")(y))

    def image():
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            x = keras.Input((16, 16, 3), name="image")
            y = layers.MaxPooling2D()(layers.Conv2D(4, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255.0)(x)))
            return keras.Model(x, layers.Dense(5, name="logits")(layers.Flatten()(y)))
        finally:
            keras.mixed_precision.set_global_policy("float32")

    for suffix in ("h5", "keras"):
        save("sequential_" + suffix, "model." + suffix, small())
        save("functional_" + suffix, "model." + suffix, functional())
        save("mixed_" + suffix, "model." + suffix, image())
    save("deep_h5", "model.h5", deep())
    here = os.path.dirname(os.path.abspath(__file__))
    model = small()
    model.save_weights(os.path.join(here, "weights_keras_%s.weights.h5" % ("3" if three else "2")))
    if three:
        class Custom(layers.Layer):
            """A layer that only its author's code knows."""

            def call(self, x):
                return keras.ops.concatenate([x, x], axis=-1)

        x = keras.Input((4,), name="x")
        y = layers.Dense(3)(x)
        model = keras.Model(x, [layers.Lambda(double, name="doubled")(y), Custom(name="alone")(y), layers.Dense(2, name="known")(Custom()(y))])
        save("custom_keras", "model.keras", model)
        # Operations, whose classes have names of layers: a sum that is one, a mean that is no Average, and one of another dtype.
        x = keras.Input((4,), name="x")
        y = layers.Dense(3, name="hidden")(x)
        mean = keras.ops.average(y, axis=-1)
        outputs = [keras.ops.add(y, 2.0), keras.ops.argmax(y, axis=-1), layers.RepeatVector(2, name="repeated")(keras.ops.expand_dims(mean, axis=-1))]
        for suffix in ("h5", "keras"):
            save("custom_operations_" + suffix, "model." + suffix, keras.Model(x, outputs))
    else:
        x = keras.Input((4,), name="x")
        y = layers.Dense(3)(x)
        model = keras.Model(x, [layers.Lambda(double, name="doubled")(y), y * 3, layers.Dense(2, name="known")(y)])
        save("custom_h5", "model.h5", model)
