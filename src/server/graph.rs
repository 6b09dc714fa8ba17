//! The JSON of an application to be -> the catalog's value.
//!
//! The form is the last ancestor's: stages of variants. A variant names its version by `modelVersionId` or, which people can write, by
//! `modelVersion: "name:number"`. What that form has and this service does not do (Kafka streams, deployment configurations) is refused
//! rather than forgotten.

use serde::Deserialize;
use serde_json::Value;

use super::refusal::{Refusal, RequestError};
use crate::catalog::applications::NewApplication;
use crate::catalog::catalog::Catalog;
use crate::catalog::record::{VersionId, VersionNumber};
use crate::fault::{Failure, Fault};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApplicationJson {
    name: String,
    execution_graph: GraphJson,
    #[serde(default)]
    kafka_streaming: Vec<Value>,
}

#[derive(Deserialize)]
struct GraphJson {
    stages: Vec<StageJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StageJson {
    model_variants: Vec<VariantJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VariantJson {
    model_version_id: Option<i64>,
    model_version: Option<String>,
    weight: Option<u8>,
    deployment_configuration_name: Option<String>,
}

/// A variant that names no version.
#[derive(Debug, thiserror::Error)]
#[error("{0} names no version")]
struct VariantError(String);

impl Failure for VariantError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        Some("write `modelVersionId`, or `modelVersion` as `name:number`".to_owned())
    }
}

/// Reads an application, and looks up the versions that it names by name.
pub async fn read(catalog: &Catalog, body: &[u8]) -> Result<NewApplication, super::refusal::RefusalV2> {
    let source = |source| RequestError::Json { what: "the application", source };
    let json: ApplicationJson = serde_json::from_slice(body).map_err(source)?;
    let reason = "this service keeps applications and runs none";
    if !json.kafka_streaming.is_empty() {
        let what = "`kafkaStreaming`";
        return Err(RequestError::NotPossible { what, reason, remedy: "leave it out" }.into());
    }
    let mut stages = Vec::with_capacity(json.execution_graph.stages.len());
    for stage in json.execution_graph.stages {
        let mut variants = Vec::with_capacity(stage.model_variants.len());
        for variant in stage.model_variants {
            if variant.deployment_configuration_name.is_some() {
                let what = "`deploymentConfigurationName`";
                return Err(RequestError::NotPossible { what, reason, remedy: "leave it out" }.into());
            }
            let weight = variant.weight.unwrap_or(100);
            variants.push((version(catalog, &variant).await.map_err(super::refusal::RefusalV2)?, weight));
        }
        stages.push(variants);
    }
    Ok(NewApplication { name: json.name, stages })
}

async fn version(catalog: &Catalog, variant: &VariantJson) -> Result<VersionId, Refusal> {
    if let Some(id) = variant.model_version_id {
        return Ok(VersionId(id));
    }
    let Some(text) = &variant.model_version else { return Err(VariantError("a variant".to_owned()).into()) };
    let parts = text.rsplit_once(':').and_then(|(name, number)| Some((name, number.parse().ok()?)));
    let (name, number) = parts.ok_or_else(|| VariantError(format!("`{}`", text.chars().take(200).collect::<String>())))?;
    Ok(catalog.version_of(name, VersionNumber(number)).await?.id)
}
