#!/usr/bin/env python3
"""Makes the files of this folder: models of frameworks that are recognised and not read, written by those frameworks.

What it is: each library saves a small model as its users do; files/ has what it wrote, and expected.json what wrote it, from the library itself.
What it is not: run by the tests; they use the committed results. Nothing of lamina takes part.
What must stay true: all files together stay below 200 KB, and none is loaded by anything but the library that wrote it.

usage: make_foreign_models.py    in a Python 3.11 with the libraries of README.md
"""

import json
import pathlib
import pickle
import shutil
import tempfile

import catboost
import joblib
import lightgbm
import numpy as np
import safetensors.numpy
import sklearn
import skops
import skops.io
import xgboost
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FILES = pathlib.Path(__file__).resolve().parent / "files"
EXPECTED = {}


def keep(name, framework, version=None, **more):
    """A file, and who wrote it; the version only where the file itself has it."""
    EXPECTED[name] = {"framework": framework, "version": version, **more}
    return str(FILES / name)


def write(name, data, framework, version=None, **more):
    pathlib.Path(keep(name, framework, version, **more)).write_bytes(data)


shutil.rmtree(FILES, ignore_errors=True)
FILES.mkdir()
X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 5.0]] * 5)
Y = np.array([0, 0, 1, 1] * 5)
pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
words = CountVectorizer().fit(["a red fox", "a blue sky"])

for protocol in range(6):
    write(f"pipeline_{protocol}.pkl", pickle.dumps(pipeline, protocol), "scikit-learn", sklearn.__version__)
write("words.pickle", pickle.dumps(words), "scikit-learn", sklearn.__version__)
joblib.dump(pipeline, keep("pipeline.joblib", "scikit-learn", sklearn.__version__))
for compress in ["zlib", "gzip", "bz2", "xz", "lzma", "lz4"]:
    joblib.dump(pipeline, keep(f"pipeline_{compress}.joblib", "pickle", compressed=True), compress=(compress, 3))
skops.io.dump(pipeline, keep("pipeline.skops", "skops"))

booster = xgboost.XGBClassifier(n_estimators=1, max_depth=1).fit(X, Y)
booster.save_model(keep("xgboost.json", "xgboost", xgboost.__version__))
booster.save_model(keep("xgboost.ubj", "xgboost"))
write("xgboost.pkl", pickle.dumps(booster), "xgboost")
write("xgboost_booster.pkl", pickle.dumps(booster.get_booster()), "xgboost")

light = lightgbm.LGBMClassifier(n_estimators=1, num_leaves=2, min_child_samples=1, verbose=-1).fit(X, Y)
light.booster_.save_model(keep("lightgbm.txt", "lightgbm"))
joblib.dump(light, keep("lightgbm.pkl", "lightgbm"))

cat = catboost.CatBoostClassifier(iterations=1, depth=1, verbose=False, allow_writing_files=False).fit(X, Y)
cat.save_model(keep("catboost.cbm", "catboost"))

safetensors.numpy.save_file({"weight": np.ones((2, 2), np.float32)}, keep("model.safetensors", "safetensors"), metadata={"format": "np"})
write("dictionary.pkl", pickle.dumps({"weights": [1.0, 2.0], "names": ("a", "b"), "set": {1, 2}, "big": 1 << 300, "bytes": b"abc" * 100}), "pickle")
write("array.pkl", pickle.dumps(np.arange(4)), "pickle")

with tempfile.TemporaryDirectory() as folder:
    from sklearn2pmml import sklearn2pmml
    from sklearn2pmml.pipeline import PMMLPipeline

    target = pathlib.Path(folder) / "model.pmml"
    sklearn2pmml(PMMLPipeline([("classifier", LogisticRegression())]).fit(X, Y), str(target))
    write("logistic.pmml", target.read_bytes(), "pmml", "4.4")

(FILES.parent / "expected.json").write_text(json.dumps(EXPECTED, indent=1, sort_keys=True) + "\n")
