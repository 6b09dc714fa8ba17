//! The integration tests: one binary, one module a topic.

mod archives;
mod contracts;
mod layers;
mod store;
