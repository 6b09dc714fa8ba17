//! The integration tests: one binary, one module a topic.

mod contracts;

mod registry;

mod registry_faults;

mod registry_login;

mod registry_uploads;

/// Real parts for tests to stand on.
mod support {
    pub mod client;

    pub mod docker_registry;

    pub mod fault_registry;

    pub mod fault_tokens;

    pub mod fault_uploads;

    pub mod wire_tap;
}
