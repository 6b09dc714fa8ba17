//! A real registry: Debian's `docker-registry`, one process for each test, gone with the value.
//!
//! It keeps its blobs in a folder of its own, so that a test can look at what was really stored, and what was left
//! behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

/// How long the process may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running registry.
pub struct DockerRegistry {
    process: Child,
    folder: TempDir,
    address: String,
}

impl DockerRegistry {
    /// Starts one, on a free port of loopback.
    pub fn start() -> DockerRegistry {
        DockerRegistry::start_with("", "")
    }

    /// Starts one with more members in the `http` part of its configuration, and more parts.
    pub fn start_with(http: &str, parts: &str) -> DockerRegistry {
        DockerRegistry::start_on(tempfile::tempdir().unwrap(), &format!(", secret: test{http}"), parts)
    }

    /// Starts one without `http.secret`: it makes one up, and another one when it is started again.
    pub fn start_without_secret() -> DockerRegistry {
        DockerRegistry::start_on(tempfile::tempdir().unwrap(), "", "")
    }

    /// Starts one that keeps its blobs below `folder`: a temporary folder may be too small for gigabytes.
    pub fn start_in(folder: &Path) -> DockerRegistry {
        DockerRegistry::start_on(tempfile::tempdir_in(folder).unwrap(), ", secret: test", "")
    }

    fn start_on(folder: TempDir, http: &str, parts: &str) -> DockerRegistry {
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\nhttp: {{addr: '127.0.0.1:0'{http}}}\n{parts}\n",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let (process, address) = serve(&config);
        DockerRegistry { process, folder, address }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again over what it has kept, at another address.
    pub fn start_again(&mut self) {
        self.kill();
        (self.process, self.address) = serve(&self.folder.path().join("config.yml"));
    }

    /// Forgets everything that it has kept; nobody may use it meanwhile.
    pub fn forget_everything(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(self.folder.path().join("storage"));
        self.start_again();
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The files that are kept for a repository.
    pub fn repository_folder(&self, repository: &str) -> PathBuf {
        self.folder.path().join("storage/docker/registry/v2/repositories").join(repository)
    }

    /// The uploads that were begun in a repository and neither ended nor given up. One whose connection broke stays for a week, and
    /// no client can remove it: this registry forgets its address.
    pub fn uploads_left(&self, repository: &str) -> usize {
        let Ok(folders) = fs::read_dir(self.repository_folder(repository).join("_uploads")) else { return 0 };
        // A refused upload leaves an empty shell, without its data.
        folders.filter(|folder| folder.as_ref().unwrap().path().join("data").exists()).count()
    }

    /// The file in which a blob (`sha256:…`) is stored.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.folder.path().join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// How many different blobs are stored.
    pub fn blobs(&self) -> usize {
        let below = self.folder.path().join("storage/docker/registry/v2/blobs/sha256");
        fs::read_dir(below).map_or(0, |folders| folders.map(|folder| entries(&folder.unwrap().path())).sum())
    }
}

/// Runs the program; the process, and where it listens.
fn serve(config: &Path) -> (Child, String) {
    let mut process = Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("these tests need Debian's package docker-registry");
    let log = BufReader::new(process.stderr.take().unwrap());
    let (tell, hear) = mpsc::channel();
    // Reads on to the end: a full pipe would stop the registry.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let _ = tell.send(rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect::<String>());
            }
        }
    });
    let address = hear.recv_timeout(START_TIMEOUT);
    if address.is_err() {
        let _ = process.kill();
    }
    (process, address.expect("docker-registry listens"))
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
