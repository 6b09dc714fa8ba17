//! A body that is sent, measured on its way: how much of it has been taken, and whether it is as long as was said.
//!
//! The HTTP library pulls the pieces; whoever waits for the answer hears of each through a [`Pulse`]. What must stay true: a source that fails is told as itself, and not as the
//! connection that breaks for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::Notify;

use super::error::{Action, RegistryError};
use super::wire::BodyStream;
use crate::fault::Failure;

/// What a body that is being sent tells of itself.
#[derive(Default)]
pub(super) struct Pulse {
    pub(super) sent_bytes: AtomicU64,
    pub(super) ended: AtomicBool,
    pub(super) moved: Notify,
    failure: Mutex<Option<Box<dyn Failure>>>,
}

impl Pulse {
    /// The error of whoever reads the bytes, where that is what ended the body.
    pub(super) fn take_failure(&self, action: &Action) -> Option<RegistryError> {
        let source = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(RegistryError::Source { action: action.clone(), source })
    }

    /// Keeps the cause, and makes the error that ends the body.
    fn fail(&self, failure: Box<dyn Failure>) -> std::io::Error {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        std::io::Error::other("the source failed")
    }
}

/// Counts `stream` into `pulse`, and fails where it has not exactly `size_bytes`.
pub(super) fn measured(
    stream: BodyStream,
    size_bytes: u64,
    action: Action,
    pulse: Arc<Pulse>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let other_size = move |found: String| -> Box<dyn Failure> {
        Box::new(RegistryError::OtherSize { action: action.clone(), expected_bytes: size_bytes, found })
    };
    // The second part of the state: whether the stream is over.
    futures_util::stream::unfold((stream, false), move |(mut stream, over)| {
        let pulse = pulse.clone();
        let other_size = other_size.clone();
        async move {
            if over {
                return None;
            }
            let sent_bytes = pulse.sent_bytes.load(Ordering::Acquire);
            let item = match stream.next().await {
                Some(Ok(piece)) => {
                    let sent_bytes = sent_bytes + piece.len() as u64;
                    if sent_bytes > size_bytes {
                        Err(pulse.fail(other_size(format!("the source gives at least {sent_bytes}"))))
                    } else {
                        pulse.sent_bytes.store(sent_bytes, Ordering::Release);
                        pulse.ended.store(sent_bytes == size_bytes, Ordering::Release);
                        Ok(piece)
                    }
                }
                Some(Err(failure)) => Err(pulse.fail(failure)),
                None if sent_bytes < size_bytes => Err(pulse.fail(other_size(format!("the source gives {sent_bytes}")))),
                None => return None,
            };
            pulse.moved.notify_one();
            let over = item.is_err();
            Some((item, (stream, over)))
        }
    })
}
