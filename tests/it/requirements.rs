//! `requirements.txt` becomes the layer of `/model/lib`: real wheels, held against what pip makes of the same lock, and read by everybody's tools.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use lamina::oci::digest::Digest;
use reqwest::header::RANGE;
use serde_json::{Value, json};

use crate::service::{archive, payload};
use crate::support::bases::{self, Base, Packed};
use crate::support::hs::{Home, Serve, tool};
use crate::support::images::{self, Copied, Listing};
use crate::support::models;
use crate::support::outside::{client, ended, whole_image};
use crate::support::python_packages::{self as packages, Index, RESOLVERS, SMALL};

const REQUIREMENTS: &str = "jmespath\npsutil>=6\ntabulate\nsix==1.17.0\nMarkupSafe\n";

/// Reads a layer as Python does, holds each RECORD against the files, and counts these.
const READER: &str = r#"
import base64, csv, gzip, hashlib, sys, tarfile
with tarfile.open(fileobj=gzip.open(sys.argv[1])) as tar:
    files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
recorded = set()
for record in [name for name in files if name.endswith(".dist-info/RECORD")]:
    for path, digest, size in csv.reader(files[record].decode().splitlines()):
        path = "model/lib/" + path
        recorded.add(path)
        if path != record:
            found = base64.urlsafe_b64encode(hashlib.sha256(files[path]).digest()).rstrip(b"=").decode()
            assert (digest, size) == ("sha256=" + found, str(len(files[path]))), path
assert recorded == set(files), recorded ^ set(files)
print(len(files))
"#;

/// Builds a model from wheels of a folder into a layout; the document, and the image's name.
fn build(home: &Home, model: &Path, wheels: &Path) -> (Value, String) {
    let to = format!("oci:{}:m", home.path().join("layout").display());
    let words = ["build", model.to_str().unwrap(), "--wheels", wheels.to_str().unwrap(), "--to", &to];
    (home.json(words), to)
}

/// The fields of RECORD by path, but for files that are an installer's own.
fn recorded(listing: &Listing, path: &str) -> BTreeMap<String, String> {
    let (bytes, _) = listing[path].as_ref().unwrap();
    let lines = std::str::from_utf8(bytes).unwrap().lines().map(|line| line.split_once(',').unwrap());
    // pip installs elsewhere and moves: its scripts are above its packages.
    let lines = lines.map(|(path, rest)| (path.trim_start_matches("../").to_owned(), rest.to_owned()));
    let is_own = |path: &str| path.starts_with("bin/") || path.ends_with("/INSTALLER") || path.ends_with("/REQUESTED");
    lines.filter(|(path, _)| !is_own(path)).collect()
}

/// Every file is pip's, byte for byte and with its mode, but for those in which an installer speaks of itself: INSTALLER and RECORD, the scripts' first line, and
/// REQUESTED, which says that a package was named by hand.
fn assert_as_pip_installs(mut ours: Listing, mut pips: Listing) {
    pips.retain(|path, _| !path.ends_with(".dist-info/REQUESTED"));
    let names = |listing: &Listing| listing.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&ours), names(&pips));
    for path in names(&ours) {
        if path.ends_with(".dist-info/RECORD") {
            assert_eq!(recorded(&ours, &path), recorded(&pips, &path), "{path}");
        }
        let own = path.ends_with(".dist-info/RECORD") || path.ends_with(".dist-info/INSTALLER") || path.starts_with("bin/");
        let (Some(our), Some(pip)) = (ours.remove(&path).unwrap(), pips.remove(&path).unwrap()) else { continue };
        assert_eq!(our.1, pip.1, "the mode of {path}");
        assert!(own || our.0 == pip.0, "the bytes of {path}");
        // A script that came with its package is the same from the second line on.
        if path.ends_with(".py") && own {
            let after = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').map(|at| bytes[at..].to_vec());
            assert_eq!(after(&our.0), after(&pip.0), "{path}");
        }
    }
}

/// Builds, compares with pip, and has Python read the layer; what was unpacked by umoci.
fn compare_with_pip(requirements: &str, wheels: &Path) -> images::Unpacked {
    let home = packages::user("uv");
    let model = home.path().join("model");
    packages::model(&model, requirements);
    let (document, image) = build(&home, &model, wheels);
    let layer = packages::layer(&document);
    let copied = Copied::from(&image);
    let blob = copied.blob(layer["digest"].as_str().unwrap());
    assert_eq!(blob.len() as u64, layer["size_bytes"].as_u64().unwrap());
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&blob[..]), &mut tar).unwrap();
    assert_eq!(layer["diff_id"], Digest::of(&tar).to_string());
    assert_eq!(images::config(&image)["rootfs"]["diff_ids"][2], layer["diff_id"], "base, contract, packages");

    let (file, pips) = (home.path().join("layer.tar.gz"), home.path().join("pips"));
    fs::write(&file, &blob).unwrap();
    packages::installed_by_pip(&model.join("requirements.lock"), wheels, &pips);
    let unpacked = copied.unpack();
    let ours = images::listing(&unpacked.join("model/lib"));
    let files = ours.values().flatten().count();
    assert_as_pip_installs(ours, images::listing(&pips));
    let counted = tool(packages::program("python").to_str().unwrap(), &["-c", READER, file.to_str().unwrap()]);
    assert_eq!(counted.trim(), files.to_string());
    unpacked
}

#[test]
fn the_packages_are_those_that_pip_installs_and_their_scripts_run() {
    let wheels = packages::wheels(&SMALL, false);
    let root = compare_with_pip(REQUIREMENTS, &wheels);
    let lib = root.join("model/lib");
    let run = |variable: &str, script: &str| tool("env", &[variable, lib.join("bin").join(script).to_str().unwrap(), "--help"]);
    assert!(
        run("PYTHONPATH=", "tabulate").contains("Pretty-print tabular data"),
        "a console script finds the package above its own folder"
    );
    // A file that the wheel brings as a script is the wheel's own, and wants to be told.
    assert!(run(&format!("PYTHONPATH={}", lib.display()), "jp.py").contains("expression"));
}

#[test]
fn a_pull_gives_the_model_back_without_its_packages() {
    let (home, wheels) = (packages::user("uv"), packages::wheels(&SMALL, false));
    let model = home.path().join("model");
    packages::model(&model, REQUIREMENTS);
    let (_, image) = build(&home, &model, &wheels);
    let back = home.path().join("back");
    home.json(["pull", &image, back.to_str().unwrap()]);
    let names = |folder: &Path| images::listing(folder).into_keys().collect::<BTreeSet<_>>();
    // The payload, and what says the contract, since no file of the payload does: no lock, no package.
    let expected = ["contract.protobin", "requirements.txt", "src", "src/func_main.py"].map(str::to_owned);
    let expected = BTreeSet::from(expected);
    assert_eq!(names(&back), expected);
    for path in ["requirements.txt", "src/func_main.py"] {
        assert_eq!(fs::read(back.join(path)).unwrap(), fs::read(model.join(path)).unwrap(), "{path}");
    }
}

#[test]
fn slow_numpy_and_scikit_learn_are_those_that_pip_installs() {
    let wheels = packages::wheels(&packages::SCIKIT_LEARN, true);
    let root = compare_with_pip("numpy\nscikit-learn==1.5.2\n", &wheels);
    assert!(root.join("model/lib/sklearn/linear_model/__init__.py").is_file());
}

#[test]
fn with_no_network_at_all_a_folder_of_wheels_is_enough_for_either_resolver() {
    let wheels = packages::wheels(&SMALL, false);
    let (mut locks, mut digests) = (BTreeSet::new(), BTreeSet::new());
    for resolver in RESOLVERS {
        let home = packages::user(resolver);
        let model = home.path().join("model");
        packages::model(&model, REQUIREMENTS);
        let to = format!("oci:{}:m", home.path().join("layout").display());
        let plain = home.command();
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]).arg(plain.get_program()).args(["--output", "json", "build"]);
        command.arg(&model).arg("--wheels").arg(&wheels).args(["--to", &to]).env_clear().stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{resolver}: {}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["requirements"]["origin"], "resolved");
        assert_eq!(document["requirements"]["lock"], model.join("requirements.lock").to_str().unwrap());
        let expected = ["jmespath 1.0.1", "markupsafe 3.0.2", "psutil 6.1.1", "six 1.17.0", "tabulate 0.9.0"];
        assert_eq!(document["requirements"]["packages"], json!(expected));
        digests.insert(document["digest"].as_str().unwrap().to_owned());
        locks.insert(fs::read_to_string(model.join("requirements.lock")).unwrap());
    }
    assert_eq!((digests.len(), locks.len()), (1, 1), "{locks:#?}");
}

#[test]
fn folders_of_wheels_may_stand_in_the_settings_and_packages_may_be_left_out() {
    let wheels = packages::wheels(&SMALL, false);
    let home = packages::user("off");
    let model = home.path().join("model");
    packages::model(&model, "six\n");
    let name = "six-1.17.0-py2.py3-none-any.whl";
    let digest = Digest::of(&fs::read(wheels.join(name)).unwrap());
    fs::write(model.join("requirements.lock"), format!("six==1.17.0 --hash={digest}\n")).unwrap();
    let config = home.path().join("config.yaml");
    fs::write(&config, format!("wheels_dirs: ['{}']\n", wheels.display())).unwrap();
    let words = ["build", model.to_str().unwrap(), "--config", config.to_str().unwrap(), "--dry-run"];
    let document = home.json(words);
    assert_eq!(document["requirements"]["packages"], json!(["six 1.17.0"]));
    packages::layer(&document);
    let without = home.json([&words[..], &["--no-requirements"]].concat());
    assert_eq!(without["requirements"], Value::Null);
    let said = "the packages of `requirements.txt` are not installed, as was asked: the runtime must have them";
    assert!(without["warnings"].as_array().unwrap().contains(&json!(said)), "{without:#}");
    // With neither a lock nor a resolver it is said what is missing.
    fs::remove_file(model.join("requirements.lock")).unwrap();
    let ran = home.hs(words);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
    assert!(ran.stderr.contains("neither uv nor pip was found") && ran.stderr.contains("HS_UV"), "{ran:#?}");
}

#[test]
fn a_second_build_asks_no_index_and_needs_no_resolver() {
    let index = Index::of(&packages::wheels(&SMALL, false));
    let home = packages::user_of("uv", &index);
    let model = home.path().join("model");
    // With no `payload` list all of the folder is shipped, and the lock is not.
    models::small(&model);
    fs::write(model.join("requirements.txt"), REQUIREMENTS).unwrap();
    let to = format!("oci:{}:m", home.path().join("layout").display());
    let words = ["build", model.to_str().unwrap(), "--runtime", "serving-runtime-python:3.11", "--to", &to];
    let first = home.json(words);
    assert_eq!(first["requirements"]["origin"], "resolved");
    let asked = index.asked();
    assert!(asked > 5, "the wheels came from the index");
    let home = home.with("HS_UV", "off").with("HS_PIP", "off");
    let second = home.json(words);
    assert_eq!((&second["digest"], &second["requirements"]["origin"]), (&first["digest"], &json!("folder")));
    assert_eq!((index.asked(), &second["transfer"]["sent_bytes"]), (asked, &json!(0)));
    // What was fetched lies in the cache once, and nothing was left beside it.
    let cache = home.path().join(".cache/lamina/wheels");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), SMALL.len());
    drop(index);
    fs::remove_dir_all(home.path().join(".cache/lamina/layers")).unwrap();
    assert_eq!(home.json(words)["digest"], first["digest"], "sealed again from the cache, with nobody to ask");
}

#[test]
fn a_base_of_two_platforms_gets_the_packages_of_each() {
    let wheels = tempfile::tempdir().unwrap();
    for folder in [packages::wheels(&SMALL, false), packages::wheels_of("aarch64", &["MarkupSafe==3.0.2"])] {
        for wheel in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            fs::copy(wheel.path(), wheels.path().join(wheel.file_name())).unwrap();
        }
    }
    let (mut locks, mut digests) = (BTreeSet::new(), BTreeSet::new());
    for resolver in RESOLVERS {
        let home = packages::user(resolver);
        let (model, base) = (home.path().join("model"), home.path().join("base"));
        packages::model(&model, "MarkupSafe\nsix\n");
        bases::write_layout(&base, "serving-runtime-python:3.11", &["amd64", "arm64"].map(|machine| Base::new(machine, &[Packed::Plain])));
        let (base, to) =
            (format!("oci:{}:serving-runtime-python:3.11", base.display()), format!("oci:{}:m", home.path().join("layout").display()));
        home.json(["base", "import", "--name", "serving-runtime-python:3.11", &base]);
        let words = ["build", model.to_str().unwrap(), "--to", &to];
        let built = home.json([&words[..], &["--wheels", wheels.path().to_str().unwrap()]].concat());
        let layers: Vec<&Value> =
            built["images"].as_array().unwrap().iter().flat_map(|image| image["layers"].as_array().unwrap()).collect();
        let packages: BTreeSet<&str> =
            layers.iter().filter(|layer| layer["purpose"] == "requirements").map(|layer| layer["digest"].as_str().unwrap()).collect();
        assert_eq!((built["images"].as_array().unwrap().len(), packages.len()), (2, 2), "{built:#}");
        let again = home.json([&words[..], &["--wheels", wheels.path().to_str().unwrap()]].concat());
        assert_eq!((&again["digest"], &again["requirements"]["origin"]), (&built["digest"], &json!("folder")));
        locks.insert(fs::read_to_string(model.join("requirements.lock")).unwrap());
        digests.insert(built["digest"].as_str().unwrap().to_owned());
    }
    assert_eq!((locks.len(), digests.len()), (1, 1), "{locks:#?}");
}

#[test]
fn what_is_for_other_machines_alone_makes_no_layer_and_an_extra_that_is_none_is_said() {
    let wheels = packages::wheels(&SMALL, false);
    for resolver in RESOLVERS {
        let home = packages::user(resolver);
        let model = home.path().join("model");
        let words = ["build", model.to_str().unwrap(), "--dry-run", "--wheels", wheels.to_str().unwrap()];
        packages::model(&model, "pywin32>=300 ; sys_platform == 'win32'\nsix ; python_version < '3'\n");
        let built = home.json(words);
        assert_eq!(built["requirements"], Value::Null);
        assert!(built["images"][0]["layers"].as_array().unwrap().iter().all(|layer| layer["purpose"] != "requirements"), "{built:#}");
        packages::model(&model, "six[foo]\n");
        let built = home.json(words);
        assert_eq!(built["requirements"]["packages"], json!(["six 1.17.0"]));
        assert!(built["warnings"].to_string().contains("foo"), "{resolver}: {built:#}");
    }
}

#[test]
fn paths_in_settings_are_from_where_the_user_is() {
    let wheels = packages::wheels(&SMALL, false);
    for resolver in RESOLVERS {
        let home = packages::user(resolver).with("PIP_FIND_LINKS", wheels.file_name().unwrap().to_str().unwrap());
        let home = home.with("PIP_CONSTRAINT", "constraints.txt").with("UV_CONSTRAINT", "constraints.txt");
        let model = home.path().join("model");
        packages::model(&model, "tabulate\n");
        let here = home.path().join("here");
        fs::create_dir(&here).unwrap();
        std::os::unix::fs::symlink(&wheels, here.join(wheels.file_name().unwrap())).unwrap();
        fs::write(here.join("constraints.txt"), "tabulate<1\n").unwrap();
        let output = home.command().args(["build", model.to_str().unwrap(), "--dry-run"]).current_dir(&here).output().unwrap();
        assert!(output.status.success(), "{resolver}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_is_not_installed_may_say_anything() {
    let home = packages::user("off");
    let model = home.path().join("model");
    packages::model(&model, "git+https://example.invalid/x.git\n-e .\nnumpy==\n");
    let built = home.json(["build", model.to_str().unwrap(), "--dry-run", "--no-requirements"]);
    assert!(built["warnings"].to_string().contains("are not installed, as was asked"), "{built:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_serves_the_layer_whole_and_in_ranges() {
    let wheels = packages::wheels(&SMALL, false);
    let home = packages::user("uv");
    let model = home.path().join("model");
    packages::model(&model, REQUIREMENTS);
    let service = Serve::start(&home, &["--wheels", wheels.to_str().unwrap()]);
    let uploaded = home.json(["upload", model.to_str().unwrap(), "--server", &service.url()]);
    assert_eq!(uploaded["status"], "Finished", "{uploaded:#}");
    let versions = ended(&service.url(), "m").await;
    let layer = packages::layer(&versions[0]["report"]);
    let (built, _) = build(&home, &model, &wheels);
    assert_eq!(packages::layer(&built), layer, "the same layer as `hs build` makes");

    let host = service.address.to_string();
    let (_, manifest) = whole_image(&host, "m", "1").await;
    let (digest, size_bytes) = (layer["digest"].as_str().unwrap(), layer["size_bytes"].as_u64().unwrap());
    assert!(manifest["layers"].as_array().unwrap().iter().any(|layer| layer["digest"] == digest));
    let get = async |range: Option<String>| {
        let mut request = client().get(format!("{}/v2/m/blobs/{digest}", service.url()));
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    let (status, whole) = get(None).await;
    assert_eq!((status, Digest::of(&whole).to_string().as_str()), (200, digest));
    for (begin, end) in [(0, 0), (1, 4096), (100_000, 250_001), (size_bytes - 7, size_bytes - 1)] {
        let (status, part) = get(Some(format!("bytes={begin}-{end}"))).await;
        assert!(status == 206 && part == whole[begin as usize..=end as usize], "{begin}-{end}: {status}");
    }
    // A client of the last ancestor has no `serving.yaml` in its archive, and says how to install in its metadata.
    let files: [(&str, &[u8]); 3] = [
        ("contract.prototxt", models::CONTRACT.as_bytes()),
        ("src/func_main.py", b"def infer(x):\n    return x\n"),
        ("needs.txt", REQUIREMENTS.as_bytes()),
    ];
    let said = json!({"name": "n", "modelType": "python:3.11", "installCommand": "pip install -r needs.txt"});
    let form = payload(archive(&files)).text("metadata", said.to_string());
    let answer = client().post(format!("{}/api/v2/model/upload", service.url())).multipart(form).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(packages::layer(&ended(&service.url(), "n").await[0]["report"]), layer);
    // skopeo and umoci take it from there.
    let root = Copied::from(&format!("docker://{host}/m:1")).unpack();
    assert!(tool(root.join("model/lib/bin/tabulate").to_str().unwrap(), &["--help"]).contains("Pretty-print"));
}
