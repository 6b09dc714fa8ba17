//! Live answers, applications, pages, and what machines watch.

use futures_util::StreamExt as _;
use lamina::catalog::record::{BuildError, NewLine, Outcome};
use lamina::fault::Fault;
use lamina::server::app::Settings;
use serde_json::{Value, json};

use crate::service::{Running, model, payload};

/// An event of a stream: name, id, data.
type Event = (String, String, String);

/// Reads server-sent events until `enough` of them.
async fn events(answer: reqwest::Response, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let (mut text, mut stream) = (String::new(), answer.bytes_stream());
    loop {
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        let field = |block: &str, name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_default().to_owned()
        };
        let found: Vec<Event> = whole
            .split("\n\n")
            .filter(|block| block.contains("event:"))
            .map(|block| (field(block, "event"), field(block, "id"), field(block, "data")))
            .collect();
        if enough(&found) {
            return found;
        }
        match stream.next().await {
            Some(bytes) => text.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap()),
            None => panic!("the stream ended after {found:?}"),
        }
    }
}

fn ended(events: &[Event]) -> bool {
    events.last().is_some_and(|(name, ..)| name == "EndOfStream")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_while_it_grows_and_taken_up_where_it_was_left() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 0, Settings::default()).await;
    let id = running.upload("/api/v2/model/upload", payload(model("m"))).await.1["id"].clone();
    let url = format!("{}/api/v2/model/version/{id}/logs", running.url);
    let claim = running.service.catalog.claim(600).await.unwrap().unwrap();
    let answer = running.client.get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let following = tokio::spawn(events(answer, ended));
    running.service.catalog.log(&claim, &[NewLine::info("one"), NewLine::warning("two")]).await.unwrap();
    let (cause, remedy) = ("refused".to_owned(), Some("log in".to_owned()));
    let error = BuildError { stage: "send".to_owned(), fault: Some(Fault::Remote), cause, remedy };
    running.service.catalog.finish(&claim, Outcome::Failed(error)).await.unwrap();
    let all = following.await.unwrap();
    let lines: Vec<_> = all.iter().map(|(name, id, data)| (name.as_str(), id.as_str(), data.as_str())).collect();
    assert!(lines[0].2.starts_with("uploaded: 1 file, 10 bytes"), "{lines:?}");
    let rest = [("Log", "1", "one"), ("Log", "2", "warning: two"), ("Log", "3", "error: failed: send: refused"), ("EndOfStream", "", "")];
    assert_eq!(lines[1..], rest);

    let again = running.client.get(&url).header("last-event-id", "1").send().await.unwrap();
    assert_eq!(events(again, ended).await, all[2..]);
    let ours = events(running.client.get(format!("{url}?view=lamina&from=2")).send().await.unwrap(), ended).await;
    let line: Value = serde_json::from_str(&ours[0].2).unwrap();
    assert_eq!((&line["index"], &line["level"], &line["text"]), (&json!(2), &json!("warning"), &json!("two")));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_of_versions_and_end_with_the_service() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 1, Settings::default()).await;
    let answer = running.client.get(format!("{}/api/v2/events", running.url)).send().await.unwrap();
    running.upload("/api/v2/model/upload", payload(model("m"))).await;
    let released = |data: &str| serde_json::from_str::<Value>(data).unwrap()["status"] == "Released";
    let found = events(answer, |events| events.iter().any(|(name, _, data)| name == "ModelUpdate" && released(data))).await;
    assert!(found.len() >= 2, "{found:?}");
    let open = running.client.get(format!("{}/api/v2/events", running.url)).send().await.unwrap();
    // A stop does not wait for those who listen.
    running.stop().await;
    assert!(open.bytes_stream().all(|bytes| async move { bytes.is_ok() }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_made_shown_and_removed() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 1, Settings::default()).await;
    running.upload("/api/v2/model/upload", payload(model("m"))).await;
    running.idle().await;
    let url = format!("{}/api/v2/application", running.url);
    let post = |body: Value| running.client.post(&url).json(&body).send();
    let graph = |variants: Value| json!({"name": "app", "executionGraph": {"stages": [{"modelVariants": variants}]}});
    let made: Value = post(graph(json!([{"modelVersion": "m:1"}]))).await.unwrap().json().await.unwrap();
    assert_eq!((&made["status"], &made["executionGraph"]["stages"][0]["modelVariants"][0]["weight"]), (&json!("Ready"), &json!(100)));
    assert_eq!(running.get("/api/v2/application/app").await.1, made);
    assert_eq!(running.get("/api/v2/application").await.1, json!([made]));
    assert_eq!(running.get("/api/v2/model/version/m/1").await.1["applications"], json!(["app"]));
    let model_url = format!("{}/api/v2/model/1", running.url);
    let refused = running.client.delete(&model_url).send().await.unwrap();
    assert_eq!(refused.status(), 409);
    assert_eq!(refused.json::<Value>().await.unwrap()["message"], "model `m` is used by app");
    let cases = [
        (graph(json!([{"modelVersion": "m:1"}])), 409),
        (graph(json!([{"modelVersion": "m:2"}])), 404),
        (graph(json!([{"modelVersion": "m"}])), 400),
        (graph(json!([{"modelVersionId": 1, "weight": 50}])), 400),
        (graph(json!([{"modelVersionId": 1, "deploymentConfigurationName": "x"}])), 400),
        (json!({"name": "b", "kafkaStreaming": [{}], "executionGraph": {"stages": []}}), 400),
        (json!({}), 400),
    ];
    for (body, status) in cases {
        assert_eq!(post(body.clone()).await.unwrap().status(), status, "{body}");
    }
    running.client.delete(format!("{url}/app")).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(running.get("/api/v2/application").await.1, json!([]));
    running.client.delete(&model_url).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(running.get("/api/v2/model").await.1, json!([]));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_show_what_there_is_and_escape_what_strangers_wrote() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 1, Settings::default()).await;
    let page = async |path: &str| {
        let answer = running.client.get(format!("{}{path}", running.url)).send().await.unwrap();
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let port = running.address.rsplit(':').next().unwrap();
    let (_, empty) = page("/").await;
    assert!(empty.contains(&format!("hs upload --host 127.0.0.1 --port {port}")), "{empty}");
    let metadata = json!({"description": "<script>alert(1)</script>", "metadata": {"<b>": "\"'&"}});
    running.upload("/api/v2/model/upload", payload(model("m")).text("metadata", metadata.to_string())).await;
    running.idle().await;
    for path in ["/", "/models", "/models/m"] {
        let (status, text) = page(path).await;
        assert_eq!(status, 200);
        for word in ["Version", "Created", "Build Status", "Applications", "Model Type", "Finished", "none:1", "href=\"/models/m/1\""] {
            assert!(text.contains(word), "{path} has no {word}");
        }
        assert!(!text.contains("<script>alert"), "{path}");
    }
    let (_, version) = page("/models/m/1").await;
    for word in ["infer", "DT_DOUBLE", "[-1, 2]", "sha256:", "podman pull --tls-verify=false 127.0.0.1", "uploaded: 1 file"] {
        assert!(version.contains(word), "no {word} in {version}");
    }
    assert!(!version.contains("<script>alert") && !version.contains("<b>"), "{version}");
    assert!(page("/applications").await.1.contains("No applications yet"));
    for (path, status) in [("/models/none", 404), ("/models/m/9", 404), ("/models/m/x", 400), ("/nowhere", 404)] {
        assert_eq!(page(path).await.0, status, "{path}");
    }
    let asset = version.split("href=\"").find(|part| part.contains("lamina.css")).unwrap().split('"').next().unwrap();
    let css = running.client.get(format!("{}{asset}", running.url)).send().await.unwrap();
    assert!(css.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_see_that_it_lives_and_how_long_the_queue_is() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 0, Settings::default()).await;
    running.upload("/api/v2/model/upload", payload(model("m"))).await;
    let text = async |path: &str| running.client.get(format!("{}{path}", running.url)).send().await.unwrap().text().await.unwrap();
    assert_eq!(text("/health").await, "OK");
    let metrics = text("/metrics").await;
    for line in ["lamina_models 1", "lamina_builds{status=\"Pending\"} 1", "lamina_builds{status=\"Finished\"} 0"] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    assert_eq!(running.get("/api/buildinfo").await.1["name"], "lamina");
    running.stop().await;
}
