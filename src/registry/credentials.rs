//! Credentials: who we are to a registry, read from where users keep that.
//!
//! A user name and password of the settings come first; then the credential files in their order: docker's
//! `config.json` and podman's `auth.json` have one form. In a file a helper of its own for the host (`credHelpers`)
//! comes first, then the entry in `auths`, then the helper for all (`credsStore`). Podman's keys may name a repository
//! or a part of its path; the longest wins. `docker_credential` reads the entries. It does not call the helpers: it
//! waits for them without an end, and ours are stopped after [`HELPER_TIMEOUT`].
//!
//! Files are read again at each look-up, since a login in another window changes them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::settings::{HostSettings, RegistrySettings, Secret};

/// How long a helper may take; some ask a cloud.
const HELPER_TIMEOUT: Duration = Duration::from_mins(1);

/// The name under which docker keeps its own hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nobody in particular.
    Anonymous,
    /// A user with a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token that gets other tokens (OAuth 2 refresh token), as `az acr login` leaves it.
    Identity(Secret),
}

/// Where a credential was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is [`Credential::Anonymous`].
    Nowhere,
    /// In the settings, or in the variables that stand for them.
    Settings,
    /// In a file.
    File(PathBuf),
    /// A program gave it.
    Helper {
        /// The program.
        helper: String,
        /// The file that names it.
        path: PathBuf,
    },
}

/// Where credentials of one registry are looked for.
#[derive(Clone, Debug)]
pub struct CredentialSources {
    registry: String,
    explicit: Option<Credential>,
    files: Vec<PathBuf>,
    helper_search_path: Option<OsString>,
}

/// Why credentials could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file that is there and cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that is not JSON of the expected shape.
    #[error("`{}` is not a file of registry credentials", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What serde found.
        #[source]
        source: serde_json::Error,
    },
    /// An entry that cannot be decoded.
    #[error("the entry `{key}` of `{}` is not valid", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The key in `auths`.
        key: String,
        /// What the library found.
        #[source]
        source: CredentialRetrievalError,
    },
    /// A helper that could not be started or talked to.
    #[error("cannot run `{helper}`, which `{}` names", path.display())]
    Helper {
        /// The program.
        helper: String,
        /// The file that names it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A helper that failed.
    #[error("`{helper}` failed: {message}")]
    HelperFailed {
        /// The program.
        helper: String,
        /// What it said.
        message: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Value>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: Secret,
}

impl CredentialSources {
    /// The sources for `registry`, as it stands in references.
    pub fn new(registry: &str, host: &HostSettings, settings: &RegistrySettings) -> CredentialSources {
        let explicit = host
            .username
            .as_ref()
            .map(|username| Credential::Basic { username: username.clone(), password: host.password.clone().unwrap_or_default() });
        CredentialSources {
            registry: registry.to_owned(),
            explicit,
            files: settings.credential_files.clone(),
            helper_search_path: settings.helper_search_path.clone(),
        }
    }

    /// Who we are to this registry when it is about `repository`.
    pub async fn look_up(&self, repository: &str) -> Result<Credential, CredentialError> {
        self.find(repository).await.map(|(credential, _)| credential)
    }

    /// The same, and where it was found.
    pub async fn find(&self, repository: &str) -> Result<(Credential, Origin), CredentialError> {
        if let Some(explicit) = &self.explicit {
            return Ok((explicit.clone(), Origin::Settings));
        }
        for path in &self.files {
            let bytes = match tokio::fs::read(path).await {
                Ok(bytes) => bytes,
                // A folder in the way is a missing file too: HOME may be anything.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                Err(source) => return Err(CredentialError::Read { path: path.clone(), source }),
            };
            let file: File = serde_json::from_slice(&bytes).map_err(|source| CredentialError::Malformed { path: path.clone(), source })?;
            if let Some(found) = self.find_in(&file, path, repository).await? {
                return Ok(found);
            }
        }
        Ok((Credential::Anonymous, Origin::Nowhere))
    }

    async fn find_in(&self, file: &File, path: &Path, repository: &str) -> Result<Option<(Credential, Origin)>, CredentialError> {
        // Helpers know hosts only, and Docker Hub by its old URL.
        let server = if self.registry == "docker.io" { DOCKER_HUB_KEY } else { &self.registry };
        let own_helper = file.cred_helpers.get(server).or_else(|| file.cred_helpers.get(&self.registry));
        if let Some(name) = own_helper.filter(|name| !name.is_empty()) {
            return self.ask_helper(name, server, path).await;
        }
        if let Some((key, entry)) = find_entry(&file.auths, &self.registry, repository)
            && let Some(credential) = read_entry(key, entry, path)?
        {
            return Ok(Some((credential, Origin::File(path.to_owned()))));
        }
        match file.creds_store.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => self.ask_helper(name, server, path).await,
            None => Ok(None),
        }
    }

    async fn ask_helper(&self, name: &str, server: &str, path: &Path) -> Result<Option<(Credential, Origin)>, CredentialError> {
        let helper = format!("docker-credential-{name}");
        let failed = |source| CredentialError::Helper { helper: helper.clone(), path: path.to_owned(), source };
        if name.contains(['/', '\\']) {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "a helper is named without a path")));
        }
        let mut command = Command::new(&helper);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(search_path) = &self.helper_search_path {
            command.env("PATH", search_path);
        }
        let mut child = command.spawn().map_err(failed)?;
        let talk = async {
            if let Some(mut stdin) = child.stdin.take() {
                // A helper that does not read its input may have closed it already.
                let _ = stdin.write_all(server.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(HELPER_TIMEOUT, talk)
            .await
            .map_err(|_| failed(io::Error::new(io::ErrorKind::TimedOut, "no answer within 60 s")))?
            .map_err(failed)?;
        if !output.status.success() {
            // The protocol has no code for "nothing known", only this text (docker-credential-helpers, `credentials/error.go`).
            let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if said.contains("credentials not found") {
                return Ok(None);
            }
            let message = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
            return Err(CredentialError::HelperFailed { helper, message });
        }
        let answer: HelperAnswer = serde_json::from_slice(&output.stdout).map_err(|_| CredentialError::HelperFailed {
            helper: helper.clone(),
            message: "what it printed is not a credential".to_owned(),
        })?;
        // The marker of an identity token, in the same file of docker-credential-helpers.
        let credential = if answer.username == "<token>" {
            Credential::Identity(answer.secret)
        } else {
            Credential::Basic { username: answer.username, password: answer.secret }
        };
        Ok(Some((credential, Origin::Helper { helper, path: path.to_owned() })))
    }
}

/// The entry for `registry/repository`: podman's keys are tried from the whole path down to the host, then docker's forms with a scheme.
fn find_entry<'a>(auths: &'a BTreeMap<String, Value>, registry: &str, repository: &str) -> Option<(&'a str, &'a Value)> {
    let whole = format!("{registry}/{repository}");
    let mut key = whole.as_str();
    loop {
        if let Some((key, entry)) = auths.get_key_value(key) {
            return Some((key, entry));
        }
        match key.rsplit_once('/') {
            Some((shorter, _)) => key = shorter,
            None => break,
        }
    }
    let aliases: &[&str] = if registry == "docker.io" { &["docker.io", "index.docker.io", "registry-1.docker.io"] } else { &[registry] };
    auths.iter().map(|(key, entry)| (key.as_str(), entry)).find(|(key, _)| {
        let host = key.trim_start_matches("https://").trim_start_matches("http://").split('/').next().unwrap_or_default();
        // A key with a path but no scheme is podman's, and was for another repository.
        (key.contains("://") || !key.contains('/')) && aliases.contains(&host)
    })
}

/// Reads one entry of `auths`; docker leaves empty ones where a helper has the secret.
fn read_entry(key: &str, entry: &Value, path: &Path) -> Result<Option<Credential>, CredentialError> {
    let mut entry = entry.clone();
    if let Some(members) = entry.as_object_mut() {
        members.retain(|_, value| value.as_str() != Some(""));
    }
    let alone = json!({ "auths": { key: entry } }).to_string();
    match docker_credential::get_credential_from_reader(alone.as_bytes(), key) {
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Ok(Some(Credential::Basic { username, password: Secret::new(password) }))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::Identity(Secret::new(token)))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(source) => Err(CredentialError::Entry { path: path.to_owned(), key: key.to_owned(), source }),
    }
}
