//! The tests of floor 0 by itself: models that the frameworks wrote, judged by what the frameworks say of them; contracts in every form; rules
//! judged by trying every case of a small world.
//!
//! They need floor 0 and nothing else: `cargo test --no-default-features --test contract` builds and runs them without the program.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod arbitrary;
mod compare;
mod fit;
mod foreign_models;
mod fuzz_corpus;
mod given;
mod golden;
mod golden_bytes;
mod inline;
mod keras_limits;
mod keras_models;
mod made_up;
mod onnx_models;
mod pickle_attacks;
mod properties;
mod protoc;
mod python_code;
mod sample;
mod saved_model_limits;
mod saved_models;
mod spark_models;
