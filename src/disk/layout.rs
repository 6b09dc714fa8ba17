//! OCI image layouts: folders with blobs and an `index.json` (image-spec, "Image Layout").
//!
//! Read and written. A blob is compared with its descriptor whenever it is read or written, and appears by a rename; one that another
//! tool has left half-written is not taken for there. `index.json` is replaced by a rename under a lock on the folder, so that two
//! writers of different tags both stay; what it says of other images is kept as it was.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::atomic::{self, Existing};
use super::place::{self, PlaceError};
use super::verified::{CopyError, Verified, copy};
use crate::fault::{Failure, Fault};
use crate::oci::config::CONFIG_BYTES_MAX;
use crate::oci::digest::Digest;
use crate::oci::image::ImageSet;
use crate::oci::json::canonical;
use crate::oci::manifest::{Descriptor, Document, MANIFEST_BYTES_MAX, media};

/// The annotation that has the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where the blobs are.
const BLOBS: &str = "blobs/sha256";
/// What `oci-layout` says.
pub const LAYOUT_FILE: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layout on disk.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The folder is something else.
    #[error("`{}` is not an OCI image layout: {reason}", .path.display())]
    NotALayout {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// There is something in its place that is no layout.
    #[error("`{}` is there and is no layout that takes an image", .path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<LayoutError>,
    },
    /// Nothing can be written in its place.
    #[error("no layout can be written at `{}`", .path.display())]
    Place {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: PlaceError,
    },
    /// The disk refused.
    #[error("cannot {operation} `{}`", .path.display())]
    Disk {
        /// The verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No image of that tag.
    #[error("the layout `{}` has no image `{tag}`; it has {available}", .path.display())]
    NoTag {
        /// The layout.
        path: PathBuf,
        /// What was asked for.
        tag: String,
        /// What there is.
        available: String,
    },
    /// No tag was named, and there is not exactly one image.
    #[error("the layout `{}` has {count} images and no tag was named; it has {available}", .path.display())]
    Choose {
        /// The layout.
        path: PathBuf,
        /// How many.
        count: usize,
        /// Their tags.
        available: String,
    },
    /// A blob is not there.
    #[error("{digest} is missing in the layout `{}`", .path.display())]
    Missing {
        /// The layout.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A blob is not what its descriptor says, or its source failed.
    #[error("cannot copy a blob of the layout `{}`", .path.display())]
    Blob {
        /// The layout.
        path: PathBuf,
        /// What was wrong.
        #[source]
        source: CopyError,
    },
    /// A document that is larger than any.
    #[error("{digest} in the layout `{}` has {size_bytes} bytes; no manifest or config is that large", .path.display())]
    TooLarge {
        /// The layout.
        path: PathBuf,
        /// The document.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
    },
}

impl Failure for LayoutError {
    fn fault(&self) -> Fault {
        match self {
            LayoutError::Disk { .. } => Fault::Ours,
            LayoutError::Choose { .. } | LayoutError::Occupied { .. } => Fault::Usage,
            LayoutError::Place { source, .. } => source.fault(),
            LayoutError::NotALayout { .. } | LayoutError::NoTag { .. } | LayoutError::Missing { .. } => Fault::Missing,
            LayoutError::Blob { source, .. } => source.fault(),
            LayoutError::TooLarge { .. } => Fault::Remote,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            LayoutError::Choose { path, count: 2.., .. } => Some(format!("name one: `oci:{}:TAG`", path.display())),
            LayoutError::Occupied { .. } => Some("name another folder".to_owned()),
            LayoutError::Place { source, .. } => source.remedy(),
            LayoutError::Blob { source, .. } => source.remedy(),
            _ => None,
        }
    }
}

impl Layout {
    /// Opens a layout that is there.
    pub fn open(root: &Path) -> Result<Layout, LayoutError> {
        let layout = Layout { root: root.to_owned() };
        let refuse = |reason: String| LayoutError::NotALayout { path: root.to_owned(), reason };
        let bytes =
            layout.read_capped("oci-layout", MANIFEST_BYTES_MAX)?.ok_or_else(|| refuse("it has no file `oci-layout`".to_owned()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| refuse(format!("`oci-layout`: {error}")))?;
        match value.get("imageLayoutVersion").and_then(Value::as_str) {
            Some("1.0.0") => Ok(layout),
            other => Err(refuse(format!("its version is `{}`, not `1.0.0`", other.unwrap_or("missing")))),
        }
    }

    /// Refuses a folder in which no image can be put, by what can be known before; nothing is made.
    pub fn check(root: &Path) -> Result<(), LayoutError> {
        if !is_new(root) {
            let read = Layout::open(root).and_then(|layout| layout.manifests());
            read.map_err(|source| LayoutError::Occupied { path: root.to_owned(), source: Box::new(source) })?;
        }
        let places = place::takes_folder(root).and_then(|()| place::takes_folder(&root.join(BLOBS)));
        places.map_err(|source| LayoutError::Place { path: root.to_owned(), source })
    }

    /// Opens a layout, and makes one where there is nothing or an empty folder.
    pub fn create(root: &Path) -> Result<Layout, LayoutError> {
        Layout::check(root)?;
        let blobs = root.join(BLOBS);
        if is_new(root) {
            let mark = root.join("oci-layout");
            fs::create_dir_all(&blobs).map_err(disk("create", &blobs))?;
            atomic::write(&mark, LAYOUT_FILE.as_bytes()).map_err(disk("write", &mark))?;
        }
        let layout = Layout::open(root)?;
        fs::create_dir_all(&blobs).map_err(disk("create", &blobs))?;
        Ok(layout)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.hex())
    }

    /// Whether a blob is there, whole: it is read and compared.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, LayoutError> {
        let path = self.blob_path(digest);
        let Some(mut file) = open(&path)? else { return Ok(false) };
        let size_bytes = file.metadata().map_err(disk("look at", &path))?.len();
        match copy(&Descriptor::new("", *digest, size_bytes), &mut file, &mut io::sink()) {
            Ok(()) => Ok(true),
            Err(CopyError::Read { source, .. }) => Err(disk("read", &path)(source)),
            Err(_) => Ok(false),
        }
    }

    /// Writes a blob from a stream.
    pub fn put_blob(&self, descriptor: &Descriptor, source: &mut dyn Read) -> Result<(), LayoutError> {
        let path = self.blob_path(&descriptor.digest);
        let failed = disk("write", &path);
        let mut file = atomic::temporary(&self.root.join(BLOBS)).map_err(&failed)?;
        copy(descriptor, source, &mut file).map_err(|error| match error {
            CopyError::Write(error) => failed(error),
            source => LayoutError::Blob { path: self.root.clone(), source },
        })?;
        atomic::publish(file, &path, Existing::Replace).map_err(failed)
    }

    /// Reads a blob; the read fails where the bytes are not those of the descriptor.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, LayoutError> {
        let path = self.blob_path(&descriptor.digest);
        let file = open(&path)?.ok_or_else(|| LayoutError::Missing { path: self.root.clone(), digest: descriptor.digest })?;
        Ok(Box::new(Verified::new(descriptor, file)))
    }

    /// Reads a manifest, an index or a config.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Document, LayoutError> {
        let (path, digest, size_bytes) = (self.root.clone(), descriptor.digest, descriptor.size_bytes);
        if size_bytes > MANIFEST_BYTES_MAX.max(CONFIG_BYTES_MAX) {
            return Err(LayoutError::TooLarge { path, digest, size_bytes });
        }
        let mut file = open(&self.blob_path(&digest))?.ok_or_else(|| LayoutError::Missing { path: path.clone(), digest })?;
        let mut bytes = Vec::new();
        copy(descriptor, &mut file, &mut bytes).map_err(|source| LayoutError::Blob { path, source })?;
        Ok(Document::new(&descriptor.media_type, bytes))
    }

    /// The tags, in the order of the index.
    pub fn tags(&self) -> Result<Vec<String>, LayoutError> {
        Ok(self.manifests()?.into_iter().filter_map(|mut descriptor| descriptor.annotations.remove(REF_NAME)).collect())
    }

    /// What `tag` points at or, where none is named, the only image.
    pub fn top(&self, tag: Option<&str>) -> Result<Descriptor, LayoutError> {
        let manifests = self.manifests()?;
        let tags: Vec<String> =
            manifests.iter().filter_map(|descriptor| descriptor.annotations.get(REF_NAME)).map(|tag| format!("`{tag}`")).collect();
        let available = if tags.is_empty() { "no tags".to_owned() } else { tags.join(", ") };
        let path = self.root.clone();
        match (tag, manifests.as_slice()) {
            (None, [only]) => Ok(only.clone()),
            (None, several) => Err(LayoutError::Choose { path, count: several.len(), available }),
            (Some(tag), _) => {
                let found = manifests.into_iter().find(|descriptor| descriptor.annotations.get(REF_NAME).is_some_and(|name| name == tag));
                found.ok_or_else(|| LayoutError::NoTag { path, tag: tag.to_owned(), available })
            }
        }
    }

    /// Writes the documents of an image whose layers are there, and names it in the index.
    pub fn finish(&self, set: &ImageSet, tag: Option<&str>) -> Result<(), LayoutError> {
        for image in &set.images {
            for layer in &image.layers {
                let path = self.blob_path(&layer.descriptor.digest);
                if !fs::metadata(path).is_ok_and(|metadata| metadata.len() == layer.descriptor.size_bytes) {
                    return Err(LayoutError::Missing { path: self.root.clone(), digest: layer.descriptor.digest });
                }
            }
        }
        for document in documents(set) {
            self.put_blob(&document.descriptor(), &mut &document.bytes[..])?;
        }
        // Locks the folder itself: a lock file would be one more thing in the layout.
        let folder = File::open(&self.root).map_err(disk("open", &self.root))?;
        let locked = rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive);
        locked.map_err(|error| disk("lock", &self.root)(error.into()))?;
        let path = self.root.join("index.json");
        let current = self.index()?;
        atomic::write(&path, &index_with(current, set.top(), tag)).map_err(disk("write", &path))
    }

    fn manifests(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let manifests = self.index()?.remove("manifests").unwrap_or(json!([]));
        serde_json::from_value(manifests).map_err(|error| self.not_an_index(&error))
    }

    fn index(&self) -> Result<Map<String, Value>, LayoutError> {
        let Some(bytes) = self.read_capped("index.json", MANIFEST_BYTES_MAX)? else { return Ok(Map::new()) };
        serde_json::from_slice(&bytes).map_err(|error| self.not_an_index(&error))
    }

    fn not_an_index(&self, error: &serde_json::Error) -> LayoutError {
        LayoutError::NotALayout { path: self.root.clone(), reason: format!("`index.json`: {error}") }
    }

    fn read_capped(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, LayoutError> {
        let path = self.root.join(name);
        let Some(file) = open(&path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(disk("read", &path))?;
        if bytes.len() as u64 > bytes_max {
            return Err(LayoutError::NotALayout { path: self.root.clone(), reason: format!("`{name}` is larger than {bytes_max} bytes") });
        }
        Ok(Some(bytes))
    }
}

/// Every document of an image, each before those that name it.
pub fn documents(set: &ImageSet) -> impl Iterator<Item = &Document> {
    set.images.iter().flat_map(|image| [&image.config, &image.manifest]).chain(set.index.as_ref())
}

/// The bytes of an `index.json` that has `top` under `tag`, and all else that `current` has.
pub fn index_with(mut current: Map<String, Value>, top: &Document, tag: Option<&str>) -> Vec<u8> {
    let mut descriptor = top.descriptor();
    descriptor.annotations.extend(tag.map(|tag| (REF_NAME.to_owned(), tag.to_owned())));
    let mut manifests = current.remove("manifests").and_then(|manifests| manifests.as_array().cloned()).unwrap_or_default();
    manifests.retain(|entry| {
        let name = entry.get("annotations").and_then(|annotations| annotations.get(REF_NAME)).and_then(Value::as_str);
        let same = entry.get("digest").and_then(Value::as_str) == Some(&top.digest.to_string());
        // A tag points at one image; and the same image without a tag is there once.
        if name.is_some() { name != tag } else { !same }
    });
    manifests.push(json!(descriptor));
    current.insert("schemaVersion".to_owned(), json!(2));
    current.entry("mediaType").or_insert(json!(media::OCI_INDEX));
    current.insert("manifests".to_owned(), Value::Array(manifests));
    canonical(&current)
}

/// Whether a layout would be the first thing there. What is no folder at all is for the place to be refused.
fn is_new(root: &Path) -> bool {
    fs::read_dir(root).map_or(true, |mut entries| entries.next().is_none())
}

fn open(path: &Path) -> Result<Option<File>, LayoutError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(disk("open", path)(error)),
    }
}

fn disk(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> LayoutError {
    move |source| LayoutError::Disk { operation, path: path.to_owned(), source }
}
