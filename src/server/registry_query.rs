//! The query of a request to the registry.
//!
//! What means nothing here is ignored, as HTTP has it; of a parameter that comes twice the first counts, but `tag`, which may come many times.

use super::registry_error::RegistryError;

/// The most tags that one manifest is given in one request (distribution-spec: at least 10).
pub const TAGS_MAX: usize = 64;

/// The parameters of any request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// How many names at most.
    pub n: Option<usize>,
    /// The name after which to begin.
    pub last: Option<String>,
    /// The digest of a blob that is sent.
    pub digest: Option<String>,
    /// The algorithm of that digest, told in advance.
    pub digest_algorithm: Option<String>,
    /// The digest of a blob that is here already.
    pub mount: Option<String>,
    /// Which referrers.
    pub artifact_type: Option<String>,
    /// Tags for a manifest that is sent by its digest.
    pub tags: Vec<String>,
}

impl Parameters {
    /// Reads a query, the part of a URL after `?`.
    pub fn parse(query: &str) -> Result<Parameters, RegistryError> {
        let mut parameters = Parameters::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let text = match name.as_ref() {
                "n" => {
                    let n = value.parse().map_err(|_| RegistryError::Number(value.chars().take(100).collect()))?;
                    parameters.n.get_or_insert(n);
                    continue;
                }
                "tag" => {
                    parameters.tags.push(value.into_owned());
                    continue;
                }
                "last" => &mut parameters.last,
                "digest" => &mut parameters.digest,
                "digest-algorithm" => &mut parameters.digest_algorithm,
                "mount" => &mut parameters.mount,
                "artifactType" => &mut parameters.artifact_type,
                _ => continue,
            };
            text.get_or_insert(value.into_owned());
        }
        if parameters.tags.len() > TAGS_MAX { Err(RegistryError::TooManyTags) } else { Ok(parameters) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_and_the_rest_ignored() {
        let read = Parameters::parse("n=2&n=3&last=a%2Fb&ns=docker.io&tag=1&tag=b&&artifactType=x%2By").unwrap();
        let text = |text: &str| Some(text.to_owned());
        let expected = Parameters {
            n: Some(2),
            last: text("a/b"),
            artifact_type: text("x+y"),
            tags: vec!["1".to_owned(), "b".to_owned()],
            ..Parameters::default()
        };
        assert_eq!(read, expected);
        assert_eq!(Parameters::parse("").unwrap(), Parameters::default());
        for wrong in ["n=x", "n=-1", "n=", &"tag=t&".repeat(65)] {
            assert!(Parameters::parse(wrong).is_err(), "{wrong}");
        }
    }
}
