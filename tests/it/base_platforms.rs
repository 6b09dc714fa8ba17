//! A name that holds a base for several platforms: `hs base import --add-platform`, and what is built on such a base.
//!
//! Bases of a few bytes; none of their programs is run, so the machine need not be able to.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::bases::{self, Base, Packed};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::Home;
use crate::support::models;

const NAME: &str = "serving-runtime-python:3.11";

/// A layout with a base for one platform; `text` tells it from others.
fn layout(home: &Home, architecture: &'static str, text: &str) -> String {
    let folder = home.path().join(format!("{architecture}-{text}"));
    let mut base = Base::new(architecture, &[Packed::Gzip]);
    base.layers[0].1 = format!("{text} of {architecture}\n");
    bases::write_layout(&folder, "base", &[base]);
    format!("oci:{}:base", folder.display())
}

fn import(home: &Home, source: &str, more: &[&str]) -> Value {
    home.json(["base", "import", "--name", NAME, source].iter().chain(more))
}

fn blob(layout: &Path, digest: &Value) -> Value {
    let path = layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The architectures of the image that a layout's one tag names, and what it says its base was.
fn built(layout: &Path) -> (Vec<Value>, Value) {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let top = blob(layout, &index["manifests"][0]["digest"]);
    let manifests = match top["manifests"].as_array() {
        Some(manifests) => manifests.iter().map(|manifest| blob(layout, &manifest["digest"])).collect(),
        None => vec![top.clone()],
    };
    let architectures = manifests.iter().map(|manifest| blob(layout, &manifest["config"]["digest"])["architecture"].clone()).collect();
    (architectures, top["annotations"]["org.opencontainers.image.base.digest"].clone())
}

#[test]
fn platforms_that_are_added_in_any_order_are_the_same_base_and_builds_choose() {
    let (home, other) = (Home::new(), Home::new());
    let (amd64, arm64) = (layout(&home, "amd64", "first"), layout(&home, "arm64", "first"));
    let alone = import(&home, &amd64, &[])["digest"].clone();
    let both = import(&home, &arm64, &["--add-platform"]);
    assert_eq!(both["platforms"], json!(["linux/amd64", "linux/arm64"]));
    assert_eq!(import(&other, &arm64, &["--add-platform"])["platforms"], json!(["linux/arm64"]));
    assert_eq!(import(&other, &amd64, &["--add-platform"])["digest"], both["digest"]);
    let rows = home.json(["base", "list"])["runtimes"].clone();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == NAME).unwrap();
    assert_eq!((&row["imported"], &row["imported_platforms"]), (&both["digest"], &both["platforms"]));
    assert!(home.hs(["base", "list"]).stdout.contains("for linux/amd64, linux/arm64"));

    let model = home.path().join("model");
    models::small(&model);
    let build = |name: &str, more: &[&str]| {
        let folder = home.path().join(name);
        let to = format!("oci:{}:m", folder.display());
        home.json(["build", model.to_str().unwrap(), "--runtime", NAME, "--to", &to].iter().chain(more));
        built(&folder)
    };
    assert_eq!(build("all", &[]), (vec![json!("amd64"), json!("arm64")], both["digest"].clone()));
    assert_eq!(build("one", &["--platform", "linux/arm64"]).0, [json!("arm64")]);

    // The same platform again is replaced, and an import without the flag replaces all.
    let changed = import(&home, &layout(&home, "arm64", "second"), &["--add-platform"]);
    assert!(changed["platforms"] == both["platforms"] && changed["digest"] != both["digest"], "{changed:#}");
    assert_eq!(import(&home, &arm64, &["--add-platform"])["digest"], both["digest"]);
    assert_eq!(import(&home, &amd64, &[])["digest"], alone);
    let ran = home.hs(["build", model.to_str().unwrap(), "--runtime", NAME, "--platform", "linux/arm64", "--dry-run"]);
    assert!(ran.code == 2 && ran.stderr.contains("is for linux/amd64, not for linux/arm64"), "{ran:#?}");
    assert!(ran.stderr.contains("`hs base import --add-platform`"), "{ran:#?}");
}

#[test]
fn a_platform_is_added_to_what_a_layout_and_a_registry_have() {
    let (registry, home) = (DockerRegistry::start(), Home::new());
    let (amd64, arm64) = (layout(&home, "amd64", "first"), layout(&home, "arm64", "first"));
    let expected = {
        import(&home, &amd64, &[]);
        import(&home, &arm64, &["--add-platform"])["digest"].clone()
    };
    for to in [format!("oci:{}:both", home.path().join("both").display()), format!("{}/bases/python:3.11", registry.address())] {
        let there = Home::new();
        // Neither the folder nor the repository is there before the first.
        import(&there, &arm64, &["--add-platform", "--to", &to]);
        assert_eq!(import(&there, &amd64, &["--add-platform", "--to", &to])["digest"], expected, "{to}");
        // Whole: each layer of both platforms can be read from there.
        assert_eq!(import(&there, &to, &[])["digest"], expected, "{to}");
        assert_eq!(import(&there, &arm64, &["--add-platform"])["digest"], expected, "{to}");
    }
}

#[test]
fn what_no_platform_can_be_added_to_is_said_and_stays_as_it_is() {
    let home = Home::new();
    let (amd64, arm64) = (layout(&home, "amd64", "first"), layout(&home, "arm64", "first"));
    let refused = |words: &[&str], code: i32, said: &str| {
        let ran = home.hs(["base", "import", "--name", NAME, "--add-platform"].iter().chain(words));
        assert!(ran.code == code && ran.stderr.contains(said), "{words:?} {ran:#?}");
    };
    let archive = home.path().join("base.tar");
    let to = format!("oci-archive:{}:b", archive.display());
    refused(&[&arm64, "--to", &to], 2, "is an archive");
    assert!(!archive.exists());
    refused(&[&arm64, "--to", "oci:one:b", "--to", "oci:other:b"], 2, "one place at a time");

    // A layout that is damaged is not taken for an empty one.
    let damaged = home.path().join("damaged");
    import(&home, &amd64, &["--to", &format!("oci:{}:b", damaged.display())]);
    fs::write(damaged.join("index.json"), b"{").unwrap();
    let ran = home.hs(["base", "import", "--name", NAME, "--add-platform", &arm64, "--to", &format!("oci:{}:b", damaged.display())]);
    assert!(ran.code != 0 && ran.stderr.contains("is not an OCI image layout"), "{ran:#?}");
    assert_eq!(fs::read(damaged.join("index.json")).unwrap(), b"{");

    // Nor is one that has lost the base which its tag names.
    let torn = home.path().join("torn");
    let digest = import(&home, &amd64, &["--to", &format!("oci:{}:b", torn.display())])["digest"].clone();
    fs::remove_file(torn.join("blobs").join(digest.as_str().unwrap().replace(':', "/"))).unwrap();
    let before = fs::read(torn.join("index.json")).unwrap();
    refused(&[&arm64, "--to", &format!("oci:{}:b", torn.display())], 4, "reading the platforms of");
    assert_eq!(fs::read(torn.join("index.json")).unwrap(), before);

    // A model's image at the place is no base to be added to.
    let (model, place) = (home.path().join("model"), format!("oci:{}:m", home.path().join("image").display()));
    models::small(&model);
    import(&home, &amd64, &[]);
    home.json(["build", model.to_str().unwrap(), "--runtime", NAME, "--to", &place]);
    refused(&[&arm64, "--to", &place], 3, "is the image of a model");
}
