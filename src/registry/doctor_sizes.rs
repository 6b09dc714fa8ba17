//! How large a request may be: a body, as the proxies before a registry see it, and a chunk, as the registry does.
//!
//! A size is tried as a chunk of an upload that is given up then, so that nothing stays. Where the registry takes no such chunk, the size is tried once more as a
//! whole blob, under the digest of something else: the registry reads all of it and finds it to be wrong. That is the second choice, because docker-registry keeps
//! what it has refused for a week; it takes chunks of every size.

use reqwest::StatusCode;

use super::answer::Answer;
use super::doctor::Doctor;
use super::doctor_ask::pause;
use super::doctor_findings::{Bodies, BodyRefusal, Chunks, ChunksOutcome, Finding};
use super::doctor_obstacle::Obstacle;
use super::doctor_samples::body;
use super::error::{Action, Operation, RegistryError};
use super::trouble::Trouble;
use super::wire::Payload;
use crate::oci::digest::Digest;

/// The sizes that are tried, as far as is wanted.
const SIZES_MIB: [u64; 7] = [1, 8, 32, 128, 512, 2048, 8192];

/// The smallest size that a refused one is halved to: a push does not try smaller ones (`upload.rs`), and smaller chunks would take longer than all of a
/// layer once more.
const BYTES_LEAST: u64 = 1 << 20;

/// What is known of sizes so far.
struct Limits {
    bodies: Bodies,
    chunks: Option<Chunks>,
}

/// How a body is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Chunk,
    Whole,
}

/// What came of one.
enum Outcome {
    Taken,
    /// A blob was made of it, and it was not that blob.
    Believed,
    TooLarge(Answer),
    Broke,
    Other(Answer),
}

impl Doctor {
    /// Tries larger and larger requests; says whether chunks are of use.
    pub(super) async fn sizes(&mut self, chunks: Option<Chunks>) -> Result<bool, RegistryError> {
        let mut limits = Limits { bodies: Bodies { taken_bytes: 0, refused: None, unchecked: false }, chunks };
        for size_bytes in sizes(self.options.body_bytes_max) {
            self.try_size(size_bytes, &mut limits).await?;
            if limits.bodies.refused.is_some() {
                break;
            }
        }
        // Where between the two the limits are, to a factor of two.
        while let Some(size_bytes) = limits.bodies.between() {
            self.try_size(size_bytes, &mut limits).await?;
        }
        while let Some(size_bytes) = limits.chunks.as_ref().and_then(Chunks::between) {
            self.try_chunk(size_bytes, &mut limits).await?;
        }
        Ok(self.conclude(limits))
    }

    async fn try_size(&mut self, size_bytes: u64, limits: &mut Limits) -> Result<(), RegistryError> {
        let known = limits.chunks.as_ref().filter(|chunks| chunks.are_taken());
        let try_chunk =
            known.is_some_and(|chunks| size_bytes >= chunks.min_bytes && chunks.refused_bytes.is_none_or(|refused| size_bytes < refused));
        if try_chunk && self.try_chunk(size_bytes, limits).await? {
            return Ok(());
        }
        let bodies = &mut limits.bodies;
        match self.send(size_bytes, Way::Whole).await? {
            Outcome::Taken => bodies.taken_bytes = size_bytes,
            Outcome::Believed => (bodies.taken_bytes, bodies.unchecked) = (size_bytes, true),
            Outcome::TooLarge(answer) => bodies.refused = Some((size_bytes, BodyRefusal::TooLarge(answer))),
            Outcome::Broke => bodies.refused = Some((size_bytes, BodyRefusal::Broke)),
            Outcome::Other(answer) => bodies.refused = Some((size_bytes, BodyRefusal::Other(answer))),
        }
        Ok(())
    }

    /// Says whether that told of bodies too, and not of chunks alone.
    async fn try_chunk(&mut self, size_bytes: u64, limits: &mut Limits) -> Result<bool, RegistryError> {
        let outcome = self.send(size_bytes, Way::Chunk).await?;
        let Limits { bodies, chunks: Some(chunks) } = limits else { return Ok(false) };
        if let Outcome::Taken | Outcome::Believed = outcome {
            chunks.taken_bytes = chunks.taken_bytes.max(size_bytes);
            bodies.taken_bytes = bodies.taken_bytes.max(size_bytes);
            return Ok(true);
        }
        let least = chunks.refused_bytes.map_or(size_bytes, |refused| refused.min(size_bytes));
        let why = match outcome {
            Outcome::TooLarge(answer) if answer.status == StatusCode::PAYLOAD_TOO_LARGE => BodyRefusal::TooLarge(answer),
            Outcome::Broke => BodyRefusal::Broke,
            // As GHCR's 416: no word on whole blobs.
            _ => {
                chunks.refused_bytes = Some(least);
                return Ok(false);
            }
        };
        bodies.refused = Some((size_bytes, why));
        Ok(true)
    }

    fn conclude(&mut self, limits: Limits) -> bool {
        let Limits { bodies, chunks } = limits;
        let limited = bodies.is_limited();
        // Chunks of less than a MiB would take longer than all of a layer once more.
        let useful = chunks
            .as_ref()
            .is_some_and(|chunks| chunks.are_taken() && chunks.refused_bytes.is_none_or(|_| chunks.taken_bytes >= BYTES_LEAST));
        let object = self.object();
        match &bodies.refused {
            Some((refused_bytes, _)) if limited && bodies.taken_bytes == 0 => {
                self.obstacle.get_or_insert(Obstacle::SmallBodies { object, refused_bytes: *refused_bytes });
            }
            // Chunks that could not be tried may be a way.
            Some(_) if limited && chunks.is_some() && !useful => {
                self.obstacle.get_or_insert(Obstacle::NoWay { object, taken_bytes: bodies.taken_bytes });
            }
            Some(_) if limited => self.profile.body_bytes_max = Some(bodies.taken_bytes),
            _ => {}
        }
        self.findings.push(Finding::Bodies(bodies));
        if let Some(chunks) = chunks {
            self.profile.chunks = Some(useful);
            self.profile.chunk_bytes_max = chunks.refused_bytes.filter(|_| useful).map(|_| chunks.taken_bytes);
            self.findings.push(Finding::Chunks(chunks));
        }
        useful
    }

    /// Sends `size_bytes` of noise, of which nothing is to stay.
    async fn send(&mut self, size_bytes: u64, way: Way) -> Result<Outcome, RegistryError> {
        let digest = Digest::of(b"lamina doctor: the digest of something else than what is sent");
        let action = self.writer.action(Operation::PushBlob, "");
        let mut tries = self.tries();
        let mut broken = false;
        loop {
            let error = match self.send_once(&action, size_bytes, way, digest).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let gone = self.give_up().await;
            match &error {
                RegistryError::Refused { answer, .. } if !answer.is_transient() => return Ok(outcome(answer, way)),
                RegistryError::Unreachable { trouble: Trouble::Torn, .. } | RegistryError::Stalled { .. } => {
                    if !gone {
                        self.traces.lost.push(format!(
                            "an upload of at most {} KiB in `{}`, whose connection broke",
                            size_bytes >> 10,
                            self.object()
                        ));
                    }
                    if broken {
                        return Ok(Outcome::Broke);
                    }
                    broken = true;
                }
                _ => {}
            }
            pause(&mut tries, error).await?;
        }
    }

    async fn send_once(&mut self, action: &Action, size_bytes: u64, way: Way, digest: Digest) -> Result<Outcome, RegistryError> {
        let session = self.open(action).await?;
        let payload = Payload::Stream { size_bytes, open: &|| body(size_bytes), watch: &|_| () };
        if way == Way::Chunk {
            let (session, _) = self.writer.send_chunk(action, &session, 0, payload).await?;
            self.traces.session = Some(session);
            self.give_up().await;
            return Ok(Outcome::Taken);
        }
        self.traces.blobs.insert(digest);
        self.writer.commit(action, &session, digest, payload).await.inspect_err(|_| {
            self.traces.blobs.remove(&digest);
        })?;
        self.traces.session = None;
        Ok(Outcome::Believed)
    }
}

/// What a refusal says of a size.
fn outcome(answer: &Answer, way: Way) -> Outcome {
    let status = answer.status;
    match way {
        _ if matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::RANGE_NOT_SATISFIABLE) => Outcome::TooLarge(answer.clone()),
        // The specification has a code for another digest, and not all registries say it.
        Way::Whole if answer.has_code("DIGEST_INVALID") || matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => {
            Outcome::Taken
        }
        _ => Outcome::Other(answer.clone()),
    }
}

impl Chunks {
    fn are_taken(&self) -> bool {
        matches!(self.outcome, ChunksOutcome::Taken | ChunksOutcome::Partly | ChunksOutcome::Silent)
    }

    /// The next size to try between what was taken and what was not.
    fn between(&self) -> Option<u64> {
        half_way(self.taken_bytes, self.refused_bytes?).filter(|half_bytes| *half_bytes >= self.min_bytes)
    }
}

impl Bodies {
    /// Whether there is a largest body, and not another reason to refuse one.
    pub fn is_limited(&self) -> bool {
        matches!(self.refused, Some((_, BodyRefusal::TooLarge(_) | BodyRefusal::Broke)))
    }

    /// As for chunks.
    fn between(&self) -> Option<u64> {
        let (refused_bytes, _) = self.refused.as_ref().filter(|_| self.is_limited())?;
        half_way(self.taken_bytes, *refused_bytes)
    }
}

fn half_way(taken_bytes: u64, refused_bytes: u64) -> Option<u64> {
    let half_bytes = refused_bytes / 2;
    (half_bytes > taken_bytes && half_bytes >= BYTES_LEAST).then_some(half_bytes)
}

/// The sizes up to `max_bytes`, which is one of them.
fn sizes(max_bytes: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> = SIZES_MIB.iter().map(|mib| mib << 20).filter(|size_bytes| *size_bytes < max_bytes).collect();
    sizes.push(max_bytes);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_size_is_the_one_that_was_asked_for() {
        let mib = |most: u64| sizes(most << 20).into_iter().map(|bytes| bytes >> 20).collect::<Vec<_>>();
        assert_eq!(mib(32), [1, 8, 32]);
        assert_eq!(mib(1), [1]);
        assert_eq!(mib(100), [1, 8, 32, 100]);
        assert_eq!(mib(20_000), [1, 8, 32, 128, 512, 2048, 8192, 20_000]);
    }

    #[test]
    fn a_limit_is_sought_between_what_was_taken_and_what_was_not() {
        const MIB: u64 = 1 << 20;
        assert_eq!(half_way(8 * MIB, 32 * MIB), Some(16 * MIB));
        assert_eq!(half_way(16 * MIB, 32 * MIB), None);
        assert_eq!(half_way(0, MIB), None);
    }
}
