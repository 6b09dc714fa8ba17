//! The queue of builds: the rows of `build` are the jobs.
//!
//! A worker claims the oldest build that is pending, or that runs under a lease nobody has renewed, and holds it under a lease.
//! Each claim counts the build's `attempt` up; that count is the fencing token. What a worker writes (log, heartbeat, outcome)
//! is written only while its attempt is the last one and the build runs, so a worker that was believed dead and comes back
//! changes nothing.
//!
//! What must stay true: a build is held by one worker at a time as far as the database knows, every build ends, and none ends
//! twice. A build that keeps killing its process ends too: as failed, after [`LAPSES_MAX`] lapses.

use sqlx::{Sqlite, Transaction};

use super::build_log;
use super::catalog::{Catalog, CatalogError, Change, failed, now_ms};
use super::record::{BuildError, BuildId, Claim, NewLine, Outcome, VersionId, VersionNumber};
use super::versions::{get, read_contract, read_digest, read_json};
use crate::fault::Fault;

/// How many times a build may be left lying by its worker. A build whose size or content brings the process down would
/// otherwise bring it down for ever.
pub const LAPSES_MAX: i64 = 5;

// `FOR UPDATE SKIP LOCKED` would follow the inner LIMIT on PostgreSQL; SQLite has one writer.
const CLAIM: &str = "UPDATE build SET lapses = lapses + CASE WHEN status = 'Running' THEN 1 ELSE 0 END, status = 'Running', \
    attempt = attempt + 1, lease_until_ms = $1, started_ms = COALESCE(started_ms, $2) WHERE id = (SELECT id FROM build \
    WHERE status = 'Pending' OR (status = 'Running' AND lease_until_ms <= $2) ORDER BY id LIMIT 1) \
    RETURNING id, attempt, lapses, version_id, tree_digest, request_json";

const CLAIMED_VERSION: &str = "SELECT m.name AS model, v.number, v.model_type, v.runtime, v.contract_json, v.contract_protobin, \
    v.contract_dialect FROM model_version v JOIN model m ON m.id = v.model_id WHERE v.id = $1";

impl Catalog {
    /// Takes the oldest build that nobody has, for `lease_s` seconds; `None` where there is none.
    pub async fn claim(&self, lease_s: u32) -> Result<Option<Claim>, CatalogError> {
        loop {
            let Some((claim, lapses)) = self.claim_next(lease_s).await? else { return Ok(None) };
            if lapses < LAPSES_MAX {
                return Ok(Some(claim));
            }
            let cause = format!("the build was begun {lapses} times, and each time its worker ended before it did");
            let remedy = Some("look in the service's log for what ends it (memory, disk space), then upload again".to_owned());
            let error = BuildError { stage: "queue".to_owned(), fault: Some(Fault::Ours), cause, remedy };
            self.finish(&claim, Outcome::Failed(error)).await?;
        }
    }

    async fn claim_next(&self, lease_s: u32) -> Result<Option<(Claim, i64)>, CatalogError> {
        let operation = "claim a build";
        let mut transaction = self.write(operation).await?;
        let now = now_ms();
        let query = sqlx::query(CLAIM).bind(now + i64::from(lease_s) * 1000).bind(now);
        let Some(build) = query.fetch_optional(&mut *transaction).await.map_err(failed(operation))? else { return Ok(None) };
        let version: VersionId = get(&build, "version_id")?;
        let row = sqlx::query(CLAIMED_VERSION).bind(version).fetch_one(&mut *transaction).await.map_err(failed(operation))?;
        let claim = Claim {
            build: get(&build, "id")?,
            attempt: get(&build, "attempt")?,
            version,
            model: get(&row, "model")?,
            number: get(&row, "number")?,
            model_type: get(&row, "model_type")?,
            runtime: get(&row, "runtime")?,
            contract: read_contract(&row)?,
            tree_digest: read_digest(&get::<String>(&build, "tree_digest")?, "tree_digest")?,
            request: read_json(&get::<String>(&build, "request_json")?, "request_json")?,
        };
        let lapses = get(&build, "lapses")?;
        if claim.attempt > 1 {
            let again = NewLine::warning(format!("attempt {}: the one before did not end; beginning again", claim.attempt));
            build_log::append(&mut transaction, claim.build, &[again]).await?;
        }
        transaction.commit().await.map_err(failed(operation))?;
        self.tell_version(&claim);
        Ok(Some((claim, lapses)))
    }

    /// Holds a claimed build for another `lease_s` seconds.
    pub async fn heartbeat(&self, claim: &Claim, lease_s: u32) -> Result<(), CatalogError> {
        let operation = "renew the lease of a build";
        let mut transaction = self.write(operation).await?;
        fence(&mut transaction, claim, operation).await?;
        let query = sqlx::query("UPDATE build SET lease_until_ms = $1 WHERE id = $2").bind(now_ms() + i64::from(lease_s) * 1000);
        query.bind(claim.build).execute(&mut *transaction).await.map_err(failed(operation))?;
        transaction.commit().await.map_err(failed(operation))
    }

    /// Puts a claimed build back into the queue: its worker is asked to stop. This is no lapse.
    pub async fn release(&self, claim: &Claim) -> Result<(), CatalogError> {
        let operation = "put a build back";
        let mut transaction = self.write(operation).await?;
        fence(&mut transaction, claim, operation).await?;
        let query = sqlx::query("UPDATE build SET status = 'Pending', lease_until_ms = NULL WHERE id = $1").bind(claim.build);
        query.execute(&mut *transaction).await.map_err(failed(operation))?;
        transaction.commit().await.map_err(failed(operation))?;
        self.tell_version(claim);
        self.tell_work();
        Ok(())
    }

    /// Records how a claimed build ended.
    pub async fn finish(&self, claim: &Claim, outcome: Outcome) -> Result<(), CatalogError> {
        let operation = "record how a build ended";
        let mut transaction = self.write(operation).await?;
        fence(&mut transaction, claim, operation).await?;
        let (status, line) = match &outcome {
            Outcome::Finished { reference, digest, .. } => ("Finished", NewLine::info(format!("finished: {reference}@{digest}"))),
            Outcome::Failed(error) => ("Failed", NewLine::error(format!("failed: {}: {}", error.stage, error.cause))),
        };
        build_log::append(&mut transaction, claim.build, &[line]).await?;
        let query = sqlx::query("UPDATE build SET status = $1, lease_until_ms = NULL WHERE id = $2").bind(status).bind(claim.build);
        query.execute(&mut *transaction).await.map_err(failed(operation))?;
        let query = match outcome {
            Outcome::Finished { reference, digest, report } => {
                sqlx::query("UPDATE model_version SET finished_ms = $2, image_reference = $3, digest = $4, report_json = $5 WHERE id = $1")
                    .bind(claim.version)
                    .bind(now_ms())
                    .bind(reference)
                    .bind(digest.to_string())
                    .bind(report.map(|report| report.to_string()))
            }
            Outcome::Failed(error) => sqlx::query(
                "UPDATE model_version SET finished_ms = $2, error_stage = $3, error_fault = $4, error_cause = $5, error_remedy = $6 WHERE id = $1",
            )
            .bind(claim.version)
            .bind(now_ms())
            .bind(error.stage)
            .bind(error.fault.map(Fault::word))
            .bind(error.cause)
            .bind(error.remedy),
        };
        query.execute(&mut *transaction).await.map_err(failed(operation))?;
        transaction.commit().await.map_err(failed(operation))?;
        self.tell_version(claim);
        Ok(())
    }

    /// Lets every lease lapse at once. For the start of the only process on this database: whatever runs there, runs no more.
    /// Gives the number of builds that will begin again.
    pub async fn lapse_leases(&self) -> Result<u64, CatalogError> {
        let operation = "lapse the leases";
        let mut transaction = self.write(operation).await?;
        let query = sqlx::query("UPDATE build SET lease_until_ms = 0 WHERE status = 'Running'");
        let lapsed = query.execute(&mut *transaction).await.map_err(failed(operation))?.rows_affected();
        transaction.commit().await.map_err(failed(operation))?;
        self.tell_work();
        Ok(lapsed)
    }

    fn tell_version(&self, claim: &Claim) {
        let number: VersionNumber = claim.number;
        self.tell(Change::Version { id: claim.version, model: claim.model.clone(), number });
    }
}

/// Refuses to go on where the claim is not the last one, or the build has ended or is gone.
pub(super) async fn fence(
    transaction: &mut Transaction<'static, Sqlite>,
    claim: &Claim,
    operation: &'static str,
) -> Result<(), CatalogError> {
    let query = sqlx::query_scalar::<_, BuildId>("SELECT id FROM build WHERE id = $1 AND attempt = $2 AND status = 'Running'");
    let held = query.bind(claim.build).bind(claim.attempt).fetch_optional(&mut **transaction).await.map_err(failed(operation))?;
    held.map(|_| ()).ok_or(CatalogError::LeaseLost { build: claim.build, attempt: claim.attempt })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::build_log::LOG_LINES_MAX;
    use super::super::record::{KeptContract, NewVersion, Status};
    use super::super::versions::Page;
    use super::*;
    use crate::oci::digest::Digest;

    pub async fn catalog() -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.db")).await.unwrap();
        (folder, catalog)
    }

    pub fn new_version(model: &str) -> NewVersion {
        NewVersion {
            model: model.to_owned(),
            model_type: Some("python:3.11".to_owned()),
            description: Some("a description".to_owned()),
            metadata: BTreeMap::from([("git.branch".to_owned(), "main".to_owned())]),
            contract: Some(KeptContract { json: serde_json::json!({"signatures": []}), protobin: vec![0x0a, 0], dialect: "v1".to_owned() }),
            runtime: None,
            tree_digest: Digest::of(model.as_bytes()),
            request: serde_json::json!({"some": ["request"]}),
            log: vec![NewLine::info("uploaded")],
        }
    }

    pub fn finished(text: &str) -> Outcome {
        Outcome::Finished { reference: format!("127.0.0.1:5000/{text}"), digest: Digest::of(text.as_bytes()), report: None }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn uploads_of_one_model_at_once_get_the_numbers_one_to_n_each_once() {
        let (_folder, catalog) = catalog().await;
        let tasks: Vec<_> = (0..24)
            .map(|_| {
                let catalog = catalog.clone();
                tokio::spawn(async move { catalog.create_version(new_version("m")).await.unwrap().number.0 })
            })
            .collect();
        let mut numbers = BTreeSet::new();
        for task in tasks {
            assert!(numbers.insert(task.await.unwrap()), "a number was given twice");
        }
        assert_eq!(numbers, (1..=24).collect());
        assert_eq!(catalog.model("m").await.unwrap().versions, 24);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_build_is_claimed_exactly_once_by_several_workers() {
        let (_folder, catalog) = catalog().await;
        for _ in 0..40 {
            catalog.create_version(new_version("m")).await.unwrap();
        }
        let workers: Vec<_> = (0..5)
            .map(|_| {
                let catalog = catalog.clone();
                tokio::spawn(async move {
                    let mut taken = Vec::new();
                    while let Some(claim) = catalog.claim(600).await.unwrap() {
                        taken.push(claim.build.0);
                        catalog.finish(&claim, finished("m")).await.unwrap();
                    }
                    taken
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all.len(), 40);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 40);
        let left = catalog.versions("m", Page::first()).await.unwrap().rows;
        assert!(left.iter().all(|version| version.status == Status::Finished && version.finished.is_some()));
    }

    #[tokio::test]
    async fn a_claim_carries_what_the_upload_gave() {
        let (_folder, catalog) = catalog().await;
        let version = catalog.create_version(new_version("m")).await.unwrap();
        assert_eq!((version.status, version.started, version.number), (Status::Pending, None, VersionNumber(1)));
        let claim = catalog.claim(60).await.unwrap().unwrap();
        let new = new_version("m");
        assert_eq!((claim.version, claim.number, claim.attempt), (version.id, version.number, 1));
        assert_eq!((&claim.model, &claim.model_type, claim.tree_digest), (&new.model, &new.model_type, new.tree_digest));
        assert_eq!((claim.contract, claim.request), (new.contract, new.request));
        let running = catalog.version(version.id).await.unwrap();
        assert_eq!(running.status, Status::Running);
        assert!(running.started.is_some());
        assert_eq!(running.metadata, new.metadata);
        assert!(catalog.claim(60).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_lapsed_build_is_claimed_again_and_its_first_worker_writes_nothing() {
        let (_folder, catalog) = catalog().await;
        let version = catalog.create_version(new_version("m")).await.unwrap();
        let first = catalog.claim(0).await.unwrap().unwrap();
        let second = catalog.claim(600).await.unwrap().unwrap();
        assert_eq!((second.build, second.attempt), (first.build, first.attempt + 1));
        let before = catalog.logs_from(first.build, 0).await.unwrap();
        let late =
            |result: Result<(), CatalogError>| assert!(matches!(result, Err(CatalogError::LeaseLost { attempt: 1, .. })), "{result:?}");
        late(catalog.finish(&first, finished("first")).await);
        late(catalog.log(&first, &[NewLine::info("late")]).await);
        late(catalog.heartbeat(&first, 600).await);
        late(catalog.release(&first).await);
        assert_eq!(catalog.logs_from(first.build, 0).await.unwrap(), before);
        catalog.finish(&second, finished("second")).await.unwrap();
        let ended = catalog.version(version.id).await.unwrap();
        assert_eq!((ended.status, ended.image.as_deref()), (Status::Finished, Some("127.0.0.1:5000/second")));
        // Nor does a worker end what it has ended.
        assert!(matches!(catalog.finish(&second, finished("again")).await, Err(CatalogError::LeaseLost { attempt: 2, .. })));
    }

    #[tokio::test]
    async fn a_heartbeat_keeps_a_build_and_a_release_gives_it_back() {
        let (_folder, catalog) = catalog().await;
        catalog.create_version(new_version("m")).await.unwrap();
        let claim = catalog.claim(0).await.unwrap().unwrap();
        catalog.heartbeat(&claim, 600).await.unwrap();
        assert!(catalog.claim(600).await.unwrap().is_none());
        catalog.release(&claim).await.unwrap();
        assert_eq!(catalog.claim(600).await.unwrap().unwrap().attempt, 2);
    }

    #[tokio::test]
    async fn a_restart_takes_up_what_ran_and_a_build_that_kills_its_worker_ends_as_failed() {
        let (folder, catalog) = catalog().await;
        let version = catalog.create_version(new_version("m")).await.unwrap();
        for attempt in 1..=LAPSES_MAX {
            assert_eq!(catalog.claim(600).await.unwrap().unwrap().attempt, attempt);
            assert_eq!(catalog.lapse_leases().await.unwrap(), 1);
        }
        assert!(catalog.claim(600).await.unwrap().is_none());
        catalog.close().await;
        let catalog = Catalog::open(&folder.path().join("catalog.db")).await.unwrap();
        let ended = catalog.version(version.id).await.unwrap();
        let error = ended.error.unwrap();
        assert_eq!((ended.status, error.stage.as_str(), error.fault), (Status::Failed, "queue", Some(Fault::Ours)));
        assert!(error.remedy.is_some());
        assert!(catalog.logs_from(ended.build, LOG_LINES_MAX - 1).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_failure_keeps_its_reason_and_its_number() {
        let (_folder, catalog) = catalog().await;
        let mut changes = catalog.changes();
        let version = catalog.create_version(new_version("m")).await.unwrap();
        let claim = catalog.claim(60).await.unwrap().unwrap();
        let error = BuildError { stage: "push".to_owned(), fault: Some(Fault::RemoteTransient), cause: "no".to_owned(), remedy: None };
        catalog.finish(&claim, Outcome::Failed(error.clone())).await.unwrap();
        let ended = catalog.version(version.id).await.unwrap();
        assert_eq!((ended.status, ended.error, ended.image), (Status::Failed, Some(error), None));
        assert_eq!(catalog.create_version(new_version("m")).await.unwrap().number, VersionNumber(2));
        let told = Change::Version { id: version.id, model: "m".to_owned(), number: VersionNumber(1) };
        for _ in 0..3 {
            assert_eq!(changes.recv().await.unwrap(), told);
        }
    }
}
