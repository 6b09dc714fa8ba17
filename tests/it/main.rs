//! The integration tests: one binary, one module a topic.
//!
//! Each stands on real parts: registries, databases, containers, models made by the frameworks. A part that is missing is a failure that names it.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]
#![allow(clippy::disallowed_methods, reason = "tests are a door: they read the machine's PATH and set everything else")]

mod ancestor;
mod archives;
mod bad_archives;
mod base_commands;
mod base_families;
mod base_platforms;
mod bytecode;
mod bytecode_trust;
mod changing_files;
mod compression;
mod container_frameworks;
mod container_requirements;
mod containers;
mod contract_commands;
mod demo;
mod destinations;
mod determinism;
mod distribution_discovery;
mod distribution_management;
mod distribution_pull;
mod distribution_push;
mod embedded_registry;
mod fault_list;
mod fit;
mod garbage;
mod garbage_service;
mod gate;
#[path = "../contract/golden_bytes.rs"]
mod golden_bytes;
mod guides;
mod have_and_want;
mod image;
mod image_files;
mod killed_builds;
mod large_model;
mod layers;
mod many_uploads;
mod outputs;
mod page;
mod pull;
mod push_ahead;
mod rebuild;
mod registry;
mod registry_answers;
mod registry_certificates;
mod registry_clients;
mod registry_doctor;
mod registry_doctor_profile;
mod registry_doctor_strangers;
mod registry_faults;
mod registry_full_disks;
mod registry_given_up;
mod registry_habits;
mod registry_kills;
mod registry_lies;
mod registry_login;
mod registry_memory;
mod registry_referrers;
mod registry_silence;
mod registry_torn;
mod registry_uploads;
mod requirements;
mod requirements_index;
mod requirements_lock;
mod requirements_refused;
mod service;
mod service_live;
mod service_refusals;
mod store;
mod strangers;
mod upload_failures;
mod whole_path;

/// Real parts for tests to stand on.
mod support {
    pub mod bases;
    pub mod browser;
    pub mod client;
    pub mod docker_registry;
    pub mod embedded;
    pub mod fault_manifests;
    pub mod fault_registry;
    pub mod fault_tokens;
    pub mod fault_uploads;
    pub mod faulty_index;
    pub mod guide;
    pub mod hs;
    pub mod images;
    pub mod models;
    pub mod outside;
    pub mod podman;
    pub mod python_base;
    pub mod python_packages;
    pub mod real_base;
    pub mod shelves;
    pub mod silent_host;
    pub mod small_disk;
    pub mod wire_tap;
}
