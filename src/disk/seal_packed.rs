//! Sealing a layer whose files lie compressed in archives: both of its digests, and the proof that the archives hold what they say.
//!
//! The blob is hashed as it will be sent, a splice (`splice_reader.rs`); its tar is read once beside that, every member unpacked on the way and thrown away. Nothing
//! is written.
//!
//! What must stay true: a layer is sealed only if every member's stream ends with its last byte, and gives as many bytes as the directory says with the CRC
//! that it says: whoever unpacks the layer would stumble otherwise, and over bytes of strangers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use flate2::bufread::DeflateDecoder;

use super::render::{READ_BYTES, RenderError, at_most, check_file, open_file, render_error};
use super::splice_reader::{SpliceReader, read_at};
use super::stream;
use crate::fault::{Failure, Fault};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::image::{Compression, LayerSource, Purpose, SealedLayer};
use crate::oci::packed::{Body, Member, PackedFile, PackedLayer};
use crate::oci::path::TreePath;
use crate::oci::splice::{Splice, SplicedFile};

/// Why a packed layer cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum PackedError {
    /// An archive cannot be read, or is not what it was.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A member is not what the archive's directory says.
    #[error("`{}` is damaged: the file that becomes `/{path}` {what}", .archive.display())]
    Member {
        /// The archive.
        archive: PathBuf,
        /// The file.
        path: TreePath,
        /// What is wrong.
        what: String,
    },
    /// A thread ended by a panic.
    #[error("hashing the layer stopped")]
    Stopped,
}

impl Failure for PackedError {
    fn fault(&self) -> Fault {
        match self {
            PackedError::Render(error) => error.fault(),
            PackedError::Member { .. } => Fault::Invalid,
            PackedError::Stopped => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            PackedError::Render(error) => error.remedy(),
            PackedError::Member { .. } => Some("remove that file, so that it is fetched again, or require another version".to_owned()),
            PackedError::Stopped => None,
        }
    }
}

/// Reads a layer once and names its blob, `splice`. `progress` is called with the number of bytes of the tar since it was called before.
pub fn seal(layer: &PackedLayer, splice: Arc<Splice>, purpose: Purpose, progress: &dyn Fn(u64)) -> Result<SealedLayer, PackedError> {
    let of_blob = splice.clone();
    let (blob, diff_id) = std::thread::scope(|scope| {
        let blob = scope.spawn(move || hash_blob(of_blob));
        let diff_id = diff_id(layer, progress);
        (blob.join().map_err(|_| PackedError::Stopped), diff_id)
    });
    let (size_bytes, digest) = blob??;
    Ok(SealedLayer { digest, size_bytes, diff_id: diff_id?, compression: Compression::Gzip, purpose, source: LayerSource::Splice(splice) })
}

fn hash_blob(splice: Arc<Splice>) -> Result<(u64, Digest), PackedError> {
    let hashed = stream::hash(&mut SpliceReader::new(splice));
    hashed.map_err(|error| PackedError::Render(error.downcast::<RenderError>().expect("a splice fails with nothing else")))
}

fn diff_id(layer: &PackedLayer, progress: &dyn Fn(u64)) -> Result<Digest, PackedError> {
    let mut hasher = Hasher::new();
    let mut archives = Vec::new();
    for spliced in layer.archives() {
        archives.push(open_file(&spliced.local, spliced.size_bytes)?);
    }
    let zeros = [0; 1024];
    let mut buffer = vec![0; READ_BYTES];
    for (path, file) in layer.entries() {
        hasher.update(&layer.header(path, file));
        let Some(file) = file else { continue };
        match &file.body {
            Body::Inline(bytes) => hasher.update(bytes),
            Body::Member(member) => {
                let range = Range::new(&archives[member.archive], &layer.archives()[member.archive], member);
                prove(range, file, member, path, &mut buffer, &mut |bytes| {
                    hasher.update(bytes);
                    progress(bytes.len() as u64);
                })?;
            }
        }
        hasher.update(&zeros[..PackedLayer::padding_bytes(file)]);
    }
    hasher.update(&zeros[..PackedLayer::end_bytes()]);
    for (file, spliced) in archives.iter().zip(layer.archives()) {
        check_file(file, &spliced.local, spliced.size_bytes)?;
    }
    Ok(hasher.finish())
}

/// Unpacks a member into `out`, and compares it with what is said of it.
fn prove(
    range: Range<'_>,
    file: &PackedFile,
    member: &Member,
    path: &TreePath,
    buffer: &mut [u8],
    out: &mut dyn FnMut(&[u8]),
) -> Result<(), PackedError> {
    let archive = range.archive.local.path.clone();
    let damaged = |what: &str| PackedError::Member { archive: archive.clone(), path: path.clone(), what: what.to_owned() };
    let packed = BufReader::with_capacity(at_most(READ_BYTES, member.packed_bytes).max(1), range);
    let mut unpacker = if member.deflated { Unpacker::Deflated(Box::new(DeflateDecoder::new(packed))) } else { Unpacker::Stored(packed) };
    let (mut crc, mut size_bytes) = (flate2::Crc::new(), 0u64);
    loop {
        let length = match unpacker.read(buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => {
                return Err(match render_error(&error) {
                    Some(_) => PackedError::Render(error.downcast().expect("looked at above")),
                    None => damaged(&format!("cannot be unpacked: {error}")),
                });
            }
        };
        size_bytes += length as u64;
        if size_bytes > file.size_bytes {
            return Err(damaged("is longer than its directory says"));
        }
        crc.update(&buffer[..length]);
        out(&buffer[..length]);
    }
    if size_bytes != file.size_bytes {
        return Err(damaged("is shorter than its directory says"));
    }
    if crc.sum() != member.crc32 {
        return Err(damaged("has another CRC than its directory says"));
    }
    if !unpacker.is_at_end().map_err(|error| damaged(&error.to_string()))? {
        return Err(damaged("ends before its packed bytes do"));
    }
    Ok(())
}

enum Unpacker<'a> {
    Deflated(Box<DeflateDecoder<BufReader<Range<'a>>>>),
    Stored(BufReader<Range<'a>>),
}

impl Unpacker<'_> {
    /// Whether every packed byte has been used.
    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(match self {
            Unpacker::Deflated(decoder) => decoder.get_mut().fill_buf()?.is_empty(),
            Unpacker::Stored(packed) => packed.fill_buf()?.is_empty(),
        })
    }
}

impl Read for Unpacker<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Unpacker::Deflated(decoder) => decoder.read(buffer),
            Unpacker::Stored(packed) => packed.read(buffer),
        }
    }
}

/// The packed bytes of a member.
struct Range<'a> {
    file: &'a File,
    archive: &'a SplicedFile,
    at: u64,
    end: u64,
}

impl<'a> Range<'a> {
    fn new(file: &'a File, archive: &'a SplicedFile, member: &Member) -> Range<'a> {
        Range { file, archive, at: member.offset_bytes, end: member.offset_bytes.saturating_add(member.packed_bytes) }
    }
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = at_most(buffer.len(), self.end - self.at);
        if length == 0 {
            return Ok(0);
        }
        let read = read_at(self.file, &self.archive.local.path, &mut buffer[..length], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write as _;

    use super::*;
    use crate::disk::render::stamp;
    use crate::oci::layer::LocalFile;

    /// A layer of one file whose packed bytes are `bytes` between two others.
    fn layer(folder: &std::path::Path, bytes: &[u8], deflated: bool, size_bytes: u64, crc32: u32) -> PackedLayer {
        let path = folder.join("wheel.whl");
        let all = [b"<<<", bytes, b">>>"].concat();
        std::fs::write(&path, &all).unwrap();
        let local = Arc::new(LocalFile { stamp: stamp(&std::fs::metadata(&path).unwrap()), path, digest: None });
        let archive = SplicedFile { digest: Digest::of(&all), size_bytes: all.len() as u64, local };
        let member = Member { archive: 0, offset_bytes: 3, packed_bytes: bytes.len() as u64, deflated, crc32 };
        let file = PackedFile { size_bytes, executable: false, body: Body::Member(member) };
        PackedLayer::new(vec![archive], BTreeMap::from([(TreePath::new("model/lib/x.py").unwrap(), file)]), 0).unwrap()
    }

    fn sealed(layer: &PackedLayer) -> Result<SealedLayer, PackedError> {
        seal(layer, Arc::new(layer.splice().unwrap()), Purpose::Requirements, &|_| ())
    }

    #[test]
    fn the_digests_are_those_of_the_blob_and_of_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = b"import this\n".repeat(9000);
        let mut deflater = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflater.write_all(&text).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(&text);
        for (bytes, deflated) in [(deflater.finish().unwrap(), true), (text.clone(), false)] {
            let layer = layer(folder.path(), &bytes, deflated, text.len() as u64, crc.sum());
            let sealed = sealed(&layer).unwrap();
            let LayerSource::Splice(splice) = &sealed.source else { panic!("a splice was to be made") };
            let mut blob = Vec::new();
            SpliceReader::new(splice.clone()).read_to_end(&mut blob).unwrap();
            assert_eq!((sealed.digest, sealed.size_bytes), (Digest::of(&blob), blob.len() as u64));
            let mut tar = Vec::new();
            flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut tar).unwrap();
            assert_eq!(sealed.diff_id, Digest::of(&tar));
        }
    }

    #[test]
    fn a_member_that_is_not_what_is_said_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut deflater = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflater.write_all(b"import this\n").unwrap();
        let good = deflater.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(b"import this\n");
        let crc = crc.sum();
        let with_more = [good.as_slice(), b"!"].concat();
        for (bytes, deflated, size_bytes, crc32, what) in [
            (good.as_slice(), true, 11, crc, "longer"),
            (&good, true, 13, crc, "shorter"),
            (&good, true, 12, crc ^ 1, "CRC"),
            (&with_more, true, 12, crc, "ends before"),
            (&good[..4], true, 12, crc, ""),
            (&[0xff; 20], true, 12, crc, "cannot be unpacked"),
        ] {
            let error = sealed(&layer(folder.path(), bytes, deflated, size_bytes, crc32)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("wheel.whl` is damaged") && text.contains("/model/lib/x.py") && text.contains(what), "{what}: {text}");
        }
    }
}
