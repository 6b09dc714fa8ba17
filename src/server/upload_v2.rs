//! `POST /api/v2/model/upload`: the form of the last ancestor's clients, and of ours.
//!
//! Parts: `payload`, the archive; `metadata`, a JSON object; and, ours, `contract`, a contract file under its own name. All but the archive
//! may be missing, and every member of the metadata too: our client's archive carries `serving.yaml` and the contract. Members that ask
//! for what this service does not do are refused; those that only describe what others would do are noted in the build's log.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, Request, State};
use serde::Deserialize;
use serde_json::Value;

use super::app::Service;
use super::paging::Listing;
use super::refusal::{RefusalV2, RequestError};
use super::signature_json;
use super::upload::{self, Files, Form, Known};
use super::upload_accept::{Accepted, accept};
use super::view_v2;
use crate::catalog::record::NewLine;
use crate::contract::contract::Contract;
use crate::contract::gate::Gate;
use crate::contract::wire::{self, CONTRACT_BYTES_MAX, Dialect};
use crate::model::fit::{self, Policy};
use crate::model::install_command;
use crate::model::intake::Given;

/// The short parts.
pub const PARTS: [Known; 2] = [Known { name: "metadata", bytes_max: 1 << 20 }, Known { name: "contract", bytes_max: CONTRACT_BYTES_MAX }];

/// The metadata. Both spellings of a member are some release's.
#[derive(Debug, Default, Deserialize)]
struct Said {
    name: Option<String>,
    #[serde(alias = "modelType")]
    model_type: Option<String>,
    description: Option<String>,
    runtime: Option<Value>,
    /// 2.x: a contract of one signature.
    contract: Option<Value>,
    /// 3.x.
    #[serde(alias = "modelSignature")]
    signature: Option<Value>,
    #[serde(alias = "installCommand")]
    install_command: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    no_contract: bool,
    /// Ours: which changes of the contract are refused.
    gate: Option<String>,
    /// Ours: which meta graph of a SavedModel is read.
    #[serde(default)]
    tags: Vec<String>,
    /// Ours: whether every finding of the model's fit refuses it.
    #[serde(default)]
    strict: bool,
    /// Ours: which findings are accepted.
    #[serde(default)]
    allow: Vec<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Takes an upload.
pub async fn upload(State(service): State<Service>, Query(listing): Query<Listing>, request: Request) -> Result<Json<Value>, RefusalV2> {
    let form = upload::receive(&service, request, &PARTS, Files::Archive).await?;
    let (given, accepted) = meant(&form)?;
    let version = accept(&service, form, given, accepted).await.map_err(RefusalV2)?;
    Ok(Json(if listing.is_ours() { view_v2::ours(&version) } else { view_v2::version(&version) }))
}

/// What a form says beside its files.
pub fn meant(form: &Form) -> Result<(Given, Accepted), RefusalV2> {
    let said: Said = match form.part("metadata") {
        Some(part) => serde_json::from_slice(&part.bytes).map_err(|source| RequestError::Json { what: "the part `metadata`", source })?,
        None => Said::default(),
    };
    let command = said.install_command.as_deref().filter(|command| !command.trim().is_empty());
    let requirements = command.map(|command| {
        install_command::requirements_of(command).ok_or(RequestError::NotPossible {
            what: "`installCommand`",
            reason: "images are put together without running anything in them",
            remedy: "list the packages in requirements.txt and write `pip install -r requirements.txt`, or take a runtime that has what the command would install",
        })
    });
    let contract = match form.part("contract") {
        Some(part) => Some((part.file_name.clone().unwrap_or_else(|| "contract.protobin".to_owned()), part.bytes.clone())),
        None => contract(&said)?,
    };
    let ignored = said.rest.iter().filter(|(_, value)| !value.is_null());
    let notes = ignored.map(|(name, _)| NewLine::warning(format!("`{name}` in the upload's metadata means nothing here and is ignored")));
    let notes = notes.collect();
    let given = Given {
        name: said.name,
        model_type: said.model_type,
        description: said.description,
        runtime: said.runtime.as_ref().map(runtime).transpose()?,
        contract,
        no_contract: said.no_contract,
        tags: said.tags,
        requirements: requirements.transpose()?,
        ..Given::default()
    };
    let gate: Gate = said.gate.as_deref().map(str::parse).transpose()?.unwrap_or_default();
    let fit = Policy { strict: said.strict, allow: fit::allowances(said.allow.iter().map(String::as_str))? };
    Ok((given, Accepted { metadata: said.metadata.unwrap_or_default(), notes, gate, fit, upload_key: None }))
}

/// `"name:tag"`, or the ancestor's object.
fn runtime(value: &Value) -> Result<String, RequestError> {
    let refuse = || RequestError::Parameter {
        name: "`runtime`",
        value: value.to_string().chars().take(200).collect(),
        expected: "a name, or an object with `name` and `tag`",
    };
    if let Some(name) = value.as_str() {
        return Ok(name.to_owned());
    }
    let mut text = value["name"].as_str().ok_or_else(refuse)?.to_owned();
    for (member, separator) in [("tag", ":"), ("sha256", "@sha256:")] {
        match &value[member] {
            Value::Null => {}
            Value::String(part) if part.is_empty() => {}
            Value::String(part) => {
                text.push_str(separator);
                text.push_str(part.trim_start_matches("sha256:"));
            }
            _ => return Err(refuse()),
        }
    }
    Ok(text)
}

fn contract(said: &Said) -> Result<Option<(String, Vec<u8>)>, RefusalV2> {
    let signatures = match (&said.signature, &said.contract) {
        (Some(signature), _) if !signature.is_null() => vec![signature_json::read(signature)?],
        (_, Some(contract)) if !contract.is_null() => signature_json::read_contract(contract)?,
        _ => return Ok(None),
    };
    // The second dialect says all that these clients can; with several signatures, which none of them sent, the first does.
    let dialect = if signatures.len() == 1 { Dialect::V2 } else { Dialect::V1 };
    let encoded = wire::encode(&Contract { model_name: String::new(), signatures }, dialect)?;
    Ok(Some(("metadata.protobin".to_owned(), encoded.bytes)))
}
