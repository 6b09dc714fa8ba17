"""Makes joblib files with arrays of every kind between the opcodes, and the same with something that runs a program behind them; and what frameworks
pickle by the names of attributes.

usage: python make_pickles.py, with joblib, lz4, NumPy and scikit-learn, in this folder
"""

import enum
import logging
import operator
import os
import pickle
import uuid

import joblib
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


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
for compressor in ("bz2", "xz", "lzma", "lz4"):
    joblib.dump(THINGS["objects"], f"objects_{compressor}.joblib", compress=(compressor, 3))
    joblib.dump([THINGS["objects"], Evil()], f"evil_objects_{compressor}.joblib", compress=(compressor, 3))


class Outer:
    class Inner(enum.Enum):
        ONE = 1


LINE = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
GETTERS = [FunctionTransformer(f) for f in (operator.itemgetter(0), operator.attrgetter("values"), operator.methodcaller("astype", "float"))]
BOUND = [LINE.predict, np.random.RandomState(0).rand, dict.fromkeys, Outer.Inner, Outer.Inner.ONE, make_pipeline(*GETTERS), logging.getLogger("x"), uuid.UUID(int=1)]
for protocol in (0, 2, 4):
    with open(f"bound_{protocol}.joblib", "wb") as file:
        pickle.dump(BOUND, file, protocol=protocol)
# The state of a random number generator has a scalar before its first array.
joblib.dump(HistGradientBoostingRegressor(max_iter=1, random_state=0, early_stopping=True).fit(np.arange(80.0).reshape(40, 2), np.arange(40.0)), "scalar_before.joblib")
