//! TensorFlow's `saved_model.pb` → Contract.
//!
//! A SavedModel holds meta graphs, each with tags, a graph and named signatures; only tags, version and signatures are read, the
//! graph is stepped over. Numbers of fields are those of TensorFlow's `saved_model.proto` and `meta_graph.proto`. The text form,
//! `saved_model.pbtxt`, is not read here.
//!
//! What must stay true: names, dtypes and shapes are what TensorFlow's own reader reports, dimension names included. Signatures and
//! fields are sorted by name, since TensorFlow writes its maps in no order. A sparse input is one field with the dtype and shape of
//! the tensor that it stands for; a composite one (ragged) has its parts as subfields, named by position, as TensorFlow does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};

use super::contract::{Contract, ContractError, Dimension, FIELD_DEPTH_MAX, Field, FieldKind, Shape, Signature, shown};
use super::dtype::{DataType, Profile};
use super::reading::Reading;
use super::walker::{Span, WalkError, Walker};
use crate::fault::{Failure, Fault};

/// Signatures that TensorFlow saves for its own loader: operations to run, with nothing in and nothing out.
const OPERATIONS: [&str; 2] = ["__saved_model_init_op", "__saved_model_train_op"];

/// Why no contract can be read from a SavedModel.
#[derive(Debug, thiserror::Error)]
pub enum SavedModelError {
    /// Cut, damaged, or another kind of file.
    #[error("saved_model.pb is not a readable SavedModel")]
    Unreadable(#[from] WalkError),
    /// Nothing in it, or another kind of file.
    #[error("saved_model.pb holds no meta graph")]
    NoMetaGraph,
    /// Nothing that could be asked of the model.
    #[error("saved_model.pb holds no signature (its meta graphs are tagged {tag_sets})")]
    NoSignature {
        /// The tags of each meta graph.
        tag_sets: String,
    },
    /// No way to choose.
    #[error("saved_model.pb holds different signatures `{signature}` in meta graphs tagged {tag_sets}, and none tagged `serve` alone")]
    Ambiguous {
        /// The signature.
        signature: String,
        /// The tags of each meta graph.
        tag_sets: String,
    },
    /// An element type that no contract has.
    #[error("saved_model.pb: the field {place} has the dtype {dtype}, which a contract cannot hold")]
    Dtype {
        /// Where.
        place: String,
        /// Its name and number.
        dtype: String,
    },
    /// Composite of nothing.
    #[error("saved_model.pb: the composite field {place} has no parts")]
    NoParts {
        /// Where.
        place: String,
    },
    /// Read, but not what a model can be built with.
    #[error("the contract in saved_model.pb is not valid")]
    Invalid(#[from] ContractError),
}

impl Failure for SavedModelError {
    fn fault(&self) -> Fault {
        match self {
            SavedModelError::Unreadable(WalkError::Io { .. }) => Fault::Ours,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        let remedy = match self {
            SavedModelError::Unreadable(WalkError::Io { .. }) => return None,
            SavedModelError::Unreadable(_) | SavedModelError::NoMetaGraph => "save the model again, or copy it again in full",
            SavedModelError::NoSignature { .. } => "save it with `signatures=…`, or add a contract.prototxt",
            SavedModelError::Ambiguous { .. } => "save the one to be served with the tag `serve`, or add a contract.prototxt",
            _ => "add a contract.prototxt",
        };
        Some(remedy.to_owned())
    }
}

/// The contract in the `saved_model.pb` that `source` holds in its first `size_bytes`.
pub fn read<R: Read + Seek>(source: R, size_bytes: u64) -> Result<Reading, SavedModelError> {
    let mut walker = Walker::new(source, size_bytes)?;
    let mut meta_graphs = Vec::new();
    let mut saved_model = walker.whole();
    while let Some(found) = walker.next(&mut saved_model)? {
        if found.number == 2 {
            meta_graphs.push(read_meta_graph(&mut walker, found.bytes()?)?);
        }
    }
    let first = meta_graphs.first().ok_or(SavedModelError::NoMetaGraph)?;
    let mut warnings = Vec::new();
    let model_type = format!("tensorflow:{}", version(&first.tensorflow_version, &mut warnings));
    let mut contract = Contract::default();
    for (name, infos) in choose(&meta_graphs)? {
        let place = shown(name);
        let inputs = fields(&infos.inputs, &format!("{place}.inputs"), &mut warnings)?;
        let outputs = fields(&infos.outputs, &format!("{place}.outputs"), &mut warnings)?;
        contract.signatures.push(Signature { name: name.clone(), inputs, outputs });
    }
    if contract.signatures.is_empty() {
        return Err(SavedModelError::NoSignature { tag_sets: tag_sets(&meta_graphs) });
    }
    contract.validate()?;
    Ok(Reading { contract, model_type, warnings })
}

/// MetaGraphDef, as far as we read it.
#[derive(Default)]
struct MetaGraph {
    tags: BTreeSet<String>,
    tensorflow_version: String,
    signatures: BTreeMap<String, SignatureInfo>,
}

/// SignatureDef: its fields by name.
#[derive(Clone, Default, PartialEq)]
struct SignatureInfo {
    inputs: BTreeMap<String, TensorInfo>,
    outputs: BTreeMap<String, TensorInfo>,
}

/// TensorInfo.
#[derive(Clone, Default, PartialEq)]
struct TensorInfo {
    dtype: i32,
    shape: Shape,
    encoding: Encoding,
}

#[derive(Clone, Default, PartialEq)]
enum Encoding {
    #[default]
    Dense,
    Sparse,
    /// The class of its type, and its parts.
    Composite(String, Vec<TensorInfo>),
}

fn read_meta_graph<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<MetaGraph, WalkError> {
    let mut graph = MetaGraph::default();
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => {
                let mut meta_info = found.bytes()?;
                while let Some(found) = walker.next(&mut meta_info)? {
                    match found.number {
                        4 => drop(graph.tags.insert(walker.text(found.bytes()?)?)),
                        5 => graph.tensorflow_version = walker.text(found.bytes()?)?,
                        _ => {}
                    }
                }
            }
            5 => {
                let (name, signature) = read_entry(walker, found.bytes()?, read_signature)?;
                graph.signatures.insert(name, signature);
            }
            _ => {}
        }
    }
    Ok(graph)
}

/// An entry of a map: its key, and its value as `read` reads it; a key that comes twice has the last one's value.
fn read_entry<R: Read + Seek, T: Default>(
    walker: &mut Walker<R>,
    mut entry: Span,
    read: impl Fn(&mut Walker<R>, Span) -> Result<T, WalkError>,
) -> Result<(String, T), WalkError> {
    let (mut key, mut value) = (String::new(), T::default());
    while let Some(found) = walker.next(&mut entry)? {
        match found.number {
            1 => key = walker.text(found.bytes()?)?,
            2 => value = read(walker, found.bytes()?)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn read_signature<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<SignatureInfo, WalkError> {
    let mut signature = SignatureInfo::default();
    while let Some(found) = walker.next(&mut span)? {
        let map = match found.number {
            1 => &mut signature.inputs,
            2 => &mut signature.outputs,
            // The method's name, and values for inputs that a caller leaves out: a contract has neither.
            _ => continue,
        };
        let (name, info) = read_entry(walker, found.bytes()?, |walker, span| read_info(walker, span, 1))?;
        map.insert(name, info);
    }
    Ok(signature)
}

fn read_info<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, depth: usize) -> Result<TensorInfo, WalkError> {
    let mut info = TensorInfo::default();
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => info.encoding = Encoding::Dense,
            // An enum's number is an int32, in protobuf's eyes: the low half.
            2 => info.dtype = found.number()? as i32,
            3 => info.shape = read_shape(walker, found.bytes()?)?,
            4 => info.encoding = Encoding::Sparse,
            5 if depth >= FIELD_DEPTH_MAX => {
                return Err(WalkError::Malformed { offset: found.offset, problem: "composite tensors are nested too deep" });
            }
            5 => info.encoding = read_composite(walker, found.bytes()?, depth + 1)?,
            _ => {}
        }
    }
    Ok(info)
}

fn read_composite<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, depth: usize) -> Result<Encoding, WalkError> {
    let (mut class, mut parts) = (String::new(), Vec::new());
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => {
                let mut type_spec = found.bytes()?;
                while let Some(found) = walker.next(&mut type_spec)? {
                    if found.number == 3 {
                        class = walker.text(found.bytes()?)?;
                    }
                }
            }
            2 => parts.push(read_info(walker, found.bytes()?, depth)?),
            _ => {}
        }
    }
    Ok(Encoding::Composite(class, parts))
}

fn read_shape<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<Shape, WalkError> {
    let (mut dimensions, mut unknown_rank) = (Vec::new(), false);
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            2 => {
                let mut dimension = Dimension::default();
                let mut span = found.bytes()?;
                while let Some(found) = walker.next(&mut span)? {
                    match found.number {
                        1 => dimension.size = found.number()? as i64,
                        2 => dimension.name = walker.text(found.bytes()?)?,
                        _ => {}
                    }
                }
                dimensions.push(dimension);
            }
            3 => unknown_rank = found.number()? != 0,
            _ => {}
        }
    }
    Ok(if unknown_rank { Shape::UnknownRank } else { Shape::Dimensions(dimensions) })
}

/// The signatures of the meta graphs that are served.
///
/// The one tagged `serve` and nothing else, as TensorFlow's own loader and Serving choose; else those with `serve` among their tags;
/// else all. Of several, all signatures, when no name stands for two different things.
fn choose(meta_graphs: &[MetaGraph]) -> Result<BTreeMap<&String, &SignatureInfo>, SavedModelError> {
    let alone = |graph: &&MetaGraph| graph.tags.len() == 1 && graph.tags.contains("serve");
    let among = |graph: &&MetaGraph| graph.tags.contains("serve");
    let mut chosen: Vec<&MetaGraph> = meta_graphs.iter().filter(alone).collect();
    if chosen.is_empty() {
        chosen = meta_graphs.iter().filter(among).collect();
    }
    if chosen.is_empty() {
        chosen = meta_graphs.iter().collect();
    }
    let mut signatures: BTreeMap<&String, &SignatureInfo> = BTreeMap::new();
    for (name, signature) in chosen.into_iter().flat_map(|graph| &graph.signatures) {
        if OPERATIONS.contains(&name.as_str()) {
            continue;
        }
        if signatures.insert(name, signature).is_some_and(|other| other != signature) {
            return Err(SavedModelError::Ambiguous { signature: shown(name), tag_sets: tag_sets(meta_graphs) });
        }
    }
    Ok(signatures)
}

fn tag_sets(meta_graphs: &[MetaGraph]) -> String {
    const SHOWN_SETS_MAX: usize = 10;
    let set = |graph: &MetaGraph| format!("{{{}}}", shown(&graph.tags.iter().cloned().collect::<Vec<_>>().join(", ")));
    meta_graphs.iter().take(SHOWN_SETS_MAX).map(set).collect::<Vec<_>>().join(", ")
}

/// The version as a model type can carry it.
fn version<'a>(version: &'a str, warnings: &mut Vec<String>) -> &'a str {
    const VERSION_BYTES_MAX: usize = 64;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    match version.trim() {
        "" => "unknown",
        version if version.len() <= VERSION_BYTES_MAX && version.chars().all(plain) => version,
        version => {
            warnings.push(format!("saved_model.pb names a TensorFlow version that is none: `{}`", shown(version)));
            "unknown"
        }
    }
}

fn fields(infos: &BTreeMap<String, TensorInfo>, above: &str, warnings: &mut Vec<String>) -> Result<Vec<Field>, SavedModelError> {
    infos.iter().map(|(name, info)| field(name, info, &format!("{above}.{}", shown(name)), warnings)).collect()
}

fn field(name: &str, info: &TensorInfo, place: &str, warnings: &mut Vec<String>) -> Result<Field, SavedModelError> {
    let kind = match &info.encoding {
        Encoding::Dense => FieldKind::Dtype(dtype(info.dtype, place)?),
        Encoding::Sparse => {
            warnings.push(format!("{place} is a sparse tensor; the contract has the dtype and shape of the dense one that it stands for"));
            FieldKind::Dtype(dtype(info.dtype, place)?)
        }
        Encoding::Composite(_, parts) if parts.is_empty() => return Err(SavedModelError::NoParts { place: place.to_owned() }),
        Encoding::Composite(class, parts) => {
            let class = if class.is_empty() { "CompositeTensor" } else { class };
            warnings
                .push(format!("{place} is a composite tensor ({}); the contract has its parts as subfields, by position", shown(class)));
            let part = |(index, part): (usize, &TensorInfo)| field(&index.to_string(), part, &format!("{place}.{index}"), warnings);
            FieldKind::Subfields(parts.iter().enumerate().map(part).collect::<Result<_, _>>()?)
        }
    };
    Ok(Field { name: name.to_owned(), kind, shape: info.shape.clone(), profile: Profile::None })
}

/// TensorFlow's number as our type. Above 100 are references to variables: a value that is read has the type below it.
fn dtype(number: i32, place: &str) -> Result<DataType, SavedModelError> {
    let base = if number > 100 { number - 100 } else { number };
    // From 24 on TensorFlow's numbers are types of after 2018, and ours are other things.
    let known = DataType::from_number(base).filter(|dtype| (1..=DataType::Uint64.number()).contains(&dtype.number()));
    known.ok_or_else(|| {
        let names = [
            "FLOAT8_E5M2",
            "FLOAT8_E4M3FN",
            "FLOAT8_E4M3FNUZ",
            "FLOAT8_E4M3B11FNUZ",
            "FLOAT8_E5M2FNUZ",
            "INT4",
            "UINT4",
            "INT2",
            "UINT2",
            "FLOAT4_E2M1FN",
        ];
        let name = base.checked_sub(24).and_then(|index| names.get(usize::try_from(index).ok()?));
        let dtype = match name {
            Some(name) => format!("DT_{name} ({number})"),
            None if number == 0 => "DT_INVALID (0)".to_owned(),
            None => number.to_string(),
        };
        SavedModelError::Dtype { place: place.to_owned(), dtype }
    })
}
