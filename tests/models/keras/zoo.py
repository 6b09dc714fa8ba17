"""Small models for every layer that the reader knows, and what Keras itself says of each.

One file for Keras 2.15 (tf.keras) and Keras 3, whose functions are nearly the same. What a model is for is in its name; nothing is
trained. `make_keras_models.py` writes each as a line of JSON: the config, and the names, shapes and dtypes that Keras reports.
"""


def zoo(keras):
    """name -> a function that makes the model; those that this Keras lacks are left out."""
    layers = keras.layers
    three = keras.__version__.startswith("3")
    models = {}

    def one(name, shape, make, dtype=None):
        """A model of one input and one layer."""

        def build():
            inputs = keras.Input(shape, name="x", dtype=dtype)
            return keras.Model(inputs, make()(inputs))

        models[name] = build

    def many(name, shapes, make, **options):
        """A model of several inputs: what `make` gives for them."""

        def build():
            inputs = [keras.Input(shape, name="x%d" % index, **options) for index, shape in enumerate(shapes)]
            return keras.Model(inputs, make(*inputs))

        models[name] = build

    def function(name):
        def add(build):
            models[name] = build
            return build

        return add

    one("dense", (4,), lambda: layers.Dense(3))
    one("dense_rank_4", (5, 6, 4), lambda: layers.Dense(3, activation="relu"))
    one("dense_integers", (4,), lambda: layers.Dense(3), dtype="int32")
    one("dense_float64", (4,), lambda: layers.Dense(3, dtype="float64"))
    one("dense_mixed_float16", (4,), lambda: layers.Dense(3, dtype="mixed_float16"))
    one("dense_mixed_bfloat16", (4,), lambda: layers.Dense(3, dtype="mixed_bfloat16"))
    one("einsum_dense", (7, 4), lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 5)))
    one("einsum_dense_ellipsis", (7, 4), lambda: layers.EinsumDense("...x,xy->...y", output_shape=5))
    one("activation", (4,), lambda: layers.Activation("relu"))
    one("softmax", (4,), lambda: layers.Softmax())
    one("relu", (4,), lambda: layers.ReLU(max_value=6))
    one("leaky_relu", (4,), lambda: layers.LeakyReLU())
    one("prelu", (4, 3), lambda: layers.PReLU())
    one("elu", (4,), lambda: layers.ELU())
    one("identity_integers", (4,), lambda: layers.Identity(), dtype="int64")
    one("masking", (4, 2), lambda: layers.Masking())
    one("activity_regularization", (4,), lambda: layers.ActivityRegularization(l2=0.1))
    one("dropout", (4,), lambda: layers.Dropout(0.5))
    one("spatial_dropout_2d", (4, 5, 3), lambda: layers.SpatialDropout2D(0.5))
    one("gaussian_noise", (4,), lambda: layers.GaussianNoise(0.5))
    one("gaussian_dropout", (4,), lambda: layers.GaussianDropout(0.5))
    one("alpha_dropout", (4,), lambda: layers.AlphaDropout(0.5))
    one("batch_normalization", (4, 5, 3), lambda: layers.BatchNormalization())
    one("layer_normalization", (4, 5), lambda: layers.LayerNormalization())
    one("group_normalization", (4, 4), lambda: layers.GroupNormalization(2))
    one("unit_normalization", (4, 4), lambda: layers.UnitNormalization())
    if three:
        one("rms_normalization", (4, 4), lambda: layers.RMSNormalization())
        one("spectral_normalization", (4,), lambda: layers.SpectralNormalization(layers.Dense(2)))

    for padding in ("valid", "same"):
        for stride in (1, 2, 3):
            one("conv_1d_%s_%d" % (padding, stride), (17, 3), lambda p=padding, s=stride: layers.Conv1D(5, 4, strides=s, padding=p))
            one(
                "conv_2d_%s_%d" % (padding, stride),
                (17, 18, 3),
                lambda p=padding, s=stride: layers.Conv2D(5, (4, 3), strides=(s, s), padding=p),
            )
            one(
                "conv_2d_transpose_%s_%d" % (padding, stride),
                (7, 8, 3),
                lambda p=padding, s=stride: layers.Conv2DTranspose(5, (4, 3), strides=s, padding=p),
            )
            one("conv_1d_transpose_%s_%d" % (padding, stride), (7, 3), lambda p=padding, s=stride: layers.Conv1DTranspose(5, 2, strides=s, padding=p))
            one("max_pooling_2d_%s_%d" % (padding, stride), (17, 18, 3), lambda p=padding, s=stride: layers.MaxPooling2D((4, 3), strides=s, padding=p))
    one("conv_1d_causal_dilated", (17, 3), lambda: layers.Conv1D(5, 4, padding="causal", dilation_rate=2))
    one("conv_1d_open", (None, 3), lambda: layers.Conv1D(5, 4, strides=2))
    one("conv_2d_dilated", (17, 18, 3), lambda: layers.Conv2D(5, 3, dilation_rate=(2, 3)))
    one("conv_2d_open", (None, None, 3), lambda: layers.Conv2D(5, 3, strides=2, padding="same"))
    one("conv_2d_channels_first", (3, 17, 18), lambda: layers.Conv2D(5, 3, data_format="channels_first"))
    one("conv_2d_groups", (17, 18, 4), lambda: layers.Conv2D(8, 3, groups=2))
    one("conv_3d", (9, 10, 11, 3), lambda: layers.Conv3D(2, (1, 2, 3), strides=(1, 2, 2), padding="same"))
    one("conv_3d_transpose", (3, 4, 5, 3), lambda: layers.Conv3DTranspose(2, 3, strides=2, padding="same"))
    one("conv_2d_transpose_output_padding", (7, 8, 3), lambda: layers.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=1))
    one("conv_2d_transpose_open", (None, None, 3), lambda: layers.Conv2DTranspose(5, 3, strides=2))
    one("depthwise_conv_2d", (17, 18, 3), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", strides=2))
    one("depthwise_conv_1d", (17, 3), lambda: layers.DepthwiseConv1D(3, depth_multiplier=2))
    one("separable_conv_2d", (17, 18, 3), lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2, strides=2))
    one("separable_conv_1d", (17, 3), lambda: layers.SeparableConv1D(5, 3))
    one("conv_2d_integers", (17, 18, 3), lambda: layers.Rescaling(1 / 255.0), dtype="uint8")

    one("max_pooling_1d", (17, 3), lambda: layers.MaxPooling1D())
    one("average_pooling_2d_channels_first", (3, 17, 18), lambda: layers.AveragePooling2D(2, data_format="channels_first"))
    one("average_pooling_3d", (9, 10, 11, 3), lambda: layers.AveragePooling3D((2, 3, 4)))
    one("global_average_pooling_1d", (17, 3), lambda: layers.GlobalAveragePooling1D())
    one("global_max_pooling_1d_keepdims", (17, 3), lambda: layers.GlobalMaxPooling1D(keepdims=True))
    one("global_average_pooling_2d", (5, 6, 3), lambda: layers.GlobalAveragePooling2D())
    one("global_max_pooling_2d_keepdims", (3, 5, 6), lambda: layers.GlobalMaxPooling2D(keepdims=True, data_format="channels_first"))
    one("global_average_pooling_3d", (4, 5, 6, 3), lambda: layers.GlobalAveragePooling3D())

    one("flatten", (5, 6, 3), lambda: layers.Flatten())
    one("flatten_open", (None, 3), lambda: layers.Flatten())
    one("flatten_scalar", (), lambda: layers.Flatten())
    one("flatten_integers", (5, 3), lambda: layers.Flatten(), dtype="int32")
    one("reshape", (12,), lambda: layers.Reshape((3, 4)))
    one("reshape_minus_one", (12,), lambda: layers.Reshape((-1, 4)))
    one("reshape_minus_one_open", (None, 4), lambda: layers.Reshape((-1, 2)))
    one("reshape_integers", (12,), lambda: layers.Reshape((3, 4)), dtype="int64")
    one("permute", (3, 4, 5), lambda: layers.Permute((3, 1, 2)))
    one("repeat_vector", (4,), lambda: layers.RepeatVector(3))
    one("zero_padding_1d", (4, 3), lambda: layers.ZeroPadding1D((1, 2)))
    one("zero_padding_2d", (4, 5, 3), lambda: layers.ZeroPadding2D(((1, 2), (3, 4))))
    one("zero_padding_2d_first", (3, 4, 5), lambda: layers.ZeroPadding2D(2, data_format="channels_first"))
    one("zero_padding_3d", (4, 5, 6, 3), lambda: layers.ZeroPadding3D((1, 2, 3)))
    one("cropping_1d", (9, 3), lambda: layers.Cropping1D(2))
    one("cropping_2d", (9, None, 3), lambda: layers.Cropping2D(((1, 2), (3, 4))))
    one("cropping_3d", (9, 8, 7, 3), lambda: layers.Cropping3D(2))
    one("up_sampling_1d", (9, 3), lambda: layers.UpSampling1D(3))
    one("up_sampling_2d", (9, 8, 3), lambda: layers.UpSampling2D((2, 3), interpolation="bilinear"))
    one("up_sampling_3d", (9, 8, 7, 3), lambda: layers.UpSampling3D(2))

    one("embedding", (7,), lambda: layers.Embedding(10, 4), dtype="int32")
    one("embedding_rank_3", (7, 2), lambda: layers.Embedding(10, 4))
    for name in ("SimpleRNN", "GRU", "LSTM"):
        make = getattr(layers, name)
        one(name, (7, 3), lambda make=make: make(4))
        one(name + "_sequences", (None, 3), lambda make=make: make(4, return_sequences=True))
        one(name + "_state", (7, 3), lambda make=make: make(4, return_state=True))
        one(name + "_sequences_state", (7, 3), lambda make=make: make(4, return_sequences=True, return_state=True))
    one("rnn_of_cell", (7, 3), lambda: layers.RNN(layers.LSTMCell(4), return_state=True))
    one("rnn_of_stacked_cells", (7, 3), lambda: layers.RNN([layers.GRUCell(4), layers.GRUCell(6)], return_sequences=True))
    for mode in ("concat", "sum", "ave"):
        one("bidirectional_%s" % mode, (7, 3), lambda m=mode: layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode=m))
    one("bidirectional_none", (7, 3), lambda: layers.Bidirectional(layers.GRU(4), merge_mode=None))
    one("bidirectional_state", (7, 3), lambda: layers.Bidirectional(layers.LSTM(4, return_state=True)))
    one("time_distributed_dense", (7, 3), lambda: layers.TimeDistributed(layers.Dense(4)))
    one("time_distributed_conv", (7, 9, 9, 3), lambda: layers.TimeDistributed(layers.Conv2D(4, 3)))
    one("conv_lstm_2d", (7, 9, 10, 3), lambda: layers.ConvLSTM2D(4, 3))
    one("conv_lstm_1d_sequences", (7, 9, 3), lambda: layers.ConvLSTM1D(4, 3, padding="same", return_sequences=True, return_state=True))

    for name in ("Add", "Multiply", "Average", "Maximum", "Minimum"):
        many(name, [(4, 3), (4, 3)], lambda a, b, make=getattr(layers, name): make()([a, b]))
    many("subtract", [(4, 3), (4, 3)], lambda a, b: layers.Subtract()([a, b]))
    many("add_broadcast", [(4, 1), (1, 3), (4, 3)], lambda a, b, c: layers.Add()([a, b, c]))
    many("add_open", [(None, 3), (None, 3)], lambda a, b: layers.Add()([a, b]))
    many("multiply_gate", [(5, 6, 3), (1, 1, 3)], lambda a, b: layers.Multiply()([a, b]))
    many("concatenate", [(4, 3), (4, 5)], lambda a, b: layers.Concatenate()([a, b]))
    many("concatenate_axis_1", [(4, 3), (2, 3), (1, 3)], lambda a, b, c: layers.Concatenate(axis=1)([a, b, c]))
    many("concatenate_open", [(None, 3), (2, 3)], lambda a, b: layers.Concatenate(axis=1)([a, b]))
    many("concatenate_integers", [(3,), (4,)], lambda a, b: layers.Concatenate()([a, b]), dtype="int32")
    many("dot", [(4,), (4,)], lambda a, b: layers.Dot(axes=1)([a, b]))
    many("dot_rank_3", [(5, 4), (6, 4)], lambda a, b: layers.Dot(axes=(2, 2))([a, b]))
    many("dot_minus_one", [(5, 4), (6, 4)], lambda a, b: layers.Dot(axes=-1, normalize=True)([a, b]))
    many("attention", [(5, 4), (6, 4)], lambda a, b: layers.Attention()([a, b]))
    many("additive_attention", [(5, 4), (6, 4)], lambda a, b: layers.AdditiveAttention()([a, b]))
    many("multi_head_attention", [(5, 4), (6, 8)], lambda a, b: layers.MultiHeadAttention(2, 3)(a, b))
    many("multi_head_attention_output_shape", [(5, 4), (6, 8)], lambda a, b: layers.MultiHeadAttention(2, 3, output_shape=7)(query=a, value=b))
    many("multi_head_attention_scores", [(5, 4), (6, 8)], lambda a, b: layers.MultiHeadAttention(2, 3)(a, b, return_attention_scores=True))
    if three:
        many("group_query_attention", [(5, 4), (6, 4)], lambda a, b: layers.GroupQueryAttention(3, 4, 2)(a, b))

    one("rescaling", (8, 8, 3), lambda: layers.Rescaling(1 / 255.0))
    one("normalization", (4,), lambda: layers.Normalization(mean=0.0, variance=1.0))
    one("resizing", (8, 9, 3), lambda: layers.Resizing(4, 5))
    one("resizing_open", (None, None, 3), lambda: layers.Resizing(4, 5))
    one("center_crop", (8, 9, 3), lambda: layers.CenterCrop(4, 5))
    one("random_flip", (8, 9, 3), lambda: layers.RandomFlip())
    one("random_rotation", (8, 9, 3), lambda: layers.RandomRotation(0.1))
    one("random_zoom", (8, 9, 3), lambda: layers.RandomZoom(0.1))
    one("random_translation", (8, 9, 3), lambda: layers.RandomTranslation(0.1, 0.1))
    one("random_contrast", (8, 9, 3), lambda: layers.RandomContrast(0.1))
    one("random_brightness", (8, 9, 3), lambda: layers.RandomBrightness(0.1))
    one("random_crop", (8, 9, 3), lambda: layers.RandomCrop(4, 5))
    one("category_encoding_multi_hot", (4,), lambda: layers.CategoryEncoding(10), dtype="int64")
    one("category_encoding_one_hot", (4,), lambda: layers.CategoryEncoding(10, output_mode="one_hot"), dtype="int64") if three else None
    one("category_encoding_one_hot_1", (1,), lambda: layers.CategoryEncoding(10, output_mode="one_hot"), dtype="int64")
    one("discretization", (4,), lambda: layers.Discretization([0.0, 1.0, 2.0]))
    one("discretization_one_hot", (1,), lambda: layers.Discretization([0.0, 1.0, 2.0], output_mode="one_hot"))
    one("discretization_multi_hot", (4,), lambda: layers.Discretization([0.0, 1.0, 2.0], output_mode="multi_hot"))
    if not three:
        one("hashing", (4,), lambda: layers.Hashing(10), dtype="string")
        one("hashing_one_hot", (1,), lambda: layers.Hashing(10, output_mode="one_hot"), dtype="string")
        one("integer_lookup", (4,), lambda: layers.IntegerLookup(vocabulary=[3, 5, 7]), dtype="int64")
        one("integer_lookup_multi_hot", (4,), lambda: layers.IntegerLookup(vocabulary=[3, 5, 7], output_mode="multi_hot"), dtype="int64")
        one("string_lookup", (4,), lambda: layers.StringLookup(vocabulary=["a", "b"]), dtype="string")
        one("string_lookup_count", (4,), lambda: layers.StringLookup(vocabulary=["a", "b"], output_mode="count"), dtype="string")
        one("string_lookup_invert", (4,), lambda: layers.StringLookup(vocabulary=["a", "b"], invert=True), dtype="int64")
        one("text_vectorization", (1,), lambda: layers.TextVectorization(vocabulary=["a", "b"]), dtype="string")
        one("text_vectorization_length", (1,), lambda: layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=9), dtype="string")
        one("text_vectorization_multi_hot", (1,), lambda: layers.TextVectorization(vocabulary=["a", "b"], output_mode="multi_hot", max_tokens=20, pad_to_max_tokens=True), dtype="string")
        one("text_vectorization_scalar", (), lambda: layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=9), dtype="string")

    @function("sequential")
    def _():
        return keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3), layers.Dense(2, name="answer")])

    @function("sequential_input_shape")
    def _():
        return keras.Sequential([layers.Dense(3, input_shape=(4,), name="first"), layers.Dense(2, name="answer")])

    @function("sequential_built_late")
    def _():
        model = keras.Sequential([layers.Dense(3, name="first"), layers.Dense(2, name="answer")])
        model.build((None, 4))
        return model

    @function("sequential_of_models")
    def _():
        inner = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="inner")
        x = keras.Input((3,))
        other = keras.Model(x, layers.Dense(5, activation="tanh")(x), name="other")
        return keras.Sequential([inner, other, layers.Dense(2)])

    @function("sequential_fixed_batch")
    def _():
        return keras.Sequential([keras.Input(batch_shape=(8, 7, 3), name="x") if three else layers.InputLayer(batch_input_shape=(8, 7, 3), name="x"), layers.LSTM(4, stateful=True), layers.Dense(2)])

    @function("many_inputs_and_outputs")
    def _():
        a, b = keras.Input((4,), name="age"), keras.Input((7,), name="words", dtype="int32")
        x = layers.Concatenate()([a, layers.Flatten()(layers.Embedding(10, 2)(b))])
        return keras.Model([b, a], [layers.Dense(1, name="score")(x), layers.Dense(3, name="class", activation="softmax")(x)])

    @function("dict_inputs_and_outputs")
    def _():
        a, b = keras.Input((4,), name="b"), keras.Input((3,), name="a")
        x = layers.Concatenate()([a, b])
        return keras.Model({"b": a, "a": b}, {"z": layers.Dense(1, name="score")(x), "y": layers.Dense(3, name="class")(x)})

    @function("an_input_is_an_output")
    def _():
        a = keras.Input((4,), name="a")
        return keras.Model(a, [a, layers.Dense(2, name="d")(a)])

    @function("the_same_output_twice")
    def _():
        a = keras.Input((4,), name="a")
        y = layers.Dense(2, name="d")(a)
        return keras.Model(a, [y, y])

    @function("shared_layer")
    def _():
        a, b = keras.Input((7, 4), name="a"), keras.Input((9, 4), name="b")
        shared = layers.Dense(3, name="shared")
        return keras.Model([a, b], [shared(a), shared(b)])

    @function("shared_layer_second_call")
    def _():
        a, b = keras.Input((7, 4), name="a"), keras.Input((9, 4), name="b")
        shared = layers.Dense(3, name="shared")
        first, second = shared(a), shared(b)
        return keras.Model([a, b], [second, layers.Flatten(name="flat")(first)])

    @function("shared_model")
    def _():
        x = keras.Input((None, 4))
        inner = keras.Model(x, [layers.Dense(3)(x), layers.GlobalMaxPooling1D()(x)], name="inner")
        a, b = keras.Input((7, 4), name="a"), keras.Input((9, 4), name="b")
        (first, pooled), (second, _) = inner(a), inner(b)
        return keras.Model([a, b], [second, layers.Concatenate(axis=1)([first, second]), pooled])

    @function("shared_sequential_second_call")
    def _():
        inner = keras.Sequential([keras.Input((None, 4)), layers.Conv1D(3, 2)], name="inner")
        a, b = keras.Input((7, 4), name="a"), keras.Input((9, 4), name="b")
        first, second = inner(a), inner(b)
        return keras.Model([a, b], [second, layers.Flatten(name="flat")(first)])

    @function("sub_graph_of_a_model")
    def _():
        x = keras.Input((7, 4), name="x")
        shared = layers.Dense(4, name="shared")
        y = shared(shared(x))
        keras.Model(x, layers.Flatten()(shared(y)))
        return keras.Model(x, layers.Flatten(name="flat")(shared(layers.Conv1D(4, 3)(y))))

    @function("nested_models_three_deep")
    def _():
        model = keras.Sequential([keras.Input((4,)), layers.Dense(4)], name="deepest")
        for name in ("middle", "outer"):
            x = keras.Input((4,))
            model = keras.Model(x, layers.Dense(4)(model(x)), name=name)
        return model

    @function("rnn_with_initial_state")
    def _():
        x, state = keras.Input((7, 3), name="x"), keras.Input((4,), name="state")
        sequence, new_state = layers.GRU(4, return_sequences=True, return_state=True, name="gru")(x, initial_state=state)
        return keras.Model([x, state], [sequence, new_state])

    @function("encoder_decoder")
    def _():
        encoder_in, decoder_in = keras.Input((None, 3), name="from"), keras.Input((None, 5), name="to")
        _, h, c = layers.LSTM(4, return_state=True)(encoder_in)
        x = layers.LSTM(4, return_sequences=True)(decoder_in, initial_state=[h, c])
        return keras.Model([encoder_in, decoder_in], layers.Dense(5, activation="softmax", name="next")(x))

    @function("mixed_float16")
    def _():
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            x = keras.Input((8, 8, 3), name="image")
            y = layers.Conv2D(4, 3, activation="relu")(x)
            y = layers.GlobalAveragePooling2D(name="features")(layers.BatchNormalization()(y))
            return keras.Model(x, [y, layers.Dense(2, dtype="float32", name="answer")(y)])
        finally:
            keras.mixed_precision.set_global_policy("float32")

    @function("residual_network")
    def _():
        x = keras.Input((32, 32, 3), name="image")
        y = layers.Conv2D(4, 3, padding="same")(x)
        for stride in (1, 2):
            z = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, strides=stride, padding="same")(y)))
            z = layers.Conv2D(4, 3, padding="same")(z)
            y = layers.Add()([z, layers.Conv2D(4, 1, strides=stride)(y)])
        return keras.Model(x, layers.Dense(10, activation="softmax", name="classes")(layers.GlobalAveragePooling2D()(y)))

    @function("u_net")
    def _():
        x = keras.Input((None, None, 1), name="image")
        down = layers.Conv2D(4, 3, padding="same")(x)
        deep = layers.Conv2D(8, 3, padding="same")(layers.MaxPooling2D()(down))
        up = layers.Conv2DTranspose(4, 2, strides=2, padding="same")(deep)
        return keras.Model(x, layers.Conv2D(1, 1, name="mask")(layers.Concatenate()([up, down])))

    return models
