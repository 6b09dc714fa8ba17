//! Running a resolver: in a process group of its own and in a folder of its own, both gone when it is over.
//!
//! pip and uv are often scripts that start something else, and what they start starts more. Whoever stops waiting (Ctrl-C, a build that is given back, patience
//! that is at its end) drops the future, and with it goes all of the group, and then the folder, temporary files and all. The group is waited for: what still writes
//! would leave files in a folder that is being removed.
//!
//! What must stay true: after [`run`], however it ends, no process of the group is left and no file of it; a resolver's words are limited.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// The most that a resolver may say: an answer for a thousand packages has a megabyte or two.
pub const SAID_BYTES_MAX: u64 = 64 << 20;
/// How long a killed group is waited for. It ends at once, but for a disk that hangs.
const KILLED: Duration = Duration::from_secs(2);

/// How a resolver ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A folder below `scratch` for a resolver to run in, with one for its temporary files.
pub fn folder(scratch: &Path) -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("resolver-").tempdir_in(scratch)?;
    std::fs::create_dir(folder.path().join("tmp"))?;
    Ok(folder)
}

/// Runs a resolver in a [`folder`] to its end.
pub async fn run(mut command: Command, folder: &Path) -> io::Result<Ended> {
    command.current_dir(folder).env("TMPDIR", folder.join("tmp"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut group = Group(command.spawn()?);
    let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
    let (stdout, stderr) = tokio::try_join!(all_of(stdout), all_of(stderr))?;
    let status = group.0.wait().await?;
    Ok(Ended { status, stdout, stderr })
}

async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    pipe.take(SAID_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > SAID_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it said more than {SAID_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// A process and all that it started, killed with the value unless it has ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // A process that was waited for has no number any more: it may be another's.
        let number = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(leader) = number else { return };
        let killed = Instant::now();
        let _ = kill_process_group(leader, Signal::KILL);
        // The number stays the group's while one of it is there; the leader is ours to wait for, the others are the system's.
        let mut is_waited_for = false;
        while killed.elapsed() < KILLED {
            is_waited_for = is_waited_for || !matches!(self.0.try_wait(), Ok(None));
            if is_waited_for && (test_kill_process_group(leader).is_err() || is_dead(leader) == Some(true)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether all that is left of a group are processes that nobody has waited for yet: where the first process of a container waits for none, they stay. `None`:
/// the system does not tell.
fn is_dead(leader: Pid) -> Option<bool> {
    let group = leader.as_raw_nonzero().to_string();
    for process in std::fs::read_dir("/proc").ok()? {
        let Ok(stat) = std::fs::read_to_string(process.ok()?.path().join("stat")) else { continue };
        // The name of the program may hold anything, and ends with the last parenthesis; then come its state, its parent and its group.
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, of_group) = (words.next(), words.nth(1));
        if of_group == Some(&group) && !matches!(state, Some("Z" | "X")) {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_nobody_waits_for_ends_with_all_that_it_started() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = folder(scratch.path()).unwrap();
        let (number, path) = (scratch.path().join("number"), folder.path().to_owned());
        let mut command = Command::new("sh");
        let script = "sh -c 'echo $$ > \"$1.new\"; mv \"$1.new\" \"$1\"; while :; do : > \"$TMPDIR/$$-$i\"; i=1$i; sleep 0.001; done' sh \"$1\"; true";
        command.args(["-c", script, "sh"]).arg(&number);
        let running = tokio::spawn(async move {
            let ended = run(command, folder.path()).await;
            drop(folder);
            ended
        });
        while !number.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        let number = std::fs::read_to_string(number).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", number.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
        assert!(!path.exists(), "its folder");
    }

    #[tokio::test]
    async fn what_was_said_comes_back_with_the_status() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = folder(scratch.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "pwd; echo \"$TMPDIR\" >&2; exit 3"]);
        let ended = run(command, folder.path()).await.unwrap();
        let path = std::fs::canonicalize(folder.path()).unwrap();
        assert_eq!((ended.status.code(), String::from_utf8(ended.stdout).unwrap()), (Some(3), format!("{}\n", path.display())));
        assert_eq!(String::from_utf8(ended.stderr).unwrap().trim_end(), folder.path().join("tmp").to_str().unwrap());
    }
}
