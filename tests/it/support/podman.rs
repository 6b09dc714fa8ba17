//! A podman with a store of its own, and containers in it.

use std::process::{Child, Command, Output, Stdio};

/// What some hosts need: limits that this user may set.
pub const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// As Kubernetes' restricted profile runs a container, on a root file system that cannot be written to: nothing of it is mounted for writing, /tmp neither.
pub const RESTRICTED: [&str; 5] =
    ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=bridge"];

/// A podman whose images and containers are in a folder of its own; both are gone with the value.
pub struct Podman {
    folder: tempfile::TempDir,
}

impl Podman {
    /// One that knows nothing yet.
    pub fn new() -> Podman {
        Podman { folder: tempfile::tempdir().unwrap() }
    }

    /// The command with its own options.
    pub fn words(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        vec!["podman".to_owned(), "--root".to_owned(), path("root"), "--runroot".to_owned(), path("run")]
    }

    /// The containers that it knows.
    pub fn containers(&self) -> String {
        self.list(&["ps", "--all", "--quiet"])
    }

    /// The images that it knows.
    pub fn images(&self) -> String {
        self.list(&["images", "--all", "--quiet"])
    }

    /// Runs a container to its end, which is expected to come by itself.
    pub fn run(&self, image: &str, options: &[&str]) -> Output {
        let mut command = self.command();
        command.args(["run", "--rm", "--tls-verify=false"]).args(LIMITS).args(options).arg(image).output().unwrap()
    }

    fn command(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    fn list(&self, words: &[&str]) -> String {
        let output = self.command().args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Its layers are mounted and belong to other users: only podman takes them down again.
        let _ = self.command().args(["system", "reset", "--force"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A container that was started without hs; stopped with the value.
pub struct Container<'a> {
    podman: &'a Podman,
    child: Child,
}

impl Container<'_> {
    /// Starts an image, its gRPC port on this port of the loopback, with more options of `podman run`.
    pub fn start<'a>(podman: &'a Podman, image: &str, port: u16, options: &[&str]) -> Container<'a> {
        let mut command = podman.command();
        command.args(["run", "--name", "model", "--rm", "--tls-verify=false", "--publish", &format!("127.0.0.1:{port}:9090")]);
        let child = command.args(LIMITS).args(options).arg(image).spawn().unwrap();
        Container { podman, child }
    }

    /// Starts an image with no network but its own loopback: it can be asked from within alone.
    pub fn start_without_network<'a>(podman: &'a Podman, image: &str, options: &[&str]) -> Container<'a> {
        let mut command = podman.command();
        command.args(["run", "--name", "model", "--rm", "--tls-verify=false", "--network=none"]);
        let child = command.args(LIMITS).args(options).arg(image).spawn().unwrap();
        Container { podman, child }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Runs a command in it, which must succeed; what it printed.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = self.podman.command().args(["exec", "model"]).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command in it; whether it succeeded.
    pub fn exec(&self, words: &[&str]) -> bool {
        self.podman.command().args(["exec", "model"]).args(words).status().unwrap().success()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.podman.command().args(["stop", "-t", "10", "model"]).stdout(Stdio::null()).status();
        let _ = self.child.wait();
    }
}
