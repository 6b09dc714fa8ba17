//! `serving.yaml`, of whatever era, as one [`Definition`].
//!
//! The 2018 form has everything below `model:`; later forms have `kind: Model` and the keys at the top. Both say the same few things:
//! a name, a type or a runtime, the contract or where it is, and which files are the model. Nothing is looked up here: whether the files
//! exist is `intake.rs`. A key that no era knows is a warning (it is nearly always a slip of the pen); a value of another type is an error
//! with its line. Of several documents (`---`), exactly one is the model.

use std::collections::BTreeMap;

use super::inline_contract::{self, InlineContract, InlineContractError};
use super::install_command;
use super::yaml::{self, YamlError, YamlFile};
use super::yaml_section::{Section, SectionError};
use super::yaml_tree::{Mark, Node, Value};
use crate::contract::text_place::TextPlace;
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
    /// The contract, or where it is.
    pub contract: Option<DefinedContract>,
    /// What is shipped; `None`: everything.
    pub payload: Option<Vec<PayloadEntry>>,
    /// The file of requirements that `install-command` installs.
    pub requirements: Option<TreePath>,
    /// For people.
    pub description: Option<String>,
    /// `metadata` of the later forms.
    pub metadata: BTreeMap<String, String>,
    /// What had to be said while reading.
    pub warnings: Vec<String>,
}

/// What a definition says of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefinedContract {
    /// It is this file.
    File(TreePath),
    /// It is this.
    Inline(InlineContract),
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
    /// Not YAML.
    #[error("reading the model's definition")]
    Yaml(#[source] YamlError),
    /// A value of another type.
    #[error(transparent)]
    Value(#[from] SectionError),
    /// It has neither form.
    #[error("`{file}` describes no model: it has neither `model:` nor `kind: Model`")]
    NoModel {
        /// Which file.
        file: String,
    },
    /// It has two.
    #[error("{second} is a second model in one file; the first is {first}")]
    TwoModels {
        /// The first one's name and place.
        first: String,
        /// The second one's.
        second: String,
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
    #[error("{at}: `{key}`")]
    Path {
        /// Where.
        at: TextPlace,
        /// Which key.
        key: String,
        /// What is wrong with the path.
        #[source]
        source: PathError,
    },
    /// The contract in it is not valid.
    #[error("the contract in the model's definition is not valid")]
    Contract(#[source] InlineContractError),
    /// It asks for something that is not done.
    #[error("{}", .at.with(&format!("`{key}`: {reason}")))]
    NotDone {
        /// Where.
        at: TextPlace,
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
        match self {
            DefinitionError::Yaml(error) => error.fault(),
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            DefinitionError::NoModel { .. } => {
                Some("begin it with `model:` and, below that, `name`, `type`, `contract`, `payload`".to_owned())
            }
            DefinitionError::TwoModels { .. } => Some("give each model a folder of its own".to_owned()),
            DefinitionError::Contract(error) => error.remedy(),
            DefinitionError::NotDone { remedy, .. } => Some((*remedy).to_owned()),
            _ => None,
        }
    }
}

/// Keys of some era that say nothing about the image: how to deploy or to watch it.
const KNOWN_ELSEWHERE: [&str; 8] =
    ["local_deploy", "application", "version", "training-data", "monitoring", "monitoring-configuration", "profile", "profiles"];

/// The name that 2.x gave a signature without one, and the name that 3.0.3 gave it.
const DEFAULT_NAME_2: &str = "Predict";
const DEFAULT_NAME_3: &str = "predict";

/// Reads a definition; `file` is its name for errors.
pub fn read(file: &str, bytes: &[u8]) -> Result<Definition, DefinitionError> {
    let file = yaml::read_documents(file, bytes).map_err(DefinitionError::Yaml)?;
    let (model, mut warnings) = the_model(&file)?;
    let mut definition = match (model.get("kind"), model.get("model")) {
        (None, Some(below)) => seed_form(&file, model, below)?,
        (Some(_), None) => later_form(&file, model)?,
        _ => return Err(DefinitionError::NoModel { file: file.name.to_owned() }),
    };
    warnings.append(&mut definition.warnings);
    Ok(Definition { warnings, ..definition })
}

/// The one document that is the model, and a warning for each that is not.
fn the_model<'a>(file: &'a YamlFile<'_>) -> Result<(&'a Node, Vec<String>), DefinitionError> {
    let is_model = |document: &&Node| kind_of(document).map_or(document.get("model").is_some(), |kind| kind == "Model");
    let mut models = file.documents.iter().filter(is_model);
    let Some(model) = models.next() else {
        return Err(match file.documents.iter().find_map(kind_of) {
            Some(kind) => DefinitionError::OtherKind { file: file.name.to_owned(), kind: kind.escape_debug().to_string() },
            None => DefinitionError::NoModel { file: file.name.to_owned() },
        });
    };
    let said = |document: &Node| {
        let name = document.get("model").unwrap_or(document).get("name").and_then(Node::text).unwrap_or("without a name");
        format!("`{}` ({})", name.escape_debug(), file.place(document.mark))
    };
    if let Some(second) = models.next() {
        return Err(DefinitionError::TwoModels { first: said(model), second: said(second) });
    }
    let others = file.documents.iter().filter(|document| !is_model(document));
    let warning = |document: &Node| {
        let kind = kind_of(document).map_or_else(|| "no kind".to_owned(), |kind| format!("kind `{}`", kind.escape_debug()));
        format!("the document of {kind} at {} is not the model and is left out", file.place(document.mark))
    };
    Ok((model, others.map(warning).collect()))
}

fn seed_form(file: &YamlFile<'_>, top: &Node, below: &Node) -> Result<Definition, DefinitionError> {
    let section = Section { file, prefix: "model.", node: below };
    let outer = Section { file, prefix: "", node: top };
    if !matches!(below.value, Value::Map(_)) {
        return Err(outer.type_error("model", below, "a mapping with `name`, `type`, `contract`, `payload`").into());
    }
    let mut warnings = outer.unknown(&["model"], &KNOWN_ELSEWHERE);
    warnings.extend(section.unknown(&["name", "type", "contract", "payload", "description"], &KNOWN_ELSEWHERE));
    let defined = contract(&section, DEFAULT_NAME_3, &mut warnings)?;
    Ok(Definition {
        name: section.text("name")?,
        model_type: section.text("type")?,
        runtime: None,
        contract: defined,
        payload: payload(&section)?,
        requirements: None,
        description: section.text("description")?,
        metadata: BTreeMap::new(),
        warnings,
    })
}

fn later_form(file: &YamlFile<'_>, top: &Node) -> Result<Definition, DefinitionError> {
    let section = Section { file, prefix: "", node: top };
    let requirements = requirements(&section)?;
    let known = ["kind", "name", "model-type", "runtime", "payload", "contract", "description", "install-command", "metadata"];
    let mut warnings = section.unknown(&known, &KNOWN_ELSEWHERE);
    let runtime = section.text("runtime")?;
    // Nothing else tells the releases apart: both have one signature and a runtime, whose images are tagged with the release.
    let is_2 = runtime.as_deref().and_then(|image| image.rsplit_once(':')).is_some_and(|(_, tag)| tag.starts_with("2."));
    let defined = contract(&section, if is_2 { DEFAULT_NAME_2 } else { DEFAULT_NAME_3 }, &mut warnings)?;
    Ok(Definition {
        name: section.text("name")?,
        model_type: section.text("model-type")?,
        runtime,
        contract: defined,
        payload: payload(&section)?,
        requirements,
        description: section.text("description")?,
        metadata: section.text_map("metadata")?,
        warnings,
    })
}

/// What `install-command` installs, where that is all it does.
fn requirements(section: &Section<'_>) -> Result<Option<TreePath>, DefinitionError> {
    let Some(node) = section.value("install-command") else { return Ok(None) };
    let Some(command) = section.text("install-command")? else { return Ok(None) };
    install_command::requirements_of(&command).map(Some).ok_or_else(|| DefinitionError::NotDone {
        at: section.file.place(node.mark),
        key: "install-command",
        reason: "no command is run while an image is built; `pip install -r FILE` is understood and done another way",
        remedy: "list the packages in requirements.txt and write `pip install -r requirements.txt`, or put what the command makes into the runtime's base image",
    })
}

fn kind_of(document: &Node) -> Option<&str> {
    document.get("kind").and_then(Node::text)
}

fn path_error(section: &Section<'_>, key: &str, mark: Mark, source: PathError) -> DefinitionError {
    DefinitionError::Path { at: section.file.place(mark), key: section.path_of(key), source }
}

fn contract(section: &Section<'_>, default_name: &str, warnings: &mut Vec<String>) -> Result<Option<DefinedContract>, DefinitionError> {
    let Some(node) = section.value("contract") else { return Ok(None) };
    if let Some(path) = node.text() {
        let path = TreePath::new(path).map_err(|source| path_error(section, "contract", node.mark, source))?;
        return Ok(Some(DefinedContract::File(path)));
    }
    let mut inline = inline_contract::read(section.file, node, default_name).map_err(DefinitionError::Contract)?;
    warnings.append(&mut inline.warnings);
    Ok(Some(DefinedContract::Inline(inline)))
}

fn payload(section: &Section<'_>) -> Result<Option<Vec<PayloadEntry>>, DefinitionError> {
    let Some(items) = section.texts("payload")? else { return Ok(None) };
    let entry = |(text, mark)| payload_entry(text).map_err(|source| path_error(section, "payload", mark, source));
    items.into_iter().map(entry).collect::<Result<Vec<PayloadEntry>, _>>().map(Some)
}

fn payload_entry(text: &str) -> Result<PayloadEntry, PathError> {
    if matches!(text.trim_end_matches('/'), "." | "./.") || text == "./" {
        Ok(PayloadEntry::Everything)
    } else if text.contains(['*', '?', '[']) {
        // The same rules as for a path, so that `../*` is refused here.
        TreePath::new(text).map(|path| PayloadEntry::Pattern(path.as_str().to_owned()))
    } else {
        TreePath::new(text).map(PayloadEntry::Path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::contract::Signature;

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
        assert_eq!(definition.warnings, ["`model.paylod` at serving.yaml:10:3 is no key of any era and says nothing"]);
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
            ("model:\n  name: [1]\n", "serving.yaml:2:9: `model.name` is a list; expected is a text"),
            ("model: {payload: ['../x']}", "it leaves the folder"),
            ("model: {contract: /etc/passwd}", "it is absolute"),
            ("name: x", "neither `model:`"),
            ("kind: Application\nname: x", "`Application`"),
            ("kind: Model\nname: m\ncontract: {name: x}", "serving.yaml:3:11: the signature `x` has neither inputs nor outputs"),
            ("kind: Model\ninstall-command: pip", "serving.yaml:2:18: `install-command`: no command is run"),
            ("kind: Model\nmodel: {name: x}", "describes no model"),
            ("model: [x]", "serving.yaml:1:8: `model` is a list"),
            ("{a: *b}", "serving.yaml"),
            (&"[".repeat(200_000), "serving.yaml"),
        ] {
            let error = read("serving.yaml", text.as_bytes()).unwrap_err();
            let said = format!("{} {}", line(&error), error.remedy().unwrap_or_default());
            assert!(said.contains(expected) && said.contains("serving.yaml"), "{said}");
        }
    }
    fn signatures(text: &str) -> Vec<Signature> {
        let Some(DefinedContract::Inline(inline)) = read("serving.yaml", text.as_bytes()).unwrap().contract else { panic!("no contract") };
        inline.contract.signatures
    }

    #[test]
    fn a_signature_without_a_name_has_that_of_the_runtimes_release() {
        for (runtime, name) in [
            ("hydrosphere/serving-runtime-python-3.6:2.4.0", "Predict"),
            ("hydrosphere/serving-runtime-python-3.7:3.0.3", "predict"),
            ("127.0.0.1:2000/runtime:dev", "predict"),
            ("python", "predict"),
        ] {
            let text = format!("kind: Model\nruntime: {runtime}\ncontract: {{inputs: {{x: {{type: int8}}}}}}");
            assert_eq!(signatures(&text)[0].name, name);
            let warnings = read("serving.yaml", text.as_bytes()).unwrap().warnings;
            assert_eq!(warnings, [format!("the contract at serving.yaml:3:11 has no `name`: its signature is called `{name}`")]);
        }
    }

    #[test]
    fn of_several_documents_one_is_the_model() {
        let text = "kind: Runtime\nname: r\n---\nkind: Model\nname: m\n---\nx: 1\n";
        let definition = read("serving.yaml", text.as_bytes()).unwrap();
        assert_eq!(definition.name.as_deref(), Some("m"));
        assert_eq!(
            definition.warnings,
            [
                "the document of kind `Runtime` at serving.yaml:1:1 is not the model and is left out",
                "the document of no kind at serving.yaml:7:1 is not the model and is left out"
            ]
        );
        let error = read("serving.yaml", format!("{text}---\nmodel:\n  name: n\n").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "`n` (serving.yaml:9:1) is a second model in one file; the first is `m` (serving.yaml:4:1)");
        let error = read("serving.yaml", b"kind: Application\n---\nkind: Runtime\n").unwrap_err();
        assert_eq!(error.to_string(), "`serving.yaml` is of kind `Application`, not `Model`");
        assert!(matches!(read("serving.yaml", b""), Err(DefinitionError::NoModel { .. })));
    }
}
