//! What the files of a model say about its fit: each file looked at once, by itself, whatever runtime there will be.
//!
//! Which check looks at a file follows from its name, its size and its first bytes; the checks are files of their own. What is found goes into
//! [`FileFacts`], which can be remembered for a file that does not change (`disk/fit_cache.rs`): findings that are true on any runtime, and needs that
//! `fit_judge.rs` holds against one.
//!
//! What must stay true: how much is read of a file does not grow with its weights. A file that cannot be read has no facts: the build itself says so.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use super::fit::{Check, Finding, Place, Severity};
use super::fit_secrets::TEXT_BYTES_MAX;
use super::framework::{Open, ReadSeek};
use super::python_imports::{self, Import};
use super::python_source::{self, PYTHON_BYTES_MAX, Parsed, SourceError};
use super::python_standard::Version;
use super::tree::Tree;
use super::{fit_pickle, fit_secrets};
use crate::contract::keras_code;
use crate::contract::onnx_operators::{self, Operators};
use crate::contract::saved_model_operations::{self, Operations};
use crate::contract::saved_model_operations_text;
use crate::contract::saved_model_text;
use crate::oci::layer::{Content, EntryKind};
use crate::oci::path::TreePath;

/// The most files that are opened, and the most bytes of text that are read; what is past them is not looked at, and that is said.
pub const FILES_MAX: usize = 200_000;
/// See [`FILES_MAX`].
pub const TEXTS_BYTES_MAX: u64 = 64 << 20;

/// Files that hold neither code nor words, by their names.
const OPAQUE: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "bmp", "tif", "tiff", "webp", "ico", "wav", "mp3", "flac", "ogg", "mp4", "avi", "mov", "ttf", "otf",
    "woff", "woff2", "so", "a", "o", "parquet", "avro", "orc", "feather", "arrow",
];

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileFacts {
    /// What is true on any runtime.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// A SavedModel's operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Operations>,
    /// An ONNX model's operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Operators>,
    /// Python code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonFacts>,
}

/// What a Python file needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonFacts {
    /// What it imports.
    pub imports: Vec<Import>,
    /// What is newer than the Python that it was looked at for: line and words.
    pub lacks: Vec<(u64, String)>,
    /// Why no Python 3 takes it: line and words.
    pub refused: Option<(u64, String)>,
}

/// What all files of a model say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// By path; files that say nothing are not here.
    pub files: BTreeMap<String, FileFacts>,
    /// How many files were not looked at, since there are so many.
    pub unseen: usize,
}

/// A file that is looked at.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// Its path.
    pub path: &'a TreePath,
    /// Its size.
    pub size_bytes: u64,
    /// Where its bytes are.
    pub content: &'a Content,
    /// Whether it is read whole, should it be a text; else only its beginning is, as far as that is a model's.
    pub is_text: bool,
}

/// The files of a tree that are looked at, sorted by path, and how many are not, or not whole, since there are so many.
pub fn looks(tree: &Tree) -> (Vec<Look<'_>>, usize) {
    let (mut looks, mut unseen, mut texts_bytes) = (Vec::new(), 0, 0_u64);
    for (path, node) in tree.nodes() {
        let EntryKind::File { size_bytes, content, .. } = node else { continue };
        if *size_bytes == 0 {
            continue;
        }
        let may_be_text = *size_bytes <= TEXT_BYTES_MAX && !OPAQUE.contains(&extension(path).as_str());
        texts_bytes += if may_be_text { *size_bytes } else { 0 };
        let is_text = may_be_text && (texts_bytes <= TEXTS_BYTES_MAX || is_model(path));
        let is_seen = looks.len() < FILES_MAX || is_model(path);
        unseen += usize::from(!is_seen || may_be_text && !is_text);
        if is_seen {
            looks.push(Look { path, size_bytes: *size_bytes, content, is_text });
        }
    }
    (looks, unseen)
}

/// Looks at everything in a tree; `python` is the version that will run its code, where that is known.
pub fn scan(tree: &Tree, python: Option<Version>, open: Open<'_>) -> Facts {
    let (looks, unseen) = looks(tree);
    let files = looks.iter().map(|seen| (seen.path.to_string(), look(seen, python, open)));
    Facts { files: files.filter(|(_, facts)| *facts != FileFacts::default()).collect(), unseen }
}

fn extension(path: &TreePath) -> String {
    path.file_name().rsplit_once('.').map_or_else(String::new, |(_, extension)| extension.to_ascii_lowercase())
}

/// Files that are the model itself: they are looked at however many others there are.
fn is_model(path: &TreePath) -> bool {
    matches!(extension(path).as_str(), "onnx" | "h5" | "hdf5" | "keras" | "pkl" | "pt" | "pth" | "joblib")
        || ["saved_model.pb", saved_model_text::FILE, "src/func_main.py"].contains(&path.as_str())
}

/// Looks at one file.
pub fn look(look: &Look<'_>, python: Option<Version>, open: Open<'_>) -> FileFacts {
    let Ok(mut reader) = open(look.content) else { return FileFacts::default() };
    let (path, size_bytes) = (look.path.as_str(), look.size_bytes);
    if let Some(findings) = fit_pickle::check(path, &mut reader, size_bytes) {
        return FileFacts { findings, ..FileFacts::default() };
    }
    if reader.seek(SeekFrom::Start(0)).is_err() {
        return FileFacts::default();
    }
    let extension = extension(look.path);
    match extension.as_str() {
        _ if look.path.file_name() == "saved_model.pb" => {
            return FileFacts { operations: saved_model_operations::read(reader, size_bytes).ok(), ..FileFacts::default() };
        }
        _ if look.path.file_name() == saved_model_text::FILE => {
            return FileFacts { operations: saved_model_operations_text::read(reader, size_bytes).ok(), ..FileFacts::default() };
        }
        "onnx" => return FileFacts { operators: onnx_operators::read(reader, size_bytes).ok(), ..FileFacts::default() },
        "h5" | "hdf5" | "keras" => return FileFacts { findings: lambdas(path, reader, size_bytes), ..FileFacts::default() },
        _ => {}
    }
    if !look.is_text {
        return FileFacts::default();
    }
    text_facts(path, &extension, &text(reader), python)
}

/// What a text says: none where the file is none.
fn text_facts(path: &str, extension: &str, bytes: &[u8], python: Option<Version>) -> FileFacts {
    let mut facts = FileFacts { findings: fit_secrets::check(path, bytes), ..FileFacts::default() };
    if extension == "py" && bytes.len() <= PYTHON_BYTES_MAX {
        facts.python = python_facts(path, bytes, python);
    }
    facts
}

/// The bytes of a file, up to the bound; nothing where its beginning is no text.
fn text(mut reader: Box<dyn ReadSeek>) -> Vec<u8> {
    const SNIFFED_BYTES: u64 = 8 << 10;
    let mut bytes = Vec::new();
    let sniffed = (&mut reader).take(SNIFFED_BYTES).read_to_end(&mut bytes);
    if sniffed.is_err() || bytes.contains(&0) {
        return Vec::new();
    }
    // What could be read is looked at.
    let _ = reader.take(TEXT_BYTES_MAX - SNIFFED_BYTES).read_to_end(&mut bytes);
    bytes
}

fn lambdas(path: &str, reader: Box<dyn ReadSeek>, size_bytes: u64) -> Vec<Finding> {
    let layers = keras_code::read(reader, size_bytes).map(|code| code.layers).unwrap_or_default();
    let Some(first) = layers.first() else { return Vec::new() };
    let which = match layers.len() {
        1 => format!("the layer `{first}` as Python bytecode"),
        count => format!("{count} layers as Python bytecode, `{first}` the first"),
    };
    vec![Finding {
        check: Check::Lambda,
        file: path.to_owned(),
        place: Place::Whole,
        what: format!("holds {which}, which is run when the model is loaded, and only by the Python version that wrote it"),
        remedy: "put a layer class of your own in the place of `Lambda`, define it in `src/func_main.py`, and save the model again"
            .to_owned(),
        severity: Severity::Warning,
    }]
}

fn python_facts(path: &str, bytes: &[u8], python: Option<Version>) -> Option<PythonFacts> {
    match python_source::with_tree(bytes, path, python, |text, suite| python_imports::look(text, suite)) {
        Ok(Parsed::Seen(looked, lacks)) => Some(PythonFacts {
            imports: looked.imports,
            lacks: lacks.into_iter().map(|lack| (lack.at.line as u64, lack.what)).collect(),
            refused: looked.refused.map(|(line, what)| (line, what.to_owned())),
        }),
        Ok(Parsed::Unread(_)) => None,
        Err(error) => {
            let (at, problem) = match &error {
                SourceError::Syntax { at, problem, .. } => (at, problem.as_str()),
                SourceError::NotUtf8 { at } => (at, "text that is not UTF-8"),
                SourceError::ZeroByte { at } => (at, "a zero byte"),
            };
            Some(PythonFacts { refused: Some((at.line as u64, problem.to_owned())), ..PythonFacts::default() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    pub(crate) fn tree(files: &[(&str, &[u8])]) -> Tree {
        let mut tree = Tree::new();
        for (path, bytes) in files {
            let content = Content::Inline((*bytes).into());
            let kind = EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content };
            tree.insert(TreePath::new(path).unwrap(), kind);
        }
        tree
    }

    pub(crate) fn open(content: &Content) -> std::io::Result<Box<dyn ReadSeek>> {
        match content {
            Content::Inline(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            Content::Local(_) => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    #[test]
    fn each_file_goes_to_its_check() {
        let evil = b"cos\nsystem\n(S'true'\ntR.";
        let marked = b"\x80\x04\x95\x10\0\0\0\0\0\0\0cos\nsystem\n)R.";
        let secret = format!("key = '{}{}'", "glpat-", "aB3dE5gH7jK9mN1pQ2rS");
        let files: Vec<(&str, &[u8])> = vec![
            ("m.pkl", evil),
            ("weights", marked),
            ("notes.txt", evil),
            ("a.png", evil),
            ("src/a.py", b"import sklearn\n"),
            ("conf/x.toml", secret.as_bytes()),
            ("empty", b""),
            ("words.txt", b"cos\ncosine\n"),
        ];
        let facts = scan(&tree(&files), None, &open);
        let found: Vec<(&str, Vec<&str>)> =
            facts.files.iter().map(|(path, facts)| (path.as_str(), facts.findings.iter().map(|f| f.check.word()).collect())).collect();
        let pickle = || vec!["pickle"];
        let expected = [
            ("a.png", pickle()),
            ("conf/x.toml", vec!["secrets"]),
            ("m.pkl", pickle()),
            ("notes.txt", pickle()),
            ("src/a.py", vec![]),
            ("weights", pickle()),
        ];
        assert_eq!(found, expected);
        assert_eq!(facts.files["src/a.py"].python.as_ref().unwrap().imports[0].module, "sklearn");
        assert_eq!(facts.unseen, 0);
    }

    #[test]
    fn what_is_remembered_is_what_was_found() {
        let facts = scan(&tree(&[("m.pkl", b"cos\nsystem\n."), ("src/a.py", b"import a\nreturn\n")]), Some((3, 11)), &open);
        for facts in facts.files.values() {
            let text = serde_json::to_string(facts).unwrap();
            assert_eq!(serde_json::from_str::<FileFacts>(&text).unwrap(), *facts);
        }
        assert_eq!(serde_json::to_string(&FileFacts::default()).unwrap(), "{}");
    }

    #[test]
    fn the_number_of_files_is_bounded_and_the_model_is_not_lost_among_them() {
        let names: Vec<String> = (0..FILES_MAX + 5).map(|n| format!("a/{n:06}")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        files.push(("m.onnx", b"x"));
        let tree = tree(&files);
        let (looks, unseen) = looks(&tree);
        assert_eq!((looks.len(), unseen, looks.last().unwrap().path.as_str()), (FILES_MAX + 1, 5, "m.onnx"));
    }
}
