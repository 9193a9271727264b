//! Asking people: secrets without echo, yes or no, and the files that answer instead.
//!
//! Invariants: no secret is echoed or taken from an argument; without a terminal nothing is asked.

use std::io::{BufRead, IsTerminal as _, Read as _};
use std::path::Path;

use domain::Secret;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::failure::{Failure, Result};
use crate::output::ask;

/// More than any secret, and little enough that a wrong file does no harm.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Whether somebody is there to be asked.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// A line of text.
pub(crate) fn line(question: &str) -> Result<String> {
    ask(question);
    answer(&mut std::io::stdin().lock())
}

/// Yes or no; anything but `y` or `yes` is no.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    Ok(is_yes(&line(&format!("{question} [y/N]"))?))
}

fn answer(input: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    input.read_line(&mut text).map_err(|e| Failure::new(format!("cannot read the answer: {e}")))?;
    Ok(text.trim().to_owned())
}

fn is_yes(text: &str) -> bool {
    text.eq_ignore_ascii_case("y") || text.eq_ignore_ascii_case("yes")
}

/// A secret, typed without echo.
pub(crate) fn secret(question: &str) -> Result<Secret> {
    let failed = |e: std::io::Error| Failure::new(format!("cannot read from the terminal: {e}"));
    // Before the question, as an answer may come at once.
    let silence = Silence::begin().map_err(failed)?;
    ask(question);
    let typed = rpassword::read_password().map(Secret::new).map_err(failed);
    drop(silence);
    typed
}

/// A terminal that echoes nothing until this is dropped.
struct Silence {
    terminal: std::fs::File,
    before: Termios,
}

impl Silence {
    fn begin() -> std::io::Result<Self> {
        let terminal = std::fs::File::open("/dev/tty")?;
        let before = termios::tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(&terminal, OptionalActions::Now, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// What a file (`-` is the standard input) holds. One line's end is no part of a secret; the line breaks of a longer text are.
pub(crate) fn secret_file(path: &Path) -> Result<Secret> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| Failure::file("read", path, e))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::file("read", path, "it is larger than 1 MiB"));
    }
    if std::str::from_utf8(&bytes).is_err() {
        return Err(Failure::file("read", path, "it is not UTF-8 text"));
    }
    strip_line_end(&mut bytes);
    Ok(Secret::new(bytes))
}

fn strip_line_end(bytes: &mut Vec<u8>) {
    if bytes.iter().position(|byte| *byte == b'\n') == Some(bytes.len().saturating_sub(1)) {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (input, expect) in
            [("y\n", true), ("YES\r\n", true), ("\n", false), ("", false), ("n\n", false), ("yep\n", false)]
        {
            assert_eq!(is_yes(&answer(&mut input.as_bytes()).unwrap()), expect, "{input:?}");
        }
    }

    #[test]
    fn a_line_end_is_no_part_of_a_password_and_a_key_keeps_its_own() {
        for (input, expect) in [
            ("pass\n", "pass"),
            ("pass\r\n", "pass"),
            ("pass ", "pass "),
            ("-----\nkey\n-----\n", "-----\nkey\n-----\n"),
        ] {
            let mut bytes = input.as_bytes().to_vec();
            strip_line_end(&mut bytes);
            assert_eq!(bytes, expect.as_bytes());
        }
    }

    #[test]
    fn a_file_that_is_no_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(secret_file(&path).unwrap_err().message.contains("not UTF-8"));
        std::fs::write(&path, vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert!(secret_file(&path).unwrap_err().message.contains("larger than 1 MiB"));
        assert!(secret_file(&dir.path().join("none")).unwrap_err().message.contains("cannot read"));
    }
}
