//! A mapping of a YAML file whose keys have known types: texts, lists of texts, mappings of texts.
//!
//! It gives values and errors with places, and knows no key; `definition.rs` does.
//!
//! What must stay true: no value is lost in silence: it is asked for, it is an error, or its key is among the unknown ones.

use std::collections::BTreeMap;

use super::yaml::YamlFile;
use super::yaml_tree::{Key, Mark, Node, Value};
use crate::contract::text_place::TextPlace;

/// A value is of another type than its key asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .at.with(&format!("`{key}` is {found}; expected is {expected}")))]
pub struct SectionError {
    /// Where.
    pub at: TextPlace,
    /// Which key, with those above it.
    pub key: String,
    /// What it is.
    pub found: &'static str,
    /// What it should be.
    pub expected: &'static str,
}

/// A mapping in a file.
pub struct Section<'a> {
    /// The file.
    pub file: &'a YamlFile<'a>,
    /// What stands before a key in messages: `model.`.
    pub prefix: &'static str,
    /// The mapping.
    pub node: &'a Node,
}

impl<'a> Section<'a> {
    /// A key as messages call it.
    pub fn path_of(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A key's value, where there is one.
    pub fn value(&self, key: &str) -> Option<&'a Node> {
        self.node.get(key).filter(|node| node.value != Value::Null)
    }

    /// The error that `found` is not `expected`.
    pub fn type_error(&self, key: &str, found: &Node, expected: &'static str) -> SectionError {
        SectionError { at: self.file.place(found.mark), key: self.path_of(key), found: found.in_words(), expected }
    }

    /// A text; a number and a boolean are the text that was written.
    pub fn text(&self, key: &str) -> Result<Option<String>, SectionError> {
        let Some(node) = self.value(key) else { return Ok(None) };
        node.text().map(|text| Some(text.to_owned())).ok_or_else(|| self.type_error(key, node, "a text"))
    }

    /// A list of texts, with the place of each.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<(&'a str, Mark)>>, SectionError> {
        let Some(node) = self.value(key) else { return Ok(None) };
        let Value::List(items) = &node.value else { return Err(self.type_error(key, node, "a list of texts")) };
        let item = |item: &'a Node| item.text().map(|text| (text, item.mark)).ok_or_else(|| self.type_error(key, item, "a text"));
        items.iter().map(item).collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// A mapping of texts; empty where there is none.
    pub fn text_map(&self, key: &str) -> Result<BTreeMap<String, String>, SectionError> {
        let Some(node) = self.value(key) else { return Ok(BTreeMap::new()) };
        let Value::Map(entries) = &node.value else { return Err(self.type_error(key, node, "a mapping of texts")) };
        let entry = |(name, value): &(Key, Node)| {
            let text = value.text().ok_or_else(|| self.type_error(key, value, "a text"))?;
            Ok((name.text.clone(), text.to_owned()))
        };
        entries.iter().map(entry).collect()
    }

    /// A warning for each key that is in neither list.
    pub fn unknown(&self, known: &[&str], known_elsewhere: &[&str]) -> Vec<String> {
        let is_known = |key: &Key| known.contains(&key.text.as_str()) || known_elsewhere.contains(&key.text.as_str());
        let unknown = self.node.entries().iter().map(|(key, _)| key).filter(|key| !is_known(key));
        let warning = |key: &Key| {
            let name = self.path_of(&key.text).escape_debug().to_string();
            format!("`{name}` at {} is no key of any era and says nothing", self.file.place(key.mark))
        };
        unknown.map(warning).collect()
    }
}
