"""Makes joblib files with arrays of every kind between the opcodes, and the same with something that runs a program behind them.

usage: python make_pickles.py, with joblib and NumPy, in this folder
"""

import os

import joblib
import numpy as np


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


THINGS = {
    "objects": {
        "a": np.array([1, "x", None], dtype=object),
        "b": np.arange(5.0),
        "s": np.array(["ab", "cd"]),
        "e": np.zeros((0, 3)),
        "z": np.float32(1),
    },
    "structured": [
        np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array(True),
        np.zeros((2, 3, 4), order="F", dtype=np.complex64),
    ],
}
for name, thing in THINGS.items():
    for protocol in (0, 2, 4):
        joblib.dump(thing, f"{name}_{protocol}.joblib", protocol=protocol)
        joblib.dump([thing, np.arange(3), Evil()], f"evil_{name}_{protocol}.joblib", protocol=protocol)
joblib.dump(THINGS["objects"], "objects_z.joblib", compress=3)
joblib.dump([THINGS["objects"], Evil()], "evil_objects_gz.joblib", compress=("gzip", 3))
