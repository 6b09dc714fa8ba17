//! Recurrent layers: LSTM, GRU, SimpleRNN, any RNN of cells that Keras has, and ConvLSTM.
//!
//! What comes out is a sequence or its last step, and the states where they are asked for. The wrappers `Bidirectional` and
//! `TimeDistributed` call another layer and are in `keras_graph.rs`.
//!
//! What must stay true: a cell that is not Keras' own says nothing of its output.

use super::keras_layers::{Call, is_keras_own};
use super::keras_model::Layer;
use super::keras_spatial::{axes_in, convolution};
use super::keras_tensor::{Arguments, Dims};

/// The dimensions of what the layer gives, if it is one of these.
pub(super) fn dims(call: &Call) -> Option<Vec<Dims>> {
    let input = call.dims(0)?;
    // Without the batch: what a step gives, and the states.
    let (step, states): (Dims, Vec<Dims>) = match call.class {
        "LSTM" | "GRU" | "SimpleRNN" => {
            let units = vec![Some(call.arguments.integer(&["units", "output_dim"])?)];
            (units.clone(), vec![units; if call.class == "LSTM" { 2 } else { 1 }])
        }
        "RNN" => {
            let states: Vec<Dims> = states(call.layer.inner.first()?, call.era)?;
            (output(call.layer.inner.first()?, call.era)?, states)
        }
        "ConvLSTM1D" | "ConvLSTM2D" | "ConvLSTM3D" => {
            let step = convolution(call, &[input.get(..1)?, input.get(2..)?].concat(), axes_in(call.class)?)?;
            (step[1..].to_vec(), vec![step[1..].to_vec(); 2])
        }
        _ => return None,
    };
    if input.len() < 3 || call.arguments.is(&["time_major"]) {
        return None;
    }
    let (batch, time) = (&input[..1], &input[1..2]);
    let sequences = call.arguments.is(&["return_sequences"]);
    let mut given = vec![if sequences { [batch, time, &step].concat() } else { [batch, &step].concat() }];
    if call.arguments.is(&["return_state"]) {
        given.extend(states.iter().map(|state| [batch, state].concat()));
    }
    Some(given)
}

/// What a cell gives in a step: of stacked ones, what the last gives.
fn output(cell: &Layer, era: u32) -> Option<Dims> {
    match cell.class {
        "StackedRNNCells" => output(cell.inner.last()?, era),
        _ => states(cell, era)?.into_iter().next(),
    }
}

fn states(cell: &Layer, era: u32) -> Option<Vec<Dims>> {
    let count = match cell.class {
        _ if !is_keras_own(cell, era) => return None,
        "StackedRNNCells" => {
            let all: Option<Vec<Vec<Dims>>> = cell.inner.iter().map(|cell| states(cell, era)).collect();
            return all.map(|all| all.concat());
        }
        "LSTMCell" => 2,
        "GRUCell" | "SimpleRNNCell" => 1,
        _ => return None,
    };
    Some(vec![vec![Some(Arguments(cell.config).integer(&["units"])?)]; count])
}
