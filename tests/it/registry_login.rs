//! Logins: passwords, tokens, identity tokens; what is sent to whom, and how often.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use axum::http::Method;
use base64::Engine;
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::registry::client::{Access, Registries, Repository};
use lamina::registry::error::RegistryError;
use lamina::registry::mount::Mount;
use lamina::registry::settings::{HostSettings, RegistrySettings, Secret};

use crate::support::client::{layer, manifest, noise, push, quick, repository, repository_with};
use crate::support::fault_registry::{FaultRegistry, Faults};
use crate::support::fault_tokens::{Login, TokenServer, basic};

async fn start(login: Login) -> FaultRegistry {
    FaultRegistry::start(Faults { login, ..Faults::default() }).await
}

/// As `user` with a password, from the settings.
fn as_user(registry: &FaultRegistry, password: &str, path: &str) -> Repository {
    let host = HostSettings { username: Some("user".to_owned()), password: Some(Secret::new(password)), ..HostSettings::default() };
    let hosts = [(registry.address(), host)].into();
    repository_with(RegistrySettings { hosts, ..quick() }, &format!("{}/{path}", registry.address()))
}

#[tokio::test]
async fn a_password_is_sent_when_it_is_asked_for() {
    let registry = start(Login::Basic).await;
    let repository = as_user(&registry, "password", "model");
    let blob = noise(100_000);
    assert_eq!(push(&repository, &blob).await.unwrap(), 100_000);
    assert_eq!(repository.blob_bytes(&layer(&blob), 100_000).await.unwrap(), blob);
    let asked = registry.kept().asked.clone();
    assert_eq!(asked[0].authorization, None, "nothing is told before it is asked for");
    assert!(asked[1..].iter().all(|asked| asked.authorization == Some(basic())));
    assert_eq!(asked.len(), 1 + 2 + 1, "a challenge, two requests up, one down");

    let error = push(&as_user(&registry, "wrong", "model"), b"x").await.unwrap_err();
    assert_eq!(error.fault(), Fault::Remote);
    assert_eq!(error.remedy().unwrap(), format!("log in: `docker login {0}` or `podman login {0}`", registry.address()));
    assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    assert!(registry.kept().uploads.is_empty());
}

#[tokio::test]
async fn one_token_serves_a_whole_push() {
    let registry = start(Login::Bearer(TokenServer { password: true, ..TokenServer::default() })).await;
    let repository = as_user(&registry, "password", "model");
    assert_eq!(repository.manifest_digest("1").await.unwrap(), None);
    for number in 0..5 {
        let blob = noise(10_000 + number);
        assert!(!repository.has_blob(Digest::of(&blob), blob.len() as u64).await.unwrap());
        push(&repository, &blob).await.unwrap();
    }
    repository.put_manifest("1", &manifest(b"{}", &[])).await.unwrap();
    let asked = registry.kept().asked.clone();
    assert_eq!(registry.count(Method::GET, "/token"), 1);
    assert_eq!(asked.iter().filter(|asked| asked.authorization.is_none()).count(), 1);
    let token = asked.iter().find(|asked| asked.path == "/token").unwrap();
    assert_eq!(token.authorization, Some(basic()));
    assert_eq!(token.query, "service=test&scope=repository%3Amodel%3Apull%2Cpush");
    // The password goes to the token server only.
    assert!(asked.iter().filter(|asked| asked.path != "/token").all(|asked| asked.authorization != Some(basic())));
}

#[tokio::test]
async fn tokens_that_end_in_the_middle_are_renewed() {
    let registry = start(Login::Bearer(TokenServer { life: Some(Duration::from_secs(1)), ..TokenServer::default() })).await;
    let repository = repository(&format!("{}/model", registry.address()));
    let begun = std::time::Instant::now();
    let mut blobs = 0;
    while begun.elapsed() < Duration::from_millis(2500) {
        push(&repository, &noise(10_000 + blobs)).await.unwrap();
        blobs += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(registry.kept().blobs.len(), blobs);
    assert!(registry.count(Method::GET, "/token") >= 3);
    // A token is renewed before it ends: no body is sent twice.
    assert_eq!(registry.count(Method::PUT, "/uploads/"), blobs);
}

#[tokio::test]
async fn a_token_that_is_withdrawn_is_renewed() {
    let registry = start(Login::Bearer(TokenServer::default())).await;
    let repository = repository(&format!("{}/model", registry.address()));
    push(&repository, b"one").await.unwrap();
    registry.kept().tokens.clear();
    push(&repository, b"two").await.unwrap();
    assert_eq!(registry.kept().blobs.len(), 2);
    assert!(registry.kept().uploads.is_empty());
}

#[tokio::test]
async fn a_mount_asks_for_the_right_to_read_there() {
    let registry = start(Login::Bearer(TokenServer::default())).await;
    let repository = repository(&format!("{}/model", registry.address()));
    let digest = registry.put_blob("base", b"blob");
    assert_eq!(repository.mount(digest, "base").await.unwrap(), Mount::Mounted);
    let kept = registry.kept();
    let token = kept.asked.iter().find(|asked| asked.path == "/token").unwrap();
    assert_eq!(token.query, "service=test&scope=repository%3Amodel%3Apull%2Cpush&scope=repository%3Abase%3Apull", "the target first");
}

#[tokio::test]
async fn a_server_that_grants_the_first_scope_only_still_takes_the_upload() {
    let registry = start(Login::Bearer(TokenServer { first_scope_only: true, ..TokenServer::default() })).await;
    let repository = repository(&format!("{}/model", registry.address()));
    let digest = registry.put_blob("base", b"blob");
    assert_eq!(repository.mount(digest, "base").await.unwrap(), Mount::NotPossible);
    assert_eq!(push(&repository, b"blob").await.unwrap(), 4);
    assert!(registry.blob("model", digest).is_some());
}

#[tokio::test]
async fn pulls_ask_for_the_right_to_pull() {
    let registry = start(Login::Bearer(TokenServer::default())).await;
    registry.put_blob("base", b"blob");
    let reference = format!("{}/base", registry.address()).parse().unwrap();
    let repository = Registries::new(quick()).unwrap().repository(&reference, Access::Pull).unwrap();
    assert_eq!(repository.blob_bytes(&layer(b"blob"), 4).await.unwrap(), b"blob");
    let kept = registry.kept();
    assert_eq!(kept.asked.iter().find(|asked| asked.path == "/token").unwrap().query, "service=test&scope=repository%3Abase%3Apull");
}

#[tokio::test]
async fn a_refused_login_names_the_token_server() {
    let registry = start(Login::Bearer(TokenServer { password: true, ..TokenServer::default() })).await;
    let error = as_user(&registry, "wrong", "model").manifest("1").await.unwrap_err();
    assert!(matches!(error, RegistryError::NoToken { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("no token from http://{}", registry.address())) && text.contains("401"), "{text}");
    assert!(error.remedy().unwrap().starts_with("log in: "));
    assert_eq!(registry.count(Method::GET, "/token"), 1, "a wrong password is not tried again");
}

#[tokio::test]
async fn a_token_goes_to_no_other_host() {
    let storage = start(Login::Nobody).await;
    let registry = start(Login::Bearer(TokenServer::default())).await;
    registry.kept().faults.blobs_at = Some(format!("http://{}", storage.address()));
    registry.put_blob("model", b"blob");
    storage.put_blob("model", b"blob");
    let repository = repository(&format!("{}/model", registry.address()));
    assert!(repository.has_blob(Digest::of(b"blob"), 4).await.unwrap());
    assert_eq!(repository.blob_bytes(&layer(b"blob"), 4).await.unwrap(), b"blob");
    let kept = storage.kept();
    assert_eq!(kept.asked.len(), 2);
    assert!(kept.asked.iter().all(|asked| asked.authorization.is_none() && asked.query == "signature=secret"), "{:?}", kept.asked);
    assert!(registry.kept().asked.iter().any(|asked| asked.authorization.is_some()));
}

#[tokio::test]
async fn a_location_on_another_host_gets_no_token() {
    let storage = start(Login::Nobody).await;
    let registry = start(Login::Bearer(TokenServer::default())).await;
    registry.kept().faults.locations_at = Some(format!("http://{}", storage.address()));
    storage.kept().uploads.insert("u1".to_owned(), Vec::new());
    let repository = repository(&format!("{}/model", registry.address()));
    push(&repository, b"blob").await.unwrap();
    assert!(storage.blob("model", Digest::of(b"blob")).is_some());
    assert!(storage.kept().asked.iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn a_password_goes_to_no_realm_in_a_private_network() {
    let inside = start(Login::Nobody).await;
    let realm = Some(format!("http://{}/token", inside.address()));
    let registry = start(Login::Bearer(TokenServer { realm, ..TokenServer::default() })).await;
    let host = HostSettings {
        plain_http: Some(true),
        username: Some("user".to_owned()),
        password: Some(Secret::new("password")),
        ..HostSettings::default()
    };
    let proxies = lamina::registry::settings::Proxies { http: Some(format!("http://{}", registry.address())), ..Default::default() };
    let settings = RegistrySettings { hosts: [("203.0.113.7".to_owned(), host)].into(), proxies, ..quick() };
    let error = repository_with(settings, "203.0.113.7/model").manifest("1").await.unwrap_err();
    assert!(matches!(error, RegistryError::Astray { .. }), "{error:?}");
    assert!(inside.kept().asked.is_empty());
}

#[tokio::test]
async fn identity_tokens_are_traded_by_post() {
    let registry = start(Login::Bearer(TokenServer { identity: true, ..TokenServer::default() })).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let auth = base64::engine::general_purpose::STANDARD.encode("00000000-0000-0000-0000-000000000000:");
    let entry = serde_json::json!({ "auth": auth, "identitytoken": "identity" });
    fs::write(&file, serde_json::json!({ "auths": { registry.address(): entry } }).to_string()).unwrap();
    let settings = RegistrySettings { credential_files: vec![file], ..quick() };
    push(&repository_with(settings, &format!("{}/model", registry.address())), b"blob").await.unwrap();
    assert_eq!(registry.count(Method::POST, "/token"), 1);
    assert_eq!(registry.count(Method::GET, "/token"), 0);
}

#[tokio::test]
async fn credentials_come_from_where_users_keep_them() {
    let registry = start(Login::Basic).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let auth = |text: &str| serde_json::json!({ "auth": base64::engine::general_purpose::STANDARD.encode(text) });
    let address = registry.address();
    let (right, wrong) = (auth("user:password"), auth("user:wrong"));
    let helper = path("docker-credential-test");
    fs::write(
        &helper,
        "#!/bin/sh\nread -r server\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"user\",\"Secret\":\"password\"}' \"$server\"\n",
    )
    .unwrap();
    let none = path("docker-credential-none");
    fs::write(&none, "#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n").unwrap();
    for program in [&helper, &none] {
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let with_path = |key: &str| format!("{address}/{key}");
    for (name, files, works) in [
        ("docker", vec![serde_json::json!({ "auths": { &address: right } })], true),
        ("docker with a scheme", vec![serde_json::json!({ "auths": { format!("https://{address}/v1/"): right } })], true),
        (
            "podman, by repository",
            vec![serde_json::json!({ "auths": { &address: wrong, with_path("team/model"): right, with_path("other"): wrong } })],
            true,
        ),
        ("podman, by a part of the path", vec![serde_json::json!({ "auths": { with_path("team"): right, &address: wrong } })], true),
        ("another repository's", vec![serde_json::json!({ "auths": { with_path("other"): right } })], false),
        (
            "the first file wins",
            vec![serde_json::json!({ "auths": { &address: right } }), serde_json::json!({ "auths": { &address: wrong } })],
            true,
        ),
        ("the second file helps out", vec![serde_json::json!({}), serde_json::json!({ "auths": { &address: right } })], true),
        ("a helper for the host", vec![serde_json::json!({ "auths": { &address: wrong }, "credHelpers": { &address: "test" } })], true),
        ("a helper for all", vec![serde_json::json!({ "auths": { &address: {} }, "credsStore": "test" })], true),
        (
            "a helper that knows nothing",
            vec![serde_json::json!({ "credsStore": "none" }), serde_json::json!({ "auths": { &address: right } })],
            true,
        ),
        ("nothing anywhere", vec![serde_json::json!({})], false),
    ] {
        let mut credential_files = vec![path("not there/config.json")];
        for (number, file) in files.iter().enumerate() {
            credential_files.push(path(&format!("{number}.json")));
            fs::write(credential_files.last().unwrap(), file.to_string()).unwrap();
        }
        // `read` and `printf` are the shell's own; the shell is named by its path.
        let helper_search_path = Some(folder.path().as_os_str().to_owned());
        let settings = RegistrySettings { credential_files, helper_search_path, ..quick() };
        let result = push(&repository_with(settings, &format!("{address}/team/model")), b"blob").await;
        assert_eq!(result.is_ok(), works, "{name}: {result:?}");
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_an_error_and_not_a_guest() {
    let registry = start(Login::Basic).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let address = registry.address();
    for (text, found) in [
        ("not json".to_owned(), "is not a file of registry credentials"),
        (format!(r#"{{"auths":{{"{address}":{{"auth":"***"}}}}}}"#), "is not valid"),
        (r#"{"credsStore":"missing"}"#.to_owned(), "cannot run `docker-credential-missing`"),
        (r#"{"credsStore":"../../bin/sh"}"#.to_owned(), "cannot run"),
    ] {
        fs::write(&file, text).unwrap();
        let settings = RegistrySettings { credential_files: vec![file.clone()], ..quick() };
        let error = repository_with(settings, &format!("{address}/model")).manifest("1").await.unwrap_err();
        assert_eq!(error.fault(), Fault::Usage);
        assert!(lamina::fault::one_line(&error).contains(found), "{}", lamina::fault::one_line(&error));
    }
}
