//! Hosts that let us wait: what is waited for, what the user is told meanwhile, and what is told in the end.
//!
//! A host that takes a connection and says nothing is a misspelt port, a dead service behind a living proxy, or a registry that has much to do. Nobody can tell them apart but by
//! waiting, so each wait has a bound that follows from its kind (`settings.rs` has them), and whoever waits is told so, once for each host. What must stay true: a small
//! question has a short bound; storing what was sent has a long one, and is never cut off by the short one.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::Method;

use super::error::Operation;
use super::settings::Patience;

/// What a host is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// The beginning of its answer.
    Answer,
    /// The rest of it.
    Rest,
    /// That it takes more of what is sent.
    Taking,
    /// That it stores what it was sent.
    Storing,
}

/// What a request waits for, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What for.
    pub awaited: Awaited,
    /// How long at most.
    pub limit: Duration,
    /// After how long the user is told.
    pub notice: Duration,
}

impl Wait {
    /// For the beginning of an answer to a request whose body, if it has one, is small.
    pub fn for_answer(patience: &Patience, method: &Method, operation: Operation) -> Wait {
        match operation {
            Operation::PutManifest if *method == Method::PUT => Wait::for_storing(patience, patience.manifest),
            // What a PUT ends, or a PATCH adds, is checked and stored before it is answered.
            _ if *method == Method::PUT || *method == Method::PATCH => Wait::for_storing(patience, patience.commit),
            _ => Wait::of(patience, Awaited::Answer, operation),
        }
    }

    /// For the next piece of an answer.
    pub fn for_rest(patience: &Patience, operation: Operation) -> Wait {
        Wait::of(patience, Awaited::Rest, operation)
    }

    /// For the next piece of a body to be taken.
    pub fn for_taking(patience: &Patience) -> Wait {
        Wait { awaited: Awaited::Taking, limit: patience.idle, notice: notice(patience) }
    }

    /// For the answer to a body that was sent.
    pub fn for_commit(patience: &Patience) -> Wait {
        Wait::for_storing(patience, patience.commit)
    }

    fn for_storing(patience: &Patience, limit: Duration) -> Wait {
        Wait { awaited: Awaited::Storing, limit, notice: patience.answer.min(limit) }
    }

    fn of(patience: &Patience, awaited: Awaited, operation: Operation) -> Wait {
        // A registry that fetches a blob from another one first (Nexus does) begins its answer late.
        let limit = if operation == Operation::PullBlob { patience.idle } else { patience.answer };
        Wait { awaited, limit, notice: notice(patience).min(limit) }
    }
}

/// After how long somebody who waits begins to wonder: 5 s of the usual 30.
fn notice(patience: &Patience) -> Duration {
    patience.answer / 6
}

/// A host that was waited for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Which one.
    pub host: String,
    /// What for.
    pub awaited: Awaited,
    /// How long.
    pub waited: Duration,
    /// Whether it has not answered anything before: it is not asked again then.
    pub first: bool,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, waited) = (&self.host, seconds(self.waited));
        match self.awaited {
            Awaited::Answer => write!(f, "`{host}` did not answer within {waited}"),
            Awaited::Rest => write!(f, "`{host}` began to answer, and then nothing came for {waited}"),
            Awaited::Taking => write!(f, "`{host}` took nothing more of what is sent for {waited}"),
            Awaited::Storing => write!(f, "`{host}` was sent all, and did not answer within {waited}"),
        }
    }
}

fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 { format!("{} s", duration.as_secs()) } else { format!("{:.1} s", duration.as_secs_f32()) }
}

/// Tells that a host lets us wait: once for each host, and once more where it is about storing. All clones are one; where nobody listens it goes to the log.
#[derive(Clone, Default)]
pub struct Teller(Arc<State>);

type Listener = Box<dyn Fn(&str) + Send + Sync>;

#[derive(Default)]
struct State {
    told: Mutex<BTreeSet<(String, bool)>>,
    listener: OnceLock<Listener>,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

impl Teller {
    /// Who is told from now on; the first one who wants to be.
    pub fn listen(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.0.listener.set(Box::new(listener));
    }

    /// `host` has been waited for as long as `wait` says that the user is told.
    pub fn tell(&self, host: &str, wait: &Wait) {
        let key = (host.to_owned(), wait.awaited == Awaited::Storing);
        if !self.0.told.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
            return;
        }
        let (noticed, limit) = (seconds(wait.notice), seconds(wait.limit));
        let text = match wait.awaited {
            Awaited::Answer => format!("`{host}` has not answered for {noticed}; it is waited for up to {limit}"),
            Awaited::Rest => format!("nothing has come from `{host}` for {noticed}; it is waited for up to {limit}"),
            Awaited::Taking => format!("`{host}` has taken nothing for {noticed}; it is waited for up to {limit}"),
            Awaited::Storing => format!("`{host}` was sent all, and has been at work on it for {noticed}; it is waited for up to {limit}"),
        };
        if let Some(listener) = self.0.listener.get() { listener(&text) } else { tracing::warn!("{text}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_questions_have_a_short_bound_and_storing_a_long_one() {
        let patience = Patience::default();
        let wait = |method: Method, operation| {
            let wait = Wait::for_answer(&patience, &method, operation);
            (wait.awaited, wait.limit.as_secs(), wait.notice.as_secs())
        };
        for (method, operation) in [
            (Method::GET, Operation::AskApi),
            (Method::GET, Operation::PullManifest),
            (Method::HEAD, Operation::AskBlob),
            (Method::HEAD, Operation::PutManifest),
            (Method::POST, Operation::PushBlob),
            (Method::GET, Operation::PushBlob),
            (Method::DELETE, Operation::CancelUpload),
        ] {
            assert_eq!(wait(method, operation), (Awaited::Answer, 30, 5), "{operation}");
        }
        assert_eq!(wait(Method::GET, Operation::PullBlob), (Awaited::Answer, 60, 5));
        assert_eq!(wait(Method::PUT, Operation::PutManifest), (Awaited::Storing, 300, 30));
        for method in [Method::PUT, Method::PATCH] {
            assert_eq!(wait(method, Operation::PushBlob), (Awaited::Storing, 1800, 30));
        }
        assert_eq!(Wait::for_commit(&patience).limit, patience.commit);
    }

    #[test]
    fn a_host_that_lets_us_wait_is_told_of_once() {
        let (teller, heard) = (Teller::default(), Arc::new(Mutex::new(Vec::new())));
        let hears = heard.clone();
        teller.clone().listen(move |text| hears.lock().unwrap().push(text.to_owned()));
        let patience = Patience::default();
        let answer = Wait::for_answer(&patience, &Method::GET, Operation::AskApi);
        for host in ["a", "a", "b"] {
            teller.tell(host, &answer);
        }
        teller.tell("a", &Wait::for_taking(&patience));
        teller.tell("a", &Wait::for_commit(&patience));
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 3, "{heard:?}");
        assert_eq!(heard[0], "`a` has not answered for 5 s; it is waited for up to 30 s");
        assert_eq!(heard[2], "`a` was sent all, and has been at work on it for 30 s; it is waited for up to 1800 s");
    }
}
