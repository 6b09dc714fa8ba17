//! The tests of floor 0 by itself: models that the frameworks wrote, judged by what the frameworks say of them; contracts in every form.
//!
//! They need floor 0 and nothing else: `cargo test --no-default-features --test contract` builds and runs them without the program.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod arbitrary;
mod given;
mod golden;
mod inline;
mod properties;
mod protoc;
mod saved_models;
