"""Models of Keras 2.2, the library beside TensorFlow 1: layers and files as it wrote them."""

import os

HERE = os.path.dirname(os.path.abspath(__file__))


def write_files(library, save):
    """The files; `library` is Keras or the one inside TensorFlow."""
    global keras, layers
    keras, layers = library, library.layers
    save("sequential_h5", "model.h5", small())
    save("functional_h5", "model.h5", functional())
    save("multi_h5", "model.h5", image())


def write(save, write_zoo):
    import keras as library

    write_files(library, save)
    small().save_weights(os.path.join(HERE, "weights_keras_2_2.h5"))
    write_zoo(zoo())


def small():
    return keras.models.Sequential([layers.Dense(3, input_shape=(4,), name="first"), layers.Dense(2, name="answer")])


def functional():
    age, words = layers.Input((4,), name="age"), layers.Input((7,), name="words", dtype="int32")
    inner = keras.models.Sequential([layers.Embedding(10, 2, input_length=7), layers.Flatten()], name="inner")
    x = layers.Concatenate()([age, inner(words)])
    model = keras.models.Model([words, age], [layers.Dense(1, name="score")(x), layers.Dense(3, name="class")(x)])
    model.compile("sgd", "mse")
    return model


def image():
    x = layers.Input((16, 16, 3), name="image")
    y = layers.MaxPooling2D()(layers.Conv2D(4, 3, padding="same", activation="relu")(x))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3)(y))
    return keras.models.Model(x, [layers.Flatten(name="flat")(y), layers.GlobalAveragePooling2D(name="pooled")(y)])


def zoo():
    models = {"small": small, "functional": functional, "image": image}

    def one(name, shape, make, dtype=None):
        def build():
            x = layers.Input(shape, name="x", dtype=dtype)
            y = make()(x)
            return keras.models.Model(x, y)

        models[name] = build

    def many(name, shapes, make):
        def build():
            inputs = [layers.Input(shape, name="x%d" % index) for index, shape in enumerate(shapes)]
            return keras.models.Model(inputs, make()(inputs))

        models[name] = build

    one("dense", (5, 4), lambda: layers.Dense(3))
    one("conv_1d_causal", (17, 3), lambda: layers.Conv1D(5, 4, padding="causal", dilation_rate=2))
    one("conv_2d", (17, 18, 3), lambda: layers.Conv2D(5, (4, 3), strides=2))
    one("conv_2d_transpose", (7, 8, 3), lambda: layers.Conv2DTranspose(5, 3, strides=2))
    one("conv_2d_transpose_same", (7, 8, 3), lambda: layers.Conv2DTranspose(5, 3, strides=2, padding="same"))
    one("conv_3d", (9, 10, 11, 3), lambda: layers.Conv3D(2, 3))
    one("separable_conv_2d", (17, 18, 3), lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2))
    one("local_1d", (9, 3), lambda: layers.LocallyConnected1D(5, 3))
    one("local_2d", (9, 8, 3), lambda: layers.LocallyConnected2D(5, 3))
    one("pooling_1d", (17, 3), lambda: layers.AveragePooling1D(3, strides=2, padding="same"))
    one("pooling_3d", (9, 10, 11, 3), lambda: layers.MaxPooling3D())
    one("global_pooling_1d", (17, 3), lambda: layers.GlobalMaxPooling1D())
    one("flatten", (5, 6), lambda: layers.Flatten())
    one("reshape", (None, 6), lambda: layers.Reshape((-1, 3)))
    one("permute", (5, 6), lambda: layers.Permute((2, 1)))
    one("repeat_vector", (5,), lambda: layers.RepeatVector(3))
    one("embedding", (7,), lambda: layers.Embedding(10, 4), dtype="int32")
    one("lstm", (7, 3), lambda: layers.LSTM(4))
    one("lstm_state", (7, 3), lambda: layers.LSTM(4, return_sequences=True, return_state=True))
    one("gru", (None, 3), lambda: layers.GRU(4, return_sequences=True))
    one("simple_rnn", (7, 3), lambda: layers.SimpleRNN(4))
    one("bidirectional", (7, 3), lambda: layers.Bidirectional(layers.LSTM(4)))
    one("bidirectional_sum", (7, 3), lambda: layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="sum"))
    one("time_distributed", (7, 3), lambda: layers.TimeDistributed(layers.Dense(4)))
    one("conv_lstm_2d", (7, 9, 10, 3), lambda: layers.ConvLSTM2D(4, 3))
    one("padding", (7, 9, 3), lambda: layers.ZeroPadding2D(2))
    one("cropping", (7, 9, 3), lambda: layers.Cropping2D(2))
    one("up_sampling", (7, 9, 3), lambda: layers.UpSampling2D(2))
    one("noise", (7,), lambda: layers.GaussianNoise(0.1))
    one("activation", (7,), lambda: layers.Activation("relu"))
    one("advanced_activation", (7,), lambda: layers.ThresholdedReLU())
    many("add", [(4, 3), (4, 3)], layers.Add)
    many("concatenate", [(4, 3), (4, 5)], layers.Concatenate)
    many("dot", [(5, 4), (6, 4)], lambda: layers.Dot(axes=2))
    return models
