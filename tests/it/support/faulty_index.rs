//! A package index that does not answer as one: the first word of the path says how.
//!
//! `/503/…` answers with that status, `/silent/…` never, `/page/…` with something that is no index, `/login/…` gives wheels to the user `ann` alone, `/open/…` to anybody,
//! `/none/…` says of every project that it is not there.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The password of `ann`; no message may have it.
pub const PASSWORD: &str = "hemlich7";

/// Answers until the test ends.
pub struct FaultyIndex {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl FaultyIndex {
    /// One that has the wheels of a folder.
    pub fn of(wheels: &Path) -> FaultyIndex {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (wheels, counted) = (wheels.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (wheels, counted) = (wheels.clone(), counted.clone());
                std::thread::spawn(move || answer(&stream, &wheels, &counted));
            }
        });
        FaultyIndex { address, asked }
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The address of an index that behaves as `how` says.
    pub fn url(&self, how: &str) -> String {
        format!("http://{}/{how}/", self.address)
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Answers one request, if it can be read: what speaks TLS cannot.
fn answer(mut stream: &TcpStream, wheels: &Path, asked: &AtomicUsize) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path: Vec<&str> = first.split(' ').nth(1)?.trim_matches('/').split('/').collect();
    asked.fetch_add(1, Ordering::SeqCst);
    let login = format!("Basic {}", STANDARD.encode(format!("ann:{PASSWORD}")));
    let is_ann = head.iter().any(|line| line.to_lowercase().starts_with("authorization:") && line.ends_with(&login));
    let how = match path[0] {
        "login" if !is_ann => "401",
        "login" => "open",
        how => how,
    };
    let (status, kind, body) = match (how, path.last()?) {
        ("silent", _) => {
            // Nobody answers; the test's end ends it.
            std::thread::park();
            return None;
        }
        ("page", _) => ("200 OK", "text/plain", b"please log in".to_vec()),
        ("open", name) if name.ends_with(".whl") => ("200 OK", "application/octet-stream", fs::read(wheels.join(name)).ok()?),
        ("open", project) => match page(wheels, path[0], project) {
            Some(page) => ("200 OK", "text/html", page.into_bytes()),
            None => ("404 Not Found", "text/html", Vec::new()),
        },
        ("none", _) => ("404 Not Found", "text/html", Vec::new()),
        ("401", _) => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"packages\"", "text/html", Vec::new()),
        (status, _) => (status, "text/html", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    if !first.starts_with("HEAD ") {
        stream.write_all(&body).ok()?;
    }
    Some(())
}

/// The page of a project (PEP 503).
fn page(wheels: &Path, how: &str, project: &str) -> Option<String> {
    let names = fs::read_dir(wheels).unwrap().map(|wheel| wheel.unwrap().file_name().into_string().unwrap());
    let links: Vec<String> = names
        .filter(|name| name.split('-').next().unwrap().to_lowercase() == project)
        .map(|name| format!("<a href=\"/{how}/files/{name}\">{name}</a>\n"))
        .collect();
    (!links.is_empty()).then(|| format!("<html>{}</html>", links.concat()))
}
