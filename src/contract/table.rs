//! Contract → a table for people.
//!
//! What `hs contract show` prints on a terminal: signatures, their fields, of each its type and its shape in a few words. It is read by nobody but people; text that
//! is read back is `print.rs`.
//!
//! What must stay true: whatever the names are, the table is as many lines as there are signatures, sides and fields, and holds no control character.

use std::fmt::Write as _;

use super::contract::{Contract, Dimension, Field, FieldKind, Shape, shown};
use super::dtype::Profile;

/// One line of fields: how deep, and its columns.
struct Row {
    depth: usize,
    name: String,
    kind: String,
    shape: String,
    profile: &'static str,
}

/// The widest a column gets. What is longer stands there in full and moves the rest of its own line: a shape can have any number of
/// dimensions, and no other line is filled up with blanks to its length.
const COLUMN_CHARACTERS_MAX: usize = 120;

/// The contract as lines of text; columns are aligned within a signature.
pub fn table(contract: &Contract) -> String {
    let mut out = String::new();
    for signature in &contract.signatures {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        rows(&signature.inputs, 2, &mut inputs);
        rows(&signature.outputs, 2, &mut outputs);
        let all = || inputs.iter().chain(&outputs);
        let widest = |of: fn(&Row) -> usize| all().map(of).max().unwrap_or(0).min(COLUMN_CHARACTERS_MAX);
        let name_width = widest(|row| 2 * row.depth + row.name.chars().count());
        let kind_width = widest(|row| row.kind.len());
        let shape_width = widest(|row| row.shape.chars().count());
        let _ = writeln!(out, "{}", shown(&signature.name));
        for (side, rows) in [("inputs", &inputs), ("outputs", &outputs)] {
            let _ = writeln!(out, "  {side}{}", if rows.is_empty() { ": none" } else { "" });
            for row in rows {
                let name = format!("{}{}", "  ".repeat(row.depth), row.name);
                let line = format!("{name:name_width$}  {:kind_width$}  {:shape_width$}  {}", row.kind, row.shape, row.profile);
                let _ = writeln!(out, "{}", line.trim_end());
            }
        }
    }
    out
}

fn rows(fields: &[Field], depth: usize, rows_: &mut Vec<Row>) {
    for field in fields {
        let kind = match &field.kind {
            FieldKind::Dtype(dtype) => dtype.to_string(),
            FieldKind::Subfields(_) => "map of".to_owned(),
            FieldKind::Missing => "no type".to_owned(),
        };
        let profile = if field.profile == Profile::None { "" } else { field.profile.name() };
        rows_.push(Row { depth, name: shown(&field.name), kind, shape: shape_in_words(&field.shape), profile });
        if let FieldKind::Subfields(subfields) = &field.kind {
            rows(subfields, depth + 1, rows_);
        }
    }
}

/// A shape as people write it: `scalar`, `[-1, 2]`, `any shape`; a dimension's name stands before its size.
pub fn shape_in_words(shape: &Shape) -> String {
    match shape {
        Shape::Any => "any shape".to_owned(),
        Shape::UnknownRank => "unknown rank".to_owned(),
        Shape::Dimensions(dimensions) if dimensions.is_empty() => "scalar".to_owned(),
        Shape::Dimensions(dimensions) => format!("[{}]", dimensions.iter().map(dimension_in_words).collect::<Vec<_>>().join(", ")),
    }
}

fn dimension_in_words(dimension: &Dimension) -> String {
    if dimension.name.is_empty() { dimension.size.to_string() } else { format!("{}={}", shown(&dimension.name), dimension.size) }
}

#[cfg(test)]
mod tests {
    use super::super::contract::Signature;
    use super::super::dtype::DataType;
    use super::super::text::parse;
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_left_out() {
        let text = "signatures { signature_name: 'infer'
              inputs { name: 'client' shape { dim { size: -1 name: 'batch' } dim { size: 112 } } dtype: DT_INT64 profile: NUMERICAL }
              inputs { name: 'm' subfields { data { name: 'n\\n' shape { } dtype: DT_STRING } } } }
            signatures { signature_name: 'reset' outputs { name: 'done' shape { unknown_rank: true } dtype: DT_BOOL } }";
        let expected = "\
infer
  inputs
    client  DT_INT64   [batch=-1, 112]  NUMERICAL
    m       map of     any shape
      n\\n   DT_STRING  scalar
  outputs: none
reset
  inputs: none
  outputs
    done  DT_BOOL  unknown rank
";
        assert_eq!(table(&parse(text.as_bytes(), "c").unwrap()), expected);
    }

    #[test]
    fn a_shape_of_any_length_moves_only_its_own_line() {
        let long = Field::new("long", DataType::Float, Shape::of(&vec![1; 40_000]));
        let short = Field { profile: Profile::Numerical, ..Field::new("short", DataType::Float, Shape::scalar()) };
        let signature = Signature { name: "s".to_owned(), inputs: vec![long], outputs: vec![short] };
        let table = table(&Contract { model_name: String::new(), signatures: vec![signature] });
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[2].matches('1').count(), 40_000);
        assert!(lines[4].ends_with("  NUMERICAL") && lines[4].len() < 200, "{}", lines[4]);
    }
}
