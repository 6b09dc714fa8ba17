//! What can be typed: the command line as a value.
//!
//! Only words: no file is opened and nothing is looked up here, so that `--help` and completions work anywhere. What the words mean on this machine is
//! `settings.rs`. Every option can also come from an `HS_*` variable where that makes sense for a whole machine.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::contract_args::ContractCommand;

/// Builds OCI images for machine-learning models: no Docker, no root.
#[derive(Debug, Parser)]
#[command(name = "hs", version, max_term_width = 100, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// A command whose words are known to the program.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
struct Alone<Words: Args> {
    #[command(flatten)]
    words: Words,
}

/// The words of a command of which only its folder or image was typed: all else has its default, or what its variable says.
pub fn untold<Words: Args>(what: impl Into<OsString>) -> Words {
    Alone::<Words>::parse_from(["hs".into(), "--".into(), what.into()]).words
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// How results are printed: JSON is one document on standard output.
    #[arg(long, global = true, env = "HS_OUTPUT", value_enum, default_value_t = OutputForm::Text)]
    pub output: OutputForm,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only what is asked for and what fails.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// When to use colour.
    #[arg(long, global = true, env = "HS_COLOR", value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// The config file.
    #[arg(long, global = true, env = "HS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data folder: imported bases and, for `hs serve`, everything.
    #[arg(long, global = true, env = "HS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The main job on embedded defaults: a service, its registry, an example model, its page.
    Demo(DemoArguments),
    /// Run the service: HTTP API, registry, pages.
    Serve(ServeArguments),
    /// Send a model folder to a service and wait for its image.
    Upload(UploadArguments),
    /// Build the image of a model folder here, with no service.
    // Its `--version` is the model's.
    #[command(disable_version_flag = true)]
    Build(BuildArguments),
    /// Start a model locally with podman, ask it for a prediction, show the answer.
    Run(RunArguments),
    /// Get a model's files and contract back out of an image, verified.
    Pull(PullArguments),
    /// Show what an image is: base, layers, labels, contract.
    Inspect(InspectArguments),
    /// Work with contracts by themselves.
    #[command(subcommand)]
    Contract(ContractCommand),
    /// Work with runtime bases.
    #[command(subcommand)]
    Base(BaseCommand),
    /// Ask registries what they can.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Print the completion script of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// `hs demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// End when the example is built, rather than serving until Ctrl-C.
    #[arg(long)]
    pub exit: bool,
    /// Also run the image and ask it for a prediction.
    #[arg(long)]
    pub run: bool,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080", env = "HS_LISTEN", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

/// `hs serve`.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080", env = "HS_LISTEN", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Send images to this registry, `host/prefix`, rather than keep them in the embedded one.
    #[arg(long, env = "HS_REGISTRY", value_name = "HOST/PREFIX")]
    pub registry: Option<String>,
    /// How this service is called from outside, `host[:port]`, in references to its embedded registry.
    #[arg(long, env = "HS_PUBLIC_HOST", value_name = "HOST")]
    pub public_host: Option<String>,
    /// How many builds run at once.
    #[arg(long, default_value_t = 2, env = "HS_WORKERS", value_name = "N")]
    pub workers: usize,
    /// A folder of Python wheels that models' requirements are installed from, before any index; may be given more than once.
    #[arg(long, env = "HS_WHEELS", value_name = "DIR", value_delimiter = ':')]
    pub wheels: Vec<PathBuf>,
    /// Do not compile the packages of models: nothing of a base is run here, and a container compiles what it imports at each start.
    #[arg(long, env = "HS_NO_BYTECODE", value_parser = FalseyValueParser::new())]
    pub no_bytecode: bool,
}

/// What can be said about a model beside its folder.
#[derive(Clone, Debug, Default, Args)]
pub struct ModelArguments {
    /// The model's name; wins over serving.yaml.
    #[arg(long)]
    pub name: Option<String>,
    /// The model's type, as in `python:3.11`; wins over serving.yaml.
    #[arg(long, alias = "model_type", value_name = "KIND:VERSION")]
    pub model_type: Option<String>,
    /// The base: a known runtime, a reference, a layout `oci:DIR:TAG`, or `scratch`.
    #[arg(long, value_name = "REF")]
    pub runtime: Option<String>,
    /// The contract file; wins over serving.yaml.
    #[arg(long, value_name = "FILE")]
    pub contract: Option<PathBuf>,
    /// A description for people.
    #[arg(long)]
    pub description: Option<String>,
    /// Build without a contract where none is found.
    #[arg(long)]
    pub no_contract: bool,
    /// Which meta graph of a SavedModel the contract is read from: one with all of these tags.
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Let links leave the model folder.
    #[arg(long)]
    pub follow_links: bool,
}

/// What is done with findings of a model's fit.
#[derive(Clone, Debug, Default, Args)]
pub struct FitArguments {
    /// Refuse a model with any finding: what its runtime lacks, suspicious pickles, secrets in the payload.
    #[arg(long)]
    pub strict: bool,
    /// Accept findings of this check, in all files or in one; may be given more than once.
    #[arg(long, value_name = "CHECK[:FILE]")]
    pub allow: Vec<String>,
}

/// `hs upload`.
#[derive(Debug, Args)]
pub struct UploadArguments {
    /// The model folder.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// The service's host; `HS_HOST`, else localhost.
    #[arg(long)]
    pub host: Option<String>,
    /// The service's port; `HS_PORT`, else 8080.
    #[arg(long)]
    pub port: Option<u16>,
    /// The service's URL, in the place of host and port; `HS_SERVER`.
    #[arg(long, value_name = "URL", conflicts_with_all = ["host", "port"])]
    pub server: Option<String>,
    /// Return when the service has the model, without waiting for the image.
    #[arg(long = "async")]
    pub no_wait: bool,
    /// Refuse a model whose contract, against the last finished version's, has changes at least this bad.
    #[arg(long, env = "HS_GATE", value_name = "breaking|any")]
    pub gate: Option<String>,
    /// What is done with findings.
    #[command(flatten)]
    pub fit: FitArguments,
    /// What is said about the model.
    #[command(flatten)]
    pub model: ModelArguments,
}

/// `hs build`.
#[derive(Debug, Args)]
pub struct BuildArguments {
    /// The model folder.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// The version, as it stands in the image's label.
    #[arg(long)]
    pub version: Option<String>,
    /// Build for this platform only; may be given more than once.
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Vec<String>,
    /// Where the image goes: `host/repository:tag`, `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:REF`; may be given more than once.
    #[arg(long, value_name = "DEST")]
    pub to: Vec<String>,
    /// Where the payload goes in the image.
    #[arg(long, default_value = "hydro", value_parser = ["hydro", "modelcar"])]
    pub layout: String,
    /// The contract's dialect; the runtime's by default.
    #[arg(long, value_name = "v1|v2|v3")]
    pub dialect: Option<String>,
    /// Compare the contract with that of this image, folder or file, and build nothing where a change is too bad.
    #[arg(long, value_name = "REF")]
    pub against: Option<String>,
    /// What is too bad.
    #[arg(long, value_name = "breaking|any", default_value = "breaking", requires = "against")]
    pub gate: String,
    /// How layers are compressed: `auto` and `gzip` pack small files, and large ones where a sample says that they shrink; `zstd` does so with zstd.
    #[arg(long, value_name = "auto|none|gzip|zstd")]
    pub compression: Option<String>,
    /// Read every file, also those that have not changed since the last build.
    #[arg(long)]
    pub no_cache: bool,
    /// A folder of Python wheels that the requirements are installed from, before any index; may be given more than once.
    #[arg(long, env = "HS_WHEELS", value_name = "DIR", value_delimiter = ':')]
    pub wheels: Vec<PathBuf>,
    /// Do not install the packages of requirements.txt.
    #[arg(long)]
    pub no_requirements: bool,
    /// Do not compile the packages: nothing of the base is run here, and a container compiles what it imports at each start.
    #[arg(long, env = "HS_NO_BYTECODE", value_parser = FalseyValueParser::new())]
    pub no_bytecode: bool,
    /// Say what would be built and sent, and send nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Show which file goes in which layer, and why.
    #[arg(long)]
    pub explain: bool,
    /// What is done with findings.
    #[command(flatten)]
    pub fit: FitArguments,
    /// What is said about the model.
    #[command(flatten)]
    pub model: ModelArguments,
}

/// `hs run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// A model folder or an image.
    #[arg(default_value = ".")]
    pub what: String,
    /// The signature to ask; the first one by default.
    #[arg(long)]
    pub signature: Option<String>,
    /// A folder of Python wheels that a folder's requirements are installed from, before any index; may be given more than once.
    #[arg(long, env = "HS_WHEELS", value_name = "DIR", value_delimiter = ':')]
    pub wheels: Vec<PathBuf>,
    /// Only print the command that starts it.
    #[arg(long)]
    pub print: bool,
    /// Leave it running until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// The podman to call, with its own options.
    #[arg(long, env = "HS_PODMAN", default_value = "podman", value_name = "COMMAND")]
    pub podman: String,
    /// More options for `podman run`; with `--network=host` the model listens on the host itself.
    #[arg(long, env = "HS_PODMAN_RUN", default_value = "", value_name = "OPTIONS", allow_hyphen_values = true)]
    pub podman_run: String,
    /// What is said about the model, where it is a folder.
    #[command(flatten)]
    pub model: ModelArguments,
}

/// `hs pull`.
#[derive(Debug, Args)]
pub struct PullArguments {
    /// The image.
    pub image: String,
    /// The folder to make.
    pub folder: PathBuf,
    /// Which image of an index.
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
}

/// `hs inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The image.
    pub image: String,
    /// Which image of an index.
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
}

/// `hs base …`.
#[derive(Debug, Subcommand)]
pub enum BaseCommand {
    /// Import a runtime base from root file system tars, a layout, an archive or a registry.
    Import(BaseImportArguments),
    /// Hold builds to the digests that these runtimes have now, imported here or in their registries.
    Lock(BaseLockArguments),
    /// The runtimes that are known, which of them are here, and whether their registries have others by now.
    List,
}

/// `hs base lock`.
#[derive(Debug, Args)]
pub struct BaseLockArguments {
    /// Take the locks away.
    #[arg(long)]
    pub remove: bool,
    /// `name:version`, or the name alone for its first version in the list.
    #[arg(required = true, value_name = "RUNTIME")]
    pub runtimes: Vec<String>,
}

/// `hs base import`.
#[derive(Debug, Args)]
pub struct BaseImportArguments {
    /// `name:version`, as in the runtime list.
    #[arg(long)]
    pub name: String,
    /// The image config to start from (JSON: `architecture`, `os`, `config`); for tars.
    #[arg(long, value_name = "FILE")]
    pub image_config: Option<PathBuf>,
    /// Where it goes, in the place of the data folder's store.
    #[arg(long, value_name = "DEST")]
    pub to: Vec<String>,
    /// Root file system tars, each a layer, in order; or one image (`oci:…`, `oci-archive:…`, `docker-archive:…`, a reference).
    #[arg(required = true)]
    pub sources: Vec<String>,
}

/// `hs registry …`.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Find out what it will be like to push models to a registry, before it hurts.
    Doctor(DoctorArguments),
}

/// `hs registry doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The repository that models will be pushed to, `host[:port]/repository`; a host alone: what can be told without one.
    #[arg(value_name = "HOST[/REPO]")]
    pub place: String,
    /// Write nothing: only what can be read is found out.
    #[arg(long)]
    pub read_only: bool,
    /// The largest request body that is tried, in MiB; nothing is kept of it.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=65_536), conflicts_with = "read_only")]
    pub body_mib: u64,
    /// A repository of the same registry with images in it, to mount a layer from.
    #[arg(long, value_name = "REPO", conflicts_with = "read_only")]
    pub mount_from: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_words_of_the_commands_do_not_collide() {
        Arguments::command().debug_assert();
        let Command::Build(words) = Arguments::parse_from(["hs", "build", "--version", "3", "m"]).command else {
            panic!("another command")
        };
        assert_eq!((words.version.as_deref(), words.folder.to_str()), (Some("3"), Some("m")));
        let words: BuildArguments = untold("--odd");
        assert_eq!((words.folder.to_str(), words.layout.as_str(), words.gate.as_str()), (Some("--odd"), "hydro", "breaking"));
    }
}
