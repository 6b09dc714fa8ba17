//! `hs run [DIR|REF]`: start a model locally, ask it something, show the answer.
//!
//! A folder is built into a layout first; then podman runs the image, a sample made from the contract is sent over gRPC, the answer is printed and the
//! container is stopped. Without podman, the command that would start it is printed. Nothing stays: the container is removed, the layout too.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::args::{self, BuildArguments, RunArguments};
use super::build;
use super::container::{self, Container};
use super::destinations::Destinations;
use super::inspect;
use super::open;
use super::predict::{self, PredictError};
use super::say::Voice;
use super::settings::Settings;
use crate::contract::contract::Contract;
use crate::contract::sample;
use crate::contract::tensor;
use crate::fault::{Failure, Fault};
use crate::model::packing::Choice;
use crate::oci::location::Location;
use crate::proto::hydrosphere::tensorflow::serving::{PredictRequest, PredictResponse};
use crate::registry::copy::{self, Target};

/// How long a model may take until it listens: frameworks take their time to load.
const START_S: u64 = 120;

/// The layout of a folder's image, in the temporary folder in which podman is started.
const LAYOUT: &str = "model";

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// podman cannot be started.
    #[error("starting `{program}`")]
    Podman {
        /// What was called.
        program: String,
        /// Why it does not start.
        #[source]
        source: std::io::Error,
    },
    /// The container ended by itself.
    #[error("the container ended before the model answered ({status}); it said: {output}")]
    Ended {
        /// Its exit status.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// It never listened.
    #[error("the model did not listen on port {port} within {START_S} s")]
    Silent {
        /// The port.
        port: u16,
    },
    /// It does not answer, or it refuses.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// There is no contract to make a sample of.
    #[error("`{0}` has no contract, so there is nothing to ask")]
    NoContract(String),
    /// No port is free.
    #[error("finding a free port")]
    Port(#[source] std::io::Error),
}

impl Failure for RunError {
    fn fault(&self) -> Fault {
        match self {
            RunError::NoContract(_) => Fault::Invalid,
            RunError::Ended { .. } | RunError::Silent { .. } => Fault::Remote,
            RunError::Predict(error) => error.fault(),
            RunError::Podman { .. } | RunError::Port(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            RunError::Ended { output, .. } if output.contains("setting rlimit") => {
                Some("pass limits that this host allows: `HS_PODMAN_RUN=\"--ulimit nofile=1024:1024 --ulimit nproc=1024:1024\"`".to_owned())
            }
            _ => None,
        }
    }
}

/// Runs `hs run`.
pub async fn run(arguments: &RunArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let (document, text) = answer(arguments, settings, voice).await?;
    voice.result(&document, &text)?;
    Ok(())
}

/// Starts the model, asks it and stops it; the result as JSON and as text.
pub async fn answer(arguments: &RunArguments, settings: &Settings, voice: &Voice) -> Result<(Value, String), Box<dyn Failure>> {
    let is_folder = Path::new(&arguments.what).is_dir();
    let layout = tempfile::Builder::new().prefix("hs-run-").tempdir().map_err(RunError::Port)?;
    let (image, contract) =
        if is_folder { of_folder(arguments, layout.path(), settings, voice).await? } else { of_image(arguments, settings).await? };
    let port = container::free_port().map_err(RunError::Port)?;
    let command = container::Command::new(&arguments.podman, &arguments.podman_run, &image, port);
    let command = if is_folder { command.in_folder(layout.path()) } else { command };
    if arguments.print || !command.is_possible().await {
        if !arguments.print {
            voice.warn(&format!("`{}` is not to be had here; this is the command that starts the model", arguments.podman));
        }
        // The layout of a folder goes with this process; the command must name something that stays.
        let shown = if is_folder { command.of("IMAGE") } else { command.text() };
        return Ok((json!({"command": shown}), shown));
    }
    let contract = contract.ok_or_else(|| RunError::NoContract(arguments.what.clone()))?;
    let signature = sample::signature(&contract, arguments.signature.as_deref())?;
    let request = sample::request(&contract.model_name, signature)?;
    let inputs = sample::json(signature)?;

    voice.note(&format!("starting: {}", command.text()));
    let mut running = command.start().map_err(|source| RunError::Podman { program: arguments.podman.clone(), source })?;
    let mut answer = ask(&mut running, port, request).await;
    if answer.is_ok() && arguments.keep {
        voice.note(&format!("the model listens on 127.0.0.1:{port}; Ctrl-C ends it"));
        let _ = tokio::signal::ctrl_c().await;
    }
    let said = running.stop().await;
    if let Err(RunError::Ended { output, .. }) = &mut answer {
        *output = said;
    }
    let answer = answer?;
    let outputs: Map<String, Value> = answer
        .outputs
        .iter()
        .map(|(name, value)| Ok((name.clone(), tensor::to_json(value)?)))
        .collect::<Result<_, tensor::TensorError>>()?;
    let document = json!({"image": image, "signature": signature.name, "inputs": inputs, "outputs": outputs});
    let text = format!("{} {}\n{}", signature.name, inputs, serde_json::to_string_pretty(&outputs).unwrap_or_default());
    Ok((document, text))
}

async fn of_folder(
    arguments: &RunArguments,
    layout: &Path,
    settings: &Settings,
    voice: &Voice,
) -> Result<(String, Option<Contract>), Box<dyn Failure>> {
    settings.packages.check_wheels(&arguments.wheels)?;
    let words = BuildArguments {
        wheels: arguments.wheels.clone(),
        // podman unpacks it at once.
        compression: Some(Choice::None.word().to_owned()),
        model: arguments.model.clone(),
        ..args::untold(&arguments.what)
    };
    let places = settings.places()?;
    let outcome = build::build(&words, settings, &places, &mut Destinations::default(), voice).await?;
    let location = Location::Layout { folder: layout.join(LAYOUT), tag: Some("run".to_owned()) };
    let target = Target::open(&location, &places.registries)?;
    copy::copy(&outcome.built.image.images, &outcome.built.image.source, target, &voice.listener()).await?;
    Ok((format!("oci:{LAYOUT}:run"), outcome.model.contract.map(|found| found.contract)))
}

async fn of_image(arguments: &RunArguments, settings: &Settings) -> Result<(String, Option<Contract>), Box<dyn Failure>> {
    let opened = open::image(&arguments.what, None, settings).await?;
    Ok((arguments.what.clone(), inspect::contract_of(&opened).await?))
}

async fn ask(running: &mut Container, port: u16, request: PredictRequest) -> Result<PredictResponse, RunError> {
    wait_until_it_listens(running, port).await?;
    let channel = predict::connect(port).await?;
    Ok(predict::predict(channel, port, request).await?)
}

/// A runtime opens its port when the model is loaded, so an answer there means that it is ready.
async fn wait_until_it_listens(running: &mut Container, port: u16) -> Result<(), RunError> {
    let listens = async {
        // podman's helper accepts on a published port before the model does; that gRPC is spoken tells them apart.
        while !predict::is_ready(port).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = listens => Ok(()),
        status = running.ended() => Err(RunError::Ended { status, output: String::new() }),
        () = tokio::time::sleep(Duration::from_secs(START_S)) => Err(RunError::Silent { port }),
    }
}
