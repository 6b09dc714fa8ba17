//! What is wrong with requirements, told as what it is: a slip by its line, a hash with both sides, a file by its name; and nothing of it goes anywhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use lamina::oci::digest::Digest;
use serde_json::json;

use crate::support::hs::{Home, Ran, Serve};
use crate::support::models;
use crate::support::outside::{catalog_rows, ended, listing};
use crate::support::python_packages::{self as packages, Index, RESOLVERS, SMALL};

const SIX: &str = "six-1.17.0-py2.py3-none-any.whl";

/// A build that goes nowhere.
fn build(home: &Home, model: &Path, more: &[&str]) -> Ran {
    home.hs([&["build", model.to_str().unwrap(), "--dry-run"], more].concat())
}

/// That a run was refused with this code and these words.
#[track_caller]
fn refused(ran: &Ran, code: i32, said: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:#?}");
    for said in said {
        assert!(ran.stderr.contains(said), "{said}: {ran:#?}");
    }
}

fn digest_of(wheel: &str) -> Digest {
    Digest::of(&fs::read(packages::wheels(&SMALL, false).join(wheel)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_is_told_by_line_and_column_before_a_resolver_is_asked_and_before_an_upload_has_a_number() {
    // Whoever asks a resolver here is told that there is none, with another code.
    let home = packages::user("off");
    let model = home.path().join("model");
    let service = Serve::start(&home, &[]);
    packages::model(&model, "six\n");
    let (files, rows) = (listing(&home.data()), catalog_rows(&home.data()).await);
    for (requirements, said) in [
        (
            "six\nnumpy; python_versoin > \"3\"\n",
            "line 2, column 8: `numpy; python_versoin > \"3\"`: `python_versoin` is no variable of a marker",
        ),
        ("six\nnumpy==\n", "line 2, column 8: `numpy==`: a version is missing here"),
        ("numpy>=1,<two\n", "line 1, column 11: `numpy>=1,<two`: `<two`: this is no version"),
        ("numpy[extra\n", "line 1, column 12: `numpy[extra`: a `,` or the `]` of the extras is expected here"),
        ("numpy \\\n  ; sys_platform = 'linux'\n", "line 2, column 18: "),
    ] {
        packages::model(&model, requirements);
        refused(&build(&home, &model, &[]), 3, &["`requirements.txt`, ", said, "remedy: "]);
        let ran = home.hs(["upload", model.to_str().unwrap(), "--server", &service.url()]);
        refused(&ran, 3, &[said]);
    }
    // A lock as well.
    packages::model(&model, "six\n");
    fs::write(model.join("requirements.lock"), format!("six==1.17.0 ; python_versoin > '3' --hash={}\n", digest_of(SIX))).unwrap();
    refused(&build(&home, &model, &[]), 3, &["the lock `requirements.lock`, line 1: "]);
    refused(&home.hs(["upload", model.to_str().unwrap(), "--server", &service.url()]), 3, &["the lock `requirements.lock`, line 1: "]);
    assert_eq!((listing(&home.data()), catalog_rows(&home.data()).await), (files, rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_service_is_told_no_path_of_its_machine() {
    let wheels = tempfile::tempdir().unwrap();
    fs::write(wheels.path().join(SIX), b"PK\x03\x04").unwrap();
    for (resolver, requirements, said) in [
        ("pip", "six\n", "the wheel `six-1.17.0-py2.py3-none-any.whl` is damaged"),
        ("uv", "six\n", "the wheel `six-1.17.0-py2.py3-none-any.whl` is damaged"),
        ("pip", "tabulate\n", "`tabulate`"),
        ("uv", "tabulate>1,<1\n", "cannot be met"),
    ] {
        let home = packages::user(resolver);
        let model = home.path().join("model");
        packages::model(&model, requirements);
        let service = Serve::start(&home, &["--wheels", wheels.path().to_str().unwrap()]);
        let ran = home.hs(["upload", model.to_str().unwrap(), "--server", &service.url()]);
        assert!(ran.code != 0 && ran.stderr.contains(said), "{ran:#?}");
        let version = ended(&service.url(), "m").await.remove(0).to_string();
        for path in [wheels.path(), home.data().as_path(), packages::program("uv").parent().unwrap()] {
            let path = path.to_str().unwrap();
            assert!(!ran.stderr.contains(path) && !version.contains(path), "{path}: {ran:#?} {version}");
        }
    }
    // What is no program is named for the operator, and not for the client.
    let home = packages::user("off").with("HS_UV", "/nonexistent/of/the/operator/uv");
    let model = home.path().join("model");
    packages::model(&model, "six\n");
    let service = Serve::start(&home, &[]);
    let ran = home.hs(["upload", model.to_str().unwrap(), "--server", &service.url()]);
    assert!(ran.code != 0 && ran.stderr.contains("HS_UV") && !ran.stderr.contains("/nonexistent"), "{ran:#?}");
}

#[test]
fn a_hash_of_the_requirements_is_held_by_either_resolver() {
    let index = Index::of(&packages::wheels(&SMALL, false));
    let (right, wrong) = (digest_of(SIX), Digest::of(b"another wheel"));
    for resolver in RESOLVERS {
        let home = packages::user_of(resolver, &index);
        let model = home.path().join("model");
        packages::model(&model, &format!("six==1.17.0 --hash={wrong}\n"));
        let said = [
            format!("must be {wrong}, and what there is is {right}"),
            "the hashes of the requirements do not hold: `six==1.17.0`".to_owned(),
        ];
        refused(&build(&home, &model, &[]), 3, &[&said[0], &said[1], "remedy: "]);
        packages::model(&model, &format!("six==1.17.0 --hash={wrong} \\\n  --hash={right}\n"));
        let built = home.json(["build", model.to_str().unwrap(), "--dry-run"]);
        assert_eq!(built["requirements"]["packages"], json!(["six 1.17.0"]));
        packages::model(&model, &format!("six==1.17.0 --hash={right}\ntabulate==0.9.0\n"));
        refused(&build(&home, &model, &[]), 3, &["line 2, column 1: `tabulate==0.9.0`: this requirement has no hash, and others have"]);
    }
}

#[test]
fn a_hash_of_a_lock_that_is_of_other_bytes_is_told_with_both() {
    let wheels = packages::wheels(&SMALL, false);
    let index = Index::of(&wheels);
    let (right, wrong) = (digest_of(SIX), Digest::of(b"another wheel"));
    for resolver in RESOLVERS {
        for lock in [format!("six==1.17.0 --hash={wrong}\n"), format!("six==1.17.0 --hash={wrong}\n    # wheel: {wrong} {SIX}\n")] {
            let home = packages::user_of(resolver, &index);
            let model = home.path().join("model");
            packages::model(&model, "six\n");
            fs::write(model.join("requirements.lock"), &lock).unwrap();
            let said = [format!("the lock wants {wrong} for `six` 1.17.0, and "), format!("has `{SIX}` with {right}")];
            refused(&build(&home, &model, &[]), 3, &[&said[0], &said[1], "remedy: remove the lock"]);
            let folder = wheels.to_str().unwrap();
            refused(&build(&home, &model, &["--wheels", folder]), 3, &[&said[0], &said[1], "remedy: remove the lock"]);
        }
    }
}

#[test]
fn a_folder_of_wheels_that_is_none_is_named_before_anything_else_happens() {
    let home = packages::user("off");
    let (gone, file) = (home.path().join("gone"), home.path().join(SIX));
    fs::write(&file, "").unwrap();
    let config = home.path().join("config.yaml");
    fs::write(&config, format!("wheels_dirs: ['{}']\n", gone.display())).unwrap();
    // There is no model either, which is not what is told.
    let build = ["build", "/nonexistent/model", "--to", "oci:/nonexistent/layout"];
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    for words in [&build[..], &serve[..]] {
        for (more, said) in [(&gone, "cannot be read"), (&file, "is not a folder")] {
            let named = format!("`{}`", more.display());
            refused(&home.hs([words, &["--wheels", more.to_str().unwrap()]].concat()), 2, &[&named, said, "remedy: "]);
        }
        refused(&home.hs([words, &["--config", config.to_str().unwrap()]].concat()), 2, &["gone`"]);
    }
    let model = home.path().join("model");
    packages::model(&model, "six\n");
    refused(&home.hs(["run", model.to_str().unwrap(), "--wheels", gone.to_str().unwrap()]), 2, &["gone`"]);
    let home = home.with("HS_WHEELS", gone.to_str().unwrap());
    refused(&home.hs(build), 2, &["gone`"]);
    refused(&home.hs(serve), 2, &["gone`"]);
}

#[test]
fn a_wheel_of_a_folder_that_cannot_be_read_is_named() {
    let whole = fs::read(packages::wheels(&SMALL, false).join(SIX)).unwrap();
    for resolver in RESOLVERS {
        for (what, said) in
            [("cut", "is damaged"), ("empty", "is damaged"), ("link", "a link to what is not there"), ("folder", "is a folder")]
        {
            let home = packages::user(resolver);
            let (model, wheels) = (home.path().join("model"), home.path().join("wheels"));
            packages::model(&model, "six\n");
            fs::create_dir(&wheels).unwrap();
            let wheel = wheels.join(SIX);
            match what {
                "cut" => fs::write(&wheel, &whole[..3000]).unwrap(),
                "empty" => fs::write(&wheel, "").unwrap(),
                "link" => symlink("/nonexistent/wheel", &wheel).unwrap(),
                _ => fs::create_dir(&wheel).unwrap(),
            }
            let ran = build(&home, &model, &["--wheels", wheels.to_str().unwrap()]);
            refused(&ran, 3, &[wheel.to_str().unwrap(), said, "remedy: put the whole file there"]);
            // The same with a lock, and no resolver to stumble.
            fs::write(model.join("requirements.lock"), format!("six==1.17.0 --hash={0}\n    # wheel: {0} {SIX}\n", digest_of(SIX)))
                .unwrap();
            let ran = build(&home.with("HS_UV", "off").with("HS_PIP", "off"), &model, &["--wheels", wheels.to_str().unwrap()]);
            refused(&ran, 3, &[SIX, "remedy: "]);
        }
    }
}

#[test]
fn a_resolver_that_cannot_be_run_is_named_with_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    for variable in ["HS_UV", "HS_PIP"] {
        for (value, said) in [
            ("/nonexistent/resolver", "cannot be run"),
            ("no-such-program-anywhere", "cannot be run"),
            (plain.to_str().unwrap(), "cannot be run"),
            (folder.path().to_str().unwrap(), "cannot be run"),
            ("/bin/false", "says nothing and ends with"),
            ("/bin/true", "is not understood"),
        ] {
            let home = packages::user("off").with(variable, value);
            let model = home.path().join("model");
            packages::model(&model, "six\n");
            refused(&build(&home, &model, &[]), 2, &[&format!("`{value}`, which {variable} names,"), said, "remedy: "]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_and_locks_are_read_in_the_encodings_that_pip_reads() {
    let wheels = packages::wheels(&SMALL, false);
    let folder = wheels.to_str().unwrap();
    let wide = |text: &str| [vec![0xff, 0xfe], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    let marked = |text: &str| [b"\xef\xbb\xbf".to_vec(), text.as_bytes().to_vec()].concat();
    let home = packages::user("uv");
    let model = home.path().join("model");
    let lines = "# größer\r\nsix==1.17.0\r\ntabulate \\\r\n  >= 0.9\r\n";
    let service = Serve::start(&home, &["--wheels", folder]);
    for (at, bytes) in [wide(lines), marked(lines), lines.as_bytes().to_vec()].into_iter().enumerate() {
        packages::model(&model, "");
        fs::write(model.join("requirements.txt"), &bytes).unwrap();
        let _ = fs::remove_file(model.join("requirements.lock"));
        let to = format!("oci:{}:m", home.path().join(at.to_string()).display());
        let built = home.json(["build", model.to_str().unwrap(), "--wheels", folder, "--to", &to]);
        assert_eq!(built["requirements"]["packages"], json!(["six 1.17.0", "tabulate 0.9.0"]));
        // The lock is for the bytes as they are, and is read in the same encodings.
        let lock = fs::read_to_string(model.join("requirements.lock")).unwrap();
        assert!(lock.contains(&format!("# requirements: {}", Digest::of(&bytes))), "{lock}");
        for lock in [wide(&lock.replace('\n', "\r\n")), marked(&lock)] {
            fs::write(model.join("requirements.lock"), lock).unwrap();
            let again = home.json(["build", model.to_str().unwrap(), "--wheels", folder, "--dry-run"]);
            assert_eq!((&again["requirements"]["origin"], &again["digest"]), (&json!("folder"), &built["digest"]));
        }
        fs::write(model.join("requirements.lock"), wide(&lock)).unwrap();
        assert_eq!(home.json(["upload", model.to_str().unwrap(), "--server", &service.url()])["status"], "Finished");
        let versions = ended(&service.url(), "m").await;
        assert_eq!(packages::layer(&versions[at]["report"]), packages::layer(&built));
    }
    fs::write(model.join("requirements.txt"), &wide("six\n")[2..]).unwrap();
    refused(&build(&home, &model, &[]), 3, &["`requirements.txt` is not text in UTF-8 or UTF-16", "remedy: "]);
}

#[test]
fn requirements_that_ask_for_nothing_are_no_matter() {
    let home = Home::new();
    let model = home.path().join("model");
    models::small(&model);
    for text in ["", "# nothing yet\n\n   # still nothing\n"] {
        fs::write(model.join("requirements.txt"), text).unwrap();
        for more in [&[][..], &["--no-requirements"]] {
            let built = home.json([&["build", model.to_str().unwrap(), "--dry-run", "--no-contract"], more].concat());
            let warnings = built["warnings"].to_string();
            assert!(!warnings.contains("requirements.txt") && built["requirements"].is_null(), "{warnings}");
        }
    }
    fs::write(model.join("requirements.txt"), "six\n").unwrap();
    let built = home.json(["build", model.to_str().unwrap(), "--dry-run"]);
    assert!(built["warnings"].to_string().contains("the packages of `requirements.txt` are not installed"), "{built:#}");
}
