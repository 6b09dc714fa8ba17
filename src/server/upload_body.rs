//! The body of an upload, which can still be read when its form cannot.
//!
//! A connection that is closed while its sender still sends is reset, and the answer is lost with it (RFC 9112, section 9.6). So what is left
//! of a refused upload is read over, up to a limit, before the answer goes out. The form owns its body and gives it up at the first
//! error; this keeps a hand on it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::stream::{Stream, StreamExt as _};
use tokio::time::timeout;

/// How much is read over, and for how long: what has been sent before our answer could arrive, on a fast line.
const LINGER_BYTES: usize = 64 << 20;
const LINGER: Duration = Duration::from_secs(5);

/// A body with two handles: the form's and ours.
#[derive(Clone)]
pub struct SharedBody(Arc<Mutex<BodyDataStream>>);

impl SharedBody {
    /// Takes a body.
    pub fn new(body: Body) -> SharedBody {
        SharedBody(Arc::new(Mutex::new(body.into_data_stream())))
    }

    /// The body, for whoever reads it first.
    pub fn body(&self) -> Body {
        Body::from_stream(self.clone())
    }

    /// Reads what is left of it and throws it away.
    pub async fn read_over(mut self) {
        let reading = async {
            let mut read_bytes = 0;
            while let Some(Ok(bytes)) = self.next().await {
                read_bytes += bytes.len();
                if read_bytes > LINGER_BYTES {
                    break;
                }
            }
        };
        // Whoever sends on past this does not listen.
        let _ = timeout(LINGER, reading).await;
    }
}

impl Stream for SharedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}
