//! Platforms: what an image runs on.
//!
//! `os/architecture[/variant]`, as `--platform` takes it and as indexes carry it. Comparison knows the one equivalence that
//! matters in practice (`arm64` is `arm64/v8`); other variants must agree where both sides name one. What machine this is,
//! is not asked here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An operating system and a processor. Unknown members (`os.version`, `os.features`) are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, …
    pub os: String,
    /// In Go's words: `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Whatever else the document said.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// Why a text is not a platform.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a platform: expected `os/architecture[/variant]`, as in `linux/amd64`")]
pub struct PlatformError(String);

impl crate::fault::Failure for PlatformError {
    fn fault(&self) -> crate::fault::Fault {
        crate::fault::Fault::Usage
    }
}

impl Platform {
    /// A platform without a variant.
    pub fn new(os: &str, architecture: &str) -> Platform {
        Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: None, rest: BTreeMap::new() }
    }

    /// The platform of an image on `scratch` where none is named.
    pub fn linux_amd64() -> Platform {
        Platform::new("linux", "amd64")
    }

    /// `unknown/unknown`: BuildKit's mark for siblings that are not images.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// Whether an image for `self` is what somebody who asked for `wanted` means.
    pub fn serves(&self, wanted: &Platform) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && match (self.plain_variant(), wanted.plain_variant()) {
                (Some(have), Some(want)) => have == want,
                _ => true,
            }
    }

    /// The variant, where it tells more than the architecture does.
    pub fn plain_variant(&self) -> Option<&str> {
        self.variant.as_deref().filter(|variant| !(self.architecture == "arm64" && *variant == "v8"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) {
            return Err(PlatformError(text.to_owned()));
        }
        Ok(Platform { variant: parts.get(2).map(|&variant| variant.to_owned()), ..Platform::new(parts[0], parts[1]) })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm64_is_arm64_v8_and_v6_is_not_v7() {
        let parse = |text: &str| text.parse::<Platform>().unwrap();
        assert!(parse("linux/arm64/v8").serves(&parse("linux/arm64")));
        assert!(parse("linux/arm64").serves(&parse("linux/arm64/v8")));
        assert!(!parse("linux/arm/v6").serves(&parse("linux/arm/v7")));
        assert!(!parse("linux/amd64").serves(&parse("linux/arm64")));
        assert!("linux".parse::<Platform>().is_err());
    }
}
