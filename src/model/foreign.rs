//! Models of frameworks that are recognised and not read.
//!
//! Some formats say nothing of what goes in and out, some say it in a form that would have to be run, and some are not read yet. What a file is
//! can still be told from its name and its first bytes, so that a user hears more than "no contract was found": what it is, and the way on.
//! Telling them apart is `foreign_formats.rs`'s.
//!
//! What must stay true: a pickle is never loaded; a version is one that the file itself has.

use super::foreign_formats;

/// How much of a file's beginning is worth giving to [`recognise`].
pub const HEAD_BYTES: usize = 64 << 10;

/// Who writes such files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the frameworks")]
pub enum Framework {
    CatBoost,
    CoreMl,
    Gguf,
    H2o,
    LightGbm,
    MxNet,
    /// A pickle of something that is not known, or that is compressed.
    Pickle,
    Pmml,
    PyTorch,
    R,
    Safetensors,
    ScikitLearn,
    /// scikit-learn's models in a form that is no pickle.
    Skops,
    StatsModels,
    /// A checkpoint or a frozen graph: no signature is in either.
    TensorFlow,
    TensorFlowLite,
    TorchScript,
    XGBoost,
}

impl Framework {
    /// Its word in a model type.
    pub fn word(self) -> &'static str {
        match self {
            Framework::CatBoost => "catboost",
            Framework::CoreMl => "coreml",
            Framework::Gguf => "gguf",
            Framework::H2o => "h2o",
            Framework::LightGbm => "lightgbm",
            Framework::MxNet => "mxnet",
            Framework::Pickle => "pickle",
            Framework::Pmml => "pmml",
            Framework::PyTorch => "pytorch",
            Framework::R => "r",
            Framework::Safetensors => "safetensors",
            Framework::ScikitLearn => "scikit-learn",
            Framework::Skops => "skops",
            Framework::StatsModels => "statsmodels",
            Framework::TensorFlow => "tensorflow",
            Framework::TensorFlowLite => "tflite",
            Framework::TorchScript => "torchscript",
            Framework::XGBoost => "xgboost",
        }
    }

    /// Its name as its authors write it.
    pub fn name(self) -> &'static str {
        match self {
            Framework::CatBoost => "CatBoost",
            Framework::CoreMl => "Core ML",
            Framework::Gguf => "GGUF",
            Framework::H2o => "H2O",
            Framework::LightGbm => "LightGBM",
            Framework::MxNet => "MXNet",
            Framework::Pickle => "Python",
            Framework::Pmml => "PMML",
            Framework::PyTorch => "PyTorch",
            Framework::R => "R",
            Framework::Safetensors => "safetensors",
            Framework::ScikitLearn => "scikit-learn",
            Framework::Skops => "skops",
            Framework::StatsModels => "statsmodels",
            Framework::TensorFlow => "TensorFlow",
            Framework::TensorFlowLite => "TensorFlow Lite",
            Framework::TorchScript => "TorchScript",
            Framework::XGBoost => "XGBoost",
        }
    }

    /// A form of the model from which a contract is read, where the framework has a way to one.
    pub fn way(self) -> Option<&'static str> {
        match self {
            Framework::ScikitLearn | Framework::Skops => Some("convert the model to ONNX (skl2onnx)"),
            Framework::XGBoost | Framework::LightGbm => Some("convert the model to ONNX (onnxmltools)"),
            Framework::CatBoost => Some("save the model with `format=\"onnx\"`"),
            Framework::PyTorch | Framework::TorchScript => Some("export the model to ONNX (torch.onnx.export)"),
            Framework::TensorFlow | Framework::TensorFlowLite => Some("save the model as a SavedModel"),
            Framework::MxNet => Some("export the model to ONNX (mx.onnx.export_model)"),
            Framework::CoreMl
            | Framework::Gguf
            | Framework::H2o
            | Framework::Pickle
            | Framework::Pmml
            | Framework::R
            | Framework::Safetensors
            | Framework::StatsModels => None,
        }
    }
}

/// A file that is a model, or part of one, and from which no contract is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Who writes such files.
    pub framework: Framework,
    /// The framework's version, where the file has it; PMML's is that of the format.
    pub version: Option<String>,
    /// What the file is, with its article: `a pickled scikit-learn model`.
    pub what: String,
    /// Whether it is a pickle, or has one in it: loading it runs what it says.
    pub pickled: bool,
}

impl Foreign {
    /// Framework and version: `scikit-learn:1.3.2`; `unknown` in the place of a version that the file does not have.
    pub fn model_type(&self) -> String {
        format!("{}:{}", self.framework.word(), self.version.as_deref().unwrap_or("unknown"))
    }

    /// What the file at `path` is, and why there is no contract in it; no full stop at its end.
    pub fn sentence(&self, path: &str) -> String {
        let why = if self.pickled { "pickles are never loaded here" } else { "no contract is read from it" };
        format!("`{path}` is {} ({why})", self.what)
    }

    /// What the user can do: one sentence, no full stop at its end.
    pub fn remedy(&self) -> String {
        const CONTRACT: &str = "say what goes in and what comes out in a contract.prototxt";
        match self.framework.way() {
            Some(way) => format!("{CONTRACT}, or {way}"),
            None => CONTRACT.to_owned(),
        }
    }
}

/// What the file called `name` is, told from that name, its first bytes (up to [`HEAD_BYTES`]) and its size; `None` where it is nothing that
/// is known here. Models whose contract is read (SavedModel, Keras, ONNX, Spark) are none of these.
pub fn recognise(name: &str, head: &[u8], size_bytes: u64) -> Option<Foreign> {
    let head = head.get(..HEAD_BYTES).unwrap_or(head);
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    foreign_formats::recognise(&name, head, size_bytes)
}
