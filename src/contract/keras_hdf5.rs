//! A Keras `.h5` file → its config and its version: two attributes of the root group.
//!
//! The file is never loaded. hdf5-reader asks for ranges, and [`Counted`] hands them out of the caller's source until a budget is
//! used up; weights, which are nearly all of such a file, are not among them. Values are taken raw and only those of the two
//! attributes are followed into the heap: the library's own decoding would follow every reference of every attribute, and a small
//! file can hold a million references to one large string.
//!
//! What must stay true: whatever the bytes are, the reading ends, within [`READ_BYTES_MAX`] and [`READS_MAX`].

use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdf5_reader::error::Error as Hdf5Error;
use hdf5_reader::messages::datatype::StringSize;
use hdf5_reader::storage::{Storage, StorageBuffer};
use hdf5_reader::{Datatype, Hdf5File, OpenOptions, RawAttribute};

use super::keras::{CONFIG_BYTES_MAX, KerasError};
use super::keras_source::Saved;
use hdf5_reader::group::Group;

/// The bytes that may be read of one file: the config may pass through twice, and object headers and heaps beside it.
const READ_BYTES_MAX: u64 = 3 * CONFIG_BYTES_MAX as u64;

/// The ranges that may be read of one file; a real one takes some dozens.
const READS_MAX: u64 = 100_000;

/// The largest object header. An attribute in it has at most 64 KiB, and the root of a Keras file has some five of them; longer
/// ones lie in a heap.
const OBJECT_HEADER_BYTES_MAX: usize = 1 << 20;

/// Groups at the top of what `save_weights` writes, in Keras 3 and in the checkpoints of 2.12 and after.
const WEIGHT_GROUPS: [&str; 3] = ["layers", "_layer_checkpoint_dependencies", "vars"];

/// The config and the version in the HDF5 file that `source` holds in its first `size_bytes`.
pub(super) fn read<R: Read + Seek + Send + 'static>(source: R, size_bytes: u64) -> Result<Saved, KerasError> {
    let left = Left { source, bytes: READ_BYTES_MAX, reads: READS_MAX, stopped: None };
    let counted = Arc::new(Counted { size_bytes, left: Mutex::new(left) });
    let storage: Arc<dyn Storage> = counted.clone();
    // What stopped the storage is the reason; the library may have made another error of it, or none.
    let saved = attributes(storage);
    match counted.left().stopped.take() {
        Some(stopped) => Err(stopped),
        None => saved,
    }
}

fn attributes(storage: Arc<dyn Storage>) -> Result<Saved, KerasError> {
    let options = OpenOptions::default()
        .with_chunk_cache_bytes(0)
        .with_max_read_bytes(CONFIG_BYTES_MAX)
        .with_max_chunk_bytes(CONFIG_BYTES_MAX)
        .with_max_object_header_bytes(OBJECT_HEADER_BYTES_MAX);
    let file = Hdf5File::from_storage_with_options(storage, options).map_err(|error| match error {
        Hdf5Error::InvalidMagic => KerasError::NotHdf5,
        error => KerasError::Hdf5(error),
    })?;
    let root = file.root_group()?;
    let attributes = root.raw_attributes()?;
    let find = |name: &str| attributes.iter().find(|attribute| attribute.name() == name);
    let Some(config) = find("model_config") else {
        let is_there = |name: &&str| root.group(name).is_ok();
        return Err(match () {
            () if find("PYTABLES_FORMAT_VERSION").is_some() => KerasError::OtherHdf5 { kind: "a PyTables (pandas) file" },
            () if find("_NCProperties").is_some() => KerasError::OtherHdf5 { kind: "a netCDF file" },
            () if find("layer_names").is_some() || find("layer_names0").is_some() => KerasError::WeightsOnly,
            () if WEIGHT_GROUPS.iter().any(is_there) => KerasError::WeightsOnly,
            () => KerasError::OtherHdf5 { kind: "no Keras model" },
        });
    };
    let keras_version = match find("keras_version") {
        Some(version) => String::from_utf8_lossy(&value(&root, version)?).into_owned(),
        None => String::new(),
    };
    let config = value(&root, config)?;
    if config.len() > CONFIG_BYTES_MAX {
        return Err(KerasError::ConfigTooLarge);
    }
    Ok(Saved { config, keras_version })
}

/// The bytes of a text: fixed strings lie in the attribute, padded; those of variable length in a heap.
fn value(root: &Group, attribute: &RawAttribute) -> Result<Vec<u8>, Hdf5Error> {
    let message = attribute.message();
    let mut bytes = match message.datatype {
        Datatype::String { size: StringSize::Variable, .. } | Datatype::VarLen { .. } => {
            root.resolve_vlen_reference_bytes(&message.raw_data, 1)?
        }
        _ => message.raw_data.clone(),
    };
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    Ok(bytes)
}

/// The caller's source as what hdf5-reader reads from, until the budget is used up.
struct Counted<R> {
    size_bytes: u64,
    left: Mutex<Left<R>>,
}

struct Left<R> {
    source: R,
    bytes: u64,
    reads: u64,
    /// Why no more is read.
    stopped: Option<KerasError>,
}

impl<R> Counted<R> {
    fn left(&self) -> MutexGuard<'_, Left<R>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Read + Seek + Send> Storage for Counted<R> {
    fn len(&self) -> u64 {
        self.size_bytes
    }

    fn read_range(&self, offset: u64, length: usize) -> hdf5_reader::error::Result<StorageBuffer> {
        let needed = length as u64;
        let available = self.size_bytes.saturating_sub(offset);
        if needed > available {
            return Err(Hdf5Error::UnexpectedEof { offset, needed, available });
        }
        let mut left = self.left();
        let (Some(bytes), Some(reads)) = (left.bytes.checked_sub(needed), left.reads.checked_sub(1)) else {
            left.stopped.get_or_insert(KerasError::TooMuchToRead);
            return Err(Hdf5Error::ResourceLimit("the budget of the reading is used up".to_owned()));
        };
        (left.bytes, left.reads) = (bytes, reads);
        let mut buffer = vec![0; length];
        let read = left.source.seek(SeekFrom::Start(offset)).and_then(|_| left.source.read_exact(&mut buffer));
        if let Err(source) = read {
            left.stopped.get_or_insert(KerasError::Io(source));
            return Err(Hdf5Error::Other("the source failed".to_owned()));
        }
        Ok(StorageBuffer::from_vec(buffer))
    }
}
