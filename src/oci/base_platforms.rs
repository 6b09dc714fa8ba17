//! One base for several platforms: the images that a name has already, and those that are added to them.
//!
//! For `hs base import --add-platform`. It is no index of a model's image, which says more (`image.rs`), and moves no layers: those of the images that are there
//! stay where they are.
//!
//! What must stay true: what comes out follows from the images alone, and not from the order in which they were added; and the two families are not mixed
//! within one index.

use std::collections::BTreeMap;

use super::image::{self, Image, ImageSet};
use super::manifest::media;
use super::platform::Platform;
use crate::fault::{Failure, Fault};

/// Why images cannot be one base.
#[derive(Debug, thiserror::Error)]
#[error("the image for {docker} is Docker's and the one for {oci} is OCI's; an index holds one of both kinds")]
pub struct FamiliesError {
    /// The platform of a Docker image.
    docker: Platform,
    /// The platform of an OCI image.
    oci: Platform,
}

impl Failure for FamiliesError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        Some("import each of its platforms from an image of the same kind; tars and OCI layouts give OCI's".to_owned())
    }
}

/// `present` and `added`, which take the place of those for the same platform. One image alone stays a plain one, as an import without others makes it.
pub fn join(present: Vec<Image>, added: Vec<Image>) -> Result<ImageSet, FamiliesError> {
    let images = present.into_iter().chain(added).map(|image| (key(&image.platform), image));
    let images: Vec<Image> = images.collect::<BTreeMap<_, _>>().into_values().collect();
    let is_docker = |image: &&Image| image.manifest.media_type == media::DOCKER_MANIFEST;
    if let (Some(docker), Some(oci)) = (images.iter().find(is_docker), images.iter().find(|image| !is_docker(image))) {
        return Err(FamiliesError { docker: docker.platform.clone(), oci: oci.platform.clone() });
    }
    Ok(if images.len() == 1 { ImageSet { index: None, images } } else { image::index(images, &BTreeMap::new()) })
}

/// Equal for what is the same platform, and the order of platforms: `arm64/v8` is `arm64`, and Windows has a release beside.
fn key(platform: &Platform) -> [String; 4] {
    let variant = platform.plain_variant().unwrap_or_default();
    let release = platform.rest.get("os.version").map(ToString::to_string);
    [&platform.os, &platform.architecture, variant, &release.unwrap_or_default()].map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::base_image;
    use super::super::manifest::Pulled;
    use super::*;

    fn of_tars(architecture: &str, user: &str) -> Image {
        let start = format!(r#"{{"os": "linux", "architecture": "{architecture}", "config": {{"User": "{user}"}}}}"#);
        base_image::assemble(start.as_bytes(), &[], "1970-01-01T00:00:00Z").unwrap()
    }

    fn of_docker(architecture: &str) -> Image {
        let config = format!(r#"{{"os":"linux","architecture":"{architecture}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#);
        base_image::of_docker(config.into_bytes(), &[]).unwrap()
    }

    #[test]
    fn the_order_of_adding_decides_nothing() {
        let [amd64, arm64, s390x] = ["amd64", "arm64", "s390x"].map(|architecture| of_tars(architecture, "1"));
        let all = join(vec![amd64.clone(), arm64.clone()], vec![s390x.clone()]).unwrap();
        for order in [[&s390x, &amd64, &arm64], [&arm64, &s390x, &amd64], [&amd64, &arm64, &s390x]] {
            let mut images = ImageSet { index: None, images: Vec::new() };
            for image in order {
                images = join(images.images, vec![image.clone()]).unwrap();
            }
            assert_eq!(images.top(), all.top());
        }
        let Ok(Pulled::Index(index)) = Pulled::parse(None, all.top().bytes.clone()) else { panic!("no index") };
        let platforms: Vec<_> = index.images().map(|(platform, _)| platform.to_string()).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64", "linux/s390x"]);
    }

    #[test]
    fn the_same_platform_is_replaced_and_one_alone_is_no_index() {
        let (earlier, later) = (of_tars("arm64", "1"), of_tars("arm64", "2"));
        let alone = join(vec![earlier.clone()], vec![later.clone()]).unwrap();
        assert_eq!((alone.index.is_none(), alone.top()), (true, &later.manifest));
        let mut of_eighth = earlier;
        of_eighth.platform.variant = Some("v8".to_owned());
        let both = join(vec![of_tars("amd64", "1"), of_eighth], vec![later.clone()]).unwrap();
        assert_eq!(both.images.len(), 2);
        assert_eq!(both.images[1].manifest, later.manifest);
    }

    #[test]
    fn images_of_dockers_have_an_index_of_dockers_and_are_not_mixed_with_others() {
        let both = join(vec![of_docker("arm64")], vec![of_docker("amd64")]).unwrap();
        assert_eq!(both.top().media_type, media::DOCKER_INDEX);
        let error = join(vec![of_docker("arm64")], vec![of_tars("amd64", "1")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the image for linux/arm64 is Docker's and the one for linux/amd64 is OCI's; an index holds one of both kinds"
        );
    }
}
