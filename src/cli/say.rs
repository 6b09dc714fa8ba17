//! How the program speaks: results on standard output, all else on standard error.
//!
//! A [`Voice`] knows whether text or JSON is wanted, whether colour is, and whether a terminal listens. Its listener shows progress as a bar on a
//! terminal and as plain lines elsewhere. Colour is never needed to understand: it only repeats what a word says.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use serde::Serialize;

use super::args::{Color, Global, OutputForm};
use crate::fault::{Failure, Fault, causes};
use crate::progress::{Event, Listener, Moved};

/// The result cannot be printed.
#[derive(Debug, thiserror::Error)]
#[error("printing the result")]
pub struct PrintError(#[source] io::Error);

impl Failure for PrintError {
    fn fault(&self) -> Fault {
        Fault::Ours
    }
}

/// How this run speaks.
#[derive(Clone)]
pub struct Voice {
    json: bool,
    quiet: bool,
    verbose: bool,
    color: bool,
    /// The bar that is on the terminal, where one is: lines go above it.
    bar: Arc<Mutex<WeakProgressBar>>,
}

impl Voice {
    /// The voice that the options ask for.
    pub fn new(global: &Global, no_color: bool) -> Voice {
        let terminal = io::stderr().is_terminal();
        Voice {
            json: global.output == OutputForm::Json,
            quiet: global.quiet,
            verbose: global.verbose > 0,
            color: match global.color {
                Color::Always => true,
                Color::Never => false,
                // The NO_COLOR convention: any value switches colour off.
                Color::Auto => terminal && !no_color,
            },
            bar: Arc::default(),
        }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: `value` as one JSON document, or `text`.
    pub fn result(&self, value: &impl Serialize, text: &str) -> Result<(), PrintError> {
        match self.print(value, text) {
            // Whoever read had enough (`hs … | head`): that is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(PrintError),
        }
    }

    fn print(&self, value: &impl Serialize, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, value)?;
            writeln!(out)?;
        } else {
            write!(out, "{text}")?;
            if !text.ends_with('\n') && !text.is_empty() {
                writeln!(out)?;
            }
        }
        out.flush()
    }

    /// Tells something on the way.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Tells something that the user may want to change.
    pub fn warn(&self, text: &str) {
        if !self.quiet {
            self.line(&format!("{} {text}", self.paint("33", "warning:")));
        }
    }

    fn line(&self, text: &str) {
        let write = || drop(writeln!(io::stderr(), "{text}"));
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Tells why the command failed: the failure, its causes, its remedy; and to programs what it has for them.
    pub fn failure(&self, failure: &dyn Failure) {
        if let Some(document) = failure.document().filter(|_| self.json) {
            let _ = self.print(&document, "");
        }
        let mut out = format!("{} {failure}\n", self.paint("31;1", "error:"));
        for cause in causes(failure) {
            // A cause of many lines (a text with its caret) keeps its columns.
            let cause = cause.trim_end().replace('\n', "\n    ");
            out.push_str(&format!("  because: {cause}\n"));
        }
        if let Some(remedy) = failure.remedy() {
            out.push_str(&format!("  {} {remedy}\n", self.paint("32", "remedy:")));
        }
        let _ = io::stderr().write_all(out.as_bytes());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A listener that shows what happens.
    pub fn listener(&self) -> Listener {
        if self.quiet {
            return Arc::new(|_| ());
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = "{spinner} {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        if io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar.downgrade();
        let voice = self.clone();
        Arc::new(move |event| voice.show(&bar, event))
    }

    fn show(&self, bar: &ProgressBar, event: Event) {
        match event {
            Event::Stage(text) => {
                bar.set_length(0);
                bar.set_position(0);
                bar.set_message(text.clone());
                if bar.is_hidden() {
                    self.note(&text);
                }
            }
            Event::Note(text) => self.note(&format!("  {text}")),
            Event::Warning(text) => self.warn(&text),
            Event::Expect { bytes } => bar.inc_length(bytes),
            Event::Advance { bytes } => bar.inc(bytes),
            Event::Blob { digest, size_bytes, how } if self.verbose => {
                let how = match how {
                    Moved::Sent => "sent",
                    Moved::Mounted => "mounted",
                    Moved::Skipped => "there already",
                };
                self.note(&format!("  {} {}: {how}", digest.short(), size(size_bytes)));
            }
            Event::Blob { .. } => {}
        }
    }
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
