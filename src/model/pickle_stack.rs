//! The stack and the memo of the machine that a pickle is a program for: of each value what matters for what is imported and called.
//!
//! Of a value is known whether it is a text, an import, a range of bytes, a short tuple of these, something that a call made, or none of them. Marks divide the
//! stack as Python's unpickler has it: what lies below the last mark is out of reach until the mark is gone.
//!
//! What must stay true: an operation that Python's unpickler would refuse is refused here ([`Misuse`]), and no other: a text that happens to begin with
//! letters that are opcodes is told from a pickle by that. No value holds others deeper than one tuple, so that dropping one is no recursion.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::pickle::Global;

/// What is on the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, a list: nothing that names anything.
    Plain,
    /// What a call made, or a text that is not known: it may be any name.
    Made,
    /// A text.
    Text(Rc<str>),
    /// Bytes, by their place.
    Bytes(Range<u64>),
    /// What was imported.
    Import(Rc<Global>),
    /// Joblib's stand-in for an array.
    Array,
    /// A tuple of at most [`TUPLE_MAX`] values that are no tuples themselves.
    Tuple(Rc<[Value]>),
}

/// Calls with more arguments than these are not looked at argument by argument.
pub(super) const TUPLE_MAX: usize = 8;

/// Python would stop here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misuse;

/// Stack, marks and memo.
#[derive(Debug, Default)]
pub(super) struct Stack {
    values: Vec<Value>,
    /// How many values lay on the stack at each mark.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Value>,
}

impl Stack {
    /// Puts a value on top.
    pub(super) fn push(&mut self, value: Value) {
        self.values.push(value);
    }

    /// Puts a mark.
    pub(super) fn mark(&mut self) {
        self.marks.push(self.values.len());
    }

    /// How many values are within reach.
    fn reach(&self) -> usize {
        self.values.len() - self.marks.last().copied().unwrap_or(0)
    }

    /// The value on top.
    pub(super) fn top(&self) -> Result<&Value, Misuse> {
        self.values.last().filter(|_| self.reach() > 0).ok_or(Misuse)
    }

    /// Takes the value on top.
    pub(super) fn pop(&mut self) -> Result<Value, Misuse> {
        if self.reach() == 0 { Err(Misuse) } else { self.values.pop().ok_or(Misuse) }
    }

    /// Takes the values on top, the lowest first.
    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, Misuse> {
        if self.reach() < count { Err(Misuse) } else { Ok(self.values.split_off(self.values.len() - count)) }
    }

    /// Takes what lies above the last mark, and the mark.
    pub(super) fn pop_to_mark(&mut self) -> Result<Vec<Value>, Misuse> {
        let mark = self.marks.pop().ok_or(Misuse)?;
        Ok(self.values.split_off(mark))
    }

    /// Throws away the value on top, or the mark that is there.
    pub(super) fn discard(&mut self) -> Result<(), Misuse> {
        if self.reach() == 0 { self.marks.pop().map(drop).ok_or(Misuse) } else { self.pop().map(drop) }
    }

    /// Remembers the value on top by a number; without one, by how many are remembered.
    pub(super) fn memorise(&mut self, number: Option<u64>) -> Result<u64, Misuse> {
        let (value, number) = (self.top()?.clone(), number.unwrap_or(self.memo.len() as u64));
        self.memo.insert(number, value);
        Ok(number)
    }

    /// What was remembered by this number.
    pub(super) fn recall(&self, number: u64) -> Result<Value, Misuse> {
        self.memo.get(&number).cloned().ok_or(Misuse)
    }
}

impl Value {
    /// A tuple of values; of one in it is not known what is in that.
    pub(super) fn tuple(values: Vec<Value>) -> Value {
        if values.len() > TUPLE_MAX {
            return Value::Plain;
        }
        Value::Tuple(values.into_iter().map(|value| if matches!(value, Value::Tuple(_)) { Value::Plain } else { value }).collect())
    }

    /// A text, where these bytes are one.
    pub(super) fn text(bytes: Option<&[u8]>) -> Value {
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).map_or(Value::Made, |text| Value::Text(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_mark_is_out_of_reach() {
        let mut stack = Stack::default();
        assert_eq!((stack.pop(), stack.discard(), stack.memorise(None)), (Err(Misuse), Err(Misuse), Err(Misuse)));
        stack.push(Value::Made);
        assert_eq!((stack.memorise(Some(7)), stack.memorise(None)), (Ok(7), Ok(1)));
        stack.mark();
        assert_eq!((stack.pop(), stack.pop_many(1)), (Err(Misuse), Err(Misuse)));
        stack.push(Value::Plain);
        assert_eq!(stack.pop_to_mark(), Ok(vec![Value::Plain]));
        stack.mark();
        assert_eq!((stack.discard(), stack.pop(), stack.pop_to_mark()), (Ok(()), Ok(Value::Made), Err(Misuse)));
        assert_eq!((stack.recall(1), stack.recall(2)), (Ok(Value::Made), Err(Misuse)));
    }

    #[test]
    fn tuples_hold_no_tuples() {
        let inner = Value::tuple(vec![Value::Made]);
        assert_eq!(Value::tuple(vec![inner]), Value::tuple(vec![Value::Plain]));
        assert_eq!(Value::tuple(vec![Value::Made; TUPLE_MAX + 1]), Value::Plain);
    }
}
