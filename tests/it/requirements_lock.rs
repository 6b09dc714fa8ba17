//! Which packages a model gets, and who decides it: its lock, the lock of an earlier version, an index that grows; and what is refused before anything is pushed.

use std::fs;
use std::path::{Path, PathBuf};

use lamina::build::collect::collect;
use lamina::catalog::catalog::Catalog;
use lamina::disk::store::Store;
use lamina::oci::digest::Digest;
use serde_json::{Value, json};

use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Ran, Serve, tool};
use crate::support::outside::{ended, tags, whole_image};
use crate::support::python_packages::{self as packages, Index, OLDER, RESOLVERS, SMALL};
use crate::support::shelves::{GRACE, age, assert_whole};
use crate::support::wire_tap::WireTap;

const OLD: &str = "tabulate-0.8.10-py3-none-any.whl";
const NEW: &str = "tabulate-0.9.0-py3-none-any.whl";

/// A wheel's path.
fn wheel(name: &str) -> PathBuf {
    packages::wheels(if name == OLD { &OLDER } else { &SMALL }, false).join(name)
}

fn build(home: &Home, model: &Path) -> Value {
    let to = format!("oci:{}:m", home.path().join("layout").display());
    home.json(["build", model.to_str().unwrap(), "--to", &to])
}

#[test]
fn a_newer_wheel_in_the_index_changes_nothing_between_two_builds() {
    let mut digests = Vec::new();
    for resolver in RESOLVERS {
        let index = Index::of(wheel(OLD).parent().unwrap());
        let home = packages::user_of(resolver, &index);
        let model = home.path().join("model");
        packages::model(&model, "tabulate>=0.8\n");
        let first = build(&home, &model);
        assert_eq!(first["requirements"]["packages"], json!(["tabulate 0.8.10"]));
        let lock = fs::read(model.join("requirements.lock")).unwrap();
        index.add(&wheel(NEW));
        let asked = index.asked();
        let second = build(&home, &model);
        assert_eq!((&second["digest"], &second["requirements"]["origin"]), (&first["digest"], &json!("folder")), "{resolver}");
        assert_eq!((fs::read(model.join("requirements.lock")).unwrap(), index.asked()), (lock, asked));
        // On another machine, with the lock and that index; where the lock is gone, the newer one is what is chosen.
        let other = packages::user_of(resolver, &index);
        assert_eq!(build(&other, &model)["digest"], first["digest"]);
        fs::remove_file(model.join("requirements.lock")).unwrap();
        let anew = build(&other, &model);
        assert_eq!(anew["requirements"]["packages"], json!(["tabulate 0.9.0"]));
        assert_ne!(packages::layer(&anew), packages::layer(&first));
        // Other requirements make the lock worthless, and it is written anew.
        fs::write(model.join("requirements.txt"), "tabulate<0.9\n").unwrap();
        let narrowed = build(&other, &model);
        assert_eq!((&narrowed["requirements"]["origin"], packages::layer(&narrowed)), (&json!("resolved"), packages::layer(&first)));
        digests.push(first["digest"].clone());
    }
    assert_eq!(digests[0], digests[1], "both resolvers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_wheel_in_the_index_changes_nothing_between_two_uploads_and_a_collection_keeps_the_packages() {
    let index = Index::of(wheel(OLD).parent().unwrap());
    let home = packages::user_of("uv", &index);
    let model = home.path().join("model");
    packages::model(&model, "tabulate>=0.8\n");
    let mut service = Serve::start(&home, &[]);
    let upload = |service: &Serve| home.json(["upload", model.to_str().unwrap(), "--server", &service.url()]);
    assert_eq!(upload(&service)["status"], "Finished");
    index.add(&wheel(NEW));
    assert_eq!(upload(&service)["status"], "Finished");
    let versions = ended(&service.url(), "m").await;
    assert_eq!(
        versions[0]["report"]["images"][0]["layers"], versions[1]["report"]["images"][0]["layers"],
        "but for the number they are one"
    );
    assert_eq!(versions[1]["report"]["requirements"]["packages"], json!(["tabulate 0.8.10"]));
    // With the same number it is the image that `hs build` makes of that lock.
    let lock = versions[1]["report"]["requirements"]["lock"].as_str().unwrap();
    fs::write(model.join("requirements.lock"), lock).unwrap();
    let to = format!("oci:{}:m", home.path().join("layout").display());
    let built = home.json(["build", model.to_str().unwrap(), "--version", "2", "--to", &to]);
    assert_eq!(built["digest"], versions[1]["report"]["images"][0]["digest"]);
    fs::remove_file(model.join("requirements.lock")).unwrap();

    // What the layer is made of is needed, however old it is; the cache of wheels is not.
    service.kill();
    let (store, catalog) = (Store::open(&home.data()).unwrap(), Catalog::open(&home.data().join("catalog.sqlite")).await.unwrap());
    age(&home.data());
    let store = std::sync::Arc::new(store);
    collect(&catalog, &store, GRACE).await.unwrap();
    fs::remove_dir_all(home.data().join("wheels")).unwrap();
    assert_eq!(assert_whole(&store), ["m:1", "m:2", "serving-runtime-python:3.11"]);
    let service = Serve::start(&home, &[]);
    whole_image(&service.address.to_string(), "m", "2").await;
    // The wheel is fetched again for what is built next, and it is the same.
    assert_eq!(upload(&service)["status"], "Finished");
    let versions = ended(&service.url(), "m").await;
    assert_eq!(packages::layer(&versions[2]["report"]), packages::layer(&versions[0]["report"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_else_wrote_wins_over_the_index() {
    let index = Index::of(packages::wheels(&SMALL, false).as_path());
    index.add(&wheel(OLD));
    let home = packages::user_of("uv", &index);
    let model = home.path().join("model");
    packages::model(&model, "tabulate\n");
    let hash = |name: &str| Digest::of(&fs::read(wheel(name)).unwrap());
    let lock = format!("# made by hand\ntabulate==0.8.10 \\\n    --hash=sha256:{} \\\n    --hash={}\n", "0".repeat(64), hash(OLD));
    fs::write(model.join("requirements.lock"), &lock).unwrap();
    let built = build(&home, &model);
    assert_eq!((&built["requirements"]["origin"], &built["requirements"]["packages"]), (&json!("folder"), &json!(["tabulate 0.8.10"])));
    assert_eq!(fs::read_to_string(model.join("requirements.lock")).unwrap(), lock, "it is not ours to write");
    // It goes with an upload, and with the version to the one after it.
    let service = Serve::start(&home, &[]);
    for at in 0..2 {
        assert_eq!(home.json(["upload", model.to_str().unwrap(), "--server", &service.url()])["status"], "Finished");
        let versions = ended(&service.url(), "m").await;
        assert_eq!(packages::layer(&versions[at]["report"]), packages::layer(&built));
        let _ = fs::remove_file(model.join("requirements.lock"));
    }
}

#[test]
fn settings_that_somebody_left_among_the_temporary_files_are_not_read() {
    let index = Index::of(&packages::wheels(&SMALL, false));
    let home = packages::user_of("uv", &index);
    let (temporary, model) = (home.path().join("temporary"), home.path().join("model"));
    let others_python = temporary.join(".venv/bin/python");
    fs::create_dir_all(others_python.parent().unwrap()).unwrap();
    fs::write(temporary.join("uv.toml"), "offline = true\n").unwrap();
    fs::write(temporary.join(".venv/pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    let witness = temporary.join("it-was-run");
    fs::write(&others_python, format!("#!/bin/sh\ntouch {}\n", witness.display())).unwrap();
    tool("chmod", &["+x", others_python.to_str().unwrap()]);
    packages::model(&model, "six\n");
    let home = home.with("TMPDIR", temporary.to_str().unwrap());
    assert_eq!(build(&home, &model)["requirements"]["packages"], json!(["six 1.17.0"]));
    assert!(!witness.exists(), "another user's program");
}

/// A registry behind a tap, and an index that a test may spoil.
struct Refusals {
    index: Index,
    registry: DockerRegistry,
    tap: WireTap,
}

impl Refusals {
    async fn new() -> Refusals {
        let registry = DockerRegistry::start();
        let tap = WireTap::before(registry.address()).await;
        Refusals { index: Index::of(&packages::wheels(&SMALL, false)), registry, tap }
    }

    /// That a build towards the registry is refused with this code and these words, and that the registry was sent nothing.
    #[track_caller]
    fn refused(&self, home: &Home, model: &Path, more: &[&str], code: i32, said: &[&str]) -> Ran {
        let to = format!("{}/m:1", self.tap.address());
        let ran = home.hs([&["build", model.to_str().unwrap(), "--to", &to], more].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:#?}");
        for said in said {
            assert!(ran.stderr.contains(said), "{said}: {ran:#?}");
        }
        let seen = self.tap.seen();
        assert!(seen.iter().all(|request| matches!(request.method.as_str(), "GET" | "HEAD")), "{seen:?}");
        assert_eq!(self.registry.blobs(), 0);
        ran
    }
}

/// An archive of sources, as an index has it for packages that nobody has built.
fn sources(name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join(name);
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("PKG-INFO"), "Metadata-Version: 2.1\nName: onlysource\nVersion: 1.0\n").unwrap();
    // Who runs this gives himself away.
    fs::write(inner.join("setup.py"), "raise SystemExit('code of the package was run')\n").unwrap();
    let archive = folder.path().join("archive.tar.gz");
    tool("tar", &["-czf", archive.to_str().unwrap(), "-C", folder.path().to_str().unwrap(), name]);
    fs::read(archive).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requirement_without_a_wheel_is_refused_before_anything_is_pushed() {
    let bench = Refusals::new().await;
    bench.index.write("onlysource-1.0.tar.gz", &sources("onlysource-1.0"));
    for resolver in RESOLVERS {
        let home = packages::user_of(resolver, &bench.index);
        let model = home.path().join("model");
        packages::model(&model, "six\nonlysource==1.0\n");
        let sentence = "`onlysource==1.0` has no wheel for Python 3.11, glibc 2.36, x86_64: ";
        let remedy = "remedy: require a version that has one, or build the wheel (`pip wheel`) and name its folder with `--wheels`";
        let ran = bench.refused(&home, &model, &[], 3, &["error: installing the model's requirements\n", sentence, remedy]);
        assert!(!ran.stderr.contains("was run"), "{ran:#?}");
        assert_eq!(ran.stderr.lines().filter(|line| line.contains("onlysource")).count(), 1, "{ran:#?}");
        assert!(!model.join("requirements.lock").exists());
    }
    // The service says the same, and has an image of nothing.
    let home = packages::user_of("uv", &bench.index);
    let model = home.path().join("model");
    packages::model(&model, "onlysource\n");
    let service = Serve::start(&home, &[]);
    let ran = home.hs(["upload", model.to_str().unwrap(), "--server", &service.url()]);
    assert!(
        ran.code != 0
            && ran.stderr.contains("`onlysource==1.0` has no wheel for Python 3.11, glibc 2.36, x86_64: none of its files is one"),
        "{ran:#?}"
    );
    let versions = ended(&service.url(), "m").await;
    assert_eq!((versions.len(), &versions[0]["status"]), (1, &json!("Failed")));
    assert_eq!(tags(&service.address.to_string(), "m").await, Vec::<u64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_that_do_not_go_together_or_name_places_are_refused() {
    let bench = Refusals::new().await;
    for (resolver, requirements, code, said) in [
        ("uv", "tabulate>=0.9,<0.9\n", 3, "the requirements cannot be met for Python 3.11, glibc 2.36, x86_64"),
        ("uv", "six\n-r other.txt\n", 3, "`requirements.txt`, line 2"),
        ("pip", "six @ https://example.invalid/six-1-py3-none-any.whl\n", 3, "`requirements.txt`, line 1"),
    ] {
        let home = packages::user_of(resolver, &bench.index);
        let model = home.path().join("model");
        packages::model(&model, requirements);
        bench.refused(&home, &model, &[], code, &[said, "remedy: "]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wheel_that_is_damaged_or_another_than_was_locked_is_refused() {
    let bench = Refusals::new().await;
    let good = fs::read(wheel(NEW)).unwrap();
    let wheels = tempfile::tempdir().unwrap();
    let in_folder = wheels.path().join(NEW);
    let home = packages::user("off");
    let model = home.path().join("model");
    packages::model(&model, "tabulate\n");
    let lock =
        |bytes: &[u8]| fs::write(model.join("requirements.lock"), format!("tabulate==0.9.0 --hash={}\n", Digest::of(bytes))).unwrap();
    let folder = ["--wheels", wheels.path().to_str().unwrap()];
    // A byte of the first file's packed bytes, and an end that never came.
    let mut torn = good.clone();
    torn[2000] ^= 0x55;
    for (bytes, said) in
        [(torn.as_slice(), "damaged: the file that becomes `/model/lib/tabulate/__init__.py`"), (&good[..20_000], "is damaged or refused")]
    {
        fs::write(&in_folder, bytes).unwrap();
        lock(bytes);
        bench.refused(&home, &model, &folder, 3, &[said, "remedy: "]);
    }
    // The folder has another file than the lock means.
    fs::write(&in_folder, &torn).unwrap();
    fs::write(model.join("requirements.lock"), format!("tabulate==0.9.0 --hash={0}\n    # wheel: {0} {NEW}\n", Digest::of(&good))).unwrap();
    let said =
        [format!("the lock wants {} for `tabulate` 0.9.0, and ", Digest::of(&good)), format!("has `{NEW}` with {}", Digest::of(&torn))];
    bench.refused(&home, &model, &folder, 3, &[&said[0], &said[1], "remedy: remove the lock"]);
    // And so has the index: somebody changed it after it was locked.
    let home = packages::user_of("uv", &bench.index);
    fs::remove_file(model.join("requirements.lock")).unwrap();
    let (document, elsewhere) = (build(&home, &model), packages::user_of("uv", &bench.index));
    assert_eq!(document["requirements"]["origin"], "resolved");
    bench.index.write(NEW, &torn);
    let said = [format!("must be {}, and what came is {}", Digest::of(&good), Digest::of(&torn)), "remedy: a mirror or a proxy".to_owned()];
    bench.refused(&elsewhere, &model, &[], 4, &[&said[0], &said[1]]);
    let cache = elsewhere.path().join(".cache/lamina/wheels");
    assert_eq!(fs::read_dir(cache).unwrap().count(), 0, "what is wrong is not kept");
    assert_eq!(build(&home, &model)["digest"], document["digest"], "who has the right one needs no other");
}
