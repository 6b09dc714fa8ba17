//! Wheels on disk, and the layer that they make.
//!
//! A [`Wheel`] is a file that has been opened, compared with its digest by whoever found it (`wheel_cache.rs`), and whose directory has been read. [`Laid`] lays
//! several out in one folder, as an installer would one after another. No file is unpacked but the few that installing changes, and sources where they are
//! compiled (`bytecode_cache.rs`).
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
use crate::oci::digest::Digest;
use crate::oci::layer::RecipeError;
use crate::oci::packed::{Body, Member, PackedFile, PackedLayer};
use crate::oci::path::TreePath;
use crate::oci::splice::SplicedFile;

/// What wheels may hold together, unpacked: the largest model.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;

/// The largest source that is compiled: what a compiler holds of a source can be 550 times its size (a list of names in CPython 3.11).
const SOURCE_BYTES_MAX: u64 = 2 << 20;

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

    /// Its name.
    pub fn name(&self) -> &WheelName {
        &self.name
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.spliced.digest
    }

    /// The bytes of a small member, compared with its CRC.
    fn read(&self, at: usize) -> io::Result<Vec<u8>> {
        let &ZipMember { deflated, crc32, size_bytes, offset_bytes, packed_bytes, .. } = &self.members[at];
        self.unpack(&Member { archive: 0, offset_bytes, packed_bytes, deflated, crc32 }, size_bytes)
    }

    fn unpack(&self, member: &Member, size_bytes: u64) -> io::Result<Vec<u8>> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if member.packed_bytes > wheel_layout::SMALL_BYTES_MAX {
            return Err(damaged("it is too large"));
        }
        let mut packed = vec![0; member.packed_bytes as usize];
        self.file.read_exact_at(&mut packed, member.offset_bytes)?;
        let mut bytes = Vec::new();
        if member.deflated {
            flate2::read::DeflateDecoder::new(packed.as_slice()).take(size_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        } else {
            bytes = packed;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        if bytes.len() as u64 != size_bytes || crc.sum() != member.crc32 {
            return Err(damaged("its bytes are not those that the wheel's directory tells of"));
        }
        Ok(bytes)
    }

    /// Its sources in Python that a model may import, by their places below the folder of packages: no scripts and no test suites, which are half of
    /// NumPy's, SciPy's and scikit-learn's bytecode. (One that is imported all the same is compiled then.)
    pub fn sources(&self) -> Result<Vec<(TreePath, PackedFile)>, WheelFileError> {
        let is_of_tests = |path: &TreePath| path.components().any(|name| name == "tests");
        let is_source = |path: &TreePath, file: &PackedFile| {
            path.as_str().ends_with(".py")
                && !path.as_str().starts_with("bin/")
                && !is_of_tests(path)
                && file.size_bytes <= SOURCE_BYTES_MAX
        };
        Ok(self.files(0)?.into_iter().filter(|(path, file)| is_source(path, file)).collect())
    }

    /// The bytes of one of its files.
    pub fn read_file(&self, path: &TreePath, file: &PackedFile) -> Result<Vec<u8>, WheelFileError> {
        let read = match &file.body {
            Body::Inline(bytes) => Ok(bytes.to_vec()),
            Body::Member(member) => self.unpack(member, file.size_bytes),
        };
        let of_wheel = |source| WheelError::Read { wheel: self.name.file_name.clone(), member: path.to_string(), source };
        Ok(read.map_err(of_wheel)?)
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

/// Wheels, laid out in one folder.
pub struct Laid {
    /// By the names of their projects.
    wheels: Vec<Wheel>,
    /// What lies where: whose it is, and the file.
    files: BTreeMap<TreePath, (usize, PackedFile)>,
    /// What had to be said.
    pub warnings: Vec<String>,
}

impl Laid {
    /// Lays wheels out.
    pub fn out(mut wheels: Vec<Wheel>) -> Result<Laid, WheelFileError> {
        wheels.sort_by(|a, b| a.name.project.cmp(&b.name.project));
        let (mut files, mut warnings): (BTreeMap<TreePath, (usize, PackedFile)>, Vec<String>) = (BTreeMap::new(), Vec::new());
        let mut total_bytes = 0u64;
        for (at, wheel) in wheels.iter().enumerate() {
            for (path, file) in wheel.files(at)? {
                total_bytes = total_bytes.saturating_add(file.size_bytes);
                let Some((before, replaced)) = files.insert(path.clone(), (at, file.clone())) else { continue };
                if !is_same(&replaced, &file) {
                    let (first, second) = (&wheels[before].name.file_name, &wheel.name.file_name);
                    warnings.push(format!("`{path}` is in `{first}` and in `{second}`: the second's is installed"));
                }
            }
        }
        if total_bytes > UNPACKED_BYTES_MAX {
            return Err(WheelFileError::TooLarge);
        }
        Ok(Laid { wheels, files, warnings })
    }

    /// The wheels, by the names of their projects.
    pub fn wheels(&self) -> &[Wheel] {
        &self.wheels
    }

    /// The layer of them below `root`; `modified_s` is the time stamp of every entry.
    pub fn layer(&self, root: &TreePath, modified_s: u64) -> Result<PackedLayer, RecipeError> {
        let files = self.files.iter().map(|(path, (_, file))| (root.join(path), file.clone())).collect();
        PackedLayer::new(self.wheels.iter().map(|wheel| wheel.spliced.clone()).collect(), files, modified_s)
    }

    /// Whether a file can lie at a path without hiding others: none is below it, and none is where its folders would be.
    pub fn has_room(&self, path: &TreePath) -> bool {
        let after = self.files.range(path.clone()..).map(|(other, _)| other);
        let below = after.take_while(|other| other.as_str().starts_with(path.as_str())).any(|other| other != path && other.is_within(path));
        !below && !path.ancestors().any(|folder| self.files.contains_key(&folder))
    }

    /// Whose file lies at a path, by the wheel's place.
    pub fn owner(&self, path: &TreePath) -> Option<usize> {
        self.files.get(path).map(|(at, _)| *at)
    }
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
