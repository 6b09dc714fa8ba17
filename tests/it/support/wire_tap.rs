//! A tap on the wire between a client and a server: it counts requests and their bytes, can cut the line, hold it, and lead a request elsewhere.
//!
//! It passes on what comes, byte for byte. On the client's side it reads along as far as HTTP/1.1 with `Content-Length`
//! goes, which is all that our client sends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request that went by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `PUT`.
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// How many bytes of its body went by.
    pub body_bytes: u64,
}

/// A tap; gone with the value.
pub struct WireTap {
    address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    server: Mutex<String>,
    seen: Mutex<Vec<Seen>>,
    /// Bodies are cut after so many bytes, as often as there are entries.
    cuts_up: Mutex<Vec<u64>>,
    /// The same for what comes back, heads included.
    cuts_down: Mutex<Vec<u64>>,
    down_bytes: AtomicU64,
    /// Bodies are passed on up to so many bytes and no further.
    held: Mutex<Option<u64>>,
    /// The beginning of a target, and what is put in its place.
    led: Mutex<Option<(String, String)>>,
}

impl WireTap {
    /// A tap before `server` (`host:port`).
    pub async fn before(server: &str) -> WireTap {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        *shared.server.lock().unwrap() = server.to_owned();
        let known = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = known.server.lock().unwrap().clone();
                tokio::spawn(carry(client, server, known.clone()));
            }
        });
        WireTap { address, shared, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Leads new connections to another server.
    pub fn point_to(&self, server: &str) {
        *self.shared.server.lock().unwrap() = server.to_owned();
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Forgets them.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
        self.shared.down_bytes.store(0, Ordering::SeqCst);
    }

    /// The bytes of all bodies that the client sent.
    pub fn body_bytes(&self) -> u64 {
        self.seen().iter().map(|seen| seen.body_bytes).sum()
    }

    /// How often a request with this method went by.
    pub fn count(&self, method: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == method).count()
    }

    /// How many bytes came back.
    pub fn down_bytes(&self) -> u64 {
        self.shared.down_bytes.load(Ordering::SeqCst)
    }

    /// Cuts the line in the next body that has more than `bytes`, after these; once for each call.
    pub fn cut_body_after(&self, bytes: u64) {
        self.shared.cuts_up.lock().unwrap().push(bytes);
    }

    /// Passes no more than `bytes` of any body on, until [`WireTap::release`].
    pub fn hold_bodies_after(&self, bytes: u64) {
        *self.shared.held.lock().unwrap() = Some(bytes);
    }

    /// Passes bodies on again.
    pub fn release(&self) {
        *self.shared.held.lock().unwrap() = None;
    }

    /// Puts `to` in the place of `from` where a request's target begins with it.
    pub fn lead(&self, from: &str, to: &str) {
        *self.shared.led.lock().unwrap() = Some((from.to_owned(), to.to_owned()));
    }

    /// Cuts the line after `bytes` that come back on one connection; once for each call.
    pub fn cut_answer_after(&self, bytes: u64) {
        self.shared.cuts_down.lock().unwrap().push(bytes);
    }
}

impl Drop for WireTap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: String, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // The first side to end ends both: a cut is a cut.
    tokio::select! {
        () = carry_up(from_client, to_server, &shared) => {}
        () = carry_down(from_server, to_client, &shared) => {}
    }
}

async fn carry_down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    let mut connection_bytes = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        connection_bytes += count as u64;
        shared.down_bytes.fetch_add(count as u64, Ordering::SeqCst);
        let cut = {
            let mut cuts = shared.cuts_down.lock().unwrap();
            let due = cuts.iter().position(|bytes| *bytes < connection_bytes);
            due.map(|at| cuts.remove(at))
        };
        let kept = cut.map_or(count, |bytes| count - (connection_bytes - bytes) as usize);
        if to.write_all(&buffer[..kept]).await.is_err() || cut.is_some() {
            return;
        }
    }
}

async fn carry_up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    let mut head = Vec::new();
    // The place in `seen` of the request whose body goes by, and what is left of the body.
    let mut body: Option<(usize, u64)> = None;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            if let Some((at, left_bytes)) = &mut body {
                let mut part = rest.len().min(usize::try_from(*left_bytes).unwrap());
                let sent_bytes = {
                    let mut seen = shared.seen.lock().unwrap();
                    seen.get_mut(*at).map_or(0, |seen| {
                        seen.body_bytes += part as u64;
                        seen.body_bytes
                    })
                };
                let cut = {
                    let mut cuts = shared.cuts_up.lock().unwrap();
                    let due = cuts.iter().position(|bytes| *bytes < sent_bytes);
                    due.map(|at| cuts.remove(at))
                };
                while shared.held.lock().unwrap().is_some_and(|bytes| sent_bytes > bytes) {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                if let Some(bytes) = cut {
                    part -= usize::try_from(sent_bytes - bytes).unwrap().min(part);
                }
                if to.write_all(&rest[..part]).await.is_err() || cut.is_some() {
                    return;
                }
                *left_bytes -= part as u64;
                rest = &rest[part..];
                if *left_bytes == 0 {
                    body = None;
                }
                continue;
            }
            head.push(rest[0]);
            rest = &rest[1..];
            if head.ends_with(b"\r\n\r\n") {
                let (seen, left_bytes) = read_head(&String::from_utf8_lossy(&head));
                let at = {
                    let mut all = shared.seen.lock().unwrap();
                    all.push(seen);
                    all.len() - 1
                };
                body = (left_bytes > 0).then_some((at, left_bytes));
                if let Some((from, to)) = &*shared.led.lock().unwrap() {
                    head = String::from_utf8(head).unwrap().replacen(&format!(" {from}"), &format!(" {to}"), 1).into_bytes();
                }
                if to.write_all(&head).await.is_err() {
                    return;
                }
                head.clear();
            }
        }
    }
}

fn read_head(head: &str) -> (Seen, u64) {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let seen = Seen { method: word(), target: word(), body_bytes: 0 };
    let length = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    (seen, length.map_or(0, |(_, value)| value.trim().parse().unwrap()))
}
