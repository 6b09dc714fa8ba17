//! `hs serve`: the service, its registry and its workers in one process, on one data folder.
//!
//! Here they are put together; what each does is its own floor's. Also used by `hs demo`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use lamina::build::collect;
use lamina::build::job::{Shelf, Workshop};
use lamina::build::request::BuildSettings;
use lamina::build::worker::{self, WorkerSettings};
use lamina::catalog::catalog::{Catalog, CatalogError};
use lamina::cli::args::ServeArguments;
use lamina::cli::say::Voice;
use lamina::cli::settings::Settings;
use lamina::fault::{Failure, Fault};
use lamina::registry::settings::RegistrySettings;
use lamina::server::app::{self, Service};
use lamina::server::registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The catalog's file in the data folder.
const CATALOG: &str = "catalog.sqlite";

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not ours.
    #[error("listening on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The catalog cannot be opened.
    #[error("opening the catalog `{}`", .path.display())]
    Catalog {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CatalogError,
    },
    /// `--registry` is no place.
    #[error("`{0}` is not a registry: expected `host[:port]` or `host[:port]/prefix`")]
    Registry(String),
    /// Answering stopped.
    #[error("answering requests on {address}")]
    Answer {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Signals cannot be heard.
    #[error("waiting for signals")]
    Signal(#[source] io::Error),
}

impl Failure for ServeError {
    fn fault(&self) -> Fault {
        match self {
            ServeError::Listen { .. } | ServeError::Registry(_) => Fault::Usage,
            ServeError::Catalog { source, .. } => source.fault(),
            ServeError::Answer { .. } | ServeError::Signal(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            ServeError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another program listens there: choose another address with `--listen`".to_owned())
            }
            _ => None,
        }
    }
}

/// A service that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    answering: JoinHandle<io::Result<()>>,
}

/// Runs `hs serve` until Ctrl-C or SIGTERM.
pub async fn run(arguments: &ServeArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let running = start(arguments, settings).await?;
    voice.note(&format!("serving on http://{}, data in {}", running.address, settings.data_folder.display()));
    wait_for_signal().await?;
    voice.note("stopping");
    running.stop().await
}

/// Starts the service.
pub async fn start(arguments: &ServeArguments, settings: &Settings) -> Result<Running, Box<dyn Failure>> {
    settings.packages.check_wheels(&arguments.wheels)?;
    let store = settings.store()?;
    let path = settings.data_folder.join(CATALOG);
    let catalog = Catalog::open(&path).await.map_err(|source| ServeError::Catalog { path, source })?;
    let stop = CancellationToken::new();
    let of_service =
        app::Settings { fit: settings.fit.clone(), runtimes: settings.runtimes.clone(), ..app::Settings::new(settings.limits) };
    let service = Service::start(catalog.clone(), store.clone(), of_service, stop.clone()).await?;
    let listener = listen(arguments.listen).await?;
    let address = listener.local_addr().map_err(|source| ServeError::Listen { address: arguments.listen, source })?;
    // A service has no home of its own: what it learns of registries is kept beside what it remembers of layers.
    let memory_folder = Some(settings.data_folder.join("registries"));
    let registries = RegistrySettings { memory_folder, ..settings.registries.clone() };
    let workshop = Workshop {
        store: store.clone(),
        places: Settings { registries, ..settings.clone() }.places()?,
        settings: BuildSettings {
            installer: Some(settings.packages.clone().with_caches(&settings.data_folder).installer(
                &arguments.wheels,
                &settings.registries,
                false,
                !arguments.no_bytecode,
            )?),
            ..settings.of_builds()
        },
        shelf: shelf(arguments, address)?,
        catalog: catalog.clone(),
    };
    let mut tasks = Vec::new();
    for _ in 0..arguments.workers.max(1) {
        let (catalog, stop, workshop) = (catalog.clone(), stop.clone(), workshop.clone());
        tasks.push(tokio::spawn(async move {
            let run = move |claim, log| {
                let workshop = workshop.clone();
                async move { workshop.run(claim, log).await }
            };
            worker::work(catalog, WorkerSettings::default(), stop, run).await;
        }));
    }
    tasks.push(tokio::spawn(collect::run(catalog, store.clone(), settings.collect, stop.clone())));
    let answering = tokio::spawn(app::serve(listener, service, registry::router(store)));
    Ok(Running { address, stop, tasks, answering })
}

/// Takes an address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

fn shelf(arguments: &ServeArguments, address: SocketAddr) -> Result<Shelf, ServeError> {
    match &arguments.registry {
        None => Ok(Shelf::Embedded { host: arguments.public_host.clone().unwrap_or_else(|| address.to_string()) }),
        Some(text) => {
            let place = text.trim_end_matches('/');
            let (registry, prefix) = place.split_once('/').unwrap_or((place, ""));
            // The grammar of references decides, with a repository in the place of the model's.
            let whole = if prefix.is_empty() { format!("{registry}/model") } else { format!("{registry}/{prefix}/model") };
            let parsed: lamina::oci::reference::Reference = whole.parse().map_err(|_| ServeError::Registry(text.clone()))?;
            if parsed.registry != registry {
                return Err(ServeError::Registry(text.clone()));
            }
            Ok(Shelf::Registry { registry: registry.to_owned(), prefix: prefix.to_owned() })
        }
    }
}

impl Running {
    /// Stops: no new work, running builds back into the queue, open requests ended.
    pub async fn stop(self) -> Result<(), Box<dyn Failure>> {
        self.stop.cancel();
        for task in self.tasks {
            let _ = task.await;
        }
        let answered = self.answering.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        answered.map_err(|source| ServeError::Answer { address: self.address, source })?;
        Ok(())
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn wait_for_signal() -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signal)?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.map_err(ServeError::Signal),
        _ = terminate.recv() => Ok(()),
    }
}
