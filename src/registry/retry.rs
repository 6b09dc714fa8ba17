//! When to try again, and how long to wait before.
//!
//! What is worth another try is said by the failure itself ([`Failure::fault`], through the tables of `answer.rs` and
//! `error.rs`). This file counts and waits. What must stay true: the count starts again only when something went
//! forward.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use super::error::RegistryError;
use super::settings::Patience;
use super::trouble::Trouble;
use crate::fault::Failure;

/// The tries of one piece of work.
pub struct Tries {
    patience: Patience,
    failures: u32,
    /// How many of them were a host that said nothing: each has cost a long wait.
    silences: u32,
    /// Whether the registry ever answered; a host that never did is more likely misspelt than busy.
    known: bool,
}

impl Tries {
    /// None yet. `known`: whether the registry has answered before.
    pub fn new(patience: Patience, known: bool) -> Tries {
        Tries { patience, failures: 0, silences: 0, known }
    }

    /// Something went forward: the count begins again.
    pub fn progress(&mut self) {
        self.failures = 0;
        self.silences = 0;
        self.known = true;
    }

    /// The pause before the next try after `error`, or nothing where it is not worth one.
    pub fn pause_after(&mut self, error: &RegistryError) -> Option<Duration> {
        if error.fault().is_transient() { self.pause(error) } else { None }
    }

    /// As [`Tries::pause_after`], for failures that the caller knows to be worth another try.
    pub fn pause(&mut self, error: &RegistryError) -> Option<Duration> {
        self.failures += 1;
        if let RegistryError::Stalled { silence, .. } = error {
            self.silences += 1;
            // Who has never said a word is most likely no registry.
            if silence.first || self.silences >= self.patience.silent_tries_max {
                return None;
            }
        }
        let never_heard = matches!(error, RegistryError::Unreachable { trouble: Trouble::NoConnection | Trouble::UnknownHost, .. });
        if !never_heard {
            self.known = true;
        }
        // Two tries for a host that never answered: a typing error should not cost half a minute.
        let tries_max = if self.known { self.patience.tries_max } else { self.patience.tries_max.min(2) };
        if self.failures >= tries_max {
            return None;
        }
        if let Some(asked) = error.answer().and_then(|answer| answer.retry_after) {
            return (asked <= self.patience.retry_after_max).then_some(asked.max(self.patience.pause_first));
        }
        let doubled = self.patience.pause_first.saturating_mul(1 << (self.failures - 1).min(16));
        Some(spread(doubled.min(self.patience.pause_max)))
    }
}

/// Between a half and the whole of `pause`, so that many clients of one registry do not come back together.
fn spread(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1024;
    pause / 2 + pause.mul_f64(random as f64 / 2048.0)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use reqwest::header::{HeaderMap, RETRY_AFTER};

    use super::super::answer::Answer;
    use super::super::error::{Action, Operation};
    use super::super::silence::{Awaited, Silence};
    use super::*;

    fn refused(status: u16, retry_after: Option<&str>) -> RegistryError {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(RETRY_AFTER, text.parse().unwrap());
        }
        RegistryError::Refused {
            action: Action { operation: Operation::PushBlob, registry: "host".to_owned(), object: "host/x".to_owned() },
            answer: Box::new(Answer::new(StatusCode::from_u16(status).unwrap(), &headers, b"")),
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut tries = Tries::new(Patience::default(), true);
        let pauses: Vec<u128> = std::iter::from_fn(|| tries.pause_after(&refused(503, None))).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses.len(), 6);
        for (pause, most) in pauses.iter().zip([500, 1000, 2000, 4000, 8000, 15000]) {
            assert!(*pause >= most / 2 && *pause <= most, "{pauses:?}");
        }
        tries.progress();
        assert!(tries.pause_after(&refused(503, None)).is_some());
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        for status in [400, 401, 403, 404, 405, 501] {
            assert_eq!(Tries::new(Patience::default(), true).pause_after(&refused(status, None)), None);
        }
    }

    #[test]
    fn silence_is_not_waited_out_as_often_as_other_failures() {
        let silent = |first| RegistryError::Stalled {
            action: Action { operation: Operation::AskApi, registry: "host".to_owned(), object: "host".to_owned() },
            silence: Silence { host: "host".to_owned(), awaited: Awaited::Answer, waited: Duration::from_secs(30), first },
        };
        assert_eq!(Tries::new(Patience::default(), true).pause_after(&silent(true)), None);
        let mut tries = Tries::new(Patience::default(), true);
        assert!(tries.pause_after(&silent(false)).is_some());
        assert!(tries.pause_after(&refused(503, None)).is_some());
        assert!(tries.pause_after(&silent(false)).is_some());
        assert_eq!(tries.pause_after(&silent(false)), None);
    }

    #[test]
    fn the_registry_s_own_pause_is_kept_up_to_a_bound() {
        let pause = |text| Tries::new(Patience::default(), true).pause_after(&refused(429, Some(text)));
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("0"), Some(Duration::from_millis(500)));
        assert_eq!(pause("86400"), None);
    }
}
