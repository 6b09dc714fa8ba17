//! `kill -9` of `hs build` leaves its folder for compressed layers; the next build removes it, and touches no other's.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::outputs::Bench;
use crate::support::outside::until;

/// A build that waits for a base, and the folder that it holds; killed when it is dropped.
struct Waiting {
    child: Child,
    folder: PathBuf,
}

impl Waiting {
    /// `silent` takes connections and never answers.
    async fn start(bench: &Bench, temporary: &Path, silent: SocketAddr) -> Waiting {
        let before = folders(temporary);
        let mut command = bench.home.command();
        command.args(bench.words(&["--runtime", &format!("{silent}/base:1")])).env("TMPDIR", temporary);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let new = || folders(temporary).into_iter().find(|folder| !before.contains(folder) && folder.join("lock").exists());
        until("the folder of a build", || new().is_some()).await;
        Waiting { child, folder: new().unwrap() }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.kill();
    }
}

fn folders(temporary: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_build_left_is_removed_by_the_next_and_what_is_in_use_is_not() {
    let bench = Bench::new();
    let temporary = bench.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let mut killed = Waiting::start(&bench, &temporary, address).await;
    let mut running = Waiting::start(&bench, &temporary, address).await;
    for build in [&killed, &running] {
        fs::create_dir(build.folder.join("below")).unwrap();
        fs::write(build.folder.join("below/layer"), "a compressed layer").unwrap();
    }
    let somebodys = temporary.join("hs-build-notes");
    fs::create_dir(&somebodys).unwrap();
    killed.kill();
    assert!(killed.folder.join("below/layer").exists(), "nobody tidies up after a kill");

    let next = || {
        let output = bench.home.command().args(bench.words(&["--runtime", "scratch"])).env("TMPDIR", &temporary).output().unwrap();
        assert!(output.status.success(), "{output:#?}");
        folders(&temporary)
    };
    let mut expected = vec![running.folder.clone(), somebodys.clone()];
    expected.sort();
    assert_eq!(next(), expected);
    assert!(running.folder.join("below/layer").exists() && running.child.try_wait().unwrap().is_none());
    running.kill();
    assert_eq!(next(), [somebodys]);
}
