//! TensorFlow's `saved_model.pb` → the operations that its graphs are made of, and which TensorFlow they ask for.
//!
//! For whoever asks whether a runtime can run the model. The saver lists the operations beside the graph (`stripped_op_list`), those in functions
//! included; where it did not, the nodes of the graph and of its function library are walked. Functions that are called like operations are none.
//! Numbers of fields are those of `meta_graph.proto`, `graph.proto`, `function.proto` and `versions.proto`.
//!
//! What must stay true: attributes and constants are stepped over, and at most [`OPERATIONS_MAX`] names are kept.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use serde::{Deserialize, Serialize};

use super::walker::{Span, WalkError, Walker};

/// The most names that are kept; TensorFlow has some two thousand operations.
pub const OPERATIONS_MAX: usize = 10_000;

/// What a SavedModel is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operations {
    /// The names.
    pub names: BTreeSet<String>,
    /// The TensorFlow that saved it; empty where it does not say.
    pub tensorflow_version: String,
    /// The oldest consumer that may read its graphs (`VersionDef.min_consumer`).
    pub consumer_min: i64,
    /// Consumers that must not (`VersionDef.bad_consumers`), the first hundred.
    pub consumers_bad: BTreeSet<i64>,
}

/// The operations in the `saved_model.pb` that `source` holds in its first `size_bytes`, of all meta graphs together.
pub fn read<R: Read + Seek>(source: R, size_bytes: u64) -> Result<Operations, WalkError> {
    let mut walker = Walker::new(source, size_bytes)?;
    let mut operations = Operations::default();
    let mut saved_model = walker.whole();
    while let Some(found) = walker.next(&mut saved_model)? {
        if found.number == 2 {
            meta_graph(&mut walker, found.bytes()?, &mut operations)?;
        }
    }
    Ok(operations)
}

fn meta_graph<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, operations: &mut Operations) -> Result<(), WalkError> {
    let (mut listed, mut graph) = (false, None);
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => {
                let mut meta_info = found.bytes()?;
                while let Some(found) = walker.next(&mut meta_info)? {
                    match found.number {
                        2 => listed |= names_below(walker, found.bytes()?, 1, 1, &mut operations.names)?,
                        5 => operations.tensorflow_version = walker.text(found.bytes()?)?,
                        _ => {}
                    }
                }
            }
            2 => graph = Some(found.bytes()?),
            _ => {}
        }
    }
    graph.map_or(Ok(()), |graph| graph_def(walker, graph, listed, operations))
}

/// The text of field `inner` of every message in field `outer`; whether there was one.
fn names_below<R: Read + Seek>(
    walker: &mut Walker<R>,
    mut span: Span,
    outer: u64,
    inner: u64,
    names: &mut BTreeSet<String>,
) -> Result<bool, WalkError> {
    let mut any = false;
    while let Some(found) = walker.next(&mut span)? {
        if found.number == outer {
            any = true;
            name_in(walker, found.bytes()?, inner, names)?;
        }
    }
    Ok(any)
}

fn name_in<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, number: u64, names: &mut BTreeSet<String>) -> Result<(), WalkError> {
    while let Some(found) = walker.next(&mut span)? {
        if found.number == number {
            let name = walker.text(found.bytes()?)?;
            if names.len() < OPERATIONS_MAX {
                names.insert(name);
            }
            return Ok(());
        }
    }
    Ok(())
}

/// GraphDef: its versions, and, where nobody listed them, the operations of its nodes and of its functions' nodes.
fn graph_def<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, listed: bool, operations: &mut Operations) -> Result<(), WalkError> {
    let (mut names, mut functions) = (BTreeSet::new(), BTreeSet::new());
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 if !listed => name_in(walker, found.bytes()?, 2, &mut names)?,
            2 => library(walker, found.bytes()?, listed, &mut names, &mut functions)?,
            4 => versions(walker, found.bytes()?, operations)?,
            _ => {}
        }
    }
    operations.names.extend(names);
    operations.names.retain(|name| !functions.contains(name));
    Ok(())
}

fn library<R: Read + Seek>(
    walker: &mut Walker<R>,
    mut span: Span,
    listed: bool,
    names: &mut BTreeSet<String>,
    functions: &mut BTreeSet<String>,
) -> Result<(), WalkError> {
    while let Some(found) = walker.next(&mut span)? {
        if found.number != 1 {
            continue;
        }
        let mut function = found.bytes()?;
        while let Some(found) = walker.next(&mut function)? {
            match found.number {
                1 => name_in(walker, found.bytes()?, 1, functions)?,
                3 if !listed => name_in(walker, found.bytes()?, 2, names)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn versions<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, operations: &mut Operations) -> Result<(), WalkError> {
    const BAD_MAX: usize = 100;
    while let Some(found) = walker.next(&mut span)? {
        // A list of numbers may also come packed; TensorFlow itself never wrote one.
        match (found.number, found.number()) {
            (2, Ok(number)) => operations.consumer_min = operations.consumer_min.max(number as i64),
            (3, Ok(number)) if operations.consumers_bad.len() < BAD_MAX => drop(operations.consumers_bad.insert(number as i64)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A field of bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn read_all(model: &[u8]) -> Operations {
        read(Cursor::new(model), model.len() as u64).unwrap()
    }

    #[test]
    fn the_savers_list_is_believed_and_without_one_the_nodes_are_walked() {
        let node = |operation: &str| [field(1, b"name"), field(2, operation.as_bytes())].concat();
        let function = [field(1, &field(1, b"my_function")), field(3, &node("MatMul"))].concat();
        let graph = [
            field(1, &node("Placeholder")),
            field(1, &node("my_function")),
            field(2, &field(1, &function)),
            field(4, &[0x08, 0x64, 0x10, 0x0c, 0x18, 0x1b]),
        ]
        .concat();
        let plain = field(2, &[field(1, &field(5, b"2.9.1")), field(2, &graph)].concat());
        let found = read_all(&plain);
        assert_eq!(found.names.iter().map(String::as_str).collect::<Vec<_>>(), ["MatMul", "Placeholder"]);
        assert_eq!((found.tensorflow_version.as_str(), found.consumer_min), ("2.9.1", 12));
        assert_eq!(found.consumers_bad, BTreeSet::from([27]));
        let list = [field(1, &field(1, b"Custom")), field(1, &field(1, b"Const"))].concat();
        let listed = field(2, &[field(1, &field(2, &list)), field(2, &graph)].concat());
        assert_eq!(read_all(&listed).names.iter().map(String::as_str).collect::<Vec<_>>(), ["Const", "Custom"]);
    }
}
