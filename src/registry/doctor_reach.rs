//! The first questions of an examination, none of which writes: who answers, what may be read, what is said of things that are not there. Who we are to him is `doctor_login.rs`,
//! and whether he is a registry `doctor_recognise.rs`.

use reqwest::header::{DATE, HeaderMap, HeaderName};
use reqwest::{Method, StatusCode};
use url::Url;

use super::address::origin_text;
use super::challenge::Challenge;
use super::doctor::Doctor;
use super::doctor_ask::{Heard, pause, refusal};
use super::doctor_findings::{Finding, Pull, Reached, Referrers};
use super::doctor_obstacle::Obstacle;
use super::error::{Operation, RegistryError};
use super::journal::now_s;
use super::wire::Payload;
use crate::oci::digest::Digest;

/// The older specification's header (Docker Registry HTTP API V2, "API Version Check").
pub(super) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Clocks that are further apart are told: tokens count as not yet valid, or as ended.
const CLOCK_SECONDS_MAX: u64 = 60;

/// The longest text of a header that is shown.
const SHOWN_CHARS_MAX: usize = 60;

impl Doctor {
    /// Asks `/v2/`, as nobody: the answer says how the registry wants to be asked.
    pub(super) async fn reach(&mut self) -> Result<(), RegistryError> {
        let (host, action, url) = (self.reader.host.clone(), self.api_action(), self.api_url()?);
        let address = &host.wire.address;
        let mut tries = host.tries();
        let heard = loop {
            let answered = host.wire.exchange(&action, &Method::GET, &url, HeaderMap::new(), &Payload::Empty).await;
            let heard = match answered {
                Ok(response) => Heard::read(&host.wire, &action, response, url.clone()).await,
                Err(error) => Err(error),
            };
            match heard {
                Ok(heard) => break heard,
                Err(error) => pause(&mut tries, error).await?,
            }
        };
        let headers = &heard.headers;
        let text = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.chars().take(SHOWN_CHARS_MAX).collect::<String>());
        self.findings.push(Finding::Reached(Reached {
            origin: origin_text(&address.base),
            encrypted: address.base.scheme() == "https",
            loopback: address.is_loopback(),
            status: heard.status,
            api_version: text(&API_VERSION).filter(|version| !version.is_empty()),
        }));
        if let Some(ahead_s) = clock_ahead_s(headers).filter(|ahead_s| ahead_s.unsigned_abs() > CLOCK_SECONDS_MAX) {
            self.findings.push(Finding::Clock { ahead_s });
        }
        self.wants_login = heard.status == StatusCode::UNAUTHORIZED;
        self.challenge = Challenge::of(headers).filter(|_| self.wants_login);
        self.signs.see_api(&heard, self.challenge.as_ref());
        Ok(())
    }

    pub(super) fn api_url(&self) -> Result<Url, RegistryError> {
        let malformed = |_| RegistryError::Protocol { action: self.api_action(), problem: "it makes no URL".to_owned() };
        self.reader.host.wire.address.base.join("v2/").map_err(malformed)
    }

    /// Asks for the tags.
    pub(super) async fn pull(&mut self) -> Result<(), RegistryError> {
        let action = self.reader.action(Operation::ListTags, "");
        let pull = match self.ask_for(&self.reader, &action, Method::GET, "tags/list", HeaderMap::new()).await {
            Ok(heard) => match self.signs.see_list(&heard, "tags") {
                true => Pull::Granted,
                false if heard.status.is_success() => Pull::NoList,
                false if heard.status == StatusCode::NOT_FOUND => Pull::NoRepository,
                false => Pull::Refused(heard.answer()),
            },
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
pub(super) fn nowhere() -> Digest {
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
