#!/usr/bin/env python3
"""Makes the Spark pipelines of this folder, and what Spark itself says of each.

What it is: Spark fits and saves a model; the metadata files (JSON; the Parquet beside them is never read) go to <name>/model/, and Spark's
  own word to <name>/expected.json: which columns it cannot do without (each is taken away in turn, and Spark is asked to transform),
  which it only drops a column for, and which columns it adds, with the types and sizes of the values in a real row.
What it is not: run by the tests; they use the committed results. Nothing of lamina takes part, so that an error of ours in reading
  cannot be in the expectation too.
What must stay true: each model is loaded by Spark after it was saved, and all folders together stay below 500 KB.

usage: make_spark_models.py [NAME…]    in a Python 3.11 with the pyspark of README.md and a Java that it takes
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.ml import Pipeline, PipelineModel, Transformer
from pyspark.ml import classification as cl
from pyspark.ml import clustering as cu
from pyspark.ml import evaluation as ev
from pyspark.ml import feature as ft
from pyspark.ml import recommendation as rc
from pyspark.ml import regression as rg
from pyspark.ml import tuning as tu
from pyspark.ml.linalg import Vector, Vectors
from pyspark.sql import SparkSession

HERE = pathlib.Path(__file__).resolve().parent
spark = (
    SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "1")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
)
spark.sparkContext.setLogLevel("OFF")
MODELS = {}
NAMED_BY_DEFAULT = set()


def model(make):
    MODELS[make.__name__] = make
    return make


def people():
    rows = [(f"{word} spark and {other}", city, size, float(i), float(i % 5), "yes" if i % 2 else "no", i % 3 + 0.0, 1.0 + i, float(i % 2))
            for i, (word, other, city, size) in enumerate([("red", "blue", "Rome", "S"), ("green", "red", "Oslo", "M"), ("blue", "sky", "Bonn", "L")] * 8)]
    return spark.createDataFrame(rows, ["text", "city", "size", "age", "income", "answer", "third", "target", "label"])


def vectors():
    rows = [(Vectors.dense([i % 3, i * 0.5, (i * 7) % 5]), float(i % 2), float(i % 3), 1.0 + i, float(i % 4 > 0)) for i in range(24)]
    return spark.createDataFrame(rows, ["features", "label", "third", "target", "censor"])


# ---- pipelines as users have them ---------------------------------------------------------------------------------------------------


@model
def text_logistic():
    stages = [ft.Tokenizer(inputCol="text", outputCol="words"), ft.StopWordsRemover(inputCol="words", outputCol="kept"),
              ft.HashingTF(inputCol="kept", outputCol="counts", numFeatures=1024), ft.IDF(inputCol="counts", outputCol="features"),
              cl.LogisticRegression(maxIter=2)]
    return Pipeline(stages=stages).fit(people()), people()


@model
def indexed_forest():
    stages = [ft.StringIndexer(inputCol="answer", outputCol="answer_index"), ft.StringIndexer(inputCol="city", outputCol="city_index"),
              ft.OneHotEncoder(inputCol="city_index", outputCol="city_vector"),
              ft.VectorAssembler(inputCols=["city_vector", "age", "income"], outputCol="assembled"),
              cl.RandomForestClassifier(labelCol="answer_index", featuresCol="assembled", numTrees=2, maxDepth=2, leafCol="leaves"),
              ft.IndexToString(inputCol="prediction", outputCol="answer_given", labels=["yes", "no"])]
    return Pipeline(stages=stages).fit(people()), people()


@model
def many_columns():
    stages = [ft.StringIndexer(inputCols=["city", "size", "answer"], outputCols=["city_index", "size_index", "label_index"]),
              ft.OneHotEncoder(inputCols=["city_index", "size_index"], outputCols=["city_vector", "size_vector"]),
              ft.Imputer(inputCols=["age", "income"], outputCols=["age_full", "income_full"]),
              ft.Bucketizer(splitsArray=[[-1.0, 5.0, 100.0], [-1.0, 2.0, 100.0]], inputCols=["age_full", "income_full"],
                            outputCols=["age_bucket", "income_bucket"]),
              ft.StopWordsRemover(inputCols=["tokens"], outputCols=["kept"]),
              ft.VectorAssembler(inputCols=["city_vector", "size_vector", "age_bucket", "income_bucket"], outputCol="features"),
              cl.GBTClassifier(labelCol="label_index", maxIter=2, maxDepth=2)]
    data = ft.Tokenizer(inputCol="text", outputCol="tokens").transform(people())
    return Pipeline(stages=stages).fit(data), data


@model
def default_columns():
    stages = [ft.Tokenizer(inputCol="text"), ft.HashingTF(inputCol="words"), cl.LogisticRegression(featuresCol="hashed", maxIter=1)]
    stages[0].setOutputCol("words")
    stages[1].setOutputCol("hashed")
    lonely = ft.NGram(inputCol="words")
    fitted = Pipeline(stages=[*stages, lonely]).fit(people())
    NAMED_BY_DEFAULT.add(fitted.uid)
    return fitted, people()


@model
def nested_pipelines():
    text = Pipeline(stages=[ft.RegexTokenizer(inputCol="text", outputCol="words", pattern="\\W"), ft.CountVectorizer(inputCol="words", outputCol="counts")])
    numbers = Pipeline(stages=[ft.QuantileDiscretizer(inputCol="age", outputCol="age_band", numBuckets=3)])
    outer = Pipeline(stages=[Pipeline(stages=[text, numbers]), ft.VectorAssembler(inputCols=["counts", "age_band"], outputCol="features"),
                             rg.LinearRegression(labelCol="target", maxIter=1)])
    return outer.fit(people()), people()


@model
def cross_validated_stage():
    evaluator = ev.BinaryClassificationEvaluator()
    inner = Pipeline(stages=[ft.StandardScaler(inputCol="features", outputCol="scaled"), cl.LinearSVC(featuresCol="scaled", maxIter=1)])
    grid = tu.ParamGridBuilder().addGrid(inner.getStages()[1].regParam, [0.1, 0.5]).build()
    chosen = tu.CrossValidator(estimator=inner, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=1)
    return Pipeline(stages=[ft.VectorAssembler(inputCols=["age", "income"], outputCol="features"), chosen]).fit(people()), people()


@model
def validation_split():
    regression = rg.GeneralizedLinearRegression(labelCol="target", linkPredictionCol="link", maxIter=2)
    grid = tu.ParamGridBuilder().addGrid(regression.regParam, [0.1, 0.5]).build()
    chosen = tu.TrainValidationSplit(estimator=regression, estimatorParamMaps=grid, evaluator=ev.RegressionEvaluator(labelCol="target"), seed=1)
    return chosen.fit(vectors()), vectors()


@model
def formula():
    formula = ft.RFormula(formula="label ~ city + age", featuresCol="features", labelCol="label_used")
    return Pipeline(stages=[formula, cl.LogisticRegression(labelCol="label_used", maxIter=1)]).fit(people()), people()


@model
def formula_of_texts():
    return Pipeline(stages=[ft.RFormula(formula="answer ~ city:age + size", labelCol="answer_index")]).fit(people()), people()


@model
def one_model():
    return cl.LogisticRegression(maxIter=1, family="multinomial").fit(vectors()), vectors()


# ---- every class --------------------------------------------------------------------------------------------------------------------


@model
def vector_features():
    def to(stage, column):
        return stage.setInputCol("features").setOutputCol(column)

    stages = [ft.VectorSizeHint(inputCol="features", size=3), to(ft.StandardScaler(), "standard"), to(ft.MinMaxScaler(), "min_max"),
              to(ft.MaxAbsScaler(), "max_abs"), to(ft.RobustScaler(), "robust"), to(ft.Normalizer(), "normal"), to(ft.DCT(), "cosine"),
              to(ft.ElementwiseProduct(scalingVec=Vectors.dense([1.0, 2.0, 3.0])), "product"), to(ft.PolynomialExpansion(degree=3), "polynomial"),
              to(ft.PCA(k=2), "components"), to(ft.VectorIndexer(maxCategories=4), "indexed"), to(ft.VectorSlicer(indices=[0, 2]), "sliced"),
              to(ft.Binarizer(threshold=1.0), "binary"), to(ft.MinHashLSH(numHashTables=2), "min_hashes"),
              to(ft.BucketedRandomProjectionLSH(bucketLength=2.0, numHashTables=3), "projections"), ft.IDF(inputCol="features", outputCol="idf"),
              ft.VectorAssembler(inputCols=["third", "target"], outputCol="pair"), ft.Interaction(inputCols=["third", "pair"], outputCol="interaction")]
    data = vectors().where("not (label = 0 and third = 0)")
    return Pipeline(stages=stages).fit(data), data


@model
def selectors():
    stages = [ft.ChiSqSelector(numTopFeatures=2, outputCol="chi_square"), ft.VarianceThresholdSelector(outputCol="variance"),
              ft.UnivariateFeatureSelector(outputCol="univariate").setFeatureType("continuous").setLabelType("categorical").setSelectionThreshold(1)]
    return Pipeline(stages=stages).fit(vectors()), vectors()


@model
def text_features():
    stages = [ft.Word2Vec(inputCol="tokens", outputCol="meaning", vectorSize=4, minCount=1), ft.NGram(inputCol="tokens", outputCol="pairs"),
              ft.CountVectorizer(inputCol="tokens", outputCol="counts"), ft.HashingTF(inputCol="pairs", outputCol="hashed"),
              ft.Binarizer(inputCol="age", outputCol="old", threshold=5.0), ft.Bucketizer(inputCol="age", outputCol="band", splits=[-1.0, 5.0, 100.0]),
              ft.Imputer(inputCol="income", outputCol="income_full")]
    data = ft.Tokenizer(inputCol="text", outputCol="tokens").transform(people())
    return Pipeline(stages=stages).fit(data), data


def predictor(make, name, **more):
    return make(predictionCol=name, **more)


@model
def classifiers():
    def probable(make, name, **more):
        return make(predictionCol=name, **more).setProbabilityCol(f"{name}_p").setRawPredictionCol(f"{name}_raw")

    stages = [predictor(cl.LinearSVC, "svc", rawPredictionCol="svc_raw", maxIter=1), probable(cl.LogisticRegression, "logistic", maxIter=1),
              probable(cl.DecisionTreeClassifier, "tree", maxDepth=2, labelCol="third", leafCol="tree_leaf"),
              probable(cl.RandomForestClassifier, "forest", maxDepth=2, numTrees=2, labelCol="third"), probable(cl.GBTClassifier, "boosted", maxIter=1, maxDepth=1),
              probable(cl.NaiveBayes, "bayes", labelCol="third"), probable(cl.MultilayerPerceptronClassifier, "perceptron", layers=[3, 4, 3], labelCol="third", maxIter=1),
              probable(cl.FMClassifier, "machine", maxIter=1),
              cl.OneVsRest(classifier=cl.LogisticRegression(maxIter=1), labelCol="third", predictionCol="rest", rawPredictionCol="rest_raw")]
    return Pipeline(stages=stages).fit(vectors()), vectors()


@model
def regressors():
    def target(make, name, **more):
        return make(predictionCol=name, labelCol="target", **more)

    stages = [target(rg.LinearRegression, "linear", maxIter=1), target(rg.DecisionTreeRegressor, "tree", maxDepth=2, varianceCol="tree_variance"),
              target(rg.RandomForestRegressor, "forest", maxDepth=2, numTrees=2, leafCol="forest_leaves"), target(rg.GBTRegressor, "boosted", maxIter=1, maxDepth=1),
              target(rg.GeneralizedLinearRegression, "general", maxIter=1),
              target(rg.AFTSurvivalRegression, "survival", maxIter=1, quantilesCol="quantiles", quantileProbabilities=[0.25, 0.5]),
              target(rg.IsotonicRegression, "isotonic"), target(rg.FMRegressor, "machine", maxIter=1)]
    return Pipeline(stages=stages).fit(vectors()), vectors()


@model
def clusters():
    stages = [predictor(cu.KMeans, "means", k=2, maxIter=1), predictor(cu.BisectingKMeans, "bisecting", k=2, maxIter=1),
              predictor(cu.GaussianMixture, "gaussian", k=3, maxIter=1, probabilityCol="gaussian_p"), cu.LDA(k=4, maxIter=1, topicDistributionCol="topics")]
    return Pipeline(stages=stages).fit(vectors()), vectors()


@model
def recommendation():
    data = spark.createDataFrame([(u, i, float((u * i) % 5)) for u in range(4) for i in range(4)], ["user", "item", "rating"])
    return Pipeline(stages=[rc.ALS(rank=2, maxIter=1)]).fit(data), data


# ---- what no contract can be read from ----------------------------------------------------------------------------------------------


@model
def sql():
    stages = [ft.SQLTransformer(statement="SELECT *, age * income AS product FROM __THIS__"), ft.VectorAssembler(inputCols=["product"], outputCol="features")]
    return Pipeline(stages=stages).fit(people()), people()


@model
def hasher():
    return Pipeline(stages=[ft.FeatureHasher(inputCols=["age", "city"], outputCol="features", numFeatures=64)]).fit(people()), people()


# ---- what Spark says ----------------------------------------------------------------------------------------------------------------


def size_of(value):
    """The sizes of one value's dimensions: a scalar has none, a list of vectors two; -1 is a list that is of any length."""
    if isinstance(value, Vector):
        return [len(value)]
    if isinstance(value, list):
        return [len(value), *size_of(value[0])] if value and isinstance(value[0], Vector) else [-1]
    return []


def rows_of(loaded, data):
    transformed = loaded.transform(data) if isinstance(loaded, Transformer) else type(data)(loaded.transform(data._jdf), spark)
    return transformed, transformed.first()


def load(fitted, folder):
    """The model as PySpark loads it; but PySpark gives a column that is named by default another name than the file says, and Spark itself does not."""
    metadata = json.loads(next(folder.glob("metadata/part-*")).read_text())
    if fitted.uid not in NAMED_BY_DEFAULT:
        return type(fitted).load(str(folder))
    found = spark._jvm
    for part in metadata["class"].split("."):
        found = getattr(found, part)
    return found.load(str(folder))


def consumed(fitted):
    """The columns that some stage reads, as the stage's own params name them."""
    stages = fitted.stages if isinstance(fitted, PipelineModel) else [fitted.bestModel] if hasattr(fitted, "bestModel") else None
    if stages is not None:
        return set().union(*(consumed(stage) for stage in stages))
    read = set()
    if isinstance(fitted, ft.RFormulaModel):
        return read  # its featuresCol is what it adds
    for name in ["inputCol", "inputCols", "featuresCol", "userCol", "itemCol"]:
        if fitted.hasParam(name) and fitted.isDefined(name):
            value = fitted.getOrDefault(name)
            read |= {value} if isinstance(value, str) else set(value)
    return read


def expectation(fitted, loaded, data):
    whole, _ = rows_of(loaded, data)
    required, dropped = [], {}
    for column in data.columns:
        try:
            rest, _ = rows_of(loaded, data.drop(column))
        except Exception:
            required.append(column)
            continue
        lost = set(whole.columns) - set(rest.columns) - {column}
        if lost:
            dropped[column] = sorted(lost)
    transformed, row = rows_of(loaded, data.select(required))
    types = dict(transformed.dtypes)
    added = [{"name": name, "type": types[name], "dims": size_of(row[name])} for name in transformed.columns if name not in required]
    reads = consumed(fitted)
    return {
        "spark_version": spark.version,
        "required": [{"name": name, "type": dict(data.dtypes)[name], "dims": size_of(data.first()[name])} for name in required],
        "only_for_training": dropped,
        "added": added,
        "read_by_a_later_stage": [field["name"] for field in added if field["name"] in reads],
    }


def make(name, kept_as):
    fitted, data = MODELS[name]()
    root = HERE / kept_as
    shutil.rmtree(root, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        saved = pathlib.Path(folder) / "model"
        fitted.write().save(str(saved))
        loaded = load(fitted, saved)
        for part in sorted(saved.rglob("metadata/part-*")):
            target = root / "model" / part.relative_to(saved)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part, target)
        # Some stages read their data only now.
        (root / "expected.json").write_text(json.dumps(expectation(fitted, loaded, data)) + "\n")
    print(kept_as, "made")


if __name__ == "__main__":
    suffix = "" if spark.version.startswith("3.5.") else "_spark_" + spark.version.split(".")[0]
    failed = []
    for name in sys.argv[1:] or list(MODELS):
        try:
            make(name, name + suffix)
        except Exception as error:
            failed.append(name)
            print(name, "failed:", repr(error)[:1000], file=sys.stderr)
    sys.exit(f"not made: {failed}" if failed else 0)
