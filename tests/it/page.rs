//! The Models page in a real browser: what the ancestor's page showed, live.
//!
//! `service_live.rs` reads the pages as text; here their script runs. A build is held where it reads its base, so that the page can be seen before and after.

use std::process::Command;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::support::browser::Browser;
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Serve};
use crate::support::outside::{import_small_base, write_model};

/// A door to a registry: whoever knocks waits until it is opened.
struct Door {
    listener: TcpListener,
    registry: String,
}

impl Door {
    async fn before(registry: &DockerRegistry) -> Door {
        Door { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), registry: registry.address().to_owned() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    fn open(self) {
        tokio::spawn(async move {
            while let Ok((mut client, _)) = self.listener.accept().await {
                let mut server = TcpStream::connect(&self.registry).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        });
    }
}

/// The texts of the cells of a row of the versions' table; null where there is no such row.
fn row(number: u64) -> String {
    format!(
        "(() => {{ const row = [...document.querySelectorAll('table.versions tbody tr')].find(row => row.cells[0].innerText.trim() === '{number}'); \
         return row ? [...row.cells].map(cell => cell.innerText.trim()) : null }})()"
    )
}

fn status_is(number: u64, words: &[&str]) -> String {
    format!("(() => {{ const row = {}; return !!row && {words:?}.some(word => row[2].endsWith(word)) }})()", row(number))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_page_shows_an_upload_live_and_the_version_page_its_contract_and_log() {
    let (registry, home) = (DockerRegistry::start(), Home::new());
    let door = Door::before(&registry).await;
    let base = format!("{}/base:1", door.address());
    import_small_base(&home);
    let service = Serve::start(&home, &[]);
    let pushed = format!("docker://{}/base:1", registry.address());
    let own = format!("docker://{}/serving-runtime-python:3.11", service.address);
    let copy = ["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", &own, &pushed];
    assert!(Command::new("skopeo").args(copy).status().unwrap().success());
    let model = home.path().join("m");
    write_model(&model, "m", &[("w", b"1")]);
    let upload = |more: &[&str]| {
        let server = service.url();
        let arguments: Vec<&str> = ["upload", model.to_str().unwrap(), "--server", &server].iter().chain(more).copied().collect();
        home.json(arguments)
    };
    let browser = Browser::start().await;

    // With no model the page says how to upload one, and the first one appears by itself.
    browser.open(&service.url()).await;
    browser.until("!document.getElementById('live').hidden").await;
    assert!(browser.value("document.body.innerText").await.as_str().unwrap().contains("hs upload"));
    upload(&["--runtime", "scratch"]);
    browser.until(&status_is(1, &["Finished"])).await;

    let heads = browser.value("[...document.querySelectorAll('table.versions thead th')].map(cell => cell.innerText.trim())").await;
    assert_eq!(heads.as_array().unwrap()[..5], ["Version", "Created", "Build Status", "Applications", "Model Type"].map(Value::from));
    let cells = browser.value(&row(1)).await;
    assert_eq!((&cells[0], &cells[1], &cells[3], &cells[4]), (&json!("1"), &json!("just now"), &json!("–"), &json!("none:1")), "{cells}");

    // The next one appears while the page stays the same document, and so does its end.
    browser.until("!document.getElementById('live').hidden").await;
    browser.value("(window.stays = 'the same document')").await;
    upload(&["--async", "--runtime", &base]);
    browser.until(&status_is(2, &["Running"])).await;
    assert_eq!(browser.value(&row(1)).await[2].as_str().unwrap().split_whitespace().last(), Some("Finished"));

    // In its own window: the version's page, before the end of its build and after.
    let watching = Browser::start().await;
    watching.open(&format!("{}/models/m/2", service.url())).await;
    watching.until("document.getElementById('build-log').innerText.includes('uploaded: 1 file')").await;
    watching.value("(window.stays = 'the same document')").await;
    assert!(!watching.value("document.body.innerText").await.as_str().unwrap().contains("sha256:"));
    door.open();
    browser.until(&status_is(2, &["Finished"])).await;
    watching.until("document.getElementById('build-log').innerText.includes('finished: ')").await;
    watching.until("document.querySelector('header.head .status').innerText.includes('Finished')").await;
    watching.until("(document.getElementById('digest')?.innerText ?? '').startsWith('sha256:')").await;
    for page in [&browser, &watching] {
        assert_eq!(page.value("window.stays").await, "the same document", "the page was loaded again");
    }
    let field =
        "[...document.querySelectorAll('table.fields tbody tr')].map(row => [...row.cells].map(cell => cell.innerText.trim()).join(' '))";
    assert_eq!(watching.value(field).await, json!(["Inputs", "x DT_DOUBLE [-1, 2] –", "Outputs", "y DT_DOUBLE [-1] –"]));
    assert!(watching.value("document.querySelector('#contract').parentElement.innerText").await.as_str().unwrap().contains("infer"));

    // A click leads from the table to the version.
    browser.click("table.versions tbody tr:first-child a").await;
    browser.until("document.title.startsWith('m 2')").await;
    browser.quit().await;
    watching.quit().await;
}
