//! What this machine has for installing Python's packages: resolvers, indexes, folders of wheels.
//!
//! The user's own settings of pip, uv and netrc, found where these programs find them. Variables come from `settings.rs`, which reads the environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use crate::build::index_settings::IndexSettings;
use crate::build::requirements::Installer;
use crate::build::resolver::{Program, Resolvers};
use crate::build::wheel_fetch::{FetchError, Fetcher};
use crate::disk::bytecode_cache::BytecodeCache;
use crate::disk::digest_cache::DigestCache;
use crate::disk::wheel_cache::WheelCache;
use crate::disk::wheel_folder::{self, WheelFolderError};
use crate::registry::settings::RegistrySettings;

/// The variables of pip and uv that say where packages come from.
const VARIABLES: [&str; 12] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "PIP_CERT",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "SSL_CERT_FILE",
];
/// Those that name one file or folder.
const PATHS: [&str; 12] = [
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_CACHE_DIR",
    "UV_CONFIG_FILE",
    "UV_CACHE_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_CLIENT_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NETRC",
];
/// Those that name several, or addresses, with blanks between.
const PATH_LISTS: [&str; 6] = ["PIP_FIND_LINKS", "PIP_CONSTRAINT", "UV_FIND_LINKS", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT"];
/// What switches a resolver off, in the place of its path.
const OFF: &str = "off";

/// What this machine has.
#[derive(Clone, Debug)]
pub struct PackageSettings {
    resolvers: Resolvers,
    cache_folder: PathBuf,
    digests: Option<DigestCache>,
}

impl PackageSettings {
    /// Looks at variables and files. `cache_folder` is where wheels and their bytecode are kept, `wheels` what the config file names.
    pub fn find(
        variable: &dyn Fn(&str) -> Option<OsString>,
        cache_folder: PathBuf,
        digests: Option<DigestCache>,
        wheels: Vec<PathBuf>,
    ) -> PackageSettings {
        let path = variable("PATH");
        let program = |name: &str| find_program(path.as_deref(), name);
        let found = |words: Vec<OsString>| Program { words, variable: None };
        let uv = match variable("HS_UV") {
            Some(off) if off == OFF => None,
            Some(named) => Some(named_program("HS_UV", named)),
            None => program("uv").map(|uv| found(vec![uv.into_os_string()])),
        };
        let pip = match variable("HS_PIP") {
            Some(off) if off == OFF => None,
            Some(named) => Some(named_program("HS_PIP", named)),
            None => program("pip3").or_else(|| program("pip")).map(|pip| found(vec![pip.into_os_string()])).or_else(|| {
                let python = program("python3")?.into_os_string();
                Some(found(vec![python, "-m".into(), "pip".into()]))
            }),
        };
        PackageSettings { resolvers: Resolvers { uv, pip, index: index(variable), wheels }, cache_folder, digests }
    }

    /// Keeps wheels and bytecode elsewhere: a service has no home.
    pub fn with_caches(self, folder: &Path) -> PackageSettings {
        PackageSettings { cache_folder: folder.to_owned(), ..self }
    }

    /// Whether the folders of wheels are folders: those that the settings name, and more.
    pub fn check_wheels(&self, wheels: &[PathBuf]) -> Result<(), WheelFolderError> {
        wheel_folder::check(wheels.iter().chain(&self.resolvers.wheels))
    }

    /// What installs, with more folders of wheels. `trusts_addresses`: models are the user's own. `compiles`: packages get their bytecode.
    pub fn installer(
        &self,
        wheels: &[PathBuf],
        registries: &RegistrySettings,
        trusts_addresses: bool,
        compiles: bool,
    ) -> Result<Installer, FetchError> {
        let mut resolvers = self.resolvers.clone();
        // A resolver runs in another folder.
        let absolute = |folder: &PathBuf| fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
        resolvers.wheels = wheels.iter().chain(&self.resolvers.wheels).map(absolute).collect();
        let fetcher = Fetcher::new(registries, resolvers.index.clone())?;
        let cache = WheelCache { folder: self.cache_folder.join("wheels"), given: resolvers.wheels.clone(), digests: self.digests.clone() };
        let bytecode = compiles.then(|| BytecodeCache::below(&self.cache_folder));
        Ok(Installer { resolvers, cache, fetcher, trusts_addresses, bytecode })
    }
}

/// What a variable names. A resolver runs in another folder, so that a path is one from here.
fn named_program(variable: &'static str, named: OsString) -> Program {
    let is_path = named.as_encoded_bytes().contains(&b'/');
    let absolute = if is_path { std::path::absolute(&named).map_or(named, PathBuf::into_os_string) } else { named };
    Program { words: vec![absolute], variable: Some(variable) }
}

fn find_program(path: Option<&OsStr>, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn index(variable: &dyn Fn(&str) -> Option<OsString>) -> IndexSettings {
    let text = |name: &str| variable(name)?.into_string().ok();
    let home = variable("HOME").map(PathBuf::from);
    let of_user = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".config")));
    let below = |folder: &Option<PathBuf>, name: &str| folder.as_ref().map(|folder| folder.join(name));
    // pip's order: the machine's, the old and the new of the user's, the virtual environment's, and the one that is named, which may be `/dev/null`.
    let named = variable("PIP_CONFIG_FILE").map(PathBuf::from);
    let files = [
        Some(PathBuf::from("/etc/xdg/pip/pip.conf")),
        Some(PathBuf::from("/etc/pip.conf")),
        below(&home, ".pip/pip.conf"),
        below(&of_user, "pip/pip.conf"),
        variable("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("pip.conf")),
        named.clone(),
    ];
    let all_off = named.is_some_and(|named| named == Path::new("/dev/null"));
    let pip_files = files.into_iter().flatten().filter(|_| !all_off).filter_map(|file| fs::read_to_string(file).ok()).collect();
    let uv_files = [variable("UV_CONFIG_FILE").map(PathBuf::from), below(&of_user, "uv/uv.toml"), Some(PathBuf::from("/etc/uv/uv.toml"))];
    let uv_has_file = uv_files
        .into_iter()
        .flatten()
        .filter_map(|file| fs::read_to_string(file).ok())
        .any(|text| text.contains("index") || text.contains("find-links"));
    let netrc = variable("NETRC").map(PathBuf::from).or_else(|| below(&home, ".netrc"));
    let paths = paths(variable);
    let absolute = |name: &str| paths.iter().find(|(path, _)| path == name).and_then(|(_, value)| value.clone().into_string().ok());
    let variables = VARIABLES.into_iter().filter_map(|name| Some((name.to_owned(), absolute(name).or_else(|| text(name))?)));
    let variables: BTreeMap<String, String> = variables.collect();
    IndexSettings { variables, pip_files, uv_has_file, netrc: netrc.and_then(|file| fs::read_to_string(file).ok()), paths }
}

/// The variables whose paths are said from where the user is, said from the root.
fn paths(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<(String, OsString)> {
    let absolute = |path: &OsStr| std::path::absolute(path).map_or_else(|_| path.to_owned(), PathBuf::into_os_string);
    let of_word = |word: &str| {
        let is_local = !word.contains("://") && !word.starts_with(['/', '~']);
        if is_local { absolute(OsStr::new(word)).to_string_lossy().into_owned() } else { word.to_owned() }
    };
    let one = PATHS.into_iter().filter_map(|name| Some((name, absolute(&variable(name)?))));
    let several = PATH_LISTS.into_iter().filter_map(|name| {
        let words = variable(name)?.into_string().ok()?;
        Some((name, words.split_whitespace().map(of_word).collect::<Vec<_>>().join(" ").into()))
    });
    let all = one.chain(several).filter(|(name, path)| variable(name).as_ref() != Some(path));
    all.map(|(name, path)| (name.to_owned(), path)).collect()
}
