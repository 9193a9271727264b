//! Running programs.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::workspace::Workspace;

/// `cargo`, the one that runs us, at the workspace's root.
pub(crate) fn cargo(workspace: &Workspace, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&workspace.root).args(args);
    command
}

/// Whether options for a test runner name a package: with `--workspace` beside it, `-p` would choose nothing.
pub(crate) fn names_package(options: &[impl AsRef<str>]) -> bool {
    options.iter().map(AsRef::as_ref).any(|option| option.starts_with("-p") || option.starts_with("--package"))
}

/// Runs it with our terminal; another exit code than 0 is an error.
pub(crate) fn check(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs it, passes its output on line by line, and gives each line (without colours) to `see`.
pub(crate) fn watch(command: &mut Command, mut see: impl FnMut(&str) + Send) -> anyhow::Result<()> {
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let (out, err) = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let see = std::sync::Mutex::new(&mut see);
    let pass = |from: &mut dyn Read, to: &mut dyn Write| {
        let (mut from, mut line) = (BufReader::new(from), Vec::new());
        while from.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            // A closed terminal must not end the tests.
            let _ = to.write_all(&line).and_then(|()| to.flush());
            if let Ok(mut see) = see.lock() {
                see(without_colour(&String::from_utf8_lossy(&line)).trim_end());
            }
            line.clear();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pass(&mut { out }, &mut std::io::stdout()));
        scope.spawn(|| pass(&mut { err }, &mut std::io::stderr()));
    });
    let status = child.wait()?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Whether it runs and succeeds, quietly.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The program's place in `PATH` or in cargo's own `bin`.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let dirs = std::env::split_paths(&path).chain(cargo_home.map(|home| home.join("bin")));
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// `1 min 05 s`, `3.2 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 60 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).to_string_lossy();
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    format!("`{}`", std::iter::once(program).chain(args).collect::<Vec<_>>().join(" "))
}

/// Without ANSI escape sequences (CSI ... letter).
fn without_colour(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_removed() {
        assert_eq!(
            without_colour("\u{1b}[32;1m  Summary\u{1b}[0m [ 1s] \u{1b}[1m3\u{1b}[0m passed"),
            "  Summary [ 1s] 3 passed"
        );
        assert_eq!(without_colour("plain"), "plain");
    }

    #[test]
    fn both_streams_are_seen_and_a_failure_is_an_error_that_names_the_command() {
        let mut seen = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = watch(&mut command, |line| seen.push(line.to_owned())).unwrap_err().to_string();
        seen.sort();
        assert_eq!(seen, ["err", "out"]);
        assert!(error.starts_with("`sh -c") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_package_that_is_named_is_seen() {
        assert!(names_package(&["-p", "api"]) && names_package(&["--package=api"]) && names_package(&["-papi"]));
        assert!(!names_package(&["some_test", "--no-capture"]));
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(duration(Duration::from_millis(3_240)), "3.2 s");
        assert_eq!(duration(Duration::from_secs(65)), "1 min 05 s");
    }
}
