//! Applications: a name and an execution graph over versions.
//!
//! A graph is stages in a row; a stage is one or more versions that share its traffic by weight. An application is kept and shown
//! here, and it holds the versions that it uses; it is not run by this service.
//!
//! What must stay true: every version that a graph names is there, finished, and cannot be removed while the application is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use super::catalog::{Catalog, CatalogError, Change, failed, now_ms, timestamp};
use super::record::{Status, VersionId, VersionNumber};
use super::versions::{Page, Rows, get, read_status};

/// The longest name. Names are in URLs and on pages.
const NAME_BYTES_MAX: usize = 128;
/// The most stages, and the most versions in a stage: far above what anybody can watch, far below what a page can show.
const STAGES_MAX: usize = 32;
const VARIANTS_MAX: usize = 100;

/// A version in a stage, and its part of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The version.
    pub version: VersionId,
    /// The name of its model.
    pub model: String,
    /// Its number.
    pub number: VersionNumber,
    /// Percent of the stage's traffic.
    pub weight: u8,
}

/// An application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its identity.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What a request passes through, in order.
    pub stages: Vec<Vec<Variant>>,
}

/// An application to be: for each stage its versions and their weights.
#[derive(Clone, Debug)]
pub struct NewApplication {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// What a request passes through, in order.
    pub stages: Vec<Vec<(VersionId, u8)>>,
}

/// A variant as `graph_json` has it.
#[derive(Serialize, Deserialize)]
struct KeptVariant {
    version_id: i64,
    weight: u8,
}

impl Catalog {
    /// Makes an application.
    pub async fn create_application(&self, new: NewApplication) -> Result<Application, CatalogError> {
        check_shape(&new)?;
        let operation = "create an application";
        let mut transaction = self.write(operation).await?;
        let kept: Vec<Vec<KeptVariant>> = new
            .stages
            .iter()
            .map(|stage| stage.iter().map(|(version, weight)| KeptVariant { version_id: version.0, weight: *weight }).collect())
            .collect();
        let query = sqlx::query(
            "INSERT INTO application (name, created_ms, graph_json) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING \
             RETURNING id, name, created_ms, graph_json",
        );
        let query = query.bind(&new.name).bind(now_ms()).bind(serde_json::json!(kept).to_string());
        let row = query.fetch_optional(&mut *transaction).await.map_err(failed(operation))?;
        let row = row.ok_or_else(|| CatalogError::ApplicationExists(new.name.clone()))?;
        let id: i64 = get(&row, "id")?;
        for (version, _) in new.stages.iter().flatten() {
            check_version(&mut transaction, &new.name, *version).await?;
            let query = sqlx::query("INSERT INTO application_use (application_id, version_id) VALUES ($1, $2) ON CONFLICT DO NOTHING");
            query.bind(id).bind(version).execute(&mut *transaction).await.map_err(failed(operation))?;
        }
        let application = read(&mut transaction, &row).await?;
        transaction.commit().await.map_err(failed(operation))?;
        self.tell_used(&application);
        self.tell(Change::Application { name: application.name.clone() });
        Ok(application)
    }

    /// The application of this name.
    pub async fn application(&self, name: &str) -> Result<Application, CatalogError> {
        let operation = "read an application";
        let mut transaction = self.reader().begin().await.map_err(failed(operation))?;
        let row = find(&mut transaction, name).await?;
        read(&mut transaction, &row).await
    }

    /// The applications, oldest first; `page.after` is an application's identity.
    pub async fn applications(&self, page: Page) -> Result<Rows<Application>, CatalogError> {
        let operation = "list the applications";
        let mut transaction = self.reader().begin().await.map_err(failed(operation))?;
        let query = sqlx::query("SELECT id, name, created_ms, graph_json FROM application WHERE id > $1 ORDER BY id LIMIT $2");
        let query = query.bind(page.after.unwrap_or(0)).bind(page.limit());
        let rows = query.fetch_all(&mut *transaction).await.map_err(failed(operation))?;
        let mut applications = Vec::with_capacity(rows.len());
        for row in rows {
            applications.push(read(&mut transaction, &row).await?);
        }
        Ok(Rows::new(applications, page, false, |application| application.id))
    }

    /// Removes an application.
    pub async fn remove_application(&self, name: &str) -> Result<Application, CatalogError> {
        let operation = "remove an application";
        let mut transaction = self.write(operation).await?;
        let row = find(&mut transaction, name).await?;
        let application = read(&mut transaction, &row).await?;
        let query = sqlx::query("DELETE FROM application WHERE id = $1").bind(application.id);
        query.execute(&mut *transaction).await.map_err(failed(operation))?;
        transaction.commit().await.map_err(failed(operation))?;
        self.tell_used(&application);
        self.tell(Change::ApplicationRemoved { name: application.name.clone() });
        Ok(application)
    }

    /// The pages of the versions show which applications use them.
    fn tell_used(&self, application: &Application) {
        for variant in application.stages.iter().flatten() {
            self.tell(Change::Version { id: variant.version, model: variant.model.clone(), number: variant.number });
        }
    }
}

fn check_shape(new: &NewApplication) -> Result<(), CatalogError> {
    let refuse = |reason: String| Err(CatalogError::Graph { name: new.name.chars().take(NAME_BYTES_MAX).collect(), reason });
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if new.name.is_empty() || new.name.len() > NAME_BYTES_MAX || !new.name.chars().all(letters) {
        return refuse(format!("a name is 1 to {NAME_BYTES_MAX} letters, digits, `-` and `_`"));
    }
    if new.stages.is_empty() || new.stages.len() > STAGES_MAX {
        return refuse(format!("it has {} stages; 1 to {STAGES_MAX} are possible", new.stages.len()));
    }
    for (stage, number) in new.stages.iter().zip(1..) {
        let total: u32 = stage.iter().map(|(_, weight)| u32::from(*weight)).sum();
        if stage.is_empty() || stage.len() > VARIANTS_MAX {
            return refuse(format!("stage {number} has {} versions; 1 to {VARIANTS_MAX} are possible", stage.len()));
        }
        if total != 100 {
            return refuse(format!("the weights of stage {number} add up to {total}, not to 100"));
        }
    }
    Ok(())
}

async fn check_version(transaction: &mut Transaction<'static, Sqlite>, name: &str, version: VersionId) -> Result<(), CatalogError> {
    let refuse = |reason: String| CatalogError::Graph { name: name.to_owned(), reason };
    let query = sqlx::query_scalar::<_, String>("SELECT status FROM build WHERE version_id = $1").bind(version);
    let status = query.fetch_optional(&mut **transaction).await.map_err(failed("create an application"))?;
    let status = status.ok_or_else(|| refuse(format!("there is no version with id {version}")))?;
    match read_status(&status)? {
        Status::Finished => Ok(()),
        other => Err(refuse(format!("the build of version {version} is {other}; only a finished version can be used"))),
    }
}

async fn find(transaction: &mut Transaction<'static, Sqlite>, name: &str) -> Result<SqliteRow, CatalogError> {
    let query = sqlx::query("SELECT id, name, created_ms, graph_json FROM application WHERE name = $1").bind(name);
    let row = query.fetch_optional(&mut **transaction).await.map_err(failed("read an application"))?;
    row.ok_or_else(|| CatalogError::Missing(format!("application `{name}`")))
}

async fn read(transaction: &mut Transaction<'static, Sqlite>, row: &SqliteRow) -> Result<Application, CatalogError> {
    let graph: String = get(row, "graph_json")?;
    let kept: Vec<Vec<KeptVariant>> =
        serde_json::from_str(&graph).map_err(|_| CatalogError::Row { column: "graph_json", value: graph.chars().take(200).collect() })?;
    let mut stages = Vec::with_capacity(kept.len());
    for kept_stage in kept {
        let mut stage = Vec::with_capacity(kept_stage.len());
        for KeptVariant { version_id, weight } in kept_stage {
            let query = sqlx::query_as::<_, (String, VersionNumber)>(
                "SELECT m.name, v.number FROM model_version v JOIN model m ON m.id = v.model_id WHERE v.id = $1",
            );
            let (model, number) = query.bind(version_id).fetch_one(&mut **transaction).await.map_err(failed("read an application"))?;
            stage.push(Variant { version: VersionId(version_id), model, number, weight });
        }
        stages.push(stage);
    }
    Ok(Application { id: get(row, "id")?, name: get(row, "name")?, created: timestamp(get(row, "created_ms")?, "created_ms")?, stages })
}

#[cfg(test)]
mod tests {
    use super::super::queue::tests::{catalog, finished, new_version};
    use super::*;

    async fn finished_version(catalog: &Catalog, model: &str) -> VersionId {
        let version = catalog.create_version(new_version(model)).await.unwrap();
        let claim = catalog.claim(60).await.unwrap().unwrap();
        catalog.finish(&claim, finished(model)).await.unwrap();
        version.id
    }

    fn application(name: &str, stages: Vec<Vec<(VersionId, u8)>>) -> NewApplication {
        NewApplication { name: name.to_owned(), stages }
    }

    #[tokio::test]
    async fn an_application_shows_in_its_versions_and_holds_their_model() {
        let (_folder, catalog) = catalog().await;
        let (a, b) = (finished_version(&catalog, "a").await, finished_version(&catalog, "b").await);
        let made = catalog.create_application(application("two", vec![vec![(a, 40), (b, 60)], vec![(b, 100)]])).await.unwrap();
        catalog.create_application(application("one", vec![vec![(b, 100)]])).await.unwrap();
        assert_eq!(catalog.application("two").await.unwrap(), made);
        assert_eq!(made.stages[0][1], Variant { version: b, model: "b".to_owned(), number: VersionNumber(1), weight: 60 });
        assert_eq!(catalog.version(b).await.unwrap().applications, ["one", "two"]);
        let model = catalog.model("b").await.unwrap();
        let error = catalog.remove_model(model.id).await.unwrap_err();
        assert_eq!(error.to_string(), "model `b` is used by one, two");
        catalog.remove_application("one").await.unwrap();
        catalog.remove_application("two").await.unwrap();
        assert_eq!(catalog.applications(Page::first()).await.unwrap().rows, []);
        catalog.remove_model(model.id).await.unwrap();
        assert!(matches!(catalog.version(b).await, Err(CatalogError::Missing(_))));
        // Its numbers are not given again.
        assert_eq!(catalog.create_version(new_version("b")).await.unwrap().number, VersionNumber(2));
    }

    #[tokio::test]
    async fn graphs_that_cannot_be_are_refused_and_leave_nothing() {
        let (_folder, catalog) = catalog().await;
        let a = finished_version(&catalog, "a").await;
        let pending = catalog.create_version(new_version("p")).await.unwrap().id;
        let cases = [
            (application("a,b", vec![vec![(a, 100)]]), "a name is"),
            (application("", vec![vec![(a, 100)]]), "a name is"),
            (application("x", vec![]), "0 stages"),
            (application("x", vec![vec![]]), "stage 1 has 0 versions"),
            (application("x", vec![vec![(a, 100)], vec![(a, 99)]]), "stage 2 add up to 99"),
            (application("x", vec![vec![(VersionId(99), 100)]]), "no version with id 99"),
            (application("x", vec![vec![(pending, 100)]]), "is Pending"),
        ];
        for (new, word) in cases {
            let error = catalog.create_application(new).await.unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(catalog.applications(Page::first()).await.unwrap().rows, []);
        catalog.create_application(application("x", vec![vec![(a, 100)]])).await.unwrap();
        let twice = catalog.create_application(application("x", vec![vec![(a, 100)]])).await.unwrap_err();
        assert!(matches!(twice, CatalogError::ApplicationExists(_)));
    }
}
