//! How the files of other frameworks are told: magic numbers, first words, and names where bytes say nothing.
//!
//! Each check is a few comparisons with what the framework's own writer begins its files with; where that is too little to be sure (a protobuf
//! message has no magic number), the name has to agree. None of them parses a file.
//!
//! What must stay true: the bytes are a stranger's, perhaps only the beginning of a file; a check looks at no byte twice in a loop within a
//! loop, and an offset out of the file is compared before it is used.

use super::foreign::Foreign;
use super::foreign::Framework;
use super::pickle;

/// What is told of a file of which the name is in lower case and without folders.
pub(super) fn recognise(name: &str, head: &[u8], size_bytes: u64) -> Option<Foreign> {
    let kinds = [pmml, zip, gradient_boosting, tensorflow, deep_learning, r, pickled];
    kinds.iter().find_map(|kind| kind(name, head, size_bytes))
}

fn foreign(framework: Framework, what: &str) -> Foreign {
    Foreign { framework, version: None, what: what.to_owned(), pickled: false }
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// A version such as a model type can carry.
fn plain_version(version: &[u8]) -> Option<String> {
    const VERSION_BYTES_MAX: usize = 32;
    let version = std::str::from_utf8(version).ok()?.trim();
    let plain = version.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    (plain && (1..=VERSION_BYTES_MAX).contains(&version.len())).then(|| version.to_owned())
}

/// An XML document whose root is `PMML`, after a declaration, comments and a document type.
fn pmml(_: &str, head: &[u8], _: u64) -> Option<Foreign> {
    const VERSION: &[u8] = b"version";
    let mut rest = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    // Each round goes past one of them, and there are few.
    for _ in 0..100 {
        let end: &[u8] = match rest {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'<', b'!', ..] => b">",
            _ => break,
        };
        rest = rest.get(position(rest, end)? + end.len()..)?.trim_ascii_start();
    }
    let tag = rest.strip_prefix(b"<")?;
    let tag = tag.get(..position(tag, b">").unwrap_or(tag.len()))?;
    let (root, attributes) = tag.split_at(tag.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'/').unwrap_or(tag.len()));
    let root = root.rsplit(|byte| *byte == b':').next()?;
    let quoted = |at: usize| {
        let rest = attributes.get(at..)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
        let (quote, rest) = rest.split_first()?;
        plain_version(rest.get(..rest.iter().position(|byte| byte == quote)?)?)
    };
    let named = attributes.windows(VERSION.len() + 1).position(|w| w[0].is_ascii_whitespace() && &w[1..] == VERSION);
    let version = named.and_then(|at| quoted(at + 1 + VERSION.len()));
    (root == b"PMML").then(|| Foreign { version, ..foreign(Framework::Pmml, "a PMML document") })
}

/// A zip, by the names of the files whose headers lie in these bytes.
fn zip(name: &str, head: &[u8], _: u64) -> Option<Foreign> {
    const HEADER: &[u8] = b"PK\x03\x04";
    const NAME_AT: usize = 30;
    // Names of the files that are looked for are short; a long one would be searched again for each header in it.
    const NAME_BYTES_MAX: usize = 512;
    if !head.starts_with(HEADER) {
        return None;
    }
    let headers = head.windows(HEADER.len()).enumerate().filter(|(_, window)| *window == HEADER);
    let names = headers.filter_map(|(at, _)| {
        let header = head.get(at..)?;
        let length = usize::from(u16::from_le_bytes([*header.get(26)?, *header.get(27)?]));
        header.get(NAME_AT..NAME_AT + length).filter(|name| name.len() <= NAME_BYTES_MAX)
    });
    let (mut torch, mut script, mut skops, mut mojo, mut ini) = (false, false, extension(name) == "skops", false, false);
    for file in names {
        torch |= file.ends_with(b"/data.pkl") || file == b"data.pkl";
        script |= file.ends_with(b"/constants.pkl") || position(file, b"/code/").is_some();
        skops |= file == b"schema.json";
        ini |= file == b"model.ini";
        mojo |= file.starts_with(b"domains/") || file.starts_with(b"trees/") || file == b"experimental/modelDetails.json";
    }
    match () {
        () if script => Some(foreign(Framework::TorchScript, "a TorchScript module")),
        () if torch => Some(Foreign { pickled: true, ..foreign(Framework::PyTorch, "a PyTorch file with a pickle in it") }),
        () if skops => Some(foreign(Framework::Skops, "a scikit-learn model saved by skops")),
        () if ini && (mojo || name.contains("mojo")) => Some(foreign(Framework::H2o, "an H2O MOJO")),
        () => None,
    }
}

fn gradient_boosting(_: &str, head: &[u8], _: u64) -> Option<Foreign> {
    const VERSION: &[u8] = b"\"version\":[";
    if head.starts_with(b"CBM1") {
        return Some(foreign(Framework::CatBoost, "a CatBoost model"));
    }
    if head.starts_with(b"tree\nversion=v") || head.starts_with(b"tree\r\nversion=v") {
        return Some(foreign(Framework::LightGbm, "a LightGBM model"));
    }
    if head.starts_with(b"binf") {
        return Some(foreign(Framework::XGBoost, "an XGBoost model in the binary form of before 2.0"));
    }
    // UBJSON: a key is its length (`L`: eight bytes, the highest first) and its letters.
    if head.starts_with(b"{L\0\0\0\0\0\0\0\x07learner{") {
        return Some(foreign(Framework::XGBoost, "an XGBoost model"));
    }
    let first_key = head.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    let learner = b"\"learner\"";
    let later = || first_key.starts_with(b"\"version\"") && position(first_key, learner).is_some();
    if !first_key.starts_with(learner) && !later() {
        return None;
    }
    // `"version":[1,7,6]`, the last of its name: a feature may be called so too.
    let numbers = || {
        let at = head.windows(VERSION.len()).rposition(|window| window == VERSION)? + VERSION.len();
        let list = head.get(at..)?;
        let list = list.get(..list.iter().position(|byte| *byte == b']')?)?;
        let digits = list.iter().all(|byte| byte.is_ascii_digit() || *byte == b',');
        plain_version(&list.iter().map(|byte| if *byte == b',' { b'.' } else { *byte }).collect::<Vec<u8>>()).filter(|_| digits)
    };
    Some(Foreign { version: numbers(), ..foreign(Framework::XGBoost, "an XGBoost model") })
}

fn tensorflow(name: &str, head: &[u8], _: u64) -> Option<Foreign> {
    if head.get(4..8) == Some(b"TFL3") {
        return Some(foreign(Framework::TensorFlowLite, "a TensorFlow Lite model"));
    }
    let checkpoint = || Some(foreign(Framework::TensorFlow, "part of a TensorFlow checkpoint"));
    let shard = |(_, shard): (&str, &str)| shard.len() == 14 && shard.get(5..9) == Some("-of-");
    if name.rsplit_once(".data-").is_some_and(shard) || (name == "checkpoint" && head.starts_with(b"model_checkpoint_path:")) {
        return checkpoint();
    }
    // A table whose first key is empty and has a header in it: how many shards there are.
    if extension(name) == "index" && matches!(head, [0, 0, _, 0x08, ..]) {
        return checkpoint();
    }
    // A GraphDef begins with a node: its name, then its operation.
    let graph = || {
        let (node, _) = message(head, 0x0a)?;
        let (_, rest) = message(node, 0x0a)?;
        let (operation, _) = message(rest, 0x12)?;
        Some(operation.first()?.is_ascii_uppercase() || operation.first()? == &b'_')
    };
    (extension(name) == "pb" && graph() == Some(true))
        .then(|| foreign(Framework::TensorFlow, "a frozen TensorFlow graph, which has no signature"))
}

/// The bytes of protobuf's field with this key at the beginning, as far as they are there, and what follows.
fn message(bytes: &[u8], key: u8) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes.strip_prefix(&[key])?;
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21] {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(rest.split_at(length.min(rest.len())));
        }
    }
    None
}

fn deep_learning(name: &str, head: &[u8], size_bytes: u64) -> Option<Foreign> {
    if head.starts_with(b"GGUF") {
        return Some(foreign(Framework::Gguf, "a language model's weights in GGUF"));
    }
    // The number with which torch.save began its files before 1.6, pickled.
    if head.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") {
        return Some(Foreign { pickled: true, ..foreign(Framework::PyTorch, "a pickled PyTorch file") });
    }
    let header_bytes = || Some(u64::from_le_bytes(head.get(..8)?.try_into().ok()?));
    if header_bytes().is_some_and(|header| header >= 2 && header.checked_add(8).is_some_and(|end| end <= size_bytes))
        && head.get(8) == Some(&b'{')
        && (extension(name) == "safetensors" || position(head, b"\"data_offsets\"").is_some())
    {
        return Some(foreign(Framework::Safetensors, "weights in safetensors, without the model that they belong to"));
    }
    // The list of arrays that MXNet's `nd.save` writes.
    if head.starts_with(&[0x12, 1, 0, 0, 0, 0, 0, 0]) {
        return Some(foreign(Framework::MxNet, "parameters of an MXNet model"));
    }
    if name.ends_with("-symbol.json") && position(head, b"\"nodes\"").is_some() {
        return Some(foreign(Framework::MxNet, "the symbol of an MXNet model"));
    }
    // A message that begins with the version of its specification.
    (extension(name) == "mlmodel" && head.first() == Some(&0x08)).then(|| foreign(Framework::CoreMl, "a Core ML model"))
}

fn r(name: &str, head: &[u8], _: u64) -> Option<Foreign> {
    let plain =
        [&b"RDX2\n"[..], b"RDX3\n", b"RDA2\n", b"RDA3\n", b"X\n\0\0\0\x02", b"X\n\0\0\0\x03"].iter().any(|magic| head.starts_with(magic));
    let named = ["rds", "rda", "rdata"].contains(&extension(name)) && (compressed(head) || head.starts_with(b"A\n"));
    (plain || named).then(|| foreign(Framework::R, "an object that R has saved"))
}

/// Whether the bytes begin as one of the compressions that joblib and R have.
fn compressed(head: &[u8]) -> bool {
    let zlib = matches!(head, [0x78, flags, ..] if u16::from_be_bytes([0x78, *flags]).is_multiple_of(31));
    let magics = [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0", b"\x5d\0\0", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"];
    zlib || magics.iter().any(|magic| head.starts_with(magic))
}

/// A pickle: by what it imports, whatever its file is called, or by its file's name.
fn pickled(name: &str, head: &[u8], _: u64) -> Option<Foreign> {
    let named = ["pkl", "pickle", "joblib", "pck", "pcl", "p", "pt", "pth"].contains(&extension(name));
    // Protocols from 2 on begin with their number.
    let opens = matches!(head, [0x80, 2..=5, ..]);
    if named && compressed(head) {
        return Some(Foreign { pickled: true, ..foreign(Framework::Pickle, "a compressed pickle") });
    }
    if !named && !opens {
        return None;
    }
    let scan = pickle::globals(head);
    if !opens && scan.globals.is_empty() && scan.end != pickle::End::Stop {
        return None;
    }
    // The first that is known is the class of the whole: what it is made of comes after it.
    let framework = scan.globals.iter().find_map(|global| framework_of(global.module.split('.').next()?));
    let version = framework.filter(|framework| *framework == Framework::ScikitLearn).and_then(|_| pickle::sklearn_version(head));
    let what = framework.map_or_else(|| "a pickle".to_owned(), |framework| format!("a pickled {} model", framework.name()));
    Some(Foreign { framework: framework.unwrap_or(Framework::Pickle), version, what, pickled: true })
}

fn framework_of(package: &str) -> Option<Framework> {
    Some(match package {
        "sklearn" => Framework::ScikitLearn,
        "xgboost" => Framework::XGBoost,
        "lightgbm" => Framework::LightGbm,
        "catboost" => Framework::CatBoost,
        "statsmodels" => Framework::StatsModels,
        "torch" => Framework::PyTorch,
        _ => return None,
    })
}
