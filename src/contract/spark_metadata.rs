//! The metadata file of one saved Spark stage: its class, its version, its params.
//!
//! Spark saves a stage as a folder. `metadata/` in it has text files of which the first line is one JSON object (`DefaultParamsWriter`
//! in Spark's `ReadWrite.scala`); Parquet files beside it hold what was learned, and are read by nobody here. Hadoop names the file
//! `part-00000`, and `part-00000.gz` where a cluster compresses what it writes.
//!
//! A param that the user set is in `paramMap`; from Spark 2.4 on `defaultParamMap` has the others; before, they are only in Spark's
//! source, so whoever asks for one brings Spark's own default along.
//!
//! What must stay true: files are limited in number and size before they are parsed, and a param of the wrong type is one that is absent.

use std::io::Read;

use flate2::bufread::GzDecoder;
use serde_json::Value;

use super::reading;
use super::spark::SparkError;

/// The most metadata files of a pipeline with all that is in it: stages are few, a thousand is beyond any.
pub const METADATA_FILES_MAX: usize = 1_000;

/// The largest metadata file. Stop words and the labels of an index are among the params.
pub const METADATA_BYTES_MAX: usize = 2 << 20;

/// The most lists and objects in a metadata file, strings with such brackets included. In memory a small one takes a hundred times its
/// text, and what a pipeline says is kept while the stages in it are read.
pub const METADATA_PARTS_MAX: usize = 50_000;

/// A metadata file as the caller found it in the model folder.
#[derive(Clone, Copy, Debug)]
pub struct MetadataFile<'a> {
    /// Its path in the model folder, one for which [`wanted`] says yes.
    pub path: &'a str,
    /// All of its bytes.
    pub bytes: &'a [u8],
}

/// Whether the reader needs the file at this path of the model folder: `metadata/part-00000`, the same in `stages/0_Tokenizer_4c1f/`,
/// and in the models inside models (`bestModel/`, `pipelineModel/`).
pub fn wanted(path: &str) -> bool {
    folder_of(path).is_some()
}

/// Whether the file at this path makes the folder a saved Spark model.
pub fn is_root(path: &str) -> bool {
    folder_of(path) == Some("")
}

/// The stage's folder, without a slash at its end; empty for the model's own.
pub(super) fn folder_of(path: &str) -> Option<&str> {
    let (above, name) = path.rsplit_once('/')?;
    if !name.starts_with("part-") || name.ends_with(".crc") {
        return None;
    }
    let folder = match above {
        "metadata" => "",
        _ => above.strip_suffix("/metadata").filter(|folder| !folder.is_empty())?,
    };
    let mut parts = folder.split('/').filter(|_| !folder.is_empty());
    while let Some(part) = parts.next() {
        match part {
            "stages" => drop(parts.next().filter(|stage| !stage.is_empty())?),
            "bestModel" | "pipelineModel" => {}
            _ => return None,
        }
    }
    Some(folder)
}

/// One stage, as its metadata says.
#[derive(Debug)]
pub(super) struct Metadata {
    /// The file, for errors.
    pub path: String,
    /// Its class, without `org.apache.spark.ml.` or `pyspark.ml.` before it; another's in full.
    pub class: String,
    /// Spark's name for this stage.
    pub uid: String,
    value: Value,
}

impl Metadata {
    /// The first JSON value of the file: Spark reads the first line and nothing else.
    pub fn parse(file: MetadataFile<'_>) -> Result<Metadata, SparkError> {
        let path = || file.path.to_owned();
        if file.bytes.len() > METADATA_BYTES_MAX {
            return Err(SparkError::FileTooLarge { path: path() });
        }
        let unpacked;
        let bytes = if file.bytes.starts_with(&[0x1f, 0x8b]) {
            unpacked = unpack(file.bytes).map_err(|source| SparkError::Gzip { path: path(), source })?;
            if unpacked.len() > METADATA_BYTES_MAX {
                return Err(SparkError::FileTooLarge { path: path() });
            }
            &unpacked[..]
        } else {
            file.bytes
        };
        if bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() > METADATA_PARTS_MAX {
            return Err(SparkError::TooManyParts { path: path() });
        }
        let first = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().next();
        let value = first.transpose().map_err(|source| SparkError::Json { path: path(), source })?.unwrap_or(Value::Null);
        let member = |member: &'static str| match value.get(member).and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(SparkError::NoMember { path: path(), member }),
        };
        let (class, uid) = (member("class")?, member("uid")?);
        let own = ["org.apache.spark.ml.", "pyspark.ml."].iter().find_map(|package| class.strip_prefix(package));
        Ok(Metadata { path: path(), class: own.unwrap_or(&class).to_owned(), uid, value })
    }

    /// The version of Spark that wrote it; `None` where a model type cannot carry it.
    pub fn spark_version(&self) -> Option<&str> {
        reading::version(self.value.get("sparkVersion")?.as_str()?)
    }

    /// A param as it was set, or its default where the file has that.
    pub fn param(&self, name: &str) -> Option<&Value> {
        let set = |map: &str| self.value.get(map)?.get(name).filter(|value| !value.is_null());
        set("paramMap").or_else(|| set("defaultParamMap"))
    }

    /// A param that is a text, such as the name of a column.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.param(name)?.as_str()
    }

    /// A param that is a list of texts; what is none in it is left out.
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.param(name)?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    /// How many elements a param has that is a list.
    pub fn count(&self, name: &str) -> Option<i64> {
        i64::try_from(self.param(name)?.as_array()?.len()).ok()
    }

    /// A param that is a length.
    pub fn length(&self, name: &str) -> Option<i64> {
        self.param(name)?.as_i64().filter(|length| *length >= 0)
    }

    /// A length that stands beside the params: `numFeatures`, `numClasses`.
    pub fn learned_length(&self, member: &str) -> Option<i64> {
        self.value.get(member)?.as_i64().filter(|length| *length >= 0)
    }
}

/// At most one byte more than a file may have.
fn unpack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes).take(METADATA_BYTES_MAX as u64 + 1).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_are_needed_are_told_by_their_paths() {
        let folders = [
            ("metadata/part-00000", Some("")),
            ("metadata/part-00000.gz", Some("")),
            ("metadata/part-00000-6b1c-c000.txt", Some("")),
            ("stages/0_Tokenizer_4c1f/metadata/part-00000", Some("stages/0_Tokenizer_4c1f")),
            ("stages/1_a/stages/0_b/metadata/part-00000", Some("stages/1_a/stages/0_b")),
            ("stages/1_a/bestModel/stages/0_b/metadata/part-00000", Some("stages/1_a/bestModel/stages/0_b")),
            ("bestModel/metadata/part-00000", Some("bestModel")),
            ("stages/0_f/pipelineModel/metadata/part-00000", Some("stages/0_f/pipelineModel")),
            ("metadata/.part-00000.crc", None),
            ("metadata/part-00000.crc", None),
            ("metadata/_SUCCESS", None),
            ("data/part-00000", None),
            ("model/metadata/part-00000", None),
            ("stages/metadata/part-00000", None),
            ("stages//metadata/part-00000", None),
            ("stages/0_a/model_0/metadata/part-00000", None),
            ("/metadata/part-00000", None),
        ];
        for (path, folder) in folders {
            assert_eq!(folder_of(path), folder.filter(|_| wanted(path)), "{path}");
        }
        assert!(is_root("metadata/part-00000") && !is_root("bestModel/metadata/part-00000"));
    }

    #[test]
    fn a_file_that_unpacks_past_the_limit_is_refused() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &vec![b' '; METADATA_BYTES_MAX + 1]).unwrap();
        let packed = packed.finish().unwrap();
        let read = |bytes| Metadata::parse(MetadataFile { path: "metadata/part-00000.gz", bytes });
        assert!(matches!(read(&packed), Err(SparkError::FileTooLarge { .. })));
        assert!(matches!(read(&packed[..20]), Err(SparkError::Gzip { .. })));
    }

    #[test]
    fn params_that_were_set_come_before_defaults() {
        let text = br#"{"class":"org.apache.spark.ml.feature.PCAModel","uid":"pca","sparkVersion":"2.4.8","numFeatures":-1,
            "paramMap":{"k":2,"inputCol":null},"defaultParamMap":{"k":3,"inputCol":"a","inputCols":["a",1,"b"]}} {"class":"another"}"#;
        let metadata = Metadata::parse(MetadataFile { path: "metadata/part-00000", bytes: text }).unwrap();
        assert_eq!((metadata.class.as_str(), metadata.spark_version()), ("feature.PCAModel", Some("2.4.8")));
        assert_eq!((metadata.length("k"), metadata.text("inputCol"), metadata.text("k")), (Some(2), Some("a"), None));
        assert_eq!((metadata.texts("inputCols"), metadata.learned_length("numFeatures")), (Some(vec!["a", "b"]), None));
    }
}
