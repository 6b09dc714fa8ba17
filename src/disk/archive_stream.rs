//! The bytes of an uploaded archive, unpacked while they are read.
//!
//! What the stream is, is told by its first bytes: gzip, zstd or a plain tar. It is counted on both sides, so that a few kilobytes that
//! unpack to terabytes are stopped while they do, whatever their headers say. What is inside the tar is `tar_reader.rs`' part.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use super::render::READ_BYTES;
use crate::fault::{Failure, Fault};
use crate::model::tree::Limits;

/// Enough for every magic number that we look for.
const MAGIC_BYTES: usize = 8;
/// zstd's own default for decoders: frames that need more memory than this are refused.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What an entry may take beside its bytes: headers, PAX records, padding.
const ENTRY_OVERHEAD_BYTES: u64 = 64 << 10;

/// Why the stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Whoever sends it stopped, or the disk failed.
    #[error("cannot read the archive")]
    Source(#[source] io::Error),
    /// It is packed in a way that we do not unpack.
    #[error("the archive is {format}: only tar, tar.gz and tar.zst are read")]
    Format {
        /// What it looks like.
        format: &'static str,
    },
    /// The packing is damaged.
    #[error("the archive's {format} data is damaged")]
    Damaged {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What the decoder found.
        #[source]
        source: io::Error,
    },
    /// The packing ends in the middle.
    #[error("the archive is cut off: its {format} data ends too early")]
    Cut {
        /// `gzip` or `zstd`.
        format: &'static str,
    },
    /// A bomb.
    #[error("the archive unpacks to more than {ratio_max} times its size: {packed_bytes} bytes have given {unpacked_bytes}")]
    Ratio {
        /// The limit.
        ratio_max: u64,
        /// Read.
        packed_bytes: u64,
        /// Unpacked from that.
        unpacked_bytes: u64,
    },
    /// Longer than any archive within the limits.
    #[error("the archive unpacks to more than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
}

impl Failure for StreamError {
    fn fault(&self) -> Fault {
        match self {
            StreamError::Source(_) => Fault::Ours,
            StreamError::Format { .. } | StreamError::Damaged { .. } | StreamError::Cut { .. } => Fault::Invalid,
            StreamError::Ratio { .. } | StreamError::TooLarge { .. } => Fault::TooLarge,
        }
    }
}

/// An unpacked stream. A read fails with a [`StreamError`] inside its `io::Error`.
pub struct ArchiveStream<R: Read> {
    decoder: Decoder<R>,
    unpacked_bytes: u64,
    unpacked_bytes_max: u64,
    ratio_max: u64,
}

enum Decoder<R: Read> {
    Plain(Packed<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Packed<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Packed<R>>),
}

/// What came in, counted; its first bytes were looked at and are read again.
type Packed<R> = BufReader<Chain<Cursor<Vec<u8>>, Counted<R>>>;

struct Counted<R> {
    source: R,
    read_bytes: u64,
    failed: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer);
        match &read {
            Ok(length) => self.read_bytes += *length as u64,
            Err(error) => self.failed = error.kind() != io::ErrorKind::Interrupted,
        }
        read
    }
}

impl<R: Read> ArchiveStream<R> {
    /// Looks at the first bytes of `source` and begins to unpack it.
    pub fn open(source: R, limits: &Limits) -> Result<ArchiveStream<R>, StreamError> {
        let mut counted = Counted { source, read_bytes: 0, failed: false };
        let mut start = Vec::new();
        (&mut counted).take(MAGIC_BYTES as u64).read_to_end(&mut start).map_err(StreamError::Source)?;
        let format = format(&start)?;
        let mut packed = BufReader::with_capacity(READ_BYTES, Cursor::new(start).chain(counted));
        let decoder = match format {
            Format::Tar => Decoder::Plain(packed),
            Format::Gzip => {
                packed.fill_buf().map_err(StreamError::Source)?;
                Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(packed)))
            }
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(StreamError::Source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(StreamError::Source)?;
                Decoder::Zstd(decoder)
            }
        };
        let overhead_bytes = limits.entries_max.saturating_mul(ENTRY_OVERHEAD_BYTES).saturating_add(READ_BYTES as u64);
        let unpacked_bytes_max = limits.unpacked_bytes_max.saturating_add(overhead_bytes);
        Ok(ArchiveStream { decoder, unpacked_bytes: 0, unpacked_bytes_max, ratio_max: limits.ratio_max })
    }

    fn counted(&self) -> &Counted<R> {
        let packed = match &self.decoder {
            Decoder::Plain(packed) => packed,
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Zstd(decoder) => decoder.get_ref(),
        };
        packed.get_ref().get_ref().1
    }

    fn explain(&self, error: io::Error) -> StreamError {
        let format = match &self.decoder {
            _ if self.counted().failed => return StreamError::Source(error),
            Decoder::Plain(_) => return StreamError::Source(error),
            Decoder::Gzip(_) => "gzip",
            Decoder::Zstd(_) => "zstd",
        };
        match error.kind() {
            io::ErrorKind::UnexpectedEof => StreamError::Cut { format },
            _ => StreamError::Damaged { format, source: error },
        }
    }

    fn check_limits(&self) -> Result<(), StreamError> {
        let (unpacked_bytes, packed_bytes) = (self.unpacked_bytes, self.counted().read_bytes);
        if unpacked_bytes > self.unpacked_bytes_max {
            return Err(StreamError::TooLarge { bytes_max: self.unpacked_bytes_max });
        }
        let allowed = packed_bytes.saturating_mul(self.ratio_max).max(Limits::RATIO_FREE_BYTES);
        if unpacked_bytes > allowed {
            return Err(StreamError::Ratio { ratio_max: self.ratio_max, packed_bytes, unpacked_bytes });
        }
        Ok(())
    }
}

impl<R: Read> Read for ArchiveStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Plain(packed) => packed.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        };
        match read {
            Ok(length) => {
                self.unpacked_bytes += length as u64;
                self.check_limits().map_err(io::Error::other)?;
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(io::Error::other(self.explain(error))),
        }
    }
}

enum Format {
    Tar,
    Gzip,
    Zstd,
}

fn format(start: &[u8]) -> Result<Format, StreamError> {
    let refuse = |format| Err(StreamError::Format { format });
    match start {
        [0x1f, 0x8b, ..] => Ok(Format::Gzip),
        // RFC 8878: a frame, or a skippable frame before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Format::Zstd),
        [b'B', b'Z', b'h', ..] => refuse("packed with bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => refuse("packed with xz"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => refuse("a zip file"),
        // Whether it is a tar is seen at its first header.
        _ => Ok(Format::Tar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(bytes: &[u8]) -> Result<Vec<u8>, StreamError> {
        let mut out = Vec::new();
        let result = ArchiveStream::open(bytes, &Limits::default())?.read_to_end(&mut out);
        result.map(|_| out).map_err(|error| error.downcast::<StreamError>().unwrap())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_packing_is_told_by_the_first_bytes() {
        let bytes = b"some bytes, some bytes".repeat(100);
        let mut twice = gzip(&bytes[..1000]);
        twice.extend(gzip(&bytes[1000..]));
        assert_eq!(unpack(&bytes).unwrap(), bytes);
        assert_eq!(unpack(&gzip(&bytes)).unwrap(), bytes);
        assert_eq!(unpack(&twice).unwrap(), bytes);
        assert_eq!(unpack(&zstd::encode_all(&bytes[..], 3).unwrap()).unwrap(), bytes);
        for (start, format) in [(&b"BZh91AY"[..], "packed with bzip2"), (b"\xfd7zXZ\0", "packed with xz"), (b"PK\x03\x04", "a zip file")] {
            assert!(matches!(unpack(start), Err(StreamError::Format { format: found }) if found == format));
        }
    }

    #[test]
    fn what_is_cut_or_damaged_is_said() {
        for packed in [gzip(&[7; 5000]), zstd::encode_all(&[7; 5000][..], 3).unwrap()] {
            assert!(matches!(unpack(&packed[..packed.len() - 3]), Err(StreamError::Cut { .. })));
            let mut more = packed.clone();
            more.extend_from_slice(b"more, which is neither gzip nor zstd");
            assert!(matches!(unpack(&more), Err(StreamError::Damaged { .. })), "{:?}", unpack(&more));
        }
        let mut flipped = gzip(&[7; 5000]);
        let at = flipped.len() - 6;
        flipped[at] ^= 1;
        assert!(matches!(unpack(&flipped), Err(StreamError::Damaged { format: "gzip", .. })));
    }

    #[test]
    fn a_bomb_is_stopped_by_its_ratio_and_small_zeros_are_not() {
        let zeros = gzip(&vec![0; Limits::RATIO_FREE_BYTES as usize]);
        assert_eq!(unpack(&zeros).unwrap().len() as u64, Limits::RATIO_FREE_BYTES);
        let bomb = gzip(&vec![0; Limits::RATIO_FREE_BYTES as usize + 1]);
        assert!(matches!(unpack(&bomb), Err(StreamError::Ratio { ratio_max: 200, .. })));
    }
}
