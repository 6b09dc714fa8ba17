//! The bodies of the fuzz targets: each gives a stranger's bytes to one reader and asserts what must be true of whatever it makes of them.
//!
//! libFuzzer calls them through `targets/`; `tests/contract/fuzz_corpus.rs` includes this file too and replays the corpus without it. A panic is a
//! finding; so is a run past the limits of `run.sh`. A new target is a function here, a file in `targets/`, a `[[bin]]` in `Cargo.toml` and a row
//! in [`READERS`].

use std::io::Cursor;

use lamina::contract::contract::Contract;
use lamina::contract::contract::Field;
use lamina::contract::contract::Shape;
use lamina::contract::contract::Signature;
use lamina::contract::dtype::DataType;
use lamina::contract::print::print;
use lamina::contract::reading::Reading;
use lamina::contract::wire;
use lamina::contract::wire::Dialect;
use lamina::contract::wire::WireError;
use lamina::fault::Failure;
use lamina::fault::one_line;

/// A target: it takes bytes, and panics where something is not true of them.
#[allow(dead_code, reason = "as below")]
pub type Reader = fn(&[u8]);

/// Every target, by the name of its corpus folder.
#[allow(dead_code, reason = "each target names its own; the replay names all")]
pub const READERS: [(&str, Reader); 5] =
    [("definition", definition), ("python_code", python_code), ("saved_model", saved_model), ("text", text), ("wire", wire)];

/// TensorFlow's `saved_model.pb`.
pub fn saved_model(bytes: &[u8]) {
    match lamina::contract::saved_model::read(Cursor::new(bytes), bytes.len() as u64, &lamina::contract::saved_model_meta::Tags::default())
    {
        Ok(reading) => check_reading(&reading, "tensorflow:"),
        Err(error) => check_error(&error),
    }
}

/// `contract.protobin`, in every dialect.
pub fn wire(bytes: &[u8]) {
    for dialect in [None, Some(Dialect::V1), Some(Dialect::V2), Some(Dialect::V3)] {
        match wire::decode(bytes, dialect) {
            Ok((contract, found)) => {
                assert!(dialect.is_none_or(|asked| asked == found));
                check_contract(&contract, found);
            }
            Err(error) => check_error(&error),
        }
    }
}

/// `contract.prototxt`.
pub fn text(bytes: &[u8]) {
    match lamina::contract::text::parse(bytes, "contract.prototxt") {
        Ok(contract) => check_contract(&contract, Dialect::V1),
        Err(error) => check_error(&error),
    }
}

/// `serving.yaml`.
pub fn definition(bytes: &[u8]) {
    match lamina::model::definition::read("serving.yaml", bytes) {
        Ok(definition) => assert!(definition.warnings.iter().all(|warning| !warning.is_empty())),
        Err(error) => check_error(&error),
    }
}

/// `src/func_main.py`, against a contract with names that are and are not Python's.
pub fn python_code(bytes: &[u8]) {
    let field = |name: &str| Field::new(name, DataType::Double, Shape::scalar());
    let signature = |name: &str, inputs: &[&str]| Signature {
        name: name.to_owned(),
        inputs: inputs.iter().map(|name| field(name)).collect(),
        outputs: vec![field("y")],
    };
    let signatures = vec![signature("infer", &["x"]), signature("predict", &["my-input", "class"]), signature("f", &[])];
    let contract = Contract { model_name: String::new(), signatures };
    for python in [None, Some((3, 7))] {
        match lamina::model::python_code::check(bytes, "src/func_main.py", &contract, python) {
            Ok(warnings) => assert!(warnings.iter().all(|warning| warning.starts_with("src/func_main.py"))),
            Err(error) => {
                check_error(&error);
                assert!(error.to_string().starts_with("src/func_main.py"), "{error}");
            }
        }
    }
}

/// A contract that a reader of a framework's file gave: valid, without a name, and to be had in the seed era's dialect.
fn check_reading(reading: &Reading, model_type: &str) {
    assert!(reading.model_type.starts_with(model_type), "{}", reading.model_type);
    assert!(reading.contract.model_name.is_empty());
    assert_eq!(reading.contract.validate(), Ok(()));
    check_contract(&reading.contract, Dialect::V1);
}

/// Any contract: written and read again it is the same, but for what the warnings say; so is its text where it is valid.
fn check_contract(contract: &Contract, dialect: Dialect) {
    match wire::encode(contract, dialect) {
        Ok(encoded) => {
            let (again, found) = wire::decode(&encoded.bytes, Some(dialect)).expect("what we wrote can be read");
            assert_eq!(found, dialect);
            assert!(!encoded.warnings.is_empty() || again == *contract, "{contract:?}\nis read as\n{again:?}");
            let twice = wire::encode(&again, dialect).expect("what we read can be written");
            assert_eq!(twice.bytes, encoded.bytes);
        }
        Err(error) => {
            // The same contract can be longer in our form than in the stranger's; and what is no valid contract need not be one in a dialect.
            let may_be = matches!(error, WireError::TooLarge { .. } | WireError::NoOutputs { .. } | WireError::Dtype { .. });
            assert!(may_be || contract.validate().is_err(), "a contract that dialect {dialect} cannot say: {}", one_line(&error));
            check_error(&error);
        }
    }
    if let Err(error) = contract.validate() {
        check_error(&error);
        return;
    }
    let text = print(contract);
    if text.len() <= lamina::contract::text::TEXT_BYTES_MAX {
        let again =
            lamina::contract::text::parse(text.as_bytes(), "printed").unwrap_or_else(|error| panic!("{}\n{text}", one_line(&error)));
        assert!(again == *contract, "{contract:?}\nprinted is\n{text}\nand read as\n{again:?}");
    }
}

/// An error: every text of it can be made, says something, and is no longer than a screen can show.
fn check_error(error: &dyn Failure) {
    const TEXT_BYTES_MAX: usize = 64 << 10;
    let line = one_line(error);
    assert!(
        !line.is_empty() && line.len() <= TEXT_BYTES_MAX,
        "{} bytes of error: {}",
        line.len(),
        &line[..line.floor_char_boundary(1_000)]
    );
    let remedy = error.remedy();
    assert!(remedy.is_none_or(|remedy| !remedy.is_empty() && !remedy.ends_with('.')));
}
