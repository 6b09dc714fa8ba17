//! One request, one answer: the HTTP below the registry client.
//!
//! A [`Wire`] sends a request to one URL and waits for the head of the answer: no redirect, no login, no second try;
//! those are `client.rs` and `upload.rs`. It keeps the rules that hold for every request: where we may go at all
//! (`address.rs`), how long nothing may come or move (`silence.rs`), how much of an answer is read. There is no time-out for a
//! request as a whole. A body that is sent is watched while it is: it may take a day, but it has to move.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Client, Method, Response};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};
use url::Url;

use super::address::{Address, AddressError, origin_text, refuse_private_literal};
use super::answer::{Answer, BODY_BYTES_MAX};
use super::error::{Action, Operation, RegistryError};
use super::late_clients::LateClients;
use super::measured_body::{Pulse, measured};
use super::settings::Patience;
use super::silence::{Silence, Teller, Wait};
use super::trouble::Trouble;
use crate::fault::Failure;

/// Bytes to be sent, in pieces; the error is that of whoever reads them.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, Box<dyn Failure>>> + Send>>;

/// How one registry is reached.
pub struct Wire {
    /// Where it is.
    pub address: Address,
    /// How patient we are with it.
    pub patience: Patience,
    /// The registry, as it stands in references.
    registry: String,
    clients: Arc<LateClients>,
    /// Who is told that a host lets us wait.
    teller: Teller,
    /// The origins that have ever answered: the registry itself, and those that it has led us to.
    answered: Mutex<BTreeSet<String>>,
    /// Until when it counts as one that does not answer, after it was asked for the first time in vain.
    absent_until: Mutex<Option<Instant>>,
    /// Whether the registry is in a private network; asked once, when it first sends us elsewhere.
    private: OnceCell<bool>,
}

/// The HTTP clients of one set of certificate authorities; cheap to clone.
#[derive(Clone)]
pub struct Clients {
    /// For the registry itself: the only one that shows a client certificate, where there is one.
    pub own: Client,
    /// For what private registries name.
    pub open: Client,
    /// For what public registries name: resolves to public addresses only.
    pub guarded: Client,
    /// Whether a server has asked `own` for a certificate.
    pub asked: Arc<AtomicBool>,
}

/// What is sent with a request.
pub enum Payload<'a> {
    /// Nothing.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A stream of known length, opened anew for each try.
    Stream {
        /// How many bytes it has.
        size_bytes: u64,
        /// Opens it.
        open: &'a (dyn Fn() -> BodyStream + Send + Sync),
        /// Hears how many bytes have been taken so far.
        watch: &'a (dyn Fn(u64) + Send + Sync),
    },
}

impl Wire {
    /// A wire to `address`.
    pub fn new(registry: &str, address: Address, patience: Patience, clients: Arc<LateClients>, teller: Teller) -> Wire {
        Wire {
            registry: registry.to_owned(),
            address,
            patience,
            clients,
            teller,
            answered: Mutex::default(),
            absent_until: Mutex::default(),
            private: OnceCell::new(),
        }
    }

    /// Whether the registry has ever answered.
    pub fn has_answered(&self) -> bool {
        self.knows(&self.address.base)
    }

    /// Whether the registry was asked in vain just now and has never answered: who has another one to ask should ask that.
    pub fn is_absent(&self) -> bool {
        self.absent_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    /// Whether who is at `url` has ever answered.
    fn knows(&self, url: &Url) -> bool {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).contains(&origin_text(url))
    }

    fn has_heard(&self, url: &Url) {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(origin_text(url));
        if self.address.owns(url) {
            *self.absent_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Sends one request and waits for the head of its answer, whatever its status.
    pub async fn exchange(
        &self,
        action: &Action,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        payload: &Payload<'_>,
    ) -> Result<Response, RegistryError> {
        let own = self.address.owns(url);
        let mut result = self.exchange_unread(action, method, url, headers, payload).await;
        match &mut result {
            // Some answer with a head, and then nothing: where a body matters, its first piece tells.
            Ok(response) if *method != Method::GET || !response.status().is_success() => self.has_heard(url),
            Err(error) if own && !self.has_answered() && is_absence(error) => {
                *self.absent_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + self.patience.idle);
            }
            // A server that asks for a certificate and gets none that it knows may end the connection without a word that arrives.
            Err(RegistryError::Unreachable { trouble: trouble @ Trouble::Torn, .. })
                if own && !self.has_answered() && self.clients.were_asked() =>
            {
                *trouble = Trouble::ClientCertificate;
            }
            // To others it is not shown, whatever is set.
            Err(RegistryError::Unreachable { trouble: trouble @ Trouble::ClientCertificate, .. }) if !own => *trouble = Trouble::Tls,
            _ => {}
        }
        result
    }

    async fn exchange_unread(
        &self,
        action: &Action,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        payload: &Payload<'_>,
    ) -> Result<Response, RegistryError> {
        let client = self.client_for(action, url).await?;
        let request = client.request(method.clone(), url.clone()).headers(headers);
        match payload {
            Payload::Stream { size_bytes, open, watch } => {
                let pulse = Arc::new(Pulse::default());
                let body = reqwest::Body::wrap_stream(measured(open(), *size_bytes, action.clone(), pulse.clone()));
                let request = request.header(CONTENT_LENGTH, *size_bytes).body(body);
                self.watched(action, url, request.send(), *size_bytes, &pulse, *watch).await
            }
            Payload::Empty | Payload::Bytes(_) => {
                // A POST without a length is refused by some proxies (411), and the specification asks for one on uploads.
                let request = match payload {
                    Payload::Bytes(bytes) => request.body(bytes.clone()),
                    _ if *method == Method::GET || *method == Method::HEAD => request,
                    _ => request.header(CONTENT_LENGTH, 0_u64),
                };
                let wait = Wait::for_answer(&self.patience, method, action.operation);
                self.patiently(action, url, wait, request.send()).await?.map_err(|source| unreachable_error(action, source))
            }
        }
    }

    /// Waits for `work`, which hangs on who is at `url`, and no longer than `wait` says. Who waits long is told.
    async fn patiently<T>(&self, action: &Action, url: &Url, wait: Wait, work: impl Future<Output = T>) -> Result<T, RegistryError> {
        tokio::pin!(work);
        if let Ok(done) = timeout(wait.notice, &mut work).await {
            return Ok(done);
        }
        self.teller.tell(&self.name_of(url), &wait);
        let rest = wait.limit.saturating_sub(wait.notice);
        timeout(rest, work).await.map_err(|_| self.silence(action, url, wait))
    }

    fn silence(&self, action: &Action, url: &Url, wait: Wait) -> RegistryError {
        // A store that a registry leads to is as known as the registry.
        let first = action.operation != Operation::PullBlob && !self.knows(url);
        let silence = Silence { host: self.name_of(url), awaited: wait.awaited, waited: wait.limit, first };
        RegistryError::Stalled { action: action.clone(), silence }
    }

    /// Who is at `url`, for people.
    fn name_of(&self, url: &Url) -> String {
        if self.address.owns(url) { self.registry.clone() } else { origin_text(url) }
    }

    /// Waits for the answer to a request whose body is being sent: `idle` from byte to byte, `commit` after the last.
    async fn watched(
        &self,
        action: &Action,
        url: &Url,
        answer: impl Future<Output = reqwest::Result<Response>>,
        size_bytes: u64,
        pulse: &Pulse,
        watch: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Response, RegistryError> {
        tokio::pin!(answer);
        let mut heard_bytes = 0;
        let mut wait = Wait::for_taking(&self.patience);
        let mut since = Instant::now();
        // Who waits is told once in a while that nothing moves.
        let mut told = false;
        let result = loop {
            tokio::select! {
                biased;
                result = &mut answer => break result,
                () = pulse.moved.notified() => {
                    let sent_bytes = pulse.sent_bytes.load(Ordering::Acquire);
                    if sent_bytes > heard_bytes {
                        watch(sent_bytes);
                        heard_bytes = sent_bytes;
                    }
                    if pulse.ended.load(Ordering::Acquire) {
                        wait = Wait::for_commit(&self.patience);
                    }
                    (since, told) = (Instant::now(), false);
                }
                () = tokio::time::sleep_until(since + wait.notice), if !told => {
                    self.teller.tell(&self.name_of(url), &wait);
                    told = true;
                }
                () = tokio::time::sleep_until(since + wait.limit) => {
                    return Err(pulse.take_failure(action).unwrap_or_else(|| self.silence(action, url, wait)));
                }
            }
        };
        let sent_bytes = pulse.sent_bytes.load(Ordering::Acquire);
        if sent_bytes > heard_bytes && sent_bytes <= size_bytes {
            watch(sent_bytes);
        }
        // A source that fails breaks the connection: the cause is told, not the break.
        match pulse.take_failure(action) {
            Some(failure) => Err(failure),
            None => result.map_err(|source| unreachable_error(action, source)),
        }
    }

    /// The client that may go to `url`.
    async fn client_for(&self, action: &Action, url: &Url) -> Result<&Client, RegistryError> {
        let clients = self.clients.to(url)?;
        if self.address.owns(url) {
            return Ok(&clients.own);
        }
        if *self.private.get_or_init(|| self.address.is_private()).await {
            return Ok(&clients.open);
        }
        refuse_private_literal(url).map_err(|source| RegistryError::Astray { action: action.clone(), source })?;
        Ok(&clients.guarded)
    }

    /// The next piece of an answer's body; `None` at its end.
    pub async fn next_piece(&self, action: &Action, response: &mut Response) -> Result<Option<Bytes>, RegistryError> {
        let (url, wait) = (response.url().clone(), Wait::for_rest(&self.patience, action.operation));
        let piece = self.patiently(action, &url, wait, response.chunk()).await?.map_err(|source| unreachable_error(action, source))?;
        self.has_heard(&url);
        Ok(piece)
    }

    /// The whole body, which is refused past `max_bytes`.
    pub async fn read_body(&self, action: &Action, mut response: Response, max_bytes: usize) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next_piece(action, &mut response).await? {
            if bytes.len() + piece.len() > max_bytes {
                let problem = format!("the answer has more than {max_bytes} bytes");
                return Err(RegistryError::Protocol { action: action.clone(), problem });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Reads an answer that is not the hoped-for one. The status tells most: what of the body cannot be read is left out.
    pub async fn read_answer(&self, mut response: Response) -> Answer {
        let mut body = Vec::new();
        while body.len() < BODY_BYTES_MAX {
            match timeout(self.patience.answer, response.chunk()).await {
                Ok(Ok(Some(piece))) => body.extend_from_slice(&piece[..piece.len().min(BODY_BYTES_MAX - body.len())]),
                _ => break,
            }
        }
        Answer::new(response.status(), response.headers(), &body)
    }
}

/// Whether it may well be that nobody is there.
fn is_absence(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Stalled { .. } | RegistryError::Unreachable { trouble: Trouble::NoConnection | Trouble::UnknownHost, .. }
    )
}

/// The library's error without the URL in it.
pub fn unreachable_error(action: &Action, source: reqwest::Error) -> RegistryError {
    let source = source.without_url();
    // The guard of names reports through the library; what it found is said as if it had been found here.
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&source);
    while let Some(cause) = next {
        if let Some(AddressError::Private(name)) = cause.downcast_ref() {
            return RegistryError::Astray { action: action.clone(), source: AddressError::Private(name.clone()) };
        }
        next = cause.source();
    }
    RegistryError::Unreachable { action: action.clone(), trouble: Trouble::of(&source), source }
}

#[cfg(test)]
mod tests {
    use super::super::late_clients::Trust;
    use super::super::settings::RegistrySettings;
    use super::*;

    fn wire(registry: &str) -> Wire {
        let settings = RegistrySettings::default();
        let trust = Arc::new(Trust::new(&settings).unwrap());
        let clients = Arc::new(LateClients::new(&settings, &trust, true, Vec::new(), None));
        Wire::new(registry, Address::new(registry, Some(true)).unwrap(), settings.patience, clients, Teller::default())
    }

    async fn get(wire: &Wire, url: &str) -> Result<Response, RegistryError> {
        let action = Action { operation: Operation::PullBlob, registry: "host".to_owned(), object: "host/x".to_owned() };
        wire.exchange(&action, &Method::GET, &Url::parse(url).unwrap(), HeaderMap::new(), &Payload::Empty).await
    }

    #[tokio::test]
    async fn public_registries_do_not_lead_to_private_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let public = wire("203.0.113.7");
        for host in ["127.0.0.1", "localhost", "10.0.0.1", "[::1]", "169.254.169.254"] {
            let result = get(&public, &format!("http://{host}:{port}/")).await;
            assert!(matches!(result, Err(RegistryError::Astray { source: AddressError::Private(_), .. })), "{host}: {result:?}");
        }
        // Nobody knocked.
        let knocked = timeout(std::time::Duration::from_millis(50), listener.accept()).await;
        assert!(knocked.is_err());
    }

    #[tokio::test]
    async fn names_are_checked_by_what_they_resolve_to() {
        let guarded = wire("203.0.113.7").clients.to(&Url::parse("http://localhost:1/").unwrap()).unwrap().guarded.clone();
        // By its form the URL is harmless; only the resolver can tell.
        let error = guarded.get("http://localhost:1/").send().await.unwrap_err();
        let action = Action { operation: Operation::PullBlob, registry: "host".to_owned(), object: "host/x".to_owned() };
        let error = unreachable_error(&action, error);
        assert!(matches!(error, RegistryError::Astray { source: AddressError::Private(_), .. }), "{error:?}");
    }

    #[tokio::test]
    async fn private_registries_may_name_their_neighbours() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = [0; 16];
            tokio::io::AsyncReadExt::read_exact(&mut connection, &mut head).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut connection, b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        });
        let response = get(&wire("10.0.0.1"), &format!("http://127.0.0.1:{port}/")).await.unwrap();
        assert_eq!(response.status(), reqwest::StatusCode::NO_CONTENT);
        answer.await.unwrap();
    }
}
