//! Contract → prototxt.
//!
//! The form that `protoc --decode` gives, but for two things that people read: letters outside ASCII stay letters, and a dimension
//! of size 0 is written out. `protoc --encode` reads it back to the same message.
//!
//! What must stay true: one contract, one text.

use std::fmt::Write;

use super::contract::{Contract, Field, FieldKind, Shape};
use super::dtype::{DataType, Profile};

/// The contract as the text of a `contract.prototxt`.
pub fn print(contract: &Contract) -> String {
    let mut text = Text::default();
    text.name("model_name", &contract.model_name);
    for signature in &contract.signatures {
        text.open("signatures");
        text.name("signature_name", &signature.name);
        for input in &signature.inputs {
            text.field("inputs", input);
        }
        for output in &signature.outputs {
            text.field("outputs", output);
        }
        text.close();
    }
    text.out
}

#[derive(Default)]
struct Text {
    out: String,
    depth: usize,
}

impl Text {
    fn line(&mut self, line: &str) {
        for _ in 0..self.depth {
            self.out.push_str("  ");
        }
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn open(&mut self, message: &str) {
        self.line(&format!("{message} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    /// A string, when it is not empty.
    fn name(&mut self, field: &str, value: &str) {
        if !value.is_empty() {
            self.line(&format!("{field}: {}", quoted(value)));
        }
    }

    fn field(&mut self, message: &str, field: &Field) {
        self.open(message);
        self.name("name", &field.name);
        match &field.shape {
            Shape::Any => {}
            Shape::UnknownRank => {
                self.open("shape");
                self.line("unknown_rank: true");
                self.close();
            }
            Shape::Dimensions(dimensions) => {
                self.open("shape");
                for dimension in dimensions {
                    self.open("dim");
                    self.line(&format!("size: {}", dimension.size));
                    self.name("name", &dimension.name);
                    self.close();
                }
                self.close();
            }
        }
        match &field.kind {
            FieldKind::Missing => {}
            // The third dialect's own type has no name in this text; protobuf takes the number of an enum's value as well.
            FieldKind::Dtype(DataType::Any) => self.line(&format!("dtype: {}", DataType::Any.number())),
            FieldKind::Dtype(dtype) => self.line(&format!("dtype: {dtype}")),
            FieldKind::Subfields(subfields) => {
                self.open("subfields");
                for subfield in subfields {
                    self.field("data", subfield);
                }
                self.close();
            }
        }
        if field.profile != Profile::None {
            self.line(&format!("profile: {}", field.profile));
        }
        self.close();
    }
}

/// A string literal of protobuf's text format.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // Three octal digits are a byte, and cannot run into a digit that follows; the control characters past ASCII are two bytes.
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(quoted, "\\{byte:03o}").expect("a String takes all that is written");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::contract::{Dimension, Signature};
    use super::super::text::parse;
    use super::*;

    #[test]
    fn the_text_is_read_back_as_it_was() {
        let shape = Shape::Dimensions(vec![Dimension { size: -1, name: "größe".to_owned() }, Dimension::default()]);
        let inner = Field { profile: Profile::Ordinal, ..Field::new("a \"b\" \\ \n\t\u{1}7\u{85}", DataType::Any, Shape::UnknownRank) };
        let inputs = vec![
            Field::new("x", DataType::Float, shape),
            Field { kind: FieldKind::Subfields(vec![inner]), ..Field::new("map", DataType::Map, Shape::scalar()) },
        ];
        let signature = Signature { name: "infer".to_owned(), inputs, outputs: vec![Field::new("y", DataType::Bool, Shape::Any)] };
        let contract = Contract { model_name: "m".to_owned(), signatures: vec![signature] };
        let text = print(&contract);
        let expected = r#"model_name: "m"
signatures {
  signature_name: "infer"
  inputs {
    name: "x"
    shape {
      dim {
        size: -1
        name: "größe"
      }
      dim {
        size: 0
      }
    }
    dtype: DT_FLOAT
  }
  inputs {
    name: "map"
    shape {
    }
    subfields {
      data {
        name: "a \"b\" \\ \n\t\0017\302\205"
        shape {
          unknown_rank: true
        }
        dtype: 24
        profile: ORDINAL
      }
    }
  }
  outputs {
    name: "y"
    dtype: DT_BOOL
  }
}
"#;
        assert_eq!(text, expected);
        assert_eq!(parse(text.as_bytes(), "c").unwrap(), contract);
    }
}
