//! The compressors: the bytes of a tar become the bytes of a blob.
//!
//! Large files are packed quickly, small ones thoroughly ([`Effort`]). What of a tensor can be packed, its exponents, the quick level finds as well, and an
//! order of magnitude sooner; only text gains by patience. (miniz_oxide, MB/s a core and what is left: bfloat16 weights 214 and 0.787 at level 1, 10 and
//! 0.794 at level 6; a CSV 69 and 0.361 against 13 and 0.229.)
//!
//! What must stay true: the bytes follow from the tar alone, on every machine. Compressors differ by library, version and level, some by the size of the
//! writes, by the number of threads, or by whether the size is told before (dependencies, finding 3). Hence miniz_oxide behind flate2 and the zstd library, both
//! pinned in Cargo.toml; writes of [`WRITE_BYTES`]; one thread; no size told; a gzip header without time, name or system. The tests hold the bytes.

use std::io::{self, Write};

use flate2::GzBuilder;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::model::plan::LARGE_BYTES;
use crate::oci::image::Compression;
use crate::oci::layer::{EntryKind, Recipe};

/// What is given to a compressor at once.
pub const WRITE_BYTES: usize = 64 << 10;

/// RFC 1952: 255 is "unknown".
const GZIP_SYSTEM: u8 = 255;

/// How hard a compressor tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For layers of large files.
    Quick,
    /// For layers of small ones.
    Thorough,
}

impl Effort {
    /// That of a layer: one with a large file in it is packed quickly.
    pub fn of(recipe: &Recipe) -> Effort {
        let is_large = |kind: &EntryKind| matches!(kind, EntryKind::File { size_bytes, .. } if *size_bytes >= LARGE_BYTES);
        if recipe.entries().iter().any(|entry| is_large(&entry.kind)) { Effort::Quick } else { Effort::Thorough }
    }
}

/// Packs what is written to it, in pieces of [`WRITE_BYTES`] but for the last, into `W`.
pub enum Packer<W: Write> {
    /// As it is.
    Plain(W),
    /// RFC 1952, one member.
    Gzip(GzEncoder<W>),
    /// RFC 8878, one frame with a checksum.
    Zstd(ZstdEncoder<'static, W>),
}

impl<W: Write> Packer<W> {
    /// A packer that writes a blob to `blob`.
    pub fn new(compression: Compression, effort: Effort, blob: W) -> io::Result<Packer<W>> {
        Ok(match (compression, effort) {
            (Compression::None, _) => Packer::Plain(blob),
            (Compression::Gzip, Effort::Quick) => Packer::gzip(1, blob),
            (Compression::Gzip, Effort::Thorough) => Packer::gzip(6, blob),
            (Compression::Zstd, Effort::Quick) => Packer::zstd(1, blob)?,
            (Compression::Zstd, Effort::Thorough) => Packer::zstd(3, blob)?,
        })
    }

    fn gzip(level: u32, blob: W) -> Packer<W> {
        Packer::Gzip(GzBuilder::new().mtime(0).operating_system(GZIP_SYSTEM).write(blob, flate2::Compression::new(level)))
    }

    fn zstd(level: i32, blob: W) -> io::Result<Packer<W>> {
        let mut encoder = ZstdEncoder::new(blob, level)?;
        encoder.include_checksum(true)?;
        Ok(Packer::Zstd(encoder))
    }

    /// Packs the next piece.
    pub fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Packer::Plain(blob) => blob.write_all(piece),
            Packer::Gzip(encoder) => encoder.write_all(piece),
            Packer::Zstd(encoder) => encoder.write_all(piece),
        }
    }

    /// Writes the end, and gives back what was written to.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Packer::Plain(blob) => Ok(blob),
            Packer::Gzip(encoder) => encoder.finish(),
            Packer::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::oci::digest::Digest;

    /// A megabyte with everything in it: text, tensors, zeros and noise, the same on every machine.
    fn everything() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        while bytes.len() < 1_000_000 {
            for at in 0..64 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                match (bytes.len() >> 15) % 4 {
                    0 => bytes.extend(format!("{at},user-{},{}\n", state % 1000, ["red", "green", "blue"][state as usize % 3]).bytes()),
                    1 => bytes.extend_from_slice(&((state >> 40) as f32 / 16_777_216.0 - 0.5).to_le_bytes()[2..]),
                    2 => bytes.extend_from_slice(&[0; 16]),
                    _ => bytes.extend_from_slice(&state.to_le_bytes()),
                }
            }
        }
        bytes
    }

    fn packed(compression: Compression, effort: Effort, bytes: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new(compression, effort, Vec::new()).unwrap();
        bytes.chunks(WRITE_BYTES).for_each(|piece| packer.write_all(piece).unwrap());
        packer.finish().unwrap()
    }

    /// A change here is a change of every user's digests: it needs a changelog entry. It is what tells that a pinned crate is another one, or that a crate of
    /// somebody else has switched flate2 to another backend.
    #[test]
    fn the_compressors_give_the_bytes_that_they_have_always_given() {
        let bytes = everything();
        let mut found = vec![format!("input {} {}", bytes.len(), Digest::of(&bytes).short())];
        for compression in [Compression::Gzip, Compression::Zstd] {
            for effort in [Effort::Quick, Effort::Thorough] {
                let blob = packed(compression, effort, &bytes);
                found.push(format!("{compression:?} {effort:?} {} {}", blob.len(), Digest::of(&blob).short()));
                let mut back = Vec::new();
                match compression {
                    Compression::Zstd => zstd::stream::copy_decode(&blob[..], &mut back).unwrap(),
                    _ => drop(flate2::read::GzDecoder::new(&blob[..]).read_to_end(&mut back).unwrap()),
                }
                assert!(back == bytes, "{compression:?} {effort:?} comes back");
            }
        }
        let expected = [
            "input 1000032 7449769640f6",
            "Gzip Quick 559565 db64241ee635",
            "Gzip Thorough 524007 22fcf0df0507",
            "Zstd Quick 512268 c05bcf06b901",
            "Zstd Thorough 509956 50e349e268bc",
        ];
        assert_eq!(found, expected);
        assert_eq!(packed(Compression::None, Effort::Quick, &bytes), bytes);
    }

    #[test]
    fn headers_say_nothing_of_the_machine() {
        let gzip = packed(Compression::Gzip, Effort::Thorough, b"x");
        assert_eq!(gzip[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        // The magic number; a checksum, no content size, no dictionary (RFC 8878, 3.1.1.1.1).
        let zstd = packed(Compression::Zstd, Effort::Quick, b"x");
        assert_eq!((&zstd[..4], zstd[4]), (&[0x28, 0xb5, 0x2f, 0xfd][..], 0b0000_0100));
    }
}
