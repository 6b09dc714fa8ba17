//! A data folder as a collection sees it: how old things are, what there is, and whether all that is led to is there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use lamina::disk::store::Store;
use lamina::oci::digest::{Digest, Hasher};
use lamina::oci::manifest::Pulled;

/// The grace of the collections in tests: what is made in a test is younger, what was made old is not.
pub const GRACE: Duration = Duration::from_hours(1);

/// Makes everything in the store two days older; nobody may use it meanwhile.
pub fn age(data: &Path) {
    let mut folders: Vec<_> = ["content", "blobs", "recipes", "repositories", "uploads"].iter().map(|name| data.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let file = fs::File::open(entry.path()).unwrap();
                let modified = file.metadata().unwrap().modified().unwrap();
                file.set_modified(modified - Duration::from_hours(48)).unwrap();
            }
        }
    }
}

/// The names on a shelf.
pub fn names(data: &Path, shelf: &str) -> BTreeSet<String> {
    fs::read_dir(data.join(shelf)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Reads a blob to its end and compares it with its name.
pub fn is_whole(store: &Store, digest: &Digest) -> bool {
    let Ok((_, mut reader)) = store.open_blob(digest) else { return false };
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return hasher.finish() == *digest,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(_) => return false,
        }
    }
}

/// Every manifest of every repository, tagged or not, has all that it names, and every tag has its manifest. Gives the tags, as `repository:tag`.
pub fn assert_whole(store: &Store) -> Vec<String> {
    let mut tags = Vec::new();
    for repository in store.repositories().unwrap() {
        for tag in store.tags(&repository).unwrap().unwrap_or_default() {
            assert!(store.manifest(&repository, &tag).unwrap().is_some(), "{repository}:{tag}");
            tags.push(format!("{repository}:{tag}"));
        }
        for name in names(store.root(), &format!("repositories/{repository}/_manifests")) {
            let document = store.manifest(&repository, &format!("sha256:{name}")).unwrap().unwrap();
            match Pulled::parse(Some(&document.media_type), document.bytes).unwrap() {
                Pulled::Manifest(manifest) => {
                    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                        assert!(store.has_blob_in(&repository, &blob.digest).unwrap(), "{repository}@{name} has lost {}", blob.digest);
                        assert!(is_whole(store, &blob.digest), "{repository}@{name}: {} is not what it was", blob.digest);
                    }
                }
                Pulled::Index(index) => {
                    for child in &index.manifests {
                        assert!(store.manifest(&repository, &child.digest.to_string()).unwrap().is_some(), "{repository}@{name}");
                    }
                }
            }
        }
    }
    tags
}
