//! Golden files: what the code says now, compared with what is committed.
//!
//! `CAIRN_UPDATE_GOLDEN=1` (or `cargo xtask golden`) writes the files instead; the change is then read in the diff of the commit.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::suite;

const SHOWN_LINES: usize = 60;
const AROUND_LINES: usize = 3;

/// Compares `actual` with the file at `path`, which is relative to the crate under test.
#[track_caller]
pub fn check(path: impl AsRef<Path>, actual: &str) {
    let path = resolve(path.as_ref());
    let update = suite::env("CAIRN_UPDATE_GOLDEN").is_some_and(|value| value == "1");
    if let Err(message) = compare(&path, actual, update) {
        panic!("{message}");
    }
}

fn resolve(path: &Path) -> PathBuf {
    // Cargo and nextest both set it when they run a test; a binary that is started by hand resolves from where it stands.
    suite::env("CARGO_MANIFEST_DIR").map_or_else(|| path.to_path_buf(), |dir| Path::new(&dir).join(path))
}

fn compare(path: &Path, actual: &str, update: bool) -> Result<(), String> {
    let wrong = |what: &str, e: std::io::Error| format!("golden file {}: cannot {what}: {e}", path.display());
    let expected = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(wrong("read", e)),
    };
    if expected.as_deref() == Some(actual) {
        return Ok(());
    }
    if update {
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(|e| wrong("make its folder", e))?;
        return std::fs::write(path, actual).map_err(|e| wrong("write", e));
    }
    let change = expected.map_or_else(|| "it does not exist\n".to_owned(), |expected| diff(&expected, actual));
    Err(format!(
        "golden file {} differs (- committed, + now):\n{change}if the change is meant: `cargo xtask golden`, then read the diff",
        path.display()
    ))
}

/// The lines that differ, with what is around them: the common beginning and end are cut away.
fn diff(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    if old == new {
        return "only the line ends differ\n".to_owned();
    }
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(&new).take_while(same).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(same).count();
    let from = head.saturating_sub(AROUND_LINES);
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);

    let mut out = String::new();
    writeln!(out, "@@ line {} @@", head + 1).expect("writing to a string cannot fail");
    let mut put = |sign: char, lines: &[&str]| {
        for line in lines.iter().take(SHOWN_LINES) {
            writeln!(out, "{sign} {line}").expect("writing to a string cannot fail");
        }
        if lines.len() > SHOWN_LINES {
            writeln!(out, "{sign} … and {} more lines", lines.len() - SHOWN_LINES).expect("as above");
        }
    };
    let part = |lines: &[&'_ str], range: std::ops::Range<usize>| -> Vec<String> {
        lines.get(range).unwrap_or_default().iter().map(|line| (*line).to_owned()).collect()
    };
    for (sign, lines) in [
        (' ', part(&old, from..head)),
        ('-', part(&old, head..old_end)),
        ('+', part(&new, head..new_end)),
        (' ', part(&old, old_end..old.len().min(old_end + AROUND_LINES))),
    ] {
        put(sign, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_fails_and_an_update_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/help.txt");
        assert!(compare(&path, "a\n", false).unwrap_err().contains("it does not exist"));
        compare(&path, "a\n", true).unwrap();
        compare(&path, "a\n", false).unwrap();
    }

    #[test]
    fn a_difference_names_its_line_and_shows_both_sides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "1\n2\n3\n4\n5\n6\n7\n8\n9\n").unwrap();
        let message = compare(&path, "1\n2\n3\n4\n5\nsix\n7\n8\n9\n", false).unwrap_err();
        assert!(message.contains("@@ line 6 @@\n  3\n  4\n  5\n- 6\n+ six\n  7\n  8\n  9\n"), "{message}");
        assert!(!message.contains("  1\n"), "{message}");
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 18, "a comparison does not write");
    }

    #[test]
    fn repeated_lines_and_line_ends_do_not_confuse_the_diff() {
        assert_eq!(diff("a\na\n", "a\na\na\n"), "@@ line 3 @@\n  a\n  a\n+ a\n");
        assert_eq!(diff("a\n", "a"), "only the line ends differ\n");
        assert!(diff("", &"x\n".repeat(100)).contains("+ … and 40 more lines"));
    }
}
