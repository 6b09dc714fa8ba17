//! What belongs to a manifest, pushed and listed: with a registry that lists it (ours), one that does not (docker-registry 2.8.2), and one that others write
//! to. And what a registry warns of on the way.

use axum::http::Method;
use lamina::oci::digest::Digest;
use lamina::oci::manifest::{Descriptor, Document, Pulled};
use lamina::registry::client::Repository;
use serde_json::{Value, json};

use crate::distribution_discovery::about;
use crate::support::client::{manifest, push, repository};
use crate::support::docker_registry::DockerRegistry;
use crate::support::embedded::Registry;
use crate::support::fault_registry::{FaultRegistry, Faults, burst};
use crate::support::hs::Home;
use crate::support::models;

/// Puts a manifest about `subject` and gives its digest.
async fn refer(repository: &Repository, subject: Digest, more: &Value) -> Digest {
    let document = about(&subject, more);
    repository.put_manifest(&document.digest.to_string(), &document).await.unwrap();
    document.digest
}

fn digests(found: &[Descriptor]) -> Vec<Digest> {
    let mut digests: Vec<Digest> = found.iter().map(|descriptor| descriptor.digest).collect();
    digests.sort();
    digests
}

fn sorted<const N: usize>(mut digests: [Digest; N]) -> Vec<Digest> {
    digests.sort();
    digests.to_vec()
}

/// Pushes a subject and two referrers, and lists them.
async fn push_and_list(repository: &Repository) -> Document {
    push(repository, b"{}").await.unwrap();
    let subject = manifest(b"{}", &[]);
    repository.put_manifest("1", &subject).await.unwrap();
    assert_eq!(repository.referrers(subject.digest, None).await.unwrap(), []);
    let signature =
        refer(repository, subject.digest, &json!({ "artifactType": "application/x-signature", "annotations": { "by": "me" } })).await;
    let bill = refer(repository, subject.digest, &json!({ "artifactType": "application/x-bill" })).await;
    // Once more: it is there once.
    refer(repository, subject.digest, &json!({ "artifactType": "application/x-bill" })).await;
    assert_eq!(digests(&repository.referrers(subject.digest, None).await.unwrap()), sorted([signature, bill]));
    let signatures = repository.referrers(subject.digest, Some("application/x-signature")).await.unwrap();
    assert_eq!(digests(&signatures), [signature]);
    assert_eq!((signatures[0].annotations["by"].as_str(), &signatures[0].rest["artifactType"]), ("me", &json!("application/x-signature")));
    assert_eq!(repository.referrers(subject.digest, Some("application/x-none")).await.unwrap(), []);
    subject
}

#[tokio::test(flavor = "multi_thread")]
async fn our_registry_lists_them_itself() {
    let registry = Registry::start().await;
    let repository = repository(&format!("{}/model", registry.host));
    let subject = push_and_list(&repository).await;
    let tag = format!("sha256-{}", subject.digest.hex());
    assert_eq!(repository.manifest_digest(&tag).await.unwrap(), None, "the tag is for registries without a list");
}

#[tokio::test]
async fn a_registry_without_a_list_gets_the_tag() {
    let registry = DockerRegistry::start();
    let repository = repository(&format!("{}/model", registry.address()));
    let subject = push_and_list(&repository).await;
    let Pulled::Index(index) = repository.manifest(&format!("sha256-{}", subject.digest.hex())).await.unwrap() else { panic!("no index") };
    assert_eq!(index.manifests.len(), 2);

    // Many at once, in one process: none is lost.
    let types: Vec<Value> = (0..6).map(|number| json!({ "artifactType": format!("application/x-{number}") })).collect();
    futures_util::future::join_all(types.iter().map(|more| refer(&repository, subject.digest, more))).await;
    assert_eq!(repository.referrers(subject.digest, None).await.unwrap().len(), 8);
}

#[tokio::test]
async fn an_index_that_others_write_is_read_again() {
    let registry = FaultRegistry::start(Faults::default()).await;
    let repository = repository(&format!("{}/model", registry.address()));
    let subject = Digest::of(b"subject");
    registry.kept().faults.refusals = vec![burst(Method::PUT, "/manifests/sha256-", 2, 412)];
    let one = refer(&repository, subject, &json!({ "artifactType": "a" })).await;
    assert_eq!(registry.count(Method::PUT, "/manifests/sha256-"), 3);
    assert_eq!(digests(&repository.referrers(subject, None).await.unwrap()), [one]);

    registry.kept().faults.refusals = vec![burst(Method::PUT, "/manifests/sha256-", u32::MAX, 412)];
    let document = about(&subject, &json!({ "artifactType": "b" }));
    let error = repository.put_manifest(&document.digest.to_string(), &document).await.unwrap_err();
    assert!(error.to_string().contains("others wrote the index of referrers"), "{error}");

    registry.kept().faults.refusals = Vec::new();
    let tag = format!("sha256-{}", subject.hex());
    registry.put_manifest("model", &tag, "application/json", b"[]");
    let error = repository.referrers(subject, None).await.unwrap_err();
    assert!(error.to_string().contains("not an index of manifests"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_warns_of_is_told_once() {
    let warnings = vec![r#"299 - "the storage is almost full""#, r#"299 - "ask \"ops\"""#, r#"199 - "not for users""#];
    let registry = FaultRegistry::start(Faults { warnings, ..Faults::default() }).await;
    let home = Home::new();
    models::small(&home.path().join("model"));
    let to = format!("{}/model:1", registry.address());
    let folder = home.path().join("model").display().to_string();
    let ran = tokio::task::spawn_blocking(move || home.hs(["build", &folder, "--runtime", "scratch", "--to", &to])).await.unwrap();
    assert_eq!(ran.code, 0, "{ran:#?}");
    for text in ["the storage is almost full", "ask \"ops\""] {
        let said = format!("registry {} says: {text}", registry.address());
        assert_eq!(ran.stderr.matches(&said).count(), 1, "{ran:#?}");
    }
    assert!(!ran.stderr.contains("not for users"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_warns_of_is_told_by_every_command() {
    let registry = FaultRegistry::start(Faults::default()).await;
    let home = Home::new();
    models::small(&home.path().join("model"));
    let image = format!("{}/model:1", registry.address());
    let folder = home.path().join("model").display().to_string();
    let out = home.path().join("pulled").display().to_string();
    let run = |arguments: Vec<String>| tokio::task::block_in_place(|| home.hs(arguments));
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let built = run(words(&["build", &folder, "--runtime", "scratch", "--to", &image]));
    assert_eq!(built.code, 0, "{built:#?}");
    registry.kept().faults.warnings = vec![r#"299 - "the storage is almost full""#];
    for arguments in [
        words(&["inspect", &image]),
        words(&["pull", &image, &out]),
        words(&["base", "import", "--name", "mine:1", &image]),
        words(&["build", &folder, "--runtime", "scratch", "--to", &image]),
        // A failure may come from what was warned of.
        words(&["inspect", &format!("{}/other:1", registry.address())]),
    ] {
        let ran = run(arguments.clone());
        let said = format!("registry {} says: the storage is almost full", registry.address());
        assert_eq!(ran.stderr.matches(&said).count(), 1, "{arguments:?}: {ran:#?}");
        // What is not there fails, and so does a model that is to be a base.
        let fails = arguments.concat().contains("/other:") || arguments[0] == "base";
        assert_eq!(ran.code != 0, fails, "{arguments:?}: {ran:#?}");
    }
}

#[tokio::test]
async fn an_entry_that_another_process_writes_over_is_put_back() {
    let registry = FaultRegistry::start(Faults::default()).await;
    let repository = repository(&format!("{}/model", registry.address()));
    let subject = Digest::of(b"subject");
    let other = refer(&repository, subject, &json!({ "artifactType": "other" })).await;
    let tag = format!("sha256-{}", subject.hex());
    let of_the_other = registry.kept().manifests[&("model".to_owned(), tag.clone())].1.clone();
    // Somebody who had read the index before we wrote it writes his own: right after we have read ours there.
    let now = |registry: &FaultRegistry| registry.kept().manifests[&("model".to_owned(), tag.clone())].1.clone();
    registry.kept().faults.late_indexes = vec![now(&registry), of_the_other.clone(), of_the_other];
    let ours = refer(&repository, subject, &json!({ "artifactType": "ours" })).await;
    assert_eq!(registry.kept().faults.late_indexes.len(), 0);
    assert_eq!(digests(&repository.referrers(subject, None).await.unwrap()), sorted([other, ours]));
}
