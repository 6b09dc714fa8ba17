//! Manifests and tags: asked for, pulled, put, listed.
//!
//! A manifest is read up to [`MANIFEST_BYTES_MAX`] and checked before anything believes it: against the digest that it
//! was asked by, and against the registry's `Docker-Content-Digest` where there is one. Nothing is re-serialised. Pulls
//! ask the mirrors first.

use std::str::FromStr;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::client::{Answered, Call, Endpoint, Repository};
use super::error::{Action, Operation, RegistryError};
use super::referrers::{Referrer, SUBJECT};
use super::wire::Payload;
use crate::oci::digest::Digest;
use crate::oci::manifest::{Document, MANIFEST_BYTES_MAX, Pulled, media};

/// The header in which registries name what they send or took.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The most tags that are listed: what a page of a repository with a tag for each build of some years has.
const TAGS_MAX: usize = 100_000;

/// The most pages that are asked for; a registry whose pages are smaller than ten tags is not read to its end.
const TAG_PAGES_MAX: usize = 10_000;

/// The most bytes of one page of tags.
const TAG_PAGE_BYTES_MAX: usize = 16 << 20;

#[derive(Deserialize)]
struct TagPage {
    /// `null` where the repository has none (docker-registry).
    tags: Option<Vec<String>>,
}

impl Repository {
    /// Pulls the manifest or index `key` (a tag or a digest).
    pub async fn manifest(&self, key: &str) -> Result<Pulled, RegistryError> {
        check_key(key)?;
        for mirror in self.present_mirrors() {
            match mirror.manifest(key).await {
                Ok(pulled) => return Ok(pulled),
                Err(error) => tracing::debug!(mirror = %mirror.host.registry, error = %error, "the mirror does not help"),
            }
        }
        match self.origin.manifest(key).await {
            Err(RegistryError::Refused { action, answer }) if answer.status == StatusCode::NOT_FOUND => {
                // The tags are a help, not the answer: where they cannot be had, none are named.
                let tags = self.origin.tags().await.unwrap_or_default();
                Err(RegistryError::NoManifest { action, tags })
            }
            result => result,
        }
    }

    /// The digest of what `key` names; `None` where it names nothing. Asks the registry itself, never a mirror.
    pub async fn manifest_digest(&self, key: &str) -> Result<Option<Digest>, RegistryError> {
        check_key(key)?;
        let endpoint = &self.origin;
        let action = endpoint.action(Operation::AskManifest, key);
        let url = endpoint.url(&format!("manifests/{key}"))?;
        // Registries that do not do HEAD here answer 405, and some 400.
        let good = [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::BAD_REQUEST];
        let answered = endpoint.ask(&action, Method::HEAD, url, accept(), &good).await?;
        match answered.response.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {
                if let Some(digest) = named_digest(&answered) {
                    return Ok(Some(digest));
                }
            }
            _ => {}
        }
        match endpoint.manifest(key).await {
            Ok(pulled) => Ok(Some(pulled.document().digest)),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts `document` under `key`: a tag, or its own digest. One that has a subject is among the subject's referrers afterwards.
    pub async fn put_manifest(&self, key: &str, document: &Document) -> Result<(), RegistryError> {
        check_key(key)?;
        let endpoint = &self.origin;
        let action = endpoint.action(Operation::PutManifest, key);
        let mut headers = HeaderMap::new();
        let media_type = HeaderValue::from_str(&document.media_type)
            .map_err(|_| RegistryError::Protocol { action: action.clone(), problem: "its media type fits no header".to_owned() })?;
        headers.insert(CONTENT_TYPE, media_type);
        let scopes = endpoint.scopes();
        let call = Call {
            action: &action,
            method: Method::PUT,
            url: endpoint.url(&format!("manifests/{key}"))?,
            headers,
            payload: Payload::Bytes(Bytes::copy_from_slice(&document.bytes)),
            scopes: &scopes,
        };
        let answered = endpoint.put_once_taken(&call, key, document.digest).await?;
        match answered.as_ref().and_then(named_digest) {
            Some(found) if found != document.digest => return Err(RegistryError::OtherDigest { action, found }),
            _ => {}
        }
        let Some(referrer) = Referrer::of(document) else { return Ok(()) };
        let listed = match &answered {
            Some(answered) => answered.response.headers().contains_key(SUBJECT),
            None => endpoint.lists_referrers(&referrer).await?,
        };
        if listed { Ok(()) } else { endpoint.add_to_fallback(document, &referrer).await }
    }

    /// The tags of the repository, sorted: the specification says so, and not all registries do it.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        self.origin.tags().await
    }
}

impl Endpoint {
    /// Puts a manifest until it is taken; without an answer where that was lost. A manifest that was taken is not put once more: a registry whose tags may not
    /// change would refuse it.
    async fn put_once_taken(&self, call: &Call<'_>, key: &str, digest: Digest) -> Result<Option<Answered>, RegistryError> {
        let mut tries = self.host.tries();
        loop {
            // 201 by the specification; 200 and 202 are seen.
            let error = match self.host.try_once(call, &[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED]).await {
                Ok(answered) => return Ok(Some(answered)),
                Err(error) => error,
            };
            let Some(pause) = tries.pause_after(&error) else { return Err(error) };
            tracing::debug!(action = %call.action, pause_ms = pause.as_millis() as u64, error = %error, "trying again");
            tokio::time::sleep(pause).await;
            let (scopes, headers) = (self.scopes(), accept());
            let ask = Call {
                action: call.action,
                method: Method::HEAD,
                url: call.url.clone(),
                headers,
                payload: Payload::Empty,
                scopes: &scopes,
            };
            // Where it cannot be asked, it is put.
            let found = self.host.try_once(&ask, &[StatusCode::OK]).await.ok();
            if found.as_ref().and_then(named_digest) == Some(digest) {
                tracing::debug!(action = %call.action, key, "it was taken, and the answer lost");
                return Ok(None);
            }
        }
    }

    async fn manifest(&self, key: &str) -> Result<Pulled, RegistryError> {
        let action = self.action(Operation::PullManifest, key);
        let url = self.url(&format!("manifests/{key}"))?;
        let mut tries = self.host.tries();
        loop {
            let error = match self.manifest_once(&action, &url, key).await {
                Ok(pulled) => return Ok(pulled),
                Err(error) => error,
            };
            match tries.pause_after(&error) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    async fn manifest_once(&self, action: &Action, url: &url::Url, key: &str) -> Result<Pulled, RegistryError> {
        let scopes = self.scopes();
        let call = Call { action, method: Method::GET, url: url.clone(), headers: accept(), payload: Payload::Empty, scopes: &scopes };
        let answered = self.host.try_once(&call, &[StatusCode::OK]).await?;
        let content_type = answered.response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let named = named_digest(&answered);
        let bytes = self.host.wire.read_body(action, answered.response, MANIFEST_BYTES_MAX as usize).await?;
        let found = Digest::of(&bytes);
        for expected in Digest::from_str(key).ok().into_iter().chain(named) {
            if expected != found {
                return Err(RegistryError::OtherDigest { action: action.clone(), found });
            }
        }
        Pulled::parse(content_type.as_deref(), bytes)
            .map_err(|source| RegistryError::NotAManifest { action: action.clone(), source: Box::new(source) })
    }

    async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let action = self.action(Operation::ListTags, "");
        let mut url = self.url("tags/list")?;
        let mut tags = Vec::new();
        for _ in 0..TAG_PAGES_MAX {
            let answered = self.ask(&action, Method::GET, url.clone(), HeaderMap::new(), &[StatusCode::OK]).await?;
            let next = next_page(&answered);
            let answered_url = answered.url;
            let bytes = self.host.wire.read_body(&action, answered.response, TAG_PAGE_BYTES_MAX).await?;
            let page: TagPage = serde_json::from_slice(&bytes).map_err(|_| RegistryError::Protocol {
                action: action.clone(),
                problem: "what it answered is not a list of tags".to_owned(),
            })?;
            let page = page.tags.unwrap_or_default();
            let ended = page.is_empty();
            tags.extend(page.into_iter().filter(|tag| is_tag(tag)));
            match next {
                Some(next) if !ended && tags.len() < TAGS_MAX => {
                    let follow = self.host.wire.address.follow(&answered_url, &next);
                    url = follow.map_err(|source| RegistryError::Astray { action: action.clone(), source })?;
                }
                _ => break,
            }
        }
        tags.truncate(TAGS_MAX);
        tags.sort();
        Ok(tags)
    }
}

/// What we take, in both families.
pub(super) fn accept() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for media_type in media::ACCEPTED {
        headers.append(ACCEPT, HeaderValue::from_static(media_type));
    }
    headers
}

/// What the registry calls that which it sent or took. A digest of another algorithm than ours counts as none.
pub(super) fn named_digest(answered: &Answered) -> Option<Digest> {
    answered.response.headers().get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

/// The target of `Link: <…>; rel="next"` (RFC 8288).
pub(super) fn next_page(answered: &Answered) -> Option<String> {
    answered.response.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_of)
}

fn next_of(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"') == "next"
    });
    is_next.then(|| target.to_owned())
}

/// A tag by the grammar of the distribution specification.
fn is_tag(text: &str) -> bool {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|character| word(character) || matches!(character, '.' | '-'))
}

fn check_key(key: &str) -> Result<(), RegistryError> {
    if is_tag(key) || Digest::from_str(key).is_ok() { Ok(()) } else { Err(RegistryError::Key { key: key.chars().take(300).collect() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_tags_or_digests() {
        for key in ["latest", "_x", "1.0-rc.1_A", &Digest::of(b"").to_string(), &"x".repeat(128)] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in ["", "..", "-x", "a/b", "a?b", "a:b", "sha256:12", &"x".repeat(129)] {
            assert!(check_key(key).is_err(), "{key}");
        }
    }

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(next_of(r#"</v2/x/tags/list?n=1&last=a>; rel="next""#).as_deref(), Some("/v2/x/tags/list?n=1&last=a"));
        assert_eq!(next_of("<https://h/v2/x>;rel=next; a=b").as_deref(), Some("https://h/v2/x"));
        for other in ["", "/v2/x", r#"</v2/x>; rel="prev""#, "</v2/x>"] {
            assert_eq!(next_of(other), None, "{other}");
        }
    }
}
