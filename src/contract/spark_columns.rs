//! The columns of a Spark pipeline's stages → the fields of its contract.
//!
//! Stages come in the order in which they run. A column that a stage reads and none before it has added comes from outside; it may hold what
//! all of its readers take. Lengths of vectors are known in one place and needed in another: a forest knows how many features it learned from,
//! and the assembler that makes its vector does not. So lengths go backward through the stages once, then forward.
//!
//! What must stay true: two stages that disagree are a warning, and the first is believed; nothing is invented where none of them says.

use std::collections::BTreeMap;

use super::contract::{Field, Shape, shown};
use super::dtype::DataType;
use super::spark::SparkError;
use super::spark::Stage;
use super::spark_stages::Holds;
use super::spark_stages::Input;
use super::spark_stages::Length;
use super::spark_stages::Takes;

/// The longest vector that is counted: Spark's own are indexed by an int.
const LENGTH_MAX: i64 = i32::MAX as i64;

/// What a pipeline needs and what its stages add, in the order of the stages.
pub(super) struct Resolved {
    pub needed: Vec<Field>,
    pub added: Vec<Field>,
}

/// A column from outside, as far as its readers have said.
struct Outside<'a> {
    name: &'a str,
    takes: Takes,
    type_matters: bool,
    /// The file of the first stage that reads it.
    path: &'a str,
}

impl Resolved {
    /// The fields of these stages' columns.
    pub fn of(stages: &[Stage], warnings: &mut Vec<String>) -> Result<Resolved, SparkError> {
        let mut lengths = lengths_of_readers(stages);
        let outside = outside(stages, warnings);
        let mut shapes: BTreeMap<&str, (DataType, Shape)> = BTreeMap::new();
        let mut needed = Vec::new();
        for column in &outside {
            let (dtype, shape) = held_by(column, lengths.get(column.name).copied(), warnings)?;
            shapes.insert(column.name, (dtype, shape.clone()));
            needed.push(Field::new(column.name, dtype, shape));
        }
        let mut added: Vec<Field> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for output in stages.iter().flat_map(|stage| &stage.columns.outputs) {
            let (dtype, shape) = made(&output.holds, &output.name, &shapes, &mut lengths);
            shapes.insert(&output.name, (dtype, shape.clone()));
            let field = Field::new(&output.name, dtype, shape);
            // A column that is made anew is the last one that was made.
            if let Some(earlier) = places.get(output.name.as_str()).and_then(|place| added.get_mut(*place)) {
                *earlier = field;
            } else {
                places.insert(&output.name, added.len());
                added.push(field);
            }
        }
        Ok(Resolved { needed, added })
    }
}

/// The lengths that stages have learned of the columns they read, carried back through stages that keep a length.
fn lengths_of_readers(stages: &[Stage]) -> BTreeMap<String, i64> {
    let mut lengths: BTreeMap<String, i64> = BTreeMap::new();
    for stage in stages.iter().rev() {
        for output in &stage.columns.outputs {
            if let (Holds::Vector(Length::Of(input)), Some(length)) = (&output.holds, lengths.get(&output.name).copied()) {
                lengths.insert(input.clone(), length);
            }
        }
        for Input { name, length, .. } in &stage.columns.inputs {
            if let Some(length) = length {
                lengths.insert(name.clone(), *length);
            }
        }
    }
    lengths
}

fn outside<'a>(stages: &'a [Stage], warnings: &mut Vec<String>) -> Vec<Outside<'a>> {
    let mut columns: Vec<Outside<'a>> = Vec::new();
    // Where a column is in the list; `None` for one that a stage adds.
    let mut places: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for stage in stages {
        for input in &stage.columns.inputs {
            match places.get(input.name.as_str()).copied() {
                Some(None) => {}
                Some(Some(place)) => {
                    let Some(column) = columns.get_mut(place) else { continue };
                    let both = Takes(column.takes.0 & input.takes.0);
                    column.type_matters |= input.type_matters;
                    if both == Takes(0) {
                        let (name, first, second) = (shown(&input.name), column.path, stage.path.as_str());
                        let differ = format!("the stages of `{first}` and `{second}` take different types in the column `{name}`");
                        warnings.push(format!("{differ}; the contract has what the first takes"));
                    } else {
                        column.takes = both;
                    }
                }
                None => {
                    places.insert(&input.name, Some(columns.len()));
                    columns.push(Outside { name: &input.name, takes: input.takes, type_matters: input.type_matters, path: &stage.path });
                }
            }
        }
        for output in &stage.columns.outputs {
            places.entry(&output.name).or_insert(None);
        }
    }
    columns
}

/// What a column from outside is to hold.
fn held_by(column: &Outside<'_>, length: Option<i64>, warnings: &mut Vec<String>) -> Result<(DataType, Shape), SparkError> {
    let takes = |what: Takes| column.takes.has(what);
    Ok(match column.takes {
        _ if takes(Takes::TEXT) && takes(Takes::NUMBER) && column.type_matters => {
            return Err(SparkError::UnknownType { path: column.path.to_owned(), column: shown(column.name) });
        }
        _ if takes(Takes::TEXT) => (DataType::String, Shape::scalar()),
        _ if takes(Takes::TEXTS) => (DataType::String, Shape::of(&[-1])),
        _ if takes(Takes::NUMBER_OR_VECTOR) => {
            let name = shown(column.name);
            warnings.push(format!(
                "the column `{name}` may be a number or a vector; the model's metadata does not say which, and any shape is written"
            ));
            (DataType::Double, Shape::Any)
        }
        _ if takes(Takes::VECTOR) => (DataType::Double, Shape::of(&[length.unwrap_or(-1)])),
        _ if takes(Takes::NUMBER) => (DataType::Double, Shape::scalar()),
        _ => (DataType::Int32, Shape::scalar()),
    })
}

/// What a stage adds, when what it reads is known as far as it can be.
fn made(holds: &Holds, name: &str, shapes: &BTreeMap<&str, (DataType, Shape)>, lengths: &mut BTreeMap<String, i64>) -> (DataType, Shape) {
    let length = match holds {
        Holds::Text => return (DataType::String, Shape::scalar()),
        Holds::Texts => return (DataType::String, Shape::of(&[-1])),
        Holds::Double => return (DataType::Double, Shape::scalar()),
        Holds::Float => return (DataType::Float, Shape::scalar()),
        Holds::Int32 => return (DataType::Int32, Shape::scalar()),
        Holds::Hashes(tables) => return (DataType::Double, Shape::of(&[tables.unwrap_or(-1), 1])),
        Holds::LikeColumn(input) => return shapes.get(input.as_str()).cloned().unwrap_or((DataType::Double, Shape::Any)),
        Holds::Vector(length) => length,
    };
    // How many elements a column gives to a vector.
    let width = |input: &String| match shapes.get(input.as_str()) {
        Some((_, shape)) if *shape == Shape::scalar() => Some(1),
        _ => lengths.get(input).copied(),
    };
    let from_inputs = match length {
        Length::Open => None,
        Length::Known(length) => Some(*length),
        Length::Of(input) => lengths.get(input).copied(),
        Length::Sum(inputs) => inputs.iter().try_fold(0_i64, |sum, input| sum.checked_add(width(input)?)),
        Length::Polynomial(input, degree) => lengths.get(input).and_then(|length| polynomial(*length, *degree)),
    };
    let length = lengths.get(name).copied().or(from_inputs).filter(|length| *length <= LENGTH_MAX);
    if let Some(length) = length {
        lengths.insert(name.to_owned(), length);
    }
    (DataType::Double, Shape::of(&[length.unwrap_or(-1)]))
}

/// How many products of one to `degree` of `length` elements there are: (length + degree choose degree) - 1.
fn polynomial(length: i64, degree: i64) -> Option<i64> {
    let mut products: i128 = 1;
    // Past this many steps the number is beyond the limit, or the length is 0 or 1 and nobody expands it so.
    for step in (1..=i128::from(degree)).take(1_000) {
        products = products.checked_mul(i128::from(length) + step)?.checked_div(step)?;
        if products > i128::from(LENGTH_MAX) {
            return None;
        }
    }
    (degree <= 1_000).then(|| i64::try_from(products - 1).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_polynomial_is_counted_or_open() {
        for (length, degree, expected) in [
            (3, 2, Some(9)),
            (3, 3, Some(19)),
            (0, 2, Some(0)),
            (1, 1, Some(1)),
            (5, 0, Some(0)),
            (1, 5_000, None),
            (i64::MAX, 2, None),
            (100, 1 << 40, None),
        ] {
            assert_eq!(polynomial(length, degree), expected, "{length}, {degree}");
        }
    }
}
