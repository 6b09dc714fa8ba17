//! What a client is told when something cannot be done, in the words of its API.
//!
//! Any [`Failure`] becomes a [`Refusal`], and from that the two APIs and the pages make their answers: the status follows from whose the
//! failure is, never from where it happened. What is our own fault is logged here with its causes, once, and told without them:
//! paths and statements are no business of a stranger.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::fault::{Failure, Fault, one_line};

/// Why a request is not answered as it was asked.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Whose it is.
    pub fault: Fault,
    /// What happened.
    pub message: String,
    /// The way out, where there is one.
    pub remedy: Option<String>,
    /// What programs read beside that.
    pub document: Option<Value>,
}

impl<E: Failure> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        let (fault, remedy, document) = (error.fault(), error.remedy(), error.document());
        if fault == Fault::Ours {
            tracing::error!(error = one_line(&error), "request failed");
            return Refusal { fault, message: error.to_string(), remedy, document };
        }
        Refusal { fault, message: one_line(&error), remedy, document }
    }
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.fault.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What happened and the way out, as one text.
    pub fn text(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}; {remedy}", self.message),
            None => self.message.clone(),
        }
    }
}

/// A refusal in the form of `/api/v1`: the seed era's, but with a status that says whose it is (there, all were 500).
#[derive(Debug)]
pub struct RefusalV1(pub Refusal);

/// A refusal in the form of `/api/v2`.
#[derive(Debug)]
pub struct RefusalV2(pub Refusal);

impl<E: Failure> From<E> for RefusalV1 {
    fn from(error: E) -> RefusalV1 {
        RefusalV1(error.into())
    }
}

impl<E: Failure> From<E> for RefusalV2 {
    fn from(error: E) -> RefusalV2 {
        RefusalV2(error.into())
    }
}

impl IntoResponse for RefusalV1 {
    fn into_response(self) -> Response {
        let body = match self.0.fault {
            Fault::Ours => json!({"error": "Internal", "information": {"exception": self.0.message}}),
            _ => json!({"error": "Client", "information": {"message": self.0.text()}}),
        };
        (self.0.status(), Json(body)).into_response()
    }
}

impl IntoResponse for RefusalV2 {
    fn into_response(self) -> Response {
        let error = match self.0.fault {
            Fault::Ours => "InternalException",
            Fault::Missing => "NotFound",
            Fault::Conflict => "Conflict",
            Fault::TooLarge => "TooLarge",
            Fault::Policy => "Refused",
            Fault::Remote | Fault::RemoteTransient => "RemoteFailed",
            Fault::Usage | Fault::Invalid => "InvalidRequest",
        };
        let mut body = json!({"error": error, "message": self.0.message});
        if let Some(remedy) = &self.0.remedy {
            body["remedy"] = json!(remedy);
        }
        if let Some(document) = &self.0.document {
            body["document"] = document.clone();
        }
        (self.0.status(), Json(body)).into_response()
    }
}

/// A request that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A path that nothing answers.
    #[error("there is nothing at {0}")]
    NoSuchPath(String),
    /// A parameter is not what it has to be.
    #[error("{name} is {value:?}; {expected} is expected")]
    Parameter {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// A JSON document is not what it has to be.
    #[error("{what} is not what it has to be")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Something that the ancestor did and this service does not.
    #[error("{what} is not possible here: {reason}")]
    NotPossible {
        /// What was asked.
        what: &'static str,
        /// Why not.
        reason: &'static str,
        /// The way out.
        remedy: &'static str,
    },
    /// A request from another site's page, in the user's browser.
    #[error("a page of another site may not change anything here")]
    CrossSite,
}

impl Failure for RequestError {
    fn fault(&self) -> Fault {
        match self {
            RequestError::NoSuchPath(_) => Fault::Missing,
            RequestError::CrossSite => Fault::Policy,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            RequestError::NotPossible { remedy, .. } => Some((*remedy).to_owned()),
            _ => None,
        }
    }
}

/// Reads a number out of a path or a query.
pub fn number(name: &'static str, value: &str) -> Result<i64, RequestError> {
    let parameter = || RequestError::Parameter { name, value: value.chars().take(100).collect(), expected: "a number" };
    value.parse().map_err(|_| parameter())
}
