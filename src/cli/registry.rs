//! `hs registry doctor HOST/REPO`: what it will be like to push models there.
//!
//! The examination is `registry/doctor.rs`, and what its findings mean is `registry_words.rs`; here they are run and printed. What was written is deleted however
//! the examination ends: a signal stops it, and then the deleting still has [`CLEAN_UP_MAX`].

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::args::{DoctorArguments, RegistryCommand};
use super::open;
use super::registry_words::{Line, Verdict, line, summary};
use super::say::Voice;
use super::settings::Settings;
use super::stop::told_to_stop;
use crate::fault::{Failure, Fault};
use crate::oci::location::Location;
use crate::oci::reference::Reference;
use crate::registry::client::{Access, Registries};
use crate::registry::doctor::{Doctor, Options};

/// How long what was written is asked to be deleted, after a signal; a second signal ends that too.
const CLEAN_UP_MAX: Duration = Duration::from_secs(30);

/// How long the registry may take to store what it is sent, and a second for each MiB of that.
const COMMIT_MAX: Duration = Duration::from_mins(3);

/// Why there is nothing to examine.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// No repository of a registry.
    #[error("`{0}` is not a repository of a registry")]
    NotARepository(String),
}

impl Failure for DoctorError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        Some("write `host[:port]/repository`, without a tag".to_owned())
    }
}

/// Runs `hs registry …`.
pub async fn run(command: &RegistryCommand, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    match command {
        RegistryCommand::Doctor(arguments) => doctor(arguments, settings, voice).await,
    }
}

async fn doctor(arguments: &DoctorArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let reference = repository(&arguments.repository)?;
    let mount_from = arguments.mount_from.as_deref().map(|text| beside(&reference, text)).transpose()?;
    let access = if arguments.read_only { Access::Pull } else { Access::Push };
    let mut registries = settings.registries.clone();
    // A doctor does not wait for half an hour for a blob that is no larger than this.
    registries.patience.commit = registries.patience.commit.min(COMMIT_MAX + Duration::from_secs(arguments.body_mib));
    let repository = Registries::new(registries)?.repository(&reference, access)?;
    let options = Options { read_only: arguments.read_only, body_bytes_max: arguments.body_mib << 20, mount_from };
    let mut doctor = Doctor::new(&repository, options, voice.listener());
    let stopped = tokio::select! {
        examined = doctor.examine() => examined.err().map(Into::into),
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
    let lines: Vec<Line> = report.findings.iter().map(|finding| line(finding, &report.registry)).collect();
    let summary = summary(&report, &lines, arguments.read_only);
    let can_push = (!arguments.read_only).then_some(report.obstacle.is_none());
    let document = json!({
        "registry": report.registry, "repository": report.repository, "read_only": arguments.read_only, "can_push": can_push,
        "summary": summary, "checks": lines, "profile": report.profile, "left_behind": report.left_behind,
    });
    let mut text = format!("{}/{}\n\n", report.registry, report.repository);
    for line in &lines {
        write_line(&mut text, line);
    }
    for lost in &report.left_behind {
        let _ = writeln!(text, "\nleft behind: {lost}");
    }
    let _ = writeln!(text, "\n{summary}");
    voice.result(&document, &text)?;
    match report.obstacle {
        Some(obstacle) => Err(obstacle.into()),
        None => Ok(()),
    }
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
