//! The image config, edited as JSON.
//!
//! A base's config has members that no typed view knows (`Healthcheck`, `OnBuild`, `Shell`, vendors' own), and they must reach
//! the finished image: so the config is a JSON value from end to end, patched in place and written as canonical bytes.
//! `oci-spec`'s type loses such members and writes maps in random order (dependencies, finding 5).
//!
//! What must stay true: a member that we do not set comes out with the value that it came in with.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::digest::Digest;
use super::json::canonical;
use super::platform::Platform;
use crate::fault::{Failure, Fault};

/// The largest config that is read. Real ones are a few KiB; labels with an SBOM in them reach hundreds.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// An image config (image-spec, "Image Configuration"), of either family.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageConfig {
    root: Map<String, Value>,
}

/// Why bytes are not an image config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No JSON object.
    #[error("image config {digest} is not valid JSON")]
    Malformed {
        /// Its digest.
        digest: Digest,
        /// What serde found.
        #[source]
        source: serde_json::Error,
    },
    /// A member is missing or has another type.
    #[error("image config {digest} has no valid `{member}`")]
    Member {
        /// Its digest.
        digest: Digest,
        /// The member's path.
        member: &'static str,
    },
}

impl Failure for ConfigError {
    fn fault(&self) -> Fault {
        Fault::Remote
    }
}

/// What we set in a config; everything else of the base stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigEdits {
    /// Environment variables to set, in the place of the base's where it has them.
    pub environment: BTreeMap<String, String>,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// The working folder; the base's stays where this is `None`.
    pub working_directory: Option<String>,
    /// The folders and files that we write (absolute): volumes at or above them would hide them and are dropped.
    pub written_paths: Vec<String>,
}

impl ImageConfig {
    /// Reads a config and checks the members that we rely on.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, ConfigError> {
        let digest = Digest::of(bytes);
        let root: Map<String, Value> = serde_json::from_slice(bytes).map_err(|source| ConfigError::Malformed { digest, source })?;
        let config = ImageConfig { root };
        let refuse = |member| ConfigError::Member { digest, member };
        for member in ["os", "architecture"] {
            config.root.get(member).and_then(Value::as_str).ok_or(refuse(member))?;
        }
        let layers = config.root.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(Value::as_array);
        let layers = layers.ok_or(refuse("rootfs.diff_ids"))?;
        if !layers.iter().all(|layer| layer.as_str().is_some_and(|text| text.parse::<Digest>().is_ok())) {
            return Err(refuse("rootfs.diff_ids"));
        }
        for member in ["config", "history"] {
            let valid = match config.root.get(member) {
                None | Some(Value::Null) => true,
                Some(value) => {
                    if member == "config" {
                        value.is_object()
                    } else {
                        value.is_array()
                    }
                }
            };
            if !valid {
                return Err(refuse(member));
            }
        }
        Ok(config)
    }

    /// The config of an image that has no base.
    pub fn scratch(platform: &Platform) -> ImageConfig {
        let mut root = Map::new();
        root.insert("os".to_owned(), json!(platform.os));
        root.insert("architecture".to_owned(), json!(platform.architecture));
        if let Some(variant) = &platform.variant {
            root.insert("variant".to_owned(), json!(variant));
        }
        root.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": []}));
        ImageConfig { root }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical(&self.root)
    }

    /// What the image runs on.
    pub fn platform(&self) -> Platform {
        let text = |member| self.root.get(member).and_then(Value::as_str);
        let mut platform = Platform::new(text("os").unwrap_or_default(), text("architecture").unwrap_or_default());
        platform.variant = text("variant").map(str::to_owned);
        if let Some(version) = self.root.get("os.version") {
            platform.rest.insert("os.version".to_owned(), version.clone());
        }
        platform
    }

    /// The digests of the uncompressed layers, base first.
    pub fn diff_ids(&self) -> Vec<Digest> {
        let ids = self.root.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(|id| id.as_str()?.parse().ok()).collect()
    }

    /// The labels, sorted.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.inner("Labels").and_then(Value::as_object);
        labels.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    }

    /// The value of an environment variable.
    pub fn environment(&self, name: &str) -> Option<&str> {
        let lines = self.inner("Env").and_then(Value::as_array)?;
        lines.iter().rev().find_map(|line| line.as_str()?.strip_prefix(name)?.strip_prefix('='))
    }

    /// The steps that made the image.
    pub fn history(&self) -> Option<&Vec<Value>> {
        self.root.get("history")?.as_array()
    }

    /// A member of the inner `config` object.
    pub fn inner(&self, member: &str) -> Option<&Value> {
        self.root.get("config")?.get(member)
    }

    /// Sets what `edits` says and returns the volumes that it had to drop.
    pub fn edit(&mut self, edits: &ConfigEdits) -> Vec<String> {
        let inner = object(self.root.entry("config").or_insert(Value::Null));
        if !edits.labels.is_empty() {
            let labels = object(inner.entry("Labels").or_insert(Value::Null));
            labels.extend(edits.labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        }
        if let Some(folder) = &edits.working_directory {
            inner.insert("WorkingDir".to_owned(), json!(folder));
        }
        if !edits.environment.is_empty() {
            let lines = inner.entry("Env").or_insert(Value::Null);
            set_environment(lines, &edits.environment);
        }
        drop_volumes(inner, &edits.written_paths)
    }

    /// Adds layers on top: their diff IDs, and a history entry for each, at the instant `created` (RFC 3339).
    ///
    /// Where the base's history does not account for each of its layers (some builders write none), it is filled up, since
    /// readers match the entries without `empty_layer` to the layers one to one.
    pub fn append_layers(&mut self, layers: &[(Digest, String)], created: &str) {
        let base_layers = self.diff_ids().len();
        self.root.insert("created".to_owned(), json!(created));
        let rootfs = object(self.root.entry("rootfs").or_insert(Value::Null));
        if let Some(ids) = rootfs.entry("diff_ids").or_insert_with(|| json!([])).as_array_mut() {
            ids.extend(layers.iter().map(|(diff_id, _)| json!(diff_id)));
        }
        let history = self.root.entry("history").or_insert_with(|| json!([]));
        if history.is_null() {
            *history = json!([]);
        }
        let Some(history) = history.as_array_mut() else { return };
        let accounted = history.iter().filter(|entry| entry.get("empty_layer") != Some(&Value::Bool(true))).count();
        for _ in accounted..base_layers {
            history.push(json!({"created": created, "comment": "a layer of the base without history"}));
        }
        for (_, comment) in layers {
            history.push(json!({"created": created, "created_by": "hs build", "comment": comment}));
        }
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object above"),
    }
}

fn set_environment(lines: &mut Value, variables: &BTreeMap<String, String>) {
    let mut kept: Vec<Value> = lines.as_array().cloned().unwrap_or_default();
    for (name, value) in variables {
        let line = json!(format!("{name}={value}"));
        let is_this = |old: &Value| old.as_str().and_then(|old| old.split_once('=')).is_some_and(|(old, _)| old == name);
        match kept.iter().position(is_this) {
            Some(at) => kept[at] = line,
            None => kept.push(line),
        }
    }
    *lines = Value::Array(kept);
}

fn drop_volumes(inner: &mut Map<String, Value>, written_paths: &[String]) -> Vec<String> {
    let Some(volumes) = inner.get_mut("Volumes").and_then(Value::as_object_mut) else { return Vec::new() };
    let hides = |volume: &str| {
        let volume = volume.trim_end_matches('/');
        written_paths.iter().any(|path| path.strip_prefix(volume).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let mut dropped: Vec<String> = volumes.keys().filter(|volume| hides(volume)).cloned().collect();
    dropped.sort();
    volumes.retain(|volume, _| !dropped.contains(volume));
    if volumes.is_empty() {
        inner.remove("Volumes");
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker_config() -> Value {
        json!({
            "architecture": "amd64", "os": "linux", "vendor.member": {"kept": [1, 2]},
            "config": {"Env": ["PATH=/bin", "MODEL_DIR=/old"], "Healthcheck": {"Test": ["CMD", "true"]}, "OnBuild": ["RUN x"],
                       "Shell": ["/bin/sh"], "Volumes": {"/model": {}, "/data": {}}, "Labels": {"z": "1", "a": "2"}},
            "history": [{"created_by": "one"}, {"created_by": "two", "empty_layer": true}],
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"1"), Digest::of(b"2")]},
        })
    }

    #[test]
    fn what_is_not_ours_stays() {
        let mut config = ImageConfig::parse(&serde_json::to_vec(&docker_config()).unwrap()).unwrap();
        let edits = ConfigEdits {
            environment: [("MODEL_DIR".to_owned(), "/model".to_owned())].into(),
            labels: [("MODEL_NAME".to_owned(), "m".to_owned())].into(),
            working_directory: Some("/model/files".to_owned()),
            written_paths: vec!["/model/files".to_owned()],
        };
        assert_eq!(config.edit(&edits), ["/model"]);
        config.append_layers(&[(Digest::of(b"3"), "contract".to_owned())], "1970-01-01T00:00:00Z");
        let mut expected = docker_config();
        expected["created"] = json!("1970-01-01T00:00:00Z");
        expected["config"]["Env"] = json!(["PATH=/bin", "MODEL_DIR=/model"]);
        expected["config"]["Labels"]["MODEL_NAME"] = json!("m");
        expected["config"]["WorkingDir"] = json!("/model/files");
        expected["config"]["Volumes"] = json!({"/data": {}});
        expected["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(Digest::of(b"3")));
        let history = expected["history"].as_array_mut().unwrap();
        history.push(json!({"created": "1970-01-01T00:00:00Z", "comment": "a layer of the base without history"}));
        history.push(json!({"created": "1970-01-01T00:00:00Z", "created_by": "hs build", "comment": "contract"}));
        assert_eq!(config.to_bytes(), canonical(&expected));
    }

    #[test]
    fn a_config_that_lies_about_its_shape_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"os":"linux","architecture":"amd64"}"#,
            r#"{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["x"]}}"#,
            r#"{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":[]},"config":[]}"#,
        ] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
