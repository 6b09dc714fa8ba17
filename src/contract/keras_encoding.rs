//! Layers that make numbers of categories and words: lookups, hashing, bins, text. They change the element type.
//!
//! As indices the output has the shape of the input; encoded, its last axis becomes as long as there are categories. How many those are
//! is in the config only where it holds the vocabulary, or pads to a given length; else that axis is open.
//!
//! What must stay true: a vocabulary that was learned lies beside the config, and is not guessed from it.

use super::dtype::DataType;
use super::keras_layers::Call;
use super::keras_tensor::{Dim, Dims, compute_dtype, is_float};

/// The dimensions of what the layer gives, if it is one of these.
pub(super) fn dims(call: &Call) -> Option<Dims> {
    let input = || call.dims(0);
    match call.class {
        "CategoryEncoding" => encoded(call, input()?, Some(call.arguments.integer(&["num_tokens", "max_tokens"])?)),
        "IntegerLookup" | "StringLookup" => encoded(call, input()?, vocabulary_size(call)),
        "Hashing" => encoded(call, input()?, Some(call.arguments.integer(&["num_bins"])?)),
        "Discretization" => encoded(call, input()?, bins(call)),
        "TextVectorization" => text(call),
        _ => None,
    }
}

fn mode<'a>(call: &Call<'a>) -> &'a str {
    let default = if call.class == "CategoryEncoding" { "multi_hot" } else { "int" };
    call.arguments.text(&["output_mode"]).unwrap_or(default)
}

fn encoded(call: &Call, input: &Dims, depth: Dim) -> Option<Dims> {
    let mut dims = input.clone();
    match mode(call) {
        "int" => return Some(dims),
        // Each element becomes an axis of its own, in the place of a last axis of 1.
        "one_hot" if dims.len() < 2 || *dims.last()? != Some(1) => {}
        "one_hot" | "multi_hot" | "binary" | "count" | "tf_idf" | "tf-idf" => drop(dims.pop()),
        _ => return None,
    }
    dims.push(depth);
    Some(dims)
}

fn bins(call: &Call) -> Dim {
    let boundaries = call.arguments.get(&["bin_boundaries"]).and_then(|list| list.as_array()).map(Vec::len);
    let bins = boundaries.and_then(|count| i64::try_from(count).ok()?.checked_add(1));
    bins.or_else(|| call.arguments.integer(&["num_bins"]))
}

fn vocabulary_size(call: &Call) -> Dim {
    if call.arguments.is(&["pad_to_max_tokens"]) {
        return call.arguments.integer(&["max_tokens"]);
    }
    if let Some(size) = call.arguments.integer(&["vocabulary_size"]) {
        return Some(size);
    }
    let words = call.arguments.get(&["vocabulary"])?.as_array()?.len();
    // Words that are not in it have places of their own; the text layer has one for all of them.
    let unknown_words = call.arguments.integer(&["num_oov_indices"]).unwrap_or(1);
    i64::try_from(words).ok()?.checked_add(unknown_words)
}

fn text(call: &Call) -> Option<Dims> {
    let batch = *call.dims(0)?.first()?;
    match mode(call) {
        "int" => Some(vec![batch, call.arguments.integer(&["output_sequence_length"])]),
        _ => Some(vec![batch, vocabulary_size(call)]),
    }
}

/// The element type of what the layer gives, if it is one of these.
pub(super) fn dtype(call: &Call) -> Option<DataType> {
    let indices = mode(call) == "int";
    let own = call.arguments.get(&["dtype"]).and_then(compute_dtype);
    match call.class {
        // From indices back to words.
        "StringLookup" if call.arguments.is(&["invert"]) => Some(DataType::String),
        "IntegerLookup" | "StringLookup" | "TextVectorization" if indices => Some(DataType::Int64),
        "Discretization" if indices => Some(if call.era < 3 { DataType::Int64 } else { DataType::Int32 }),
        "Hashing" if indices => Some(own.filter(|dtype| !is_float(*dtype)).unwrap_or(DataType::Int64)),
        "IntegerLookup" | "StringLookup" | "TextVectorization" | "Discretization" | "Hashing" => {
            Some(own.filter(|dtype| is_float(*dtype)).unwrap_or(DataType::Float))
        }
        _ => None,
    }
}
