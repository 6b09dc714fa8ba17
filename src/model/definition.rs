//! `serving.yaml`, of whatever era, as one [`Definition`].
//!
//! The 2018 form has everything below `model:`; later forms have `kind: Model` and the keys at the top. Both say the same few things:
//! a name, a type or a runtime, where the contract is, and which files are the model. Nothing is looked up here: whether the files exist
//! is `intake.rs`. A key that no era knows is a warning (it is nearly always a slip of the pen); a value of another type is an error
//! with its line.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::yaml::{self, YamlError};
use crate::fault::{Failure, Fault};
use crate::oci::path::{PathError, TreePath};

/// The file names under which a definition is found, in the order in which they are looked for.
pub const FILE_NAMES: [&str; 2] = ["serving.yaml", "serving.yml"];

/// What a model's author wrote about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// The model's name.
    pub name: Option<String>,
    /// The type tag: `python:3.6`, `tensorflow:1.8.0`.
    pub model_type: Option<String>,
    /// The runtime image that the later forms ask for.
    pub runtime: Option<String>,
    /// Where the contract is.
    pub contract: Option<TreePath>,
    /// What is shipped; `None`: everything.
    pub payload: Option<Vec<PayloadEntry>>,
    /// For people.
    pub description: Option<String>,
    /// `metadata` of the later forms.
    pub metadata: BTreeMap<String, String>,
    /// What had to be said while reading.
    pub warnings: Vec<String>,
}

/// One entry of `payload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadEntry {
    /// The whole folder (`.`).
    Everything,
    /// A file, or a folder with all below it.
    Path(TreePath),
    /// A pattern with `*`, `?` or `[…]`, as the 0.1.x forms allow.
    Pattern(String),
}

/// Why a definition is not valid.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Not YAML, or a value of another type.
    #[error("reading the model's definition")]
    Yaml(#[source] YamlError),
    /// It has neither form.
    #[error("`{file}` describes no model: it has neither `model:` nor `kind: Model`")]
    NoModel {
        /// Which file.
        file: String,
    },
    /// It is of another kind.
    #[error("`{file}` is of kind `{kind}`, not `Model`")]
    OtherKind {
        /// Which file.
        file: String,
        /// The kind.
        kind: String,
    },
    /// A path in it is not acceptable.
    #[error("`{key}` in `{file}`")]
    Path {
        /// Which file.
        file: String,
        /// Which key.
        key: &'static str,
        /// What is wrong with the path.
        #[source]
        source: PathError,
    },
    /// It asks for something that is not done.
    #[error("`{key}` in `{file}`: {reason}")]
    NotDone {
        /// Which file.
        file: String,
        /// Which key.
        key: &'static str,
        /// What is not done.
        reason: &'static str,
        /// What to do in its place.
        remedy: &'static str,
    },
}

impl Failure for DefinitionError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        match self {
            DefinitionError::NoModel { .. } => {
                Some("begin it with `model:` and, below that, `name`, `type`, `contract`, `payload`".to_owned())
            }
            DefinitionError::NotDone { remedy, .. } => Some((*remedy).to_owned()),
            _ => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Top {
    kind: Option<String>,
    model: Option<Seed>,
    name: Option<String>,
    model_type: Option<String>,
    runtime: Option<String>,
    payload: Option<Vec<String>>,
    contract: Option<Value>,
    description: Option<String>,
    install_command: Option<String>,
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// The 2018 form.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Seed {
    name: Option<String>,
    #[serde(rename = "type")]
    model_type: Option<String>,
    contract: Option<String>,
    payload: Option<Vec<String>>,
    description: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Keys of some era that say nothing about the image: how to deploy or to watch it.
const KNOWN_ELSEWHERE: [&str; 8] =
    ["local_deploy", "application", "version", "training-data", "monitoring", "monitoring-configuration", "profile", "profiles"];

/// Reads a definition; `file` is its name for errors.
pub fn read(file: &str, bytes: &[u8]) -> Result<Definition, DefinitionError> {
    let top: Top = yaml::read(file, bytes).map_err(DefinitionError::Yaml)?;
    match (top.kind.as_deref(), &top.model) {
        (None, Some(_)) => seed_form(file, top),
        (Some("Model"), None) => later_form(file, top),
        (Some("Model") | None, _) => Err(DefinitionError::NoModel { file: file.to_owned() }),
        (Some(kind), _) => Err(DefinitionError::OtherKind { file: file.to_owned(), kind: kind.to_owned() }),
    }
}

fn seed_form(file: &str, top: Top) -> Result<Definition, DefinitionError> {
    let seed = top.model.unwrap_or_default();
    let path_error = |key| move |source| DefinitionError::Path { file: file.to_owned(), key, source };
    let mut warnings = unknown(file, "", &top.rest);
    warnings.extend(unknown(file, "model.", &seed.rest));
    Ok(Definition {
        name: seed.name,
        model_type: seed.model_type,
        runtime: None,
        contract: seed.contract.as_deref().map(TreePath::new).transpose().map_err(path_error("model.contract"))?,
        payload: seed.payload.map(|list| payload(&list)).transpose().map_err(path_error("model.payload"))?,
        description: seed.description,
        metadata: BTreeMap::new(),
        warnings,
    })
}

fn later_form(file: &str, top: Top) -> Result<Definition, DefinitionError> {
    let not_done = |key, reason, remedy| DefinitionError::NotDone { file: file.to_owned(), key, reason, remedy };
    let contract = match top.contract {
        None | Some(Value::Null) => None,
        Some(Value::String(path)) => {
            Some(TreePath::new(&path).map_err(|source| DefinitionError::Path { file: file.to_owned(), key: "contract", source })?)
        }
        Some(_) => {
            return Err(not_done(
                "contract",
                "a contract inside the YAML is not read yet",
                "write it as `contract.prototxt` beside this file and take it out here",
            ));
        }
    };
    if top.install_command.is_some() {
        return Err(not_done(
            "install-command",
            "no command is run while an image is built",
            "put the packages into the runtime's base image",
        ));
    }
    Ok(Definition {
        name: top.name,
        model_type: top.model_type,
        runtime: top.runtime,
        contract,
        payload: top.payload.map(|list| payload(&list)).transpose().map_err(|source| DefinitionError::Path {
            file: file.to_owned(),
            key: "payload",
            source,
        })?,
        description: top.description,
        metadata: top.metadata,
        warnings: unknown(file, "", &top.rest),
    })
}

fn unknown(file: &str, prefix: &str, rest: &BTreeMap<String, Value>) -> Vec<String> {
    let unknown = rest.keys().filter(|key| !KNOWN_ELSEWHERE.contains(&key.as_str()));
    unknown.map(|key| format!("`{prefix}{key}` in `{file}` is no key of any era and says nothing")).collect()
}

fn payload(list: &[String]) -> Result<Vec<PayloadEntry>, PathError> {
    let entry = |text: &String| {
        if matches!(text.trim_end_matches('/'), "." | "./.") || text == "./" {
            Ok(PayloadEntry::Everything)
        } else if text.contains(['*', '?', '[']) {
            // The same rules as for a path, so that `../*` is refused here.
            TreePath::new(text).map(|path| PayloadEntry::Pattern(path.as_str().to_owned()))
        } else {
            TreePath::new(text).map(PayloadEntry::Path)
        }
    };
    list.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_2018() {
        let text = r#"
model:
  name: "linear_regression"
  type: "python:3.6"
  contract: "contract.prototxt"
  payload:
    - "src/"
    - "./requirements.txt"
    - "*.h5"
  paylod: []
local_deploy:
  name: x
"#;
        let definition = read("serving.yaml", text.as_bytes()).unwrap();
        let path = |text| PayloadEntry::Path(TreePath::new(text).unwrap());
        assert_eq!(definition.name.as_deref(), Some("linear_regression"));
        assert_eq!(definition.model_type.as_deref(), Some("python:3.6"));
        assert_eq!(definition.payload.unwrap(), [path("src"), path("requirements.txt"), PayloadEntry::Pattern("*.h5".to_owned())]);
        assert_eq!(definition.warnings, ["`model.paylod` in `serving.yaml` is no key of any era and says nothing"]);
    }

    #[test]
    fn the_later_form() {
        let text = "kind: Model\nname: m\nruntime: a/b:1\npayload: ['./']\nmetadata: {k: v}\n";
        let definition = read("serving.yaml", text.as_bytes()).unwrap();
        assert_eq!((definition.name.as_deref(), definition.runtime.as_deref()), (Some("m"), Some("a/b:1")));
        assert_eq!(definition.payload.unwrap(), [PayloadEntry::Everything]);
    }

    #[test]
    fn every_error_names_the_file_and_the_place() {
        let line = |error: &DefinitionError| crate::fault::one_line(error);
        for (text, expected) in [
            ("model:\n  name: [1]\n", "2"),
            ("model: {payload: ['../x']}", "it leaves the folder"),
            ("model: {contract: /etc/passwd}", "it is absolute"),
            ("name: x", "neither `model:`"),
            ("kind: Application\nname: x", "`Application`"),
            ("kind: Model\nname: m\ncontract: {name: x}", "contract.prototxt"),
            ("{a: *b}", "serving.yaml"),
            (&"[".repeat(200_000), "serving.yaml"),
        ] {
            let error = read("serving.yaml", text.as_bytes()).unwrap_err();
            let said = format!("{} {}", line(&error), error.remedy().unwrap_or_default());
            assert!(said.contains(expected) && said.contains("serving.yaml"), "{said}");
        }
    }
}
