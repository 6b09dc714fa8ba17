//! A sample of large files: what is left of them when they are compressed.
//!
//! Of each file [`BLOCKS`] blocks are read, spread evenly from its first byte to its last, and each is packed by itself with zstd's first level, which finds
//! what is to be found in a tensor within a thousandth (dependencies, finding 4). Its negative levels do not: they code no entropy.
//!
//! What must stay true: the same bytes give the same sample, so the blocks are chosen by the file's size alone; and a file that is not what it was is refused
//! here as it is when it is sealed (`render.rs`).

use std::io::{self, Read as _};
use std::path::PathBuf;

use super::render::{RenderError, Renderer};
use crate::model::packing::Sample;
use crate::oci::layer::{Content, EntryKind, Recipe};

/// How many blocks of a file are read.
const BLOCKS: u64 = 16;
/// How much is read of each.
const BLOCK_BYTES: u64 = 64 << 10;
const LEVEL: i32 = 1;

/// Samples the files of a layer; a MiB of each is read.
pub fn sample(recipe: &Recipe) -> Result<Sample, RenderError> {
    let mut sample = Sample::default();
    for entry in recipe.entries() {
        if let EntryKind::File { size_bytes, content, .. } = &entry.kind {
            let (read_bytes, packed_bytes) = blocks(content, *size_bytes).map_err(|error| {
                let path = if let Content::Local(file) = content { file.path.clone() } else { PathBuf::from(entry.path.as_str()) };
                error.downcast::<RenderError>().unwrap_or_else(|source| RenderError::Unreadable { path, source })
            })?;
            sample.add(*size_bytes, read_bytes, packed_bytes);
        }
    }
    Ok(sample)
}

/// How much was read of a file, and what was left of it.
fn blocks(content: &Content, size_bytes: u64) -> io::Result<(u64, u64)> {
    let mut zstd = zstd::bulk::Compressor::new(LEVEL)?;
    let (mut read_bytes, mut packed_bytes) = (0, 0);
    let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
    let last = size_bytes.saturating_sub(BLOCK_BYTES);
    for at in 0..BLOCKS {
        // Of the last block's place, so that no rounding adds up; a size is far below the 2^60 at which this would overflow.
        let begin = last.saturating_mul(at) / (BLOCKS - 1);
        block.clear();
        Renderer::file(content.clone(), size_bytes, begin..begin.saturating_add(BLOCK_BYTES)).read_to_end(&mut block)?;
        read_bytes += block.len() as u64;
        packed_bytes += zstd.compress(&block)?.len() as u64;
    }
    Ok((read_bytes, packed_bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::disk::render::stamp;
    use crate::oci::layer::{Entry, LocalFile};
    use crate::oci::path::TreePath;

    const FILE_BYTES: usize = 9_000_001;

    fn layer(folder: &std::path::Path, path: &str, bytes: &[u8]) -> Recipe {
        let local = folder.join("file");
        fs::write(&local, bytes).unwrap();
        let stamp = stamp(&fs::metadata(&local).unwrap());
        let content = Content::Local(Arc::new(LocalFile { path: local, stamp, digest: None }));
        let kind = EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content };
        Recipe::new(vec![Entry { path: TreePath::new(path).unwrap(), kind }], 0).unwrap()
    }

    fn noise(bytes: &mut [u8]) {
        let mut state = 1_u64;
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 24) as u8;
        }
    }

    #[test]
    fn what_shrinks_is_told_from_what_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; FILE_BYTES];
        let of = |bytes: &[u8]| sample(&layer(folder.path(), "w", bytes)).unwrap();
        assert!(of(&bytes).ratio() < 0.001 && of(&bytes).shrinks());
        noise(&mut bytes[..FILE_BYTES / 2]);
        assert!((0.49..0.51).contains(&of(&bytes).ratio()), "{:?}", of(&bytes));
        noise(&mut bytes);
        let of_noise = of(&bytes);
        assert!((1.0..1.001).contains(&of_noise.ratio()) && !of_noise.shrinks(), "{of_noise:?}");
        // bfloat16: a sign and eight bits of exponent of which few are used, seven of mantissa that are noise.
        bytes.iter_mut().skip(1).step_by(2).for_each(|byte| *byte = 0x3c | (*byte & 0x83));
        assert!((0.6..0.85).contains(&of(&bytes).ratio()), "{:?}", of(&bytes));
        assert_eq!(sample(&layer(folder.path(), "w", b"short")).unwrap().size_bytes, 5);
        assert_eq!(sample(&layer(folder.path(), "w", b"")).unwrap(), Sample::default());
    }

    /// Images hang on it, as they do on the compressors (`pack.rs`).
    #[test]
    fn a_sample_is_what_it_has_always_been_whatever_the_file_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..FILE_BYTES as u64).map(|at| ((at * at) >> 11) as u8 & 0x3f).collect();
        let found = sample(&layer(folder.path(), "w", &bytes)).unwrap();
        assert_eq!(found, Sample { size_bytes: FILE_BYTES as u64, packed_bytes: 3_769_701 });
        let long = format!("{}/{}/w", "d".repeat(120), "e".repeat(90));
        assert_eq!(sample(&layer(folder.path(), &long, &bytes)).unwrap(), found);
    }

    #[test]
    fn a_file_that_is_not_what_it_was_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = layer(folder.path(), "w", &[1; 100]);
        fs::write(folder.path().join("file"), [2; 101]).unwrap();
        let error = sample(&recipe).unwrap_err();
        assert!(error.to_string().ends_with("file` changed while it was being read: it has 101 bytes and not 100"), "{error}");
    }
}
