//! A registry that wants a certificate from its clients: who has it comes in, who has none does not, and nobody else is shown it.

use std::path::PathBuf;

use lamina::fault::{Failure, Fault};
use lamina::registry::client::Registries;
use lamina::registry::error::RegistryError;
use lamina::registry::settings::{HostSettings, RegistrySettings};
use lamina::registry::trouble::Trouble;

use crate::support::client::{layer, noise, push, quick, repository_with};
use crate::support::docker_registry::DockerRegistry;
use crate::support::fault_registry::{FaultRegistry, Faults};
use crate::support::hs::Home;

/// Keys and certificates in a folder of their own.
struct Papers(tempfile::TempDir);

impl Papers {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes `NAME.key` and `NAME.pem`.
    fn make(&self, name: &str, more: &[&str]) {
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-subj", &format!("/CN={name}")])
            .args(["-keyout", &self.text(&format!("{name}.key")), "-out", &self.text(&format!("{name}.pem"))])
            .args(more)
            .output()
            .expect("this test needs openssl");
        assert!(made.status.success(), "{made:?}");
    }
}

fn papers() -> Papers {
    let papers = Papers(tempfile::tempdir().unwrap());
    papers.make("authority", &[]);
    let (authority, key) = (papers.text("authority.pem"), papers.text("authority.key"));
    for name in ["server", "client"] {
        papers.make(name, &["-CA", &authority, "-CAkey", &key, "-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    papers.make("stranger", &[]);
    papers
}

#[tokio::test]
async fn a_registry_that_wants_a_client_certificate_is_shown_it() {
    let papers = papers();
    let (server, key, authority) = (papers.text("server.pem"), papers.text("server.key"), papers.text("authority.pem"));
    let http = format!(", tls: {{certificate: '{server}', key: '{key}', clientcas: ['{authority}']}}");
    let registry = DockerRegistry::start_with(&http, "");
    let with = |certificate: Option<&str>, key: Option<&str>| {
        let host = HostSettings {
            plain_http: Some(false),
            ca_file: Some(papers.path("authority.pem")),
            client_certificate_file: certificate.map(|name| papers.path(name)),
            client_key_file: key.map(|name| papers.path(name)),
            ..HostSettings::default()
        };
        let hosts = [(registry.address().to_owned(), host)].into();
        repository_with(RegistrySettings { hosts, ..quick() }, &format!("{}/model", registry.address()))
    };
    let both: Vec<u8> = ["client.pem", "client.key"].iter().flat_map(|name| std::fs::read(papers.path(name)).unwrap()).collect();
    std::fs::write(papers.path("both.pem"), both).unwrap();
    for (certificate, key) in [("client.pem", Some("client.key")), ("both.pem", None)] {
        let repository = with(Some(certificate), key);
        let blob = noise(300_000);
        push(&repository, &blob).await.unwrap();
        assert_eq!(repository.blob_bytes(&layer(&blob), 300_000).await.unwrap(), blob);
    }
    // Who has none, or one that the registry does not know, gets no answer: with TLS 1.3 the refusal comes after our side of the handshake.
    for repository in [with(None, None), with(Some("stranger.pem"), Some("stranger.key"))] {
        for _ in 0..20 {
            let error = repository.manifest("1").await.unwrap_err();
            assert!(matches!(error, RegistryError::Unreachable { trouble: Trouble::ClientCertificate, .. }), "{error:?}");
            assert!(error.remedy().unwrap().contains("set `client_certificate_file` and `client_key_file` for registry"));
        }
    }
}

#[test]
fn papers_that_do_not_fit_are_refused_before_anything_is_sent() {
    let papers = papers();
    std::fs::write(papers.path("empty.pem"), b"").unwrap();
    for (certificate, key, named) in [
        (Some("client.pem"), Some("stranger.key"), "stranger.key"),
        (Some("client.pem"), None, "client.pem"),
        (Some("empty.pem"), Some("client.key"), "empty.pem"),
        (Some("missing.pem"), None, "missing.pem"),
        (None, Some("client.key"), "client.key"),
    ] {
        let host = HostSettings {
            client_certificate_file: certificate.map(|name| papers.path(name)),
            client_key_file: key.map(|name| papers.path(name)),
            ..HostSettings::default()
        };
        let settings = RegistrySettings { hosts: [("host".to_owned(), host)].into(), ..quick() };
        let Err(error) = Registries::new(settings) else { panic!("{certificate:?} {key:?} was taken") };
        assert_eq!(error.fault(), Fault::Usage);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
async fn a_store_behind_the_registry_is_not_shown_it() {
    // The store refuses whoever shows none, and trusts this one: that it refuses us says that it was not shown.
    let papers = papers();
    let (server, key, authority) = (papers.text("server.pem"), papers.text("server.key"), papers.text("authority.pem"));
    let store = DockerRegistry::start_with(&format!(", tls: {{certificate: '{server}', key: '{key}', clientcas: ['{authority}']}}"), "");
    let faults = Faults { blobs_at: Some(format!("https://{}", store.address())), ..Faults::default() };
    let registry = FaultRegistry::start(faults).await;
    let host = HostSettings {
        ca_file: Some(papers.path("authority.pem")),
        client_certificate_file: Some(papers.path("client.pem")),
        client_key_file: Some(papers.path("client.key")),
        ..HostSettings::default()
    };
    let hosts = [(registry.address(), host)].into();
    let repository = repository_with(RegistrySettings { hosts, ..quick() }, &format!("{}/model", registry.address()));
    registry.put_blob("model", b"blob");
    let error = repository.blob_bytes(&layer(b"blob"), 10).await.unwrap_err();
    // Shown, it would have been answered that the blob is not there.
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_the_machine_are_opened_by_the_first_connection_that_needs_them() {
    let papers = papers();
    std::fs::create_dir(papers.path("machine")).unwrap();
    std::fs::copy(papers.path("authority.pem"), papers.path("machine/bundle.pem")).unwrap();
    let home = Home::new().with("SSL_CERT_FILE", papers.text("machine/bundle.pem"));
    std::fs::create_dir(home.path().join("model")).unwrap();
    std::fs::write(home.path().join("model/weights.bin"), noise(1000)).unwrap();
    let model = home.path().join("model").display().to_string();
    // A registry that speaks plain HTTP needs none, whether there is something to do or not.
    let plain = FaultRegistry::start(Faults::default()).await;
    let build = |host: &str| ["build", &model, "--name", "model", "--no-contract", "--to", &format!("{host}/model:1")].map(str::to_owned);
    for _ in 0..2 {
        let (_, opened) = home.traced(&papers.path("machine"), build(&plain.address()));
        assert_eq!(opened, Vec::<String>::new());
    }
    // One that speaks TLS needs them, and they are trusted then.
    let (server, key) = (papers.text("server.pem"), papers.text("server.key"));
    let registry = DockerRegistry::start_with(&format!(", tls: {{certificate: '{server}', key: '{key}'}}"), "");
    let config = home.path().join("config.yaml");
    std::fs::write(&config, format!("registries: {{'{}': {{plain_http: false}}}}\n", registry.address())).unwrap();
    let by_tls = [vec!["--config".to_owned(), config.display().to_string()], build(registry.address()).to_vec()].concat();
    let (_, opened) = home.traced(&papers.path("machine"), &by_tls);
    assert_eq!(opened, ["bundle.pem"]);
    // What is broken in them is told when they are needed, and that they are not there at once.
    std::fs::write(papers.path("machine/bundle.pem"), "no certificate").unwrap();
    let ran = home.hs(&by_tls);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("cannot read certificate authorities from") && ran.stderr.contains("machine/bundle.pem"), "{ran:#?}");
    assert_eq!(home.hs(build(&plain.address())).code, 0);
    std::fs::remove_file(papers.path("machine/bundle.pem")).unwrap();
    let ran = home.hs(build(&plain.address()));
    assert!(ran.code == 2 && ran.stderr.contains("machine/bundle.pem"), "{ran:#?}");
}
