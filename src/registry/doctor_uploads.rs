//! Blobs in one request: whether any may be pushed, how large a request body may be, where a pulled one comes from.
//!
//! A large body is sent under the digest of something else, so that the registry reads all of it, finds it to be wrong, and keeps nothing: what a proxy or a
//! registry thinks of its size is known by then.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

use super::address::origin_text;
use super::client::Endpoint;
use super::doctor::Doctor;
use super::doctor_ask::{pause, refusal};
use super::doctor_findings::{Bodies, BodyRefusal, Finding, Obstacle, Reply};
use super::doctor_samples::{Samples, body};
use super::error::{Action, Operation, RegistryError, Trouble};
use super::session::Session;
use super::wire::Payload;
use crate::oci::digest::Digest;

/// The sizes that are tried, as far as is wanted.
const SIZES_MIB: [u64; 7] = [1, 8, 32, 128, 512, 2048, 8192];

/// The smallest body that a refused one is halved to: a push does not try smaller ones (`upload.rs`).
const BODY_BYTES_LEAST: u64 = 1 << 20;

/// What came of one body.
enum BodyReply {
    /// It was read, and found to be what it is.
    Read,
    /// It was taken for what it is not.
    Believed,
    Refused(BodyRefusal),
}

impl Doctor {
    /// Opens an upload, and pushes the image's blobs in one request each.
    pub(super) async fn push(&mut self) -> Result<(), RegistryError> {
        let action = self.writer.action(Operation::PushBlob, "");
        let session = match self.open(&action).await {
            Ok(session) => session,
            Err(error) => return self.no_push(error),
        };
        self.findings.push(Finding::Push { reply: Reply::Taken, elsewhere: session.elsewhere(&self.writer) });
        self.give_up().await;
        let samples = Samples::new();
        for bytes in [&samples.config, &samples.layer, &samples.zstd] {
            let (action, reply) = match self.put_blob(bytes).await {
                Ok(done) => done,
                // A commit that is led astray, or breaks each time, is what a push would meet.
                Err(error) => return self.no_push(error),
            };
            if let Reply::Refused(answer) = &reply {
                self.stopped_by(RegistryError::Refused { action, answer: Box::new(answer.clone()) });
                self.findings.push(Finding::Whole(reply));
                return Ok(());
            }
        }
        self.findings.push(Finding::Whole(Reply::Taken));
        Ok(())
    }

    fn no_push(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.findings.push(match error.answer() {
            Some(answer) => Finding::Push { reply: Reply::Refused(answer.clone()), elsewhere: None },
            None => Finding::failed("push", &error),
        });
        self.stopped_by(error);
        Ok(())
    }

    /// Opens an upload, which is noted.
    pub(super) async fn open(&mut self, action: &Action) -> Result<Session, RegistryError> {
        let mut tries = self.tries();
        let session = loop {
            match self.writer.open_session(action).await {
                Ok(session) => break session,
                Err(error) => pause(&mut tries, error).await?,
            }
        };
        self.traces.session = Some(session.clone());
        Ok(session)
    }

    /// Gives the open upload up; says whether the registry did.
    pub(super) async fn give_up(&mut self) -> bool {
        let Some(session) = self.traces.session.take() else { return true };
        let action = self.writer.action(Operation::CancelUpload, "");
        let cancelled = self.ask(&self.writer, &action, Method::DELETE, session.url, HeaderMap::new(), Payload::Empty).await;
        cancelled.is_ok_and(|heard| heard.status.is_success())
    }

    /// Pushes a blob in one request.
    async fn put_blob(&mut self, bytes: &[u8]) -> Result<(Action, Reply), RegistryError> {
        let digest = Digest::of(bytes);
        let action = self.writer.action(Operation::PushBlob, &digest.to_string());
        let mut tries = self.tries();
        loop {
            let session = self.open(&action).await?;
            self.traces.blobs.insert(digest);
            let error = match self.writer.commit(&action, &session, digest, Payload::Bytes(Bytes::copy_from_slice(bytes))).await {
                Ok(()) => {
                    self.traces.session = None;
                    return Ok((action, Reply::Taken));
                }
                Err(error) => error,
            };
            self.give_up().await;
            if let Err(error) = pause(&mut tries, error).await {
                return Ok((action, Reply::Refused(refusal(error)?)));
            }
        }
    }

    /// Sends larger and larger bodies; the largest that was taken.
    pub(super) async fn bodies(&mut self) -> Result<u64, RegistryError> {
        let mut bodies = Bodies { taken_bytes: 0, refused: None, unchecked: false };
        for size_bytes in sizes(self.options.body_bytes_max) {
            self.try_body(size_bytes, &mut bodies).await?;
            if bodies.refused.is_some() {
                break;
            }
        }
        // Where between the two the limit is, to a factor of two.
        while let Some((refused_bytes, BodyRefusal::TooLarge(_) | BodyRefusal::Broke)) = bodies.refused {
            let half_bytes = refused_bytes / 2;
            if half_bytes <= bodies.taken_bytes || half_bytes < BODY_BYTES_LEAST {
                break;
            }
            self.try_body(half_bytes, &mut bodies).await?;
        }
        if let Some((refused_bytes, BodyRefusal::TooLarge(_) | BodyRefusal::Broke)) = bodies.refused {
            if bodies.taken_bytes == 0 {
                self.obstacle = Some(Obstacle::SmallBodies { object: self.object(), refused_bytes });
            } else {
                self.profile.body_bytes_max = Some(bodies.taken_bytes);
            }
        }
        let taken_bytes = bodies.taken_bytes;
        self.findings.push(Finding::Bodies(bodies));
        Ok(taken_bytes)
    }

    async fn try_body(&mut self, size_bytes: u64, bodies: &mut Bodies) -> Result<(), RegistryError> {
        match self.send_body(size_bytes).await? {
            BodyReply::Refused(refusal) => bodies.refused = Some((size_bytes, refusal)),
            reply => {
                bodies.taken_bytes = size_bytes;
                bodies.unchecked |= matches!(reply, BodyReply::Believed);
            }
        }
        Ok(())
    }

    async fn send_body(&mut self, size_bytes: u64) -> Result<BodyReply, RegistryError> {
        let digest = Digest::of(b"lamina doctor: the digest of something else than what is sent");
        let action = self.writer.action(Operation::PushBlob, "");
        let mut tries = self.tries();
        let mut broken = 0;
        loop {
            let session = self.open(&action).await?;
            self.traces.blobs.insert(digest);
            let payload = Payload::Stream { size_bytes, open: &|| body(size_bytes), watch: &|_| () };
            let error = match self.writer.commit(&action, &session, digest, payload).await {
                Ok(()) => {
                    self.traces.session = None;
                    return Ok(BodyReply::Believed);
                }
                Err(error) => error,
            };
            self.traces.blobs.remove(&digest);
            self.give_up().await;
            match &error {
                RegistryError::Refused { answer, .. } if !answer.is_transient() => {
                    return Ok(match answer.status {
                        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::RANGE_NOT_SATISFIABLE => {
                            BodyReply::Refused(BodyRefusal::TooLarge(answer.as_ref().clone()))
                        }
                        _ if answer.has_code("DIGEST_INVALID") || answer.says("digest") => BodyReply::Read,
                        // The specification names the code, and not all registries do.
                        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => BodyReply::Read,
                        _ => BodyReply::Refused(BodyRefusal::Other(answer.as_ref().clone())),
                    });
                }
                RegistryError::Unreachable { trouble: Trouble::Torn, .. } | RegistryError::Stalled { .. } => {
                    broken += 1;
                    if broken == 2 {
                        return Ok(BodyReply::Refused(BodyRefusal::Broke));
                    }
                }
                _ => {}
            }
            pause(&mut tries, error).await?;
        }
    }

    /// Pulls the config back, to see where it comes from.
    pub(super) async fn download(&mut self) -> Result<(), RegistryError> {
        let config = Samples::new().config;
        let digest = Digest::of(&config);
        let action = self.reader.action(Operation::PullBlob, &digest.to_string());
        let heard = self.ask_for(&self.reader, &action, Method::GET, &format!("blobs/{digest}"), HeaderMap::new()).await?;
        if !heard.status.is_success() {
            return Err(heard.refused());
        }
        if heard.body != config {
            return Err(RegistryError::OtherDigest { action, found: Digest::of(&heard.body) });
        }
        let owns = |endpoint: &Endpoint| endpoint.host.wire.address.owns(&heard.url);
        let elsewhere = (!owns(&self.reader)).then(|| origin_text(&heard.url));
        self.findings.push(Finding::Download { elsewhere });
        Ok(())
    }
}

/// The sizes up to `max_bytes`, which is one of them.
fn sizes(max_bytes: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> = SIZES_MIB.iter().map(|mib| mib << 20).filter(|size_bytes| *size_bytes < max_bytes).collect();
    sizes.push(max_bytes);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_size_is_the_one_that_was_asked_for() {
        let mib = |most: u64| sizes(most << 20).into_iter().map(|bytes| bytes >> 20).collect::<Vec<_>>();
        assert_eq!(mib(32), [1, 8, 32]);
        assert_eq!(mib(1), [1]);
        assert_eq!(mib(100), [1, 8, 32, 100]);
        assert_eq!(mib(20_000), [1, 8, 32, 128, 512, 2048, 8192, 20_000]);
    }
}
