//! Wheels on disk, and the layer that they make.
//!
//! A [`Wheel`] is a file that has been opened, compared with its digest by whoever found it (`wheel_cache.rs`), and whose directory has been read. [`layer`] lays
//! several out in one folder, as an installer would one after another. No file is unpacked but the few that installing changes.
//!
//! What must stay true: the layer is a function of the wheels' names and bytes; two wheels that write one file are said, and the order of names decides.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::render::{RenderError, open_file};
use super::zip_directory::{self, ZipError, ZipMember};
use crate::fault::{Failure, Fault};
use crate::model::python_package::WheelName;
use crate::model::wheel_layout::{self, From, WheelError, WheelMember};
use crate::oci::layer::RecipeError;
use crate::oci::packed::{Body, Member, PackedFile, PackedLayer};
use crate::oci::path::TreePath;
use crate::oci::splice::SplicedFile;

/// What wheels may hold together, unpacked: the largest model.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;

/// A wheel that has been opened.
pub struct Wheel {
    name: WheelName,
    spliced: SplicedFile,
    file: File,
    members: Vec<ZipMember>,
}

/// Why wheels do not make a layer.
#[derive(Debug, thiserror::Error)]
pub enum WheelFileError {
    /// The file cannot be had.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Its directory cannot be read.
    #[error("the wheel `{wheel}` is damaged or refused")]
    Zip {
        /// Which wheel.
        wheel: String,
        /// What is wrong.
        #[source]
        source: ZipError,
    },
    /// It cannot be installed.
    #[error(transparent)]
    Layout(#[from] WheelError),
    /// Together they are past the limit.
    #[error("the requirements have more than {UNPACKED_BYTES_MAX} bytes")]
    TooLarge,
    /// One wheel's file is another's folder.
    #[error("the requirements cannot lie in one folder")]
    Paths(#[from] RecipeError),
}

impl Failure for WheelFileError {
    fn fault(&self) -> Fault {
        match self {
            WheelFileError::Render(error) => error.fault(),
            WheelFileError::TooLarge => Fault::TooLarge,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            WheelFileError::Render(error) => error.remedy(),
            WheelFileError::Layout(error) => error.remedy(),
            WheelFileError::Zip { .. } => Some("remove the file, so that it is fetched again, or require another version".to_owned()),
            WheelFileError::TooLarge | WheelFileError::Paths(_) => None,
        }
    }
}

impl Wheel {
    /// Opens a wheel.
    pub fn open(name: WheelName, spliced: SplicedFile) -> Result<Wheel, WheelFileError> {
        let file = open_file(&spliced.local, spliced.size_bytes)?;
        let members = zip_directory::read(&file, spliced.size_bytes);
        let members = members.map_err(|source| WheelFileError::Zip { wheel: name.file_name.clone(), source })?;
        Ok(Wheel { name, spliced, file, members })
    }

    /// The bytes of a small member, compared with its CRC.
    fn read(&self, at: usize) -> io::Result<Vec<u8>> {
        let member = &self.members[at];
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if member.packed_bytes > wheel_layout::SMALL_BYTES_MAX {
            return Err(damaged("it is too large"));
        }
        let mut packed = vec![0; member.packed_bytes as usize];
        self.file.read_exact_at(&mut packed, member.offset_bytes)?;
        let mut bytes = Vec::new();
        if member.deflated {
            flate2::read::DeflateDecoder::new(packed.as_slice()).take(member.size_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        } else {
            bytes = packed;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        if bytes.len() as u64 != member.size_bytes || crc.sum() != member.crc32 {
            return Err(damaged("its bytes are not those that the wheel's directory tells of"));
        }
        Ok(bytes)
    }

    /// Its files, as the `archive`th archive of a layer.
    fn files(&self, archive: usize) -> Result<BTreeMap<TreePath, PackedFile>, WheelFileError> {
        let member =
            |member: &ZipMember| WheelMember { name: member.name.clone(), size_bytes: member.size_bytes, executable: member.executable };
        let members: Vec<WheelMember> = self.members.iter().map(member).collect();
        let laid = wheel_layout::lay_out(&self.name, &members, &|at| self.read(at))?;
        let packed = |(path, installed): (TreePath, wheel_layout::Installed)| {
            let (size_bytes, body) = match installed.from {
                From::Made(bytes) => (bytes.len() as u64, Body::Inline(bytes.into())),
                From::Member(at) => {
                    let &ZipMember { deflated, crc32, size_bytes, offset_bytes, packed_bytes, .. } = &self.members[at];
                    (size_bytes, Body::Member(Member { archive, offset_bytes, packed_bytes, deflated, crc32 }))
                }
            };
            (path, PackedFile { size_bytes, executable: installed.executable, body })
        };
        Ok(laid.into_iter().map(packed).collect())
    }
}

/// The layer of `wheels` below `root`, and what had to be said.
pub fn layer(mut wheels: Vec<Wheel>, root: &TreePath, modified_s: u64) -> Result<(PackedLayer, Vec<String>), WheelFileError> {
    wheels.sort_by(|a, b| a.name.project.cmp(&b.name.project));
    let (mut files, mut warnings): (BTreeMap<TreePath, (usize, PackedFile)>, Vec<String>) = (BTreeMap::new(), Vec::new());
    let mut total_bytes = 0u64;
    for (at, wheel) in wheels.iter().enumerate() {
        for (path, file) in wheel.files(at)? {
            total_bytes = total_bytes.saturating_add(file.size_bytes);
            let Some((before, replaced)) = files.insert(root.join(&path), (at, file.clone())) else { continue };
            if !is_same(&replaced, &file) {
                let (first, second) = (&wheels[before].name.file_name, &wheel.name.file_name);
                warnings.push(format!("`{path}` is in `{first}` and in `{second}`: the second's is installed"));
            }
        }
    }
    if total_bytes > UNPACKED_BYTES_MAX {
        return Err(WheelFileError::TooLarge);
    }
    let files = files.into_iter().map(|(path, (_, file))| (path, file)).collect();
    let archives = wheels.into_iter().map(|wheel| wheel.spliced).collect();
    Ok((PackedLayer::new(archives, files, modified_s)?, warnings))
}

/// Whether two wheels bring the same file, as far as their directories tell.
fn is_same(one: &PackedFile, other: &PackedFile) -> bool {
    let body = match (&one.body, &other.body) {
        (Body::Member(one), Body::Member(other)) => one.crc32 == other.crc32,
        (Body::Inline(one), Body::Inline(other)) => Arc::ptr_eq(one, other) || one == other,
        _ => false,
    };
    body && one.size_bytes == other.size_bytes && one.executable == other.executable
}
