//! Contracts as bytes, against judges that are not ours: the ancestor's golden bytes, and `protoc`.

use lamina::contract::print::print;
use lamina::contract::text::parse;
use lamina::contract::wire::{Dialect, decode, encode};

use crate::golden_bytes::GOLDEN;
use crate::protoc::{protoc, protoc_encodes};

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
