//! Bytes that arrive on a channel, as a reader for a thread that blocks.
//!
//! What must stay true: an upload that is cut off reads as an error, never as the end. An archive may be whole by chance where its
//! sender was cut off.

use std::io::{self, Read};

use axum::body::Bytes;
use tokio::sync::mpsc;

/// A message to the reader.
#[derive(Debug)]
pub enum Chunk {
    /// The next bytes.
    Bytes(Bytes),
    /// There are no more.
    End,
}

/// Reads what is sent until [`Chunk::End`].
pub struct ChunkReader {
    chunks: mpsc::Receiver<Chunk>,
    current: Bytes,
    ended: bool,
}

impl ChunkReader {
    /// A reader of `chunks`; it blocks, so it is for a thread of its own.
    pub fn new(chunks: mpsc::Receiver<Chunk>) -> ChunkReader {
        ChunkReader { chunks, current: Bytes::new(), ended: false }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Chunk::Bytes(bytes)) => self.current = bytes,
                Some(Chunk::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upload was cut off")),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: Vec<Chunk>) -> io::Result<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(8);
        for message in messages {
            sender.try_send(message).unwrap();
        }
        drop(sender);
        let mut bytes = Vec::new();
        ChunkReader::new(receiver).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn the_end_is_an_end_and_a_cut_is_an_error() {
        let bytes = |text: &'static str| Chunk::Bytes(Bytes::from_static(text.as_bytes()));
        assert_eq!(read(vec![bytes("ab"), bytes(""), bytes("c"), Chunk::End]).unwrap(), b"abc");
        assert_eq!(read(vec![bytes("ab")]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
