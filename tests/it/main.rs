//! The integration tests: one binary, one module a topic.

mod archives;
mod contracts;
mod embedded_registry;
mod image;
mod image_files;
mod layers;
mod store;
