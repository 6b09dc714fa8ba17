//! Hosts that take the connection and fall silent: every command gives up in a bounded time, says on the way that it waits, and names the host.
//!
//! No time is measured: the bounds are set low, and what is counted is how often the host was asked.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamina::fault::{Failure as _, Fault};
use lamina::oci::digest::Digest;
use lamina::oci::reference::Reference;
use lamina::registry::client::{Access, Registries};
use lamina::registry::error::RegistryError;
use lamina::registry::settings::{HostSettings, RegistrySettings};
use lamina::registry::silence::Awaited;

use crate::support::client::{layer, manifest, noise, push, quick, quiet, repository_with, source};
use crate::support::fault_registry::{FaultRegistry, Faults};
use crate::support::fault_tokens::{Login, TokenServer};
use crate::support::hs::{Home, Ran};
use crate::support::silent_host::{HEAD_ALONE, SilentHost};

/// Settings that wait for an answer to a small question no longer than this, and else as long as always.
fn hurried() -> RegistrySettings {
    let mut settings = quick();
    settings.patience.answer = Duration::from_millis(150);
    settings
}

/// Runs a command against a host that is waited for no longer than a second.
async fn run(host: &SilentHost, words: &[&str]) -> Ran {
    let home = Home::new();
    let config = home.path().join("config.yaml");
    fs::write(&config, format!("registries: {{'{}': {{answer_s: 1}}}}\n", host.address())).unwrap();
    fs::create_dir(home.path().join("model")).unwrap();
    fs::write(home.path().join("model/weights.bin"), noise(1000)).unwrap();
    let words: Vec<String> =
        words.iter().map(|word| word.replace("HOST", host.address()).replace("HOME", home.path().to_str().unwrap())).collect();
    let options = ["--config".to_owned(), config.display().to_string()];
    tokio::task::spawn_blocking(move || home.hs(options.into_iter().chain(words))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_gives_a_silent_host_up_and_names_it() {
    let commands: [&[&str]; 6] = [
        &["inspect", "HOST/team/model:1"],
        &["pull", "HOST/team/model:1", "HOME/pulled"],
        &["registry", "doctor", "HOST/team/model"],
        &["registry", "doctor", "--read-only", "HOST/team/model"],
        &["build", "HOME/model", "--name", "model", "--no-contract", "--to", "HOST/team/model:1"],
        &["build", "HOME/model", "--name", "model", "--no-contract", "--runtime", "HOST/base:1", "--to", "oci:HOME/image"],
    ];
    for words in commands {
        for (says, silence) in [("", "did not answer within 1 s"), (HEAD_ALONE, "began to answer, and then nothing came for 1 s")] {
            // A push asks with HEAD first, whose answer has no body.
            if words.contains(&"HOST/team/model:1") && words[0] == "build" && !says.is_empty() {
                continue;
            }
            let host = SilentHost::start(says).await;
            let ran = run(&host, words).await;
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{words:?}: {ran:#?}");
            assert!(ran.stderr.contains(&format!("`{}` {silence}", host.address())), "{words:?}: {ran:#?}");
            let told = ran.stderr.matches("it is waited for up to 1 s").count();
            assert_eq!((told, host.taken()), (1, 1), "{words:?}: {ran:#?}");
        }
    }
}

#[tokio::test]
async fn a_silent_token_server_is_the_one_that_is_named() {
    let silent = SilentHost::start("").await;
    let realm = format!("http://{}/token", silent.address());
    let login = Login::Bearer(TokenServer { realm: Some(realm), ..TokenServer::default() });
    let registry = FaultRegistry::start(Faults { login, ..Faults::default() }).await;
    let repository = repository_with(hurried(), &format!("{}/model", registry.address()));
    let error = repository.manifest("1").await.unwrap_err();
    let RegistryError::Stalled { silence, .. } = &error else { panic!("{error:?}") };
    assert_eq!((silence.host.as_str(), silence.first), (format!("http://{}", silent.address()).as_str(), true));
    assert_eq!((error.fault(), silent.taken()), (Fault::RemoteTransient, 1));
    assert!(error.remedy().unwrap().contains(silent.address()), "{error:?}");
}

#[tokio::test]
async fn a_registry_that_takes_its_time_to_store_is_not_cut_off() {
    // Longer than a small question is waited for, and longer than bytes may stand still.
    let registry = FaultRegistry::start(Faults { commit_delay: Duration::from_secs(1), ..Faults::default() }).await;
    let mut settings = hurried();
    settings.patience.idle = settings.patience.answer;
    settings.patience.tries_max = 1;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    settings.teller.listen(move |text| hears.lock().unwrap().push(text.to_owned()));
    // In one request, and in chunks whose commit has no body.
    for chunk_bytes in [u64::MAX, 200_000] {
        let host = HostSettings { body_bytes_max: Some(chunk_bytes), chunk_bytes: Some(chunk_bytes), ..HostSettings::default() };
        settings.hosts = [(registry.address(), host)].into();
        let repository = repository_with(settings.clone(), &format!("{}/model", registry.address()));
        let blob = noise(300_000 + usize::from(chunk_bytes == u64::MAX));
        repository.upload(Digest::of(&blob), blob.len() as u64, None, &source(&blob), &quiet).await.unwrap();
        assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    }
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains(&format!("`{}` was sent all, and has been at work on it", registry.address())), "{heard:?}");
}

#[tokio::test]
async fn a_registry_that_falls_silent_in_the_middle_is_asked_thrice() {
    let registry = FaultRegistry::start(Faults::default()).await;
    let tap = crate::support::wire_tap::WireTap::before(&registry.address()).await;
    let repository = repository_with(hurried(), &format!("{}/model", tap.address()));
    push(&repository, b"blob").await.unwrap();
    let silent = SilentHost::start("").await;
    tap.cut_answer_after(0);
    tap.point_to(silent.address());
    let error = repository.manifest("1").await.unwrap_err();
    let RegistryError::Stalled { silence, .. } = &error else { panic!("{error:?}") };
    assert_eq!((silence.awaited, silence.first, silent.taken()), (Awaited::Answer, false, 3));
}

#[tokio::test]
async fn a_silent_mirror_costs_one_wait_and_not_one_for_each_blob() {
    let registry = FaultRegistry::start(Faults::default()).await;
    let (blobs, config) = ([noise(1000), noise(2000)], b"{}");
    let image = manifest(config, &blobs.each_ref().map(|blob| layer(blob)));
    registry.put_manifest("model", "1", &image.media_type, &image.bytes);
    for blob in &blobs {
        registry.put_blob("model", blob);
    }
    let mirror = SilentHost::start("").await;
    let host = HostSettings { mirrors: vec![mirror.address().to_owned()], ..HostSettings::default() };
    let settings = RegistrySettings { hosts: [(registry.address(), host)].into(), ..hurried() };
    let reference = Reference::repository(&registry.address(), "model");
    let repository = Registries::new(settings).unwrap().repository(&reference, Access::Pull).unwrap();
    repository.manifest("1").await.unwrap();
    for blob in &blobs {
        assert_eq!(repository.blob_bytes(&layer(blob), 10_000).await.unwrap(), *blob);
    }
    assert_eq!(mirror.taken(), 1);
}
