//! What the pages show: the catalog's values turned into words.
//!
//! All escaping is the templates' (askama escapes everything that is printed). Times are written out in UTC for readers without
//! JavaScript, and as a `datetime` for those with it.

use askama::Template;
use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::Value;

use super::pages::{CSS_PATH, JS_PATH};
use crate::catalog::applications::Application;
use crate::catalog::record::{BuildError, LogLine, Model, Status, Version};
use crate::catalog::versions::Rows;

/// How many applications a row names; the ancestor's page named two.
const APPLICATIONS_SHOWN: usize = 2;

/// What surrounds every page.
pub struct Chrome {
    css: &'static str,
    js: &'static str,
    tab: &'static str,
}

impl Chrome {
    fn new(tab: &'static str) -> Chrome {
        Chrome { css: &CSS_PATH, js: &JS_PATH, tab }
    }
}

/// An instant, for machines and for people.
pub struct Time {
    machine: String,
    human: String,
    clock: String,
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Time {
        let utc = Offset::UTC.to_datetime(at);
        let (human, clock) = (utc.strftime("%Y-%m-%d %H:%M UTC").to_string(), utc.strftime("%H:%M:%S").to_string());
        Time { machine: at.to_string(), human, clock }
    }
}

/// A status with its glyph, so that no reader needs the colour.
pub struct StatusView {
    word: &'static str,
    class: &'static str,
    glyph: &'static str,
}

impl From<Status> for StatusView {
    fn from(status: Status) -> StatusView {
        let (class, glyph) = match status {
            Status::Pending => ("pending", "○"),
            Status::Running => ("running", "◐"),
            Status::Failed => ("failed", "✕"),
            Status::Finished => ("finished", "✓"),
        };
        StatusView { word: status.word(), class, glyph }
    }
}

/// The command that uploads to the service that shows the page: its name is what the browser called it.
fn upload_command(headers: &HeaderMap) -> String {
    match host(headers) {
        (name, Some(port)) => format!("hs upload --host {name} --port {port}"),
        (name, None) => format!("hs upload --host {name}"),
    }
}

fn host(headers: &HeaderMap) -> (String, Option<u16>) {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    match host.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name.to_owned(), Some(port)),
        _ => (host.to_owned(), None),
    }
}

/// `/models` and `/models/{name}`.
#[derive(Template)]
#[template(path = "models.html")]
pub struct ModelsPage {
    chrome: Chrome,
    models: Vec<ModelRow>,
    more_models: bool,
    chosen: Option<ChosenModel>,
    command: String,
}

struct ModelRow {
    name: String,
    url: String,
    last: Option<LastVersion>,
    chosen: bool,
}

struct LastVersion {
    number: i64,
    status: StatusView,
}

/// The model whose versions are shown.
pub struct ChosenModel {
    name: String,
    description: Option<String>,
    versions: Vec<VersionRow>,
    older: Option<String>,
}

struct VersionRow {
    number: i64,
    url: String,
    created: Time,
    status: StatusView,
    reason: Option<String>,
    applications: Vec<String>,
    more_applications: usize,
    model_type: String,
}

impl ModelsPage {
    /// The page.
    pub fn new(models: &[Model], more_models: bool, chosen: Option<ChosenModel>, headers: &HeaderMap) -> ModelsPage {
        let row = |model: &Model| ModelRow {
            name: model.name.clone(),
            url: format!("/models/{}", model.name),
            last: model.last.map(|(number, status)| LastVersion { number: number.0, status: status.into() }),
            chosen: chosen.as_ref().is_some_and(|chosen| chosen.name == model.name),
        };
        let models = models.iter().map(row).collect();
        ModelsPage { chrome: Chrome::new("models"), models, more_models, chosen, command: upload_command(headers) }
    }
}

impl ChosenModel {
    /// A model with its newest versions.
    pub fn new(name: &str, found: &Rows<Version>) -> ChosenModel {
        let row = |version: &Version| VersionRow {
            number: version.number.0,
            url: format!("/models/{name}/{}", version.number),
            // "Created: date, when model was built" (the models page's own table); until then, when it was uploaded.
            created: version.finished.unwrap_or(version.created).into(),
            status: version.status.into(),
            reason: version.error.as_ref().map(|error| format!("{}: {}", error.stage, error.cause)),
            applications: version.applications.iter().take(APPLICATIONS_SHOWN).cloned().collect(),
            more_applications: version.applications.len().saturating_sub(APPLICATIONS_SHOWN),
            model_type: model_type(version),
        };
        ChosenModel {
            name: name.to_owned(),
            description: found.rows.first().and_then(|version| version.description.clone()),
            versions: found.rows.iter().map(row).collect(),
            older: found.next.map(|before| format!("/models/{name}?before={before}")),
        }
    }
}

fn model_type(version: &Version) -> String {
    version.model_type.clone().unwrap_or_else(|| "unknown:unknown".to_owned())
}

/// `/models/{name}/{version}`.
#[derive(Template)]
#[template(path = "version.html")]
pub struct VersionPage {
    chrome: Chrome,
    model: String,
    number: i64,
    status: StatusView,
    created: Time,
    finished: Option<Time>,
    model_type: String,
    runtime: Option<String>,
    applications: Vec<String>,
    description: Option<String>,
    metadata: Vec<(String, String)>,
    error: Option<BuildError>,
    image: Option<ImageView>,
    signatures: Vec<SignatureView>,
    log_url: String,
    next_line: i64,
    lines: Vec<LineView>,
}

struct ImageView {
    reference: String,
    digest: String,
    base: Option<String>,
    run: Option<String>,
    pull: String,
    layers: Vec<LayerView>,
}

struct LayerView {
    purpose: String,
    digest: String,
    size: String,
}

struct SignatureView {
    name: String,
    sides: [(&'static str, Vec<FieldView>); 2],
}

struct FieldView {
    name: String,
    dtype: String,
    shape: String,
    profile: String,
}

struct LineView {
    at: Time,
    level: &'static str,
    text: String,
}

impl VersionPage {
    /// The page of a version, with the first lines of its build's log; the script reads on.
    pub fn new(version: &Version, lines: &[LogLine]) -> VersionPage {
        let line = |line: &LogLine| LineView { at: line.at.into(), level: line.level.word(), text: line.text.clone() };
        let signatures = version.contract.as_ref().and_then(|contract| contract.json["signatures"].as_array());
        VersionPage {
            chrome: Chrome::new("models"),
            model: version.model.clone(),
            number: version.number.0,
            status: version.status.into(),
            created: version.created.into(),
            finished: version.finished.map(Time::from),
            model_type: model_type(version),
            runtime: version.runtime.clone(),
            applications: version.applications.clone(),
            description: version.description.clone(),
            metadata: version.metadata.clone().into_iter().collect(),
            error: version.error.clone(),
            image: image(version),
            signatures: signatures.map(|signatures| signatures.iter().map(signature).collect()).unwrap_or_default(),
            log_url: format!("/api/v2/model/version/{}/logs", version.id),
            next_line: lines.last().map_or(0, |line| line.index + 1),
            lines: lines.iter().map(line).collect(),
        }
    }
}

fn image(version: &Version) -> Option<ImageView> {
    let reference = version.image.clone()?;
    // podman asks for TLS everywhere; a registry on this machine has none.
    let registry = reference.split('/').next().unwrap_or_default();
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let plain = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let tls = if plain { " --tls-verify=false" } else { "" };
    let report = version.report.as_ref();
    let base = report.map_or(&Value::Null, |report| &report["base"]);
    let on_scratch = report.is_some() && base.is_null();
    let layers = report.and_then(|report| report["images"][0]["layers"].as_array());
    Some(ImageView {
        digest: version.digest.map(|digest| digest.to_string()).unwrap_or_default(),
        base: base["name"].as_str().map(str::to_owned),
        run: (!on_scratch).then(|| format!("podman run --rm{tls} -e APP_PORT=9090 -p 9090:9090 {reference}")),
        pull: format!("podman pull{tls} {reference}"),
        layers: layers.map(|layers| layers.iter().map(layer).collect()).unwrap_or_default(),
        reference,
    })
}

fn layer(layer: &Value) -> LayerView {
    let text = |member: &str| layer[member].as_str().unwrap_or_default().to_owned();
    LayerView { purpose: text("purpose"), digest: text("digest"), size: layer["size_bytes"].as_u64().map(size).unwrap_or_default() }
}

/// `4.0 MiB`.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let Some(last) = (0..units.len()).rev().find(|power| bytes >> (10 * (power + 1)) > 0) else { return format!("{bytes} B") };
    let unit = 1_u64 << (10 * (last + 1));
    let (whole, tenths) = (bytes / unit, bytes % unit * 10 / unit);
    format!("{whole}.{tenths} {}", units[last])
}

fn signature(signature: &Value) -> SignatureView {
    let side = |member: &str| {
        let mut fields = Vec::new();
        collect(&signature[member], "", &mut fields);
        fields
    };
    let name = signature["name"].as_str().unwrap_or_default().to_owned();
    SignatureView { name, sides: [("Inputs", side("inputs")), ("Outputs", side("outputs"))] }
}

/// Fields inside fields are shown by their path, as the ancestor's pages did.
fn collect(fields: &Value, above: &str, found: &mut Vec<FieldView>) {
    for field in fields.as_array().into_iter().flatten() {
        let name = format!("{above}{}", field["name"].as_str().unwrap_or_default());
        let text = |member: &str| field[member].as_str().unwrap_or_default().to_owned();
        let profile = Some(text("profile")).filter(|profile| profile != "NONE").unwrap_or_default();
        let has_subfields = field["subfields"].is_array();
        let dtype = if has_subfields { "fields".to_owned() } else { text("dtype") };
        found.push(FieldView { dtype, shape: shape(&field["shape"]), profile, name: name.clone() });
        collect(&field["subfields"], &format!("{name}/"), found);
    }
}

fn shape(shape: &Value) -> String {
    if shape["unknown_rank"] == true {
        return "any rank".to_owned();
    }
    match shape["dims"].as_array().map(Vec::as_slice) {
        None => "any".to_owned(),
        Some([]) => "scalar".to_owned(),
        Some(dims) => format!("[{}]", dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// `/applications`.
#[derive(Template)]
#[template(path = "applications.html")]
pub struct ApplicationsPage {
    chrome: Chrome,
    applications: Vec<ApplicationView>,
    more: Option<String>,
    command: String,
}

struct ApplicationView {
    name: String,
    created: Time,
    stages: Vec<Vec<VariantView>>,
}

struct VariantView {
    name: String,
    url: String,
    weight: u8,
}

impl ApplicationsPage {
    /// The page.
    pub fn new(found: &Rows<Application>, headers: &HeaderMap) -> ApplicationsPage {
        let view = |application: &Application| ApplicationView {
            name: application.name.clone(),
            created: application.created.into(),
            stages: application.stages.iter().map(|stage| stage.iter().map(variant).collect()).collect(),
        };
        let (name, port) = host(headers);
        let at = port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        let graph = r#"{"name": "my_app", "executionGraph": {"stages": [{"modelVariants": [{"modelVersion": "my_model:1"}]}]}}"#;
        ApplicationsPage {
            chrome: Chrome::new("applications"),
            applications: found.rows.iter().map(view).collect(),
            more: found.next.map(|after| format!("/applications?after={after}")),
            command: format!("curl http://{at}/api/v2/application -d '{graph}'"),
        }
    }
}

fn variant(variant: &crate::catalog::applications::Variant) -> VariantView {
    VariantView {
        name: format!("{}:{}", variant.model, variant.number),
        url: format!("/models/{}/{}", variant.model, variant.number),
        weight: variant.weight,
    }
}

/// What could not be shown.
#[derive(Template)]
#[template(path = "refusal.html")]
pub struct RefusalPage {
    chrome: Chrome,
    title: &'static str,
    message: String,
    remedy: Option<String>,
}

impl RefusalPage {
    /// The page.
    pub fn new(title: &'static str, message: String, remedy: Option<String>) -> RefusalPage {
        RefusalPage { chrome: Chrome::new(""), title, message, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_the_largest_unit() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (4 << 30, "4.0 GiB"), (u64::MAX, "16777215.9 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn shapes_are_told_apart() {
        let cases =
            [("null", "any"), (r#"{"dims":[]}"#, "scalar"), (r#"{"dims":[-1,2]}"#, "[-1, 2]"), (r#"{"unknown_rank":true}"#, "any rank")];
        for (json, text) in cases {
            assert_eq!(shape(&serde_json::from_str(json).unwrap()), text);
        }
    }
}
