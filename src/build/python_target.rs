//! What a base says of its Python: the target that requirements are installed for.
//!
//! The runtime's entry in the list says it (`python_version`, `libc`), else the base's labels, else `PYTHON_VERSION`, which the official images of Python set. What
//! an image is made of cannot be asked without running it or reading its layers, so what nobody says is an error, but for the C library of an image that
//! says its Python alone: Alpine's history tells, and all others are taken for an old glibc, which is said.

use crate::fault::{Failure, Fault};
use crate::model::runtime::Runtime;
use crate::model::wheel_target::{Libc, PythonVersion, Target, TargetError};
use crate::oci::image::Base;

/// The label for the version of Python.
pub const PYTHON_LABEL: &str = "io.lamina.python-version";
/// The label for the C library.
pub const LIBC_LABEL: &str = "io.lamina.libc";
/// What is assumed of an image that does not say: Debian 10, Red Hat 8, and everything since.
const ASSUMED: Libc = Libc::Glibc(2, 28);

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub enum PythonTargetError {
    /// Nobody says which Python it has.
    #[error("the base `{base}` does not say which Python it has, so that `{file}` cannot be installed for it")]
    Unknown {
        /// The base.
        base: String,
        /// The requirements.
        file: String,
    },
    /// What is said makes no sense.
    #[error("what is said of the Python of the base `{base}`")]
    Said {
        /// The base.
        base: String,
        /// What is wrong.
        #[source]
        source: TargetError,
    },
}

impl Failure for PythonTargetError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        Some(format!(
            "give the base the labels `{PYTHON_LABEL}` (`3.11`) and `{LIBC_LABEL}` (`glibc 2.36`), or an entry in the runtime list with `python_version` and `libc`, or build with `--no-requirements`"
        ))
    }
}

/// The target of a base, and what has to be said of it; `None`: it is a listed runtime without Python.
pub fn target_of(
    base: &Base,
    name: &str,
    runtime: Option<&Runtime>,
    file: &str,
) -> Result<Option<(Target, Option<String>)>, PythonTargetError> {
    let said = |source| PythonTargetError::Said { base: name.to_owned(), source };
    let labels = base.config.labels();
    let listed = |field: fn(&Runtime) -> &Option<String>| runtime.and_then(|runtime| field(runtime).clone());
    let python = listed(|runtime| &runtime.python_version).or_else(|| labels.get(PYTHON_LABEL).cloned());
    let Some(python) = python.or_else(|| base.config.environment("PYTHON_VERSION").map(str::to_owned)) else {
        return if runtime.is_some() { Ok(None) } else { Err(PythonTargetError::Unknown { base: name.to_owned(), file: file.to_owned() }) };
    };
    let python: PythonVersion = python.parse().map_err(said)?;
    let (libc, warning) = match listed(|runtime| &runtime.libc).or_else(|| labels.get(LIBC_LABEL).cloned()) {
        Some(text) => (text.parse().map_err(said)?, None),
        None if is_alpine(base) => (Libc::Musl(1, 2), None),
        None => {
            let warning =
                format!("the base `{name}` does not say which C library it has: packages are chosen for {ASSUMED} (label `{LIBC_LABEL}`)");
            (ASSUMED, Some(warning))
        }
    };
    let target = Target::new(python, libc, &base.config.platform()).map_err(said)?;
    Ok(Some((target, warning)))
}

/// Alpine's package manager stands in the history of what is made with it.
fn is_alpine(base: &Base) -> bool {
    let Some(history) = base.config.history() else { return false };
    let commands = history.iter().filter_map(|step| step.get("created_by")?.as_str());
    commands.into_iter().any(|command| command.contains("apk add") || command.contains("alpine-minirootfs"))
}
