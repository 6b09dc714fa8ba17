//! What `hs build` says of an image: one JSON document, or lines for people.
//!
//! Words only; what they tell of was decided in `build/`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::BuildArguments;
use super::build::Outcome;
use super::destinations::Written;
use super::say::size;
use crate::build::built::{BaseOfImage, ExplainedLayer, Inside};
use crate::build::requirements::LockOrigin;
use crate::oci::digest::Digest;
use crate::oci::image::{LayerSource, Purpose};
use crate::oci::layer::Recipe;
use crate::progress::Transfer;

/// How many files of a layer are named before the rest is counted.
const FILES_SHOWN_MAX: usize = 8;

/// The outcome of a build as JSON (`docs/reference/commands.md`).
pub fn document(outcome: &Outcome, arguments: &BuildArguments, written: &Written, duration_ms: u128) -> Value {
    let (model, report) = (&outcome.model, &outcome.built.report);
    let contract = model.contract.as_ref().zip(report.contract.as_ref()).map(
        |(found, written)| json!({"source": found.source, "digest": Digest::of(&written.bytes), "dialect": written.dialect.to_string()}),
    );
    let requirements = report.installed.as_ref().map(|installed| {
        let origin = match installed.origin {
            LockOrigin::Folder => "folder",
            LockOrigin::Earlier => "earlier version",
            LockOrigin::Resolved => "resolved",
        };
        json!({"lock": outcome.lock, "origin": origin, "packages": installed.packages})
    });
    json!({
        "name": model.name,
        "version": arguments.version,
        "digest": report.digest,
        "references": written.references,
        "base": report.base.as_ref().map(BaseOfImage::json),
        "model_type": model.model_type,
        "contract": contract,
        "requirements": requirements,
        "images": report.images,
        "transfer": written.transfer,
        "left_out": outcome.left_out,
        "findings": report.findings,
        "warnings": report.warnings,
        "duration_ms": u64::try_from(duration_ms).unwrap_or(u64::MAX),
    })
}

/// The same for people.
pub fn text(outcome: &Outcome, arguments: &BuildArguments, written: &Written) -> String {
    let mut out = String::new();
    let version = arguments.version.as_ref().map(|version| format!(" version {version}")).unwrap_or_default();
    let _ = writeln!(out, "{}{version}", outcome.model.name);
    let _ = writeln!(out, "{}", outcome.built.report.digest);
    if arguments.explain {
        for finding in &outcome.built.report.findings {
            let _ = writeln!(out, "  found: {finding}");
        }
        outcome.built.explanation.layers.iter().for_each(|layer| explain(layer, &mut out));
    }
    for reference in &written.references {
        let _ = writeln!(out, "{reference}");
    }
    if !written.references.is_empty() {
        let Transfer { sent_bytes, mounted_bytes, skipped_bytes } = written.transfer;
        let _ = writeln!(out, "sent {}, mounted {}, there already {}", size(sent_bytes), size(mounted_bytes), size(skipped_bytes));
    } else if arguments.dry_run && !arguments.to.is_empty() {
        let _ = writeln!(out, "dry run: nothing was sent to {}", arguments.to.join(", "));
    }
    out
}

/// Which files are in a layer, and why; the rule itself stands in `model/plan.rs`.
fn explain(ExplainedLayer { layer, inside }: &ExplainedLayer, out: &mut String) {
    let sample = if let Inside::Files { sample, .. } = inside { sample.as_ref() } else { None };
    let why = match (sample, layer.purpose) {
        (_, Purpose::Base) => "of the base, as it is".to_owned(),
        (_, Purpose::Contract) => "the contract, alone so that it can be read and replaced by itself".to_owned(),
        (_, Purpose::Requirements) => "the packages of requirements.txt, as their wheels have them".to_owned(),
        (_, Purpose::Bytecode) => "their bytecode, compiled by the base's own Python".to_owned(),
        (Some(sample), _) if sample.shrinks() => format!("large, compressed: by a sample, to {:.0} % of its size", sample.ratio() * 100.0),
        (Some(sample), _) => format!("large, as it is: by a sample, compressing would leave {:.0} % of it", sample.ratio() * 100.0),
        (None, _) if matches!(layer.source, LayerSource::Recipe(_)) => "as it is: nothing was to be compressed".to_owned(),
        (None, _) => "small files, chosen by a hash of their path, compressed".to_owned(),
    };
    let (digest, bytes) = (layer.descriptor.digest.short(), size(layer.descriptor.size_bytes));
    let _ = writeln!(out, "  {digest} {bytes:>12}  {}: {why}", layer.purpose.word());
    match inside {
        Inside::Files { recipe, .. } => explain_files(recipe, out),
        Inside::Packages(packages) => drop(writeln!(out, "      {}", packages.join(", "))),
        Inside::Other => {}
    }
}

fn explain_files(recipe: &Recipe, out: &mut String) {
    // A folder is in a layer for what is below it; only an empty one says something by itself.
    let entries = recipe.entries();
    let is_parent = |at: usize| entries.get(at + 1).is_some_and(|next| next.path.strip(&entries[at].path).is_some());
    let told: Vec<_> = entries.iter().enumerate().filter(|(at, _)| !is_parent(*at)).map(|(_, entry)| &entry.path).collect();
    for path in told.iter().take(FILES_SHOWN_MAX) {
        let _ = writeln!(out, "      /{path}");
    }
    if told.len() > FILES_SHOWN_MAX {
        let _ = writeln!(out, "      … and {} more", told.len() - FILES_SHOWN_MAX);
    }
}
