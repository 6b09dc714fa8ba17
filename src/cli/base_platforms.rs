//! `hs base import --add-platform`: the other platforms of a base that are under its name already.
//!
//! They are read from where the import goes to, and joined with what is imported (`oci/base_platforms.rs`); the copy finds their layers there and moves none of
//! them. Archives are written whole, so nothing can be added to one.
//!
//! What must stay true: what cannot be read is an error. Taken for nothing, it would be replaced.

use super::settings::Settings;
use crate::build::base::Places;
use crate::disk::layout::LayoutError;
use crate::fault::{Failure, Fault};
use crate::oci::base_platforms::{self, FamiliesError};
use crate::oci::image::{Image, ImageSet};
use crate::oci::location::Location;
use crate::registry::source::{Source, SourceError, load};

/// Why a platform cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddPlatformError {
    /// More than one `--to`: each could have other platforms, and the base another digest.
    #[error("a platform is added to the base of one place at a time, and `--to` names {0}")]
    Places(usize),
    /// An archive.
    #[error("`{0}` is an archive: it is written whole, and no platform can be added to it")]
    Archive(String),
    /// What is there cannot be read.
    #[error("reading the platforms of `{name}` that are there")]
    Read {
        /// What it is called, there.
        name: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// Docker's and OCI's.
    #[error("`{name}` cannot be one base for both platforms")]
    Families {
        /// What it is called, there.
        name: String,
        /// Why.
        #[source]
        source: FamiliesError,
    },
}

impl Failure for AddPlatformError {
    fn fault(&self) -> Fault {
        match self {
            AddPlatformError::Places(_) | AddPlatformError::Archive(_) => Fault::Usage,
            AddPlatformError::Read { source, .. } => source.fault(),
            AddPlatformError::Families { source, .. } => source.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            AddPlatformError::Places(_) => Some("import once for each of them".to_owned()),
            AddPlatformError::Archive(_) => {
                Some("add it to a layout (`oci:DIR:TAG`), and send that to an archive with a tool for layouts".to_owned())
            }
            AddPlatformError::Read { source, .. } => source.remedy(),
            AddPlatformError::Families { source, .. } => source.remedy(),
        }
    }
}

/// `added` with the other platforms that are there already: in the one target, or without one under `name` (and its `version`) in the data folder's store.
pub async fn with_present(
    added: ImageSet,
    (name, version): (&str, &str),
    targets: &[Location],
    settings: &Settings,
    places: &Places,
) -> Result<ImageSet, Box<dyn Failure>> {
    let (place, present) = match targets {
        [] => {
            let source = Source::Store { store: settings.store()?, repository: name.to_owned() };
            (format!("{name}:{version}"), images(load(&source, version, None).await))
        }
        [archive @ (Location::OciArchive { .. } | Location::DockerArchive { .. })] => {
            return Err(AddPlatformError::Archive(archive.to_string()).into());
        }
        [target] => (target.to_string(), in_place(target, places).await),
        several => return Err(AddPlatformError::Places(several.len()).into()),
    };
    let present = present.map_err(|source| AddPlatformError::Read { name: place.clone(), source })?;
    let joined = base_platforms::join(present, added.images);
    Ok(joined.map_err(|source| AddPlatformError::Families { name: place, source })?)
}

async fn in_place(target: &Location, places: &Places) -> Result<Vec<Image>, SourceError> {
    // A layout that is damaged is missing to whoever reads it, and no empty one to be written.
    let is_layout = match target {
        Location::Layout { folder, .. } if !folder.join("index.json").exists() => return Ok(Vec::new()),
        Location::Layout { .. } => true,
        _ => false,
    };
    match Source::open(target, &places.registries).await {
        Ok((source, key)) if is_layout => load(&source, &key, None).await.map(|images| images.images),
        Ok((source, key)) => images(load(&source, &key, None).await),
        Err(SourceError::Layout(LayoutError::NoTag { .. })) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The images of what was read; none where it is not there.
fn images(read: Result<ImageSet, SourceError>) -> Result<Vec<Image>, SourceError> {
    match read {
        Ok(images) => Ok(images.images),
        Err(error) if error.fault() == Fault::Missing => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
