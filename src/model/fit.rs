//! What a model needs that its runtime may lack, and what it carries that it should not: a finding, and which findings are let through.
//!
//! Values only. Files are looked at by `fit_scan.rs` and the check's own file; what a model needs is held against a runtime by `fit_judge.rs`. A finding
//! is one sentence that says what is where, and one that says what to do. It is a warning, unless the model cannot work for certain; `strict` refuses all
//! of them, and a finding that its user accepts is not spoken of again.
//!
//! What must stay true: only what is certain refuses a model by itself, and nothing of a secret is ever in a finding.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fault::{Failure, Fault};

/// The checks; their words are what users accept a finding by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Code that the runtime's Python does not take.
    Python,
    /// Modules that nobody provides.
    Imports,
    /// Operations that the runtime's TensorFlow lacks.
    Operations,
    /// A TensorFlow that is younger than the runtime's.
    TensorFlow,
    /// Operator sets and domains that the runtime's ONNX Runtime does not know.
    Onnx,
    /// What loading a pickle would run.
    Pickle,
    /// Python code inside a Keras file.
    Lambda,
    /// Keys and tokens.
    Secrets,
}

impl Check {
    /// All of them.
    pub const ALL: [Check; 8] =
        [Check::Python, Check::Imports, Check::Operations, Check::TensorFlow, Check::Onnx, Check::Pickle, Check::Lambda, Check::Secrets];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Check::Python => "python",
            Check::Imports => "imports",
            Check::Operations => "operations",
            Check::TensorFlow => "tensorflow",
            Check::Onnx => "onnx",
            Check::Pickle => "pickle",
            Check::Lambda => "lambda",
            Check::Secrets => "secrets",
        }
    }
}

/// Where in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The file as a whole.
    Whole,
    /// A line, from 1.
    Line(u64),
    /// A byte, from 0.
    Byte(u64),
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It may be meant, or it may do no harm.
    Warning,
    /// The model cannot work.
    Impossible,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The check that found it.
    pub check: Check,
    /// The file, by its path in the model.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// What is there: it goes on where the file's name ends, without a full stop.
    pub what: String,
    /// What to do: one sentence, no full stop at its end.
    pub remedy: String,
    /// How bad it is.
    pub severity: Severity,
}

impl Finding {
    /// What is wrong, without the way out.
    pub fn problem(&self) -> String {
        match self.place {
            Place::Whole => format!("`{}` {}", self.file, self.what),
            Place::Line(line) => format!("`{}` line {line} {}", self.file, self.what),
            Place::Byte(offset) => format!("`{}` at byte {offset} {}", self.file, self.what),
        }
    }
}

/// The whole of it on one line, with the word of its check.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.problem(), self.remedy, self.check.word())
    }
}

/// What a user accepts: `pickle`, or `pickle:weights.pkl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    check: Check,
    file: Option<String>,
}

/// A word that allows nothing.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` allows nothing: expected CHECK or CHECK:FILE, and the checks are {}", Check::ALL.map(Check::word).join(", "))]
pub struct AllowanceError {
    word: String,
}

impl Failure for AllowanceError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }
}

impl FromStr for Allowance {
    type Err = AllowanceError;

    fn from_str(text: &str) -> Result<Allowance, AllowanceError> {
        let (word, file) = text.split_once(':').map_or((text, None), |(word, file)| (word, Some(file)));
        let check = Check::ALL.into_iter().find(|check| check.word() == word);
        match (check, file) {
            (Some(check), file) if file != Some("") => {
                Ok(Allowance { check, file: file.map(|file| file.trim_start_matches("./").to_owned()) })
            }
            _ => Err(AllowanceError { word: text.chars().take(200).collect() }),
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.check.word())?;
        self.file.as_ref().map_or(Ok(()), |file| write!(f, ":{file}"))
    }
}

/// Reads several of them.
pub fn allowances<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Vec<Allowance>, AllowanceError> {
    words.into_iter().map(str::parse).collect()
}

/// Which findings are let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether every finding refuses the model.
    pub strict: bool,
    /// What is accepted all the same.
    pub allow: Vec<Allowance>,
}

/// A model that is not built.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// It could not work.
    #[error("the model cannot work: {}", problems(.0))]
    Impossible(Vec<Finding>),
    /// It has findings, and none is wanted.
    #[error("the model is refused by `--strict`: {}", problems(.0))]
    Strict(Vec<Finding>),
}

/// How many findings a refusal names before the rest is counted.
const SHOWN_MAX: usize = 10;

/// What is wrong: one sentence, or a line for each.
fn problems(findings: &[Finding]) -> String {
    if let [only] = findings {
        return only.problem();
    }
    let mut lines: Vec<String> = findings.iter().take(SHOWN_MAX).map(Finding::problem).collect();
    if let Some(more) = findings.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        lines.push(format!("{more} more"));
    }
    format!("\n  {}", lines.join("\n  "))
}

impl Failure for FitError {
    fn fault(&self) -> Fault {
        match self {
            FitError::Impossible(_) => Fault::Invalid,
            FitError::Strict(_) => Fault::Policy,
        }
    }

    fn remedy(&self) -> Option<String> {
        let (FitError::Impossible(findings) | FitError::Strict(findings)) = self;
        let first = findings.first()?;
        Some(format!("{}; `--allow {}:{}` accepts it", first.remedy, first.check.word(), first.file))
    }
}

impl Policy {
    /// The rules of an operator with those of one upload: where the operator is strict, only what the operator accepts is accepted.
    pub fn with(&self, upload: &Policy) -> Policy {
        if self.strict {
            return self.clone();
        }
        Policy { strict: upload.strict, allow: [self.allow.as_slice(), &upload.allow].concat() }
    }

    /// Whether a finding is accepted.
    pub fn accepts(&self, finding: &Finding) -> bool {
        self.allow.iter().any(|allowed| allowed.check == finding.check && allowed.file.as_ref().is_none_or(|file| *file == finding.file))
    }

    /// The findings that have to be said, or the refusal.
    pub fn pass(&self, findings: Vec<Finding>) -> Result<Vec<Finding>, FitError> {
        let mut left: Vec<Finding> = findings.into_iter().filter(|finding| !self.accepts(finding)).collect();
        left.sort();
        left.dedup();
        let impossible: Vec<Finding> = left.iter().filter(|finding| finding.severity == Severity::Impossible).cloned().collect();
        match () {
            () if !impossible.is_empty() => Err(FitError::Impossible(impossible)),
            () if self.strict && !left.is_empty() => Err(FitError::Strict(left)),
            () => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: Check, file: &str, severity: Severity) -> Finding {
        let (what, remedy) = ("imports `os.system`".to_owned(), "save it again".to_owned());
        Finding { check, file: file.to_owned(), place: Place::Byte(7), what, remedy, severity }
    }

    #[test]
    fn what_is_accepted_is_neither_refused_nor_said() {
        let (bad, worse) = (finding(Check::Pickle, "m.pkl", Severity::Warning), finding(Check::Imports, "a.py", Severity::Impossible));
        let policy = |strict, words: &[&str]| Policy { strict, allow: allowances(words.iter().copied()).unwrap() };
        assert_eq!(policy(false, &[]).pass(vec![bad.clone(), bad.clone()]).unwrap(), std::slice::from_ref(&bad));
        assert_eq!(policy(true, &["pickle"]).pass(vec![bad.clone()]).unwrap(), []);
        assert_eq!(policy(true, &["pickle:./m.pkl"]).pass(vec![bad.clone()]).unwrap(), []);
        let error = policy(true, &["pickle:other.pkl"]).pass(vec![bad.clone()]).unwrap_err();
        assert_eq!(error.fault(), Fault::Policy);
        assert_eq!(error.to_string(), "the model is refused by `--strict`: `m.pkl` at byte 7 imports `os.system`");
        assert_eq!(error.remedy().unwrap(), "save it again; `--allow pickle:m.pkl` accepts it");
        let error = policy(false, &[]).pass(vec![bad.clone(), worse.clone()]).unwrap_err();
        assert_eq!((error.fault(), error.to_string().contains("m.pkl")), (Fault::Invalid, false));
        assert_eq!(policy(false, &["imports"]).pass(vec![bad.clone(), worse]).unwrap(), [bad]);
    }

    #[test]
    fn a_strict_operator_is_not_overruled_by_an_upload() {
        let of = |strict, words: &[&str]| Policy { strict, allow: allowances(words.iter().copied()).unwrap() };
        assert_eq!(of(true, &["lambda"]).with(&of(false, &["pickle"])), of(true, &["lambda"]));
        assert_eq!(of(false, &["lambda"]).with(&of(true, &["pickle"])), of(true, &["lambda", "pickle"]));
    }

    #[test]
    fn a_word_that_names_no_check_is_refused_with_the_list() {
        for word in ["", "pickles", "pickle:", "m.pkl"] {
            let error = word.parse::<Allowance>().unwrap_err().to_string();
            assert!(error.contains("the checks are python, imports"), "{error}");
        }
        assert_eq!("pickle:a:b".parse::<Allowance>().unwrap().to_string(), "pickle:a:b");
    }
}
