//! `hs demo`, as typed on a fresh machine: an empty home, no configuration.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::hs::{Home, Serve, free_address};
use crate::support::outside::whole_image;

/// Runs the demonstration to its end.
fn demo(home: &Home) -> (Value, String) {
    let ran = home.hs(["demo", "--exit", "--output", "json", "--listen", &free_address().to_string()]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    (serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}")), ran.stderr)
}

/// The page, the reference and the digest that it printed are those of an image that is really there, and that a service on the same data folder serves
/// again. Gives the manifest.
async fn assert_built(home: &Home, printed: &Value) -> Value {
    assert_eq!(
        (&printed["model"], &printed["version"], &printed["status"]),
        (&json!("linear_regression"), &json!(1), &json!("Finished")),
        "{printed:#}"
    );
    let image = printed["image"].as_str().unwrap();
    let host = image.strip_suffix("/linear_regression:1").unwrap_or_else(|| panic!("{image}"));
    assert_eq!(printed["page"], format!("http://{host}/models/linear_regression"));
    let service = Serve::start(home, &[]);
    let (digest, manifest) = whole_image(&service.address.to_string(), "linear_regression", "1").await;
    assert_eq!(printed["digest"], digest.to_string());
    assert_eq!(fs::read_dir(home.data().join("uploads")).unwrap().count(), 0);
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_demo_ends_with_a_built_image() {
    let home = Home::new();
    let (printed, said) = demo(&home);
    let manifest = assert_built(&home, &printed).await;
    assert!(printed["report"]["base"]["name"].as_str().is_some_and(|name| name.contains("serving-runtime-python")), "{printed:#} {said}");
    // Two layers of the base, and ours.
    assert!(manifest["layers"].as_array().unwrap().len() >= 4, "{manifest:#}");
    // The base is made once; a second demonstration is the next version.
    let (again, said) = demo(&home);
    assert_eq!(again["version"], 2, "{again:#}");
    assert!(!said.contains("making the base"), "{said}");
}

/// A folder of links to all programs but one.
fn programs_without(missing: &str, folder: &Path) {
    let mut known = BTreeSet::from([missing.into()]);
    let path = std::env::var_os("PATH").unwrap();
    for entry in std::env::split_paths(&path).filter_map(|folder| fs::read_dir(folder).ok()).flatten() {
        let entry = entry.unwrap();
        if known.insert(entry.file_name()) {
            symlink(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mmdebstrap_the_demo_says_so_and_goes_on_with_the_model_alone() {
    let programs = tempfile::tempdir().unwrap();
    programs_without("mmdebstrap", programs.path());
    let home = Home::new().with("PATH", programs.path().to_str().unwrap());
    let (printed, said) = demo(&home);
    assert!(said.contains("mmdebstrap is not installed: apt-get install mmdebstrap"), "{said}");
    assert!(said.contains("model-only image"), "{said}");
    let manifest = assert_built(&home, &printed).await;
    assert_eq!(printed["report"]["base"], Value::Null, "{printed:#}");
    // The contract, and the files.
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2, "{manifest:#}");
}

#[test]
fn a_demo_whose_address_is_taken_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let programs = tempfile::tempdir().unwrap();
    programs_without("mmdebstrap", programs.path());
    let home = Home::new().with("PATH", programs.path().to_str().unwrap());
    let ran = home.hs(["demo", "--exit", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains(&taken.local_addr().unwrap().to_string()) && ran.stderr.contains("--listen"), "{ran:#?}");
}
