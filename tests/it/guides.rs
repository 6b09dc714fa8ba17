//! Each guide is run from its own text: what it says to write is written, what it says to type is typed, what it says one will see is looked for.
//!
//! The slow stage. The base that a guide rests on is made by its own recipe (`support/real_base.rs`) and imported before the guide begins, as the guide
//! asks; `python` is a Python 3.11 with nothing but pip.

use crate::support::guide::Reader;
use crate::support::hs::Home;
use crate::support::podman::Podman;
use crate::support::real_base;

/// A reader with a Python, a podman and an imported base.
struct Desk {
    reader: Reader,
    podman: Podman,
}

impl Desk {
    fn new(base: &str, layout: &str) -> Desk {
        let podman = Podman::new();
        let home = Home::new();
        let environment = home.path().join("python");
        crate::support::hs::tool("/usr/bin/python3", &["-m", "venv", environment.to_str().unwrap()]);
        let path = format!("{}/bin:{}", environment.display(), std::env::var("PATH").unwrap());
        let home = home.with("HS_PODMAN", podman.words().join(" ")).with("HS_PODMAN_RUN", podman.limits()).with("PATH", path);
        home.json(["base", "import", "--name", base, layout]);
        Desk { reader: Reader::new(home), podman }
    }

    fn follow(mut self, guide: &str) {
        self.reader.follow(guide);
        assert_eq!(self.podman.containers(), "", "the containers are gone");
    }
}

#[test]
fn slow_guide_python() {
    Desk::new(real_base::NAME, &real_base::layout()).follow("docs/guides/python.md");
}
