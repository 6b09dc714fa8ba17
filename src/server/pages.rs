//! The pages: routes and what they look up. What they show is `page_views.rs`; how, `templates/`.
//!
//! Every page is whole without JavaScript. With it, a page listens to `/api/v2/events` and fetches itself again. Styles and script are in
//! the binary; nothing comes from another host, and the policy header holds that.

use std::sync::LazyLock;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::app::Service;
use super::page_views::{ApplicationsPage, ChosenModel, ModelsPage, RefusalPage, VersionPage};
use super::refusal::{Refusal, RequestError, number};
use crate::catalog::record::{Model, VersionNumber};
use crate::catalog::versions::Page;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;

const CSS: &str = include_str!("../../assets/lamina.css");
const JS: &str = include_str!("../../assets/lamina.js");
const ICON: &str = include_str!("../../assets/lamina.svg");
/// Names that change with the content, so that browsers may keep them for ever.
pub(super) static CSS_PATH: LazyLock<String> = LazyLock::new(|| format!("/assets/{}/lamina.css", Digest::of(CSS.as_bytes()).short()));
pub(super) static JS_PATH: LazyLock<String> = LazyLock::new(|| format!("/assets/{}/lamina.js", Digest::of(JS.as_bytes()).short()));

/// Versions on a model's page; older ones are a link away.
const VERSIONS_SHOWN: u32 = 100;

/// The headers of every page: no script, style or frame of anybody else.
const POLICY: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The routes.
pub fn router() -> Router<Service> {
    Router::new()
        .route("/", get(models))
        .route("/models", get(models))
        .route("/models/{name}", get(model))
        .route("/models/{name}/{version}", get(version))
        .route("/applications", get(applications))
        .route("/assets/lamina.svg", get(async || asset("image/svg+xml", ICON)))
        .route(&CSS_PATH, get(async || asset("text/css; charset=utf-8", CSS)))
        .route(&JS_PATH, get(async || asset("text/javascript; charset=utf-8", JS)))
}

fn asset(content_type: &'static str, body: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], body).into_response()
}

/// What nothing else answers.
pub async fn not_found(uri: Uri) -> PageRefusal {
    RequestError::NoSuchPath(uri.path().chars().take(300).collect()).into()
}

/// A refusal as a page.
#[derive(Debug)]
pub struct PageRefusal(Refusal);

impl<E: Failure> From<E> for PageRefusal {
    fn from(error: E) -> PageRefusal {
        PageRefusal(error.into())
    }
}

impl IntoResponse for PageRefusal {
    fn into_response(self) -> Response {
        let title = match self.0.fault {
            Fault::Missing => "There is no such thing",
            Fault::Ours => "Something went wrong here",
            _ => "This cannot be shown",
        };
        let status = self.0.status();
        (status, page(&RefusalPage::new(title, self.0.message, self.0.remedy))).into_response()
    }
}

fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (POLICY, Html(text)).into_response(),
        // Our templates call nothing that fails.
        Err(error) => {
            tracing::error!(error = error.to_string(), "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Deserialize)]
struct Shown {
    before: Option<String>,
    after: Option<String>,
}

async fn models(State(service): State<Service>, Query(shown): Query<Shown>, headers: HeaderMap) -> Result<Response, PageRefusal> {
    let (models, more) = recent(&service).await?;
    let first = models.first().map(|model| model.name.clone());
    show(&service, models, more, first, &shown, &headers).await
}

async fn model(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(shown): Query<Shown>,
    headers: HeaderMap,
) -> Result<Response, PageRefusal> {
    let name = service.catalog.model(&name).await?.name;
    let (models, more) = recent(&service).await?;
    show(&service, models, more, Some(name), &shown, &headers).await
}

/// The models, most recently uploaded first, and whether there are more.
async fn recent(service: &Service) -> Result<(Vec<Model>, bool), PageRefusal> {
    let found = service.catalog.recent_models(Page::first()).await?;
    Ok((found.rows, found.next.is_some()))
}

async fn show(
    service: &Service,
    models: Vec<Model>,
    more: bool,
    chosen: Option<String>,
    shown: &Shown,
    headers: &HeaderMap,
) -> Result<Response, PageRefusal> {
    let chosen = match chosen {
        None => None,
        Some(name) => {
            let after = shown.before.as_deref().map(|value| number("before", value)).transpose()?;
            let found = service.catalog.versions(&name, Page { after, rows: VERSIONS_SHOWN }).await?;
            Some(ChosenModel::new(&name, &found))
        }
    };
    Ok(page(&ModelsPage::new(&models, more, chosen, headers)))
}

async fn version(State(service): State<Service>, Path((name, version)): Path<(String, String)>) -> Result<Response, PageRefusal> {
    let version = service.catalog.version_of(&name, VersionNumber(number("the version", &version)?)).await?;
    let lines = service.catalog.logs_from(version.build, 0).await?;
    Ok(page(&VersionPage::new(&version, &lines)))
}

async fn applications(State(service): State<Service>, Query(shown): Query<Shown>, headers: HeaderMap) -> Result<Response, PageRefusal> {
    let after = shown.after.as_deref().map(|value| number("after", value)).transpose()?;
    let found = service.catalog.applications(Page { after, rows: VERSIONS_SHOWN }).await?;
    Ok(page(&ApplicationsPage::new(&found, &headers)))
}
