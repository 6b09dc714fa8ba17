//! A container of podman's: the command, its start, its output, its end.
//!
//! Only podman's command line is spoken. The container has a name of its own and `--rm`, so that it can be stopped for certain and leaves nothing; its
//! output is read all the time (a full pipe would stop the model) and its end is kept for the message when it fails.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::task::JoinHandle;

/// How much of the output is kept.
const OUTPUT_BYTES_MAX: usize = 16 << 10;
/// How long a model may take to end before it is killed.
const STOP_S: u32 = 10;
/// Where our runtimes listen inside a container whose network is its own.
const CONTAINER_PORT: u16 = 9090;

/// The command that starts a model's container.
#[derive(Clone, Debug)]
pub struct Command {
    podman: Vec<String>,
    options: Vec<String>,
    name: String,
    image: String,
    /// Where podman is started; `None`: where we were.
    folder: Option<PathBuf>,
}

/// A container that was started. One that is dropped before it was stopped (Ctrl-C) is stopped then: podman leaves it running when only its own
/// program goes.
pub struct Container {
    command: Command,
    child: Child,
    output: Arc<Mutex<VecDeque<u8>>>,
    readers: Vec<JoinHandle<()>>,
    stopped: bool,
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.stopped && matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.command.stop_command().into_std().status();
        }
    }
}

impl Command {
    /// `podman` and `options` are split at blanks, as a shell would without quotes.
    pub fn new(podman: &str, options: &str, image: &str, port: u16) -> Command {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let own = words(options);
        let of_host = own.iter().any(|word| word == "--network=host" || word == "--net=host")
            || own.windows(2).any(|pair| pair[0] == "--network" && pair[1] == "host");
        let mut options = vec!["--rm".to_owned()];
        options.extend(if of_host {
            ["--env".to_owned(), format!("APP_PORT={port}")]
        } else {
            ["--publish".to_owned(), format!("127.0.0.1:{port}:{CONTAINER_PORT}")]
        });
        // podman asks for TLS everywhere; a registry on this machine seldom has it.
        let host = image.split('/').next().unwrap_or_default();
        if ["127.0.0.1", "localhost", "[::1]"].iter().any(|local| host == *local || host.starts_with(&format!("{local}:"))) {
            options.push("--tls-verify=false".to_owned());
        }
        options.extend(own);
        Command {
            podman: words(podman),
            options,
            name: format!("hs-run-{}-{port}", std::process::id()),
            image: image.to_owned(),
            folder: None,
        }
    }

    /// The command for an image in a layout that stands in `folder` and goes with it: its name is relative to that, and podman forgets the image too.
    ///
    /// podman calls an image of a layout by the path that it was given, and takes no upper case in it: the path of a temporary folder will not do.
    pub fn in_folder(mut self, folder: &Path) -> Command {
        self.options.push("--rmi".to_owned());
        self.folder = Some(folder.to_owned());
        self
    }

    /// The command, for people.
    pub fn text(&self) -> String {
        self.of(&self.image)
    }

    /// The command for another name of the image.
    pub fn of(&self, image: &str) -> String {
        format!("{} run {} {image}", self.podman.join(" "), self.options.join(" "))
    }

    fn podman(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.podman.first().map_or("podman", String::as_str));
        command.args(self.podman.iter().skip(1)).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn stop_command(&self) -> tokio::process::Command {
        let mut command = self.podman(&["stop", "-t", &STOP_S.to_string(), &self.name]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(false);
        command
    }

    /// Whether podman is there.
    pub async fn is_possible(&self) -> bool {
        let asked = self.podman(&["--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        asked.is_ok_and(|status| status.success())
    }

    /// Starts the container.
    pub fn start(self) -> io::Result<Container> {
        let mut command = self.podman(&["run", "--name", &self.name]);
        let mut child = command.args(&self.options).arg(&self.image).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|pipe| keep_end(pipe, output.clone())));
        readers.extend(child.stderr.take().map(|pipe| keep_end(pipe, output.clone())));
        Ok(Container { command: self, child, output, readers, stopped: false })
    }
}

impl Container {
    /// Waits until the container ends by itself; tells its status.
    pub async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops the container where it still runs, and returns the end of its output.
    pub async fn stop(mut self) -> String {
        if matches!(self.child.try_wait(), Ok(None)) {
            let stopped = self.command.stop_command().status();
            let _ = stopped.await;
            let _ = tokio::time::timeout(Duration::from_secs(u64::from(STOP_S)), self.child.wait()).await;
        }
        self.stopped = true;
        for reader in std::mem::take(&mut self.readers) {
            let _ = tokio::time::timeout(Duration::from_secs(1), reader).await;
        }
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&output.iter().copied().collect::<Vec<u8>>()).trim().to_owned()
    }
}

fn keep_end(mut pipe: impl AsyncRead + Send + Unpin + 'static, output: Arc<Mutex<VecDeque<u8>>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut piece).await {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.extend(&piece[..length]);
            let excess = output.len().saturating_sub(OUTPUT_BYTES_MAX);
            output.drain(..excess);
        }
    })
}

/// A port of the loopback that nobody uses now.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_decides_how_the_port_is_told() {
        let own = Command::new("podman --root /r", "--ulimit nofile=1:1", "127.0.0.1:5000/m:1", 7);
        let expected = "podman --root /r run --rm --publish 127.0.0.1:7:9090 --tls-verify=false --ulimit nofile=1:1 127.0.0.1:5000/m:1";
        assert_eq!(own.text(), expected);
        for options in ["--network=host", "--network host"] {
            assert!(Command::new("podman", options, "ghcr.io/m:1", 7).text().starts_with("podman run --rm --env APP_PORT=7 --network"));
        }
    }
}
