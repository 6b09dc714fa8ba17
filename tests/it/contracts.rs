//! Contracts against judges that are not ours: the ancestor's golden bytes, and `protoc`.

use std::io::Write;
use std::process::{Command, Stdio};

use lamina::contract::contract::{Contract, Dimension, Field, FieldKind, Shape, Signature};
use lamina::contract::dtype::{DataType, Profile};
use lamina::contract::print::print;
use lamina::contract::text::parse;
use lamina::contract::wire::{Dialect, decode, encode};
use proptest::prelude::*;

const LINEAR_REGRESSION: &str = include_str!("../ancestor/linear_regression/contract.prototxt");

/// Each contract of the ancestor's examples whose bytes are known: the model's name, the text, and what its client sends for it.
const GOLDEN: [(&str, &str, &str); 6] = [
    (
        "linear_regression",
        LINEAR_REGRESSION,
        "12370a05696e66657212180a01781211120b08ffffffffffffffffff011202080220021a140a0179120d120b08ffffffffffffffffff012002",
    ),
    (
        "demo_preprocessing",
        r#"signatures {
             signature_name: "normalize"
             inputs { name: "data" shape { dim { size: 24 } } dtype: DT_DOUBLE }
             outputs { name: "data" shape: { dim: { size: 1 } dim: { size: 1 } dim: { size: 24 } } dtype: DT_DOUBLE }
           }"#,
        "12330a096e6f726d616c697a65120e0a046461746112041202081820021a160a0464617461120c1202080112020801120208182002",
    ),
    (
        "demo_postprocessing",
        r#"signatures {
             signature_name: "detect"
             inputs { name: "result" shape { dim { size: 1 } dim { size: 4 } } dtype: DT_DOUBLE }
             outputs { name: "result" shape { dim { size: 1 } dim { size: 4 } } dtype: DT_DOUBLE }
             outputs { name: "anomaly" dtype: DT_BOOL }
           }"#,
        "12410a0664657465637412140a06726573756c741208120208011202080420021a140a06726573756c741208120208011202080420021a0b0a07616e6f6d616c79200a",
    ),
    (
        "claims_model",
        r#"signatures {
             signature_name: "claim"
             inputs { name: "client_profile" shape { dim { size: 112 } } dtype: DT_DOUBLE }
             outputs { name: "amount" dtype: DT_DOUBLE }
           }"#,
        "122d0a05636c61696d12180a0e636c69656e745f70726f66696c6512041202087020021a0a0a06616d6f756e742002",
    ),
    (
        "gan_model",
        r#"signatures < signature_name: 'gan';
             inputs: [{ name: "client_" "profile", shape { dim { size: 0x70 } }, dtype: 2 }]
             outputs: [{ name: "class_one" dtype: DT_DOUBLE }, { name: "class_two" dtype: DT_DOUBLE }] >"#,
        "123d0a0367616e12180a0e636c69656e745f70726f66696c6512041202087020021a0d0a09636c6173735f6f6e6520021a0d0a09636c6173735f74776f2002",
    ),
    (
        "lstm",
        r#"signatures {
             signature_name: "infer"
             inputs { name: "data" shape { dim { size: -1 } dim { size: 1 } dim { size: 24 } } dtype: DT_FLOAT }
             outputs { name: "result" shape { dim { size: -1 } dim { size: 4 } } dtype: DT_FLOAT }
           }"#,
        "12470a05696e666572121f0a04646174611215120b08ffffffffffffffffff01120208011202081820011a1d0a06726573756c741211120b08ffffffffffffffffff01120208042001",
    ),
];

/// What `protoc` makes of `input`: `--encode` or `--decode` of a message in one of our proto files.
fn protoc(verb: &str, message: &str, file: &str, input: &[u8]) -> Vec<u8> {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new("protoc");
    command.args(["-I", &format!("{root}/proto"), &format!("--{verb}"), message, file]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("protoc (protobuf-compiler) is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "protoc --{verb} {message}");
    output.stdout
}

fn protoc_encodes(text: &str) -> Vec<u8> {
    protoc("encode", "hydrosphere.contract.ModelContract", "hydro_serving_grpc/contract/model_contract.proto", text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The contract as a dialect keeps it.
fn kept(mut contract: Contract, dialect: Dialect) -> Contract {
    fn walk(fields: &mut [Field], dialect: Dialect) {
        for field in fields {
            if dialect == Dialect::V1 {
                field.profile = Profile::None;
            }
            if dialect == Dialect::V3 {
                match &mut field.shape {
                    Shape::Dimensions(dimensions) => dimensions.iter_mut().for_each(|dimension| dimension.name.clear()),
                    shape => *shape = Shape::Any,
                }
            }
            if let FieldKind::Subfields(subfields) = &mut field.kind {
                walk(subfields, dialect);
            }
        }
    }
    if dialect == Dialect::V3 {
        contract.model_name.clear();
    }
    for signature in &mut contract.signatures {
        walk(&mut signature.inputs, dialect);
        walk(&mut signature.outputs, dialect);
    }
    contract
}

#[test]
fn the_ancestors_contracts_are_the_ancestors_bytes() {
    for (name, text, sent) in GOLDEN {
        let mut contract = parse(text.as_bytes(), "contract.prototxt").unwrap();
        contract.validate().unwrap();
        let encoded = encode(&contract, Dialect::V1).unwrap();
        assert_eq!((hex(&encoded.bytes).as_str(), encoded.warnings.len()), (sent, 0), "{name}");

        contract.model_name = name.to_owned();
        let in_the_image = encode(&contract, Dialect::V1).unwrap().bytes;
        assert_eq!(hex(&in_the_image), format!("0a{:02x}{}{sent}", name.len(), hex(name.as_bytes())), "{name}");
        assert_eq!(in_the_image, protoc_encodes(&format!("model_name: '{name}' {text}")), "{name}");
        assert_eq!(in_the_image, protoc_encodes(&print(&contract)), "{name}");
        assert_eq!(decode(&in_the_image, None).unwrap(), (contract, Dialect::V1));
    }
}

#[test]
fn protoc_reads_the_third_dialect() {
    let text =
        "signatures { signature_name: 'add' inputs { name: 'a' shape { dim { size: -1 } dim { size: 2 } } dtype: DT_INT64 profile: RATIO }
                outputs { name: 'sum' shape { } subfields { data { name: 'n' dtype: DT_HALF } } } }";
    let bytes = encode(&parse(text.as_bytes(), "c").unwrap(), Dialect::V3).unwrap().bytes;
    let file = "hydro_serving_grpc/serving/contract/signature.proto";
    let read = String::from_utf8(protoc("decode", "hydrosphere.serving.contract.ModelSignature", file, &bytes)).unwrap();
    let read: Vec<&str> = read.split_whitespace().collect();
    let expected = r#"signature_name: "add"
        inputs { name: "a" shape { dims: -1 dims: 2 } dtype: DT_INT64 profile: RATIO }
        outputs { name: "sum" shape { } subfields { data { name: "n" dtype: DT_HALF } } }"#;
    assert_eq!(read, expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!(protoc("encode", "hydrosphere.serving.contract.ModelSignature", file, expected.as_bytes()), bytes);
}

/// Names of letters, quotes, escapes, control characters and several bytes: what the text has to quote.
fn name() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-z\"'\\\\{}#\u{0}-\u{1f}\u{7f}-\u{a1}ß漢😀/:.0-9]{1,6}").unwrap()
}

fn shape() -> impl Strategy<Value = Shape> {
    let size = prop_oneof![Just(-1_i64), 0..5_i64, any::<i64>()];
    let dimension = (size, prop_oneof![Just(String::new()), name()]).prop_map(|(size, name)| Dimension { size, name });
    prop_oneof![Just(Shape::Any), Just(Shape::UnknownRank), prop::collection::vec(dimension, 0..4).prop_map(Shape::Dimensions)]
}

fn field() -> impl Strategy<Value = Field> {
    // The types that every dialect has.
    let dtypes = DataType::ALL.into_iter();
    let everywhere = dtypes.filter(|dtype| !matches!(dtype, DataType::Any | DataType::Bfloat16 | DataType::Resource | DataType::Variant));
    let leaf =
        prop_oneof![9 => prop::sample::select(everywhere.collect::<Vec<_>>()).prop_map(FieldKind::Dtype), 1 => Just(FieldKind::Missing)];
    let profile = || prop::sample::select(Profile::ALL.to_vec());
    let leaf = (name(), leaf, shape(), profile()).prop_map(|(name, kind, shape, profile)| Field { name, kind, shape, profile });
    leaf.prop_recursive(4, 12, 3, move |inner| {
        (name(), prop::collection::vec(inner, 0..3), shape(), profile()).prop_map(|(name, subfields, shape, profile)| Field {
            name,
            kind: FieldKind::Subfields(subfields),
            shape,
            profile,
        })
    })
}

fn signature() -> impl Strategy<Value = Signature> {
    (name(), prop::collection::vec(field(), 0..3), prop::collection::vec(field(), 1..3)).prop_map(|(name, inputs, outputs)| Signature {
        name,
        inputs,
        outputs,
    })
}

fn contract() -> impl Strategy<Value = Contract> {
    (prop_oneof![Just(String::new()), name()], prop::collection::vec(signature(), 1..4))
        .prop_map(|(model_name, signatures)| Contract { model_name, signatures })
}

proptest! {
    #[test]
    fn text_and_every_dialect_give_back_what_they_took(contract in contract()) {
        let text = print(&contract);
        prop_assert_eq!(&parse(text.as_bytes(), "c").unwrap(), &contract);
        for dialect in [Dialect::V1, Dialect::V2, Dialect::V3] {
            let encoded = encode(&contract, dialect);
            if dialect != Dialect::V1 && contract.signatures.len() > 1 {
                prop_assert!(encoded.is_err());
                continue;
            }
            let encoded = encoded.unwrap();
            let expected = kept(contract.clone(), dialect);
            let lost = Contract { model_name: contract.model_name.clone(), ..expected.clone() } != contract;
            prop_assert_eq!(lost, !encoded.warnings.is_empty());
            prop_assert_eq!(decode(&encoded.bytes, Some(dialect)).unwrap(), (expected.clone(), dialect));
            let (read, told) = decode(&encoded.bytes, None).unwrap();
            prop_assert_eq!(told == Dialect::V3, dialect == Dialect::V3);
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_of_contracts_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64), contract in contract(), at in any::<usize>()) {
        let mut text = print(&contract).into_bytes();
        let mut wire = encode(&contract, Dialect::V1).unwrap().bytes;
        for carrier in [&mut text, &mut wire] {
            let at = at % (carrier.len() + 1);
            carrier.truncate(at);
            carrier.extend(&bytes);
        }
        bytes.extend(&wire);
        let _ = parse(&text, "c").map(|contract| contract.validate());
        for given in [&bytes, &wire] {
            for dialect in [None, Some(Dialect::V1), Some(Dialect::V2), Some(Dialect::V3)] {
                let _ = decode(given, dialect).map(|(contract, _)| contract.validate());
            }
        }
    }
}

proptest! {
    // Each case starts protoc twice.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn protoc_agrees_on_text_and_bytes(contract in contract()) {
        let text = print(&contract);
        let ours = encode(&kept(contract.clone(), Dialect::V1), Dialect::V1).unwrap().bytes;
        prop_assert_eq!(protoc_encodes(&print(&kept(contract.clone(), Dialect::V1))), ours);
        let theirs = protoc_encodes(&text);
        let with_profiles = Contract { signatures: contract.signatures[..1].to_vec(), ..contract.clone() };
        prop_assert_eq!(encode(&with_profiles, Dialect::V2).unwrap().bytes, protoc_encodes(&print(&with_profiles)));
        prop_assert_eq!(decode(&theirs, None).unwrap().0, contract);
    }
}
