//! What a Keras model without code is told: the two ways in which it can be served, with the lines to copy.
//!
//! No runtime loads a Keras file by itself. It is exported as a SavedModel, for the TensorFlow runtime, or `src/func_main.py` loads it, for the Python
//! runtime (the ancestor's Models page, "Uploading Keras"). How a model is exported depends on the Keras that wrote the file: 3 has `export`, the one
//! inside of TensorFlow 2 is saved by TensorFlow, and what is older needs a session of TensorFlow 1.

use super::python_call;
use crate::contract::contract::{Contract, shown};

/// The Keras that wrote a file, as far as it matters.
enum Era {
    /// With TensorFlow 1, by itself.
    Session,
    /// Inside of TensorFlow 2, up to 2.15.
    TensorFlow2,
    /// 3, on any backend.
    Three,
}

/// The two ways for the model in `file`, of type `model_type` (`keras:2.2.4`).
pub fn ways(file: &str, model_type: &str, contract: &Contract) -> String {
    let version = model_type.strip_prefix("keras:").unwrap_or_default();
    let era = era(version);
    let file = shown(file);
    // The Keras inside of TensorFlow 2 reads what Keras 2 wrote, and the Pythons of our runtimes have no older TensorFlow.
    let (load, requirement) = match era {
        Era::Session | Era::TensorFlow2 => ("from tensorflow import keras", "`tensorflow<2.16`"),
        Era::Three => ("import keras", "`keras>=3` and `tensorflow`"),
    };
    let infer = contract.signatures.first().map_or_else(|| "def infer(x):".to_owned(), python_call::definition);
    let field = |fields: &[crate::contract::contract::Field], other: &str| {
        fields.first().map_or_else(|| other.to_owned(), |field| shown(&field.name))
    };
    let (input, output) = contract
        .signatures
        .first()
        .map_or_else(|| ("x".to_owned(), "y".to_owned()), |signature| (field(&signature.inputs, "x"), field(&signature.outputs, "y")));
    format!(
        "`{file}` is a Keras model ({model_type}), which no runtime loads by itself; there are two ways to serve it\n\
         1. export it as a SavedModel, and build the folder `saved_model` (TensorFlow runtime):\n{}\n\
         2. load it in `src/func_main.py`, with {requirement} in `requirements.txt` and a `contract.prototxt` (`hs contract infer -o contract.prototxt`) (Python runtime):\n\
         \x20    import hydro_serving_grpc as hs\n\
         \x20    import tensorflow as tf\n\
         \x20    {load}\n\
         \x20    model = keras.models.load_model(\"/model/files/{file}\")\n\
         \x20    {infer}\n\
         \x20        answer = tf.make_tensor_proto(model.predict(tf.make_ndarray({input})))\n\
         \x20        return hs.PredictResponse(outputs={{\"{output}\": hs.TensorProto.FromString(answer.SerializeToString())}})",
        export(&era, &file)
    )
}

/// The lines that export it.
fn export(era: &Era, file: &str) -> String {
    let lines: Vec<String> = match era {
        Era::Three => vec!["import keras".to_owned(), format!("keras.saving.load_model(\"{file}\").export(\"saved_model\")")],
        Era::TensorFlow2 => {
            vec!["import tensorflow as tf".to_owned(), format!("tf.saved_model.save(tf.keras.models.load_model(\"{file}\"), \"saved_model\")")]
        }
        Era::Session => vec![
            "from keras import backend, models".to_owned(),
            "import tensorflow as tf".to_owned(),
            format!("model = models.load_model(\"{file}\")"),
            "signature = tf.saved_model.signature_def_utils.predict_signature_def(".to_owned(),
            "    {tensor.name.split(':')[0]: tensor for tensor in model.inputs}, {tensor.name.split(':')[0]: tensor for tensor in model.outputs})"
                .to_owned(),
            "builder = tf.saved_model.builder.SavedModelBuilder(\"saved_model\")".to_owned(),
            "builder.add_meta_graph_and_variables(backend.get_session(), [\"serve\"], {\"serving_default\": signature})".to_owned(),
            "builder.save()".to_owned(),
        ],
    };
    lines.iter().map(|line| format!("     {line}")).collect::<Vec<_>>().join("\n")
}

fn era(version: &str) -> Era {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(3..), _) => Era::Three,
        // `2.2.4-tf` is the Keras inside of TensorFlow 1.14 to 2.1, which saves in the same way as later ones.
        _ if version.ends_with("-tf") => Era::TensorFlow2,
        (Some(2), Some(4..)) => Era::TensorFlow2,
        (Some(..), _) => Era::Session,
        // No version is named: the newest way works for most, and says what is missing where it does not.
        (None, _) => Era::Three,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::contract::{Field, Shape, Signature};
    use crate::contract::dtype::DataType;

    #[test]
    fn the_lines_fit_the_keras_that_wrote_the_file() {
        let field = |name: &str| Field::new(name, DataType::Float, Shape::of(&[-1, 2]));
        let signature = Signature { name: "infer".to_owned(), inputs: vec![field("dense_input")], outputs: vec![field("dense")] };
        let contract = Contract { model_name: String::new(), signatures: vec![signature] };
        for (model_type, line) in [
            ("keras:3.4.1", "keras.saving.load_model(\"m.h5\").export(\"saved_model\")"),
            ("keras:2.15.0", "tf.saved_model.save(tf.keras.models.load_model(\"m.h5\"), \"saved_model\")"),
            ("keras:2.2.4-tf", "tf.saved_model.save("),
            ("keras:2.2.4", "SavedModelBuilder(\"saved_model\")"),
            ("keras:unknown", ".export(\"saved_model\")"),
        ] {
            let text = ways("m.h5", model_type, &contract);
            assert!(text.contains(line) && text.contains("two ways"), "{text}");
            assert!(text.contains("def infer(dense_input):") && text.contains("outputs={\"dense\": "), "{text}");
        }
    }
}
