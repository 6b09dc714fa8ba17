//! Layers of several inputs: sums and the like, concatenation, dot products, attention.
//!
//! The last two can give two tensors: attention also returns its scores where the caller asks for them.
//!
//! What must stay true: inputs that do not fit each other have no answer here, as they have none in Keras.

use serde_json::Value;

use super::keras_layers::Call;
use super::keras_tensor::{Dim, Dims, Tensor, axis_of, dims_of};

/// The dimensions of what the layer gives, if it is one of these.
pub(super) fn dims(call: &Call) -> Option<Vec<Dims>> {
    match call.class {
        "Add" | "Subtract" | "Multiply" | "Average" | "Maximum" | "Minimum" => Some(vec![broadcast(&inputs(call)?, call.era)?]),
        "Concatenate" => Some(vec![concatenate(call, &["axis"])?]),
        "Dot" => Some(vec![dot(call, &["axes"])?]),
        "Merge" => Some(vec![merge(call)?]),
        "Attention" | "AdditiveAttention" => attention(call),
        "MultiHeadAttention" | "GroupedQueryAttention" => multi_head_attention(call),
        _ => None,
    }
}

fn inputs<'a>(call: &Call<'a>) -> Option<Vec<&'a Dims>> {
    let inputs: Option<Vec<&Dims>> = call.inputs.iter().map(|input| input.dims.as_ref().ok()).collect();
    inputs.filter(|inputs| !inputs.is_empty())
}

/// Keras 1's one layer for all of it.
fn merge(call: &Call) -> Option<Dims> {
    match call.arguments.text(&["mode"])? {
        "sum" | "ave" | "mul" | "max" => broadcast(&inputs(call)?, call.era),
        "concat" => concatenate(call, &["concat_axis"]),
        "dot" | "cos" => dot(call, &["dot_axes"]),
        _ => None,
    }
}

/// Tensors element by element, each stretched to the others.
pub(super) fn broadcast(inputs: &[&Dims], era: u32) -> Option<Dims> {
    let (first_batch, rest) = inputs.first()?.split_first()?;
    let (mut batch, mut dims) = (*first_batch, rest.to_vec());
    for input in &inputs[1..] {
        let (other_batch, other) = input.split_first()?;
        batch = batch.or(*other_batch);
        let (long, short) = if dims.len() >= other.len() { (dims.as_slice(), other) } else { (other, dims.as_slice()) };
        let (free, shared) = long.split_at(long.len() - short.len());
        let both: Option<Dims> = shared.iter().zip(short).map(|(a, b)| stretched(*a, *b, era)).collect();
        dims = [free, &both?].concat();
    }
    Some([&[batch], dims.as_slice()].concat())
}

/// Two lengths side by side: a 1 is stretched to the other.
fn stretched(a: Dim, b: Dim, era: u32) -> Option<Dim> {
    match (a, b) {
        (Some(a), Some(b)) if a == b || b == 1 => Some(Some(a)),
        (Some(1), Some(b)) => Some(Some(b)),
        (Some(_), Some(_)) => None,
        // An open length beside a 3 must be 1 or 3, so that 3 comes out: TensorFlow says so, Keras 3 leaves it open.
        (Some(known), None) | (None, Some(known)) if era < 3 && known > 1 => Some(Some(known)),
        _ => Some(None),
    }
}

fn concatenate(call: &Call, axis: &[&str]) -> Option<Dims> {
    let inputs = inputs(call)?;
    let mut dims = inputs[0].clone();
    let axis = axis_of(call.arguments.integer(axis).unwrap_or(-1), dims.len())?;
    for input in &inputs[1..] {
        if input.len() != dims.len() {
            return None;
        }
        for (index, (dim, other)) in dims.iter_mut().zip(input.iter()).enumerate() {
            match (*dim, *other) {
                (Some(length), Some(more)) if index == axis => *dim = Some(length.checked_add(more)?),
                _ if index == axis => *dim = None,
                (Some(length), Some(same)) if length != same => return None,
                (None, known) if call.era < 3 => *dim = known,
                _ => {}
            }
        }
    }
    Some(dims)
}

fn dot(call: &Call, axes: &[&str]) -> Option<Dims> {
    let [first, second] = inputs(call)?.try_into().ok()?;
    let axes = call.arguments.for_axes(axes, 2)?;
    let (first_axis, second_axis) = (axis_of(axes[0], first.len())?, axis_of(axes[1], second.len())?);
    let without = |dims: &Dims, axis: usize| dims.iter().enumerate().filter(|(index, _)| *index != axis).map(|(_, dim)| *dim).collect();
    let (mut dims, second): (Dims, Dims) = (without(first, first_axis), without(second, second_axis));
    dims.extend(second.get(1..)?);
    if dims.len() == 1 {
        dims.push(Some(1));
    }
    Some(dims)
}

fn attention(call: &Call) -> Option<Vec<Dims>> {
    let inputs = inputs(call)?;
    let (query, value) = (inputs.first()?, inputs.get(1)?);
    let key = inputs.get(2).unwrap_or(value);
    let (_, leading) = query.split_last()?;
    let mut given = vec![[leading, &[*value.last()?]].concat()];
    if call.asks("return_attention_scores") {
        given.push([leading, &[*key.iter().rev().nth(1)?]].concat());
    }
    Some(given)
}

fn multi_head_attention(call: &Call) -> Option<Vec<Dims>> {
    let argument = |name: &str, position: usize| -> Option<&Dims> {
        let named = call.named.get(name).and_then(|tensors| tensors.first());
        let tensor: &Tensor = call.inputs.get(position).or(named)?;
        tensor.dims.as_ref().ok()
    };
    let (query, value) = (argument("query", 0)?, argument("value", 1)?);
    let heads = call.arguments.integer(&["num_heads", "num_query_heads"])?;
    let mut attended = query.clone();
    if let Some(shape) = call.arguments.get(&["output_shape"]) {
        let last = match shape {
            Value::Array(_) => dims_of(shape)?,
            _ => vec![Some(call.arguments.integer(&["output_shape"])?)],
        };
        attended.pop();
        attended.extend(last);
    }
    let mut given = vec![attended];
    if call.asks("return_attention_scores") {
        // Keras 3 reports the query's length twice; what it computes has the value's.
        let (&[batch, from, _], &[_, to, _]) = (query.as_slice(), value.as_slice()) else { return Some(given) };
        given.push(vec![batch, Some(heads), from, to]);
    }
    Some(given)
}
