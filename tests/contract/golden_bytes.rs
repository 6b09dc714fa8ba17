//! The ancestor's contracts and their bytes, computed with an encoder that is not ours (reference, section 4.4). Data only: the contract floor and `hs contract compile` are
//! both held against it.

const LINEAR_REGRESSION: &str = include_str!("../ancestor/linear_regression/contract.prototxt");

/// Each contract of the ancestor's examples whose bytes are known: the model's name, the text, and what its client sends for it.
pub const GOLDEN: [(&str, &str, &str); 6] = [
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
