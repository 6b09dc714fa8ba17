//! Large files that shrink are compressed, and others are not; every tool reads either, and nobody's digest hangs on the machine.

use std::fs;
use std::path::{Path, PathBuf};

use lamina::oci::digest::Digest;
use serde_json::{Value, json};

use crate::support::bases::{self, Base, Packed};
use crate::support::client::noise;
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, tool};
use crate::support::images::{self, listing};
use crate::support::models;

const FILE_BYTES: usize = 9 << 20;
const TEXT: &str = "text.csv";
const WEIGHTS: &str = "weights.bin";

/// A user with a model of one large file that shrinks and one that does not, and a registry.
struct Bench {
    registry: DockerRegistry,
    home: Home,
}

impl Bench {
    fn new() -> Bench {
        let (registry, home) = (DockerRegistry::start(), Home::new());
        let model = home.path().join("model");
        models::small(&model);
        let lines: String =
            (0..).map(|at: u32| format!("{at},user-{},{}\n", at % 977, ["red", "green"][at as usize % 2])).take(600_000).collect();
        fs::write(model.join(TEXT), &lines.as_bytes()[..FILE_BYTES]).unwrap();
        fs::write(model.join(WEIGHTS), noise(FILE_BYTES)).unwrap();
        Bench { registry, home }
    }

    fn model(&self) -> PathBuf {
        self.home.path().join("model")
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.address())
    }

    fn build(&self, to: &str, more: &[&str]) -> Value {
        let model = self.model();
        let words = ["build", model.to_str().unwrap(), "--runtime", "scratch", "--to", to];
        self.home.json(words.iter().chain(more))
    }

    /// What was shipped is what is in a folder that somebody unpacked.
    fn same_files(&self, unpacked: &Path) {
        for name in [TEXT, WEIGHTS] {
            assert!(fs::read(unpacked.join(name)).unwrap() == fs::read(self.model().join(name)).unwrap(), "{name}");
        }
    }

    /// `hs build` that is refused as a command line is, with no request for the model's repository.
    fn refused(&self, more: &[&str]) -> String {
        let model = self.model();
        let before = (self.registry.blobs(), listing(&model));
        let ran = self.home.hs(["build", model.to_str().unwrap(), "--compression", "zstd"].iter().chain(more));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
        assert_eq!((self.registry.blobs(), listing(&model)), before);
        ran.stderr
    }
}

/// The endings of the layers' types and their sizes, without the contract's.
fn layers(document: &Value) -> Vec<(String, u64)> {
    let all = document["images"][0]["layers"].as_array().unwrap();
    let files = all.iter().filter(|layer| layer["purpose"] == "files");
    files
        .map(|layer| {
            let media_type = layer["media_type"].as_str().unwrap();
            (media_type.rsplit('.').next().unwrap().to_owned(), layer["size_bytes"].as_u64().unwrap())
        })
        .collect()
}

fn ends(document: &Value) -> Vec<String> {
    layers(document).into_iter().map(|(end, _)| end).collect()
}

#[test]
fn a_large_file_is_compressed_where_it_shrinks() {
    let bench = Bench::new();
    let (to, layout) = (bench.at("model:auto"), bench.home.path().join("layout"));
    let auto = bench.build(&to, &[]);
    // The model's large files in the order of their paths, then the small ones.
    assert_eq!(ends(&auto), ["tar+gzip", "tar", "tar+gzip"]);
    let sizes = layers(&auto);
    assert!(sizes[0].1 < FILE_BYTES as u64 / 2 && sizes[1].1 > FILE_BYTES as u64, "{sizes:?}");
    assert_eq!(bench.build(&to, &["--no-cache"])["digest"], auto["digest"], "the same bytes again");
    let source = format!("docker://{to}");
    tool("skopeo", &["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &source, &format!("oci:{}:1", layout.display())]);
    let bundle = bench.home.path().join("bundle");
    tool("umoci", &["unpack", "--rootless", "--image", &format!("{}:1", layout.display()), bundle.to_str().unwrap()]);
    bench.same_files(&bundle.join("rootfs/model/files"));
    let back = bench.home.path().join("back");
    bench.home.json(["pull", &to, back.to_str().unwrap()]);
    bench.same_files(&back);
}

#[test]
fn none_gzip_and_zstd_mean_what_they_say() {
    let bench = Bench::new();
    let plain = bench.build(&bench.at("model:none"), &["--compression", "none"]);
    assert_eq!(ends(&plain), ["tar", "tar", "tar"]);
    let gzip = bench.build(&bench.at("model:gzip"), &["--compression", "gzip"]);
    assert_eq!(ends(&gzip), ["tar+gzip", "tar", "tar+gzip"]);
    let to = bench.at("model:zstd");
    let zstd = bench.build(&to, &["--compression", "zstd"]);
    assert_eq!(ends(&zstd), ["tar+zstd", "tar", "tar+zstd"]);
    let diff_ids = |document: &Value| {
        document["images"][0]["layers"].as_array().unwrap().iter().map(|layer| layer["diff_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(diff_ids(&plain), diff_ids(&zstd), "the tars are the same");
    // Another tool unpacks it, and has the tars under their diff IDs.
    let folder = bench.home.path().join("unpacked");
    let to_folder = format!("dir:{}", folder.display());
    let words =
        ["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-decompress", &format!("docker://{to}"), &to_folder];
    tool("skopeo", &words);
    for diff_id in diff_ids(&zstd) {
        let name = folder.join(&diff_id.as_str().unwrap()["sha256:".len()..]);
        assert_eq!(Digest::of(&fs::read(name).unwrap()).to_string(), diff_id);
    }
    let back = bench.home.path().join("back");
    bench.home.json(["pull", &to, back.to_str().unwrap()]);
    bench.same_files(&back);
    // The settings say it for every build, and the command line has the last word.
    let home = Home::new().with("HS_COMPRESSION", "none");
    let model = bench.model();
    let words = ["build", model.to_str().unwrap(), "--runtime", "scratch", "--dry-run"];
    assert_eq!(home.json(words)["digest"], plain["digest"]);
    assert_eq!(home.json(words.iter().chain(&["--compression", "auto"]))["digest"], gzip["digest"]);
    assert_eq!(Home::new().with("HS_COMPRESSION", "brotli").hs(words).code, 2);
}

#[test]
fn zstd_is_refused_where_it_has_no_name_and_nothing_is_sent() {
    let bench = Bench::new();
    let base = bench.at("base:1");
    bases::push_as(&base, &[Base::new("amd64", &[Packed::Gzip])], &["--format", "v2s2"]);
    let said = bench.refused(&["--runtime", &base, "--to", &bench.at("model:1")]);
    assert!(said.contains("Docker's family") && said.contains("--compression gzip"), "{said}");
    // As a setting it is a wish.
    let home = Home::new().with("HS_COMPRESSION", "zstd");
    let model = bench.model();
    let document = home.json(["build", model.to_str().unwrap(), "--runtime", &base, "--dry-run"]);
    assert_eq!(ends(&document), ["gzip", "tar", "gzip"], "Docker's words");
    assert!(
        document["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|said| said.as_str().unwrap().starts_with("the layers are compressed with gzip"))
    );

    let archive = bench.home.path().join("archive.tar");
    let said = bench.refused(&["--runtime", "scratch", "--to", &format!("docker-archive:{}", archive.display())]);
    assert!(said.contains("docker-archive:") && said.contains("oci-archive:") && !archive.exists(), "{said}");
    let ran = bench.home.hs(["build", model.to_str().unwrap(), "--compression", "lzma"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("`lzma` is no compression") && ran.stderr.contains("`zstd`"), "{ran:#?}");
    // A Docker archive takes what is gzip, and the base's family takes the rest.
    let document = bench.build(&format!("docker-archive:{}", archive.display()), &[]);
    let loaded = images::config(&format!("docker-archive:{}", archive.display()));
    assert_eq!(loaded["rootfs"]["diff_ids"].as_array().unwrap().len(), document["images"][0]["layers"].as_array().unwrap().len());
    assert_eq!(document["warnings"], json!(["no base was asked for: the image holds the model alone"]));
}

#[test]
fn what_a_sample_said_is_remembered_with_the_layer() {
    let bench = Bench::new();
    models::settle(&bench.model());
    let model = bench.model();
    let words = ["build", model.to_str().unwrap(), "--runtime", "scratch", "--dry-run"];
    let first = bench.home.json(words);
    let (again, opened) = bench.home.traced(&model, words);
    assert_eq!(again["digest"], first["digest"]);
    assert!(!opened.iter().any(|path| path == TEXT || path == WEIGHTS), "{opened:?}");
    let said = bench.home.hs(words.iter().chain(&["--explain"])).stdout;
    assert!(said.contains("large, compressed: by a sample, to ") && said.contains("large, as it is: by a sample"), "{said}");
    // Told to compress otherwise, it is another layer, and read.
    let (_, opened) = bench.home.traced(&model, words.iter().chain(&["--compression", "zstd"]).copied());
    assert!(opened.iter().any(|path| path == TEXT), "{opened:?}");
}
