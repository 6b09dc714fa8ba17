//! What a model needs, held against what its runtime has.
//!
//! The needs come from `fit_scan.rs`, what a runtime has from its entry in the runtime list; where the entry does not say, nothing is judged. A runtime
//! that is in the image for certain (it was asked for, or it was found) makes an impossibility of what it lacks; one that may yet turn out to be another
//! makes a warning of it.
//!
//! What must stay true: a model's code is what `src/func_main.py` imports, and no other file that lies beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::fit::{Check, Finding, Place, Severity};
use super::fit_scan::{Facts, FileFacts, PythonFacts};
use super::intake::Model;
use super::python_code::FUNC_MAIN;
use super::python_imports::Import;
use super::python_standard::{self, Standing, Version};
use super::runtime::Runtime;
use super::tree::Tree;
use super::{python_distributions, tensorflow_operations};
use crate::contract::onnx_operators::Operators;
use crate::contract::saved_model_operations::Operations;
use crate::contract::saved_model_text;

/// Domains whose operators are in ONNX Runtime itself.
const ONNX_DOMAINS: [&str; 8] = [
    "",
    "ai.onnx.ml",
    "ai.onnx.training",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
    "org.pytorch.aten",
];

/// How many modules of a model's own are followed.
const MODULES_MAX: usize = 1_000;

/// The packages that are installed beside a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packages {
    /// None.
    Nothing,
    /// It is not known yet: they have still to be resolved.
    Unknown,
    /// All of these.
    Exactly {
        /// The file that requires them.
        file: String,
        /// Their names, normalised.
        names: BTreeSet<String>,
    },
}

impl Packages {
    /// What is known of a model's packages before they are resolved.
    pub fn of(model: &Model) -> Packages {
        if model.required.is_some() { Packages::Unknown } else { Packages::Nothing }
    }
}

/// What a model is held against.
#[derive(Clone, Debug)]
pub struct Ground<'a> {
    /// The runtime of the list; `None`: there is none, or it is not known.
    pub runtime: Option<&'a Runtime>,
    /// Whether it is that one, and no other.
    pub certain: bool,
    /// What is installed beside the model.
    pub packages: Packages,
}

/// All findings: what is true on any runtime, and what this one lacks.
pub fn judge(facts: &Facts, payload: &Tree, ground: &Ground<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.files.values().flat_map(|facts| facts.findings.clone()).collect();
    let Some(runtime) = ground.runtime else { return findings };
    let judge = Judge { runtime, worst: if ground.certain { Severity::Impossible } else { Severity::Warning } };
    // TensorFlow's loader takes the binary where there are both.
    let saved_model = ["saved_model.pb", saved_model_text::FILE].iter().find_map(|name| facts.files.get_key_value(*name));
    if let Some((path, operations)) = saved_model.and_then(|(path, facts)| Some((path, facts.operations.as_ref()?))) {
        findings.extend(judge.tensorflow(path, operations));
    }
    // A runtime serves the model in the root.
    let in_root = facts.files.iter().filter(|(path, _)| !path.contains('/'));
    for (path, operators) in in_root.filter_map(|(path, facts)| Some((path, facts.operators.as_ref()?))) {
        findings.extend(judge.onnx(path, operators));
    }
    // The Python of a runtime that serves a framework's own files is not the model's.
    let runs_code = runtime.calling_convention.is_some() || runtime.tensorflow_version.is_none() && runtime.onnxruntime_version.is_none();
    if let Some(python) = runtime.python().filter(|_| runs_code)
        && facts.files.contains_key(FUNC_MAIN)
    {
        let code = Code { own: own_modules(payload), packages: &ground.packages, python };
        for (path, facts) in reached(facts, &code.own) {
            findings.extend(judge.code(path, facts, &code));
        }
    }
    findings
}

/// How many files were not looked at, as a note for the user.
pub fn unseen(facts: &Facts) -> Option<String> {
    (facts.unseen > 0).then(|| format!("{} files were not looked at, or only at their beginnings: there are too many", facts.unseen))
}

struct Judge<'a> {
    runtime: &'a Runtime,
    worst: Severity,
}

/// What a Python model's code can import.
struct Code<'a> {
    own: BTreeMap<String, Vec<String>>,
    packages: &'a Packages,
    python: Version,
}

impl Judge<'_> {
    fn finding(&self, check: Check, file: &str, what: String, remedy: &str) -> Finding {
        Finding { check, file: file.to_owned(), place: Place::Whole, what, remedy: remedy.to_owned(), severity: self.worst }
    }

    fn tensorflow(&self, path: &str, operations: &Operations) -> Vec<Finding> {
        let Some(version) = &self.runtime.tensorflow_version else { return Vec::new() };
        let mut findings = Vec::new();
        let name = self.runtime.full_name();
        if let Some(registry) = tensorflow_operations::of(version) {
            let lacking: Vec<&String> = operations.names.iter().filter(|name| !registry.names.contains(name.as_str())).collect();
            if let Some(which) = listed(&lacking) {
                let (noun, is) = if lacking.len() == 1 { ("the operation", "is") } else { ("the operations", "are") };
                let what = format!("needs {noun} {which}, which {is} not in TensorFlow {version} (runtime `{name}`)");
                let remedy = "save the model without it, or name a runtime whose TensorFlow has it with `--runtime` (operations of add-ons such as TensorFlow Text are in no plain TensorFlow)";
                findings.push(self.finding(Check::Operations, path, what, remedy));
            }
            let own = registry.graph_def_version;
            if operations.consumer_min > own || operations.consumers_bad.contains(&own) {
                let what =
                    format!("may not be read by TensorFlow {version} (runtime `{name}`): its graph asks for another version of TensorFlow");
                let remedy = format!("save the model with TensorFlow {version} or older");
                findings.push(self.finding(Check::TensorFlow, path, what, &remedy));
            }
        }
        if minor(&operations.tensorflow_version).zip(minor(version)).is_some_and(|(saved, has)| saved > has) {
            let saved = shown(&operations.tensorflow_version);
            let what = format!("was saved by TensorFlow {saved}, and the runtime `{name}` has {version}: it may use what is newer");
            let remedy = format!("save it with TensorFlow {version} or older, or try its predictions with `hs run`");
            findings.push(Finding { severity: Severity::Warning, ..self.finding(Check::TensorFlow, path, what, &remedy) });
        }
        findings
    }

    fn onnx(&self, path: &str, operators: &Operators) -> Vec<Finding> {
        let (Some(opset_max), name) = (self.runtime.onnx_opset_max, self.runtime.full_name()) else { return Vec::new() };
        let version = self.runtime.onnxruntime_version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let mut findings = Vec::new();
        if let Some(opset) = operators.sets.get("").copied().filter(|opset| *opset > i64::from(opset_max)) {
            let what = format!("needs operator set {opset}, and ONNX Runtime{version} (runtime `{name}`) has those up to {opset_max}");
            let remedy = format!("export the model with `opset_version={opset_max}`, or convert it (`onnx.version_converter`)");
            findings.push(self.finding(Check::Onnx, path, what, &remedy));
        }
        for (domain, operator) in operators.domains.iter().filter(|(domain, _)| !ONNX_DOMAINS.contains(&domain.as_str())) {
            let (domain, operator) = (shown(domain), shown(operator));
            let what = format!("needs the operator `{operator}` of `{domain}`, which is not in ONNX Runtime{version} (runtime `{name}`)");
            let remedy = "export the model without custom operators, or name a runtime that has them with `--runtime`";
            findings.push(self.finding(Check::Onnx, path, what, remedy));
        }
        findings
    }

    fn code(&self, path: &str, facts: &PythonFacts, code: &Code<'_>) -> Vec<Finding> {
        let name = self.runtime.full_name();
        let (major, minor) = code.python;
        let is_main = path == FUNC_MAIN;
        let severity = if is_main { self.worst } else { Severity::Warning };
        let mut findings = Vec::new();
        if let Some((line, what)) = &facts.refused {
            let what = format!("has what no Python 3 takes: {what}");
            let finding = self.finding(Check::Python, path, what, "correct it: the file cannot be imported");
            findings.push(Finding { place: Place::Line(*line), severity, ..finding });
        }
        for (line, lack) in &facts.lacks {
            let what = format!("does not fit Python {major}.{minor} (runtime `{name}`): {lack}");
            let remedy = format!("write it as Python {major}.{minor} takes it, or name a runtime with a newer Python with `--runtime`");
            findings.push(Finding { place: Place::Line(*line), severity, ..self.finding(Check::Python, path, what, &remedy) });
        }
        findings.extend(facts.imports.iter().filter_map(|import| self.import(path, import, code)));
        findings
    }

    fn import(&self, path: &str, import: &Import, code: &Code<'_>) -> Option<Finding> {
        let module = shown(&import.module);
        let (major, minor) = code.python;
        let is_here = code.own.contains_key(&import.module) || self.runtime.python_modules.contains(&import.module);
        let brought = match code.packages {
            Packages::Nothing => false,
            Packages::Unknown => true,
            Packages::Exactly { names, .. } => python_distributions::bring(names, &import.module),
        };
        if is_here || brought {
            return None;
        }
        let is_bound = import.at_once && path == FUNC_MAIN && !self.runtime.python_modules.is_empty();
        let (what, remedy, severity) = match python_standard::standing(&import.module, code.python) {
            Standing::Has => return None,
            Standing::Until((last_major, last_minor)) => (
                format!("imports `{module}`, which Python {major}.{minor} no longer has (it was there until {last_major}.{last_minor})"),
                removed_remedy(&import.module).to_owned(),
                if is_bound { self.worst } else { Severity::Warning },
            ),
            Standing::Since((first_major, first_minor)) => (
                format!("imports `{module}`, which Python has from {first_major}.{first_minor} on, and the runtime's is {major}.{minor}"),
                "name a runtime with a newer Python with `--runtime`, or import another module".to_owned(),
                if is_bound { self.worst } else { Severity::Warning },
            ),
            // Without a list of the base's own packages it cannot be told.
            Standing::Never if self.runtime.python_modules.is_empty() => return None,
            Standing::Never => {
                let distribution = python_distributions::usual(&import.module);
                let (lacks, remedy) = match code.packages {
                    Packages::Exactly { file, .. } => (format!("neither `{file}` nor the runtime has"), format!("add `{distribution}`")),
                    _ => ("the runtime does not have".to_owned(), format!("add a `requirements.txt` with `{distribution}`")),
                };
                (format!("imports `{module}`, which {lacks}"), remedy, Severity::Warning)
            }
        };
        let check = Check::Imports;
        Some(Finding { check, file: path.to_owned(), place: Place::Line(import.line), what, remedy, severity })
    }
}

/// What came in the place of a module that Python dropped.
fn removed_remedy(module: &str) -> &'static str {
    match module {
        "imp" => "use `importlib` in its place",
        "distutils" => "add `setuptools` to `requirements.txt`, which brings it, or use `sysconfig` and `shutil`",
        "asyncore" | "asynchat" | "smtpd" => "add `pyasyncore`, `pyasynchat` or `aiosmtpd` to `requirements.txt`, or use `asyncio`",
        "urllib2" | "urlparse" | "httplib" => "this is Python 2: use `urllib.request`, `urllib.parse` or `http.client`",
        "cPickle" | "StringIO" | "cStringIO" | "ConfigParser" | "Queue" | "copy_reg" => {
            "this is Python 2: use `pickle`, `io`, `configparser`, `queue` or `copyreg`"
        }
        _ => "use what came in its place, or add a package that brings it to `requirements.txt`",
    }
}

/// Names for a sentence: the first three, and how many more.
fn listed(names: &[&String]) -> Option<String> {
    const SHOWN: usize = 3;
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", shown(name))).collect();
    let more = names.len().saturating_sub(SHOWN);
    match (first.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(first.join(", ")),
        (false, more) => Some(format!("{} and {more} more", first.join(", "))),
    }
}

fn shown(name: &str) -> String {
    const CHARACTERS_MAX: usize = 100;
    name.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect()
}

fn minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The modules that the payload may provide, wherever they lie in it, with the Python files of each: code may put any folder into `sys.path`.
fn own_modules(payload: &Tree) -> BTreeMap<String, Vec<String>> {
    let mut own: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, _) in payload.files() {
        let is_python = path.as_str().ends_with(".py");
        let mut names: BTreeSet<&str> = path.components().collect();
        names.extend(path.file_name().split('.').next());
        for name in names {
            let files = own.entry(name.to_owned()).or_default();
            if is_python {
                files.push(path.to_string());
            }
        }
    }
    own
}

/// The model's code: `src/func_main.py`, and what it imports of the payload.
fn reached<'a>(facts: &'a Facts, own: &BTreeMap<String, Vec<String>>) -> Vec<(&'a str, &'a PythonFacts)> {
    let python = |path: &str| {
        let (path, FileFacts { python, .. }) = facts.files.get_key_value(path)?;
        Some((path.as_str(), python.as_ref()?))
    };
    let (mut reached, mut queued, mut next) = (Vec::new(), BTreeSet::from([FUNC_MAIN.to_owned()]), vec![FUNC_MAIN.to_owned()]);
    while let Some(path) = next.pop().filter(|_| reached.len() < MODULES_MAX) {
        let Some((path, found)) = python(&path) else { continue };
        reached.push((path, found));
        for file in found.imports.iter().flat_map(|import| own.get(&import.module).into_iter().flatten()) {
            if queued.insert(file.clone()) {
                next.push(file.clone());
            }
        }
    }
    reached.sort_unstable_by_key(|(path, _)| *path);
    reached
}
