//! `hs contract …`: contracts by themselves.
//!
//! `compile`, `show` and `infer` are here; what judges (`check`, `diff`) is in `contract_judge.rs`, `sample` in `contract_sample.rs`. All the work is `contract/`'s
//! and `model/`'s; here is where contracts come from and how they are printed.

use std::path::Path;

use serde_json::{Value, json};

use super::args::ModelArguments;
use super::contract_args::{ContractCommand, ContractForm};
use super::contract_source::{self, NamedContract};
use super::output;
use super::say::Voice;
use super::settings::Settings;
use super::{contract_judge, contract_sample};
use crate::contract::wire::{self, Dialect};
use crate::contract::{print, table, yaml};
use crate::fault::Failure;

/// Runs `hs contract …`.
pub async fn run(command: &ContractCommand, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    match command {
        ContractCommand::Compile { file, out, dialect, name } => compile(file, out, dialect, name.as_deref(), voice),
        ContractCommand::Show { what, form } => {
            let named = contract_source::find(what, &ModelArguments::default(), settings).await?;
            print(&named, form.form, voice)
        }
        ContractCommand::Infer { what, tag, form, out } => {
            let (asked, tags, of_machine) = (what.clone(), tag.clone(), settings.clone());
            let reading = tokio::task::spawn_blocking(move || contract_source::of_the_model(&asked, &tags, &of_machine)).await;
            let named = reading.map_err(contract_source::ContractSourceError::Stopped)??;
            match out {
                Some(out) => write(&named, form.form, what, out, voice),
                None => print(&named, form.form, voice),
            }
        }
        ContractCommand::Check { folder, contract, tag } => {
            let words = ModelArguments { contract: contract.clone(), tag: tag.clone(), ..ModelArguments::default() };
            contract_judge::check(folder, &words, settings, voice).await
        }
        ContractCommand::Diff { old, new, gate } => contract_judge::diff(old, new, gate.as_deref(), settings, voice).await,
        ContractCommand::Sample { what, signature, form, out } => {
            contract_sample::run(what, signature.as_deref(), *form, out.as_deref(), settings, voice).await
        }
    }
}

fn compile(file: &Path, out: &Path, dialect: &str, name: Option<&str>, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let dialect: Dialect = dialect.parse()?;
    let mut named = contract_source::of_file(file)?;
    if let Some(name) = name {
        name.clone_into(&mut named.contract.model_name);
    }
    let encoded = wire::encode(&named.contract, dialect)?;
    named.warnings.extend(encoded.warnings);
    for warning in &named.warnings {
        voice.warn(warning);
    }
    output::write(out, &encoded.bytes, file)?;
    if output::is_stdout(out) {
        return Ok(());
    }
    let text = format!("{}: {} bytes, dialect {dialect}", out.display(), encoded.bytes.len());
    voice.result(&document(&named), &text)?;
    Ok(())
}

fn print(named: &NamedContract, form: ContractForm, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    for warning in &named.warnings {
        voice.warn(warning);
    }
    let text = in_form(named, form, voice)?;
    voice.result(&document(named), &text)?;
    Ok(())
}

/// Writes a contract that was read from a model: binary by the file's extension, else in `form`, where a table becomes the text that is read back.
fn write(named: &NamedContract, form: ContractForm, what: &Path, out: &Path, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    for warning in &named.warnings {
        voice.warn(warning);
    }
    let model = if what.is_dir() { what.join(&named.source) } else { what.to_owned() };
    let extension = out.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let bytes = match (extension, form) {
        ("protobin" | "pb", _) => wire::encode(&named.contract, Dialect::V1)?.bytes,
        ("yaml" | "yml", ContractForm::Text) => in_form(named, ContractForm::Yaml, voice)?.into_bytes(),
        ("json", ContractForm::Text) => in_form(named, ContractForm::Json, voice)?.into_bytes(),
        (_, ContractForm::Text) => in_form(named, ContractForm::Prototxt, voice)?.into_bytes(),
        (_, form) => in_form(named, form, voice)?.into_bytes(),
    };
    output::write(out, &bytes, &model)?;
    if output::is_stdout(out) {
        return Ok(());
    }
    voice.result(&document(named), &format!("{}: the contract of {}", out.display(), named.source))?;
    Ok(())
}

fn in_form(named: &NamedContract, form: ContractForm, voice: &Voice) -> Result<String, Box<dyn Failure>> {
    Ok(match form {
        ContractForm::Text => heading(named) + &table::table(&named.contract),
        ContractForm::Json => format!("{}\n", serde_json::to_string_pretty(&json!(named.contract)).unwrap_or_default()),
        ContractForm::Prototxt => print::print(&named.contract),
        ContractForm::Yaml => {
            let printed = yaml::print(&named.contract)?;
            for warning in &printed.warnings {
                voice.warn(warning);
            }
            printed.text
        }
    })
}

/// Where the contract is from, above its table.
fn heading(named: &NamedContract) -> String {
    let model_type = named.model_type.as_ref().map(|model_type| format!(" ({model_type})")).unwrap_or_default();
    format!("{}{model_type}\n", named.source)
}

/// The JSON of the interface (section 2).
pub fn document(named: &NamedContract) -> Value {
    let mut document = json!(named.contract);
    document["source"] = json!(named.source);
    document["model_type"] = json!(named.model_type);
    document["warnings"] = json!(named.warnings);
    document
}
