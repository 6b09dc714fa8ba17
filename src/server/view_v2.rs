//! Versions and applications in the words of `/api/v2`, and in our own.
//!
//! [`version`] is the last ancestor's JSON, as its clients of 2.x (`modelContract`) and 3.x (`modelSignature`) read it, with ours beside
//! it: `build_status`, `digest`, `error` and more. [`ours`] is what `?view=lamina` asks for and `hs` prints: one flat document, the
//! statuses of the models page. What that API had and this service has not (servables, monitoring) has the value that its clients take
//! for "none".

use serde_json::{Value, json};

use crate::catalog::applications::Application;
use crate::catalog::record::{Level, LogLine, Model, Status, Version};
use crate::fault::Fault;
use crate::oci::reference::Reference;

/// The status word of the last ancestor's clients.
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Pending | Status::Running => "Assembling",
        Status::Finished => "Released",
        Status::Failed => "Failed",
    }
}

/// A version as `hs` prints it (interface, `hs upload --output json`).
pub fn ours(version: &Version) -> Value {
    json!({
        "id": version.id.0,
        "model": version.model,
        "version": version.number.0,
        "status": version.status.word(),
        "image": version.image,
        "digest": version.digest,
        "created": version.created,
        "started": version.started,
        "finished": version.finished,
        "model_type": version.model_type,
        "description": version.description,
        "runtime": version.runtime,
        "contract": version.contract.as_ref().map(|contract| &contract.json),
        "metadata": version.metadata,
        "applications": version.applications,
        "error": error(version),
        "build": version.build.0,
        "report": version.report,
    })
}

fn error(version: &Version) -> Value {
    let Some(error) = &version.error else { return Value::Null };
    json!({"stage": error.stage, "fault": error.fault.map(Fault::word), "cause": error.cause, "remedy": error.remedy})
}

/// A version as the last ancestor's clients read it.
pub fn version(version: &Version) -> Value {
    let signature = version.contract.as_ref().and_then(|contract| contract.json["signatures"].get(0)).map(signature);
    // Its clients read a signature and a runtime without asking whether there is one.
    let signature = signature.unwrap_or_else(|| json!({"signatureName": "predict", "inputs": [], "outputs": []}));
    json!({
        "id": version.id.0,
        "image": image(version),
        "created": version.created,
        "finished": version.finished,
        "modelVersion": version.number.0,
        "modelSignature": signature,
        "modelContract": {"modelName": version.model, "predict": signature},
        "runtime": runtime(version),
        "model": {"id": version.model_id.0, "name": version.model},
        "status": status_word(version.status),
        "installCommand": null,
        "metadata": version.metadata,
        "monitoringConfiguration": {"batchSize": 100},
        "applications": version.applications,
        "isExternal": false,
        "build_status": version.status.word(),
        "digest": version.digest,
        "model_type": version.model_type,
        "description": version.description,
        "error": error(version),
    })
}

fn image(version: &Version) -> Value {
    let place = version.image.as_ref().and_then(|image| image.parse::<Reference>().ok());
    let tag = version.number.to_string();
    match place {
        Some(at) => json!({
            "name": format!("{}/{}", at.registry, at.repository),
            "tag": at.tag.unwrap_or(tag),
            "sha256": version.digest.map(|digest| digest.hex()),
        }),
        None => json!({"name": version.model, "tag": tag, "sha256": null}),
    }
}

/// Name and tag apart, as it was asked for; not read as a reference, which would put a host before it.
fn runtime(version: &Version) -> Value {
    let Some(runtime) = &version.runtime else { return json!({"name": "scratch", "tag": "latest", "sha256": null}) };
    let (name, digest) = runtime.split_once('@').map_or((runtime.as_str(), None), |(name, digest)| (name, Some(digest)));
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "latest"),
    };
    json!({"name": name, "tag": tag, "sha256": digest.map(|digest| digest.trim_start_matches("sha256:"))})
}

/// A signature of the kept JSON. This API knows no unknown rank and no names of dimensions: the first is any shape there.
fn signature(kept: &Value) -> Value {
    let fields = |side: &str| kept[side].as_array().map(|fields| fields.iter().map(field).collect::<Vec<_>>()).unwrap_or_default();
    json!({"signatureName": kept["name"], "inputs": fields("inputs"), "outputs": fields("outputs")})
}

fn field(kept: &Value) -> Value {
    let shape = kept["shape"].get("dims").map_or(Value::Null, |dims| json!({"dims": dims}));
    match kept.get("subfields").and_then(Value::as_array) {
        Some(subfields) => {
            json!({"name": kept["name"], "subfields": subfields.iter().map(field).collect::<Vec<_>>(), "shape": shape, "profile": kept["profile"]})
        }
        None => json!({"name": kept["name"], "dtype": kept["dtype"], "shape": shape, "profile": kept["profile"]}),
    }
}

/// A model.
pub fn model(model: &Model) -> Value {
    json!({"id": model.id.0, "name": model.name})
}

/// A model as `hs` prints it.
pub fn our_model(model: &Model) -> Value {
    json!({
        "id": model.id.0,
        "name": model.name,
        "created": model.created,
        "updated": model.updated,
        "versions": model.versions,
        "last_version": model.last.map(|(number, _)| number.0),
        "last_status": model.last.map(|(_, status)| status.word()),
    })
}

/// An application. Its status is the word for "nothing is under way": it is kept here, and run elsewhere.
pub fn application(application: &Application) -> Value {
    let stage = |stage: &Vec<crate::catalog::applications::Variant>| {
        let variants = stage.iter().map(|variant| {
            json!({
                "modelVersionId": variant.version.0,
                "modelVersion": format!("{}:{}", variant.model, variant.number),
                "weight": variant.weight,
                "servableName": null,
                "deploymentConfigurationName": null,
            })
        });
        json!({"modelVariants": variants.collect::<Vec<_>>(), "signature": null})
    };
    json!({
        "id": application.id,
        "name": application.name,
        "status": "Ready",
        "message": "kept in the catalog; this service does not run applications",
        "created": application.created,
        "signature": null,
        "executionGraph": {"stages": application.stages.iter().map(stage).collect::<Vec<_>>()},
        "kafkaStreaming": [],
        "metadata": {},
    })
}

/// A line of a build's log as `hs` and the pages read it.
pub fn our_line(line: &LogLine) -> Value {
    json!({"index": line.index, "at": line.at, "level": line.level.word(), "text": line.text})
}

/// A line of a build's log as text.
pub fn line(line: &LogLine) -> String {
    match line.level {
        Level::Info => line.text.clone(),
        level => format!("{}: {}", level.word(), line.text),
    }
}
