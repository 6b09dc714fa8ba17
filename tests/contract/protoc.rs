//! `protoc`, the official compiler, as the judge of text and wire; where it is not installed, a test that asks it fails.

use std::io::Write;
use std::process::{Command, Stdio};

/// What `protoc` makes of `input`: `--encode` or `--decode` of a message in one of our proto files.
pub fn protoc(verb: &str, message: &str, file: &str, input: &[u8]) -> Vec<u8> {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new("protoc");
    command.args(["-I", &format!("{root}/proto"), &format!("--{verb}"), message, file]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("protoc (protobuf-compiler) is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "protoc --{verb} {message}");
    output.stdout
}

/// The bytes of a seed-era contract's text.
pub fn protoc_encodes(text: &str) -> Vec<u8> {
    protoc("encode", "hydrosphere.contract.ModelContract", "hydro_serving_grpc/contract/model_contract.proto", text.as_bytes())
}
