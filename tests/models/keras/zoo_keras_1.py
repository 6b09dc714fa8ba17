"""Models of Keras 1.2: its names of layers and arguments, and `Merge`."""

from keras import layers
from keras.models import Model, Sequential


def write(save, write_zoo):
    save("sequential_h5", "model.h5", small())
    save("merged_h5", "model.h5", merged())
    save("functional_h5", "model.h5", functional())
    write_zoo(zoo())


def small():
    model = Sequential()
    model.add(layers.Dense(3, input_dim=4, name="first"))
    model.add(layers.Activation("relu"))
    model.add(layers.Dense(2, name="answer"))
    return model


def merged():
    """A Sequential whose first layer merges two others."""
    left = Sequential([layers.Dense(3, input_dim=4, name="left")])
    right = Sequential([layers.Embedding(10, 2, input_length=7, name="right"), layers.Flatten()])
    model = Sequential()
    model.add(layers.Merge([left, right], mode="concat", name="both"))
    model.add(layers.Dense(1, name="answer"))
    return model


def functional():
    age, words = layers.Input((4,), name="age"), layers.Input((7,), name="words", dtype="int32")
    inner = Sequential([layers.Embedding(10, 2, input_length=7), layers.Flatten()], name="inner")
    x = layers.merge([age, inner(words)], mode="concat", name="both")
    return Model([words, age], [layers.Dense(1, name="score")(x), layers.Dense(3, name="class")(x)])


def zoo():
    models = {"small": small, "merged": merged, "functional": functional}

    def one(name, shape, make, dtype=None):
        def build():
            x = layers.Input(shape, name="x", dtype=dtype)
            return Model(x, make()(x))

        models[name] = build

    def many(name, shapes, **how):
        def build():
            inputs = [layers.Input(shape, name="x%d" % index) for index, shape in enumerate(shapes)]
            return Model(inputs, layers.merge(inputs, **how))

        models[name] = build

    one("dense", (4,), lambda: layers.Dense(3))
    one("time_distributed_dense", (7, 4), lambda: layers.TimeDistributedDense(3))
    one("time_distributed", (7, 4), lambda: layers.TimeDistributed(layers.Dense(3)))
    one("highway", (4,), lambda: layers.Highway())
    one("maxout", (4,), lambda: layers.MaxoutDense(3))
    one("convolution_1d", (17, 3), lambda: layers.Convolution1D(5, 4))
    one("convolution_1d_same", (17, 3), lambda: layers.Convolution1D(5, 4, border_mode="same", subsample_length=2))
    one("atrous_convolution_1d", (17, 3), lambda: layers.AtrousConvolution1D(5, 4, atrous_rate=2))
    one("convolution_2d", (3, 17, 18), lambda: layers.Convolution2D(5, 4, 3, dim_ordering="th"))
    one("convolution_2d_same", (17, 18, 3), lambda: layers.Convolution2D(5, 4, 3, border_mode="same", subsample=(2, 3), dim_ordering="tf"))
    one("deconvolution_2d", (3, 12, 12), lambda: layers.Deconvolution2D(5, 3, 3, output_shape=(None, 5, 14, 14), dim_ordering="th"))
    one("atrous_convolution_2d", (3, 17, 18), lambda: layers.AtrousConvolution2D(5, 3, 3, atrous_rate=(2, 2), dim_ordering="th"))
    one("convolution_3d", (3, 9, 10, 11), lambda: layers.Convolution3D(2, 2, 3, 4, dim_ordering="th"))
    one("max_pooling_1d", (17, 3), lambda: layers.MaxPooling1D(pool_length=3))
    one("max_pooling_2d", (3, 17, 18), lambda: layers.MaxPooling2D((2, 3), dim_ordering="th"))
    one("average_pooling_2d", (17, 18, 3), lambda: layers.AveragePooling2D((2, 3), strides=(1, 2), border_mode="same", dim_ordering="tf"))
    one("global_pooling_2d", (17, 18, 3), lambda: layers.GlobalAveragePooling2D(dim_ordering="tf"))
    one("flatten", (5, 6), lambda: layers.Flatten())
    one("reshape", (12,), lambda: layers.Reshape((3, -1)))
    one("permute", (5, 6), lambda: layers.Permute((2, 1)))
    one("repeat_vector", (5,), lambda: layers.RepeatVector(3))
    one("embedding", (7,), lambda: layers.Embedding(10, 4), dtype="int32")
    one("lstm", (7, 3), lambda: layers.LSTM(4))
    one("gru", (7, 3), lambda: layers.GRU(4, return_sequences=True))
    one("bidirectional", (7, 3), lambda: layers.Bidirectional(layers.LSTM(4)))
    one("zero_padding_1d", (7, 3), lambda: layers.ZeroPadding1D(2))
    one("zero_padding_2d", (7, 9, 3), lambda: layers.ZeroPadding2D((1, 2), dim_ordering="tf"))
    one("cropping_2d", (7, 9, 3), lambda: layers.Cropping2D(((1, 2), (0, 1)), dim_ordering="tf"))
    one("up_sampling_1d", (7, 3), lambda: layers.UpSampling1D(length=3))
    one("up_sampling_2d", (3, 7, 9), lambda: layers.UpSampling2D((2, 3), dim_ordering="th"))
    one("dropout", (7,), lambda: layers.Dropout(0.5))
    one("batch_normalization", (7,), lambda: layers.BatchNormalization())
    one("parametric_soft_plus", (7,), lambda: layers.ParametricSoftplus())
    many("merge_sum", [(4, 3), (4, 3)], mode="sum")
    many("merge_concat_axis", [(4, 3), (2, 3)], mode="concat", concat_axis=1)
    many("merge_dot", [(4,), (4,)], mode="dot")
    many("merge_cos", [(4,), (4,)], mode="cos")
    many("merge_max", [(4,), (4,)], mode="max")
    return models
