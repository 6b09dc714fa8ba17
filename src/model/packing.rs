//! How layers are compressed: what a user chooses, what that means for a layer, and what a sample of large files says.
//!
//! A choice names the compressor. Small files are packed with it together. A large file is packed only where a sample of its bytes says that it
//! shrinks: weights mostly do not, and one that is left alone is never written anywhere, neither here nor in a store (`oci/layer.rs`). Values only; who
//! reads the sample is `disk/sample.rs`.
//!
//! What must stay true: the verdict on a file follows from its bytes alone. Image digests hang on [`SHRINKS_PERCENT`] as on the compressors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fault::{Failure, Fault};
use crate::oci::image::Compression;

/// The most of its size, in percent, that a file may be expected to keep for it to be worth compressing: below a tenth less, whoever packs and whoever
/// unpacks loses more time than the wire wins, and the layer has to be written.
pub const SHRINKS_PERCENT: u64 = 90;

/// What the user chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// What is best for most: gzip, which everybody reads.
    #[default]
    Auto,
    /// Nothing is compressed.
    None,
    /// Gzip, also should `auto` ever mean something else.
    Gzip,
    /// Zstd, which Docker's family has no word for.
    Zstd,
}

/// A word that is no choice.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is no compression", .0.escape_debug())]
pub struct ChoiceError(String);

impl Failure for ChoiceError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        Some(format!("say one of {}", Choice::ALL.map(|choice| format!("`{choice}`")).join(", ")))
    }
}

impl Choice {
    /// All of them.
    pub const ALL: [Choice; 4] = [Choice::Auto, Choice::None, Choice::Gzip, Choice::Zstd];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Choice::Auto => "auto",
            Choice::None => "none",
            Choice::Gzip => "gzip",
            Choice::Zstd => "zstd",
        }
    }

    /// How a layer of large files is compressed.
    pub fn of_large(self) -> Packing {
        match self.of_small().compressor() {
            Compression::None => Packing::As(Compression::None),
            compressor => Packing::Sampled(compressor),
        }
    }

    /// How a layer of small files is.
    pub fn of_small(self) -> Packing {
        Packing::As(match self {
            Choice::None => Compression::None,
            Choice::Auto | Choice::Gzip => Compression::Gzip,
            Choice::Zstd => Compression::Zstd,
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Choice {
    type Err = ChoiceError;

    fn from_str(word: &str) -> Result<Choice, ChoiceError> {
        Choice::ALL.into_iter().find(|choice| choice.word() == word).ok_or_else(|| ChoiceError(word.to_owned()))
    }
}

/// How a planned layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// In this way, whatever is in it.
    As(Compression),
    /// In this way where a sample says that its files shrink; else not at all.
    Sampled(Compression),
}

impl Packing {
    /// The compressor, should it be used.
    pub fn compressor(self) -> Compression {
        match self {
            Packing::As(compression) | Packing::Sampled(compression) => compression,
        }
    }
}

/// What a sample of files says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The bytes of the files that were sampled.
    pub size_bytes: u64,
    /// What is expected to be left of them.
    pub packed_bytes: u64,
}

impl Sample {
    /// Adds a file of `size_bytes`, of which `read_bytes` were read and gave `packed_bytes`.
    pub fn add(&mut self, size_bytes: u64, read_bytes: u64, packed_bytes: u64) {
        let packed = u128::from(size_bytes) * u128::from(packed_bytes) / u128::from(read_bytes.max(1));
        self.size_bytes = self.size_bytes.saturating_add(size_bytes);
        self.packed_bytes = self.packed_bytes.saturating_add(u64::try_from(packed).unwrap_or(u64::MAX));
    }

    /// Whether compressing is worth it.
    pub fn shrinks(&self) -> bool {
        u128::from(self.packed_bytes) * 100 <= u128::from(self.size_bytes) * u128::from(SHRINKS_PERCENT)
    }

    /// What is left of each byte; for people, nothing is decided by it.
    pub fn ratio(&self) -> f64 {
        if self.size_bytes == 0 { 1.0 } else { self.packed_bytes as f64 / self.size_bytes as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_becomes_of_large_and_of_small_files() {
        use Compression::{Gzip, None, Zstd};
        for (word, large, small) in [
            ("auto", Packing::Sampled(Gzip), Gzip),
            ("none", Packing::As(None), None),
            ("gzip", Packing::Sampled(Gzip), Gzip),
            ("zstd", Packing::Sampled(Zstd), Zstd),
        ] {
            let choice: Choice = word.parse().unwrap();
            assert_eq!((choice.of_large(), choice.of_small(), choice.to_string()), (large, Packing::As(small), word.to_owned()));
        }
        let error = "brotli".parse::<Choice>().unwrap_err();
        assert_eq!(error.to_string(), "`brotli` is no compression");
        assert_eq!(error.remedy().unwrap(), "say one of `auto`, `none`, `gzip`, `zstd`");
    }

    #[test]
    fn a_tenth_less_is_worth_it_and_files_count_by_their_sizes() {
        let of = |files: &[(u64, u64, u64)]| {
            let mut sample = Sample::default();
            for (size, read, packed) in files {
                sample.add(*size, *read, *packed);
            }
            sample
        };
        assert!(of(&[(1000, 100, 90)]).shrinks());
        assert!(!of(&[(1000, 100, 91)]).shrinks());
        assert!(of(&[(9000, 100, 20), (1000, 100, 100)]).shrinks());
        assert!(!of(&[(1000, 100, 20), (9000, 100, 100)]).shrinks());
        assert!((of(&[(9000, 100, 20), (1000, 100, 100)]).ratio() - 0.28).abs() < 1e-9);
        assert!(!of(&[(u64::MAX, 1, u64::MAX)]).shrinks(), "no overflow");
    }
}
