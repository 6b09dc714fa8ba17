//! Destinations that take no image, and several of which one fails: what is said, what is there, and what is left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use axum::http::Method;

use crate::outputs::{Bench, assert_unpacks};
use crate::support::bases::{self, Base, Packed};
use crate::support::client::noise;
use crate::support::fault_registry::{FaultRegistry, Faults, burst};
use crate::support::hs::{Ran, free_address, tool};
use crate::support::images::{self, Copied};
use crate::support::small_disk::SmallDisk;
use crate::support::wire_tap::WireTap;

/// A user who owns nothing.
const NOBODY: u32 = 65534;

/// Refused with exit code 2, although a good place is named first and the model cannot be read.
fn assert_unusable(bench: &Bench, to: &str, said: &[&str]) {
    let good = format!("oci:{}:m", bench.path("good").display());
    let first = format!("error: the image cannot go to `{to}`");
    bench.fails(&["--runtime", "scratch", "--to", &good, "--to", to], 2, &[&[first.as_str()], said].concat());
}

/// A bench whose model nobody can read: whoever does says so, with exit code 3.
fn unreadable() -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("model/serving.yaml"), "model: [").unwrap();
    assert_eq!(bench.build(&["--runtime", "scratch"]).code, 3);
    bench
}

#[test]
fn a_place_that_takes_no_image_is_refused_before_anything_is_read() {
    let bench = unreadable();
    let outside = tempfile::tempdir().unwrap();
    let at = |text: &str| text.replace("~~", outside.path().to_str().unwrap()).replace('~', bench.home.path().to_str().unwrap());
    fs::write(bench.path("file"), "years of work").unwrap();
    symlink(bench.path("nowhere"), outside.path().join("link")).unwrap();
    for (name, mark, index) in [("newer", "2.0.0", "{}"), ("torn", "1.0.0", "{")] {
        fs::create_dir(bench.path(name)).unwrap();
        fs::write(bench.path(name).join("oci-layout"), format!(r#"{{"imageLayoutVersion": "{mark}"}}"#)).unwrap();
        fs::write(bench.path(name).join("index.json"), index).unwrap();
    }
    fs::create_dir(bench.path("blocked")).unwrap();
    fs::write(bench.path("blocked/oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    fs::write(bench.path("blocked/blobs"), "").unwrap();
    let cases: [(&str, &str, &str); 12] = [
        ("oci-archive:~/none/x.tar", "the folder `~/none` is not there", "make the folder"),
        ("docker-archive:~/none/x.tar:m:1", "the folder `~/none` is not there", "make the folder"),
        ("oci-archive:~/file/x.tar", "`~/file` is not a folder", "name another place"),
        ("oci-archive:~/file/below/x.tar", "`~/file` is not a folder", "name another place"),
        ("docker-archive:~/model", "`~/model` is there and is no archive", "name another file"),
        ("oci:~/file:m", "`~/file` is not a folder", "name another place"),
        ("oci:~/file/below:m", "`~/file` is not a folder", "name another place"),
        ("oci:~~/link:m", "`~~/link` is not a folder", "name another place"),
        ("oci:~/model:m", "it has no file `oci-layout`", "name another folder"),
        ("oci:~/newer:m", "its version is `2.0.0`", "name another folder"),
        ("oci:~/torn:m", "`index.json`: ", "name another folder"),
        ("oci:~/blocked:m", "`~/blocked/blobs` is not a folder", "name another place"),
    ];
    for (to, cause, remedy) in cases {
        assert_unusable(&bench, &at(to), &[&at(cause), &format!("remedy: {remedy}")]);
    }
    let disk = SmallDisk::new(1);
    disk.read_only();
    for form in ["oci", "oci-archive", "docker-archive"] {
        let to = format!("{form}:{}/x", disk.path().display());
        assert_unusable(&bench, &to, &["nothing can be written in `", "because: Read-only file system", "remedy: name a place in which"]);
    }
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_in_which_the_user_may_not_write_is_refused_before_anything_is_read() {
    let bench = unreadable();
    let closed = bench.path("closed");
    fs::create_dir(&closed).unwrap();
    // Root may write everywhere: then somebody else builds, with a home and an hs that he may use.
    let is_root = tool("id", &["-u"]).trim() == "0";
    let hs = bench.path("hs");
    fs::copy(env!("CARGO_BIN_EXE_hs"), &hs).unwrap();
    if is_root {
        let _ = fs::remove_dir_all(bench.path(".cache"));
        chown(bench.home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let run = |to: &str| {
        let mut command = if is_root { Command::new("setpriv") } else { Command::new("env") };
        if is_root {
            command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups");
        }
        command.arg(&hs).args(bench.words(&["--runtime", "scratch", "--to", to]));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", bench.home.path());
        Ran::of(command.output().unwrap())
    };
    for form in ["oci", "oci-archive", "docker-archive"] {
        let to = format!("{form}:{}/x", closed.display());
        let ran = run(&to);
        let cause = format!("because: nothing can be written in `{}`\n  because: Permission denied", closed.display());
        assert!(ran.code == 2 && ran.stderr.contains(&format!("error: the image cannot go to `{to}`")), "{ran:#?}");
        assert!(ran.stdout.is_empty() && ran.stderr.contains(&cause), "{ran:#?}");
        // Where he may, he is heard about his model.
        assert_eq!(run(&format!("{form}:{}/x", bench.path("open").display())).code, if form == "oci" { 3 } else { 2 });
    }
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
}

#[test]
fn two_words_for_one_place_are_refused_before_anything_is_read() {
    let bench = unreadable();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(bench.path("folder")).unwrap();
    symlink(bench.path("folder"), outside.path().join("link")).unwrap();
    let at = |text: &str| text.replace("~~", outside.path().to_str().unwrap()).replace('~', bench.home.path().to_str().unwrap());
    for (first, second, said) in [
        ("127.0.0.1:1/m", "127.0.0.1:1/m:latest", "are the same place"),
        ("oci:~/layout:m", "oci:~/folder/../layout:m", "are the same place"),
        ("oci-archive:~/folder/x.tar", "docker-archive:~~/link/x.tar:m:1", "are the same place"),
        ("oci:~/folder:m", "oci-archive:~~/link/x.tar", "is inside of"),
    ] {
        let (first, second) = (at(first), at(second));
        let quoted = [format!("`{first}`"), format!("`{second}`")];
        bench.fails(&["--to", &first, "--to", &second], 2, &[&quoted[0], &quoted[1], said, "remedy: name "]);
    }
    bench.fails(&["--to", &format!("127.0.0.1:1/m@sha256:{}", "0".repeat(64))], 2, &["names a digest", "remedy: name a tag"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_met_before_the_first_place_is_written() {
    let bench = Bench::new();
    let (layout, dead) = (format!("oci:{}:m", bench.path("layout").display()), free_address());
    let ran = bench.build(&["--runtime", "scratch", "--to", &layout, "--to", &format!("{dead}/m:1")]);
    assert!(!ran.stderr.contains("Sealing") && ran.stderr.contains("no connection"), "{ran:#?}");
    bench.fails(&["--runtime", "scratch", "--to", &layout, "--to", &format!("{dead}/m:1")], 4, &["no connection"]);

    // One that is there is asked once, and then sent what it lacks; a model that is none costs no question.
    let registry = FaultRegistry::start(Faults::default()).await;
    let tap = WireTap::before(&registry.address()).await;
    let to = format!("{}/m:1", tap.address());
    bench.json(&["--runtime", "scratch", "--to", &to, "--to", &layout]);
    assert_eq!(registry.count(Method::HEAD, "/manifests/1"), 1);
    assert_unpacks(Copied::from(&layout));
    tap.forget();
    fs::write(bench.path("model/serving.yaml"), "model: [").unwrap();
    assert_eq!(bench.build(&["--runtime", "scratch", "--to", &to]).code, 3);
    assert_eq!(tap.seen(), []);
}

#[test]
fn a_disk_that_fills_leaves_what_was_written_before_and_the_error_says_where() {
    let (bench, disk) = (Bench::new(), SmallDisk::new(1));
    fs::write(bench.path("model/weights.bin"), noise(4 << 20)).unwrap();
    let first = format!("oci:{}:m", bench.path("first").display());
    let full = format!("oci-archive:{}", disk.path().join("image.tar").display());
    let third = format!("oci-archive:{}", bench.path("third.tar").display());
    let ran = bench.build(&["--runtime", "scratch", "--to", &first, "--to", &full, "--to", &third]);
    let said = format!("error: the image could not be put at `{full}`; it is at `{first}`\n");
    assert!(ran.code == 1 && ran.stdout.is_empty() && ran.stderr.contains(&said), "{ran:#?}");
    assert!(ran.stderr.contains("because: No space left on device"), "{ran:#?}");
    assert_whole(&first);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    assert!(!bench.path("third.tar").exists());
    // The first place that fails says that there is no other, and so does one that is alone, in its own words.
    let ran = bench.build(&["--runtime", "scratch", "--to", &full, "--to", &third]);
    assert!(ran.code == 1 && ran.stderr.contains(&format!("could not be put at `{full}`, and is nowhere else\n")), "{ran:#?}");
    let ran = bench.build(&["--runtime", "scratch", "--to", &full]);
    assert!(ran.code == 1 && ran.stderr.contains("error: cannot write `"), "{ran:#?}");
    assert!(!bench.path("third.tar").exists() && fs::read_dir(disk.path()).unwrap().count() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_dies_in_the_middle_leaves_what_was_written_before() {
    let bench = Bench::new();
    let registry = FaultRegistry::start(Faults { refusals: vec![burst(Method::PUT, "/manifests/", 99, 405)], ..Faults::default() }).await;
    let (first, last) = (format!("oci:{}:m", bench.path("first").display()), format!("oci:{}:m", bench.path("last").display()));
    let dies = format!("{}/m:1", registry.address());
    let ran = bench.build(&["--runtime", "scratch", "--to", &first, "--to", &dies, "--to", &last]);
    assert!(
        ran.code == 4 && ran.stderr.contains(&format!("error: the image could not be put at `{dies}`; it is at `{first}`\n")),
        "{ran:#?}"
    );
    assert_whole(&first);
    assert!(!bench.path("last").exists() && registry.kept().manifests.is_empty());
}

#[test]
fn an_image_for_several_platforms_goes_nowhere_where_one_place_holds_one_only() {
    let bench = Bench::new();
    let two = [Base::new("amd64", &[Packed::Plain]), Base::new("arm64", &[Packed::Plain])];
    bases::write_layout(&bench.path("bases"), "base", &two);
    let base = format!("oci:{}:base", bench.path("bases").display());
    let layout = format!("oci:{}:m", bench.path("layout").display());
    let docker = format!("docker-archive:{}:m:1", bench.path("image.tar").display());
    let words = ["--runtime", &base, "--to", &layout, "--to", &docker];
    let said = format!("error: `{docker}` holds one platform, and the image is for linux/amd64, linux/arm64");
    bench.fails(&words, 2, &[&said, "remedy: name one with `--platform`"]);
    bench.json(&[&words[..], &["--platform", "linux/amd64"]].concat());
    assert_eq!(images::config(&layout)["architecture"], "amd64");
    assert!(Path::new(&bench.path("image.tar")).is_file());
}

/// Every blob is there, and the model's files come out.
fn assert_whole(image: &str) {
    let root = Copied::from(image).unpack();
    assert!(root.join("model/contract.protobin").is_file() && root.join("model/files/src/func_main.py").is_file(), "{image}");
}
