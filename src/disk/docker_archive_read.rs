//! Docker archives, read: what `docker save`, `podman save` and skopeo write, in the older form (`ID/layer.tar`, `ID.json`) and in the one that is a layout, too
//! (`blobs/sha256/…`, Docker 25 and later).
//!
//! `manifest.json` says which file is the config, and which are the layers, in order; it may be anywhere in the tar. So the archive is unpacked into a scratch
//! folder first, each file under its digest; names become no paths. Layers are tars as a rule, and stay packed where they are.
//!
//! What must stay true: each layer is the one that the config names by its diff ID, or nothing is given; and no document is believed past its bound.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Map;

use super::archive_file::{ArchiveFile, ArchiveFileError, disk};
use super::docker_archive::familiar;
use super::layout::{LAYOUT_FILE, Layout, LayoutError, index_with};
use super::stream;
use super::tar_reader::MemberKind;
use crate::fault::{Failure, Fault};
use crate::oci::base_image;
use crate::oci::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig};
use crate::oci::digest::Digest;
use crate::oci::image::{Compression, LayerSource, Purpose, SealedLayer};
use crate::oci::manifest::MANIFEST_BYTES_MAX;
use crate::oci::reference::Reference;

const MANIFEST: &str = "manifest.json";
/// Members whose names are kept; `docker save` of everything that a machine has is some thousands.
const MEMBERS_MAX: usize = 100_000;
/// A layer that two images share is a link from one to the other.
const LINKS_MAX: usize = 16;

/// Why a Docker archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DockerArchiveReadError {
    /// It cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveFileError),
    /// What is in it is no image.
    #[error("`{}` is not a Docker archive: {reason}", .path.display())]
    Invalid {
        /// The archive.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The config is none.
    #[error("the image config in `{}`", .path.display())]
    Config {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// Which image is meant is not clear.
    #[error("`{}` holds {available}{}", .path.display(), .asked.as_ref().map(|asked| format!(", and no `{asked}`")).unwrap_or_default())]
    Choose {
        /// The archive.
        path: PathBuf,
        /// What was asked for.
        asked: Option<String>,
        /// What there is.
        available: String,
    },
    /// A layer is not what the config says.
    #[error("the layer `{layer}` of `{}` is {found}, and the image config names {expected}", .path.display())]
    Layer {
        /// The archive.
        path: PathBuf,
        /// The layer's name in it.
        layer: String,
        /// By the config.
        expected: Digest,
        /// By its bytes.
        found: Digest,
    },
    /// The layout that it became.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Failure for DockerArchiveReadError {
    fn fault(&self) -> Fault {
        match self {
            DockerArchiveReadError::Archive(error) => error.fault(),
            DockerArchiveReadError::Invalid { .. } | DockerArchiveReadError::Config { .. } | DockerArchiveReadError::Layer { .. } => {
                Fault::Invalid
            }
            DockerArchiveReadError::Choose { .. } => Fault::Usage,
            DockerArchiveReadError::Layout(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            DockerArchiveReadError::Choose { path, .. } => Some(format!("name one: `docker-archive:{}:NAME:TAG`", path.display())),
            DockerArchiveReadError::Layer { .. } => Some("save the image again: the archive is damaged".to_owned()),
            _ => None,
        }
    }
}

/// An image out of an archive.
pub struct DockerImage {
    /// Its config, as it was.
    pub config: Vec<u8>,
    /// Its layers, with files in the scratch folder.
    pub layers: Vec<SealedLayer>,
}

/// An image as `manifest.json` has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What the archive's members came to.
#[derive(Default)]
struct Members {
    files: BTreeMap<String, (Digest, u64)>,
    links: BTreeMap<String, String>,
}

/// Unpacks the archive `path` into `scratch`, an empty folder of the caller's: the image that is called `name`, or the only one.
pub fn unpack(path: &Path, name: Option<&Reference>, scratch: &Path) -> Result<DockerImage, DockerArchiveReadError> {
    let blobs = blobs(scratch);
    fs::create_dir_all(&blobs).map_err(disk("create", &blobs))?;
    let members = members(path, &blobs)?;
    let invalid = |reason: String| DockerArchiveReadError::Invalid { path: path.to_owned(), reason };
    let manifest = members.read(MANIFEST, MANIFEST_BYTES_MAX, &blobs).map_err(invalid)?;
    let entries: Vec<Entry> = serde_json::from_slice(&manifest).map_err(|error| invalid(format!("`{MANIFEST}`: {error}")))?;
    let entry = choose(path, entries, name)?;
    let config = members.read(&entry.config, CONFIG_BYTES_MAX, &blobs).map_err(invalid)?;
    let parsed = ImageConfig::parse(&config).map_err(|source| DockerArchiveReadError::Config { path: path.to_owned(), source })?;
    let diff_ids = parsed.diff_ids();
    if diff_ids.len() != entry.layers.len() {
        return Err(invalid(format!("its manifest has {} layers, its config {}", entry.layers.len(), diff_ids.len())));
    }
    let mut layers = Vec::new();
    for (layer, expected) in entry.layers.iter().zip(diff_ids) {
        let (digest, size_bytes) = members.find(layer).map_err(invalid)?;
        let file = blobs.join(digest.hex());
        let (compression, found) = diff_id(&file, digest).map_err(disk("read", &file))?;
        if found != expected {
            return Err(DockerArchiveReadError::Layer { path: path.to_owned(), layer: layer.clone(), expected, found });
        }
        let source = LayerSource::File(file);
        layers.push(SealedLayer { digest, size_bytes, diff_id: found, compression, purpose: Purpose::Base, source });
    }
    Ok(DockerImage { config, layers })
}

/// Unpacks an image as [`unpack`] does, and opens the layout that it is made into.
pub fn open(path: &Path, name: Option<&Reference>, scratch: &Path) -> Result<Layout, DockerArchiveReadError> {
    let image = unpack(path, name, scratch)?;
    let image = base_image::of_docker(image.config, &image.layers)
        .map_err(|source| DockerArchiveReadError::Config { path: path.to_owned(), source })?;
    let index = index_with(Map::new(), &image.manifest, None);
    let document = |digest: &Digest| blobs(scratch).join(digest.hex());
    for (file, bytes) in [
        (document(&image.config.digest), image.config.bytes.as_slice()),
        (document(&image.manifest.digest), &image.manifest.bytes),
        (scratch.join("index.json"), &index),
        (scratch.join("oci-layout"), LAYOUT_FILE.as_bytes()),
    ] {
        fs::write(&file, bytes).map_err(disk("write", &file))?;
    }
    Ok(Layout::open(scratch)?)
}

fn blobs(scratch: &Path) -> PathBuf {
    scratch.join("blobs/sha256")
}

/// Puts every file of the archive into `blobs`, under its digest.
fn members(path: &Path, blobs: &Path) -> Result<Members, DockerArchiveReadError> {
    let mut archive = ArchiveFile::open(path)?;
    let mut members = Members::default();
    while let Some(member) = archive.next_member()? {
        let name = member.path.trim_start_matches("./").to_owned();
        if members.files.len() + members.links.len() == MEMBERS_MAX {
            let reason = format!("it has more than {MEMBERS_MAX} members");
            return Err(DockerArchiveReadError::Invalid { path: path.to_owned(), reason });
        }
        match member.kind {
            MemberKind::File { size_bytes, .. } => {
                let part = blobs.join("part");
                let digest = archive.unpack(&part)?;
                fs::rename(&part, blobs.join(digest.hex())).map_err(disk("rename", &part))?;
                members.files.insert(name, (digest, size_bytes));
            }
            MemberKind::SymbolicLink(target) => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = joined(folder, &target);
                members.links.insert(name, target);
            }
            MemberKind::HardLink(target) => {
                members.links.insert(name, target.trim_start_matches("./").to_owned());
            }
            MemberKind::Folder => {}
        }
    }
    Ok(members)
}

/// A path that is meant from within a folder: `a` and `../b/layer.tar` are `b/layer.tar`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Members {
    /// The file of a name; links are followed.
    fn find(&self, name: &str) -> Result<(Digest, u64), String> {
        let mut at = name.trim_start_matches("./");
        for _ in 0..LINKS_MAX {
            if let Some(file) = self.files.get(at) {
                return Ok(*file);
            }
            at = self.links.get(at).ok_or_else(|| format!("it has no `{name}`"))?;
        }
        Err(format!("`{name}` is a link to a link to a link"))
    }

    /// The bytes of a small file.
    fn read(&self, name: &str, bytes_max: u64, blobs: &Path) -> Result<Vec<u8>, String> {
        let (digest, size_bytes) = self.find(name)?;
        if size_bytes > bytes_max {
            return Err(format!("`{name}` has {size_bytes} bytes; at most {bytes_max} are read"));
        }
        fs::read(blobs.join(digest.hex())).map_err(|error| format!("`{name}`: {error}"))
    }
}

/// The entry of the image that is called `name`, or the only one.
fn choose(path: &Path, mut entries: Vec<Entry>, name: Option<&Reference>) -> Result<Entry, DockerArchiveReadError> {
    let asked = name.map(familiar);
    let names = |entry: &Entry| -> Vec<String> {
        let tags = entry.repo_tags.iter().flatten();
        tags.map(|tag| tag.parse().map_or_else(|_| tag.clone(), |reference| familiar(&reference))).collect()
    };
    let found = match &asked {
        Some(asked) => entries.iter().position(|entry| names(entry).contains(asked)),
        None => (entries.len() == 1).then_some(0),
    };
    if let Some(at) = found {
        return Ok(entries.swap_remove(at));
    }
    let all: Vec<String> = entries.iter().flat_map(names).map(|name| format!("`{name}`")).collect();
    let available = format!("{} images ({})", entries.len(), if all.is_empty() { "without names".to_owned() } else { all.join(", ") });
    Err(DockerArchiveReadError::Choose { path: path.to_owned(), asked, available })
}

/// How a layer's file is packed, and the digest of the tar in it; a tar's own is that of the file.
fn diff_id(file: &Path, digest: Digest) -> io::Result<(Compression, Digest)> {
    let mut source = File::open(file)?;
    let mut start = Vec::new();
    (&mut source).take(4).read_to_end(&mut start)?;
    let source = BufReader::new(io::Cursor::new(start.clone()).chain(source));
    let (compression, mut tar): (_, Box<dyn Read>) = match start[..] {
        [0x1f, 0x8b, ..] => (Compression::Gzip, Box::new(flate2::bufread::MultiGzDecoder::new(source))),
        [0x28, 0xb5, 0x2f, 0xfd] => (Compression::Zstd, Box::new(zstd::Decoder::with_buffer(source)?)),
        _ => return Ok((Compression::None, digest)),
    };
    Ok((compression, stream::hash(&mut tar)?.1))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use serde_json::{Value, json};

    const TAR: &[u8] = &[0; 1024];

    /// An archive with these members; a member whose bytes begin with `->` is a link.
    fn archive(members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            if let Some(target) = bytes.strip_prefix(b"->") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, name, std::str::from_utf8(target).unwrap()).unwrap();
            } else {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, *bytes).unwrap();
            }
        }
        tar.finish().unwrap();
        file
    }

    fn config(diff_ids: &[Digest]) -> Vec<u8> {
        json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
            .to_string()
            .into_bytes()
    }

    fn manifest(entries: &Value) -> Vec<u8> {
        entries.to_string().into_bytes()
    }

    fn read(members: &[(&str, &[u8])], name: Option<&str>) -> Result<DockerImage, String> {
        let (file, scratch) = (archive(members), tempfile::tempdir().unwrap());
        let name = name.map(|name| name.parse().unwrap());
        unpack(file.path(), name.as_ref(), scratch.path()).map_err(|error| crate::fault::one_line(&error))
    }

    #[test]
    fn layers_are_found_by_their_names_through_links_and_packed() {
        let gzip = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(TAR).unwrap();
            encoder.finish().unwrap()
        };
        let tar = Digest::of(TAR);
        let config = config(&[tar, tar, tar]);
        let manifest = manifest(
            &json!([{"Config": "c.json", "RepoTags": ["docker.io/library/m:1"], "Layers": ["a/layer.tar", "b/layer.tar", "g.tar"]}]),
        );
        let members: &[(&str, &[u8])] = &[
            ("b/layer.tar", b"->../a/layer.tar"),
            ("a/layer.tar", TAR),
            ("g.tar", &gzip),
            ("./c.json", &config),
            ("manifest.json", &manifest),
        ];
        for name in [None, Some("m:1")] {
            let image = read(members, name).unwrap();
            assert_eq!(image.config, config);
            assert_eq!(image.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(), [tar; 3]);
            assert_eq!(image.layers[2].compression, Compression::Gzip);
        }
        assert!(read(members, Some("m:2")).err().unwrap().contains("holds 1 images (`m:1`), and no `m:2`"));
    }

    #[test]
    fn what_does_not_agree_is_refused() {
        let tar = Digest::of(TAR);
        let good = manifest(&json!([{"Config": "c.json", "Layers": ["l.tar"]}]));
        let said = |members: &[(&str, &[u8])]| read(members, None).err().unwrap();
        assert!(said(&[("c.json", b"{}")]).contains("it has no `manifest.json`"));
        assert!(said(&[("manifest.json", b"{}")]).contains("`manifest.json`: "));
        let others: &[(&str, &[u8])] = &[("c.json", &config(&[Digest::of(b"other")])), ("l.tar", TAR), ("manifest.json", &good)];
        assert!(said(others).contains("the layer `l.tar` of"), "{}", said(others));
        assert!(said(&[("c.json", &config(&[tar, tar])), ("l.tar", TAR), ("manifest.json", &good)]).contains("has 1 layers, its config 2"));
        assert!(said(&[("c.json", &config(&[tar])), ("manifest.json", &good)]).contains("it has no `l.tar`"));
        assert!(said(&[("c.json", &config(&[tar])), ("l.tar", b"->l.tar"), ("manifest.json", &good)]).contains("a link to a link"));
        let two = manifest(&json!([{"Config": "c.json", "Layers": []}, {"Config": "c.json", "Layers": []}]));
        assert!(said(&[("c.json", &config(&[])), ("manifest.json", &two)]).contains("holds 2 images (without names)"));
    }
}
