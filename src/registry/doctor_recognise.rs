//! Whether what answers is a registry at all.
//!
//! The specification gives a registry no word for "I am one": `/v2/` is answered 200, or 401 by who wants to know us first (distribution 1.1, "Determining Support"), and the
//! older one's header is left out by many. A web server with one page for every path answers 200 as well. So an examination gathers [`Signs`] from what it asks for anyway: some
//! only a registry gives, others none can give. Where neither has come, a manifest is asked for whose digest nobody has: a registry has to refuse it, in whatever words.
//!
//! What must stay true: nothing that has given a sign of a registry is called something else, whatever else is wrong with it; and what is busy, or lets us not in, is not judged.

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::challenge::Challenge;
use super::client::Endpoint;
use super::doctor::Doctor;
use super::doctor_ask::Heard;
use super::doctor_findings::Finding;
use super::doctor_obstacle::Obstacle;
use super::doctor_reach::{API_VERSION, nowhere};
use super::error::{Operation, RegistryError};

/// A repository to ask for where none is named.
const NO_REPOSITORY: &str = "lamina-doctor";

/// What was seen that tells registries from others.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// Whether something came that only a registry says.
    registry: bool,
    /// What came that no registry says; the first of it.
    other: Option<String>,
}

impl Signs {
    /// What the answer of `/v2/` tells.
    pub(super) fn see_api(&mut self, heard: &Heard, challenge: Option<&Challenge>) {
        self.see(heard);
        // An API that is no registry may want bearers too; its realm is a name, and not where tokens are to be had.
        let realm = match challenge {
            Some(Challenge::Bearer { realm, .. }) if heard.status == StatusCode::UNAUTHORIZED => realm.as_str(),
            _ => "",
        };
        self.registry |= ["http://", "https://", "/"].iter().any(|begin| realm.starts_with(begin));
        match heard.status {
            StatusCode::OK if is_page(heard) => self.is_other("`/v2/` is answered with a web page"),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE | StatusCode::NOT_IMPLEMENTED => {
                self.is_other(&format!("`/v2/` is answered {}", heard.status));
            }
            _ => {}
        }
    }

    /// What the answer to a question for a list (`tags`, `repositories`) tells; whether there is one.
    pub(super) fn see_list(&mut self, heard: &Heard, member: &str) -> bool {
        self.see(heard);
        if !heard.status.is_success() {
            return false;
        }
        let document: Option<Value> = serde_json::from_slice(&heard.body).ok();
        // A long list is not read to its end.
        let cut = heard.is_cut() && heard.body.trim_ascii_start().starts_with(b"{") && !is_page(heard);
        // `null` stands for none (docker-registry).
        let listed = cut || document.is_some_and(|document| document.get(member).is_some_and(|list| list.is_array() || list.is_null()));
        if listed {
            self.registry = true;
        } else {
            let what = if is_page(heard) { "a web page" } else { "something else" };
            self.is_other(&format!("asked for its {member} it answers {} with {what}", heard.status));
        }
        listed
    }

    /// What any answer tells.
    fn see(&mut self, heard: &Heard) {
        // An error in the specification's form ("Error codes"): its codes are words in capitals.
        let is_code = |code: &str| !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        self.registry |= heard.headers.contains_key(API_VERSION);
        self.registry |= !heard.status.is_success() && heard.answer().diagnostics.iter().any(|said| is_code(&said.code));
    }

    fn is_other(&mut self, why: &str) {
        self.other.get_or_insert_with(|| why.to_owned());
    }
}

fn is_page(heard: &Heard) -> bool {
    let content_type = heard.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.trim_start().to_ascii_lowercase().starts_with("text/html") || heard.body.trim_ascii_start().starts_with(b"<")
}

impl Doctor {
    /// Makes sure that it is a registry; where it is none, that is the obstacle. Asks only where nothing that was heard so far tells.
    pub(super) async fn recognise(&mut self) -> Result<(), RegistryError> {
        if !self.signs.registry {
            let repository = Some(self.reader.repository.clone()).filter(|path| !path.is_empty());
            let repository = repository.unwrap_or_else(|| NO_REPOSITORY.to_owned());
            let endpoint = Endpoint { repository, ..self.reader.clone() };
            let nowhere = nowhere();
            let action = endpoint.action(Operation::AskManifest, &nowhere.to_string());
            match self.ask_for(&endpoint, &action, Method::GET, &format!("manifests/{nowhere}"), HeaderMap::new()).await {
                Ok(heard) => {
                    self.signs.see(&heard);
                    if heard.status.is_success() {
                        self.signs.is_other(&format!("a manifest that nobody has ever pushed is answered {}", heard.status));
                    }
                }
                // A refused login says nothing; silence does, to whoever asks next.
                Err(error @ RegistryError::Stalled { .. }) => return Err(error),
                Err(_) => {}
            }
        }
        let Some(why) = self.signs.other.clone().filter(|_| !self.signs.registry) else { return Ok(()) };
        self.findings.retain(|finding| !matches!(finding, Finding::Pull(_) | Finding::Catalog(_)));
        self.findings.push(Finding::Stranger { why: why.clone() });
        self.obstacle = Some(Obstacle::NotARegistry { registry: self.reader.host.registry.clone(), why });
        Ok(())
    }
}
