//! The worker: claims a build, runs it, records how it ended.
//!
//! What a build does is not known here: the door passes in an async function from a claim to an outcome (the recipe and the copy,
//! wired to its store and its registry). This file holds the lease while that function runs, writes down what it says, and
//! sees to it that every end is recorded: a result, a failure, a panic.
//!
//! What must stay true: after a stop, or a crash at any point, the build is begun again by whoever claims it next, and a second run of a build
//! is harmless, since all that it makes is named by its content.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::catalog::catalog::{Catalog, CatalogError};
use crate::catalog::record::{BuildError, Claim, NewLine, Outcome};
use crate::fault::{Failure, Fault, one_line};
use crate::oci::digest::Digest;

/// Lines that wait to be written; a build that is faster than the database loses lines rather than memory.
const LINES_WAITING_MAX: usize = 1024;

/// How a worker keeps its claims.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// For how long a claim holds without a sign of life. A crash of the service delays a build by at most this.
    pub lease_s: u32,
    /// How often to look for builds whose lease has lapsed; new ones are told at once.
    pub poll_s: u32,
}

impl Default for WorkerSettings {
    fn default() -> WorkerSettings {
        WorkerSettings { lease_s: 60, poll_s: 5 }
    }
}

/// The image that a build made.
#[derive(Clone, Debug)]
pub struct BuildOutcome {
    /// Where it is, as `host/repository:tag`.
    pub reference: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// What else there is to tell of it (interface, `hs build --output json`).
    pub report: Option<Value>,
}

/// Why a build made none, in words for the user.
#[derive(Clone, Debug)]
pub struct BuildFailure {
    /// The stage that failed.
    pub stage: String,
    /// Whose failure it is.
    pub fault: Fault,
    /// What happened, with its causes.
    pub text: String,
    /// What the user can do.
    pub remedy: Option<String>,
}

impl BuildFailure {
    /// The failure of a stage.
    pub fn new(stage: &str, error: &dyn Failure) -> BuildFailure {
        BuildFailure { stage: stage.to_owned(), fault: error.fault(), text: one_line(&error), remedy: error.remedy() }
    }
}

/// Where a build says what it does. A clone writes to the same log; it never waits.
#[derive(Clone)]
pub struct LogSink {
    lines: mpsc::Sender<NewLine>,
    lost: Arc<AtomicU64>,
}

impl LogSink {
    /// Adds a line.
    pub fn line(&self, line: NewLine) {
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds a line of level info.
    pub fn info(&self, text: impl Into<String>) {
        self.line(NewLine::info(text));
    }

    /// Adds a line of level warning.
    pub fn warning(&self, text: impl Into<String>) {
        self.line(NewLine::warning(text));
    }
}

/// Works until `stop`: one build at a time. A build that runs then is given back to the queue. Start as many of these as builds
/// may run at once.
pub async fn work<Run, Running>(catalog: Catalog, settings: WorkerSettings, stop: CancellationToken, run: Run)
where
    Run: Fn(Claim, LogSink) -> Running,
    Running: Future<Output = Result<BuildOutcome, BuildFailure>> + Send + 'static,
{
    let poll = Duration::from_secs(u64::from(settings.poll_s.max(1)));
    while !stop.is_cancelled() {
        match catalog.claim(settings.lease_s).await {
            Ok(Some(claim)) => build(&catalog, settings, &stop, &run, claim).await,
            Ok(None) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = catalog.work() => {}
                    () = tokio::time::sleep(poll) => {}
                }
            }
            Err(error) => {
                tracing::error!(error = one_line(&error), "cannot claim a build");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(poll) => {}
                }
            }
        }
    }
}

/// A task that ends with its holder.
struct Task(JoinHandle<Result<BuildOutcome, BuildFailure>>);

impl Task {
    /// Stops it and waits until it is gone: with it go the programs and the files that it has, and the service may end right after.
    async fn end(mut self) {
        self.0.abort();
        // Only whether it is over matters here.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn build<Run, Running>(catalog: &Catalog, settings: WorkerSettings, stop: &CancellationToken, run: &Run, claim: Claim)
where
    Run: Fn(Claim, LogSink) -> Running,
    Running: Future<Output = Result<BuildOutcome, BuildFailure>> + Send + 'static,
{
    tracing::info!(model = claim.model, version = claim.number.0, build.id = claim.build.0, attempt = claim.attempt, "build begins");
    let (lines, mut waiting) = mpsc::channel(LINES_WAITING_MAX);
    let sink = LogSink { lines, lost: Arc::new(AtomicU64::new(0)) };
    let lost = sink.lost.clone();
    // A task of its own: a panic in a build is the end of that build, not of the worker.
    let mut task = Task(tokio::spawn(run(claim.clone(), sink)));
    let mut heartbeat = tokio::time::interval(Duration::from_millis(u64::from(settings.lease_s.max(1)) * 1000 / 3));
    let mut batch = Vec::new();
    let mut talking = true;
    let ended = loop {
        tokio::select! {
            ended = &mut task.0 => break ended,
            () = stop.cancelled() => {
                task.end().await;
                return give_back(catalog, &claim).await;
            }
            _ = heartbeat.tick() => {
                if lease_is_lost(catalog.heartbeat(&claim, settings.lease_s).await) {
                    return task.end().await;
                }
            }
            count = waiting.recv_many(&mut batch, LINES_WAITING_MAX), if talking => {
                talking = count > 0;
                if talking && lease_is_lost(catalog.log(&claim, &std::mem::take(&mut batch)).await) {
                    return task.end().await;
                }
            }
        }
    };
    while let Ok(line) = waiting.try_recv() {
        batch.push(line);
    }
    if lost.load(Ordering::Relaxed) > 0 {
        batch.push(NewLine::warning(format!(
            "{} lines came faster than they could be written, and are not kept",
            lost.load(Ordering::Relaxed)
        )));
    }
    if lease_is_lost(catalog.log(&claim, &batch).await) {
        return;
    }
    record(catalog, &claim, ended).await;
}

async fn record(catalog: &Catalog, claim: &Claim, ended: Result<Result<BuildOutcome, BuildFailure>, JoinError>) {
    let (model, version, build) = (&claim.model, claim.number.0, claim.build.0);
    let outcome = match ended {
        Ok(Ok(BuildOutcome { reference, digest, report })) => {
            tracing::info!(model, version, build.id = build, reference, %digest, "build finished");
            Outcome::Finished { reference, digest, report }
        }
        Ok(Err(BuildFailure { stage, fault, text, remedy })) => {
            tracing::warn!(model, version, build.id = build, stage, fault = fault.word(), error = text, "build failed");
            Outcome::Failed(BuildError { stage, fault: Some(fault), cause: text, remedy })
        }
        Err(error) => {
            tracing::error!(model, version, build.id = build, error = error.to_string(), "build panicked");
            let cause = "the builder itself failed; the service's log has the details".to_owned();
            Outcome::Failed(BuildError { stage: "build".to_owned(), fault: Some(Fault::Ours), cause, remedy: None })
        }
    };
    // Where this fails, the lease lapses and the build begins again.
    lease_is_lost(catalog.finish(claim, outcome).await);
}

async fn give_back(catalog: &Catalog, claim: &Claim) {
    tracing::info!(model = claim.model, version = claim.number.0, build.id = claim.build.0, "build is given back: the service stops");
    lease_is_lost(catalog.release(claim).await);
}

/// Whether somebody else has the build now. Any other failure of the database is logged, and the build goes on: it may
/// pass before the lease lapses.
fn lease_is_lost(result: Result<(), CatalogError>) -> bool {
    match result {
        Ok(()) => false,
        Err(error @ CatalogError::LeaseLost { .. }) => {
            tracing::warn!(error = one_line(&error), "build is left: it was taken over or removed");
            true
        }
        Err(error) => {
            tracing::error!(error = one_line(&error), "cannot write to the catalog");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::record::{NewVersion, Status, Version};

    async fn catalog_with_one() -> (tempfile::TempDir, Catalog, Version) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.db")).await.unwrap();
        let version = catalog.create_version(new_version()).await.unwrap();
        (folder, catalog, version)
    }

    fn new_version() -> NewVersion {
        NewVersion {
            model: "m".to_owned(),
            model_type: None,
            description: None,
            metadata: BTreeMap::new(),
            contract: None,
            runtime: None,
            tree_digest: Digest::of(b"tree"),
            request: Value::Null,
            log: Vec::new(),
        }
    }

    fn outcome() -> BuildOutcome {
        BuildOutcome { reference: "host/m:1".to_owned(), digest: Digest::of(b"image"), report: Some(serde_json::json!({"images": []})) }
    }

    /// Runs a worker with `run` until the version is in `status`, then stops it.
    async fn work_until<Run, Running>(catalog: &Catalog, version: &Version, status: Status, run: Run) -> Version
    where
        Run: Fn(Claim, LogSink) -> Running + Send + Sync + 'static,
        Running: Future<Output = Result<BuildOutcome, BuildFailure>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let mut changes = catalog.changes();
        let inner = (catalog.clone(), stop.clone());
        let worker = tokio::spawn(async move { work(inner.0, WorkerSettings::default(), inner.1, run).await });
        while catalog.version(version.id).await.unwrap().status != status {
            changes.recv().await.unwrap();
        }
        stop.cancel();
        worker.await.unwrap();
        catalog.version(version.id).await.unwrap()
    }

    async fn texts(catalog: &Catalog, version: &Version) -> Vec<String> {
        catalog.logs_from(version.build, 0).await.unwrap().into_iter().map(|line| line.text).collect()
    }

    #[tokio::test]
    async fn a_build_ends_with_its_image_and_its_whole_log() {
        let (_folder, catalog, version) = catalog_with_one().await;
        let ended = work_until(&catalog, &version, Status::Finished, |claim, log| async move {
            log.info(format!("building {}:{}", claim.model, claim.number));
            tokio::task::yield_now().await;
            log.warning("last line");
            Ok(outcome())
        })
        .await;
        assert_eq!((ended.image.as_deref(), ended.digest), (Some("host/m:1"), Some(Digest::of(b"image"))));
        assert_eq!(ended.report, outcome().report);
        let lines = texts(&catalog, &version).await;
        assert_eq!(lines[..2], ["building m:1", "last line"]);
        assert!(lines[2].starts_with("finished: host/m:1@sha256:"), "{lines:?}");
    }

    #[tokio::test]
    async fn a_failure_and_a_panic_are_both_recorded_and_the_worker_goes_on() {
        let (_folder, catalog, first) = catalog_with_one().await;
        let second = catalog.create_version(new_version()).await.unwrap();
        let third = catalog.create_version(new_version()).await.unwrap();
        work_until(&catalog, &third, Status::Finished, |claim, _log| async move {
            match claim.number.0 {
                1 => Err(BuildFailure {
                    stage: "push".to_owned(),
                    fault: Fault::Remote,
                    text: "refused".to_owned(),
                    remedy: Some("log in".to_owned()),
                }),
                2 => panic!("a bug"),
                _ => Ok(outcome()),
            }
        })
        .await;
        let error = |text: &str, stage: &str, fault: Fault, remedy: Option<&str>| {
            Some(BuildError { stage: stage.to_owned(), fault: Some(fault), cause: text.to_owned(), remedy: remedy.map(str::to_owned) })
        };
        assert_eq!(catalog.version(first.id).await.unwrap().error, error("refused", "push", Fault::Remote, Some("log in")));
        let panicked = catalog.version(second.id).await.unwrap();
        assert_eq!(panicked.error, error("the builder itself failed; the service's log has the details", "build", Fault::Ours, None));
    }

    #[tokio::test]
    async fn a_stopped_worker_gives_its_build_back_and_the_next_one_ends_it() {
        let (_folder, catalog, version) = catalog_with_one().await;
        let held = work_until(&catalog, &version, Status::Running, |_, _| std::future::pending()).await;
        assert_eq!(held.status, Status::Pending);
        let ended = work_until(&catalog, &version, Status::Finished, |claim, _| async move {
            assert_eq!(claim.attempt, 2);
            Ok(outcome())
        })
        .await;
        assert_eq!(ended.status, Status::Finished);
    }

    #[tokio::test]
    async fn a_build_whose_model_is_removed_is_left_and_the_worker_goes_on() {
        let (_folder, catalog, version) = catalog_with_one().await;
        let stop = CancellationToken::new();
        let (run, stopped) = (catalog.clone(), stop.clone());
        let worker = tokio::spawn(async move {
            let remover = run.clone();
            work(run, WorkerSettings::default(), stopped, move |claim, log| {
                let remover = remover.clone();
                async move {
                    if claim.number.0 == 1 {
                        remover.remove_model(remover.version(claim.version).await.unwrap().model_id).await.unwrap();
                        log.info("nobody keeps this");
                        std::future::pending::<()>().await;
                    }
                    Ok(outcome())
                }
            })
            .await;
        });
        let mut changes = catalog.changes();
        while catalog.version(version.id).await.is_ok() {
            changes.recv().await.unwrap();
        }
        let second = catalog.create_version(new_version()).await.unwrap();
        assert_eq!(second.number.0, 2);
        while !catalog.version(second.id).await.unwrap().status.is_final() {
            changes.recv().await.unwrap();
        }
        stop.cancel();
        worker.await.unwrap();
    }
}
