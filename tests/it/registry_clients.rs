//! `/v2/` of our own with the tools that people have: skopeo, podman and umoci push to it, pull from it, list, copy and delete; layers that are recipes
//! are among what they pull. What the protocol says is in `distribution_*.rs`.

use std::fs;
use std::process::{Command, Stdio};

use lamina::oci::digest::Digest;
use lamina::oci::image::{ImageSet, SealedLayer};

use crate::image::{double, single};
use crate::support::bases::{Base, Packed, push, push_as, write_layout};
use crate::support::embedded::Registry;
use crate::support::hs::tool;
use crate::support::images::{Copied, inspect, raw};

const QUIET: [&str; 3] = ["--insecure-policy", "copy", "-q"];

/// Runs what blocks beside the registry, which runs in this process.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_inspects_lists_and_deletes() {
    let registry = Registry::start().await;
    let at = format!("{}/team/base", registry.host);
    let digest = beside(move || {
        let bases = [Base::new("amd64", &[Packed::Plain, Packed::Gzip]), Base::new("arm64", &[Packed::Zstd])];
        push(&format!("{at}:1"), &bases);
        // Docker's words for it, under another tag.
        push_as(&format!("{at}:docker"), &bases[..1], &["--format", "v2s2"]);
        let listed: serde_json::Value =
            serde_json::from_str(&tool("skopeo", &["list-tags", "--tls-verify=false", &format!("docker://{at}")])).unwrap();
        assert_eq!(listed["Tags"], serde_json::json!(["1", "docker"]));
        assert_eq!(raw(&format!("docker://{at}:docker"))["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
        let inspected = inspect(&format!("docker://{at}:docker"));
        tool("skopeo", &["delete", "--tls-verify=false", &format!("docker://{at}:docker")]);
        inspected["Digest"].as_str().unwrap().to_owned()
    })
    .await;
    assert_eq!(registry.store.tags("team/base").unwrap().unwrap(), ["1"]);
    assert_eq!(registry.store.manifest("team/base", &digest).unwrap(), None, "skopeo deletes by digest");
    assert_eq!(registry.left_in_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_syncs_a_repository_with_recipes_to_a_folder_and_into_another_registry() {
    let (registry, other) = (Registry::start().await, Registry::start().await);
    let sets: Vec<ImageSet> =
        [("1", single as fn(&[SealedLayer]) -> ImageSet), ("2", double)].map(|(tag, set)| registry.build(set, "m", tag)).into();
    let (from, to) = (format!("{}/m", registry.host), format!("{}/mirror", other.host));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let name = from.clone();
    beside(move || {
        let words = ["--insecure-policy", "sync", "--all", "--preserve-digests", "--scoped"];
        tool("skopeo", &[&words[..], &["--src-tls-verify=false", "--src", "docker", "--dest", "dir", &name, &path]].concat());
        let ends = ["--src-tls-verify=false", "--dest-tls-verify=false", "--src", "docker", "--dest", "docker"];
        tool("skopeo", &[&words[..4], &ends, &[&name, &to]].concat());
    })
    .await;
    for (tag, set) in ["1", "2"].into_iter().zip(&sets) {
        assert_eq!(other.store.manifest("mirror/m", tag).unwrap().as_ref(), Some(set.top()));
        let synced = folder.path().join(format!("{from}:{tag}/manifest.json"));
        assert_eq!(Digest::of(&fs::read(synced).unwrap()), set.top().digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn umoci_unpacks_what_it_pulled_changes_it_and_the_change_is_pushed() {
    let registry = Registry::start().await;
    registry.build(single, "m", "1");
    let at = format!("docker://{}/m", registry.host);
    beside(move || {
        let root = Copied::from(&format!("{at}:1")).unpack();
        assert_eq!(fs::read_to_string(root.join("model/files/src/func_main.py")).unwrap(), "def infer(x): return x\n");
        assert_eq!(fs::metadata(root.join("model/files/weights.bin")).unwrap().len(), 300_000);

        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("layout").display().to_string();
        let image = format!("oci:{layout}:one");
        tool("skopeo", &[&QUIET[..], &["--src-tls-verify=false", &format!("{at}:1"), &image]].concat());
        tool("umoci", &["config", "--image", &format!("{layout}:one"), "--tag", "two", "--config.label", "changed=by umoci"]);
        let words = ["--dest-tls-verify=false", "--preserve-digests"];
        tool("skopeo", &[&QUIET[..], &words, &[&format!("oci:{layout}:two"), &format!("{at}:2")]].concat());
        assert_eq!(inspect(&format!("{at}:2"))["Labels"]["changed"], "by umoci");
        Copied::from(&format!("{at}:2")).unpack();
    })
    .await;
    assert_eq!(registry.store.tags("m").unwrap().unwrap(), ["1", "2"]);
}

/// A podman with a store of its own, which is gone with the value.
struct Podman(tempfile::TempDir);

impl Podman {
    fn run(&self, words: &[&str]) -> String {
        let output = self.command().args(words).output().unwrap();
        assert!(output.status.success(), "podman {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.0.path().join("root")).arg("--runroot").arg(self.0.path().join("run"));
        command.args(["--storage-driver", "vfs", "--events-backend", "file"]).stdin(Stdio::null());
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command().args(["system", "reset", "--force"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_podman_pulls_layers_that_are_recipes_and_pushes_what_it_has() {
    let registry = Registry::start().await;
    let set = registry.build(single, "m", "1");
    let config = set.images[0].config.digest;
    let at = format!("{}/m", registry.host);
    beside(move || {
        let podman = Podman(tempfile::tempdir().unwrap());
        let id = podman.run(&["pull", "--quiet", "--tls-verify=false", &format!("{at}:1")]);
        assert_eq!(id, config.hex(), "an image is called by its config");
        podman.run(&["push", "--quiet", "--tls-verify=false", &id, &format!("docker://{at}:again")]);
        podman.run(&["rmi", "--force", &id]);
        // Podman packs layers as it likes; the config, and with it every file, is the same.
        assert_eq!(podman.run(&["pull", "--quiet", "--tls-verify=false", &format!("{at}:again")]), id);
        let found = podman.run(&["image", "inspect", "--format", "{{.Config.WorkingDir}}", &id]);
        assert_eq!(found, podman.run(&["image", "inspect", "--format", "{{.Config.WorkingDir}}", &format!("{at}:again")]));
    })
    .await;
    assert_eq!(registry.store.tags("m").unwrap().unwrap(), ["1", "again"]);
    assert_eq!(registry.left_in_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_push_of_the_same_image_sends_no_blob() {
    let registry = Registry::start().await;
    let folder = tempfile::tempdir().unwrap();
    write_layout(folder.path(), "base", &[Base::new("amd64", &[Packed::Gzip])]);
    let words = |tag: &str| [format!("oci:{}:base", folder.path().display()), format!("docker://{}/a:{tag}", registry.host)];
    let copy = async |ends: [String; 2]| {
        let more = ["--dest-tls-verify=false", "--preserve-digests"];
        beside(move || tool("skopeo", &[&QUIET[..], &more, &[ends[0].as_str(), ends[1].as_str()]].concat())).await
    };
    copy(words("1")).await;
    let blobs = || {
        let entries = fs::read_dir(registry.data.path().join("blobs")).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| (std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap()), path))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let before = blobs();
    copy(words("2")).await;
    assert_eq!(blobs(), before);
    assert_eq!(registry.store.tags("a").unwrap().unwrap(), ["1", "2"]);
}
