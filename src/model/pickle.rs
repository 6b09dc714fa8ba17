//! Which names a pickle imports, without loading it.
//!
//! A pickle is a program for a small stack machine; loading one runs whatever it names, so none is loaded here. But its opcodes can be
//! stepped over: each has a fixed size, a length in front, or a line end (Python's `pickletools` documents all of them, protocols 0 to 5).
//! What is looked for are the opcodes that import: `GLOBAL` and `INST`, which carry module and name, and `STACK_GLOBAL`, which takes
//! them from the stack. For the last one the strings on top of the stack are followed, through the memo too, and nothing else is.
//!
//! This is no proof that a pickle is harmless: a name can be put together at run time. What could not be followed is counted, and where
//! the scan ended, and why, is said.
//!
//! What must stay true: bytes are stepped over once, front to back, and what is long is not read (`pickle_tape.rs`); nothing is decompressed, and no
//! length is believed past the end.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::io::Read;
use std::io::Seek;
use std::ops::Range;

use super::pickle_array::ArrayState;
use super::pickle_array::Behind;
use super::pickle_tape::Tape;
use super::pickle_tape::TapeEnd;

/// The most opcodes that are stepped over. The words of a large vocabulary take four each.
pub const OPCODES_MAX: usize = 1_000_000;

/// The most imports that are kept; one that comes again counts once where it follows itself.
pub const GLOBALS_MAX: usize = 10_000;

/// The longest module or name that is believed.
const NAME_BYTES_MAX: u64 = 1_000;

/// A name that a pickle imports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Global {
    /// The module: `sklearn.pipeline`.
    pub module: String,
    /// The name in it: `Pipeline`.
    pub name: String,
    /// The byte at which the opcode stands that imports it.
    pub offset: usize,
}

/// Why a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the pickle's own end.
    Stop,
    /// The bytes end first: only the beginning of a file was given, or it is cut.
    Cut,
    /// At a byte that is no opcode, or at an argument that is none: this is no pickle, or not one alone.
    NoOpcode,
    /// At the raw elements of an array, which joblib writes between the opcodes, and of which it is not known how many there are.
    RawArray,
    /// At [`OPCODES_MAX`] or [`GLOBALS_MAX`], or where as much has been read as may be.
    Limit,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// What the pickle imports, in its order.
    pub globals: Vec<Global>,
    /// How many imports are there whose names could not be followed.
    pub unresolved: usize,
    /// Why the scan ended.
    pub end: End,
    /// The byte at which it ended: that of the last opcode that was looked at.
    pub end_offset: usize,
}

/// The names that the pickle at the beginning of `bytes` imports.
pub fn globals(bytes: &[u8]) -> Scan {
    scan(Cursor::new(bytes), 0, bytes.len() as u64)
}

/// The names that the pickle imports which begins at byte `start` of `source`; nothing past byte `end` is looked at.
pub fn scan<R: Read + Seek>(source: R, start: u64, end: u64) -> Scan {
    let mut scanner = Scanner::new(source, start, end);
    let mut opcodes = 0;
    let end = loop {
        scanner.opcode_offset = scanner.tape.at() as usize;
        if opcodes == OPCODES_MAX || scanner.globals.len() == GLOBALS_MAX {
            break End::Limit;
        }
        opcodes += 1;
        if let Err(end) = scanner.step() {
            break end;
        }
    };
    Scan { globals: scanner.globals, unresolved: scanner.unresolved, end, end_offset: scanner.opcode_offset }
}

/// The version that scikit-learn puts into the state of each of its estimators, where it lies in these bytes.
pub fn sklearn_version(bytes: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"_sklearn_version";
    const VERSION_BYTES_MAX: usize = 32;
    let after = bytes.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    // As text the key ends with its line.
    let after = after + usize::from(bytes.get(after) == Some(&b'\n'));
    let mut scanner = Scanner::new(Cursor::new(bytes), after as u64, bytes.len() as u64);
    // Between key and value is at most what memorises the key.
    for _ in 0..2 {
        scanner.step().ok()?;
        let Some(version) = scanner.top.first().cloned().flatten() else { continue };
        let version = std::str::from_utf8(bytes.get(version.start as usize..version.end as usize)?).ok()?;
        let plain =
            version.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c)) && version.starts_with(|c: char| c.is_ascii_digit());
        return (plain && version.len() <= VERSION_BYTES_MAX).then(|| version.to_owned());
    }
    None
}

/// How an opcode's argument is laid out.
enum Argument {
    None,
    Fixed(u64),
    /// A little-endian length of so many bytes, then that many bytes; whether they are text.
    Counted(u64, bool),
    /// Up to a line end; whether it is text.
    Line(bool),
}

/// What was memorised, by its number; what is no text is there without a place.
type Memo = BTreeMap<u64, Option<Range<u64>>>;

/// Pickles of arrays of objects inside each other; real ones have one.
const PICKLES_DEEP_MAX: usize = 16;

struct Scanner<R> {
    tape: Tape<R>,
    opcode_offset: usize,
    /// Where the two values on top of the stack lie, the last first, when they are texts.
    top: [Option<Range<u64>>; 2],
    memo: Memo,
    globals: Vec<Global>,
    unresolved: usize,
    /// Joblib's stand-in for an array has been imported; after its state come raw bytes.
    arrays: bool,
    array: ArrayState,
    /// What was memorised in the pickles around this one.
    outer: Vec<(Memo, ArrayState)>,
    previous: u8,
}

impl From<TapeEnd> for End {
    fn from(end: TapeEnd) -> End {
        match end {
            TapeEnd::Cut => End::Cut,
            TapeEnd::Limit => End::Limit,
        }
    }
}

impl<R: Read + Seek> Scanner<R> {
    fn new(source: R, start: u64, end: u64) -> Scanner<R> {
        Scanner {
            tape: Tape::new(source, start, end),
            opcode_offset: 0,
            top: [None, None],
            memo: BTreeMap::new(),
            globals: Vec::new(),
            unresolved: 0,
            arrays: false,
            array: ArrayState::default(),
            outer: Vec::new(),
            previous: 0,
        }
    }

    fn step(&mut self) -> Result<(), End> {
        let opcode = self.tape.number(1)? as u8;
        match opcode {
            // The pickle inside of one ends, and the one around it goes on with its own memo.
            b'.' => (self.memo, self.array) = self.outer.pop().ok_or(End::Stop)?,
            b'c' | b'i' => {
                let (module, name) = (self.tape.line()?, self.tape.line()?);
                self.import(Some(module), Some(name));
            }
            0x93 => {
                let [name, module] = std::mem::take(&mut self.top);
                self.import(module, name);
            }
            // An extension: a number that stands for a name in a registry of the loading process.
            0x82..=0x84 => {
                self.tape.skip(1 << (opcode - 0x82))?;
                self.import(None, None);
            }
            0x94 => self.memorise(self.memo.len() as u64),
            b'q' | b'r' => {
                let number = self.tape.number(if opcode == b'q' { 1 } else { 4 })?;
                self.memorise(number);
            }
            b'p' => {
                let number = self.line_number()?;
                self.memorise(number);
            }
            b'h' | b'j' | b'g' => {
                let number = match opcode {
                    b'g' => self.line_number()?,
                    _ => self.tape.number(if opcode == b'h' { 1 } else { 4 })?,
                };
                let text = self.memo.get(&number).cloned().flatten();
                match &text {
                    Some(text) => self.hear_text(text.clone()),
                    None => self.array.taken(number),
                }
                self.push(text);
            }
            b'2' => self.push(self.top[0].clone()),
            // A state of names, given to joblib's stand-in.
            b'b' if self.arrays && matches!(self.previous, b'u' | b's') => self.pass_array()?,
            _ => self.argument(opcode)?,
        }
        if opcode == b'R' {
            self.array.called();
        }
        // What memorises a value leaves it where it is.
        if !matches!(opcode, 0x94 | b'q' | b'r' | b'p') {
            self.previous = opcode;
        }
        Ok(())
    }

    fn argument(&mut self, opcode: u8) -> Result<(), End> {
        let argument = match opcode {
            // These change nothing on the stack.
            0x80 => return Ok(self.tape.skip(1).map(drop)?),
            0x95 => return Ok(self.tape.skip(8).map(drop)?),
            b'(' | b'0' | b'1' | b'N' | b'R' | b'Q' | b')' | b']' | b'a' | b'b' | b'd' | b'e' | b'l' | b'o' | b'}' | b's' | b't' | b'u' => {
                Argument::None
            }
            0x81 | 0x85..=0x89 | 0x8f..=0x92 | 0x97 | 0x98 => Argument::None,
            b'K' => Argument::Fixed(1),
            b'M' => Argument::Fixed(2),
            b'J' => Argument::Fixed(4),
            b'G' => Argument::Fixed(8),
            b'U' | 0x8c => Argument::Counted(1, true),
            b'T' | b'X' => Argument::Counted(4, true),
            0x8d => Argument::Counted(8, true),
            b'C' | 0x8a => Argument::Counted(1, false),
            b'B' | 0x8b => Argument::Counted(4, false),
            0x8e | 0x96 => Argument::Counted(8, false),
            b'S' | b'V' => Argument::Line(true),
            b'I' | b'L' | b'F' | b'P' => Argument::Line(false),
            _ => return Err(End::NoOpcode),
        };
        let text = match argument {
            Argument::None => None,
            Argument::Fixed(size_bytes) => {
                let number = self.tape.skip(size_bytes)?;
                self.hear_number(opcode, number);
                None
            }
            Argument::Counted(length_bytes, is_text) => {
                let length = self.tape.number(length_bytes)?;
                let value = self.tape.skip(length)?;
                self.hear_number(opcode, value.clone());
                Some(value).filter(|_| is_text)
            }
            Argument::Line(text) => {
                let line = self.tape.line()?;
                self.hear_number(opcode, line.clone());
                Some(if opcode == b'S' { self.tape.within_quotes(line) } else { line }).filter(|_| text)
            }
        };
        if let Some(text) = &text {
            self.hear_text(text.clone());
        }
        // A value that is no text hides what is below it as well as one that is: two are followed, and STACK_GLOBAL takes two.
        self.push(text);
        Ok(())
    }

    /// What the state of an array may be made of: short texts.
    fn hear_text(&mut self, text: Range<u64>) {
        const TEXT_BYTES_MAX: u64 = 32;
        if text.end - text.start <= TEXT_BYTES_MAX {
            self.array.text(&self.tape.peek(&text).unwrap_or_default());
        }
    }

    /// And whole numbers: `K`, `M`, `J`, the long ones, and those of protocol 0, which are a line (`I3`, `L3L`).
    fn hear_number(&mut self, opcode: u8, bytes: Range<u64>) {
        const NUMBER_BYTES_MAX: u64 = 20;
        if self.arrays && matches!(opcode, b'K' | b'M' | b'J' | b'I' | b'L' | 0x8a) && bytes.end - bytes.start <= NUMBER_BYTES_MAX {
            let bytes = self.tape.peek(&bytes).unwrap_or_default();
            if matches!(opcode, b'I' | b'L') {
                let digits = String::from_utf8_lossy(&bytes);
                digits.trim_end_matches('L').parse().into_iter().for_each(|number| self.array.number(number));
                return;
            }
            self.array.number(bytes.iter().rev().fold(0_u64, |number, byte| number.wrapping_shl(8) | u64::from(*byte)));
        }
    }

    /// Goes past the elements of an array, or into the pickle that they are.
    fn pass_array(&mut self) -> Result<(), End> {
        match self.array.set() {
            Behind::Opcode => {}
            Behind::Unknown => return Err(End::RawArray),
            Behind::Pickle if self.outer.len() == PICKLES_DEEP_MAX => return Err(End::Limit),
            Behind::Pickle => self.outer.push((std::mem::take(&mut self.memo), std::mem::take(&mut self.array))),
            Behind::Elements { size_bytes, padded } => {
                let padding_bytes = if padded { self.tape.number(1)? } else { 0 };
                self.tape.skip(padding_bytes)?;
                self.tape.skip(size_bytes)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, text: Option<Range<u64>>) {
        let [first, _] = std::mem::take(&mut self.top);
        self.top = [text, first];
    }

    fn memorise(&mut self, number: u64) {
        let top = self.top[0].clone();
        self.memo.insert(number, top);
        self.array.memorised(number);
    }

    fn import(&mut self, module: Option<Range<u64>>, name: Option<Range<u64>>) {
        let mut text = |range: Option<Range<u64>>| {
            let range = range.filter(|range| range.end - range.start <= NAME_BYTES_MAX)?;
            Some(String::from_utf8_lossy(&self.tape.peek(&range)?).into_owned())
        };
        match (text(module), text(name)) {
            (Some(module), Some(name)) => {
                self.arrays |= module.starts_with("joblib.") && name.contains("ArrayWrapper");
                if self.globals.last().is_none_or(|last| (&last.module, &last.name) != (&module, &name)) {
                    self.globals.push(Global { module, name, offset: self.opcode_offset });
                }
            }
            _ => self.unresolved += 1,
        }
        self.push(None);
    }

    fn line_number(&mut self) -> Result<u64, End> {
        let line = self.tape.line()?;
        let text = self.tape.peek(&line).and_then(|line| String::from_utf8(line).ok());
        text.and_then(|text| text.trim().parse().ok()).ok_or(End::NoOpcode)
    }
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
        assert_eq!(found(b"\x80\x04NN\x93\x82\x01."), is(&[], 2, End::Stop));
    }

    #[test]
    fn where_a_scan_ends_is_said() {
        for (bytes, end, offset) in [
            (&b"\x80\x04X\xff\xff\xff\xffab"[..], End::Cut, 2),
            (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff", End::Cut, 2),
            (b"", End::Cut, 0),
            (b"cos\nsystem", End::Cut, 0),
            (b"N\xff", End::NoOpcode, 1),
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
