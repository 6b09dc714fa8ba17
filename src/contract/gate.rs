//! The gate: which changes of a contract are let through.
//!
//! `breaking` asks for callers only: an upload puts a new model in front of old callers, and that the old model could not stand in for the new
//! one is no reason to refuse it (every new output would be one). What callees make of a change is told, and `any` refuses on it.
//!
//! What must stay true: what is refused is refused with every reason that fits on a screen, and with the number of the others.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::change::{Change, changes, worst};
use super::contract::Contract;
use super::verdict::{Judgement, Verdict};
use crate::fault::{Failure, Fault};

/// The most changes that a refusal lists.
const CHANGES_SHOWN_MAX: usize = 20;

/// What is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    #[default]
    None,
    /// What breaks callers.
    Breaking,
    /// Everything that is not neutral, to callers or to callees.
    Any,
}

/// Why a text names no gate.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a gate")]
pub struct GateWordError {
    text: String,
}

/// A contract that the gate does not let through.
#[derive(Debug, thiserror::Error)]
#[error("{}", refusal(.changes, *.gate))]
pub struct GateError {
    /// What was to be refused.
    pub gate: Gate,
    /// All changes, those that were not the reason included.
    pub changes: Vec<Change>,
}

impl Failure for GateWordError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        Some("write `none`, `breaking` (refuse what breaks callers) or `any` (refuse all but neutral changes)".to_owned())
    }
}

impl Failure for GateError {
    fn fault(&self) -> Fault {
        Fault::Policy
    }

    fn remedy(&self) -> Option<String> {
        let remedy = "leave these fields as they were, or publish the model under another name; when all its callers change with it, leave out the gate";
        Some(remedy.to_owned())
    }

    fn document(&self) -> Option<Value> {
        Some(json!({"worst": worst(&self.changes), "changes": self.changes}))
    }
}

impl GateError {
    /// The same document, of contracts that are called `old` and `new`: as `hs contract diff` prints the changes that are let through.
    pub fn document_of(&self, old: &str, new: Option<&str>) -> Option<Value> {
        self.document().map(|mut document| {
            document["old"] = json!(old);
            document["new"] = json!(new);
            document
        })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gate::None => "none",
            Gate::Breaking => "breaking",
            Gate::Any => "any",
        })
    }
}

impl FromStr for Gate {
    type Err = GateWordError;

    fn from_str(text: &str) -> Result<Gate, GateWordError> {
        let known = [Gate::None, Gate::Breaking, Gate::Any].into_iter().find(|gate| gate.to_string() == text);
        known.ok_or_else(|| GateWordError { text: text.chars().take(100).collect() })
    }
}

impl Gate {
    /// The judgements for which this gate refuses a change, and to whom they are.
    fn refuses(self, change: &Change) -> Vec<(&'static str, Judgement)> {
        let mut judgements = vec![("callers", change.judgements.callers), ("callees", change.judgements.callees)];
        match self {
            Gate::None => judgements.clear(),
            Gate::Breaking => judgements.retain(|(who, judgement)| *who == "callers" && judgement.verdict == Verdict::Breaking),
            Gate::Any => judgements.retain(|(_, judgement)| judgement.verdict != Verdict::Neutral),
        }
        judgements
    }
}

/// The changes from `old` to `new`, when the gate lets all of them through.
pub fn gate(old: &Contract, new: &Contract, gate: Gate) -> Result<Vec<Change>, GateError> {
    let changes = changes(old, new);
    if changes.iter().any(|change| !gate.refuses(change).is_empty()) {
        return Err(GateError { gate, changes });
    }
    Ok(changes)
}

fn refusal(changes: &[Change], gate: Gate) -> String {
    let refused: Vec<_> = changes.iter().map(|change| (change, gate.refuses(change))).filter(|(_, why)| !why.is_empty()).collect();
    let count = refused.len();
    let plural = if count == 1 { "" } else { "s" };
    let mut text = match gate {
        Gate::Breaking => format!("the contract has {count} change{plural} that break{} callers:", if count == 1 { "s" } else { "" }),
        Gate::None | Gate::Any => format!("the contract has {count} change{plural} that callers or callees notice:"),
    };
    for (change, why) in refused.iter().take(CHANGES_SHOWN_MAX) {
        text.push_str(&format!("\n  {} {}", change.path, change.sentence));
        match (gate, why.as_slice()) {
            (Gate::Breaking, [(_, judgement)]) => text.push_str(&format!(": {}", judgement.reason)),
            (_, why) => why.iter().for_each(|(who, Judgement { verdict, reason })| {
                text.push_str(&format!("\n    {verdict} for {who}: {reason}"));
            }),
        }
    }
    if count > CHANGES_SHOWN_MAX {
        text.push_str(&format!("\n  and {} more", count - CHANGES_SHOWN_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::*;

    fn infer(fields: &str) -> Contract {
        parse(format!("signatures {{ signature_name: 'infer' {fields} }}").as_bytes(), "c").unwrap()
    }

    #[test]
    fn an_input_that_is_dropped_is_refused_in_plain_words() {
        let old =
            infer("inputs { name: 'age' dtype: DT_INT32 } inputs { name: 'job' dtype: DT_STRING } outputs { name: 'y' dtype: DT_FLOAT }");
        let new = infer("inputs { name: 'job' dtype: DT_STRING profile: NOMINAL } outputs { name: 'y' dtype: DT_FLOAT }");
        let error = gate(&old, &new, Gate::Breaking).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the contract has 1 change that breaks callers:\n  infer.inputs.age is gone: callers still send it, and a request with what the \
             contract does not have is refused"
        );
        assert_eq!((error.fault().exit_code(), error.fault().http_status(), error.changes.len()), (5, 403, 2));
        assert!(error.remedy().is_some());
        assert_eq!(gate(&old, &new, Gate::None).unwrap().len(), 2);
    }

    #[test]
    fn each_gate_refuses_what_it_says() {
        let old = infer("inputs { name: 'x' dtype: DT_INT32 } outputs { name: 'y' dtype: DT_FLOAT }");
        let grown =
            infer("inputs { name: 'x' dtype: DT_INT32 } outputs { name: 'y' dtype: DT_FLOAT } outputs { name: 'z' dtype: DT_FLOAT }");
        let neutral = infer("inputs { name: 'x' dtype: DT_INT32 profile: RATIO } outputs { name: 'y' dtype: DT_FLOAT }");
        assert!(gate(&old, &grown, Gate::Breaking).is_ok());
        assert_eq!(
            gate(&old, &grown, Gate::Any).unwrap_err().to_string(),
            "the contract has 1 change that callers or callees notice:\n  infer.outputs.z is new\n    compatible for callers: callers read answers by \
             name and do not look for it\n    breaking for callees: a model of the old contract does not answer it, and callers of the new one read it"
        );
        assert_eq!(gate(&old, &neutral, Gate::Any).unwrap().len(), 1);
        assert!(gate(&old, &old, Gate::Any).unwrap().is_empty());
        for known in [Gate::None, Gate::Breaking, Gate::Any] {
            assert_eq!(known.to_string().parse::<Gate>().unwrap(), known);
        }
        let error = "break".parse::<Gate>().unwrap_err();
        assert_eq!((error.to_string().as_str(), error.fault()), ("`break` is not a gate", Fault::Usage));
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let named = |n: usize| format!("inputs {{ name: 'x{n}' dtype: DT_INT32 }}");
        let fields = |count: usize| infer(&(0..count).map(named).collect::<Vec<_>>().join(" "));
        let text = gate(&fields(50), &fields(1), Gate::Breaking).unwrap_err().to_string();
        assert!(text.starts_with("the contract has 49 changes that break callers:\n  infer.inputs.x1 is gone"));
        assert!(text.ends_with("\n  and 29 more"));
        assert_eq!(text.lines().count(), 1 + CHANGES_SHOWN_MAX + 1);
    }
}
