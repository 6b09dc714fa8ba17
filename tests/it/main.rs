//! The integration tests: one binary, one module a topic.

mod contracts;
mod saved_models;
mod service;
mod service_live;
mod service_refusals;
