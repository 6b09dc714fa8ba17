//! The models that are built: eight files of weights that do not shrink, and ten thousand small files that do.
//!
//! What must stay true: the same bytes each time, so that numbers of two machines are of the same work.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// How many files the large model has.
pub const WEIGHTS: usize = 8;
/// How many files the model of small files has.
pub const SMALL_FILES: usize = 10_000;

const CONTRACT: &str = r#"signatures {
  signature_name: "infer"
  inputs { name: "x" shape { dim { size: -1 } dim { size: 2 } } dtype: DT_DOUBLE }
  outputs { name: "y" shape { dim { size: -1 } } dtype: DT_DOUBLE }
}
"#;

/// The models.
pub struct Models {
    /// A folder of [`WEIGHTS`] files.
    pub large: PathBuf,
    /// How the files of the large model are called in a table.
    pub large_title: String,
    /// A folder of one such file.
    pub single: PathBuf,
    /// A folder of [`SMALL_FILES`] files.
    pub small: PathBuf,
}

impl Models {
    /// Writes them below `folder`; the large one has `model_mib`.
    pub fn make(folder: &Path, model_mib: u64) -> io::Result<Models> {
        let each_mib = (model_mib / WEIGHTS as u64).max(8);
        let models = Models {
            large: folder.join("large"),
            large_title: format!("{WEIGHTS} × {each_mib} MiB"),
            single: folder.join("single"),
            small: folder.join("small"),
        };
        for model in [&models.large, &models.single, &models.small] {
            fs::create_dir_all(model)?;
            fs::write(model.join("contract.prototxt"), CONTRACT)?;
        }
        for number in 0..WEIGHTS {
            noise(&models.large.join(format!("weights-{number}.bin")), each_mib << 20, number as u64)?;
        }
        fs::hard_link(models.large.join("weights-0.bin"), models.single.join("weights.bin"))?;
        let mut random = Random(1);
        for number in 0..SMALL_FILES {
            let part = models.small.join(format!("part-{:03}", number / 100));
            fs::create_dir_all(&part)?;
            fs::write(part.join(format!("file-{number:05}.txt")), random.text())?;
        }
        Ok(models)
    }

    /// The weights of the large model.
    pub fn weights(&self) -> Vec<PathBuf> {
        (0..WEIGHTS).map(|number| self.large.join(format!("weights-{number}.bin"))).collect()
    }
}

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Numbers as text, 1 to 15 KB: it halves under gzip, as tokenizers, configurations and code do.
    fn text(&mut self) -> String {
        let size_bytes = 1000 + self.next() as usize % 14_000;
        let mut text = String::with_capacity(size_bytes + 16);
        while text.len() < size_bytes {
            text.push_str(&format!("{:.4} ", self.next() as f64 / u64::MAX as f64));
        }
        text
    }
}

fn noise(path: &Path, size_bytes: u64, seed: u64) -> io::Result<()> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for _ in 0..size_bytes / 8 {
        file.write_all(&random.next().to_le_bytes())?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
