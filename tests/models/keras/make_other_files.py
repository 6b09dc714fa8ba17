"""HDF5 files that no Keras wrote: of other libraries, of newer forms of the format, and one with a large dataset before its config.

Run with h5py (README.md). The large one is kept as its two ends; between them is a hole of zeros, which the test puts back.
"""

import json
import os

import h5py
import numpy

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "other")
CONFIG = json.dumps(
    {"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {"name": "d", "units": 2, "batch_input_shape": [None, 4], "dtype": "float32"}}]}
)


def path(name):
    return os.path.join(HERE, name)


def main():
    if not os.path.isdir(HERE):
        os.makedirs(HERE)
    with h5py.File(path("plain.h5"), "w") as file:
        file["numbers"] = numpy.arange(4)
    with h5py.File(path("pytables.h5"), "w") as file:
        file.attrs["PYTABLES_FORMAT_VERSION"] = numpy.bytes_(b"2.1")
        file.create_group("table")
    with h5py.File(path("netcdf.h5"), "w") as file:
        file.attrs["_NCProperties"] = numpy.bytes_(b"version=2,netcdf=4.9.2")
    forms = {"text": CONFIG, "bytes": numpy.bytes_(CONFIG.encode()), "opaque": numpy.void(CONFIG.encode())}
    for version in ("earliest", "v108", "v110", "latest"):
        for form, value in forms.items():
            with h5py.File(path("%s_%s.h5" % (version, form)), "w", libver=version) as file:
                file.attrs["keras_version"] = "2.9.0" if form == "text" else numpy.bytes_(b"2.9.0")
                file.attrs["model_config"] = value
    # Many attributes, and a long one: the heap and its index in place of the object header.
    with h5py.File(path("dense.h5"), "w", libver="latest") as file:
        for index in range(40):
            file.attrs["note_%d" % index] = "n" * 300
        file.attrs["keras_version"] = "2.9.0"
        file.attrs["model_config"] = numpy.bytes_(json.dumps(dict(json.loads(CONFIG), notes="n" * 100000)).encode())
    with h5py.File(path("behind_a_user_block.h5"), "w", userblock_size=1024) as file:
        file.attrs["keras_version"], file.attrs["model_config"] = "2.9.0", CONFIG
    large()


def large():
    """A dataset of 6 GiB in one piece, that takes no disk while it is zeros, and the config behind it."""
    whole = path("large.h5")
    space = h5py.h5s.create_simple((6 << 30,))
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(whole, "w") as file:
        group = file.create_group("model_weights")
        h5py.h5d.create(group.id, b"kernel", h5py.h5t.STD_U8LE, space, creation)
        file.attrs["keras_version"] = "2.9.0"
        file.attrs["model_config"] = CONFIG
    with open(whole, "rb") as file:
        head = file.read(1 << 20).rstrip(b"\0")
        size = file.seek(0, os.SEEK_END)
        file.seek(size - (1 << 20))
        tail = file.read().lstrip(b"\0")
    os.remove(whole)
    for name, content in (("large.head", head), ("large.tail", tail)):
        with open(path(name), "wb") as file:
            file.write(content)
    with open(path("large.json"), "w") as file:
        json.dump({"size_bytes": size}, file)
        file.write("\n")


if __name__ == "__main__":
    main()
