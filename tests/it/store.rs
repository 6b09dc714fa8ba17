//! The store: what comes in is what its name says, what fails leaves nothing, and several writers do not get in each other's way.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lamina::disk::render::stamp;
use lamina::disk::seal::seal;
use lamina::disk::store::{Store, StoreError};
use lamina::fault::{Failure, Fault};
use lamina::model::tree::Tree;
use lamina::oci::digest::Digest;
use lamina::oci::image::{Compression, Purpose};
use lamina::oci::layer::{Content, Entry, EntryKind, LocalFile, Recipe, Stamp};
use lamina::oci::manifest::{Descriptor, Document};
use lamina::oci::path::TreePath;

fn store() -> (tempfile::TempDir, Store) {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    (data, store)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn all(store: &Store, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open_blob(digest).unwrap().1.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_blob_is_there_when_it_is_whole_and_not_before() {
    let (data, store) = store();
    let digest = Digest::of(b"bytes");
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"by").unwrap();
    assert!(!store.has(&digest));
    writer.write_all(b"tes").unwrap();
    assert_eq!(writer.commit(Some(digest)).unwrap(), digest);
    assert_eq!((all(&store, &digest), store.size(&digest).unwrap()), (b"bytes".to_vec(), Some(5)));
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"other").unwrap();
    assert!(matches!(writer.commit(Some(digest)), Err(StoreError::Mismatch { .. })));
    drop(store.blob_writer().unwrap());
    for (descriptor, fault) in [
        (Descriptor::new("", Digest::of(b"other"), 4), Fault::Remote),
        (Descriptor::new("", Digest::of(b"other"), 6), Fault::Remote),
        (Descriptor::new("", Digest::of(b"OTHER"), 5), Fault::Remote),
    ] {
        assert_eq!(store.put_blob(&descriptor, &mut &b"other"[..]).unwrap_err().fault(), fault);
    }
    assert_eq!(files(&data.path().join("blobs")), [digest.hex()]);
    assert_eq!(files(&data.path().join("uploads")), [""; 0]);
    let mut part = Vec::new();
    store.open_range(&digest, 1..3).unwrap().read_to_end(&mut part).unwrap();
    assert_eq!(part, b"yt");
    assert!(matches!(store.open_range(&digest, 1..6), Err(StoreError::Range { size_bytes: 5, .. })));
    assert!(matches!(store.open_blob(&Digest::of(b"")), Err(StoreError::Missing(_))));
}

#[test]
fn a_damaged_document_is_not_handed_out() {
    let (data, store) = store();
    let digest = store.put_bytes(b"{\"a\": 1}").unwrap();
    fs::write(data.path().join("blobs").join(digest.hex()), b"{\"a\": 2}").unwrap();
    let error = store.read(&digest, 100).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    // One that lost bytes is written again.
    fs::write(data.path().join("blobs").join(digest.hex()), b"{").unwrap();
    store.put_bytes(b"{\"a\": 1}").unwrap();
    assert_eq!(all(&store, &digest), b"{\"a\": 1}");
}

fn staged(folder: &Path, files: &[(&str, &[u8])]) -> Tree {
    let mut tree = Tree::new();
    for (at, (name, bytes)) in files.iter().enumerate() {
        let path = folder.join(at.to_string());
        fs::write(&path, bytes).unwrap();
        let stamp = stamp(&fs::metadata(&path).unwrap());
        let content = Content::Local(Arc::new(LocalFile { path, stamp, digest: Some(Digest::of(bytes)) }));
        tree.insert(TreePath::new(name).unwrap(), EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content });
    }
    tree
}

#[test]
fn a_layer_is_kept_as_a_recipe_over_content_and_read_in_ranges() {
    let (data, store) = store();
    let staging = store.staging().unwrap();
    let many: Vec<(String, Vec<u8>)> = (0..50).map(|at| (format!("m/{at}"), vec![at; 1000 + usize::from(at)])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let tree = store.adopt(&staged(staging.path(), &many)).unwrap();
    assert_eq!(files(staging.path()), [""; 0]);
    assert_eq!(files(&data.path().join("content")).len(), 50);
    // What is adopted already is left alone.
    assert_eq!(store.adopt(&tree).unwrap(), tree);
    let root = TreePath::new("model/files").unwrap();
    let contract = EntryKind::File { size_bytes: 3, executable: false, content: Content::Inline((*b"pb!").into()) };
    let mut entries: Vec<Entry> = tree.entries_below(&root).collect();
    entries.push(Entry { path: TreePath::new("model/contract.protobin").unwrap(), kind: contract });
    let recipe = Arc::new(Recipe::new(entries, 7).unwrap());
    let layer = seal(recipe.clone(), Compression::None, Purpose::Files, staging.path(), &|_| {}).unwrap();
    store.put_layer(&layer).unwrap();
    assert_eq!(files(&data.path().join("blobs")), [""; 0]);
    // Another process knows it from the disk alone.
    let other = Store::open(data.path()).unwrap();
    assert!(other.has(&layer.digest));
    assert_eq!(other.size(&layer.digest).unwrap(), Some(layer.size_bytes));
    let whole = all(&other, &layer.digest);
    assert_eq!(Digest::of(&whole), layer.digest);
    for range in [0..1, 500..2000, layer.size_bytes - 10..layer.size_bytes] {
        let mut part = Vec::new();
        other.open_range(&layer.digest, range.clone()).unwrap().read_to_end(&mut part).unwrap();
        assert!(part == whole[range.start as usize..range.end as usize]);
    }
    assert!(matches!(other.open_range(&layer.digest, 0..layer.size_bytes + 1), Err(StoreError::Range { .. })));
    // Who finds a file there renews it, while others read it.
    let (_, mut reader) = store.open_blob(&layer.digest).unwrap();
    let mut read = vec![0; 1000];
    reader.read_exact(&mut read).unwrap();
    let again = store.staging().unwrap();
    store.adopt(&staged(again.path(), &many)).unwrap();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(Digest::of(&read), layer.digest);
    // A gzip layer is a blob.
    let layer = seal(recipe, Compression::Gzip, Purpose::Files, staging.path(), &|_| {}).unwrap();
    store.put_layer(&layer).unwrap();
    assert_eq!(files(&data.path().join("blobs")), [layer.digest.hex()]);
}

#[test]
fn documents_are_canonical_and_files_nobody_hashed_are_refused() {
    let (_data, store) = store();
    let staging = store.staging().unwrap();
    let tree = store.adopt(&staged(staging.path(), &[("b/f", b"1"), ("a", b"1")])).unwrap();
    let digest = store.put_tree(&tree).unwrap();
    let text = String::from_utf8(all(&store, &digest)).unwrap();
    let one = Digest::of(b"1");
    let file = format!(r#"{{"digest":"{one}","executable":false,"size_bytes":1}}"#);
    assert_eq!(text, format!(r#"{{"nodes":[{{"file":{file},"path":"a"}},{{"file":{file},"path":"b/f"}}]}}"#));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(lamina::oci::json::canonical(&value), text.as_bytes());
    let mut tree = Tree::new();
    let content = Content::Local(Arc::new(LocalFile { path: "/nowhere".into(), stamp: Stamp::default(), digest: None }));
    tree.insert(TreePath::new("f").unwrap(), EntryKind::File { size_bytes: 1, executable: false, content });
    assert!(matches!(store.adopt(&tree), Err(StoreError::Unhashed(_))));
    assert!(matches!(store.put_tree(&tree), Err(StoreError::Unhashed(_))));
}

#[test]
fn many_writers_of_the_same_things_do_not_disturb_each_other() {
    let data = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..40u8).map(|at| vec![at; 10_000]).collect();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                // Each is a process of its own as far as the store can tell.
                let store = Store::open(data.path()).unwrap();
                let staging = store.staging().unwrap();
                let names: Vec<String> = (0..contents.len()).map(|at| format!("f{at}")).collect();
                let list: Vec<_> = names.iter().zip(&contents).map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
                let tree = store.adopt(&staged(staging.path(), &list)).unwrap();
                let recipe = Arc::new(Recipe::new(tree.entries_below(&TreePath::new("m").unwrap()).collect(), 0).unwrap());
                let layer = seal(recipe, Compression::None, Purpose::Files, staging.path(), &|_| {}).unwrap();
                store.put_layer(&layer).unwrap();
                assert_eq!(Digest::of(&all(&store, &layer.digest)), layer.digest);
                for _ in 0..20 {
                    let document = Document::new("application/vnd.oci.image.manifest.v1+json", b"{}".to_vec());
                    store.put_manifest("a/b", "latest", &document).unwrap();
                    assert_eq!(store.manifest("a/b", "latest").unwrap().unwrap(), document);
                }
            });
        }
    });
    assert_eq!(files(&data.path().join("content")).len(), 40);
    assert_eq!(files(&data.path().join("recipes")).len(), 1);
    assert_eq!(files(&data.path().join("uploads")), [""; 0]);
}

#[test]
fn repositories_tags_and_manifests() {
    let (data, store) = store();
    let one = Document::new("application/vnd.oci.image.manifest.v1+json", b"{\"one\":1}".to_vec());
    let two = Document::new("application/vnd.oci.image.index.v1+json", b"{\"two\":2}".to_vec());
    store.put_manifest("a", "1", &one).unwrap();
    store.put_manifest("a", "_x.Y-2", &two).unwrap();
    store.put_manifest("a", "1", &two).unwrap();
    store.put_manifest("a/tags/1", &one.digest.to_string(), &one).unwrap();
    assert_eq!(store.manifest("a", "1").unwrap(), Some(two.clone()));
    assert_eq!(store.manifest("a", &one.digest.to_string()).unwrap(), Some(one.clone()));
    assert_eq!(store.manifest("a", "nothing").unwrap(), None);
    assert_eq!(store.manifest("a/tags/1", &two.digest.to_string()).unwrap(), None, "it is in another repository");
    assert_eq!(store.tags("a").unwrap().unwrap(), ["1", "_x.Y-2"]);
    assert_eq!(store.tags("a/tags/1").unwrap().unwrap(), [""; 0]);
    assert_eq!((store.tags("a/tags").unwrap(), store.tags("b").unwrap()), (None, None));
    assert_eq!(store.repositories().unwrap(), ["a", "a/tags/1"]);
    let wrong = Document { digest: one.digest, ..two };
    assert!(matches!(store.put_manifest("a", "1", &wrong), Err(StoreError::Mismatch { .. })));
    for name in ["", "A", "../a", "a/../b", "a//b", "/a", "a/", "a/_tags", "_manifests", "a.", "a..b", "a___b", "ä", &"a".repeat(256)] {
        assert!(matches!(store.put_manifest(name, "1", &one), Err(StoreError::Repository(_))), "{name}");
        assert!(matches!(store.manifest(name, "1"), Err(StoreError::Repository(_))), "{name}");
    }
    for name in ["a-b", "a--b", "a__b", "a_b", "a.b", "0/1/2"] {
        assert_eq!(store.tags(name).unwrap(), None, "{name}");
    }
    for key in ["", ".", "..", "-a", ".a", "a/b", "ä", "sha256:12", &"a".repeat(129)] {
        assert!(matches!(store.put_manifest("a", key, &one), Err(StoreError::Key(_))), "{key}");
    }
    assert_eq!(files(&data.path().join("repositories/a/_tags")), ["1", "_x.Y-2"]);
}

/// Data folders of earlier releases have manifests and no account of blobs.
#[test]
fn a_repository_without_an_account_of_its_blobs_has_those_that_its_manifests_name() {
    let (data, store) = store();
    let blob = store.put_bytes(b"blob").unwrap();
    let text = format!(r#"{{"layers": [{{"digest": "{blob}"}}]}}"#);
    store.put_manifest("a", "1", &Document::new("application/vnd.oci.image.manifest.v1+json", text.into_bytes())).unwrap();
    assert_eq!(files(&data.path().join("repositories/a/_blobs")), [blob.hex()]);
    fs::remove_dir_all(data.path().join("repositories/a/_blobs")).unwrap();
    assert!(store.renew_blob_in("a", &blob).unwrap() && store.has_blob_in("a", &blob).unwrap());
    assert!(!store.has_blob_in("b", &blob).unwrap() && !data.path().join("repositories/b").exists());
}

#[test]
fn an_upload_in_pieces_survives_a_restart_and_is_written_by_one_at_a_time() {
    let (data, store) = store();
    let id = store.start_upload("a").unwrap();
    let mut upload = store.upload("a", &id).unwrap();
    upload.append(b"one ").unwrap();
    assert!(matches!(store.upload("a", &id), Err(StoreError::Busy(_))));
    store.suspend(upload);
    assert_eq!(store.upload_offset("a", &id).unwrap(), 4);
    assert!(matches!(store.upload("b", &id), Err(StoreError::NoUpload(_))), "a session is one repository's");
    let store = Store::open(data.path()).unwrap();
    let mut upload = store.upload("a", &id).unwrap();
    assert_eq!(upload.offset(), 4);
    upload.append(b"two").unwrap();
    let digest = store.finish_upload(upload, Digest::of(b"one two")).unwrap();
    assert_eq!(all(&store, &digest), b"one two");
    assert!(store.has_blob_in("a", &digest).unwrap() && !store.has_blob_in("b", &digest).unwrap());
    assert!(matches!(store.upload("a", &id), Err(StoreError::NoUpload(_))));
    let id = store.start_upload("a").unwrap();
    assert!(matches!(store.finish_upload(store.upload("a", &id).unwrap(), digest), Err(StoreError::Mismatch { .. })));
    let id = store.start_upload("a").unwrap();
    store.cancel_upload("a", &id).unwrap();
    for id in ["", "../blobs", "a/b", &id] {
        assert!(matches!(store.upload("a", id), Err(StoreError::NoUpload(_))), "{id}");
        assert!(matches!(store.cancel_upload("a", id), Err(StoreError::NoUpload(_))), "{id}");
    }
    assert_eq!(files(&data.path().join("uploads")), [""; 0]);
}

#[test]
fn a_session_that_nobody_touches_expires_and_one_that_is_held_or_asked_for_does_not() {
    let (data, store) = store();
    let [rests, held, asked] = [(); 3].map(|()| store.start_upload("a").unwrap());
    for id in [&rests, &held, &asked] {
        let file = fs::File::options().write(true).open(data.path().join("uploads").join(format!("session-{id}"))).unwrap();
        let long_ago = file.metadata().unwrap().modified().unwrap() - Duration::from_hours(48);
        file.set_modified(long_ago).unwrap();
    }
    let upload = store.upload("a", &held).unwrap();
    assert_eq!(store.upload_offset("a", &asked).unwrap(), 0);
    assert_eq!(store.expire_uploads(Duration::from_hours(72)).unwrap(), 0);
    assert_eq!(store.expire_uploads(Duration::from_hours(24)).unwrap(), 1);
    assert!(matches!(store.upload("a", &rests), Err(StoreError::NoUpload(_))));
    drop(upload);
    assert!(store.upload("a", &held).is_ok() && store.upload("a", &asked).is_ok());
}
