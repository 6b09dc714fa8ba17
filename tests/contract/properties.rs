//! What holds for every contract: each form gives back what it took, or says what it cannot; and no text or bytes make a reader panic.

use lamina::contract::contract::{Contract, FieldKind, Shape};
use lamina::contract::dtype::{DataType, Profile};
use lamina::contract::print::print;
use lamina::contract::text::parse;
use lamina::contract::wire::{Dialect, WireError, decode, encode};
use lamina::contract::yaml;
use lamina::model::definition::{self, DefinedContract};
use proptest::prelude::*;

use crate::arbitrary::{contract, for_each_field, valid_contract};
use crate::protoc::protoc_encodes;

const DIALECTS: [Dialect; 3] = [Dialect::V1, Dialect::V2, Dialect::V3];

/// The contract as a dialect keeps it.
fn kept(mut contract: Contract, dialect: Dialect) -> Contract {
    if dialect == Dialect::V3 {
        contract.model_name.clear();
    }
    for_each_field(&mut contract, &mut |field| {
        if dialect == Dialect::V1 {
            field.profile = Profile::None;
        }
        if dialect == Dialect::V3 {
            forget_shape(&mut field.shape);
        }
    });
    contract
}

/// What neither the third dialect nor YAML has: unknown rank, names of dimensions.
fn forget_shape(shape: &mut Shape) {
    match shape {
        Shape::Dimensions(dimensions) => dimensions.iter_mut().for_each(|dimension| dimension.name.clear()),
        shape => *shape = Shape::Any,
    }
}

/// The contract with only the types that every dialect has.
fn common(mut contract: Contract) -> Contract {
    for_each_field(&mut contract, &mut |field| {
        if lacks(Dialect::V1, &field.kind) || lacks(Dialect::V3, &field.kind) {
            field.kind = FieldKind::Dtype(DataType::Map);
        }
    });
    contract
}

fn lacks(dialect: Dialect, kind: &FieldKind) -> bool {
    match kind {
        FieldKind::Dtype(DataType::Any) => dialect != Dialect::V3,
        FieldKind::Dtype(DataType::Bfloat16 | DataType::Resource | DataType::Variant) => dialect == Dialect::V3,
        _ => false,
    }
}

proptest! {
    #[test]
    fn text_gives_back_what_it_took(contract in contract()) {
        let text = print(&contract);
        prop_assert_eq!(&parse(text.as_bytes(), "c").unwrap(), &contract);
    }

    #[test]
    fn a_dialect_gives_back_what_it_took_or_says_what_it_lacks(mut contract in contract()) {
        for dialect in DIALECTS {
            let mut lacking = false;
            for_each_field(&mut contract, &mut |field| lacking |= lacks(dialect, &field.kind));
            let encoded = match encode(&contract, dialect) {
                Err(WireError::Dtype { .. }) => {
                    prop_assert!(lacking);
                    continue;
                }
                Err(WireError::SignatureCount { .. }) => {
                    prop_assert!(dialect != Dialect::V1 && contract.signatures.len() > 1);
                    continue;
                }
                encoded => encoded.unwrap(),
            };
            prop_assert!(!lacking);
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
    fn yaml_gives_back_what_it_took_or_says_what_it_lacks(contract in valid_contract()) {
        let printed = yaml::print(&contract).unwrap();
        let definition = definition::read("serving.yaml", printed.text.as_bytes()).unwrap();
        prop_assert_eq!(&definition.warnings, &Vec::<String>::new());
        prop_assert_eq!(definition.name.unwrap_or_default(), contract.model_name.clone());
        let Some(DefinedContract::Inline(inline)) = definition.contract else { panic!("no contract in\n{}", printed.text) };
        let mut expected = Contract { model_name: String::new(), ..contract.clone() };
        for_each_field(&mut expected, &mut |field| forget_shape(&mut field.shape));
        let mut wordless = false;
        for_each_field(&mut expected, &mut |field| {
            let FieldKind::Dtype(dtype) = field.kind else { return };
            wordless |= matches!(dtype, DataType::Any | DataType::Map | DataType::Bfloat16 | DataType::Resource);
        });
        let lost = Contract { model_name: contract.model_name.clone(), ..expected.clone() } != contract;
        prop_assert_eq!(lost || wordless, !printed.warnings.is_empty());
        prop_assert_eq!(inline.contract, expected, "{}", printed.text);
    }

    #[test]
    fn nothing_makes_a_reader_of_contracts_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..64), contract in valid_contract(), at in any::<usize>(), insert in any::<bool>(),
    ) {
        let mut text = print(&contract).into_bytes();
        let mut yaml = yaml::print(&contract).unwrap().text.into_bytes();
        let mut wire = encode(&common(contract), Dialect::V1).unwrap().bytes;
        for carrier in [&mut text, &mut yaml, &mut wire] {
            let at = at % (carrier.len() + 1);
            let after = if insert { carrier.split_off(at) } else { Vec::new() };
            carrier.truncate(at);
            carrier.extend(&bytes);
            carrier.extend(after);
        }
        bytes.extend(&wire);
        let _ = parse(&text, "c").map(|contract| contract.validate());
        let _ = definition::read("serving.yaml", &yaml);
        for given in [&bytes, &wire] {
            for dialect in [None, Some(Dialect::V1), Some(Dialect::V2), Some(Dialect::V3)] {
                let _ = decode(given, dialect).map(|(contract, _)| contract.validate());
            }
        }
    }

    #[test]
    fn no_damage_to_a_text_makes_its_reader_panic(contract in valid_contract(), changes in prop::collection::vec((any::<usize>(), any::<char>()), 1..6)) {
        for (name, text) in [("contract.prototxt", print(&contract)), ("serving.yaml", yaml::print(&contract).unwrap().text)] {
            let mut damaged: Vec<char> = text.chars().collect();
            for (at, c) in &changes {
                // What has a meaning is worth more than what has none.
                let c = if at % 3 == 0 { *c } else { ['{', '}', '[', ']', '"', ':', '\n', ' ', '&', '*', '-', '#', '<', '\\'][at % 14] };
                let at = at % damaged.len();
                damaged[at] = c;
            }
            let damaged: String = damaged.into_iter().collect();
            if name == "serving.yaml" {
                let _ = definition::read(name, damaged.as_bytes());
            } else {
                let _ = lamina::model::contract_file::read(name, damaged.as_bytes());
            }
        }
    }
}

proptest! {
    // Each case starts protoc three times.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn protoc_agrees_on_text_and_bytes(contract in contract().prop_map(common)) {
        let ours = encode(&kept(contract.clone(), Dialect::V1), Dialect::V1).unwrap().bytes;
        prop_assert_eq!(protoc_encodes(&print(&kept(contract.clone(), Dialect::V1))), ours);
        let theirs = protoc_encodes(&print(&contract));
        let with_profiles = Contract { signatures: contract.signatures[..1].to_vec(), ..contract.clone() };
        prop_assert_eq!(encode(&with_profiles, Dialect::V2).unwrap().bytes, protoc_encodes(&print(&with_profiles)));
        prop_assert_eq!(decode(&theirs, None).unwrap().0, contract);
    }
}
