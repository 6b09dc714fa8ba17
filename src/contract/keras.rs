//! Keras models → Contract: `.h5` and `.keras` files, and the JSON of `model.to_json()`.
//!
//! A Keras file has the architecture as JSON beside the weights; from that alone a contract is made, and nothing of the model is loaded
//! or run. The shapes of the outputs are not in it: they are computed through the layers (`keras_graph.rs`, `keras_layers.rs`). What a
//! layer does that has its code elsewhere (Lambda, custom layers, operations) is not known, and a warning says so.
//!
//! What must stay true: fields are named and ordered as `input_names` and `output_names` of the model, the shapes and dtypes are those
//! of `model.inputs` and `model.outputs`, and what is not known is any shape, never a likely one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek};
use std::rc::Rc;

use hdf5_reader::error::Error as Hdf5Error;
use serde_json::Value;
use zip::result::ZipError;

use super::contract::{Contract, ContractError, Field, Signature, shown};
use super::dtype::DataType;
use super::keras_graph::{Named, Walk};
use super::keras_model::{Layer, Model};
use super::keras_source::Saved;
use super::reading::{self, Reading};
use super::{keras_hdf5, keras_model, keras_source};
use crate::fault::{Failure, Fault};

/// The bytes of a config; the largest models have some two MiB, vocabularies included some more.
pub(super) const CONFIG_BYTES_MAX: usize = 8 << 20;

/// The lists and objects in a config, strings with such brackets included: a model of five thousand layers has about a third of it.
/// In memory the smallest object takes a hundred times its text.
const CONFIG_PARTS_MAX: usize = 250_000;

/// The name of the one thing that a Keras model can be asked.
const SIGNATURE: &str = "infer";

/// The tensors that a model takes and gives; the largest have some hundred.
const FIELDS_MAX: usize = 20_000;

/// The warnings that are worth a reader's time; a model may have any number of outputs.
const WARNINGS_MAX: usize = 50;

/// Why no contract can be read from a Keras model.
#[derive(Debug, thiserror::Error)]
pub enum KerasError {
    /// The source, not the model.
    #[error("reading the Keras model")]
    Io(#[source] io::Error),
    /// Another kind of file.
    #[error("the Keras model is not an HDF5 file")]
    NotHdf5,
    /// Cut or damaged.
    #[error("the Keras model is not a readable HDF5 file")]
    Hdf5(#[from] Hdf5Error),
    /// An HDF5 file of something else.
    #[error("the HDF5 file is {kind}: it has no attribute `model_config`")]
    OtherHdf5 {
        /// What it seems to be.
        kind: &'static str,
    },
    /// What `save_weights` writes.
    #[error("the HDF5 file has the weights of a Keras model, and not the model: it has no attribute `model_config`")]
    WeightsOnly,
    /// More than any real file takes.
    #[error("the description of the Keras model takes more than its share of the file to read")]
    TooMuchToRead,
    /// Another kind of file, or a damaged one.
    #[error("the Keras model is not a readable zip archive")]
    NotArchive(#[source] ZipError),
    /// An archive of something else.
    #[error("the Keras archive has no `config.json`")]
    NoConfigMember,
    /// No way to tell which of them Keras takes.
    #[error("the Keras archive has two members of one name")]
    DuplicateMember,
    /// Damaged, encrypted, or compressed in a way that Keras does not use.
    #[error("the Keras archive's `{name}` cannot be read")]
    Member {
        /// Which member.
        name: &'static str,
        /// Why.
        #[source]
        source: ZipError,
    },
    /// More than any real model has.
    #[error("the config of the Keras model is larger than {CONFIG_BYTES_MAX} bytes")]
    ConfigTooLarge,
    /// More than any real model has.
    #[error("the config of the Keras model has more than {CONFIG_PARTS_MAX} lists and objects")]
    ConfigOfTooManyParts,
    /// Damaged.
    #[error("the config of the Keras model is not JSON")]
    Json(#[source] serde_json::Error),
    /// Its inputs and outputs are in its author's code.
    #[error("the Keras model is a `{class}`, which is neither Sequential nor functional: only its own code knows what it takes and gives")]
    UnknownModel {
        /// The class.
        class: String,
    },
    /// Not as Keras writes it.
    #[error("the config of the Keras model is damaged at {place}: {problem}")]
    Malformed {
        /// The layer.
        place: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A model of nothing.
    #[error("the Keras model `{model}` has no layers")]
    NoLayers {
        /// Which of them.
        model: String,
    },
    /// Names are what calls refer to.
    #[error("the config of the Keras model has two layers named `{layer}`")]
    TwoLayers {
        /// The name.
        layer: String,
    },
    /// A reference into nothing.
    #[error("the config of the Keras model is damaged: `{by}` uses call {node} of the layer `{layer}`, which is not there")]
    NoSuchCall {
        /// Who refers.
        by: String,
        /// To what.
        layer: String,
        /// To which call.
        node: usize,
    },
    /// A model that never ends.
    #[error("the layers of the Keras model go in a circle at `{layer}`")]
    Circle {
        /// One of them.
        layer: String,
    },
    /// More than any real model has.
    #[error("the Keras model has more calls of layers than can be followed")]
    TooManyCalls,
    /// More than anyone can fill in.
    #[error("the Keras model takes and gives more than {FIELDS_MAX} tensors")]
    TooManyFields,
    /// More than any real model has.
    #[error("the Keras model has models nested too deep in each other")]
    TooDeep,
    /// An element type that no contract has.
    #[error("the Keras model's input `{layer}` has the dtype {dtype}, which a contract cannot hold")]
    Dtype {
        /// The input.
        layer: String,
        /// Its type.
        dtype: String,
    },
    /// Read, but not what a model can be built with.
    #[error("the contract in the Keras model is not valid")]
    Invalid(#[from] ContractError),
}

impl Failure for KerasError {
    fn fault(&self) -> Fault {
        match self {
            KerasError::Io(_) => Fault::Ours,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        let remedy = match self {
            KerasError::Io(_) => return None,
            KerasError::WeightsOnly => "save the whole model with `model.save(…)`, or add a contract.prototxt",
            KerasError::NotHdf5 | KerasError::Hdf5(_) | KerasError::NotArchive(_) | KerasError::Member { .. } | KerasError::Json(_) => {
                "save the model again, or copy it again in full"
            }
            _ => "add a contract.prototxt",
        };
        Some(remedy.to_owned())
    }
}

/// The contract in the `.h5` file that `source` holds in its first `size_bytes`.
///
/// What is read is the description of the model, whatever its weights take.
pub fn read_h5<R: Read + Seek + Send + 'static>(source: R, size_bytes: u64) -> Result<Reading, KerasError> {
    contract_of(&keras_hdf5::read(source, size_bytes)?)
}

/// The contract in the `.keras` archive that `source` holds.
///
/// Its `config.json` and `metadata.json` are read, and the archive's directory.
pub fn read_archive<R: Read + Seek>(source: R) -> Result<Reading, KerasError> {
    contract_of(&keras_source::read_archive(source)?)
}

/// The contract of a model by its config alone: what `model.to_json()` gives.
pub fn read_json(config: &[u8]) -> Result<Reading, KerasError> {
    if config.len() > CONFIG_BYTES_MAX {
        return Err(KerasError::ConfigTooLarge);
    }
    contract_of(&Saved { config: config.to_vec(), keras_version: String::new() })
}

/// The config as JSON, where it has no more parts than fit into memory.
pub(super) fn config_of(saved: &Saved) -> Result<Value, KerasError> {
    if saved.config.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() > CONFIG_PARTS_MAX {
        return Err(KerasError::ConfigOfTooManyParts);
    }
    keras_source::parse(&saved.config).map_err(KerasError::Json)
}

fn contract_of(saved: &Saved) -> Result<Reading, KerasError> {
    let value = config_of(saved)?;
    let mut warnings = Vec::new();
    let said = [saved.keras_version.as_str(), value["keras_version"].as_str().unwrap_or_default()];
    let version = version(said.into_iter().find(|version| !version.is_empty()).unwrap_or_default(), &mut warnings);
    let model = keras_model::top(&value)?;
    let ran = Walk::new(era(&version, &value)).model(&model, None)?;
    if ran.inputs.len() + ran.outputs.len() > FIELDS_MAX {
        return Err(KerasError::TooManyFields);
    }
    warnings.extend(composite(&model));
    let inputs = fields("inputs", ran.inputs, &mut warnings);
    let outputs = fields("outputs", ran.outputs, &mut warnings);
    if let Some(more) = warnings.len().checked_sub(WARNINGS_MAX).filter(|more| *more > 0) {
        warnings.truncate(WARNINGS_MAX);
        warnings.push(format!("{more} more of this kind"));
    }
    let contract = Contract { signatures: vec![Signature { name: SIGNATURE.to_owned(), inputs, outputs }], ..Contract::default() };
    contract.validate()?;
    Ok(Reading { contract, model_type: format!("keras:{version}"), warnings })
}

/// The version as a model type can carry it.
fn version(named: &str, warnings: &mut Vec<String>) -> String {
    let version = reading::version(named);
    if version.is_none() && !named.trim().is_empty() {
        warnings.push(format!("the Keras model names a version that is none: `{}`", shown(named.trim())));
    }
    version.unwrap_or("unknown").to_owned()
}

/// The major version of Keras; where none is named, what the config looks like.
fn era(version: &str, config: &Value) -> u32 {
    let major = version.split('.').next().and_then(|major| major.parse().ok());
    // `model.to_json()` of Keras 3 names no version, and has this beside the config.
    major.unwrap_or_else(|| if config.get("build_config").is_some() { 3 } else { 2 })
}

/// Inputs that are sparse or ragged tensors: a contract has dense ones.
fn composite(model: &Model) -> Vec<String> {
    let inputs = model.layers.iter().filter(|layer| layer.class == "InputLayer");
    let kinds = inputs.flat_map(|layer| ["sparse", "ragged"].map(|kind| (layer, kind)));
    let composite = kinds.filter(|(layer, kind)| layer.config[*kind] == true);
    let sentence = |(layer, kind): (&Layer, &str)| {
        let place = format!("{SIGNATURE}.inputs.{}", shown(layer.name));
        format!("{place} is a {kind} tensor; the contract has the dtype and shape of the dense one that it stands for")
    };
    composite.map(sentence).collect()
}

/// Named tensors as fields; what is not known of them is told.
fn fields(side: &str, named: Vec<Named>, warnings: &mut Vec<String>) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    let mut calls: BTreeMap<Rc<str>, usize> = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (layer, tensor) in named {
        // A layer may give several outputs: Keras 2 numbers their names, and where Keras 3 repeats them so do we.
        let mut name = layer.to_string();
        while !taken.insert(name.clone()) {
            let count = calls.entry(layer.clone()).or_insert(0);
            *count += 1;
            name = format!("{layer}_{count}");
        }
        let place = format!("{SIGNATURE}.{side}.{}", shown(&name));
        let through = |layer: &Rc<str>| format!("what the layer {layer} gives is not in the model's config");
        let warning = match (&tensor.dims, &tensor.dtype) {
            (Ok(_), Ok(_)) => None,
            (Err(_), _) if side == "inputs" => Some(format!("{place} has any shape: the model was saved before it was built for one")),
            (Err(layer), Ok(_)) => Some(format!("{place} has any shape and the dtype in which its layer computes: {}", through(layer))),
            (Err(layer), Err(_)) => Some(format!("{place} has any shape and Keras' default dtype, float32: {}", through(layer))),
            (Ok(_), Err(layer)) => Some(format!("{place} has Keras' default dtype, float32: {}", through(layer))),
        };
        warnings.extend(warning);
        // A contract has no field without a dtype, and Keras computes in this one unless it is told another.
        let dtype = tensor.dtype.clone().unwrap_or(DataType::Float);
        fields.push(Field::new(&name, dtype, tensor.shape()));
    }
    fields
}
