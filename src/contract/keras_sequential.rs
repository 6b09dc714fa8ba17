//! What a model takes: input layers, and what stands for one in a Sequential that has none.
//!
//! Until Keras 2.3 a Sequential was saved without its input layer: the first layer's arguments have the shape, and the input is named for
//! that layer (`dense_1_input`). A first layer may be a model itself, and in Keras 1 a Merge of several.
//!
//! What must stay true: the names are those by which Keras feeds the loaded model.

use std::collections::BTreeMap;

use super::contract::shown;
use super::dtype::DataType;
use super::keras::KerasError;
use super::keras_graph::{Named, label, layer_dtype};
use super::keras_model::{Layer, Model};
use super::keras_tensor::{Arguments, Dims, Tensor, dims_of, policy_name};

/// How deep first layers are followed into models.
const DESCENT_MAX: usize = 32;

/// The tensor that an input layer stands for.
pub(super) fn declared(layer: &Layer) -> Result<Tensor, KerasError> {
    let dims = shape(layer).ok_or_else(|| label(layer));
    let dtype = match Arguments(layer.config).get(&["input_dtype", "dtype"]) {
        None => DataType::Float,
        Some(value) => layer_dtype(layer).ok_or_else(|| KerasError::Dtype {
            layer: shown(layer.name),
            dtype: policy_name(value).map_or_else(|| shown(&value.to_string()), shown),
        })?,
    };
    Ok(Tensor { dims, dtype: Ok(dtype) })
}

/// The shape in a layer's own arguments.
fn shape(layer: &Layer) -> Option<Dims> {
    let arguments = Arguments(layer.config);
    if let Some(shape) = arguments.get(&["batch_input_shape", "batch_shape"]) {
        return dims_of(shape);
    }
    // Without the batch: configs that were written by hand, or by other tools.
    let rest = match arguments.get(&["input_shape", "shape"]) {
        Some(shape) => dims_of(shape)?,
        None => vec![Some(arguments.integer(&["input_dim"]).filter(|_| layer.class == "Dense")?)],
    };
    Some([vec![None], rest].concat())
}

/// What a model takes, by name, in its own order.
pub(super) fn declared_inputs(model: &Model, era: u32, depth: usize) -> Result<Vec<Named>, KerasError> {
    if depth > DESCENT_MAX {
        return Err(KerasError::TooDeep);
    }
    if let Some(ends) = &model.ends {
        let layers: BTreeMap<&str, &Layer> = model.layers.iter().map(|layer| (layer.name, layer)).collect();
        let inputs = ends.inputs.iter().filter_map(|reference| layers.get(reference.layer.as_str()));
        return inputs.map(|layer| Ok((layer.name.into(), declared(layer)?))).collect();
    }
    let Some(first) = model.layers.first() else { return Err(KerasError::NoLayers { model: shown(model.name) }) };
    match &first.model {
        _ if first.class == "InputLayer" => return Ok(vec![(first.name.into(), declared(first)?)]),
        // Keras 1 takes the inputs of the first model for its own, Keras 2 makes one that is named for it.
        Some(inner) => {
            let mut inputs = declared_inputs(inner, era, depth + 1)?;
            if let ([(name, _)], 2..) = (inputs.as_mut_slice(), era) {
                *name = format!("{}_input", first.name).into();
            }
            return Ok(inputs);
        }
        None if first.class == "Merge" => {
            let branches = first.inner.iter().filter_map(|branch| branch.model.as_ref());
            let inputs: Result<Vec<Vec<Named>>, KerasError> = branches.map(|model| declared_inputs(model, era, depth + 1)).collect();
            return inputs.map(|inputs| numbered(inputs.concat()));
        }
        None => {}
    }
    let built = model.build_input_shape.and_then(|value| dims_of(value).filter(|_| !value.is_null()));
    let dims = shape(first).or(built).ok_or_else(|| label(first));
    let name = match era {
        // Keras 1 names it for the class, and counts.
        ..2 => format!("{}_input_1", first.class.to_ascii_lowercase()),
        _ => format!("{}_input", first.name),
    };
    Ok(vec![(name.into(), Tensor { dims, dtype: layer_dtype(first).map_or(Ok(DataType::Float), Ok) })])
}

/// The inputs of several models side by side: in Keras 1 each name that it makes has the next number.
fn numbered(inputs: Vec<Named>) -> Vec<Named> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let next = |(name, tensor): Named| match name.strip_suffix("_1") {
        None => (name, tensor),
        Some(stem) => {
            let count = counts.entry(stem.to_owned()).or_insert(0);
            *count += 1;
            (format!("{stem}_{count}").into(), tensor)
        }
    };
    inputs.into_iter().map(next).collect()
}
