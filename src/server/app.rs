//! The service: what its handlers share, its routes, its start and its end.
//!
//! The registry endpoint (`/v2/`) is a router of its own, made beside this one and merged into it. Who works on the builds is
//! not known here: a worker runs beside the server, on the same catalog and the same stop.
//!
//! What must stay true: one service at a time on a data folder (a lock holds it), since what is found running at the start is taken
//! to be left over; and a stop ends within [`GRACE_S`], whoever is still listening to a live page.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::refusal::{RefusalV2, RequestError};
use super::{api_v1, api_v2, health, pages};
use crate::catalog::catalog::{Catalog, CatalogError};
use crate::disk::store::{Store, StoreError};
use crate::fault::{Failure, Fault};
use crate::model::fit::Policy;
use crate::model::runtime::RuntimeList;
use crate::model::tree::Limits;

/// How long a stop waits for requests that are under way.
pub const GRACE_S: u64 = 10;

/// What the operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a model may measure.
    pub limits: Limits,
    /// The most bytes of one upload request, all of its parts together.
    pub upload_bytes_max: u64,
    /// For how long an upload may stand still.
    pub upload_idle_s: u64,
    /// How many uploads are read at once; others wait.
    pub uploads_max: usize,
    /// Which findings of a model's fit are let through.
    pub fit: Policy,
    /// The runtimes that are known.
    pub runtimes: RuntimeList,
}

impl Settings {
    /// The settings that go with these limits.
    pub fn new(limits: Limits) -> Settings {
        // Weights do not shrink, so a packed model is about as large as its files; the form around it is small.
        let upload_bytes_max = limits.unpacked_bytes_max.saturating_add(64 << 20);
        Settings {
            limits,
            upload_bytes_max,
            upload_idle_s: 120,
            uploads_max: 32,
            fit: Policy::default(),
            runtimes: RuntimeList::compiled_in(),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::new(Limits::default())
    }
}

/// What the handlers share. A clone is another handle.
#[derive(Clone)]
pub struct Service {
    /// Models, versions, builds.
    pub catalog: Catalog,
    /// The bytes.
    pub store: Arc<Store>,
    /// The operator's settings.
    pub settings: Settings,
    /// Ends live answers, and the service.
    pub stop: CancellationToken,
    /// Permits to read an upload.
    pub(super) uploads: Arc<Semaphore>,
    _lock: Arc<File>,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one works in the folder.
    #[error("another service uses the data folder {0}")]
    InUse(PathBuf),
    /// The folder cannot be locked.
    #[error("cannot lock the data folder {path}")]
    Lock {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog does not answer.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Failure for StartError {
    fn fault(&self) -> Fault {
        match self {
            StartError::InUse(_) => Fault::Usage,
            StartError::Lock { .. } => Fault::Ours,
            StartError::Store(error) => error.fault(),
            StartError::Catalog(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            StartError::InUse(_) => Some("stop it, or start this one with another `--data-dir`".to_owned()),
            StartError::Store(error) => error.remedy(),
            StartError::Catalog(error) => error.remedy(),
            StartError::Lock { .. } => None,
        }
    }
}

impl Service {
    /// Takes the data folder of `store` for itself, removes what an earlier service left in it unfinished, and puts the builds that
    /// it was working on back into the queue.
    pub async fn start(catalog: Catalog, store: Arc<Store>, settings: Settings, stop: CancellationToken) -> Result<Service, StartError> {
        let root = store.root().to_owned();
        let lock = File::open(&root).map_err(|source| StartError::Lock { path: root.clone(), source })?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StartError::InUse(root)),
            Err(error) => return Err(StartError::Lock { path: root, source: error.into() }),
        }
        let swept = store.sweep()?;
        let lapsed = catalog.lapse_leases().await?;
        if swept > 0 || lapsed > 0 {
            tracing::info!(
                uploads = swept,
                builds = lapsed,
                "an earlier service did not end well: its uploads are removed, its builds begin again"
            );
        }
        let uploads = Arc::new(Semaphore::new(settings.uploads_max.max(1)));
        Ok(Service { catalog, store, settings, stop, uploads, _lock: Arc::new(lock) })
    }
}

/// Every path that the service answers. `registry` is the router of `/v2/`.
pub fn router(service: Service, registry: Router) -> Router {
    let ours = Router::new()
        .merge(pages::router())
        .merge(health::router())
        .nest("/api/v1", api_v1::router(&service.settings))
        .nest("/api/v2", api_v2::router(&service.settings))
        .route("/api/buildinfo", axum::routing::get(api_v2::build_info))
        .fallback(pages::not_found)
        .layer(middleware::from_fn(refuse_other_sites))
        .with_state(service);
    ours.merge(registry).layer(middleware::from_fn(trace))
}

/// Answers on `listener` until the service's stop, and then for at most [`GRACE_S`].
pub async fn serve(listener: TcpListener, service: Service, registry: Router) -> io::Result<()> {
    let stop = service.stop.clone();
    let answering = axum::serve(listener, router(service, registry)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let out_of_time = async {
        stop.cancelled().await;
        tokio::time::sleep(Duration::from_secs(GRACE_S)).await;
    };
    tokio::select! {
        result = answering => result,
        () = out_of_time => {
            tracing::warn!("requests were still under way; they are cut off");
            Ok(())
        }
    }
}

/// A browser sends forms for any page, to any address: a page of another site could upload here in the user's name. Browsers say
/// so themselves (Fetch Metadata); other clients do not send the header.
async fn refuse_other_sites(request: Request, next: Next) -> Response {
    let from_other_site = request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    if from_other_site && !request.method().is_safe() {
        return RefusalV2::from(RequestError::CrossSite).into_response();
    }
    next.run(request).await
}

async fn trace(request: Request, next: Next) -> Response {
    let (method, path, began) = (request.method().clone(), request.uri().path().to_owned(), Instant::now());
    let response = next.run(request).await;
    let (status, duration_ms) = (response.status().as_u16(), u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    if status >= 500 {
        tracing::warn!(%method, path, status, duration_ms, "answered");
    } else {
        tracing::info!(%method, path, status, duration_ms, "answered");
    }
    response
}
