//! `requirements.txt` -> the layer of `/model/lib`: choose the wheels, have them here, seal the layer.
//!
//! Which wheels: the lock in the model's folder says it, else the lock of an earlier version with the same requirements, else a resolver does (`resolver.rs`), and
//! what it chose is a lock that the caller keeps. Where the wheels are: in the cache, in a folder that the user names, at an address (`wheel_fetch.rs`). The
//! layer is made of the wheels as they lie there (`disk/wheel.rs`): nothing is run, and nothing is installed here.
//!
//! What must stay true: with a lock, the same wheels on every machine and every day; a wheel's bytes are those of its hash before any of them is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::bytecode::{self, Compiler};
use super::install_error::InstallError;
use super::lock_mismatch::LockMismatch;
use super::resolver::{Answer, Question, Resolvers};
use super::resolver_error::ResolveError;
use super::wheel_fetch::Fetcher;
use crate::disk::bytecode_cache::BytecodeCache;
use crate::disk::seal_cache::{Remembered, SealCache};
use crate::disk::seal_packed::{self};
use crate::disk::wheel::{Laid, Wheel, WheelFileError};
use crate::disk::wheel_cache::{WheelCache, WheelCacheError};
use crate::disk::wheel_folder::{self};
use crate::model::required::Required;
use crate::model::requirements::{self};
use crate::model::requirements_lock::{self, ChosenWheel, Lock, LockedPackage};
use crate::model::wheel_target::Target;
use crate::oci::digest::Digest;
use crate::oci::image::{Compression, LayerSource, Purpose, SealedLayer};
use crate::oci::packed::PackedLayer;
use crate::oci::path::TreePath;
use crate::oci::splice::SplicedFile;
use crate::progress::{Event, Listener};

/// Where the packages are in the image, without the leading `/`.
pub const FOLDER: &str = "model/lib";
/// Which SHA-256 a project's wheel may have.
type Hashes = BTreeMap<String, BTreeSet<Digest>>;
/// How many wheels are fetched at once.
const FETCHES: usize = 4;

/// What installing needs of this machine.
#[derive(Clone, Debug)]
pub struct Installer {
    /// The resolvers.
    pub resolvers: Resolvers,
    /// Where wheels are.
    pub cache: WheelCache,
    /// Fetches what is not here.
    pub fetcher: Fetcher,
    /// Whether addresses in a model's own lock are gone to: those of a stranger are not.
    pub trusts_addresses: bool,
    /// Where bytecode is kept; `None`: packages are not compiled.
    pub bytecode: Option<BytecodeCache>,
}

/// Where a lock came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOrigin {
    /// It lies in the model's folder.
    Folder,
    /// An earlier version has it.
    Earlier,
    /// It was made now.
    Resolved,
}

/// Requirements that have become layers.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The lock.
    pub lock: Lock,
    /// Where it came from.
    pub origin: LockOrigin,
    /// The digest of the requirements' bytes.
    pub made_from: Digest,
    /// The layers for each target, in their order: that of the packages, and that of their bytecode where it is made.
    pub layers: Vec<Vec<SealedLayer>>,
    /// What was installed for the first target, with versions.
    pub packages: Vec<String>,
}

/// One installation: what is asked, and what has to be known on the way.
pub struct Installation<'a> {
    /// What the model requires.
    pub required: &'a Required,
    /// The lock of an earlier version.
    pub earlier: Option<&'a [u8]>,
    /// For what; at least one.
    pub targets: &'a [Target],
    /// What makes the bytecode for each of them.
    pub compilers: &'a [Option<Compiler>],
    /// What this machine has for it.
    pub installer: &'a Installer,
    /// A folder for the resolver's files.
    pub scratch: &'a Path,
    /// What earlier builds remember.
    pub seals: Option<&'a SealCache>,
    /// The time stamp of every entry, in seconds since the epoch.
    pub epoch_s: u64,
    /// Who listens.
    pub listener: &'a Listener,
}

impl Installation<'_> {
    /// Makes the layers; `None`: nothing is required. The second value is what had to be said.
    pub async fn run(&self) -> Result<(Option<Installed>, Vec<String>), InstallError> {
        let mut warnings = Vec::new();
        let Some((mut lock, origin, mut folders)) = self.lock(&mut warnings).await? else { return Ok((None, warnings)) };
        if lock.packages.is_empty() {
            // Markers are for other machines than these.
            return Ok((None, warnings));
        }
        let (mut layers, mut packages) = (Vec::new(), Vec::new());
        for (target, compiler) in self.targets.iter().zip(self.compilers) {
            let wheels = self.choose(&mut lock, target, &mut folders).await?;
            if packages.is_empty() {
                packages = wheels.iter().map(|wheel| format!("{} {}", wheel.project, wheel.version)).collect();
            }
            let files = self.have(&wheels, target, &mut folders).await?;
            let laid = self.lay_out(wheels, files).await?;
            warnings.extend(laid.warnings.iter().cloned());
            let archives = self.compile(&laid, compiler.as_ref(), &mut warnings).await?;
            layers.push(self.seal(&laid, archives).await?);
        }
        let made_from = Digest::of(&self.required.bytes);
        Ok((Some(Installed { lock, origin, made_from, layers, packages }), warnings))
    }

    /// The lock, where it came from, and folders that its wheels lie in; `None`: nothing is required.
    async fn lock(&self, warnings: &mut Vec<String>) -> Result<Option<(Lock, LockOrigin, Vec<std::path::PathBuf>)>, InstallError> {
        let made_from = Digest::of(&self.required.bytes);
        if let Some((file, bytes)) = &self.required.lock {
            let mut lock = requirements_lock::read(file, bytes)?;
            if !lock.is_stale(&made_from, self.targets) {
                if !self.installer.trusts_addresses {
                    lock.packages.iter_mut().flat_map(|package| &mut package.wheels).for_each(|wheel| wheel.url = None);
                }
                self.note(format!("the packages are those of `{file}`"));
                return Ok(Some((lock, LockOrigin::Folder, Vec::new())));
            }
            self.note(format!("`{file}` was made of other requirements or for another runtime: packages are chosen anew"));
        }
        let requirements = requirements::read(&self.required.file, &self.required.bytes)?;
        if requirements.is_empty() {
            return Ok(None);
        }
        if let Some(bytes) = self.earlier {
            let lock = requirements_lock::read("requirements.lock of an earlier version", bytes)?;
            if !lock.is_stale(&made_from, self.targets) {
                self.note("the packages are those of an earlier version with the same requirements".to_owned());
                return Ok(Some((lock, LockOrigin::Earlier, Vec::new())));
            }
        }
        let (text, hashes) = (requirements::to_text(&requirements), requirements::hashes(&requirements));
        let (mut of_targets, mut folders) = (Vec::new(), Vec::new());
        for target in self.targets {
            self.note(format!("choosing packages for {target}"));
            let answer = self.ask(&text, &hashes, target, true).await?;
            warnings.extend(answer.warnings);
            folders.extend(answer.folders);
            of_targets.push((target.clone(), answer.lock));
        }
        Ok(Some((Lock::join(made_from, &of_targets), LockOrigin::Resolved, folders)))
    }

    async fn ask(&self, requirements: &str, hashes: &Hashes, target: &Target, dependencies: bool) -> Result<Answer, ResolveError> {
        self.installer.resolvers.resolve(&Question { requirements, hashes, target, dependencies, scratch: self.scratch }).await
    }

    /// The wheel of each package. Where the lock has no names for hashes, the cache may know them, or the resolver.
    async fn choose(
        &self,
        lock: &mut Lock,
        target: &Target,
        folders: &mut Vec<std::path::PathBuf>,
    ) -> Result<Vec<ChosenWheel>, InstallError> {
        self.name_from_cache(lock).await?;
        let unknown: Vec<(String, String)> = lock
            .of_target(target)?
            .into_iter()
            .filter(|package| package.choose(target).is_err() && package.wheels.iter().all(|wheel| wheel.file_name.is_none()))
            .map(|package| (package.project.clone(), package.version.clone()))
            .collect();
        if !unknown.is_empty() {
            let pins = pinned(unknown.iter().map(|(project, version)| (project, version)));
            let answer = self.ask(&pins, &Hashes::new(), target, false).await?;
            folders.extend(answer.folders);
            for found in &answer.lock.packages {
                let of_lock =
                    lock.packages.iter_mut().filter(|package| package.project == found.project && package.version == found.version);
                of_lock.for_each(|package| learn(package, found));
            }
            let mut wanted = lock.of_target(target)?.into_iter().filter(|package| package.choose(target).is_err());
            if let Some(mismatch) = wanted.find_map(|package| LockMismatch::of(package, &answer.lock.packages)) {
                return Err(mismatch.into());
            }
        }
        Ok(lock.of_target(target)?.into_iter().map(|package| package.choose(target)).collect::<Result<_, _>>()?)
    }

    async fn name_from_cache(&self, lock: &mut Lock) -> Result<(), InstallError> {
        if lock.packages.iter().flat_map(|package| &package.wheels).all(|wheel| wheel.file_name.is_some()) {
            return Ok(());
        }
        let (cache, mut named, listener) = (self.installer.cache.clone(), lock.clone(), self.listener.clone());
        let naming = move || -> Result<Lock, WheelCacheError> {
            for package in &mut named.packages {
                for wheel in package.wheels.iter_mut().filter(|wheel| wheel.file_name.is_none()) {
                    wheel.file_name = cache.names(&wheel.digest, &package.project, &listener)?.map(|name| name.file_name);
                }
            }
            Ok(named)
        };
        *lock = tokio::task::spawn_blocking(naming).await??;
        Ok(())
    }

    /// Every wheel as a file of this machine, in their order.
    async fn have(
        &self,
        wheels: &[ChosenWheel],
        target: &Target,
        folders: &mut Vec<std::path::PathBuf>,
    ) -> Result<Vec<SplicedFile>, InstallError> {
        let found = self.find(wheels, folders).await?;
        let missing: Vec<&ChosenWheel> = wheels.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(wheel, _)| wheel).collect();
        if missing.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }
        let addresses = self.addresses(&missing, target, folders).await?;
        let cache = Arc::new(self.installer.cache.clone());
        let fetch = |(wheel, address): (&ChosenWheel, String)| {
            let (wheel, cache) = (wheel.clone(), cache.clone());
            async move {
                self.note(format!("fetching {}", wheel.name.file_name));
                self.installer.fetcher.fetch(&wheel, &address, &cache, self.listener).await
            }
        };
        let wanted: Vec<(&ChosenWheel, String)> =
            missing.iter().filter_map(|wheel| Some((*wheel, addresses.get(&wheel.digest)?.clone()))).collect();
        stream::iter(wanted).map(fetch).buffer_unordered(FETCHES).try_collect::<()>().await?;
        let found = self.find(wheels, folders).await?;
        let missing = wheels.iter().zip(&found).find(|(_, found)| found.is_none()).map(|(wheel, _)| wheel);
        match missing {
            Some(wheel) => Err(self.nowhere(wheel)),
            None => Ok(found.into_iter().flatten().collect()),
        }
    }

    async fn find(&self, wheels: &[ChosenWheel], folders: &[std::path::PathBuf]) -> Result<Vec<Option<SplicedFile>>, InstallError> {
        let (mut cache, wheels, listener) = (self.installer.cache.clone(), wheels.to_vec(), self.listener.clone());
        cache.given.extend(folders.iter().cloned());
        let find =
            move || wheels.iter().map(|wheel| cache.find(&wheel.digest, &wheel.name.file_name, &listener)).collect::<Result<Vec<_>, _>>();
        Ok(tokio::task::spawn_blocking(find).await??)
    }

    /// Where wheels are to be had: as the lock says, else as the resolver does when it is asked for these versions.
    async fn addresses(
        &self,
        missing: &[&ChosenWheel],
        target: &Target,
        folders: &mut Vec<std::path::PathBuf>,
    ) -> Result<BTreeMap<Digest, String>, InstallError> {
        let mut addresses: BTreeMap<Digest, String> = missing.iter().filter_map(|wheel| Some((wheel.digest, wheel.url.clone()?))).collect();
        let without: Vec<&&ChosenWheel> = missing.iter().filter(|wheel| wheel.url.is_none()).collect();
        let Some(first) = without.first() else { return Ok(addresses) };
        let pins = pinned(without.iter().map(|wheel| (&wheel.project, &wheel.version)));
        let answer = match self.ask(&pins, &Hashes::new(), target, false).await {
            // Without a resolver, or where it knows no such version, the lock names what cannot be had.
            Err(error) if error.is_a_lack() || matches!(error, ResolveError::NoResolver) => return Err(self.nowhere(first)),
            answered => answered?,
        };
        folders.extend(answer.folders);
        if let Some(mismatch) = without.iter().find_map(|wheel| LockMismatch::of(&wheel.as_locked(), &answer.lock.packages)) {
            return Err(mismatch.into());
        }
        for wheel in answer.lock.packages.into_iter().flat_map(|package| package.wheels) {
            addresses.extend(wheel.url.map(|url| (wheel.digest, url)));
        }
        Ok(addresses)
    }

    fn nowhere(&self, wheel: &ChosenWheel) -> InstallError {
        let ChosenWheel { project, version, name, digest, .. } = wheel;
        if let Some((folder, found)) = self.installer.cache.given_digest(&name.file_name, self.listener) {
            return LockMismatch::in_folder(project, version, digest, &folder, &name.file_name, &found).into();
        }
        if let Some(damage) = wheel_folder::find_damage(&self.installer.cache.given, &|found| found == name) {
            return damage.into();
        }
        let tried = format!("`{}` with {digest} is in no folder of wheels, and no index has it", name.file_name);
        InstallError::Nowhere { project: project.clone(), version: version.clone(), tried }
    }

    async fn lay_out(&self, wheels: Vec<ChosenWheel>, files: Vec<SplicedFile>) -> Result<Arc<Laid>, InstallError> {
        let laying = move || -> Result<Laid, WheelFileError> {
            Laid::out(wheels.into_iter().zip(files).map(|(wheel, file)| Wheel::open(wheel.name, file)).collect::<Result<_, _>>()?)
        };
        Ok(Arc::new(tokio::task::spawn_blocking(laying).await??))
    }

    /// The bytecode of each wheel, where it is to be made and can be.
    async fn compile(
        &self,
        laid: &Arc<Laid>,
        compiler: Option<&Compiler>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Vec<SplicedFile>>, InstallError> {
        let (Some(compiler), Some(cache)) = (compiler, &self.installer.bytecode) else { return Ok(None) };
        let archives = compiler.archives(laid, FOLDER, (cache, self.scratch), self.listener).await?;
        if archives.is_none() {
            let interpreter = &compiler.interpreter;
            warnings.push(format!(
                "the packages are not compiled: the base has no whole Python at `{interpreter}`, so a container compiles what it imports at each start"
            ));
        }
        Ok(archives)
    }

    /// The layer of the packages, and that of their bytecode.
    async fn seal(&self, laid: &Arc<Laid>, archives: Option<Vec<SplicedFile>>) -> Result<Vec<SealedLayer>, InstallError> {
        let (epoch_s, seals, listener, laid) = (self.epoch_s, self.seals.cloned(), self.listener.clone(), laid.clone());
        let sealing = move || -> Result<_, InstallError> {
            let root = TreePath::new(FOLDER).expect("a constant path");
            let packages = laid.layer(&root, epoch_s).map_err(WheelFileError::Paths)?;
            let mut sealed = vec![seal_or_remember(&packages, Purpose::Requirements, seals.as_ref(), &listener)?];
            let (count, bytes) = packages.counted();
            listener(Event::Note(format!("packages: {count} files, {bytes} bytes, in {} bytes of wheels", sealed[0].size_bytes)));
            if let Some(archives) = archives {
                let bytecode = bytecode::layer(&laid, archives, &root, epoch_s)?;
                sealed.push(seal_or_remember(&bytecode, Purpose::Bytecode, seals.as_ref(), &listener)?);
            }
            Ok(sealed)
        };
        tokio::task::spawn_blocking(sealing).await?
    }

    fn note(&self, text: String) {
        (self.listener)(Event::Note(text));
    }
}

/// One version of each project, a line each.
fn pinned<'a>(packages: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    packages.fold(String::new(), |pins, (project, version)| pins + project + "==" + version + "\n")
}

/// What a resolver knows of the wheels of a version: the names and addresses of the hashes that are locked.
fn learn(package: &mut LockedPackage, found: &LockedPackage) {
    for wheel in &mut package.wheels {
        if let Some(found) = found.wheels.iter().find(|found| found.digest == wheel.digest) {
            wheel.clone_from(found);
        }
    }
}

fn seal_or_remember(
    layer: &PackedLayer,
    purpose: Purpose,
    seals: Option<&SealCache>,
    listener: &Listener,
) -> Result<SealedLayer, InstallError> {
    let (splice, (_, bytes)) = (Arc::new(layer.splice()?), layer.counted());
    listener(Event::Expect { bytes });
    if let Some(Remembered { digest, size_bytes, diff_id, .. }) = seals.and_then(|seals| seals.find_splice(&splice)) {
        listener(Event::Advance { bytes });
        let (compression, source) = (Compression::Gzip, LayerSource::Splice(splice));
        return Ok(SealedLayer { digest, size_bytes, diff_id, compression, purpose, source });
    }
    let sealed = seal_packed::seal(layer, splice.clone(), purpose, &|bytes| listener(Event::Advance { bytes }))?;
    if let Some(seals) = seals {
        seals.remember_splice(&splice, &sealed);
    }
    Ok(sealed)
}
