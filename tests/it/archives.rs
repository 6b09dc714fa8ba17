//! Archives of strangers: every bad one is refused with what and where, and nothing of it stays; good ones give the tree of the folder
//! that they were packed from.

use std::fs;
use std::path::Path;
use std::process::Command;

use lamina::disk::archive::{ArchiveError, unpack};
use lamina::disk::folder::{FolderOptions, read_folder};
use lamina::disk::ignore_rules::Selected;
use lamina::disk::store::Store;
use lamina::fault::{Failure, Fault};
use lamina::model::tree::Limits;
use lamina::oci::digest::Digest;
use lamina::oci::layer::{Content, EntryKind};

/// What each archive of `tests/archives/bad.py` is refused with.
pub const BAD: &[(&str, &str)] = &[
    ("dotdot", "in the archive, path `../evil` is refused: it leaves the folder with `..`"),
    ("dotdot-inside", "in the archive, path `a/../../evil` is refused: it leaves the folder with `..`"),
    ("absolute", "in the archive, path `/etc/cron.d/evil` is refused: it is absolute"),
    ("absolute-folder", "in the archive, path `/` is refused: it is absolute"),
    ("symlink-absolute", "the link `l` leaves the archive: it points at `/etc/passwd`"),
    ("symlink-leaves", "the link `a/l` leaves the archive: it points at `../../evil`"),
    ("symlink-dangles", "the link `l` leads nowhere: it points at `gone`"),
    ("symlink-loop", "the link `l` has no end: it points at `m`"),
    ("symlink-above", "the link `a/l` has no end: it points at `..`"),
    ("symlink-through", "`l/evil` in the archive is below `l`, which is no folder"),
    ("hardlink-leaves", "the link `l` leaves the archive: it points at `../evil`"),
    ("hardlink-absolute", "the link `l` leaves the archive: it points at `/etc/shadow`"),
    ("hardlink-dangles", "the link `l` leads nowhere: it points at `gone`"),
    ("character-device", "`dev` in the archive is a character device: only files, folders and links to them can go into an image"),
    ("block-device", "`dev` in the archive is a block device: only files, folders and links to them can go into an image"),
    ("pipe", "`pipe` in the archive is a named pipe: only files, folders and links to them can go into an image"),
    ("twice", "`a` is in the archive twice"),
    ("twice-spelt", "`a/b` is in the archive twice"),
    ("twice-link", "`a` is in the archive twice"),
    ("below-file", "`a/b` in the archive is below `a`, which is no folder"),
    ("file-and-folder", "`a` is a file in the archive, and a folder as well"),
    ("whiteout", "in the archive, path `a/.wh.b` is refused: a name that begins with `.wh.` means a deletion in an image layer"),
    (
        "whiteout-opaque",
        "in the archive, path `a/.wh..wh..opq` is refused: a name that begins with `.wh.` means a deletion in an image layer",
    ),
    ("control", "in the archive, path `a\\nb` is refused: it has a control character"),
    ("component", "a name in it is longer than 255 bytes"),
    ("sparse", "`s` in the archive is a sparse file: only files, folders and links to them can go into an image"),
    ("volumes", "`s` in the archive is part of an archive of several volumes: only files, folders and links to them can go into an image"),
    ("unknown", "`s` in the archive is of a type that we do not know: only files, folders and links to them can go into an image"),
    ("long", "of the archive is refused: its path is longer than 4096 bytes"),
    ("not-utf8", "`a\u{fffd}` of the archive is refused: its path is not UTF-8"),
    ("pax-size", "`s` of the archive is refused: its PAX record and its header give different sizes"),
    ("pax-sparse", "of the archive is refused: it is a sparse file; write it without `--sparse`"),
    ("pax-control", "in the archive, path `a\\nb` is refused: it has a control character"),
    ("pax-global", "of the archive is refused: a global record would give every file one name or size"),
    ("pax-huge", "of the archive is refused: an extension record is larger than 1 MiB"),
    ("folder-with-bytes", "`d/` of the archive is refused: it has bytes although it is no file"),
    ("size-overflow", "`good.txt` of the archive is refused: its size is not a number"),
    ("size-negative", "`good.txt` of the archive is refused: its size is not a number"),
    ("check-sum", "entry 2 of the archive is refused: its check sum is wrong"),
    ("cut-header", "the archive is cut off: it ends in a header"),
    ("cut-header-plain", "the archive is cut off: it ends in a header"),
    ("cut-file", "the archive is cut off: it ends in `w`, after 2560 of its 102400 bytes"),
    ("cut-file-plain", "the archive is cut off: it ends in `w`, after 2560 of its 102400 bytes"),
    ("cut-padding", "the archive is cut off: it ends in `w`, after 102300 of its 102400 bytes"),
    ("cut-padding-plain", "the archive is cut off: it ends in `w`, after 102300 of its 102400 bytes"),
    ("cut-end", "the archive is cut off: it ends before its end mark"),
    ("cut-end-plain", "the archive is cut off: it ends before its end mark"),
    ("cut-gzip", "the archive is cut off: its gzip data ends too early"),
    ("cut-gzip-end", "the archive is cut off: its gzip data ends too early"),
    ("flipped-gzip", "the archive's gzip data is damaged"),
    ("after-gzip", "the archive's gzip data is damaged"),
    ("second-archive", "something follows the end of the archive"),
    ("bomb", "the archive unpacks to more than 200 times its size: "),
    ("empty", "the archive is cut off: it ends before its end mark"),
    ("text", "this is not a tar archive"),
    ("xz", "the archive is packed with xz: only tar, tar.gz and tar.zst are read"),
    ("zip", "the archive is a zip file: only tar, tar.gz and tar.zst are read"),
];

pub fn python(arguments: &[&dyn AsRef<std::ffi::OsStr>]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archives").join(arguments[0].as_ref());
    let output = Command::new("python3").arg(script).args(arguments[1..].iter().map(AsRef::as_ref)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn refused(archive: &[u8], limits: &Limits) -> ArchiveError {
    let staging = tempfile::tempdir().unwrap();
    let error = unpack(archive, staging.path(), limits).unwrap_err();
    assert_eq!(fs::read_dir(staging.path()).unwrap().count(), 0, "{error} left something");
    error
}

#[test]
fn every_bad_archive_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    python(&[&"bad.py", &folder.path()]);
    let mut made: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut known: Vec<_> = BAD.iter().map(|(case, _)| (*case).to_owned()).collect();
    made.sort();
    known.sort();
    assert_eq!(made, known);
    for (case, text) in BAD {
        let error = refused(&fs::read(folder.path().join(case)).unwrap(), &Limits::default());
        assert!(error.to_string().contains(text), "{case}: {error}");
        let expected = if *case == "bomb" { Fault::TooLarge } else { Fault::Invalid };
        assert_eq!(error.fault(), expected, "{case}");
    }
}

fn packed(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn model() -> tempfile::TempDir {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    for (path, bytes) in [
        ("src/func_main.py", "def infer(): pass"),
        ("weights/größe/模型.bin", "weights"),
        (&format!("weights/{}/{}", "d".repeat(120), "f".repeat(90)), "long"),
        (&format!("weights/{}/{}", "d".repeat(200), "f".repeat(120)), "too long for ustar"),
        (".keras/config", "{}"),
        (".git/config", "left out"),
        ("notes/draft.md", "left out by .hsignore"),
        (".hsignore", "notes/\n"),
        ("empty.txt", ""),
    ] {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir(folder.join("empty")).unwrap();
    fs::set_permissions(folder.join("src/func_main.py"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("weights/größe", folder.join("latest")).unwrap();
    symlink("../src/func_main.py", folder.join("weights/code")).unwrap();
    fs::hard_link(folder.join("src/func_main.py"), folder.join("zz-same")).unwrap();
    root
}

/// Paths, sizes, modes and the digests of the bytes; what is left out as well.
fn listing(selected: &Selected) -> Vec<String> {
    let mut lines: Vec<String> = selected.left_out.iter().map(|path| format!("left out {path}")).collect();
    for (path, node) in selected.tree.nodes() {
        lines.push(match node {
            EntryKind::Folder => format!("{path}/"),
            EntryKind::File { size_bytes, executable, content } => {
                let Content::Local(file) = content else { panic!("{path} is inline") };
                let digest = Digest::of(&fs::read(&file.path).unwrap());
                assert!(file.digest.is_none_or(|known| known == digest), "{path}");
                format!("{path} {size_bytes} {executable} {digest}")
            }
        });
    }
    lines
}

#[test]
fn every_way_of_packing_gives_the_tree_of_the_folder() {
    let model = model();
    let folder = listing(&read_folder(model.path(), &FolderOptions::default()).unwrap());
    assert!(folder.iter().any(|line| line.starts_with("latest/模型.bin 7 false")), "{folder:#?}");
    assert!(folder.contains(&"left out notes".to_owned()) && folder.contains(&"empty/".to_owned()));
    let tar = packed(model.path(), &["-cf", "-", "."]);
    let archives = [
        packed(model.path(), &["-czf", "-", "."]),
        packed(model.path(), &["--format=gnu", "-cf", "-", "."]),
        packed(model.path(), &["--format=posix", "-cf", "-", "."]),
        packed(model.path(), &["--hard-dereference", "-chf", "-", "."]),
        zstd::encode_all(&tar[..], 3).unwrap(),
        tar,
    ];
    for archive in archives {
        let staging = tempfile::tempdir().unwrap();
        let selected = unpack(&archive[..], staging.path(), &Limits::default()).unwrap();
        assert_eq!(listing(&selected), folder);
    }
}

#[test]
fn what_the_ancestors_client_sends_is_read() {
    let recorded = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ancestor/hs-0.0.10-upload.http")).unwrap();
    let start = recorded.windows(3).position(|bytes| bytes == [0x1f, 0x8b, 8]).unwrap();
    let boundary = recorded.windows(4).rposition(|bytes| bytes == b"\r\n--").unwrap();
    let staging = tempfile::tempdir().unwrap();
    let selected = unpack(&recorded[start..boundary], staging.path(), &Limits::default()).unwrap();
    let paths: Vec<_> = selected.tree.nodes().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["requirements.txt", "src", "src/func_main.py", "weights.json"]);
}

#[test]
fn each_limit_holds_and_names_the_one_past_it() {
    let model = model();
    let archive = packed(model.path(), &["--sort=name", "-cf", "-", "empty.txt", "src", "weights/größe"]);
    for (limits, text) in [
        (
            Limits { entries_max: 3, ..Limits::default() },
            "the archive has more than 3 files and folders; the one past the limit is `weights`",
        ),
        (
            Limits { unpacked_bytes_max: 17, ..Limits::default() },
            "the archive has more than 17 bytes of files; the one past the limit is `weights/größe/模型.bin`",
        ),
    ] {
        let error = refused(&archive, &limits);
        assert_eq!((error.to_string().as_str(), error.fault()), (text, Fault::TooLarge));
    }
    let links = packed(model.path(), &["-cf", "-", "src", "weights/code"]);
    let error = refused(&links, &Limits { unpacked_bytes_max: 20, ..Limits::default() });
    assert_eq!(
        error.to_string(),
        "with what its links bring, the archive has more than 20 bytes; the file past the limit is `weights/code`"
    );
    // Twenty folders in one another have paths of two thousand bytes on average: kept in memory, a few hundred thousand of them are too many.
    let mut deep = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    deep.append_data(&mut header, vec!["n".repeat(200); 20].join("/"), std::io::empty()).unwrap();
    let error = refused(&deep.into_inner().unwrap(), &Limits { entries_max: 30, ..Limits::default() });
    assert!(error.to_string().starts_with("the names in the archive have more than 15360 bytes together"), "{error}");
    assert_eq!(error.fault(), Fault::TooLarge);
}

#[test]
fn a_sender_that_stops_is_not_the_models_fault_and_leaves_nothing() {
    struct Torn<'a>(&'a [u8]);
    impl std::io::Read for Torn<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::ErrorKind::ConnectionReset.into()),
                length => Ok(length),
            }
        }
    }
    let archive = packed(model().path(), &["-czf", "-", "."]);
    let staging = tempfile::tempdir().unwrap();
    let error = unpack(Torn(&archive[..archive.len() / 2]), staging.path(), &Limits::default()).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.fault()), ("cannot read the archive", Fault::Ours));
    assert_eq!(fs::read_dir(staging.path()).unwrap().count(), 0);
}

#[test]
fn an_archive_in_the_store_is_kept_once_and_comes_back() {
    let (model, data) = (model(), tempfile::tempdir().unwrap());
    let store = Store::open(data.path()).unwrap();
    let archive = packed(model.path(), &["-czf", "-", "."]);
    let mut digests = Vec::new();
    for _ in 0..2 {
        let staging = store.staging().unwrap();
        let selected = unpack(&archive[..], staging.path(), &Limits::default()).unwrap();
        let before = listing(&selected);
        let adopted = Selected { tree: store.adopt(&selected.tree).unwrap(), left_out: selected.left_out };
        assert_eq!(listing(&adopted), before);
        assert_eq!(fs::read_dir(staging.path()).unwrap().count(), 0);
        let digest = store.put_tree(&adopted.tree).unwrap();
        assert_eq!(store.tree(&digest).unwrap(), adopted.tree);
        digests.push(digest);
    }
    assert_eq!(digests[0], digests[1]);
    // Six contents, whatever the number of their paths and of uploads.
    let mut names: Vec<_> = fs::read_dir(data.path().join("content")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in &names {
        assert_eq!(Digest::of(&fs::read(path).unwrap()).hex(), path.file_name().unwrap().to_str().unwrap());
    }
    assert_eq!(names.len(), 6);
    assert_eq!(fs::read_dir(data.path().join("uploads")).unwrap().count(), 0);
}
