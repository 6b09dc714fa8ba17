//! What the words mean here: flags, `HS_*` variables, the config file and defaults become settings.
//!
//! Flags beat variables beat the file beat defaults (clap has put the variables in the flags' place already). This is the only file that reads the
//! environment and the user's folders; everything below takes what it needs as a value.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::args::Global;
use super::package_settings::PackageSettings;
use crate::build::base::Places;
use crate::build::collect::CollectSettings;
use crate::build::request::BuildSettings;
use crate::disk::base_list;
use crate::disk::base_list::BaseListError;
use crate::disk::base_lock;
use crate::disk::base_lock::BaseLockError;
use crate::disk::digest_cache::DigestCache;
use crate::disk::fit_cache::FitCache;
use crate::disk::seal_cache::SealCache;
use crate::disk::store::{Store, StoreError};
use crate::disk::type_cache::TypeCache;
use crate::fault::{Failure, Fault};
use crate::model::fit::{self, AllowanceError, Policy};
use crate::model::packing::{Choice, ChoiceError};
use crate::model::runtime::{Runtime, RuntimeList};
use crate::model::tree::Limits;
use crate::model::yaml::{self, YamlError};
use crate::registry::client::Registries;
use crate::registry::error::RegistryError;
use crate::registry::settings::{HostSettings, Proxies, RegistrySettings, Secret};

/// Where Debian, and what is made of it, keeps the certificates that it trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Everything that a command needs to know about this machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data folder.
    pub data_folder: PathBuf,
    /// What earlier builds remember of their layers; `None` where there is no home.
    pub layer_cache: Option<SealCache>,
    /// What earlier uploads remember of files; `None` where there is no home.
    pub digest_cache: Option<DigestCache>,
    /// What the files of earlier models told of their type; `None` where there is no home.
    pub type_cache: Option<TypeCache>,
    /// What earlier commands remember of the fit of files; `None` where there is no home.
    pub fit_cache: Option<FitCache>,
    /// Which findings of a model's fit are let through.
    pub fit: Policy,
    /// Registries, credentials, certificates.
    pub registries: RegistrySettings,
    /// `host/prefix` of mirrors that hold the listed runtimes.
    pub base_mirrors: Vec<String>,
    /// The runtimes that are known: the config file's first, then the compiled-in ones, then bases that were imported under other names.
    pub runtimes: RuntimeList,
    /// What a model may measure.
    pub limits: Limits,
    /// How layers are compressed.
    pub compression: Choice,
    /// When the service removes what nothing needs.
    pub collect: CollectSettings,
    /// What installs Python's packages.
    pub packages: PackageSettings,
    /// The instant of everything in an image, seconds since the epoch.
    pub epoch_s: u64,
    /// Where the service is, as the environment says.
    pub service: ServiceVariables,
}

/// `HS_SERVER`, `HS_HOST` and `HS_PORT`. Any flag for the place of the service beats all three, which clap's own variables cannot say.
#[derive(Clone, Debug, Default)]
pub struct ServiceVariables {
    /// The URL.
    pub server: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The port.
    pub port: Option<String>,
}

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The config file cannot be read.
    #[error("reading the config file `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The config file is not valid.
    #[error("reading the settings")]
    Config(#[source] YamlError),
    /// There is no home folder, and nothing that replaces it.
    #[error("there is no place for data: neither `--data-dir` nor `XDG_DATA_HOME` nor `HOME` is set")]
    NoHome,
    /// `fit.allow` names no check.
    #[error("reading `fit` in the settings")]
    Fit(#[source] AllowanceError),
    /// `compression` or `HS_COMPRESSION` is no word for it.
    #[error("reading `compression` in the settings")]
    Compression(#[source] ChoiceError),
    /// `SOURCE_DATE_EPOCH` is no number.
    #[error("SOURCE_DATE_EPOCH is `{0}`: expected a number of seconds since 1970")]
    Epoch(String),
    /// The runtimes' locks cannot be read.
    #[error("reading the locks of the runtimes")]
    Locks(#[source] BaseLockError),
    /// The list of imported bases cannot be read.
    #[error("reading the list of imported bases")]
    Bases(#[source] BaseListError),
    /// The store cannot be opened.
    #[error("opening the data folder")]
    Store(#[source] StoreError),
    /// The registries' settings are not usable.
    #[error("reading the registries' settings")]
    Registries(#[source] RegistryError),
}

impl Failure for SettingsError {
    fn fault(&self) -> Fault {
        match self {
            SettingsError::Store(error) => error.fault(),
            SettingsError::Locks(error) => error.fault(),
            SettingsError::Bases(error) => error.fault(),
            _ => Fault::Usage,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            SettingsError::Locks(error) => error.remedy(),
            SettingsError::Bases(error) => error.remedy(),
            SettingsError::Compression(error) => error.remedy(),
            _ => None,
        }
    }
}

/// The config file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    data_dir: Option<PathBuf>,
    registries: BTreeMap<String, HostSettings>,
    ca_files: Vec<PathBuf>,
    base_mirrors: Vec<String>,
    runtimes: Vec<Runtime>,
    runtime_aliases: BTreeMap<String, String>,
    fit: ConfigFit,
    limits: ConfigLimits,
    garbage: ConfigGarbage,
    wheels_dirs: Vec<PathBuf>,
    compression: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFit {
    strict: bool,
    allow: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigLimits {
    unpacked_bytes_max: Option<u64>,
    entries_max: Option<u64>,
    ratio_max: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigGarbage {
    interval_s: Option<u64>,
    grace_s: Option<u64>,
    session_rest_s: Option<u64>,
}

impl ConfigGarbage {
    fn settings(&self) -> CollectSettings {
        let defaults = CollectSettings::default();
        let interval = self.interval_s.map(Duration::from_secs).or(defaults.interval);
        CollectSettings {
            interval: interval.filter(|interval| !interval.is_zero()),
            grace: self.grace_s.map_or(defaults.grace, Duration::from_secs),
            session_rest: self.session_rest_s.map_or(defaults.session_rest, Duration::from_secs),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn text_variable(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

/// Whether the user asked for no colour, by the convention of NO_COLOR.
pub fn no_color() -> bool {
    variable("NO_COLOR").is_some()
}

impl Settings {
    /// What is the same for every image that is built with these settings. What installs requirements is the command's to say.
    pub fn of_builds(&self) -> BuildSettings {
        BuildSettings {
            compression: self.compression,
            epoch_s: self.epoch_s,
            cache: self.layer_cache.clone(),
            ..BuildSettings::new(self.runtimes.clone())
        }
    }

    /// Reads everything that the command line leaves open.
    pub fn resolve(global: &Global) -> Result<Settings, SettingsError> {
        let file = config_file(global)?;
        let data_folder = match global.data_dir.clone().or(file.data_dir) {
            Some(folder) => folder,
            None => home_folder("XDG_DATA_HOME", ".local/share").ok_or(SettingsError::NoHome)?.join("lamina"),
        };
        let defaults = Limits::default();
        let compiled_in = RuntimeList::compiled_in();
        let mut runtimes = RuntimeList { runtimes: file.runtimes, own_aliases: file.runtime_aliases, aliases: compiled_in.aliases };
        runtimes.runtimes.extend(compiled_in.runtimes);
        runtimes.runtimes.extend(base_list::runtimes(&data_folder, &runtimes).map_err(SettingsError::Bases)?);
        runtimes.lock(&base_lock::read(&data_folder).map_err(SettingsError::Locks)?);
        let allow = fit::allowances(file.fit.allow.iter().map(String::as_str)).map_err(SettingsError::Fit)?;
        let epoch_s = match text_variable("SOURCE_DATE_EPOCH") {
            Some(text) => text.parse().map_err(|_| SettingsError::Epoch(text))?,
            None => 0,
        };
        let compression = text_variable("HS_COMPRESSION").or(file.compression);
        let compression = compression.as_deref().map(str::parse).transpose().map_err(SettingsError::Compression)?.unwrap_or_default();
        let cache = |name: &str| Some(home_folder("XDG_CACHE_HOME", ".cache")?.join("lamina").join(name));
        let packages = home_folder("XDG_CACHE_HOME", ".cache").map_or_else(|| data_folder.clone(), |folder| folder.join("lamina"));
        let digests = cache("digests").map(DigestCache::new);
        Ok(Settings {
            data_folder,
            packages: PackageSettings::find(&variable, packages, digests.clone(), file.wheels_dirs),
            layer_cache: cache("layers").map(SealCache::new),
            digest_cache: digests,
            type_cache: cache("types").map(TypeCache::new),
            fit_cache: cache("fit").map(FitCache::new),
            fit: Policy { strict: file.fit.strict, allow },
            registries: RegistrySettings { memory_folder: cache("registries"), ..registry_settings(file.registries, file.ca_files) },
            base_mirrors: file.base_mirrors,
            runtimes,
            limits: Limits {
                unpacked_bytes_max: file.limits.unpacked_bytes_max.unwrap_or(defaults.unpacked_bytes_max),
                entries_max: file.limits.entries_max.unwrap_or(defaults.entries_max),
                ratio_max: file.limits.ratio_max.unwrap_or(defaults.ratio_max),
            },
            compression,
            collect: file.garbage.settings(),
            epoch_s,
            service: ServiceVariables {
                server: text_variable("HS_SERVER"),
                host: text_variable("HS_HOST"),
                port: text_variable("HS_PORT"),
            },
        })
    }

    /// The data folder's store, made where there is none.
    pub fn store(&self) -> Result<Arc<Store>, SettingsError> {
        Store::open(&self.data_folder).map(Arc::new).map_err(SettingsError::Store)
    }

    /// Where bases are looked for. A data folder that does not exist is not made for that.
    pub fn places(&self) -> Result<Places, SettingsError> {
        let registries = Registries::new(self.registries.clone()).map_err(SettingsError::Registries)?;
        let store = self.data_folder.join("blobs").is_dir().then(|| self.store()).transpose()?;
        Ok(Places { registries, store, mirrors: self.base_mirrors.clone() })
    }
}

fn config_file(global: &Global) -> Result<ConfigFile, SettingsError> {
    let named = global.config.clone();
    let Some(path) = named.clone().or_else(|| Some(home_folder("XDG_CONFIG_HOME", ".config")?.join("lamina/config.yaml"))) else {
        return Ok(ConfigFile::default());
    };
    match fs::read(&path) {
        Ok(bytes) => yaml::read(&path.to_string_lossy(), &bytes).map_err(SettingsError::Config),
        // The file in its usual place need not be there; one that was named must.
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(ConfigFile::default()),
        Err(source) => Err(SettingsError::Read { path, source }),
    }
}

/// The certificates that this machine trusts: a company's own authority is often only there.
fn system_authorities() -> Option<PathBuf> {
    let usual = || Some(PathBuf::from(SYSTEM_AUTHORITIES)).filter(|path| path.is_file());
    variable("SSL_CERT_FILE").map(PathBuf::from).or_else(usual)
}

fn home_folder(variable_name: &str, below_home: &str) -> Option<PathBuf> {
    variable(variable_name).map(PathBuf::from).or_else(|| Some(Path::new(&variable("HOME")?).join(below_home)))
}

/// Credentials are read from the places where users keep them: docker's and podman's files, and two variables.
fn registry_settings(mut hosts: BTreeMap<String, HostSettings>, ca_files: Vec<PathBuf>) -> RegistrySettings {
    if let (Some(username), Some(password)) = (text_variable("HS_REGISTRY_USERNAME"), text_variable("HS_REGISTRY_PASSWORD")) {
        // Without a host to name, they are for the registry that the environment names.
        let host = text_variable("HS_REGISTRY_HOST").or_else(|| Some(text_variable("HS_REGISTRY")?.split('/').next()?.to_owned()));
        if let Some(host) = host {
            let settings = hosts.entry(host).or_default();
            settings.username = Some(username);
            settings.password = Some(Secret::new(password));
        }
    }
    let home = variable("HOME").map(PathBuf::from);
    let docker = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".docker")));
    let candidates = [
        variable("REGISTRY_AUTH_FILE").map(PathBuf::from),
        variable("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("containers/auth.json")),
        home.as_ref().map(|home| home.join(".config/containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ];
    RegistrySettings {
        hosts,
        credential_files: candidates.into_iter().flatten().collect(),
        helper_search_path: variable("PATH"),
        proxies: Proxies {
            http: text_variable("http_proxy").or_else(|| text_variable("HTTP_PROXY")),
            https: text_variable("https_proxy").or_else(|| text_variable("HTTPS_PROXY")),
            except: text_variable("no_proxy").or_else(|| text_variable("NO_PROXY")),
        },
        ca_files: ca_files.into_iter().chain(system_authorities()).collect(),
        usual_ca_file: system_authorities(),
        ..RegistrySettings::default()
    }
}
