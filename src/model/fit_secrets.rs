//! The check `secrets`: keys and tokens in what is about to be shipped to everybody who can pull the image.
//!
//! Told by what their issuers make recognisable: the armour of private keys, tokens with a known beginning, and files that exist to hold passwords. A secret
//! without such a mark is not found. Values that stand in documentation ("EXAMPLE") are left alone.
//!
//! What must stay true: a finding has the place and the kind of a secret, and not one byte of it.

use super::fit::{Check, Finding, Place, Severity};

/// The largest file that is looked at: keys and tokens stand in small files, notebooks among them.
pub(super) const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Findings of one file.
const FINDINGS_MAX: usize = 10;

/// A token: how it begins, how many characters follow at least, and what it is.
const TOKENS: &[(&str, usize, &str)] = &[
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS session key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghu_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("ghr_", 36, "a GitHub token"),
    ("github_pat_", 40, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("hf_", 30, "a Hugging Face token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("xoxa-", 20, "a Slack token"),
    ("xoxr-", 20, "a Slack token"),
    ("xoxs-", 20, "a Slack token"),
    ("sk-ant-", 40, "an Anthropic key"),
    ("sk-proj-", 40, "an OpenAI key"),
    ("sk_live_", 24, "a Stripe key"),
    ("AIza", 35, "a Google API key"),
    ("npm_", 36, "an npm token"),
    ("pypi-AgEIcHlwaS5vcmc", 50, "a PyPI token"),
    ("dckr_pat_", 27, "a Docker Hub token"),
    ("dop_v1_", 64, "a DigitalOcean token"),
    ("PMAK-", 59, "a Postman key"),
];

/// Files that exist to hold passwords: the end of their path, a word that has to be in them, and what they are.
const FILES: &[(&str, &str, &str)] = &[
    (".netrc", "password", "passwords for other machines"),
    ("_netrc", "password", "passwords for other machines"),
    (".pypirc", "password", "the password of a package index"),
    (".git-credentials", "://", "the passwords of Git"),
    (".pgpass", ":", "passwords of PostgreSQL"),
    (".npmrc", "_authToken", "the token of a package registry"),
    (".docker/config.json", "\"auth\"", "the passwords of registries"),
    (".dockercfg", "\"auth\"", "the passwords of registries"),
    (".aws/credentials", "aws_secret_access_key", "the keys of AWS"),
    (".kube/config", "users:", "the keys of a Kubernetes cluster"),
    ("application_default_credentials.json", "refresh_token", "the credentials of a Google account"),
];

/// Files with indexes and proxies in them, whose addresses may carry a password.
const ADDRESSES: &[&str] = &["requirements.txt", "pip.conf", "pip.ini", "environment.yml", "conda.yaml"];

/// What should not be shipped in the text `bytes`, the file at `path`.
pub(super) fn check(path: &str, bytes: &[u8]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut add = |place: Place, what: &str| {
        let remedy = "take it out, or leave the file out with `.hsignore`; if an image with it was ever pushed, revoke it";
        if findings.len() < FINDINGS_MAX {
            findings.push(Finding {
                check: Check::Secrets,
                file: path.to_owned(),
                place,
                what: format!("has {what}, which everybody who can pull the image can read"),
                remedy: remedy.to_owned(),
                severity: Severity::Warning,
            });
        }
    };
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_at = |end: &str| path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'));
    if let Some((.., what)) = FILES.iter().find(|(end, word, _)| is_at(end) && contains(bytes, word.as_bytes())) {
        add(Place::Whole, what);
        return findings;
    }
    let is_service_account = || contains(bytes, b"\"service_account\"") && contains(bytes, b"\"private_key\"");
    let mut offset = 0;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (place, rest) = (Place::Line(index as u64 + 1), &bytes[offset..]);
        offset += line.len() + 1;
        if begins_private_key(rest) {
            add(place, if is_service_account() { "the private key of a Google service account" } else { "a private key" });
        } else if let Some(what) = token(line) {
            add(place, what);
        } else if ADDRESSES.contains(&name) && has_password(line) {
            add(place, "an address with a password");
        }
    }
    findings
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

/// Whether a private key begins in the first line of `rest`: the armour's first line, and something of the key behind it. The line alone stands in code that
/// looks for keys.
fn begins_private_key(rest: &[u8]) -> bool {
    const ENDS: [&[u8]; 2] = [b"PRIVATE KEY-----", b"PRIVATE KEY BLOCK-----"];
    const LABEL_BYTES_MAX: usize = 60;
    const KEY_BYTES_MIN: usize = 16;
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.starts_with(b"PuTTY-User-Key-File-") {
        return true;
    }
    // `PRIVATE KEY`, `RSA PRIVATE KEY`, `OPENSSH PRIVATE KEY`, `PGP PRIVATE KEY BLOCK`.
    let Some(begin) = position(line, b"-----BEGIN ") else { return false };
    let label = &line[begin..line.len().min(begin + LABEL_BYTES_MAX)];
    let Some(end) = ENDS.iter().find_map(|end| Some(begin + position(label, end)? + end.len())) else { return false };
    // In JSON and in strings the line's end is written out.
    let mut key = &rest[end..];
    while let Some(after) = key
        .strip_prefix(b"\\n")
        .or_else(|| key.strip_prefix(b"\\r"))
        .or_else(|| key.strip_prefix(b"\n"))
        .or_else(|| key.strip_prefix(b"\r"))
    {
        key = after;
    }
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    key.starts_with(b"Proc-Type:") || key.starts_with(b"Version:") || key.iter().take_while(|byte| is_base64(byte)).count() >= KEY_BYTES_MIN
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// The kind of the first token in a line. A token begins where a word does.
fn token(line: &[u8]) -> Option<&'static str> {
    let starts = (0..line.len()).filter(|at| line[*at].is_ascii_alphabetic() && (*at == 0 || !is_word(line[*at - 1])));
    starts.map(|at| &line[at..]).find_map(|rest| {
        let (begin, length, what) = TOKENS.iter().find(|(begin, ..)| rest.starts_with(begin.as_bytes()))?;
        is_value(begin, *length, &rest[begin.len()..]).then_some(*what)
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Whether what follows a token's beginning is one.
fn is_value(begin: &str, length: usize, after: &[u8]) -> bool {
    let run = after.iter().take_while(|byte| is_word(**byte)).count();
    let value = &after[..run];
    // AWS' are capitals and digits, and exactly that long.
    let long_enough = if begin == "AKIA" || begin == "ASIA" {
        run == length && value.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    } else {
        run >= length && value.iter().any(u8::is_ascii_alphabetic)
    };
    // A row of one character stands for a token, and so does what says that it is an example.
    let is_example = value.windows(7).any(|window| window.eq_ignore_ascii_case(b"example")) || value.windows(2).all(|two| two[0] == two[1]);
    long_enough && !is_example
}

/// `https://user:password@host`, where the password is no variable.
fn has_password(line: &[u8]) -> bool {
    let Some(scheme) = position(line, b"://") else { return false };
    let authority = line[scheme + 3..].split(|byte| *byte == b'/' || byte.is_ascii_whitespace()).next().unwrap_or_default();
    let Some(at) = authority.iter().rposition(|byte| *byte == b'@') else { return false };
    let Some(colon) = authority[..at].iter().position(|byte| *byte == b':') else { return false };
    let password = &authority[colon + 1..at];
    !password.is_empty() && !password.iter().any(|byte| b"$<>{}*%".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(path, text.as_bytes()).iter().map(Finding::problem).collect()
    }

    #[test]
    fn keys_and_tokens_are_named_by_their_line_and_never_shown() {
        // Put together here, so that this file has none.
        let token = format!("{}{}", "ghp_", "a1B2".repeat(9));
        let aws = format!("{}{}", "AKIA", "Q7RTZ2K4L6MN8PVW");
        let text = format!("x = 1\nTOKEN = '{token}'\nkey={aws}\n-----BEGIN OPENSSH {}-----\nb3BlbnNzaC1rZXktdjEAAAAA\n", "PRIVATE KEY");
        let said = found("src/config.py", &text);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("`src/config.py` line 2 has a GitHub token, which everybody"), "{said:?}");
        assert!(said[1].contains("line 3 has an AWS access key") && said[2].contains("line 4 has a private key"));
        assert!(!said.join("").contains(&token[4..12]) && !said.join("").contains(&aws[4..]));
    }

    #[test]
    fn files_that_hold_passwords_are_told_by_name_and_content() {
        assert!(found("home/.netrc", "machine x login y password z")[0].starts_with("`home/.netrc` has passwords"));
        assert!(found(".docker/config.json", r#"{"auths": {"x": {"auth": "eA=="}}}"#)[0].contains("registries"));
        assert_eq!(found(".docker/config.json", "{}"), Vec::<String>::new());
        assert!(
            found("requirements.txt", "--index-url https://ci:s3cret@index/simple\n")[0].contains("line 1 has an address with a password")
        );
        let account = format!(
            "{{\"type\": \"service_account\",\n \"private_key\": \"-----BEGIN {}-----\\nMIIEvgIBADANBgkqhkiG9w0BAQ\\n\"}}",
            "PRIVATE KEY"
        );
        assert!(found("sa.json", &account)[0].contains("line 2 has the private key of a Google service account"));
    }

    #[test]
    fn what_only_looks_like_a_secret_is_left_alone() {
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "hf_hub_download(repo_id='x')",
            concat!("if text.startswith('-----BEGIN ", "PRIVATE KEY-----'): pass"),
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN PUBLIC KEY-----",
            "the_AKIAQ7RTZ2K4L6MN8PVW9",
            "npm_config_registry=https://registry",
            "sk-proj-",
        ] {
            assert_eq!(found("a.txt", text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(
            found("requirements.txt", "--index-url https://ci:${TOKEN}@index/simple\nnumpy @ https://h/n@1.whl\n"),
            Vec::<String>::new()
        );
    }
}
