//! `hs registry doctor` against what is no registry, what is hardly one, what takes any password; and of a host alone.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::registry_doctor::{check, examined, line, run};
use crate::support::docker_registry::DockerRegistry;
use crate::support::fault_registry::{FaultRegistry, Faults};
use crate::support::fault_tokens::{Login, TokenServer};
use crate::support::hs::Home;

/// What a server answers: status, type, body.
type Says = (u16, &'static str, &'static str);

/// What it says of a path.
type Sayer = fn(&str) -> Says;

const PAGE: Says = (200, "text/html; charset=utf-8", "<!doctype html><title>Models</title>");
const NO_PAGE: Says = (404, "text/plain", "404 page not found");

/// A server that answers each path as `say` has it; the methods that it was asked with.
async fn server(say: impl Fn(&str) -> Says + Clone + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<Method>>>) {
    let methods = Arc::new(Mutex::new(Vec::new()));
    let asked = methods.clone();
    let answer = move |request: Request| {
        asked.lock().unwrap().push(request.method().clone());
        let (status, content_type, body) = say(request.uri().path());
        let response = Response::builder().status(status).header("content-type", content_type);
        std::future::ready(response.body(axum::body::Body::from(body)).unwrap())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    (address, methods)
}

/// A user with this name and password for `address`.
fn user_of(address: &str, name_and_password: &str) -> Arc<Home> {
    use base64::Engine as _;
    let home = Home::new();
    let auth = base64::engine::general_purpose::STANDARD.encode(name_and_password);
    fs::create_dir(home.path().join(".docker")).unwrap();
    fs::write(home.path().join(".docker/config.json"), json!({ "auths": { address: { "auth": auth } } }).to_string()).unwrap();
    Arc::new(home)
}

/// What is said of a host alone, as JSON and with the exit code.
async fn examined_host(home: &Arc<Home>, host: &str) -> (i32, Value) {
    let ran = run(home, &["--output", "json", host]).await;
    (ran.code, serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registry_is_said_to_be_none_and_nothing_is_sent_to_it() {
    let home = Arc::new(Home::new());
    let servers: [(Sayer, &str); 5] = [
        (|_| PAGE, "with a web page"),
        (|_| (200, "application/json", "{}"), "asked for its "),
        (|_| NO_PAGE, "`/v2/` is answered 404"),
        // An API of somebody's own.
        (
            |path| if path == "/v2/" { (200, "application/json", r#"{"version":2}"#) } else { (200, "application/json", r#"{"tags":7}"#) },
            "asked for its ",
        ),
        // Its lists are not found, and all else is.
        (
            |path| if path.contains("/tags/") || path.contains("_catalog") { NO_PAGE } else { (200, "text/plain", "hello") },
            "has ever pushed",
        ),
    ];
    for (say, why) in servers {
        let (address, methods) = server(say).await;
        for more in [&[][..], &["--read-only"]] {
            let (code, document) = examined(&home, &address, more).await;
            assert_eq!((code, &document["can_push"]), (4, &json!(false)), "{document:#}");
            check(&document, "registry", "will-hurt", why);
            let summary = document["summary"].as_str().unwrap();
            assert!(summary.starts_with(&format!("`{address}` is not a registry: ")), "{summary}");
        }
        let (code, document) = examined_host(&home, &address).await;
        assert_eq!(code, 4, "{document:#}");
        check(&document, "registry", "will-hurt", "this is not a registry");
        let methods = methods.lock().unwrap();
        assert!(methods.iter().all(|method| *method == Method::GET), "{methods:?}");
    }
    let (address, _) = server(|_| PAGE).await;
    let ran = run(&home, &[&format!("{address}/team/model"), "--read-only"]).await;
    assert!(ran.stderr.contains(&format!("error: `{address}` is not a registry")) && ran.stderr.contains("remedy: "), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_of_few_words_are_registries() {
    let home = Arc::new(Home::new());
    let servers: [Sayer; 4] = [
        // No header, no body, no words for what is not there.
        |path| if path == "/v2/" { (200, "application/octet-stream", "") } else { NO_PAGE },
        // Files behind a web server: what is there is there, and `/v2/` is not.
        |path| if path.ends_with("/tags/list") { (200, "text/plain", r#"{"name":"team/model","tags":["1"]}"#) } else { NO_PAGE },
        // Errors of the specification's form, and `/v2/` is not there.
        |_| (404, "application/json", r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}"#),
        |path| if path.ends_with("/tags/list") { (200, "application/json", r#"{"name":"team/model","tags":null}"#) } else { NO_PAGE },
    ];
    for say in servers {
        let (address, _) = server(say).await;
        let (code, document) = examined(&home, &address, &["--read-only"]).await;
        assert_eq!(code, 0, "{document:#}");
        assert!(document["summary"].as_str().unwrap().contains("can be read"), "{document:#}");
    }
    // What lets nobody in, or is not well, is not judged.
    for status in [401, 403, 503] {
        let say = move |_: &str| (status, "text/html", "<html>sorry</html>");
        let (address, _) = server(say).await;
        let (code, document) = examined(&home, &address, &["--read-only"]).await;
        assert_eq!(code, 4, "{document:#}");
        assert!(!document["summary"].as_str().unwrap().contains("not a registry"), "{document:#}");
    }
    // A registry whose lists are wrong is still one.
    let refusals = vec![crate::support::fault_registry::Refusal {
        body: "<html>tags</html>",
        headers: vec![(HeaderName::from_static("content-type"), "text/html")],
        ..crate::support::fault_registry::burst(Method::GET, "/tags/list", 9, StatusCode::OK.as_u16())
    }];
    let registry = FaultRegistry::start(Faults { refusals, ..Faults::default() }).await;
    let (code, document) = examined(&home, &registry.address(), &["--read-only"]).await;
    check(&document, "pull", "will-hurt", "something else");
    assert_eq!(code, 0, "{document:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_called_good_only_where_a_made_up_one_is_refused() {
    let strict = || Login::Bearer(TokenServer { password: true, ..TokenServer::default() });
    let lenient = || Login::Bearer(TokenServer::default());
    for (login, password, verdict, words) in [
        (strict(), "password", "ok", "and that was taken"),
        (strict(), "wrong", "will-hurt", "and that is refused: 401 Unauthorized"),
        (Login::Basic, "password", "ok", "and that was taken"),
        (Login::Basic, "wrong", "will-hurt", "and that is refused: 401 Unauthorized"),
        // A guest's token for whoever asks.
        (lenient(), "password", "note", "takes whatever name and password it is told"),
        (lenient(), "wrong", "note", "takes whatever name and password it is told"),
        // Everybody may read: a password is asked for by a push only.
        (Login::BasicToWrite, "wrong", "note", "whether that is right was not tried"),
        (Login::Nobody, "wrong", "note", "whether that is right was not tried"),
    ] {
        let registry = FaultRegistry::start(Faults { login: login.clone(), ..Faults::default() }).await;
        let home = user_of(&registry.address(), &format!("user:{password}"));
        let (code, document) = examined(&home, &registry.address(), &["--read-only"]).await;
        check(&document, "login", verdict, words);
        let refused = words.contains("refused");
        assert_eq!(code, if refused { 4 } else { 0 }, "{document:#}");
        // The user's own name was sent with no password but his.
        let (host_code, document) = examined_host(&home, &registry.address()).await;
        check(&document, "login", verdict, words);
        assert_eq!(host_code, if refused { 4 } else { 0 }, "{document:#}");
        assert_eq!(registry.count(Method::POST, ""), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_push_is_asked_proves_a_login_that_reading_does_not_need() {
    for (login, password, verdict, words, code) in [
        (Login::BasicToWrite, "password", "ok", "it wants a password; we are `user`", 0),
        (Login::BasicToWrite, "wrong", "will-hurt", "and that is refused: 401 Unauthorized", 4),
        (Login::Nobody, "wrong", "ok", "not even for a push", 0),
    ] {
        let registry = FaultRegistry::start(Faults { login, lists_referrers: true, ..Faults::default() }).await;
        let home = user_of(&registry.address(), &format!("user:{password}"));
        let (found, document) = examined(&home, &registry.address(), &["--body-mib", "1"]).await;
        check(&document, "login", verdict, words);
        assert_eq!(found, code, "{document:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_alone_is_examined_as_far_as_it_goes() {
    let home = Arc::new(Home::new());
    let registry = FaultRegistry::start(Faults::default()).await;
    for host in [registry.address(), format!("{}/", registry.address())] {
        let (code, document) = examined_host(&home, &host).await;
        assert_eq!((code, &document["repository"], &document["can_push"]), (0, &json!(null), &json!(null)), "{document:#}");
        let checks: Vec<&str> = document["checks"].as_array().unwrap().iter().map(|line| line["check"].as_str().unwrap()).collect();
        assert_eq!(checks, ["reach", "login", "catalog"]);
        assert_eq!(line(&document, "catalog").0, "ok");
        let summary = document["summary"].as_str().unwrap();
        assert!(summary.contains(&format!("`hs registry doctor {}/team/model`", registry.address())), "{summary}");
    }
    assert!(registry.kept().asked.iter().all(|asked| asked.method == Method::GET));
    let docker = DockerRegistry::start();
    let (code, document) = examined_host(&home, docker.address()).await;
    check(&document, "catalog", "ok", "it tells which repositories there are");
    assert_eq!(code, 0);
    // What wants a password wants one for everything.
    let closed = FaultRegistry::start(Faults { login: Login::Basic, ..Faults::default() }).await;
    let (code, document) = examined_host(&home, &closed.address()).await;
    assert_eq!(code, 4, "{document:#}");
    assert!(document["summary"].as_str().unwrap().contains("nothing can be pushed to"), "{document:#}");
    let ran = run(&home, &[&registry.address(), "--mount-from", "base"]).await;
    assert!(ran.code == 2 && ran.stderr.contains("`--mount-from` mounts into a repository"), "{ran:#?}");
    let ran = run(&home, &["localhost:1"]).await;
    assert!(ran.code == 4 && ran.stderr.contains("no connection"), "{ran:#?}");
}
