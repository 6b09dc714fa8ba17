//! Looking at a finished image with other people's eyes: skopeo for its documents, umoci for its files, a plain tar reader for its layers.
//!
//! Nothing of ours is used to read what ours wrote.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::hs::tool;

/// An entry of a layer: its header's fields and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub is_folder: bool,
    pub mode: u32,
    pub owner: (u64, u64),
    pub modified_s: u64,
    pub bytes: Vec<u8>,
}

/// The manifest or the index behind a transport's name (`docker://…`, `oci:…`), as skopeo gets it.
pub fn raw(image: &str) -> Value {
    serde_json::from_str(&tool("skopeo", &["inspect", "--raw", "--tls-verify=false", image])).unwrap()
}

/// The image config, as it is.
pub fn config(image: &str) -> Value {
    serde_json::from_str(&tool("skopeo", &["inspect", "--raw", "--config", "--tls-verify=false", image])).unwrap()
}

/// What `skopeo inspect` says in its own words.
pub fn inspect(image: &str) -> Value {
    serde_json::from_str(&tool("skopeo", &["inspect", "--tls-verify=false", image])).unwrap()
}

/// An image in a layout, as skopeo copied it from wherever it was, byte for byte.
pub struct Copied {
    folder: tempfile::TempDir,
}

impl Copied {
    /// Copies one image.
    pub fn from(image: &str) -> Copied {
        Copied::with(image, &["--preserve-digests"])
    }

    /// Copies an image that a layout cannot hold as it is: Docker's are translated, layers stay what they are.
    pub fn translated(image: &str) -> Copied {
        Copied::with(image, &[])
    }

    fn with(image: &str, more: &[&str]) -> Copied {
        let folder = tempfile::tempdir().unwrap();
        let to = format!("oci:{}:image", folder.path().join("layout").display());
        let mut arguments = vec!["--insecure-policy", "copy", "-q", "--src-tls-verify=false"];
        arguments.extend(more);
        arguments.extend([image, to.as_str()]);
        tool("skopeo", &arguments);
        Copied { folder }
    }

    /// The bytes of a blob.
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("layout/blobs").join(digest.replace(':', "/"))).unwrap()
    }

    /// The entries of a layer, in order.
    pub fn layer(&self, descriptor: &Value) -> Vec<(String, Entry)> {
        let blob = self.blob(descriptor["digest"].as_str().unwrap());
        let mut tar = Vec::new();
        if descriptor["mediaType"].as_str().unwrap().ends_with("gzip") {
            flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut tar).unwrap();
        } else {
            tar = blob;
        }
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let header = entry.header();
            let (is_folder, mode) = (header.entry_type().is_dir(), header.mode().unwrap());
            let (owner, modified_s) = ((header.uid().unwrap(), header.gid().unwrap()), header.mtime().unwrap());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (path, Entry { is_folder, mode, owner, modified_s, bytes })
        });
        entries.collect()
    }

    /// The root file system that umoci unpacks.
    pub fn unpack(self) -> Unpacked {
        let to = self.folder.path().join("bundle");
        let image = format!("{}:image", self.folder.path().join("layout").display());
        tool("umoci", &["unpack", "--rootless", "--image", &image, to.to_str().unwrap()]);
        Unpacked { root: to.join("rootfs"), _folder: self.folder }
    }
}

/// A root file system; gone with the value.
pub struct Unpacked {
    root: PathBuf,
    _folder: tempfile::TempDir,
}

impl Deref for Unpacked {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.root
    }
}

/// What makes a folder: each path with its bytes and whether it is executable; `None` for folders.
pub type Listing = BTreeMap<String, Option<(Vec<u8>, bool)>>;

/// Lists a folder, its own path left out. Anything but files and folders is a failure.
pub fn listing(folder: &Path) -> Listing {
    let mut all = Listing::new();
    list_into(folder, "", &mut all);
    all
}

fn list_into(folder: &Path, prefix: &str, all: &mut Listing) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            list_into(&entry.path(), &format!("{path}/"), all);
            all.insert(path, None);
        } else {
            assert!(kind.is_file(), "{path} is neither a file nor a folder");
            let executable = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
            all.insert(path, Some((fs::read(entry.path()).unwrap(), executable)));
        }
    }
}
