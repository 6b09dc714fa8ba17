//! Many uploads at once, and a service that dies in the middle of them: nothing that was accepted is lost, no number is skipped or given twice.
//!
//! Ten real clients, a real service, `kill -9`. The moments of the kill are states of the service, not times: they are looked for from outside.

use std::fs;
use std::path::Path;
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::support::client::noise;
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Serve, free_address};
use crate::support::outside::{LOOK, ended, tags, until, versions, whole_image, write_model};

const CLIENTS: usize = 10;

/// Ten clients of one model; each is a process.
fn clients(home: &Home, service: &Serve, model: &Path) -> Vec<Child> {
    let start = |_| {
        let mut command = home.command();
        command.args(["--output", "json", "upload"]).arg(model).args(["--server", &service.url()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    (0..CLIENTS).map(start).collect()
}

fn ends(clients: Vec<Child>) -> Vec<Output> {
    clients.into_iter().map(|client| client.wait_with_output().unwrap()).collect()
}

/// A model with a file that is a layer of its own, and small ones that are packed.
fn model(home: &Home) -> std::path::PathBuf {
    let folder = home.path().join("model");
    let (large, small) = (noise(9 << 20), noise(1 << 20));
    write_model(&folder, "m", &[("large.bin", &large), ("small.bin", &small), ("words.txt", b"words")]);
    folder
}

/// What must be true once the builds have ended, whatever happened before. Gives the versions.
async fn assert_all_is_well(service: &Serve, uploads: &Path, host: &str) -> Vec<Value> {
    let versions = ended(&service.url(), "m").await;
    let numbers: Vec<u64> = versions.iter().map(|version| version["version"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..=versions.len() as u64).collect();
    assert_eq!(numbers, expected, "a number is missing or was given twice");
    for version in &versions {
        assert_eq!(version["status"], "Finished", "{version:#}");
    }
    assert_eq!(tags(host, "m").await, expected, "the registry has other versions than the catalog");
    for version in &versions {
        let (digest, _) = whole_image(host, "m", &version["version"].to_string()).await;
        assert_eq!(version["digest"], digest.to_string());
    }
    let mut left: Vec<_> = fs::read_dir(uploads).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // A session that broke off stays for its client to go on with, until it has rested for a day (`garbage_service.rs`).
    left.retain(|name| !name.starts_with("session-"));
    assert!(left.is_empty(), "left in uploads: {left:?}");
    versions
}

/// Every client got its own version and its image, or says plainly why not. Gives how many did.
fn assert_plain(outputs: &[Output], versions: &[Value], service: &Serve) -> usize {
    let mut told = Vec::new();
    let mut done = 0;
    for output in outputs {
        let said = String::from_utf8_lossy(&output.stderr);
        // What the client was told before anything broke was accepted: it must be there.
        let number = said.lines().find_map(|line| line.trim().strip_prefix("m version ")?.parse::<u64>().ok());
        told.extend(number);
        if output.status.success() {
            let version: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(version["version"].as_u64(), number);
            let kept = &versions[usize::try_from(number.unwrap()).unwrap() - 1];
            assert_eq!((&version["status"], &version["digest"]), (&kept["status"], &kept["digest"]));
            done += 1;
        } else {
            assert_eq!(output.status.code(), Some(4), "{said}");
            let reason = said.lines().find(|line| line.contains(&service.url()) && line.to_lowercase().starts_with("error"));
            assert!(reason.is_some(), "no plain reason in {said}");
        }
    }
    let all = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), all, "two clients were told one number");
    assert!(told.iter().all(|number| *number <= versions.len() as u64), "{told:?} of {}", versions.len());
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_clients_at_once_get_the_versions_1_to_10_each_once() {
    let home = Home::new();
    let model = model(&home);
    let service = Serve::start(&home, &[]);
    let outputs = ends(clients(&home, &service, &model));
    let versions = assert_all_is_well(&service, &home.data().join("uploads"), &service.address.to_string()).await;
    assert_eq!(versions.len(), CLIENTS);
    assert_eq!(assert_plain(&outputs, &versions, &service), CLIENTS, "{outputs:#?}");
}

/// A state of a service that is under way.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// An archive is being unpacked, and there is no version yet.
    Unpacking,
    /// So many have their numbers.
    Accepted(usize),
    /// A build runs.
    Building,
    /// So many images are in the registry.
    Built(usize),
}

impl Moment {
    async fn comes(self, service: &Serve, data: &Path) {
        match self {
            Moment::Unpacking => until("an upload", || fs::read_dir(data.join("uploads")).unwrap().next().is_some()).await,
            Moment::Building => {
                let is_running = |versions: &[Value]| versions.iter().any(|version| version["status"] == "Running");
                while !is_running(&versions(&service.url(), "m").await) {
                    tokio::time::sleep(LOOK / 10).await;
                }
            }
            Moment::Built(count) => {
                let tags = data.join("repositories/m/_tags");
                until("an image", || fs::read_dir(&tags).map_or(0, Iterator::count) >= count).await;
            }
            Moment::Accepted(count) => {
                while versions(&service.url(), "m").await.len() < count {
                    tokio::time::sleep(LOOK / 10).await;
                }
            }
        }
    }
}

async fn assert_survives(moment: Moment) {
    let home = Home::new();
    let model = model(&home);
    let address = free_address();
    let mut service = Serve::start_at(&home, address, &[]);
    let clients = clients(&home, &service, &model);
    moment.comes(&service, &home.data()).await;
    service.kill();
    let service = Serve::start_at(&home, address, &[]);
    let outputs = ends(clients);
    let versions = assert_all_is_well(&service, &home.data().join("uploads"), &address.to_string()).await;
    let done = assert_plain(&outputs, &versions, &service);
    assert!(done <= versions.len(), "{moment:?}");
    eprintln!("killed at {moment:?}: {} versions, {done} clients served", versions.len());
    // The next number is the next one.
    let next = home.json(["upload", model.to_str().unwrap(), "--server", &service.url()]);
    assert_eq!((next["version"].as_u64(), &next["status"]), (Some(versions.len() as u64 + 1), &Value::from("Finished")), "{moment:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_while_it_unpacks_loses_nothing_that_it_accepted() {
    assert_survives(Moment::Unpacking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_while_it_numbers_loses_nothing_that_it_accepted() {
    assert_survives(Moment::Accepted(1)).await;
    assert_survives(Moment::Accepted(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_while_it_builds_ends_every_build_it_accepted() {
    assert_survives(Moment::Building).await;
    assert_survives(Moment::Built(1)).await;
    assert_survives(Moment::Built(6)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_three_times_while_it_sends_leaves_whole_images_in_another_registry() {
    let registry = DockerRegistry::start();
    let home = Home::new();
    let model = model(&home);
    let address = free_address();
    let place = format!("{}/team", registry.address());
    let arguments = ["--registry", place.as_str()];
    let mut service = Serve::start_at(&home, address, &arguments);
    let clients = clients(&home, &service, &model);
    Moment::Accepted(CLIENTS).comes(&service, &home.data()).await;
    for images in [0, 2, 5] {
        let folder = registry.repository_folder("team/m");
        let is_sending = || {
            let tags = fs::read_dir(folder.join("_manifests/tags")).map_or(0, Iterator::count);
            let begun = fs::read_dir(folder.join("_layers/sha256")).map_or(0, Iterator::count) + registry.uploads_left("team/m");
            tags >= images && begun > 0
        };
        until("a build that sends", is_sending).await;
        service.kill();
        service = Serve::start_at(&home, address, &arguments);
    }
    let outputs = ends(clients);
    let versions = ended(&service.url(), "m").await;
    assert_plain(&outputs, &versions, &service);
    let numbers: Vec<u64> = versions.iter().map(|version| version["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=CLIENTS as u64).collect::<Vec<_>>());
    assert_eq!(tags(registry.address(), "team/m").await, numbers);
    for version in &versions {
        assert_eq!(version["status"], "Finished", "{version:#}");
        let (digest, _) = whole_image(registry.address(), "team/m", &version["version"].to_string()).await;
        assert_eq!(version["digest"], digest.to_string());
    }
    assert_eq!(fs::read_dir(home.data().join("uploads")).unwrap().count(), 0);
}
