//! What can be typed after `hs contract`, and what `hs build` and `hs upload` say about contracts.
//!
//! Only words, as in `args.rs`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `hs contract …`.
#[derive(Debug, Subcommand)]
pub enum ContractCommand {
    /// Compile a contract into `contract.protobin`.
    Compile {
        /// A `contract.prototxt`, or a `serving.yaml` with a contract in it.
        file: PathBuf,
        /// Where the binary goes.
        #[arg(short = 'o', long = "out", value_name = "OUT")]
        out: PathBuf,
        /// The dialect.
        #[arg(long, default_value = "v1", value_name = "v1|v2|v3")]
        dialect: String,
        /// Set the model's name in it.
        #[arg(long)]
        name: Option<String>,
    },
    /// Show a contract: of a file, a model folder or an image.
    Show {
        /// A contract file, a model folder, or an image's reference.
        #[arg(default_value = ".")]
        what: String,
        /// How it is written.
        #[command(flatten)]
        form: Form,
    },
    /// Read the contract out of the model itself, whatever contract is beside it.
    Infer {
        /// A model folder, or a model file (`model.onnx`, `model.h5`, `saved_model.pb`).
        #[arg(default_value = ".")]
        what: PathBuf,
        /// Which meta graph of a SavedModel: one with all of these tags.
        #[arg(long, value_name = "TAG", value_delimiter = ',')]
        tag: Vec<String>,
        /// How it is written.
        #[command(flatten)]
        form: Form,
        /// Where it goes, `-` for standard output; its form follows from its name: `.protobin` and `.pb` (binary, dialect v1), `.yaml`, `.json`, else prototxt.
        #[arg(short = 'o', long = "out", value_name = "OUT")]
        out: Option<PathBuf>,
    },
    /// Compare the contract that is given with what the model and its code say.
    Check {
        /// The model folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// The contract file; wins over serving.yaml.
        #[arg(long, value_name = "FILE")]
        contract: Option<PathBuf>,
        /// Which meta graph of a SavedModel: one with all of these tags.
        #[arg(long, value_name = "TAG", value_delimiter = ',')]
        tag: Vec<String>,
    },
    /// What changed between two contracts, and whom it breaks.
    Diff {
        /// The contract that is in use: a contract file, a model folder, or an image's reference.
        old: String,
        /// The one that comes after it.
        new: String,
        /// Exit with 5 where a change is at least this bad.
        #[arg(long, value_name = "breaking|any")]
        gate: Option<String>,
    },
    /// A request that fits a contract.
    Sample {
        /// A contract file, a model folder, or an image's reference.
        #[arg(default_value = ".")]
        what: String,
        /// The signature; the first one by default.
        #[arg(long)]
        signature: Option<String>,
        /// JSON as it is sent over HTTP, or the message that the runtimes take over gRPC.
        #[arg(long, value_enum, default_value_t = SampleForm::Json)]
        form: SampleForm,
        /// Where it goes, in the place of standard output.
        #[arg(short = 'o', long = "out", value_name = "OUT")]
        out: Option<PathBuf>,
    },
}

/// How a contract is written.
#[derive(Clone, Copy, Debug, Args)]
pub struct Form {
    /// A table for people, JSON for programs, or what is read back (`yaml`, `prototxt`); `--output json` adds what is known beside the contract.
    #[arg(long, value_enum, default_value_t = ContractForm::Text)]
    pub form: ContractForm,
}

/// How a contract is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ContractForm {
    /// A table for people.
    Text,
    /// One JSON document.
    Json,
    /// As it is written in a `serving.yaml`.
    Yaml,
    /// As it is written in a `contract.prototxt`.
    Prototxt,
}

/// How a sample is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SampleForm {
    /// Values by field name.
    Json,
    /// `tensorflow.serving.PredictRequest`: runtimes that read the dialects v1 and v2.
    Protobuf,
    /// `hydrosphere.serving.runtime.PredictRequest`: runtimes that read the dialect v3.
    ProtobufV3,
}
