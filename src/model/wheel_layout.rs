//! Which file of a wheel is installed where, as an installer would do it.
//!
//! PEP 427 says what is in a wheel, the packaging specification "Recording installed projects" what an installer leaves: the files of the root and of
//! `purelib` and `platlib` in the folder itself, scripts in `bin/` with the interpreter in their first line, data and headers below it, a start script for
//! every console script, `INSTALLER`, and a `RECORD` of it all. So does `pip install --target`. Nothing is compiled and nothing is run. This file decides
//! by names; bytes are read through a closure, and only of what an installer has to know or to change.
//!
//! What must stay true: a path that leaves the folder, or a wheel that is not what its name says, is refused with the wheel's name; the same wheel gives
//! the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use base64::Engine as _;
use sha2::Digest as _;

use super::python_package::{WheelName, normalised};
use crate::fault::{Failure, Fault};
use crate::oci::path::{PathError, TreePath};

/// What INSTALLER says.
const INSTALLER: &[u8] = b"hs\n";
/// How a script begins that wants the interpreter's path in its first line (PEP 427).
const PYTHON_LINE: &[u8] = b"#!python";
/// Wherever the runtime has its interpreter.
const INTERPRETER_LINE: &str = "#!/usr/bin/env python3";
/// The largest file that is read whole: RECORD of a large wheel is a megabyte.
pub const SMALL_BYTES_MAX: u64 = 32 << 20;

/// A member of a wheel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelMember {
    /// As it stands in the archive.
    pub name: String,
    /// The number of its bytes.
    pub size_bytes: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// A file to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// 0755 rather than 0644.
    pub executable: bool,
    /// Where its bytes are.
    pub from: From,
}

/// Where the bytes of an installed file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// In the wheel, by the member's place.
    Member(usize),
    /// Made here.
    Made(Vec<u8>),
}

/// Why a wheel cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// A path in it is not acceptable.
    #[error("the wheel `{wheel}` is refused")]
    Path {
        /// Which wheel.
        wheel: String,
        /// Which path, and why.
        #[source]
        source: PathError,
    },
    /// It is not what a wheel must be.
    #[error("the wheel `{wheel}` is refused: {what}")]
    Invalid {
        /// Which wheel.
        wheel: String,
        /// What is wrong.
        what: String,
    },
    /// A member cannot be read.
    #[error("the wheel `{wheel}` cannot be read: `{member}`")]
    Read {
        /// Which wheel.
        wheel: String,
        /// Which member.
        member: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Failure for WheelError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        Some("require another version of the package, or ask those who made the wheel".to_owned())
    }
}

/// Reads a member whole.
pub type ReadMember<'a> = &'a dyn Fn(usize) -> io::Result<Vec<u8>>;

/// The files of a wheel by their paths below the folder that is installed into.
pub fn lay_out(wheel: &WheelName, members: &[WheelMember], read: ReadMember<'_>) -> Result<BTreeMap<TreePath, Installed>, WheelError> {
    let layout = Layout { wheel, members, read };
    let info = layout.info_folder()?;
    layout.check_version(&info)?;
    let mut installed = BTreeMap::new();
    // Where each member went, for RECORD.
    let mut moved: BTreeMap<&str, TreePath> = BTreeMap::new();
    let mut changed: BTreeSet<TreePath> = BTreeSet::new();
    for (at, member) in members.iter().enumerate().filter(|(_, member)| !member.name.ends_with('/')) {
        let (path, is_script) = layout.place(&member.name, &info)?;
        let mut file = Installed { executable: member.executable || is_script, from: From::Member(at) };
        if is_script && let Some(bytes) = layout.script(at)? {
            file.from = From::Made(bytes);
            changed.insert(path.clone());
        }
        moved.insert(&member.name, path.clone());
        if installed.insert(path.clone(), file).is_some() {
            return Err(layout.invalid(format!("two of its files go to `{path}`")));
        }
    }
    let started = layout.console_scripts(&info)?;
    changed.extend(started.keys().cloned());
    installed.extend(started);
    let installer = layout.path(&format!("{info}/INSTALLER"))?;
    installed.insert(installer.clone(), Installed { executable: false, from: From::Made(INSTALLER.to_vec()) });
    changed.insert(installer);
    let record = layout.record(&info, &moved, &changed, &installed)?;
    installed.insert(layout.path(&format!("{info}/RECORD"))?, Installed { executable: false, from: From::Made(record) });
    Ok(installed)
}

struct Layout<'a> {
    wheel: &'a WheelName,
    members: &'a [WheelMember],
    read: ReadMember<'a>,
}

impl Layout<'_> {
    fn invalid(&self, what: impl Into<String>) -> WheelError {
        WheelError::Invalid { wheel: self.wheel.file_name.clone(), what: what.into() }
    }

    /// A path that is written in one way only: what is not its own clean form means to be another.
    fn path(&self, name: &str) -> Result<TreePath, WheelError> {
        let path = TreePath::new(name).map_err(|source| WheelError::Path { wheel: self.wheel.file_name.clone(), source })?;
        if path.as_str() != name || name.contains('\\') {
            return Err(self.invalid(format!("`{}` is not a plain path", name.escape_debug())));
        }
        Ok(path)
    }

    fn read(&self, at: usize) -> Result<Vec<u8>, WheelError> {
        let member = &self.members[at];
        if member.size_bytes > SMALL_BYTES_MAX {
            return Err(self.invalid(format!("`{}` has {} bytes; at most {SMALL_BYTES_MAX} are read", member.name, member.size_bytes)));
        }
        (self.read)(at).map_err(|source| WheelError::Read { wheel: self.wheel.file_name.clone(), member: member.name.clone(), source })
    }

    fn read_named(&self, name: &str) -> Result<Option<String>, WheelError> {
        let Some(at) = self.members.iter().position(|member| member.name == name) else { return Ok(None) };
        let text = String::from_utf8(self.read(at)?).map_err(|_| self.invalid(format!("`{name}` is not text in UTF-8")))?;
        Ok(Some(text))
    }

    /// The one `*.dist-info`, which is the project's own.
    fn info_folder(&self) -> Result<String, WheelError> {
        let tops: BTreeSet<&str> = self.members.iter().filter_map(|member| member.name.split_once('/')).map(|(top, _)| top).collect();
        let infos: Vec<&str> = tops.into_iter().filter(|top| top.ends_with(".dist-info")).collect();
        let [info] = infos.as_slice() else {
            return Err(self.invalid(format!("it has {} folders `*.dist-info` and not one", infos.len())));
        };
        let project = info.trim_end_matches(".dist-info").split('-').next().unwrap_or_default();
        if normalised(project) != self.wheel.project {
            return Err(self.invalid(format!("its files are of `{}`", project.escape_debug())));
        }
        Ok((*info).to_owned())
    }

    /// PEP 427: another major version is refused.
    fn check_version(&self, info: &str) -> Result<(), WheelError> {
        let text = self.read_named(&format!("{info}/WHEEL"))?.ok_or_else(|| self.invalid(format!("it has no `{info}/WHEEL`")))?;
        let version = text.lines().find_map(|line| line.strip_prefix("Wheel-Version:")).map(str::trim).unwrap_or_default();
        if version.split('.').next() == Some("1") {
            return Ok(());
        }
        Err(self.invalid(format!("it is of version `{}` of the format, and only 1 is known", version.escape_debug())))
    }

    /// Where a member goes, and whether it is a script.
    fn place(&self, name: &str, info: &str) -> Result<(TreePath, bool), WheelError> {
        let path = self.path(name)?;
        let data = format!("{}.data/", info.trim_end_matches(".dist-info"));
        let Some(below) = name.strip_prefix(&data) else { return Ok((path, false)) };
        let (scheme, rest) = below.split_once('/').ok_or_else(|| self.invalid(format!("`{name}` is in no scheme")))?;
        let (to, is_script) = match scheme {
            "purelib" | "platlib" | "data" => (rest.to_owned(), false),
            "scripts" => (format!("bin/{rest}"), true),
            "headers" => (format!("include/python/{}/{rest}", info.split('-').next().unwrap_or_default()), false),
            _ => return Err(self.invalid(format!("`{}` is in a scheme that is not known", name.escape_debug()))),
        };
        Ok((self.path(&to)?, is_script))
    }

    /// A script whose first line has to name the interpreter; `None`: it stays as it is.
    fn script(&self, at: usize) -> Result<Option<Vec<u8>>, WheelError> {
        // A script of many megabytes is a program.
        if self.members[at].size_bytes > SMALL_BYTES_MAX {
            return Ok(None);
        }
        let bytes = self.read(at)?;
        if !bytes.starts_with(PYTHON_LINE) {
            return Ok(None);
        }
        let rest = bytes.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[end..]);
        Ok(Some([INTERPRETER_LINE.as_bytes(), rest].concat()))
    }

    fn console_scripts(&self, info: &str) -> Result<BTreeMap<TreePath, Installed>, WheelError> {
        let Some(text) = self.read_named(&format!("{info}/entry_points.txt"))? else { return Ok(BTreeMap::new()) };
        let mut scripts = BTreeMap::new();
        let mut is_scripts = false;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
            if line.starts_with('[') {
                is_scripts = matches!(line, "[console_scripts]" | "[gui_scripts]");
                continue;
            }
            if !is_scripts {
                continue;
            }
            let refuse = || self.invalid(format!("its start script `{}` is not `NAME = MODULE:FUNCTION`", line.escape_debug()));
            let (name, object) = line.split_once('=').map(|(name, object)| (name.trim(), object.trim())).ok_or_else(refuse)?;
            let (module, function) = object.split('[').next().unwrap_or(object).trim().split_once(':').ok_or_else(refuse)?;
            let (module, function) = (module.trim(), function.trim());
            let is_word = |text: &str| {
                text.split('.').all(|part| {
                    !part.is_empty()
                        && !part.starts_with(|first: char| first.is_ascii_digit())
                        && part.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
                })
            };
            if name.contains('/') || !is_word(module) || !is_word(function) {
                return Err(refuse());
            }
            let made = Installed { executable: true, from: From::Made(start_script(module, function).into_bytes()) };
            scripts.insert(self.path(&format!("bin/{name}"))?, made);
        }
        Ok(scripts)
    }

    /// What the wheel's RECORD says of its files, by where they are now, and what was made.
    fn record(
        &self,
        info: &str,
        moved: &BTreeMap<&str, TreePath>,
        changed: &BTreeSet<TreePath>,
        installed: &BTreeMap<TreePath, Installed>,
    ) -> Result<Vec<u8>, WheelError> {
        let own = format!("{info}/RECORD");
        let text = self.read_named(&own)?.ok_or_else(|| self.invalid(format!("it has no `{own}`")))?;
        let mut said: BTreeMap<&str, (String, String)> = BTreeMap::new();
        let lines: Vec<[String; 3]> = text.lines().filter(|line| !line.is_empty()).map(fields).collect();
        for [path, hash, size] in &lines {
            said.insert(path, (hash.clone(), size.clone()));
        }
        let by_path: BTreeMap<&TreePath, &str> = moved.iter().map(|(name, path)| (path, *name)).collect();
        let mut out = String::new();
        for (path, file) in installed.iter().filter(|(path, _)| path.as_str() != own) {
            let (hash, size) = match &file.from {
                From::Made(bytes) if changed.contains(path) => (hash_of(bytes), bytes.len().to_string()),
                _ => by_path.get(path).and_then(|name| said.get(name)).cloned().unwrap_or_default(),
            };
            out.push_str(&format!("{},{},{}\n", quoted(path.as_str()), quoted(&hash), quoted(&size)));
        }
        out.push_str(&format!("{},,\n", quoted(&own)));
        Ok(out.into_bytes())
    }
}

/// A program that calls a function. It finds its package beside the folder that it lies in, wherever that is.
fn start_script(module: &str, function: &str) -> String {
    let first = function.split('.').next().unwrap_or(function);
    format!(
        "{INTERPRETER_LINE}\nimport os\nimport sys\n\nsys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))\n\n\
         from {module} import {first}\n\nif __name__ == \"__main__\":\n    sys.exit({function}())\n"
    )
}

/// `sha256=` and the digest in base64 without padding, as RECORD has it.
fn hash_of(bytes: &[u8]) -> String {
    format!("sha256={}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(bytes)))
}

/// The three fields of a line of RECORD, which is CSV.
fn fields(line: &str) -> [String; 3] {
    let (mut fields, mut at, mut is_quoted) = ([String::new(), String::new(), String::new()], 0, false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => fields[at].extend(letters.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted && at < 2 => at += 1,
            _ => fields[at].push(letter),
        }
    }
    fields
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(files: &[(&str, &str)]) -> Result<BTreeMap<String, (bool, String)>, WheelError> {
        let members: Vec<WheelMember> = files
            .iter()
            .map(|(name, text)| WheelMember { name: (*name).to_owned(), size_bytes: text.len() as u64, executable: false })
            .collect();
        let read = |at: usize| Ok(files[at].1.as_bytes().to_vec());
        let laid = lay_out(&WheelName::parse("My_Pkg-1.0-py3-none-any.whl").unwrap(), &members, &read)?;
        let text = |file: &Installed| match &file.from {
            From::Member(at) => files[*at].1.to_owned(),
            From::Made(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        };
        Ok(laid.iter().map(|(path, file)| (path.to_string(), (file.executable, text(file)))).collect())
    }

    const WHEEL: (&str, &str) = ("my_pkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n");

    #[test]
    fn every_scheme_goes_to_its_place_and_record_follows() {
        let files = [
            ("my_pkg/__init__.py", "x"),
            ("my_pkg-1.0.data/scripts/tool", "#!python\nprint()\n"),
            ("my_pkg-1.0.data/scripts/plain.sh", "#!/bin/sh\n"),
            ("my_pkg-1.0.data/data/share/a,b", "data"),
            ("my_pkg-1.0.data/headers/my.h", "h"),
            ("my_pkg-1.0.data/platlib/my_fast.so", "so"),
            WHEEL,
            ("my_pkg-1.0.dist-info/entry_points.txt", "# x\n[console_scripts]\nmy = my_pkg.cli:Main.run [extra]\n[other]\na = b\n"),
            (
                "my_pkg-1.0.dist-info/RECORD",
                "my_pkg/__init__.py,sha256=xx,1\n\"my_pkg-1.0.data/data/share/a,b\",sha256=dd,4\nmy_pkg-1.0.data/scripts/tool,sha256=old,5\n",
            ),
        ];
        let laid = laid(&files).unwrap();
        let paths: Vec<(&str, bool)> = laid.iter().map(|(path, (executable, _))| (path.as_str(), *executable)).collect();
        let expected = [
            ("bin/my", true),
            ("bin/plain.sh", true),
            ("bin/tool", true),
            ("include/python/my_pkg/my.h", false),
            ("my_fast.so", false),
            ("my_pkg-1.0.dist-info/INSTALLER", false),
            ("my_pkg-1.0.dist-info/RECORD", false),
            ("my_pkg-1.0.dist-info/WHEEL", false),
            ("my_pkg-1.0.dist-info/entry_points.txt", false),
            ("my_pkg/__init__.py", false),
            ("share/a,b", false),
        ];
        assert_eq!(paths, expected);
        assert_eq!(laid["bin/tool"].1, "#!/usr/bin/env python3\nprint()\n");
        assert_eq!(laid["bin/plain.sh"].1, "#!/bin/sh\n");
        assert!(laid["bin/my"].1.contains("from my_pkg.cli import Main\n") && laid["bin/my"].1.contains("sys.exit(Main.run())"));
        let record = &laid["my_pkg-1.0.dist-info/RECORD"].1;
        assert!(record.contains("my_pkg/__init__.py,sha256=xx,1\n") && record.contains("\"share/a,b\",sha256=dd,4\n"), "{record}");
        assert!(
            !record.contains("sha256=old") && record.contains("bin/tool,sha256=") && record.ends_with("my_pkg-1.0.dist-info/RECORD,,\n")
        );
    }

    #[test]
    fn what_is_no_wheel_or_leaves_the_folder_is_refused() {
        let record = ("my_pkg-1.0.dist-info/RECORD", "");
        for (files, reason) in [
            (vec![WHEEL, record, ("../x", "")], "leaves the folder"),
            (vec![WHEEL, record, ("/etc/x", "")], "absolute"),
            (vec![WHEEL, record, ("a/./b", "")], "not a plain path"),
            (vec![WHEEL, record, ("a\\b", "")], "not a plain path"),
            (vec![WHEEL, record, ("my_pkg-1.0.data/scripts/../../x", "")], "leaves the folder"),
            (vec![WHEEL, record, ("my_pkg-1.0.data/other/x", "")], "scheme"),
            (vec![WHEEL, record, ("x", ""), ("my_pkg-1.0.data/purelib/x", "")], "two of its files"),
            (vec![WHEEL, ("x", "")], "RECORD"),
            (vec![record], "WHEEL"),
            (vec![("my_pkg-1.0.dist-info/WHEEL", "Wheel-Version: 2.0\n"), record], "version `2.0`"),
            (vec![("other-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")], "its files are of `other`"),
            (vec![("x", "")], "0 folders"),
            (vec![WHEEL, record, ("my_pkg-1.0.dist-info/entry_points.txt", "[console_scripts]\n../x = a:b\n")], "NAME = MODULE:FUNCTION"),
            (
                vec![WHEEL, record, ("my_pkg-1.0.dist-info/entry_points.txt", "[console_scripts]\nx = a:b;import os\n")],
                "NAME = MODULE:FUNCTION",
            ),
        ] {
            let error = laid(&files).unwrap_err();
            let text = crate::fault::one_line(&error);
            assert!(text.contains("My_Pkg-1.0-py3-none-any.whl") && text.contains(reason), "{reason}: {text}");
        }
    }
}
