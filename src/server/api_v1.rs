//! `/api/v1`: the seed era's API, for its clients (`hs` 0.0.10 … 0.1.x).
//!
//! What those clients ask for: uploads, builds to poll, and the lists of models and versions. Uploads are in `upload.rs`; the words are in
//! `view_v1.rs`.

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;

use super::app::{Service, Settings};
use super::paging::Listing;
use super::refusal::{RefusalV1, RequestError, number};
use super::{upload_v1, view_v1};
use crate::catalog::record::{BuildId, Model, ModelId};
use crate::catalog::versions::Page;

/// The routes, below `/api/v1`.
pub fn router(settings: &Settings) -> Router<Service> {
    let upload = post(upload_v1::upload).layer(DefaultBodyLimit::max(super::upload::body_bytes_max(settings)));
    Router::new()
        .route("/model", get(models))
        .route("/model/{id}", get(model).delete(remove_model))
        .route("/model/upload", upload)
        .route("/model/version", get(versions))
        .route("/model/build/{id}", get(build))
        .route("/model/builds/{model_id}", get(builds))
        .fallback(nothing)
}

async fn nothing(uri: Uri) -> RefusalV1 {
    RequestError::NoSuchPath(format!("/api/v1{}", uri.path().chars().take(300).collect::<String>())).into()
}

async fn models(State(service): State<Service>, Query(listing): Query<Listing>) -> Result<Response, RefusalV1> {
    let page = listing.page()?;
    let last = service.catalog.last_versions(false, page).await?;
    // No more rows than the first list has, so that the three speak of the same models.
    let page = Page { rows: u32::try_from(last.rows.len()).unwrap_or(page.rows).max(1), ..page };
    let finished = service.catalog.last_versions(true, page).await?.rows;
    let models = view_v1::by_id(service.catalog.models(page).await?.rows);
    let views = last.rows.iter().filter_map(|version| {
        let finished = finished.iter().find(|finished| finished.model_id == version.model_id);
        Some(view_v1::aggregated_model(models.get(&version.model_id)?, version, finished))
    });
    Ok(listing.answer("/api/v1/model", views.collect(), last.next))
}

async fn model(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<Value>, RefusalV1> {
    let model = service.catalog.model_by_id(ModelId(number("the model's id", &id)?)).await?;
    aggregated(&service, &model).await.map(Json)
}

async fn aggregated(service: &Service, model: &Model) -> Result<Value, RefusalV1> {
    let one = Page { after: Some(model.id.0 - 1), rows: 1 };
    let last = service.catalog.last_versions(false, one).await?.rows;
    let finished = service.catalog.last_versions(true, one).await?.rows;
    let of_it = |versions: Vec<crate::catalog::record::Version>| versions.into_iter().find(|version| version.model_id == model.id);
    // A model is made and removed with its versions; where it has none it has just gone.
    let gone = || RequestError::NoSuchPath(format!("/api/v1/model/{}", model.id));
    let last = of_it(last).ok_or_else(gone)?;
    Ok(view_v1::aggregated_model(model, &last, of_it(finished).as_ref()))
}

async fn remove_model(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<Value>, RefusalV1> {
    let model = service.catalog.model_by_id(ModelId(number("the model's id", &id)?)).await?;
    let view = aggregated(&service, &model).await?;
    service.catalog.remove_model(model.id).await?;
    Ok(Json(view["model"].clone()))
}

async fn versions(State(service): State<Service>, Query(listing): Query<Listing>) -> Result<Response, RefusalV1> {
    let found = service.catalog.all_versions(listing.page()?).await?;
    let mut views = Vec::with_capacity(found.rows.len());
    let mut models = std::collections::BTreeMap::new();
    for version in &found.rows {
        if let std::collections::btree_map::Entry::Vacant(entry) = models.entry(version.model_id) {
            let Ok(model) = service.catalog.model_by_id(version.model_id).await else { continue };
            entry.insert(model);
        }
        views.extend(models.get(&version.model_id).and_then(|model| view_v1::aggregated_version(model, version)));
    }
    Ok(listing.answer("/api/v1/model/version", views, found.next))
}

async fn build(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<Value>, RefusalV1> {
    let version = service.catalog.version_of_build(BuildId(number("the build's id", &id)?)).await?;
    let model = service.catalog.model_by_id(version.model_id).await?;
    Ok(Json(view_v1::build(&model, &version)))
}

async fn builds(State(service): State<Service>, Path(id): Path<String>, Query(listing): Query<Listing>) -> Result<Response, RefusalV1> {
    let model = service.catalog.model_by_id(ModelId(number("the model's id", &id)?)).await?;
    let found = service.catalog.versions(&model.name, listing.page()?).await?;
    let views = found.rows.iter().map(|version| view_v1::aggregated_build(&model, version)).collect();
    Ok(listing.answer(&format!("/api/v1/model/builds/{}", model.id), views, found.next))
}
