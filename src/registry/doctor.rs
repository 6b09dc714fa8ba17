//! `hs registry doctor`: what it will be like to push models to a repository, found out before it hurts.
//!
//! A [`Doctor`] asks a registry what a push asks, in small, by the same wire and with the same login, and writes down what it met. This file has the order of it;
//! what is tried is in `doctor_reach.rs`, `doctor_recognise.rs` and `doctor_login.rs` (who answers, and who we are to him), `doctor_uploads.rs`, `doctor_chunks.rs` and `doctor_sizes.rs` (how blobs get there),
//! `doctor_mounts.rs`, `doctor_manifests.rs`, and what was written is deleted in `doctor_cleanup.rs`.
//!
//! What must stay true: all that is written is known to be ours (its content names us, its tag is [`TAG`]) and is noted before it is sent, so that it can be deleted
//! whatever happens in between; what was in the repository before is never deleted; nothing is written where only reading is allowed; and no probe goes by
//! what an earlier one has written into the profile.

use std::collections::BTreeSet;

use super::challenge::Challenge;
use super::client::{Access, Endpoint, Repository};
use super::credentials::Credential;
use super::doctor_findings::{Finding, Report};
use super::doctor_obstacle::Obstacle;
use super::doctor_recognise::Signs;
use super::error::RegistryError;
use super::profile::Profile;
use super::retry::Tries;
use super::session::Session;
use crate::oci::digest::Digest;
use crate::progress::{Event, Listener};

/// The tag that is written and deleted again.
pub const TAG: &str = "lamina-doctor";

/// How often something is asked: a doctor tells of a registry that is often busy, rather than wait for it.
const TRIES_MAX: u32 = 3;

/// What is examined, and how far.
#[derive(Clone, Debug)]
pub struct Options {
    /// Write nothing.
    pub read_only: bool,
    /// The largest request body that is tried.
    pub body_bytes_max: u64,
    /// A repository of the same registry to mount from.
    pub mount_from: Option<String>,
}

/// An examination under way.
pub struct Doctor {
    /// To read with.
    pub(super) reader: Endpoint,
    /// To write with.
    pub(super) writer: Endpoint,
    pub(super) options: Options,
    pub(super) findings: Vec<Finding>,
    pub(super) profile: Profile,
    pub(super) traces: Traces,
    pub(super) obstacle: Option<Obstacle>,
    /// Whether it asks who we are before it answers at all.
    pub(super) wants_login: bool,
    /// How it wants to be asked.
    pub(super) challenge: Option<Challenge>,
    /// Who we are.
    pub(super) credential: Credential,
    /// Whether it is a registry at all.
    pub(super) signs: Signs,
    listener: Listener,
}

/// What was written and is not deleted yet.
#[derive(Default)]
pub(super) struct Traces {
    /// The upload that is open.
    pub(super) session: Option<Session>,
    /// Blobs.
    pub(super) blobs: BTreeSet<Digest>,
    /// Manifests, those that name others last.
    pub(super) manifests: Vec<Digest>,
    /// Whether the tag was put.
    pub(super) tag: bool,
    /// What cannot be deleted, in words.
    pub(super) lost: Vec<String>,
}

impl Doctor {
    /// Nothing is asked yet.
    pub fn new(repository: &Repository, options: Options, listener: Listener) -> Doctor {
        let with = |access| Endpoint { access, ..repository.origin.clone() };
        Doctor {
            reader: with(Access::Pull),
            writer: with(Access::Push),
            // What was known and is not looked at again stays known.
            profile: if options.read_only { repository.origin.host.profiles.read() } else { Profile::default() },
            options,
            findings: Vec::new(),
            traces: Traces::default(),
            obstacle: None,
            wants_login: false,
            challenge: None,
            credential: Credential::Anonymous,
            signs: Signs::default(),
            listener,
        }
    }

    /// Tries everything that may be tried. Fails where the registry does not answer at all, or where it cannot be told who we are. May be dropped at any
    /// time; what it has written until then is what [`Doctor::clean_up`] deletes.
    pub async fn examine(&mut self) -> Result<(), RegistryError> {
        self.stage("Asking who answers");
        self.reach().await?;
        self.login().await?;
        let pull = self.pull().await;
        self.note_or_stop("pull", pull);
        if !self.is_stranger_or_silent() {
            self.recognise().await?;
        }
        if self.is_stranger_or_silent() {
            return Ok(());
        }
        if self.options.read_only {
            let missing = self.missing().await;
            self.note_or_stop("missing", missing);
            if self.is_stranger_or_silent() {
                return Ok(());
            }
            let referrers = self.referrers(None).await;
            self.note("referrers", referrers);
            return Ok(());
        }
        self.stage("Pushing small blobs");
        self.push().await;
        self.login_after_push().await;
        if self.obstacle.is_some() {
            return Ok(());
        }
        let missing = self.missing().await;
        self.note("missing", missing);
        self.blobs().await;
        self.stage("Putting manifests");
        let subject = match self.manifests().await {
            Ok(subject) => subject,
            Err(error) => {
                self.findings.push(Finding::failed("oci-manifest", &error));
                self.stopped_by(error);
                None
            }
        };
        let referrers = self.referrers(subject).await;
        self.note("referrers", referrers);
        Ok(())
    }

    /// How blobs get there.
    async fn blobs(&mut self) {
        self.stage("Pushing in chunks");
        let chunks = self.chunks().await;
        let chunks = self.note("chunks", chunks);
        self.stage("Sending larger request bodies; nothing is kept of them");
        let in_chunks = self.sizes(chunks).await;
        let in_chunks = self.note("body-size", in_chunks).unwrap_or(false);
        if in_chunks {
            let astray = self.astray().await;
            self.note("chunk-offset", astray);
        }
        self.stage("Leaving an upload in the middle");
        let resume = self.resume(in_chunks).await;
        self.note("resume", resume);
        let mount = self.mount().await;
        self.note("mount", mount);
        let download = self.download().await;
        self.note("download", download);
    }

    /// What was found. What the registry warned of on the way is among it.
    pub fn report(mut self) -> Report {
        let host = &self.writer.host;
        self.findings.extend(host.warnings().into_iter().map(Finding::Warning));
        // A push that was refused found nothing out that a later one could go by.
        match (&self.obstacle, self.options.read_only) {
            (Some(_), _) => {}
            (None, true) if self.writer.repository.is_empty() => {}
            (None, true) => host.profiles.correct(|profile| profile.referrers_api = self.profile.referrers_api),
            (None, false) => host.profiles.keep(self.profile.clone()),
        }
        Report {
            registry: host.registry.clone(),
            repository: Some(self.writer.repository.clone()).filter(|repository| !repository.is_empty()),
            findings: self.findings,
            profile: self.profile,
            left_behind: self.traces.lost,
            obstacle: self.obstacle,
        }
    }

    /// Whether there is nobody to go on with.
    fn is_stranger_or_silent(&self) -> bool {
        matches!(self.obstacle, Some(Obstacle::NotARegistry { .. } | Obstacle::Unreadable { source: RegistryError::Stalled { .. }, .. }))
    }

    /// As [`Doctor::note`], for what comes before all else: who falls silent there is not asked on.
    pub(super) fn note_or_stop<T>(&mut self, check: &'static str, result: Result<T, RegistryError>) -> Option<T> {
        match result {
            Err(source @ RegistryError::Stalled { .. }) => {
                self.findings.push(Finding::failed(check, &source));
                self.obstacle = Some(Obstacle::Unreadable { object: self.object(), source });
                None
            }
            other => self.note(check, other),
        }
    }

    /// What a probe gave, or its failure among the findings.
    pub(super) fn note<T>(&mut self, check: &'static str, result: Result<T, RegistryError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.findings.push(Finding::failed(check, &error));
                None
            }
        }
    }

    pub(super) fn stage(&self, text: &str) {
        (self.listener)(Event::Stage(text.to_owned()));
    }

    /// `host/repository`, or the host alone.
    pub(super) fn object(&self) -> String {
        let (registry, repository) = (&self.writer.host.registry, &self.writer.repository);
        if repository.is_empty() { registry.clone() } else { format!("{registry}/{repository}") }
    }

    /// Models cannot be pushed, because of this; the first reason counts.
    pub(super) fn stopped_by(&mut self, source: RegistryError) {
        let object = self.object();
        self.obstacle.get_or_insert(Obstacle::Refused { object, source });
    }

    /// A count of tries for one question.
    pub(super) fn tries(&self) -> Tries {
        let mut patience = self.writer.host.wire.patience;
        patience.tries_max = patience.tries_max.min(TRIES_MAX);
        patience.silent_tries_max = 1;
        Tries::new(patience, true)
    }
}
