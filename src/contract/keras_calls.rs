//! The references of a functional model, resolved: which call each call needs, by number.
//!
//! A reference is a layer's name, the number of one of its calls, and the number of a tensor that the call gives. Calls are counted
//! from 0, but for models that are layers: those were called once when they were made, and most versions count that call, which no
//! config holds.
//!
//! What must stay true: every number that leaves this file is one of a layer and a call that the config has.

use std::collections::BTreeMap;

use super::contract::shown;
use super::keras::KerasError;
use super::keras_model::{Model, Reference, Stated};

/// A tensor: the layer, its call, and which of the tensors that the call gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) layer: usize,
    pub(super) node: usize,
    pub(super) tensor: usize,
}

impl Place {
    /// The call that gives it.
    pub(super) fn call(&self) -> Place {
        Place { tensor: 0, ..*self }
    }
}

/// The calls of a functional model.
pub(super) struct Calls {
    pub(super) inputs: Vec<Place>,
    pub(super) outputs: Vec<Place>,
    /// What each call needs: the tensors among its positional arguments, then those of the named ones.
    needed: BTreeMap<Place, Vec<Place>>,
    /// Shape and dtype of tensors, as Keras 3 states them where they are used.
    pub(super) stated: BTreeMap<Place, Stated>,
}

impl Calls {
    pub(super) fn of(model: &Model, era: u32) -> Result<Calls, KerasError> {
        let mut by_name = BTreeMap::new();
        for (index, layer) in model.layers.iter().enumerate() {
            if by_name.insert(layer.name, index).is_some() {
                return Err(KerasError::TwoLayers { layer: shown(layer.name) });
            }
        }
        let first_calls = first_calls(model, era, &by_name);
        let mut stated = BTreeMap::new();
        let mut resolve = |reference: &Reference, by: &str| -> Result<Place, KerasError> {
            let missing = || KerasError::NoSuchCall { by: shown(by), layer: shown(&reference.layer), node: reference.node };
            let layer = *by_name.get(reference.layer.as_str()).ok_or_else(missing)?;
            let first = if reference.in_arguments { 0 } else { first_calls[layer] };
            let node = reference.node.checked_sub(first).ok_or_else(missing)?;
            // Layers that are called on no tensor have no call in the config: input layers above all.
            if node >= model.layers[layer].nodes.len().max(1) {
                return Err(missing());
            }
            let place = Place { layer, node, tensor: reference.tensor };
            if let Some(said) = &reference.stated {
                stated.entry(place).or_insert_with(|| said.clone());
            }
            Ok(place)
        };
        let mut needed = BTreeMap::new();
        for (layer, described) in model.layers.iter().enumerate() {
            for (node, call) in described.nodes.iter().enumerate() {
                let references = call.tensors.iter().chain(call.named.values().flatten());
                let places = references.map(|reference| resolve(reference, described.name)).collect::<Result<_, _>>()?;
                needed.insert(Place { layer, node, tensor: 0 }, places);
            }
        }
        let mut all = |references: &[Reference]| -> Result<Vec<Place>, KerasError> {
            references.iter().map(|reference| resolve(reference, model.name)).collect()
        };
        let (inputs, outputs) = match &model.ends {
            Some(ends) => (all(&ends.inputs)?, all(&ends.outputs)?),
            None => (Vec::new(), Vec::new()),
        };
        Ok(Calls { inputs, outputs, needed, stated })
    }

    /// What a call needs.
    pub(super) fn needed(&self, call: Place) -> &[Place] {
        self.needed.get(&call).map_or(&[], Vec::as_slice)
    }
}

/// The number of each layer's first call in the config: 1 where the making of a model was counted.
///
/// It was not for a Sequential without an input shape (Keras 2) and for none in Keras 3. Where a config never names call 0 of a model
/// that is a layer, call 1 is its first.
fn first_calls(model: &Model, era: u32, by_name: &BTreeMap<&str, usize>) -> Vec<usize> {
    let mut least: Vec<Option<usize>> = vec![None; model.layers.len()];
    let nodes = model.layers.iter().flat_map(|layer| &layer.nodes);
    let in_calls = nodes.flat_map(|node| node.tensors.iter().chain(node.named.values().flatten()));
    let at_ends = model.ends.iter().flat_map(|ends| ends.inputs.iter().chain(&ends.outputs));
    for reference in in_calls.chain(at_ends).filter(|reference| !reference.in_arguments) {
        if let Some(layer) = by_name.get(reference.layer.as_str()) {
            let least = &mut least[*layer];
            *least = Some(least.map_or(reference.node, |least| least.min(reference.node)));
        }
    }
    let first = |(layer, least): (&super::keras_model::Layer, Option<usize>)| {
        let counted = layer.model.as_ref().is_some_and(|model| era < 3 || model.ends.is_some());
        usize::from(counted && least.is_some_and(|least| least > 0))
    };
    model.layers.iter().zip(least).map(first).collect()
}
