//! Which columns each of Spark's own stages reads and adds: the class table.
//!
//! A row is what a fitted stage's `transform` does, read in Spark's source (2.1 to 4.0) and held by models that Spark wrote
//! (`tests/models/spark`). Columns that only training reads are no inputs: labels, weights, ratings, censors.
//!
//! The table began as the ancestor's and differs where that was wrong: vectors of classes have `numClasses` elements, not `numFeatures`; an
//! indexed vector is a vector; an encoder takes an index, not a text; a param that is not in the file has Spark's own default.
//!
//! What must stay true: a class that is not here is an error, not a guess. Its columns may have conventional names, but no param of it
//! says a type, and a field of a contract has one.

use std::collections::BTreeSet;

use super::contract::shown;
use super::spark::SparkError;
use super::spark_metadata::Metadata;

/// What a stage takes in a column; several where Spark takes several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takes(pub u8);

impl Takes {
    /// A text.
    pub const TEXT: Takes = Takes(1);
    /// A number of which the whole part is all: the ids of a recommendation.
    pub const WHOLE_NUMBER: Takes = Takes(2);
    /// Any numeric type; Spark reads it as a double.
    pub const NUMBER: Takes = Takes(2 | 4);
    /// A vector of doubles.
    pub const VECTOR: Takes = Takes(8);
    /// A list of texts.
    pub const TEXTS: Takes = Takes(16);
    /// Either, and an element of what is made of it counts from one number to many.
    pub const NUMBER_OR_VECTOR: Takes = Takes(2 | 4 | 8);
    /// A text, or a number by the text that Spark casts it to.
    pub const TEXT_OF_ANY: Takes = Takes(1 | 2 | 4);

    /// Whether all of `other` is taken.
    pub fn has(self, other: Takes) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A column that a stage reads.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub name: String,
    pub takes: Takes,
    /// The length of the vector, where the stage's metadata has it.
    pub length: Option<i64>,
    /// Whether a number and its text mean different things to the stage.
    pub type_matters: bool,
}

/// A column that a stage adds.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub name: String,
    pub holds: Holds,
}

/// What is in a column that a stage adds.
#[derive(Clone, Debug)]
pub(super) enum Holds {
    Text,
    Double,
    /// ALS predicts floats.
    Float,
    /// Clusters are numbered.
    Int32,
    Texts,
    Vector(Length),
    /// The hashes of a vector: so many vectors of one element.
    Hashes(Option<i64>),
    /// What the column of this name holds.
    LikeColumn(String),
}

/// How long an added vector is.
#[derive(Clone, Debug)]
pub(super) enum Length {
    /// In Parquet, or it follows from what is in a row.
    Open,
    Known(i64),
    /// As long as the vector in that column.
    Of(String),
    /// All columns side by side.
    Sum(Vec<String>),
    /// All products of up to so many elements of that column.
    Polynomial(String, i64),
}

/// The columns of one stage.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    /// What it was trained to predict.
    pub labels: Vec<String>,
    /// Spark leaves this stage out where its input is not there (`StringIndexerModel`), each of its columns for itself.
    pub optional: bool,
}

/// The columns of a stage that is no pipeline and holds none.
pub(super) fn columns(stage: &Metadata) -> Result<Columns, SparkError> {
    let family = match stage.class.split_once('.') {
        Some(("feature", class)) => feature(stage, class)?,
        Some(("classification", class)) => classification(stage, class),
        Some(("regression", class)) => regression(stage, class),
        Some(("clustering", class)) => clustering(stage, class),
        Some(("recommendation", "ALSModel")) => Some(recommendation(stage)),
        _ => None,
    };
    let mut columns = family.ok_or_else(|| SparkError::UnknownClass { path: stage.path.clone(), class: shown(&stage.class) })?;
    // A column without a name is one that the user has switched off.
    columns.outputs.retain(|output| !output.name.is_empty());
    Ok(columns)
}

fn feature(stage: &Metadata, class: &str) -> Result<Option<Columns>, SparkError> {
    let length = |name: &str, default: Option<i64>| stage.length(name).or(default).map_or(Length::Open, Length::Known);
    // HashingTF and FeatureHasher: 2 to the 18th.
    let hashed = || length("numFeatures", Some(1 << 18));
    Ok(Some(match class {
        "Tokenizer" | "RegexTokenizer" => each(stage, Takes::TEXT, |_| Holds::Texts)?,
        "StopWordsRemover" | "NGram" => each(stage, Takes::TEXTS, |_| Holds::Texts)?,
        "HashingTF" => each(stage, Takes::TEXTS, |_| Holds::Vector(hashed()))?,
        "CountVectorizerModel" => each(stage, Takes::TEXTS, |_| Holds::Vector(Length::Open))?,
        "Word2VecModel" => each(stage, Takes::TEXTS, |_| Holds::Vector(length("vectorSize", Some(100))))?,
        "StringIndexerModel" => Columns { optional: true, ..each(stage, Takes::TEXT_OF_ANY, |_| Holds::Double)? },
        "IndexToString" => each(stage, Takes::NUMBER, |_| Holds::Text)?,
        "OneHotEncoder" | "OneHotEncoderModel" => each(stage, Takes::NUMBER, |_| Holds::Vector(Length::Open))?,
        "Bucketizer" => each(stage, Takes::NUMBER, |_| Holds::Double)?,
        "ImputerModel" => each(stage, Takes::NUMBER, |input| Holds::LikeColumn(input.to_owned()))?,
        "Binarizer" => each(stage, Takes::NUMBER_OR_VECTOR, |input| Holds::LikeColumn(input.to_owned()))?,
        "IDFModel"
        | "Normalizer"
        | "DCT"
        | "StandardScalerModel"
        | "MinMaxScalerModel"
        | "MaxAbsScalerModel"
        | "RobustScalerModel"
        | "ElementwiseProduct" => each(stage, Takes::VECTOR, |input| Holds::Vector(Length::Of(input.to_owned())))?,
        "VectorIndexerModel" => learned(stage, each(stage, Takes::VECTOR, |input| Holds::Vector(Length::Of(input.to_owned())))?),
        "PolynomialExpansion" => {
            let degree = stage.length("degree").unwrap_or(2);
            each(stage, Takes::VECTOR, |input| Holds::Vector(Length::Polynomial(input.to_owned(), degree)))?
        }
        "PCAModel" => each(stage, Takes::VECTOR, |_| Holds::Vector(length("k", None)))?,
        "VectorSlicer" => {
            let sliced = stage.count("indices").unwrap_or(0).saturating_add(stage.count("names").unwrap_or(0));
            each(stage, Takes::VECTOR, |_| Holds::Vector(Length::Known(sliced)))?
        }
        "MinHashLSHModel" | "BucketedRandomProjectionLSHModel" => {
            each(stage, Takes::VECTOR, |_| Holds::Hashes(stage.length("numHashTables").or(Some(1))))?
        }
        "ChiSqSelectorModel" | "VarianceThresholdSelectorModel" | "UnivariateFeatureSelectorModel" => {
            let selected = Output { name: output_column(stage), holds: Holds::Vector(Length::Open) };
            Columns { inputs: vec![features(stage, Takes::VECTOR)], outputs: vec![selected], ..Columns::default() }
        }
        "VectorSizeHint" => {
            let name = stage.text("inputCol").ok_or_else(|| no_column(stage, "inputCol"))?;
            Columns { inputs: vec![Input { length: stage.length("size"), ..input(name, Takes::VECTOR) }], ..Columns::default() }
        }
        "VectorAssembler" => {
            let names = stage.texts("inputCols").ok_or_else(|| no_column(stage, "inputCols"))?;
            let sum = Length::Sum(names.iter().map(|name| (*name).to_owned()).collect());
            joined(stage, &names, Takes::NUMBER_OR_VECTOR, sum)
        }
        "Interaction" => {
            let names = stage.texts("inputCols").ok_or_else(|| no_column(stage, "inputCols"))?;
            joined(stage, &names, Takes::NUMBER_OR_VECTOR, Length::Open)
        }
        "FeatureHasher" => {
            let names = stage.texts("inputCols").ok_or_else(|| no_column(stage, "inputCols"))?;
            let categorical: BTreeSet<&str> = stage.texts("categoricalCols").unwrap_or_default().into_iter().collect();
            let mut columns = joined(stage, &names, Takes::TEXT_OF_ANY, hashed());
            // A number is hashed by its column's name and stays a value; a text, and a number that is said to be a category, is one of many names.
            columns.inputs.iter_mut().for_each(|input| input.type_matters = !categorical.contains(input.name.as_str()));
            columns
        }
        // What RFormula puts into its own pipeline: names of elements, and columns that its reader leaves out anyway.
        "VectorAttributeRewriter" | "ColumnPruner" => Columns::default(),
        _ => return Ok(None),
    }))
}

fn classification(stage: &Metadata, class: &str) -> Option<Columns> {
    let classes = |number: Option<i64>| Holds::Vector(number.or(stage.learned_length("numClasses")).map_or(Length::Open, Length::Known));
    let (raw, probability) = match class {
        "LinearSVCModel" => (Some(classes(Some(2))), None),
        "GBTClassificationModel" | "FMClassificationModel" => (Some(classes(Some(2))), Some(classes(Some(2)))),
        "MultilayerPerceptronClassificationModel" | "MultilayerPerceptronClassifierModel" => {
            // In its params from Spark 3.0 on.
            let last = stage.param("layers").and_then(|layers| layers.as_array()?.last()?.as_i64()).filter(|last| *last >= 0);
            (Some(classes(last)), Some(classes(last)))
        }
        "LogisticRegressionModel" | "DecisionTreeClassificationModel" | "RandomForestClassificationModel" | "NaiveBayesModel" => {
            (Some(classes(None)), Some(classes(None)))
        }
        // It has the column from Spark 3.0 on, and then says so.
        "OneVsRestModel" => (stage.text("rawPredictionCol").map(|_| classes(None)), None),
        _ => return None,
    };
    let mut outputs = Vec::new();
    outputs.extend(raw.map(|holds| Output { name: column(stage, "rawPredictionCol", "rawPrediction"), holds }));
    outputs.extend(probability.map(|holds| Output { name: column(stage, "probabilityCol", "probability"), holds }));
    outputs.push(Output { name: column(stage, "predictionCol", "prediction"), holds: Holds::Double });
    outputs.extend(leaves(stage, class));
    Some(supervised(stage, Takes::VECTOR, outputs))
}

fn regression(stage: &Metadata, class: &str) -> Option<Columns> {
    let mut takes = Takes::VECTOR;
    let mut outputs = vec![Output { name: column(stage, "predictionCol", "prediction"), holds: Holds::Double }];
    let mut also = |param: &str, holds: Holds| outputs.push(Output { name: column(stage, param, ""), holds });
    match class {
        "LinearRegressionModel" | "FMRegressionModel" | "RandomForestRegressionModel" | "GBTRegressionModel" => {}
        "DecisionTreeRegressionModel" => also("varianceCol", Holds::Double),
        "GeneralizedLinearRegressionModel" => also("linkPredictionCol", Holds::Double),
        "AFTSurvivalRegressionModel" => {
            // Spark's default has nine probabilities.
            also("quantilesCol", Holds::Vector(Length::Known(stage.count("quantileProbabilities").unwrap_or(9))));
        }
        "IsotonicRegressionModel" => takes = Takes::NUMBER_OR_VECTOR,
        _ => return None,
    }
    outputs.extend(leaves(stage, class));
    let mut columns = supervised(stage, takes, outputs);
    let offset = stage.text("offsetCol").filter(|name| class == "GeneralizedLinearRegressionModel" && !name.is_empty());
    columns.inputs.extend(offset.map(|name| input(name, Takes::NUMBER)));
    Some(columns)
}

fn clustering(stage: &Metadata, class: &str) -> Option<Columns> {
    let clusters = |default: i64| Holds::Vector(Length::Known(stage.length("k").unwrap_or(default)));
    let prediction = Output { name: column(stage, "predictionCol", "prediction"), holds: Holds::Int32 };
    let outputs = match class {
        "KMeansModel" | "BisectingKMeansModel" => vec![prediction],
        "GaussianMixtureModel" => vec![Output { name: column(stage, "probabilityCol", "probability"), holds: clusters(2) }, prediction],
        "LocalLDAModel" | "DistributedLDAModel" => {
            vec![Output { name: column(stage, "topicDistributionCol", "topicDistribution"), holds: clusters(10) }]
        }
        _ => return None,
    };
    Some(Columns { inputs: vec![features(stage, Takes::VECTOR)], outputs, ..Columns::default() })
}

fn recommendation(stage: &Metadata) -> Columns {
    let ids = [column(stage, "userCol", "user"), column(stage, "itemCol", "item")];
    let prediction = Output { name: column(stage, "predictionCol", "prediction"), holds: Holds::Float };
    Columns { inputs: ids.iter().map(|id| input(id, Takes::WHOLE_NUMBER)).collect(), outputs: vec![prediction], ..Columns::default() }
}

/// One column made of another: `inputCol` to `outputCol`, or each of `inputCols` to the one at its place in `outputCols`.
fn each(stage: &Metadata, takes: Takes, holds: impl Fn(&str) -> Holds) -> Result<Columns, SparkError> {
    let pairs = match (stage.texts("inputCols"), stage.texts("outputCols"), stage.text("inputCol")) {
        (Some(inputs), Some(outputs), _) => {
            inputs.into_iter().zip(outputs).map(|(input, output)| (input.to_owned(), output.to_owned())).collect()
        }
        (_, _, Some(input)) => vec![(input.to_owned(), output_column(stage))],
        (Some(_), None, None) => return Err(no_column(stage, "outputCols")),
        (None, _, None) => return Err(no_column(stage, "inputCol")),
    };
    let outputs = pairs.iter().map(|(input, output)| Output { name: output.clone(), holds: holds(input) }).collect();
    let inputs = pairs.iter().map(|(name, _)| input(name, takes)).collect();
    Ok(Columns { inputs, outputs, ..Columns::default() })
}

/// Several columns made one vector.
fn joined(stage: &Metadata, names: &[&str], takes: Takes, length: Length) -> Columns {
    let outputs = vec![Output { name: output_column(stage), holds: Holds::Vector(length) }];
    Columns { inputs: names.iter().map(|name| input(name, takes)).collect(), outputs, ..Columns::default() }
}

fn supervised(stage: &Metadata, takes: Takes, outputs: Vec<Output>) -> Columns {
    Columns { inputs: vec![features(stage, takes)], outputs, labels: vec![column(stage, "labelCol", "label")], ..Columns::default() }
}

/// Which leaf of each tree a row fell into: a number of one tree, a vector of many. From Spark 3.0 on, and switched off by default.
fn leaves(stage: &Metadata, class: &str) -> Option<Output> {
    let holds = match class {
        "DecisionTreeClassificationModel" | "DecisionTreeRegressionModel" => Holds::Double,
        _ => Holds::Vector(stage.learned_length("numTrees").map_or(Length::Open, Length::Known)),
    };
    stage.text("leafCol").map(|name| Output { name: name.to_owned(), holds })
}

/// The vector that a stage predicts from, as long as the stage has learned.
fn features(stage: &Metadata, takes: Takes) -> Input {
    let layers = || stage.param("layers").and_then(|layers| layers.as_array()?.first()?.as_i64()).filter(|first| *first >= 0);
    let length = stage.learned_length("numFeatures").or_else(layers);
    Input { length, ..input(&column(stage, "featuresCol", "features"), takes) }
}

/// The same columns, with the lengths that the stage has learned.
fn learned(stage: &Metadata, mut columns: Columns) -> Columns {
    columns.inputs.iter_mut().for_each(|input| input.length = stage.learned_length("numFeatures"));
    columns
}

fn input(name: &str, takes: Takes) -> Input {
    Input { name: name.to_owned(), takes, length: None, type_matters: false }
}

fn column(stage: &Metadata, param: &str, default: &str) -> String {
    stage.text(param).unwrap_or(default).to_owned()
}

/// `outputCol`; Spark's default for it is made of the stage's uid.
fn output_column(stage: &Metadata) -> String {
    stage.text("outputCol").map_or_else(|| format!("{}__output", stage.uid), str::to_owned)
}

fn no_column(stage: &Metadata, param: &'static str) -> SparkError {
    SparkError::NoColumn { path: stage.path.clone(), param }
}
