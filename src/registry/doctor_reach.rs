//! The first questions of an examination, none of which writes: who answers, who we are to him, what may be read, what he says of things that are not there.

use reqwest::header::{DATE, HeaderMap, HeaderName};
use reqwest::{Method, StatusCode};

use super::address::origin_text;
use super::challenge::Challenge;
use super::credentials::Credential;
use super::doctor::Doctor;
use super::doctor_ask::{pause, refusal};
use super::doctor_findings::{Finding, Identity, Login, Pull, Reached, Referrers, Scheme};
use super::doctor_obstacle::Obstacle;
use super::error::{Action, Operation, RegistryError};
use super::journal::now_s;
use super::wire::Payload;
use crate::oci::digest::Digest;

/// The older specification's header (Docker Registry HTTP API V2, "API Version Check").
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Clocks that are further apart are told: tokens count as not yet valid, or as ended.
const CLOCK_SECONDS_MAX: u64 = 60;

/// The longest text of a header that is shown.
const SHOWN_CHARS_MAX: usize = 60;

impl Doctor {
    /// Asks `/v2/`, as nobody: the answer says how the registry wants to be asked.
    pub(super) async fn reach(&mut self) -> Result<(), RegistryError> {
        let host = self.reader.host.clone();
        let action = Action { operation: Operation::AskApi, registry: host.registry.clone(), object: host.registry.clone() };
        let address = &host.wire.address;
        let malformed = |_| RegistryError::Protocol { action: action.clone(), problem: "it makes no URL".to_owned() };
        let url = address.base.join("v2/").map_err(malformed)?;
        let mut tries = host.tries();
        let response = loop {
            match host.wire.exchange(&action, &Method::GET, &url, HeaderMap::new(), &Payload::Empty).await {
                Ok(response) => break response,
                Err(error) => pause(&mut tries, error).await?,
            }
        };
        let headers = response.headers();
        let text = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.chars().take(SHOWN_CHARS_MAX).collect::<String>());
        self.findings.push(Finding::Reached(Reached {
            origin: origin_text(&address.base),
            encrypted: address.base.scheme() == "https",
            loopback: address.is_loopback(),
            status: response.status(),
            api_version: text(&API_VERSION).filter(|version| !version.is_empty()),
        }));
        if let Some(ahead_s) = clock_ahead_s(headers).filter(|ahead_s| ahead_s.unsigned_abs() > CLOCK_SECONDS_MAX) {
            self.findings.push(Finding::Clock { ahead_s });
        }
        self.scheme = match Challenge::of(headers) {
            _ if response.status() != StatusCode::UNAUTHORIZED => Scheme::Nothing,
            Some(Challenge::Basic) => Scheme::Basic,
            Some(Challenge::Bearer { realm, .. }) => {
                let realm = address.follow(&url, &realm).map_err(|source| RegistryError::Astray { action: action.clone(), source })?;
                Scheme::Bearer { realm: origin_text(&realm) }
            }
            None => Scheme::Unknown,
        };
        Ok(())
    }

    /// Looks up who we are. Credentials that cannot be read stop every push, so they stop this.
    pub(super) async fn login(&mut self) -> Result<(), RegistryError> {
        let action = self.reader.action(Operation::AskApi, "");
        let found = self.reader.host.tokens.identity(&self.reader.repository).await;
        let (credential, origin) = found.map_err(|source| RegistryError::Credentials { action, source: Box::new(source) })?;
        let identity = match credential {
            Credential::Anonymous => Identity::Anonymous,
            Credential::Basic { username, .. } => Identity::User(username),
            Credential::Identity(_) => Identity::Token,
        };
        self.findings.push(Finding::Login(Login { scheme: self.scheme.clone(), identity, origin }));
        Ok(())
    }

    /// Asks for the tags.
    pub(super) async fn pull(&mut self) -> Result<(), RegistryError> {
        let action = self.reader.action(Operation::ListTags, "");
        let pull = match self.ask_for(&self.reader, &action, Method::GET, "tags/list", HeaderMap::new()).await {
            Ok(heard) if heard.status.is_success() => Pull::Granted,
            Ok(heard) if heard.status == StatusCode::NOT_FOUND => Pull::NoRepository,
            Ok(heard) => Pull::Refused(heard.answer()),
            Err(error) => Pull::Refused(refusal(error)?),
        };
        if let (Pull::Refused(answer), true) = (&pull, self.options.read_only) {
            let source = RegistryError::Refused { action, answer: Box::new(answer.clone()) };
            self.obstacle = Some(Obstacle::Unreadable { object: self.object(), source });
        }
        self.findings.push(Finding::Pull(pull));
        Ok(())
    }

    /// Asks for a manifest and a blob that are nowhere.
    pub(super) async fn missing(&mut self) -> Result<(), RegistryError> {
        let nowhere = nowhere();
        let mut statuses = Vec::new();
        for (operation, path) in [(Operation::AskManifest, "manifests"), (Operation::AskBlob, "blobs")] {
            let action = self.reader.action(operation, &nowhere.to_string());
            let asked = self.ask_for(&self.reader, &action, Method::HEAD, &format!("{path}/{nowhere}"), HeaderMap::new()).await;
            statuses.push(match asked {
                Ok(heard) => heard.status,
                Err(error) => refusal(error)?.status,
            });
        }
        self.findings.push(Finding::Missing { manifest: statuses[0], blob: statuses[1] });
        Ok(())
    }

    /// Asks for the referrers of `subject`, after one was put; else of something that is nowhere, which a registry with a list answers with an empty one.
    pub(super) async fn referrers(&mut self, subject: Option<Digest>) -> Result<(), RegistryError> {
        let put = match subject {
            Some(subject) => Some(self.put_referrer(subject).await?),
            None => None,
        };
        let asked = subject.unwrap_or_else(nowhere);
        let action = self.reader.action(Operation::ListReferrers, &asked.to_string());
        let heard = self.ask_for(&self.reader, &action, Method::GET, &format!("referrers/{asked}"), HeaderMap::new()).await?;
        let document: Option<serde_json::Value> = serde_json::from_slice(&heard.body).ok();
        let listed = heard.status.is_success() && document.is_some_and(|document| document["manifests"].is_array());
        self.profile.referrers_api = Some(listed);
        self.findings.push(Finding::Referrers(match put {
            Some(Err(answer)) => Referrers::Refused(answer),
            _ if !listed => Referrers::FallbackTag,
            Some(Ok(named)) => Referrers::Api { subject_named: Some(named) },
            None => Referrers::Api { subject_named: None },
        }));
        Ok(())
    }
}

/// A digest of bytes that nobody has.
fn nowhere() -> Digest {
    Digest::of(b"lamina doctor: this was never pushed")
}

/// How far the registry's clock is ahead of ours.
fn clock_ahead_s(headers: &HeaderMap) -> Option<i64> {
    let date = jiff::fmt::rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok()?;
    date.timestamp().as_second().checked_sub(i64::try_from(now_s()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_s_clock_is_read_from_its_date() {
        let of = |text: &str| clock_ahead_s(&HeaderMap::from_iter([(DATE, text.parse().unwrap())]));
        assert!(of("Thu, 01 Jan 1970 00:00:00 GMT").unwrap() < -1_000_000_000);
        assert_eq!(of("yesterday"), None);
        assert_eq!(clock_ahead_s(&HeaderMap::new()), None);
    }
}
