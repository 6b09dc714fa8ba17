//! Being told to stop: Ctrl-C and SIGTERM.
//!
//! Most commands are dropped where they stand (`main.rs`). One that has to do something first waits for the same signals itself.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::fault::{Failure, Fault};

/// The command was told to stop.
#[derive(Debug, thiserror::Error)]
#[error("stopped by {0}")]
struct Interrupted(&'static str);

impl Failure for Interrupted {
    fn fault(&self) -> Fault {
        Fault::Ours
    }
}

/// Signals cannot be heard.
#[derive(Debug, thiserror::Error)]
#[error("waiting for signals")]
struct SignalError(#[source] io::Error);

impl Failure for SignalError {
    fn fault(&self) -> Fault {
        Fault::Ours
    }
}

/// Waits for a signal, and is the failure that a command ends with then.
pub async fn told_to_stop() -> Box<dyn Failure> {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return SignalError(error).into(),
    };
    tokio::select! {
        heard = tokio::signal::ctrl_c() => match heard {
            Ok(()) => Interrupted("Ctrl-C").into(),
            Err(error) => SignalError(error).into(),
        },
        _ = terminate.recv() => Interrupted("SIGTERM").into(),
    }
}
