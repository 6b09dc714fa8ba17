//! What differs between two contracts of one model: the one that was given, and the one that was read from the model itself.
//!
//! The given one wins, and each difference is a warning. What the reader did not know is no difference: a shape that it could not tell,
//! or of which not even the rank. Nor are orders, names of dimensions and profiles, which no model file has. This file judges nothing;
//! what a change from one contract to the next breaks is told by `change.rs`.

use std::fmt;

use serde::Serialize;

use super::contract::{Contract, Field, FieldKind, Shape, shown};
use super::dtype::DataType;
use super::pairs::{Pair, below, pairs};

/// One thing that two contracts say differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path of names from the signature: `infer.inputs.x`.
    pub path: String,
    /// What the two say, as the rest of a sentence that begins with the path.
    pub sentence: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.sentence)
    }
}

/// Every difference, in the given contract's order; what only the model has comes last.
pub fn differences(given: &Contract, read: &Contract) -> Vec<Difference> {
    let mut differences = Vec::new();
    for pair in pairs(&given.signatures, &read.signatures).pairs {
        match pair {
            Pair::First(given) => {
                differences.push(difference(&shown(&given.name), "the contract has this signature, the model has not"));
            }
            Pair::Both(given, read) => {
                let path = shown(&given.name);
                compare_fields(&given.inputs, &read.inputs, &format!("{path}.inputs"), &mut differences);
                compare_fields(&given.outputs, &read.outputs, &format!("{path}.outputs"), &mut differences);
            }
            Pair::Second(read) => {
                differences.push(difference(&shown(&read.name), "the model has this signature, the contract has not"));
            }
        }
    }
    differences
}

fn difference(path: &str, sentence: &str) -> Difference {
    Difference { path: path.to_owned(), sentence: sentence.to_owned() }
}

// The depth of the recursion is that of the contracts, which their readers have limited.
fn compare_fields(given: &[Field], read: &[Field], above: &str, differences: &mut Vec<Difference>) {
    for pair in pairs(given, read).pairs {
        match pair {
            Pair::First(given) => {
                differences.push(difference(&below(above, &given.name), "the contract has this field, the model has not"));
            }
            Pair::Both(given, read) => compare_field(given, read, &below(above, &given.name), differences),
            Pair::Second(read) => differences.push(difference(&below(above, &read.name), "the model has this field, the contract has not")),
        }
    }
}

fn compare_field(given: &Field, read: &Field, path: &str, differences: &mut Vec<Difference>) {
    match (&given.kind, &read.kind) {
        (FieldKind::Subfields(given), FieldKind::Subfields(read)) => compare_fields(given, read, path, differences),
        // A map of which the reader knows no more; the subfields say what is in it.
        (FieldKind::Subfields(_), FieldKind::Dtype(DataType::Map)) => {}
        (given, read) if given != read => {
            let sentence = format!("the contract says {}, the model {}", kind_in_words(given), kind_in_words(read));
            differences.push(difference(path, &sentence));
        }
        _ => {}
    }
    let known = !matches!(read.shape, Shape::Any | Shape::UnknownRank);
    if known && sizes(&given.shape) != sizes(&read.shape) {
        let sentence = format!("the contract says {}, the model {}", shape_in_words(&given.shape), shape_in_words(&read.shape));
        differences.push(difference(path, &sentence));
    }
}

/// The sizes of a shape's dimensions; `None` where they are open.
fn sizes(shape: &Shape) -> Option<Vec<i64>> {
    match shape {
        Shape::Any | Shape::UnknownRank => None,
        Shape::Dimensions(dimensions) => Some(dimensions.iter().map(|dimension| dimension.size).collect()),
    }
}

/// What a field is made of, as a sentence has it.
pub(super) fn kind_in_words(kind: &FieldKind) -> String {
    match kind {
        FieldKind::Dtype(dtype) => dtype.to_string(),
        FieldKind::Subfields(_) => "subfields".to_owned(),
        FieldKind::Missing => "no dtype".to_owned(),
    }
}

/// A shape, as a sentence has it.
pub(super) fn shape_in_words(shape: &Shape) -> String {
    /// More dimensions than any model has; a stranger's contract may.
    const DIMENSIONS_SHOWN_MAX: usize = 16;
    match (shape, sizes(shape)) {
        (_, Some(sizes)) if sizes.is_empty() => "a scalar".to_owned(),
        (_, Some(sizes)) if sizes.len() > DIMENSIONS_SHOWN_MAX => {
            format!("a shape of {} dimensions, the first {:?}", sizes.len(), &sizes[..DIMENSIONS_SHOWN_MAX])
        }
        (_, Some(sizes)) => format!("shape {sizes:?}"),
        (Shape::UnknownRank, None) => "unknown rank".to_owned(),
        (_, None) => "any shape".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::*;

    fn signature(fields: &str) -> Contract {
        parse(format!("signatures {{ signature_name: 'infer' {fields} }}").as_bytes(), "c").unwrap()
    }

    #[track_caller]
    fn check(given: &str, read: &str, expected: &[&str]) {
        let differences = differences(&signature(given), &signature(read));
        assert_eq!(differences.iter().map(Difference::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_the_reader_does_not_know_is_no_difference() {
        let stated = "inputs { name: 'x' shape { dim { size: -1 } } dtype: DT_FLOAT profile: RATIO } outputs { name: 'y' dtype: DT_FLOAT }";
        check(stated, stated, &[]);
        check(stated, "outputs { name: 'y' dtype: DT_FLOAT } inputs { name: 'x' dtype: DT_FLOAT }", &[]);
        check(
            stated,
            "inputs { name: 'x' shape { unknown_rank: true } dtype: DT_FLOAT } outputs { name: 'y' shape { unknown_rank: true } dtype: 1 }",
            &[],
        );
        check(
            stated,
            "inputs { name: 'x' shape { dim { size: -1 name: 'batch' } } dtype: DT_FLOAT } outputs { name: 'y' dtype: DT_FLOAT }",
            &[],
        );
        let map = "outputs { name: 'm' subfields { data { name: 'setosa' dtype: DT_FLOAT } } }";
        check(map, "outputs { name: 'm' dtype: DT_MAP }", &[]);
        check(map, "outputs { name: 'm' dtype: DT_FLOAT }", &["infer.outputs.m: the contract says subfields, the model DT_FLOAT"]);
    }

    #[test]
    fn every_difference_has_its_path() {
        check(
            "inputs { name: 'x' shape { dim { size: -1 } dim { size: 2 } } dtype: DT_DOUBLE } inputs { name: 'gone' dtype: DT_INT32 }
             outputs { name: 'm' subfields { data { name: 'a' dtype: DT_BOOL } } } outputs { name: 's' dtype: DT_INT64 }",
            "inputs { name: 'x' shape { dim { size: -1 } dim { size: 3 } } dtype: DT_FLOAT } inputs { name: 'new' dtype: DT_INT32 }
             outputs { name: 'm' subfields { data { name: 'a' dtype: DT_STRING } } } outputs { name: 's' shape { } dtype: DT_INT64 }",
            &[
                "infer.inputs.x: the contract says DT_DOUBLE, the model DT_FLOAT",
                "infer.inputs.x: the contract says shape [-1, 2], the model shape [-1, 3]",
                "infer.inputs.gone: the contract has this field, the model has not",
                "infer.inputs.new: the model has this field, the contract has not",
                "infer.outputs.m.a: the contract says DT_BOOL, the model DT_STRING",
                "infer.outputs.s: the contract says any shape, the model a scalar",
            ],
        );
        let mut other = signature("inputs { name: 'x' dtype: DT_FLOAT }");
        let given = other.clone();
        other.signatures[0].name = "serving_default".to_owned();
        let json = serde_json::to_value(&differences(&given, &other)[0]).unwrap();
        assert_eq!(json, serde_json::json!({"path": "infer", "sentence": "the contract has this signature, the model has not"}));
        let texts: Vec<String> = differences(&given, &other).iter().map(Difference::to_string).collect();
        assert_eq!(
            texts,
            [
                "infer: the contract has this signature, the model has not",
                "serving_default: the model has this signature, the contract has not"
            ]
        );
    }
}
