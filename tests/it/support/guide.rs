//! A guide, typed: the fenced blocks of a Markdown file are what a reader does, in order, and what he then sees.
//!
//! What follows the language in a fence says what a block is for:
//!
//! | fence | what happens |
//! |---|---|
//! | `sh` | it is run, in the folder where the last one ended |
//! | `sh another terminal` | it is started, and runs until the guide ends |
//! | `LANGUAGE PATH` | it is written into that file |
//! | `text`, `json` | each of its lines was said by the last command; `…` stands for anything |
//! | another | it is only to be read |
//!
//! Nothing is replaced in the text but the port 8080, which somebody else may have on this machine. What must stay true: a block that says nothing
//! known fails the test, so that no step of a guide is left out by a slip.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::hs::{Home, free_address, project};

/// How long a program in another terminal may take to listen; only a bound, nothing is measured by it.
const START: Duration = Duration::from_mins(1);

/// A fenced block.
#[derive(Debug)]
struct Block {
    /// The line of the fence, from 1.
    line: usize,
    language: String,
    /// What follows the language.
    rest: String,
    text: String,
}

/// A reader who does what a guide says.
pub struct Reader {
    home: Home,
    folder: PathBuf,
    port: String,
    /// What the last command said, on both channels.
    said: String,
    others: Vec<Child>,
}

impl Reader {
    /// A reader with an empty home and `variables`.
    pub fn new(home: Home) -> Reader {
        let folder = home.path().join("work");
        fs::create_dir_all(&folder).unwrap();
        Reader { home, folder, port: free_address().port().to_string(), said: String::new(), others: Vec::new() }
    }

    /// Does all that the guide says; `path` is below the project.
    pub fn follow(&mut self, path: &str) {
        let text = fs::read_to_string(project(path)).unwrap().replace("8080", &self.port);
        let blocks = blocks(&text);
        assert!(blocks.iter().any(|block| block.language == "sh"), "{path} has nothing to do");
        for block in blocks {
            self.step(path, &block);
        }
    }

    fn step(&mut self, path: &str, block: &Block) {
        match (block.language.as_str(), block.rest.as_str()) {
            ("sh", "") => self.run(path, block),
            ("sh", "another terminal") => self.start(block),
            ("text" | "json", "") => self.expect(path, block),
            (_, file) if !file.is_empty() && !file.contains(' ') => self.write(file, &block.text),
            (language, rest) => panic!("{path}:{}: what is `{language} {rest}` for?", block.line),
        }
    }

    /// A shell of this reader: `hs` is the one under test, nothing else is known of this machine.
    fn shell(&self, script: &str) -> Command {
        let plain = self.home.command();
        let program = Path::new(plain.get_program()).parent().unwrap();
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(&self.folder).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
        let path = plain.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap();
        command.env("PATH", format!("{}:{}", program.display(), path.to_str().unwrap()));
        command
    }

    fn run(&mut self, path: &str, block: &Block) {
        let ended_in = self.home.path().join("ended-in");
        // Both channels into one, as a terminal shows them; where it ends is where the next command begins.
        let script = format!("exec 2>&1\n{}\npwd >'{}'", block.text, ended_in.display());
        let output = self.shell(&script).output().unwrap();
        self.said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{path}:{}: {}\n{}\n{}", block.line, output.status, block.text, self.said);
        self.folder = fs::read_to_string(ended_in).unwrap().trim_end().into();
    }

    fn start(&mut self, block: &Block) {
        let child =
            self.shell(&format!("exec {}", block.text.trim())).env("HS_LISTEN", format!("127.0.0.1:{}", self.port)).spawn().unwrap();
        self.others.push(child);
        let began = Instant::now();
        while TcpStream::connect(format!("127.0.0.1:{}", self.port)).is_err() {
            let ended = self.others.last_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < START, "`{}` does not listen: {ended:?}", block.text.trim());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn expect(&self, path: &str, block: &Block) {
        let mut rest = self.said.as_str();
        for line in block.text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            for part in line.split('…').map(str::trim).filter(|part| !part.is_empty()) {
                let found = rest.find(part);
                let at =
                    found.unwrap_or_else(|| panic!("{path}:{}: `{part}` was not said by the last command:\n{}", block.line, self.said));
                rest = &rest[at + part.len()..];
            }
        }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for child in &mut self.others {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(Block, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let inside = line.trim_start();
        match (&mut open, inside.strip_prefix("```")) {
            (None, Some(fence)) => {
                let (language, rest) = fence.split_once(' ').unwrap_or((fence, ""));
                let block = Block { line: number + 1, language: language.to_owned(), rest: rest.trim().to_owned(), text: String::new() };
                open = Some((block, line.len() - inside.len()));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(block, _)| block)),
            // A block in a list is indented as far as its fence.
            (Some((block, indent)), None) => {
                let own = line.get(*indent..).filter(|_| line[..*indent].trim().is_empty());
                block.text.push_str(own.unwrap_or(inside));
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}
