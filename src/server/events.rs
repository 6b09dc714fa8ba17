//! Live answers: server-sent events for what changes, and for the log of a build.
//!
//! Both are made from the catalog's rows; a change only says that it is time to look. So nothing is shown that is not committed, and a
//! client that was away reads on where it was (`Last-Event-ID` of a log).
//!
//! What must stay true: a stream ends when its client goes, when there is nothing more to come, and when the service stops; none keeps a
//! task of its own alive (the ancestor's did: MGR issue 14).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver};

use super::app::Service;
use super::view_v2;
use crate::catalog::catalog::Change;
use crate::catalog::record::{LogLine, Version};

/// The heartbeats of the last ancestor, which its clients' time-outs are made for.
const EVENTS_HEARTBEAT: Duration = Duration::from_secs(5);
const LOG_HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream of events, as handlers answer it.
pub type Events<S> = Sse<axum::response::sse::KeepAliveStream<S>>;

/// Everything that changes from now on.
pub fn all(service: &Service) -> Events<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let changes = service.catalog.changes();
    let service_ = service.clone();
    let events = stream::unfold((changes, service_), |(mut changes, service)| async move {
        loop {
            let event = match changes.recv().await {
                Ok(change) => event_of(&service, change).await,
                // Whoever listens should look at everything again.
                Err(RecvError::Lagged(_)) => Some(Event::default().event("Refresh").data("{}")),
                Err(RecvError::Closed) => return None,
            };
            if let Some(event) = event {
                return Some((Ok(event), (changes, service)));
            }
        }
    });
    let events = events.take_until(service.stop.clone().cancelled_owned());
    Sse::new(events).keep_alive(KeepAlive::new().interval(EVENTS_HEARTBEAT))
}

async fn event_of(service: &Service, change: Change) -> Option<Event> {
    let event = |name: &str, data: Value| Some(Event::default().event(name).data(data.to_string()));
    match change {
        // It may be gone again, which is the next change.
        Change::Version { id, .. } => event("ModelUpdate", view_v2::version(&service.catalog.version(id).await.ok()?)),
        Change::ModelRemoved { id, name } => event("ModelRemove", json!({"id": id.0, "name": name})),
        Change::Application { name } => event("ApplicationUpdate", view_v2::application(&service.catalog.application(&name).await.ok()?)),
        Change::ApplicationRemoved { name } => event("ApplicationRemove", json!({"name": name})),
        Change::Log(_) => None,
    }
}

struct Tail {
    service: Service,
    version: Version,
    changes: Receiver<Change>,
    next: i64,
    waiting: VecDeque<LogLine>,
    ended: bool,
    ours: bool,
}

/// The log of a version's build from line `from` on, until the build has ended. `ours`: lines as JSON rather than text.
pub fn log(service: &Service, version: Version, from: i64, ours: bool) -> Events<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let tail = Tail {
        changes: service.catalog.changes(),
        service: service.clone(),
        version,
        next: from.max(0),
        waiting: VecDeque::new(),
        ended: false,
        ours,
    };
    let lines = stream::unfold(Some(tail), |tail| async move {
        let mut tail = tail?;
        match tail.next_line().await {
            Some(line) => {
                let data = if tail.ours { view_v2::our_line(&line).to_string() } else { view_v2::line(&line) };
                Some((Ok(Event::default().event("Log").id(line.index.to_string()).data(data)), Some(tail)))
            }
            None => Some((Ok(Event::default().event("EndOfStream").data("")), None)),
        }
    });
    let lines = lines.take_until(service.stop.clone().cancelled_owned());
    Sse::new(lines).keep_alive(KeepAlive::new().interval(LOG_HEARTBEAT))
}

impl Tail {
    /// The next line, as soon as there is one; `None` after the last.
    async fn next_line(&mut self) -> Option<LogLine> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                self.next = line.index + 1;
                return Some(line);
            }
            if self.ended {
                return None;
            }
            // The status first: lines that were written before the end are found by the reading after it.
            let (status, id) = (self.service.catalog.version(self.version.id).await, self.version.id);
            self.waiting = self.service.catalog.logs_from(self.version.build, self.next).await.unwrap_or_default().into();
            if !self.waiting.is_empty() {
                continue;
            }
            match status {
                Ok(version) if !version.status.is_final() => {}
                // Ended, or removed.
                _ => self.ended = true,
            }
            if !self.ended && !self.wait(id).await {
                self.ended = true;
            }
        }
    }

    /// Waits until the build may have more to say.
    async fn wait(&mut self, id: crate::catalog::record::VersionId) -> bool {
        loop {
            match self.changes.recv().await {
                Ok(Change::Log(build)) if build == self.version.build => return true,
                Ok(Change::Version { id: changed, .. }) if changed == id => return true,
                Ok(Change::ModelRemoved { id, .. }) if id == self.version.model_id => return true,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return true,
                Err(broadcast::error::RecvError::Closed) => return false,
            }
        }
    }
}
