//! pip's installation report (its documentation, "Installation Report") as a lock.
//!
//! What must stay true: every package has a SHA-256; that pip judged markers for another machine than the target is said.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::python_package::normalised;
use crate::model::requirements_lock::{Lock, LockedPackage, LockedWheel};
use crate::model::wheel_target::Target;

/// A package without a hash that could be locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` has no SHA-256")]
pub struct NoHash(String);

/// The report, as far as it is needed.
#[derive(Deserialize)]
pub struct PipReport {
    install: Vec<PipItem>,
    environment: PipEnvironment,
}

#[derive(Deserialize)]
struct PipItem {
    download_info: PipDownload,
    metadata: PipMetadata,
}

#[derive(Deserialize)]
struct PipDownload {
    url: String,
    archive_info: PipArchive,
}

#[derive(Deserialize)]
struct PipArchive {
    hash: Option<String>,
    hashes: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct PipMetadata {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct PipEnvironment {
    python_version: String,
    platform_machine: String,
    sys_platform: String,
}

impl PipReport {
    /// The lock for a target, and what has to be said.
    pub fn into_lock(self, target: &Target) -> Result<(Lock, Vec<String>), NoHash> {
        let mut warnings = Vec::new();
        let own =
            (self.environment.python_version.as_str(), self.environment.platform_machine.as_str(), self.environment.sys_platform.as_str());
        if own != (target.python.to_string().as_str(), target.machine.as_str(), "linux") {
            warnings.push(format!(
                "pip runs on Python {} ({}, {}) and judges markers such as `python_version < \"3.12\"` by that and not by {target}: install uv, or name a pip of Python {} in HS_PIP",
                own.0, own.1, own.2, target.python
            ));
        }
        let package = |item: PipItem| {
            let PipArchive { hash, hashes } = item.download_info.archive_info;
            let hex = hashes.and_then(|mut hashes| hashes.remove("sha256")).or_else(|| Some(hash?.strip_prefix("sha256=")?.to_owned()));
            let digest = hex.and_then(|hex| format!("sha256:{hex}").parse().ok());
            let digest = digest.ok_or_else(|| NoHash(item.metadata.name.clone()))?;
            let wheel = LockedWheel::at(digest, &item.download_info.url);
            Ok(LockedPackage {
                project: normalised(&item.metadata.name),
                version: item.metadata.version,
                marker: None,
                wheels: vec![wheel],
            })
        };
        let mut packages: Vec<LockedPackage> = self.install.into_iter().map(package).collect::<Result<_, NoHash>>()?;
        packages.sort_by(|a, b| a.project.cmp(&b.project));
        Ok((Lock { packages, ..Lock::default() }, warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::platform::Platform;

    #[test]
    fn the_report_of_pip_becomes_a_lock_and_another_python_is_said() {
        let report = serde_json::json!({
            "install": [{"download_info": {"url": "https://u:secret@host/six-1.17.0-py2.py3-none-any.whl", "archive_info": {"hash": format!("sha256={}", "a".repeat(64))}},
                "metadata": {"name": "Six", "version": "1.17.0"}}],
            "environment": {"python_version": "3.12", "platform_machine": "x86_64", "sys_platform": "linux"},
        });
        let target = Target::new("3.11".parse().unwrap(), "glibc 2.36".parse().unwrap(), &Platform::new("linux", "amd64")).unwrap();
        let report: PipReport = serde_json::from_value(report).unwrap();
        let (lock, warnings) = report.into_lock(&target).unwrap();
        assert_eq!(lock.packages[0].project, "six");
        assert_eq!(lock.packages[0].wheels[0].url.as_deref(), Some("https://host/six-1.17.0-py2.py3-none-any.whl"));
        assert!(warnings[0].contains("Python 3.12"), "{warnings:?}");
    }
}
