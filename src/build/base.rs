//! Finding the base: from a choice of the runtime list to a manifest and a config for each platform.
//!
//! A listed runtime is looked for in this order (interface, "Runtimes"): imported into the data folder, in the configured mirrors, at its own
//! reference where that names a registry. Only manifests and configs are read here; the bytes of the base's layers are fetched by the copy, and only
//! where the destination lacks them.
//!
//! What must stay true: a runtime that was asked for and cannot be had is an error; one that was only the default leaves the model alone on `scratch`,
//! and that is said.

use std::sync::Arc;

use crate::disk::base_list::{self, BaseListError};
use crate::disk::store::Store;
use crate::fault::{self, Failure, Fault};
use crate::model::runtime::{Choice, Runtime};
use crate::oci::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig};
use crate::oci::digest::Digest;
use crate::oci::image::Base;
use crate::oci::location::Location;
use crate::oci::manifest::{Index, Manifest, ManifestError, Pulled};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::progress::{Event, Listener};
use crate::registry::client::Registries;
use crate::registry::source::{Source, SourceError};

/// Where bases are looked for.
#[derive(Clone)]
pub struct Places {
    /// The registries.
    pub registries: Registries,
    /// The data folder's store, where there is one.
    pub store: Option<Arc<Store>>,
    /// `host/prefix` of mirrors that hold the listed runtimes, in order.
    pub mirrors: Vec<String>,
}

/// The base on every platform, and where its layers are.
#[derive(Clone, Debug)]
pub struct Bases {
    /// One for each platform; none: the image has no base.
    pub bases: Vec<Base>,
    /// The platforms of an image without a base.
    pub scratch_platforms: Vec<Platform>,
    /// Whether the result is an index.
    pub is_index: bool,
    /// Where the base's layers are read from.
    pub source: Source,
    /// The runtime of the list, where it is one.
    pub runtime: Option<Runtime>,
    /// Whether the owner of this machine vouches for it: it was imported here, or it is locked, or it was found where the settings say. A base that lies where
    /// somebody named a place is none of these, whatever it is called.
    pub is_vouched_for: bool,
    /// What has to be said about the choice.
    pub notice: Option<String>,
}

impl Bases {
    /// The most layers that the base has on any platform.
    pub fn layers_max(&self) -> usize {
        self.bases.iter().map(|base| base.manifest.layers.len()).max().unwrap_or(0)
    }

    fn scratch(platforms: &[Platform], notice: String) -> Bases {
        let platforms = if platforms.is_empty() { vec![Platform::linux_amd64()] } else { platforms.to_vec() };
        Bases {
            bases: Vec::new(),
            is_index: platforms.len() > 1,
            scratch_platforms: platforms,
            source: Source::Nowhere,
            runtime: None,
            is_vouched_for: false,
            notice: Some(notice),
        }
    }
}

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// It cannot be read.
    #[error("reading the base `{base}`")]
    Read {
        /// What it is called.
        base: String,
        /// Why not.
        #[source]
        source: SourceError,
    },
    /// Its manifest does not serve.
    #[error("reading the base `{base}`")]
    Manifest {
        /// What it is called.
        base: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// Its config does not serve.
    #[error("reading the base `{base}`")]
    Config {
        /// What it is called.
        base: String,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// It is for another platform.
    #[error("the base `{base}` is for {has}, not for {wanted}")]
    Platform {
        /// What it is called.
        base: String,
        /// What it is for.
        has: Platform,
        /// What was asked for.
        wanted: String,
    },
    /// It is not the one that the list names.
    #[error("the base `{base}` has digest {found}; the runtime list locks it to {locked}")]
    Locked {
        /// What it is called.
        base: String,
        /// What was found.
        found: Digest,
        /// What the list says.
        locked: Digest,
    },
    /// What was imported cannot be said.
    #[error(transparent)]
    Imported(BaseListError),
    /// It was asked for and is nowhere.
    #[error("runtime `{runtime}` is neither imported here nor in a mirror nor at a registry{tried}")]
    Nowhere {
        /// Its name.
        runtime: String,
        /// What was tried, with the reason.
        tried: String,
    },
}

impl Failure for BaseError {
    fn fault(&self) -> Fault {
        match self {
            BaseError::Read { source, .. } => match source.fault() {
                // A base that is not there is the registry's matter to the user, whatever the wire called it.
                Fault::Missing => Fault::Remote,
                other => other,
            },
            BaseError::Manifest { source, .. } => source.fault(),
            BaseError::Config { source, .. } => source.fault(),
            BaseError::Platform { .. } => Fault::Usage,
            BaseError::Locked { .. } => Fault::Policy,
            BaseError::Nowhere { .. } => Fault::Remote,
            BaseError::Imported(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            BaseError::Read { source, .. } => source.remedy(),
            BaseError::Manifest { source, .. } => source.remedy(),
            BaseError::Nowhere { runtime, .. } => {
                Some(format!("make it with `base-images/build.sh {runtime}`, or import it with `hs base import`"))
            }
            BaseError::Locked { .. } => Some("import the base that it is locked to, or lock it anew with `hs base lock`".to_owned()),
            BaseError::Platform { .. } => {
                Some("choose another base, or import this one for that platform too, with `hs base import --add-platform`".to_owned())
            }
            BaseError::Imported(error) => error.remedy(),
            BaseError::Config { .. } => None,
        }
    }
}

/// Finds the base of a choice on the platforms that were asked for (empty: all that it has).
pub async fn find(choice: Choice, platforms: &[Platform], places: &Places, listener: &Listener) -> Result<Bases, BaseError> {
    match choice {
        Choice::Scratch(why) => Ok(Bases::scratch(platforms, format!("{why}: the image holds the model alone"))),
        Choice::Other(location) => {
            let name = location.to_string();
            let (source, pulled) = read(&location, places).await.map_err(|source| BaseError::Read { base: name.clone(), source })?;
            assemble(&name, None, source, pulled, platforms, listener).await
        }
        Choice::Listed { runtime, location: Some(location), .. } => {
            let base = location.to_string();
            let (source, pulled) = read(&location, places).await.map_err(|source| BaseError::Read { base: base.clone(), source })?;
            let known = runtime.digest.or(imported_digest(&runtime, places)?);
            let bases = assemble(&base, Some(runtime), source, pulled, platforms, listener).await?;
            let is_vouched_for = known.is_some() && bases.bases.first().map(|base| base.digest) == known;
            Ok(Bases { is_vouched_for, ..bases })
        }
        Choice::Listed { runtime, location: None, asked } => match look_for(&runtime, places).await? {
            Ok((name, source, pulled)) => {
                let bases = assemble(&name, Some(runtime), source, pulled, platforms, listener).await?;
                Ok(Bases { is_vouched_for: true, ..bases })
            }
            Err(tried) if asked => Err(BaseError::Nowhere { runtime: runtime.full_name(), tried }),
            Err(tried) => {
                let name = runtime.full_name();
                Ok(Bases::scratch(platforms, format!("runtime `{name}` is not to be had here{tried}: the image holds the model alone")))
            }
        },
    }
}

/// Whether a listed runtime was imported into a store: then nothing else is looked at.
pub fn is_imported(runtime: &Runtime, store: &Arc<Store>) -> bool {
    base_list::digest_of(store.root(), &runtime.full_name())
        .is_ok_and(|digest| digest.is_some_and(|digest| matches!(store.manifest(&runtime.name, &digest.to_string()), Ok(Some(_)))))
}

/// Looks for a listed runtime; the inner error is what was tried, for the end of a sentence.
async fn look_for(runtime: &Runtime, places: &Places) -> Result<Result<(String, Source, Pulled), String>, BaseError> {
    let imported = imported(runtime, places).await?;
    match imported {
        Some((_, _, ref pulled)) if runtime.digest.is_some_and(|locked| locked != pulled.document().digest) => {}
        Some(found) => return Ok(Ok(found)),
        None => {}
    }
    match in_registries(runtime, runtime.digest, places).await {
        Ok(found) => Ok(Ok(found)),
        // The one that is not what the list locks is refused by its own name.
        Err(tried) => Ok(imported.ok_or(tried)),
    }
}

/// The digest of what was imported for a listed runtime.
fn imported_digest(runtime: &Runtime, places: &Places) -> Result<Option<Digest>, BaseError> {
    let Some(store) = &places.store else { return Ok(None) };
    base_list::digest_of(store.root(), &runtime.full_name()).map_err(BaseError::Imported)
}

/// A listed runtime in the data folder's store, by the digest that was imported: its tag may have come by a push.
async fn imported(runtime: &Runtime, places: &Places) -> Result<Option<(String, Source, Pulled)>, BaseError> {
    let (Some(store), Some(digest)) = (&places.store, imported_digest(runtime, places)?) else { return Ok(None) };
    let source = Source::Store { store: store.clone(), repository: runtime.name.clone() };
    match source.manifest(&digest.to_string()).await {
        Ok(pulled) => Ok(Some((runtime.full_name(), source, pulled))),
        Err(error) if error.fault() == Fault::Missing => Ok(None),
        Err(source) => Err(BaseError::Read { base: runtime.full_name(), source }),
    }
}

/// Whether there is a registry that could have a listed runtime.
pub fn has_registry(runtime: &Runtime, places: &Places) -> bool {
    !places.mirrors.is_empty() || runtime.reference.contains('/')
}

/// Where a listed runtime is in a registry now, whatever it is locked to: the reference, and the digest. The error is what was tried.
pub async fn published(runtime: &Runtime, places: &Places) -> Result<(String, Digest), String> {
    in_registries(runtime, None, places).await.map(|(text, _, pulled)| (text, pulled.document().digest))
}

/// What a listed runtime is now, whatever it is locked to: where it was found, and its digest.
pub async fn locate(runtime: &Runtime, places: &Places) -> Result<(String, Digest), BaseError> {
    if let Some((name, _, pulled)) = imported(runtime, places).await? {
        return Ok((name, pulled.document().digest));
    }
    published(runtime, places).await.map_err(|tried| BaseError::Nowhere { runtime: runtime.full_name(), tried })
}

/// A listed runtime in the mirrors, then at its own reference; by the digest that it is locked to, where it is: a tag may have moved on. The error is
/// what was tried, for the end of a sentence.
async fn in_registries(runtime: &Runtime, locked: Option<Digest>, places: &Places) -> Result<(String, Source, Pulled), String> {
    let mirrored = places.mirrors.iter().map(|mirror| format!("{}/{}", mirror.trim_end_matches('/'), runtime.full_name()));
    // A reference without a host is only a name: it must not become a repository of Docker Hub.
    let own = runtime.reference.contains('/').then(|| runtime.reference.clone());
    let mut tried = String::new();
    for text in mirrored.chain(own) {
        let asked = locked.filter(|_| !text.contains('@')).map_or_else(|| text.clone(), |digest| format!("{text}@{digest}"));
        let read = match asked.parse::<Reference>() {
            Ok(reference) => read(&Location::Registry(reference), places).await.map_err(|error| fault::one_line(&error)),
            Err(error) => Err(fault::one_line(&error)),
        };
        match read {
            Ok((source, pulled)) => return Ok((text, source, pulled)),
            Err(reason) => tried.push_str(&format!("; {text}: {reason}")),
        }
    }
    Err(tried)
}

async fn read(location: &Location, places: &Places) -> Result<(Source, Pulled), SourceError> {
    let (source, key) = Source::open(location, &places.registries).await?;
    let pulled = source.manifest(&key).await?;
    Ok((source, pulled))
}

async fn assemble(
    name: &str,
    runtime: Option<Runtime>,
    source: Source,
    pulled: Pulled,
    platforms: &[Platform],
    listener: &Listener,
) -> Result<Bases, BaseError> {
    let digest = pulled.document().digest;
    if let Some(locked) = runtime.as_ref().and_then(|runtime| runtime.digest).filter(|locked| *locked != digest) {
        return Err(BaseError::Locked { base: name.to_owned(), found: digest, locked });
    }
    listener(Event::Note(format!("base {name} {digest}")));
    let canonical = runtime.as_ref().map(|runtime| runtime.reference.clone());
    let (is_index, manifests) = match pulled {
        Pulled::Manifest(manifest) => (false, vec![manifest]),
        Pulled::Index(index) => (true, manifests_of(name, &index, platforms, &source).await?),
    };
    let mut bases = Vec::new();
    for manifest in manifests {
        let config = source.bytes(&manifest.config, CONFIG_BYTES_MAX).await;
        let config = config.map_err(|source| BaseError::Read { base: name.to_owned(), source })?;
        let config = ImageConfig::parse(&config).map_err(|source| BaseError::Config { base: name.to_owned(), source })?;
        bases.push(Base { name: canonical.clone(), digest, manifest, config });
    }
    if !is_index {
        let has = bases[0].config.platform();
        if !platforms.is_empty() && !platforms.iter().all(|wanted| has.serves(wanted)) {
            let wanted = platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ");
            return Err(BaseError::Platform { base: name.to_owned(), has, wanted });
        }
    }
    Ok(Bases { bases, scratch_platforms: Vec::new(), is_index, source, runtime, is_vouched_for: false, notice: None })
}

async fn manifests_of(name: &str, index: &Index, platforms: &[Platform], source: &Source) -> Result<Vec<Manifest>, BaseError> {
    let invalid = |source| BaseError::Manifest { base: name.to_owned(), source };
    let mut wanted = Vec::new();
    if platforms.is_empty() {
        wanted.extend(index.images().map(|(_, descriptor)| descriptor.clone()));
    }
    for platform in platforms {
        wanted.push(index.choose(platform).map_err(invalid)?.clone());
    }
    if wanted.is_empty() {
        index.choose(&Platform::linux_amd64()).map_err(invalid)?;
    }
    let mut manifests = Vec::new();
    for descriptor in wanted {
        let pulled = source.manifest(&descriptor.digest.to_string()).await;
        match pulled.map_err(|source| BaseError::Read { base: name.to_owned(), source })? {
            Pulled::Manifest(manifest) => manifests.push(manifest),
            Pulled::Index(inner) => {
                let media_type = inner.document.media_type;
                return Err(invalid(ManifestError::Unsupported { digest: descriptor.digest, media_type }));
            }
        }
    }
    Ok(manifests)
}
