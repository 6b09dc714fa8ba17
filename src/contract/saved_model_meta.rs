//! What a SavedModel says, and what of it is the contract: the part that its two forms, binary and text, share.
//!
//! A SavedModel holds meta graphs, each with tags, a graph and named signatures. Here are the values that the readers
//! (`saved_model.rs`, `saved_model_text.rs`) fill in, the choice among meta graphs, and the way from TensorFlow's words to ours. No
//! bytes are read here.
//!
//! What must stay true: names, dtypes and shapes are what TensorFlow's own reader reports, dimension names included. Signatures and
//! fields are sorted by name, since TensorFlow writes its maps in no order. A sparse input is one field with the dtype and shape of
//! the tensor that it stands for; a composite one (ragged) has its parts as subfields, named by position, as TensorFlow does.

use std::collections::{BTreeMap, BTreeSet};

use super::contract::{Contract, ContractError, Field, FieldKind, Shape, Signature, shown};
use super::dtype::{DataType, Profile};
use super::file_kind::FileKind;
use super::reading::{self, Reading};
use super::text_tokens::TextWalkError;
use super::walker::WalkError;
use crate::fault::{Failure, Fault};

/// Signatures that TensorFlow saves for its own loader: operations to run, with nothing in and nothing out.
const OPERATIONS: [&str; 2] = ["__saved_model_init_op", "__saved_model_train_op"];

/// The types that TensorFlow has had since 2018; its numbers for them are other things in our enum.
const LATER: [&str; 10] = [
    "DT_FLOAT8_E5M2",
    "DT_FLOAT8_E4M3FN",
    "DT_FLOAT8_E4M3FNUZ",
    "DT_FLOAT8_E4M3B11FNUZ",
    "DT_FLOAT8_E5M2FNUZ",
    "DT_INT4",
    "DT_UINT4",
    "DT_INT2",
    "DT_UINT2",
    "DT_FLOAT4_E2M1FN",
];

/// The number of the first of them.
const LATER_FIRST: i32 = 24;

/// What is added to a type's number for a reference to a variable of it.
const REFERENCES: i32 = 100;

/// Why no contract can be read from a SavedModel.
#[derive(Debug, thiserror::Error)]
pub enum SavedModelError {
    /// Not what its name says.
    #[error("the file is {kind}, not a SavedModel")]
    OtherFile {
        /// What it is.
        kind: FileKind,
    },
    /// Cut, damaged, or a kind of file that nobody knows.
    #[error("the file is not a readable SavedModel")]
    Unreadable(#[from] WalkError),
    /// The same of the text form.
    #[error("the file is not the text of a SavedModel")]
    Text(#[from] TextWalkError),
    /// Nothing in it, or another kind of file.
    #[error("the SavedModel holds no meta graph")]
    NoMetaGraph,
    /// Asked for, and not there.
    #[error("the SavedModel holds no meta graph tagged {tags}; it holds those tagged {tag_sets}")]
    NoSuchTags {
        /// What was asked for.
        tags: String,
        /// The tags of each meta graph.
        tag_sets: String,
    },
    /// Nothing that could be asked of the model.
    #[error("the SavedModel holds no signature in its meta graphs tagged {tag_sets}")]
    NoSignature {
        /// The tags of the meta graphs that were chosen.
        tag_sets: String,
    },
    /// No way to choose.
    #[error("the SavedModel holds different signatures `{signature}` in meta graphs tagged {tag_sets}, and none tagged `serve` alone")]
    Ambiguous {
        /// The signature.
        signature: String,
        /// The tags of the meta graphs that came into question.
        tag_sets: String,
    },
    /// An element type that no contract has.
    #[error("the SavedModel's field {place} has the dtype {dtype}, which a contract cannot hold")]
    Dtype {
        /// Where.
        place: String,
        /// Its name and number.
        dtype: String,
    },
    /// Composite of nothing.
    #[error("the SavedModel's composite field {place} has no parts")]
    NoParts {
        /// Where.
        place: String,
    },
    /// Read, but not what a model can be built with.
    #[error("the SavedModel's contract is not valid")]
    Invalid(#[from] ContractError),
}

impl Failure for SavedModelError {
    fn fault(&self) -> Fault {
        match self {
            SavedModelError::Unreadable(WalkError::Io { .. }) | SavedModelError::Text(TextWalkError::Io { .. }) => Fault::Ours,
            SavedModelError::NoSuchTags { .. } => Fault::Usage,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        let again = "save the model again, or copy it again in full";
        let remedy = match self {
            SavedModelError::OtherFile { kind } => kind.remedy().unwrap_or(again),
            SavedModelError::Unreadable(WalkError::Io { .. }) | SavedModelError::Text(TextWalkError::Io { .. }) => return None,
            SavedModelError::Unreadable(WalkError::TooManyFields { .. } | WalkError::TooMuchText { .. }) => "add a contract.prototxt",
            SavedModelError::Unreadable(_) | SavedModelError::NoMetaGraph => again,
            SavedModelError::Text(_) => "save the model again, or correct the text at that place",
            SavedModelError::NoSuchTags { .. } => {
                "give all tags of one of them and no other, as `--tag serve --tag gpu` or `--tag serve,gpu`"
            }
            SavedModelError::NoSignature { .. } => "save it with `signatures=…`, or add a contract.prototxt",
            SavedModelError::Ambiguous { .. } => "say which meta graph with `--tag`, or save the one to be served with the tag `serve`",
            _ => "add a contract.prototxt",
        };
        Some(remedy.to_owned())
    }
}

impl SavedModelError {
    /// Whether what the file is instead would say more than this does.
    pub(super) fn is_of_the_form(&self) -> bool {
        matches!(self, SavedModelError::Unreadable(_) | SavedModelError::Text(_) | SavedModelError::NoMetaGraph)
    }
}

/// The tags of the meta graph that a user asks for; with none the rules choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(BTreeSet<String>);

impl Tags {
    /// Whether none is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tags in these words, which may hold several with commas between, as TensorFlow's `saved_model_cli --tag_set` takes them.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Tags {
        let tags = words.into_iter().flat_map(|word| word.split(',')).map(str::trim).filter(|tag| !tag.is_empty());
        Tags(tags.map(str::to_owned).collect())
    }
}

/// What the readers found, as a contract.
pub(super) fn reading(meta_graphs: &[MetaGraph], tags: &Tags) -> Result<Reading, SavedModelError> {
    if meta_graphs.is_empty() {
        return Err(SavedModelError::NoMetaGraph);
    }
    let chosen = choose(meta_graphs, tags)?;
    let mut warnings = Vec::new();
    if meta_graphs.len() > 1 {
        warnings.push(match &chosen[..] {
            [one] => format!("of the meta graphs tagged {}, the one tagged {} was read", tag_sets(meta_graphs), tag_set(&one.tags)),
            several => format!("the signatures of the meta graphs tagged {} are read together", tag_sets(several.iter().copied())),
        });
    }
    let version_of = chosen.first().map_or("", |graph| &graph.tensorflow_version);
    let model_type = format!("tensorflow:{}", version(version_of, &mut warnings));
    let mut contract = Contract::default();
    for (name, infos) in signatures(&chosen)? {
        let place = shown(name);
        let inputs = fields(&infos.inputs, &format!("{place}.inputs"), &mut warnings)?;
        let outputs = fields(&infos.outputs, &format!("{place}.outputs"), &mut warnings)?;
        contract.signatures.push(Signature { name: name.clone(), inputs, outputs });
    }
    if contract.signatures.is_empty() {
        return Err(SavedModelError::NoSignature { tag_sets: tag_sets(chosen) });
    }
    contract.validate()?;
    Ok(Reading { contract, model_type, warnings })
}

/// MetaGraphDef, as far as we read it.
#[derive(Default)]
pub(super) struct MetaGraph {
    pub(super) tags: BTreeSet<String>,
    pub(super) tensorflow_version: String,
    pub(super) signatures: BTreeMap<String, SignatureInfo>,
}

/// SignatureDef: its fields by name.
#[derive(Clone, Default, PartialEq)]
pub(super) struct SignatureInfo {
    pub(super) inputs: BTreeMap<String, TensorInfo>,
    pub(super) outputs: BTreeMap<String, TensorInfo>,
}

/// TensorInfo.
#[derive(Clone, Default, PartialEq)]
pub(super) struct TensorInfo {
    pub(super) dtype: i32,
    pub(super) shape: Shape,
    pub(super) encoding: Encoding,
}

#[derive(Clone, Default, PartialEq)]
pub(super) enum Encoding {
    #[default]
    Dense,
    Sparse,
    /// The class of its type, and its parts.
    Composite(String, Vec<TensorInfo>),
}

/// The meta graphs whose signatures are the contract.
///
/// The one whose tags are those that are asked for. Else the one tagged `serve` and nothing else, as TensorFlow Serving chooses; else
/// those with `serve` among their tags; else all. Of two with the same tags TensorFlow's loaders take the first, and so do we.
fn choose<'a>(meta_graphs: &'a [MetaGraph], tags: &Tags) -> Result<Vec<&'a MetaGraph>, SavedModelError> {
    let tagged = |tags: &BTreeSet<String>| meta_graphs.iter().find(|graph| graph.tags == *tags);
    if !tags.0.is_empty() {
        let none = || SavedModelError::NoSuchTags { tags: tag_set(&tags.0), tag_sets: tag_sets(meta_graphs) };
        return Ok(vec![tagged(&tags.0).ok_or_else(none)?]);
    }
    if let Some(served) = tagged(&BTreeSet::from(["serve".to_owned()])) {
        return Ok(vec![served]);
    }
    let among: Vec<&MetaGraph> = meta_graphs.iter().filter(|graph| graph.tags.contains("serve")).collect();
    Ok(if among.is_empty() { meta_graphs.iter().collect() } else { among })
}

/// The signatures of these meta graphs together, when no name stands for two different things.
fn signatures<'a>(chosen: &[&'a MetaGraph]) -> Result<BTreeMap<&'a String, &'a SignatureInfo>, SavedModelError> {
    let mut signatures: BTreeMap<&String, &SignatureInfo> = BTreeMap::new();
    for (name, signature) in chosen.iter().flat_map(|graph| &graph.signatures) {
        if OPERATIONS.contains(&name.as_str()) {
            continue;
        }
        if signatures.insert(name, signature).is_some_and(|other| other != signature) {
            return Err(SavedModelError::Ambiguous { signature: shown(name), tag_sets: tag_sets(chosen.iter().copied()) });
        }
    }
    Ok(signatures)
}

/// The tags of each meta graph, for a sentence: `{train}, {gpu, serve}`.
fn tag_sets<'a>(meta_graphs: impl IntoIterator<Item = &'a MetaGraph>) -> String {
    const SHOWN_SETS_MAX: usize = 10;
    let mut sets: Vec<String> = meta_graphs.into_iter().map(|graph| tag_set(&graph.tags)).take(SHOWN_SETS_MAX + 1).collect();
    if sets.len() > SHOWN_SETS_MAX {
        sets.truncate(SHOWN_SETS_MAX);
        sets.push("…".to_owned());
    }
    sets.join(", ")
}

fn tag_set(tags: &BTreeSet<String>) -> String {
    format!("{{{}}}", shown(&tags.iter().cloned().collect::<Vec<_>>().join(", ")))
}

/// The version as a model type can carry it.
fn version<'a>(named: &'a str, warnings: &mut Vec<String>) -> &'a str {
    let version = reading::version(named);
    if version.is_none() && !named.trim().is_empty() {
        warnings.push(format!("the SavedModel names a TensorFlow version that is none: `{}`", shown(named.trim())));
    }
    version.unwrap_or("unknown")
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

/// TensorFlow's number as our type. A value that is read from a reference has the type that it refers to.
fn dtype(number: i32, place: &str) -> Result<DataType, SavedModelError> {
    let base = if number > REFERENCES { number - REFERENCES } else { number };
    let known = DataType::from_number(base).filter(|dtype| (1..LATER_FIRST).contains(&dtype.number()));
    known.ok_or_else(|| {
        let name = base.checked_sub(LATER_FIRST).and_then(|index| LATER.get(usize::try_from(index).ok()?));
        let dtype = match name {
            Some(name) => format!("{name} ({number})"),
            None if number == 0 => "DT_INVALID (0)".to_owned(),
            None => number.to_string(),
        };
        SavedModelError::Dtype { place: place.to_owned(), dtype }
    })
}

/// The number of one of TensorFlow's types, as its text form names it.
pub(super) fn dtype_number(name: &str) -> Option<i32> {
    let (base, above) = name.strip_suffix("_REF").map_or((name, 0), |base| (base, REFERENCES));
    let shared = DataType::ALL.into_iter().filter(|dtype| dtype.number() < LATER_FIRST).map(|dtype| (dtype.name(), dtype.number()));
    let later = (LATER_FIRST..).zip(LATER).map(|(number, name)| (name, number));
    shared.chain(later).find(|(known, _)| *known == base).map(|(_, number)| number + above)
}
