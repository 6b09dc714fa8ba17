//! Convolution, pooling, padding, cropping and resizing: layers that change the axes between batch and channels.
//!
//! All have the same frame: a batch, `n` axes in space (the `2D` of the name), and channels before or after them. A rule says what
//! becomes of each axis, and of the channels.
//!
//! What must stay true: a length that would be negative, or does not fit, makes the shape unknown; Keras refuses such models.

use super::keras_layers::Call;
use super::keras_tensor::{Dim, Dims};

/// The dimensions of what the layer gives, if it is one of these.
pub(super) fn dims(call: &Call) -> Option<Dims> {
    let class = call.class;
    if let Some(axes) = axes_in(class) {
        let stem = class.replace(['1', '2', '3'], "");
        return match stem.as_str() {
            "ConvD" | "LocallyConnectedD" | "SeparableConvD" | "DepthwiseConvD" => convolution(call, call.dims(0)?, axes),
            "ConvDTranspose" => transposed(call, axes),
            "MaxPoolingD" | "AveragePoolingD" => pooling(call, axes),
            "GlobalMaxPoolingD" | "GlobalAveragePoolingD" => global_pooling(call, axes),
            "AdaptiveMaxPoolingD" | "AdaptiveAveragePoolingD" => {
                let sizes = call.arguments.for_axes(&["output_size"], axes)?;
                in_space(call, call.dims(0)?, axes, None, |axis, _| Some(Some(sizes[axis])))
            }
            "ZeroPaddingD" => padding(call, axes),
            "CroppingD" => {
                let pairs = call.arguments.pairs(&["cropping"], axes)?;
                in_space(call, call.dims(0)?, axes, None, |axis, length| {
                    let (before, after) = pairs[axis];
                    each(length, |length| length.checked_sub(before)?.checked_sub(after))
                })
            }
            "UpSamplingD" => {
                let sizes = call.arguments.for_axes(&["size", "length"], axes)?;
                in_space(call, call.dims(0)?, axes, None, |axis, length| each(length, |length| length.checked_mul(sizes[axis])))
            }
            _ => None,
        };
    }
    match class {
        "Resizing" | "CenterCrop" | "RandomCrop" => {
            let size = [call.arguments.integer(&["height"])?, call.arguments.integer(&["width"])?];
            in_space(call, call.dims(0)?, 2, None, |axis, _| Some(Some(size[axis])))
        }
        "RandomHeight" | "RandomWidth" => {
            let random = usize::from(class == "RandomWidth");
            in_space(call, call.dims(0)?, 2, None, |axis, length| Some(length.filter(|_| axis != random)))
        }
        _ => None,
    }
}

/// The number before the `D` of a class: `Conv2DTranspose` has two axes in space.
pub(super) fn axes_in(class: &str) -> Option<usize> {
    let at = class.find("1D").or_else(|| class.find("2D")).or_else(|| class.find("3D"))?;
    Some(usize::from(class.as_bytes()[at] - b'0'))
}

/// What becomes of a length that is known; the open one stays open. The outer `None`: no shape at all.
fn each(length: Dim, of: impl Fn(i64) -> Option<i64>) -> Option<Dim> {
    match length {
        None => Some(None),
        Some(length) => of(length).filter(|length| *length >= 0).map(Some),
    }
}

/// The frame: each axis in space through `of`, and the channels replaced if that is said.
fn in_space(call: &Call, input: &Dims, axes: usize, channels: Option<Dim>, of: impl Fn(usize, Dim) -> Option<Dim>) -> Option<Dims> {
    if input.len() != axes + 2 {
        return None;
    }
    let (first, at) = if call.channels_first() { (2, 1) } else { (1, axes + 1) };
    let mut dims = input.clone();
    for axis in 0..axes {
        dims[first + axis] = of(axis, input[first + axis])?;
    }
    if let Some(channels) = channels {
        dims[at] = channels;
    }
    Some(dims)
}

/// How a window moves over an axis.
struct Window {
    size: i64,
    stride: i64,
    dilation: i64,
}

impl Window {
    /// What it covers.
    fn reach(&self) -> Option<i64> {
        self.size.checked_sub(1)?.checked_mul(self.dilation)?.checked_add(1)
    }

    /// The number of its places on an axis.
    fn places(&self, padding: &str, length: i64) -> Option<i64> {
        let reach = self.reach()?;
        let first_to_last = match padding {
            "valid" => length.checked_sub(reach).filter(|room| *room >= 0)?,
            "same" | "causal" | "half" => length.checked_sub(1)?,
            "full" => length.checked_add(reach)?.checked_sub(2)?,
            _ => return None,
        };
        // Rounded down also below zero, where an axis is empty.
        first_to_last.div_euclid(self.stride).checked_add(1)
    }
}

fn windows(call: &Call, sizes: Vec<i64>, strides: &[&str]) -> Option<Vec<Window>> {
    let axes = sizes.len();
    let strides = match call.arguments.get(strides) {
        Some(_) => call.arguments.for_axes(strides, axes)?,
        None if strides.contains(&"stride") => sizes.clone(),
        None => vec![1; axes],
    };
    let dilations = match call.arguments.get(&["dilation_rate", "atrous_rate"]) {
        Some(_) => call.arguments.for_axes(&["dilation_rate", "atrous_rate"], axes)?,
        None => vec![1; axes],
    };
    let window = |((size, stride), dilation)| Window { size, stride, dilation };
    let windows: Vec<Window> = sizes.into_iter().zip(strides).zip(dilations).map(window).collect();
    let moves = |window: &Window| window.size >= 1 && window.stride >= 1 && window.dilation >= 1;
    windows.iter().all(moves).then_some(windows)
}

/// The windows of a convolution; Keras 1 has an argument for each axis of the kernel.
fn kernel(call: &Call, axes: usize) -> Option<Vec<Window>> {
    let arguments = call.arguments;
    let sizes = match (arguments.get(&["kernel_size"]), axes) {
        (Some(_), _) => arguments.for_axes(&["kernel_size"], axes)?,
        (None, 1) => vec![arguments.integer(&["filter_length"])?],
        (None, 2) => vec![arguments.integer(&["nb_row"])?, arguments.integer(&["nb_col"])?],
        (None, _) => ["kernel_dim1", "kernel_dim2", "kernel_dim3"].iter().map(|name| arguments.integer(&[name])).collect::<Option<_>>()?,
    };
    windows(call, sizes, &["strides", "subsample", "subsample_length"])
}

fn padding_mode<'a>(call: &Call<'a>) -> &'a str {
    call.arguments.text(&["padding", "border_mode"]).unwrap_or("valid")
}

/// A convolution of these dimensions, which for a ConvLSTM are those of a step.
pub(super) fn convolution(call: &Call, input: &Dims, axes: usize) -> Option<Dims> {
    let windows = kernel(call, axes)?;
    let channels = if call.class.starts_with("Depthwise") {
        let at = if call.channels_first() { 1 } else { axes + 1 };
        let multiplier = call.arguments.integer(&["depth_multiplier"])?;
        each(*input.get(at)?, |channels| channels.checked_mul(multiplier))?
    } else {
        Some(call.arguments.integer(&["filters", "nb_filter"])?)
    };
    in_space(call, input, axes, Some(channels), |axis, length| each(length, |length| windows[axis].places(padding_mode(call), length)))
}

fn transposed(call: &Call, axes: usize) -> Option<Dims> {
    let input = call.dims(0)?;
    // Keras 1 is told the whole shape.
    if call.arguments.get(&["nb_row"]).is_some() {
        let dims = super::keras_tensor::dims_of(call.arguments.get(&["output_shape"])?)?;
        return (dims.len() == input.len()).then_some(dims);
    }
    let windows = kernel(call, axes)?;
    let paddings = match call.arguments.get(&["output_padding"]) {
        Some(_) => Some(call.arguments.for_axes(&["output_padding"], axes)?),
        None => None,
    };
    let filters = Some(call.arguments.integer(&["filters"])?);
    in_space(call, input, axes, Some(filters), |axis, length| {
        let window = &windows[axis];
        each(length, |length| {
            let reach = window.reach()?;
            let spread = length.checked_mul(window.stride)?;
            match (padding_mode(call), &paddings) {
                ("valid", None) => spread.checked_add(reach.checked_sub(window.stride)?.max(0)),
                ("valid", Some(paddings)) => spread.checked_sub(window.stride)?.checked_add(reach)?.checked_add(paddings[axis]),
                ("same", None) => Some(spread),
                ("same", Some(paddings)) => spread.checked_sub(window.stride)?.checked_add(reach % 2)?.checked_add(paddings[axis]),
                _ => None,
            }
        })
    })
}

fn pooling(call: &Call, axes: usize) -> Option<Dims> {
    let sizes = call.arguments.for_axes(&["pool_size", "pool_length"], axes)?;
    let windows = windows(call, sizes, &["strides", "stride"])?;
    in_space(call, call.dims(0)?, axes, None, |axis, length| each(length, |length| windows[axis].places(padding_mode(call), length)))
}

fn global_pooling(call: &Call, axes: usize) -> Option<Dims> {
    let kept = in_space(call, call.dims(0)?, axes, None, |_, _| Some(Some(1)))?;
    if call.arguments.is(&["keepdims"]) {
        return Some(kept);
    }
    let channels = if call.channels_first() { kept[1] } else { kept[axes + 1] };
    Some(vec![kept[0], channels])
}

fn padding(call: &Call, axes: usize) -> Option<Dims> {
    let pairs = match call.arguments.integers(&["padding"]).as_deref() {
        // Keras 1 also took (top, bottom, left, right).
        Some(&[top, bottom, left, right]) if axes == 2 => vec![(top, bottom), (left, right)],
        _ => call.arguments.pairs(&["padding"], axes)?,
    };
    in_space(call, call.dims(0)?, axes, None, |axis, length| {
        let (before, after) = pairs[axis];
        each(length, |length| length.checked_add(before)?.checked_add(after))
    })
}
