//! What wrote these files, and the contract that they imply.
//!
//! A framework is told by the files at the top of the model folder; its contract is read from the model's own bytes by the reader in
//! `contract/`. Which file is the model is decided here, and nothing is guessed: two models in one folder are refused with both names, and so are the
//! version folders of a model server. A pickle is never loaded, here or anywhere.

use std::io::{self, Read, Seek};

use super::foreign::{self, Foreign, HEAD_BYTES};
use super::tree::Tree;
use crate::contract::contract::Contract;
use crate::contract::file_kind::{self, FileKind};
use crate::contract::keras;
use crate::contract::keras::KerasError;
use crate::contract::onnx;
use crate::contract::reading::Reading;
use crate::contract::saved_model;
use crate::contract::saved_model_meta::Tags;
use crate::contract::saved_model_text;
use crate::contract::spark;
use crate::contract::spark::SparkError;
use crate::contract::spark_metadata::{self, METADATA_BYTES_MAX, METADATA_FILES_MAX, MetadataFile};
use crate::fault::{Failure, Fault};
use crate::oci::layer::Content;
use crate::oci::path::TreePath;

/// Opens a file's content for reading: memory, a local file, an object of the store.
pub type Open<'a> = &'a dyn Fn(&Content) -> io::Result<Box<dyn ReadSeek>>;

/// What a contract reader needs of a file.
pub trait ReadSeek: Read + Seek + Send + Sync {}
impl<T: Read + Seek + Send + Sync> ReadSeek for T {}

/// A contract that was read out of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Implied {
    /// The contract.
    pub contract: Contract,
    /// `tensorflow:2.16.1`.
    pub model_type: String,
    /// The file that it was read from.
    pub source: String,
    /// What the reader could not know.
    pub warnings: Vec<String>,
}

/// Why no contract can be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameworkError {
    /// The file cannot be opened.
    #[error("opening `{path}`")]
    Open {
        /// Which file.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what its name says, or it says nothing that a contract can hold.
    #[error("reading the contract out of `{path}`")]
    Read {
        /// Which file.
        path: TreePath,
        /// What is wrong with it.
        #[source]
        source: Box<dyn Failure>,
    },
    /// The file is of another kind altogether.
    #[error("`{path}` is no model: the file is {kind}")]
    OtherFile {
        /// Which file.
        path: TreePath,
        /// What it is.
        kind: FileKind,
    },
    /// No way to choose.
    #[error("`{first}` and `{second}` are two models in one folder")]
    Several {
        /// One of them.
        first: TreePath,
        /// Another.
        second: TreePath,
    },
    /// The folder of a model server, with its versions below it.
    #[error("the model lies in the version folder `{folder}`, and the contract is read from the top of the model folder")]
    VersionFolder {
        /// The folder.
        folder: TreePath,
    },
}

impl Failure for FrameworkError {
    fn fault(&self) -> Fault {
        match self {
            FrameworkError::Open { .. } => Fault::Ours,
            FrameworkError::Read { source, .. } => source.fault(),
            FrameworkError::OtherFile { .. } | FrameworkError::Several { .. } | FrameworkError::VersionFolder { .. } => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            FrameworkError::Open { .. } => None,
            FrameworkError::Read { source, .. } => source.remedy(),
            FrameworkError::OtherFile { kind, .. } => kind.remedy().map(str::to_owned),
            FrameworkError::Several { .. } => Some(
                "leave out the one that is not served (`.hsignore`), or add a contract.prototxt that says what goes in and out".to_owned(),
            ),
            FrameworkError::VersionFolder { folder } => {
                Some(format!("run the command in `{folder}`: versions are numbered here; or add a contract.prototxt"))
            }
        }
    }
}

/// What kind of model a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SavedModel,
    SavedModelText,
    Keras,
    Onnx,
    Spark,
}

/// A file that says that its folder is a model.
#[derive(Clone, Debug)]
struct Candidate {
    kind: Kind,
    path: TreePath,
}

/// Reads the contract that the model's own files imply; `None` where they imply none. `tags` choose a SavedModel's meta graph; with none its own
/// rules do.
pub fn implied(tree: &Tree, tags: &Tags, open: Open<'_>) -> Result<Option<Implied>, FrameworkError> {
    let candidates = candidates(tree, None);
    let models: Vec<&Candidate> = match candidates.as_slice() {
        [] => return in_version_folders(tree),
        [only] => vec![only],
        // A file of weights beside the model that they belong to is no second model.
        several => several.iter().filter(|candidate| !is_weights_only(candidate, tree, open)).collect(),
    };
    match models.as_slice() {
        [only] => read(only, tree, tags, open).map(Some),
        [first, second, ..] => Err(FrameworkError::Several { first: first.path.clone(), second: second.path.clone() }),
        [] => read(&candidates[0], tree, tags, open).map(Some),
    }
}

/// The models directly in a folder, by the names of their files; sorted.
fn candidates(tree: &Tree, folder: Option<&TreePath>) -> Vec<Candidate> {
    let files: Vec<&TreePath> = tree.files().map(|(path, _)| path).filter(|path| path.parent().as_ref() == folder).collect();
    let has = |name: &str| files.iter().any(|path| path.file_name() == name);
    let kind = |path: &TreePath| {
        let name = path.file_name();
        match name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
            Some("pb") if name == "saved_model.pb" => Some(Kind::SavedModel),
            // TensorFlow's loader takes the binary where there are both.
            Some("pbtxt") if name == saved_model_text::FILE && !has("saved_model.pb") => Some(Kind::SavedModelText),
            Some("h5" | "hdf5" | "keras") => Some(Kind::Keras),
            Some("onnx") => Some(Kind::Onnx),
            _ => None,
        }
    };
    let mut found: Vec<Candidate> = files.iter().filter_map(|path| Some(Candidate { kind: kind(path)?, path: (*path).clone() })).collect();
    found.extend(spark_root(tree, folder).map(|path| Candidate { kind: Kind::Spark, path }));
    found
}

/// The first metadata file of a saved Spark model, where the folder is one.
fn spark_root(tree: &Tree, folder: Option<&TreePath>) -> Option<TreePath> {
    let below = |path: &TreePath| match folder {
        None => Some(path.to_string()),
        Some(folder) => path.strip(folder).map(str::to_owned),
    };
    let is_root = |path: &&TreePath| below(path).is_some_and(|path| path.starts_with("metadata/") && spark_metadata::wanted(&path));
    tree.files().map(|(path, _)| path).find(is_root).cloned()
}

fn is_weights_only(candidate: &Candidate, tree: &Tree, open: Open<'_>) -> bool {
    candidate.kind == Kind::Keras
        && open_file(&candidate.path, tree, open).is_ok_and(|(reader, size_bytes)| {
            matches!(keras::read_h5(reader, size_bytes), Err(KerasError::WeightsOnly | KerasError::OtherHdf5 { .. }))
        })
}

/// Says where the model is when the folder is a model server's: `1/saved_model.pb`, `2/saved_model.pb`.
fn in_version_folders(tree: &Tree) -> Result<Option<Implied>, FrameworkError> {
    let is_version = |path: &&TreePath| path.parent().is_none() && path.as_str().bytes().all(|byte| byte.is_ascii_digit());
    let folders = tree.nodes().map(|(path, _)| path).filter(is_version);
    let mut found = folders.filter(|folder| !candidates(tree, Some(folder)).is_empty());
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(folder), None) => Err(FrameworkError::VersionFolder { folder: folder.clone() }),
        (Some(first), Some(second)) => Err(FrameworkError::Several { first: first.clone(), second: second.clone() }),
    }
}

fn open_file(path: &TreePath, tree: &Tree, open: Open<'_>) -> Result<(Box<dyn ReadSeek>, u64), FrameworkError> {
    let failed = |source| FrameworkError::Open { path: path.clone(), source };
    let (size_bytes, content) = tree.file(path.as_str()).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    Ok((open(content).map_err(failed)?, size_bytes))
}

fn read(candidate: &Candidate, tree: &Tree, tags: &Tags, open: Open<'_>) -> Result<Implied, FrameworkError> {
    let path = &candidate.path;
    let (mut reader, size_bytes) = open_file(path, tree, open)?;
    let reading: ReaderResult = match candidate.kind {
        Kind::SavedModel => saved_model::read(reader, size_bytes, tags).map_err(Into::into),
        Kind::SavedModelText => saved_model_text::read(reader, size_bytes, tags).map_err(Into::into),
        // The name does not tell: until TensorFlow 2.12 a `.keras` was an HDF5 file, too.
        Kind::Keras if file_kind::tell(&mut reader, size_bytes) == Some(FileKind::Zip) => keras::read_archive(reader).map_err(Into::into),
        Kind::Keras => keras::read_h5(reader, size_bytes).map_err(Into::into),
        Kind::Onnx => onnx::read(&mut reader, size_bytes).map_err(Into::into),
        Kind::Spark => read_spark(tree, open)?,
    };
    let Reading { contract, model_type, warnings } = reading.map_err(|source| match another_kind(candidate, tree, open) {
        Some(kind) => FrameworkError::OtherFile { path: path.clone(), kind },
        None => FrameworkError::Read { path: path.clone(), source },
    })?;
    let mut warnings = warnings;
    if !tags.is_empty() && !matches!(candidate.kind, Kind::SavedModel | Kind::SavedModelText) {
        warnings.push(format!("`--tag` chooses among the meta graphs of a SavedModel, and means nothing for `{path}`"));
    }
    Ok(Implied { contract, model_type, source: path.to_string(), warnings })
}

/// What the file is where it is of another kind altogether, which says more than a reader's own complaint: a pointer of Git LFS, a page, nothing.
fn another_kind(candidate: &Candidate, tree: &Tree, open: Open<'_>) -> Option<FileKind> {
    let (mut reader, size_bytes) = open_file(&candidate.path, tree, open).ok()?;
    let told = file_kind::tell(&mut reader, size_bytes)?;
    let is_its_own = match told {
        FileKind::Text { .. } => matches!(candidate.kind, Kind::SavedModelText | Kind::Spark),
        FileKind::Hdf5 | FileKind::Zip => candidate.kind == Kind::Keras,
        FileKind::Gzip => candidate.kind == Kind::Spark,
        FileKind::Empty | FileKind::LfsPointer { .. } | FileKind::Html | FileKind::Pickle => false,
    };
    (!is_its_own).then_some(told)
}

/// What a reader gives.
type ReaderResult = Result<Reading, Box<dyn Failure>>;

fn read_spark(tree: &Tree, open: Open<'_>) -> Result<ReaderResult, FrameworkError> {
    let wanted: Vec<&TreePath> = tree.files().map(|(path, _)| path).filter(|path| spark_metadata::wanted(path.as_str())).collect();
    let mut read = Vec::new();
    // One more than the reader takes, so that it is the one that says so.
    for path in wanted.into_iter().take(METADATA_FILES_MAX + 1) {
        let (reader, _) = open_file(path, tree, open)?;
        let mut bytes = Vec::new();
        let limit_bytes = METADATA_BYTES_MAX as u64 + 1;
        reader.take(limit_bytes).read_to_end(&mut bytes).map_err(|source| FrameworkError::Open { path: path.clone(), source })?;
        read.push((path, bytes));
    }
    let files: Vec<MetadataFile<'_>> = read.iter().map(|(path, bytes)| MetadataFile { path: path.as_str(), bytes }).collect();
    Ok(spark::read(&files).map_err(|error: SparkError| error.into()))
}

/// How many files are looked at to say what a folder without a contract is.
const LOOKED_AT_MAX: usize = 64;

/// The first file of a framework whose contracts are not read, with what it is; files of the root before those below.
pub fn recognised(tree: &Tree, open: Open<'_>) -> Option<(TreePath, Foreign)> {
    let mut files: Vec<(&TreePath, u64)> = tree.files().collect();
    files.sort_by_key(|(path, _)| path.components().count());
    files.into_iter().take(LOOKED_AT_MAX).find_map(|(path, size_bytes)| {
        let (reader, _) = open_file(path, tree, open).ok()?;
        let mut head = Vec::new();
        reader.take(HEAD_BYTES as u64).read_to_end(&mut head).ok()?;
        Some((path.clone(), foreign::recognise(path.as_str(), &head, size_bytes)?))
    })
}

/// Why there is no contract, as far as the files tell: what comes before the remedy of "no contract was found".
pub fn why_none(tree: &Tree, open: Open<'_>) -> String {
    let below = |path: &TreePath| path.parent().filter(|folder| !candidates(tree, Some(folder)).is_empty());
    if let Some(folder) = tree.files().find_map(|(path, _)| below(path)) {
        return format!("a model lies in `{folder}`: run the command in that folder, or");
    }
    let Some((path, foreign)) = recognised(tree, open) else { return String::new() };
    let sentence = foreign.sentence(path.as_str());
    foreign.framework.way().map_or_else(|| format!("{sentence}:"), |way| format!("{sentence}: {way}, or"))
}
