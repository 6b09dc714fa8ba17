//! `POST /api/v1/model/upload`: the form of the seed era's clients.
//!
//! Text parts `model_name`, `model_type`, `model_description`, the raw bytes of the contract in `model_contract`, and the archive in
//! `payload`; all but the last may be missing. The archive of these clients has neither `serving.yaml` nor the contract. The answer
//! is the build, at once; nobody waits for it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::Value;

use super::app::Service;
use super::refusal::RefusalV1;
use super::upload::{self, Files, Known};
use super::upload_accept::{Accepted, accept};
use super::view_v1;
use crate::contract::gate::Gate;
use crate::contract::wire::CONTRACT_BYTES_MAX;
use crate::model::fit::Policy;
use crate::model::intake::Given;

const CONTRACT: &str = "model_contract";
const PARTS: [Known; 4] = [
    Known { name: "model_name", bytes_max: 4 << 10 },
    Known { name: "model_type", bytes_max: 4 << 10 },
    Known { name: "model_description", bytes_max: 64 << 10 },
    Known { name: CONTRACT, bytes_max: CONTRACT_BYTES_MAX },
];

/// Takes an upload.
pub async fn upload(State(service): State<Service>, request: Request) -> Result<Json<Value>, RefusalV1> {
    let form = upload::receive(&service, request, &PARTS, Files::Archive).await?;
    let given = Given {
        name: form.text("model_name")?,
        model_type: form.text("model_type")?,
        description: form.text("model_description")?,
        // The extension says that it is binary.
        contract: form.part(CONTRACT).map(|part| (format!("{CONTRACT}.protobin"), part.bytes.clone())),
        ..Given::default()
    };
    let accepted = Accepted { metadata: BTreeMap::new(), notes: Vec::new(), gate: Gate::None, fit: Policy::default(), upload_key: None };
    let version = accept(&service, form, given, accepted).await.map_err(RefusalV1)?;
    let model = service.catalog.model_by_id(version.model_id).await?;
    Ok(Json(view_v1::build(&model, &version)))
}
