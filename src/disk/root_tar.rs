//! A root file system's tar, plain or compressed, as the tar that a layer is made of.
//!
//! What `docker export`, `podman export` and a distribution's downloads are: told by their first bytes, not by their names. It changes no entries; the layer has
//! them as they are. One is refused: a model's contract, whose files would stay below those of every model that is built on this base.
//!
//! What must stay true: the same tar gives the same layer, however it was packed; and a file that is no tar is refused before any of it is read on.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// The first block of a tar, where its own word is.
const BLOCK_BYTES: usize = 512;
const WORD: &[u8] = b"ustar";
const WORD_AT: usize = 257;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// How other programs' compressions begin, with what unpacks them.
const OTHERS: [(&[u8], &str); 2] = [(&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz -d"), (b"BZh", "bzip2 -d")];

/// Opens a tar, and sees that it is one.
pub fn open(path: &Path) -> io::Result<impl Read + use<>> {
    let mut file = File::open(path)?;
    let start = up_to(&mut file, BLOCK_BYTES)?;
    if let Some((_, program)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(invalid(&format!("it is compressed in a way that is not read here: unpack it first, with `{program}`")));
    }
    let (is_gzip, is_zstd) = (start.starts_with(GZIP), start.starts_with(ZSTD));
    let packed = BufReader::new(io::Cursor::new(start).chain(file));
    let mut tar: Box<dyn Read> = if is_gzip {
        Box::new(MultiGzDecoder::new(packed))
    } else if is_zstd {
        Box::new(zstd::Decoder::with_buffer(packed)?)
    } else {
        Box::new(packed)
    };
    let block = up_to(&mut tar, BLOCK_BYTES)?;
    // Every dialect of tar since 1988 has this word there.
    if block.get(WORD_AT..WORD_AT + WORD.len()) != Some(WORD) {
        return Err(invalid("it is no tar archive"));
    }
    Ok(Watched { tar: io::Cursor::new(block).chain(tar), block: Vec::with_capacity(BLOCK_BYTES), skip_bytes: 0 })
}

/// The member that a model image has, and no base.
const CONTRACT: &[u8] = b"model/contract.protobin";

/// A tar that fails where that member begins. It is read as it comes: headers are looked at in passing, by their plain fields, in which every archiver has so short
/// a name.
struct Watched<R> {
    tar: R,
    /// What has been seen of the header that is being read.
    block: Vec<u8>,
    /// How much comes before the next header.
    skip_bytes: u64,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.tar.read(buffer)?;
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let taken = self.skip_bytes.min(rest.len() as u64) as usize;
            self.skip_bytes -= taken as u64;
            rest = &rest[taken..];
            let taken = rest.len().min(BLOCK_BYTES - self.block.len());
            self.block.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if self.block.len() == BLOCK_BYTES {
                self.pass_header()?;
            }
        }
        Ok(length)
    }
}

impl<R> Watched<R> {
    fn pass_header(&mut self) -> io::Result<()> {
        let header = tar::Header::from_byte_slice(&self.block);
        let name = header.path_bytes();
        let name = name.strip_prefix(b"./").or_else(|| name.strip_prefix(b"/")).unwrap_or(&name);
        if name == CONTRACT {
            return Err(invalid("it has /model/contract.protobin: this is a model's image, and not the base of one"));
        }
        // Whoever cannot be understood is looked at block by block. Links and folders have no bytes, whatever they say.
        let has_bytes = !matches!(header.entry_type().as_byte(), b'1'..=b'6');
        let size_bytes = if has_bytes { header.entry_size().unwrap_or(0) } else { 0 };
        self.skip_bytes = size_bytes.checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(0);
        self.block.clear();
        Ok(())
    }
}

/// The first bytes, as many as there are.
fn up_to(source: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    source.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let mut whole = Vec::new();
        open(file.path())?.read_to_end(&mut whole)?;
        Ok(whole)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn however_it_is_packed_it_is_the_same_tar() {
        let mut tar = vec![0; 5000];
        tar[WORD_AT..WORD_AT + WORD.len()].copy_from_slice(WORD);
        tar[4999] = 7;
        // The second form is what `pigz` writes, and what two archives behind each other are.
        let in_two = [gzip(&tar[..600]), gzip(&tar[600..])].concat();
        for packed in [tar.clone(), gzip(&tar), in_two, zstd::encode_all(tar.as_slice(), 3).unwrap()] {
            assert_eq!(read(&packed).unwrap(), tar);
        }
    }

    #[test]
    fn a_models_contract_is_refused_wherever_it_stands() {
        let tar = |paths: &[&str]| {
            let mut tar = tar::Builder::new(Vec::new());
            for path in paths {
                let mut header = tar::Header::new_gnu();
                header.set_size(700);
                header.set_mode(0o644);
                header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
                header.set_cksum();
                // What a file says is no header.
                let bytes = [b"model/contract.protobin".as_slice(), &[0; 677]].concat();
                tar.append(&header, bytes.as_slice()).unwrap();
            }
            tar.into_inner().unwrap()
        };
        for path in ["model/contract.protobin", "./model/contract.protobin", "/model/contract.protobin"] {
            for tar in [tar(&["etc/passwd", path]), gzip(&tar(&[path, "etc/passwd"]))] {
                assert!(read(&tar).unwrap_err().to_string().contains("a model's image"), "{path}");
            }
        }
        assert!(read(&tar(&["etc/passwd", "model/contract.prototxt", "x/model/contract.protobin"])).is_ok());
    }

    #[test]
    fn what_is_no_tar_is_refused_in_words() {
        let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        for bytes in [&b""[..], b"short", &[0; 4096], &gzip(b"short"), &gzip(&[0; 4096])] {
            assert_eq!(said(bytes), "it is no tar archive");
        }
        assert!(said(b"\xfd7zXZ\0\0\0").contains("`xz -d`"));
        assert!(said(b"BZh91AY").contains("`bzip2 -d`"));
        // Cut: the error is the decoder's own, and comes where the bytes end.
        let packed = gzip(&[b'a'; 4096]);
        assert!(read(&packed[..packed.len() - 9]).is_err());
    }
}
