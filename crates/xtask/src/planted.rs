//! The search of every log line and response of the suite for the secrets that its tests planted (see `testkit::logs`).

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::workspace::Workspace;

/// Needles are found by their first bytes: all are at least this long.
const KEY_BYTES: usize = 8;
const SHOWN_LEAKS: usize = 50;

/// What was searched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Searched {
    needles: usize,
    files: usize,
    bytes: usize,
}

impl Searched {
    /// Nothing was searched, or for nothing.
    pub(crate) fn is_hollow(&self) -> bool {
        self.needles == 0 || self.bytes == 0
    }
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes in {} logs searched for {} forms of planted secrets: none found",
            self.bytes, self.files, self.needles
        )
    }
}

struct Needle {
    name: String,
    form: String,
    bytes: Vec<u8>,
}

/// Searches all logs in `dir`; a leak is an error that lists `file:line`.
pub(crate) fn search(workspace: &Workspace, dir: &Path) -> anyhow::Result<Searched> {
    let needles = match fs::read_to_string(dir.join("planted.txt")) {
        Ok(text) => text.lines().map(parse).collect::<anyhow::Result<Vec<_>>>()?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e).context("planted.txt"),
    };
    let mut by_key: HashMap<&[u8], Vec<&Needle>> = HashMap::new();
    for needle in &needles {
        by_key.entry(needle.bytes.get(..KEY_BYTES).context("a planted value is too short")?).or_default().push(needle);
    }
    let mut searched = Searched { needles: needles.len(), ..Searched::default() };
    let mut leaks = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    for path in paths {
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        searched.files += 1;
        searched.bytes += text.len();
        for (line, needle) in find(&text, &by_key) {
            leaks.push(format!(
                "{}:{line}: the planted secret `{}` ({})",
                workspace.shown(&path),
                needle.name,
                needle.form
            ));
        }
    }
    if leaks.is_empty() {
        return Ok(searched);
    }
    let more = leaks.len().saturating_sub(SHOWN_LEAKS);
    leaks.truncate(SHOWN_LEAKS);
    if more > 0 {
        leaks.push(format!("and {more} more"));
    }
    bail!("secrets reached a log or a response:\n{}", leaks.join("\n"))
}

fn parse(line: &str) -> anyhow::Result<Needle> {
    let mut fields = line.split('\t');
    let (Some(name), Some(form), Some(hex), None) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
        bail!("planted.txt: `{line}` is not name, form and hex");
    };
    let digits = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(digits).collect();
    Ok(Needle {
        name: name.to_owned(),
        form: form.to_owned(),
        bytes: bytes.with_context(|| format!("planted.txt: `{line}`"))?,
    })
}

/// Each needle's occurrences with their lines, counted from 1.
fn find<'n>(text: &[u8], by_key: &HashMap<&[u8], Vec<&'n Needle>>) -> Vec<(usize, &'n Needle)> {
    // Most places are ruled out by their first two bytes, without a look into the map.
    let mut begins = vec![false; 1 << 16];
    let pair = |at: &[u8]| match at {
        [a, b, ..] => usize::from(*a) << 8 | usize::from(*b),
        _ => 0,
    };
    for key in by_key.keys() {
        if let Some(slot) = begins.get_mut(pair(key)) {
            *slot = true;
        }
    }
    let (mut line, mut found) = (1, Vec::new());
    for (at, byte) in text.iter().enumerate() {
        let rest = text.get(at..).unwrap_or_default();
        if begins.get(pair(rest)).is_some_and(|hit| *hit) {
            let here = rest.get(..KEY_BYTES).and_then(|key| by_key.get(key)).into_iter().flatten();
            found.extend(here.filter(|needle| rest.starts_with(&needle.bytes)).map(|needle| (line, *needle)));
        }
        line += usize::from(*byte == b'\n');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `planted.txt` with two needles, and the logs.
    fn run(logs: &[(&str, &str)]) -> anyhow::Result<Searched> {
        let dir = tempfile::tempdir().unwrap();
        let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
        let planted =
            format!("vault key\tplain\t{}\nvault key\thex\t{}\n", hex("planted-0123"), hex("706c616e7465642d"));
        fs::write(dir.path().join("planted.txt"), planted).unwrap();
        for (name, text) in logs {
            fs::write(dir.path().join(name), text).unwrap();
        }
        search(&Workspace { root: dir.path().to_path_buf(), target: dir.path().to_path_buf() }, dir.path())
    }

    #[test]
    fn a_leak_is_named_by_file_and_line() {
        let error = run(&[("a.1.log", "fine\n"), ("b.2.log", "one\ntwo\nx=planted-0123,706c616e7465642d\n")])
            .unwrap_err()
            .to_string();
        let lines: Vec<_> = error.lines().skip(1).collect();
        assert_eq!(
            lines,
            ["b.2.log:3: the planted secret `vault key` (plain)", "b.2.log:3: the planted secret `vault key` (hex)"]
        );
    }

    #[test]
    fn a_clean_log_passes_and_an_empty_search_is_hollow() {
        let clean = run(&[("a.log", "planted-012\nplanted-\n"), ("notes.txt", "planted-0123")]).unwrap();
        assert_eq!(clean, Searched { needles: 2, files: 1, bytes: 21 });
        assert!(!clean.is_hollow());
        assert!(run(&[]).unwrap().is_hollow());
    }

    #[test]
    fn a_broken_list_is_an_error_and_not_a_clean_search() {
        for bad in ["x", "a\tplain\tzz", "a\tplain\t123", "a\tplain\tff"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("planted.txt"), bad).unwrap();
            let workspace = Workspace { root: dir.path().to_path_buf(), target: dir.path().to_path_buf() };
            assert!(search(&workspace, dir.path()).is_err(), "{bad}");
        }
    }
}
