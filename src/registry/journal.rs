//! How far uploads are, on disk, so that the same command goes on after `kill -9` or a reboot.
//!
//! Each large blob on its way to a repository has a [`Page`]: a file with a line for the session that was opened and for each part that the registry has
//! acknowledged. A page is held under a lock by whoever uploads, and the kernel takes the lock back when that process is gone: a second upload of the same
//! blob at the same time never meets the first one's session. The page goes when the blob is there or given up.
//!
//! What must stay true: a line is a hint, and only the registry's answer to a question for the session moves an offset; a torn last line counts as none; a
//! page holds no password and no token, and no Location but those at the registry's own address, since a link to a store elsewhere may be signed.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use url::Url;

use super::memory::Memory;
use crate::oci::digest::Digest;

/// Smaller blobs have no page: they are sent again before a disk has written one safely.
const BLOB_BYTES_LEAST: u64 = 8 << 20;

/// The longest Location that is kept.
const LOCATION_BYTES_MAX: usize = 8 << 10;

/// So much of a page's end is read: more than the longest line has.
const TAIL_BYTES: u64 = 32 << 10;

/// A page that grew so large begins again.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// Registries remove uploads that rest for a week (distribution's default), or earlier.
const AGE_MAX: Duration = Duration::from_hours(24 * 7);

/// The uploads to one registry.
#[derive(Clone, Debug)]
pub struct Journal {
    registry: String,
    memory: Option<Memory>,
}

/// One upload's page.
#[derive(Debug)]
pub struct Page {
    about: About,
    /// Locked; `None` where there is none, or somebody else has it.
    file: Option<(Arc<File>, PathBuf)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    registry: String,
    repository: String,
    digest: Digest,
    size_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    about: About,
    location: String,
    acknowledged_bytes: u64,
    time_s: u64,
}

impl Journal {
    /// The journal below `folder` for `registry`; without a folder nothing is kept.
    pub fn new(registry: &str, folder: Option<&Path>) -> Journal {
        Journal { registry: registry.to_owned(), memory: folder.map(|folder| Memory::new(folder.join("uploads"))) }
    }

    /// The page of an upload. An upload that another process is at, or this one in another place, gets an empty one that keeps nothing.
    pub fn page(&self, repository: &str, digest: Digest, size_bytes: u64) -> Page {
        let about = About { registry: self.registry.clone(), repository: repository.to_owned(), digest, size_bytes };
        let memory = self.memory.as_ref().filter(|_| size_bytes >= BLOB_BYTES_LEAST);
        let file = memory.and_then(|memory| {
            let path = memory.path(&[&self.registry, repository, &digest.to_string()]);
            let opened = memory.make().and_then(|()| memory.make_room(AGE_MAX)).and_then(|()| open(&path));
            let opened = opened.inspect_err(|error| tracing::debug!(%error, "the upload has no page in the journal"));
            Some((Arc::new(opened.ok()?), path))
        });
        Page { about, file }
    }
}

impl Journal {
    /// The blob is in the registry: an upload of it that broke off is not gone on with.
    pub fn forget(&self, repository: &str, digest: Digest, size_bytes: u64) {
        let path = self.memory.as_ref().map(|memory| memory.path(&[&self.registry, repository, &digest.to_string()]));
        if path.is_some_and(|path| path.exists()) {
            self.page(repository, digest, size_bytes).end();
        }
    }
}

/// Opens and locks a page.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
    file.try_lock()?;
    // Whoever had the lock may have removed the file when it was done.
    let is_named =
        fs::metadata(path).is_ok_and(|named| file.metadata().is_ok_and(|ours| ours.ino() == named.ino() && ours.dev() == named.dev()));
    if is_named { Ok(file) } else { Err(io::Error::other("the upload was just ended by another process")) }
}

impl Page {
    /// The session that an upload before this one has left, and how many bytes the registry had acknowledged in it.
    pub fn past(&self) -> Option<(Url, u64)> {
        let (file, _) = self.file.as_ref()?;
        let line =
            last_line(file, &self.about).inspect_err(|error| tracing::debug!(%error, "a page of the journal cannot be read")).ok()??;
        let age_s = now_s().saturating_sub(line.time_s);
        let location = Url::parse(&line.location).ok().filter(|_| age_s <= AGE_MAX.as_secs())?;
        Some((location, line.acknowledged_bytes))
    }

    /// The registry has `acknowledged_bytes` in the session at `location`. On the disk when this returns; a disk that takes its time holds up this upload and
    /// no other.
    pub async fn note(&mut self, location: &Url, acknowledged_bytes: u64) {
        let Some((file, _)) = &self.file else { return };
        if location.as_str().len() > LOCATION_BYTES_MAX {
            return;
        }
        let line = Line { about: self.about.clone(), location: location.to_string(), acknowledged_bytes, time_s: now_s() };
        let file = file.clone();
        let kept = tokio::task::spawn_blocking(move || append(&file, &line)).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        if let Err(error) = kept {
            tracing::debug!(%error, "the journal is not kept on");
            self.end();
        }
    }

    /// Whether a later run finds the upload here.
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// The upload is over: there is nothing to go on with.
    pub fn end(&mut self) {
        if let Some((_, path)) = self.file.take() {
            drop(fs::remove_file(path));
        }
    }
}

/// The last whole line about this upload.
fn last_line(mut file: &File, about: &About) -> io::Result<Option<Line>> {
    let size_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(size_bytes.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    // What follows the last line's end is a line that was being written.
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else { return Ok(None) };
    let about_this = |line: &Line| line.about == *about && line.acknowledged_bytes <= about.size_bytes;
    let lines = tail[..end].rsplit(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()).find(about_this))
}

fn append(mut file: &File, line: &Line) -> io::Result<()> {
    if file.metadata()?.len() > PAGE_BYTES_MAX {
        file.set_len(0)?;
    }
    // The line's end before it, too: it ends a torn one.
    let mut bytes = vec![b'\n'];
    serde_json::to_writer(&mut bytes, line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_data()
}

#[expect(clippy::disallowed_methods, reason = "how old a session is, or what was learnt; nothing of an image follows from it")]
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE_BYTES: u64 = 100 << 20;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_page_outlives_its_writer_and_goes_with_the_upload() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new("host", Some(folder.path()));
        let digest = Digest::of(b"blob");
        let mut page = journal.page("model", digest, SIZE_BYTES);
        assert_eq!(page.past(), None);
        page.note(&url("http://host/u?1"), 0).await;
        page.note(&url("http://host/u?2"), 64 << 20).await;
        assert_eq!(journal.page("model", digest, SIZE_BYTES).past(), None, "the first has it");
        drop(page);
        let mut page = journal.page("model", digest, SIZE_BYTES);
        assert_eq!(page.past(), Some((url("http://host/u?2"), 64 << 20)));
        assert_eq!(journal.page("other", digest, SIZE_BYTES).past(), None);
        page.end();
        assert_eq!(journal.page("model", digest, SIZE_BYTES).past(), None);
    }

    #[tokio::test]
    async fn a_torn_line_is_none_and_the_next_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new("host", Some(folder.path()));
        let digest = Digest::of(b"blob");
        journal.page("model", digest, SIZE_BYTES).note(&url("http://host/u?1"), 7).await;
        let file = fs::read_dir(folder.path().join("uploads")).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert_eq!(journal.page("model", digest, SIZE_BYTES).past(), None, "{cut}");
        }
        fs::write(&file, [&whole[..], &whole[..20]].concat()).unwrap();
        let mut page = journal.page("model", digest, SIZE_BYTES);
        assert_eq!(page.past(), Some((url("http://host/u?1"), 7)));
        page.note(&url("http://host/u?2"), 9).await;
        assert_eq!(page.past(), Some((url("http://host/u?2"), 9)));
        drop(page);
        // Another size is another blob, and what is a week old has gone.
        let text = fs::read_to_string(&file).unwrap();
        for other in [text.replace(&SIZE_BYTES.to_string(), "5"), text.replace(&format!("{}", now_s() / 1000), "1000000")] {
            assert_ne!(other, text);
            fs::write(&file, other).unwrap();
            assert_eq!(journal.page("model", digest, SIZE_BYTES).past(), None);
        }
    }

    #[tokio::test]
    async fn small_blobs_and_folders_that_cannot_be_written_have_no_page() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"blob");
        let mut page = Journal::new("host", Some(folder.path())).page("model", digest, 1000);
        page.note(&url("http://host/u"), 0).await;
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        for mut page in
            [Journal::new("host", None), Journal::new("host", Some(&file))].map(|journal| journal.page("model", digest, SIZE_BYTES))
        {
            page.note(&url("http://host/u"), 0).await;
            assert_eq!(page.past(), None);
        }
    }
}
