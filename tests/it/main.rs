//! The integration tests: one binary, one module a topic.
//!
//! Each stands on real parts: registries, databases, containers, models made by the frameworks. A part that is missing is a failure that names it.

mod archives;
mod base_families;
mod containers;
mod contracts;
mod determinism;
mod embedded_registry;
mod image;
mod image_files;
mod layers;
mod outputs;
mod pull;
mod registry;
mod registry_faults;
mod registry_login;
mod registry_uploads;
mod saved_models;
mod service;
mod service_live;
mod service_refusals;
mod store;
mod whole_path;

/// Real parts for tests to stand on.
mod support {
    pub mod bases;
    pub mod client;
    pub mod docker_registry;
    pub mod fault_registry;
    pub mod fault_tokens;
    pub mod fault_uploads;
    pub mod hs;
    pub mod images;
    pub mod models;
    pub mod real_base;
    pub mod wire_tap;
}
