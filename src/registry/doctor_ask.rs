//! Asking as a doctor asks: any answer is an answer.
//!
//! Where the client's verbs know which statuses are good, an examination wants to see whatever comes: its status, headers, and as much of its body as an error may
//! have. Logins, redirects and the guard of addresses are the client's.

use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::answer::{Answer, BODY_BYTES_MAX};
use super::client::{Call, Endpoint};
use super::doctor::Doctor;
use super::doctor_findings::Reply;
use super::error::{Action, RegistryError};
use super::retry::Tries;
use super::tokens::{Rights, Scope};
use super::wire::{Payload, Wire};

/// An answer.
pub(super) struct Heard {
    pub(super) action: Action,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body, up to what an error may have.
    pub(super) body: Vec<u8>,
    /// Where it came from, after redirects.
    pub(super) url: Url,
}

impl Heard {
    /// Reads an answer.
    pub(super) async fn read(wire: &Wire, action: &Action, mut response: Response, url: Url) -> Result<Heard, RegistryError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while body.len() < BODY_BYTES_MAX {
            let Some(piece) = wire.next_piece(action, &mut response).await? else { break };
            body.extend_from_slice(&piece[..piece.len().min(BODY_BYTES_MAX - body.len())]);
        }
        Ok(Heard { action: action.clone(), status, headers, body, url })
    }

    /// Whether the body may go on.
    pub(super) fn is_cut(&self) -> bool {
        self.body.len() == BODY_BYTES_MAX
    }

    /// In the registry's words.
    pub(super) fn answer(&self) -> Answer {
        Answer::new(self.status, &self.headers, &self.body)
    }

    /// As a failure.
    pub(super) fn refused(&self) -> RegistryError {
        RegistryError::Refused { action: self.action.clone(), answer: Box::new(self.answer()) }
    }

    /// Whether it was done.
    pub(super) fn reply(&self) -> Reply {
        if self.status.is_success() { Reply::Taken } else { Reply::Refused(self.answer()) }
    }
}

impl Doctor {
    /// Asks; again, while the answer is one that often passes.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        action: &Action,
        method: Method,
        url: Url,
        headers: HeaderMap,
        payload: Payload<'_>,
    ) -> Result<Heard, RegistryError> {
        if method != Method::DELETE {
            let scopes = endpoint.scopes();
            return self.ask_patiently(endpoint, &Call { action, method, url, headers, payload, scopes: &scopes }).await;
        }
        // Some registries have a right of its own for that, and some token servers do not know it.
        let mut call = Call {
            action,
            method,
            url,
            headers,
            payload,
            scopes: &[Scope { repository: endpoint.repository.clone(), rights: Rights::Delete }],
        };
        match self.ask_patiently(endpoint, &call).await {
            Err(RegistryError::NoToken { .. }) => {
                let scopes = endpoint.scopes();
                call.scopes = &scopes;
                self.ask_patiently(endpoint, &call).await
            }
            answered => answered,
        }
    }

    /// Asks for whatever `call` says; again, while the answer is one that often passes.
    pub(super) async fn ask_patiently(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Heard, RegistryError> {
        let mut tries = self.tries();
        loop {
            let error = match self.ask_once(endpoint, call).await {
                Ok(heard) if !heard.answer().is_transient() => return Ok(heard),
                Ok(heard) => match tries.pause_after(&heard.refused()) {
                    Some(pause) => {
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    None => return Ok(heard),
                },
                Err(error) => error,
            };
            pause(&mut tries, error).await?;
        }
    }

    async fn ask_once(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Heard, RegistryError> {
        let answered = endpoint.host.send(call).await?;
        Heard::read(&endpoint.host.wire, call.action, answered.response, answered.url).await
    }

    /// Asks without a body, for something below the repository.
    pub(super) async fn ask_for(
        &self,
        endpoint: &Endpoint,
        action: &Action,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Heard, RegistryError> {
        self.ask(endpoint, action, method, endpoint.url(path)?, headers, Payload::Empty).await
    }
}

/// Waits before the next try, or gives `error` back where there is none.
pub(super) async fn pause(tries: &mut Tries, error: RegistryError) -> Result<(), RegistryError> {
    match tries.pause_after(&error) {
        Some(pause) => tokio::time::sleep(pause).await,
        None => return Err(error),
    }
    Ok(())
}

/// What a failure says of a registry that refused, and the failure itself where it was none of that.
pub(super) fn refusal(error: RegistryError) -> Result<Answer, RegistryError> {
    match error.answer() {
        Some(answer) if !answer.is_transient() => Ok(answer.clone()),
        _ => Err(error),
    }
}
