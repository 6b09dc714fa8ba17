//! Running `hs` as a user does: the real program, in a home of its own, with an environment that says nothing about this machine.
//!
//! [`Home`] is a user: a temporary home folder and the variables that are set. Nothing of the person who runs the tests gets in: no credentials, no config, no
//! imported bases.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take to listen; only a bound, nothing is measured by it.
const START: Duration = Duration::from_mins(1);

/// A user.
pub struct Home {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a run printed.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Home {
    /// A user with an empty home.
    pub fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// The home folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder of this user.
    pub fn data(&self) -> PathBuf {
        self.path().join(".local/share/lamina")
    }

    /// The same user with a variable set.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Home {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The command `hs` for this user.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hs"));
        command.env_clear().env("HOME", self.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Runs `hs` to its end.
    pub fn hs(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        let output = self.command().args(arguments).output().unwrap();
        Ran::of(output)
    }

    /// Runs `hs`, which must succeed, and reads the JSON that it prints.
    pub fn json(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> serde_json::Value {
        let output = self.command().args(["--output", "json"]).args(arguments).output().unwrap();
        let ran = Ran::of(output);
        assert_eq!(ran.code, 0, "{ran:#?}");
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
    }
}

impl Home {
    /// The same under `strace`; also tells which files below `root` were opened.
    pub fn traced(&self, root: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> (serde_json::Value, Vec<String>) {
        let trace = self.path().join("trace");
        let plain = self.command();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=open,openat,openat2", "-o", trace.to_str().unwrap()]).arg(plain.get_program());
        command.args(["--output", "json"]).args(arguments).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = Ran::of(command.output().expect("these tests need Debian's package strace"));
        assert_eq!(ran.code, 0, "{ran:#?}");
        let text = std::fs::read_to_string(&trace).unwrap();
        let root = format!("{}/", root.display());
        let lines = text.lines().filter(|line| !line.contains("O_DIRECTORY"));
        let mut opened: Vec<String> = lines.filter_map(|line| Some(line.split_once(&root)?.1.split_once('"')?.0.to_owned())).collect();
        opened.sort();
        opened.dedup();
        (serde_json::from_str(&ran.stdout).unwrap(), opened)
    }
}

impl Ran {
    /// What a run printed.
    pub fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// `hs serve` as a process; killed when it is dropped.
pub struct Serve {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Serve {
    /// Starts a service for `home` on a free port, with more arguments.
    pub fn start(home: &Home, arguments: &[&str]) -> Serve {
        Serve::start_at(home, free_address(), arguments)
    }

    /// Starts a service at an address: one that was killed, started again.
    pub fn start_at(home: &Home, address: SocketAddr, arguments: &[&str]) -> Serve {
        let mut command = home.command();
        command.args(["serve", "--listen", &address.to_string()]).args(arguments).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("hs serve ended: {status}");
            }
            assert!(began.elapsed() < START, "hs serve does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Serve { child, address }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address of the loopback where nobody listens now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The project's own folder.
pub fn project(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// Runs another program, which must succeed, and returns what it printed.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; is its package installed?"));
    let ran = Ran::of(output);
    assert_eq!(ran.code, 0, "{program} {arguments:?}: {ran:#?}");
    ran.stdout
}
