//! A blocking reader as an asynchronous stream of bytes.
//!
//! The bridge between this floor, which blocks, and those above it, which wait: one blocking task reads and a channel of one piece holds what nobody has
//! taken yet, so the memory is bounded and the reader stands still while the wire is slow. A piece that the wire is done with is filled again, so
//! gigabytes cost a few buffers. When the stream is dropped, the next piece finds no taker and the task ends: nothing is left hanging.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::render::READ_BYTES;
use crate::oci::digest::{Digest, Hasher};

/// The size of a piece: large enough that handing it to another thread costs nothing beside reading it, small enough for the cache of a core.
const PIECE_BYTES: usize = 512 << 10;
/// Pieces that wait: one being read while one is being sent.
const WAITING: usize = 1;
/// Pieces that are on their way at once, as a rule: one waits, and the connection holds up to two.
const IN_FLIGHT: usize = 4;

/// The bytes of the reader that `open` makes; it is opened when the stream is made, on a blocking thread.
pub fn of_reader<R: Read>(open: impl FnOnce() -> io::Result<R> + Send + 'static) -> ReceiverStream<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = pump(open, &sender) {
            // Nobody to tell means that nobody wanted the bytes any more.
            let _ = sender.blocking_send(Err(error));
        }
    });
    ReceiverStream::new(receiver)
}

fn pump<R: Read>(open: impl FnOnce() -> io::Result<R>, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut reader = open()?;
    // The pieces that were given away last.
    let mut given: VecDeque<Bytes> = VecDeque::new();
    loop {
        let oldest = if given.len() < IN_FLIGHT { None } else { given.pop_front() };
        // One that somebody still holds is his.
        let free = oldest.and_then(|piece| piece.try_into_mut().ok());
        let mut piece = free.unwrap_or_else(|| BytesMut::zeroed(PIECE_BYTES));
        let filled = fill(&mut reader, &mut piece)?;
        if filled == 0 {
            return Ok(());
        }
        let piece = piece.freeze();
        if sender.blocking_send(Ok(piece.slice(..filled))).is_err() {
            return Ok(());
        }
        given.push_back(piece);
    }
}

/// The size and the digest of all that a reader gives.
pub fn hash(reader: &mut impl Read) -> io::Result<(u64, Digest)> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; READ_BYTES]);
    loop {
        match fill(reader, &mut buffer)? {
            0 => return Ok((hasher.size_bytes(), hasher.finish())),
            filled => hasher.update(&buffer[..filled]),
        }
    }
}

/// Fills `piece` as far as there are bytes; says how far.
pub fn fill(reader: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match reader.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    /// Gives so many pieces, and then an error.
    struct Breaks(usize);
    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("torn"))?;
            Ok(buffer.len())
        }
    }

    #[tokio::test]
    async fn all_bytes_in_order_and_an_error_at_its_place() {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|n| n as u8).collect();
        let expected = bytes.clone();
        let stream = of_reader(move || Ok(io::Cursor::new(bytes)));
        let pieces: Vec<Bytes> = stream.map(Result::unwrap).collect().await;
        assert_eq!(pieces.concat(), expected);

        // Pieces that somebody holds are not written to.
        let mut stream = of_reader(|| Ok(Breaks(2)));
        assert!(stream.next().await.unwrap().is_ok());
        assert!(stream.next().await.unwrap().is_ok());
        assert_eq!(stream.next().await.unwrap().unwrap_err().to_string(), "torn");
        assert!(stream.next().await.is_none());
    }
}
