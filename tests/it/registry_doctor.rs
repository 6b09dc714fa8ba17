//! `hs registry doctor` against registries of all kinds: what it says of each, and that it leaves nothing behind.

use std::fs;
use std::sync::Arc;

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::client::{manifest, noise};
use crate::support::docker_registry::DockerRegistry;
use crate::support::embedded::Registry;
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};
use crate::support::fault_tokens::{Login, TokenServer};
use crate::support::hs::{Home, Ran};

/// Runs the doctor to its end.
pub async fn run(home: &Arc<Home>, words: &[&str]) -> Ran {
    let (home, words) = (home.clone(), words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    tokio::task::spawn_blocking(move || home.hs(["registry", "doctor"].map(str::to_owned).into_iter().chain(words))).await.unwrap()
}

/// What it says of `address`, as JSON and with its exit code.
pub async fn examined(home: &Arc<Home>, address: &str, more: &[&str]) -> (i32, Value) {
    let repository = format!("{address}/team/model");
    let mut words = vec!["--output", "json", &repository];
    words.extend(more);
    let ran = run(home, &words).await;
    let document = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    (ran.code, document)
}

/// The line about `check`: its verdict, and its sentences together.
pub fn line(document: &Value, check: &str) -> (String, String) {
    let lines = document["checks"].as_array().unwrap();
    let line = lines.iter().find(|line| line["check"] == check).unwrap_or_else(|| panic!("no {check}: {document:#}"));
    let said: Vec<&str> = ["seen", "effect", "help"].iter().filter_map(|member| line[member].as_str()).collect();
    (line["verdict"].as_str().unwrap().to_owned(), said.join("; "))
}

#[track_caller]
pub fn check(document: &Value, check: &str, verdict: &str, words: &str) {
    let (found, said) = line(document, check);
    assert_eq!(found, verdict, "{check}: {said}");
    assert!(said.contains(words), "{check}: {said}");
}

/// The checks that are not ok.
fn remarkable(document: &Value) -> Vec<&str> {
    let lines = document["checks"].as_array().unwrap();
    lines.iter().filter(|line| line["verdict"] != "ok").map(|line| line["check"].as_str().unwrap()).collect()
}

#[track_caller]
fn nothing_left(registry: &FaultRegistry) {
    let kept = registry.kept();
    assert!(kept.blobs.is_empty() && kept.manifests.is_empty(), "{:?} {:?}", kept.blobs.keys(), kept.manifests.keys());
    assert!(kept.uploads.is_empty(), "{:?}", kept.uploads.keys());
}

/// Examines a registry with faults, and looks that nothing is left.
async fn with(faults: Faults) -> (i32, Value) {
    let registry = FaultRegistry::start(Faults { lists_referrers: true, ..faults }).await;
    let examined = examined(&Arc::new(Home::new()), &registry.address(), &["--body-mib", "8"]).await;
    nothing_left(&registry);
    assert_eq!(examined.1["left_behind"], json!([]));
    examined
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_as_the_specification_has_it_is_well() {
    let registry = FaultRegistry::start(Faults { lists_referrers: true, keeps_partial: true, ..Faults::default() }).await;
    let home = Arc::new(Home::new());
    let (code, document) = examined(&home, &registry.address(), &[]).await;
    assert_eq!((code, remarkable(&document)), (0, vec![]), "{document:#}");
    let checks: Vec<&str> = document["checks"].as_array().unwrap().iter().map(|line| line["check"].as_str().unwrap()).collect();
    let expected = "reach login pull push upload missing body-size chunks chunk-offset resume mount download oci-manifest docker-manifest zstd-layer \
                    oci-index tag-overwrite referrers delete";
    assert_eq!(checks.join(" "), expected);
    check(&document, "body-size", "ok", "32.00 MiB");
    check(&document, "resume", "ok", "at its last byte");
    let summary = format!("Pushing to `{}/team/model` will work, and nothing found here will hurt.", registry.address());
    assert_eq!(document["summary"], summary);
    assert_eq!(document["can_push"], true);
    let profile =
        json!({ "body_bytes_max": null, "chunks": true, "chunk_bytes_max": null, "mounts": null, "referrers_api": true, "zstd": true });
    assert_eq!(document["profile"], profile);
    nothing_left(&registry);
    // For people the same, without a tag of ours in sight.
    let ran = run(&home, &[&format!("{}/team/model", registry.address()), "--body-mib", "1"]).await;
    assert_eq!(ran.code, 0);
    assert!(
        ran.stdout.contains("\nok         referrers        referrers are listed\n") && ran.stdout.ends_with(&format!("{summary}\n")),
        "{ran:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_registry_is_well() {
    let registry = Registry::start().await;
    let (code, document) = examined(&Arc::new(Home::new()), &registry.host, &["--body-mib", "8"]).await;
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(remarkable(&document), Vec::<&str>::new(), "{document:#}");
    assert_eq!(document["left_behind"], json!([]));
    assert_eq!(registry.left_in_uploads(), 0);
    let tags = registry.get("/v2/team/model/tags/list").await.text().await.unwrap();
    assert!(!tags.contains("lamina-doctor"), "{tags}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_registry_forgets_broken_uploads_and_has_no_referrers() {
    let registry = DockerRegistry::start();
    let (code, document) = examined(&Arc::new(Home::new()), registry.address(), &["--body-mib", "8"]).await;
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(remarkable(&document), ["chunk-offset", "resume", "referrers", "delete"], "{document:#}");
    check(&document, "chunk-offset", "note", "taken without a word");
    check(&document, "resume", "will-hurt", "forgotten");
    check(&document, "referrers", "note", "there is no such API");
    check(&document, "delete", "note", "not deleted when asked: tags (");
    check(&document, "mount", "ok", "within the repository");
    // The upload whose connection was cut cannot be removed by any client; all else has gone.
    let left = document["left_behind"].as_array().unwrap();
    assert!(left.len() == 1 && left[0].as_str().unwrap().contains("whose connection was cut"), "{left:?}");
    assert_eq!(registry.uploads_left("team/model"), 1);
    let tags = registry.repository_folder("team/model").join("_manifests/tags");
    assert_eq!(fs::read_dir(tags).map_or(0, Iterator::count), 0);
    let layers = registry.repository_folder("team/model").join("_layers/sha256");
    for layer in fs::read_dir(layers).unwrap() {
        assert!(!layer.unwrap().path().join("link").exists(), "a blob is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_habits_of_large_registries_are_told() {
    let (code, ghcr) = with(Faults { chunk_bytes_max: Some(4 << 20), ..Faults::default() }).await;
    check(&ghcr, "chunks", "note", "of 4.00 MiB, and of 8.00 MiB not");
    check(&ghcr, "body-size", "ok", "8.00 MiB");
    assert_eq!((code, &ghcr["profile"]["chunk_bytes_max"]), (0, &json!(4 << 20)));

    for status in [400, 405, 416, 501] {
        let (code, gar) = with(Faults { no_chunks: Some(status), ..Faults::default() }).await;
        check(&gar, "chunks", "note", &format!("chunks are not taken: {status}"));
        check(&gar, "resume", "will-hurt", "sent again from its beginning");
        assert_eq!((code, &gar["profile"]["chunks"]), (0, &json!(false)));
    }

    let (code, ecr) = with(Faults { chunk_status: Some(201), stuck_ranges: true, ..Faults::default() }).await;
    check(&ecr, "chunks", "note", "stands still");
    assert_eq!((code, &ecr["profile"]["chunks"]), (0, &json!(false)));

    let (_, odd) = with(Faults { half_chunks: true, relative_locations: true, chunk_bytes_min: Some(1 << 20), ..Faults::default() }).await;
    check(&odd, "chunks", "ok", "in part, of at least 1.00 MiB");
    let (_, odd) = with(Faults { lying_ranges: true, ..Faults::default() }).await;
    check(&odd, "chunks", "note", "says more than was sent");

    let (code, harbor) = with(Faults { tags_stay: Some(412), ..Faults::default() }).await;
    check(&harbor, "tag-overwrite", "note", "give each push a tag of its own");
    assert_eq!(code, 0);
    let (code, artifactory) = with(Faults { missing_is_forbidden: true, ..Faults::default() }).await;
    check(&artifactory, "missing", "note", "403");
    assert_eq!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_s_body_limit_is_found_to_a_factor_of_two() {
    for (limit_bytes, taken) in [(5_000_000, 4), (1 << 20, 1), (20 << 20, 16)] {
        let registry = FaultRegistry::start(Faults { body_bytes_max: Some(limit_bytes), ..Faults::default() }).await;
        let (code, document) = examined(&Arc::new(Home::new()), &registry.address(), &[]).await;
        nothing_left(&registry);
        let words = format!("of {taken}.00 MiB are taken, of {}.00 MiB not: 413 Payload Too Large", taken * 2);
        check(&document, "body-size", "will-hurt", &words);
        check(&document, "body-size", "will-hurt", "`body_bytes_max` for registry");
        assert_eq!((code, &document["profile"]["body_bytes_max"]), (0, &json!(taken << 20)));
        assert!(document["summary"].as_str().unwrap().ends_with("will work; what will hurt: body-size."), "{document:#}");
    }
    // Where it is too small for any model, or where chunks are no way around it, pushing will not work.
    let (code, document) = with(Faults { body_bytes_max: Some(500_000), ..Faults::default() }).await;
    assert_eq!((code, &document["can_push"]), (4, &json!(false)));
    check(&document, "body-size", "will-hurt", "client_max_body_size");
    let (code, document) = with(Faults { body_bytes_max: Some(5_000_000), no_chunks: Some(405), ..Faults::default() }).await;
    assert_eq!(code, 4);
    assert!(document["summary"].as_str().unwrap().contains("layers of more than 4 MiB cannot be pushed"), "{document:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_tried_from_another_repository_where_one_is_named() {
    for (status, verdict, words, mounts) in [
        (None, "ok", "blobs are mounted from `base`", json!(true)),
        (Some(202), "will-hurt", "opens an upload instead", json!(false)),
        (Some(405), "will-hurt", "`mounts: true` for registry", json!(false)),
        (Some(401), "will-hurt", "the right to pull from `base`", json!(null)),
    ] {
        let registry = FaultRegistry::start(Faults { mount_status: status, mount_needs_from: true, ..Faults::default() }).await;
        let layer = noise(1000);
        let digest = registry.put_blob("base", &layer);
        let image = manifest(b"{}", &[crate::support::client::layer(&layer)]);
        registry.put_manifest("base", "1", &image.media_type, &image.bytes);
        let named = format!("{}/base", registry.address());
        let (code, document) = examined(&Arc::new(Home::new()), &registry.address(), &["--body-mib", "1", "--mount-from", &named]).await;
        check(&document, "mount", verdict, words);
        assert_eq!((code, &document["profile"]["mounts"]), (0, &mounts));
        assert_eq!(registry.kept().blobs.len(), 1);
        assert_eq!(registry.blob("base", digest).unwrap(), layer, "what was mounted from stays");
        assert!(registry.kept().uploads.is_empty());

        // What is here already is not mounted, and so not deleted either.
        for blob in [&layer[..], b"{}"] {
            registry.put_blob("team/model", blob);
        }
        let (_, document) = examined(&Arc::new(Home::new()), &registry.address(), &["--body-mib", "1", "--mount-from", "base"]).await;
        check(&document, "mount", "note", "no small blob that is not here already");
        assert_eq!(registry.kept().blobs.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_is_told_in_its_own_words() {
    let (code, document) = with(Faults { manifests_without: Some("+zstd"), ..Faults::default() }).await;
    check(&document, "zstd-layer", "note", "MANIFEST_INVALID: refused by the test");
    assert_eq!((code, &document["profile"]["zstd"]), (0, &json!(false)));
    let (code, document) = with(Faults { manifests_without: Some("vnd.docker"), ..Faults::default() }).await;
    check(&document, "docker-manifest", "note", "Docker family");
    assert_eq!(code, 0);
    let (code, document) = with(Faults { manifests_without: Some("image.index"), ..Faults::default() }).await;
    check(&document, "oci-index", "will-hurt", "`--platform`");
    assert_eq!(code, 0);
    let (code, document) = with(Faults { manifests_without: Some("vnd.oci"), ..Faults::default() }).await;
    check(&document, "oci-manifest", "will-hurt", "OCI images are refused");
    assert_eq!(code, 0, "Docker images can be pushed");
    let (code, document) = with(Faults { manifests_without: Some("subject"), ..Faults::default() }).await;
    check(&document, "referrers", "note", "manifests with a subject are refused");
    assert_eq!(code, 0);

    let full = r#"{"errors":[{"code":"DENIED","message":"the quota of 10 GiB is full"}]}"#;
    for (method, path) in [(Method::POST, "/uploads/"), (Method::PUT, "/uploads/"), (Method::PUT, "/manifests/")] {
        let refusals = vec![Refusal { body: full, ..burst(method, path, 99, 403) }];
        let (code, document) = with(Faults { refusals, ..Faults::default() }).await;
        assert_eq!((code, &document["can_push"]), (4, &json!(false)), "{path}");
        let summary = document["summary"].as_str().unwrap();
        assert!(summary.starts_with("Pushing will not work") && summary.contains("the quota of 10 GiB is full"), "{summary}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_is_named_and_does_not_become_more() {
    let registry = FaultRegistry::start(Faults { no_deletes: Some(405), tags_stay: Some(409), ..Faults::default() }).await;
    let home = Arc::new(Home::new());
    let (code, document) = examined(&home, &registry.address(), &["--body-mib", "1"]).await;
    assert_eq!(code, 0, "{document:#}");
    check(&document, "delete", "note", "tags (405), manifests (405), blobs (405)");
    let left: Vec<String> = document["left_behind"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert!(left.contains(&format!("the tag `{}/team/model:lamina-doctor`", registry.address())), "{left:?}");
    let kept = || {
        let kept = registry.kept();
        (kept.blobs.len(), kept.manifests.len())
    };
    let (blobs, manifests) = kept();
    // A manifest is kept by its digest, and one of them by the tag, too; the one that the tag was refused for is not there.
    assert_eq!(left.len(), blobs + manifests, "{left:?}");
    assert!(registry.kept().uploads.is_empty());
    let (_, again) = examined(&home, &registry.address(), &["--body-mib", "1"]).await;
    check(&again, "oci-manifest", "ok", "taken");
    assert_eq!(kept(), (blobs, manifests));

    // The blobs of that registry serve for another one whose blobs are somewhere else.
    let store = FaultRegistry::start(Faults::default()).await;
    let blobs = registry.kept().blobs.clone();
    store.kept().blobs = blobs;
    let blobs_at = format!("http://{}", store.address());
    let (_, document) = with(Faults { blobs_at: Some(blobs_at.clone()), ..Faults::default() }).await;
    check(&document, "download", "note", &format!("blobs come from {blobs_at}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_the_same_name_that_is_somebody_else_s_stays() {
    let registry = FaultRegistry::start(Faults { lists_referrers: true, ..Faults::default() }).await;
    let image = manifest(b"{}", &[]);
    registry.put_manifest("team/model", "lamina-doctor", &image.media_type, &image.bytes);
    let (code, document) = examined(&Arc::new(Home::new()), &registry.address(), &["--body-mib", "1"]).await;
    check(&document, "tag-overwrite", "will-hurt", "that is not of a doctor");
    check(&document, "oci-manifest", "ok", "taken");
    assert_eq!((code, &document["left_behind"]), (0, &json!([])));
    let kept = registry.kept();
    assert_eq!(kept.manifests.keys().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["lamina-doctor"]);
    assert!(kept.manifests.values().all(|(_, bytes)| *bytes == image.bytes) && kept.blobs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_told_without_their_secrets() {
    let server = TokenServer { password: true, delete_right: true, ..TokenServer::default() };
    let by_identity = TokenServer { password: false, identity: true, ..server.clone() };
    let password = json!({ "auth": "dXNlcjpwYXNzd29yZA==" });
    for (login, auth, words, who) in [
        (Login::Basic, password.clone(), "it wants a password; we are `user`", "password ****"),
        (Login::Bearer(server), password.clone(), "it wants tokens of http://127.0.0.1:", "password ****"),
        (
            Login::Bearer(by_identity),
            json!({ "auth": "dXNlcjo=", "identitytoken": "identity" }),
            "it wants tokens of http://127.0.0.1:",
            "we have an identity token ****",
        ),
    ] {
        let registry = FaultRegistry::start(Faults { login, lists_referrers: true, ..Faults::default() }).await;
        let home = Arc::new(Home::new());
        // As docker keeps it.
        let auths = json!({ "auths": { registry.address(): auth } });
        fs::create_dir(home.path().join(".docker")).unwrap();
        fs::write(home.path().join(".docker/config.json"), auths.to_string()).unwrap();
        let ran = run(&home, &["--output", "json", &format!("{}/team/model", registry.address()), "--body-mib", "1", "-v", "-v"]).await;
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        check(&document, "login", "ok", words);
        check(&document, "login", "ok", ".docker/config.json`");
        check(&document, "login", "ok", who);
        assert_eq!((ran.code, remarkable(&document)), (0, vec![]), "{document:#}");
        for secret in ["dXNlcjpwYXNzd29yZA", "user:password", "token1"] {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{ran:#?}");
        }
        nothing_left(&registry);

        // Somebody else may not come in.
        let (code, document) = examined(&Arc::new(Home::new()), &registry.address(), &[]).await;
        assert_eq!(code, 4);
        assert_ne!(line(&document, "login").0, "ok");
        check(&document, "push", "will-hurt", "log in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_writes_nothing() {
    let faults = Faults { warnings: vec!["299 - \"moving on Monday\""], date: Some("Wed, 21 Oct 2015 07:28:00 GMT"), ..Faults::default() };
    let registry = FaultRegistry::start(faults).await;
    let (code, document) = examined(&Arc::new(Home::new()), &registry.address(), &["--read-only"]).await;
    assert_eq!((code, &document["can_push"]), (0, &json!(null)));
    assert!(document["summary"].as_str().unwrap().contains("was not tried"));
    check(&document, "warning", "note", "moving on Monday");
    check(&document, "clock", "note", "behind this machine's");
    let reads = registry.kept().asked.iter().all(|asked| asked.method == Method::GET || asked.method == Method::HEAD);
    assert!(reads && registry.kept().asked.len() == 5, "{:?}", registry.kept().asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_it_and_what_was_written_is_deleted() {
    for signal in ["-INT", "-TERM"] {
        // No commit after the third ends: three blobs are there, and an upload is open.
        let registry = FaultRegistry::start(Faults { lists_referrers: true, commits_held_after: Some(3), ..Faults::default() }).await;
        let home = Home::new();
        let mut child = home.command().args(["registry", "doctor", &format!("{}/team/model", registry.address())]).spawn().unwrap();
        let held = || registry.kept().blobs.len() == 3 && registry.count(Method::PUT, "/uploads/") == 4;
        while !held() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        crate::support::hs::tool("kill", &[signal, &child.id().to_string()]);
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert_eq!(status.code(), Some(1), "{signal}");
        nothing_left(&registry);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registry_or_no_repository_is_a_plain_error() {
    let home = Arc::new(Home::new());
    let ran = run(&home, &["127.0.0.1:1/team/model"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""));
    assert!(ran.stderr.contains("cannot ask for the API of `127.0.0.1:1`: no connection"), "{ran:#?}");
    for wrong in ["team/model", "registry.example/model:1", "oci:folder"] {
        let ran = run(&home, &[wrong]).await;
        assert_eq!(ran.code, 2, "{wrong}: {ran:#?}");
    }
}
