//! Canonical JSON: one value, one sequence of bytes.
//!
//! Everything that we write and name by its digest (manifests, configs, the image label, recipes) goes through
//! [`canonical`]: keys sorted by their UTF-8 bytes, no white space, numbers and strings as serde_json prints them. It does
//! not trust the order of `serde_json::Map`: the `preserve_order` feature, which any dependency may switch on for the
//! whole build, changes it. Bytes that were pulled are never passed through here; they are kept.

use serde::Serialize;
use serde_json::Value;

/// The canonical bytes of `value`.
///
/// # Panics
/// Never for the types of this crate: their maps have string keys, and their numbers are integers.
pub fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    let value = serde_json::to_value(value).expect("our values are representable in JSON");
    let mut bytes = Vec::new();
    write(&value, &mut bytes);
    bytes
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (i, (key, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(&Value::String(key.clone()), out);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth_and_nothing_else_changes() {
        let value: Value = serde_json::from_str(r#" {"b": [ {"z": 1, "a": null} ], "a": "ü\n", "B": 1.50} "#).unwrap();
        assert_eq!(String::from_utf8(canonical(&value)).unwrap(), "{\"B\":1.5,\"a\":\"ü\\n\",\"b\":[{\"a\":null,\"z\":1}]}");
    }
}
