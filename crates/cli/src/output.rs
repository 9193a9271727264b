//! The only place that writes to the terminal: data on the standard output, talk on the standard error.
//!
//! Invariants: data is written under one lock and flushed, so that a failed or closed output is noticed; talk can fail without harm.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;

use crate::clean::clean;
use crate::doc::Doc;
use crate::failure::{Exit, Failure, Result};
use crate::table::{self, Table};

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    Table,
    /// The documents of the API; a list is an array
    Json,
    /// The same as YAML
    Yaml,
}

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
}

impl Output {
    /// Shows a list.
    pub(crate) fn list<T: Table>(self, items: Vec<Doc>) -> Result {
        match self.format {
            Format::Table if items.is_empty() => {
                self.say("none");
                Ok(())
            }
            Format::Table => data(table::list(T::COLUMNS, &items, terminal_width()).as_bytes()),
            _ => self.one(&Doc::List(items)),
        }
    }

    /// Shows lines of a table whose columns come from the data.
    pub(crate) fn lines(columns: &[(String, String)], items: &[Doc]) -> Result {
        let columns: Vec<(&str, &str)> =
            columns.iter().map(|(title, field)| (title.as_str(), field.as_str())).collect();
        data(table::list(&columns, items, terminal_width()).as_bytes())
    }

    /// Shows one thing.
    pub(crate) fn one(self, doc: &Doc) -> Result {
        let text = match self.format {
            Format::Table => table::detail(doc, terminal_width()),
            Format::Json => doc.to_json(),
            Format::Yaml => doc.to_yaml(),
        };
        data(text.as_bytes())
    }

    /// Shows one thing as the line that a list would show of it.
    pub(crate) fn row<T: Table>(self, doc: Doc) -> Result {
        if self.format == Format::Table { self.list::<T>(vec![doc]) } else { self.one(&doc) }
    }

    /// Tells people how it goes; nothing with `--quiet`.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            talk(&[("", text)]);
        }
    }

    /// Whether progress may be drawn over itself.
    pub(crate) fn draws(self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }
}

/// Writes data.
pub(crate) fn data(bytes: &[u8]) -> Result {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| Failure::output(&e))
}

/// Tells what a failed command failed of, and returns its exit code.
pub(crate) fn report(failure: &Failure) -> Exit {
    if !failure.message.is_empty() {
        let hint = failure.hint.as_deref().map(|hint| ("hint: ", hint));
        let lines: Vec<_> = std::iter::once(("error: ", failure.message.as_str())).chain(hint).collect();
        talk(&lines);
    }
    failure.exit
}

/// Lines of talk may quote a server: each stays one line and moves no cursor.
fn talk(lines: &[(&str, &str)]) {
    let mut stderr = std::io::stderr().lock();
    for (label, text) in lines {
        // Nobody is left to be told that the standard error is closed.
        drop(writeln!(stderr, "{label}{}", clean(text)));
    }
}

/// Tells people what they should not overlook, also with `--quiet`.
pub(crate) fn warn(text: &str) {
    talk(&[("warning: ", text)]);
}

/// Says what a question is about, also with `--quiet`.
pub(crate) fn tell(text: &str) {
    talk(&[("", text)]);
}

/// Asks on the standard error, without a line break.
pub(crate) fn ask(question: &str) {
    let mut stderr = std::io::stderr().lock();
    drop(write!(stderr, "{} ", clean(question)).and_then(|()| stderr.flush()));
}

fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(stdout).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}
