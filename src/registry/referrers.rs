//! Referrers: the manifests that say of another one that they belong to it (`subject`): signatures, bills of materials, contracts.
//!
//! A registry lists them at `/referrers/` (distribution 1.1, "Listing Referrers"). One that has no such list keeps an index under the tag `sha256-<hex>` of the
//! subject instead, and whoever pushes a manifest with a subject keeps that index up to date ("Referrers Tag Schema"). Which of the two it is, the registry says: by a
//! 404 when it is asked, by a missing `OCI-Subject` when it is pushed to.
//!
//! What must stay true: what stands in the index stays there, members that we do not know included, and an entry is there once. Two who write at once both end in
//! it where the registry knows conditions, and where they are one process. Else the index is read again after it was written, at once and once more after a pause that is longer
//! than a writer takes between his reading and his writing: whoever had read before us has written by then, and what he lost is put back. Only one who is stopped for longer
//! in between can still take an entry away: the specification has no more to offer there.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::client::{Answered, Call, Endpoint, Repository};
use super::error::{Action, Operation, RegistryError};
use super::manifests::next_page;
use super::wire::Payload;
use crate::oci::digest::Digest;
use crate::oci::manifest::{Descriptor, Document, MANIFEST_BYTES_MAX, media};

/// With which a registry says that it lists the manifest that it took under its subject.
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// The most referrers that are read.
const REFERRERS_MAX: usize = 10_000;

/// The most pages that are asked for.
const PAGES_MAX: usize = 1000;

/// How often the index is read and written anew when others write it at the same time.
const RACES_MAX: u32 = 8;

/// An index, with whatever else stands in it.
#[derive(Serialize, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Index {
    fn empty() -> Index {
        let rest = [("schemaVersion".to_owned(), Value::from(2)), ("mediaType".to_owned(), Value::from(media::OCI_INDEX))];
        Index { manifests: Vec::new(), rest: rest.into_iter().collect() }
    }
}

impl Repository {
    /// The manifests whose subject is `subject`; of one type where `artifact_type` names it. None where the subject is not there: it may come later.
    pub async fn referrers(&self, subject: Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, RegistryError> {
        let endpoint = &self.origin;
        let action = endpoint.action(Operation::ListReferrers, &subject.to_string());
        let mut found = match endpoint.listed_referrers(&action, subject, artifact_type).await? {
            Some(found) => found,
            None => endpoint.fallback(&action, subject).await?.0.manifests,
        };
        // A registry need not filter, and says so in a header; asking the entries themselves is as good.
        found.retain(|descriptor| artifact_type.is_none_or(|wanted| type_of(descriptor) == Some(wanted)));
        Ok(found)
    }
}

fn type_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.rest.get("artifactType")?.as_str()
}

impl Endpoint {
    /// The registry's own list; `None` where it has none.
    async fn listed_referrers(
        &self,
        action: &Action,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let mut url = self.url(&format!("referrers/{subject}"))?;
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let answered = self.ask(action, Method::GET, url.clone(), accept_index(), &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
            if answered.response.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            let (next, asked) = (next_page(&answered), answered.url.clone());
            let page = self.index_of(action, answered).await?.manifests;
            let ended = page.is_empty();
            found.extend(page);
            match next {
                Some(next) if !ended && found.len() < REFERRERS_MAX => {
                    let follow = self.host.wire.address.follow(&asked, &next);
                    url = follow.map_err(|source| RegistryError::Astray { action: action.clone(), source })?;
                }
                _ => break,
            }
        }
        found.truncate(REFERRERS_MAX);
        Ok(Some(found))
    }

    async fn index_of(&self, action: &Action, answered: Answered) -> Result<Index, RegistryError> {
        let bytes = self.host.wire.read_body(action, answered.response, MANIFEST_BYTES_MAX as usize).await?;
        serde_json::from_slice(&bytes).map_err(|_| RegistryError::Protocol {
            action: action.clone(),
            problem: "what it answered is not an index of manifests".to_owned(),
        })
    }

    fn fallback_url(&self, subject: Digest) -> Result<Url, RegistryError> {
        self.url(&format!("manifests/sha256-{}", subject.hex()))
    }

    /// Whether the registry keeps such lists itself.
    pub(super) async fn lists_referrers(&self, referrer: &Referrer) -> Result<bool, RegistryError> {
        let action = self.action(Operation::ListReferrers, &referrer.subject.to_string());
        Ok(self.listed_referrers(&action, referrer.subject, None).await?.is_some())
    }

    /// The index under the subject's tag, and what it is called for conditions; an empty one where there is none.
    async fn fallback(&self, action: &Action, subject: Digest) -> Result<(Index, Condition), RegistryError> {
        let url = self.fallback_url(subject)?;
        let answered = self.ask(action, Method::GET, url, accept_index(), &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        if answered.response.status() == StatusCode::NOT_FOUND {
            return Ok((Index::empty(), Condition::Nothing));
        }
        let condition = answered.response.headers().get(ETAG).map_or(Condition::Unknown, |etag| Condition::Same(etag.clone()));
        Ok((self.index_of(action, answered).await?, condition))
    }

    /// Puts a manifest that the registry has taken into the index of its subject.
    pub(super) async fn add_to_fallback(&self, document: &Document, referrer: &Referrer) -> Result<(), RegistryError> {
        let action = self.action(Operation::ListReferrer, &document.digest.to_string());
        let _alone = self.host.referrers_lock.lock().await;
        // Whether somebody who had read the index before we wrote it may write his own over it.
        let mut may_be_lost = false;
        for race in 1..=RACES_MAX {
            let (mut index, condition) = self.fallback(&action, referrer.subject).await?;
            if index.manifests.iter().any(|known| known.digest == document.digest) {
                if !std::mem::take(&mut may_be_lost) {
                    return Ok(());
                }
                tokio::time::sleep(self.host.wire.patience.settle).await;
                continue;
            }
            // A registry that names states (`ETag`) need not heed conditions on them: docker-registry 2.8.2 does not.
            may_be_lost = true;
            index.manifests.push(referrer.descriptor.clone());
            let bytes = serde_json::to_vec(&index).unwrap_or_default();
            if bytes.len() as u64 > MANIFEST_BYTES_MAX {
                let problem = format!("the index of referrers would have {} bytes, and {MANIFEST_BYTES_MAX} are the most", bytes.len());
                return Err(RegistryError::Protocol { action, problem });
            }
            // What was taken is read again at the top: a registry without conditions may have put somebody else's in its place.
            if !self.put_fallback(&action, referrer.subject, bytes, condition).await? {
                tokio::time::sleep(self.host.wire.patience.pause_first * race).await;
            }
        }
        let problem = "others wrote the index of referrers each time that it was written".to_owned();
        Err(RegistryError::Protocol { action, problem })
    }

    /// Writes the index; one that has changed meanwhile stays. Says whether it was written.
    async fn put_fallback(&self, action: &Action, subject: Digest, bytes: Vec<u8>, condition: Condition) -> Result<bool, RegistryError> {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media::OCI_INDEX))]);
        match condition {
            Condition::Same(etag) => headers.insert(IF_MATCH, etag),
            Condition::Nothing => headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*")),
            Condition::Unknown => None,
        };
        let scopes = self.scopes();
        let (url, payload) = (self.fallback_url(subject)?, Payload::Bytes(Bytes::from(bytes)));
        let call = Call { action, method: Method::PUT, url, headers, payload, scopes: &scopes };
        let good = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED, StatusCode::PRECONDITION_FAILED];
        let answered = self.host.try_hard(call, &good).await?;
        Ok(answered.response.status() != StatusCode::PRECONDITION_FAILED)
    }
}

/// On what a write hangs.
enum Condition {
    /// That the index is still this one.
    Same(HeaderValue),
    /// That there still is none.
    Nothing,
    /// The registry names no state: what others write meanwhile shows afterwards.
    Unknown,
}

fn accept_index() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(media::OCI_INDEX))])
}

/// What a manifest with a subject is in a list of referrers.
#[derive(Debug)]
pub(super) struct Referrer {
    subject: Digest,
    descriptor: Descriptor,
}

impl Referrer {
    /// Of a manifest; `None` where it has no subject, or one whose digest is of another algorithm than ours.
    pub(super) fn of(document: &Document) -> Option<Referrer> {
        let value: Value = serde_json::from_slice(&document.bytes).ok()?;
        let subject = value.get("subject")?.get("digest")?.as_str()?.parse().ok()?;
        let mut descriptor = Descriptor::new(&document.media_type, document.digest, document.size_bytes());
        let given = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let artifact_type =
            given(value.get("artifactType")).or_else(|| given(value.get("config").and_then(|config| config.get("mediaType"))));
        if let Some(artifact_type) = artifact_type {
            descriptor.rest.insert("artifactType".to_owned(), Value::from(artifact_type));
        }
        for (name, text) in value.get("annotations").and_then(Value::as_object).into_iter().flatten() {
            if let Some(text) = text.as_str() {
                descriptor.annotations.insert(name.clone(), text.to_owned());
            }
        }
        Some(Referrer { subject, descriptor })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(value: &Value) -> Document {
        Document::new(media::OCI_MANIFEST, value.to_string().into_bytes())
    }

    #[test]
    fn a_referrer_has_its_type_and_its_annotations() {
        let subject = Digest::of(b"subject");
        let of = |value: Value| Referrer::of(&document(&value));
        let names = json!({ "digest": subject.to_string() });
        let config = json!({ "mediaType": "application/x-config" });
        let typed = json!({ "subject": names, "artifactType": "application/x", "config": config, "annotations": { "a": "b" } });
        let referrer = of(typed.clone()).unwrap();
        assert_eq!((referrer.subject, type_of(&referrer.descriptor)), (subject, Some("application/x")));
        assert_eq!(referrer.descriptor.annotations["a"], "b");
        assert_eq!(referrer.descriptor.digest, document(&typed).digest);
        let by_config = of(json!({ "subject": names, "artifactType": "", "config": config })).unwrap();
        assert_eq!(type_of(&by_config.descriptor), Some("application/x-config"));
        assert_eq!(type_of(&of(json!({ "subject": names, "manifests": [] })).unwrap().descriptor), None);
        for without in
            [json!({}), json!({ "subject": null }), json!({ "subject": { "digest": "sha512:00" } }), json!({ "subject": { "digest": 1 } })]
        {
            assert!(of(without.clone()).is_none(), "{without}");
        }
    }

    #[test]
    fn what_stands_in_an_index_stays() {
        let text = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "annotations": { "x": "y" },
            "manifests": [{ "mediaType": "m", "digest": Digest::of(b"").to_string(), "size": 1, "artifactType": "t", "more": [1] }],
        });
        let index: Index = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&index).unwrap(), text);
    }
}
