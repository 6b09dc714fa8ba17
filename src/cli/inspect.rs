//! `hs inspect REF`: what an image is, from its small documents alone.
//!
//! Reads the manifest, the config and, where the image is ours, the contract layer (small, and alone in its layer): no model file is moved.

use std::fmt::Write as _;
use std::io::Read as _;

use serde_json::{Value, json};

use super::args::InspectArguments;
use super::open::{self, Opened};
use super::say::{Voice, size};
use super::settings::Settings;
use crate::contract::contract::Contract;
use crate::contract::wire;
use crate::fault::Failure;
use crate::model::plan;
use crate::oci::config::ImageConfig;
use crate::oci::image::{IMAGE_LABEL, ImageSet, Purpose};
use crate::oci::manifest::Descriptor;
use crate::oci::report;
use crate::registry::source::{Source, SourceError};

/// The contract's layer is a header, at most 1 MiB, and padding.
const CONTRACT_LAYER_BYTES_MAX: u64 = (1 << 20) + 8192;

/// Runs `hs inspect`.
pub async fn run(arguments: &InspectArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let opened = open::image(&arguments.image, arguments.platform.as_deref(), settings).await?;
    let mut images = Vec::new();
    for image in &opened.images.images {
        let config = ImageConfig::parse(&image.config.bytes)?;
        let contract = match image.layers.iter().find(|layer| layer.purpose == Purpose::Contract) {
            Some(layer) => contract(&opened.source, &layer.descriptor).await?,
            None => None,
        };
        let described: Vec<Value> = image.layers.iter().map(report::layer).collect();
        let mut labels = config.labels();
        let ours: Value = labels.remove(IMAGE_LABEL).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
        images.push(json!({
            "platform": image.platform.to_string(), "digest": image.manifest.digest, "media_type": image.manifest.media_type,
            "config_digest": image.config.digest, "layers": described, "labels": labels, "lamina": ours,
            "entrypoint": config.inner("Entrypoint"), "command": config.inner("Cmd"), "user": config.inner("User"),
            "environment": config.inner("Env"), "working_directory": config.inner("WorkingDir"),
            "contract": contract.as_ref().map(|contract| json!(contract)),
        }));
    }
    let document = json!({"reference": arguments.image, "digest": opened.images.top().digest, "images": images});
    voice.result(&document, &text(&opened.images, &document))?;
    Ok(())
}

/// The contract in an image; of an index, in the image of its first platform, since all of them share it.
pub async fn contract_of(opened: &Opened) -> Result<Option<Contract>, SourceError> {
    let layers = opened.images.images.first().map(|image| image.layers.as_slice()).unwrap_or_default();
    match layers.iter().find(|layer| layer.purpose == Purpose::Contract) {
        Some(layer) => contract(&opened.source, &layer.descriptor).await,
        None => Ok(None),
    }
}

/// The contract out of its layer: a tar with one file and its folder.
pub async fn contract(source: &Source, layer: &Descriptor) -> Result<Option<Contract>, SourceError> {
    if layer.size_bytes > CONTRACT_LAYER_BYTES_MAX {
        return Ok(None);
    }
    let bytes = source.bytes(layer, CONTRACT_LAYER_BYTES_MAX).await?;
    let mut archive = tar::Archive::new(bytes.as_slice());
    let wanted = plan::contract_path();
    let Ok(entries) = archive.entries() else { return Ok(None) };
    for mut entry in entries.flatten() {
        if entry.path_bytes().as_ref() == wanted.as_str().as_bytes() {
            let mut contract = Vec::new();
            if entry.read_to_end(&mut contract).is_ok() {
                return Ok(wire::decode(&contract, None).ok().map(|(contract, _)| contract));
            }
        }
    }
    Ok(None)
}

fn text(images: &ImageSet, document: &Value) -> String {
    let mut out = String::new();
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let _ = writeln!(out, "{}\n  digest    {}", word(&document["reference"]), images.top().digest);
    for image in document["images"].as_array().into_iter().flatten() {
        let labels = &image["labels"];
        let base = &image["lamina"]["base"];
        let _ = writeln!(out, "\n{}  {}", word(&image["platform"]), word(&image["digest"]));
        let _ = writeln!(
            out,
            "  model     {} {} ({})",
            word(&labels["MODEL_NAME"]),
            word(&labels["MODEL_VERSION"]),
            word(&labels["MODEL_TYPE"])
        );
        let _ = writeln!(out, "  base      {} {}", word(&base["name"]), word(&base["digest"]));
        for layer in image["layers"].as_array().into_iter().flatten() {
            let bytes = layer["size_bytes"].as_u64().unwrap_or_default();
            let _ = writeln!(out, "  layer     {:12} {:>12}  {}", word(&layer["purpose"]), size(bytes), word(&layer["digest"]));
        }
        for signature in image["contract"]["signatures"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "  signature {}", word(&signature["name"]));
            for (direction, key) in [("in", "inputs"), ("out", "outputs")] {
                for field in signature[key].as_array().into_iter().flatten() {
                    let shape = field["shape"].get("dims").map_or_else(|| field["shape"].to_string(), Value::to_string);
                    let _ = writeln!(out, "    {direction:4} {} {} {shape}", word(&field["name"]), word(&field["dtype"]));
                }
            }
        }
    }
    out
}
