//! A config's JSON → the model as layers and calls, of every era's form.
//!
//! Keras has had three ways of writing a call (`inbound_nodes`): lists of `[layer, node, tensor]`, since 2.0 with the other arguments
//! as a fourth member, and since 3.0 an object of `args` and `kwargs` whose tensors are `__keras_tensor__` objects. All three become
//! [`Node`]s of references. Nothing is computed here, and nothing is taken to be there because a reference says so.
//!
//! What must stay true: the recursion follows the nesting of the JSON text, which its parser bounds (serde_json: 128 levels).

use std::collections::BTreeMap;

use serde_json::Value;

use super::dtype::DataType;
use super::keras::KerasError;
use super::keras_tensor::{Dims, dims_of, dtype_of};

/// The longest name, class or module of a layer. A model can call a layer any number of times, and each call looks at them.
const NAME_BYTES_MAX: usize = 1000;

/// A Sequential or functional model, at the top or as a layer.
#[derive(Debug)]
pub(super) struct Model<'a> {
    pub(super) name: &'a str,
    pub(super) layers: Vec<Layer<'a>>,
    /// Where its inputs and outputs are; `None` of a Sequential, whose layers follow each other.
    pub(super) ends: Option<Ends>,
    /// The shape that a Sequential was built for, where its layers do not say it.
    pub(super) build_input_shape: Option<&'a Value>,
}

impl Model<'_> {
    /// What it costs to look once at all calls, and at what goes in and comes out.
    pub(super) fn work(&self) -> usize {
        let ends = self.ends.as_ref().map_or(0, |ends| ends.inputs.len() + ends.outputs.len());
        ends + self.layers.iter().map(Layer::work).sum::<usize>()
    }
}

/// The tensors that a functional model takes and gives, in its own order.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) inputs: Vec<Reference>,
    pub(super) outputs: Vec<Reference>,
}

#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) name: &'a str,
    pub(super) class: &'a str,
    /// Where the class is from; empty before Keras 2.12.
    pub(super) module: &'a str,
    /// Its arguments.
    pub(super) config: &'a Value,
    /// Its calls.
    pub(super) nodes: Vec<Node<'a>>,
    /// What a layer that is a model is made of.
    pub(super) model: Option<Model<'a>>,
    /// What a wrapper wraps, and a Merge of Keras 1 merges.
    pub(super) inner: Vec<Layer<'a>>,
}

impl Layer<'_> {
    /// What it costs to look at its calls once.
    pub(super) fn work(&self) -> usize {
        let references = |node: &Node| 1 + node.tensors.len() + node.named.values().map(Vec::len).sum::<usize>();
        1 + self.nodes.iter().map(references).sum::<usize>()
    }

    /// What is inside it, wrapped or stacked, all of which a call looks at.
    pub(super) fn inner_count(&self) -> usize {
        self.inner.iter().map(|inner| 1 + inner.inner_count()).sum()
    }
}

/// One call of a layer.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    /// The tensors among its positional arguments, flattened.
    pub(super) tensors: Vec<Reference>,
    /// The tensors among its named arguments.
    pub(super) named: BTreeMap<&'a str, Vec<Reference>>,
    /// Named arguments that are switched on.
    pub(super) switches: Vec<&'a str>,
    /// Whether lists of numbers are among the arguments, which may have any shape.
    pub(super) has_lists: bool,
}

/// `shape` and `dtype` of a tensor.
pub(super) type Stated = (Option<Dims>, Option<DataType>);

/// A tensor, as another call names it.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) layer: String,
    pub(super) node: usize,
    pub(super) tensor: usize,
    /// Keras 3 counts the calls of nested models from 0 inside `args`, and from 1 everywhere else.
    pub(super) in_arguments: bool,
    /// What Keras 3 says of the tensor in the same place, as far as it can be read.
    pub(super) stated: Option<Stated>,
}

fn malformed(place: &str, problem: &'static str) -> KerasError {
    KerasError::Malformed { place: super::contract::shown(place), problem }
}

/// The model at the top: an object with `class_name` and `config`.
pub(super) fn top(value: &Value) -> Result<Model<'_>, KerasError> {
    let class = value["class_name"].as_str().ok_or_else(|| malformed("the config", "it has no class_name"))?;
    model(class, &value["config"])?.ok_or_else(|| KerasError::UnknownModel { class: super::contract::shown(class) })
}

/// The model that a layer of this class and config is; `None` where it is a layer of another kind.
fn model<'a>(class: &str, config: &'a Value) -> Result<Option<Model<'a>>, KerasError> {
    let layers = match config {
        // Sequential, before Keras 2.2.3.
        Value::Array(layers) if class == "Sequential" => layers,
        Value::Object(_) => match config["layers"].as_array() {
            Some(layers) => layers,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let name = config["name"].as_str().unwrap_or_default();
    let mut ends = None;
    if class != "Sequential" {
        // Subclasses of Model with a functional config have a class of their own.
        let (inputs, outputs) = (&config["input_layers"], &config["output_layers"]);
        if inputs.is_null() || outputs.is_null() {
            return Ok(None);
        }
        ends = Some(Ends { inputs: references(inputs, name, false)?, outputs: references(outputs, name, false)? });
    }
    let layers = layers.iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Some(Model { name, layers, ends, build_input_shape: config.get("build_input_shape") }))
}

fn layer(value: &Value) -> Result<Layer<'_>, KerasError> {
    let class = value["class_name"].as_str().ok_or_else(|| malformed("a layer", "it has no class_name"))?;
    let config = &value["config"];
    // In a Sequential the name is in the config alone, or, of a list of layers, in its own config.
    let name = value["name"].as_str().or_else(|| config["name"].as_str()).unwrap_or_default();
    let module = value["module"].as_str().unwrap_or_default();
    if [name, class, module].iter().any(|text| text.len() > NAME_BYTES_MAX) {
        return Err(malformed(name, "its name, class or module is longer than 1000 bytes"));
    }
    let mut nodes = Vec::new();
    for call in value["inbound_nodes"].as_array().into_iter().flatten() {
        nodes.push(node(call, name)?);
    }
    let model = model(class, config)?;
    let mut inner = Vec::new();
    if model.is_none() {
        let wrapped =
            ["layer", "backward_layer"].iter().filter_map(|key| config.get(key)).filter(|value| value.get("class_name").is_some());
        let cells = config["cell"].get("class_name").is_some().then_some(&config["cell"]);
        let merged = if class == "Merge" { config["layers"].as_array() } else { None };
        let stacked = if class == "StackedRNNCells" { config["cells"].as_array() } else { None };
        for value in wrapped.chain(cells).chain(merged.into_iter().flatten()).chain(stacked.into_iter().flatten()) {
            inner.push(layer(value)?);
        }
    }
    Ok(Layer { name, class, module, config, nodes, model, inner })
}

fn node<'a>(call: &'a Value, layer: &str) -> Result<Node<'a>, KerasError> {
    let mut node = Node::default();
    match call.get("args").zip(call.get("kwargs")) {
        Some((arguments, named)) if call.is_object() => {
            collect(arguments, layer, true, &mut node.tensors, None)?;
            let is_list = |argument: &Value| argument.is_array() || argument.is_object() && argument["class_name"] != "__keras_tensor__";
            node.has_lists = arguments.as_array().into_iter().flatten().any(is_list);
            name_arguments(named, layer, true, &mut node)?;
        }
        _ => {
            let mut named = None;
            // `2 - x`, of which the 2 is `["_CONSTANT_VALUE", -1, 2.0]`.
            node.has_lists = call[0] == "_CONSTANT_VALUE" && !call[2].is_number() || call[0][0] == "_CONSTANT_VALUE";
            collect(call, layer, false, &mut node.tensors, Some(&mut named))?;
            if let Some(named) = named {
                name_arguments(named, layer, false, &mut node)?;
            }
        }
    }
    Ok(node)
}

fn name_arguments<'a>(named: &'a Value, layer: &str, in_arguments: bool, node: &mut Node<'a>) -> Result<(), KerasError> {
    for (name, value) in named.as_object().into_iter().flatten() {
        if value == &Value::Bool(true) {
            node.switches.push(name);
            continue;
        }
        let mut tensors = Vec::new();
        collect(value, layer, in_arguments, &mut tensors, None)?;
        node.has_lists |= tensors.is_empty() && (value.is_array() || value.is_object());
        if !tensors.is_empty() {
            node.named.insert(name, tensors);
        }
    }
    Ok(())
}

fn references(value: &Value, place: &str, in_arguments: bool) -> Result<Vec<Reference>, KerasError> {
    let mut found = Vec::new();
    collect(value, place, in_arguments, &mut found, None)?;
    Ok(found)
}

/// Every reference in a structure, in the order in which Keras flattens it: lists as they are, objects sorted by key.
///
/// `named` is given the other arguments of a call, which Keras 2 writes into each reference.
fn collect<'a>(
    value: &'a Value,
    place: &str,
    in_arguments: bool,
    found: &mut Vec<Reference>,
    mut named: Option<&mut Option<&'a Value>>,
) -> Result<(), KerasError> {
    match value {
        Value::Array(list) => {
            if let [Value::String(layer), Value::Number(node), tensor, rest @ ..] = list.as_slice() {
                if let (Some(named), Some(arguments)) = (named, rest.first()) {
                    *named = Some(arguments);
                }
                // A value that is no tensor of the model is `["_CONSTANT_VALUE", -1, value]`.
                if node.as_i64() != Some(-1) {
                    found.push(reference(layer, &list[1], tensor, place, in_arguments)?);
                }
                return Ok(());
            }
            for value in list {
                collect(value, place, in_arguments, found, named.as_deref_mut())?;
            }
        }
        Value::Object(_) if value["class_name"] == "__keras_tensor__" => {
            let config = &value["config"];
            let [Value::String(layer), node, tensor] = config["keras_history"].as_array().map_or(&[][..], Vec::as_slice) else {
                return Err(malformed(place, "it is called on a tensor without a keras_history"));
            };
            let mut reference = reference(layer, node, tensor, place, in_arguments)?;
            reference.stated = Some((dims_of(&config["shape"]), config["dtype"].as_str().and_then(dtype_of)));
            found.push(reference);
        }
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &'a Value> = members.iter().collect();
            for value in sorted.into_values() {
                collect(value, place, in_arguments, found, named.as_deref_mut())?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn reference(layer: &str, node: &Value, tensor: &Value, place: &str, in_arguments: bool) -> Result<Reference, KerasError> {
    let index = |value: &Value| value.as_u64().and_then(|index| usize::try_from(index).ok());
    let (Some(node), Some(tensor)) = (index(node), index(tensor)) else {
        return Err(malformed(place, "it is called on a tensor whose index is not a number"));
    };
    Ok(Reference { layer: layer.to_owned(), node, tensor, in_arguments, stated: None })
}
