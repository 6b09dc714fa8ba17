//! `hs`: parse, run the command, print a failure with its causes and remedy, set the exit code.
//!
//! No command's logic is here. The two commands that start the service are beside this file (`serve.rs`, `demo.rs`), since the command line's floor does not know
//! the server's.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use lamina::cli::args::{Arguments, Command};
use lamina::cli::say::Voice;
use lamina::cli::settings::{self, Settings};
use lamina::cli::{base, build, contract, inspect, pull, registry, run, stop, upload};
use lamina::fault::{Failure, Fault};
use tracing_subscriber::EnvFilter;

mod demo;
mod serve;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let voice = Voice::new(&arguments.global, settings::no_color());
    start_log(&arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting the asynchronous runtime: {error}");
            return ExitCode::from(Fault::Ours.exit_code());
        }
    };
    let result = runtime.block_on(until_a_signal(&arguments, &voice));
    // A blocking read that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            voice.failure(&*failure);
            ExitCode::from(failure.fault().exit_code())
        }
    }
}

/// Runs the command. A signal drops it where it stands, so that what it made on the way (temporary folders, a container) is removed; the service and the
/// demonstration hear signals themselves, and so does the doctor, who has to ask a registry to delete what it wrote.
async fn until_a_signal(arguments: &Arguments, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    if matches!(arguments.command, Command::Serve(_) | Command::Demo(_) | Command::Registry(_)) {
        return dispatch(arguments, voice).await;
    }
    tokio::select! {
        result = dispatch(arguments, voice) => result,
        stopped = stop::told_to_stop() => Err(stopped),
    }
}

async fn dispatch(arguments: &Arguments, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    if let Command::Completions { shell } = &arguments.command {
        clap_complete::generate(*shell, &mut Arguments::command(), "hs", &mut io::stdout());
        return Ok(());
    }
    let settings = Settings::resolve(&arguments.global)?;
    // The service's users read its log, not its standard error.
    if !matches!(arguments.command, Command::Serve(_)) {
        let voice = voice.clone();
        settings.registries.teller.listen(move |text| voice.note(text));
    }
    let result = run_command(arguments, &settings, voice).await;
    // What a copy has not told already: of registries that were only read.
    for text in settings.registries.warnings.take() {
        voice.warn(&text);
    }
    result
}

async fn run_command(arguments: &Arguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    match &arguments.command {
        Command::Demo(words) => demo::run(words, settings, voice).await,
        Command::Serve(words) => serve::run(words, settings, voice).await,
        Command::Upload(words) => upload::run(words, settings, voice).await,
        Command::Build(words) => build::run(words, settings, voice).await,
        Command::Run(words) => run::run(words, settings, voice).await,
        Command::Pull(words) => pull::run(words, settings, voice).await,
        Command::Inspect(words) => inspect::run(words, settings, voice).await,
        Command::Contract(command) => contract::run(command, settings, voice).await,
        Command::Base(command) => base::run(command, settings, voice).await,
        Command::Registry(command) => registry::run(command, settings, voice).await,
        Command::Completions { .. } => Ok(()),
    }
}

/// The log is for operators: requests and background work of the service. Commands speak through their voice.
fn start_log(arguments: &Arguments) {
    let default = match (&arguments.command, arguments.global.quiet, arguments.global.verbose) {
        (_, true, _) => "error",
        (Command::Serve(_), _, 0) => "info",
        (_, _, 0) => "warn",
        (_, _, 1) => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("HS_LOG").unwrap_or_else(|_| EnvFilter::new(format!("{default},sqlx=warn,hyper=warn,h2=warn")));
    let ansi = io::stderr().is_terminal() && !settings::no_color();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).with_target(false).init();
}
