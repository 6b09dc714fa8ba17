//! A saved Spark pipeline → Contract.
//!
//! Only the JSON beside each stage is read (`spark_metadata.rs`), and the class table (`spark_stages.rs`) says what the stages' columns are.
//! This file puts the stages in order, those of pipelines in pipelines too, and works out what goes in and what comes out; what a
//! column may hold, when several stages read it, is `spark_columns.rs`'s.
//!
//! One signature, `default_spark`, as the ancestor had it. Its inputs are the columns that some stage reads and none before it has
//! added; its outputs are those that some stage adds and none reads: what lies between is the pipeline's own business. Columns that
//! only training needs are neither. A fitted stage reads no label, but an index of labels is often a stage of the pipeline; Spark leaves
//! such a `StringIndexerModel` out where its input is not there, and so does the contract.
//!
//! A number is said as DT_DOUBLE, which Spark takes wherever it takes a number; a vector is DT_DOUBLE of one dimension.
//!
//! What must stay true: a length is one that the JSON has or that follows from it, else the dimension is open and a warning says so; a
//! type that cannot be known is an error, since a field has to have one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;

use super::contract::{Contract, ContractError, Field, FieldKind, Shape, Signature, shown};
use super::dtype::DataType;
use super::reading::Reading;
use super::spark_columns::Resolved;
use super::spark_metadata::METADATA_BYTES_MAX;
use super::spark_metadata::METADATA_FILES_MAX;
use super::spark_metadata::METADATA_PARTS_MAX;
use super::spark_metadata::Metadata;
use super::spark_metadata::MetadataFile;
use super::spark_metadata::folder_of;
use super::spark_stages::Columns;
use super::spark_stages::columns;
use crate::fault::{Failure, Fault};

/// The name of the one signature.
pub const SIGNATURE: &str = "default_spark";

/// The most columns that all stages together read and add.
pub const COLUMNS_MAX: usize = 20_000;

/// How deep pipelines may lie in pipelines.
const DEPTH_MAX: usize = 8;

/// Why no contract can be read from a saved Spark model. A path is the file's in the model folder.
#[derive(Debug, thiserror::Error)]
pub enum SparkError {
    /// Not a saved Spark model.
    #[error("the model folder has no `metadata/part-00000`, which every saved Spark model has")]
    NoRoot,
    /// More than any pipeline has.
    #[error("the Spark model has {count} metadata files; the limit is {METADATA_FILES_MAX}")]
    TooManyFiles {
        /// How many.
        count: usize,
    },
    /// Larger than any metadata.
    #[error("`{path}` is larger than {METADATA_BYTES_MAX} bytes")]
    FileTooLarge {
        /// Which file.
        path: String,
    },
    /// More than any metadata has.
    #[error("`{path}` has more than {METADATA_PARTS_MAX} lists and objects")]
    TooManyParts {
        /// Which file.
        path: String,
    },
    /// More than anyone can fill in.
    #[error("the stages of the Spark model have more than {COLUMNS_MAX} columns")]
    TooManyColumns,
    /// Pipelines in pipelines.
    #[error("`{path}` lies in more than {DEPTH_MAX} pipelines")]
    TooDeep {
        /// Which file.
        path: String,
    },
    /// Not gzip, or cut.
    #[error("`{path}` cannot be unpacked")]
    Gzip {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not JSON, or compressed in another way than gzip.
    #[error("`{path}` is not the JSON that Spark writes there")]
    Json {
        /// Which file.
        path: String,
        /// Where in it, and why.
        #[source]
        source: serde_json::Error,
    },
    /// JSON, but not a stage's.
    #[error("`{path}` has no `{member}`: it is not the metadata of a Spark stage")]
    NoMember {
        /// Which file.
        path: String,
        /// What is missing.
        member: &'static str,
    },
    /// Something to train with.
    #[error("`{path}` is the metadata of a {class}, which is not fitted yet")]
    NotFitted {
        /// Which file.
        path: String,
        /// Its class.
        class: String,
    },
    /// A class that is not Spark's own, or of which nothing can be said.
    #[error("`{path}` is the metadata of a {class}: which columns it reads and adds, and their types, cannot be told from it")]
    UnknownClass {
        /// Which file.
        path: String,
        /// Its class.
        class: String,
    },
    /// Named and not there.
    #[error("`{path}` names a stage whose metadata is not there: `{folder}/metadata/part-00000`")]
    NoStage {
        /// The file that names it.
        path: String,
        /// The folder that it would have.
        folder: String,
    },
    /// A param that has no default, and without which Spark could not use the stage.
    #[error("`{path}` has no param `{param}`")]
    NoColumn {
        /// Which file.
        path: String,
        /// The param.
        param: &'static str,
    },
    /// A column that only one of several types makes right.
    #[error("`{path}`: the column `{column}` may hold numbers or texts, and the model gives other answers for one than for the other")]
    UnknownType {
        /// The file of the stage that reads it.
        path: String,
        /// The column.
        column: String,
    },
    /// Read, but not what a model can be built with.
    #[error("the contract of the Spark model in `metadata/part-00000` is not valid")]
    Invalid(#[from] ContractError),
}

impl Failure for SparkError {
    fn fault(&self) -> Fault {
        match self {
            SparkError::TooManyFiles { .. }
            | SparkError::FileTooLarge { .. }
            | SparkError::TooManyParts { .. }
            | SparkError::TooManyColumns => Fault::TooLarge,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        let remedy = match self {
            SparkError::NoRoot | SparkError::NoStage { .. } | SparkError::Gzip { .. } | SparkError::NoMember { .. } => {
                "save the model again, or copy it again in full"
            }
            SparkError::Json { .. } => "save the model again without compression of text files, or copy it again in full",
            SparkError::NotFitted { .. } => "save what its `fit` gives",
            _ => "say what goes in and what comes out in a contract.prototxt",
        };
        Some(remedy.to_owned())
    }
}

/// A stage, the file that says so, and what it reads and adds.
pub(super) struct Stage {
    pub path: String,
    pub columns: Columns,
}

/// The contract of the saved Spark model whose metadata files these are: all for which `spark_metadata::wanted` says yes, in any order.
pub fn read(files: &[MetadataFile<'_>]) -> Result<Reading, SparkError> {
    if files.len() > METADATA_FILES_MAX {
        return Err(SparkError::TooManyFiles { count: files.len() });
    }
    let mut folders: BTreeMap<&str, MetadataFile<'_>> = BTreeMap::new();
    for file in files {
        // Hadoop may write several parts, of which one is not empty.
        if let Some(folder) = folder_of(file.path).filter(|_| !file.bytes.is_empty()) {
            folders.entry(folder).or_insert(*file);
        }
    }
    let root = Metadata::parse(*folders.get("").ok_or(SparkError::NoRoot)?)?;
    let mut warnings = Vec::new();
    let version = root.spark_version().unwrap_or_else(|| {
        warnings.push(format!("`{}` has no version of Spark that a model type can carry", root.path));
        "unknown"
    });
    let model_type = format!("spark:{version}");
    let mut stages = Vec::new();
    unfold(&folders, "", root, 1, &mut stages)?;
    leave_out_labels(&mut stages, &mut warnings);
    let resolved = Resolved::of(&stages, &mut warnings)?;
    let read: BTreeSet<&str> = stages.iter().flat_map(|stage| &stage.columns.inputs).map(|input| input.name.as_str()).collect();
    let outputs = resolved.added.into_iter().filter(|field| !read.contains(field.name.as_str())).collect();
    let signature = Signature { name: SIGNATURE.to_owned(), inputs: resolved.needed, outputs };
    warnings.extend(open_lengths(&signature));
    let contract = Contract { model_name: String::new(), signatures: vec![signature] };
    contract.validate()?;
    Ok(Reading { contract, model_type, warnings })
}

/// Appends the stages of the model in `folder` in the order in which Spark runs them.
///
/// Each call takes another folder of `folders`, and `depth` is bounded, so both time and stack are.
fn unfold(
    folders: &BTreeMap<&str, MetadataFile<'_>>,
    folder: &str,
    metadata: Metadata,
    depth: usize,
    stages: &mut Vec<Stage>,
) -> Result<(), SparkError> {
    if depth > DEPTH_MAX {
        return Err(SparkError::TooDeep { path: metadata.path });
    }
    let below = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let inner = |name: &str, stages: &mut Vec<Stage>| {
        let folder = below(name);
        let file =
            folders.get(folder.as_str()).ok_or_else(|| SparkError::NoStage { path: metadata.path.clone(), folder: shown(&folder) })?;
        unfold(folders, &folder, Metadata::parse(*file)?, depth + 1, stages)
    };
    match metadata.class.as_str() {
        "PipelineModel" | "pipeline.PipelineModel" => {
            let uids = metadata.texts("stageUids").ok_or(SparkError::NoMember { path: metadata.path.clone(), member: "stageUids" })?;
            // As `Pipeline.SharedReadWrite.getStagePath` names them: padded to the digits of their number.
            let width = uids.len().to_string().len();
            for (index, uid) in uids.iter().enumerate() {
                inner(&format!("stages/{index:0width$}_{uid}"), stages)?;
            }
        }
        "tuning.CrossValidatorModel" | "tuning.TrainValidationSplitModel" => inner("bestModel", stages)?,
        "feature.RFormulaModel" => {
            // What lies between the terms of the formula and the vector of features is read by the inner stages, and so is no output.
            inner("pipelineModel", stages)?;
            let labels = vec![metadata.text("labelCol").unwrap_or("label").to_owned()];
            stages.push(Stage { columns: Columns { labels, ..Columns::default() }, path: metadata.path });
        }
        "Pipeline" | "pipeline.Pipeline" | "tuning.CrossValidator" | "tuning.TrainValidationSplit" | "feature.RFormula" => {
            return Err(SparkError::NotFitted { path: metadata.path, class: metadata.class });
        }
        _ => {
            stages.push(Stage { columns: columns(&metadata)?, path: metadata.path });
            let count: usize = stages.iter().map(|stage| stage.columns.inputs.len() + stage.columns.outputs.len()).sum();
            if count > COLUMNS_MAX {
                return Err(SparkError::TooManyColumns);
            }
        }
    }
    Ok(())
}

/// What is to be said of the vectors whose lengths are not known.
fn open_lengths(signature: &Signature) -> Option<String> {
    const SHOWN_MAX: usize = 10;
    let open = |field: &&Field| {
        let numbers = field.kind == FieldKind::Dtype(DataType::Double);
        numbers && matches!(&field.shape, Shape::Dimensions(dimensions) if dimensions.iter().any(|dimension| dimension.size == -1))
    };
    let fields: Vec<&Field> = signature.inputs.iter().chain(&signature.outputs).filter(open).collect();
    let shown: Vec<String> = fields.iter().take(SHOWN_MAX).map(|field| format!("`{}`", shown(&field.name))).collect();
    let more = if fields.len() > SHOWN_MAX { " and others" } else { "" };
    let text = format!(
        "the lengths of the vectors {}{more} are open: Spark keeps them only in Parquet files, which are not read",
        shown.join(", ")
    );
    (!fields.is_empty()).then_some(text)
}

/// Takes away the indexes that make nothing but a label of training.
fn leave_out_labels(stages: &mut [Stage], warnings: &mut Vec<String>) {
    let labels: BTreeSet<String> = stages.iter().flat_map(|stage| stage.columns.labels.iter().cloned()).collect();
    let inputs = stages.iter().flat_map(|stage| &stage.columns.inputs);
    let read: BTreeSet<String> = inputs.map(|input| input.name.clone()).collect();
    for Stage { columns, .. } in stages.iter_mut().filter(|stage| stage.columns.optional) {
        let for_training = |name: &str| labels.contains(name) && !read.contains(name);
        let pairs = columns.inputs.drain(..).zip(columns.outputs.drain(..)).collect::<Vec<_>>();
        for (input, output) in pairs {
            if for_training(&output.name) {
                let (input, output) = (shown(&input.name), shown(&output.name));
                warnings.push(format!("the column `{input}` only makes the label `{output}` of training, and is left out with it"));
            } else {
                columns.inputs.push(input);
                columns.outputs.push(output);
            }
        }
    }
}
