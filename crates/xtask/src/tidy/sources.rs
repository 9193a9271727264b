//! What a source file looks like from outside: its size, its header, its name, what it promises for later.

use super::{Finding, Source};

/// Files that were too long when the limit came: `path lines`. It may only shrink.
pub(super) const EXCEPTIONS: &str = "crates/xtask/src/tidy/exceptions.txt";
const LINES_MAX: usize = 700;
const LINES_NOTE: usize = 600;

const FORBIDDEN_NAMES: [&str; 12] = [
    "mod", "util", "utils", "common", "helper", "helpers", "manager", "managers", "service", "services", "misc",
    "shared",
];

/// Files that are long but not too long.
pub(super) fn long(sources: &[Source]) -> Vec<(&str, usize)> {
    let sized = sources.iter().map(|source| (source.path.as_str(), source.lines().count()));
    sized.filter(|(_, lines)| (LINES_NOTE + 1..=LINES_MAX).contains(lines)).collect()
}

/// Files over the limit that are not excepted, and exceptions that could be smaller.
pub(super) fn sizes(sources: &[Source], exceptions: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut excepted = Vec::new();
    for (at, line) in exceptions.lines().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let Some((path, most)) =
            line.split_once(' ').and_then(|(path, most)| Some((path, most.parse::<usize>().ok()?)))
        else {
            findings.push(exceptions.finding(at, "an exception is a path, a space and a number of lines"));
            continue;
        };
        excepted.push(path);
        let Some(source) = sources.iter().find(|source| source.path == path) else {
            findings.push(exceptions.finding(at, format!("`{path}` does not exist: remove the line")));
            continue;
        };
        let lines = source.lines().count();
        if lines > most {
            findings.push(source.finding(most + 1, format!("{lines} lines: its exception allows {most}; split it")));
        } else if lines <= LINES_MAX {
            findings.push(exceptions.finding(at, format!("`{path}` is within {LINES_MAX} lines: remove the line")));
        } else if lines < most {
            findings.push(exceptions.finding(at, format!("`{path}` has shrunk: write {lines}")));
        }
    }
    for source in sources.iter().filter(|source| !excepted.contains(&source.path.as_str())) {
        let lines = source.lines().count();
        if lines > LINES_MAX {
            findings.push(source.finding(LINES_MAX + 1, format!("{lines} lines, at most {LINES_MAX}: split it")));
        }
    }
    findings
}

/// Files without a `//!` header, and crates whose header names no invariants.
pub(super) fn headers(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let parts: Vec<&str> = source.path.split('/').collect();
        let is_module = parts.get(2) == Some(&"src");
        if !is_module {
            continue;
        }
        let header: Vec<&str> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
        let is_root = matches!(parts.as_slice(), [_, _, _, "lib.rs" | "main.rs"]);
        if header.is_empty() {
            findings.push(source.finding(1, "open with `//!`: what it is for, what it is not for"));
        } else if is_root && !header.iter().any(|line| line.to_lowercase().contains("invariant")) {
            findings
                .push(source.finding(1, "the crate's header names no invariants: add `//! Invariants:` with a list"));
        }
    }
    findings
}

/// Modules whose name says nothing about what is in them.
pub(super) fn names(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for part in source.path.split('/').skip(2) {
            let name = part.strip_suffix(".rs").unwrap_or(part);
            // A folder of shared test code has to be `tests/<name>/mod.rs`: use `testkit`, or `#[path]`.
            if FORBIDDEN_NAMES.contains(&name) {
                findings
                    .push(source.finding(1, format!("`{part}` says nothing about what is in it: name it after that")));
            }
        }
    }
    findings
}

/// Promises for later that give no reason: `TODO: why it is not done now` has at least three words.
pub(super) fn promises(files: &[Source]) -> Vec<Finding> {
    // In two halves, so that this file does not break the rule that it checks.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut findings = Vec::new();
    for file in files {
        for (at, line) in file.lines() {
            for mark in marks {
                let Some((before, after)) = line.split_once(mark) else { continue };
                let is_word = !before.ends_with(is_word_char) && !after.starts_with(is_word_char);
                let reason = after.strip_prefix(':').unwrap_or_default().split_whitespace().count();
                let is_allowed = mark == concat!("TO", "DO") && reason >= 3;
                if is_word && !is_allowed {
                    findings.push(file.finding(
                        at,
                        format!(
                            "`{mark}` without a reason: do it, or say after `{}: ` why not now",
                            concat!("TO", "DO")
                        ),
                    ));
                }
            }
        }
    }
    findings
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::super::{shown, source};
    use super::*;

    fn lines(path: &str, n: usize) -> Source {
        source(path, &"x\n".repeat(n))
    }

    #[test]
    fn a_long_file_is_noted_and_a_longer_one_is_refused() {
        let sources =
            [lines("crates/a/src/x.rs", 600), lines("crates/a/src/y.rs", 700), lines("crates/a/src/z.rs", 701)];
        assert_eq!(long(&sources), [("crates/a/src/y.rs", 700)]);
        assert_eq!(
            shown(sizes(&sources, &source("e", ""))),
            ["crates/a/src/z.rs:701: 701 lines, at most 700: split it"]
        );
    }

    #[test]
    fn exceptions_can_only_shrink() {
        let sources = [lines("same.rs", 800), lines("grew.rs", 801), lines("shrank.rs", 799), lines("fine.rs", 700)];
        let exceptions =
            source("e", "# why\nsame.rs 800\ngrew.rs 800\nshrank.rs 800\nfine.rs 800\ngone.rs 800\nbroken\n");
        assert_eq!(
            shown(sizes(&sources, &exceptions)),
            [
                "grew.rs:801: 801 lines: its exception allows 800; split it",
                "e:4: `shrank.rs` has shrunk: write 799",
                "e:5: `fine.rs` is within 700 lines: remove the line",
                "e:6: `gone.rs` does not exist: remove the line",
                "e:7: an exception is a path, a space and a number of lines",
            ]
        );
    }

    #[test]
    fn modules_open_with_a_header_and_crates_with_invariants() {
        let found = headers(&[
            source("crates/a/src/lib.rs", "//! A crate.\n//!\n//! Invariants:\n//! - one\n"),
            source("crates/b/src/lib.rs", "//! A crate.\nfn x() {}\n//! Invariants: too late\n"),
            source("crates/b/src/main.rs", "fn main() {}\n"),
            source("crates/b/src/x.rs", "//! A module.\n"),
            source("crates/b/src/x/y.rs", "use x;\n"),
            source("crates/b/tests/t.rs", "use x;\n"),
        ]);
        assert_eq!(
            shown(found),
            [
                "crates/b/src/lib.rs:1: the crate's header names no invariants: add `//! Invariants:` with a list",
                "crates/b/src/main.rs:1: open with `//!`: what it is for, what it is not for",
                "crates/b/src/x/y.rs:1: open with `//!`: what it is for, what it is not for",
            ]
        );
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        let at = |path: &str| names(&[source(path, "")]).len();
        for bad in
            ["crates/a/src/x/mod.rs", "crates/a/src/utils.rs", "crates/a/src/common/x.rs", "crates/a/tests/helpers.rs"]
        {
            assert_eq!(at(bad), 1, "{bad}");
        }
        for good in ["crates/a/src/lib.rs", "crates/a/src/service_names.rs", "crates/a/src/model.rs"] {
            assert_eq!(at(good), 0, "{good}");
        }
    }

    #[test]
    fn a_promise_needs_a_reason() {
        let text = [
            concat!("// TO", "DO"),
            concat!("// TO", "DO: later"),
            concat!("// TO", "DO: needs the relay of issue 5"),
            concat!("// FIX", "ME: this is really broken somehow"),
            concat!("let HA", "CKED = MAXX", "XX;"),
        ];
        let found = promises(&[source("a.rs", &text.join("\n"))]);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 2, 4]);
    }
}
