//! A tap on the wire between a client and a server: it counts requests and their bytes, can cut the line, hold it, and lead a request elsewhere.
//!
//! It passes on what comes, byte for byte. On the client's side it reads along as far as HTTP/1.1 with `Content-Length`
//! goes, which is all that our client sends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Bodies of uploads are cut where they come to such a place of the blob, wherever the body begins.
    cuts_at: Mutex<Vec<u64>>,
    /// Answers to requests with this method and this in their target are not passed on, and the line is cut.
    lost: Mutex<Vec<(String, String)>>,
    /// The beginning of a target, and what is put in its place.
    led: Mutex<Option<(String, String)>>,
}

impl WireTap {
    /// A tap before `server` (`host:port`).
    pub async fn before(server: &str) -> WireTap {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        server.clone_into(&mut shared.server.lock().unwrap());
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
        server.clone_into(&mut self.shared.server.lock().unwrap());
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

    /// Cuts the line where an upload comes to byte `at` of its blob, whatever the request that carries it; once for each call.
    pub fn cut_blob_at(&self, at: u64) {
        self.shared.cuts_at.lock().unwrap().push(at);
    }

    /// Lets the next request with this method and `part` in its target get to the server, and cuts the line in the place of the answer; once for each call.
    pub fn lose_answer_to(&self, method: &str, part: &str) {
        self.shared.lost.lock().unwrap().push((method.to_owned(), part.to_owned()));
    }

    /// How many answers are still to be lost, and cuts to be made.
    pub fn due(&self) -> usize {
        self.shared.lost.lock().unwrap().len() + self.shared.cuts_at.lock().unwrap().len() + self.shared.cuts_up.lock().unwrap().len()
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
    // Whether the next answer on this connection is lost.
    let losing = AtomicBool::new(false);
    // The first side to end ends both: a cut is a cut.
    tokio::select! {
        () = carry_up(from_client, to_server, &shared, &losing) => {}
        () = carry_down(from_server, to_client, &shared, &losing) => {}
    }
}

async fn carry_down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, losing: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    let mut connection_bytes = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if losing.load(Ordering::SeqCst) {
            return;
        }
        connection_bytes += count as u64;
        shared.down_bytes.fetch_add(count as u64, Ordering::SeqCst);
        let cut = take_due(&shared.cuts_down, connection_bytes);
        let kept = cut.map_or(count, |bytes| count - (connection_bytes - bytes) as usize);
        if to.write_all(&buffer[..kept]).await.is_err() || cut.is_some() {
            return;
        }
    }
}

/// Takes the first cut that lies before `bytes`.
fn take_due(cuts: &Mutex<Vec<u64>>, bytes: u64) -> Option<u64> {
    let mut cuts = cuts.lock().unwrap();
    let due = cuts.iter().position(|cut| *cut < bytes);
    due.map(|at| cuts.remove(at))
}

/// A body that goes by.
struct Body {
    /// The place of its request in `seen`.
    at: usize,
    /// Where in the blob it begins.
    first_byte: u64,
    left_bytes: u64,
}

async fn carry_up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, losing: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    let mut head = Vec::new();
    let mut body: Option<Body> = None;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            if let Some(going) = &mut body {
                let whole = rest.len().min(usize::try_from(going.left_bytes).unwrap());
                let part = part_before_a_cut(going, whole, shared);
                let sent_bytes = shared.seen.lock().unwrap().get(going.at).map_or(0, |seen| seen.body_bytes);
                while shared.held.lock().unwrap().is_some_and(|bytes| sent_bytes > bytes) {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                if to.write_all(&rest[..part]).await.is_err() || part < whole {
                    return;
                }
                going.left_bytes -= part as u64;
                rest = &rest[part..];
                if going.left_bytes == 0 {
                    body = None;
                }
                continue;
            }
            head.push(rest[0]);
            rest = &rest[1..];
            if head.ends_with(b"\r\n\r\n") {
                body = take_head(&mut head, shared, losing);
                if to.write_all(&head).await.is_err() {
                    return;
                }
                head.clear();
            }
        }
    }
}

/// Counts `whole` bytes of a body; how many of them go on.
fn part_before_a_cut(going: &Body, whole: usize, shared: &Shared) -> usize {
    let sent_bytes = shared.seen.lock().unwrap().get_mut(going.at).map_or(0, |seen| {
        seen.body_bytes += whole as u64;
        seen.body_bytes
    });
    let place = going.first_byte + sent_bytes;
    let cut = take_due(&shared.cuts_up, sent_bytes).map(|cut| sent_bytes - cut);
    let cut = cut.or_else(|| take_due(&shared.cuts_at, place).filter(|cut| *cut >= going.first_byte).map(|cut| place - cut));
    // What is cut off may begin in an earlier piece, which is gone.
    whole - cut.map_or(0, |over| usize::try_from(over).unwrap().min(whole))
}

/// Reads a head, and leads it elsewhere; what follows it.
fn take_head(head: &mut Vec<u8>, shared: &Shared, losing: &AtomicBool) -> Option<Body> {
    let text = String::from_utf8_lossy(head).into_owned();
    let (seen, first_byte, left_bytes) = read_head(&text);
    {
        let mut lost = shared.lost.lock().unwrap();
        let due = lost.iter().position(|(method, part)| *method == seen.method && seen.target.contains(part.as_str()));
        if let Some(at) = due {
            lost.remove(at);
            losing.store(true, Ordering::SeqCst);
        }
    }
    let at = {
        let mut all = shared.seen.lock().unwrap();
        all.push(seen);
        all.len() - 1
    };
    if let Some((from, to)) = &*shared.led.lock().unwrap() {
        *head = text.replacen(&format!(" {from}"), &format!(" {to}"), 1).into_bytes();
    }
    (left_bytes > 0).then_some(Body { at, first_byte, left_bytes })
}

fn read_head(head: &str) -> (Seen, u64, u64) {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let seen = Seen { method: word(), target: word(), body_bytes: 0 };
    let value = |wanted: &str| {
        let line = head.split("\r\n").filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        line.map(|(_, value)| value.trim().to_owned())
    };
    let first_byte = value("content-range").and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0);
    (seen, first_byte, value("content-length").map_or(0, |length| length.parse().unwrap()))
}
