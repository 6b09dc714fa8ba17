//! Opening what users name: images anywhere, model folders here.
//!
//! Shared by the commands that take a REF or a DIR; no command's own logic is here.

use std::fs::{self, File};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use super::args::ModelArguments;
use super::settings::Settings;
use crate::disk::folder::{self, FolderError, FolderOptions};
use crate::fault::{Failure, Fault};
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
            OpenError::Read { .. } => Fault::Usage,
            OpenError::Folder(error) => error.fault(),
            OpenError::Intake { source, .. } => source.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            OpenError::Read { .. } => None,
            OpenError::Folder(error) => error.remedy(),
            OpenError::Intake { source, .. } => source.remedy(),
        }
    }
}

/// Finds an image and reads its documents.
pub async fn image(text: &str, platform: Option<&str>, settings: &Settings) -> Result<Opened, Box<dyn Failure>> {
    let location: Location = text.parse()?;
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
    /// The contract that the command line named: its name and its bytes.
    pub given_contract: Option<(String, Vec<u8>)>,
}

/// Reads and checks a model folder.
pub fn folder(path: &Path, arguments: &ModelArguments, settings: &Settings) -> Result<ReadFolder, OpenError> {
    let options = FolderOptions { follow_links: arguments.follow_links, limits: settings.limits };
    let selected = folder::read_folder(path, &options)?;
    let given = given(path, arguments)?;
    let model = intake::intake(&selected.tree, &given, &open_content);
    let model = model.map_err(|source| OpenError::Intake { path: path.to_owned(), source })?;
    Ok(ReadFolder { model, tree: selected.tree, left_out: selected.left_out, given_contract: given.contract })
}

/// What the command line says about the model in `path`.
pub fn given(path: &Path, arguments: &ModelArguments) -> Result<Given, OpenError> {
    let read = |path: &Path| fs::read(path).map_err(|source| OpenError::Read { path: path.to_owned(), source });
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
    })
}

/// Opens a file of a local folder for a contract reader.
pub fn open_content(content: &Content) -> io::Result<Box<dyn ReadSeek>> {
    Ok(match content {
        Content::Inline(bytes) => Box::new(Cursor::new(bytes.clone())),
        Content::Local(file) => Box::new(File::open(&file.path)?),
    })
}
