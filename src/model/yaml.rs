//! The one door for YAML from strangers.
//!
//! Size first, then `serde-saphyr`, which bounds nesting, aliases and nodes by a budget; its parser alone where every value needs its place
//! (`yaml_tree.rs`). The libyaml-based parsers need half a minute for 200 KB of brackets (dependencies, finding 7). Nothing else of the
//! crate parses YAML.
//!
//! What must stay true: an error names the file, the line and the column, and shows the line.

use serde::de::DeserializeOwned;
use serde_saphyr::UserMessageFormatter;

use super::yaml_tree::{self, Mark, Node};
use crate::contract::text_place::TextPlace;
use crate::fault::{Failure, Fault};

/// The largest YAML file that is read; the largest real `serving.yaml` known is 9 KB.
pub const YAML_BYTES_MAX: usize = 1 << 20;

/// Why a document is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// Larger than [`YAML_BYTES_MAX`].
    #[error("`{file}` is {size_bytes} bytes long; at most {YAML_BYTES_MAX} are read")]
    TooLarge {
        /// Which file.
        file: String,
        /// Its size.
        size_bytes: usize,
    },
    /// Not text.
    #[error("{}", .at.with("the text is not UTF-8"))]
    NotText {
        /// Where.
        at: TextPlace,
    },
    /// Not YAML, or not of the expected shape.
    #[error("{}", .at.with(.problem))]
    Malformed {
        /// Where.
        at: TextPlace,
        /// What was found there.
        problem: String,
    },
}

impl Failure for YamlError {
    fn fault(&self) -> Fault {
        match self {
            YamlError::TooLarge { .. } => Fault::TooLarge,
            _ => Fault::Invalid,
        }
    }
}

/// A YAML file as nodes, with what shows a place in it.
#[derive(Debug)]
pub struct YamlFile<'a> {
    /// What it is called in messages.
    pub name: &'a str,
    /// Its documents, in order; those that hold nothing are left out.
    pub documents: Vec<Node>,
    text: &'a str,
}

impl YamlFile<'_> {
    /// A place in the file.
    pub fn place(&self, mark: Mark) -> TextPlace {
        TextPlace::at(self.name, self.text, mark.line, mark.column)
    }
}

/// Reads one document; `file` is its name for errors.
pub fn read<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, YamlError> {
    let text = text_of(file, bytes)?;
    serde_saphyr::from_str(text).map_err(|error| {
        let location = error.location();
        let problem = error.without_snippet().render_with_formatter(&UserMessageFormatter);
        // The place stands before the problem; the parser writes it behind.
        let problem = location.and_then(|place| problem.strip_suffix(&format!(" at line {}, column {}", place.line(), place.column())));
        let problem = problem.map_or_else(|| error.without_snippet().render_with_formatter(&UserMessageFormatter), str::to_owned);
        let at = location.map_or_else(
            || TextPlace::new(file, text, 0),
            |place| TextPlace::at(file, text, place.line() as usize, place.column() as usize),
        );
        YamlError::Malformed { at, problem }
    })
}

/// Reads every document of a file as nodes; `file` is its name for errors.
pub fn read_documents<'a>(file: &'a str, bytes: &'a [u8]) -> Result<YamlFile<'a>, YamlError> {
    let text = text_of(file, bytes)?;
    let mut documents = yaml_tree::documents(text).map_err(|problem| YamlError::Malformed {
        at: TextPlace::at(file, text, problem.mark.line, problem.mark.column),
        problem: problem.text,
    })?;
    documents.retain(|document| document.value != yaml_tree::Value::Null);
    Ok(YamlFile { name: file, documents, text })
}

fn text_of<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, YamlError> {
    if bytes.len() > YAML_BYTES_MAX {
        return Err(YamlError::TooLarge { file: file.to_owned(), size_bytes: bytes.len() });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(bytes);
        YamlError::NotText { at: TextPlace::new(file, &before, error.valid_up_to()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_error_names_the_file_the_line_and_the_column() {
        let numbers = |text: &str| read::<BTreeMap<String, u8>>("limits.yaml", text.as_bytes()).unwrap_err().to_string();
        let text = numbers("a: 1\nb: many\n");
        assert!(text.starts_with("limits.yaml:2:4: ") && text.ends_with("\n  |\n2 | b: many\n  |    ^"), "{text}");
        assert!(!text.contains("<input>") && !text.contains("at line"), "{text}");
        assert!(numbers("a: [\n").starts_with("limits.yaml:"));
        assert!(numbers("{a: *b}").starts_with("limits.yaml:1:5: "));
        let error = read_documents("serving.yaml", b"a: 1\n---\nb: [1\n").unwrap_err().to_string();
        assert!(error.starts_with("serving.yaml:"), "{error}");
        let error = read_documents("serving.yaml", b"a:\n  \xff").unwrap_err().to_string();
        assert!(error.starts_with("serving.yaml:2:3: the text is not UTF-8"), "{error}");
        assert!(matches!(read_documents("f", &vec![b' '; YAML_BYTES_MAX + 1]), Err(YamlError::TooLarge { .. })));
        assert_eq!(read_documents("f", b"---\n---\na: 1\n---\n").unwrap().documents.len(), 1);
    }
}
