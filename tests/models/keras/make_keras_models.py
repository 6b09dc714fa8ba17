"""Makes the models of this folder; run it once with each Keras (README.md). The version that runs it decides which files it writes.

Nothing is trained; bytes differ from one run to the next, what `expected.json` says does not.
"""

import json
import os
import sys

if sys.argv[1:] == ["tf"]:
    # The Keras inside TensorFlow 1, beside the library of the same time.
    from tensorflow import keras
else:
    import keras

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = {
    "float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF", "bfloat16": "DT_BFLOAT16", "int32": "DT_INT32",
    "int64": "DT_INT64", "uint8": "DT_UINT8", "string": "DT_STRING", "bool": "DT_BOOL",
}  # fmt: skip
VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])
MAJOR = VERSION[0]
ERA = "tf_1" if "tf" in keras.__version__ else "2_2" if VERSION == (2, 2) else str(MAJOR)


def describe(model):
    """What Keras says of a model.

    It is asked of a model that was loaded: versions 1 and 3 make names anew for inputs that have none of their own.
    """

    def tensor(name, t):
        if VERSION >= (2, 4) or ERA == "tf_1":
            shape, dtype = getattr(t.shape, "as_list", lambda: t.shape)(), t.dtype
        elif MAJOR == 2:
            shape, dtype = keras.backend.int_shape(t), keras.backend.dtype(t)
        else:
            shape, dtype = t._keras_shape, t.dtype
        dtype = getattr(dtype, "name", dtype)
        return {"name": name, "dtype": DTYPES[dtype], "shape": {"dims": [-1 if d is None else int(d) for d in shape]}}

    if MAJOR == 1 and isinstance(model, keras.models.Sequential):
        model.build()
    # Sequential models of Keras 1 and 3 have no names of their own: the functional model inside has.
    functional = getattr(model, "_functional", None) or getattr(model, "model", None) or model
    input_names = [t.name for t in model.inputs] if MAJOR >= 3 else functional.input_names
    return {
        "keras_version": keras.__version__,
        "inputs": [tensor(name, t) for name, t in zip(input_names, model.inputs)],
        "outputs": [tensor(name, t) for name, t in zip(functional.output_names, model.outputs)],
    }


def fresh_names():
    """Names are counted from 1 again, as in a process that only loads a model."""
    if MAJOR == 1:
        keras.backend.common.reset_uids()
    else:
        keras.backend.clear_session()


def save(name, file_name, model):
    """A model's file, and beside it what Keras says of it; it cannot load a custom layer without the code."""
    folder = os.path.join(HERE, "keras_%s_%s" % (ERA, name))
    if not os.path.isdir(folder):
        os.makedirs(folder)
    path = os.path.join(folder, file_name)
    model.save(path)
    if MAJOR < 3 or "custom" not in name:
        fresh_names()
        model = keras.models.load_model(path, **({} if MAJOR == 1 else {"compile": False}))
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump(describe(model), file, indent=1)
        file.write("\n")


def write_zoo(models):
    with open(os.path.join(HERE, "zoo_keras_%s.jsonl" % ERA), "w") as file:
        for name in sorted(models):
            try:
                model = models[name]()
                config = model.to_json()
                fresh_names()
                line = {"name": name, "config": json.loads(config), "expected": describe(keras.models.model_from_json(config))}
            except (AttributeError, NotImplementedError, ValueError, TypeError, ImportError) as error:
                print("left out:", name, "%s: %s" % (type(error).__name__, str(error).split("\n")[0]), file=sys.stderr)
                continue
            file.write(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n")


def main():
    if MAJOR == 1:
        import zoo_keras_1 as models
    elif VERSION < (2, 4):
        import zoo_keras_2_2 as models

        if ERA == "tf_1":
            models.write_files(keras, save)
            return
    else:
        import zoo as models
        import files
        files.write(keras, save)
        write_zoo(models.zoo(keras))
        return
    models.write(save, write_zoo)


if __name__ == "__main__":
    main()
