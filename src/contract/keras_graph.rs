//! A model and what goes into it → what comes out: every call on the way, in the order in which they need each other.
//!
//! Sequential models call their layers one after the other; functional ones are a graph of calls, walked from the outputs back with a
//! stack of our own, so that only its size is bounded and a circle is seen. A model as a layer is walked anew for each of its calls,
//! since what it gives hangs on what it gets.
//!
//! What must stay true: a config of some hundred bytes can ask for 2^20 calls (a model that calls a model twice, and so on). The whole
//! walk has a budget, [`WORK_MAX`], and models nest at most [`NESTING_MAX`] deep.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::contract::shown;
use super::dtype::DataType;
use super::keras::KerasError;
use super::keras_calls::{Calls, Place};
use super::keras_layers::{Call, dims, dtype, is_keras_own, present_name};
use super::keras_model::{Layer, Model, Node};
use super::keras_operations;
use super::keras_sequential::{declared, declared_inputs};
use super::keras_tensor::{Arguments, Dims, RANK_MAX, Tensor, compute_dtype};

/// The calls, references and dimensions that are looked at for one model, those of models inside it counted each time. Large models take
/// some ten thousand. It bounds the memory too: what a call gives is kept until its model is done.
const WORK_MAX: u64 = 500_000;

/// Models in models.
const NESTING_MAX: usize = 32;

/// A named tensor that goes into the model or comes out of it.
pub(super) type Named = (Rc<str>, Tensor);

/// What a model takes and gives.
pub(super) struct Ran {
    pub(super) inputs: Vec<Named>,
    pub(super) outputs: Vec<Named>,
}

/// A walk over one model.
pub(super) struct Walk {
    /// The major version of Keras.
    pub(super) era: u32,
    left: u64,
    depth: usize,
}

impl Walk {
    pub(super) fn new(era: u32) -> Walk {
        Walk { era, left: WORK_MAX, depth: 0 }
    }

    /// Whether the model is the one at the top, and no layer of another.
    pub(super) fn at_top(&self) -> bool {
        self.depth == 1
    }

    fn spend(&mut self, work: usize) -> Result<(), KerasError> {
        self.left = self.left.checked_sub(work as u64).ok_or(KerasError::TooManyCalls)?;
        Ok(())
    }

    /// What the model gives for these tensors, or for those that it declares.
    pub(super) fn model(&mut self, model: &Model, given: Option<&[Tensor]>) -> Result<Ran, KerasError> {
        if self.depth == NESTING_MAX {
            return Err(KerasError::TooDeep);
        }
        self.depth += 1;
        let ran = if model.ends.is_some() { self.functional(model, given) } else { self.sequential(model, given) };
        self.depth -= 1;
        ran
    }

    fn sequential(&mut self, model: &Model, given: Option<&[Tensor]>) -> Result<Ran, KerasError> {
        let mut inputs = declared_inputs(model, self.era, 0)?;
        for ((_, declared), given) in inputs.iter_mut().zip(given.into_iter().flatten()) {
            *declared = given.clone();
        }
        let mut tensors: Vec<Tensor> = inputs.iter().map(|(_, tensor)| tensor.clone()).collect();
        for (index, layer) in model.layers.iter().enumerate() {
            self.spend(1)?;
            if index == 0 && layer.class == "InputLayer" {
                continue;
            }
            if index == 0 && layer.class == "Merge" {
                tensors = self.merged(layer, tensors)?;
            }
            tensors = self.call(layer, &Node::default(), &tensors, &BTreeMap::new())?;
        }
        let name: Rc<str> = model.layers.last().map(|layer| layer.name).unwrap_or_default().into();
        Ok(Ran { inputs, outputs: tensors.into_iter().map(|tensor| (name.clone(), tensor)).collect() })
    }

    /// Keras 1: a Merge that is first in a Sequential holds the models whose outputs it merges.
    fn merged(&mut self, merge: &Layer, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, KerasError> {
        let mut outputs = Vec::new();
        let mut inputs = inputs.into_iter();
        for branch in &merge.inner {
            let Some(model) = &branch.model else { continue };
            let own: Vec<Tensor> = inputs.by_ref().take(declared_inputs(model, self.era, 0)?.len()).collect();
            outputs.extend(self.model(model, Some(&own))?.outputs.into_iter().map(|(_, tensor)| tensor));
        }
        Ok(outputs)
    }

    fn functional(&mut self, model: &Model, given: Option<&[Tensor]>) -> Result<Ran, KerasError> {
        self.spend(model.work())?;
        let calls = Calls::of(model, self.era)?;
        let mut values: BTreeMap<Place, Vec<Tensor>> = BTreeMap::new();
        let mut inputs = Vec::new();
        for (index, place) in calls.inputs.iter().enumerate() {
            let layer = &model.layers[place.layer];
            let tensor = match given.and_then(|given| given.get(index)) {
                Some(given) => given.clone(),
                None => declared(layer)?,
            };
            self.spend(tensor.rank())?;
            inputs.push((layer.name.into(), tensor.clone()));
            values.insert(place.call(), vec![tensor]);
        }
        self.evaluate(model, &calls, &mut values)?;
        let mut outputs = Vec::new();
        for place in &calls.outputs {
            let tensor = self.value(model, &calls, &values, *place);
            self.spend(tensor.rank())?;
            outputs.push((model.layers[place.layer].name.into(), tensor));
        }
        Ok(Ran { inputs, outputs })
    }

    /// Every call that an output needs, each after those that it needs itself.
    fn evaluate(&mut self, model: &Model, calls: &Calls, values: &mut BTreeMap<Place, Vec<Tensor>>) -> Result<(), KerasError> {
        let mut open: BTreeMap<Place, usize> = BTreeMap::new();
        for output in &calls.outputs {
            let mut stack = vec![output.call()];
            while let Some(place) = stack.last().copied() {
                self.spend(1)?;
                if values.contains_key(&place) {
                    stack.pop();
                    continue;
                }
                let needed = calls.needed(place);
                // Where we were in the list of what this call needs.
                let at = open.entry(place).or_insert(0);
                if let Some(next) = needed.get(*at).map(Place::call) {
                    *at += 1;
                    if !values.contains_key(&next) {
                        if open.contains_key(&next) {
                            return Err(KerasError::Circle { layer: shown(model.layers[next.layer].name) });
                        }
                        stack.push(next);
                    }
                    continue;
                }
                let given = self.one_call(model, calls, values, place)?;
                values.insert(place, given);
                stack.pop();
            }
        }
        Ok(())
    }

    fn one_call(
        &mut self,
        model: &Model,
        calls: &Calls,
        values: &BTreeMap<Place, Vec<Tensor>>,
        place: Place,
    ) -> Result<Vec<Tensor>, KerasError> {
        let layer = &model.layers[place.layer];
        if layer.class == "InputLayer" {
            return Ok(vec![declared(layer)?]);
        }
        let no_node = Node::default();
        let node = layer.nodes.get(place.node).unwrap_or(&no_node);
        let mut tensors = Vec::new();
        for needed in calls.needed(place) {
            let tensor = self.value(model, calls, values, *needed);
            self.spend(tensor.rank())?;
            tensors.push(tensor);
        }
        let mut rest = tensors.split_off(node.tensors.len().min(tensors.len())).into_iter();
        let named = node.named.iter().map(|(name, list)| (*name, rest.by_ref().take(list.len()).collect())).collect();
        self.call(layer, node, &tensors, &named)
    }

    /// A tensor of a call that was made; what is unknown of it is what Keras 3 says of it where it is used.
    fn value(&self, model: &Model, calls: &Calls, values: &BTreeMap<Place, Vec<Tensor>>, place: Place) -> Tensor {
        let given = values.get(&place.call()).map_or(&[][..], Vec::as_slice);
        let none = || unknown(&label(&model.layers[place.layer]), None);
        let mut tensor = given.get(place.tensor).cloned().unwrap_or_else(none);
        // Inside a model that is a layer, what is said is said of the tensors that it was made with.
        if let (true, Some((dims, dtype))) = (self.at_top(), calls.stated.get(&place)) {
            tensor.dims = tensor.dims.or_else(|unknown| dims.clone().ok_or(unknown));
            tensor.dtype = tensor.dtype.or_else(|unknown| dtype.ok_or(unknown));
        }
        tensor
    }

    /// What a layer gives for these tensors.
    fn call(
        &mut self,
        layer: &Layer,
        node: &Node,
        inputs: &[Tensor],
        named: &BTreeMap<&str, Vec<Tensor>>,
    ) -> Result<Vec<Tensor>, KerasError> {
        self.spend(1 + inputs.len() + named.len() + layer.inner_count())?;
        if let Some(model) = &layer.model {
            return Ok(self.model(model, Some(inputs))?.outputs.into_iter().map(|(_, tensor)| tensor).collect());
        }
        let class = present_name(layer.class);
        let arguments = Arguments(layer.config);
        if let (Some(inner), Some(first)) = (layer.inner.first(), inputs.first()) {
            match class {
                _ if !is_keras_own(layer, self.era) => {}
                "TimeDistributed" => return self.time_distributed(layer, inner, first),
                "Bidirectional" => return self.bidirectional(layer, inner, node, inputs),
                "SpectralNormalization" | "Wrapper" => return self.call(inner, node, inputs, named),
                _ => {}
            }
        }
        let call = Call { layer, class, arguments, inputs, named, switches: &node.switches, era: self.era };
        if (!is_keras_own(layer, self.era) || class == "TFOpLambda")
            && let Some((dims, dtype)) = keras_operations::output(&call, node)
        {
            return Ok(vec![typed(dims, Some(dtype), layer)]);
        }
        let dtype = dtype(&call);
        let known = if is_keras_own(layer, self.era) { dims(&call) } else { None };
        let known = known.filter(|given| given.iter().all(|dims| dims.len() <= RANK_MAX));
        self.spend(known.iter().flatten().map(Vec::len).sum())?;
        Ok(match known {
            Some(given) => given.into_iter().map(|dims| typed(dims, dtype, layer)).collect(),
            None => vec![unknown(&through(layer, inputs.iter().chain(named.values().flatten())), dtype)],
        })
    }

    /// The wrapped layer, called on each step.
    fn time_distributed(&mut self, layer: &Layer, inner: &Layer, input: &Tensor) -> Result<Vec<Tensor>, KerasError> {
        let (batch, time, step) = match input.dims.as_deref() {
            Ok([batch, time, rest @ ..]) => (*batch, *time, [&[*batch], rest].concat()),
            _ => return Ok(vec![unknown(&through(layer, [input]), input.dtype.clone().ok())]),
        };
        let step = Tensor { dims: Ok(step), dtype: input.dtype.clone() };
        let mut given = self.call(inner, &Node::default(), &[step], &BTreeMap::new())?;
        for tensor in &mut given {
            if let Ok(dims) = &mut tensor.dims {
                *dims = [&[batch, time], dims.get(1..).unwrap_or_default()].concat();
            }
        }
        Ok(given)
    }

    /// The wrapped layer in both directions, and what `merge_mode` makes of the two.
    fn bidirectional(&mut self, layer: &Layer, inner: &Layer, node: &Node, inputs: &[Tensor]) -> Result<Vec<Tensor>, KerasError> {
        let mut given = self.call(inner, node, inputs, &BTreeMap::new())?;
        // States that go in are of no weight for what comes out.
        let states = given.split_off(1.min(given.len()));
        // Wrappers in wrappers double what they give at each level.
        self.spend(2 * (given.len() + states.len()))?;
        match layer.config["merge_mode"].as_str() {
            Some("concat") => {
                for tensor in &mut given {
                    let Ok(dims) = &mut tensor.dims else { continue };
                    let Some(Some(last)) = dims.last_mut() else { continue };
                    match last.checked_mul(2) {
                        Some(both) => *last = both,
                        None => tensor.dims = Err(label(layer)),
                    }
                }
            }
            None => given.extend_from_within(..),
            Some(_) => {}
        }
        Ok([given, states.clone(), states].concat())
    }
}

/// What a layer is called in a warning: `doubled` (Lambda).
pub(super) fn label(layer: &Layer) -> Rc<str> {
    format!("`{}` ({})", shown(layer.name), shown(layer.class)).into()
}

/// The layer through which a tensor is unknown: one before this, or this one.
fn through<'a>(layer: &Layer, inputs: impl IntoIterator<Item = &'a Tensor>) -> Rc<str> {
    inputs.into_iter().find_map(|input| input.dims.as_ref().err().cloned()).unwrap_or_else(|| label(layer))
}

fn typed(dims: Dims, dtype: Option<DataType>, layer: &Layer) -> Tensor {
    Tensor { dims: Ok(dims), dtype: dtype.ok_or_else(|| label(layer)) }
}

fn unknown(through: &Rc<str>, dtype: Option<DataType>) -> Tensor {
    Tensor { dims: Err(through.clone()), dtype: dtype.ok_or_else(|| through.clone()) }
}

/// The type in which a layer computes, for an input that nothing else declares.
pub(super) fn layer_dtype(layer: &Layer) -> Option<DataType> {
    Arguments(layer.config).get(&["input_dtype", "dtype"]).and_then(compute_dtype)
}
