//! Bytes between HTTP and the disk, a piece at a time.
//!
//! Out: a blocking reader becomes a body; each piece is read on a blocking thread when the connection has taken the one before. In: a
//! body becomes pieces worth a write. In neither direction does a thread wait for the network: a client that reads or sends a byte a
//! minute holds one piece of memory and no thread, so no number of them stops the service.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use bytes::BytesMut;
use futures_util::{StreamExt, stream};

use crate::disk::stream::fill;

/// The size of a piece: large enough that handing it to another thread costs nothing beside reading it.
const PIECE_BYTES: usize = 256 << 10;
/// For how long a client may send nothing at all.
const IDLE: Duration = Duration::from_mins(2);

/// A body with the bytes of `reader`. Where the reader fails, the connection is cut, so that the client cannot take the body for whole.
pub fn of_reader(reader: Box<dyn Read + Send>) -> Body {
    let pieces = stream::try_unfold(reader, |reader| async move {
        let read = tokio::task::spawn_blocking(move || read_piece(reader)).await.map_err(io::Error::other)?;
        let next =
            read.inspect_err(|error| tracing::error!(error = crate::fault::one_line(error), "a blob could not be read to its end"))?;
        Ok::<_, io::Error>(next)
    });
    Body::from_stream(pieces)
}

fn read_piece(mut reader: Box<dyn Read + Send>) -> io::Result<Option<(Bytes, Box<dyn Read + Send>)>> {
    let mut piece = vec![0; PIECE_BYTES];
    let filled = fill(&mut reader, &mut piece)?;
    piece.truncate(filled);
    Ok((filled > 0).then(|| (Bytes::from(piece), reader)))
}

/// The pieces of a body that arrives.
pub struct Pieces {
    stream: BodyDataStream,
    waiting: BytesMut,
    torn: Option<io::Error>,
}

impl Pieces {
    /// Of `body`.
    pub fn new(body: Body) -> Pieces {
        Pieces { stream: body.into_data_stream(), waiting: BytesMut::new(), torn: None }
    }

    /// The next piece; `None` at the end. Where the client stops in the middle, or sends nothing for two minutes, an error comes after
    /// everything that had arrived.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        // At once, and not by doubling: what many threads give back in many sizes, the allocator keeps.
        self.waiting.reserve(2 * PIECE_BYTES);
        while self.waiting.len() < PIECE_BYTES && self.torn.is_none() {
            match tokio::time::timeout(IDLE, self.stream.next()).await {
                Ok(Some(Ok(bytes))) => self.waiting.extend_from_slice(&bytes),
                Ok(Some(Err(error))) => self.torn = Some(io::Error::other(error)),
                Ok(None) => break,
                Err(_) => self.torn = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        match self.torn.take_if(|_| self.waiting.is_empty()) {
            Some(error) => Err(error),
            None => Ok((!self.waiting.is_empty()).then(|| self.waiting.split().freeze())),
        }
    }
}
