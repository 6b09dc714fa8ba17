//! An index that does not answer as one, and a resolver that waits for it: told by its host and one cause, stopped with nothing left.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::json;

use crate::support::faulty_index::{FaultyIndex, PASSWORD};
use crate::support::hs::{Home, Ran, Serve, free_address, tool};
use crate::support::outside::{client, until};
use crate::support::python_packages::{self as packages, RESOLVERS, SMALL};

/// A user whose only index is this one, and whose resolver does not try again.
fn user(resolver: &str, url: &str) -> Home {
    let path = |name: &str| if name == resolver { packages::program(name).to_str().unwrap().to_owned() } else { "off".to_owned() };
    let home = Home::new().with("HS_UV", path("uv")).with("HS_PIP", path("pip")).with("PIP_INDEX_URL", url);
    crate::support::outside::import_small_base(&home);
    let home = home.with("PIP_RETRIES", "0").with("UV_HTTP_RETRIES", "0").with("NO_PROXY", "127.0.0.1");
    // What waits is stopped, or waits for ever.
    home.with("PIP_DEFAULT_TIMEOUT", "3600").with("UV_HTTP_TIMEOUT", "3600")
}

fn build(home: &Home, requirements: &str, more: &[&str]) -> Ran {
    let model = home.path().join("model");
    packages::model(&model, requirements);
    home.hs([&["build", model.to_str().unwrap(), "--dry-run"], more].concat())
}

#[test]
fn an_index_that_cannot_be_used_is_told_by_its_host_and_the_cause() {
    let index = FaultyIndex::of(&packages::wheels(&SMALL, false));
    let (host, dead) = (index.host(), free_address());
    let with_password = |how: &str| index.url(how).replace("http://", &format!("http://ann:{PASSWORD}x@"));
    for (url, host, cause, remedy) in [
        (
            format!("http://{dead}/simple/"),
            dead.to_string(),
            "nothing listens there (connection refused)",
            "look at where packages come from",
        ),
        (index.url("503"), host.clone(), "it answers 503", "look at where packages come from"),
        (index.url("401"), host.clone(), "it wants a user and a password", "netrc"),
        (with_password("login"), host.clone(), "it wants a user and a password, or others than it was given (401)", "netrc"),
        (with_password("403"), host.clone(), "(403)", "netrc"),
        (index.url("open").replace("http://", "https://"), host.clone(), "it does not speak TLS", "look at where packages come from"),
        (index.url("page"), host.clone(), "what answers there is no index: its Content-Type is `text/plain`", "look at"),
        ("http://no-such-host.invalid/simple/".to_owned(), "no-such-host.invalid".to_owned(), "", ""),
    ] {
        for resolver in RESOLVERS {
            let ran = build(&user(resolver, &url), "six\n", &[]);
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{resolver} {url}: {ran:#?}");
            let said = format!("the package index {host} cannot be used: ");
            assert!(ran.stderr.contains(&said) && ran.stderr.contains(cause) && ran.stderr.contains(remedy), "{resolver} {url}: {ran:#?}");
            assert!(!ran.stderr.contains(PASSWORD) && !ran.stderr.contains("has no wheel"), "{resolver} {url}: {ran:#?}");
        }
    }
}

#[test]
fn a_package_that_is_not_there_is_told_from_one_without_a_wheel() {
    let index = FaultyIndex::of(&packages::wheels(&SMALL, false));
    for resolver in RESOLVERS {
        for (how, requirements, code, said) in [
            ("none", "six\n", 3, "there is no package `six`: no index that was asked has one of this name"),
            ("open", "six\nno-such-thing>1\n", 3, "there is no package `no-such-thing`: no index that was asked has one of this name"),
        ] {
            let ran = build(&user(resolver, &index.url(how)), requirements, &[]);
            assert!(
                ran.code == code && ran.stderr.contains(said) && ran.stderr.contains("remedy: correct its name"),
                "{resolver}: {ran:#?}"
            );
        }
        // Two indexes: one that is dead may have it, and one that has it is enough for pip, which says so.
        let dead = free_address();
        let home = user(resolver, &index.url("none")).with("PIP_EXTRA_INDEX_URL", format!("http://{dead}/simple/"));
        let ran = build(&home, "six\n", &[]);
        assert!(ran.code == 4 && ran.stderr.contains(&format!("the package index {dead} cannot be used")), "{resolver}: {ran:#?}");
        let home = user(resolver, &index.url("none")).with("PIP_EXTRA_INDEX_URL", index.url("open"));
        assert_eq!(build(&home, "six\n", &[]).code, 0);
    }
    let dead = free_address();
    let home = user("pip", &index.url("open")).with("PIP_EXTRA_INDEX_URL", format!("http://{dead}/simple/"));
    let ran = build(&home, "six\n", &[]);
    assert!(ran.code == 0 && ran.stderr.contains(&format!("pip passed over the package index {dead}: nothing listens there")), "{ran:#?}");
}

#[test]
fn a_folder_that_lacks_a_wheel_and_an_index_that_is_dead_are_both_told() {
    let (wheels, dead) = (packages::wheels(&["six==1.17.0"], false), free_address());
    for resolver in RESOLVERS {
        let home = user(resolver, &format!("http://{dead}/simple/"));
        let ran = build(&home, "six\ntabulate\n", &["--wheels", wheels.to_str().unwrap()]);
        assert_eq!(ran.code, 4, "{ran:#?}");
        for said in [
            "`tabulate`",
            "the folders of wheels have not everything",
            &format!("the package index {dead} cannot be used: "),
            "put what is missing",
        ] {
            assert!(ran.stderr.contains(said), "{resolver} {said}: {ran:#?}");
        }
        assert_eq!(build(&home, "six\n", &["--wheels", wheels.to_str().unwrap()]).code, 0, "what the folder has needs no index");
    }
}

#[test]
fn a_private_index_is_asked_with_the_user_of_netrc() {
    let index = FaultyIndex::of(&packages::wheels(&SMALL, false));
    for resolver in RESOLVERS {
        let home = user(resolver, &index.url("login"));
        fs::write(home.path().join(".netrc"), format!("machine 127.0.0.1 login ann password {PASSWORD}\n")).unwrap();
        let model = home.path().join("model");
        // psutil is large enough for pip to draw how far it is.
        packages::model(&model, "six\ntabulate\npsutil\n");
        let to = format!("oci:{}:m", home.path().join("layout").display());
        let built = home.json(["build", model.to_str().unwrap(), "--to", &to]);
        assert_eq!(built["requirements"]["packages"], json!(["psutil 6.1.1", "six 1.17.0", "tabulate 0.9.0"]));
        let lock = fs::read_to_string(model.join("requirements.lock")).unwrap();
        assert!(lock.contains(&index.host()) && !lock.contains(PASSWORD), "{lock}");
    }
}

/// A resolver that is started by a script, as many are: the script, what it starts, and what that may start.
fn wrapped(home: &Home, resolver: &str) -> String {
    let script = home.path().join("resolver");
    fs::write(&script, format!("#!/bin/sh\n'{}' \"$@\"\nexit $?\n", packages::program(resolver).display())).unwrap();
    tool("chmod", &["+x", script.to_str().unwrap()]);
    script.to_str().unwrap().to_owned()
}

/// The living processes that have these words on their command line or work in the folder.
fn processes(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().map(|process| process.unwrap().path()) {
        let works_in = fs::read_link(process.join("cwd")).unwrap_or_default();
        if works_in.starts_with(folder) {
            found.push(fs::read_to_string(process.join("cmdline")).unwrap_or_default().replace('\0', " "));
        }
    }
    found
}

fn spawn(home: &Home, words: &[&str]) -> Child {
    home.command().args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn stop(signal: &str, process: u32) {
    tool("kill", &[signal, &process.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_resolver_waits_leaves_no_process_and_no_file() {
    let index = FaultyIndex::of(&packages::wheels(&SMALL, false));
    for resolver in RESOLVERS {
        for signal in ["-INT", "-TERM"] {
            let home = user(resolver, &index.url("silent"));
            let (temporary, model) = (home.path().join("temporary"), home.path().join("model"));
            fs::create_dir(&temporary).unwrap();
            packages::model(&model, "six\n");
            let variable = format!("HS_{}", resolver.to_uppercase());
            let script = wrapped(&home, resolver);
            let home = home.with(&variable, script).with("TMPDIR", temporary.to_str().unwrap());
            let before = index.asked();
            let mut build = spawn(&home, &["build", model.to_str().unwrap(), "--dry-run"]);
            until("the index is asked", || index.asked() > before).await;
            assert!(processes(&temporary).len() >= 2, "the script and what it started");
            stop(signal, build.id());
            let status = build.wait().unwrap();
            assert!(!status.success());
            assert_eq!(processes(&temporary), Vec::<String>::new(), "{resolver} {signal}");
            let left: Vec<_> = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(left, Vec::<std::path::PathBuf>::new(), "{resolver} {signal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_of_the_service_that_is_given_back_or_removed_leaves_no_process_and_no_file() {
    let index = FaultyIndex::of(&packages::wheels(&SMALL, false));
    let home = user("pip", &index.url("silent"));
    let (temporary, model) = (home.path().join("temporary"), home.path().join("model"));
    fs::create_dir(&temporary).unwrap();
    packages::model(&model, "six\n");
    let script = wrapped(&home, "pip");
    let home = home.with("HS_PIP", script).with("TMPDIR", temporary.to_str().unwrap());
    let data = home.data();
    let service = Serve::start(&home, &[]);
    let upload = ["upload", model.to_str().unwrap(), "--server", &service.url(), "--async"].map(str::to_owned);
    let uploaded = home.json(&upload);
    until("the index is asked", || index.asked() > 0).await;
    assert!(processes(&data).len() >= 2, "the script and what it started");
    // A model that is removed takes its build with it.
    let url = format!("{}/api/v2/model", service.url());
    let models: serde_json::Value = client().get(&url).send().await.unwrap().json().await.unwrap();
    let id = models[0]["id"].as_i64().unwrap_or_else(|| panic!("{models:#} {uploaded:#}"));
    let removed = client().delete(format!("{url}/{id}")).send().await.unwrap();
    assert!(removed.status().is_success(), "{removed:?}");
    until("the resolver is gone", || processes(&data).is_empty()).await;
    // And a service that is told to stop.
    let asked = index.asked();
    home.json(&upload);
    until("the index is asked again", || index.asked() > asked).await;
    stop("-TERM", service.process());
    until("the service has ended", || std::net::TcpStream::connect(service.address).is_err()).await;
    until("the resolver is gone", || processes(&data).is_empty()).await;
    until("its folder is gone", || !crate::support::outside::listing(&data).iter().any(|(name, _)| name.contains("resolver-"))).await;
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
