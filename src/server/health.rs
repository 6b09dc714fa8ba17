//! `/health` and `/metrics`: for the machines that watch.
//!
//! The metrics are Prometheus' text format, made from the catalog when asked: no counters are kept that a restart would lose.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::app::Service;
use super::refusal::Refusal;
use crate::catalog::versions::Counts;

/// The routes.
pub fn router() -> Router<Service> {
    Router::new().route("/health", get(health)).route("/metrics", get(metrics))
}

/// `OK`, as the ancestor answered, where the catalog answers too.
async fn health(State(service): State<Service>) -> Response {
    match service.catalog.counts().await {
        Ok(_) => "OK".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", Refusal::from(error).message)).into_response(),
    }
}

async fn metrics(State(service): State<Service>) -> Response {
    match service.catalog.counts().await {
        Ok(counts) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&counts)).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", Refusal::from(error).message)).into_response(),
    }
}

fn text(counts: &Counts) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: &[(String, u64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    gauge("lamina_build_info", "The version of the service.", &[(version, 1)]);
    gauge("lamina_models", "Models in the catalog.", &[(String::new(), counts.models)]);
    gauge("lamina_applications", "Applications in the catalog.", &[(String::new(), counts.applications)]);
    let builds: Vec<_> = counts.builds.iter().map(|(status, count)| (format!("{{status=\"{status}\"}}"), *count)).collect();
    gauge("lamina_builds", "Builds in the catalog by status; Pending is the length of the queue.", &builds);
    text
}
