//! Versions in the words of `/api/v1`: the seed era's JSON.
//!
//! Absent values are left out, times are without a zone (UTC here), a contract is its protobuf text, and a version that has no image yet is a
//! build and no version. What that era had and we have not (`logsUrl`, `script`) is left out as well.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Map, Value, json};

use crate::catalog::record::{Model, ModelId, Status, Version};
use crate::contract::{print, wire};
use crate::oci::reference::Reference;

fn time(at: Timestamp) -> String {
    Offset::UTC.to_datetime(at).strftime("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

/// The contract's text; empty where there is none, as the ancestor had it.
fn contract_text(version: &Version) -> String {
    let Some(kept) = &version.contract else { return String::new() };
    let dialect = kept.dialect.parse().ok();
    wire::decode(&kept.protobin, dialect).map(|(contract, _)| print::print(&contract)).unwrap_or_default()
}

fn object(members: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let present = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

/// A model, described by one of its versions.
pub fn model(model: &Model, version: &Version) -> Value {
    object([
        ("id", Some(json!(model.id.0))),
        ("name", Some(json!(model.name))),
        ("modelType", Some(json!(version.model_type.as_deref().unwrap_or("unknown:unknown")))),
        ("description", version.description.as_ref().map(|text| json!(text))),
        ("modelContract", Some(json!(contract_text(version)))),
        ("created", Some(json!(time(model.created)))),
        ("updated", Some(json!(time(model.updated)))),
    ])
}

/// A version; `None` as long as it has no image.
pub fn model_version(of: &Model, version: &Version) -> Option<Value> {
    let reference: Reference = version.image.as_ref()?.parse().ok()?;
    let name = format!("{}/{}", reference.registry, reference.repository);
    Some(object([
        ("id", Some(json!(version.id.0))),
        ("imageName", Some(json!(name))),
        ("imageTag", Some(json!(reference.tag.unwrap_or_else(|| version.number.to_string())))),
        ("imageSHA256", version.digest.map(|digest| json!(digest.hex()))),
        ("created", Some(json!(time(version.finished.unwrap_or(version.created))))),
        ("modelName", Some(json!(version.model))),
        ("modelVersion", Some(json!(version.number.0))),
        ("modelType", Some(json!(version.model_type.as_deref().unwrap_or("unknown:unknown")))),
        ("model", Some(model(of, version))),
        ("modelContract", Some(json!(contract_text(version)))),
    ]))
}

/// A version with the applications that use it; `None` as long as it has no image.
pub fn aggregated_version(of: &Model, version: &Version) -> Option<Value> {
    let mut view = model_version(of, version)?;
    view["applications"] = version.applications.iter().map(|name| json!({"name": name})).collect();
    Some(view)
}

/// A build.
pub fn build(of: &Model, version: &Version) -> Value {
    build_with(of, version, model_version(of, version))
}

/// A build whose version has its applications.
pub fn aggregated_build(of: &Model, version: &Version) -> Value {
    build_with(of, version, aggregated_version(of, version))
}

fn build_with(of: &Model, version: &Version, made: Option<Value>) -> Value {
    let reason = version.error.as_ref().map(|error| match &error.remedy {
        Some(remedy) => format!("{}: {}; {remedy}", error.stage, error.cause),
        None => format!("{}: {}", error.stage, error.cause),
    });
    object([
        ("id", Some(json!(version.build.0))),
        ("model", Some(model(of, version))),
        ("version", Some(json!(version.number.0))),
        ("started", Some(json!(time(version.started.unwrap_or(version.created))))),
        ("finished", version.finished.map(|at| json!(time(at)))),
        ("status", Some(json!(version.status.word()))),
        ("statusText", reason.map(|text| json!(text))),
        ("modelVersion", made),
    ])
}

/// A model with its last build and its last finished version.
pub fn aggregated_model(of: &Model, last: &Version, finished: Option<&Version>) -> Value {
    object([
        ("model", Some(model(of, last))),
        ("lastModelBuild", Some(build(of, last))),
        ("lastModelVersion", finished.and_then(|version| model_version(of, version))),
        // The seed era gave this where there was no version yet; an upload there made the model and its next version at once, as here.
        ("nextVersion", (finished.is_none() && last.status == Status::Failed).then(|| json!(last.number.0 + 1))),
    ])
}

/// Models by identity, for lists of versions.
pub fn by_id(models: Vec<Model>) -> BTreeMap<ModelId, Model> {
    models.into_iter().map(|model| (model.id, model)).collect()
}
