//! ONNX models → which operators they need of the program that runs them: operator sets and domains.
//!
//! `onnx.rs` reads what goes in and out; this asks whether a runtime knows what is in between. The versions stand in `opset_import`, the domains in the
//! nodes; a domain whose functions the model brings along (`ModelProto.functions`) is nobody else's business. Graphs inside of nodes (branches and bodies)
//! are not walked. Numbers of fields are those of `onnx.proto`.
//!
//! What must stay true: weights and attributes are stepped over, and at most [`DOMAINS_MAX`] domains are kept.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::{Read, Seek};

use serde::{Deserialize, Serialize};

use super::walker::{Span, WalkError, Walker};

/// The most domains that are kept; a real model has three or four.
pub const DOMAINS_MAX: usize = 100;

/// What an ONNX model needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operators {
    /// The version of the file's own form.
    pub ir_version: i64,
    /// The operator sets: domain and version; ONNX' own domain is the empty text.
    pub sets: BTreeMap<String, i64>,
    /// The domains of nodes that the model has no functions for, each with one operator of it.
    pub domains: BTreeMap<String, String>,
}

/// The operators of the ONNX model that `source` holds in its first `size_bytes`.
pub fn read<R: Read + Seek>(source: R, size_bytes: u64) -> Result<Operators, WalkError> {
    let mut walker = Walker::new(source, size_bytes)?;
    let mut operators = Operators::default();
    let mut own_domains = BTreeSet::new();
    let mut model = walker.whole();
    while let Some(found) = walker.next(&mut model)? {
        match found.number {
            1 => operators.ir_version = found.number()? as i64,
            7 => graph(&mut walker, found.bytes()?, &mut operators.domains)?,
            8 => operator_set(&mut walker, found.bytes()?, &mut operators.sets)?,
            25 => function(&mut walker, found.bytes()?, &mut own_domains, &mut operators.domains)?,
            _ => {}
        }
    }
    operators.domains.retain(|domain, _| !own_domains.contains(domain));
    Ok(operators)
}

fn plain(domain: String) -> String {
    if domain == "ai.onnx" { String::new() } else { domain }
}

fn operator_set<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, sets: &mut BTreeMap<String, i64>) -> Result<(), WalkError> {
    let (mut domain, mut version) = (String::new(), 0);
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => domain = plain(walker.text(found.bytes()?)?),
            2 => version = found.number()? as i64,
            _ => {}
        }
    }
    if sets.len() < DOMAINS_MAX {
        sets.insert(domain, version);
    }
    Ok(())
}

fn graph<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, domains: &mut BTreeMap<String, String>) -> Result<(), WalkError> {
    while let Some(found) = walker.next(&mut span)? {
        if found.number == 1 {
            node(walker, found.bytes()?, domains)?;
        }
    }
    Ok(())
}

fn node<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, domains: &mut BTreeMap<String, String>) -> Result<(), WalkError> {
    let (mut domain, mut operator) = (String::new(), None);
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            4 => operator = Some(found.bytes()?),
            7 => domain = plain(walker.text(found.bytes()?)?),
            _ => {}
        }
    }
    // The name costs a look into the file; one of each domain is enough.
    if !domain.is_empty() && !domains.contains_key(&domain) && domains.len() < DOMAINS_MAX {
        let operator = operator.map_or(Ok(String::new()), |operator| walker.text(operator))?;
        domains.insert(domain, operator);
    }
    Ok(())
}

fn function<R: Read + Seek>(
    walker: &mut Walker<R>,
    mut span: Span,
    own: &mut BTreeSet<String>,
    domains: &mut BTreeMap<String, String>,
) -> Result<(), WalkError> {
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            7 => node(walker, found.bytes()?, domains)?,
            10 => {
                let domain = plain(walker.text(found.bytes()?)?);
                if own.len() < DOMAINS_MAX {
                    own.insert(domain);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let key = u16::from(number) << 3 | 2;
        let key = if key < 0x80 { vec![key as u8] } else { vec![key as u8 & 0x7f | 0x80, (key >> 7) as u8] };
        [&key[..], &[bytes.len() as u8], bytes].concat()
    }

    #[test]
    fn domains_that_the_model_brings_functions_for_are_its_own() {
        let node = |operator: &str, domain: &str| field(1, &[field(4, operator.as_bytes()), field(7, domain.as_bytes())].concat());
        let graph = [node("Add", ""), node("Mine", "my.lib"), node("Fused", "com.acme"), node("Other", "com.acme")].concat();
        let set = |domain: &str, version: u8| field(8, &[field(1, domain.as_bytes()), vec![0x10, version]].concat());
        let function = field(25, &[field(1, b"Mine"), field(10, b"my.lib")].concat());
        let model = [vec![0x08, 9], field(7, &graph), set("ai.onnx", 18), set("com.acme", 1), set("my.lib", 1), function].concat();
        let found = read(Cursor::new(&model), model.len() as u64).unwrap();
        assert_eq!(found.ir_version, 9);
        assert_eq!(found.sets.get(""), Some(&18));
        assert_eq!(found.domains, BTreeMap::from([("com.acme".to_owned(), "Fused".to_owned())]));
    }
}
