//! Bases that were imported, by name and digest: `runtimes.json` in the data folder.
//!
//! `hs base import` writes it and nothing else does. What stands here is what the owner of the machine has put there: a tag of the same name in the store can be
//! anybody's who may push (`/v2/`). One whose name no runtime list has is a runtime by that: listed, and found by its name. What a build has to know of one is what
//! the image says of itself: it is `like` a runtime of the list, of which it has all but the name, or it has a version of Python and a dialect of its own. Whoever
//! knows more writes an entry into the config file, which comes first.
//!
//! What must stay true: a file that cannot be read is an error with its name, never a base that is left out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::atomic;
use crate::fault::{Failure, Fault};
use crate::model::runtime::{Runtime, RuntimeError, RuntimeList};
use crate::oci::config::ImageConfig;
use crate::oci::digest::Digest;

/// The file's name in the data folder.
pub const FILE: &str = "runtimes.json";

/// A base that was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The name without a version.
    pub name: String,
    /// The version.
    pub version: String,
    /// The digest of its manifest or index. None where an earlier release wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The runtime that its labels say it is, `name:version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// The version of its Python, by its label or by the variable that the official images have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python_version: Option<String>,
    /// How contracts are written for it, by its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_dialect: Option<String>,
    /// What it runs on.
    #[serde(default)]
    pub platforms: Vec<String>,
}

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaseListError {
    /// The file cannot be read.
    #[error("reading `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("writing `{}`", .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what we write.
    #[error("`{}` is no list of imported bases", .path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What it says is no runtime.
    #[error("a base in `{}` is no runtime", .path.display())]
    Runtime {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RuntimeError,
    },
}

impl Failure for BaseListError {
    fn fault(&self) -> Fault {
        match self {
            BaseListError::Write { .. } => Fault::Ours,
            _ => Fault::Usage,
        }
    }

    fn remedy(&self) -> Option<String> {
        matches!(self, BaseListError::Json { .. } | BaseListError::Runtime { .. })
            .then(|| "remove the file, and import the bases again".to_owned())
    }
}

impl Imported {
    /// What an image says of itself.
    pub fn of(name: &str, version: &str, config: &ImageConfig) -> Imported {
        let labels = config.labels();
        let label = |name: &str| labels.get(name).filter(|value| !value.is_empty()).cloned();
        let like =
            label("io.lamina.runtime").zip(label("org.opencontainers.image.version")).map(|(name, version)| format!("{name}:{version}"));
        Imported {
            name: name.to_owned(),
            version: version.to_owned(),
            digest: None,
            like,
            python_version: label("io.lamina.python-version").or_else(|| config.environment("PYTHON_VERSION").map(str::to_owned)),
            contract_dialect: label("io.lamina.contract-dialect"),
            platforms: vec![config.platform().to_string()],
        }
    }

    fn full_name(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }

    /// It as a runtime, of no model type: it is asked for by its name.
    fn runtime(&self, list: &RuntimeList) -> Result<Runtime, RuntimeError> {
        let like = self.like.as_ref().and_then(|like| list.runtimes.iter().find(|runtime| runtime.full_name() == *like));
        let (name, version, reference) = (self.name.clone(), self.version.clone(), self.full_name());
        if let Some(like) = like {
            return Ok(Runtime { name, version, reference, digest: None, model_types: Vec::new(), ..like.clone() });
        }
        let entry = json!({"name": name, "version": version, "reference": reference, "model_types": [], "platforms": self.platforms,
                           "contract_dialect": self.contract_dialect.as_deref().unwrap_or("v1"), "python_version": self.python_version});
        let mut read = RuntimeList::read(FILE, json!({"runtimes": [entry]}).to_string().as_bytes())?;
        read.runtimes.pop().ok_or(RuntimeError::Unknown { asked: self.full_name(), known: String::new() })
    }
}

fn read(path: &Path) -> Result<Vec<Imported>, BaseListError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| BaseListError::Json { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(BaseListError::Read { path: path.to_owned(), source }),
    }
}

/// The digest of the base that was imported under a name.
pub fn digest_of(data_folder: &Path, full_name: &str) -> Result<Option<Digest>, BaseListError> {
    Ok(read(&data_folder.join(FILE))?.into_iter().find(|base| base.full_name() == full_name).and_then(|base| base.digest))
}

/// The imported bases that `list` does not have.
pub fn runtimes(data_folder: &Path, list: &RuntimeList) -> Result<Vec<Runtime>, BaseListError> {
    let path = data_folder.join(FILE);
    let all = read(&path)?;
    let others = all.iter().filter(|base| !list.runtimes.iter().any(|runtime| runtime.full_name() == base.full_name()));
    others.map(|base| base.runtime(list).map_err(|source| BaseListError::Runtime { path: path.clone(), source })).collect()
}

/// Adds a base, in the place of one of the same name.
pub fn add(data_folder: &Path, base: Imported) -> Result<(), BaseListError> {
    let path = data_folder.join(FILE);
    let mut all = read(&path)?;
    all.retain(|other| other.full_name() != base.full_name());
    all.push(base);
    all.sort_by_key(Imported::full_name);
    let mut text = serde_json::to_vec_pretty(&all).map_err(|source| BaseListError::Json { path: path.clone(), source })?;
    text.push(b'\n');
    atomic::write(&path, &text).map_err(|source| BaseListError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(inner: &serde_json::Value) -> ImageConfig {
        let config = json!({"architecture": "amd64", "os": "linux", "config": inner, "rootfs": {"type": "layers", "diff_ids": []}});
        ImageConfig::parse(config.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_imported_base_is_a_runtime_as_far_as_its_image_says() {
        let folder = tempfile::tempdir().unwrap();
        let list = RuntimeList::compiled_in();
        assert_eq!(runtimes(folder.path(), &list).unwrap(), []);
        let official = config(&json!({"Env": ["PYTHON_VERSION=3.12.1"]}));
        let ours = json!({"io.lamina.runtime": "serving-runtime-python", "org.opencontainers.image.version": "3.13"});
        let ours = config(&json!({"Labels": ours}));
        for (name, config) in [("b/python", &official), ("a-python", &ours), ("b/python", &official), ("serving-runtime-onnx", &official)] {
            add(folder.path(), Imported::of(name, if name == "serving-runtime-onnx" { "1.32" } else { "1" }, config)).unwrap();
        }
        let found = runtimes(folder.path(), &list).unwrap();
        let names: Vec<String> = found.iter().map(Runtime::full_name).collect();
        assert_eq!(names, ["a-python:1", "b/python:1"], "what the list has is the list's");
        let digest = Digest::of(b"base");
        add(folder.path(), Imported { digest: Some(digest), ..Imported::of("b/python", "1", &official) }).unwrap();
        let digests = ["b/python:1", "a-python:1", "c:1"].map(|name| digest_of(folder.path(), name).unwrap());
        assert_eq!(digests, [Some(digest), None, None]);
        assert_eq!((found[0].python_version.as_deref(), found[0].libc.as_deref()), (Some("3.13"), Some("glibc 2.41")));
        assert_eq!((found[1].python_version.as_deref(), found[1].platforms.as_slice()), (Some("3.12.1"), &["linux/amd64".to_owned()][..]));
        assert!(found.iter().all(|runtime| runtime.model_types.is_empty() && runtime.digest.is_none()));
    }

    #[test]
    fn a_damaged_list_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["{", r#"[{"name": "a", "version": "1", "contract_dialect": "v9"}]"#] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert!(runtimes(folder.path(), &RuntimeList::compiled_in()).is_err(), "{text}");
        }
    }
}
