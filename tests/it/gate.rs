//! The gate of `hs upload`: a model whose contract would break those who call it is refused, with a message that a data scientist understands, and nothing of it stays.

use std::fs;

use serde_json::Value;

use crate::support::hs::{Home, Serve};
use crate::support::outside::{catalog_rows, ended, listing, versions, write_model};

const TWO_INPUTS: &str = r#"signatures { signature_name: "infer"
  inputs { name: "age" dtype: DT_INT32 } inputs { name: "job" dtype: DT_STRING }
  outputs { name: "income" dtype: DT_DOUBLE } }"#;
const ONE_INPUT: &str = r#"signatures { signature_name: "infer"
  inputs { name: "job" dtype: DT_STRING }
  outputs { name: "income" dtype: DT_DOUBLE } }"#;
const MORE_OUTPUTS: &str = r#"signatures { signature_name: "infer"
  inputs { name: "age" dtype: DT_INT32 } inputs { name: "job" dtype: DT_STRING }
  outputs { name: "income" dtype: DT_DOUBLE } outputs { name: "sure" dtype: DT_DOUBLE } }"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_drops_an_input_is_refused_by_the_gate() {
    let home = Home::new();
    let serve = Serve::start(&home, &[]);
    let folder = home.path().join("model");
    write_model(&folder, "adult", &[("weights", b"1")]);
    fs::write(folder.join("contract.prototxt"), TWO_INPUTS).unwrap();
    let url = serve.url();
    let upload = |words: &[&str]| home.hs([&["upload", folder.to_str().unwrap(), "--server", &url], words].concat());
    // The first version has nothing to be compared with.
    let ran = upload(&["--gate", "breaking"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    ended(&serve.url(), "adult").await;

    fs::write(folder.join("contract.prototxt"), ONE_INPUT).unwrap();
    let (files, rows) = (listing(&home.data()), catalog_rows(&home.data()).await);
    let ran = upload(&["--gate", "breaking"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:#?}");
    for said in
        ["against version 1 of `adult`", "infer.inputs.age is gone: callers still send it", "remedy: leave these fields as they were"]
    {
        assert!(ran.stderr.contains(said), "{said}: {ran:#?}");
    }
    assert_eq!((listing(&home.data()), catalog_rows(&home.data()).await), (files, rows));

    // A program reads the changes as it reads those that are let through.
    let ran = upload(&["--gate", "breaking", "--output", "json"]);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    assert_eq!((ran.code, &document["old"], &document["new"]), (5, &"adult:1".into(), &"adult".into()), "{document:#}");
    assert_eq!((&document["worst"]["callers"], &document["changes"][0]["path"]), (&"breaking".into(), &"infer.inputs.age".into()));

    // The same contract, and one that only answers more, pass; so does anything where nobody asks.
    fs::write(folder.join("contract.prototxt"), MORE_OUTPUTS).unwrap();
    assert_eq!(upload(&["--gate", "any"]).code, 5);
    assert_eq!(upload(&["--gate", "breaking"]).code, 0);
    fs::write(folder.join("contract.prototxt"), ONE_INPUT).unwrap();
    assert_eq!(upload(&[]).code, 0);
    let numbers: Vec<Value> = versions(&serve.url(), "adult").await.into_iter().map(|version| version["version"].clone()).collect();
    assert_eq!(numbers.len(), 3, "{numbers:?}");
    let ran = upload(&["--gate", "braking"]);
    assert!(ran.code == 2 && ran.stderr.contains("`braking` is not a gate"), "{ran:#?}");
}
