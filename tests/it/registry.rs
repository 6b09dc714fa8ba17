//! The registry client against a real registry (docker-registry): what arrives, what goes over the wire, what is left behind.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt;
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::oci::manifest::{Pulled, media};
use lamina::registry::client::{Access, Registries};
use lamina::registry::error::RegistryError;
use lamina::registry::mount::Mount;
use lamina::registry::settings::{HostSettings, RegistrySettings};
use lamina::registry::upload::Progress;

use crate::support::client::{layer, manifest, noise, quick, quiet, repository, repository_with, source};
use crate::support::docker_registry::DockerRegistry;
use crate::support::wire_tap::WireTap;

#[tokio::test]
async fn an_image_goes_up_and_comes_back() {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    let repository = repository(&format!("{}/a/model", tap.address()));
    let (weights, config) = (noise(3_000_001), b"{}".to_vec());
    for blob in [&weights, &config] {
        let digest = Digest::of(blob);
        assert!(!repository.has_blob(digest, blob.len() as u64).await.unwrap());
        let uploaded = repository.upload(digest, blob.len() as u64, None, &source(blob), &quiet).await.unwrap();
        assert_eq!(uploaded.sent_bytes, blob.len() as u64);
        assert!(repository.has_blob(digest, blob.len() as u64).await.unwrap());
        assert!(!repository.has_blob(digest, blob.len() as u64 + 1).await.unwrap(), "another size is another blob");
    }
    assert_eq!(tap.body_bytes(), 3_000_003);
    // HEAD, POST, PUT, HEAD, HEAD for each: no request in advance, no chunks.
    assert_eq!((tap.count("HEAD"), tap.count("POST"), tap.count("PUT"), tap.seen().len()), (6, 2, 2, 10));

    let document = manifest(&config, &[layer(&weights)]);
    assert_eq!(repository.manifest_digest("1").await.unwrap(), None);
    repository.put_manifest("1", &document).await.unwrap();
    assert_eq!(repository.manifest_digest("1").await.unwrap(), Some(document.digest));
    for key in ["1".to_owned(), document.digest.to_string()] {
        let pulled = repository.manifest(&key).await.unwrap();
        assert_eq!(pulled.document(), &document);
        let Pulled::Manifest(pulled) = pulled else { panic!("{pulled:?}") };
        assert_eq!(repository.blob_bytes(&pulled.layers[0], 4 << 20).await.unwrap(), weights);
        assert_eq!(repository.blob_bytes(&pulled.config, 4 << 20).await.unwrap(), config);
    }
    assert_eq!(registry.blobs(), 3);
    assert_eq!(registry.uploads_left("a/model"), 0);
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let registry = DockerRegistry::start();
    let repository = repository(&format!("{}/empty", registry.address()));
    repository.upload(Digest::of(b""), 0, None, &source(b""), &quiet).await.unwrap();
    assert!(repository.has_blob(Digest::of(b""), 0).await.unwrap());
    assert_eq!(repository.blob_bytes(&layer(b""), 10).await.unwrap(), b"");
    assert_eq!(registry.uploads_left("empty"), 0);
}

#[tokio::test]
async fn a_blob_of_another_repository_is_mounted() {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    let (base, model) = (repository(&format!("{}/base", tap.address())), repository(&format!("{}/model", tap.address())));
    let blob = noise(100_000);
    let digest = Digest::of(&blob);
    base.upload(digest, 100_000, None, &source(&blob), &quiet).await.unwrap();
    tap.forget();
    assert_eq!(model.mount(digest, "base").await.unwrap(), Mount::Mounted);
    assert_eq!((tap.seen().len(), tap.body_bytes()), (1, 0));
    assert!(model.has_blob(digest, 100_000).await.unwrap());

    // From where it is not, the registry opens an upload, and that one is used.
    let other = noise(50_000);
    let Mount::Session(session) = model.mount(Digest::of(&other), "base").await.unwrap() else { panic!("no session") };
    tap.forget();
    model.upload(Digest::of(&other), 50_000, Some(session), &source(&other), &quiet).await.unwrap();
    assert_eq!((tap.count("POST"), tap.count("PUT"), tap.body_bytes()), (0, 1, 50_000));
    assert_eq!(registry.uploads_left("model"), 0);
    assert_eq!(model.mount(digest, "model").await.unwrap(), Mount::NotPossible);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let registry = DockerRegistry::start();
    let repository = repository(&format!("{}/model", registry.address()));
    let nowhere = repository.manifest("1").await.unwrap_err();
    assert_eq!((nowhere.fault(), nowhere.remedy()), (Fault::Missing, None));

    let config = b"{}";
    repository.upload(Digest::of(config), 2, None, &source(config), &quiet).await.unwrap();
    for tag in ["1", "2", "latest"] {
        repository.put_manifest(tag, &manifest(config, &[])).await.unwrap();
    }
    let missing = repository.manifest("3").await.unwrap_err();
    assert_eq!(missing.to_string(), format!("cannot pull manifest `{}/model:3`: it is not there", registry.address()));
    assert_eq!((missing.fault(), missing.remedy().unwrap().as_str()), (Fault::Missing, "the tags there are: 1, 2, latest"));
    assert_eq!(repository.tags().await.unwrap(), ["1", "2", "latest"]);

    let no_blob = repository.blob_bytes(&layer(b"something else"), 100).await.unwrap_err();
    assert_eq!(no_blob.fault(), Fault::Missing);
    assert!(no_blob.to_string().contains("BLOB_UNKNOWN"), "{no_blob}");
}

#[tokio::test]
async fn a_manifest_whose_blobs_are_missing_is_refused_and_not_tagged() {
    let registry = DockerRegistry::start();
    let repository = repository(&format!("{}/model", registry.address()));
    let refused = repository.put_manifest("1", &manifest(b"{}", &[layer(b"not sent")])).await.unwrap_err();
    assert_eq!(refused.fault(), Fault::Remote);
    assert!(refused.to_string().contains("MANIFEST_BLOB_UNKNOWN"), "{refused}");
    assert_eq!(repository.manifest_digest("1").await.unwrap(), None);
}

#[tokio::test]
async fn a_torn_upload_ends_right() {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    let repository = repository(&format!("{}/model", tap.address()));
    let blob = noise(2_000_000);
    for cut in [0, 1, 1_000_000, 1_999_999] {
        tap.cut_body_after(cut);
    }
    let (highest, waits) = (AtomicU64::new(0), AtomicU64::new(0));
    let listen = |progress| match progress {
        Progress::Sent { bytes } => {
            highest.fetch_max(bytes, Ordering::SeqCst);
        }
        Progress::Waiting { .. } => {
            waits.fetch_add(1, Ordering::SeqCst);
        }
        Progress::Committing => {}
    };
    repository.upload(Digest::of(&blob), 2_000_000, None, &source(&blob), &listen).await.unwrap();
    assert_eq!(repository.blob_bytes(&layer(&blob), 2_000_000).await.unwrap(), blob);
    assert_eq!(highest.into_inner(), 2_000_000);
    assert_eq!(waits.into_inner(), 4);
    assert!(tap.body_bytes() <= 5 * 2_000_000, "one layer for each fault: {}", tap.body_bytes());
}

#[tokio::test]
async fn a_large_torn_upload_goes_on_in_chunks() {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    let settings = RegistrySettings { chunk_bytes: 1_000_000, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    let blob = noise(2_300_000);
    tap.cut_body_after(2_000_000);
    let uploaded = repository.upload(Digest::of(&blob), 2_300_000, None, &source(&blob), &quiet).await.unwrap();
    assert_eq!(repository.blob_bytes(&layer(&blob), 2_300_000).await.unwrap(), blob);
    let patches: Vec<u64> = tap.seen().iter().filter(|seen| seen.method == "PATCH").map(|seen| seen.body_bytes).collect();
    assert_eq!(patches, [1_000_000, 1_000_000, 300_000]);
    assert!((4_300_000..=4_600_000).contains(&uploaded.sent_bytes), "{uploaded:?}");
    assert_eq!(registry.uploads_left("model"), 1, "the torn one");

    // A chunk that is torn costs the session on this registry, and no more than one blob.
    let other = noise(2_300_001);
    tap.forget();
    tap.cut_body_after(2_000_000);
    tap.cut_body_after(900_000);
    repository.upload(Digest::of(&other), 2_300_001, None, &source(&other), &quiet).await.unwrap();
    assert_eq!(repository.blob_bytes(&layer(&other), 2_300_001).await.unwrap(), other);
    assert!(tap.body_bytes() <= 2_000_001 + 3 * 2_300_001, "{:?}", tap.seen());
}

#[tokio::test]
async fn a_torn_download_goes_on_where_it_broke() {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    let repository = repository(&format!("{}/model", tap.address()));
    let blob = noise(3_000_000);
    repository.upload(Digest::of(&blob), 3_000_000, None, &source(&blob), &quiet).await.unwrap();
    tap.forget();
    for cut in [100, 1_000_000, 1_500_000] {
        tap.cut_answer_after(cut);
    }
    assert_eq!(repository.blob_bytes(&layer(&blob), 3_000_000).await.unwrap(), blob);
    assert!(tap.count("GET") >= 3, "{:?}", tap.seen());
    // What was on the way when the line was cut comes again; all of it does not.
    assert!(tap.down_bytes() < 4_000_000, "{}", tap.down_bytes());

    let part: Vec<bytes::Bytes> = repository.blob_range(&layer(&blob), 5..2_000_000).try_collect().await.unwrap();
    assert_eq!(part.concat(), blob[5..2_000_000]);
}

#[tokio::test]
async fn bytes_of_another_digest_are_not_taken() {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    let repository = repository(&format!("{}/model", tap.address()));
    let error = repository.upload(Digest::of(b"other"), 500_000, None, &source(&noise(500_000)), &quiet).await.unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    assert_eq!((error.fault(), error.remedy()), (Fault::Remote, None));
    // They may have been spoilt on the way, once.
    assert_eq!((tap.count("PUT"), registry.blobs()), (2, 0));
}

#[tokio::test]
async fn ten_uploads_share_one_client() {
    let registry = DockerRegistry::start();
    let registries = Registries::new(quick()).unwrap();
    let failures = Mutex::new(Vec::new());
    let uploads = (0..10_u8).map(|number| {
        let reference = format!("{}/model{}", registry.address(), number % 3).parse().unwrap();
        let repository = registries.repository(&reference, Access::Push).unwrap();
        let failures = &failures;
        async move {
            let blob = [noise(200_000), vec![number]].concat();
            if let Err(error) = repository.upload(Digest::of(&blob), 200_001, None, &source(&blob), &quiet).await {
                failures.lock().unwrap().push(error);
            }
        }
    });
    futures_util::future::join_all(uploads).await;
    assert!(failures.lock().unwrap().is_empty(), "{failures:?}");
    assert_eq!(registry.blobs(), 10);
}

#[tokio::test]
async fn uploads_can_run_in_tasks_of_their_own() {
    let registry = DockerRegistry::start();
    let repository = repository(&format!("{}/model", registry.address()));
    let task = tokio::spawn(async move { repository.upload(Digest::of(b"x"), 1, None, &source(b"x"), &quiet).await.map(|_| repository) });
    let repository = task.await.unwrap().unwrap();
    assert!(repository.has_blob(Digest::of(b"x"), 1).await.unwrap());
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = repository(&format!("{address}/model")).manifest("1").await.unwrap_err();
    assert_eq!(error.fault(), Fault::RemoteTransient);
    assert_eq!(error.to_string(), format!("cannot pull manifest `{address}/model:1`: no connection"));
    assert_eq!(error.remedy().unwrap(), format!("check that a registry listens at `{address}`"));
    assert!(matches!(error, RegistryError::Unreachable { .. }));
}

#[tokio::test]
async fn a_registry_that_is_restarted_is_waited_for() {
    let first = DockerRegistry::start();
    let tap = WireTap::before(first.address()).await;
    let mut settings = quick();
    settings.patience.tries_max = 5000;
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    let blob = noise(1_000_000);
    tap.cut_body_after(500_000);
    let (tell, hear) = tokio::sync::oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let listen = |progress| {
        if matches!(progress, Progress::Waiting { .. })
            && let Some(tell) = tell.lock().unwrap().take()
        {
            tell.send(()).unwrap();
        }
    };
    let restart = async {
        hear.await.unwrap();
        // The connection broke; the registry is gone, with all that it had, and another one comes up in its place.
        drop(first);
        let second = tokio::task::spawn_blocking(DockerRegistry::start).await.unwrap();
        tap.point_to(second.address());
        second
    };
    let bytes = source(&blob);
    let (uploaded, second) = tokio::join!(repository.upload(Digest::of(&blob), 1_000_000, None, &bytes, &listen), restart);
    uploaded.unwrap();
    assert_eq!(repository.blob_bytes(&layer(&blob), 1_000_000).await.unwrap(), blob);
    assert_eq!(second.uploads_left("model"), 0);
}

#[tokio::test]
async fn a_manifest_keeps_its_bytes() {
    let registry = DockerRegistry::start();
    let repository = repository(&format!("{}/model", registry.address()));
    repository.upload(Digest::of(b"{}"), 2, None, &source(b"{}"), &quiet).await.unwrap();
    let mut document = manifest(b"{}", &[]);
    // Bytes that no serialiser of ours would write.
    document.bytes.extend_from_slice(b"\n \n");
    let document = lamina::oci::manifest::Document::new(media::OCI_MANIFEST, document.bytes);
    repository.put_manifest(&document.digest.to_string(), &document).await.unwrap();
    let pulled = repository.manifest(&document.digest.to_string()).await.unwrap();
    assert_eq!(pulled.document().bytes, document.bytes);
    assert!(fs::read_dir(registry.repository_folder("model").join("_manifests/tags")).is_err(), "a digest is not a tag");
}

#[tokio::test]
async fn a_registry_with_an_authority_of_its_own_needs_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let make = |name: &str, more: &[&str]| {
        let (key, certificate) = (path(&format!("{name}.key")), path(&format!("{name}.pem")));
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &certificate])
            .args(more)
            .output()
            .expect("this test needs openssl");
        assert!(made.status.success(), "{made:?}");
        (key, certificate)
    };
    // A certificate that is its own authority, as docker's manual has it made, and one with an authority above it.
    let (own_key, own) = make("own", &[]);
    let leaf = ["-CA", &own, "-CAkey", &own_key, "-addext", "basicConstraints=critical,CA:FALSE"];
    let (leaf_key, leaf) = make("leaf", &leaf);
    for (key, certificate) in [(&own_key, &own), (&leaf_key, &leaf)] {
        check_authority(key, certificate, &own).await;
    }
    let no_file = HostSettings { ca_file: Some(path("missing.pem").into()), ..HostSettings::default() };
    let settings = RegistrySettings { hosts: [("host".to_owned(), no_file)].into(), ..quick() };
    let Err(error) = Registries::new(settings) else { panic!("a missing file was read") };
    assert_eq!(error.fault(), Fault::Usage);
    assert!(error.to_string().contains("missing.pem"), "{error}");
}

async fn check_authority(key: &str, certificate: &str, authority: &str) {
    let registry = DockerRegistry::start_with(&format!(", tls: {{certificate: '{certificate}', key: '{key}'}}"), "");
    let with = |host: HostSettings| {
        let hosts = [(registry.address().to_owned(), host)].into();
        repository_with(RegistrySettings { hosts, ..quick() }, &format!("{}/model", registry.address()))
    };
    let tls = HostSettings { plain_http: Some(false), ..HostSettings::default() };
    let trusted = with(HostSettings { ca_file: Some(authority.into()), ..tls.clone() });
    let blob = noise(2_000_000);
    trusted.upload(Digest::of(&blob), 2_000_000, None, &source(&blob), &quiet).await.unwrap();
    assert_eq!(trusted.blob_bytes(&layer(&blob), 2_000_000).await.unwrap(), blob);

    for (host, trouble, setting) in [
        (tls, "the registry's certificate is of an unknown authority", "`ca_file`"),
        (HostSettings::default(), "HTTP request to an HTTPS server", "`plain_http: false`"),
    ] {
        let error = with(host).manifest("1").await.unwrap_err();
        assert_eq!(error.fault(), Fault::Remote);
        assert!(error.to_string().contains(trouble), "{error}");
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains(setting) && remedy.contains(registry.address()), "{remedy}");
    }
}
