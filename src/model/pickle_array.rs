//! How long an array is that joblib writes raw between the opcodes of a pickle.
//!
//! Joblib (`numpy_pickle.py`) pickles a stand-in for each array, an object whose state has the array's shape, dtype and order, and writes the elements
//! behind the opcode that sets the state: after a byte that counts the padding, and the padding, where the state names an alignment. Arrays of objects
//! are a pickle of their own there. This file listens to the texts and numbers of the state; it reads nothing.
//!
//! What must stay true: what is not understood is said to be so ([`Behind::Unknown`]), and no length is guessed.

use std::collections::BTreeMap;

/// What stands behind the opcode that sets a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// The next opcode: this was no array.
    Opcode,
    /// So many bytes of elements, perhaps after padding.
    Elements {
        /// How many.
        size_bytes: u64,
        /// Whether a byte that counts the padding, and the padding, come first.
        padded: bool,
    },
    /// A pickle of its own.
    Pickle,
    /// An array whose length is not known.
    Unknown,
}

/// The size of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Bytes(u64),
    Object,
}

/// The key of the state whose value comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Other,
    Shape,
    Dtype,
    Alignment,
}

/// What has been heard of the state of an array.
#[derive(Clone, Debug, Default)]
pub(super) struct ArrayState {
    key: Key,
    shape: Option<Vec<u64>>,
    element: Option<Element>,
    padded: bool,
    /// The element that the last text names; with it dtypes are made, inside of an array's state and before there was any.
    named: Option<Element>,
    /// The element of the dtype that was just made, until it is memorised.
    made: Option<Element>,
    /// Dtypes that were memorised, by their numbers.
    memo: BTreeMap<u64, Element>,
}

/// More dimensions than NumPy has.
const DIMENSIONS_MAX: usize = 64;

impl ArrayState {
    /// A stand-in has been made: what was heard before is no state of it.
    pub(super) fn begin(&mut self) {
        (self.key, self.shape, self.element, self.padded) = (Key::Other, None, None, false);
    }

    /// A text was pushed.
    pub(super) fn text(&mut self, text: &[u8]) {
        self.named = element(text);
        self.key = match text {
            b"shape" => {
                self.shape = Some(Vec::new());
                Key::Shape
            }
            b"dtype" => Key::Dtype,
            b"numpy_array_alignment_bytes" => Key::Alignment,
            _ if self.key == Key::Dtype && self.named.is_some() => Key::Dtype,
            _ => Key::Other,
        };
    }

    /// A whole number was pushed.
    pub(super) fn number(&mut self, number: u64) {
        match (self.key, &mut self.shape) {
            (Key::Shape, Some(shape)) if shape.len() < DIMENSIONS_MAX => shape.push(number),
            (Key::Alignment, _) => self.padded = true,
            _ => {}
        }
    }

    /// Something was called: a dtype, where the last text named an element.
    pub(super) fn called(&mut self) {
        self.made = self.named.take();
        if self.key == Key::Dtype && self.element.is_none() {
            self.element = self.made;
        }
    }

    /// What was pushed last was memorised.
    pub(super) fn memorised(&mut self, number: u64) {
        if let Some(element) = self.made.take() {
            self.memo.insert(number, element);
        }
    }

    /// Something was taken out of the memo that is no text.
    pub(super) fn taken(&mut self, number: u64) {
        if self.key == Key::Dtype && self.element.is_none() {
            self.element = self.memo.get(&number).copied();
        }
    }

    /// The state of names was set: what stands behind it. The next state begins.
    pub(super) fn set(&mut self) -> Behind {
        let (shape, element, padded) = (self.shape.take(), self.element.take(), std::mem::take(&mut self.padded));
        self.key = Key::Other;
        let Some(shape) = shape else { return Behind::Opcode };
        match element {
            Some(Element::Object) => Behind::Pickle,
            Some(Element::Bytes(bytes)) => {
                let size_bytes = shape.iter().try_fold(bytes, |size, length| size.checked_mul(*length));
                size_bytes.map_or(Behind::Unknown, |size_bytes| Behind::Elements { size_bytes, padded })
            }
            None => Behind::Unknown,
        }
    }
}

/// The element that NumPy's short name stands for: `f8`, `U12` (four bytes a character), `O8`.
fn element(name: &[u8]) -> Option<Element> {
    let (kind, digits) = name.split_first()?;
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match kind {
        b'O' => Element::Object,
        b'U' => Element::Bytes(number.checked_mul(4)?),
        b'b' | b'i' | b'u' | b'f' | b'c' | b'S' | b'V' | b'M' | b'm' => Element::Bytes(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_follows_from_shape_and_dtype_also_when_the_dtype_was_met_before() {
        let mut state = ArrayState::default();
        let describe = |state: &mut ArrayState| {
            state.text(b"shape");
            state.number(3);
            state.number(4);
            state.text(b"order");
            state.text(b"C");
            state.text(b"dtype");
        };
        describe(&mut state);
        state.text(b"f8");
        state.called();
        state.memorised(7);
        state.number(3);
        state.text(b"<");
        state.text(b"numpy_array_alignment_bytes");
        state.number(16);
        assert_eq!(state.set(), Behind::Elements { size_bytes: 96, padded: true });
        describe(&mut state);
        state.taken(7);
        assert_eq!(state.set(), Behind::Elements { size_bytes: 96, padded: false });
        describe(&mut state);
        state.text(b"O8");
        state.called();
        assert_eq!(state.set(), Behind::Pickle);
        describe(&mut state);
        state.taken(8);
        assert_eq!(state.set(), Behind::Unknown);
        assert_eq!(state.set(), Behind::Opcode);
        // The dtype of a number, whose class is called as the key is, and then an array; in older files the state has no order.
        state.text(b"dtype");
        state.text(b"u8");
        state.called();
        state.begin();
        describe(&mut state);
        state.text(b"u4");
        state.called();
        assert_eq!(state.set(), Behind::Elements { size_bytes: 48, padded: false });
        state.begin();
        state.text(b"dtype");
        state.text(b"u2");
        state.called();
        state.text(b"shape");
        state.number(5);
        assert_eq!(state.set(), Behind::Elements { size_bytes: 10, padded: false });
        state.begin();
        state.text(b"shape");
        state.number(u64::MAX);
        state.number(2);
        state.text(b"dtype");
        state.text(b"U2");
        state.called();
        assert_eq!(state.set(), Behind::Unknown);
    }
}
