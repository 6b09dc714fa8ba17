//! Upload sessions: the registry's side of a blob that is being pushed.
//!
//! A session is an URL that the registry hands out and changes with each answer (`Location`), and the number of bytes
//! that it says it has (`Range`). Both are taken from the newest answer and from nothing else: docker-registry 2.8.2
//! keeps its state in the URL, answers 404 to an older one, and takes a chunk at a wrong offset without a word. What is
//! sent when is `upload.rs`.

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode};
use url::Url;

use super::address::origin_text;
use super::client::{Answered, Call, Endpoint};
use super::error::{Action, Operation, RegistryError};
use super::manifests::named_digest;
use super::trouble::Trouble;
use super::wire::Payload;
use crate::oci::digest::Digest;

/// The smallest chunk that the registry takes but for the last (distribution 1.1, "Pushing a blob in chunks").
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// The largest; a proposal (distribution-spec#485) that some registries send.
const CHUNK_MAX: HeaderName = HeaderName::from_static("oci-chunk-max-length");

/// An upload that the registry has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub(super) url: Url,
    pub(super) chunk_bytes_min: u64,
    pub(super) chunk_bytes_max: Option<u64>,
}

impl Session {
    /// A session of which nothing is known but where it is.
    pub(super) fn at(url: Url) -> Session {
        Session { url, chunk_bytes_min: 0, chunk_bytes_max: None }
    }

    /// The session that an answer opens or carries on.
    pub(super) fn of(
        endpoint: &Endpoint,
        action: &Action,
        answered: &Answered,
        before: Option<&Session>,
    ) -> Result<Session, RegistryError> {
        let headers = answered.response.headers();
        let url = match (headers.get(LOCATION), before) {
            (Some(location), _) => {
                let location = location.to_str().map_err(|_| protocol(action, "its Location is not text"))?;
                let url = endpoint.host.wire.address.follow(&answered.url, location);
                url.map_err(|source| RegistryError::Astray { action: action.clone(), source })?
            }
            // Some answer a chunk without one: the URL is unchanged.
            (None, Some(before)) => before.url.clone(),
            (None, None) => return Err(protocol(action, "it opened an upload without a Location")),
        };
        let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        Ok(Session {
            url,
            chunk_bytes_min: number(&CHUNK_MIN).or(before.map(|before| before.chunk_bytes_min)).unwrap_or(0),
            chunk_bytes_max: number(&CHUNK_MAX).filter(|most| *most > 0).or(before.and_then(|before| before.chunk_bytes_max)),
        })
    }

    /// Where the upload goes, where that is not the registry's own address.
    pub(super) fn elsewhere(&self, endpoint: &Endpoint) -> Option<String> {
        (!endpoint.host.wire.address.owns(&self.url)).then(|| origin_text(&self.url))
    }

    /// The URL that ends the upload.
    pub(super) fn commit_url(&self, digest: Digest) -> Url {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        url
    }
}

impl Endpoint {
    /// Opens an upload.
    pub(super) async fn open_session(&self, action: &Action) -> Result<Session, RegistryError> {
        let url = self.url("blobs/uploads/")?;
        let scopes = self.scopes();
        let call = Call { action, method: Method::POST, url, headers: HeaderMap::new(), payload: Payload::Empty, scopes: &scopes };
        let answered = self.host.try_once(&call, &[StatusCode::ACCEPTED]).await?;
        Session::of(self, action, &answered, None)
    }

    /// Asks how many bytes the registry has of an upload; `None` where it does not know the upload (any more).
    pub(super) async fn session_status(&self, action: &Action, session: &Session) -> Result<Option<(Session, u64)>, RegistryError> {
        let scopes = self.scopes();
        let url = session.url.clone();
        let call = Call { action, method: Method::GET, url, headers: HeaderMap::new(), payload: Payload::Empty, scopes: &scopes };
        let answered = self.host.send(&call).await?;
        match answered.response.status() {
            // 204 by the specification; 200 and 202 are seen.
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {
                let Some(has_bytes) = has_bytes(answered.response.headers()) else { return Ok(None) };
                Ok(Some((Session::of(self, action, &answered, Some(session))?, has_bytes)))
            }
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => Ok(None),
            _ => {
                let answer = Box::new(self.host.wire.read_answer(answered.response).await);
                Err(RegistryError::Refused { action: action.clone(), answer })
            }
        }
    }

    /// Sends one chunk; answers with the session as it is now and the number of bytes that the registry says it has, where it does.
    pub(super) async fn send_chunk(
        &self,
        action: &Action,
        session: &Session,
        first_byte: u64,
        payload: Payload<'_>,
    ) -> Result<(Session, Option<u64>), RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let size_bytes = match &payload {
            Payload::Stream { size_bytes, .. } => *size_bytes,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Empty => 0,
        };
        let range = format!("{first_byte}-{}", (first_byte + size_bytes).saturating_sub(1));
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).map_err(|_| protocol(action, "the range fits no header"))?);
        let scopes = self.scopes();
        let call = Call { action, method: Method::PATCH, url: session.url.clone(), headers, payload, scopes: &scopes };
        // 202 by the specification; ECR answers 201, others 204.
        let good = [StatusCode::ACCEPTED, StatusCode::CREATED, StatusCode::NO_CONTENT];
        let answered = self.host.try_once(&call, &good).await?;
        let has_bytes = has_bytes(answered.response.headers());
        Ok((Session::of(self, action, &answered, Some(session))?, has_bytes))
    }

    /// Ends an upload: `payload` is what is still missing, all of it or nothing. A registry that then speaks of another blob has not taken this one.
    pub(super) async fn commit(
        &self,
        action: &Action,
        session: &Session,
        digest: Digest,
        payload: Payload<'_>,
    ) -> Result<(), RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let scopes = self.scopes();
        let call = Call { action, method: Method::PUT, url: session.commit_url(digest), headers, payload, scopes: &scopes };
        let good = [StatusCode::CREATED, StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::ACCEPTED];
        let answered = self.host.try_once(&call, &good).await?;
        match named_digest(&answered) {
            Some(found) if found != digest => Err(RegistryError::OtherDigest { action: action.clone(), found }),
            _ => Ok(()),
        }
    }

    /// Gives an upload up, so that its bytes do not stay in the registry until it looks for such. Whether that works is not waited
    /// for long: the failure that led here is the one to be told.
    pub(super) async fn cancel(&self, digest: Digest, session: &Session) {
        let action = self.action(Operation::CancelUpload, &digest.to_string());
        let scopes = self.scopes();
        let url = session.url.clone();
        let call =
            Call { action: &action, method: Method::DELETE, url, headers: HeaderMap::new(), payload: Payload::Empty, scopes: &scopes };
        let mut sent = self.host.send(&call).await;
        // A registry that refuses a body before its end closes the connection, and this may have gone into the one that was closing.
        if matches!(sent, Err(RegistryError::Unreachable { trouble: Trouble::Torn, .. })) {
            sent = self.host.send(&call).await;
        }
        match sent {
            Ok(answered) => tracing::debug!(%action, status = %answered.response.status(), "the upload is given up"),
            Err(error) => tracing::debug!(%action, %error, "the upload is left behind"),
        }
    }
}

/// The number of bytes in `Range: 0-99` (with or without `bytes=`). `0-0` is what docker-registry says of none and of one; one
/// byte too few is sent again, so it counts as none.
fn has_bytes(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(RANGE)?.to_str().ok()?.trim();
    let (first, last) = range.trim_start_matches("bytes").trim_start_matches(['=', ' ']).split_once('-')?;
    match (first.trim().parse::<u64>().ok()?, last.trim()) {
        (0, "0" | "" | "-1") => Some(0),
        (0, last) => last.parse::<u64>().ok()?.checked_add(1),
        _ => None,
    }
}

fn protocol(action: &Action, problem: &str) -> RegistryError {
    RegistryError::Protocol { action: action.clone(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_an_upload_is_read() {
        let of = |text: &str| has_bytes(&HeaderMap::from_iter([(RANGE, HeaderValue::from_str(text).unwrap())]));
        for (text, bytes) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("bytes 0-1", Some(2)),
            ("0-0", Some(0)),
            ("0--1", Some(0)),
            ("5-9", None),
            ("0-18446744073709551615", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(of(text), bytes, "{text}");
        }
        assert_eq!(has_bytes(&HeaderMap::new()), None);
    }

    #[test]
    fn the_digest_joins_the_query_that_is_there() {
        let session = |url: &str| Session { url: Url::parse(url).unwrap(), chunk_bytes_min: 0, chunk_bytes_max: None };
        let digest = Digest::of(b"");
        let text = digest.to_string().replace(':', "%3A");
        assert_eq!(session("http://h/u?_state=a%2Fb%3D").commit_url(digest).as_str(), format!("http://h/u?_state=a%2Fb%3D&digest={text}"));
        assert_eq!(session("http://h/u").commit_url(digest).as_str(), format!("http://h/u?digest={text}"));
    }
}
