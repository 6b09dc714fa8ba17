//! What is wrong with an index that did not answer as one, told by what resolvers say of it.
//!
//! pip passes over an index that is dead, that wants a password or that it does not trust, and says at its end that there is no such version; what happened
//! stands in its log alone. uv tells of it at once, as a chain of causes, and of a password as a hint. Both become the host and one plain cause.
//!
//! What must stay true: an index that did not answer is never told as one that lacks a package; no user and no password is in a message.

use url::Url;

use crate::model::python_package::normalised;

/// The most lines of pip's log that are kept.
const LINES_MAX: usize = 10_000;
/// The longest cause that is passed on as it is.
const CAUSE_CHARS_MAX: usize = 200;

/// An index that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// `host[:port]`.
    pub host: String,
    /// Why, as the end of a sentence.
    pub cause: String,
    /// What can be done.
    pub remedy: &'static str,
}

const LOG_IN: &str = "give the user and the password of this host in netrc, or in the address of the index";
const TRUST: &str = "name the file with its authorities (`cert` in pip.conf, PIP_CERT, SSL_CERT_FILE)";
const TRUST_PLAIN: &str = "give the index an `https://` address, or set `trusted-host` in pip.conf";
const LOOK: &str = "look at where packages come from (pip.conf, uv.toml, PIP_INDEX_URL, UV_DEFAULT_INDEX), try again later, or name a folder of wheels with `--wheels`";

/// What stands in an error, what that means, and what can be done; the first that is found.
const CAUSES: [(&[&str], &str, &str); 11] = [
    (&["Connection refused"], "nothing listens there (connection refused)", LOOK),
    (
        &["dns error", "Name or service not known", "Temporary failure in name resolution", "nodename nor servname", "getaddrinfo failed"],
        "its name is not known (DNS)",
        LOOK,
    ),
    (&["401 Client Error", "(401 ", "401 Unauthorized"], "it wants a user and a password, or others than it was given (401)", LOG_IN),
    (&["403 Client Error", "(403 ", "403 Forbidden"], "it forbids this to the user, or to whoever gives none (403)", LOG_IN),
    (&["407 ", "Proxy Authentication"], "the proxy wants a user and a password (407)", LOOK),
    (
        &["CERTIFICATE_VERIFY_FAILED", "invalid peer certificate", "UnknownIssuer", "certificate verify failed"],
        "its certificate is not trusted here",
        TRUST,
    ),
    (&["SSLError", "SSLEOFError", "tls handshake", "InvalidContentType", "WRONG_VERSION_NUMBER"], "it does not speak TLS", LOOK),
    (&["timed out", "TimeoutError", "ConnectTimeout", "ReadTimeout", "operation timeout"], "it did not answer in time", LOOK),
    (&["Network is unreachable", "No route to host", "Host is unreachable"], "there is no way to it (network unreachable)", LOOK),
    (&["ProxyError", "Cannot connect to proxy", "proxy"], "the proxy before it does not answer", LOOK),
    (
        &[
            "Connection reset",
            "IncompleteRead",
            "end of file before message length",
            "RemoteDisconnected",
            "connection closed",
            "broken pipe",
        ],
        "the connection broke",
        LOOK,
    ),
];

impl Trouble {
    /// Of an error's text about an address. `None`: the host is not known.
    fn new(address: &str, said: &str) -> Option<Trouble> {
        let host = host(address)?;
        let known = CAUSES.iter().find(|(signs, ..)| signs.iter().any(|sign| said.contains(sign)));
        let (cause, remedy) = match (known, status(said)) {
            (Some((_, cause, remedy)), _) => ((*cause).to_owned(), *remedy),
            (None, Some(status)) => (format!("it answers {status}"), LOOK),
            (None, None) => (said.trim().chars().take(CAUSE_CHARS_MAX).collect(), LOOK),
        };
        Some(Trouble { host, cause, remedy })
    }
}

/// A status of HTTP from 400 on, where a text names one.
fn status(said: &str) -> Option<u16> {
    let words = said.split(|letter: char| !letter.is_ascii_digit());
    let is_about_one = ["Error", "error", "status"].iter().any(|word| said.contains(word));
    words.filter(|word| word.len() == 3).filter_map(|word| word.parse().ok()).find(|status| is_about_one && (400..600).contains(status))
}

/// `host[:port]` of an address.
fn host(address: &str) -> Option<String> {
    let url = Url::parse(address.trim_matches(['`', '\'', '"', '(', ')', ',', '.', ';'])).ok()?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}{port}", url.host_str()?))
}

/// What uv says of an index, on one line.
pub fn of_uv(said: &str) -> Option<Trouble> {
    let address =
        |text: &str| text.split_whitespace().find(|word| word.contains("://")).map(|word| word.trim_start_matches(['(', '`']).to_owned());
    // It goes on without an index that does not let it in, and says so below.
    if let Some(hint) = said.find("An index ").map(|at| &said[at..])
        && (hint.contains("401 ") || hint.contains("403 "))
    {
        let status = if hint.contains("401 ") { "(401 " } else { "(403 " };
        return Trouble::new(&address(hint)?, status);
    }
    if let Some(answered) = said.find("Unsupported `Content-Type`").map(|at| &said[at..]) {
        let kind = answered.split('"').nth(1).unwrap_or_default();
        return Some(Trouble { cause: no_index(kind), ..Trouble::new(&address(answered)?, "")? });
    }
    let begins = ["Failed to fetch", "error sending request for url", "HTTP status ", "Failed to download", "Could not connect"];
    let at = begins.iter().filter_map(|begin| said.find(begin)).min()?;
    let rest = &said[at..];
    let address = address(rest)?;
    // The address itself may hold any word.
    let causes: String = rest.split_whitespace().filter(|word| !word.contains("://")).collect::<Vec<_>>().join(" ");
    Trouble::new(&address, &causes)
}

fn no_index(kind: &str) -> String {
    format!("what answers there is no index: its Content-Type is `{}`", kind.chars().take(60).collect::<String>().escape_debug())
}

/// What pip's log says of indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipLog {
    /// The pages that were not had, and why.
    refused: Vec<(String, String)>,
    /// The pages that were.
    fetched: Vec<String>,
    /// Indexes that it does not ask since they are not encrypted.
    untrusted: Vec<String>,
    /// What it asked for last.
    asked: Option<String>,
    /// Extras that packages do not have.
    extras: Vec<String>,
}

impl PipLog {
    /// Takes a line of it.
    pub fn line(&mut self, line: &str) {
        if self.refused.len() + self.fetched.len() + self.untrusted.len() + self.extras.len() >= LINES_MAX {
            return;
        }
        let after = |begin: &str| line.find(begin).map(|at| &line[at + begin.len()..]);
        if let Some(address) = after("Getting page ").or_else(|| after("Downloading link ")).or_else(|| after("Downloading ")) {
            self.asked = address.split_whitespace().find(|word| word.contains("://")).map(str::to_owned).or(self.asked.take());
        } else if let Some(said) = after("WARNING: ").filter(|said| said.contains(" does not provide the extra ")) {
            self.extras.push(said.trim().chars().take(CAUSE_CHARS_MAX).collect());
        } else if let Some((address, reason)) = after("Could not fetch URL ").and_then(|rest| rest.split_once(": ")) {
            let reason = reason.trim_end().trim_end_matches(" - skipping").to_owned();
            self.refused.push((address.to_owned(), reason));
        } else if let Some(address) = after("Fetched page ").and_then(|rest| rest.split(' ').next()) {
            self.fetched.push(address.to_owned());
        } else if let Some((address, kind)) = after("Skipping page ").and_then(|rest| rest.split_once(' ')) {
            let kind = kind.split("Content-Type: ").nth(1).and_then(|rest| rest.split(". ").next()).unwrap_or_default();
            self.refused.push((address.to_owned(), no_index(kind)));
        } else if let Some(host) = after("The repository located at ").and_then(|rest| rest.split(' ').next()) {
            self.untrusted.push(host.to_owned());
        }
    }

    /// Why a project may be in an index all the same.
    pub fn trouble(&self, project: &str) -> Option<Trouble> {
        self.untrusted().or_else(|| self.refused.iter().filter(|(address, _)| is_page_of(address, project)).find_map(trouble))
    }

    /// Of a connection that broke in the middle, of which it says all but whose.
    pub fn broken(&self, said: &str) -> Option<Trouble> {
        CAUSES.iter().any(|(signs, ..)| signs.iter().any(|sign| said.contains(sign))).then(|| Trouble::new(self.asked.as_ref()?, said))?
    }

    /// The extras that are required and that no package has, in pip's words.
    pub fn extras(&self) -> &[String] {
        &self.extras
    }

    /// Every index that was passed over, each host once.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles: Vec<Trouble> = Vec::new();
        for trouble in self.untrusted().into_iter().chain(self.refused.iter().filter_map(trouble)) {
            if troubles.iter().all(|known| known.host != trouble.host) {
                troubles.push(trouble);
            }
        }
        troubles
    }

    /// Whether indexes were asked for a project and none has it.
    pub fn is_unknown(&self, project: &str) -> bool {
        self.refused.iter().any(|(address, _)| is_page_of(address, project))
            && !self.fetched.iter().any(|address| is_page_of(address, project))
    }

    fn untrusted(&self) -> Option<Trouble> {
        let host = self.untrusted.first()?.clone();
        Some(Trouble { host, cause: "pip asks it nothing, since its address is not encrypted".to_owned(), remedy: TRUST_PLAIN })
    }
}

fn trouble((address, reason): &(String, String)) -> Option<Trouble> {
    // An index says so of what it does not have.
    if reason.starts_with("404 ") {
        return None;
    }
    let reason = reason.split_once("(Caused by ").map_or(reason.as_str(), |(_, cause)| cause);
    let reason = reason.split_once(" for url: ").map_or(reason, |(reason, _)| reason);
    Trouble::new(address, reason)
}

/// Whether an address ends in a project's name, as the page of it in an index does (PEP 503).
fn is_page_of(address: &str, project: &str) -> bool {
    address.trim_end_matches('/').rsplit('/').next().is_some_and(|last| normalised(last) == project)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uv_says_of_an_index_is_its_host_and_one_cause() {
        for (said, host, cause) in [
            (
                "Request failed after 3 retries in 4.7s Failed to fetch: http://127.0.0.1:9/simple/six/ error sending request for url (http://127.0.0.1:9/simple/six/) client error (Connect) tcp connect error Connection refused (os error 111)",
                "127.0.0.1:9",
                "connection refused",
            ),
            (
                "Failed to fetch: `https://u:secret@host/503/six/` HTTP status server error (503 Service Unavailable) for url (https://host/503/six/)",
                "host",
                "it answers 503",
            ),
            ("Failed to fetch: http://no.invalid/six/ error sending request dns error failed to lookup address", "no.invalid", "DNS"),
            (
                "Failed to fetch: https://host:1/six/ client error (Connect) invalid peer certificate: UnknownIssuer",
                "host:1",
                "certificate",
            ),
            (
                "Because six was not found in the package registry and you require six, we can conclude that … hint: An index URL (http://127.0.0.1:18801/401/) could not be queried due to a lack of valid authentication credentials (401 Unauthorized)",
                "127.0.0.1:18801",
                "a user and a password",
            ),
            ("Because … hint: An index (https://host/) returned a 403 Forbidden error. Check that …", "host", "(403)"),
            (
                "Unsupported `Content-Type` \"text/plain\" for `http://host:80/json/six/`. Expected JSON or HTML.",
                "host",
                "Content-Type is `text/plain`",
            ),
        ] {
            let trouble = of_uv(said).unwrap();
            assert!(trouble.host == host && trouble.cause.contains(cause) && !trouble.cause.contains("secret"), "{said}: {trouble:?}");
        }
        assert_eq!(of_uv("Because six was not found in the package registry and you require six, we can conclude that"), None);
    }

    #[test]
    fn the_log_of_pip_tells_a_dead_index_from_one_that_lacks_a_package() {
        let read = |lines: &[&str]| {
            let mut log = PipLog::default();
            for line in lines {
                log.line(line);
            }
            log
        };
        for (line, cause) in [
            (
                "2026-11-25T09:00:00,1 Could not fetch URL http://ann:****@127.0.0.1:9/simple/six/: connection error: HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url: /simple/six/ (Caused by NewConnectionError('<pip object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')) - skipping",
                "connection refused",
            ),
            (
                "Could not fetch URL http://127.0.0.1:9/s/six/: HTTPConnectionPool(host='127.0.0.1', port=443): Max retries exceeded with url: /s/six/ (Caused by ResponseError('too many 503 error responses')) - skipping",
                "it answers 503",
            ),
            (
                "Could not fetch URL http://127.0.0.1:9/s/six/: 401 Client Error: Unauthorized for url: http://127.0.0.1:9/s/six/ - skipping",
                "(401)",
            ),
            (
                "WARNING: Skipping page http://127.0.0.1:9/s/six/ because the GET request got Content-Type: text/plain. The only supported",
                "`text/plain`",
            ),
        ] {
            let trouble = read(&[line]).trouble("six").unwrap();
            assert!(trouble.host == "127.0.0.1:9" && trouble.cause.contains(cause), "{line}: {trouble:?}");
        }
        let log = read(&[
            "Could not fetch URL https://one/simple/six/: 404 Client Error: Not Found for url: https://one/simple/six/ - skipping",
            "Could not fetch URL https://two/simple/other/: 403 Client Error: Forbidden for url: https://two/ - skipping",
            "Fetched page https://one/simple/other/ as text/html",
        ]);
        assert_eq!((log.trouble("six"), log.is_unknown("six"), log.is_unknown("other")), (None, true, false));
        assert_eq!(log.troubles().iter().map(|trouble| trouble.host.as_str()).collect::<Vec<_>>(), ["two"]);
        let broken = read(&["Getting page https://ann:****@one/simple/six/", "WARNING: six 1.17.0 does not provide the extra 'foo'"]);
        let said = "Could not install packages due to an OSError: ('Connection broken: IncompleteRead(6 bytes read, 994 more expected)'";
        assert_eq!(
            broken.broken(said).map(|trouble| (trouble.host, trouble.cause)),
            Some(("one".to_owned(), "the connection broke".to_owned()))
        );
        assert_eq!(
            (broken.broken("something else"), broken.extras()),
            (None, &["six 1.17.0 does not provide the extra 'foo'".to_owned()][..])
        );
        let plain = read(&["WARNING: The repository located at host is not a trusted or secure host and is being ignored."]);
        assert!(plain.trouble("six").unwrap().remedy.contains("trusted-host"));
    }
}
