//! `WWW-Authenticate`: how a registry wants to be asked.
//!
//! A header may hold several challenges, and a registry may send several headers (RFC 9110, 11.6.1); Bearer is taken
//! before Basic. Only reads; who answers a challenge, and where, is `tokens.rs`.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and a password with each request.
    Basic,
    /// A token, which another server gives out (distribution, "Token Authentication").
    Bearer {
        /// The URL of that server, as written.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
        /// What a token would have to allow for the request that was refused.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best challenge of an answer that we can meet.
    pub fn of(headers: &HeaderMap) -> Option<Challenge> {
        let all = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(parse);
        let mut best = None;
        for (scheme, mut parameters) in all {
            if scheme == "bearer" {
                if let Some(realm) = parameters.remove("realm") {
                    return Some(Challenge::Bearer { realm, service: parameters.remove("service"), scope: parameters.remove("scope") });
                }
            } else if scheme == "basic" {
                best = Some(Challenge::Basic);
            }
        }
        best
    }
}

/// The challenges of one header: schemes and parameter names in lower case. What is not understood is passed over.
fn parse(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut challenges: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() && after.is_empty() {
            return challenges;
        }
        let value = after.trim_start().strip_prefix('=');
        match (value, challenges.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after_value) = take_value(value.trim_start());
                parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                rest = after_value;
            }
            // A parameter before any scheme.
            (Some(value), None) => rest = take_value(value.trim_start()).1,
            (None, _) => {
                challenges.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string (RFC 9110, 5.6.4), and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, text.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned), scope: scope.map(str::to_owned) }
    }

    #[test]
    fn challenges_of_every_form() {
        assert_eq!(
            of(&[r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#]),
            Some(bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push")))
        );
        assert_eq!(of(&[r#"bearer  REALM = "https://x/" , service=plain"#]), Some(bearer("https://x/", Some("plain"), None)));
        assert_eq!(of(&[r#"Basic realm="a, b", Bearer realm="https://x/\"q\"""#]), Some(bearer("https://x/\"q\"", None, None)));
        assert_eq!(of(&["Basic", r#"Bearer realm="https://x/""#]), Some(bearer("https://x/", None, None)));
        assert_eq!(of(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        assert_eq!(of(&["Negotiate abc==, Basic realm=x"]), Some(Challenge::Basic));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for text in ["", ",", "=", "Bearer", "Bearer service=x", r#"realm="https://x/""#, "Digest qop=auth", "Bearer realm", "= = ,= \""] {
            assert_eq!(of(&[text]), None, "{text}");
        }
        assert_eq!(of(&[r#"Bearer realm="https://x/\"#]), Some(bearer("https://x/", None, None)));
        assert_eq!(of(&[]), None);
    }
}
