//! References: where an image is, as users write it.
//!
//! `host[:port]/repository[:tag][@digest]`, parsed once and printed one way. The short forms that docker made common
//! (`busybox`, `hydrosphere/serving-runtime-python`) mean Docker Hub, as everywhere else. The grammar is the distribution
//! project's, through `oci-spec`, which refuses one thing that users of closed networks have: an IPv6 host in brackets; that
//! is read here. The usual forms are read by hand: that grammar is one large regular expression, and compiling it takes longer than all else that a
//! rebuild with nothing to do takes. A reference says nothing of how the host is reached (plain HTTP, mirrors): those are settings.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::Reference as Parsed;

use super::digest::Digest;

/// A place in a registry: a repository and, in it, a tag, a digest, both or neither.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// `host[:port]`; `docker.io` where the text names none.
    pub registry: String,
    /// The repository's path, without the registry.
    pub repository: String,
    /// The tag, when one is named.
    pub tag: Option<String>,
    /// The digest, when one is named; it wins over the tag.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
}

impl crate::fault::Failure for ReferenceError {
    fn fault(&self) -> crate::fault::Fault {
        crate::fault::Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        Some("write `host[:port]/repository[:tag][@digest]`, the repository in lower case".to_owned())
    }
}

impl ReferenceError {
    /// A text that is refused for a reason.
    pub fn new(text: &str, reason: &str) -> ReferenceError {
        ReferenceError { text: text.chars().take(300).collect(), reason: reason.to_owned() }
    }
}

impl Reference {
    /// A repository of a registry, no tag and no digest.
    pub fn repository(registry: &str, repository: &str) -> Reference {
        Reference { registry: registry.to_owned(), repository: repository.to_owned(), tag: None, digest: None }
    }

    /// The same repository, with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Reference {
        Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// The same repository, with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// What a manifest is asked for by: the digest, else the tag, else `latest`.
    pub fn manifest_key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The last component of the repository and the tag, `name:tag`: what a runtime is known by, whatever its host.
    pub fn short_name(&self) -> String {
        let name = self.repository.rsplit('/').next().unwrap_or(&self.repository);
        format!("{name}:{}", self.tag.as_deref().unwrap_or("latest"))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let refuse = |reason: String| ReferenceError { text: text.chars().take(300).collect(), reason };
        if let Some(reference) = usual(text) {
            return Ok(reference);
        }
        // A stand-in host goes through the grammar in the place of `[::1]:5000`.
        let (bracketed, grammatical) = match text.strip_prefix('[').and_then(|rest| rest.split_once('/')) {
            Some((host, rest)) => {
                let (address, port) = host.split_once(']').ok_or_else(|| refuse("a `[` without its `]`".to_owned()))?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| refuse(format!("`{address}` is not an IPv6 address")))?;
                if !(port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())) {
                    return Err(refuse(format!("`{port}` is not a port")));
                }
                (Some(format!("[{host}")), format!("bracketed.invalid/{rest}"))
            }
            None => (None, text.to_owned()),
        };
        // Docker reads `UPPER/x` as a repository on Docker Hub; nobody means that (style reference, oci-spec).
        let parsed: Parsed = grammatical.parse().map_err(|error| refuse(format!("{error}")))?;
        if parsed.repository().chars().any(char::is_uppercase) {
            return Err(refuse("a repository is lower case".to_owned()));
        }
        let digest = parsed.digest().map(str::parse).transpose().map_err(|error| refuse(format!("{error}")))?;
        Ok(Reference {
            registry: bracketed.unwrap_or_else(|| parsed.registry().to_owned()),
            repository: parsed.repository().to_owned(),
            // oci-spec answers `latest` where nothing was written; only what was typed is kept.
            tag: parsed.tag().filter(|tag| digest.is_some() || text.ends_with(&format!(":{tag}"))).map(str::to_owned),
            digest,
        })
    }
}

/// Reads `host[:port]/repository[:tag][@digest]` where the host is no Docker Hub and everything is made of what nearly all names are made of; `None`: the
/// grammar has to say.
fn usual(text: &str) -> Option<Reference> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().ok()?)),
        None => (text, None),
    };
    let (host, rest) = rest.split_once('/')?;
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    // Words with one mark between them.
    let is_name = |name: &str, marks: &[char]| name.split(marks).all(|word| !word.is_empty() && word.bytes().all(is_word));
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let is_host = (host.contains(['.', ':']) || host == "localhost") && !name.ends_with("docker.io") && is_name(name, &['.', '-']);
    let is_port = port.len() <= 5 && is_name(port, &[]) && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_tag = |tag: &&str| tag.len() <= 128 && is_name(tag, &['.', '-', '_']);
    let usual =
        is_host && is_port && repository.len() <= 255 && is_name(repository, &['/', '.', '-', '_']) && tag.as_ref().is_none_or(is_tag);
    usual.then(|| Reference { registry: host.to_owned(), repository: repository.to_owned(), tag: tag.map(str::to_owned), digest })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_by_hand_means_the_same_by_the_grammar(
            text in "[a-b0.:-]{0,6}(/[ab._-]{0,5}){0,3}(:[abA0._-]{0,4})?(@sha256:[0a]{64}|@md5:0)?",
        ) {
            if let Some(reference) = usual(&text) {
                let other: Parsed = text.parse().unwrap();
                prop_assert_eq!((reference.registry.as_str(), reference.repository.as_str()), (other.registry(), other.repository()));
                prop_assert_eq!(reference.digest.map(|digest| digest.to_string()), other.digest().map(str::to_owned));
                let tag = reference.tag.as_deref().or(reference.digest.is_none().then_some("latest"));
                prop_assert_eq!(tag, other.tag());
            }
        }
    }

    #[test]
    fn the_usual_forms_need_no_grammar() {
        for text in ["127.0.0.1:5000/linear_regression:1", "localhost/a/b", "ghcr.io/a/b-c.d:3.6-latest", "registry:5000/m"] {
            assert!(usual(text).is_some(), "{text}");
        }
        for text in
            ["busybox", "a/b", "docker.io/busybox", "[::1]:5000/x", "h.example/A", "h.example/a__b", "h.example/a//b", "h.example/a:"]
        {
            assert!(usual(text).is_none(), "{text}");
        }
    }

    #[test]
    fn every_form_prints_one_way() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, printed) in [
            ("127.0.0.1:5000/linear_regression:1", "127.0.0.1:5000/linear_regression:1"),
            ("localhost/a/b", "localhost/a/b"),
            ("busybox", "docker.io/library/busybox"),
            ("hydrosphere/serving-runtime-python:3.6-latest", "docker.io/hydrosphere/serving-runtime-python:3.6-latest"),
            ("[::1]:5000/x:y", "[::1]:5000/x:y"),
            (&format!("ghcr.io/a/b@{digest}"), &format!("ghcr.io/a/b@{digest}")),
            (&format!("ghcr.io/a/b:t@{digest}"), &format!("ghcr.io/a/b:t@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), printed);
            assert_eq!(printed.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in
            ["", "UPPER/x", "127.0.0.1:5000/Upper", "a b", "x:", "[::1/x", "[nonsense]:1/x", "[::1]:port/x", "x@sha256:12", "http://host/x"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
