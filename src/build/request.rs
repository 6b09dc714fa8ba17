//! What shall be built, beside the model itself.
//!
//! Two who build put it together, `hs build` and the service, and both begin with [`Request::new`]: what is the same for every image of a machine is its
//! [`BuildSettings`], what is asked of one image is said by whoever has something to say, and the rest has its value here. So an option is a field, and a value
//! for those who do not know it.
//!
//! What must stay true: nothing here is looked up. Settings and flags are read by the doors.

use std::path::{Path, PathBuf};

use super::requirements::Installer;
use crate::contract::wire::Dialect;
use crate::disk::seal_cache::SealCache;
use crate::model::fit::Policy;
use crate::model::fit_scan::Facts;
use crate::model::packing::Choice;
use crate::model::plan::Layout;
use crate::model::runtime::RuntimeList;
use crate::oci::platform::Platform;

/// What is the same for every image that is built here.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// The runtimes that are known.
    pub runtimes: RuntimeList,
    /// How layers are compressed, where nobody asks for something else.
    pub compression: Choice,
    /// The instant of everything in the image, seconds since the epoch (`SOURCE_DATE_EPOCH`).
    pub epoch_s: u64,
    /// What earlier builds remember of their layers; `None`: everything is read.
    pub cache: Option<SealCache>,
    /// What installs models' requirements; `None`: they are not installed.
    pub installer: Option<Installer>,
}

impl BuildSettings {
    /// Settings for builds on these runtimes that remember nothing and install nothing.
    pub fn new(runtimes: RuntimeList) -> BuildSettings {
        BuildSettings { runtimes, compression: Choice::default(), epoch_s: 0, cache: None, installer: None }
    }
}

/// What shall be built.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is the same for every image.
    pub settings: BuildSettings,
    /// What the model's files say of its fit.
    pub facts: Facts,
    /// Where compressed layers are put; must outlive the copy.
    pub scratch: PathBuf,
    /// The version, as it stands in the label; `None`: the image has none.
    pub version: Option<String>,
    /// The platforms; empty: all that the base has.
    pub platforms: Vec<Platform>,
    /// Where the payload goes.
    pub layout: Layout,
    /// The contract's dialect; `None`: the runtime's.
    pub dialect: Option<Dialect>,
    /// How the layers of this image are compressed; `None`: as the settings say. What is asked for, and the base's family has no word for, is refused.
    pub compression: Option<Choice>,
    /// Which findings of the model's fit are let through.
    pub policy: Policy,
    /// The lock of an earlier version with the same requirements.
    pub earlier_lock: Option<Vec<u8>>,
}

impl Request {
    /// The image that nobody asks anything of.
    pub fn new(settings: BuildSettings, facts: Facts, scratch: &Path) -> Request {
        Request {
            settings,
            facts,
            scratch: scratch.to_owned(),
            version: None,
            platforms: Vec::new(),
            layout: Layout::Hydro,
            dialect: None,
            compression: None,
            policy: Policy::default(),
            earlier_lock: None,
        }
    }
}
