//! Where this machine gets Python's packages: the user's own settings of pip, uv and netrc.
//!
//! Resolvers read their own settings by themselves. What is here is for two ends: a machine whose mirror stands in pip.conf alone must be the same to uv, and
//! wheels are fetched by us, with the credentials that the user has given to either (`wheel_fetch.rs`). Files are read as values; which files and variables
//! there are is known to `cli/settings.rs`.
//!
//! What must stay true: a password goes to the host that it is for, and into no message.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use url::Url;

/// What pip, uv and netrc are told on this machine.
#[derive(Clone, Default)]
pub struct IndexSettings {
    /// `PIP_…` and `UV_…` variables.
    pub variables: BTreeMap<String, String>,
    /// The texts of pip's settings files, the one that wins last.
    pub pip_files: Vec<String>,
    /// Whether uv has settings of its own, which then say where packages come from.
    pub uv_has_file: bool,
    /// The text of the netrc file.
    pub netrc: Option<String>,
    /// Variables that name files from where the user is, said from the root: a resolver runs elsewhere.
    pub paths: Vec<(String, OsString)>,
}

impl std::fmt::Debug for IndexSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values may hold passwords.
        f.debug_struct("IndexSettings").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, …)", self.username)
    }
}

impl IndexSettings {
    /// A setting of pip: the variable, else what stands in the files for every command or for `install`.
    fn pip(&self, name: &str) -> Option<String> {
        let variable = format!("PIP_{}", name.replace('-', "_").to_uppercase());
        self.variables.get(&variable).cloned().or_else(|| self.pip_files.iter().rev().find_map(|text| of_file(text, name)))
    }

    fn pip_words(&self, name: &str) -> Vec<String> {
        self.pip(name).map(|text| text.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Whether the user has told uv where packages come from.
    fn uv_is_told(&self) -> bool {
        const NAMES: [&str; 5] = ["UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"];
        self.uv_has_file || NAMES.iter().any(|name| self.variables.contains_key(*name))
    }

    /// What uv has to be told beside its own settings: variables, for what may hold a password.
    pub fn variables_for_uv(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("UV_PYTHON_DOWNLOADS", "never".to_owned()), ("NO_COLOR", "1".to_owned())];
        if !self.uv_is_told() {
            variables.extend(self.pip("index-url").map(|url| ("UV_DEFAULT_INDEX", url)));
            let more = self.pip_words("extra-index-url");
            variables.extend((!more.is_empty()).then(|| ("UV_INDEX", more.join(" "))));
        }
        if !self.variables.contains_key("SSL_CERT_FILE") {
            variables.extend(self.pip("cert").map(|path| ("SSL_CERT_FILE", path)));
        }
        variables
    }

    /// The same, options.
    pub fn options_for_uv(&self) -> Vec<String> {
        if self.uv_is_told() {
            return Vec::new();
        }
        // A folder that is not there is nothing to pip, and an error to uv.
        let is_usable = |place: &String| place.contains("://") || PathBuf::from(place).is_dir();
        let mut options: Vec<String> =
            self.pip_words("find-links").into_iter().filter(is_usable).flat_map(|place| ["--find-links".to_owned(), place]).collect();
        let is_yes = |text: String| matches!(text.to_lowercase().as_str(), "1" | "true" | "yes" | "on");
        options.extend(self.pip("no-index").filter(|text| is_yes(text.clone())).map(|_| "--no-index".to_owned()));
        options
    }

    /// The file of authorities that pip is told to trust.
    pub fn authorities(&self) -> Option<PathBuf> {
        self.pip("cert").map(PathBuf::from)
    }

    /// Who we are to the host of a URL: an index of the same host says it, else netrc.
    pub fn login(&self, url: &Url) -> Option<Login> {
        let uv =
            ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"].into_iter().filter_map(|name| self.variables.get(name));
        let uv = uv
            .flat_map(|text| text.split_whitespace())
            .map(|index| index.split_once('=').filter(|(name, _)| !name.contains(':')).map_or(index, |(_, url)| url).to_owned());
        let pip = self.pip("index-url").into_iter().chain(self.pip_words("extra-index-url"));
        let indexes = uv.chain(pip).filter_map(|index| Url::parse(&index).ok());
        let same = |index: &Url| {
            (index.scheme(), index.host_str(), index.port_or_known_default()) == (url.scheme(), url.host_str(), url.port_or_known_default())
        };
        let mut of_index = indexes.filter(same).filter(|index| !index.username().is_empty());
        if let Some(index) = of_index.next() {
            let username = decoded(index.username());
            return Some(Login { username, password: decoded(index.password().unwrap_or_default()) });
        }
        login_of_netrc(self.netrc.as_deref()?, url.host_str()?)
    }
}

/// A key of `[global]` or, before it, of `[install]`; a value may go on in indented lines.
fn of_file(text: &str, name: &str) -> Option<String> {
    let (mut section, mut found, mut current): (String, BTreeMap<String, String>, Option<String>) = (String::new(), BTreeMap::new(), None);
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            if let Some(value) = current.as_ref().and_then(|section| found.get_mut(section)) {
                value.push(' ');
                value.push_str(trimmed);
            }
            continue;
        }
        current = None;
        if let Some(inner) = trimmed.strip_prefix('[') {
            inner.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((key, value)) = trimmed.split_once(['=', ':'])
            && key.trim().replace('_', "-") == name
        {
            found.insert(section.clone(), value.trim().to_owned());
            current = Some(section.clone());
        }
    }
    found.remove("install").or_else(|| found.remove("global"))
}

/// The entry of a host, else the default one.
fn login_of_netrc(text: &str, host: &str) -> Option<Login> {
    let mut words = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
    let (mut is_ours, mut username, mut password) = (false, None, None);
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" => {
                if is_ours && username.is_some() {
                    break;
                }
                is_ours = word == "default" || words.next() == Some(host);
                (username, password) = (None, None);
            }
            "login" => username = words.next().filter(|_| is_ours),
            "password" => password = words.next().filter(|_| is_ours),
            "account" => drop(words.next()),
            _ => {}
        }
    }
    Some(Login { username: username?.to_owned(), password: password.unwrap_or_default().to_owned() })
}

/// Percent signs in a URL's user or password.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)], files: &[&str], netrc: Option<&str>) -> IndexSettings {
        IndexSettings {
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            pip_files: files.iter().map(|text| (*text).to_owned()).collect(),
            uv_has_file: false,
            netrc: netrc.map(str::to_owned),
            paths: Vec::new(),
        }
    }

    #[test]
    fn what_pip_is_told_uv_is_told_unless_it_has_been_told_itself() {
        let file = "[global]\nindex-url = https://mirror/simple\ncert = /ca.pem\n[install]\nextra_index_url =\n  https://a/simple\n  https://b/simple\nno-index = true\n";
        let told = settings(&[], &["[global]\nindex-url = https://old/simple\n", file], None);
        let variables: BTreeMap<_, _> = told.variables_for_uv().into_iter().collect();
        assert_eq!(variables["UV_DEFAULT_INDEX"], "https://mirror/simple");
        assert_eq!(variables["UV_INDEX"], "https://a/simple https://b/simple");
        assert_eq!(variables["SSL_CERT_FILE"], "/ca.pem");
        assert_eq!(told.options_for_uv(), ["--no-index"]);
        let variable = settings(&[("PIP_INDEX_URL", "https://variable/simple")], &[file], None);
        assert!(variable.variables_for_uv().contains(&("UV_DEFAULT_INDEX", "https://variable/simple".to_owned())));
        let own = settings(&[("UV_INDEX_URL", "https://uv/simple")], &[file], None);
        assert!(own.options_for_uv().is_empty() && !own.variables_for_uv().iter().any(|(name, _)| *name == "UV_DEFAULT_INDEX"));
    }

    #[test]
    fn a_login_is_for_its_host() {
        let netrc =
            "# mine\nmachine files.example login bob password n3t\nmachine other login eve password e\ndefault login any password d\n";
        let settings = settings(&[("UV_INDEX", "mine=https://ann:p%40ss@index.example/simple")], &[], Some(netrc));
        let login = |url: &str| settings.login(&Url::parse(url).unwrap()).map(|login| format!("{}:{}", login.username, login.password));
        assert_eq!(login("https://index.example/f/x.whl").as_deref(), Some("ann:p@ss"));
        assert_eq!(login("https://files.example/x.whl").as_deref(), Some("bob:n3t"));
        assert_eq!(login("http://index.example/x.whl").as_deref(), Some("any:d"), "not over plain HTTP");
        assert!(!format!("{:?}", settings.login(&Url::parse("https://files.example/").unwrap())).contains("n3t"));
    }
}
