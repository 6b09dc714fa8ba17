//! What is known of a registry's ways, kept for later pushes: how large a request body it takes, whether it takes chunks, whether it mounts.
//!
//! `hs registry doctor` finds it out on purpose, and a push that was refused something and found another way adds what it learnt. A push that knows it goes that way
//! at once. The file is one of those of `memory.rs`: a hint, believed for [`AGE_MAX`] at most, since registries and the proxies before them change. What must stay
//! true: a profile never makes a push fail that would work without it, so only what it says to be not worth trying is acted on, and what turns out otherwise is
//! corrected; and the settings of a host win over it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::Host;
use super::journal::now_s;
use super::memory::Memory;

/// How long what was learnt is believed.
pub const AGE_MAX: Duration = Duration::from_hours(24 * 30);

/// The ways of one registry; what is not set is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The largest request body that was taken, where a larger one was refused.
    pub body_bytes_max: Option<u64>,
    /// Whether blobs can be pushed in chunks.
    pub chunks: Option<bool>,
    /// The largest chunk that was taken, where a larger one was refused.
    pub chunk_bytes_max: Option<u64>,
    /// Whether blobs are mounted from other repositories.
    pub mounts: Option<bool>,
    /// Whether it lists referrers itself. Told, and not acted on: asking once costs less than a list that misses what was pushed since.
    pub referrers_api: Option<bool>,
    /// Whether it takes manifests with layers in zstd. Told: what is built here has none, and a base's layers are what they are.
    pub zstd: Option<bool>,
}

/// Where the profile of one registry is kept.
#[derive(Clone, Debug)]
pub struct Profiles {
    registry: String,
    memory: Option<Memory>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    registry: String,
    /// When the first of it was learnt; seconds since 1970.
    learnt_s: u64,
    profile: Profile,
}

impl Profiles {
    /// What is kept below `folder` for `registry`; without a folder nothing is ever known.
    pub fn new(registry: &str, folder: Option<&Path>) -> Profiles {
        Profiles { registry: registry.to_owned(), memory: folder.map(|folder| Memory::new(folder.join("profiles"))) }
    }

    /// What is known; nothing where it is too old.
    pub fn read(&self) -> Profile {
        self.kept().map(|kept| kept.profile).unwrap_or_default()
    }

    fn kept(&self) -> Option<Kept> {
        let memory = self.memory.as_ref()?;
        let kept: Kept = serde_json::from_slice(&Memory::read(&memory.path(&[&self.registry]))?).ok()?;
        let believed = kept.registry == self.registry && now_s().saturating_sub(kept.learnt_s) <= AGE_MAX.as_secs();
        believed.then_some(kept)
    }

    /// Keeps a profile that was found out as a whole.
    pub fn keep(&self, profile: Profile) {
        self.write(Kept { registry: self.registry.clone(), learnt_s: now_s(), profile });
    }

    /// Changes what is known by what a push met. What else is known grows no younger by it.
    pub fn correct(&self, change: impl FnOnce(&mut Profile)) {
        let new = || Kept { registry: self.registry.clone(), learnt_s: now_s(), profile: Profile::default() };
        let mut kept = self.kept().unwrap_or_else(new);
        let before = kept.profile.clone();
        change(&mut kept.profile);
        if kept.profile != before {
            self.write(kept);
        }
    }

    fn write(&self, kept: Kept) {
        let Some(memory) = &self.memory else { return };
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        let written = memory.write(&memory.path(&[&self.registry]), &bytes).and_then(|()| memory.make_room(AGE_MAX));
        if let Err(error) = written {
            tracing::debug!(%error, "the registry's profile is not kept");
        }
    }
}

impl Host {
    /// Keeps for later pushes what one was refused, large bodies or chunks, before it found its way.
    pub(super) fn remember_ways(&self, bodies_refused: bool, chunks_refused: bool) {
        let limit_bytes = self.body_bytes_max.load(Ordering::Relaxed);
        let lifted = self.profile.body_bytes_max.is_some_and(|known_bytes| limit_bytes > known_bytes);
        let news = chunks_refused && self.profile.chunks != Some(false);
        if !(bodies_refused || news || lifted) {
            return;
        }
        self.profiles.correct(|profile| {
            if bodies_refused {
                profile.body_bytes_max = Some(limit_bytes);
            } else if lifted {
                profile.body_bytes_max = None;
            }
            if chunks_refused {
                profile.chunks = Some(false);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_profile_is_the_registry_s_own_and_is_corrected_by_pushes() {
        let folder = tempfile::tempdir().unwrap();
        let profiles = Profiles::new("host", Some(folder.path()));
        assert_eq!(profiles.read(), Profile::default());
        profiles.keep(Profile { body_bytes_max: Some(8 << 20), mounts: Some(true), ..Profile::default() });
        profiles.correct(|profile| profile.body_bytes_max = Some(1 << 20));
        assert_eq!(profiles.read(), Profile { body_bytes_max: Some(1 << 20), mounts: Some(true), ..Profile::default() });
        assert_eq!(Profiles::new("other", Some(folder.path())).read(), Profile::default());
        let unkept = Profiles::new("host", None);
        unkept.keep(Profile { zstd: Some(false), ..Profile::default() });
        assert_eq!(unkept.read(), Profile::default());
    }

    #[test]
    fn what_is_old_or_damaged_is_not_believed_and_a_correction_makes_nothing_younger() {
        let folder = tempfile::tempdir().unwrap();
        let profiles = Profiles::new("host", Some(folder.path()));
        profiles.keep(Profile { chunks: Some(false), ..Profile::default() });
        let file = fs::read_dir(folder.path().join("profiles")).unwrap().next().unwrap().unwrap().path();
        let learnt = |text: &str| serde_json::from_str::<Kept>(text).unwrap().learnt_s;
        let text = fs::read_to_string(&file).unwrap();
        let aged = |age_s: u64| text.replace(&learnt(&text).to_string(), &(learnt(&text) - age_s).to_string());
        fs::write(&file, aged(1000)).unwrap();
        profiles.correct(|profile| profile.zstd = Some(false));
        assert_eq!(profiles.read(), Profile { chunks: Some(false), zstd: Some(false), ..Profile::default() });
        assert_eq!(learnt(&fs::read_to_string(&file).unwrap()), learnt(&text) - 1000);
        for damaged in [aged(AGE_MAX.as_secs() + 100), "{".to_owned(), text.replace("host", "else")] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(profiles.read(), Profile::default());
        }
    }
}
