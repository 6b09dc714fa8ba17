//! `hs registry doctor HOST/REPO`: what it will be like to push models there; of a `HOST` alone, what can be told without a repository.
//!
//! The examination is `registry/doctor.rs`, and what its findings mean is `registry_words.rs`; here they are run and printed. What was written is deleted however
//! the examination ends: a signal stops it, and then the deleting still has [`CLEAN_UP_MAX`].

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::args::{DoctorArguments, RegistryCommand};
use super::open;
use super::registry_words::{Line, Verdict, line, summary};
use super::say::{PrintError, Voice};
use super::settings::Settings;
use super::stop::told_to_stop;
use crate::fault::{Failure, Fault};
use crate::oci::location::Location;
use crate::oci::reference::Reference;
use crate::registry::client::{Access, Registries};
use crate::registry::doctor::{Doctor, Options};
use crate::registry::doctor_findings::Report;
use crate::registry::doctor_obstacle::Obstacle;
use crate::registry::error::RegistryError;

/// How long what was written is asked to be deleted, after a signal; a second signal ends that too.
const CLEAN_UP_MAX: Duration = Duration::from_secs(30);

/// How long the registry may take to store what it is sent, and a second for each MiB of that.
const COMMIT_MAX: Duration = Duration::from_mins(3);

/// Why there is nothing to examine.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// No repository of a registry.
    #[error("`{0}` is neither a registry nor a repository of one")]
    NotARepository(String),
    /// What only a repository has.
    #[error("`{0}` mounts into a repository, and none is named")]
    NoRepository(&'static str),
}

impl Failure for DoctorError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        Some("write `host[:port]/repository`, without a tag, or `host[:port]` alone".to_owned())
    }
}

/// Runs `hs registry …`.
pub async fn run(command: &RegistryCommand, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    match command {
        RegistryCommand::Doctor(arguments) => doctor(arguments, settings, voice).await,
    }
}

async fn doctor(arguments: &DoctorArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let host = host(&arguments.place);
    let reference = match host {
        Some(_) if arguments.mount_from.is_some() => return Err(DoctorError::NoRepository("--mount-from").into()),
        Some(host) => Reference::repository(host, ""),
        None => repository(&arguments.place)?,
    };
    let mount_from = arguments.mount_from.as_deref().map(|text| beside(&reference, text)).transpose()?;
    // Without a repository there is nothing to write into.
    let read_only = arguments.read_only || host.is_some();
    let access = if read_only { Access::Pull } else { Access::Push };
    let mut registries = settings.registries.clone();
    // A doctor does not wait for half an hour for a blob that is no larger than this.
    registries.patience.commit = registries.patience.commit.min(COMMIT_MAX + Duration::from_secs(arguments.body_mib));
    let repository = Registries::new(registries)?.repository(&reference, access)?;
    let options = Options { read_only, body_bytes_max: arguments.body_mib << 20, mount_from };
    let mut doctor = Doctor::new(&repository, options, voice.listener());
    let stopped = tokio::select! {
        examined = examine(&mut doctor, host.is_some()) => examined.err().map(Into::into),
        stopped = told_to_stop() => Some(stopped),
    };
    let patience = if stopped.is_some() { CLEAN_UP_MAX } else { Duration::MAX };
    let stopped = tokio::select! {
        _ = tokio::time::timeout(patience, doctor.clean_up()) => stopped,
        again = told_to_stop() => Some(again),
    };
    if let Some(stopped) = stopped {
        for lost in doctor.left_behind() {
            voice.warn(&format!("left behind: {lost}"));
        }
        return Err(stopped);
    }
    let report = doctor.report();
    tell(&report, read_only, voice)?;
    match report.obstacle {
        Some(obstacle) => Err(obstacle.into()),
        None => Ok(()),
    }
}

async fn examine(doctor: &mut Doctor, host_alone: bool) -> Result<(), RegistryError> {
    if host_alone { doctor.examine_host().await } else { doctor.examine().await }
}

/// Prints what was found.
fn tell(report: &Report, read_only: bool, voice: &Voice) -> Result<(), PrintError> {
    let lines: Vec<Line> = report.findings.iter().map(|finding| line(finding, &report.registry)).collect();
    let summary = summary(report, &lines, read_only);
    let can_push = if matches!(report.obstacle, Some(Obstacle::NotARegistry { .. })) {
        Some(false)
    } else {
        (!read_only).then_some(report.obstacle.is_none())
    };
    let document = json!({
        "registry": report.registry, "repository": report.repository, "read_only": read_only, "can_push": can_push,
        "summary": summary, "checks": lines, "profile": report.profile, "left_behind": report.left_behind,
    });
    let repository = report.repository.as_ref().map(|repository| format!("/{repository}")).unwrap_or_default();
    let mut text = format!("{}{repository}\n\n", report.registry);
    for line in &lines {
        write_line(&mut text, line);
    }
    for lost in &report.left_behind {
        let _ = writeln!(text, "\nleft behind: {lost}");
    }
    let _ = writeln!(text, "\n{summary}");
    voice.result(&document, &text)
}

/// The host, where that is all that is named: a word with a dot or a port, or `localhost`, as in references.
fn host(text: &str) -> Option<&str> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let port = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    let is_port = port.is_none_or(|(_, port)| port.parse::<u16>().is_ok());
    let is_host = text.contains(['.', ':']) || text == "localhost";
    (is_host && is_port && !text.contains(['/', '@'])).then_some(text)
}

fn repository(text: &str) -> Result<Reference, Box<dyn Failure>> {
    match open::location(text)? {
        Location::Registry(reference) if reference.tag.is_none() && reference.digest.is_none() => Ok(reference),
        _ => Err(DoctorError::NotARepository(text.to_owned()).into()),
    }
}

/// The path of another repository of the same registry, written with its host or without.
fn beside(reference: &Reference, text: &str) -> Result<String, Box<dyn Failure>> {
    let host = format!("{}/", reference.registry);
    let other = repository(&format!("{host}{}", text.strip_prefix(&host).unwrap_or(text)))?;
    Ok(other.repository)
}

fn write_line(text: &mut String, line: &Line) {
    let verdict = match line.verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::WillHurt => "will hurt",
    };
    let _ = writeln!(text, "{verdict:10} {:16} {}", line.check, line.seen);
    for (what, said) in [("effect", &line.effect), ("help", &line.help)] {
        if let Some(said) = said {
            let _ = writeln!(text, "{:27} {what}: {said}", "");
        }
    }
}
