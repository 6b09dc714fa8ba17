//! Layouts and archives that other tools read, and what we read of theirs. Needs `skopeo` and `umoci`.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use lamina::disk::destination::Destination;
use lamina::disk::docker_archive::DockerArchive;
use lamina::disk::layout::{Layout, LayoutError};
use lamina::disk::oci_archive::{self, OciArchive};
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::oci::image::ImageSet;
use lamina::oci::manifest::{Descriptor, Pulled};

use crate::image::{double, layers, model, single};

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn skopeo(arguments: &[&str]) -> String {
    run(Command::new("skopeo").arg("--insecure-policy").args(arguments))
}

struct Work {
    folder: tempfile::TempDir,
}

impl Work {
    fn new() -> Work {
        let folder = tempfile::tempdir().unwrap();
        model(&folder.path().join("model"));
        fs::create_dir(folder.path().join("scratch")).unwrap();
        Work { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn layers(&self) -> Vec<lamina::oci::image::SealedLayer> {
        layers(&self.path("model"), &self.path("scratch"))
    }
}

fn put(mut destination: Destination, set: &ImageSet) {
    for layer in set.images.iter().flat_map(|image| &image.layers) {
        assert!(destination.put_layer(layer).unwrap());
        assert!(destination.has_blob(&layer.descriptor.digest).unwrap());
    }
    destination.finish(set).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The layers of an image that skopeo has put into a `dir:`, as it names them: by their digests.
fn digests_of_dir(folder: &Path) -> Vec<String> {
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_layout_is_what_skopeo_and_umoci_take() {
    let work = Work::new();
    let set = single(&work.layers());
    let layout = Layout::create(&work.path("layout")).unwrap();
    put(Destination::Layout { layout: layout.clone(), tag: Some("1".to_owned()) }, &set);
    let raw = skopeo(&["inspect", "--raw", &format!("oci:{}:1", work.text("layout"))]);
    assert_eq!(Digest::of(raw.as_bytes()), set.top().digest);
    run(Command::new("umoci").args(["unpack", "--rootless", "--image", &format!("{}:1", work.text("layout")), &work.text("bundle")]));
    for name in ["weights.bin", "src/func_main.py"] {
        let unpacked = work.path("bundle/rootfs/model/files").join(name);
        assert!(fs::read(unpacked).unwrap() == fs::read(work.path("model").join(name)).unwrap(), "{name}");
    }
    // The same once more, another tag, and an image of somebody else's: all are there.
    put(Destination::Layout { layout: layout.clone(), tag: Some("2".to_owned()) }, &double(&work.layers()));
    skopeo(&["copy", "--preserve-digests", &format!("oci:{}:1", work.text("layout")), &format!("oci:{}:theirs", work.text("layout"))]);
    put(Destination::Layout { layout: layout.clone(), tag: Some("1".to_owned()) }, &set);
    let mut tags = layout.tags().unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2", "theirs"]);
    assert_eq!(names(&work.path("layout")), ["blobs", "index.json", "oci-layout"]);
    // Two layers; a config and a manifest for each of two platforms; an index.
    assert_eq!(names(&work.path("layout/blobs/sha256")).len(), 7);
}

#[test]
fn a_layout_is_read_back_and_what_is_wrong_in_it_is_said() {
    let work = Work::new();
    let set = double(&work.layers());
    let root = work.path("layout");
    put(Destination::Layout { layout: Layout::create(&root).unwrap(), tag: Some("1".to_owned()) }, &set);
    let layout = Layout::open(&root).unwrap();
    for tag in [Some("1"), None] {
        let document = layout.document(&layout.top(tag).unwrap()).unwrap();
        assert_eq!(&document, set.top());
        assert!(matches!(Pulled::parse(None, document.bytes).unwrap(), Pulled::Index(_)));
    }
    let blob = &set.images[0].layers[0].descriptor;
    let mut bytes = Vec::new();
    layout.open_blob(blob).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), blob.digest);
    let text = |error: LayoutError| (error.to_string().replace(&work.text("layout"), "L"), error.fault());
    assert_eq!(text(layout.top(Some("2")).unwrap_err()), ("the layout `L` has no image `2`; it has `1`".to_owned(), Fault::Missing));
    let gone = Descriptor::new("", Digest::of(b"gone"), 4);
    assert_eq!(text(layout.open_blob(&gone).err().unwrap()).1, Fault::Missing);
    // A blob that another tool left half-written is not there for a writer and an error for a reader.
    let path = root.join("blobs/sha256").join(blob.digest.hex());
    fs::write(&path, &bytes[..1000]).unwrap();
    assert!(!layout.has_blob(&blob.digest).unwrap());
    assert!(layout.open_blob(blob).unwrap().read_to_end(&mut Vec::new()).is_err());
    assert_eq!(text(layout.finish(&set, None).unwrap_err()).1, Fault::Missing);
    assert!(layout.put_blob(blob, &mut &bytes[..999]).is_err());
    layout.put_blob(blob, &mut &bytes[..]).unwrap();
    assert!(layout.has_blob(&blob.digest).unwrap());
    layout.finish(&single(&work.layers()), Some("2")).unwrap();
    let error = text(layout.top(None).unwrap_err());
    assert_eq!(error, ("the layout `L` has 2 images and no tag was named; it has `1`, `2`".to_owned(), Fault::Usage));
    fs::write(root.join("oci-layout"), "{\"imageLayoutVersion\":\"2.0.0\"}").unwrap();
    assert_eq!(text(Layout::open(&root).unwrap_err()).0, "`L` is not an OCI image layout: its version is `2.0.0`, not `1.0.0`");
    // A folder with something else in it is not made a layout of: whoever names it to be written has made a slip.
    let error = text(Layout::create(&work.path("model")).unwrap_err());
    assert!(error.0.ends_with("/model` is there and is no layout that takes an image") && error.1 == Fault::Usage, "{error:?}");
    assert_eq!(names(&work.path("model")), ["src", "weights.bin"]);
}

#[test]
fn two_writers_of_one_layout_both_stay() {
    let work = Work::new();
    let set = single(&work.layers());
    let root = work.path("layout");
    Layout::create(&root).unwrap();
    std::thread::scope(|scope| {
        for tag in 0..8 {
            let (root, set) = (&root, &set);
            scope.spawn(move || put(Destination::Layout { layout: Layout::open(root).unwrap(), tag: Some(tag.to_string()) }, set));
        }
    });
    let mut tags = Layout::open(&root).unwrap().tags().unwrap();
    tags.sort();
    assert_eq!(tags, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn an_oci_archive_is_what_skopeo_takes_and_writes() {
    let work = Work::new();
    for (name, set) in [("single.tar", single(&work.layers())), ("double.tar", double(&work.layers()))] {
        for copy in [name.to_owned(), format!("again-{name}")] {
            let archive = OciArchive::create(&work.path(&copy)).unwrap();
            put(Destination::OciArchive { archive, tag: Some("1".to_owned()) }, &set);
        }
        assert!(fs::read(work.path(name)).unwrap() == fs::read(work.path(&format!("again-{name}"))).unwrap());
        let raw = skopeo(&["inspect", "--raw", &format!("oci-archive:{}:1", work.text(name))]);
        assert_eq!(Digest::of(raw.as_bytes()), set.top().digest);
        let scratch = tempfile::tempdir().unwrap();
        let layout = oci_archive::open(&work.path(name), scratch.path()).unwrap();
        assert_eq!(&layout.document(&layout.top(Some("1")).unwrap()).unwrap(), set.top());
        assert!(layout.has_blob(&set.images[0].layers[1].descriptor.digest).unwrap());
    }
    let theirs = format!("oci-archive:{}:2", work.text("theirs.tar"));
    skopeo(&["copy", "--preserve-digests", &format!("oci-archive:{}:1", work.text("single.tar")), &theirs]);
    let scratch = tempfile::tempdir().unwrap();
    let layout = oci_archive::open(&work.path("theirs.tar"), scratch.path()).unwrap();
    assert_eq!(layout.top(Some("2")).unwrap().digest, single(&work.layers()).top().digest);
    assert!(names(work.folder.path()).iter().all(|name| !name.ends_with(".part")));
    fs::write(work.path("bad.tar"), "no archive").unwrap();
    let error = oci_archive::open(&work.path("bad.tar"), &work.path("scratch")).unwrap_err();
    assert_eq!(error.fault(), Fault::Invalid);
}

#[test]
fn a_docker_archive_is_what_skopeo_takes() {
    let work = Work::new();
    let set = single(&work.layers());
    let name = "127.0.0.1:5000/linear_regression:1";
    for copy in ["one.tar", "two.tar"] {
        put(Destination::DockerArchive(DockerArchive::create(&work.path(copy), Some(name.parse().unwrap())).unwrap()), &set);
    }
    assert!(fs::read(work.path("one.tar")).unwrap() == fs::read(work.path("two.tar")).unwrap());
    let source = format!("docker-archive:{}:{name}", work.text("one.tar"));
    let config = skopeo(&["inspect", "--config", "--raw", &source]);
    assert_eq!(Digest::of(config.as_bytes()), set.images[0].config.digest);
    skopeo(&["copy", &source, &format!("dir:{}", work.text("dir"))]);
    // skopeo unpacks the layers of such archives: what it has are the tars.
    let diff_ids: Vec<_> = set.images[0].layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    assert_eq!(digests_of_dir(&work.path("dir")), diff_ids);
    let archive = DockerArchive::create(&work.path("both.tar"), None).unwrap();
    let mut destination = Destination::DockerArchive(archive);
    let both = double(&work.layers());
    for layer in &both.images[0].layers {
        destination.put_layer(layer).unwrap();
    }
    let error = destination.finish(&both).unwrap_err();
    assert_eq!(error.to_string(), "a Docker archive holds one platform, and the image is for linux/amd64, linux/arm64");
    assert_eq!(error.fault(), Fault::Usage);
    assert!(!work.path("both.tar").exists());
    assert!(names(work.folder.path()).iter().all(|name| !name.ends_with(".part")));
}

#[test]
fn a_file_that_changes_while_it_is_written_leaves_no_archive() {
    let work = Work::new();
    let set = single(&work.layers());
    fs::write(work.path("model/weights.bin"), "other").unwrap();
    let archive = OciArchive::create(&work.path("image.tar")).unwrap();
    let mut destination = Destination::OciArchive { archive, tag: None };
    let error = destination.put_layer(&set.images[0].layers[0]).unwrap_err();
    assert_eq!(error.fault(), Fault::Invalid);
    assert!(
        lamina::fault::one_line(&error).contains("weights.bin` changed while it was being read"),
        "{}",
        lamina::fault::one_line(&error)
    );
    // What went wrong once does not become an archive by going on.
    assert!(destination.put_layer(&set.images[0].layers[1]).is_err());
    drop(destination);
    assert_eq!(names(work.folder.path()), ["model", "scratch"]);
}
