//! Settings of registries: how each host is reached, and how patient we are with it.
//!
//! Values only. The doors fill them from flags, variables and the configuration file; nothing below a door reads the
//! environment. What must stay true: a [`Secret`] never prints what it holds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::silence::Teller;
use super::warnings::Heard;

/// A text that is not printed: passwords and tokens.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text out of sight.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// What the user set for one registry host (`host` or `host:port`, as it stands in references).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSettings {
    /// Speak plain HTTP (`true`) or TLS (`false`); not set: plain HTTP to loopback hosts only.
    pub plain_http: Option<bool>,
    /// A PEM file of certificate authorities to trust for this host, beside the usual ones.
    pub ca_file: Option<PathBuf>,
    /// A PEM file of the certificate, and those above it, that is shown to this host where it asks for one.
    pub client_certificate_file: Option<PathBuf>,
    /// A PEM file of the key of that certificate; not set: it is in the same file.
    pub client_key_file: Option<PathBuf>,
    /// Hosts, each with or without a path prefix, that are asked first when something is pulled, in this order.
    pub mirrors: Vec<String>,
    /// The user name to log in with; wins over the credential files.
    pub username: Option<String>,
    /// The password that belongs to `username`.
    pub password: Option<Secret>,
    /// The size of a chunk, where a blob has to be pushed in chunks; wins over what is known of the host.
    pub chunk_bytes: Option<u64>,
    /// The largest request body that is sent to this host; larger blobs go in chunks. Wins over what is known of the host.
    pub body_bytes_max: Option<u64>,
    /// Whether blobs are mounted from other repositories; wins over what is known of the host.
    pub mounts: Option<bool>,
    /// For how many seconds this host is waited for where it does not answer a small question; not set: 30.
    pub answer_s: Option<u64>,
}

/// Everything that [`super::client::Registries`] is made from.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// Settings by host.
    pub hosts: BTreeMap<String, HostSettings>,
    /// Where credentials are kept, in the form of docker's `config.json` and podman's `auth.json`; the first file that
    /// has an entry wins, files that are not there are passed over.
    pub credential_files: Vec<PathBuf>,
    /// The `PATH` on which credential helpers (`docker-credential-…`) are looked for; not set: our own.
    pub helper_search_path: Option<OsString>,
    /// PEM files of certificate authorities to trust for every host, beside the bundled ones.
    pub ca_files: Vec<PathBuf>,
    /// The one of `ca_files` that is this machine's own: it is read when the first connection by TLS needs it.
    pub usual_ca_file: Option<PathBuf>,
    /// The proxies of the environment.
    pub proxies: Proxies,
    /// The size of a chunk, where a blob has to be pushed in chunks and the registry asks for nothing else.
    pub chunk_bytes: u64,
    /// The folder in which it is remembered where blobs are and how far uploads are (`memory.rs`); not set: nothing is. It may be
    /// deleted at any time.
    pub memory_folder: Option<PathBuf>,
    /// What we call ourselves.
    pub user_agent: String,
    /// Where is kept what registries warn of, until somebody tells it; all clones of the settings share it.
    pub warnings: Heard,
    /// Tells that a host lets us wait; all clones of the settings share it.
    pub teller: Teller,
    /// How long we wait and how often we try.
    pub patience: Patience,
}

impl Default for RegistrySettings {
    fn default() -> RegistrySettings {
        RegistrySettings {
            hosts: BTreeMap::new(),
            credential_files: Vec::new(),
            helper_search_path: None,
            ca_files: Vec::new(),
            usual_ca_file: None,
            proxies: Proxies::default(),
            // Large enough that the round trips between chunks do not show.
            chunk_bytes: 64 << 20,
            memory_folder: None,
            user_agent: concat!("lamina/", env!("CARGO_PKG_VERSION")).to_owned(),
            warnings: Heard::default(),
            teller: Teller::default(),
            patience: Patience::default(),
        }
    }
}

/// The proxies between us and registries, as the variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them. Loopback
/// hosts are never reached through one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// The URL of the proxy for plain HTTP.
    pub http: Option<String>,
    /// The URL of the proxy for TLS.
    pub https: Option<String>,
    /// Hosts that are reached without one, with commas.
    pub except: Option<String>,
}

/// How long we wait and how often we try. Nothing here bounds a transfer as a whole: a blob may take a day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// How often a thing is tried while nothing at all goes forward; every acknowledged byte starts the count again.
    pub tries_max: u32,
    /// The pause after the first failure; each further one is twice as long.
    pub pause_first: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// The longest `Retry-After` that is waited for; a registry that asks for more is reported instead.
    pub retry_after_max: Duration,
    /// How long others are given to end what they began, where they write the same and the registry cannot tell them of us.
    pub settle: Duration,
    /// The time in which a connection has to stand.
    pub connect: Duration,
    /// The time in which a host has to begin, and to go on with, the answer to a small question.
    pub answer: Duration,
    /// How often a host that falls silent is asked; one that has never answered is asked once.
    pub silent_tries_max: u32,
    /// The time in which at least one byte of a blob has to move.
    pub idle: Duration,
    /// The time in which a registry has to take a manifest: it looks for each blob that is named there.
    pub manifest: Duration,
    /// The time in which a registry has to answer once it has all bytes: storing a large blob takes it minutes.
    pub commit: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            // 0.5 + 1 + 2 + 4 + 8 + 15 s: a registry that is being restarted is back by then.
            tries_max: 7,
            pause_first: Duration::from_millis(500),
            pause_max: Duration::from_secs(15),
            retry_after_max: Duration::from_mins(5),
            settle: Duration::from_secs(2),
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            silent_tries_max: 3,
            idle: Duration::from_mins(1),
            manifest: Duration::from_mins(5),
            commit: Duration::from_mins(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let settings = HostSettings { username: Some("me".to_owned()), password: Some(Secret::new("hunter2")), ..HostSettings::default() };
        let printed = format!("{settings:?} {}", Secret::new("hunter2"));
        assert!(printed.contains("****") && printed.contains("me") && !printed.contains("hunter2"), "{printed}");
    }
}
