//! `install-command` of the later `serving.yaml`, as far as it is done.
//!
//! The ancestor ran the line in the image. Nearly every one of them installs the requirements, which is done without running anything (`build/requirements.rs`): that
//! form is recognised, with the options that change nothing. Any other is refused: no user code is run in a build.

use crate::oci::path::TreePath;

/// Options of pip without a value that make no difference here.
const INDIFFERENT: [&str; 14] = [
    "--no-cache-dir",
    "--no-cache",
    "--upgrade",
    "-U",
    "--user",
    "--quiet",
    "-q",
    "-qq",
    "--verbose",
    "-v",
    "--disable-pip-version-check",
    "--no-input",
    "--prefer-binary",
    "--break-system-packages",
];

/// The file of requirements that a command installs; `None`: it does something else.
pub fn requirements_of(command: &str) -> Option<TreePath> {
    let mut words = command.split_whitespace().peekable();
    let program = words.next()?;
    let name = program.rsplit('/').next().unwrap_or(program);
    let is = |name: &str, stem: &str| {
        name.strip_prefix(stem).is_some_and(|rest| rest.chars().all(|letter| letter.is_ascii_digit() || letter == '.'))
    };
    if is(name, "python") {
        (words.next()? == "-m" && words.next()? == "pip").then_some(())?;
    } else if !is(name, "pip") {
        return None;
    }
    (words.next()? == "install").then_some(())?;
    let mut file = None;
    while let Some(word) = words.next() {
        let named = match word {
            "-r" | "--requirement" => words.next()?,
            "-t" | "--target" => {
                is_our_folder(words.next()?).then_some(())?;
                continue;
            }
            _ if INDIFFERENT.contains(&word) => continue,
            _ if word.strip_prefix("--target=").is_some_and(is_our_folder) => continue,
            _ => word.strip_prefix("--requirement=").or_else(|| word.strip_prefix("-r"))?,
        };
        // The command ran in the folder of the files.
        let path = TreePath::new(named.trim_start_matches("/model/files/")).ok()?;
        file.replace(path).is_none().then_some(())?;
    }
    file
}

fn is_our_folder(folder: &str) -> bool {
    folder.trim_end_matches('/') == "/model/lib"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_form_is_recognised_and_no_other() {
        for command in [
            "pip install -r requirements.txt",
            "pip3 install --no-cache-dir -r ./requirements.txt",
            "/usr/bin/python3.7 -m pip install -U --requirement=requirements.txt --target /model/lib",
            "pip install -rrequirements.txt",
            "pip install -r /model/files/requirements.txt",
        ] {
            assert_eq!(requirements_of(command).unwrap().as_str(), "requirements.txt", "{command}");
        }
        for command in [
            "",
            "pip",
            "pip install",
            "pip install numpy",
            "pip install -r requirements.txt numpy",
            "pip install -r a.txt -r b.txt",
            "pip install -r requirements.txt && rm x",
            "pip install -r requirements.txt; curl x",
            "pip install --index-url https://host -r requirements.txt",
            "pip install -r ../requirements.txt",
            "pip install -e .",
            "pip download -r requirements.txt",
            "sudo apt install jq",
            "bash install.sh",
            "python setup.py install",
        ] {
            assert_eq!(requirements_of(command), None, "{command}");
        }
    }
}
