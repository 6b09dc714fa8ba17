//! Whose Python is run to compile packages, and what it needs of this machine: a base is a program of somebody's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::bytecode::{cached, layers, model, words};
use crate::support::hs::Serve;
use crate::support::hs::tool;
use crate::support::outside::ended;
use crate::support::python_base::{self, NAME};

const UNKNOWN: &str = "the packages are not compiled: the base is not one that was imported here, is locked, or lies where the settings say, and is not run; a container compiles what it imports at each start";

#[test]
fn a_base_that_a_model_brings_is_not_run_until_the_machine_knows_it() {
    let home = python_base::user();
    let (folder, wheels) = model(&home);
    let brought = format!("oci:{}:{NAME}", folder.join("base").display());
    python_base::import(&home, false, Some(&brought));
    let mut words = words(&home, &folder, &wheels);
    words[5].clone_from(&brought);
    let strange = home.json(&words);
    assert_eq!((layers(&strange, "bytecode"), &strange["warnings"]), (vec![], &json!([UNKNOWN])));
    assert_eq!((cached(&home, "interpreters"), cached(&home, "bytecode")), (BTreeSet::new(), BTreeSet::new()));
    // The same base, once its owner has imported it: known by its digest, wherever it is read from.
    home.json(["base", "import", "--name", NAME, &brought]);
    let known = home.json(&words);
    assert_eq!((layers(&known, "bytecode").len(), &known["warnings"]), (1, &json!([])));
    assert_eq!(known["base"], strange["base"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_was_pushed_is_no_base_of_the_service() {
    let home = python_base::user();
    let (folder, wheels) = model(&home);
    let layout = format!("oci:{}:{NAME}", home.path().join("strange").display());
    python_base::import(&home, true, Some(&layout));
    let service = Serve::start(&home, &["--wheels", wheels.to_str().unwrap()]);
    let (url, place) = (service.url(), format!("docker://{}/{NAME}", service.address));
    let push = ["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &layout, &place];
    let upload = || home.hs(["upload", folder.to_str().unwrap(), "--server", &url, "--runtime", NAME]);
    // Anybody may push here, under any name; it makes nothing a runtime.
    tool("skopeo", &push);
    let ran = upload();
    assert!(ran.code == 4 && ran.stderr.contains("is neither imported here nor in a mirror"), "{ran:#?}");
    assert!(!home.data().join("interpreters").exists());
    // What the owner imports takes the name, and keeps it.
    python_base::import(&home, false, None);
    let pushed = std::process::Command::new("skopeo").args(push).output().unwrap();
    assert!(!pushed.status.success(), "{pushed:?}");
    let ran = upload();
    assert_eq!(ran.code, 0, "{ran:#?}");
    let versions = ended(&url, "m").await;
    let compiled: Vec<&Value> = versions.iter().filter(|version| version["status"] == "Finished").collect();
    assert_eq!((compiled.len(), layers(&compiled[0]["report"], "bytecode").len()), (1, 1), "{versions:#?}");
    // The owner himself may import another, also where an import was killed before it was noted.
    fs::remove_file(home.data().join("runtimes.json")).unwrap();
    python_base::import(&home, true, None);
    // A model's version keeps its name, whoever imports.
    let ran = home.hs(["base", "import", "--name", "m:2", &layout]);
    assert!(ran.code == 4 && ran.stderr.contains("`m:2` is a version of a model here"), "{ran:#?}");
}

#[test]
fn a_platform_whose_python_cannot_be_run_here_gets_the_bytecode_of_its_sibling() {
    let home = python_base::user();
    python_base::import_for(&home, "arm64", true, &[]);
    let (folder, wheels) = model(&home);
    let words = words(&home, &folder, &wheels);
    assert_eq!(home.hs(&words).code, 2, "alone it cannot be compiled for");
    python_base::import_for(&home, "amd64", false, &["--add-platform"]);
    let document = home.json(&words);
    let images = document["images"].as_array().unwrap();
    let bytecode: BTreeSet<String> = images.iter().flat_map(|image| layers(&json!({"images": [image]}), "bytecode")).collect();
    assert_eq!((images.len(), bytecode.len(), &document["warnings"]), (2, 1, &json!([])), "{document:#}");
}

#[test]
fn wherever_the_cache_lies_the_image_is_the_same_and_what_is_damaged_there_is_made_again() {
    let home = python_base::user();
    python_base::import(&home, false, None);
    let (folder, wheels) = model(&home);
    let words = words(&home, &folder, &wheels);
    let digest = home.json(&words)["digest"].clone();
    // A relative path, and characters at which loaders and Python split theirs.
    for place in ["relative", "with:colon;and space"] {
        let mut command = home.command();
        let path = if place == "relative" { place.into() } else { home.path().join(place) };
        command.current_dir(home.path()).env("XDG_CACHE_HOME", path).args(["--output", "json"]).args(&words);
        let output = command.output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{place}: {output:?}"));
        assert_eq!(document["digest"], digest, "{place}");
        assert!(home.path().join(place).join("lamina/bytecode").is_dir(), "{place}");
    }
    let cache = home.path().join(".cache/lamina");
    let python = fs::read_dir(cache.join("interpreters")).unwrap().next().unwrap().unwrap().path().join("python");
    fs::write(&python, b"").unwrap();
    fs::remove_dir_all(cache.join("bytecode")).unwrap();
    assert_eq!(home.json(&words)["digest"], digest, "taken out of the base once more");
    assert!(fs::metadata(&python).unwrap().len() > 0);
    // Where nothing can be kept, it is made and not kept.
    fs::remove_dir_all(&cache).unwrap();
    fs::write(&cache, b"a file in the folder's place").unwrap();
    fs::set_permissions(home.path().join(".cache"), fs::Permissions::from_mode(0o555)).unwrap();
    let again = home.json(&words);
    assert_eq!((&again["digest"], &again["warnings"]), (&digest, &json!([])));
    fs::set_permissions(home.path().join(".cache"), fs::Permissions::from_mode(0o755)).unwrap();
}
