//! Contracts as bytes, against judges that are not ours: the ancestor's golden bytes, and `protoc`.

use lamina::contract::print::print;
use lamina::contract::text::parse;
use lamina::contract::wire::{Dialect, decode, encode};

use crate::protoc::{protoc, protoc_encodes};

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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
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
