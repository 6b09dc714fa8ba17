//! TensorFlow's `saved_model.pb` → Contract.
//!
//! Only tags, version and signatures are read, the graph is stepped over; what they mean is `saved_model_meta.rs`'s business. Numbers
//! of fields are those of TensorFlow's `saved_model.proto` and `meta_graph.proto`. The text form is read by `saved_model_text.rs`.
//!
//! What must stay true: what is read of a file does not grow with its graph.

use std::io::{Read, Seek};

use super::contract::{Dimension, FIELD_DEPTH_MAX, Shape};
use super::file_kind;
use super::reading::Reading;
use super::saved_model_meta::{self, Encoding, MetaGraph, SavedModelError, SignatureInfo, Tags, TensorInfo};
use super::walker::{Span, WalkError, Walker};

/// The contract in the `saved_model.pb` that `source` holds in its first `size_bytes`: that of the meta graph with these tags, or of
/// the one that is served.
pub fn read<R: Read + Seek>(mut source: R, size_bytes: u64, tags: &Tags) -> Result<Reading, SavedModelError> {
    let reading = read_model(&mut source, size_bytes).and_then(|meta_graphs| saved_model_meta::reading(&meta_graphs, tags));
    reading.map_err(|error| match error.is_of_the_form().then(|| file_kind::tell(&mut source, size_bytes)).flatten() {
        Some(kind) => SavedModelError::OtherFile { kind },
        None => error,
    })
}

fn read_model<R: Read + Seek>(source: R, size_bytes: u64) -> Result<Vec<MetaGraph>, SavedModelError> {
    let mut walker = Walker::new(source, size_bytes)?;
    let mut meta_graphs = Vec::new();
    let mut saved_model = walker.whole();
    while let Some(found) = walker.next(&mut saved_model)? {
        if found.number == 2 {
            meta_graphs.push(read_meta_graph(&mut walker, found.bytes()?)?);
        }
    }
    Ok(meta_graphs)
}

fn read_meta_graph<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<MetaGraph, WalkError> {
    let mut graph = MetaGraph::default();
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => {
                let mut meta_info = found.bytes()?;
                while let Some(found) = walker.next(&mut meta_info)? {
                    match found.number {
                        4 => drop(graph.tags.insert(walker.text(found.bytes()?)?)),
                        5 => graph.tensorflow_version = walker.text(found.bytes()?)?,
                        _ => {}
                    }
                }
            }
            5 => {
                let (name, signature) = read_entry(walker, found.bytes()?, read_signature)?;
                graph.signatures.insert(name, signature);
            }
            _ => {}
        }
    }
    Ok(graph)
}

/// An entry of a map: its key, and its value as `read` reads it; a key that comes twice has the last one's value.
fn read_entry<R: Read + Seek, T: Default>(
    walker: &mut Walker<R>,
    mut entry: Span,
    read: impl Fn(&mut Walker<R>, Span) -> Result<T, WalkError>,
) -> Result<(String, T), WalkError> {
    let (mut key, mut value) = (String::new(), T::default());
    while let Some(found) = walker.next(&mut entry)? {
        match found.number {
            1 => key = walker.text(found.bytes()?)?,
            2 => value = read(walker, found.bytes()?)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn read_signature<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<SignatureInfo, WalkError> {
    let mut signature = SignatureInfo::default();
    while let Some(found) = walker.next(&mut span)? {
        let map = match found.number {
            1 => &mut signature.inputs,
            2 => &mut signature.outputs,
            // The method's name, and values for inputs that a caller leaves out: a contract has neither.
            _ => continue,
        };
        let (name, info) = read_entry(walker, found.bytes()?, |walker, span| read_info(walker, span, 1))?;
        map.insert(name, info);
    }
    Ok(signature)
}

fn read_info<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, depth: usize) -> Result<TensorInfo, WalkError> {
    let mut info = TensorInfo::default();
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => info.encoding = Encoding::Dense,
            // An enum's number is an int32, in protobuf's eyes: the low half.
            2 => info.dtype = found.number()? as i32,
            3 => info.shape = read_shape(walker, found.bytes()?)?,
            4 => info.encoding = Encoding::Sparse,
            5 if depth >= FIELD_DEPTH_MAX => {
                return Err(WalkError::Malformed { offset: found.offset, problem: "composite tensors are nested too deep" });
            }
            5 => info.encoding = read_composite(walker, found.bytes()?, depth + 1)?,
            _ => {}
        }
    }
    Ok(info)
}

fn read_composite<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, depth: usize) -> Result<Encoding, WalkError> {
    let (mut class, mut parts) = (String::new(), Vec::new());
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => {
                let mut type_spec = found.bytes()?;
                while let Some(found) = walker.next(&mut type_spec)? {
                    if found.number == 3 {
                        class = walker.text(found.bytes()?)?;
                    }
                }
            }
            2 => parts.push(read_info(walker, found.bytes()?, depth)?),
            _ => {}
        }
    }
    Ok(Encoding::Composite(class, parts))
}

fn read_shape<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<Shape, WalkError> {
    let (mut dimensions, mut unknown_rank) = (Vec::new(), false);
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            2 => {
                let mut dimension = Dimension::default();
                let mut span = found.bytes()?;
                while let Some(found) = walker.next(&mut span)? {
                    match found.number {
                        1 => dimension.size = found.number()? as i64,
                        2 => dimension.name = walker.text(found.bytes()?)?,
                        _ => {}
                    }
                }
                dimensions.push(dimension);
            }
            3 => unknown_rank = found.number()? != 0,
            _ => {}
        }
    }
    Ok(if unknown_rank { Shape::UnknownRank } else { Shape::Dimensions(dimensions) })
}
