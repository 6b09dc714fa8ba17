//! TensorFlow's `saved_model.pbtxt` → Contract.
//!
//! The text form that the builder of TensorFlow 1 writes with `as_text=True`. As in the binary form only tags, version and signatures
//! are read and everything else is passed; what they mean is `saved_model_meta.rs`'s business. Names of fields are those of
//! TensorFlow's `saved_model.proto` and `meta_graph.proto`.
//!
//! What must stay true: both forms of one model give the same contract; memory does not grow with the text.

use std::io::{Read, Seek, SeekFrom};

use super::contract::{Dimension, Shape};
use super::file_kind::{self, FileKind};
use super::reading::Reading;
use super::saved_model_meta::{self, Encoding, MetaGraph, SavedModelError, SignatureInfo, Tags, TensorInfo, dtype_number};
use super::text_tokens::TextWalkError;
use super::text_walker::TextWalker;
use super::walker::WalkError;

/// The file's name, by which TensorFlow finds it.
pub const FILE: &str = "saved_model.pbtxt";

/// The contract in the `saved_model.pbtxt` that `source` holds in its first `size_bytes`: that of the meta graph with these tags, or of
/// the one that is served.
pub fn read<R: Read + Seek>(mut source: R, size_bytes: u64, tags: &Tags) -> Result<Reading, SavedModelError> {
    let reading = read_model(&mut source, size_bytes).and_then(|meta_graphs| saved_model_meta::reading(&meta_graphs, tags));
    reading.map_err(|error| match error.is_of_the_form().then(|| file_kind::tell(&mut source, size_bytes)).flatten() {
        // That it is text is no news, and the place in it says more.
        Some(FileKind::Text { .. }) | None => error,
        Some(kind) => SavedModelError::OtherFile { kind },
    })
}

fn read_model<R: Read + Seek>(mut source: R, size_bytes: u64) -> Result<Vec<MetaGraph>, SavedModelError> {
    source.seek(SeekFrom::Start(0)).map_err(|source| WalkError::Io { offset: 0, source })?;
    let mut walker = TextWalker::new(source, size_bytes, FILE);
    let mut meta_graphs = Vec::new();
    let saved_model = walker.whole();
    while let Some(name) = walker.next(&saved_model)? {
        if name == "meta_graphs" {
            meta_graphs.push(read_meta_graph(&mut walker)?);
        }
    }
    Ok(meta_graphs)
}

fn read_meta_graph<R: Read>(walker: &mut TextWalker<R>) -> Result<MetaGraph, TextWalkError> {
    let mut graph = MetaGraph::default();
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        match name.as_str() {
            "meta_info_def" => {
                let meta_info = walker.message()?;
                while let Some(name) = walker.next(&meta_info)? {
                    match name.as_str() {
                        "tags" => drop(graph.tags.insert(walker.text()?)),
                        "tensorflow_version" => graph.tensorflow_version = walker.text()?,
                        _ => {}
                    }
                }
            }
            "signature_def" => {
                let (name, signature) = read_entry(walker, read_signature)?;
                graph.signatures.insert(name, signature);
            }
            _ => {}
        }
    }
    Ok(graph)
}

/// An entry of a map: its key, and its value as `read` reads it.
fn read_entry<R: Read, T: Default>(
    walker: &mut TextWalker<R>,
    read: impl Fn(&mut TextWalker<R>) -> Result<T, TextWalkError>,
) -> Result<(String, T), TextWalkError> {
    let (mut key, mut value) = (String::new(), T::default());
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        match name.as_str() {
            "key" => key = walker.text()?,
            "value" => value = read(walker)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn read_signature<R: Read>(walker: &mut TextWalker<R>) -> Result<SignatureInfo, TextWalkError> {
    let mut signature = SignatureInfo::default();
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        let map = match name.as_str() {
            "inputs" => &mut signature.inputs,
            "outputs" => &mut signature.outputs,
            _ => continue,
        };
        let (name, info) = read_entry(walker, read_info)?;
        map.insert(name, info);
    }
    Ok(signature)
}

/// A composite one has parts of its own kind in it; the walker's limit of nesting bounds them.
fn read_info<R: Read>(walker: &mut TextWalker<R>) -> Result<TensorInfo, TextWalkError> {
    let mut info = TensorInfo::default();
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        match name.as_str() {
            "name" => info.encoding = Encoding::Dense,
            "dtype" => info.dtype = read_dtype(walker)?,
            "tensor_shape" => info.shape = read_shape(walker)?,
            "coo_sparse" => info.encoding = Encoding::Sparse,
            "composite_tensor" => info.encoding = read_composite(walker)?,
            _ => {}
        }
    }
    Ok(info)
}

fn read_dtype<R: Read>(walker: &mut TextWalker<R>) -> Result<i32, TextWalkError> {
    let word = walker.word()?;
    let number = dtype_number(&word).or_else(|| word.parse().ok());
    number.ok_or_else(|| walker.refused(format!("`{word}` is no dtype of TensorFlow")))
}

fn read_composite<R: Read>(walker: &mut TextWalker<R>) -> Result<Encoding, TextWalkError> {
    let (mut class, mut parts) = (String::new(), Vec::new());
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        match name.as_str() {
            "type_spec" => {
                let type_spec = walker.message()?;
                while let Some(name) = walker.next(&type_spec)? {
                    if name == "type_spec_class_name" {
                        class = walker.text()?;
                    }
                }
            }
            "components" => parts.push(read_info(walker)?),
            _ => {}
        }
    }
    Ok(Encoding::Composite(class, parts))
}

fn read_shape<R: Read>(walker: &mut TextWalker<R>) -> Result<Shape, TextWalkError> {
    let (mut dimensions, mut unknown_rank) = (Vec::new(), false);
    let message = walker.message()?;
    while let Some(name) = walker.next(&message)? {
        match name.as_str() {
            "dim" => {
                let mut dimension = Dimension::default();
                let message = walker.message()?;
                while let Some(name) = walker.next(&message)? {
                    match name.as_str() {
                        "size" => dimension.size = walker.number()?,
                        "name" => dimension.name = walker.text()?,
                        _ => {}
                    }
                }
                dimensions.push(dimension);
            }
            "unknown_rank" => unknown_rank = walker.truth()?,
            _ => {}
        }
    }
    Ok(if unknown_rank { Shape::UnknownRank } else { Shape::Dimensions(dimensions) })
}
