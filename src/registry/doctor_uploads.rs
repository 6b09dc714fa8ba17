//! Blobs in one request: whether any may be pushed, and where a pulled one comes from.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::address::origin_text;
use super::client::Endpoint;
use super::doctor::Doctor;
use super::doctor_ask::{pause, refusal};
use super::doctor_findings::{Finding, Reply};
use super::doctor_samples::Samples;
use super::error::{Action, Operation, RegistryError};
use super::session::Session;
use super::wire::Payload;
use crate::oci::digest::Digest;

impl Doctor {
    /// Opens an upload, and pushes the image's blobs in one request each.
    pub(super) async fn push(&mut self) {
        let action = self.writer.action(Operation::PushBlob, "");
        let session = match self.open(&action).await {
            Ok(session) => session,
            Err(error) => {
                self.findings.push(match error.answer() {
                    Some(answer) => Finding::Push { reply: Reply::Refused(answer.clone()), elsewhere: None },
                    None => Finding::failed("push", &error),
                });
                return self.stopped_by(error);
            }
        };
        self.findings.push(Finding::Push { reply: Reply::Taken, elsewhere: session.elsewhere(&self.writer) });
        self.give_up().await;
        let samples = Samples::new();
        for bytes in [&samples.config, &samples.layer, &samples.zstd] {
            let (action, reply) = match self.put_blob(bytes).await {
                Ok(done) => done,
                // A commit that is led astray, or breaks each time, is what a push would meet.
                Err(error) => {
                    self.findings.push(Finding::failed("upload", &error));
                    return self.stopped_by(error);
                }
            };
            if let Reply::Refused(answer) = &reply {
                self.stopped_by(RegistryError::Refused { action, answer: Box::new(answer.clone()) });
                self.findings.push(Finding::Whole(reply));
                return;
            }
        }
        self.findings.push(Finding::Whole(Reply::Taken));
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
