//! What a model may be called.
//!
//! A model's name is the last part of its repository, so it is one path component as registries take it (distribution-spec, "Pulling
//! manifests"): lower case letters and digits, joined by `.`, `_`, `__` or dashes; at most 128 long. Another name is refused with one that
//! would do: the ancestor took upper case and failed later, in docker (its issue MGR 30).

use std::fmt;

use serde::Serialize;

use crate::fault::{Failure, Fault};

/// The longest name.
pub const NAME_BYTES_MAX: usize = 128;

/// A valid model name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ModelName(String);

/// Why a text is no model name.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be a model's name: lower case letters and digits, single `.` or `_`, and dashes between them, at most {NAME_BYTES_MAX} characters", .name.escape_debug())]
pub struct NameError {
    name: String,
    proposal: Option<String>,
}

impl Failure for NameError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        Some(match &self.proposal {
            Some(proposal) => format!("call it `{proposal}` (`--name`, or `name` in serving.yaml)"),
            None => "choose one with `--name`, or with `name` in serving.yaml".to_owned(),
        })
    }
}

impl ModelName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<ModelName, NameError> {
        if is_valid(name) {
            return Ok(ModelName(name.to_owned()));
        }
        let proposal = propose(name);
        Err(NameError { name: name.chars().take(NAME_BYTES_MAX + 20).collect(), proposal })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_valid(name: &str) -> bool {
    let mut separator = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => {
                if !separator.is_empty() && !is_separator(&separator) {
                    return false;
                }
                separator.clear();
            }
            '.' | '_' | '-' => separator.push(c),
            _ => return false,
        }
    }
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    starts_well && separator.is_empty() && name.len() <= NAME_BYTES_MAX
}

fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

fn propose(name: &str) -> Option<String> {
    let mut proposal = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => proposal.push(c),
            _ if proposal.ends_with(['-', '_', '.']) || proposal.is_empty() => {}
            '_' | '.' => proposal.push(c),
            _ => proposal.push('-'),
        }
        if proposal.len() == NAME_BYTES_MAX {
            break;
        }
    }
    let proposal = proposal.trim_end_matches(['-', '_', '.']).to_owned();
    is_valid(&proposal).then_some(proposal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_component_of_a_repository() {
        for name in ["m", "linear_regression", "a.b", "a__b", "a---b", "0"] {
            assert_eq!(ModelName::new(name).unwrap().as_str(), name);
        }
        for (name, proposal) in [
            ("My Model", Some("my-model")),
            ("Größe", Some("gr-e")),
            ("a/b", Some("a-b")),
            ("_a_", Some("a")),
            ("a..b", Some("a.b")),
            ("..", None),
            ("", None),
            ("模型", None),
        ] {
            let error = ModelName::new(name).unwrap_err();
            assert_eq!(error.proposal.as_deref(), proposal, "{name}");
        }
        let long = "a".repeat(129);
        assert_eq!(ModelName::new(&long).unwrap_err().proposal, Some("a".repeat(128)));
    }
}
