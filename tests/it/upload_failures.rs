//! A build of the service that fails ends `hs upload` with the exit code of whose failure it is, and with the service's remedy; the class is in `/api/v2`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::bases::{self, Base, Packed};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Serve, free_address, project};
use crate::support::outside::{get, write_model};
use crate::support::python_packages::{self as packages, SMALL};

/// Uploads the folder as the model `m` to the service, which takes it and cannot build it.
async fn assert_fails(client: &Home, serve: &Serve, folder: &Path, code: i32, stage: &str, fault: &str, said: &[&str]) {
    let ran = client.hs(["upload", folder.to_str().unwrap(), "--name", "m", "--server", &serve.url()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:#?}");
    for said in said.iter().chain(&["error: version 1 of `m` could not be built: ", "remedy: "]) {
        assert!(ran.stderr.contains(said), "{said}: {ran:#?}");
    }
    for view in ["", "?view=lamina"] {
        let (_, version) = get(&format!("{}/api/v2/model/version/m/1{view}", serve.url())).await;
        let error = &version["error"];
        assert_eq!((&error["stage"], &error["fault"]), (&json!(stage), &json!(fault)), "{version:#}");
    }
    // The seed era's clients read what they always read.
    let (_, all) = get(&format!("{}/api/v1/model", serve.url())).await;
    assert!(!all.to_string().contains("\"fault\""), "{all:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_operation_is_the_models_fault() {
    let (home, registry) = (Home::new(), DockerRegistry::start());
    let reference = format!("{}/base:1", registry.address());
    bases::push(&reference, &[Base::new("amd64", &[Packed::Plain])]);
    let config = home.path().join("config.yaml");
    let runtime = "model_types: [tensorflow], tensorflow_version: '2.21', contract_dialect: v1";
    fs::write(&config, format!("runtimes:\n  - {{name: tf, version: '1', reference: '{reference}', {runtime}}}\n")).unwrap();
    let serve = Serve::start(&home, &["--config", config.to_str().unwrap()]);
    let folder = home.path().join("saved_model");
    fs::create_dir(&folder).unwrap();
    let mut model = fs::read(project("tests/models/saved_model/half_plus_two/saved_model/saved_model.pb")).unwrap();
    for at in 0..model.len() - 8 {
        if model[at..].starts_with(b"Identity") {
            model[at..at + 8].copy_from_slice(b"Idontity");
        }
    }
    fs::write(folder.join("saved_model.pb"), &model).unwrap();
    let said = ["needs the operation `Idontity`", "remedy: save the model without it"];
    assert_fails(&Home::new(), &serve, &folder, 3, "fit", "invalid", &said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_the_networks_fault() {
    let (home, dead) = (Home::new(), free_address());
    let serve = Serve::start(&home, &["--registry", &format!("{dead}/models")]);
    let folder = home.path().join("model");
    write_model(&folder, "m", &[("weights", b"1")]);
    let remedy = format!("remedy: check that a registry listens at `{dead}`");
    assert_fails(&home, &serve, &folder, 4, "send", "remote-transient", &[&remedy]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wheel_that_nobody_made_is_the_models_fault_and_one_that_is_nowhere_is_the_networks() {
    let wheels = packages::wheels(&SMALL, false);
    let home = packages::user("uv");
    let serve = Serve::start(&home, &["--wheels", wheels.to_str().unwrap()]);
    let folder = home.path().join("model");
    packages::model(&folder, "six==9.9\n");
    assert_fails(&home, &serve, &folder, 3, "requirements", "invalid", &["six"]).await;

    // The same stage, and another's failure: the lock is good, and the wheel that it names is not to be had.
    packages::model(&folder, "six==1.17.0\n");
    let built: Value = home.json(["build", folder.to_str().unwrap(), "--wheels", wheels.to_str().unwrap()]);
    assert_eq!(built["requirements"]["packages"], json!(["six 1.17.0"]));
    let other = packages::user("uv");
    let serve = Serve::start(&other, &[]);
    let said = ["the lock's `six` 1.17.0 is to be had nowhere", "remedy: put the wheel that the lock names into a folder"];
    assert_fails(&other, &serve, &folder, 4, "requirements", "remote", &said).await;
}
