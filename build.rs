//! Compiles `proto/` at build time, in pure Rust: a fresh machine needs no `protoc`.
//!
//! Two things come out: Rust types for the messages, and the descriptor set that the text format (`contract.prototxt`) is read
//! with. Maps become `BTreeMap`, so that what we encode has one form.

use std::path::PathBuf;
use std::{env, fs};

const PROTOS: [&str; 7] = [
    "hydro_serving_grpc/contract/model_contract.proto",
    "hydro_serving_grpc/monitoring/data_profile_types.proto",
    "hydro_serving_grpc/serving/contract/signature.proto",
    "hydro_serving_grpc/serving/runtime/api.proto",
    "hydro_serving_grpc/tf/api/predict.proto",
    "grpc/health/v1/health.proto",
    "lamina/contract_of_any_era.proto",
];

#[expect(clippy::disallowed_methods, reason = "cargo says where to write by a variable")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    // The migrations are embedded by a macro, which cannot say so itself.
    println!("cargo::rerun-if-changed=migrations");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    // Comments, and where what stands, are for the Rust types. At run time they would only be read over.
    let mut lean = descriptors.clone();
    lean.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&lean))?;
    prost_build::Config::new().btree_map(["."]).include_file("messages.rs").compile_fds(descriptors)?;
    Ok(())
}
