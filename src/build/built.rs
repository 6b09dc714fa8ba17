//! What was built, and what there is to tell of it.
//!
//! Three values for three listeners: the image itself for whoever copies it, a report for whoever tells or keeps what became of the model, and an explanation for
//! whoever asks why a layer is as it is.

use std::sync::Arc;

use serde_json::{Value, json};

use super::requirements::Installed;
use crate::contract::wire::Dialect;
use crate::model::fit::Finding;
use crate::model::packing::Sample;
use crate::oci::digest::Digest;
use crate::oci::image::{ImageLayer, ImageSet, Purpose};
use crate::oci::layer::Recipe;
use crate::oci::report;
use crate::progress::Transfer;
use crate::registry::ahead::Sent;
use crate::registry::source::Source;

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: BuiltImage,
    /// What there is to tell of it.
    pub report: Report,
    /// Why its layers are as they are.
    pub explanation: Explanation,
}

/// An image, and where its bytes are: what `registry::copy` wants to know.
#[derive(Debug)]
pub struct BuiltImage {
    /// The image, or one for each platform.
    pub images: ImageSet,
    /// Where the base's layers are read from.
    pub source: Source,
    /// Which of our layers are by now in the registry that was named for them.
    pub sent: Sent,
}

/// What there is to tell of an image: to its user, and in the catalog.
#[derive(Clone, Debug)]
pub struct Report {
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// The image on each platform (`oci/report.rs`).
    pub images: Vec<Value>,
    /// The base.
    pub base: Option<BaseOfImage>,
    /// The contract as it stands in the image.
    pub contract: Option<ContractInImage>,
    /// The packages that were installed.
    pub installed: Option<Installed>,
    /// What was found of the model's fit.
    pub findings: Vec<Finding>,
    /// What had to be said, the model's own warnings and the findings among it.
    pub warnings: Vec<String>,
}

/// The base of an image.
#[derive(Clone, Debug)]
pub struct BaseOfImage {
    /// Its canonical name, where it has one.
    pub name: Option<String>,
    /// The digest of its manifest.
    pub digest: Digest,
}

impl BaseOfImage {
    /// As it is printed and kept.
    pub fn json(&self) -> Value {
        json!({"name": self.name, "digest": self.digest})
    }
}

/// The contract as it stands in the image.
#[derive(Clone, Debug)]
pub struct ContractInImage {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// In which dialect they are.
    pub dialect: Dialect,
}

impl Report {
    /// As the catalog keeps it with a version, and what was moved. The lock is there for the next version: with the same requirements it gets the same packages.
    pub fn kept(&self, transfer: Transfer) -> Value {
        let requirements = self
            .installed
            .as_ref()
            .map(|installed| json!({"made_from": installed.made_from, "packages": installed.packages, "lock": installed.lock.to_text()}));
        json!({
            "images": self.images,
            "base": self.base.as_ref().map(BaseOfImage::json),
            "requirements": requirements,
            "transfer": transfer,
            "warnings": self.warnings,
        })
    }

    pub(super) fn images(images: &ImageSet) -> Vec<Value> {
        images.images.iter().map(report::image).collect()
    }
}

/// Why the layers of an image are as they are; of one for several platforms, those of the first.
#[derive(Debug)]
pub struct Explanation {
    /// The layers, lowest first.
    pub layers: Vec<ExplainedLayer>,
}

/// A layer, and what is in it.
#[derive(Debug)]
pub struct ExplainedLayer {
    /// The layer.
    pub layer: ImageLayer,
    /// What is in it.
    pub inside: Inside,
}

/// What is in a layer.
#[derive(Debug)]
pub enum Inside {
    /// Nothing that was made here of the model's files.
    Other,
    /// Packages, with their versions.
    Packages(Vec<String>),
    /// Files of the model, or its contract.
    Files {
        /// Which.
        recipe: Arc<Recipe>,
        /// What a sample of them said, where that decided how they are compressed.
        sample: Option<Sample>,
    },
}

impl Explanation {
    /// `sealed` is what is in each layer of the model's own files and contract, in their order.
    pub(super) fn of(images: &ImageSet, sealed: Vec<(Arc<Recipe>, Option<Sample>)>, installed: Option<&Installed>) -> Explanation {
        let mut sealed = sealed.into_iter();
        let mut inside = |purpose: Purpose| match purpose {
            Purpose::Contract | Purpose::Files => sealed.next().map_or(Inside::Other, |(recipe, sample)| Inside::Files { recipe, sample }),
            Purpose::Requirements => Inside::Packages(installed.map(|installed| installed.packages.clone()).unwrap_or_default()),
            Purpose::Base | Purpose::Bytecode => Inside::Other,
        };
        let layers = images.images.first().into_iter().flat_map(|image| &image.layers);
        Explanation { layers: layers.map(|layer| ExplainedLayer { layer: layer.clone(), inside: inside(layer.purpose) }).collect() }
    }
}
