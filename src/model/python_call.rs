//! Whether a function takes a call with these inputs, by name: Python's rules for arguments, and ours for what a reader is told.
//!
//! The runtime calls `func_main.<signature>(**inputs)`, as the ancestor's did. So the order of parameters says nothing, `*args` takes nothing, and
//! what stands before a `/` cannot be given.

use std::collections::BTreeSet;

use ruff_python_ast::AnyParameterRef;
use ruff_python_ast::Identifier;
use ruff_python_ast::ParameterWithDefault;
use ruff_python_ast::token::TokenKind;
use ruff_python_parser::Mode;
use ruff_python_parser::lexer;

use super::python_binding::Function;
use crate::contract::contract::Signature;
use crate::contract::contract::shown;

/// How many names a message lists.
const SHOWN_NAMES_MAX: usize = 10;

/// Why a call fails.
pub(super) struct Mismatch {
    /// The end of a sentence that begins with the function: "has no parameter for …".
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// What is wrong with calling `function` with the inputs of `signature`; nothing, mostly.
pub(super) fn mismatch(function: &Function<'_>, signature: &Signature) -> Option<Mismatch> {
    let parameters = function.parameters;
    let inputs: Vec<&str> = signature.inputs.iter().map(|field| field.name.as_str()).collect();
    let given: BTreeSet<&str> = inputs.iter().copied().collect();
    let positional_only = parameters.map(|all| all.posonlyargs.as_slice()).unwrap_or_default();
    let named: Vec<&ParameterWithDefault> = parameters.map(|all| all.args.iter().collect()).unwrap_or_default();
    let by_keyword: Vec<&ParameterWithDefault> = parameters.map(|all| all.kwonlyargs.iter().collect()).unwrap_or_default();
    let takes_all = parameters.is_some_and(|all| all.kwarg.is_some());

    // `self` is given by the instance.
    let skipped = usize::from(function.bound);
    let positional_only_left = positional_only.get(skipped..).unwrap_or_default();
    let named_left = named.get(skipped.saturating_sub(positional_only.len())..).unwrap_or_default();
    let own_self =
        if function.bound && positional_only.is_empty() { named.first().map(|parameter| parameter.name().as_str()) } else { None };

    let known: BTreeSet<&str> = named_left.iter().chain(&by_keyword).map(|parameter| parameter.name().as_str()).collect();
    let missing: Vec<&str> = inputs
        .iter()
        .copied()
        .filter(|input| (!takes_all && !known.contains(input)) || own_self.is_some_and(|own| own == *input))
        .collect();
    let blocked: Vec<&str> =
        positional_only_left.iter().filter(|parameter| parameter.default.is_none()).map(|parameter| parameter.name().as_str()).collect();
    let required: Vec<&str> = named_left
        .iter()
        .chain(&by_keyword)
        .filter(|parameter| parameter.default.is_none() && !given.contains(parameter.name().as_str()))
        .map(|parameter| parameter.name().as_str())
        .collect();
    if missing.is_empty() && blocked.is_empty() && required.is_empty() {
        return None;
    }

    let mut parts = Vec::new();
    if !missing.is_empty() {
        let has: Vec<&str> = known.iter().copied().collect();
        let has = match has.as_slice() {
            [] => "it has none".to_owned(),
            has => format!("it has {}", list(has)),
        };
        parts.push(format!("has no parameter for the {} {} ({has})", if missing.len() == 1 { "input" } else { "inputs" }, list(&missing)));
    }
    if !required.is_empty() {
        parts.push(format!(
            "needs {}, which {} no input of the signature",
            list(&required),
            if required.len() == 1 { "is" } else { "are" }
        ));
    }
    if !blocked.is_empty() {
        parts.push(format!("takes {} by position only (before the `/`)", list(&blocked)));
    }
    let remedy = match missing.iter().find(|input| !is_identifier(input)) {
        Some(input) => {
            format!("`{}` is no name for a parameter: rename the input in the contract, or take the inputs with `**inputs`", shown(input))
        }
        None => format!("write `{}`, or change the inputs in the contract", definition(signature)),
    };
    Some(Mismatch { problem: parts.join("; it "), remedy })
}

/// The `def` line that the signature asks for.
pub(super) fn definition(signature: &Signature) -> String {
    let is_simple = signature.inputs.len() <= SHOWN_NAMES_MAX && signature.inputs.iter().all(|field| is_identifier(&field.name));
    let parameters = if is_simple {
        signature.inputs.iter().map(|field| field.name.as_str()).collect::<Vec<&str>>().join(", ")
    } else {
        "**inputs".to_owned()
    };
    format!("def {}({parameters}):", shown(&signature.name))
}

/// Whether a function or a parameter can have this name: one word, and no keyword.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut lexer = lexer::lex(name, Mode::Module);
    let is_word = |kind: TokenKind| kind == TokenKind::Name || kind.is_soft_keyword();
    // No ends of lines, spaces or comments around it either.
    let is_one_word = name.chars().all(|c| c.is_alphanumeric() || c == '_' || !c.is_ascii());
    name.len() <= 1_000 && is_one_word && is_word(lexer.next_token()) && lexer.next_token() == TokenKind::Newline
}

/// Names for a sentence: `a`, `b` and 3 more.
pub(super) fn list(names: &[&str]) -> String {
    let mut text = names.iter().take(SHOWN_NAMES_MAX).map(|name| format!("`{}`", shown(name))).collect::<Vec<String>>().join(", ");
    if names.len() > SHOWN_NAMES_MAX {
        text.push_str(&format!(" and {} more", names.len() - SHOWN_NAMES_MAX));
    }
    text
}

/// The name among `names` that a slip of the hand makes `name`, if there is one: other case, or one or two letters of it wrong, missing or swapped.
pub(super) fn meant<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    const COMPARED_NAMES_MAX: usize = 1_000;
    let is_close =
        |known: &&&str| known.to_lowercase() == name.to_lowercase() || distance(name, known) <= (name.chars().count() / 3).min(2);
    names.iter().take(COMPARED_NAMES_MAX).filter(is_close).min_by_key(|known| distance(name, known)).copied()
}

/// How many letters are wrong, missing, too much or swapped (optimal string alignment); a large number where one of the two is long.
fn distance(a: &str, b: &str) -> usize {
    const COMPARED_CHARACTERS_MAX: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(100).collect(), b.chars().take(100).collect());
    if a.len().max(b.len()) > COMPARED_CHARACTERS_MAX {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// The name of the parameter that stands twice, which Python refuses and its parser does not see.
pub(super) fn twice<'a>(function: &Function<'a>) -> Option<&'a Identifier> {
    let mut seen = BTreeSet::new();
    let parameters = function.parameters?;
    parameters.iter().map(AnyParameterRef::name).find(|name| !seen.insert(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_pythons_or_not() {
        for name in ["x", "_", "x1", "größe", "match", "type", "__x__"] {
            assert!(is_identifier(name), "{name}");
        }
        for name in ["", "1x", "my-input", "a b", "a.b", "class", "None", "lambda", "x ", "x\n", "x#", "𝟙", "a/b", "x:0"] {
            assert!(!is_identifier(name), "{name:?}");
        }
    }

    #[test]
    fn a_slip_of_the_hand_is_told_from_another_name() {
        let names = ["load", "infer", "predict"];
        for (slip, meant_name) in [
            ("infre", Some("infer")),
            ("Infer", Some("infer")),
            ("inferr", Some("infer")),
            ("predikt", Some("predict")),
            ("LOAD", Some("load")),
        ] {
            assert_eq!(meant(slip, &names), meant_name, "{slip}");
        }
        for other in ["", "x", "serve", "read", &"infer".repeat(30)] {
            assert_eq!(meant(other, &names), None, "{other}");
        }
    }

    #[test]
    fn a_list_is_short() {
        assert_eq!(list(&["a", "b"]), "`a`, `b`");
        assert!(list(&["a"; 13]).ends_with("`a` and 3 more"));
    }
}
