//! `hs demo`: the main job on embedded defaults, on a fresh machine.
//!
//! The base is made where there is none (the recipe and its sources are in this binary), the service starts with its embedded registry, the example is uploaded as a
//! user would, and what to do next is said. Where the base cannot be made, that is said too, and the example becomes a model-only image.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use include_dir::{Dir, DirEntry, include_dir};
use lamina::cli::args::{self, DemoArguments, RunArguments, ServeArguments, UploadArguments};
use lamina::cli::say::Voice;
use lamina::cli::settings::Settings;
use lamina::cli::{run, upload};
use lamina::fault::{Failure, Fault};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::serve;

static BASES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/base-images");
static PROTOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/proto");
static EXAMPLE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/docs/examples/linear_regression");

/// The base that the example needs.
const BASE: &str = "serving-runtime-python";
const BASE_VERSION: &str = "3.11";
/// How long the recipe may take to clean up when it is stopped, in tenths of a second.
const STOP_TENTHS: u32 = 100;
/// The recipe's word for "this machine cannot do it" (sysexits, EX_UNAVAILABLE).
const UNAVAILABLE: i32 = 69;

/// Why the demonstration does not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Files cannot be written.
    #[error("unpacking the {what} into `{}`", .folder.display())]
    Unpack {
        /// What was unpacked.
        what: &'static str,
        /// Where.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The recipe failed where it should not.
    #[error("the recipe of the base ended with {status}")]
    Recipe {
        /// How it ended.
        status: String,
    },
    /// Ctrl-C.
    #[error("stopped while the base was being made")]
    Interrupted,
    /// This program does not find itself.
    #[error("finding this program's own file")]
    Program(#[source] io::Error),
}

impl Failure for DemoError {
    fn fault(&self) -> Fault {
        Fault::Ours
    }
}

/// Runs `hs demo`.
pub async fn run(arguments: &DemoArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let scratch = tempfile::Builder::new().prefix("hs-demo-").tempdir();
    let scratch = scratch.map_err(|source| DemoError::Unpack { what: "example", folder: std::env::temp_dir(), source })?;
    // An address that is taken is found out before the minute that the base takes.
    drop(serve::listen(arguments.listen).await?);
    tokio::select! {
        made = make_base(scratch.path(), settings, voice) => made?,
        signal = serve::wait_for_signal() => {
            signal?;
            return Err(DemoError::Interrupted.into());
        }
    }
    let words =
        ServeArguments { listen: arguments.listen, registry: None, public_host: None, workers: 2, wheels: Vec::new(), no_bytecode: false };
    let running = serve::start(&words, settings).await?;
    let result = show(arguments, &running, scratch.path(), settings, voice).await;
    if result.is_ok() && !arguments.exit {
        serve::wait_for_signal().await?;
    }
    running.stop().await?;
    result
}

async fn show(
    arguments: &DemoArguments,
    running: &serve::Running,
    scratch: &Path,
    settings: &Settings,
    voice: &Voice,
) -> Result<(), Box<dyn Failure>> {
    let folder = scratch.join("linear_regression");
    unpack(&EXAMPLE, "example", &folder)?;
    let words = UploadArguments { server: Some(format!("http://{}", running.address)), ..args::untold(folder) };
    let version = upload::upload(&words, settings, voice).await?;
    let image = version["image"].as_str().unwrap_or_default().to_owned();
    let page = format!("http://{}/models/linear_regression", running.address);
    let mut summary = version.clone();
    summary["page"] = Value::from(page.clone());
    let mut text = told(&image, &version, &page, arguments.exit);
    if arguments.run {
        let words: RunArguments = args::untold(image);
        let (answer, answered) = run::answer(&words, settings, voice).await?;
        summary["answer"] = answer;
        text.push_str(&answered);
    }
    voice.result(&summary, &text)?;
    Ok(())
}

fn told(image: &str, version: &Value, page: &str, ends: bool) -> String {
    let digest = version["digest"].as_str().unwrap_or_default();
    let last = if ends { "" } else { "\nready: the service runs until Ctrl-C" };
    format!("\nThe model is an image.\n  page    {page}\n  image   {image}\n  digest  {digest}\n  run it  hs run {image}{last}\n")
}

/// Makes the base where the data folder has none.
async fn make_base(scratch: &Path, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let store = settings.store()?;
    if store.manifest(BASE, BASE_VERSION)?.is_some() {
        return Ok(());
    }
    voice.note(&format!("making the base {BASE}:{BASE_VERSION} from Debian's packages: once, about a minute"));
    let (recipes, protos) = (scratch.join("base"), scratch.join("proto"));
    unpack(&BASES, "recipes of the bases", &recipes)?;
    unpack(&PROTOS, "recipe of the base", &protos)?;
    let program = std::env::current_exe().map_err(DemoError::Program)?;
    let mut command = Command::new("bash");
    command.arg(recipes.join("build.sh")).arg(format!("{BASE}:{BASE_VERSION}")).arg("--or-newest");
    command.arg("--data-dir").arg(&settings.data_folder);
    // What the recipe prints is progress; results are the last lines of this command.
    // Its own process group, so that all of it can be ended together.
    command.process_group(0);
    command.env("HS", program).env("PROTO_DIR", protos).stdin(Stdio::null()).stdout(io::stderr());
    let status = match command.spawn() {
        Ok(child) => Recipe(child).status().await,
        Err(error) => Err(error),
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) if status.code() == Some(UNAVAILABLE) => {
            voice.warn("the base cannot be made on this machine: the example becomes a model-only image");
            Ok(())
        }
        Ok(status) => Err(DemoError::Recipe { status: status.to_string() }.into()),
        Err(error) => {
            voice.warn(&format!("the base cannot be made on this machine (bash: {error}): the example becomes a model-only image"));
            Ok(())
        }
    }
}

/// The recipe while it runs; dropped before its end, it is told to stop, with all that it started: it unmounts and removes what it made.
struct Recipe(Child);

impl Recipe {
    async fn status(mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }
}

impl Drop for Recipe {
    fn drop(&mut self) {
        let Some(group) = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return };
        let _ = kill_process_group(group, Signal::TERM);
        // Its own clean-up takes a moment; the folder that it works in goes with us.
        for _ in 0..STOP_TENTHS {
            if !matches!(self.0.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn unpack(dir: &Dir<'_>, what: &'static str, folder: &Path) -> Result<(), DemoError> {
    write(dir, folder).map_err(|source| DemoError::Unpack { what, folder: folder.to_owned(), source })
}

fn write(dir: &Dir<'_>, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in dir.entries() {
        let name = entry.path().file_name().ok_or_else(|| io::Error::other("an embedded file without a name"))?;
        let target = folder.join(name);
        match entry {
            DirEntry::Dir(inner) => write(inner, &target)?,
            DirEntry::File(file) => {
                fs::write(&target, file.contents())?;
                // Modes are not embedded; scripts begin with `#!`.
                let mode = if file.contents().starts_with(b"#!") { 0o755 } else { 0o644 };
                fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}
