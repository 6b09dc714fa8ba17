//! What is known of a tensor between two layers, and a layer's arguments as its config has them.
//!
//! A dimension is a length or open; a whole shape, or a dtype, may be unknown, and then it says which layer it is unknown through.
//! Nothing here knows a layer by name.
//!
//! What must stay true: numbers are strangers'. Arithmetic is checked, and what does not fit makes the shape unknown, never wrong.

use std::rc::Rc;

use serde_json::Value;

use super::contract::Shape;
use super::dtype::DataType;

/// The length of a dimension; `None` is any length.
pub(super) type Dim = Option<i64>;

/// The dimensions of a tensor, the batch first.
pub(super) type Dims = Vec<Dim>;

/// numpy's bound on dimensions; a config can write any number of them, and add one a layer.
pub(super) const RANK_MAX: usize = 64;

/// A tensor of the model, as far as its config tells.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// Its shape, or the layer through which it is unknown.
    pub(super) dims: Result<Dims, Rc<str>>,
    /// Its element type, or the layer through which it is unknown.
    pub(super) dtype: Result<DataType, Rc<str>>,
}

impl Tensor {
    /// How many dimensions are kept of it; none where its shape is unknown.
    pub(super) fn rank(&self) -> usize {
        self.dims.as_ref().map_or(0, Vec::len)
    }

    /// The shape as a contract has it.
    pub(super) fn shape(&self) -> Shape {
        let sizes = |dims: &Dims| Shape::of(&dims.iter().map(|dim| dim.unwrap_or(-1)).collect::<Vec<i64>>());
        self.dims.as_ref().map_or(Shape::Any, sizes)
    }
}

/// A list of dimensions in a config: `[null, 28, 28, 1]`.
pub(super) fn dims_of(value: &Value) -> Option<Dims> {
    let list = value.as_array().filter(|list| list.len() <= RANK_MAX)?;
    list.iter().map(dim_of).collect()
}

/// One of them. Keras writes an open one as null, and takes -1 for the same in `target_shape` alone.
fn dim_of(value: &Value) -> Option<Dim> {
    match value {
        Value::Null => Some(None),
        value => integer(value).filter(|length| *length >= 0).map(Some),
    }
}

/// Whole numbers are also written as `2.0` by some versions.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15).map(|number| number as i64))
}

/// The product, if all are known.
pub(super) fn product(dims: &[Dim]) -> Option<Dim> {
    let mut product = Some(1_i64);
    for dim in dims {
        product = match (product, dim) {
            (Some(product), Some(dim)) => Some(product.checked_mul(*dim)?),
            _ => None,
        };
    }
    Some(product)
}

/// An axis as a config has it, counted from the end where it is negative, as an index.
pub(super) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let index = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(index).ok().filter(|index| *index < rank)
}

/// The type of a name that Keras gives it; theirs are numpy's.
pub(super) fn dtype_of(name: &str) -> Option<DataType> {
    Some(match name {
        "float32" => DataType::Float,
        "float64" => DataType::Double,
        "float16" => DataType::Half,
        "bfloat16" => DataType::Bfloat16,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::Uint8,
        "uint16" => DataType::Uint16,
        "uint32" => DataType::Uint32,
        "uint64" => DataType::Uint64,
        "bool" => DataType::Bool,
        "string" => DataType::String,
        "complex64" => DataType::Complex64,
        "complex128" => DataType::Complex128,
        _ => return None,
    })
}

pub(super) fn is_float(dtype: DataType) -> bool {
    matches!(dtype, DataType::Float | DataType::Double | DataType::Half | DataType::Bfloat16)
}

/// The name in a layer's `dtype`: a type's, a policy's, or that of a policy object (`{"class_name": "DTypePolicy", "config": …}`).
pub(super) fn policy_name(value: &Value) -> Option<&str> {
    const NAME_BYTES_MAX: usize = 100;
    let name = value.as_str().or_else(|| value.get("config")?.get("name")?.as_str()).filter(|name| name.len() <= NAME_BYTES_MAX)?;
    // Quantised layers of Keras 3: `int8_from_mixed_bfloat16`.
    Some(name.rsplit_once("_from_").map_or(name, |(_, from)| from))
}

/// The type in which a layer computes, which under a mixed policy is not that of its weights.
pub(super) fn compute_dtype(value: &Value) -> Option<DataType> {
    match policy_name(value)? {
        "mixed_float16" => Some(DataType::Half),
        "mixed_bfloat16" => Some(DataType::Bfloat16),
        name => dtype_of(name),
    }
}

/// The arguments of a layer: the object that Keras calls its config.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<'a>(pub(super) &'a Value);

impl<'a> Arguments<'a> {
    /// An argument under the first of these names that is there; Keras 2 renamed most of them.
    pub(super) fn get(self, names: &[&str]) -> Option<&'a Value> {
        names.iter().find_map(|name| self.0.get(name)).filter(|value| !value.is_null())
    }

    pub(super) fn text(self, names: &[&str]) -> Option<&'a str> {
        self.get(names)?.as_str()
    }

    pub(super) fn integer(self, names: &[&str]) -> Option<i64> {
        integer(self.get(names)?)
    }

    pub(super) fn is(self, names: &[&str]) -> bool {
        self.get(names).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A list of whole numbers.
    pub(super) fn integers(self, names: &[&str]) -> Option<Vec<i64>> {
        let list = self.get(names)?.as_array().filter(|list| list.len() <= RANK_MAX)?;
        list.iter().map(integer).collect()
    }

    /// One number for each of `rank` axes: a list of them, or one for all.
    pub(super) fn for_axes(self, names: &[&str], rank: usize) -> Option<Vec<i64>> {
        match self.get(names)? {
            Value::Array(_) => self.integers(names).filter(|list| list.len() == rank),
            value => Some(vec![integer(value)?; rank]),
        }
    }

    /// A pair for each of `rank` axes (before, after): a list of pairs, a list of numbers, or one number for all.
    pub(super) fn pairs(self, names: &[&str], rank: usize) -> Option<Vec<(i64, i64)>> {
        let value = self.get(names)?;
        let both = |value: &Value| integer(value).map(|number| (number, number));
        let pair = |value: &Value| match value.as_array().map(Vec::as_slice) {
            Some([before, after]) => Some((integer(before)?, integer(after)?)),
            Some(_) => None,
            None => both(value),
        };
        match value.as_array() {
            None => Some(vec![both(value)?; rank]),
            // Of one axis, `[1, 2]` is a pair and not two axes.
            Some(list) if rank == 1 && list.len() == 2 => Some(vec![pair(value)?]),
            Some(list) if list.len() == rank => list.iter().map(pair).collect(),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_has_one_type_to_compute_in() {
        let policy = |name: &str| json!({"class_name": "DTypePolicy", "config": {"name": name}});
        assert_eq!(compute_dtype(&json!("float64")), Some(DataType::Double));
        assert_eq!(compute_dtype(&json!("mixed_float16")), Some(DataType::Half));
        assert_eq!(compute_dtype(&policy("mixed_bfloat16")), Some(DataType::Bfloat16));
        assert_eq!(compute_dtype(&policy("int8_from_mixed_float16")), Some(DataType::Half));
        assert_eq!(compute_dtype(&policy("float8_e4m3fn")), None);
        assert_eq!(compute_dtype(&json!(null)), None);
    }

    #[test]
    fn arguments_that_do_not_fit_are_unknown() {
        let arguments = json!({"pad": [[1, 2], 3], "one": 2.0, "huge": [9e18, 1], "open": [null, -1]});
        let arguments = Arguments(&arguments);
        assert_eq!(arguments.pairs(&["pad"], 2), Some(vec![(1, 2), (3, 3)]));
        assert_eq!(arguments.pairs(&["pad"], 3), None);
        assert_eq!(arguments.for_axes(&["two", "one"], 3), Some(vec![2, 2, 2]));
        assert_eq!(arguments.integers(&["huge"]), None);
        assert_eq!(dims_of(&arguments.0["open"]), None);
        assert_eq!(product(&[Some(i64::MAX), Some(2)]), None);
        assert_eq!(product(&[None, Some(2)]), Some(None));
        assert_eq!((axis_of(-1, 3), axis_of(3, 3), axis_of(i64::MIN, 3)), (Some(2), None, None));
    }
}
