//! Keras models → the layers that carry Python code: `Lambda` layers with a marshalled function in the config.
//!
//! Keras writes the function of such a layer into the file as bytecode: up to 2.x as a list whose first member is base64, in 3.x as an object of class
//! `__lambda__`. It is run when the model is loaded, and only by the minor version of Python that wrote it. A `Lambda` that names a function holds no
//! code. It is not looked into.
//!
//! What must stay true: the config is read within `keras.rs`' bounds, and walked without recursion.

use std::io::{Read, Seek};

use serde_json::Value;

use super::file_kind::{self, FileKind};
use super::keras::KerasError;
use super::{keras, keras_hdf5, keras_source};

/// The most layers that are named.
pub const LAYERS_MAX: usize = 20;

/// What a Keras file has beside its architecture and weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// The names of the layers with code in them, the first [`LAYERS_MAX`].
    pub layers: Vec<String>,
}

/// The code in the `.h5` or `.keras` file that `source` holds in its first `size_bytes`.
pub fn read<R: Read + Seek + Send + 'static>(mut source: R, size_bytes: u64) -> Result<Code, KerasError> {
    let saved = match file_kind::tell(&mut source, size_bytes) {
        Some(FileKind::Zip) => keras_source::read_archive(source)?,
        _ => keras_hdf5::read(source, size_bytes)?,
    };
    Ok(Code { layers: layers(&keras::config_of(&saved)?) })
}

fn layers(config: &Value) -> Vec<String> {
    let mut layers = Vec::new();
    let mut left = vec![config];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(members) => {
                if value["class_name"] == "Lambda" && is_code(&value["config"]["function"]) && layers.len() < LAYERS_MAX {
                    let name = value["config"]["name"].as_str().unwrap_or("without a name");
                    layers.push(name.chars().take(100).flat_map(char::escape_debug).collect());
                }
                left.extend(members.values());
            }
            Value::Array(members) => left.extend(members),
            _ => {}
        }
    }
    layers.sort();
    layers
}

/// `["4wEAAA…", null, null]`, or `{"class_name": "__lambda__", …}`.
fn is_code(function: &Value) -> bool {
    function["class_name"] == "__lambda__" || function.as_array().is_some_and(|parts| parts.first().is_some_and(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_function_in_the_file_is_code_and_a_name_is_none() {
        let lambda = |name: &str, function: Value| json!({"class_name": "Lambda", "config": {"name": name, "function": function}});
        let inner = json!({"class_name": "Sequential", "config": {"layers": [lambda("old", json!(["4wEAAAAAAAAA", null, null]))]}});
        let config = json!({"config": {"layers": [
            lambda("new", json!({"class_name": "__lambda__", "config": {"code": "4wEA"}})),
            lambda("named", json!("relu6")),
            {"class_name": "Dense", "config": {"name": "Lambda"}},
            inner,
        ]}});
        assert_eq!(layers(&config), ["new", "old"]);
    }
}
