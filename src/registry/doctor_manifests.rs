//! Manifests: which kinds are taken, whether a tag can be pointed at another one, and who lists what belongs to one.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::answer::Answer;
use super::doctor::{Doctor, TAG};
use super::doctor_ask::Heard;
use super::doctor_findings::{Finding, ManifestKind, Reply};
use super::doctor_samples::Samples;
use super::error::{Operation, RegistryError};
use super::referrers::SUBJECT;
use super::wire::Payload;
use crate::oci::digest::Digest;
use crate::oci::manifest::Document;

impl Doctor {
    /// Puts an image of each kind; the one that others can be about.
    pub(super) async fn manifests(&mut self) -> Result<Option<Digest>, RegistryError> {
        let samples = Samples::new();
        let oci = samples.oci();
        let there = self.tagged().await?;
        // A tag of that name that somebody else has put is left alone.
        let foreign = there.is_some_and(|digest| digest != oci.digest && digest != samples.other().digest);
        let mut heard = if foreign { self.put(&oci.digest.to_string(), &oci).await? } else { self.put(TAG, &oci).await? };
        // It may be there from an earlier time, and stay.
        let stays = !foreign && there.is_some() && !heard.status.is_success();
        if stays {
            self.findings.push(Finding::Overwrite(heard.reply()));
            heard = self.put(&oci.digest.to_string(), &oci).await?;
        }
        let taken = heard.status.is_success();
        self.findings.push(Finding::Manifest { kind: ManifestKind::Oci, reply: heard.reply() });
        let mut obstacle = (!taken).then(|| heard.refused());
        for (kind, document) in
            [(ManifestKind::Docker, samples.docker()), (ManifestKind::Zstd, samples.zstd()), (ManifestKind::Index, samples.index())]
        {
            if !taken && kind != ManifestKind::Docker {
                continue;
            }
            let heard = self.put(&document.digest.to_string(), &document).await?;
            let reply = heard.reply();
            match kind {
                ManifestKind::Zstd => self.profile.zstd = Some(reply == Reply::Taken),
                // Images on a base of that family can be pushed at least.
                ManifestKind::Docker if reply == Reply::Taken => obstacle = None,
                _ => {}
            }
            self.findings.push(Finding::Manifest { kind, reply });
        }
        if let Some(error) = obstacle {
            self.stopped_by(error);
        }
        if foreign {
            let (problem, remedy) = (format!("there is a tag `{TAG}` that is not of a doctor"), "delete it, or examine another repository");
            self.findings.push(Finding::Failed { check: "tag-overwrite", problem, remedy: Some(remedy.to_owned()) });
        } else if taken && !stays {
            let heard = self.put(TAG, &samples.other()).await?;
            self.findings.push(Finding::Overwrite(heard.reply()));
        }
        Ok(taken.then_some(oci.digest))
    }

    /// Puts a manifest about `subject`: whether the registry says that it lists it, or why it does not take it.
    pub(super) async fn put_referrer(&mut self, subject: Digest) -> Result<Result<bool, Answer>, RegistryError> {
        let samples = Samples::new();
        let document = samples.referrer(&samples.oci());
        debug_assert_eq!(samples.oci().digest, subject, "the subject is the image that was put");
        let heard = self.put(&document.digest.to_string(), &document).await?;
        Ok(if heard.status.is_success() { Ok(heard.headers.contains_key(SUBJECT)) } else { Err(heard.answer()) })
    }

    /// What the tag leads to.
    async fn tagged(&self) -> Result<Option<Digest>, RegistryError> {
        let action = self.reader.action(Operation::AskManifest, TAG);
        let heard = self.ask_for(&self.reader, &action, Method::GET, &format!("manifests/{TAG}"), super::manifests::accept()).await?;
        Ok(heard.status.is_success().then(|| Digest::of(&heard.body)))
    }

    /// Puts a manifest, which is noted first. Never the way of a push, which would write the index of referrers too.
    async fn put(&mut self, key: &str, document: &Document) -> Result<Heard, RegistryError> {
        let action = self.writer.action(Operation::PutManifest, key);
        let media_type = HeaderValue::from_str(&document.media_type);
        let media_type = media_type.map_err(|_| RegistryError::Key { key: document.media_type.clone() })?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type)]);
        self.traces.tag |= key == TAG;
        if !self.traces.manifests.contains(&document.digest) {
            self.traces.manifests.push(document.digest);
        }
        let url = self.writer.url(&format!("manifests/{key}"))?;
        let payload = Payload::Bytes(Bytes::copy_from_slice(&document.bytes));
        self.ask(&self.writer, &action, Method::PUT, url, headers, payload).await
    }
}
