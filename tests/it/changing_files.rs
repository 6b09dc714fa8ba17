//! A file that changes under us, at each of its moments: what is said (exit code 3, with its name), and that nothing of the image can be seen.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::Method;
use axum::http::header::RETRY_AFTER;

use crate::support::client::noise;
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};
use crate::support::hs::Home;
use crate::support::models;
use crate::support::wire_tap::WireTap;

/// A model with a large file, on its way to a registry.
struct Bench {
    home: Home,
    registry: FaultRegistry,
    tap: WireTap,
}

impl Bench {
    async fn new() -> Bench {
        let home = Home::new();
        let model = home.path().join("model");
        models::small(&model);
        // More than the buffers between the client and the registry hold.
        let weights: Vec<u8> = noise(1 << 20).into_iter().cycle().take(96 << 20).collect();
        models::write(&model, &[("weights.bin".to_owned(), weights, false)], &[]);
        fs::create_dir(home.path().join("scratch")).unwrap();
        let scratch = home.path().join("scratch").display().to_string();
        let registry = FaultRegistry::start(Faults { relative_locations: true, ..Faults::default() }).await;
        let tap = WireTap::before(&registry.address()).await;
        Bench { home: home.with("TMPDIR", scratch), registry, tap }
    }

    fn weights(&self) -> PathBuf {
        self.home.path().join("model/weights.bin")
    }

    fn change(&self) {
        File::options().append(true).open(self.weights()).unwrap().write_all(b"more").unwrap();
    }

    fn build(&self) -> Child {
        let model = self.home.path().join("model").display().to_string();
        let to = format!("{}/model:1", self.tap.address());
        let mut command = self.home.command();
        command.args(["build", &model, "--runtime", "scratch", "--to", &to]).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The build said what is wrong, and left nothing.
    fn check(&self, output: &Output) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("weights.bin` changed"), "{said}");
        assert!(self.registry.kept().manifests.is_empty(), "no manifest");
        assert_eq!(self.registry.count(Method::PUT, "/manifests/"), 0);
        let whole =
            self.registry.kept().blobs.iter().all(|((_, digest), bytes)| lamina::oci::digest::Digest::of(bytes).to_string() == *digest);
        assert!(whole, "no torn blob");
        // Of a layer that was under way beside it a session may stay, without its bytes.
        assert!(self.registry.kept().uploads.values().all(Vec::is_empty), "nothing of the file stays in an upload");
        assert_eq!(fs::read_dir(self.home.path().join("scratch")).unwrap().count(), 0, "nothing is left in scratch");
    }
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_hashed_makes_no_image() {
    let bench = Bench::new().await;
    let (weights, rests) = (bench.weights(), AtomicBool::new(false));
    let output = std::thread::scope(|scope| {
        // It never rests, so it changes whenever it is read.
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&weights).unwrap();
            while !rests.load(Ordering::SeqCst) {
                file.write_all(b"x").unwrap();
            }
        });
        let output = bench.build().wait_with_output().unwrap();
        rests.store(true, Ordering::SeqCst);
        output
    });
    bench.check(&output);
    assert_eq!(bench.tap.body_bytes(), 0, "{:?}", bench.tap.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_between_hashing_and_sending_makes_no_image() {
    let bench = Bench::new().await;
    // The registry wants no upload before the file has changed.
    let busy = Refusal { headers: vec![(RETRY_AFTER, "0")], ..burst(Method::POST, "/uploads/", u32::MAX, 429) };
    bench.registry.kept().faults.refusals = vec![busy];
    let child = bench.build();
    until(|| bench.registry.count(Method::POST, "/uploads/") > 0).await;
    bench.change();
    bench.registry.kept().faults.refusals.clear();
    bench.check(&child.wait_with_output().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_sent_makes_no_image() {
    let bench = Bench::new().await;
    bench.tap.hold_bodies_after(4 << 20);
    let child = bench.build();
    until(|| bench.tap.seen().iter().any(|seen| seen.body_bytes > 4 << 20)).await;
    bench.change();
    bench.tap.release();
    bench.check(&child.wait_with_output().unwrap());
}
