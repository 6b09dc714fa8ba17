//! The integration tests: one binary, one module a topic.
//!
//! Each stands on real parts: registries, databases, containers, models made by the frameworks. A part that is missing is a failure that names it.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod archives;
mod contracts;
mod embedded_registry;
mod image;
mod image_files;
mod layers;
mod registry;
mod registry_faults;
mod registry_login;
mod registry_uploads;
mod saved_models;
mod service;
mod service_live;
mod service_refusals;
mod store;

/// Real parts for tests to stand on.
mod support {
    pub mod client;
    pub mod docker_registry;
    pub mod fault_registry;
    pub mod fault_tokens;
    pub mod fault_uploads;
    pub mod hs;
    pub mod wire_tap;
}
