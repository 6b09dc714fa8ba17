//! A host that takes connections and then says nothing, or says something and then nothing.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The head of an answer whose body never comes.
pub const HEAD_ALONE: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\ncontent-length: 300\r\n\r\n";

/// A running one; gone with the value.
pub struct SilentHost {
    address: String,
    taken: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl SilentHost {
    /// One that says `words` to each request, and nothing more.
    pub async fn start(words: &'static str) -> SilentHost {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken = Arc::new(Mutex::new(0));
        let count = taken.clone();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                tokio::spawn(hold(connection, words));
            }
        });
        SilentHost { address, taken, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many connections it has taken.
    pub fn taken(&self) -> usize {
        *self.taken.lock().unwrap()
    }
}

impl Drop for SilentHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads whatever comes, and keeps the connection until the other side ends it.
async fn hold(mut connection: TcpStream, words: &str) {
    let mut buffer = vec![0; 64 << 10];
    let mut spoken = false;
    while let Ok(1..) = connection.read(&mut buffer).await {
        if !spoken && connection.write_all(words.as_bytes()).await.is_err() {
            return;
        }
        spoken = true;
    }
}
