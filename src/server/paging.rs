//! Lists in pages: `?after=…&limit=…` in, a `Link` header to the next page out.
//!
//! The ancestor's lists had no pages, so without parameters a list is as long as pages get, and a client that follows no link sees that
//! much.

use axum::Json;
use axum::http::header::LINK;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::refusal::{RequestError, number};
use crate::catalog::versions::{PAGE_ROWS_MAX, Page};

/// The parameters of a list, as they stand in the query.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Listing {
    /// The row after which to begin.
    pub after: Option<String>,
    /// How many rows.
    pub limit: Option<String>,
    /// Only the versions of this model.
    pub model: Option<String>,
    /// `lamina`: our own words.
    pub view: Option<String>,
}

impl Listing {
    /// The page that is asked for.
    pub fn page(&self) -> Result<Page, RequestError> {
        let after = self.after.as_deref().map(|value| number("after", value)).transpose()?;
        let rows = self.limit.as_deref().map(|value| number("limit", value)).transpose()?;
        let rows = rows.map_or(PAGE_ROWS_MAX, |rows| u32::try_from(rows.clamp(1, i64::from(PAGE_ROWS_MAX))).unwrap_or(PAGE_ROWS_MAX));
        Ok(Page { after, rows })
    }

    /// Whether our own words are asked for.
    pub fn is_ours(&self) -> bool {
        self.view.as_deref() == Some("lamina")
    }

    /// The answer: `items`, and a link to what follows the row `last` where there may be more.
    pub fn answer(&self, path: &str, items: Vec<Value>, last: Option<i64>) -> Response {
        let Some(last) = last else { return Json(items).into_response() };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("after", &last.to_string());
        let named = [("limit", &self.limit), ("model", &self.model), ("view", &self.view)];
        for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            query.append_pair(name, value);
        }
        // Percent-encoded, so always a header value.
        ([(LINK, format!("<{path}?{}>; rel=\"next\"", query.finish()))], Json(items)).into_response()
    }
}
