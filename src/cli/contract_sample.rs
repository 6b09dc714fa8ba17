//! `hs contract sample`: a request that fits a contract.
//!
//! JSON as people read it and as HTTP takes it, or the bytes of the message that a runtime takes. The values are `contract/sample.rs`'s.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::args::ModelArguments;
use super::contract_args::SampleForm;
use super::contract_source;
use super::output;
use super::say::Voice;
use super::settings::Settings;
use crate::contract::sample;
use crate::contract::wire::Dialect;
use crate::fault::{Failure, Fault};

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleCommandError {
    /// It cannot be written to standard output.
    #[error("writing the request to standard output")]
    Stdout(#[source] io::Error),
    /// Bytes on a terminal.
    #[error("a protobuf message is bytes, and standard output is a terminal")]
    Terminal,
}

impl Failure for SampleCommandError {
    fn fault(&self) -> Fault {
        match self {
            SampleCommandError::Terminal => Fault::Usage,
            SampleCommandError::Stdout(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        matches!(self, SampleCommandError::Terminal).then(|| "name a file with `-o`, or send it through a pipe".to_owned())
    }
}

/// Runs `hs contract sample`.
pub async fn run(
    what: &str,
    signature: Option<&str>,
    form: SampleForm,
    out: Option<&Path>,
    settings: &Settings,
    voice: &Voice,
) -> Result<(), Box<dyn Failure>> {
    let named = contract_source::find(what, &ModelArguments::default(), settings).await?;
    for warning in &named.warnings {
        voice.warn(warning);
    }
    let signature = sample::signature(&named.contract, signature)?;
    let bytes = match form {
        SampleForm::Json => {
            let inputs = sample::json(signature)?;
            let text = serde_json::to_string_pretty(&inputs).unwrap_or_default();
            if out.is_none() {
                let document = json!({"source": named.source, "signature": signature.name, "inputs": inputs});
                voice.result(&document, &text)?;
                return Ok(());
            }
            format!("{text}\n").into_bytes()
        }
        SampleForm::Protobuf => sample::encoded(&named.contract.model_name, signature, Dialect::V1)?,
        SampleForm::ProtobufV3 => sample::encoded(&named.contract.model_name, signature, Dialect::V3)?,
    };
    match out {
        Some(path) => {
            output::write(path, &bytes, Path::new(what))?;
            if output::is_stdout(path) {
                return Ok(());
            }
            let document = json!({"source": named.source, "signature": signature.name, "out": path, "size_bytes": bytes.len()});
            voice.result(&document, &format!("{}: a request to `{}`, {} bytes", path.display(), signature.name, bytes.len()))?;
        }
        None if voice.is_json() => {
            let document = json!({"source": named.source, "signature": signature.name, "message_base64": STANDARD.encode(&bytes)});
            voice.result(&document, "")?;
        }
        None if io::stdout().is_terminal() => return Err(SampleCommandError::Terminal.into()),
        None => io::stdout().write_all(&bytes).map_err(SampleCommandError::Stdout)?,
    }
    Ok(())
}
