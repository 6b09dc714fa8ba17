//! The tests of the contract floor by itself: models that the frameworks wrote, judged by what the frameworks say of them.
//!
//! They need floor 0 and nothing else: `cargo test --no-default-features --test contract` builds and runs them without the program.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod keras_limits;
mod keras_models;
mod saved_models;
