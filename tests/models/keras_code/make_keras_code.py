"""Makes Keras models with Python code in them, and one that only names a function.

usage: python make_keras_code.py, with Keras 3, in this folder
"""

import keras


@keras.saving.register_keras_serializable(package="ours")
def doubled(x):
    return x * 2


for name, function in [("lambda", lambda x: x * 2), ("named", doubled)]:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(function, output_shape=(2,), name="doubled"), keras.layers.Dense(1)])
    model.save(f"{name}.keras")
    model.save(f"{name}.h5")
