//! The one door for YAML from strangers.
//!
//! Size first, then `serde-saphyr`, which bounds nesting, aliases and nodes by a budget and shows the line with a caret. The
//! libyaml-based parsers need half a minute for 200 KB of brackets (dependencies, finding 7). Nothing else of the crate parses YAML.

use serde::de::DeserializeOwned;

use crate::fault::{Failure, Fault};

/// The largest YAML document that is read; the largest real `serving.yaml` known is 9 KB.
pub const YAML_BYTES_MAX: usize = 1 << 20;

/// Why a document is not valid.
#[derive(Debug, thiserror::Error)]
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
    #[error("`{file}` is not UTF-8")]
    NotText {
        /// Which file.
        file: String,
    },
    /// Not YAML, or not of the expected shape.
    #[error("`{file}` is not valid")]
    Malformed {
        /// Which file.
        file: String,
        /// Where and why, with the line itself.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
}

impl Failure for YamlError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }
}

/// Reads one document; `file` is its name for errors.
pub fn read<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, YamlError> {
    let file = || file.to_owned();
    if bytes.len() > YAML_BYTES_MAX {
        return Err(YamlError::TooLarge { file: file(), size_bytes: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| YamlError::NotText { file: file() })?;
    serde_saphyr::from_str(text).map_err(|source| YamlError::Malformed { file: file(), source: Box::new(source) })
}
