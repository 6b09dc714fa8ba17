//! One model, one name, one version, one base: one digest, whoever builds it, where, when and how; and nothing is sent twice.
//!
//! `hs` runs as a process of its own each time, in the circumstances that the test names.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::bases::{self, Base, Packed};
use crate::support::client::noise;
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, tool};
use crate::support::images::{self, Copied};
use crate::support::models::{self, File};
use crate::support::wire_tap::WireTap;

/// The image of [`models::rich`] as version 3 on the base of [`Bench`]. It changes only when the bytes of images change for all users: with an entry in
/// the changelog, or by mistake.
const GOLDEN: &str = "sha256:a85b873eef72851297ba21d9fc96770a86e38235c908f8257b06ac4b5c44be00";
/// For the commands that are not put together by [`Home::json`].
const JSON: [&str; 2] = ["--output", "json"];
/// The user `nobody`, on each Linux.
const NOBODY: u32 = 65534;

/// A folder that all users may read, with the base and the model in it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        bases::write_layout(&folder.path().join("base"), "serving-runtime-python:3.11", &[Base::new("amd64", &[Packed::Plain])]);
        let (files, empty) = models::rich();
        models::write(&folder.path().join("model"), &files, &empty);
        Bench { folder }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn base(&self) -> String {
        format!("oci:{}:serving-runtime-python:3.11", self.path("base").display())
    }

    /// The words after `hs --output json` that build `model`.
    fn words(&self, model: &Path) -> Vec<String> {
        let words = ["build", model.to_str().unwrap(), "--version", "3", "--runtime", &self.base()];
        words.map(str::to_owned).to_vec()
    }

    fn build(&self, home: &Home, model: &Path) -> Value {
        home.json(self.words(model))
    }

    fn digest(&self, home: &Home, model: &Path) -> String {
        digest(&self.build(home, model))
    }
}

fn digest(document: &Value) -> String {
    document["digest"].as_str().unwrap().to_owned()
}

/// What a command prints, which must succeed.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_golden_digest() {
    let bench = Bench::new();
    assert_eq!(bench.digest(&Home::new(), &bench.path("model")), GOLDEN);
}

#[test]
fn another_folder_order_and_time_stamp_give_the_same_digest() {
    let bench = Bench::new();
    let (mut files, mut empty) = models::rich();
    files.reverse();
    empty.reverse();
    let elsewhere = bench.path("a folder/with another name");
    models::write(&elsewhere, &files, &empty);
    for (at, (path, ..)) in files.iter().enumerate() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567 * (at as u64 + 1), 987_654_321);
        fs::File::open(elsewhere.join(path)).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(bench.digest(&Home::new(), &elsewhere), GOLDEN);
    // As most people call it: in the folder, without naming it.
    let mut words = bench.words(Path::new("."));
    words.retain(|word| word != ".");
    let inside = output(Home::new().command().args(JSON).args(words).current_dir(&elsewhere));
    assert_eq!(digest(&serde_json::from_str(&inside).unwrap()), GOLDEN);
}

#[test]
fn another_user_with_another_umask_gets_the_same_digest() {
    let bench = Bench::new();
    // What this user may read, the other one may not: each needs an hs and a home of its own.
    let hs = bench.path("hs");
    fs::copy(env!("CARGO_BIN_EXE_hs"), &hs).unwrap();
    let home = bench.path("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    let me: u32 = tool("id", &["-u"]).trim().parse().unwrap();
    let (mut command, other) = if me == 0 {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups");
        (command, NOBODY)
    } else {
        // A user who is not root may still be it, in a name space of its own.
        let mut command = Command::new("unshare");
        command.arg("--map-root-user");
        (command, 0)
    };
    // The folder is the other user's own, and nobody else may read it.
    let script = "id -u; umask 077; cp -r \"$1\" \"$HOME/model\"; stat -c %u:%a \"$HOME/model/serving.yaml\" \"$HOME/model/bin/tool.sh\"; shift; exec \"$@\"";
    command.args(["sh", "-euc", script, "sh"]).arg(bench.path("model")).arg(&hs).args(JSON).args(bench.words(&home.join("model")));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &home);
    let printed = output(&mut command);
    let mut lines = printed.splitn(4, '\n');
    assert_eq!(lines.next().unwrap(), other.to_string(), "another user");
    assert_eq!(lines.next().unwrap(), format!("{other}:600"), "another mode");
    assert_eq!(lines.next().unwrap(), format!("{other}:700"));
    assert_eq!(digest(&serde_json::from_str(lines.next().unwrap()).unwrap()), GOLDEN);
    assert_ne!(me, other);
}

#[test]
fn threads_processors_locale_and_time_zone_do_not_matter() {
    let bench = Bench::new();
    let model = bench.path("model");
    for variables in [
        [("TOKIO_WORKER_THREADS", "1"), ("LC_ALL", "C"), ("LANG", "C"), ("TZ", "UTC")],
        [("TOKIO_WORKER_THREADS", "13"), ("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8"), ("TZ", "Pacific/Kiritimati")],
        [("TOKIO_WORKER_THREADS", "2"), ("LC_ALL", "C.UTF-8"), ("LANG", "de_DE@euro"), ("TZ", "America/St_Johns")],
    ] {
        let home = variables.iter().fold(Home::new(), |home, (name, value)| home.with(name, *value));
        assert_eq!(bench.digest(&home, &model), GOLDEN, "{variables:?}");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first = allowed.split([',', '-']).next().unwrap();
    let mut one_processor = Command::new("taskset");
    one_processor.args(["-c", first]).arg(env!("CARGO_BIN_EXE_hs")).args(JSON).args(bench.words(&model)).env("HOME", bench.path("home"));
    assert_eq!(digest(&serde_json::from_str(&output(&mut one_processor)).unwrap()), GOLDEN);
}

#[test]
fn source_date_epoch_is_the_instant_of_everything() {
    let bench = Bench::new();
    let epoch = "1700000000";
    let layout = bench.path("out");
    let mut words = bench.words(&bench.path("model"));
    words.extend(["--to".to_owned(), format!("oci:{}:image", layout.display())]);
    let document = Home::new().with("SOURCE_DATE_EPOCH", epoch).json(&words);
    assert_ne!(digest(&document), GOLDEN);
    assert_eq!(bench.digest(&Home::new().with("SOURCE_DATE_EPOCH", epoch), &bench.path("model")), digest(&document));
    assert_eq!(bench.digest(&Home::new().with("SOURCE_DATE_EPOCH", "0"), &bench.path("model")), GOLDEN);
    let image = format!("oci:{}:image", layout.display());
    let (manifest, config) = (images::raw(&image), images::config(&image));
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(manifest["annotations"]["org.opencontainers.image.created"], "2023-11-14T22:13:20Z");
    assert!(config["history"].as_array().unwrap()[2..].iter().all(|entry| entry["created"] == "2023-11-14T22:13:20Z"));
    let copied = Copied::from(&image);
    for layer in &manifest["layers"].as_array().unwrap()[1..] {
        assert!(copied.layer(layer).iter().all(|(_, entry)| entry.modified_s == 1_700_000_000));
    }
    let ran = Home::new().with("SOURCE_DATE_EPOCH", "yesterday").hs(&words);
    assert_eq!((ran.code, ran.stderr.contains("SOURCE_DATE_EPOCH is `yesterday`")), (2, true), "{ran:#?}");
}

#[test]
fn where_it_goes_does_not_matter() {
    let bench = Bench::new();
    let (one, other) = (DockerRegistry::start(), DockerRegistry::start());
    let mut words = bench.words(&bench.path("model"));
    let places = [
        format!("{}/model:1", one.address()),
        format!("{}/somewhere/else:another-tag", other.address()),
        format!("oci:{}:x", bench.path("layout").display()),
    ];
    words.extend(places.iter().flat_map(|place| ["--to".to_owned(), place.clone()]));
    let document = Home::new().json(words);
    assert_eq!(digest(&document), GOLDEN);
    for place in &places[..2] {
        assert_eq!(images::inspect(&format!("docker://{place}"))["Digest"], GOLDEN);
    }
}

/// The model on a base in a registry that is listened to.
async fn tapped(bench: &Bench) -> (DockerRegistry, WireTap, String) {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    bases::push(&format!("{}/serving-runtime-python:3.11", registry.address()), &[Base::new("amd64", &[Packed::Plain])]);
    let base = format!("{}/serving-runtime-python:3.11", tap.address());
    assert!(bench.path("model").is_dir());
    (registry, tap, base)
}

fn push(bench: &Bench, base: &str, to: &str) -> Value {
    let model = bench.path("model");
    Home::new().json(["build", model.to_str().unwrap(), "--version", "3", "--runtime", base, "--to", to])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_push_sends_no_byte_and_opens_no_upload() {
    let bench = Bench::new();
    let (registry, tap, base) = tapped(&bench).await;
    let to = format!("{}/model:1", tap.address());
    let first = push(&bench, &base, &to);
    assert_eq!(digest(&first), GOLDEN, "a base in a registry and one in a layout are the same base");
    assert!(tap.body_bytes() > 9 << 20);
    let kept = registry.blobs();

    tap.forget();
    let second = push(&bench, &base, &to);
    assert_eq!(digest(&second), GOLDEN);
    assert_eq!((tap.body_bytes(), tap.count("POST"), tap.count("PUT"), tap.count("PATCH")), (0, 0, 0, 0), "{:?}", tap.seen());
    assert_eq!((&second["transfer"]["sent_bytes"], &second["transfer"]["mounted_bytes"]), (&0.into(), &0.into()));
    assert!(second["transfer"]["skipped_bytes"].as_u64().unwrap() > 9 << 20);

    // Under another tag: the manifest alone, whose blobs are all there.
    tap.forget();
    let third = push(&bench, &base, &format!("{}/model:2", tap.address()));
    assert_eq!(digest(&third), GOLDEN);
    assert_eq!((tap.count("POST"), tap.count("PUT"), tap.count("PATCH")), (0, 1, 0), "{:?}", tap.seen());
    let put = tap.seen().into_iter().find(|seen| seen.method == "PUT").unwrap();
    assert!(put.target.ends_with("/manifests/2") && put.body_bytes == tap.body_bytes(), "{put:?}");
    assert_eq!(third["transfer"]["sent_bytes"], 0);
    assert_eq!((registry.blobs(), registry.uploads_left("model")), (kept, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_one_file_changes_its_layer_the_config_and_the_manifest() {
    let bench = Bench::new();
    // Enough of small files for several layers of them.
    let more: Vec<File> = (0..10).map(|n| (format!("megabytes/{n}"), noise(1 << 20), false)).collect();
    models::write(&bench.path("model"), &more, &[]);
    let (registry, tap, base) = tapped(&bench).await;
    let to = format!("{}/model:1", tap.address());
    let mut before = push(&bench, &base, &to);
    let layers = |document: &Value| -> BTreeSet<String> {
        let layers = document["images"][0]["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    };
    assert!(layers(&before).len() >= 6, "the base's, the contract's, a large file's, several of small ones: {before:#}");
    for (path, bytes) in [("large.bin", noise((9 << 20) + 1)), ("parts/part-07", b"changed".to_vec()), ("megabytes/3", noise(1000))] {
        fs::write(bench.path("model").join(path), bytes).unwrap();
        tap.forget();
        let after = push(&bench, &base, &to);
        let (old, new) = (layers(&before), layers(&after));
        assert_eq!((old.difference(&new).count(), new.difference(&old).count()), (1, 1), "{path}");
        assert_ne!((&before["images"][0]["config_digest"], &before["digest"]), (&after["images"][0]["config_digest"], &after["digest"]));
        // The layer and the config as uploads, then the manifest.
        assert_eq!((tap.count("POST"), tap.count("PATCH"), tap.count("PUT")), (2, 0, 3), "{path}: {:?}", tap.seen());
        before = after;
    }
    assert_eq!(registry.uploads_left("model"), 0);
}
