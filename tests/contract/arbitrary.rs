//! Contracts of every kind, by chance: any, and valid ones.

use std::collections::BTreeSet;

use lamina::contract::contract::{Contract, Dimension, Field, FieldKind, Shape, Signature};
use lamina::contract::dtype::{DataType, Profile};
use proptest::prelude::*;

/// Names of letters, quotes, escapes, control characters and several bytes, and words that YAML has a meaning for: what has to be quoted.
fn name() -> impl Strategy<Value = String> {
    let letters =
        proptest::string::string_regex("[a-z\"'\\\\{}#\u{0}-\u{1f}\u{7f}-\u{a1}ß漢😀/:.0-9 &*!|>%@`?,\u{2028}\u{feff}<-]{1,6}").unwrap();
    let words = [
        "name",
        "inputs",
        "outputs",
        "type",
        "shape",
        "profile",
        "fields",
        "subfields",
        "no",
        "Yes",
        "ON",
        "y",
        "~",
        "null",
        "1",
        "1.10",
        "0x1f",
        "-",
        "- a",
        "<<",
        "a: b",
        "a #b",
        "1e3",
        ".nan",
        ".inf",
        "1:30",
        "2001-01-01",
        " ",
        "=",
        "---",
        "...",
        "? a",
        "true",
        "!!str",
        "&a",
        "*a",
    ];
    prop_oneof![3 => letters, 2 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => "x{1000,1100}"]
}

fn shape() -> impl Strategy<Value = Shape> {
    let size = prop_oneof![Just(-1_i64), 0..5_i64, any::<i64>()];
    let dimension = (size, prop_oneof![Just(String::new()), name()]).prop_map(|(size, name)| Dimension { size, name });
    prop_oneof![Just(Shape::Any), Just(Shape::UnknownRank), prop::collection::vec(dimension, 0..4).prop_map(Shape::Dimensions)]
}

fn field() -> impl Strategy<Value = Field> {
    let dtype = prop::sample::select(DataType::ALL.to_vec()).prop_map(FieldKind::Dtype);
    let leaf = prop_oneof![9 => dtype, 1 => Just(FieldKind::Missing)];
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

/// Any contract, valid or not.
pub fn contract() -> impl Strategy<Value = Contract> {
    (prop_oneof![Just(String::new()), name()], prop::collection::vec(signature(), 1..4))
        .prop_map(|(model_name, signatures)| Contract { model_name, signatures })
}

/// A valid contract.
pub fn valid_contract() -> impl Strategy<Value = Contract> {
    contract().prop_map(|mut contract| {
        contract.model_name = printable(&contract.model_name);
        unique(contract.signatures.iter_mut().map(|signature| &mut signature.name));
        for signature in &mut contract.signatures {
            make_valid(&mut signature.inputs);
            make_valid(&mut signature.outputs);
        }
        contract.validate().unwrap();
        contract
    })
}

fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

fn unique<'a>(names: impl Iterator<Item = &'a mut String>) {
    let mut seen = BTreeSet::new();
    for name in names {
        *name = printable(name);
        while name.is_empty() || !seen.insert(name.clone()) {
            name.push('\'');
        }
    }
}

fn make_valid(fields: &mut [Field]) {
    unique(fields.iter_mut().map(|field| &mut field.name));
    for field in fields {
        match &mut field.kind {
            FieldKind::Subfields(subfields) if !subfields.is_empty() => make_valid(subfields),
            FieldKind::Dtype(dtype) if *dtype != DataType::Invalid => {}
            kind => *kind = FieldKind::Dtype(DataType::Float),
        }
        if let Shape::Dimensions(dimensions) = &mut field.shape {
            for dimension in dimensions {
                dimension.size = dimension.size.max(-1);
                dimension.name = printable(&dimension.name);
            }
        }
    }
}

/// Every field of a contract, those in fields too.
pub fn for_each_field(contract: &mut Contract, change: &mut dyn FnMut(&mut Field)) {
    fn walk(fields: &mut [Field], change: &mut dyn FnMut(&mut Field)) {
        for field in fields {
            change(field);
            if let FieldKind::Subfields(subfields) = &mut field.kind {
                walk(subfields, change);
            }
        }
    }
    for signature in &mut contract.signatures {
        walk(&mut signature.inputs, change);
        walk(&mut signature.outputs, change);
    }
}

/// Numbers without a pattern, each below the bound that is given; the same ones in every run.
pub fn numbers_below() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    }
}
