//! A contract inside `serving.yaml` → Contract.
//!
//! Two forms. 0.1.x has signatures by their names: `{infer: {inputs, outputs}, …}`. 2.x and 3.0.3 have one: `{name, inputs, outputs}`.
//! They are told apart by what is below the keys, because a signature or a field may be called `inputs` or `name`: where a value holds
//! `inputs` or `outputs` that are no field, it is a signature and the form is that of 0.1.x; a `name` with a text is always the other's.
//!
//! What must stay true: order is the author's; what is not understood is an error with its place where it holds anything, and a warning
//! where it is one word. The result is a valid contract.

use super::yaml::YamlFile;
use super::yaml_tree::{Key, Mark, Node, Value};
use crate::contract::contract::{Contract, Dimension, FIELD_DEPTH_MAX, Field, FieldKind, Shape, Signature};
use crate::contract::dtype::{DataType, Profile};
use crate::contract::text_place::TextPlace;
use crate::contract::yaml::{TYPE_WORDS, dtype_from_word};
use crate::fault::{Failure, Fault};

/// A contract that stands in a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineContract {
    /// The contract, without the model's name.
    pub contract: Contract,
    /// Where it begins.
    pub at: TextPlace,
    /// What had to be said.
    pub warnings: Vec<String>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .at.with(.problem))]
pub struct InlineContractError {
    /// Where.
    pub at: TextPlace,
    /// What was found there.
    pub problem: String,
    /// What was expected.
    pub expected: String,
}

impl Failure for InlineContractError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        Some(self.expected.clone())
    }
}

const FORMS: &str = "write `name`, `inputs` and `outputs`, or signatures by their names, each with its `inputs` and `outputs`";
const FIELD_FORM: &str = "write it as `x: {shape: [-1, 2], type: double}`; `shape: scalar` is one value, no `shape` is any";

/// Reads the contract at `node`; a signature of the one-signature form that has no name gets `default_name`.
pub fn read(file: &YamlFile<'_>, node: &Node, default_name: &str) -> Result<InlineContract, InlineContractError> {
    let mut reader = Reader { file, warnings: Vec::new() };
    let Value::Map(entries) = &node.value else {
        return Err(reader.error(node.mark, &format!("the contract is {}", node.in_words()), FORMS));
    };
    let named = node.get("name").is_some_and(|name| matches!(name.value, Value::Scalar { .. }));
    let signatures = if !named && entries.iter().any(|(_, value)| is_signature(value)) {
        let signatures = entries.iter().map(|(key, value)| {
            reader.check_name(&key.text, key.mark)?;
            reader.signature(&key.text, value, false)
        });
        signatures.collect::<Result<Vec<Signature>, _>>()?
    } else {
        vec![reader.one_signature(node, default_name)?]
    };
    let contract = Contract { model_name: String::new(), signatures };
    // What has a place was found above; nothing should be left for this.
    contract
        .validate()
        .map_err(|error| reader.error(node.mark, &error.to_string(), &error.remedy().unwrap_or_else(|| FORMS.to_owned())))?;
    Ok(InlineContract { contract, at: file.place(node.mark), warnings: reader.warnings })
}

/// Whether a mapping is a field and not a mapping of fields.
fn is_field(node: &Node) -> bool {
    node.entries().iter().any(|(key, value)| match key.text.as_str() {
        "shape" | "type" | "profile" => !matches!(value.value, Value::Map(_)),
        "fields" | "subfields" => !value.entries().is_empty() && value.entries().iter().all(|(_, inner)| is_field(inner)),
        _ => false,
    })
}

/// Whether a mapping is a signature of the form with many.
fn is_signature(node: &Node) -> bool {
    let sides = [node.get("inputs"), node.get("outputs")];
    sides.into_iter().flatten().any(|side| matches!(side.value, Value::Map(_)) && !is_field(side))
}

struct Reader<'a> {
    file: &'a YamlFile<'a>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn error(&self, mark: Mark, problem: &str, expected: &str) -> InlineContractError {
        InlineContractError { at: self.file.place(mark), problem: problem.to_owned(), expected: expected.to_owned() }
    }

    fn one_signature(&mut self, node: &Node, default_name: &str) -> Result<Signature, InlineContractError> {
        let name = match node.get("name") {
            None | Some(Node { value: Value::Null, .. }) => {
                self.warnings.push(format!(
                    "the contract at {} has no `name`: its signature is called `{default_name}`",
                    self.file.place(node.mark)
                ));
                default_name
            }
            Some(Node { value: Value::Scalar { text, .. }, mark, .. }) => {
                self.check_name(text, *mark)?;
                text
            }
            Some(other) => return Err(self.error(other.mark, &format!("the signature's name is {}", other.in_words()), FORMS)),
        };
        self.signature(name, node, true)
    }

    fn signature(&mut self, name: &str, node: &Node, has_name: bool) -> Result<Signature, InlineContractError> {
        let place = name.escape_debug().to_string();
        let Value::Map(entries) = &node.value else {
            let problem = format!("`{place}` is {} and no signature", node.in_words());
            return Err(self.error(node.mark, &problem, FORMS));
        };
        let mut signature = Signature { name: name.to_owned(), ..Signature::default() };
        for (key, value) in entries {
            match key.text.as_str() {
                "inputs" => signature.inputs = self.fields(value, &format!("{place}.inputs"), 1)?,
                "outputs" => signature.outputs = self.fields(value, &format!("{place}.outputs"), 1)?,
                "name" if has_name => {}
                _ => self.unknown(key, value, FORMS)?,
            }
        }
        if signature.inputs.is_empty() && signature.outputs.is_empty() {
            return Err(self.error(node.mark, &format!("the signature `{place}` has neither inputs nor outputs"), FORMS));
        }
        Ok(signature)
    }

    fn fields(&mut self, node: &Node, place: &str, depth: usize) -> Result<Vec<Field>, InlineContractError> {
        if depth > FIELD_DEPTH_MAX {
            let problem = format!("fields are nested deeper than {FIELD_DEPTH_MAX} levels");
            return Err(self.error(node.mark, &problem, "nest them less deep"));
        }
        let entries = match &node.value {
            Value::Null => return Ok(Vec::new()),
            Value::Map(entries) => entries,
            _ => return Err(self.error(node.mark, &format!("`{place}` is {}, not fields by their names", node.in_words()), FIELD_FORM)),
        };
        entries.iter().map(|(key, value)| self.field(key, value, place, depth)).collect()
    }

    fn field(&mut self, key: &Key, node: &Node, above: &str, depth: usize) -> Result<Field, InlineContractError> {
        self.check_name(&key.text, key.mark)?;
        let place = format!("{above}.{}", key.text.escape_debug());
        let Value::Map(entries) = &node.value else {
            return Err(self.error(node.mark, &format!("the field `{place}` is {}", node.in_words()), FIELD_FORM));
        };
        let mut field = Field { name: key.text.clone(), kind: FieldKind::Missing, shape: Shape::Any, profile: Profile::None };
        for (key, value) in entries {
            let second_kind = field.kind != FieldKind::Missing;
            match key.text.as_str() {
                _ if value.value == Value::Null => {}
                "shape" => field.shape = self.shape(value, &place)?,
                "profile" => field.profile = self.profile(value, &place)?,
                "type" | "fields" | "subfields" if second_kind => {
                    let problem = format!("the field `{place}` has a type twice, by `type`, `fields` or `subfields`");
                    return Err(self.error(key.mark, &problem, "write one of them"));
                }
                "type" => field.kind = FieldKind::Dtype(self.dtype(value, &place)?),
                "fields" | "subfields" => field.kind = FieldKind::Subfields(self.fields(value, &place, depth + 1)?),
                "dtype" => return Err(self.error(key.mark, &format!("the field `{place}` has a `dtype`"), "its name in YAML is `type`")),
                _ => self.unknown(key, value, FIELD_FORM)?,
            }
        }
        match &field.kind {
            FieldKind::Missing => Err(self.error(node.mark, &format!("the field `{place}` has no `type`"), FIELD_FORM)),
            FieldKind::Subfields(fields) if fields.is_empty() => {
                Err(self.error(node.mark, &format!("the field `{place}` is made of no fields"), FIELD_FORM))
            }
            _ => Ok(field),
        }
    }

    fn shape(&self, node: &Node, place: &str) -> Result<Shape, InlineContractError> {
        let expected = "a shape is `scalar` or a list of lengths, such as [-1, 2] (-1 is any length); leave it out for any shape";
        let items = match &node.value {
            Value::Scalar { text, .. } if text == "scalar" => return Ok(Shape::scalar()),
            Value::List(items) => items,
            // In 3.0.3 every text meant a scalar, a slip of the pen too.
            Value::Scalar { text, .. } => {
                let problem = format!("the shape of `{place}` is `{}`", text.escape_debug());
                return Err(self.error(node.mark, &problem, expected));
            }
            _ => return Err(self.error(node.mark, &format!("the shape of `{place}` is {}", node.in_words()), expected)),
        };
        let dimension = |item: &Node| {
            let size = match &item.value {
                Value::Scalar { text, plain: true } => text.parse().ok().filter(|size: &i64| *size >= -1),
                _ => None,
            };
            let problem = || self.error(item.mark, &format!("the shape of `{place}` has a dimension that is no length"), expected);
            size.map(|size| Dimension { size, name: String::new() }).ok_or_else(problem)
        };
        items.iter().map(dimension).collect::<Result<Vec<Dimension>, _>>().map(Shape::Dimensions)
    }

    fn dtype(&self, node: &Node, place: &str) -> Result<DataType, InlineContractError> {
        let Value::Scalar { text, .. } = &node.value else {
            return Err(self.error(
                node.mark,
                &format!("the type of `{place}` is {}", node.in_words()),
                "write one word, such as `double`",
            ));
        };
        dtype_from_word(text).ok_or_else(|| {
            let known: Vec<&str> = TYPE_WORDS.iter().map(|(word, _)| *word).collect();
            let problem = format!("the type of `{place}` is `{}`", text.escape_debug());
            self.error(node.mark, &problem, &format!("the types are {}", known.join(", ")))
        })
    }

    fn profile(&self, node: &Node, place: &str) -> Result<Profile, InlineContractError> {
        let known = Profile::ALL.map(|profile| profile.name().to_lowercase()).join(", ");
        let expected = format!("the profiles are {known}");
        let Value::Scalar { text, .. } = &node.value else {
            return Err(self.error(node.mark, &format!("the profile of `{place}` is {}", node.in_words()), &expected));
        };
        // Upper and lower case alike, as the ancestor's client took them; the first protos misspelt one (reference, §4.1).
        let name = text.to_uppercase();
        let name = if name == "ORIDNAL" { "ORDINAL" } else { name.as_str() };
        let problem = || self.error(node.mark, &format!("the profile of `{place}` is `{}`", text.escape_debug()), &expected);
        Profile::from_name(name).ok_or_else(problem)
    }

    fn check_name(&self, name: &str, mark: Mark) -> Result<(), InlineContractError> {
        if name.is_empty() {
            return Err(self.error(mark, "the name is empty, or YAML's `null`", "give it a name; `null` and `~` are names in quotes only"));
        }
        if name.chars().any(char::is_control) {
            let problem = format!("the name `{}` has a control character in it", name.escape_debug());
            return Err(self.error(mark, &problem, "write it without"));
        }
        Ok(())
    }

    /// A key that no era has: a warning where it holds a word; an error where a part of the contract would be lost with it.
    fn unknown(&mut self, key: &Key, value: &Node, expected: &str) -> Result<(), InlineContractError> {
        let name = key.text.escape_debug();
        match value.value {
            Value::Map(_) | Value::List(_) => Err(self.error(key.mark, &format!("`{name}` is not a part of a contract"), expected)),
            Value::Null | Value::Scalar { .. } => {
                self.warnings.push(format!("`{name}` at {} is no key of any era and says nothing", self.file.place(key.mark)));
                Ok(())
            }
        }
    }
}
