//! The servers that bytes go to and come from: `docker-registry`, `hs serve`, `nginx`. Each is a process of its own, keeps everything below one folder,
//! and is gone with the value, as is the folder.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to listen; only a bound.
const START: Duration = Duration::from_mins(1);

/// A running server.
pub struct Server {
    process: Child,
    folder: PathBuf,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

/// The registries that are pushed to.
#[derive(Clone, Copy)]
pub enum Registry {
    /// Debian's package.
    Docker,
    /// Ours, in `hs serve`.
    Lamina,
}

impl Registry {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Registry::Docker => "docker-registry",
            Registry::Lamina => "`hs serve`",
        }
    }

    /// Starts one with nothing in it.
    pub fn start(self, below: &Path) -> io::Result<Server> {
        let (folder, address) = (below.join("registry"), free_address()?);
        fs::create_dir_all(&folder)?;
        match self {
            Registry::Docker => {
                let config = folder.join("config.yml");
                let storage = folder.join("storage");
                let storage = storage.display();
                let text = format!(
                    "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {storage}}}\nhttp: {{addr: '{address}', secret: bench}}\n"
                );
                fs::write(&config, text)?;
                Server::start(Command::new("docker-registry").arg("serve").arg(config), folder, address)
            }
            Registry::Lamina => {
                let mut command = hs(&folder);
                Server::start(command.args(["serve", "--listen", &address]), folder, address)
            }
        }
    }
}

/// `nginx`, serving the files of `files`.
pub fn nginx(below: &Path, files: &Path) -> io::Result<Server> {
    let (folder, address) = (below.join("nginx"), free_address()?);
    fs::create_dir_all(&folder)?;
    let config = folder.join("nginx.conf");
    let root = files.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {of};\n")).concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid pid;\nerror_log error.log;\nevents {{}}\nhttp {{\naccess_log off;\nsendfile on;\ntcp_nopush on;\n{temporary}\
         server {{ listen {address}; root {root}; }}\n}}\n"
    );
    fs::write(&config, text)?;
    Server::start(Command::new("nginx").arg("-p").arg(&folder).args(["-e", "error.log", "-c"]).arg(config), folder, address)
}

impl Server {
    fn start(command: &mut Command, folder: PathBuf, address: String) -> io::Result<Server> {
        // docker-registry writes a line for each request to its standard output.
        let (asked, said) = (File::create(folder.join("asked.log"))?, File::create(folder.join("said.log"))?);
        let process = command.stdin(Stdio::null()).stdout(asked).stderr(said).spawn();
        let process = process.map_err(|error| io::Error::other(format!("{}: {error}", command.get_program().display())))?;
        let mut server = Server { process, folder, address };
        let began = Instant::now();
        while TcpStream::connect(&server.address).is_err() {
            if server.process.try_wait()?.is_some() || began.elapsed() > START {
                return Err(io::Error::other(format!("{} does not listen", command.get_program().display())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// How many requests a docker-registry has answered.
    pub fn answered(&self) -> io::Result<usize> {
        Ok(fs::read_to_string(self.folder.join("asked.log"))?.lines().filter(|line| line.contains("HTTP/1.1\"")).count())
    }

    /// The bytes of all blobs that a docker-registry keeps, manifests among them.
    pub fn kept_bytes(&self) -> io::Result<u64> {
        bytes_below(&self.folder.join("storage/docker/registry/v2/blobs"))
    }
}

fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// `hs` for a user whose home is `home`.
pub fn hs(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hs"));
    command.env_clear().env("HOME", home).env("PATH", crate::variable("PATH").unwrap_or_default());
    command
}

fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
