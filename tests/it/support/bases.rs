//! Base images that a test makes: small, the same bytes each time, with members in their configs that must survive.
//!
//! Written by hand, not by our own code: what reads them is what is tested. [`write_layout`] makes an OCI layout; [`push`] has skopeo send it to a
//! registry, in the family that is asked for.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use lamina::oci::digest::Digest;
use serde_json::{Value, json};

use super::hs::tool;

/// How a layer's blob relates to its tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    Plain,
    Gzip,
    Zstd,
}

impl Packed {
    /// The end of the media type.
    pub fn word(self) -> &'static str {
        match self {
            Packed::Plain => "tar",
            Packed::Gzip => "tar+gzip",
            Packed::Zstd => "tar+zstd",
        }
    }

    fn pack(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Packed::Plain => tar.to_vec(),
            Packed::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(tar).unwrap();
                encoder.finish().unwrap()
            }
            Packed::Zstd => zstd::encode_all(tar, 3).unwrap(),
        }
    }
}

/// A base for one platform.
pub struct Base {
    pub architecture: &'static str,
    /// The inner `config` of its image config.
    pub config: Value,
    /// Each with what its file `/base/LAYER-NUMBER` says.
    pub layers: Vec<(Packed, String)>,
}

impl Base {
    /// One layer for each way of packing, and a config with members that no typed view knows.
    pub fn new(architecture: &'static str, packed: &[Packed]) -> Base {
        let config = json!({
            "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"], "Entrypoint": ["/usr/bin/serve"], "Cmd": ["--port", "9090"], "User": "42069:42069",
            "WorkingDir": "/", "ExposedPorts": {"9090/tcp": {}}, "StopSignal": "SIGTERM", "Labels": {"of.base": "kept"},
            "Healthcheck": {"Test": ["CMD", "/usr/bin/true"], "Interval": 30_000_000_000_u64}, "OnBuild": ["RUN true"], "Shell": ["/bin/sh", "-c"],
        });
        let layers = packed.iter().enumerate().map(|(at, packed)| (*packed, format!("layer {at} of {architecture}\n"))).collect();
        Base { architecture, config, layers }
    }
}

/// Writes one base, or an index of several, as the tag of a new layout; returns the digest that the tag points at.
pub fn write_layout(folder: &Path, tag: &str, bases: &[Base]) -> String {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let mut manifests: Vec<Value> = bases.iter().map(|base| write_base(folder, base)).collect();
    let mut top = if let [one] = manifests.as_slice() {
        one.clone()
    } else {
        // What buildkit adds; it is no platform and must not become one.
        let mut attestation = manifests[0].clone();
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        manifests.push(attestation);
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
        put(folder, "application/vnd.oci.image.index.v1+json", index.to_string().as_bytes())
    };
    let digest = top["digest"].as_str().unwrap().to_owned();
    top["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [top]}).to_string()).unwrap();
    digest
}

fn write_base(folder: &Path, base: &Base) -> Value {
    let (mut layers, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (packed, text)) in base.layers.iter().enumerate() {
        let tar = tar_of(&format!("base/layer-{at}"), text.as_bytes());
        diff_ids.push(Digest::of(&tar).to_string());
        let media_type = format!("application/vnd.oci.image.layer.v1.{}", packed.word());
        let mut layer = put(folder, &media_type, &packed.pack(&tar));
        layer["annotations"] = json!({"of.the.base": format!("{at}")});
        layers.push(layer);
        history.push(json!({"created": "2024-01-02T03:04:05Z", "created_by": format!("layer {at}")}));
        history.push(json!({"created": "2024-01-02T03:04:06Z", "created_by": "ENV", "empty_layer": true}));
    }
    let config = json!({
        "created": "2024-01-02T03:04:05Z", "author": "somebody", "architecture": base.architecture, "os": "linux", "config": base.config,
        "history": history, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "vendor.member": {"kept": [1, "two", null]},
    });
    let config = put(folder, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
    });
    let mut manifest = put(folder, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["platform"] = json!({"os": "linux", "architecture": base.architecture});
    manifest
}

fn tar_of(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, path, bytes).unwrap();
    tar.into_inner().unwrap()
}

/// Puts a blob into a layout, and returns its descriptor.
fn put(folder: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes).to_string();
    fs::write(folder.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// Makes a base and sends it to `reference`, byte for byte.
pub fn push(reference: &str, bases: &[Base]) {
    push_as(reference, bases, &["--all", "--preserve-digests"]);
}

/// Makes a base and sends it to `reference`, changed as skopeo's options say: `--format v2s2` gives an image of Docker's.
pub fn push_as(reference: &str, bases: &[Base], options: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    write_layout(folder.path(), "base", bases);
    let (from, to) = (format!("oci:{}:base", folder.path().display()), format!("docker://{reference}"));
    let words = ["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"];
    tool("skopeo", &[&words, options, &[from.as_str(), to.as_str()]].concat());
}
