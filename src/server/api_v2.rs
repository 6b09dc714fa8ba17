//! `/api/v2`: the last ancestor's API, for its clients and, with `?view=lamina`, for ours.
//!
//! Models, versions, logs, events, applications. Servables, monitoring and deployment configurations are not here: this service builds images
//! and runs none. Uploads are in `upload.rs`; the words are in `view_v2.rs`.

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::{Service, Settings};
use super::paging::Listing;
use super::refusal::{RefusalV2, RequestError, number};
use super::{events, graph, upload_tree, upload_v2, view_v2};
use crate::catalog::record::{ModelId, VersionId, VersionNumber};

/// The largest JSON document of a request: an application's graph of the most stages is far below it.
const JSON_BYTES_MAX: usize = 1 << 20;

/// The routes, below `/api/v2`.
pub fn router(settings: &Settings) -> Router<Service> {
    let large = || DefaultBodyLimit::max(super::upload::body_bytes_max(settings));
    Router::new()
        .route("/model", get(models))
        .route("/model/{id}", get(model).delete(remove_model))
        .route("/model/upload", post(upload_v2::upload).layer(large()))
        .route("/model/upload/tree", post(upload_tree::upload).layer(large()))
        .route("/model/upload/contents", post(upload_tree::contents).layer(large()))
        .route("/model/version", get(versions))
        .route("/model/version/{name}/{version}", get(version_or_logs))
        .route("/events", get(all_events))
        .route("/application", get(applications).post(create_application))
        .route("/application/{name}", get(application).delete(remove_application))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .fallback(nothing)
}

async fn nothing(uri: Uri) -> RefusalV2 {
    RequestError::NoSuchPath(format!("/api/v2{}", uri.path().chars().take(300).collect::<String>())).into()
}

/// What this service is.
pub async fn build_info() -> Json<Value> {
    Json(json!({"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")}))
}

async fn models(State(service): State<Service>, Query(listing): Query<Listing>) -> Result<Response, RefusalV2> {
    let found = service.catalog.models(listing.page()?).await?;
    let view = if listing.is_ours() { view_v2::our_model } else { view_v2::model };
    Ok(listing.answer("/api/v2/model", found.rows.iter().map(view).collect(), found.next))
}

async fn model(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<Value>, RefusalV2> {
    let model = service.catalog.model_by_id(ModelId(number("the model's id", &id)?)).await?;
    Ok(Json(view_v2::model(&model)))
}

async fn remove_model(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<Value>, RefusalV2> {
    let model = service.catalog.remove_model(ModelId(number("the model's id", &id)?)).await?;
    Ok(Json(view_v2::model(&model)))
}

async fn versions(State(service): State<Service>, Query(listing): Query<Listing>) -> Result<Response, RefusalV2> {
    let page = listing.page()?;
    let found = match &listing.model {
        Some(model) => service.catalog.versions(&service.catalog.model(model).await?.name, page).await?,
        None => service.catalog.all_versions(page).await?,
    };
    let view = if listing.is_ours() { view_v2::ours } else { view_v2::version };
    Ok(listing.answer("/api/v2/model/version", found.rows.iter().map(view).collect(), found.next))
}

#[derive(Deserialize)]
struct LogQuery {
    view: Option<String>,
    from: Option<String>,
}

/// `/model/version/{name}/{version}` and `/model/version/{id}/logs` are one pattern to a router. No version is called `logs`.
async fn version_or_logs(
    State(service): State<Service>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
    headers: HeaderMap,
) -> Result<Response, RefusalV2> {
    let ours = query.view.as_deref() == Some("lamina");
    if version == "logs" {
        let version = service.catalog.version(VersionId(number("the version's id", &name)?)).await?;
        // The id of the last event that a client had: the index of its line.
        let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let from = match (seen, &query.from) {
            (Some(seen), _) => number("Last-Event-ID", seen)?.saturating_add(1),
            (None, Some(from)) => number("from", from)?,
            (None, None) => 0,
        };
        return Ok(events::log(&service, version, from, ours).into_response());
    }
    let version = service.catalog.version_of(&name, VersionNumber(number("the version", &version)?)).await?;
    Ok(Json(if ours { view_v2::ours(&version) } else { view_v2::version(&version) }).into_response())
}

async fn all_events(State(service): State<Service>) -> Response {
    events::all(&service).into_response()
}

async fn applications(State(service): State<Service>, Query(listing): Query<Listing>) -> Result<Response, RefusalV2> {
    let found = service.catalog.applications(listing.page()?).await?;
    Ok(listing.answer("/api/v2/application", found.rows.iter().map(view_v2::application).collect(), found.next))
}

async fn application(State(service): State<Service>, Path(name): Path<String>) -> Result<Json<Value>, RefusalV2> {
    Ok(Json(view_v2::application(&service.catalog.application(&name).await?)))
}

async fn create_application(State(service): State<Service>, body: String) -> Result<(StatusCode, Json<Value>), RefusalV2> {
    let new = graph::read(&service.catalog, body.as_bytes()).await?;
    let application = service.catalog.create_application(new).await?;
    Ok((StatusCode::OK, Json(view_v2::application(&application))))
}

async fn remove_application(State(service): State<Service>, Path(name): Path<String>) -> Result<Json<Value>, RefusalV2> {
    Ok(Json(view_v2::application(&service.catalog.remove_application(&name).await?)))
}
