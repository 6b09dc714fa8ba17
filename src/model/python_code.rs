//! Does a Python model's code keep its contract?
//!
//! From the syntax tree of `src/func_main.py` alone; nothing of it is run. The runtime imports that file and calls, for each signature, the function
//! of the signature's name with the inputs by name (`func_main.infer(x=…)`), as the ancestor's runtimes did. An error here is a model that
//! cannot answer: an import that fails, or a call that raises TypeError. What cannot be told from the tree (decorators, imports, names made by
//! `exec`) is a warning, and never an error.
//!
//! It does not look for the file, and it knows no types: what a function does with its inputs is its own business.

use super::python_binding::Binding;
use super::python_binding::Gives;
use super::python_binding::Wrapper;
use super::python_call;
use super::python_call::Mismatch;
use super::python_names;
use super::python_names::Names;
use super::python_source;
use super::python_source::Lack;
use super::python_source::Parsed;
use super::python_source::SourceError;
use crate::contract::contract::Contract;
use crate::contract::contract::Signature;
use crate::contract::contract::shown;
use crate::contract::text_place::TextPlace;
use crate::fault::Failure;
use crate::fault::Fault;

/// Where a Python model has its code, in the model's folder.
pub const FUNC_MAIN: &str = "src/func_main.py";

/// How many signatures and parameters are looked at, and how many sentences are said. All of them come from strangers, and each costs the others.
const SIGNATURES_MAX: usize = 1_000;
const PARAMETERS_MAX: usize = 1_000;
const WARNINGS_MAX: usize = 20;
const BREACHES_MAX: usize = 10;

/// Why the code cannot serve the contract.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// There is no such file. For the caller that looks for it.
    #[error("the model has no `{file}`, which a Python model's runtime imports")]
    NoFile {
        /// Where it was looked for.
        file: String,
    },
    /// Python cannot import it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A signature without a function that takes its inputs.
    #[error("{}", texts(.breaches))]
    Broken {
        /// What is wrong: at least one, the first ten, in the order of the contract's signatures.
        breaches: Vec<Breach>,
    },
}

/// What is wrong with one signature's function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The name of the signature.
    pub signature: String,
    /// What is wrong, with its place.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl Failure for CodeError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        match self {
            CodeError::NoFile { .. } => Some("write the function of each signature there, and let the payload hold it".to_owned()),
            CodeError::Source(source) => source.remedy(),
            CodeError::Broken { breaches } => breaches.first().map(|breach| breach.remedy.clone()),
        }
    }
}

fn texts(breaches: &[Breach]) -> String {
    breaches.iter().map(|breach| breach.text.as_str()).collect::<Vec<&str>>().join("\n")
}

/// Whether a model of this type is one whose code this file looks at: `python:3.11`, or `python` alone.
pub fn is_python(model_type: &str) -> bool {
    model_type.split(':').next() == Some("python")
}

/// Major and minor of a version as runtimes and model types write it (`3.11`, `3.11.2`), for [`check`].
pub fn python_version(text: &str) -> Option<(u8, u8)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Compares the code in `source` with `contract`; messages call it `file`. Gives what cannot be told or will surprise, a sentence each.
///
/// `python` is the version (major, minor) that will run the code, where it is known: then its syntax is compared with that version too.
pub fn check(source: &[u8], file: &str, contract: &Contract, python: Option<(u8, u8)>) -> Result<Vec<String>, CodeError> {
    let judge = |text: &str, suite: &[ruff_python_ast::Stmt]| {
        let code = Code { file, text, names: python_names::read(suite) };
        let mut warnings = Vec::new();
        let mut breaches = Vec::new();
        if contract.signatures.len() > SIGNATURES_MAX {
            warnings.push(format!(
                "{file}: the contract has {} signatures; the first {SIGNATURES_MAX} are looked at",
                contract.signatures.len()
            ));
        }
        for signature in contract.signatures.iter().take(SIGNATURES_MAX) {
            breaches.extend(code.judge(signature, &mut warnings));
            if breaches.len() == BREACHES_MAX {
                break;
            }
        }
        if breaches.is_empty() { Ok(warnings) } else { Err(CodeError::Broken { breaches }) }
    };
    match python_source::with_tree(source, file, python, |text, suite| judge(text, suite))? {
        Parsed::Seen(judged, lacks) => {
            let mut told: Vec<String> = lacks.iter().map(Lack::sentence).collect();
            told.extend(judged?);
            Ok(told)
        }
        Parsed::Unread(why) => Ok(vec![why]),
    }
}

/// One file, read.
struct Code<'a> {
    file: &'a str,
    text: &'a str,
    names: Names<'a>,
}

/// What one possibility of a name comes to.
enum Outcome {
    /// The call is taken; what will surprise all the same.
    Taken(Option<String>),
    /// The call fails for certain.
    Fails(Mismatch),
    /// It cannot be told, why.
    Unclear(String),
    /// There is no such name.
    Absent,
}

impl Code<'_> {
    /// What is wrong with the function of `signature`, if anything is for certain.
    fn judge(&self, signature: &Signature, warnings: &mut Vec<String>) -> Option<Breach> {
        let possible = self.names.possible(&signature.name);
        let outcomes: Vec<(Outcome, usize)> =
            possible.into_iter().map(|(binding, offset)| (outcome(&binding, signature), offset)).collect();
        let name = shown(&signature.name);
        let mut told = |offset: usize, sentence: &str| {
            // A place costs a look at the whole text.
            if warnings.len() == WARNINGS_MAX {
                return;
            }
            let warning = format!("{}: `{name}` {sentence}", self.place(offset));
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        };
        let taken = outcomes.iter().any(|(outcome, _)| matches!(outcome, Outcome::Taken(_)));
        let unclear = outcomes.iter().any(|(outcome, _)| matches!(outcome, Outcome::Unclear(_)));
        if taken || unclear {
            for (outcome, offset) in &outcomes {
                match outcome {
                    Outcome::Taken(Some(surprise)) => told(*offset, surprise),
                    Outcome::Fails(mismatch) => told(*offset, &format!("{}, where it is this one", mismatch.problem)),
                    Outcome::Unclear(why) => told(*offset, &format!("{why}; it cannot be told whether it takes the signature's inputs")),
                    Outcome::Taken(None) | Outcome::Absent => {}
                }
            }
            return None;
        }
        let last = outcomes.into_iter().rev().find_map(|(outcome, offset)| match outcome {
            Outcome::Fails(mismatch) => Some((mismatch, offset)),
            _ => None,
        });
        if let Some(why) = self.may_be_made(&signature.name, last.is_some()) {
            if warnings.len() < WARNINGS_MAX {
                warnings.push(match &last {
                    Some((mismatch, offset)) => {
                        format!("{}: `{name}` {}, unless it is changed: {why}", self.place(*offset), mismatch.problem)
                    }
                    None => format!("{}: no function `{name}` is defined, but it may be made: {why}", self.file),
                });
            }
            return None;
        }
        Some(match last {
            Some((mismatch, offset)) => Breach {
                signature: signature.name.clone(),
                text: self.place(offset).with(&format!("`{name}` {}", mismatch.problem)),
                remedy: mismatch.remedy,
            },
            None => self.missing(signature),
        })
    }

    fn place(&self, offset: usize) -> TextPlace {
        TextPlace::new(self.file, self.text, offset)
    }

    /// How the module may come by the name without a statement that binds it.
    fn may_be_made(&self, name: &str, is_bound: bool) -> Option<String> {
        if let Some((offset, how)) = &self.names.dynamic {
            return Some(format!("{how} in line {}", self.place(*offset).line));
        }
        // A module answers for names that it lacks with its `__getattr__` (PEP 562); names such as `__class__` every object has.
        if !is_bound && self.names.defines("__getattr__") {
            return Some("by the module's `__getattr__`".to_owned());
        }
        (!is_bound && name.starts_with("__") && name.ends_with("__")).then(|| "it is a name that Python itself uses".to_owned())
    }

    fn missing(&self, signature: &Signature) -> Breach {
        let functions = self.names.functions();
        let name = shown(&signature.name);
        let has = if functions.is_empty() { "it defines none".to_owned() } else { format!("it has {}", python_call::list(&functions)) };
        let remedy = if !python_call::is_identifier(&signature.name) {
            format!("`{name}` is no name for a function: rename the signature in the contract")
        } else if let Some(meant) = python_call::meant(&signature.name, &functions) {
            format!("if `{meant}` is meant, rename it, or the signature")
        } else {
            format!("write `{}`, or name the signature after the function that answers it", python_call::definition(signature))
        };
        Breach {
            signature: signature.name.clone(),
            text: format!("{} has no function `{name}`, which the contract's signature of that name calls; {has}", self.file),
            remedy,
        }
    }
}

fn outcome(binding: &Binding<'_>, signature: &Signature) -> Outcome {
    let function = match binding {
        Binding::Function(function) => function,
        Binding::Class(..) => return Outcome::Unclear("is a class, and a call makes an instance, not an answer".to_owned()),
        Binding::Imported(path) => return Outcome::Unclear(format!("is imported (`{}`)", shown(path))),
        Binding::Unclear(why) => return Outcome::Unclear(format!("is {why}").replacen("is may", "may", 1)),
        Binding::Absent => return Outcome::Absent,
        Binding::Value(what) => {
            let remedy = format!("write `{}`", python_call::definition(signature));
            return Outcome::Fails(Mismatch { problem: format!("is {what}, and no function"), remedy });
        }
    };
    if function.parameters.is_some_and(|parameters| parameters.len() > PARAMETERS_MAX) {
        return Outcome::Unclear(format!("has more than {PARAMETERS_MAX} parameters"));
    }
    if let Some(name) = python_call::twice(function) {
        let problem = format!("has the parameter `{}` twice, which Python refuses", shown(name));
        return Outcome::Fails(Mismatch { problem, remedy: "rename one of the two".to_owned() });
    }
    let mismatch = python_call::mismatch(function, signature);
    match (&function.wrapper, mismatch) {
        (Wrapper::None, Some(mismatch)) => Outcome::Fails(mismatch),
        (Wrapper::Familiar(decorator) | Wrapper::Unknown(decorator), Some(mismatch)) => {
            Outcome::Unclear(format!("{}, unless {decorator} changes its parameters", mismatch.problem))
        }
        (Wrapper::Unknown(decorator), None) => Outcome::Unclear(format!("is wrapped by {decorator}, which may change its parameters")),
        (Wrapper::None | Wrapper::Familiar(_), None) => Outcome::Taken(match function.gives {
            Gives::Value => None,
            Gives::Coroutine => Some("is `async`, and the runtime awaits nothing: it will get a coroutine, not an answer".to_owned()),
            Gives::Generator => Some("is a generator (it has a `yield`): the runtime will get that, not an answer".to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_types_are_read() {
        assert!(is_python("python") && is_python("python:3.6") && !is_python("pythonic:3") && !is_python("tensorflow:1.7.0"));
        for (text, version) in [("3.11", Some((3, 11))), ("3.6.1", Some((3, 6))), ("3", None), ("", None), ("3.x", None), ("3.999", None)] {
            assert_eq!(python_version(text), version, "{text}");
        }
    }
}
