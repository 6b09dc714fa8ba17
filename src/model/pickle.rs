//! What a pickle imports and calls, without loading it.
//!
//! A pickle is a program for a small stack machine; loading one runs whatever it names, so none is loaded here. But it can be stepped through with
//! nothing behind it (`pickle_machine.rs`). What is noted are imports (`GLOBAL`, `INST` and `STACK_GLOBAL`, the last with names from the stack and through the
//! memo), attributes that it fetches by name (`pickle_reach.rs`), pickles inside of it, and whether it calls anything at all.
//!
//! This is no proof that a pickle is harmless: a name can be put together at run time. What could not be followed is counted, and where
//! the scan ended, and why, is said.
//!
//! What must stay true: bytes are stepped over once, front to back, and what is long is not read (`pickle_tape.rs`); nothing is decompressed, and no
//! length is believed past the end.

use std::io::Cursor;
use std::io::Read;
use std::io::Seek;
use std::ops::Range;

use super::pickle_machine::Machine;
use super::pickle_stack::Value;
use super::pickle_tape::Tape;

/// The most opcodes that are stepped over in one file. The words of a large vocabulary take three each.
pub const OPCODES_MAX: usize = 2_000_000;

/// The most imports that are kept; one that comes again counts once where it follows itself.
pub const GLOBALS_MAX: usize = 10_000;

/// A name that a pickle imports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Global {
    /// The module: `sklearn.pipeline`.
    pub module: String,
    /// The name in it: `Pipeline`; with a dot where an attribute of it is fetched; empty where it is the module itself.
    pub name: String,
    /// The byte at which the opcode stands that imports it.
    pub offset: usize,
}

/// An attribute or an item that is fetched from something that the pickle has made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    /// Its name; `None` where that cannot be known.
    pub name: Option<String>,
    /// The byte at which the opcode stands that fetches it.
    pub offset: usize,
}

/// Why a scan ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// At the pickle's own end.
    Stop,
    /// The bytes end first: only the beginning of a file was given, or it is cut.
    #[default]
    Cut,
    /// At what Python refuses: a byte that is no opcode, an argument that is none, a value that is not there. This is no pickle, or not one alone.
    NoOpcode,
    /// At the raw elements of an array, which joblib writes between the opcodes, and of which it is not known how many there are.
    RawArray,
    /// At [`OPCODES_MAX`] or [`GLOBALS_MAX`], or where as much has been read as may be.
    Limit,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// What the pickle imports, in its order.
    pub globals: Vec<Global>,
    /// What it fetches by name of what it has made.
    pub attributes: Vec<Attribute>,
    /// Pickles inside of it, as bytes that it gives to what loads them: where they are, or that they are not among its own bytes.
    pub inner: Vec<Option<Range<u64>>>,
    /// How many imports are there whose names could not be followed.
    pub unresolved: usize,
    /// Whether it calls anything.
    pub called: bool,
    /// Why the scan ended.
    pub end: End,
    /// The byte at which it ended: that of the last opcode that was looked at.
    pub end_offset: usize,
}

/// The pickles that a source holds, one behind the other.
pub struct Pickles<R> {
    tape: Tape<R>,
    opcodes_left: usize,
}

impl<R: Read + Seek> Pickles<R> {
    /// Those from byte `start` of `source` on; nothing past byte `end` is looked at, and nothing before `start` is needed.
    pub fn new(source: R, start: u64, end: u64) -> Pickles<R> {
        Pickles { tape: Tape::new(source, start, end), opcodes_left: OPCODES_MAX }
    }

    /// Where the next one begins.
    pub fn at(&self) -> u64 {
        self.tape.at()
    }

    /// Whether the next one begins with the opcode that names the protocol, as those of protocol 2 and later do.
    pub fn is_marked(&mut self) -> bool {
        self.tape.peek() == Ok(0x80)
    }

    /// Whether the next bytes are these few.
    pub fn starts_with(&mut self, bytes: &[u8]) -> bool {
        self.tape.rest().is_ok_and(|rest| rest.starts_with(bytes))
    }

    /// Goes past the header of a NumPy array, where there is one: whether there was; `None` where its elements are no pickle.
    pub fn pass_array_header(&mut self) -> Option<bool> {
        const MAGIC: &[u8] = b"\x93NUMPY";
        const HEADER_BYTES_MAX: u64 = 64 << 10;
        if !self.starts_with(MAGIC) {
            return Some(false);
        }
        self.tape.skip(MAGIC.len() as u64).ok()?;
        // Version 1 has two bytes for the header's length, later ones four (NumPy, `format.py`).
        let version = self.tape.number(2).ok()? & 0xff;
        let length = self.tape.number(if version == 1 { 2 } else { 4 }).ok()?;
        // `'descr': '|O'`, alone or in a structure; a header that is too long to be read may have it.
        match self.tape.bytes(length, HEADER_BYTES_MAX).ok()? {
            Some(header) => header.windows(2).any(|window| window == b"|O").then_some(true),
            None => Some(true),
        }
    }

    /// What the next one imports and calls.
    pub fn scan(&mut self) -> Scan {
        let mut machine = Machine::default();
        machine.scan.end = loop {
            if self.opcodes_left == 0 {
                machine.scan.end_offset = self.tape.at() as usize;
                break End::Limit;
            }
            self.opcodes_left -= 1;
            if let Err(end) = machine.step(&mut self.tape) {
                break end;
            }
        };
        machine.scan
    }
}

/// What the pickle at the beginning of `bytes` imports and calls.
pub fn globals(bytes: &[u8]) -> Scan {
    Pickles::new(Cursor::new(bytes), 0, bytes.len() as u64).scan()
}

/// The version that scikit-learn puts into the state of each of its estimators, where it lies in these bytes.
pub fn sklearn_version(bytes: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"_sklearn_version";
    const VERSION_BYTES_MAX: usize = 32;
    let after = bytes.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    // As text the key ends with its line.
    let after = after + usize::from(bytes.get(after) == Some(&b'\n'));
    let mut tape = Tape::new(Cursor::new(bytes), after as u64, bytes.len() as u64);
    // The key itself is no text here: the next one is the version.
    let mut machine = Machine::with(Value::Plain);
    // Between key and value is at most what memorises the key.
    for _ in 0..2 {
        machine.step(&mut tape).ok()?;
        let Some(version) = machine.top_text() else { continue };
        let plain =
            version.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c)) && version.starts_with(|c: char| c.is_ascii_digit());
        return (plain && version.len() <= VERSION_BYTES_MAX).then(|| version.to_string());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> (Vec<String>, usize, End) {
        let scan = globals(bytes);
        (scan.globals.into_iter().map(|global| format!("{}.{}", global.module, global.name)).collect(), scan.unresolved, scan.end)
    }

    #[test]
    fn every_way_to_import_is_found() {
        let is = |names: &[&str], unresolved, end| (names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), unresolved, end);
        assert_eq!(found(b"cos\nsystem\n(S'true'\ntR."), is(&["os.system"], 0, End::Stop));
        assert_eq!(found(b"(S'true'\nios\nsystem\n."), is(&["os.system"], 0, End::Stop));
        assert_eq!(found(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93."), is(&["os.system"], 0, End::Stop));
        // Both texts out of the memo, the second by its number.
        assert_eq!(found(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94NNh\x00h\x01\x93."), is(&["os.system"], 0, End::Stop));
        assert_eq!(found(b"\x80\x02U\x02osq\x07U\x06systemr\x09\0\0\0NNh\x07j\x09\0\0\0\x93."), is(&["os.system"], 0, End::Stop));
        assert_eq!(found(b"Vos\np3\nVsystem\np4\n0g3\ng4\n\x93."), is(&["os.system"], 0, End::Stop));
        // A text that was put together, and a name of a registry.
        assert_eq!(found(b"\x80\x04ca\nb\n)R\x8c\x06system\x93\x82\x01."), is(&["a.b"], 2, End::Stop));
        // Of an escape it is not known what it says.
        assert_eq!(found(b"S'\\x6fs'\nS'system'\n\x93."), is(&[], 1, End::Stop));
    }

    #[test]
    fn where_a_scan_ends_is_said() {
        for (bytes, end, offset) in [
            (&b"\x80\x04X\xff\xff\xff\xffab"[..], End::Cut, 2),
            (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff", End::Cut, 2),
            (b"", End::Cut, 0),
            (b"cos\nsystem", End::Cut, 0),
            (b"N\xff", End::NoOpcode, 1),
            // What Python refuses: a value that is not there, a name that is none, a protocol that is not yet.
            (b"R", End::NoOpcode, 0),
            (b"N(\x86", End::NoOpcode, 2),
            (b"NN\x93", End::NoOpcode, 2),
            (b"I-1_0\n.", End::Stop, 6),
            (b"Id,Name\n.", End::NoOpcode, 0),
            (b"Sentence\n.", End::NoOpcode, 0),
            (b"\x80\x06N.", End::NoOpcode, 0),
            (b"g-1\n", End::NoOpcode, 0),
            (b"N.N", End::Stop, 1),
        ] {
            let scan = globals(bytes);
            assert_eq!((scan.end, scan.end_offset), (end, offset), "{bytes:?}");
        }
        let many = vec![b'N'; OPCODES_MAX + 1];
        assert_eq!((globals(&many).end, globals(&many).end_offset), (End::Limit, OPCODES_MAX));
        let imports = b"ca\nb\ncc\nd\n".repeat(GLOBALS_MAX);
        assert_eq!((globals(&imports).end, globals(&imports).globals.len()), (End::Limit, GLOBALS_MAX));
    }
}
