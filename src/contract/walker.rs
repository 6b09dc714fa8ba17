//! A walk over a protobuf message that stays where it is: in a file of any size.
//!
//! For messages that hold a model's graph or weights beside the few hundred bytes that we want. The walker reads keys and lengths,
//! steps over what nobody asks for without reading it, and keeps offsets in 64 bits, because users have files past protobuf's own
//! 2 GiB. It knows no message: numbers and types of fields are its caller's.
//!
//! What must stay true: whatever the bytes, it ends, it never panics, and it holds no more than its buffer, the strings within the
//! budget and what the caller keeps of at most [`FIELDS_MAX`] fields.

use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};

/// The most fields that one walk looks at. A real SavedModel needs some ten for each input and output.
pub const FIELDS_MAX: u64 = 1 << 20;

/// The most bytes of strings that one walk gives out, together.
pub const TEXT_BYTES_MAX: u64 = 16 << 20;

const BUFFER_BYTES: usize = 8 << 10;

/// What is read first after a jump: between two weights lie a few keys and a name.
const JUMP_BYTES: usize = 512;

/// A message of the file, and how far the walk over it has come.
#[derive(Clone, Debug)]
pub struct Span {
    at: u64,
    end: u64,
}

/// A field of a message, found on the way.
#[derive(Debug)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// What it holds.
    pub value: Value,
}

/// What a field holds.
#[derive(Debug)]
pub enum Value {
    /// A varint.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(Span),
    /// Four or eight bytes, stepped over.
    Fixed,
}

/// The walker.
pub struct Walker<R> {
    source: BufReader<Paced<R>>,
    position: u64,
    size_bytes: u64,
    fields_left: u64,
    text_bytes_left: u64,
}

/// Why a walk cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// No protobuf.
    #[error("at byte {offset}: {problem}")]
    Malformed {
        /// Where in the file.
        offset: u64,
        /// What is there.
        problem: &'static str,
    },
    /// A length that leaves the message or the file: mostly a file that was cut.
    #[error("at byte {offset}: {size_bytes} bytes are announced and {left_bytes} are left")]
    Cut {
        /// Where in the file.
        offset: u64,
        /// The length.
        size_bytes: u64,
        /// What there is.
        left_bytes: u64,
    },
    /// More fields than any real file has.
    #[error("at byte {offset}: more than {FIELDS_MAX} protobuf fields")]
    TooManyFields {
        /// Where in the file.
        offset: u64,
    },
    /// More text than any real file has.
    #[error("at byte {offset}: more than {TEXT_BYTES_MAX} bytes of names")]
    TooMuchText {
        /// Where in the file.
        offset: u64,
    },
    /// The file itself could not be read.
    #[error("at byte {offset}: reading failed")]
    Io {
        /// Where in the file.
        offset: u64,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

impl Found {
    /// The string or message that the field has to be.
    pub fn bytes(self) -> Result<Span, WalkError> {
        match self.value {
            Value::Bytes(span) => Ok(span),
            _ => Err(WalkError::Malformed { offset: self.offset, problem: "a number where a string or a message belongs" }),
        }
    }

    /// The number that the field has to be.
    pub fn number(&self) -> Result<u64, WalkError> {
        match self.value {
            Value::Number(number) => Ok(number),
            _ => Err(WalkError::Malformed { offset: self.offset, problem: "no number where one belongs" }),
        }
    }
}

impl<R: Read + Seek> Walker<R> {
    /// A walker over the first `size_bytes` of `source`.
    pub fn new(source: R, size_bytes: u64) -> Result<Walker<R>, WalkError> {
        let mut source = BufReader::with_capacity(BUFFER_BYTES, Paced { source, next_bytes: JUMP_BYTES });
        source.seek(SeekFrom::Start(0)).map_err(|source| WalkError::Io { offset: 0, source })?;
        // Seeks are relative and signed; no file system has files past this.
        let size_bytes = size_bytes.min(i64::MAX as u64);
        Ok(Walker { source, position: 0, size_bytes, fields_left: FIELDS_MAX, text_bytes_left: TEXT_BYTES_MAX })
    }

    /// The message that the whole file is.
    pub fn whole(&self) -> Span {
        Span { at: 0, end: self.size_bytes }
    }

    /// The next field of a message; `None` at its end. Walks over messages inside it may come between two calls.
    pub fn next(&mut self, message: &mut Span) -> Result<Option<Found>, WalkError> {
        if message.at == message.end {
            return Ok(None);
        }
        let offset = message.at;
        self.fields_left = self.fields_left.checked_sub(1).ok_or(WalkError::TooManyFields { offset })?;
        self.go_to(offset)?;
        let key = self.varint(message)?;
        if key >> 3 == 0 {
            return Err(WalkError::Malformed { offset, problem: "a field with the number 0" });
        }
        let value = match key & 7 {
            0 => Value::Number(self.varint(message)?),
            1 => self.step_over(message, 8)?,
            2 => {
                let size_bytes = self.varint(message)?;
                let at = message.at;
                self.step_over(message, size_bytes)?;
                Value::Bytes(Span { at, end: message.at })
            }
            5 => self.step_over(message, 4)?,
            // Groups, 3 and 4, left the language before TensorFlow came; no writer of the files that are walked makes them.
            _ => return Err(WalkError::Malformed { offset, problem: "a field of an unknown wire type" }),
        };
        Ok(Some(Found { number: key >> 3, offset, value }))
    }

    /// The text of a string field.
    pub fn text(&mut self, span: Span) -> Result<String, WalkError> {
        let offset = span.at;
        let size_bytes = span.end - span.at;
        self.text_bytes_left = self.text_bytes_left.checked_sub(size_bytes).ok_or(WalkError::TooMuchText { offset })?;
        self.go_to(offset)?;
        // Within the budget, so it fits a usize of any width.
        let mut bytes = vec![0; size_bytes as usize];
        self.read(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| WalkError::Malformed { offset, problem: "a name that is not UTF-8" })
    }

    /// Moves the end of what is read of a message; the bytes between are not touched.
    fn step_over(&mut self, message: &mut Span, size_bytes: u64) -> Result<Value, WalkError> {
        let left_bytes = message.end - message.at;
        if size_bytes > left_bytes {
            return Err(WalkError::Cut { offset: message.at, size_bytes, left_bytes });
        }
        message.at += size_bytes;
        Ok(Value::Fixed)
    }

    fn varint(&mut self, message: &mut Span) -> Result<u64, WalkError> {
        let offset = message.at;
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            if message.at == message.end {
                return Err(WalkError::Malformed { offset, problem: "the message ends inside a number" });
            }
            let mut byte = [0];
            self.read(&mut byte)?;
            message.at += 1;
            // The tenth byte has one bit left to give; official readers drop the others too.
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(WalkError::Malformed { offset, problem: "a number of more than ten bytes" })
    }

    fn go_to(&mut self, offset: u64) -> Result<(), WalkError> {
        // Both are at most i64::MAX, so the difference is an i64; a step inside the buffer reads nothing.
        let step = offset as i64 - self.position as i64;
        self.source.seek_relative(step).map_err(|source| WalkError::Io { offset, source })?;
        self.position = offset;
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), WalkError> {
        let offset = self.position;
        self.source.read_exact(bytes).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => WalkError::Malformed { offset, problem: "the file ends, shorter than it was" },
            _ => WalkError::Io { offset, source },
        })?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// A source of which a jump reads little, and a walk straight on the double each time: a model of a thousand weights, each longer
/// than the buffer, costs half a megabyte and not eight.
struct Paced<R> {
    source: R,
    next_bytes: usize,
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.next_bytes.min(buffer.len());
        self.next_bytes = self.next_bytes.saturating_mul(2).min(BUFFER_BYTES);
        self.source.read(&mut buffer[..count])
    }
}

impl<R: Seek> Seek for Paced<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.next_bytes = JUMP_BYTES;
        self.source.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn walk(bytes: &[u8]) -> Result<Vec<(u64, u64)>, WalkError> {
        let mut walker = Walker::new(Cursor::new(bytes), bytes.len() as u64)?;
        let mut whole = walker.whole();
        let mut found = Vec::new();
        while let Some(field) = walker.next(&mut whole)? {
            found.push((field.number, field.offset));
        }
        Ok(found)
    }

    #[test]
    fn every_wire_type_is_stepped_over() {
        assert_eq!(walk(b"\x08\x96\x01\x12\x02ab\x1d1234\x2112345678\x2a\x00").unwrap(), [(1, 0), (2, 3), (3, 7), (4, 12), (5, 21)]);
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_offset() {
        for (bytes, text) in [
            (&b"\x08\x01\x00"[..], "at byte 2: a field with the number 0"),
            (b"\x08\x01\x0b", "at byte 2: a field of an unknown wire type"),
            (b"\x08\x01\x0f", "at byte 2: a field of an unknown wire type"),
            (b"\x12\x03ab", "at byte 2: 3 bytes are announced and 2 are left"),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "at byte 11: 18446744073709551615 bytes are announced and 0 are left"),
            (b"\x21abc", "at byte 1: 8 bytes are announced and 3 are left"),
            (b"\x08\x80", "at byte 1: the message ends inside a number"),
            (b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "at byte 1: a number of more than ten bytes"),
        ] {
            assert_eq!(walk(bytes).unwrap_err().to_string(), text);
        }
        let many = b"\x08\x01".repeat(FIELDS_MAX as usize + 1);
        assert_eq!(walk(&many).unwrap_err().to_string(), "at byte 2097152: more than 1048576 protobuf fields");
    }

    #[test]
    fn a_source_that_is_shorter_than_said_is_an_error() {
        let mut walker = Walker::new(Cursor::new(b"\x12\x10ab"), 18).unwrap();
        let mut whole = walker.whole();
        let span = walker.next(&mut whole).unwrap().unwrap().bytes().unwrap();
        assert_eq!(walker.text(span).unwrap_err().to_string(), "at byte 2: the file ends, shorter than it was");
    }

    #[test]
    fn a_jump_reads_little_and_a_straight_walk_more_each_time() {
        let mut paced = Paced { source: Cursor::new(vec![0; 1 << 16]), next_bytes: JUMP_BYTES };
        let mut buffer = [0; BUFFER_BYTES];
        let mut read = |paced: &mut Paced<_>| (0..6).map(|_| paced.read(&mut buffer).unwrap()).collect::<Vec<_>>();
        assert_eq!(read(&mut paced), [512, 1024, 2048, 4096, 8192, 8192]);
        paced.seek(SeekFrom::Start(7)).unwrap();
        assert_eq!(read(&mut paced)[0], 512);
    }
}
