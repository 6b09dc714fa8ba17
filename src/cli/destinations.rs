//! Where `hs build` puts an image: all that `--to` names, found unusable before the work is done, and written one after the other.
//!
//! Local places are judged by what can be known without writing there (`disk/place.rs`) before anything is read. A registry is asked, once, what every copy asks first,
//! when the folder is known to be a model and before a layer of it is made. What is left for later is a disk that fills and a registry that dies.
//!
//! What must stay true: no place is touched before the image is made; each is written whole or not at all, in the order in which they were named; and a failure says
//! which of them have the image.

use std::path::{Path, PathBuf};

use super::open;
use crate::build::built::BuiltImage;
use crate::disk::destination::{self, DestinationError};
use crate::disk::place;
use crate::fault::{Failure, Fault};
use crate::model::packing::Choice;
use crate::oci::location::Location;
use crate::oci::reference::Reference;
use crate::progress::{Listener, Transfer};
use crate::registry::address::Address;
use crate::registry::ahead::Named;
use crate::registry::client::{Registries, Repository};
use crate::registry::copy::{self, CopyError, Target};
use crate::registry::error::RegistryError;

/// Why an image is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum DestinationsError {
    /// A place takes no image.
    #[error("the image cannot go to `{location}`")]
    Unusable {
        /// The place, as it was named.
        location: String,
        /// Why not.
        #[source]
        source: DestinationError,
    },
    /// The second would take the place of the first.
    #[error("`{first}` and `{second}` are the same place")]
    Same {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A layout is no place for other things.
    #[error("`{inner}` is inside of `{outer}`")]
    Inside {
        /// The one.
        inner: String,
        /// The other.
        outer: String,
    },
    /// Zstd where nothing can read it.
    #[error("a `docker-archive:` has no word for layers that are compressed with zstd")]
    ArchiveZstd,
    /// Several platforms where one has room.
    #[error("`{location}` holds one platform, and the image is for {platforms}")]
    Platforms {
        /// The place.
        location: String,
        /// Which platforms.
        platforms: String,
    },
    /// The only place.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// One of several places.
    #[error("the image could not be put at `{location}`{}", told(.written))]
    OneOfSeveral {
        /// The place.
        location: String,
        /// Those that have the image.
        written: Vec<String>,
        /// What happened.
        #[source]
        source: CopyError,
    },
}

impl Failure for DestinationsError {
    fn fault(&self) -> Fault {
        match self {
            DestinationsError::Unusable { source, .. } => source.fault(),
            DestinationsError::Same { .. }
            | DestinationsError::Inside { .. }
            | DestinationsError::ArchiveZstd
            | DestinationsError::Platforms { .. } => Fault::Usage,
            DestinationsError::Copy(source) | DestinationsError::OneOfSeveral { source, .. } => source.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            DestinationsError::Unusable { source, .. } => source.remedy(),
            DestinationsError::Same { .. } => Some("name each place once".to_owned()),
            DestinationsError::Inside { .. } => Some("name two places that lie side by side".to_owned()),
            DestinationsError::ArchiveZstd => Some("use `--compression gzip`, or write an `oci-archive:`".to_owned()),
            DestinationsError::Platforms { .. } => Some("name one with `--platform`, or write an `oci-archive:`".to_owned()),
            DestinationsError::Copy(source) | DestinationsError::OneOfSeveral { source, .. } => source.remedy(),
        }
    }
}

fn told(written: &[String]) -> String {
    if written.is_empty() {
        return ", and is nowhere else".to_owned();
    }
    let quoted: Vec<String> = written.iter().map(|location| format!("`{location}`")).collect();
    format!("; it is at {}", quoted.join(", "))
}

/// Where an image was put.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The places, as they were named.
    pub references: Vec<String>,
    /// What was moved to all of them.
    pub transfer: Transfer,
}

/// The places for one image.
#[derive(Default)]
pub struct Destinations {
    places: Vec<Place>,
}

struct Place {
    /// What was typed.
    word: String,
    location: Location,
    /// A repository. It is opened without a trace; what is local, when it is written.
    repository: Option<Target>,
    named: Named,
}

impl Destinations {
    /// The places that `words` name; refuses one that takes no image, and two that are one.
    pub fn of(words: &[String], registries: &Registries) -> Result<Destinations, Box<dyn Failure>> {
        let named: Vec<(&str, Location)> =
            words.iter().map(|word| Ok((word.as_str(), open::location(word)?))).collect::<Result<_, Box<dyn Failure>>>()?;
        for (at, second) in named.iter().enumerate() {
            named[..at].iter().try_for_each(|first| apart(first, second))?;
        }
        let mut places = Vec::new();
        for (word, location) in named {
            destination::check(&location).map_err(|source| DestinationsError::Unusable { location: word.to_owned(), source })?;
            let is_registry = matches!(location, Location::Registry(_));
            let repository = is_registry.then(|| Target::open(&location, registries)).transpose()?;
            places.push(Place { word: word.to_owned(), location, repository, named: Named::NotAsked });
        }
        Ok(Destinations { places })
    }

    /// Refuses a compression that one of them has no word for: of how its layers are compressed a Docker archive says nothing, and who loads it knows gzip by its
    /// first bytes, and zstd not everywhere.
    pub fn take(&self, compression: Choice) -> Result<(), DestinationsError> {
        let is_archive = |place: &Place| matches!(place.location, Location::DockerArchive { .. });
        if compression == Choice::Zstd && self.places.iter().any(is_archive) { Err(DestinationsError::ArchiveZstd) } else { Ok(()) }
    }

    /// Asks every registry among them what it has in the image's place. The answers are kept for the copy.
    pub async fn ask(&mut self) -> Result<(), RegistryError> {
        for place in &mut self.places {
            if let Some(target) = &place.repository {
                place.named = target.ask().await?;
            }
        }
        Ok(())
    }

    /// The first registry among them: layers can go there while others are made.
    pub fn repository(&self) -> Option<&Repository> {
        self.places.iter().find_map(|place| place.repository.as_ref()?.repository())
    }

    /// Puts the image everywhere. What [`Destinations::repository`] was sent before is counted with it.
    pub async fn put(self, image: &BuiltImage, registries: &Registries, listener: &Listener) -> Result<Written, DestinationsError> {
        self.have_room(image)?;
        let several = self.places.len() > 1;
        let (mut references, mut transfer, mut written) = (Vec::new(), Transfer::default(), Vec::new());
        let mut sent_ahead = Some(image.sent.clone());
        for Place { word, location, repository, named } in self.places {
            let mut sent = repository.as_ref().and_then(|_| sent_ahead.take()).unwrap_or_default();
            sent.named = named;
            let copied = match repository.map_or_else(|| Target::open(&location, registries), Ok) {
                Ok(target) => copy::copy_rest(&image.images, &image.source, target, &sent, listener).await,
                Err(error) => Err(error),
            };
            match copied {
                Ok(moved) => transfer.merge(moved),
                Err(source) if several => return Err(DestinationsError::OneOfSeveral { location: word, written, source }),
                Err(source) => return Err(source.into()),
            }
            references.push(location.to_string());
            written.push(word);
        }
        Ok(Written { references, transfer })
    }

    /// Whether an image for several platforms has room in all of them; before one is written.
    fn have_room(&self, image: &BuiltImage) -> Result<(), DestinationsError> {
        let docker = self.places.iter().find(|place| matches!(place.location, Location::DockerArchive { .. }));
        match docker {
            Some(place) if image.images.images.len() != 1 => {
                let platforms: Vec<_> = image.images.images.iter().map(|image| image.platform.to_string()).collect();
                Err(DestinationsError::Platforms { location: place.word.clone(), platforms: platforms.join(", ") })
            }
            _ => Ok(()),
        }
    }
}

/// Refuses two places, each with what was typed for it, of which one would take the other's.
fn apart((word, first): &(&str, Location), (of_second, second): &(&str, Location)) -> Result<(), DestinationsError> {
    let same = || DestinationsError::Same { first: (*word).to_owned(), second: (*of_second).to_owned() };
    let inside = |inner: &str, outer: &str| DestinationsError::Inside { inner: inner.to_owned(), outer: outer.to_owned() };
    let (path, other) = match (first, second) {
        (Location::Registry(one), Location::Registry(other)) => {
            return if at_registry(one) == at_registry(other) { Err(same()) } else { Ok(()) };
        }
        _ => match (local(first), local(second)) {
            (Some(path), Some(other)) => (path, other),
            _ => return Ok(()),
        },
    };
    let is_layout = |location: &Location| matches!(location, Location::Layout { .. });
    match (first, second) {
        // One layout has many images, each under its own tag.
        (Location::Layout { tag, .. }, Location::Layout { tag: other_tag, .. }) if path == other && tag != other_tag => Ok(()),
        _ if path == other => Err(same()),
        _ if is_layout(second) && path.starts_with(&other) => Err(inside(word, of_second)),
        _ if is_layout(first) && other.starts_with(&path) => Err(inside(of_second, word)),
        _ => Ok(()),
    }
}

/// The file or folder, whatever way its path goes.
fn local(location: &Location) -> Option<PathBuf> {
    let path: &Path = match location {
        Location::Registry(_) => return None,
        Location::Layout { folder, .. } => folder,
        Location::OciArchive { file, .. } | Location::DockerArchive { file, .. } => file,
    };
    Some(place::real_path(path))
}

/// Where a reference leads: the host whatever its case, with the port that its scheme has anyway, the repository, and the tag.
fn at_registry(reference: &Reference) -> (String, &str, &str) {
    let host = Address::new(&reference.registry, None).map_or_else(|_| reference.registry.clone(), |address| address.base.to_string());
    (host, &reference.repository, reference.tag.as_deref().unwrap_or("latest"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn two_words_for_one_place_are_found() {
        let root = tempfile::tempdir().unwrap();
        let at = |text: &str| text.replace('~', root.path().to_str().unwrap()).parse::<Location>().unwrap();
        std::fs::create_dir(root.path().join("folder")).unwrap();
        symlink(root.path().join("folder"), root.path().join("link")).unwrap();
        let judged = |first: &str, second: &str| match apart(&(first, at(first)), &(second, at(second))) {
            Ok(()) => "apart",
            Err(DestinationsError::Same { .. }) => "same",
            Err(DestinationsError::Inside { .. }) => "inside",
            Err(other) => panic!("{other}"),
        };
        for (first, second, expected) in [
            ("127.0.0.1:5000/m:1", "127.0.0.1:5000/m:1", "same"),
            ("127.0.0.1:5000/m", "127.0.0.1:5000/m:latest", "same"),
            ("registry.example/m:1", "Registry.Example:443/m:1", "same"),
            ("registry.example/m:1", "registry.example/m:2", "apart"),
            ("registry.example/m:1", "registry.example:5000/m:1", "apart"),
            ("registry.example/m:1", "oci:~/m:1", "apart"),
            ("oci:~/a:1", "oci:~/a:1", "same"),
            ("oci:~/a:1", "oci:~/a:2", "apart"),
            ("oci:~/a", "oci:~/a:2", "apart"),
            ("oci:~/a:1", "oci:~/folder/../a/.:1", "same"),
            ("oci-archive:~/folder/x", "oci-archive:~/link/x:1", "same"),
            ("oci-archive:~/x", "docker-archive:~/./x:m:1", "same"),
            ("oci-archive:~/x", "oci-archive:~/y", "apart"),
            ("oci:~/x", "oci-archive:~/x", "same"),
            ("oci:~/link", "oci-archive:~/folder/x", "inside"),
            ("oci:~/link/deep/er", "oci:~/folder", "inside"),
            ("oci:~/folder", "oci:~/folders", "apart"),
        ] {
            assert_eq!((judged(first, second), judged(second, first)), (expected, expected), "{first} {second}");
        }
    }
}
