//! What the findings of a doctor mean to somebody who is going to push models: words, and how much it matters.
//!
//! Each [`Line`] says what was seen, what follows from it, and which setting helps, where there is one. `check`, `verdict` and the names of the members are a
//! promise to programs that read the JSON; the sentences are not.

use reqwest::StatusCode;
use serde::Serialize;

use super::say::size;
use crate::fault::one_line;
use crate::registry::answer::Answer;
use crate::registry::credentials::Origin;
use crate::registry::doctor_findings::{
    AfterBreak, Bodies, BodyRefusal, Chunks, ChunksOutcome, Deletes, Finding, Identity, Login, ManifestKind, MountOutcome, Obstacle,
    Offset, Pull, Reached, Referrers, Reply, Report, Resume, Scheme,
};

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
type Words = (Verdict, String, Option<String>, Option<String>);

fn ok(seen: impl Into<String>) -> Words {
    (Verdict::Ok, seen.into(), None, None)
}

fn note(seen: impl Into<String>, effect: &str) -> Words {
    (Verdict::Note, seen.into(), Some(effect.to_owned()), None)
}

fn hurts(seen: impl Into<String>, effect: &str) -> Words {
    (Verdict::WillHurt, seen.into(), Some(effect.to_owned()), None)
}

fn help(words: Words, help: impl Into<String>) -> Words {
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
        Finding::Login(login) => self::login(login, registry),
        Finding::Pull(pull) => self::pull(pull, registry),
        Finding::Missing { manifest, blob } => missing(*manifest, *blob),
        Finding::Push { reply: Reply::Taken, elsewhere: None } => ok("uploads are opened"),
        Finding::Push { reply: Reply::Taken, elsewhere: Some(origin) } => {
            note(format!("uploads are opened, and go to {origin}"), "who pushes must reach that host too; it is sent no login")
        }
        Finding::Push { reply: Reply::Refused(answer), .. } => refused("an upload is refused", answer, "nothing can be pushed", registry),
        Finding::Whole(Reply::Taken) => ok("a blob goes in one request"),
        Finding::Whole(Reply::Refused(answer)) => refused("a blob is refused", answer, "nothing can be pushed", registry),
        Finding::Bodies(bodies) => self::bodies(bodies, registry),
        Finding::Chunks(chunks) => self::chunks(chunks, registry),
        Finding::Offset(offset) => self::offset(offset),
        Finding::Resume(resume) => self::resume(resume),
        Finding::Mount { from, outcome } => mount(from.as_deref(), outcome, registry),
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

fn login(login: &Login, registry: &str) -> Words {
    let place = match &login.origin {
        Origin::Nowhere => String::new(),
        Origin::Settings => ", from the settings".to_owned(),
        Origin::File(path) => format!(", from `{}`", path.display()),
        Origin::Helper { helper, path } => format!(", from `{helper}`, which `{}` names", path.display()),
    };
    let who = match &login.identity {
        Identity::Anonymous => "there are no credentials for it".to_owned(),
        Identity::User(name) => format!("we are `{name}`, password ****{place}"),
        Identity::Token => format!("we have an identity token ****{place}"),
    };
    let log_in = format!("`docker login {registry}`, `podman login {registry}`, or `username` and `password` for registry `{registry}`");
    match (&login.scheme, &login.identity) {
        (Scheme::Nothing, Identity::Anonymous) => ok("it asks for no login"),
        (Scheme::Nothing, _) => ok(format!("it asks for no login, and is told of none; where it did: {who}")),
        (Scheme::Basic, Identity::Anonymous) => {
            help(hurts(format!("it wants a password, and {who}"), "nothing can be pulled or pushed"), log_in)
        }
        (Scheme::Basic, Identity::Token) => help(hurts(format!("it wants a password, and {who}"), "the token is of no use there"), log_in),
        (Scheme::Basic, Identity::User(_)) => ok(format!("it wants a password; {who}")),
        (Scheme::Bearer { realm }, Identity::Anonymous) => {
            help(note(format!("it wants tokens of {realm}, and {who}"), "we are a guest, who may seldom push"), log_in)
        }
        (Scheme::Bearer { realm }, _) => ok(format!("it wants tokens of {realm}; {who}")),
        (Scheme::Unknown, _) => {
            hurts(format!("it wants a login of a kind that is not known here; {who}"), "nothing can be pulled or pushed")
        }
    }
}

fn pull(pull: &Pull, registry: &str) -> Words {
    match pull {
        Pull::Granted => ok("the repository can be read"),
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

fn bodies(bodies: &Bodies, registry: &str) -> Words {
    if bodies.unchecked {
        return hurts(
            "bytes are taken under a digest that is not theirs",
            "what is spoilt on the way shows when it is pulled, and not before",
        );
    }
    let taken = size(bodies.taken_bytes);
    let Some((refused_bytes, why)) = &bodies.refused else {
        return ok(format!("request bodies of {taken} are taken; `--body-mib N` tries larger ones"));
    };
    let refused = size(*refused_bytes);
    let why = match why {
        BodyRefusal::TooLarge(answer) | BodyRefusal::Other(answer) => answer.to_string(),
        BodyRefusal::Broke => "the connection breaks".to_owned(),
    };
    let proxy = "raise the largest request body of the proxy before the registry (nginx: `client_max_body_size`)";
    if bodies.taken_bytes == 0 {
        return help(hurts(format!("a request body of {refused} is refused: {why}"), "nothing larger can be pushed"), proxy);
    }
    let effect = format!("larger layers go in chunks of at most {taken}, which takes longer");
    let known = format!("{proxy}; until then pushes go by this, and `body_bytes_max` for registry `{registry}` sets it by hand");
    help(hurts(format!("request bodies of {taken} are taken, of {refused} not: {why}"), &effect), known)
}

fn chunks(chunks: &Chunks, registry: &str) -> Words {
    const WHOLE: &str = "each layer goes in one request, and one that breaks off begins again";
    let least = match chunks.min_bytes {
        0 => String::new(),
        min_bytes => format!(", of at least {}", size(min_bytes)),
    };
    match &chunks.outcome {
        ChunksOutcome::Refused(answer) => note(format!("chunks are not taken: {answer}"), WHOLE),
        ChunksOutcome::RangeStuck => note("chunks are taken, and the `Range` that comes back stands still", WHOLE),
        ChunksOutcome::RangeAhead => note("chunks are taken, and the `Range` that comes back says more than was sent", WHOLE),
        ChunksOutcome::NotCommitted(answer) => note(format!("chunks are taken, and then not made a blob: {answer}"), WHOLE),
        outcome => {
            let how = match outcome {
                ChunksOutcome::Partly => "chunks are taken, sometimes in part",
                ChunksOutcome::Silent => "chunks are taken, without a word on how much has come",
                _ => "chunks are taken",
            };
            match chunks.refused_bytes {
                Some(refused_bytes) => {
                    let seen = format!("{how}{least}: of {}, and of {} not", size(chunks.taken_bytes), size(refused_bytes));
                    let effect =
                        format!("a layer that breaks off, or is too large for one request, goes in chunks of {}", size(chunks.taken_bytes));
                    help(note(seen, &effect), format!("pushes go by this; `chunk_bytes` for registry `{registry}` sets it by hand"))
                }
                None => ok(format!("{how}{least}: of {}", size(chunks.taken_bytes))),
            }
        }
    }
}

fn offset(offset: &Offset) -> Words {
    match offset {
        Offset::Refused => ok("a chunk for another place is refused, and asked it says where the upload stands"),
        Offset::RefusedOnly => {
            note("a chunk for another place is refused, and asked it does not say where the upload stands", "such an upload begins again")
        }
        Offset::Swallowed => note(
            "a chunk for another place is taken without a word",
            "hs believes the `Range` that comes back and nothing else; other clients find a broken layer at its end",
        ),
        Offset::Other(answer) => note(format!("a chunk for another place is answered {answer}"), "such an upload begins again"),
    }
}

fn resume(resume: &Resume) -> Words {
    const AGAIN: &str = "a layer whose connection breaks is sent again from its beginning";
    match (resume.after_break, resume.after_chunk) {
        (AfterBreak::NotTried, _) => hurts("without chunks, an upload cannot go on where it stopped", AGAIN),
        (_, false) => hurts("it does not say how far an upload is", AGAIN),
        (AfterBreak::Everything, true) => ok("an upload whose connection broke goes on at its last byte"),
        (AfterBreak::WholeChunks, true) => ok("an upload whose connection broke goes on after its last whole chunk"),
        (AfterBreak::Nothing, true) => {
            hurts("an upload whose connection broke is forgotten; one that stops between two chunks goes on", AGAIN)
        }
    }
}

fn mount(from: Option<&str>, outcome: &MountOutcome, registry: &str) -> Words {
    const SENT: &str = "layers that another model of this registry has are sent again";
    const OTHER: &str = "`--mount-from REPO` tries another repository, which has images";
    let ask_anyway = format!("`mounts: true` for registry `{registry}` asks all the same; `false` never asks");
    match (from, outcome) {
        (None, MountOutcome::Mounted) => ok(format!("blobs are mounted, tried within the repository; {OTHER}")),
        (None, MountOutcome::Refused(answer)) => help(note(format!("a mount within the repository is refused: {answer}"), SENT), OTHER),
        (None, _) => help(note("a mount within the repository opens an upload instead", SENT), OTHER),
        (Some(from), MountOutcome::Mounted) => ok(format!("blobs are mounted from `{from}`")),
        (Some(from), MountOutcome::NothingToMount) => {
            note(format!("`{from}` has no small blob that is not here already"), "whether mounts work is not known")
        }
        (Some(from), MountOutcome::Session) => help(hurts(format!("a mount from `{from}` opens an upload instead"), SENT), ask_anyway),
        (Some(from), MountOutcome::Refused(answer)) => {
            let words = hurts(format!("a mount from `{from}` is refused: {answer}"), SENT);
            let rights = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            help(words, if rights { format!("the login needs the right to pull from `{from}`") } else { ask_anyway })
        }
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
    let repository = format!("{}/{}", report.registry, report.repository);
    match &report.obstacle {
        Some(obstacle @ Obstacle::Unreadable { .. }) => return format!("{}.", one_line(obstacle)),
        Some(obstacle) => return format!("Pushing will not work: {}.", one_line(obstacle)),
        None => {}
    }
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
