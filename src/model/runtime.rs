//! The runtime list: which base image serves which type of model, and which contract dialect it reads.
//!
//! The list of the project (`base-images/runtimes.yaml`) is compiled in; the config file adds to it. What comes out of here is a
//! [`Choice`], a value: where the base's bytes are found (an imported base, a mirror, its registry) is for whoever builds.
//!
//! What must stay true: the canonical name of a base is the list's own, never the host that it happened to be read from: the image's digest
//! hangs on it (interface, "Determinism").

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::python_code;
use super::python_standard::Version;
use super::runtime_alias::{self, Alias, Meant};
use super::yaml::{self, YamlError};
use crate::contract::wire::Dialect;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::location::Location;

const COMPILED_IN: &str = include_str!("../../base-images/runtimes.yaml");

/// A runtime that model images can be built on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The name without a version: `serving-runtime-python`.
    pub name: String,
    /// The version: `3.11`.
    pub version: String,
    /// What the base is called, `name:tag` or a full reference.
    pub reference: String,
    /// Locks the base to this digest.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// The kinds of model types that it serves, the part before the colon.
    pub model_types: Vec<String>,
    /// How the contract is written for it.
    #[serde(deserialize_with = "from_text")]
    pub contract_dialect: Dialect,
    /// The Python version that packages have to be made for.
    #[serde(default)]
    pub python_version: Option<String>,
    /// The C library that they have to be made for: `glibc 2.36`, `musl 1.2`.
    #[serde(default)]
    pub libc: Option<String>,
    /// The path of its Python, where the bytecode of packages is made with it (and so the base is trusted to be run for that): `/usr/bin/python3.11`.
    #[serde(default)]
    pub bytecode_interpreter: Option<String>,
    /// The modules beside the standard library that its Python can import; none: not known.
    #[serde(default)]
    pub python_modules: Vec<String>,
    /// The TensorFlow that it serves with.
    #[serde(default)]
    pub tensorflow_version: Option<String>,
    /// The newest operator set that its ONNX Runtime takes.
    #[serde(default)]
    pub onnx_opset_max: Option<u32>,
    /// Its ONNX Runtime.
    #[serde(default)]
    pub onnxruntime_version: Option<String>,
    /// What it runs on.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// The port that it serves gRPC on.
    #[serde(default)]
    pub port: Option<u16>,
    /// The port that it serves HTTP on.
    #[serde(default)]
    pub http_port: Option<u16>,
    /// The gRPC service that says whether it is ready.
    #[serde(default)]
    pub health_check: Option<String>,
    /// How it calls the functions of a model, where it runs users' Python at all.
    #[serde(default)]
    pub calling_convention: Option<CallingConvention>,
}

/// What a Python function gets and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallingConvention {
    /// `TensorProto` messages by name, and a `PredictResponse`: the seed era's.
    TensorProto,
    /// NumPy arrays by name, and a dict of them: that of 2.3 and later.
    Numpy,
}

/// The runtimes that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeList {
    /// In order of preference.
    pub runtimes: Vec<Runtime>,
    /// Names of another time.
    #[serde(default)]
    pub aliases: Vec<Alias>,
    /// The settings' own: a name, and what is meant by it.
    #[serde(skip)]
    pub own_aliases: BTreeMap<String, String>,
}

/// What an image shall be built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A runtime of the list.
    Listed {
        /// Which.
        runtime: Runtime,
        /// Where the user said it is; `None`: look for it.
        location: Option<Location>,
        /// Whether it was asked for; if not, its absence is no error.
        asked: bool,
    },
    /// A base that the list does not know.
    Other(Location),
    /// No base: the model alone. The text says why.
    Scratch(String),
}

/// Why no base can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The list is not valid.
    #[error("reading the runtime list")]
    List(#[source] YamlError),
    /// What was asked for is neither in the list nor a reference.
    #[error("runtime `{asked}` is not known; the runtimes are: {known}")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
}

impl Failure for RuntimeError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        matches!(self, RuntimeError::Unknown { .. })
            .then(|| "name one of these, a reference `host/repository:tag`, a layout `oci:DIR:TAG`, or `scratch`".to_owned())
    }
}

impl RuntimeList {
    /// Locks the runtimes that have no digest of their own to these, by their full names.
    pub fn lock(&mut self, locks: &BTreeMap<String, Digest>) {
        for runtime in &mut self.runtimes {
            runtime.digest = runtime.digest.or_else(|| locks.get(&runtime.full_name()).copied());
        }
    }

    /// The list that is compiled in.
    pub fn compiled_in() -> RuntimeList {
        yaml::read("runtimes.yaml", COMPILED_IN.as_bytes()).expect("a test reads the compiled-in list")
    }

    /// Reads a list; `file` is its name for errors.
    pub fn read(file: &str, bytes: &[u8]) -> Result<RuntimeList, RuntimeError> {
        yaml::read(file, bytes).map_err(RuntimeError::List)
    }

    /// The names with versions, for messages.
    pub fn names(&self) -> String {
        self.runtimes.iter().map(Runtime::full_name).collect::<Vec<_>>().join(", ")
    }

    /// The runtime that is called `name`, with or without its version, whatever host stands before it.
    pub fn find(&self, name: &str) -> Option<&Runtime> {
        self.runtimes.iter().find(|runtime| runtime.full_name() == name || runtime.name == name || runtime.reference == name)
    }

    /// Whether a stranger may ask for this runtime: a listed one, a registry's, or none. The local forms (`oci:…`) would read the files of
    /// whoever builds, and tell by their errors which there are.
    pub fn is_remote(&self, asked: &str) -> bool {
        asked == "scratch" || self.find(asked).is_some() || matches!(asked.parse(), Ok(Location::Registry(_)))
    }

    /// Chooses the base: what was asked for, else what serves the model's type, else none. The second value is what has to be said.
    pub fn choose(&self, asked: Option<&str>, model_type: &str) -> Result<(Choice, Option<String>), RuntimeError> {
        match asked {
            Some("scratch") => Ok((Choice::Scratch("no base was asked for".to_owned()), None)),
            Some(asked) => self.asked_for(asked),
            None => Ok(self.for_type(model_type)),
        }
    }

    /// The runtime of the list that a model will be built on, as far as that can be told before it is looked for, and whether it was asked for.
    pub fn expected(&self, asked: Option<&str>, model_type: &str) -> Option<(Runtime, bool)> {
        match self.choose(asked, model_type) {
            Ok((Choice::Listed { runtime, asked, .. }, _)) => Some((runtime, asked)),
            _ => None,
        }
    }

    fn asked_for(&self, asked: &str) -> Result<(Choice, Option<String>), RuntimeError> {
        if let Some(runtime) = self.find(asked) {
            return Ok((Choice::Listed { runtime: runtime.clone(), location: None, asked: true }, None));
        }
        match runtime_alias::look_up(asked, &self.own_aliases, &self.aliases).and_then(|meant| self.in_place_of(asked, &meant)) {
            Some(found) => Ok(found),
            None => self.exactly(asked).map(|choice| (choice, None)),
        }
    }

    /// Our runtime in the place of one of another time; what has to be said is said.
    fn in_place_of(&self, asked: &str, meant: &Meant) -> Option<(Choice, Option<String>)> {
        if meant.runtime == "scratch" {
            return Some((Choice::Scratch(format!("`{asked}` served any model and computed nothing")), None));
        }
        let is_meant = |runtime: &&Runtime| runtime.name == meant.runtime || runtime.full_name() == meant.runtime;
        let version = meant.version.as_deref().unwrap_or_default();
        let same = |runtime: &&Runtime| minor(version) == minor(runtime.serves());
        let Some(runtime) = self.runtimes.iter().filter(is_meant).find(same).or_else(|| self.runtimes.iter().find(is_meant)) else {
            // The settings may name any reference.
            let choice = self.own_aliases.contains_key(asked).then(|| self.exactly(&meant.runtime).ok())??;
            return Some((choice, Some(format!("`{asked}` is `{}` here (`runtime_aliases` in the settings)", meant.runtime))));
        };
        let name = runtime.full_name();
        let differs = match version {
            version if !version.is_empty() && !same(&runtime) => {
                format!(": {} is not {version}, so what the model needs may differ", runtime.word())
            }
            _ => String::new(),
        };
        let calls = match (&meant.release, runtime.calling_convention) {
            (Some(release), Some(CallingConvention::Numpy)) => format!(", as release {release} gave functions NumPy arrays"),
            _ => String::new(),
        };
        let said = format!("`{name}` is the runtime in the place of `{asked}`{calls}{differs}");
        Some((Choice::Listed { runtime: runtime.clone(), location: None, asked: true }, Some(said)))
    }

    fn exactly(&self, asked: &str) -> Result<Choice, RuntimeError> {
        // A bare word would otherwise become a repository of Docker Hub, which nobody means by it.
        let unknown = || RuntimeError::Unknown { asked: asked.to_owned(), known: self.names() };
        if !asked.contains(['/', ':']) {
            return Err(unknown());
        }
        let location: Location = asked.parse().map_err(|_| unknown())?;
        let listed = match &location {
            Location::Registry(reference) => self.find(&reference.short_name()),
            Location::Layout { tag: Some(tag), .. } | Location::OciArchive { tag: Some(tag), .. } => self.find(tag),
            _ => None,
        };
        Ok(match listed {
            Some(runtime) => Choice::Listed { runtime: runtime.clone(), location: Some(location), asked: true },
            None => Choice::Other(location),
        })
    }

    fn for_type(&self, model_type: &str) -> (Choice, Option<String>) {
        let (kind, version) = model_type.split_once(':').unwrap_or((model_type, ""));
        let serving: Vec<&Runtime> =
            self.runtimes.iter().filter(|runtime| runtime.model_types.iter().any(|served| served == kind)).collect();
        let matches = |runtime: &&Runtime| runtime.suits(version);
        let Some(&runtime) = serving.iter().find(|runtime| matches(runtime)).or(serving.first()) else {
            return (Choice::Scratch(format!("no runtime is known that serves models of type `{model_type}`")), None);
        };
        let warning = (!version.is_empty() && !matches(&runtime)).then(|| {
            let (name, word) = (runtime.full_name(), runtime.word());
            format!("the model's type is `{model_type}`, and the runtime `{name}` has {word}: what the model needs may differ")
        });
        (Choice::Listed { runtime: runtime.clone(), location: None, asked: false }, warning)
    }
}

impl Runtime {
    /// `name:version`.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }

    /// Its Python, as a version that code is held against.
    pub fn python(&self) -> Option<Version> {
        self.python_version.as_deref().and_then(python_code::python_version)
    }

    /// Whether models of this version are what it was made for. TensorFlow serves all that is older than itself, a model's ONNX version is that of the
    /// program that wrote it and says nothing; packages for Python fit one minor version.
    fn suits(&self, version: &str) -> bool {
        if self.onnxruntime_version.is_some() {
            return true;
        }
        let numbers = |text| minor(text).iter().map(|part| part.parse::<u32>().ok()).collect::<Option<Vec<u32>>>();
        match (&self.tensorflow_version, numbers(version)) {
            (Some(own), Some(model)) => numbers(own).is_some_and(|own| model <= own),
            _ => minor(version) == minor(self.serves()),
        }
    }

    /// The version that a model's type is compared with: of what it serves with, where it says so.
    fn serves(&self) -> &str {
        self.tensorflow_version.as_ref().or(self.python_version.as_ref()).unwrap_or(&self.version)
    }

    /// What it serves with, in words.
    fn word(&self) -> String {
        let framework = match self {
            Runtime { tensorflow_version: Some(_), .. } => "TensorFlow",
            Runtime { python_version: Some(_), .. } => "Python",
            _ => "version",
        };
        format!("{framework} {}", self.serves())
    }
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dialect, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// The first two numbers of a version: what decides whether compiled packages fit.
fn minor(version: &str) -> Vec<&str> {
    version.split(['.', '-']).take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_list_is_valid_and_serves_python() {
        let list = RuntimeList::compiled_in();
        let (choice, warning) = list.choose(None, "python:3.11.2").unwrap();
        assert!(matches!(choice, Choice::Listed { ref runtime, location: None, asked: false } if runtime.name == "serving-runtime-python"));
        assert_eq!(warning, None);
        let (_, warning) = list.choose(None, "python:3.6").unwrap();
        assert!(warning.unwrap().contains("python:3.6"));
        assert!(matches!(list.choose(None, "spark:2.1").unwrap().0, Choice::Scratch(_)));
    }

    #[test]
    fn the_model_types_of_frameworks_have_runtimes_and_older_models_are_no_warning() {
        let list = RuntimeList::compiled_in();
        let chosen = |model_type: &str| match list.choose(None, model_type).unwrap() {
            (Choice::Listed { runtime, .. }, warning) => (runtime.full_name(), warning),
            (other, _) => panic!("{model_type}: {other:?}"),
        };
        for (model_type, name, warned) in [
            ("python:3.13.2", "serving-runtime-python:3.13", false),
            ("python:3.6", "serving-runtime-python:3.11", true),
            ("tensorflow:1.15.5", "serving-runtime-tensorflow:2.21", false),
            ("tensorflow:2.21.0", "serving-runtime-tensorflow:2.21", false),
            ("tensorflow:2.22.0", "serving-runtime-tensorflow:2.21", true),
            ("tensorflow:unknown", "serving-runtime-tensorflow:2.21", true),
            ("onnx:pytorch:2.1", "serving-runtime-onnx:1.32", false),
        ] {
            let (full_name, warning) = chosen(model_type);
            assert_eq!((full_name.as_str(), warning.is_some()), (name, warned), "{model_type}: {warning:?}");
        }
    }

    #[test]
    fn every_compiled_in_runtime_says_what_a_deployment_needs() {
        for runtime in RuntimeList::compiled_in().runtimes {
            let said = runtime.port.is_some() && runtime.http_port.is_some() && runtime.health_check.is_some() && runtime.libc.is_some();
            assert!(said && !runtime.platforms.is_empty() && runtime.python_version.is_some(), "{}", runtime.full_name());
            let calls = runtime.name.starts_with("serving-runtime-python");
            assert_eq!(runtime.calling_convention.is_some(), calls, "{}", runtime.full_name());
        }
    }

    #[test]
    fn a_lock_names_the_digest_where_the_list_does_not() {
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let mut list = RuntimeList::compiled_in();
        list.runtimes[0].digest = Some(one);
        let name = |at: usize| list.runtimes[at].full_name();
        let locks = [(name(0), other), (name(1), other), ("no-such:1".to_owned(), other)].into();
        list.lock(&locks);
        assert_eq!((list.runtimes[0].digest, list.runtimes[1].digest, list.runtimes[2].digest), (Some(one), Some(other), None));
    }

    #[test]
    fn a_listed_runtime_keeps_its_name_whatever_its_host() {
        let list = RuntimeList::compiled_in();
        for asked in ["127.0.0.1:5000/serving-runtime-python:3.11", "oci:/tmp/x:serving-runtime-python:3.11", "serving-runtime-python"] {
            let (choice, _) = list.choose(Some(asked), "unknown").unwrap();
            assert!(matches!(choice, Choice::Listed { ref runtime, asked: true, .. } if runtime.version == "3.11"), "{asked} {choice:?}");
        }
        assert!(matches!(list.choose(Some("127.0.0.1:5000/x:1"), "").unwrap().0, Choice::Other(_)));
        assert!(matches!(list.choose(Some("no-such"), ""), Err(RuntimeError::Unknown { .. })));
        assert!(matches!(list.choose(Some("scratch"), "").unwrap().0, Choice::Scratch(_)));
    }

    #[test]
    fn a_runtime_of_the_ancestor_is_replaced_and_the_version_is_said() {
        let mut list = RuntimeList::compiled_in();
        let choose = |list: &RuntimeList, asked: &str| list.choose(Some(asked), "unknown:unknown").unwrap();
        let (choice, said) = choose(&list, "hydrosphere/serving-runtime-python-3.7:3.0.3");
        assert!(matches!(choice, Choice::Listed { ref runtime, location: None, asked: true } if runtime.version == "3.11"), "{choice:?}");
        let expected = "`serving-runtime-python-numpy:3.11` is the runtime in the place of `hydrosphere/serving-runtime-python-3.7:3.0.3`, as release 3.0.3 gave \
                        functions NumPy arrays: Python 3.11 is not 3.7, so what the model needs may differ";
        assert_eq!(said.as_deref(), Some(expected));
        let (_, said) = choose(&list, "hydrosphere/serving-runtime-python-3.11:3.0.3");
        assert!(!said.unwrap().contains("may differ"));
        let (choice, said) = choose(&list, "hydrosphere/serving-runtime-python-3.13:2.2.0");
        assert!(matches!(choice, Choice::Listed { ref runtime, .. } if runtime.full_name() == "serving-runtime-python:3.13"), "{choice:?}");
        assert_eq!(
            said.unwrap(),
            "`serving-runtime-python:3.13` is the runtime in the place of `hydrosphere/serving-runtime-python-3.13:2.2.0`"
        );
        assert!(matches!(choose(&list, "hydrosphere/serving-runtime-dummy:latest").0, Choice::Scratch(_)));
        // The image itself, where it is named with its registry; what the list has under that name; what the settings say.
        assert!(matches!(choose(&list, "docker.io/hydrosphere/serving-runtime-python-3.7:3.0.3").0, Choice::Other(_)));
        list.own_aliases.insert("hydrosphere/serving-runtime-python-3.7:3.0.3".to_owned(), "127.0.0.1:5000/old:1".to_owned());
        assert!(matches!(choose(&list, "hydrosphere/serving-runtime-python-3.7:3.0.3").0, Choice::Other(_)));
        list.runtimes[0].reference = "hydrosphere/serving-runtime-python-3.8:3.0.3".to_owned();
        assert_eq!(choose(&list, "hydrosphere/serving-runtime-python-3.8:3.0.3").1, None);
    }

    #[test]
    fn a_stranger_cannot_name_files_of_this_machine() {
        let list = RuntimeList::compiled_in();
        for asked in ["scratch", "serving-runtime-python", "host:5000/a/b:1"] {
            assert!(list.is_remote(asked), "{asked}");
        }
        for asked in ["oci:/etc", "oci-archive:/etc/shadow", "docker-archive:/x:m:1"] {
            assert!(!list.is_remote(asked), "{asked}");
        }
    }
}
