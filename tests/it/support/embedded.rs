//! `/v2/` of our own in process, over a store in a temporary folder: what its tests ask it with, and images put in as the service puts them.

use std::process::Command;
use std::sync::Arc;

use lamina::disk::archive::unpack;
use lamina::disk::destination::Destination;
use lamina::disk::seal::seal;
use lamina::disk::store::Store;
use lamina::model::tree::Limits;
use lamina::oci::digest::Digest;
use lamina::oci::image::{Compression, ImageSet, Purpose, SealedLayer};
use lamina::oci::layer::Recipe;
use lamina::oci::manifest::Document;
use lamina::oci::path::TreePath;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, Response, StatusCode};

use super::client::{layer as layer_of, manifest};
use crate::image::model;

/// The registry over a store of its own; both are gone with the value.
pub struct Registry {
    pub data: tempfile::TempDir,
    pub store: Arc<Store>,
    pub host: String,
    pub http: Client,
    served: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Registry {
    /// Starts one on a free port.
    pub async fn start() -> Registry {
        Registry::start_over(tempfile::tempdir().unwrap()).await
    }

    /// Starts one that keeps what it has in `data`.
    pub async fn start_over(data: tempfile::TempDir) -> Registry {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::new(Store::open(data.path()).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let router = lamina::server::registry::router(store.clone());
        let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let http = Client::builder().tls_certs_only([]).build().unwrap();
        Registry { data, store, host, http, served }
    }

    /// Sends one request.
    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", self.host) };
        let request = headers.iter().fold(self.http.request(method, url), |request, (name, value)| request.header(*name, *value));
        request.body(body.to_vec()).send().await.unwrap()
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &[], b"").await
    }

    /// A model as the service keeps it: unpacked into the store, its weights a layer that exists as a recipe only.
    pub fn build(&self, set: impl Fn(&[SealedLayer]) -> ImageSet, repository: &str, tag: &str) -> ImageSet {
        let folder = tempfile::tempdir().unwrap();
        model(folder.path());
        let archive = Command::new("tar").arg("-C").arg(folder.path()).args(["-czf", "-", "."]).output().unwrap().stdout;
        let staging = self.store.staging().unwrap();
        let tree = self.store.adopt(&unpack(&archive[..], staging.path(), &Limits::default()).unwrap().tree).unwrap();
        let root = TreePath::new("model/files").unwrap();
        let layers: Vec<SealedLayer> = [("weights.bin", Compression::None), ("src", Compression::Gzip)]
            .into_iter()
            .map(|(keep, compression)| {
                let part = tree.only(&[TreePath::new(keep).unwrap()]);
                let recipe = Arc::new(Recipe::new(part.entries_below(&root).collect(), 0).unwrap());
                seal(recipe, compression, Purpose::Files, staging.path(), &|_| {}).unwrap()
            })
            .collect();
        let set = set(&layers);
        let (repository, tag) = (repository.to_owned(), Some(tag.to_owned()));
        let mut destination = Destination::Store { store: self.store.clone(), repository, tag, keep: false };
        for layer in set.images.iter().flat_map(|image| &image.layers) {
            destination.put_layer(layer).unwrap();
        }
        destination.finish(&set).unwrap();
        set
    }

    /// Pushes a blob as one request; its digest.
    pub async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let pushed = self.ask(Method::POST, &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), &[], bytes).await;
        assert_eq!(pushed.status(), StatusCode::CREATED);
        digest
    }

    /// PUTs a manifest.
    pub async fn put_manifest(&self, repository: &str, key: &str, document: &Document) -> Response {
        let path = format!("/v2/{repository}/manifests/{key}");
        self.ask(Method::PUT, &path, &[(CONTENT_TYPE.as_str(), &document.media_type)], &document.bytes).await
    }

    /// Pushes a small image whose one layer is `layer`; its manifest.
    pub async fn push_image(&self, repository: &str, key: &str, layer: &[u8]) -> Document {
        let config = format!(r#"{{"of": "{}"}}"#, Digest::of(layer)).into_bytes();
        let document = manifest(&config, &[layer_of(layer)]);
        for blob in [config.as_slice(), layer] {
            self.push_blob(repository, blob).await;
        }
        assert_eq!(self.put_manifest(repository, key, &document).await.status(), StatusCode::CREATED);
        document
    }

    /// The status of a GET or HEAD.
    pub async fn status(&self, method: Method, path: &str) -> u16 {
        self.ask(method, path, &[], b"").await.status().as_u16()
    }

    /// How much is on its way.
    pub fn left_in_uploads(&self) -> usize {
        std::fs::read_dir(self.data.path().join("uploads")).unwrap().count()
    }
}

/// The status and the first error's code; every answer that says no has the specification's form.
pub async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let document: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert!(document["errors"][0]["message"].as_str().is_some_and(|message| !message.is_empty()));
    (status, document["errors"][0]["code"].as_str().unwrap().to_owned())
}

/// A header's text; empty where there is none.
pub fn header(response: &Response, name: impl reqwest::header::AsHeaderName) -> &str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}
