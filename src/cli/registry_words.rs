//! What the findings of a doctor mean to somebody who is going to push models: words, and how much it matters.
//!
//! Each [`Line`] says what was seen, what follows from it, and which setting helps, where there is one. `check`, `verdict` and the names of the members are a
//! promise to programs that read the JSON; the sentences are not.

use reqwest::StatusCode;
use serde::Serialize;

use super::registry_login_words as login_words;
use super::registry_upload_words as upload_words;
use crate::fault::one_line;
use crate::registry::answer::Answer;
use crate::registry::doctor_findings::{Catalog, Deletes, Finding, ManifestKind, Pull, Reached, Referrers, Reply, Report};
use crate::registry::doctor_obstacle::Obstacle;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// It will cost time, or stop somebody.
    WillHurt,
}

/// A finding for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What was tried.
    pub check: &'static str,
    /// How much it matters.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What follows from it.
    pub effect: Option<String>,
    /// What helps.
    pub help: Option<String>,
}

/// Verdict, what was seen, what follows, what helps.
pub(super) type Words = (Verdict, String, Option<String>, Option<String>);

pub(super) fn ok(seen: impl Into<String>) -> Words {
    (Verdict::Ok, seen.into(), None, None)
}

pub(super) fn note(seen: impl Into<String>, effect: &str) -> Words {
    (Verdict::Note, seen.into(), Some(effect.to_owned()), None)
}

pub(super) fn hurts(seen: impl Into<String>, effect: &str) -> Words {
    (Verdict::WillHurt, seen.into(), Some(effect.to_owned()), None)
}

pub(super) fn help(words: Words, help: impl Into<String>) -> Words {
    (words.0, words.1, words.2, Some(help.into()))
}

/// The words for a finding about `registry`.
pub fn line(finding: &Finding, registry: &str) -> Line {
    let (verdict, seen, effect, help) = words(finding, registry);
    Line { check: finding.check(), verdict, seen, effect, help }
}

fn words(finding: &Finding, registry: &str) -> Words {
    match finding {
        Finding::Reached(reached) => self::reached(reached, registry),
        Finding::Clock { ahead_s } => clock(*ahead_s),
        Finding::Login(login) => login_words::login(login, registry),
        Finding::Stranger { why } => hurts(format!("this is not a registry: {why}"), "nothing can be pulled or pushed"),
        Finding::Catalog(Catalog::Listed) => ok("it tells which repositories there are"),
        Finding::Catalog(Catalog::NotListed(status)) => {
            ok(format!("it does not tell which repositories there are ({}), as many do not", status.as_u16()))
        }
        Finding::Pull(pull) => self::pull(pull, registry),
        Finding::Missing { manifest, blob } => missing(*manifest, *blob),
        Finding::Push { reply: Reply::Taken, elsewhere: None } => ok("uploads are opened"),
        Finding::Push { reply: Reply::Taken, elsewhere: Some(origin) } => {
            note(format!("uploads are opened, and go to {origin}"), "who pushes must reach that host too; it is sent no login")
        }
        Finding::Push { reply: Reply::Refused(answer), .. } => refused("an upload is refused", answer, "nothing can be pushed", registry),
        Finding::Whole(Reply::Taken) => ok("a blob goes in one request"),
        Finding::Whole(Reply::Refused(answer)) => refused("a blob is refused", answer, "nothing can be pushed", registry),
        Finding::Bodies(bodies) => upload_words::bodies(bodies, registry),
        Finding::Chunks(chunks) => upload_words::chunks(chunks, registry),
        Finding::Offset(offset) => upload_words::offset(offset),
        Finding::Resume(resume) => upload_words::resume(resume),
        Finding::Mount { from, outcome } => upload_words::mount(from.as_deref(), outcome, registry),
        Finding::Manifest { kind, reply } => manifest(*kind, reply),
        Finding::Overwrite(Reply::Taken) => ok("a tag can be pointed at another image"),
        Finding::Overwrite(Reply::Refused(answer)) => help(
            note(format!("a tag stays what it is: {answer}"), "a changed model under the same tag is refused"),
            "give each push a tag of its own",
        ),
        Finding::Referrers(referrers) => self::referrers(referrers),
        Finding::Download { elsewhere: None } => ok("blobs come from the registry itself"),
        Finding::Download { elsewhere: Some(origin) } => {
            note(format!("blobs come from {origin}"), "who pulls must reach that host too, through every proxy and firewall")
        }
        Finding::Delete(deletes) => delete(*deletes),
        Finding::Warning(text) => note(format!("the registry says: {text}"), "it wants its users to know"),
        Finding::Failed { problem, remedy, .. } => (Verdict::WillHurt, format!("could not be found out: {problem}"), None, remedy.clone()),
    }
}

fn refused(what: &str, answer: &Answer, effect: &str, registry: &str) -> Words {
    let words = hurts(format!("{what}: {answer}"), effect);
    match answer.status {
        StatusCode::UNAUTHORIZED => help(words, format!("log in: `docker login {registry}` or `podman login {registry}`")),
        StatusCode::NOT_FOUND => help(words, "make the repository first, by the registry's own means: some do not make one with a push"),
        StatusCode::FORBIDDEN => help(words, "the login lacks the right to push here, or a quota is full: the registry's words say which"),
        _ => words,
    }
}

fn reached(reached: &Reached, registry: &str) -> Words {
    let api = reached.api_version.as_ref().map(|version| format!(", API {version}")).unwrap_or_default();
    let seen = format!("{} answers{api}", reached.origin);
    if !matches!(reached.status, StatusCode::OK | StatusCode::UNAUTHORIZED) {
        return note(
            format!("{seen}, with {} to `/v2/`", reached.status),
            "a registry answers 200 or 401 there: this may be something else",
        );
    }
    if reached.encrypted || reached.loopback {
        return ok(seen);
    }
    help(
        note(format!("{seen}, by plain HTTP"), "passwords and models can be read by everybody on the way"),
        format!("`plain_http: false` for registry `{registry}`, where it has TLS"),
    )
}

fn clock(ahead_s: i64) -> Words {
    let side = if ahead_s > 0 { "ahead of" } else { "behind" };
    note(format!("its clock is {} s {side} this machine's", ahead_s.unsigned_abs()), "tokens may count as ended, or as not yet valid")
}

fn pull(pull: &Pull, registry: &str) -> Words {
    match pull {
        Pull::Granted => ok("the repository can be read"),
        Pull::NoList => hurts("asked for the tags, it answers with something else", "nothing can be found by its tag there"),
        Pull::NoRepository => ok("there is no such repository yet: it comes with the first push"),
        Pull::Refused(answer) => {
            refused("reading is refused", answer, "nobody with this login can pull; a push may work all the same", registry)
        }
    }
}

fn missing(manifest: StatusCode, blob: StatusCode) -> Words {
    let seen = format!("what is not there is answered {} (manifest) and {} (blob)", manifest.as_u16(), blob.as_u16());
    let goes_on = |status: StatusCode| matches!(status.as_u16(), 403 | 404);
    match (manifest, blob) {
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND) => ok("what is not there is answered 404"),
        _ if goes_on(blob) && (goes_on(manifest) || matches!(manifest.as_u16(), 400 | 405)) => {
            note(seen, "a misspelt name looks like something else; a push goes on all the same")
        }
        _ => hurts(seen, "a push asks first what is there, and stops at such an answer"),
    }
}

fn manifest(kind: ManifestKind, reply: &Reply) -> Words {
    let what = match kind {
        ManifestKind::Oci => "OCI images",
        ManifestKind::Zstd => "layers in zstd",
        ManifestKind::Docker => "Docker images",
        ManifestKind::Index => "OCI indexes",
    };
    let Reply::Refused(answer) = reply else { return ok(format!("{what} are taken")) };
    let seen = format!("{what} are refused: {answer}");
    match kind {
        ManifestKind::Oci => hurts(seen, "images on a base of the OCI family, or on `scratch`, cannot be pushed"),
        ManifestKind::Zstd => {
            help(note(seen, "a base with such layers cannot be used; hs makes none itself"), "use a base whose layers are in gzip")
        }
        ManifestKind::Docker => help(note(seen, "images on a base of the Docker family cannot be pushed"), "use a base of the OCI family"),
        ManifestKind::Index => help(hurts(seen, "images for several platforms cannot be pushed"), "build for one, with `--platform`"),
    }
}

fn referrers(referrers: &Referrers) -> Words {
    match referrers {
        Referrers::Api { subject_named: Some(false) } => {
            note("referrers are listed, and a push is not told so (`OCI-Subject`)", "the index under the subject's tag is kept as well")
        }
        Referrers::Api { .. } => ok("referrers are listed"),
        Referrers::FallbackTag => note(
            "referrers are not listed: there is no such API",
            "signatures and the like are listed under a tag `sha256-…`, where two who push at once may lose one",
        ),
        Referrers::Refused(answer) => {
            note(format!("manifests with a subject are refused: {answer}"), "signatures and the like cannot be pushed")
        }
    }
}

fn delete(deletes: Deletes) -> Words {
    let done = |status: Option<StatusCode>| status.is_none_or(|status| status.is_success());
    let kept: Vec<String> = [("tags", deletes.tag), ("manifests", deletes.manifest), ("blobs", deletes.blob)]
        .into_iter()
        .filter(|(_, status)| !done(*status))
        .map(|(what, status)| format!("{what} ({})", status.map_or(0, |status| status.as_u16())))
        .collect();
    if kept.is_empty() {
        return ok("what was pushed can be deleted again");
    }
    note(
        format!("not deleted when asked: {}", kept.join(", ")),
        "old versions stay until somebody removes them by the registry's own means",
    )
}

/// All of it in one sentence.
pub fn summary(report: &Report, lines: &[Line], read_only: bool) -> String {
    match &report.obstacle {
        Some(obstacle @ (Obstacle::Unreadable { .. } | Obstacle::NotARegistry { .. })) => return format!("{}.", one_line(obstacle)),
        Some(obstacle) => return format!("Pushing will not work: {}.", one_line(obstacle)),
        None => {}
    }
    let Some(repository) = &report.repository else {
        return format!(
            "`{0}` is there. Name a repository of it (`hs registry doctor {0}/team/model`) to find out whether models can be pushed, and what will hurt.",
            report.registry
        );
    };
    let repository = format!("{}/{repository}", report.registry);
    if read_only {
        return format!("`{repository}` can be read; whether it takes models was not tried.");
    }
    let painful: Vec<&str> = lines.iter().filter(|line| line.verdict == Verdict::WillHurt).map(|line| line.check).collect();
    if painful.is_empty() {
        format!("Pushing to `{repository}` will work, and nothing found here will hurt.")
    } else {
        format!("Pushing to `{repository}` will work; what will hurt: {}.", painful.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;
    use crate::registry::doctor_findings::{Bodies, BodyRefusal};

    fn answer(status: u16) -> Answer {
        Answer::new(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"because")
    }

    fn check(finding: &Finding, verdict: Verdict, words: &[&str]) {
        let line = line(finding, "host");
        let said = format!("{} {} {}", line.seen, line.effect.unwrap_or_default(), line.help.unwrap_or_default());
        assert_eq!(line.verdict, verdict, "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }

    #[test]
    fn what_goes_over_the_wire_in_the_clear_is_told() {
        let reached =
            |encrypted, status| Finding::Reached(Reached { origin: "o".to_owned(), encrypted, loopback: false, status, api_version: None });
        check(&reached(true, StatusCode::UNAUTHORIZED), Verdict::Ok, &["o answers"]);
        check(&reached(false, StatusCode::OK), Verdict::Note, &["everybody on the way", "`plain_http: false` for registry `host`"]);
        check(&reached(true, StatusCode::NOT_FOUND), Verdict::Note, &["404", "something else"]);
    }

    #[test]
    fn a_refusal_is_told_with_what_helps_against_it() {
        let push = |status| Finding::Push { reply: Reply::Refused(answer(status)), elsewhere: None };
        check(&push(401), Verdict::WillHurt, &["because", "docker login host"]);
        check(&push(403), Verdict::WillHurt, &["quota"]);
        check(&push(404), Verdict::WillHurt, &["make the repository first"]);
        check(&Finding::Push { reply: Reply::Taken, elsewhere: Some("https://store".to_owned()) }, Verdict::Note, &["https://store"]);
    }

    #[test]
    fn a_limit_is_one_of_size_or_of_something_else() {
        let bodies = |taken_bytes, why| Finding::Bodies(Bodies { taken_bytes, refused: Some((32 << 20, why)), unchecked: false });
        check(
            &bodies(8 << 20, BodyRefusal::TooLarge(answer(413))),
            Verdict::WillHurt,
            &["8.00 MiB", "`body_bytes_max` for registry `host`"],
        );
        check(&bodies(8 << 20, BodyRefusal::Broke), Verdict::WillHurt, &["the connection breaks", "client_max_body_size"]);
        check(&bodies(8 << 20, BodyRefusal::Other(answer(403))), Verdict::WillHurt, &["not for their size"]);
        let unchecked = Finding::Bodies(Bodies { taken_bytes: 1, refused: None, unchecked: true });
        check(&unchecked, Verdict::WillHurt, &["under a digest that is not theirs"]);
        check(&Finding::Missing { manifest: StatusCode::OK, blob: StatusCode::NOT_FOUND }, Verdict::WillHurt, &["asks first"]);
        check(&Finding::Missing { manifest: StatusCode::METHOD_NOT_ALLOWED, blob: StatusCode::NOT_FOUND }, Verdict::Note, &["405"]);
    }
}
