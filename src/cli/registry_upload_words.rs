//! What the findings of a doctor about blobs mean: the part of `registry_words.rs` that is about getting layers there.

use reqwest::StatusCode;

use super::registry_words::{Words, help, hurts, note, ok};
use super::say::size;
use crate::registry::doctor_findings::{AfterBreak, Bodies, BodyRefusal, Chunks, ChunksOutcome, MountOutcome, Offset, Resume};

/// How large a request body may be.
pub(super) fn bodies(bodies: &Bodies, registry: &str) -> Words {
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
    let seen = format!("request bodies of {taken} are taken, of {refused} not: {why}");
    if !bodies.is_limited() {
        return hurts(seen, "it was not for their size, and layers may be refused for the same reason");
    }
    let effect = format!("larger layers go in chunks of at most {taken}, which takes longer");
    let known = format!("{proxy}; until then pushes go by this, and `body_bytes_max` for registry `{registry}` sets it by hand");
    help(hurts(seen, &effect), known)
}

/// Whether chunks are taken, and how large.
pub(super) fn chunks(chunks: &Chunks, registry: &str) -> Words {
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

/// What becomes of a chunk for another place.
pub(super) fn offset(offset: &Offset) -> Words {
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

/// What is left of an upload that stops.
pub(super) fn resume(resume: &Resume) -> Words {
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

/// Whether layers come from another repository.
pub(super) fn mount(from: Option<&str>, outcome: &MountOutcome, registry: &str) -> Words {
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
