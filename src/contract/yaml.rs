//! Contract → the YAML that stands in a `serving.yaml`, and the words of that YAML.
//!
//! One signature is written as 2.x and 3.0.3 have it, several as 0.1.x. It is a whole `kind: Model` document, so that it can be read as
//! well as pasted. The reader is `model/inline_contract.rs`; this file reads nothing.
//!
//! What must stay true: what is written is read back to the same contract, but for what a warning said, by YAML 1.1 and 1.2 alike: a name
//! that either could take for something else is quoted.

use std::fmt::Write;

use super::contract::{Contract, ContractError, Field, FieldKind, Shape, Signature};
use super::dtype::{DataType, Profile};
use super::wire::shown_places;

/// The words for types; the first for a type is the one that is written. The ancestor's client knew these (reference, §3.5).
pub const TYPE_WORDS: [(&str, DataType); 23] = [
    ("bool", DataType::Bool),
    ("string", DataType::String),
    ("half", DataType::Half),
    ("float16", DataType::Half),
    ("float32", DataType::Float),
    ("double", DataType::Double),
    ("float64", DataType::Double),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("uint8", DataType::Uint8),
    ("uint16", DataType::Uint16),
    ("uint32", DataType::Uint32),
    ("uint64", DataType::Uint64),
    ("qint8", DataType::Qint8),
    ("qint16", DataType::Qint16),
    ("qint32", DataType::Qint32),
    ("quint8", DataType::Quint8),
    ("quint16", DataType::Quint16),
    ("complex64", DataType::Complex64),
    ("complex128", DataType::Complex128),
    ("variant", DataType::Variant),
];

/// The type that a word names: one of [`TYPE_WORDS`], or the name that it has in a `contract.prototxt` (`DT_MAP`), in any case.
///
/// `float` and `int` name none: Python and TensorFlow mean different sizes by them.
pub fn dtype_from_word(word: &str) -> Option<DataType> {
    let known = TYPE_WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, dtype)| *dtype);
    known.or_else(|| DataType::from_name(&word.to_ascii_uppercase())).filter(|dtype| *dtype != DataType::Invalid)
}

/// A contract as YAML, and what YAML left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// The document.
    pub text: String,
    /// What this form cannot say, a sentence each.
    pub warnings: Vec<String>,
}

/// The contract as a `serving.yaml`; one that is not valid has no such form.
pub fn print(contract: &Contract) -> Result<Printed, ContractError> {
    contract.validate()?;
    let mut printer = Printer { text: "kind: Model\n".to_owned(), ..Printer::default() };
    if !contract.model_name.is_empty() {
        printer.line(0, &format!("name: {}", quoted(&contract.model_name)));
    }
    printer.line(0, "contract:");
    match contract.signatures.as_slice() {
        [signature] => {
            printer.line(1, &format!("name: {}", quoted(&signature.name)));
            printer.signature(1, signature);
        }
        signatures => {
            for signature in signatures {
                printer.key(1, &signature.name);
                printer.signature(2, signature);
            }
        }
    }
    Ok(printer.printed())
}

#[derive(Default)]
struct Printer {
    text: String,
    unknown_ranks: Vec<String>,
    dimension_names: Vec<String>,
    wordless: Vec<String>,
}

impl Printer {
    fn printed(self) -> Printed {
        let losses = [
            (self.unknown_ranks, "unknown rank; any shape is written for", ""),
            (self.dimension_names, "names of dimensions; left out are those of", ""),
            (self.wordless, "word for the types of", "; their names in protobuf are written, which the ancestor's client does not read"),
        ];
        let said = losses.iter().filter(|(places, ..)| !places.is_empty());
        let sentence = |(places, lacks, then): &(Vec<String>, &str, &str)| {
            format!("the YAML of a contract has no {lacks} {}{then}", shown_places(places))
        };
        let warnings = said.map(sentence).collect();
        Printed { text: self.text, warnings }
    }

    fn line(&mut self, depth: usize, line: &str) {
        self.text.extend(std::iter::repeat_n("  ", depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A key whose value is on the lines that follow.
    fn key(&mut self, depth: usize, name: &str) {
        // A key of more than 1,024 characters, quotes and escapes included, has to say that it is one (YAML 1.2, 7.4.2).
        const SIMPLE_KEY_BYTES_MAX: usize = 128;
        let name = quoted(name);
        if name.len() <= SIMPLE_KEY_BYTES_MAX {
            self.line(depth, &format!("{name}:"));
        } else {
            self.line(depth, &format!("? {name}"));
            self.line(depth, ":");
        }
    }

    fn signature(&mut self, depth: usize, signature: &Signature) {
        for (side, fields) in [("inputs", &signature.inputs), ("outputs", &signature.outputs)] {
            if !fields.is_empty() {
                self.line(depth, &format!("{side}:"));
                self.fields(depth + 1, fields, &format!("{}.{side}", signature.name));
            }
        }
    }

    fn fields(&mut self, depth: usize, fields: &[Field], above: &str) {
        for field in fields {
            let place = format!("{above}.{}", field.name);
            self.key(depth, &field.name);
            self.field(depth + 1, field, &place);
        }
    }

    fn field(&mut self, depth: usize, field: &Field, place: &str) {
        match &field.shape {
            Shape::Any => {}
            Shape::UnknownRank => self.unknown_ranks.push(place.to_owned()),
            Shape::Dimensions(dimensions) if dimensions.is_empty() => self.line(depth, "shape: scalar"),
            Shape::Dimensions(dimensions) => {
                let sizes: Vec<i64> = dimensions.iter().map(|dimension| dimension.size).collect();
                self.line(depth, &format!("shape: {sizes:?}"));
                if dimensions.iter().any(|dimension| !dimension.name.is_empty()) {
                    self.dimension_names.push(place.to_owned());
                }
            }
        }
        match &field.kind {
            FieldKind::Dtype(dtype) => {
                let word = TYPE_WORDS.iter().find(|(_, known)| known == dtype).map(|(word, _)| *word);
                if word.is_none() {
                    self.wordless.push(format!("{place} ({dtype})"));
                }
                self.line(depth, &format!("type: {}", word.unwrap_or(dtype.name())));
            }
            FieldKind::Subfields(subfields) => {
                self.line(depth, "fields:");
                self.fields(depth + 1, subfields, place);
            }
            // A valid contract has none.
            FieldKind::Missing => {}
        }
        if field.profile != Profile::None {
            self.line(depth, &format!("profile: {}", field.profile.name().to_lowercase()));
        }
    }
}

/// A text as a YAML scalar that every reader takes for that text.
///
/// A letter and then letters, digits, `_`, `-` stay as they are, but for the words of YAML 1.1 and 1.2; all else is in double quotes.
fn quoted(text: &str) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // What a reader may break lines at, or may not take as it is (YAML 1.2, 5.1); beyond that, every character stands for itself.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                write!(quoted, "\\u{:04x}", u32::from(c)).expect("a String takes all that is written");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::*;

    #[test]
    fn one_signature_is_the_later_form_and_several_the_earlier() {
        let text = "model_name: 'm' signatures { signature_name: 'infer'
            inputs { name: 'x' shape { dim { size: -1 } dim { size: 2 } } dtype: DT_DOUBLE profile: ORDINAL }
            inputs { name: 'on' subfields { data { name: 'a b' shape { } dtype: DT_STRING } } }
            outputs { name: 'y' shape { unknown_rank: true } dtype: DT_MAP } }";
        let mut contract = parse(text.as_bytes(), "c").unwrap();
        let printed = print(&contract).unwrap();
        let expected = "kind: Model\nname: m\ncontract:\n  name: infer\n  inputs:\n    x:\n      shape: [-1, 2]\n      type: double\n      \
                        profile: ordinal\n    \"on\":\n      fields:\n        \"a b\":\n          shape: scalar\n          type: string\n  \
                        outputs:\n    \"y\":\n      type: DT_MAP\n";
        assert_eq!(printed.text, expected);
        assert_eq!(
            printed.warnings,
            [
                "the YAML of a contract has no unknown rank; any shape is written for infer.outputs.y",
                "the YAML of a contract has no word for the types of infer.outputs.y (DT_MAP); their names in protobuf are written, which the \
                 ancestor's client does not read"
            ]
        );
        contract.signatures.push(Signature { name: "7".to_owned(), inputs: Vec::new(), ..contract.signatures[0].clone() });
        let text = print(&contract).unwrap().text;
        assert!(text.contains("contract:\n  infer:\n    inputs:\n") && text.contains("\n  \"7\":\n    outputs:\n"), "{text}");
        assert_eq!(print(&Contract::default()).unwrap_err(), ContractError::NoSignature);
    }

    #[test]
    fn a_name_that_could_be_something_else_is_quoted() {
        for (name, written) in [
            ("serving_default", "serving_default"),
            ("a-1", "a-1"),
            ("No", "\"No\""),
            ("y", "\"y\""),
            ("1e3", "\"1e3\""),
            ("-", "\"-\""),
            ("a: b", "\"a: b\""),
            ("<<", "\"<<\""),
            ("größe", "\"größe\""),
            ("a\"\\\u{85}\u{2028}😀", "\"a\\\"\\\\\\u0085\\u2028😀\""),
        ] {
            assert_eq!(quoted(name), written);
        }
    }
}
