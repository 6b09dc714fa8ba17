//! The class of a failure: whose it is, and what follows from that.
//!
//! Every error type of the crate is an enum beside the code that raises it. What they share is here: each says whose fault
//! it is ([`Fault`]), and from that alone follow the exit code of `hs`, the HTTP status of the service, and whether a
//! retry can help. This file is not an error type, and it formats nothing: an error's text names the operation and the
//! object, its cause is its `source()`, and the doors print the chain once.
//!
//! What must stay true: the exit codes are a promise to users (interface, "Exit codes"), and so are the words: the catalog keeps them, and clients of `/api/v2` read them.

use std::error::Error;

use serde_json::Value;

/// Whose a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Our own: a bug, a full disk, a database that does not answer.
    Ours,
    /// The command line or the settings are wrong.
    Usage,
    /// The model, the contract or the archive is not valid.
    Invalid,
    /// The input is past a limit that the operator set.
    TooLarge,
    /// What was asked for is not there.
    Missing,
    /// It is there already, or something else holds it.
    Conflict,
    /// A registry, a server or the network failed, and trying again will not help.
    Remote,
    /// A registry, a server or the network failed in a way that often passes.
    RemoteTransient,
    /// Refused by a policy of the operator.
    Policy,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 9] = [
        Fault::Ours,
        Fault::Usage,
        Fault::Invalid,
        Fault::TooLarge,
        Fault::Missing,
        Fault::Conflict,
        Fault::Remote,
        Fault::RemoteTransient,
        Fault::Policy,
    ];

    /// The word for it (`docs/reference/http.md`).
    pub fn word(self) -> &'static str {
        match self {
            Fault::Ours => "internal",
            Fault::Usage => "usage",
            Fault::Invalid => "invalid",
            Fault::TooLarge => "too-large",
            Fault::Missing => "missing",
            Fault::Conflict => "conflict",
            Fault::Remote => "remote",
            Fault::RemoteTransient => "remote-transient",
            Fault::Policy => "policy",
        }
    }

    /// The class that a word means; `None` where it is of no release up to this one.
    pub fn from_word(word: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.word() == word)
    }

    /// The exit code of `hs`.
    pub fn exit_code(self) -> u8 {
        match self {
            Fault::Ours => 1,
            Fault::Usage => 2,
            Fault::Invalid | Fault::TooLarge => 3,
            // A thing that is not there is nearly always on the other side of a wire.
            Fault::Missing | Fault::Conflict | Fault::Remote | Fault::RemoteTransient => 4,
            Fault::Policy => 5,
        }
    }

    /// The status with which the service answers.
    pub fn http_status(self) -> u16 {
        match self {
            Fault::Ours => 500,
            Fault::Usage | Fault::Invalid => 400,
            Fault::TooLarge => 413,
            Fault::Missing => 404,
            Fault::Conflict => 409,
            Fault::Remote | Fault::RemoteTransient => 502,
            Fault::Policy => 403,
        }
    }

    /// Whether the same request may well succeed a moment later.
    pub fn is_transient(self) -> bool {
        self == Fault::RemoteTransient
    }
}

/// An error that knows whose it is and, where one exists, the way out.
pub trait Failure: Error + Send + Sync + 'static {
    /// Whose failure this is.
    fn fault(&self) -> Fault;

    /// What the user can do about it: one sentence, no full stop at its end.
    fn remedy(&self) -> Option<String> {
        None
    }

    /// What programs read of it, where there is more than sentences: on standard output with `--output json`, and in answers of `/api/v2`.
    fn document(&self) -> Option<Value> {
        None
    }
}

// `Box<dyn Failure>` is an `Error` through this, so that it can be a `source` in its turn.
impl Error for Box<dyn Failure> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        (**self).source()
    }
}

impl<E: Failure> From<E> for Box<dyn Failure> {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// The texts of the causes below `error`, outermost first; `error` itself is not among them.
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts
}

/// `error` and its causes on one line, for logs and for the reason that a failed build keeps.
pub fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    for cause in causes(error) {
        line.push_str(": ");
        line.push_str(&cause);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_word_of_its_own() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_word(fault.word()), Some(fault));
        }
        assert_eq!(Fault::from_word("Remote"), None);
    }
}
