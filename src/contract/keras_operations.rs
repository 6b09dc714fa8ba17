//! Operations in a functional model (`x * 2`, `tf.nn.relu(x)`, `ops.add(a, b)`): those that work element by element.
//!
//! TensorFlow 2 has them as the layer `TFOpLambda` of a function's name, Keras 3 as classes of its own, named like layers and not the
//! same. Any other function may give any shape, and so do these where an operand is a list of numbers in the config.
//!
//! What must stay true: only what is listed, and only of floats: integers become what the backend makes of them.

use super::dtype::DataType;
use super::keras_layers::Call;
use super::keras_merging::broadcast;
use super::keras_model::Node;
use super::keras_tensor::{Dims, Tensor, is_float};

/// The dimensions and dtype of what an operation gives.
pub(super) fn output(call: &Call, node: &Node) -> Option<(Dims, DataType)> {
    let function = if call.layer.class == "TFOpLambda" { call.arguments.text(&["function"])? } else { call.layer.class };
    if !is_elementwise(function) || node.has_lists {
        return None;
    }
    let operands: Vec<&Tensor> = call.inputs.iter().chain(call.named.values().flatten()).collect();
    let (first, rest) = operands.split_first()?;
    let (dims, dtype) = (first.dims.as_ref().ok()?, first.dtype.as_ref().ok().filter(|dtype| is_float(**dtype))?);
    // A shorter operand is stretched from the left, where layers take that for the batch.
    let fits =
        |other: &&Tensor| other.dtype.as_ref().ok() == Some(dtype) && other.dims.as_ref().is_ok_and(|other| other.len() == dims.len());
    if !rest.iter().all(fits) {
        return None;
    }
    let all: Option<Vec<&Dims>> = operands.iter().map(|operand| operand.dims.as_ref().ok()).collect();
    Some((broadcast(&all?, call.era)?, *dtype))
}

fn is_elementwise(function: &str) -> bool {
    let of_tensorflow = [
        "__operators__.add",
        "math.add",
        "math.subtract",
        "math.multiply",
        "math.truediv",
        "math.divide",
        "math.maximum",
        "math.minimum",
        "math.pow",
        "math.negative",
        "math.abs",
        "math.exp",
        "math.log",
        "math.sqrt",
        "math.rsqrt",
        "math.square",
        "math.tanh",
        "math.sigmoid",
        "nn.sigmoid",
        "nn.tanh",
        "nn.relu",
        "nn.relu6",
        "nn.elu",
        "nn.selu",
        "nn.gelu",
        "nn.silu",
        "nn.softmax",
        "nn.log_softmax",
        "nn.softplus",
        "nn.leaky_relu",
        "clip_by_value",
        "identity",
        "stop_gradient",
    ];
    let of_keras = [
        "Add",
        "Subtract",
        "Multiply",
        "Divide",
        "TrueDivide",
        "Maximum",
        "Minimum",
        "Power",
        "Negative",
        "Absolute",
        "Abs",
        "Exp",
        "Log",
        "Sqrt",
        "Rsqrt",
        "Square",
        "Tanh",
        "Sigmoid",
        "Relu",
        "Relu6",
        "Elu",
        "Selu",
        "Gelu",
        "Silu",
        "Softmax",
        "LogSoftmax",
        "Softplus",
        "Softsign",
        "LeakyRelu",
        "HardSigmoid",
        "Clip",
    ];
    of_tensorflow.contains(&function) || of_keras.contains(&function)
}
