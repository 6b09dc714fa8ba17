//! What a reader of a framework's own file gives: the contract that the file implies, and what is to be said of it.
//!
//! Every reader of this floor takes `Read + Seek` and a length, holds a bounded part of the file, and gives this or its own error. It
//! looks for no file: which one is read, and where, is the caller's business.

use super::contract::Contract;

/// A contract that was read from a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The contract; it is valid, and its `model_name` is empty.
    pub contract: Contract,
    /// Framework and version: `tensorflow:2.16.1`; `unknown` in the place of a version that the file does not name.
    pub model_type: String,
    /// What the reader could not know or had to choose, a sentence each.
    pub warnings: Vec<String>,
}

/// A version as a model type can carry it: what a file names, where it looks like a version.
pub(super) fn version(named: &str) -> Option<&str> {
    const VERSION_BYTES_MAX: usize = 64;
    let named = named.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    ((1..=VERSION_BYTES_MAX).contains(&named.len()) && named.chars().all(plain)).then_some(named)
}
