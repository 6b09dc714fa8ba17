//! ONNX models → which operators they need of the program that runs them: operator sets and domains.
//!
//! `onnx.rs` reads what goes in and out; this asks whether a runtime knows what is in between. The versions stand in `opset_import`, the domains in the
//! nodes, those of the graphs inside of nodes included; a domain whose functions the model brings along (`ModelProto.functions`) is nobody else's business.
//! Numbers of fields are those of `onnx.proto`.
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
    let (mut own_domains, mut nodes) = (BTreeSet::new(), Vec::new());
    let mut model = walker.whole();
    while let Some(found) = walker.next(&mut model)? {
        match found.number {
            1 => operators.ir_version = found.number()? as i64,
            7 => nodes.push(Nodes { span: found.bytes()?, number: NODES_OF_GRAPH, depth: 0 }),
            8 => operator_set(&mut walker, found.bytes()?, &mut operators.sets)?,
            25 => {
                let (domain, span) = function(&mut walker, found.bytes()?)?;
                if own_domains.len() < DOMAINS_MAX {
                    own_domains.insert(domain);
                }
                nodes.push(Nodes { span, number: NODES_OF_FUNCTION, depth: 0 });
            }
            _ => {}
        }
    }
    match domains(&mut walker, nodes, &mut operators.domains) {
        // What was seen of a graph that is too large to be walked to its end is true all the same.
        Ok(()) | Err(WalkError::TooManyFields { .. } | WalkError::TooMuchText { .. }) => {}
        Err(error) => return Err(error),
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

/// A function's domain, and the function again: its nodes come before its domain.
fn function<R: Read + Seek>(walker: &mut Walker<R>, span: Span) -> Result<(String, Span), WalkError> {
    let (mut domain, mut left) = (String::new(), span.clone());
    while let Some(found) = walker.next(&mut left)? {
        if found.number == 10 {
            domain = plain(walker.text(found.bytes()?)?);
        }
    }
    Ok((domain, span))
}

/// The fields in which a graph and a function have their nodes.
const NODES_OF_GRAPH: u64 = 1;
const NODES_OF_FUNCTION: u64 = 7;

/// Graphs in nodes in graphs: branches and bodies. Real models have two or three levels.
const DEPTH_MAX: usize = 50;

/// A graph or a function whose nodes are to be looked at.
struct Nodes {
    span: Span,
    number: u64,
    depth: usize,
}

/// The domains of the nodes, those of the graphs inside of nodes included.
fn domains<R: Read + Seek>(walker: &mut Walker<R>, mut left: Vec<Nodes>, domains: &mut BTreeMap<String, String>) -> Result<(), WalkError> {
    while let Some(Nodes { mut span, number, depth }) = left.pop() {
        while let Some(found) = walker.next(&mut span)? {
            if found.number == number {
                let inner = node(walker, found.bytes()?, domains)?;
                let inner = inner.into_iter().map(|span| Nodes { span, number: NODES_OF_GRAPH, depth: depth + 1 });
                left.extend(inner.filter(|inner| inner.depth <= DEPTH_MAX));
            }
        }
    }
    Ok(())
}

/// Notes the domain of a node; gives the graphs in its attributes.
fn node<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, domains: &mut BTreeMap<String, String>) -> Result<Vec<Span>, WalkError> {
    let (mut domain, mut operator, mut graphs) = (String::new(), None, Vec::new());
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            4 => operator = Some(found.bytes()?),
            5 => {
                let mut attribute = found.bytes()?;
                while let Some(found) = walker.next(&mut attribute)? {
                    if matches!(found.number, 6 | 11) {
                        graphs.push(found.bytes()?);
                    }
                }
            }
            7 => domain = plain(walker.text(found.bytes()?)?),
            _ => {}
        }
    }
    // The name costs a look into the file; one of each domain is enough.
    if !domain.is_empty() && !domains.contains_key(&domain) && domains.len() < DOMAINS_MAX {
        let operator = operator.map_or(Ok(String::new()), |operator| walker.text(operator))?;
        domains.insert(domain, operator);
    }
    Ok(graphs)
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
        // A branch is a graph in an attribute.
        let branch = field(5, &field(6, &node("Deep", "com.deep")));
        let inside = [vec![0x08, 9], field(7, &field(1, &[field(4, b"If"), branch].concat())), set("", 18)].concat();
        let inside = read(Cursor::new(&inside), inside.len() as u64).unwrap();
        assert_eq!(inside.domains, BTreeMap::from([("com.deep".to_owned(), "Deep".to_owned())]));
        assert_eq!(found.ir_version, 9);
        assert_eq!(found.sets.get(""), Some(&18));
        assert_eq!(found.domains, BTreeMap::from([("com.acme".to_owned(), "Fused".to_owned())]));
    }
}
