//! A service as it is seen from outside: its answers over HTTP, its registry as a stranger reads it, and what lies in its data folder.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lamina::oci::digest::Digest;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::hs::Home;

/// Between two looks at something that will change.
pub const LOOK: Duration = Duration::from_millis(20);

/// The most looks: a bound for what never comes, nothing is measured by it.
const LOOKS_MAX: usize = 15_000;

/// The contract of the models that are uploaded here.
pub const CONTRACT: &str = r#"signatures { signature_name: "infer"
  inputs { name: "x" shape { dim { size: -1 } dim { size: 2 } } dtype: DT_DOUBLE }
  outputs { name: "y" shape { dim { size: -1 } } dtype: DT_DOUBLE } }"#;

/// A client for plain HTTP.
pub fn client() -> reqwest::Client {
    lamina::registry::tls::install_provider();
    reqwest::Client::builder().tls_certs_only([]).build().unwrap()
}

/// What a service answers.
pub async fn get(url: &str) -> (u16, Value) {
    let answer = client().get(url).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}")))
}

/// The versions of a model, the first one first; none where there is no such model.
pub async fn versions(service: &str, model: &str) -> Vec<Value> {
    let (status, versions) = get(&format!("{service}/api/v2/model/version?view=lamina&limit=100&model={model}")).await;
    let mut versions = match (status, versions) {
        (200, Value::Array(versions)) => versions,
        (404, _) => Vec::new(),
        other => panic!("{other:?}"),
    };
    versions.sort_by_key(|version| version["version"].as_u64());
    versions
}

/// The same when the last build has ended.
pub async fn ended(service: &str, model: &str) -> Vec<Value> {
    for _ in 0..LOOKS_MAX {
        let versions = versions(service, model).await;
        if versions.iter().all(|version| matches!(version["status"].as_str(), Some("Finished" | "Failed"))) {
            return versions;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("the builds of `{model}` do not end: {:#?}", versions(service, model).await);
}

/// Waits for something on a disk.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if is_so() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("it never came: {what}");
}

/// The tags of a repository, by number.
pub async fn tags(host: &str, repository: &str) -> Vec<u64> {
    let (_, list) = get(&format!("http://{host}/v2/{repository}/tags/list")).await;
    let mut tags: Vec<u64> = list["tags"].as_array().into_iter().flatten().map(|tag| tag.as_str().unwrap().parse().unwrap()).collect();
    tags.sort_unstable();
    tags
}

/// Pulls an image as a stranger would and compares every byte of it with its name: manifest, config, layers. Gives the manifest and its digest.
pub async fn whole_image(host: &str, repository: &str, tag: &str) -> (Digest, Value) {
    let client = client();
    let fetch = async |path: String| {
        let request = client.get(format!("http://{host}/v2/{repository}/{path}"));
        let request =
            request.header("accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{host}/{repository}: {path}");
        answer.bytes().await.unwrap()
    };
    let bytes = fetch(format!("manifests/{tag}")).await;
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    for blob in std::iter::once(&manifest["config"]).chain(manifest["layers"].as_array().unwrap()) {
        let digest = blob["digest"].as_str().unwrap();
        let bytes = fetch(format!("blobs/{digest}")).await;
        assert_eq!(
            (Digest::of(&bytes).to_string().as_str(), bytes.len() as u64),
            (digest, blob["size"].as_u64().unwrap()),
            "{repository}:{tag}"
        );
    }
    (Digest::of(&bytes), manifest)
}

/// Every folder and file below `folder` with its size (0 for folders), but for the two files beside the catalog that SQLite keeps as it likes.
pub fn listing(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if metadata.is_dir() {
                folders.push(path);
                found.push((name, 0));
            } else if !name.ends_with("-wal") && !name.ends_with("-shm") {
                found.push((name, metadata.len()));
            }
        }
    }
    found.sort();
    found
}

/// Every row of the catalog, as text.
pub async fn catalog_rows(data: &Path) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(data.join("catalog.sqlite")).read_only(true);
    let mut catalog = SqliteConnection::connect_with(&options).await.unwrap();
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut catalog).await.unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let columns = sqlx::query_scalar("SELECT group_concat('quote(\"' || name || '\")', ' || '' '' || ') FROM pragma_table_info($1)");
        let columns: String = columns.bind(&table).fetch_one(&mut catalog).await.unwrap();
        let all = AssertSqlSafe(format!("SELECT {columns} FROM \"{table}\""));
        let of_table: Vec<String> = sqlx::query_scalar(all).fetch_all(&mut catalog).await.unwrap();
        rows.extend(of_table.into_iter().map(|row| format!("{table}: {row}")));
    }
    rows
}

/// Writes a model folder: a definition, a contract, and these files.
pub fn write_model(folder: &Path, name: &str, files: &[(&str, &[u8])]) {
    let mut definition = format!("model:\n  name: {name}\n  type: \"none:1\"\n  contract: contract.prototxt\n  payload:\n");
    fs::create_dir_all(folder).unwrap();
    for (path, bytes) in files {
        definition.push_str(&format!("    - {path}\n"));
        fs::write(folder.join(path), bytes).unwrap();
    }
    fs::write(folder.join("serving.yaml"), definition).unwrap();
    fs::write(folder.join("contract.prototxt"), CONTRACT).unwrap();
}

/// Imports a base of a few bytes as `serving-runtime-python:3.11`, so that models of the type `python` have one.
pub fn import_small_base(home: &Home) {
    let (root, config) = (home.path().join("base.tar"), home.path().join("base.json"));
    let mut tar = tar::Builder::new(fs::File::create(&root).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/base", &b"base\n"[..]).unwrap();
    tar.into_inner().unwrap().sync_all().unwrap();
    fs::write(&config, r#"{"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}}"#).unwrap();
    let arguments = ["base", "import", "--name", "serving-runtime-python:3.11", "--image-config"];
    let ran = home.hs(arguments.map(Into::into).into_iter().chain([config.into_os_string(), root.into_os_string()]));
    assert_eq!(ran.code, 0, "{ran:#?}");
}
