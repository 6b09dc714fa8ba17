//! Opening what users name: images anywhere, model folders here.
//!
//! Shared by the commands that take a REF or a DIR; no command's own logic is here.

use std::fs::{self, File};
use std::io::{self, Cursor, Read as _};
use std::path::{Path, PathBuf};

use super::args::ModelArguments;
use super::settings::Settings;
use crate::disk::folder::{self, FolderError, FolderOptions};
use crate::disk::ignore_rules::{IGNORE_FILE, IGNORE_FILE_BYTES_MAX};
use crate::fault::{Failure, Fault};
use crate::model::contract_file::CONTRACT_BYTES_MAX;
use crate::model::framework::ReadSeek;
use crate::model::intake::{self, Given, IntakeError, Model};
use crate::model::tree::Tree;
use crate::oci::image::ImageSet;
use crate::oci::layer::Content;
use crate::oci::location::Location;
use crate::oci::path::TreePath;
use crate::oci::platform::Platform;
use crate::registry::source::{Source, load};

/// An image that was found.
pub struct Opened {
    /// Where its blobs are.
    pub source: Source,
    /// Its documents.
    pub images: ImageSet,
}

/// Why what was named cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file that was named cannot be read.
    #[error("reading `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither a file nor a place in a registry.
    #[error("`{0}` is no file or folder here, and names no registry")]
    Bare(String),
    /// The folder cannot be read as a model.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder is no valid model.
    #[error("`{}` is not a model that can be built", .path.display())]
    Intake {
        /// Which folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: IntakeError,
    },
}

impl Failure for OpenError {
    fn fault(&self) -> Fault {
        match self {
            OpenError::Read { .. } | OpenError::Bare(_) => Fault::Usage,
            OpenError::Folder(error) => error.fault(),
            OpenError::Intake { source, .. } => source.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            OpenError::Read { .. } => None,
            OpenError::Bare(_) => {
                Some("write `host/repository:tag` (Docker Hub is `docker.io/…`), `oci:DIR:TAG` or `oci-archive:FILE:TAG`".to_owned())
            }
            OpenError::Folder(error) => error.remedy(),
            OpenError::Intake { source, .. } => source.remedy(),
        }
    }
}

/// Reads a location. A bare word, which docker's tools would take for a repository of Docker Hub, is nearly always a file or folder that is not
/// there; it is refused.
pub fn location(text: &str) -> Result<Location, Box<dyn Failure>> {
    if ["/", "./", "../", "~"].iter().any(|begin| text.starts_with(begin)) {
        return Err(OpenError::Bare(text.to_owned()).into());
    }
    let location: Location = text.parse()?;
    // A host has a dot or a port, or is this machine; `models/contract.prototxt` is a slip in a path, and no question to Docker Hub.
    let is_host = |word: &str| word.contains(['.', ':']) || word == "localhost";
    match location {
        Location::Registry(_) if !text.split_once('/').is_some_and(|(host, _)| is_host(host)) => {
            Err(OpenError::Bare(text.to_owned()).into())
        }
        other => Ok(other),
    }
}

/// Finds an image and reads its documents.
pub async fn image(text: &str, platform: Option<&str>, settings: &Settings) -> Result<Opened, Box<dyn Failure>> {
    let location = location(text)?;
    let platform: Option<Platform> = platform.map(str::parse).transpose()?;
    let places = settings.places()?;
    let (source, key) = Source::open(&location, &places.registries).await?;
    let images = load(&source, &key, platform.as_ref()).await?;
    Ok(Opened { source, images })
}

/// A model folder that was read and checked.
pub struct ReadFolder {
    /// The model.
    pub model: Model,
    /// All of its files, those that are not shipped among them.
    pub tree: Tree,
    /// What the rules left out.
    pub left_out: Vec<TreePath>,
    /// The folder's own ignore rules, which are no file of the model.
    pub ignore_rules: Option<Vec<u8>>,
    /// The contract that the command line named: its name and its bytes.
    pub given_contract: Option<(String, Vec<u8>)>,
}

/// Reads and checks a model folder; `no_requirements`: but for what it requires.
pub fn folder(path: &Path, arguments: &ModelArguments, no_requirements: bool, settings: &Settings) -> Result<ReadFolder, OpenError> {
    let options = FolderOptions { follow_links: arguments.follow_links, limits: settings.limits };
    let selected = folder::read_folder(path, &options)?;
    let mut given = Given { no_requirements, ..given(path, arguments)? };
    // What a type follows from is the files, but for what is said here: a type, or which part of a model is meant.
    let cache = settings.type_cache.as_ref().filter(|_| given.model_type.is_none() && given.tags.is_empty());
    given.model_type = cache.and_then(|cache| cache.find(&selected.tree)).or(given.model_type);
    let model = intake::intake(&selected.tree, &given, &open_content);
    let model = model.map_err(|source| OpenError::Intake { path: path.to_owned(), source })?;
    if let Some(cache) = cache.filter(|_| given.model_type.is_none()) {
        cache.remember(&selected.tree, &model.model_type);
    }
    let rules = path.join(IGNORE_FILE);
    let ignore_rules = if rules.is_file() {
        let read = read_small_file(&rules, IGNORE_FILE_BYTES_MAX).map_err(|source| OpenError::Read { path: rules, source });
        Some(read?)
    } else {
        None
    };
    Ok(ReadFolder { model, tree: selected.tree, left_out: selected.left_out, ignore_rules, given_contract: given.contract })
}

/// What the command line says about the model in `path`.
pub fn given(path: &Path, arguments: &ModelArguments) -> Result<Given, OpenError> {
    let read = |path: &Path| read_small_file(path, CONTRACT_BYTES_MAX).map_err(|source| OpenError::Read { path: path.to_owned(), source });
    let contract = match arguments.contract.as_deref() {
        Some(path) => Some((path.to_string_lossy().into_owned(), read(path)?)),
        None => None,
    };
    // `.` has no name of its own; the folder that it stands for has.
    let folder = fs::canonicalize(path).ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    Ok(Given {
        name: arguments.name.clone(),
        fallback_name: folder,
        model_type: arguments.model_type.clone(),
        runtime: arguments.runtime.clone(),
        description: arguments.description.clone(),
        contract,
        no_contract: arguments.no_contract,
        tags: arguments.tag.clone(),
        // `serving.yaml` says it.
        requirements: None,
        no_requirements: false,
    })
}

/// Reads a regular file of at most `bytes_max`; a pipe or a device would never end.
pub fn read_small_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    if metadata.len() > bytes_max {
        let text = format!("it is {} bytes long; at most {bytes_max} are read", metadata.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file of a local folder for a contract reader.
pub fn open_content(content: &Content) -> io::Result<Box<dyn ReadSeek>> {
    Ok(match content {
        Content::Inline(bytes) => Box::new(Cursor::new(bytes.clone())),
        Content::Local(file) => Box::new(File::open(&file.path)?),
    })
}
