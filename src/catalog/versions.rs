//! Models and versions: given a number, found, listed, removed.
//!
//! What must stay true: a version, its number and its build are made in one transaction, so a number is taken if and only if the
//! upload has been accepted; numbers of a model count up one by one and none is given twice, also after the model is removed
//! (`numbering` stays).

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};
use tokio_stream::StreamExt as _;

use super::build_log;
use super::catalog::{Catalog, CatalogError, Change, failed, now_ms, timestamp};
use super::record::{BuildError, BuildId, KeptContract, Model, ModelId, NewVersion, Status, Version, VersionId, VersionNumber};
use crate::fault::Fault;

/// The most rows of one page.
pub const PAGE_ROWS_MAX: u32 = 1000;
/// A page of versions ends early once its contracts are this large together: a contract may be 1 MiB, and a page is held in memory.
const PAGE_CONTRACT_BYTES_MAX: usize = 32 << 20;

/// The member of a version's request by which an upload that is repeated is known.
pub const UPLOAD_KEY: &str = "upload_key";
/// In so many of a model's last versions it is looked for: an upload is repeated within minutes.
const KEYS_LOOKED_AT: i64 = 100;

/// A version with all that belongs to it. `$1`… and what follows the joins are the caller's.
macro_rules! select_version {
    ($rest:literal) => {
        concat!(
            "SELECT v.id, v.model_id, m.name AS model, v.number, b.id AS build_id, b.status, v.created_ms, b.started_ms, ",
            "v.finished_ms, v.model_type, v.description, v.metadata_json, v.contract_json, v.contract_protobin, ",
            "v.contract_dialect, v.runtime, v.image_reference, v.digest, v.report_json, v.error_stage, v.error_fault, v.error_cause, ",
            "v.error_remedy, (SELECT string_agg(a.name, ',' ORDER BY a.name) FROM application_use u ",
            "JOIN application a ON a.id = u.application_id WHERE u.version_id = v.id) AS applications ",
            "FROM model_version v JOIN model m ON m.id = v.model_id JOIN build b ON b.version_id = v.id ",
            $rest
        )
    };
}

macro_rules! select_model {
    ($rest:literal) => {
        concat!(
            "SELECT m.id, m.name, m.created_ms, m.updated_ms, ",
            "(SELECT COUNT(*) FROM model_version v WHERE v.model_id = m.id) AS versions, ",
            "(SELECT MAX(v.number) FROM model_version v WHERE v.model_id = m.id) AS last_number, ",
            "(SELECT b.status FROM build b JOIN model_version v ON v.id = b.version_id ",
            "WHERE v.model_id = m.id ORDER BY v.number DESC LIMIT 1) AS last_status FROM model m ",
            $rest
        )
    };
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// What to ask for next (`Page::after`); `None` after the last row.
    pub next: Option<i64>,
}

impl<T> Rows<T> {
    /// `cut`: the reading ended before the rows did.
    pub(super) fn new(rows: Vec<T>, page: Page, cut: bool, key: impl Fn(&T) -> i64) -> Rows<T> {
        let more = cut || i64::try_from(rows.len()).is_ok_and(|count| count >= page.limit());
        let next = rows.last().map(key).filter(|_| more);
        Rows { rows, next }
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Rows after this one (exclusive), in the order of the list; `None` is the beginning.
    pub after: Option<i64>,
    /// At most so many rows; [`PAGE_ROWS_MAX`] is the limit of the limit.
    pub rows: u32,
}

impl Page {
    /// The first page, as large as pages get.
    pub fn first() -> Page {
        Page { after: None, rows: PAGE_ROWS_MAX }
    }

    pub(super) fn limit(&self) -> i64 {
        i64::from(self.rows.min(PAGE_ROWS_MAX))
    }
}

/// How many there are of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Models.
    pub models: u64,
    /// Applications.
    pub applications: u64,
    /// Builds in each status; every status is there.
    pub builds: Vec<(Status, u64)>,
}

impl Catalog {
    /// Makes a version with the next number of its model, and puts its build in the queue. An upload whose `upload_key` (a member of its request) one of the
    /// model's last versions has was made before, and its client has not heard of it: that version is the answer.
    pub async fn create_version(&self, new: NewVersion) -> Result<Version, CatalogError> {
        let operation = "create a version";
        let mut transaction = self.write(operation).await?;
        if let Some(key) = new.request[UPLOAD_KEY].as_str() {
            let row = sqlx::query(select_version!(
                "WHERE m.name = $1 AND json_extract(b.request_json, '$.upload_key') = $2 AND v.number > \
                 (SELECT last_number FROM numbering WHERE model_name = $1) - $3 ORDER BY v.number LIMIT 1"
            ));
            let row =
                row.bind(&new.model).bind(key).bind(KEYS_LOOKED_AT).fetch_optional(&mut *transaction).await.map_err(failed(operation))?;
            if let Some(row) = row {
                return read_version(&row);
            }
        }
        let id = insert(&mut transaction, &new).await?;
        let row = sqlx::query(select_version!("WHERE v.id = $1")).bind(id).fetch_one(&mut *transaction).await.map_err(failed(operation))?;
        let version = read_version(&row)?;
        transaction.commit().await.map_err(failed(operation))?;
        self.tell(Change::Version { id, model: version.model.clone(), number: version.number });
        self.tell_work();
        Ok(version)
    }

    /// The version with this identity.
    pub async fn version(&self, id: VersionId) -> Result<Version, CatalogError> {
        let query = sqlx::query(select_version!("WHERE v.id = $1")).bind(id);
        let row = query.fetch_optional(self.reader()).await.map_err(failed("read a version"))?;
        row.map_or_else(|| Err(CatalogError::Missing(format!("version with id {id}"))), |row| read_version(&row))
    }

    /// A model's version of this number.
    pub async fn version_of(&self, model: &str, number: VersionNumber) -> Result<Version, CatalogError> {
        let query = sqlx::query(select_version!("WHERE m.name = $1 AND v.number = $2")).bind(model).bind(number);
        let row = query.fetch_optional(self.reader()).await.map_err(failed("read a version"))?;
        row.map_or_else(|| Err(CatalogError::Missing(format!("version {number} of model `{model}`"))), |row| read_version(&row))
    }

    /// The version that this build makes.
    pub async fn version_of_build(&self, build: BuildId) -> Result<Version, CatalogError> {
        let query = sqlx::query(select_version!("WHERE b.id = $1")).bind(build);
        let row = query.fetch_optional(self.reader()).await.map_err(failed("read a build"))?;
        row.map_or_else(|| Err(CatalogError::Missing(format!("build with id {build}"))), |row| read_version(&row))
    }

    /// A model's versions, newest first; `page.after` is a version number.
    pub async fn versions(&self, model: &str, page: Page) -> Result<Rows<Version>, CatalogError> {
        let query = sqlx::query(select_version!("WHERE m.name = $1 AND v.number < $2 ORDER BY v.number DESC LIMIT $3"));
        let rows = query.bind(model).bind(page.after.unwrap_or(i64::MAX)).bind(page.limit()).fetch(self.reader());
        take_page(rows, page, |version| version.number.0).await
    }

    /// A model's newest version that has an image; `None` where there is none, or no such model.
    pub async fn last_finished(&self, model: &str) -> Result<Option<Version>, CatalogError> {
        let query = sqlx::query(select_version!("WHERE m.name = $1 AND b.status = 'Finished' ORDER BY v.number DESC LIMIT 1")).bind(model);
        let row = query.fetch_optional(self.reader()).await.map_err(failed("read a version"))?;
        row.map(|row| read_version(&row)).transpose()
    }

    /// The versions of all models, oldest first; `page.after` is a version's identity.
    pub async fn all_versions(&self, page: Page) -> Result<Rows<Version>, CatalogError> {
        let query = sqlx::query(select_version!("WHERE v.id > $1 ORDER BY v.id LIMIT $2"));
        let rows = query.bind(page.after.unwrap_or(0)).bind(page.limit()).fetch(self.reader());
        take_page(rows, page, |version| version.id.0).await
    }

    /// Of each model its last version, or its last finished one where it has one, in the order of the models; `page.after` is a
    /// model's identity.
    pub async fn last_versions(&self, only_finished: bool, page: Page) -> Result<Rows<Version>, CatalogError> {
        let query = sqlx::query(select_version!(
            "WHERE v.model_id > $1 AND v.number = (SELECT MAX(w.number) FROM model_version w JOIN build c ON c.version_id = w.id \
             WHERE w.model_id = v.model_id AND (c.status = 'Finished' OR $2 = 0)) ORDER BY v.model_id LIMIT $3"
        ));
        let query = query.bind(page.after.unwrap_or(0)).bind(i64::from(only_finished)).bind(page.limit());
        take_page(query.fetch(self.reader()), page, |version| version.model_id.0).await
    }

    /// The models, oldest first; `page.after` is a model's identity.
    pub async fn models(&self, page: Page) -> Result<Rows<Model>, CatalogError> {
        let query = sqlx::query(select_model!("WHERE m.id > $1 ORDER BY m.id LIMIT $2"));
        let rows = query.bind(page.after.unwrap_or(0)).bind(page.limit()).fetch_all(self.reader()).await;
        let models: Result<Vec<Model>, _> = rows.map_err(failed("list the models"))?.iter().map(read_model).collect();
        Ok(Rows::new(models?, page, false, |model| model.id.0))
    }

    /// The models, the one of the last upload first; only the first page.
    pub async fn recent_models(&self, page: Page) -> Result<Rows<Model>, CatalogError> {
        let query = sqlx::query(select_model!("ORDER BY m.updated_ms DESC, m.id DESC LIMIT $1")).bind(page.limit());
        let rows = query.fetch_all(self.reader()).await.map_err(failed("list the models"))?;
        let models: Result<Vec<Model>, _> = rows.iter().map(read_model).collect();
        Ok(Rows::new(models?, page, false, |model| model.id.0))
    }

    /// The model of this name.
    pub async fn model(&self, name: &str) -> Result<Model, CatalogError> {
        let row = sqlx::query(select_model!("WHERE m.name = $1")).bind(name).fetch_optional(self.reader()).await;
        let row = row.map_err(failed("read a model"))?;
        row.map_or_else(|| Err(CatalogError::Missing(format!("model `{name}`"))), |row| read_model(&row))
    }

    /// The model with this identity.
    pub async fn model_by_id(&self, id: ModelId) -> Result<Model, CatalogError> {
        let row = sqlx::query(select_model!("WHERE m.id = $1")).bind(id).fetch_optional(self.reader()).await;
        let row = row.map_err(failed("read a model"))?;
        row.map_or_else(|| Err(CatalogError::Missing(format!("model with id {id}"))), |row| read_model(&row))
    }

    /// Removes a model, its versions and its builds; a worker that runs one of these finds its lease lost. Refused while an
    /// application uses a version of it. Its numbering stays.
    pub async fn remove_model(&self, id: ModelId) -> Result<Model, CatalogError> {
        let operation = "remove a model";
        let mut transaction = self.write(operation).await?;
        let row = sqlx::query(select_model!("WHERE m.id = $1")).bind(id).fetch_optional(&mut *transaction).await;
        let row = row.map_err(failed(operation))?.ok_or_else(|| CatalogError::Missing(format!("model with id {id}")))?;
        let model = read_model(&row)?;
        let users = "SELECT DISTINCT a.name FROM application a JOIN application_use u ON u.application_id = a.id \
            JOIN model_version v ON v.id = u.version_id WHERE v.model_id = $1 ORDER BY a.name";
        let applications: Vec<String> = sqlx::query_scalar(users).bind(id).fetch_all(&mut *transaction).await.map_err(failed(operation))?;
        if !applications.is_empty() {
            return Err(CatalogError::InUse { model: model.name, applications });
        }
        sqlx::query("DELETE FROM model WHERE id = $1").bind(id).execute(&mut *transaction).await.map_err(failed(operation))?;
        transaction.commit().await.map_err(failed(operation))?;
        self.tell(Change::ModelRemoved { id, name: model.name.clone() });
        Ok(model)
    }

    /// How many there are of everything, for the metrics.
    pub async fn counts(&self) -> Result<Counts, CatalogError> {
        let operation = "count";
        let count = |query: &'static str| sqlx::query_scalar::<_, i64>(query).fetch_one(self.reader());
        let models = count("SELECT COUNT(*) FROM model").await.map_err(failed(operation))?;
        let applications = count("SELECT COUNT(*) FROM application").await.map_err(failed(operation))?;
        let query = sqlx::query_as::<_, (String, i64)>("SELECT status, COUNT(*) FROM build GROUP BY status");
        let found: BTreeMap<String, i64> = query.fetch_all(self.reader()).await.map_err(failed(operation))?.into_iter().collect();
        let builds = Status::ALL.map(|status| (status, found.get(status.word()).copied().unwrap_or(0).cast_unsigned()));
        Ok(Counts { models: models.cast_unsigned(), applications: applications.cast_unsigned(), builds: builds.to_vec() })
    }
}

async fn insert(transaction: &mut Transaction<'static, Sqlite>, new: &NewVersion) -> Result<VersionId, CatalogError> {
    let (operation, now) = ("create a version", now_ms());
    let model: ModelId = sqlx::query_scalar(
        "INSERT INTO model (name, created_ms, updated_ms) VALUES ($1, $2, $2) \
         ON CONFLICT (name) DO UPDATE SET updated_ms = excluded.updated_ms RETURNING id",
    )
    .bind(&new.model)
    .bind(now)
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed(operation))?;
    let number: VersionNumber = sqlx::query_scalar(
        "INSERT INTO numbering (model_name, last_number) VALUES ($1, 1) \
         ON CONFLICT (model_name) DO UPDATE SET last_number = numbering.last_number + 1 RETURNING last_number",
    )
    .bind(&new.model)
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed(operation))?;
    let id: VersionId = sqlx::query_scalar(
        "INSERT INTO model_version (model_id, number, created_ms, model_type, description, metadata_json, contract_json, \
         contract_protobin, contract_dialect, runtime) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
    )
    .bind(model)
    .bind(number)
    .bind(now)
    .bind(&new.model_type)
    .bind(&new.description)
    .bind(serde_json::json!(new.metadata).to_string())
    .bind(new.contract.as_ref().map(|contract| contract.json.to_string()))
    .bind(new.contract.as_ref().map(|contract| contract.protobin.as_slice()))
    .bind(new.contract.as_ref().map(|contract| contract.dialect.as_str()))
    .bind(&new.runtime)
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed(operation))?;
    let build: BuildId = sqlx::query_scalar(
        "INSERT INTO build (version_id, status, attempt, lapses, tree_digest, request_json) VALUES ($1, 'Pending', 0, 0, $2, $3) RETURNING id",
    )
    .bind(id)
    .bind(new.tree_digest.to_string())
    .bind(new.request.to_string())
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed(operation))?;
    build_log::append(transaction, build, &new.log).await?;
    Ok(id)
}

async fn take_page(
    mut rows: impl tokio_stream::Stream<Item = Result<SqliteRow, sqlx::Error>> + Unpin,
    page: Page,
    key: fn(&Version) -> i64,
) -> Result<Rows<Version>, CatalogError> {
    let (mut versions, mut contract_bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().await {
        let row = row.map_err(failed("list the versions"))?;
        contract_bytes += get::<Option<String>>(&row, "contract_json")?.map_or(0, |json| json.len());
        versions.push(read_version(&row)?);
        if contract_bytes > PAGE_CONTRACT_BYTES_MAX {
            return Ok(Rows::new(versions, page, true, key));
        }
    }
    Ok(Rows::new(versions, page, false, key))
}

pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, CatalogError>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(column).map_err(failed("read a row"))
}

pub(super) fn read_json(text: &str, column: &'static str) -> Result<Value, CatalogError> {
    serde_json::from_str(text).map_err(|_| CatalogError::Row { column, value: text.chars().take(200).collect() })
}

pub(super) fn read_status(word: &str) -> Result<Status, CatalogError> {
    Status::from_word(word).ok_or_else(|| CatalogError::Row { column: "status", value: word.to_owned() })
}

fn read_fault(word: &str) -> Result<Fault, CatalogError> {
    Fault::from_word(word).ok_or_else(|| CatalogError::Row { column: "error_fault", value: word.to_owned() })
}

pub(super) fn read_digest(text: &str, column: &'static str) -> Result<crate::oci::digest::Digest, CatalogError> {
    text.parse().map_err(|_| CatalogError::Row { column, value: text.to_owned() })
}

pub(super) fn read_contract(row: &SqliteRow) -> Result<Option<KeptContract>, CatalogError> {
    let Some(protobin) = get::<Option<Vec<u8>>>(row, "contract_protobin")? else { return Ok(None) };
    let json = read_json(&get::<String>(row, "contract_json")?, "contract_json")?;
    Ok(Some(KeptContract { json, protobin, dialect: get(row, "contract_dialect")? }))
}

fn read_version(row: &SqliteRow) -> Result<Version, CatalogError> {
    let at = |column| get::<Option<i64>>(row, column)?.map(|ms| timestamp(ms, column)).transpose();
    let metadata: String = get(row, "metadata_json")?;
    let metadata = serde_json::from_str(&metadata)
        .map_err(|_| CatalogError::Row { column: "metadata_json", value: metadata.chars().take(200).collect() })?;
    let error = match get::<Option<String>>(row, "error_stage")? {
        Some(stage) => {
            let fault = get::<Option<String>>(row, "error_fault")?.map(|word| read_fault(&word)).transpose()?;
            Some(BuildError { stage, fault, cause: get(row, "error_cause")?, remedy: get(row, "error_remedy")? })
        }
        None => None,
    };
    let applications: Option<String> = get(row, "applications")?;
    Ok(Version {
        id: get(row, "id")?,
        model_id: get(row, "model_id")?,
        model: get(row, "model")?,
        number: get(row, "number")?,
        build: get(row, "build_id")?,
        status: read_status(&get::<String>(row, "status")?)?,
        created: timestamp(get(row, "created_ms")?, "created_ms")?,
        started: at("started_ms")?,
        finished: at("finished_ms")?,
        model_type: get(row, "model_type")?,
        description: get(row, "description")?,
        metadata,
        contract: read_contract(row)?,
        runtime: get(row, "runtime")?,
        image: get(row, "image_reference")?,
        digest: get::<Option<String>>(row, "digest")?.map(|text| read_digest(&text, "digest")).transpose()?,
        report: get::<Option<String>>(row, "report_json")?.map(|text| read_json(&text, "report_json")).transpose()?,
        error,
        // Application names hold no comma (`catalog/applications.rs`).
        applications: applications.map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default(),
    })
}

fn read_model(row: &SqliteRow) -> Result<Model, CatalogError> {
    let last = match (get::<Option<VersionNumber>>(row, "last_number")?, get::<Option<String>>(row, "last_status")?) {
        (Some(number), Some(status)) => Some((number, read_status(&status)?)),
        _ => None,
    };
    Ok(Model {
        id: get(row, "id")?,
        name: get(row, "name")?,
        created: timestamp(get(row, "created_ms")?, "created_ms")?,
        updated: timestamp(get(row, "updated_ms")?, "updated_ms")?,
        versions: get::<i64>(row, "versions")?.cast_unsigned(),
        last,
    })
}
