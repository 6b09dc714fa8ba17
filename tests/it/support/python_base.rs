//! A base with a Python that can be run: this machine's own, `/usr/bin/python3` with its standard library and its shared libraries, as a root file system.

use std::fs::{self, File};
use std::path::Path;

use super::hs::{Home, tool};
use super::python_packages::program;

/// What the base is called, and the runtime that the settings list for it.
pub const NAME: &str = "own-python:1";

/// The root file system of the base as a tar. With `broken`, its dynamic loader is for no machine.
fn write_root(to: &Path, broken: bool) {
    let mut tar = tar::Builder::new(File::create(to).unwrap());
    let interpreter = fs::canonicalize("/usr/bin/python3").unwrap();
    let path = interpreter.to_str().unwrap();
    tar.append_path_with_name(&interpreter, &path[1..]).unwrap();
    // `libz.so.1 => /lib/…/libz.so.1 (0x…)`, and the loader with its path alone.
    let listed = tool("ldd", &[path]);
    let libraries = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    for library in libraries {
        let file = fs::canonicalize(library).unwrap();
        let name = format!("usr/lib/x86_64-linux-gnu/{}", library.rsplit('/').next().unwrap());
        if broken && name.contains("ld-linux") {
            let mut header = tar::Header::new_gnu();
            header.set_size(5);
            header.set_mode(0o755);
            tar.append_data(&mut header, name, &b"\x7fELF\n"[..]).unwrap();
        } else {
            tar.append_path_with_name(file, name).unwrap();
        }
    }
    let modules = tool(path, &["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]);
    for entry in fs::read_dir(modules.trim()).unwrap().map(|entry| entry.unwrap().path()) {
        let (text, name) = (entry.to_str().unwrap(), entry.file_name().unwrap().to_str().unwrap());
        // Enough to start and to import packages with.
        if name.ends_with(".py") && entry.is_file() {
            tar.append_path_with_name(fs::canonicalize(&entry).unwrap(), &text[1..]).unwrap();
        } else if ["encodings", "importlib", "collections", "re"].contains(&name) {
            tar.append_dir_all(&text[1..], &entry).unwrap();
        }
    }
    tar.into_inner().unwrap().sync_all().unwrap();
}

/// The version of its Python: `3.11`.
pub fn version() -> String {
    tool("/usr/bin/python3", &["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).trim().to_owned()
}

/// A user whose settings list the runtime, with no resolver: what is installed stands in locks or in folders of wheels that uv is told of.
pub fn user() -> Home {
    let home =
        Home::new().with("HS_UV", program("uv").to_str().unwrap()).with("HS_PIP", "off").with("PIP_NO_INDEX", "1").with("UV_OFFLINE", "1");
    let (version, (name, number)) = (version(), NAME.split_once(':').unwrap());
    let settings = format!(
        "runtimes:\n  - name: {name}\n    version: \"{number}\"\n    reference: {NAME}\n    model_types: [python]\n    contract_dialect: v1\n    \
         python_version: \"{version}\"\n    libc: \"glibc 2.36\"\n    bytecode_interpreter: /usr/bin/python{version}\n"
    );
    let file = home.path().join("config.yaml");
    fs::write(&file, settings).unwrap();
    home.with("HS_CONFIG", file.to_str().unwrap())
}

/// Imports the base into the user's data folder or to a destination. With `broken`, its Python cannot be run.
pub fn import(home: &Home, broken: bool, to: Option<&str>) {
    let more: Vec<&str> = to.into_iter().flat_map(|to| ["--to", to]).collect();
    import_for(home, "amd64", broken, &more);
}

/// The same for a processor, with more words for `hs base import`.
pub fn import_for(home: &Home, architecture: &str, broken: bool, more: &[&str]) {
    let (root, config) = (home.path().join("root.tar"), home.path().join("root.json"));
    write_root(&root, broken);
    fs::write(&config, format!(r#"{{"architecture": "{architecture}", "os": "linux", "config": {{"Env": ["PATH=/usr/bin"]}}}}"#)).unwrap();
    let words = ["base", "import", "--name", NAME, "--image-config", config.to_str().unwrap(), root.to_str().unwrap()];
    home.json(words.iter().chain(more));
    fs::remove_file(root).unwrap();
}
