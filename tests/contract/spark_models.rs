//! Contracts read from saved Spark pipelines, judged by Spark: `tests/models/spark/` has what it wrote and what it says of that.
//!
//! How Spark's types are ours: `string` is DT_STRING and a scalar, `array<string>` DT_STRING of one open dimension, `double`, `float` and `int`
//! DT_DOUBLE, DT_FLOAT and DT_INT32 and scalars, `vector` DT_DOUBLE of one dimension, a list of vectors of two. Lengths that Spark keeps in
//! Parquet are open in the contract: [`OPEN`] names each, so that none is open for another reason.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use lamina::contract::contract::Field;
use lamina::contract::reading::Reading;
use lamina::contract::spark::SparkError;
use lamina::contract::spark::read;
use lamina::contract::spark_metadata::MetadataFile;
use lamina::contract::spark_metadata::is_root;
use lamina::contract::spark_metadata::wanted;
use lamina::contract::wire::Dialect;
use lamina::contract::wire::decode;
use lamina::contract::wire::encode;
use lamina::fault::Failure;
use lamina::fault::one_line;
use serde_json::Value;
use serde_json::json;

use crate::arbitrary::numbers_below;

/// The models from which no contract can be read, and why.
const REFUSED: [(&str, &str); 2] = [("hasher", "FeatureHasher_"), ("sql", "SQLTransformer_")];

/// The fields with a length that only Spark's Parquet files have.
const OPEN: &[(&str, &[&str])] = &[
    ("classifiers", &["bayes_p", "bayes_raw", "logistic_p", "logistic_raw"]),
    ("clusters", &["features"]),
    ("default_columns", &["probability", "rawPrediction"]),
    ("formula", &["probability", "rawPrediction"]),
    ("formula_of_texts", &["features"]),
    ("formula_spark_4", &["probability", "rawPrediction"]),
    ("one_model", &["features", "probability", "rawPrediction"]),
    ("selectors", &["features", "chi_square", "univariate", "variance"]),
    ("text_features", &["counts"]),
    ("text_logistic", &["probability", "rawPrediction"]),
    ("text_logistic_spark_4", &["probability", "rawPrediction"]),
    ("validation_split", &["features"]),
    ("vector_features", &["interaction"]),
];

/// The inputs that may be a number or a vector, as far as the metadata tells.
const ANY_SHAPE: &[(&str, &[&str])] = &[
    ("cross_validated_stage", &["age", "income"]),
    ("formula", &["age"]),
    ("formula_of_texts", &["age"]),
    ("formula_spark_4", &["age"]),
    ("indexed_forest", &["age", "income"]),
    ("indexed_forest_spark_4", &["age", "income"]),
    ("vector_features", &["target", "third"]),
];

/// Paths in the model folder, and what is there.
type Files = Vec<(String, Vec<u8>)>;

/// The models' names and folders, with their files.
fn models() -> Vec<(String, PathBuf, Files)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/spark");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut models: Vec<_> = folders
        .map(|folder| (folder.file_name().unwrap().to_str().unwrap().to_owned(), folder.clone(), files_of(&folder.join("model"))))
        .collect();
    models.sort();
    assert!(!models.is_empty());
    models
}

fn files_of(model: &Path) -> Files {
    let (mut found, mut folders) = (Vec::new(), vec![model.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(model).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if wanted(&name) {
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.iter().any(|(path, _)| is_root(path)));
    found
}

fn read_files(files: &[(String, Vec<u8>)]) -> Result<Reading, SparkError> {
    read(&files.iter().map(|(path, bytes)| MetadataFile { path, bytes }).collect::<Vec<_>>())
}

fn model(name: &str) -> Files {
    models().into_iter().find(|model| model.0 == name).unwrap().2
}

fn listed(table: &[(&str, &[&str])], model: &str, field: &str) -> bool {
    table.iter().any(|(name, fields)| *name == model && fields.contains(&field))
}

/// Spark's word for a column, in the form of ours.
fn expected_field(model: &str, column: &Value) -> Value {
    let name = column["name"].as_str().unwrap();
    let mut dims = column["dims"].clone();
    let dtype = match column["type"].as_str().unwrap() {
        "string" | "array<string>" => "DT_STRING",
        "double" | "vector" | "array<vector>" => "DT_DOUBLE",
        "float" => "DT_FLOAT",
        "int" => "DT_INT32",
        // Python's numbers; the columns are the ids of a recommendation.
        "bigint" => "DT_INT32",
        other => panic!("{model}: {name} is {other}"),
    };
    if listed(OPEN, model, name) {
        dims = json!([-1]);
    }
    let shape = if listed(ANY_SHAPE, model, name) { Value::Null } else { json!({"dims": dims}) };
    json!({"name": name, "dtype": dtype, "shape": shape, "profile": "NONE"})
}

fn sorted(mut fields: Vec<Value>) -> Vec<Value> {
    fields.sort_by_key(|field| field["name"].as_str().unwrap().to_owned());
    fields
}

#[test]
fn every_contract_is_what_spark_says() {
    let mut differences = Vec::new();
    for (name, folder, files) in models() {
        let reading = read_files(&files);
        if let Some((_, stage)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            let error = reading.unwrap_err();
            assert!(error.to_string().starts_with(&format!("`stages/0_{stage}")), "{error}");
            assert_eq!(error.remedy().unwrap(), "say what goes in and what comes out in a contract.prototxt");
            continue;
        }
        let reading = reading.unwrap();
        let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        assert_eq!(reading.model_type, format!("spark:{}", expected["spark_version"].as_str().unwrap()));
        let columns = |member: &str| expected[member].as_array().unwrap().clone();
        let between = columns("read_by_a_later_stage");
        let inputs: Vec<Value> = columns("required").iter().map(|column| expected_field(&name, column)).collect();
        let outputs = columns("added").into_iter().filter(|column| !between.contains(&column["name"]));
        let outputs: Vec<Value> = outputs.map(|column| expected_field(&name, &column)).collect();
        let [signature] = &reading.contract.signatures[..] else { panic!("{name}: {:?}", reading.contract) };
        assert_eq!(signature.name, "default_spark");
        // By name: Spark's schema and its data disagree on the order of a stage's columns.
        let fields = |fields: &[Field]| fields.iter().map(|field| serde_json::to_value(field).unwrap()).collect::<Vec<Value>>();
        let pairs = [(sorted(fields(&signature.inputs)), sorted(inputs)), (sorted(fields(&signature.outputs)), sorted(outputs))];
        for (ours, sparks) in pairs {
            let names = |fields: &[Value]| fields.iter().map(|field| field["name"].to_string()).collect::<Vec<String>>();
            assert_eq!(names(&ours), names(&sparks), "{name}");
            let both = ours.into_iter().zip(sparks).filter(|(ours, sparks)| ours != sparks);
            differences.extend(both.map(|(ours, sparks)| format!("{name}: {ours} and not {sparks}")));
        }
        // A formula's label is in no param of its own, so nothing is said of it.
        for column in expected["only_for_training"].as_object().unwrap().keys().filter(|_| !name.starts_with("formula")) {
            assert!(reading.warnings.iter().any(|warning| warning.contains(&format!("`{column}`"))), "{name}: {:?}", reading.warnings);
        }
        for (table, words) in [(OPEN, "only in Parquet files"), (ANY_SHAPE, "may be a number or a vector")] {
            let open = table.iter().any(|(open, _)| *open == name);
            let told = reading.warnings.iter().filter(|warning| warning.contains(words)).count();
            assert_eq!(told > 0, open, "{name}: {:?}", reading.warnings);
        }
        let encoded = encode(&reading.contract, Dialect::V1).unwrap();
        assert_eq!(decode(&encoded.bytes, None).unwrap(), (reading.contract, Dialect::V1), "{name}");
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn a_stage_that_is_not_there_and_one_that_is_unknown_are_named() {
    let refused = |files: &[(String, Vec<u8>)], text: &str| assert_eq!(one_line(&read_files(files).unwrap_err()), text);
    let whole = model("text_logistic");
    let root = whole.iter().position(|(path, _)| is_root(path)).unwrap();
    let mut files = whole.clone();
    files.remove(root);
    refused(&files, "the model folder has no `metadata/part-00000`, which every saved Spark model has");
    files = whole.clone();
    let (path, bytes) = files.pop().unwrap();
    refused(&files, &format!("`metadata/part-00000` names a stage whose metadata is not there: `{path}`"));
    let text = String::from_utf8(bytes).unwrap();
    let with = |class: &str| text.replace("org.apache.spark.ml.classification.LogisticRegressionModel", class).into_bytes();
    files.push((path.clone(), with("com.example.Model")));
    refused(
        &files,
        &format!(
            "`{path}` is the metadata of a com.example.Model: which columns it reads and adds, and their types, cannot be told from it"
        ),
    );
    files.last_mut().unwrap().1 = with("org.apache.spark.ml.Pipeline");
    refused(&files, &format!("`{path}` is the metadata of a Pipeline, which is not fitted yet"));
    files.last_mut().unwrap().1 = b"BZh91AY&SY".to_vec();
    refused(&files, &format!("`{path}` is not the JSON that Spark writes there: expected value at line 1 column 1"));
    files.last_mut().unwrap().1 = text.replace("\"uid\"", "\"id\"").into_bytes();
    refused(&files, &format!("`{path}` has no `uid`: it is not the metadata of a Spark stage"));
    let (tokenizer, bytes) = files.iter_mut().find(|(path, _)| path.contains("_Tokenizer_")).unwrap();
    *bytes = String::from_utf8(bytes.clone()).unwrap().replace("\"inputCol\"", "\"column\"").into_bytes();
    let text = format!("`{tokenizer}` has no param `inputCol`");
    refused(&files, &text);
}

/// The params of before Spark 2.4, which wrote no defaults: those of the class table stand for them.
#[test]
fn without_default_params_the_contract_is_the_same() {
    for (name, _, files) in models() {
        if REFUSED.iter().any(|(refused, _)| *refused == name) {
            continue;
        }
        let mut older = files.clone();
        for (_, bytes) in &mut older {
            let mut metadata: Value = serde_json::from_slice(bytes).unwrap();
            let defaults = metadata.as_object_mut().unwrap().remove("defaultParamMap").unwrap();
            // The column came with Spark 3.0, which has default params.
            if let Some(raw) = defaults.get("rawPredictionCol").filter(|_| metadata["class"].as_str().unwrap().ends_with(".OneVsRestModel"))
            {
                metadata["paramMap"]["rawPredictionCol"] = raw.clone();
            }
            *bytes = serde_json::to_vec(&metadata).unwrap();
        }
        assert_eq!(read_files(&older).unwrap().contract, read_files(&files).unwrap().contract, "{name}");
    }
}

#[test]
fn a_compressed_file_is_read_and_the_order_of_files_is_nothing() {
    let plain = model("nested_pipelines");
    let mut packed: Vec<_> = plain.iter().map(|(path, bytes)| (format!("{path}.gz"), gzip(bytes))).collect();
    packed.reverse();
    // An empty part, as Hadoop leaves one of a partition without rows.
    packed.insert(0, ("metadata/part-00001".to_owned(), Vec::new()));
    let (ours, sparks) = (read_files(&packed).unwrap(), read_files(&plain).unwrap());
    assert_eq!((ours.contract, ours.model_type), (sparks.contract, sparks.model_type));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn pipelines_in_pipelines_without_end_are_refused() {
    let pipeline = br#"{"class":"org.apache.spark.ml.PipelineModel","uid":"p","sparkVersion":"3.5.0","paramMap":{"stageUids":["p"]}}"#;
    let files: Vec<_> = (0..100).map(|depth| (format!("{}metadata/part-00000", "stages/0_p/".repeat(depth)), pipeline.to_vec())).collect();
    assert!(matches!(read_files(&files), Err(SparkError::TooDeep { .. })));
    let many: Vec<_> = (0..1_001).map(|_| files[0].clone()).collect();
    assert!(matches!(read_files(&many), Err(SparkError::TooManyFiles { count: 1_001 })));
    let columns = format!("[{}]", (0..20_001).map(|column| format!("\"c{column}\"")).collect::<Vec<_>>().join(","));
    let wide =
        r#"{"class":"org.apache.spark.ml.feature.VectorAssembler","uid":"a","sparkVersion":"3.5.0","paramMap":{"inputCols":COLUMNS}}"#;
    let wide = [("metadata/part-00000".to_owned(), wide.replace("COLUMNS", &columns).into_bytes())];
    assert!(matches!(read_files(&wide), Err(SparkError::TooManyColumns)));
}

#[test]
fn a_file_of_many_parts_or_names_costs_no_more_than_its_size() {
    let of = |class: &str, params: &str| {
        let text = format!(r#"{{"class":"org.apache.spark.ml.{class}","uid":"u","sparkVersion":"3.5.0","paramMap":{{{params}}}}}"#);
        read_files(&[("metadata/part-00000".to_owned(), text.into_bytes())])
    };
    let parts = format!(r#""inputCols":[{}1]"#, r#"{"":1},"#.repeat(60_000));
    let refusal = of("feature.VectorAssembler", &parts).unwrap_err();
    assert_eq!(refusal.to_string(), "`metadata/part-00000` has more than 50000 lists and objects");
    // Neither list has a name of the other.
    let names = |letter: char| (0..100_000).map(|column| format!("\"{letter}{column:05x}\"")).collect::<Vec<_>>().join(",");
    let hashed = of("feature.FeatureHasher", &format!(r#""inputCols":[{}],"categoricalCols":[{}]"#, names('a'), names('b')));
    assert!(matches!(hashed, Err(SparkError::TooManyColumns)));
    let unknown = of(&"x".repeat(1 << 20), "").unwrap_err().to_string();
    assert!(unknown.len() < 1_000, "{} bytes", unknown.len());
}

#[test]
fn a_damaged_file_is_an_error_or_a_valid_contract_and_never_a_panic() {
    let mut below = numbers_below();
    let pieces: [&[u8]; 8] = [b"null", b"-1", b"9223372036854775807", b"[]", b"{}", b"\"\"", b"\"features\"", b"1e999"];
    for (name, _, files) in models() {
        for round in 0..120 {
            let mut damaged = files.clone();
            for _ in 0..=round % 3 {
                let file = below(damaged.len());
                let bytes = &mut damaged[file].1;
                let at = below(bytes.len().max(1)).min(bytes.len());
                match below(3) {
                    0 => bytes.truncate(at),
                    1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << below(8)),
                    // Another value in the place of one.
                    _ => {
                        let Some(from) = bytes[at..].iter().position(|byte| *byte == b':').map(|from| at + from + 1) else { continue };
                        let to = bytes[from..].iter().position(|byte| b",}".contains(byte)).map_or(bytes.len(), |to| from + to);
                        bytes.splice(from..to, pieces[below(pieces.len())].iter().copied());
                    }
                }
            }
            match read_files(&damaged) {
                Ok(reading) => reading.contract.validate().unwrap(),
                Err(error) => assert!(one_line(&error).contains("metadata/part-00000"), "{name}: {error}"),
            }
        }
    }
}
