//! TensorFlow's `saved_model.pbtxt` → the operations that its graphs are made of.
//!
//! The same as `saved_model_operations.rs` says of the binary form, by the names of the fields.
//!
//! What must stay true: both forms of one model give the same; memory does not grow with the text.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};

use super::saved_model_meta::SavedModelError;
use super::saved_model_operations::{OPERATIONS_MAX, Operations};
use super::saved_model_text::FILE;
use super::text_tokens::TextWalkError;
use super::text_walker::TextWalker;
use super::walker::WalkError;

/// The operations in the `saved_model.pbtxt` that `source` holds in its first `size_bytes`, of all meta graphs together.
pub fn read<R: Read + Seek>(mut source: R, size_bytes: u64) -> Result<Operations, SavedModelError> {
    source.seek(SeekFrom::Start(0)).map_err(|source| WalkError::Io { offset: 0, source })?;
    let mut walker = TextWalker::new(source, size_bytes, FILE);
    let mut operations = Operations::default();
    let saved_model = walker.whole();
    while let Some(name) = walker.next(&saved_model)? {
        if name == "meta_graphs" {
            meta_graph(&mut walker, &mut operations)?;
        }
    }
    Ok(operations)
}

fn meta_graph<R: Read>(walker: &mut TextWalker<R>, operations: &mut Operations) -> Result<(), TextWalkError> {
    // The order of fields is the writer's: what the saver listed and what the nodes name are told apart at the end.
    let (mut listed, mut named, mut functions) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        match name.as_str() {
            "meta_info_def" => {
                let meta_info = walker.message()?;
                while let Some(name) = walker.next(&meta_info)? {
                    match name.as_str() {
                        "stripped_op_list" => texts_below(walker, "op", "name", &mut listed)?,
                        "tensorflow_version" => operations.tensorflow_version = walker.text()?,
                        _ => {}
                    }
                }
            }
            "graph_def" => graph_def(walker, operations, &mut named, &mut functions)?,
            _ => {}
        }
    }
    operations.names.extend(if listed.is_empty() { named } else { listed });
    operations.names.retain(|name| !functions.contains(name));
    Ok(())
}

fn graph_def<R: Read>(
    walker: &mut TextWalker<R>,
    operations: &mut Operations,
    named: &mut BTreeSet<String>,
    functions: &mut BTreeSet<String>,
) -> Result<(), TextWalkError> {
    let graph = walker.message()?;
    while let Some(name) = walker.next(&graph)? {
        match name.as_str() {
            "node" => texts_in(walker, "op", named)?,
            "library" => {
                let library = walker.message()?;
                while let Some(name) = walker.next(&library)? {
                    if name == "function" {
                        function(walker, named, functions)?;
                    }
                }
            }
            "versions" => {
                let versions = walker.message()?;
                while let Some(name) = walker.next(&versions)? {
                    match name.as_str() {
                        "min_consumer" => operations.consumer_min = operations.consumer_min.max(walker.number()?),
                        "bad_consumers" => drop(operations.consumers_bad.insert(walker.number()?)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn function<R: Read>(
    walker: &mut TextWalker<R>,
    named: &mut BTreeSet<String>,
    functions: &mut BTreeSet<String>,
) -> Result<(), TextWalkError> {
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        match name.as_str() {
            "signature" => texts_in(walker, "name", functions)?,
            "node_def" => texts_in(walker, "op", named)?,
            _ => {}
        }
    }
    Ok(())
}

/// The texts of the field `inner` of every message in the field `outer`.
fn texts_below<R: Read>(walker: &mut TextWalker<R>, outer: &str, inner: &str, texts: &mut BTreeSet<String>) -> Result<(), TextWalkError> {
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        if name == outer {
            texts_in(walker, inner, texts)?;
        }
    }
    Ok(())
}

fn texts_in<R: Read>(walker: &mut TextWalker<R>, field: &str, texts: &mut BTreeSet<String>) -> Result<(), TextWalkError> {
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        if name == field {
            let text = walker.text()?;
            if texts.len() < OPERATIONS_MAX {
                texts.insert(text);
            }
        }
    }
    Ok(())
}
