//! A compressed layer made of files that lie compressed in archives already.
//!
//! A member of a zip file is a deflate stream with a CRC-32 and a size (APPNOTE 4.4.5), and so is a member of a gzip file (RFC 1952), of which a gzip file
//! may have any number (section 2.2; eStargz is built on it). A tar whose every file is a gzip member of its own can therefore be put together from
//! wheels with not one file unpacked, compressed or copied: [`PackedLayer::splice`]. What is between the files (headers, padding, small files of our
//! own) is compressed by `run_deflate.rs`. The bytes of the tar itself, for the diff ID, are read by `disk/seal_packed.rs`, which proves every
//! stranger's member on the way.
//!
//! What must stay true: as for a recipe (`layer.rs`), and the blob is a function of the entries and of the archives' bytes alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layer::{BLOCK_BYTES, Content, EntryKind, RecipeError};
use super::path::TreePath;
use super::run_deflate::deflate;
use super::splice::{PieceSource, Splice, SpliceError, SplicedFile};
use super::tar_header;

/// Two zero blocks end an archive (POSIX pax).
const END_BYTES: usize = 2 * BLOCK_BYTES as usize;
/// The most that a stored block of deflate holds.
const STORED_BYTES_MAX: u64 = 0xffff;
/// What begins every gzip member: no time, no name, no flags, system 255 "unknown".
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A file of a packed layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedFile {
    /// The number of its bytes.
    pub size_bytes: u64,
    /// 0755 rather than 0644.
    pub executable: bool,
    /// Where its bytes are.
    pub body: Body,
}

/// Where the bytes of a packed file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Here.
    Inline(Arc<[u8]>),
    /// In an archive.
    Member(Member),
}

/// A file within an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which archive, by its place among the layer's.
    pub archive: usize,
    /// Where its packed bytes begin.
    pub offset_bytes: u64,
    /// How many packed bytes there are.
    pub packed_bytes: u64,
    /// Whether they are a deflate stream; else they are the bytes themselves.
    pub deflated: bool,
    /// The CRC-32 of the file.
    pub crc32: u32,
}

/// The files of a layer, and the archives that they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedLayer {
    archives: Vec<SplicedFile>,
    /// A folder where there is no file.
    entries: BTreeMap<TreePath, Option<PackedFile>>,
    modified_s: u64,
}

impl PackedLayer {
    /// Adds the folders above the files. `modified_s` is the time stamp of every entry, in seconds since the epoch.
    pub fn new(archives: Vec<SplicedFile>, files: BTreeMap<TreePath, PackedFile>, modified_s: u64) -> Result<PackedLayer, RecipeError> {
        let folders = files.keys().flat_map(|path| path.ancestors().collect::<Vec<_>>()).map(|path| (path, None));
        let mut entries: BTreeMap<TreePath, Option<PackedFile>> = folders.collect();
        for (path, file) in files {
            if entries.contains_key(&path) {
                return Err(RecipeError::BelowFile(path));
            }
            entries.insert(path, Some(file));
        }
        Ok(PackedLayer { archives, entries, modified_s })
    }

    /// The archives.
    pub fn archives(&self) -> &[SplicedFile] {
        &self.archives
    }

    /// Every entry in the order of the tar; a folder where there is no file.
    pub fn entries(&self) -> impl Iterator<Item = (&TreePath, Option<&PackedFile>)> {
        self.entries.iter().map(|(path, file)| (path, file.as_ref()))
    }

    /// The files, and their bytes unpacked.
    pub fn counted(&self) -> (usize, u64) {
        let files = self.entries.values().flatten();
        files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.size_bytes))
    }

    /// The header blocks of an entry.
    pub fn header(&self, path: &TreePath, file: Option<&PackedFile>) -> Vec<u8> {
        let kind = file.map_or(EntryKind::Folder, |file| EntryKind::File {
            size_bytes: file.size_bytes,
            executable: file.executable,
            content: Content::Inline([].into()),
        });
        tar_header::blocks(path, &kind, self.modified_s)
    }

    /// What stands between the bytes of a file and the next header.
    pub fn padding_bytes(file: &PackedFile) -> usize {
        (file.size_bytes.next_multiple_of(BLOCK_BYTES) - file.size_bytes) as usize
    }

    /// The zeros that end the tar.
    pub fn end_bytes() -> usize {
        END_BYTES
    }

    /// The layer's blob. An error says that a member lies outside of its archive.
    pub fn splice(&self) -> Result<Splice, SpliceError> {
        let mut out = Members::default();
        for (path, file) in self.entries() {
            out.own.extend(self.header(path, file));
            let Some(file) = file else { continue };
            match &file.body {
                Body::Inline(bytes) => out.own.extend_from_slice(bytes),
                // A stream of no bytes is a member for nothing.
                Body::Member(_) if file.size_bytes == 0 => {}
                Body::Member(member) => out.member(member, file.size_bytes),
            }
            out.own.resize(out.own.len() + PackedLayer::padding_bytes(file), 0);
        }
        out.own.resize(out.own.len() + END_BYTES, 0);
        out.end_own();
        Splice::new(out.glue.into(), self.archives.clone(), &out.sources)
    }
}

/// Gzip members, one after another.
#[derive(Default)]
struct Members {
    glue: Vec<u8>,
    sources: Vec<(u64, PieceSource)>,
    /// Bytes of the tar that no archive has, until the next member of one.
    own: Vec<u8>,
}

impl Members {
    fn member(&mut self, member: &Member, size_bytes: u64) {
        self.end_own();
        self.put(&GZIP_HEADER);
        if member.deflated {
            self.take(member, 0, member.packed_bytes);
        } else {
            self.stored(member, size_bytes);
        }
        self.put(&member.crc32.to_le_bytes());
        // RFC 1952: the size modulo 2^32.
        self.put(&(size_bytes as u32).to_le_bytes());
    }

    /// A file that lies in its archive as it is: stored blocks (RFC 1951, 3.2.4).
    fn stored(&mut self, member: &Member, size_bytes: u64) {
        let mut at = 0;
        while at < size_bytes {
            let length = (size_bytes - at).min(STORED_BYTES_MAX);
            let (is_last, length_16) = (u8::from(at + length == size_bytes), length as u16);
            self.put(&[is_last]);
            self.put(&length_16.to_le_bytes());
            self.put(&(!length_16).to_le_bytes());
            self.take(member, at, length);
            at += length;
        }
    }

    fn end_own(&mut self) {
        if self.own.is_empty() {
            return;
        }
        let own = std::mem::take(&mut self.own);
        let mut crc = flate2::Crc::new();
        crc.update(&own);
        self.put(&GZIP_HEADER);
        self.put(&deflate(&own));
        self.put(&crc.sum().to_le_bytes());
        self.put(&crc.amount().to_le_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.sources.last_mut() {
            Some((size_bytes, PieceSource::Glue(_))) => *size_bytes += bytes.len() as u64,
            _ => self.sources.push((bytes.len() as u64, PieceSource::Glue(self.glue.len() as u64))),
        }
        self.glue.extend_from_slice(bytes);
    }

    fn take(&mut self, member: &Member, from: u64, size_bytes: u64) {
        let offset_bytes = member.offset_bytes.saturating_add(from);
        self.sources.push((size_bytes, PieceSource::File { file: member.archive, offset_bytes }));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::oci::digest::Digest;
    use crate::oci::layer::{LocalFile, Stamp};

    fn archive(bytes: &[u8]) -> SplicedFile {
        let local = LocalFile { path: "wheel".into(), stamp: Stamp::default(), digest: None };
        SplicedFile { digest: Digest::of(bytes), size_bytes: bytes.len() as u64, local: Arc::new(local) }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    fn blob(splice: &Splice, archive: &[u8]) -> Vec<u8> {
        let piece = |piece: &super::super::splice::Piece| match piece.from {
            PieceSource::Glue(at) => splice.glue()[at as usize..][..piece.size_bytes as usize].to_vec(),
            PieceSource::File { offset_bytes, .. } => archive[offset_bytes as usize..][..piece.size_bytes as usize].to_vec(),
        };
        splice.pieces().iter().flat_map(piece).collect()
    }

    #[test]
    fn any_reader_of_gzip_and_tar_finds_the_files() {
        let text = b"import this\n".repeat(1000);
        let weights: Vec<u8> = (0..200_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut deflater = flate2::write::DeflateEncoder::new(b"PK before".to_vec(), flate2::Compression::best());
        deflater.write_all(&text).unwrap();
        let mut bytes = deflater.finish().unwrap();
        let packed_bytes = bytes.len() as u64 - 9;
        bytes.extend_from_slice(&weights);
        let member =
            |offset_bytes, packed_bytes, deflated, crc32| Body::Member(Member { archive: 0, offset_bytes, packed_bytes, deflated, crc32 });
        let file = |size: usize, executable, body| PackedFile { size_bytes: size as u64, executable, body };
        let files = [
            ("lib/a/text.py", file(text.len(), false, member(9, packed_bytes, true, crc32(&text)))),
            ("lib/a/weights", file(weights.len(), false, member(9 + packed_bytes, weights.len() as u64, false, crc32(&weights)))),
            ("lib/b/__init__.py", file(0, false, member(9, 2, true, 0))),
            ("lib/bin/run", file(6, true, Body::Inline(b"#!/bin"[..].into()))),
        ];
        let files = files.into_iter().map(|(path, file)| (TreePath::new(path).unwrap(), file)).collect();
        let layer = PackedLayer::new(vec![archive(&bytes)], files, 0).unwrap();
        assert_eq!(layer.counted(), (4, text.len() as u64 + weights.len() as u64 + 6));
        let splice = layer.splice().unwrap();
        let blob = blob(&splice, &bytes);
        assert_eq!(blob.len() as u64, splice.size_bytes());
        let mut tar = Vec::new();
        flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut tar).unwrap();
        assert_eq!(tar.len() % 512, 0);
        let mut found = Vec::new();
        for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (path, mode) = (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            found.push((path, mode, bytes));
        }
        let paths: Vec<_> = found.iter().map(|(path, mode, _)| (path.as_str(), *mode)).collect();
        let expected = [
            ("lib/", 0o755),
            ("lib/a/", 0o755),
            ("lib/a/text.py", 0o644),
            ("lib/a/weights", 0o644),
            ("lib/b/", 0o755),
            ("lib/b/__init__.py", 0o644),
            ("lib/bin/", 0o755),
            ("lib/bin/run", 0o755),
        ];
        assert_eq!(paths, expected);
        assert!(found[2].2 == text && found[3].2 == weights && found[7].2 == b"#!/bin");
    }
}
