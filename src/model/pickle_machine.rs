//! The machine that a pickle is a program for, with nothing behind it: each opcode is stepped over, and what it imports and calls is noted.
//!
//! Each opcode has a fixed size, a length in front, or a line end (Python's `pickletools` documents all of them, protocols 0 to 5). The values are those of
//! `pickle_stack.rs`, the bytes come from `pickle_tape.rs`, and joblib's raw arrays are passed as `pickle_array.rs` says.
//!
//! What must stay true: what Python's unpickler refuses ends the scan, and nothing before that does: what comes first has been run by then.

use std::io::Read;
use std::io::Seek;
use std::rc::Rc;

use super::pickle::Attribute;
use super::pickle::End;
use super::pickle::GLOBALS_MAX;
use super::pickle::Global;
use super::pickle::Scan;
use super::pickle_array::ArrayState;
use super::pickle_array::Behind;
use super::pickle_reach;
use super::pickle_stack::Misuse;
use super::pickle_stack::Stack;
use super::pickle_stack::Value;
use super::pickle_tape::Tape;
use super::pickle_tape::TapeEnd;

/// The longest module, name, or text that one is taken from.
const NAME_BYTES_MAX: u64 = 1_000;

/// The longest number.
const NUMBER_BYTES_MAX: u64 = 20;

/// Pickles of arrays of objects inside each other; real ones have one.
const PICKLES_DEEP_MAX: usize = 16;

/// The newest protocol.
const PROTOCOL_MAX: u64 = 5;

/// The state of the machine in one pickle.
#[derive(Default)]
pub(super) struct Machine {
    /// What has been noted, and at which opcode the machine is.
    pub(super) scan: Scan,
    stack: Stack,
    /// A stand-in of joblib's for an array has been made: numbers are listened to.
    arrays: bool,
    array: ArrayState,
    /// A function that fetches by name has been imported.
    reaches: bool,
    /// The stacks of the pickles around this one.
    outer: Vec<(Stack, ArrayState)>,
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

impl From<Misuse> for End {
    fn from(_: Misuse) -> End {
        End::NoOpcode
    }
}

impl Machine {
    /// A machine in the middle of a pickle, with a value on its stack.
    pub(super) fn with(value: Value) -> Machine {
        let mut machine = Machine::default();
        machine.stack.push(value);
        machine
    }

    /// The text on top of the stack, where there is one.
    pub(super) fn top_text(&self) -> Option<Rc<str>> {
        match self.stack.top() {
            Ok(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// Steps over the next opcode.
    pub(super) fn step<R: Read + Seek>(&mut self, tape: &mut Tape<R>) -> Result<(), End> {
        self.scan.end_offset = tape.at() as usize;
        let opcode = tape.number(1)? as u8;
        match opcode {
            // The pickle inside of one ends, and the one around it goes on with its own stack and memo.
            b'.' => {
                self.stack.pop()?;
                (self.stack, self.array) = self.outer.pop().ok_or(End::Stop)?;
            }
            b'c' | b'i' => {
                let (module, name) = (tape.line(NAME_BYTES_MAX)?, tape.line(NAME_BYTES_MAX)?);
                let function = self.import(Value::text(module.as_deref()), Value::text(name.as_deref()))?;
                if opcode == b'c' {
                    self.stack.push(function);
                } else {
                    let arguments = self.stack.pop_to_mark()?;
                    self.call(function, Value::tuple(arguments));
                }
            }
            0x93 => {
                let (name, module) = (self.stack.pop()?, self.stack.pop()?);
                let function = self.import(module, name)?;
                self.stack.push(function);
            }
            // An extension: a number that stands for a name in a registry of the loading process.
            0x82..=0x84 => {
                tape.skip(1 << (opcode - 0x82))?;
                self.scan.unresolved += 1;
                self.stack.push(Value::Made);
            }
            b'R' | b'o' | 0x81 | 0x92 => self.call_opcode(opcode)?,
            b'b' => {
                self.plain(opcode)?;
                // A state of names, given to joblib's stand-in.
                if matches!(self.previous, b'u' | b's') && self.stack.top() == Ok(&Value::Array) {
                    self.pass_array(tape)?;
                }
            }
            0x94 | b'q' | b'r' | b'p' | b'h' | b'j' | b'g' => self.memo(opcode, tape)?,
            b'0' | b'1' | b'2' | b'(' | b')' | b']' | b'}' | b'N' | 0x88 | 0x89 | 0x8f | 0x97 | 0x98 => self.shuffle(opcode)?,
            b'a' | b'd' | b'e' | b'l' | b's' | b't' | b'u' | b'Q' | 0x85..=0x87 | 0x90 | 0x91 => self.plain(opcode)?,
            _ => self.value(opcode, tape)?,
        }
        // What memorises a value leaves it where it is.
        if !matches!(opcode, 0x94 | b'q' | b'r' | b'p') {
            self.previous = opcode;
        }
        if self.scan.globals.len() + self.scan.attributes.len() + self.scan.inner.len() >= GLOBALS_MAX { Err(End::Limit) } else { Ok(()) }
    }

    /// Opcodes that only move what is there, or push a constant.
    fn shuffle(&mut self, opcode: u8) -> Result<(), Misuse> {
        match opcode {
            b'0' => self.stack.discard()?,
            b'1' => drop(self.stack.pop_to_mark()?),
            b'2' => self.stack.push(self.stack.top()?.clone()),
            b'(' => self.stack.mark(),
            b')' => self.stack.push(Value::tuple(Vec::new())),
            // A buffer that was promised to be only read.
            0x98 => drop(self.stack.top()?),
            // A buffer from outside of the pickle.
            0x97 => self.stack.push(Value::Made),
            _ => self.stack.push(Value::Plain),
        }
        Ok(())
    }

    /// Opcodes that put values into a tuple, a list, a dict, a set or an object.
    fn plain(&mut self, opcode: u8) -> Result<(), Misuse> {
        let values = match opcode {
            b'a' | b'b' | b'Q' => self.stack.pop_many(1)?,
            b's' => self.stack.pop_many(2)?,
            0x85..=0x87 => self.stack.pop_many(usize::from(opcode - 0x84))?,
            _ => self.stack.pop_to_mark()?,
        };
        // Handed on, it may be called with anything.
        if self.reaches && values.iter().any(pickle_reach::reaches) {
            self.scan.attributes.push(Attribute { name: None, offset: self.scan.end_offset });
        }
        match opcode {
            b't' | 0x85..=0x87 => self.stack.push(Value::tuple(values)),
            b'd' | b'l' | 0x91 => self.stack.push(Value::Plain),
            b'Q' => self.stack.push(Value::Made),
            // What is filled, or is given a state, lies below and stays there; a state is given by a call.
            _ => {
                self.stack.top()?;
                self.scan.called |= opcode == b'b';
            }
        }
        Ok(())
    }

    fn call_opcode(&mut self, opcode: u8) -> Result<(), Misuse> {
        let (function, arguments) = if opcode == b'o' {
            let mut values = self.stack.pop_to_mark()?.into_iter();
            (values.next().ok_or(Misuse)?, Value::tuple(values.collect()))
        } else {
            if opcode == 0x92 {
                self.stack.pop()?;
            }
            let arguments = self.stack.pop()?;
            (self.stack.pop()?, arguments)
        };
        if opcode == b'R' {
            self.array.called();
        }
        self.call(function, arguments);
        Ok(())
    }

    fn call(&mut self, function: Value, arguments: Value) {
        self.scan.called = true;
        let reached = match &function {
            Value::Import(function) => pickle_reach::reached(function, &arguments, self.scan.end_offset),
            _ => pickle_reach::Reached::default(),
        };
        self.scan.attributes.extend(reached.attributes);
        self.scan.inner.extend(reached.inner);
        if let Some(import) = &reached.import {
            self.scan.globals.push(Global::clone(import));
        }
        let is_array = is_stand_in(&function) || matches!(&arguments, Value::Tuple(values) if values.first().is_some_and(is_stand_in));
        if is_array {
            self.arrays = true;
            self.array.begin();
        }
        self.stack.push(match reached.import {
            Some(import) => Value::Import(import),
            None if is_array => Value::Array,
            None => Value::Made,
        });
    }

    fn import(&mut self, module: Value, name: Value) -> Result<Value, End> {
        match (module, name) {
            (Value::Text(module), Value::Text(name)) => {
                let global = Global { module: module.to_string(), name: name.to_string(), offset: self.scan.end_offset };
                if self.scan.globals.last().is_none_or(|last| (&last.module, &last.name) != (&global.module, &global.name)) {
                    self.scan.globals.push(global.clone());
                }
                let import = Value::Import(Rc::new(global));
                self.reaches |= pickle_reach::reaches(&import);
                Ok(import)
            }
            // What is no text for certain names nothing, and Python stops.
            (Value::Text(_) | Value::Made, Value::Text(_) | Value::Made) => {
                self.scan.unresolved += 1;
                Ok(Value::Made)
            }
            _ => Err(End::NoOpcode),
        }
    }

    fn memo<R: Read + Seek>(&mut self, opcode: u8, tape: &mut Tape<R>) -> Result<(), End> {
        let number = match opcode {
            0x94 => None,
            b'p' | b'g' => Some(line_number(tape)?),
            b'q' | b'h' => Some(tape.number(1)?),
            _ => Some(tape.number(4)?),
        };
        if let (b'h' | b'j' | b'g', Some(number)) = (opcode, number) {
            let value = self.stack.recall(number)?;
            match &value {
                Value::Text(text) => self.hear(text.as_bytes()),
                _ => self.array.taken(number),
            }
            self.stack.push(value);
        } else {
            let number = self.stack.memorise(number)?;
            self.array.memorised(number);
        }
        Ok(())
    }

    /// Opcodes with an argument, which is pushed, and those that are none.
    fn value<R: Read + Seek>(&mut self, opcode: u8, tape: &mut Tape<R>) -> Result<(), End> {
        let value = match opcode {
            // These change nothing on the stack.
            0x80 if u64::from(tape.peek()?) > PROTOCOL_MAX => return Err(End::NoOpcode),
            0x80 => return Ok(tape.skip(1)?),
            0x95 => return Ok(tape.skip(8)?),
            b'K' => self.number(tape.bytes(1, NUMBER_BYTES_MAX)?),
            b'M' => self.number(tape.bytes(2, NUMBER_BYTES_MAX)?),
            b'J' => self.number(tape.bytes(4, NUMBER_BYTES_MAX)?),
            b'G' => tape.skip(8).map(|()| Value::Plain)?,
            0x8a | 0x8b => {
                let length = tape.number(if opcode == 0x8a { 1 } else { 4 })?;
                self.number(tape.bytes(length, NUMBER_BYTES_MAX)?)
            }
            b'U' | 0x8c | b'T' | b'X' | 0x8d => {
                let length = tape.number(length_bytes(opcode))?;
                self.text(tape.bytes(length, NAME_BYTES_MAX)?)
            }
            b'C' | b'B' | 0x8e | 0x96 => {
                let (length, start) = (tape.number(length_bytes(opcode))?, tape.at());
                tape.skip(length)?;
                Value::Bytes(start..tape.at())
            }
            b'S' | b'V' => self.text_line(opcode, tape)?,
            b'I' | b'L' | b'F' => self.number_line(opcode, tape)?,
            b'P' => tape.line(0).map(|_| Value::Made)?,
            _ => return Err(End::NoOpcode),
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, bytes: Option<Vec<u8>>) -> Value {
        self.hear(bytes.as_deref().unwrap_or_default());
        Value::text(bytes.as_deref())
    }

    /// What the state of an array may be made of: short texts.
    fn hear(&mut self, text: &[u8]) {
        const TEXT_BYTES_MAX: usize = 32;
        if text.len() <= TEXT_BYTES_MAX {
            self.array.text(text);
        }
    }

    /// And whole numbers.
    fn number(&mut self, bytes: Option<Vec<u8>>) -> Value {
        if let (true, Some(bytes)) = (self.arrays, bytes) {
            self.array.number(bytes.iter().rev().fold(0_u64, |number, byte| number.wrapping_shl(8) | u64::from(*byte)));
        }
        Value::Plain
    }

    /// A text of protocol 0: in quotes, or with escapes for what is no Latin letter.
    fn text_line<R: Read + Seek>(&mut self, opcode: u8, tape: &mut Tape<R>) -> Result<Value, End> {
        let line = tape.line(NAME_BYTES_MAX)?;
        let text = match (opcode, line) {
            (b'S', Some(line)) => match line.trim_ascii_end() {
                [b'\'', text @ .., b'\''] | [b'"', text @ .., b'"'] => Some(text.to_vec()),
                _ => return Err(End::NoOpcode),
            },
            (_, line) => line,
        };
        // What an escape stands for is not worked out.
        Ok(self.text(text.filter(|text| !text.contains(&b'\\'))))
    }

    /// A number of protocol 0: `I3`, `L3L`, `F0.5`. A line of a text that begins with such a letter is nearly never one.
    fn number_line<R: Read + Seek>(&mut self, opcode: u8, tape: &mut Tape<R>) -> Result<Value, End> {
        const DIGITS_MAX: u64 = 64 << 10;
        let line = tape.line(DIGITS_MAX)?.ok_or(End::NoOpcode)?;
        let text = std::str::from_utf8(&line).map_err(|_| End::NoOpcode)?.trim();
        let is_number = match opcode {
            b'F' => text.parse::<f64>().is_ok(),
            _ => {
                text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"xXoO_L+-".contains(&byte))
                    && text.contains(|c: char| c.is_ascii_digit())
            }
        };
        if let (true, Ok(number)) = (self.arrays, text.trim_end_matches('L').parse()) {
            self.array.number(number);
        }
        if is_number { Ok(Value::Plain) } else { Err(End::NoOpcode) }
    }

    /// Goes past the elements of an array, or into the pickle that they are.
    fn pass_array<R: Read + Seek>(&mut self, tape: &mut Tape<R>) -> Result<(), End> {
        match self.array.set() {
            Behind::Opcode => {}
            Behind::Unknown => return Err(End::RawArray),
            Behind::Pickle if self.outer.len() == PICKLES_DEEP_MAX => return Err(End::Limit),
            Behind::Pickle => self.outer.push((std::mem::take(&mut self.stack), std::mem::take(&mut self.array))),
            Behind::Elements { size_bytes, padded } => {
                let padding_bytes = if padded { tape.number(1)? } else { 0 };
                tape.skip(padding_bytes)?;
                tape.skip(size_bytes)?;
            }
        }
        Ok(())
    }
}

/// Whether this is the class of joblib's stand-ins for arrays: it is called (protocol 2 and later), or given to what calls it.
fn is_stand_in(class: &Value) -> bool {
    // scikit-learn had a joblib of its own, `sklearn.externals.joblib`.
    matches!(class, Value::Import(class) if class.module.ends_with("joblib.numpy_pickle") && class.name == "NumpyArrayWrapper")
}

/// How many bytes the length of an opcode's argument takes.
fn length_bytes(opcode: u8) -> u64 {
    match opcode {
        b'U' | 0x8c | b'C' => 1,
        b'T' | b'X' | b'B' => 4,
        _ => 8,
    }
}

fn line_number<R: Read + Seek>(tape: &mut Tape<R>) -> Result<u64, End> {
    let line = tape.line(NUMBER_BYTES_MAX)?.ok_or(End::NoOpcode)?;
    std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse().ok()).ok_or(End::NoOpcode)
}
