//! The catalog: opening its database, its errors, and who is told of a change.
//!
//! SQLite in one file: a pool of one connection that writes, so that writers queue fairly inside the process, and a pool that
//! reads beside it (WAL). The statements, in the files beside this one, are such as PostgreSQL takes too: `$1` placeholders,
//! `ON CONFLICT`, `RETURNING`, no SQLite function. Only the migrations and this file know which database it is.
//!
//! What must stay true: a transaction that has answered `Ok` survives a power cut (`synchronous = FULL`), and a change is told
//! after its commit, never before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};
use tokio::sync::{Notify, broadcast};

use super::record::{BuildId, ModelId, VersionId, VersionNumber};
use crate::fault::{Failure, Fault};

/// How long a statement waits for another process to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that read. Each is a thread and about 2 MiB of page cache.
const READERS: u32 = 4;
/// How far a listener may fall behind before it is told to look at everything again.
const CHANGES_KEPT: usize = 1024;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// Models, versions, builds, applications. A clone is another handle on the same database.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writer: SqlitePool,
    reader: SqlitePool,
    changes: broadcast::Sender<Change>,
    work: Notify,
}

/// Something that a live page shows is different now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A version is there, or its status is another.
    Version {
        /// The version.
        id: VersionId,
        /// The name of its model.
        model: String,
        /// Its number.
        number: VersionNumber,
    },
    /// A model and its versions are gone.
    ModelRemoved {
        /// The model.
        id: ModelId,
        /// Its name.
        name: String,
    },
    /// A build has more log.
    Log(BuildId),
    /// An application is there.
    Application {
        /// Its name.
        name: String,
    },
    /// An application is gone.
    ApplicationRemoved {
        /// Its name.
        name: String,
    },
}

/// Why the catalog could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file cannot be opened as our database.
    #[error("cannot open the catalog {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The schema cannot be brought up to date.
    #[error("cannot bring the schema of the catalog {path} up to date")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("cannot {operation} in the catalog")]
    Statement {
        /// What it was for.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A row holds what no version of this program writes.
    #[error("the catalog has {value:?} as {column}")]
    Row {
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// Another worker has the build now, or it is gone: what this one has to say no longer counts.
    #[error("build {build}: attempt {attempt} is no longer the one that runs")]
    LeaseLost {
        /// The build.
        build: BuildId,
        /// The attempt that came too late.
        attempt: i64,
    },
    /// What was asked for is not there.
    #[error("there is no {0}")]
    Missing(String),
    /// A model cannot go while applications use it.
    #[error("model `{model}` is used by {}", .applications.join(", "))]
    InUse {
        /// The model.
        model: String,
        /// Who uses it.
        applications: Vec<String>,
    },
    /// There is one of that name.
    #[error("there is already an application `{0}`")]
    ApplicationExists(String),
    /// An application's graph cannot be.
    #[error("application `{name}`: {reason}")]
    Graph {
        /// The application.
        name: String,
        /// What is wrong with its graph.
        reason: String,
    },
}

impl Failure for CatalogError {
    fn fault(&self) -> Fault {
        match self {
            CatalogError::Open { .. }
            | CatalogError::Migrate { .. }
            | CatalogError::Statement { .. }
            | CatalogError::Row { .. }
            | CatalogError::LeaseLost { .. } => Fault::Ours,
            CatalogError::Missing(_) => Fault::Missing,
            CatalogError::InUse { .. } | CatalogError::ApplicationExists(_) => Fault::Conflict,
            CatalogError::Graph { .. } => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            CatalogError::InUse { applications, .. } => Some(format!("remove {} first", applications.join(", "))),
            CatalogError::ApplicationExists(name) => Some(format!("remove application `{name}` first, or choose another name")),
            CatalogError::Migrate { .. } => {
                Some("a newer lamina may have written it: start that one, or use another data folder".to_owned())
            }
            _ => None,
        }
    }
}

/// Gives a failed statement the name of what it was for.
pub(super) fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> CatalogError {
    move |source| CatalogError::Statement { operation, source }
}

impl Catalog {
    /// Opens the database file at `path`, makes it where it is not there, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Catalog, CatalogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let open = |source| CatalogError::Open { path: path.to_owned(), source };
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(open)?;
        MIGRATIONS.run(&writer).await.map_err(|source| CatalogError::Migrate { path: path.to_owned(), source })?;
        let reader = SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await.map_err(open)?;
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let inner = Inner { path: path.to_owned(), writer, reader, changes, work: Notify::new() };
        Ok(Catalog { inner: Arc::new(inner) })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Every change from now on. A listener that falls behind gets `Lagged` and should look at everything again.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Waits until a build may be there to claim. One that came while nobody waited ends the next wait at once.
    pub fn work(&self) -> impl Future<Output = ()> + '_ {
        self.inner.work.notified()
    }

    /// Writes what is in the log of the database into its file and closes it; handles that are left fail from here on.
    pub async fn close(&self) {
        self.inner.reader.close().await;
        self.inner.writer.close().await;
    }

    pub(super) fn reader(&self) -> &SqlitePool {
        &self.inner.reader
    }

    /// A transaction that writes. It takes the lock when it begins: one that reads first and then writes would be refused when
    /// another has written in between (`SQLITE_BUSY_SNAPSHOT`, which no time-out cures).
    pub(super) async fn write(&self, operation: &'static str) -> Result<Transaction<'static, Sqlite>, CatalogError> {
        self.inner.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed(operation))
    }

    pub(super) fn tell(&self, change: Change) {
        // No listener is no failure.
        let _ = self.inner.changes.send(change);
    }

    pub(super) fn tell_work(&self) {
        self.inner.work.notify_one();
    }
}

/// Now, as the database keeps it.
pub(super) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

pub(super) fn timestamp(ms: i64, column: &'static str) -> Result<Timestamp, CatalogError> {
    Timestamp::from_millisecond(ms).map_err(|_| CatalogError::Row { column, value: ms.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::queue::tests::new_version;
    use super::super::record::{BuildError, Outcome};
    use super::*;

    #[tokio::test]
    async fn a_catalog_is_made_where_there_is_none_and_opened_where_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        Catalog::open(&path).await.unwrap().close().await;
        let again = Catalog::open(&path).await.unwrap();
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(again.reader()).await.unwrap();
        let keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(again.reader()).await.unwrap();
        assert_eq!((mode.as_str(), keys), ("wal", 1));
    }

    /// As the first release left it: a database of the first migration alone, with a model whose one build failed.
    #[tokio::test]
    async fn a_catalog_of_an_earlier_release_is_brought_up_to_date_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let old = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let first = sqlx::migrate::Migrator::with_migrations(MIGRATIONS.iter().take(1).cloned().collect());
        first.run(&old).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO model (name, created_ms, updated_ms) VALUES ('m', 1, 1); INSERT INTO numbering VALUES ('m', 1); \
             INSERT INTO model_version (model_id, number, created_ms, finished_ms, metadata_json, error_stage, error_cause, error_remedy) \
             VALUES (1, 1, 1, 2, '{}', 'send', 'refused', 'log in'); \
             INSERT INTO build (version_id, status, attempt, lapses, tree_digest, request_json) VALUES (1, 'Failed', 1, 0, 'sha256:0', '{}');",
        )
        .execute(&old)
        .await
        .unwrap();
        old.close().await;

        for _ in 0..2 {
            let catalog = Catalog::open(&path).await.unwrap();
            let version = catalog.version_of("m", VersionNumber(1)).await.unwrap();
            let (cause, remedy) = ("refused".to_owned(), Some("log in".to_owned()));
            assert_eq!(version.error, Some(BuildError { stage: "send".to_owned(), fault: None, cause, remedy }));
            catalog.close().await;
        }
        // What it is given from here on is kept with its class.
        let catalog = Catalog::open(&path).await.unwrap();
        let next = catalog.create_version(new_version("m")).await.unwrap();
        assert_eq!(next.number, VersionNumber(2));
        let claim = catalog.claim(60).await.unwrap().unwrap();
        let error = BuildError { stage: "fit".to_owned(), fault: Some(Fault::Policy), cause: "no".to_owned(), remedy: None };
        catalog.finish(&claim, Outcome::Failed(error.clone())).await.unwrap();
        assert_eq!(catalog.version(next.id).await.unwrap().error, Some(error));
    }

    #[tokio::test]
    async fn a_file_that_is_something_else_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        std::fs::write(&path, "somebody's notes, much longer than the header of a database would be".repeat(20)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = Catalog::open(&path).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, CatalogError::Open { .. }), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
