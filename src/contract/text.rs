//! prototxt → Contract.
//!
//! The text is that of the seed era's `ModelContract`, read by `prost-reflect` against the compiled `proto/`, which takes and
//! refuses what `protoc --encode` does. Our part is what stands before and behind it: limits, because the parser recurses without
//! one, and errors that a data scientist can use, with file, line, column, the line itself and a caret.
//!
//! What must stay true: no text makes the process grow or end. The result goes from the parser to structs with a fixed order through
//! bytes, so that nothing depends on the parser's own order. It may be invalid as a contract: `Contract::validate` says so.

use std::sync::LazyLock;

use miette::Diagnostic;
use prost::{DecodeError, Message};
use prost_reflect::text_format::ParseError;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::contract::Contract;
use super::dtype::DataType;
use super::message::{MessageError, from_message};
use super::text_eras;
use super::text_place::TextPlace;
use crate::fault::{Failure, Fault};
use crate::proto::hydrosphere::contract::ModelContract;
use crate::proto::lamina::contract::AnyContract;

/// The longest text that is read; real contracts are a few KiB.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// The deepest nesting of messages that is read: protobuf's own limit. The parser recurses, so it is counted before.
const NESTING_MAX: usize = 100;

/// Made once: it takes longer than reading a contract.
static MESSAGES: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(crate::proto::DESCRIPTORS).expect("build.rs wrote the descriptor set"));
static CONTRACT_MESSAGE: LazyLock<MessageDescriptor> = LazyLock::new(|| message_named("hydrosphere.contract.ModelContract"));
static ANY_CONTRACT_MESSAGE: LazyLock<MessageDescriptor> = LazyLock::new(|| message_named(text_eras::MESSAGE));

fn message_named(name: &str) -> MessageDescriptor {
    MESSAGES.get_message_by_name(name).expect("build.rs compiled the message")
}

/// Why a text is no contract.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// Past the limit.
    #[error("{file} is {size_bytes} bytes long; a contract has at most {TEXT_BYTES_MAX}")]
    TooLarge {
        /// What the file is called.
        file: String,
        /// Its size.
        size_bytes: usize,
    },
    /// Bytes that are no text.
    #[error("{}", .at.with("the text is not UTF-8"))]
    NotUtf8 {
        /// Where.
        at: TextPlace,
    },
    /// Past the limit.
    #[error("{}", .at.with("messages are nested deeper than 100 levels"))]
    TooDeep {
        /// Where.
        at: TextPlace,
    },
    /// Not the text of a contract.
    #[error("{}", .at.with(.problem))]
    Syntax {
        /// Where.
        at: TextPlace,
        /// What was found there.
        problem: String,
        /// How to write it.
        hint: Option<String>,
    },
    /// A message with something in it that no contract has.
    #[error("{file} is no contract")]
    Message {
        /// What the file is called.
        file: String,
        /// What it has.
        #[source]
        source: MessageError,
    },
}

impl Failure for TextError {
    fn fault(&self) -> Fault {
        match self {
            TextError::TooLarge { .. } => Fault::TooLarge,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            TextError::Syntax { hint, .. } => hint.clone(),
            TextError::NotUtf8 { .. } => Some("a binary contract is called contract.protobin; save a text as UTF-8".to_owned()),
            _ => None,
        }
    }
}

/// The contract in `bytes`, the content of a `contract.prototxt`; errors call it `file`.
pub fn parse(bytes: &[u8], file: &str) -> Result<Contract, TextError> {
    parse_with_warnings(bytes, file).map(|(contract, _)| contract)
}

/// As [`parse`], and what is to be said of a text that is accepted: a sentence each.
pub fn parse_with_warnings(bytes: &[u8], file: &str) -> Result<(Contract, Vec<String>), TextError> {
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(TextError::TooLarge { file: file.to_owned(), size_bytes: bytes.len() });
    }
    // Editors on Windows put a byte order mark before the text; protobuf's grammar has none.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(bytes);
        TextError::NotUtf8 { at: TextPlace::new(file, &before, error.valid_up_to()) }
    })?;
    if let Some(offset) = too_deep(text) {
        return Err(TextError::TooDeep { at: TextPlace::new(file, text, offset) });
    }
    let undecodable = |error: DecodeError| TextError::Syntax { at: TextPlace::new(file, text, 0), problem: error.to_string(), hint: None };
    let mut warnings = Vec::new();
    let message = match DynamicMessage::parse_text_format(CONTRACT_MESSAGE.clone(), text) {
        Ok(message) => ModelContract::decode(message.encode_to_vec().as_slice()).map_err(undecodable)?,
        Err(error) if text_eras::is_old_word(word_at(text, offset_of(&error, text))) => {
            let first = TextPlace::new(file, text, offset_of(&error, text));
            let message = DynamicMessage::parse_text_format(ANY_CONTRACT_MESSAGE.clone(), text);
            let message = message.map_err(|error| syntax_error(&error, text, file))?;
            let message = AnyContract::decode(message.encode_to_vec().as_slice()).map_err(undecodable)?;
            warnings.push(format!("{first}: {}", text_eras::WARNING));
            text_eras::today(message).map_err(|source| TextError::Message { file: file.to_owned(), source })?
        }
        Err(error) => return Err(syntax_error(&error, text, file)),
    };
    let contract = from_message(message).map_err(|source| TextError::Message { file: file.to_owned(), source })?;
    Ok((contract, warnings))
}

/// Where the parser stopped; an unexpected end carries no label.
fn offset_of(error: &ParseError, text: &str) -> usize {
    let label = error.labels().and_then(|mut labels| labels.next());
    label.map_or(text.trim_end().len(), |label| label.offset())
}

fn syntax_error(error: &ParseError, text: &str, file: &str) -> TextError {
    let offset = offset_of(error, text);
    let problem = error.to_string();
    let hint = hint(&problem, word_at(text, offset));
    TextError::Syntax { at: TextPlace::new(file, text, offset), problem, hint }
}

/// The word that begins at an offset.
fn word_at(text: &str, offset: usize) -> &str {
    let rest = &text[text.floor_char_boundary(offset)..];
    &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())]
}

/// The offset of the bracket that nests too deep, if one does; strings and comments hold no brackets.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = text.bytes().enumerate();
    while let Some((offset, byte)) = bytes.next() {
        match byte {
            b'{' | b'<' | b'[' => depth += 1,
            b'}' | b'>' | b']' => depth = depth.saturating_sub(1),
            b'#' => {
                bytes.by_ref().find(|(_, byte)| *byte == b'\n');
            }
            b'"' | b'\'' => {
                // A line's end closes a string too: the parser refuses the string there, and what follows counts again.
                while let Some((_, inner)) = bytes.next() {
                    if inner == byte || inner == b'\n' {
                        break;
                    }
                    if inner == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
        if depth > NESTING_MAX {
            return Some(offset);
        }
    }
    None
}

/// How to write what was found, where we know what was meant.
fn hint(problem: &str, found: &str) -> Option<String> {
    if problem.contains("enum 'hydrosphere.tensorflow.DataType'") {
        let known = DataType::ALL.into_iter().filter(|dtype| !matches!(dtype, DataType::Invalid | DataType::Any));
        return Some(format!("the dtypes are {}", known.map(DataType::name).collect::<Vec<_>>().join(", ")));
    }
    let message = problem.strip_prefix("field '")?.split("message '").nth(1)?.trim_end_matches('\'');
    // A name from before 0.1.0 (March 2018) in a place that it did not have, those of the 2.x releases, and those of serving.yaml.
    let today = match found {
        "tensor_shape" => "`tensor_shape` is from before 0.1.0; write `shape`",
        "predict" => "`predict` is from the 2.x releases; write `signatures`",
        "dims" => "write a dimension as `dim { size: -1 }`",
        "type" => "write `dtype`, with a value such as DT_DOUBLE",
        _ => {
            let message = ANY_CONTRACT_MESSAGE.parent_pool().get_message_by_name(message)?;
            let fields: Vec<String> = message.fields().map(|field| format!("`{}`", field.name())).collect();
            return Some(format!("here can be {}", fields.join(", ")));
        }
    };
    Some(today.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &str, hint: Option<&str>) {
        let error = parse(text.as_bytes(), "contract.prototxt").unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.remedy().as_deref(), hint);
    }

    #[test]
    fn an_error_shows_the_line_and_a_caret() {
        refused(
            "signatures {\n  signature_nme: \"infer\"\n}\n",
            "contract.prototxt:2:3: field 'signature_nme' not found for message 'hydrosphere.contract.ModelSignature'\n  \
             |\n2 |   signature_nme: \"infer\"\n  |   ^",
            Some("here can be `signature_name`, `inputs`, `outputs`"),
        );
        refused(
            "signatures {\n\tinputs { name: \"ü\" dtype: FLOAT }\r\n}",
            "contract.prototxt:2:28: value 'FLOAT' was not found for enum 'hydrosphere.tensorflow.DataType'\n  \
             |\n2 |  inputs { name: \"ü\" dtype: FLOAT }\n  |                            ^",
            Some(
                "the dtypes are DT_FLOAT, DT_DOUBLE, DT_INT32, DT_UINT8, DT_INT16, DT_INT8, DT_STRING, DT_COMPLEX64, DT_INT64, DT_BOOL, \
                 DT_QINT8, DT_QUINT8, DT_QINT32, DT_BFLOAT16, DT_QINT16, DT_QUINT16, DT_UINT16, DT_COMPLEX128, DT_HALF, DT_RESOURCE, \
                 DT_VARIANT, DT_UINT32, DT_UINT64, DT_MAP",
            ),
        );
        refused(
            "signatures {\n  signature_name: \"infer\"\n\n",
            "contract.prototxt:2:26: expected '}' or a field name, but reached end of input\n  \
             |\n2 |   signature_name: \"infer\"\n  |                          ^",
            None,
        );
        refused(
            "model_name: 1",
            "contract.prototxt:1:13: expected a string, but found '1'\n  |\n1 | model_name: 1\n  |             ^",
            None,
        );
    }

    #[test]
    fn names_of_other_eras_are_told_in_todays() {
        for (text, today) in [
            ("signatures { inputs { tensor_shape { } } }", "`shape`"),
            ("signatures { inputs { field_name: 'x' nme: 'x' } }", "`field_name`"),
            ("predict { signature_name: \"infer\" }", "`signatures`"),
            ("signatures { inputs { shape { dims: -1 } } }", "`dim { size: -1 }`"),
        ] {
            let hint = parse(text.as_bytes(), "c").unwrap_err().remedy().unwrap();
            assert!(hint.contains(today), "{text}: {hint}");
        }
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("#{}\n{}? ", "x".repeat(500), "signatures { } ".repeat(100));
        let error = parse(text.as_bytes(), "c").unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].starts_with("c:2:1501: "), "{error}");
        assert_eq!(lines[2].find('?'), lines[3].find('^'), "{error}");
        assert!(lines[2].len() < 130);
    }

    #[test]
    fn what_is_past_a_limit_or_no_text_is_refused() {
        let deep =
            |levels: usize| format!("signatures {{ inputs {{ {}{}", "subfields { data { ".repeat(levels), "} ".repeat(2 + 2 * levels));
        // The parser's deepest way in, on the smallest stack that it gets: a thread of the async runtime.
        let text = deep(49);
        let parsed = std::thread::Builder::new().stack_size(2 << 20).spawn(move || parse(text.as_bytes(), "c").map(|_| ())).unwrap();
        parsed.join().unwrap().unwrap();
        assert!(matches!(parse(deep(50).as_bytes(), "c"), Err(TextError::TooDeep { at }) if at.line == 1 && at.column == 964));
        assert!(matches!(parse("[".repeat(100_000).as_bytes(), "c"), Err(TextError::TooDeep { .. })));
        // Brackets in strings and comments are none.
        let text = format!("# {}\nmodel_name: \"{}\\\"{}\" # {{", "{".repeat(200), "<".repeat(200), "[".repeat(200));
        assert!(parse(text.as_bytes(), "c").is_ok());
        assert!(matches!(parse(&vec![b' '; TEXT_BYTES_MAX + 1], "c"), Err(TextError::TooLarge { .. })));
        let error = parse(b"model_name:\n  \"\xff\"", "c").unwrap_err().to_string();
        assert!(error.starts_with("c:2:4: the text is not UTF-8"), "{error}");
        assert!(parse("\u{feff}model_name: 'm'".as_bytes(), "c").is_ok_and(|contract| contract.model_name == "m"));
    }
}
