//! Model folders and the contracts that are given in them: which one is taken, which two are refused, and what is wrong with one.

use std::io::Cursor;

use lamina::contract::text::parse;
use lamina::contract::wire::{Dialect, encode};
use lamina::fault::{Failure, one_line};
use lamina::model::framework::ReadSeek;
use lamina::model::intake::{Given, IntakeError, Model, intake};
use lamina::model::tree::Tree;
use lamina::oci::layer::{Content, EntryKind};
use lamina::oci::path::TreePath;

const CONTRACT: &str = "signatures {\n  signature_name: 'infer'\n  inputs { name: 'x' shape { dim { size: -1 } } dtype: DT_DOUBLE }\n  \
                        outputs { name: 'y' dtype: DT_INT64 }\n}\n";
const INLINE: &str = "kind: Model\nname: m\ncontract:\n  name: infer\n  inputs: {x: {shape: [-1], type: double, profile: ratio}}\n  \
                      outputs: {y: {type: int64}}\n";

/// Files of a folder: paths and bytes.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// What becomes of a folder with these files.
fn folder(files: Files<'_>) -> Result<Model, IntakeError> {
    let mut tree = Tree::new();
    for (path, bytes) in files {
        let content = Content::Inline((*bytes).into());
        tree.insert(TreePath::new(path).unwrap(), EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content });
    }
    let given = Given { fallback_name: Some("m".to_owned()), ..Given::default() };
    intake(&tree, &given, &|content| match content {
        Content::Inline(bytes) => Ok(Box::new(Cursor::new(bytes.to_vec())) as Box<dyn ReadSeek>),
        Content::Local(_) => unreachable!("the tree is in memory"),
    })
}

/// That a folder is refused with exit code 3; its message on one line, and the remedy.
#[track_caller]
fn refused(files: Files<'_>) -> (String, String) {
    let error = folder(files).unwrap_err();
    assert_eq!(error.fault().exit_code(), 3);
    (one_line(&error), error.remedy().unwrap_or_default())
}

fn binary(text: &str, dialect: Dialect) -> Vec<u8> {
    encode(&parse(text.as_bytes(), "c").unwrap(), dialect).unwrap().bytes
}

#[test]
fn a_contract_inside_the_definition_is_the_models() {
    let model = folder(&[("serving.yaml", INLINE.as_bytes())]).unwrap();
    let found = model.contract.unwrap();
    assert_eq!((found.source.as_str(), found.contract.model_name.as_str()), ("serving.yaml", "m"));
    assert_eq!(found.contract.signatures[0].name, "infer");
    assert_eq!(model.warnings, Vec::<String>::new());
}

#[test]
fn contracts_that_agree_are_one() {
    let binaries = [Dialect::V1, Dialect::V3].map(|dialect| binary(CONTRACT, dialect));
    let files: [(&str, &[u8]); 4] = [
        ("serving.yaml", INLINE.as_bytes()),
        ("contract.prototxt", CONTRACT.as_bytes()),
        ("contract.protobin", &binaries[0]),
        ("contract.pb", &binaries[1]),
    ];
    // The definition's is taken: it alone has the profile.
    let found = folder(&files).unwrap().contract.unwrap();
    assert_eq!(found.source, "serving.yaml");
    assert_eq!(found.contract.signatures[0].inputs[0].profile.name(), "RATIO");
    assert_eq!(folder(&files[1..]).unwrap().contract.unwrap().source, "contract.prototxt");
    let named = b"model: {name: m, contract: sub/c.prototxt}";
    let files: [(&str, &[u8]); 3] = [("serving.yaml", named), ("sub/c.prototxt", CONTRACT.as_bytes()), ("contract.protobin", &binaries[0])];
    assert_eq!(folder(&files).unwrap().contract.unwrap().source, "sub/c.prototxt");
}

#[test]
fn contracts_that_do_not_agree_are_refused_with_both_places() {
    let other = CONTRACT.replace("DT_DOUBLE", "DT_FLOAT");
    let bytes = binary(&other, Dialect::V1);
    let named = b"model: {name: m, contract: sub/c.prototxt}";
    let cases: [(Files<'_>, &str); 3] = [
        (
            &[("serving.yaml", INLINE.as_bytes()), ("contract.prototxt", other.as_bytes())],
            "the contracts in `serving.yaml:4:3` and `contract.prototxt` do not agree: infer.inputs.x: `serving.yaml:4:3` says DT_DOUBLE, \
             `contract.prototxt` DT_FLOAT",
        ),
        (
            &[("contract.prototxt", CONTRACT.as_bytes()), ("contract.protobin", &bytes)],
            "the contracts in `contract.prototxt` and `contract.protobin` do not agree: infer.inputs.x: `contract.prototxt` says DT_DOUBLE, \
             `contract.protobin` DT_FLOAT",
        ),
        (
            &[("serving.yaml", named), ("sub/c.prototxt", CONTRACT.as_bytes()), ("contract.prototxt", other.as_bytes())],
            "the contracts in `sub/c.prototxt` and `contract.prototxt` do not agree: infer.inputs.x: `sub/c.prototxt` says DT_DOUBLE, \
             `contract.prototxt` DT_FLOAT",
        ),
    ];
    for (files, expected) in cases {
        assert_eq!(refused(files), (expected.to_owned(), "correct one of the two, or remove it".to_owned()));
    }
    // What only the second one leaves open is a difference too.
    let open = CONTRACT.replace("shape { dim { size: -1 } }", "");
    let (text, _) = refused(&[("contract.prototxt", CONTRACT.as_bytes()), ("contract.protobin", &binary(&open, Dialect::V1))]);
    assert!(text.ends_with("infer.inputs.x: `contract.protobin` says any shape, `contract.prototxt` shape [-1]"), "{text}");
    let renamed = CONTRACT.replace("'infer'", "'predict'");
    let (text, _) = refused(&[("contract.prototxt", CONTRACT.as_bytes()), ("contract.protobin", &binary(&renamed, Dialect::V1))]);
    assert!(text.ends_with("infer: `contract.prototxt` has this signature, `contract.protobin` has not"), "{text}");
}

#[test]
fn a_contract_that_is_not_valid_stops_the_build_even_beside_a_valid_one() {
    let (text, _) = refused(&[("serving.yaml", INLINE.as_bytes()), ("contract.protobin", b"\xff")]);
    assert!(text.starts_with("the contract `contract.protobin` is not valid"), "{text}");
}

#[test]
fn words_from_before_2018_are_read_and_told() {
    let old = "signatures { signature_name: 'infer' inputs { field_name: 'x' info { dtype: DT_DOUBLE } } }";
    let model = folder(&[("contract.prototxt", old.as_bytes())]).unwrap();
    assert_eq!(model.contract.unwrap().contract.signatures[0].inputs[0].name, "x");
    assert!(model.warnings[0].starts_with("contract.prototxt:1:47: `field_name` and"), "{:?}", model.warnings);
    // A field of that time, in bytes: its name, and a type (number 2) where subfields stand today.
    let field = b"\x12\x09\x0a\x01x\x1a\x04\x10\x02\x1a\x00";
    let bytes = [&[0x12, field.len() as u8 + 3, 0x0a, 0x01, b'f'], &field[..]].concat();
    let (text, remedy) = refused(&[("contract.protobin", &bytes)]);
    assert!(text.ends_with("seems to be in the binary layout from before 0.1.0 (March 2018), which is not read"), "{text}");
    assert!(remedy.contains("contract.prototxt"), "{remedy}");
}

#[test]
fn bad_contracts_are_refused_with_file_place_and_what_was_expected() {
    let deep = format!("signatures {{ inputs {{ {}", "subfields { data { ".repeat(60));
    let huge = format!("# {}", "x".repeat(1 << 20));
    let dims = "dim { size: 1 } ".repeat(60_000);
    let wide =
        format!("signatures {{ signature_name: 'f' inputs {{ name: 'x' shape {{ {dims} }} dtype: DT_BOOL }} outputs {{ name: 'y' }} }}");
    for (text, expected, remedy) in [
        ("", "contract.prototxt` is not valid: the contract has no signature", "signature_name"),
        (deep.as_str(), "contract.prototxt:1:964: messages are nested deeper than 100 levels", ""),
        (huge.as_str(), "`contract.prototxt` is 1048578 bytes long; at most 1048576 are read", ""),
        (wide.as_str(), "the contract's field f.outputs.y has neither a dtype nor subfields", "dtype: DT_DOUBLE"),
        (
            "signatures {\n  signature_name: 'f'\n  inputs { name: 'x' dtype: DT_BOOL }\n  inputs { name: 'x' dtype: DT_BOOL }\n}",
            "contract.prototxt:4:18: this name is here for the second time\n  |\n4 |   inputs { name: 'x' dtype: DT_BOOL }\n  |                  ^: the contract has f.inputs.x twice",
            "rename one",
        ),
        (
            "signatures { signature_name: 'f' inputs { name: 'x' dtype: 1 } }\nsignatures { signature_name: 'f' inputs { name: 'x' dtype: 1 } }",
            "contract.prototxt:2:30: this name",
            "rename one",
        ),
        ("signatures { signature_name: 'f' inputs { name: 'a\\000b' dtype: 1 } }", "a control character in it: f.inputs.a\\u{0}b", ""),
        ("signatures { signature_name: 'f' inputs { name: 'a\\tb' dtype: 1 } }", "a control character in it: f.inputs.a\\tb", ""),
        ("signatures { signature_name: 'f' }", "the contract's signature f has neither inputs nor outputs", "add the `inputs`"),
        ("signatures { signature_name: 'f' inputs { name: 'x' dtype: FLOAT } }", "contract.prototxt:1:60: value 'FLOAT'", "DT_FLOAT"),
    ] {
        let (said, hint) = refused(&[("contract.prototxt", text.as_bytes())]);
        assert!(said.contains(expected) && said.contains("contract.prototxt"), "{said}");
        assert!(hint.contains(remedy), "{hint}");
    }
    // The empty message is a contract of nothing in any dialect.
    let (said, _) = refused(&[("contract.protobin", b"")]);
    assert_eq!(said, "the contract `contract.protobin` is not valid: the contract has no signature");
    let (said, _) = refused(&[("serving.yaml", b"model: {contract: gone.prototxt}")]);
    assert_eq!(said, "the contract `gone.prototxt` is not in the model folder");
}
