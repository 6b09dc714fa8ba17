//! A layer, its arguments and what goes in → the shapes that come out: the table of Keras' layers.
//!
//! Each rule is the `compute_output_shape` of the layer it is named for, as the documentation and the behaviour of Keras 1.2, 2.2,
//! 2.15 and 3.15 have it (`tests/models/keras/` holds their answers). Names of Keras 1 are those of their successors. Convolutions and
//! images are in `keras_spatial.rs`, recurrent layers in `keras_recurrent.rs`, layers of several inputs in `keras_merging.rs`, layers
//! that make numbers of words in `keras_encoding.rs`.
//!
//! What must stay true: `None` where arguments are missing or do not fit. A layer that is not in the table has no rule, whatever its
//! name resembles.

use std::collections::BTreeMap;

use super::dtype::DataType;
use super::keras_model::Layer;
use super::keras_tensor::{Arguments, Dims, RANK_MAX, Tensor, axis_of, compute_dtype, is_float, product};
use super::{keras_encoding, keras_merging, keras_recurrent, keras_spatial};

/// One call of a layer.
pub(super) struct Call<'a> {
    pub(super) layer: &'a Layer<'a>,
    /// The layer's class by its present name.
    pub(super) class: &'a str,
    pub(super) arguments: Arguments<'a>,
    /// The tensors among the positional arguments.
    pub(super) inputs: &'a [Tensor],
    /// The tensors among the named ones.
    pub(super) named: &'a BTreeMap<&'a str, Vec<Tensor>>,
    /// Named arguments that are switched on.
    pub(super) switches: &'a [&'a str],
    /// The major version of Keras.
    pub(super) era: u32,
}

impl<'a> Call<'a> {
    /// The dimensions of an input, if they are known.
    pub(super) fn dims(&self, input: usize) -> Option<&'a Dims> {
        self.inputs.get(input)?.dims.as_ref().ok()
    }

    /// Whether the caller asks for something.
    pub(super) fn asks(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }

    /// Dimensions of the axes between batch and channels, and whether channels come before them.
    pub(super) fn channels_first(&self) -> bool {
        matches!(self.arguments.text(&["data_format", "dim_ordering"]), Some("channels_first" | "th"))
    }
}

/// The class by its present name: Keras 2 renamed layers of Keras 1, and TensorFlow 1 numbered some.
pub(super) fn present_name(class: &str) -> &str {
    let class = class.strip_suffix("V1").or_else(|| class.strip_suffix("V2")).unwrap_or(class);
    match class {
        "Convolution1D" | "AtrousConvolution1D" | "AtrousConv1D" => "Conv1D",
        "Convolution2D" | "AtrousConvolution2D" | "AtrousConv2D" => "Conv2D",
        "Convolution3D" => "Conv3D",
        "Convolution2DTranspose" | "Deconvolution2D" | "Deconv2D" => "Conv2DTranspose",
        "Convolution3DTranspose" | "Deconvolution3D" | "Deconv3D" => "Conv3DTranspose",
        "SeparableConvolution2D" => "SeparableConv2D",
        "MaxPool1D" => "MaxPooling1D",
        "MaxPool2D" => "MaxPooling2D",
        "MaxPool3D" => "MaxPooling3D",
        "AvgPool1D" => "AveragePooling1D",
        "AvgPool2D" => "AveragePooling2D",
        "AvgPool3D" => "AveragePooling3D",
        "TimeDistributedDense" | "MaxoutDense" => "Dense",
        "CuDNNLSTM" | "UnifiedLSTM" => "LSTM",
        "CuDNNGRU" | "UnifiedGRU" => "GRU",
        "GroupQueryAttention" => "GroupedQueryAttention",
        class => class,
    }
}

/// Whether the class is a layer of Keras' own.
///
/// Since 2.12 a config says where its classes are from; `.h5` files never do. Keras 3 has operations beside the layers, some of the same
/// name (`ops.average` takes a mean over an axis), and those have neither a dtype nor weights in their config.
pub(super) fn is_keras_own(layer: &Layer, era: u32) -> bool {
    if layer.module.is_empty() {
        return era < 3 || layer.config.get("dtype").is_some() || layer.config.get("trainable").is_some();
    }
    let packages = ["keras.", "tf_keras.", "tensorflow."];
    let own_package = packages.iter().any(|package| layer.module.starts_with(package));
    own_package && (layer.module.contains("layers") || layer.module.contains("models"))
}

/// The dimensions of everything that the layer gives for these inputs.
pub(super) fn dims(call: &Call) -> Option<Vec<Dims>> {
    if is_elementwise(call.class) {
        return Some(vec![call.dims(0)?.clone()]);
    }
    one(call).map(|dims| vec![dims]).or_else(|| keras_merging::dims(call)).or_else(|| keras_recurrent::dims(call))
}

fn one(call: &Call) -> Option<Dims> {
    match call.class {
        "Dense" => dense(call),
        "EinsumDense" => einsum_dense(call),
        "Embedding" => Some([call.dims(0)?.clone(), vec![Some(call.arguments.integer(&["output_dim"])?)]].concat()),
        "Flatten" => flatten(call.dims(0)?),
        "Reshape" => reshape(call),
        "Permute" => permute(call),
        "RepeatVector" => repeat_vector(call),
        _ => keras_spatial::dims(call).or_else(|| keras_encoding::dims(call)),
    }
}

/// Layers whose output has the shape of their input.
fn is_elementwise(class: &str) -> bool {
    matches!(
        class,
        "Activation"
            | "Softmax"
            | "ReLU"
            | "LeakyReLU"
            | "PReLU"
            | "ELU"
            | "ThresholdedReLU"
            | "SReLU"
            | "ParametricSoftplus"
            | "Dropout"
            | "SpatialDropout1D"
            | "SpatialDropout2D"
            | "SpatialDropout3D"
            | "GaussianNoise"
            | "GaussianDropout"
            | "AlphaDropout"
            | "ActivityRegularization"
            | "Masking"
            | "Identity"
            | "InputLayer"
            | "Highway"
            | "BatchNormalization"
            | "SyncBatchNormalization"
            | "LayerNormalization"
            | "GroupNormalization"
            | "UnitNormalization"
            | "RMSNormalization"
            | "Normalization"
            | "Rescaling"
            | "RandomFlip"
            | "RandomRotation"
            | "RandomTranslation"
            | "RandomZoom"
            | "RandomContrast"
            | "RandomBrightness"
            | "RandomHue"
            | "RandomSaturation"
            | "RandomSharpness"
            | "RandomShear"
            | "RandomColorJitter"
            | "RandomColorDegeneration"
            | "RandomPosterization"
            | "RandomInvert"
            | "RandomErasing"
            | "RandomGaussianBlur"
            | "RandomPerspective"
            | "RandomElasticTransform"
            | "AutoContrast"
            | "Equalization"
            | "Solarization"
            | "AugMix"
            | "RandAugment"
    )
}

fn dense(call: &Call) -> Option<Dims> {
    let mut dims = call.dims(0)?.clone();
    *dims.last_mut()? = Some(call.arguments.integer(&["units", "output_dim"])?);
    Some(dims)
}

/// `abc,cd->abd` with `output_shape=(None, 5)`: what is open in the argument comes from the input, by its letter; Keras 3 leaves it open.
fn einsum_dense(call: &Call) -> Option<Dims> {
    /// A letter for each dimension of three tensors, and some more.
    const EQUATION_BYTES_MAX: usize = 4 * RANK_MAX;
    let input = call.dims(0)?;
    // A layer can be called any number of times, and reads it each time.
    let equation = call.arguments.text(&["equation"]).filter(|equation| equation.len() <= EQUATION_BYTES_MAX)?;
    let (operands, output) = equation.split_once("->")?;
    let (operand, _) = operands.split_once(',')?;
    let ellipsis_first = operand.starts_with("...");
    let letters = |side: &str| side.chars().filter(char::is_ascii_alphabetic).collect::<Vec<char>>();
    let (operand, output) = (letters(operand), letters(output));
    let elided = input.len().checked_sub(operand.len())?;
    let given = match call.arguments.get(&["output_shape"])? {
        list if list.is_array() => super::keras_tensor::dims_of(list)?,
        _ => vec![Some(call.arguments.integer(&["output_shape"])?)],
    };
    let mut dims = vec![*input.first()?];
    if ellipsis_first {
        dims.extend(input.get(1..elided)?);
    }
    dims.extend(given);
    if !ellipsis_first {
        dims.extend(&input[input.len() - elided..]);
    }
    let before = if ellipsis_first { elided } else { 0 };
    if dims.len() != output.len() + elided {
        return None;
    }
    for (index, letter) in output.iter().enumerate() {
        let from = operand.iter().position(|known| known == letter);
        let dim = &mut dims[before + index];
        if let (None, Some(from), ..3) = (*dim, from, call.era) {
            *dim = input[before + from];
        }
    }
    Some(dims)
}

fn flatten(dims: &Dims) -> Option<Dims> {
    let (batch, rest) = dims.split_first()?;
    Some(vec![*batch, product(rest)?])
}

fn reshape(call: &Call) -> Option<Dims> {
    let input = call.dims(0)?;
    let target: Vec<i64> = call.arguments.integers(&["target_shape"])?;
    let known: Dims = target.iter().filter(|length| **length != -1).map(|length| Some(*length)).collect();
    let open = target.len() - known.len();
    let (whole, known) = (product(input.get(1..)?)?, product(&known)??);
    if open > 1 || target.iter().any(|length| *length < -1) {
        return None;
    }
    // What is left for the one that is open.
    let rest = match whole {
        Some(whole) if open == 1 => Some(whole.checked_div(known).filter(|rest| rest.checked_mul(known) == Some(whole))?),
        Some(whole) if whole != known => return None,
        _ => None,
    };
    let dims = target.iter().map(|length| if *length == -1 { rest } else { Some(*length) });
    Some([*input.first()?].into_iter().chain(dims).collect())
}

fn permute(call: &Call) -> Option<Dims> {
    let input = call.dims(0)?;
    let order = call.arguments.integers(&["dims"])?;
    let mut seen = vec![false; input.len()];
    let mut dims = vec![*input.first()?];
    for axis in order {
        // Axes are counted from 1: the batch is none of them.
        let axis = axis_of(axis, input.len()).filter(|axis| *axis > 0 && !seen[*axis])?;
        seen[axis] = true;
        dims.push(input[axis]);
    }
    Some(dims).filter(|dims| dims.len() == input.len())
}

fn repeat_vector(call: &Call) -> Option<Dims> {
    match call.dims(0)?.as_slice() {
        [batch, features] => Some(vec![*batch, Some(call.arguments.integer(&["n"])?), *features]),
        _ => None,
    }
}

/// Layers that move elements about, and give those that they got.
fn keeps_elements(call: &Call) -> bool {
    let moves = matches!(call.class, "Flatten" | "Reshape" | "Permute" | "Identity");
    let of_tensorflow = matches!(
        call.class,
        "RepeatVector"
            | "ZeroPadding1D"
            | "ZeroPadding2D"
            | "ZeroPadding3D"
            | "Cropping1D"
            | "Cropping2D"
            | "Cropping3D"
            | "UpSampling1D"
            | "UpSampling2D"
            | "UpSampling3D"
            | "MaxPooling1D"
            | "MaxPooling2D"
            | "MaxPooling3D"
            | "GlobalMaxPooling1D"
            | "GlobalMaxPooling2D"
            | "GlobalMaxPooling3D"
            | "Dropout"
            | "Activation"
            | "Masking"
            | "Add"
            | "Subtract"
            | "Multiply"
            | "Maximum"
            | "Minimum"
            | "Concatenate"
            | "Merge"
    );
    // Keras 3 says of all others that they give the type in which they compute.
    moves || call.era < 3 && of_tensorflow
}

/// The element type of what the layer gives; `None` where nothing tells.
pub(super) fn dtype(call: &Call) -> Option<DataType> {
    let own = call.arguments.get(&["dtype"]).and_then(compute_dtype);
    let has_rule = is_keras_own(call.layer, call.era) && (is_elementwise(call.class) || dims(call).is_some());
    if !has_rule {
        return own;
    }
    // Layers take floats in their own type (Keras calls it autocast), and other elements as they come.
    let first = call.inputs.first().and_then(|input| input.dtype.clone().ok());
    let computes = own.or(first.filter(|dtype| is_float(*dtype))).unwrap_or(DataType::Float);
    if keeps_elements(call) {
        return Some(first.filter(|dtype| !is_float(*dtype)).unwrap_or(computes));
    }
    Some(keras_encoding::dtype(call).unwrap_or(computes))
}
