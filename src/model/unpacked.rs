//! Compressed bytes as a source that is read front to back: for those who look into a file without unpacking it anywhere.
//!
//! The compressions are those that `joblib.load` tells by a file's first bytes: zlib, gzip, bzip2, xz, lzma, lz4, and the older form of joblib with a length
//! in front of zlib. Streams behind each other are one, as Python reads them. Nothing here knows what the bytes mean.
//!
//! What must stay true: going back is an error, and memory does not grow with what is unpacked; at most [`unpacked_bytes_max`] bytes come out; and that a stream
//! broke, or was too long, can be asked for: then something was not looked at.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Error;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Result;
use std::io::Seek;
use std::io::SeekFrom;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use flate2::bufread::ZlibDecoder;
use lz4_flex::frame::FrameDecoder;
use lzma_rust2::LzmaReader;
use lzma_rust2::XzReader;

/// What xz and lzma may keep in memory: the dictionary of their highest level, and what goes with it.
const DICTIONARY_KIB_MAX: u32 = 66 << 10;

/// What is read of a stream whose elements are passed over.
const BUFFER_BYTES: u64 = 64 << 10;

/// A compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Zlib,
    /// Joblib before 0.10: `ZF`, the length as text, and zlib.
    ZFile,
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Lz4,
    /// Told, and not read: nothing that loads pickles tells it by itself.
    Zstd,
}

impl Packing {
    /// By a file's first bytes; 16 are enough.
    pub(super) fn of(head: &[u8]) -> Option<Packing> {
        Some(match head {
            [0x78, flags, ..] if u16::from_be_bytes([0x78, *flags]).is_multiple_of(31) => Packing::Zlib,
            [b'Z', b'F', b'0', b'x', ..] => Packing::ZFile,
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packing::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            // The properties that everybody uses, and a dictionary whose size is no odd number.
            [0x5d, 0, 0, ..] => Packing::Lzma,
            [0x04, 0x22, 0x4d, 0x18, ..] => Packing::Lz4,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            _ => return None,
        })
    }

    /// Its name.
    pub(super) fn word(self) -> &'static str {
        match self {
            Packing::Zlib | Packing::ZFile => "zlib",
            Packing::Gzip => "gzip",
            Packing::Bzip2 => "bzip2",
            Packing::Xz => "xz",
            Packing::Lzma => "lzma",
            Packing::Lz4 => "lz4",
            Packing::Zstd => "zstd",
        }
    }

    fn decoder<'a, R: Read + 'a>(self, source: R) -> Result<Box<dyn Read + 'a>> {
        let mut source = BufReader::new(source);
        Ok(match self {
            Packing::Zlib => Box::new(ZlibStreams(Some(ZlibDecoder::new(source)))),
            Packing::ZFile => {
                pass_z_file_header(&mut source)?;
                Box::new(ZlibStreams(Some(ZlibDecoder::new(source))))
            }
            Packing::Gzip => Box::new(MultiGzDecoder::new(source)),
            Packing::Bzip2 => Box::new(MultiBzDecoder::new(source)),
            Packing::Xz => Box::new(XzReader::new_mem_limit(source, true, DICTIONARY_KIB_MAX)),
            Packing::Lzma => Box::new(LzmaReader::new_mem_limit(source, DICTIONARY_KIB_MAX, None)?),
            Packing::Lz4 => Box::new(Lz4Streams(FrameDecoder::new(source))),
            Packing::Zstd => return Err(Error::new(ErrorKind::Unsupported, "zstd is not read here")),
        })
    }
}

/// The most bytes that come out of so many: real models shrink to a twentieth at best, but for arrays of zeros.
pub(super) fn unpacked_bytes_max(size_bytes: u64) -> u64 {
    const RATIO_MAX: u64 = 64;
    const BYTES_MIN: u64 = 16 << 20;
    const BYTES_MAX: u64 = 256 << 20;
    size_bytes.saturating_mul(RATIO_MAX).clamp(BYTES_MIN, BYTES_MAX)
}

/// `ZF`, 19 characters of a hexadecimal number, and a blank more where the length was written by Python 2 (joblib, `numpy_pickle_compat.py`).
fn pass_z_file_header(source: &mut impl BufRead) -> Result<()> {
    const HEADER_BYTES: usize = 21;
    source.read_exact(&mut [0; HEADER_BYTES])?;
    if source.fill_buf()?.first() == Some(&b' ') {
        source.consume(1);
    }
    Ok(())
}

/// zlib's streams behind each other: joblib goes on with the next one.
struct ZlibStreams<R: BufRead>(Option<ZlibDecoder<R>>);

impl<R: BufRead> Read for ZlibStreams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while let Some(decoder) = &mut self.0 {
            let length = decoder.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let mut source = self.0.take().map(ZlibDecoder::into_inner);
            if let Some(source) = source.take_if(|source| source.fill_buf().is_ok_and(|rest| !rest.is_empty())) {
                self.0 = Some(ZlibDecoder::new(source));
            }
        }
        Ok(0)
    }
}

/// lz4's frames behind each other: the decoder stops at the end of each.
struct Lz4Streams<R: BufRead>(FrameDecoder<R>);

impl<R: BufRead> Read for Lz4Streams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let length = self.0.read(buffer)?;
            if length > 0 || buffer.is_empty() || self.0.get_mut().fill_buf()?.is_empty() {
                return Ok(length);
            }
        }
    }
}

/// A stream that can be gone forward in.
pub(super) struct Forward<'a> {
    stream: Box<dyn Read + 'a>,
    at: u64,
    left_bytes: u64,
    failure: Option<Error>,
}

impl<'a> Forward<'a> {
    /// What `source` unpacks to, up to so many bytes.
    pub(super) fn unpacked<R: Read + 'a>(packing: Packing, source: R, bytes_max: u64) -> Forward<'a> {
        match packing.decoder(source) {
            Ok(stream) => Forward::new(stream, bytes_max),
            Err(error) => Forward { failure: Some(error), ..Forward::new(Box::new(std::io::empty()), 0) },
        }
    }

    /// A stream as it is.
    pub(super) fn new(stream: Box<dyn Read + 'a>, bytes_max: u64) -> Forward<'a> {
        Forward { stream, at: 0, left_bytes: bytes_max, failure: None }
    }

    /// Why there was no more: the stream broke, or more than may be unpacked was wanted.
    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// How many bytes have come out.
    pub(super) fn unpacked_bytes(&self) -> u64 {
        self.at
    }
}

impl Read for Forward<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.failure.is_some() || buffer.is_empty() {
            return Ok(0);
        }
        if self.left_bytes == 0 {
            self.failure = Some(Error::new(ErrorKind::FileTooLarge, "more than is unpacked here"));
            return Ok(0);
        }
        let most = buffer.len().min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        match self.stream.read(&mut buffer[..most]) {
            Ok(length) => {
                self.at += length as u64;
                self.left_bytes -= length as u64;
                Ok(length)
            }
            // `read_to_end` asks again.
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failure = Some(error);
                Ok(0)
            }
        }
    }
}

impl Seek for Forward<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let SeekFrom::Start(to) = to else { return Err(ErrorKind::Unsupported.into()) };
        let mut buffer = vec![0; BUFFER_BYTES.min(to.saturating_sub(self.at)) as usize];
        while self.at < to {
            let wanted = (to - self.at).min(BUFFER_BYTES) as usize;
            if self.read(&mut buffer[..wanted])? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        if self.at == to { Ok(to) } else { Err(ErrorKind::Unsupported.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn all(packed: &[u8], bytes_max: u64) -> (Vec<u8>, Option<ErrorKind>) {
        let mut forward = Forward::unpacked(Packing::of(packed).unwrap(), packed, bytes_max);
        let mut bytes = Vec::new();
        forward.read_to_end(&mut bytes).unwrap();
        (bytes, forward.failure().map(Error::kind))
    }

    /// `lamina lamina lamina`, by Python's own modules and the command `lz4`.
    const TEXT: &[u8] = b"lamina lamina lamina";

    #[test]
    fn streams_behind_each_other_are_one() {
        let gzip = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(TEXT).unwrap();
            encoder.finish().unwrap()
        };
        let z_file = [b"ZF0x14               ".as_slice(), &zlib(TEXT)].concat();
        for packed in [zlib(TEXT), gzip, PACKED[0].to_vec(), PACKED[1].to_vec(), PACKED[3].to_vec()] {
            assert_eq!(all(&packed, 1000), (TEXT.to_vec(), None), "{packed:x?}");
            assert_eq!(all(&packed.repeat(3), 1000), (TEXT.repeat(3), None), "{packed:x?}");
        }
        for packed in [z_file.as_slice(), PACKED[2]] {
            assert_eq!(all(packed, 1000), (TEXT.to_vec(), None), "{packed:x?}");
        }
    }

    #[test]
    fn what_breaks_or_is_too_long_is_told() {
        let packed = zlib(&vec![0; 100_000]);
        assert_eq!(all(&packed, 50_000), (vec![0; 50_000], Some(ErrorKind::FileTooLarge)));
        assert_eq!(all(&packed, 100_000).1, Some(ErrorKind::FileTooLarge), "one byte more is asked for than there may be");
        assert!(all(&packed[..packed.len() / 2], 200_000).1.is_some());
        // Dictionaries of 128 MiB and of nearly 4 GiB.
        let xz = b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x1e\x00\x00\x00\x9b\x07Qf\xe0\x00\x13\x00\x0d]\x006";
        assert_eq!(all(xz, 1000), (Vec::new(), Some(ErrorKind::OutOfMemory)));
        let mut lzma = PACKED[2].to_vec();
        lzma[4] = 0xef;
        assert_eq!(all(&lzma, 1000), (Vec::new(), Some(ErrorKind::OutOfMemory)));
        assert_eq!(all(b"\x28\xb5\x2f\xfd", 1000).1, Some(ErrorKind::Unsupported));
    }

    #[test]
    fn no_damage_makes_a_panic_or_more_than_the_bound() {
        for packed in PACKED {
            for at in 0..packed.len() {
                for bit in 0..8 {
                    let mut damaged = packed.to_vec();
                    damaged[at] ^= 1 << bit;
                    if let Some(packing) = Packing::of(&damaged) {
                        let mut bytes = Vec::new();
                        Forward::unpacked(packing, damaged.as_slice(), 1000).read_to_end(&mut bytes).unwrap();
                        assert!(bytes.len() <= 1000);
                    }
                }
            }
        }
    }

    #[test]
    fn it_is_gone_forward_only() {
        let packed = zlib(b"0123456789");
        let mut forward = Forward::unpacked(Packing::Zlib, packed.as_slice(), 100);
        let mut byte = [0];
        forward.seek(SeekFrom::Start(3)).unwrap();
        forward.read_exact(&mut byte).unwrap();
        assert_eq!((byte, forward.unpacked_bytes()), ([b'3'], 4));
        assert!(forward.seek(SeekFrom::Start(1)).is_err() && forward.seek(SeekFrom::Start(11)).is_err());
    }

    /// bzip2, xz, lzma and lz4.
    const PACKED: [&[u8]; 4] = [
        b"BZh91AY&SY\xa2t\xf3\xed\x00\x00\x05\x91\x00@\x00 ' \x000\xc0\x06\xd20\xd5!O\x89\x94\xc2\xeeH\xa7\x0a\x12\x14N\x9e}\xa0",
        b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\xe0\x00\x13\x00\x0d]\x006\x18I\xfeS\xd6/h\x96\x9f\
          ?\x00\x00\x00\x00\x00\x00O\xcb\xa6\x07\xa0\x00\x1dX\x00\x01)\x14\xbd\xfe\x1a~\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ",
        b"]\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x006\x18I\xfeS\xd6/h\x96\xacn\xf1\xff\xff\xf9\xcc\xe0\x00",
        b"\x04\x22M\x18d@\xa7\x10\x00\x00\x00tlamina \x07\x00Pamina\x00\x00\x00\x00\xa3\xf3\xaa1",
    ];
}
