//! Docker archives: what `docker load` takes.
//!
//! Layers under their digests as they come, then the config and `manifest.json`, which says in which order the layers lie and what the
//! image is called. Layers stay as they are packed: `docker load` and `skopeo` look at the bytes. One platform: the format knows no
//! more. It is written in one pass; reading is `docker_archive_read.rs`.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde_json::json;

use super::tar_file::{TarFile, TarFileError};
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::image::ImageSet;
use crate::oci::json::canonical;
use crate::oci::manifest::Descriptor;
use crate::oci::reference::Reference;

/// Why a Docker archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DockerArchiveError {
    /// Writing.
    #[error(transparent)]
    Write(#[from] TarFileError),
    /// A layer was never put.
    #[error("{0} was not put into the archive")]
    Missing(Digest),
    /// Several platforms.
    #[error("a Docker archive holds one platform, and the image is for {platforms}")]
    Platforms {
        /// Which.
        platforms: String,
    },
}

impl Failure for DockerArchiveError {
    fn fault(&self) -> Fault {
        match self {
            DockerArchiveError::Write(error) => error.fault(),
            DockerArchiveError::Missing(_) => Fault::Ours,
            DockerArchiveError::Platforms { .. } => Fault::Usage,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            DockerArchiveError::Write(error) => error.remedy(),
            DockerArchiveError::Missing(_) => None,
            DockerArchiveError::Platforms { .. } => Some("name one with `--platform`, or write an `oci-archive:`".to_owned()),
        }
    }
}

/// A Docker archive that is being written.
pub struct DockerArchive {
    tar: TarFile,
    written: BTreeSet<Digest>,
    name: Option<Reference>,
}

impl DockerArchive {
    /// Begins the archive that will be `path`; the image will be called `name` once it is loaded.
    pub fn create(path: &Path, name: Option<Reference>) -> Result<DockerArchive, DockerArchiveError> {
        Ok(DockerArchive { tar: TarFile::create(path)?, written: BTreeSet::new(), name })
    }

    /// Whether a layer has been put.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.written.contains(digest)
    }

    /// Puts a layer; one that is there already is not put again.
    pub fn put_blob(&mut self, descriptor: &Descriptor, source: &mut dyn Read) -> Result<(), DockerArchiveError> {
        if !self.has_blob(&descriptor.digest) {
            self.tar.blob(&layer_name(&descriptor.digest), descriptor, source)?;
            self.written.insert(descriptor.digest);
        }
        Ok(())
    }

    /// Puts the config of an image whose layers have been put, and ends the archive.
    pub fn finish(mut self, set: &ImageSet) -> Result<(), DockerArchiveError> {
        let [image] = set.images.as_slice() else {
            let platforms: Vec<_> = set.images.iter().map(|image| image.platform.to_string()).collect();
            return Err(DockerArchiveError::Platforms { platforms: platforms.join(", ") });
        };
        let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.descriptor.digest).collect();
        if let Some(missing) = layers.iter().find(|digest| !self.has_blob(digest)) {
            return Err(DockerArchiveError::Missing(*missing));
        }
        let config = format!("{}.json", image.config.digest.hex());
        let manifest = json!([{
            "Config": config,
            "RepoTags": self.name.as_ref().map(|name| vec![familiar(name)]),
            "Layers": layers.iter().map(layer_name).collect::<Vec<_>>(),
        }]);
        self.tar.bytes(&config, &image.config.bytes)?;
        self.tar.bytes("manifest.json", &canonical(&manifest))?;
        Ok(self.tar.publish()?)
    }
}

fn layer_name(digest: &Digest) -> String {
    format!("{}.tar", digest.hex())
}

/// The name as `docker save` writes it: without the host and the folder that Docker Hub has by default, and with a tag.
pub(super) fn familiar(name: &Reference) -> String {
    let repository = match name.registry.as_str() {
        "docker.io" => name.repository.strip_prefix("library/").unwrap_or(&name.repository).to_owned(),
        registry => format!("{registry}/{}", name.repository),
    };
    format!("{repository}:{}", name.tag.as_deref().unwrap_or("latest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_docker_save() {
        for (text, name) in [
            ("linear_regression", "linear_regression:latest"),
            ("linear_regression:1", "linear_regression:1"),
            ("hydrosphere/x:2", "hydrosphere/x:2"),
            ("127.0.0.1:5000/x:2", "127.0.0.1:5000/x:2"),
        ] {
            assert_eq!(familiar(&text.parse().unwrap()), name);
        }
    }
}
