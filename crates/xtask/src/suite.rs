//! `cargo xtask test`: everything that has to pass. All steps run, also after one failed, so that one run tells all.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;

use crate::workspace::Workspace;
use crate::{console, planted, run, setup, tidy};

/// What the runner counted, over all its summaries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    /// Adds a line of `cargo test` if it is a summary: `test result: ok. 3 passed; 0 failed; ...`.
    pub(crate) fn see(&mut self, line: &str) {
        if let Some((_, counts)) = line.strip_prefix("test result:").and_then(|rest| rest.split_once('.')) {
            *self += Self::read(counts);
        }
    }

    /// Takes over a line of nextest if it is a summary: `Summary [ 0.1s] 3 tests run: 2 passed (1 slow), 1 failed, 4 skipped`.
    /// The last one counts: nextest also shows what failed tests printed, and their own summary.
    fn see_nextest(&mut self, line: &str) {
        let rest = line.trim_start().strip_prefix("Summary [");
        if let Some((_, counts)) = rest.and_then(|rest| rest.split_once(" run: ")) {
            *self = Self::read(counts);
        }
    }

    fn read(text: &str) -> Self {
        let mut counts = Self::default();
        for part in text.split([';', ',', '(', ')']) {
            match part.trim().split_once(' ') {
                Some((n, "passed")) => counts.passed += n.parse().unwrap_or(0),
                Some((n, "failed" | "timed out" | "exec failed")) => counts.failed += n.parse().unwrap_or(0),
                _ => {}
            }
        }
        counts
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

struct Suite<'a> {
    workspace: &'a Workspace,
    counts: Counts,
    failed: Vec<&'static str>,
}

impl Suite<'_> {
    fn step(&mut self, name: &'static str, run: impl FnOnce(&Workspace, &mut Counts) -> anyhow::Result<()>) {
        println!("==> {name}");
        let begun = Instant::now();
        let result = run(self.workspace, &mut self.counts);
        let time = run::duration(begun.elapsed());
        match result {
            Ok(()) => println!("    {name}: {time}"),
            Err(e) => {
                eprintln!("error: {name}: {e:#} ({time})");
                self.failed.push(name);
            }
        }
    }
}

/// Runs all steps; the last line is `N passed, N failed`.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let begun = Instant::now();
    let workspace = match Workspace::find() {
        Ok(workspace) => workspace,
        Err(e) => {
            eprintln!("error: {e:#}");
            return ExitCode::FAILURE;
        }
    };
    let (ours, passed_on): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| *arg == "--advisories");
    let mut suite = Suite { workspace: &workspace, counts: Counts::default(), failed: Vec::new() };
    let log = workspace.target.join("suite-log");

    suite.step("setup", |w, _| setup::run(w, &[]));
    suite.step("format", |w, _| run::check(&mut run::cargo(w, &["fmt", "--all", "--check"])));
    suite.step("tidy", |w, _| tidy::run(w, &[]));
    suite.step("deny", |w, _| {
        let advisories: &[&str] = if ours.is_empty() { &[] } else { &["advisories"] };
        let checks = [
            &[
                "deny",
                "--locked",
                "check",
                "--hide-inclusion-graph",
                "-A",
                "license-not-encountered",
                "bans",
                "licenses",
                "sources",
            ],
            advisories,
        ]
        .concat();
        run::check(&mut run::cargo(w, &checks))
    });
    // Before anything compiles the crate that embeds it.
    suite.step("console", |w, _| console::build(w).map(drop));
    suite.step("clippy", |w, _| {
        run::check(&mut run::cargo(w, &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
    });
    suite.step("tests", |w, counts| {
        // What an earlier run left would be searched as if it were this one's.
        if let Err(e) = std::fs::remove_dir_all(&log)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            bail!("{}: {e}", log.display());
        }
        let nextest = run::which("cargo-nextest").is_some();
        let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test", "--lib", "--bins", "--tests"] };
        let all: &[&str] = if run::names_package(&passed_on) { &[] } else { &["--workspace"] };
        let mut command = run::cargo(w, &[runner, all, &["--locked", "--no-fail-fast"]].concat());
        command
            .args(&passed_on)
            .env("CAIRN_REQUIRE_POSTGRES", "1")
            .env("CAIRN_SUITE_LOG", &log)
            .env_remove("CAIRN_UPDATE_GOLDEN");
        let mut found = Counts::default();
        let result = run::watch(&mut command, |line| if nextest { found.see_nextest(line) } else { found.see(line) });
        *counts += found;
        result?;
        if found.passed == 0 {
            bail!("the runner ran no test");
        }
        Ok(())
    });
    if passed_on.is_empty() {
        suite.step("doc tests", |w, counts| {
            let mut command = run::cargo(w, &["test", "--doc", "--workspace", "--locked", "--no-fail-fast"]);
            run::watch(command.env("CAIRN_SUITE_LOG", &log), |line| counts.see(line))
        });
    }
    if passed_on.is_empty() {
        suite.step("browser", |w, counts| {
            run::watch(console::browser_tests(w, &[]).env("CAIRN_SUITE_LOG", &log), |line| counts.see(line))
        });
    }
    suite.step("planted secrets", |w, _| {
        let searched = planted::search(w, &log)?;
        println!("    {searched}");
        if passed_on.is_empty() && searched.is_hollow() {
            bail!("nothing was planted or logged: the search proves nothing");
        }
        Ok(())
    });

    println!("\nall steps: {}", run::duration(begun.elapsed()));
    if !suite.failed.is_empty() {
        println!("failed steps: {}", suite.failed.join(", "));
    }
    println!("{} passed, {} failed", suite.counts.passed, suite.counts.failed);
    if suite.failed.is_empty() && suite.counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(see: fn(&mut Counts, &str), lines: &[&str]) -> (u64, u64) {
        let mut counts = Counts::default();
        for line in lines {
            see(&mut counts, line);
        }
        (counts.passed, counts.failed)
    }

    #[test]
    fn summaries_of_cargo_test_add_up() {
        let lines = [
            "test result: ok. 26 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.90s",
            "12 passed, 3 failed",
            "test x ... ok",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ];
        assert_eq!(count(Counts::see, &lines), (27, 2));
    }

    #[test]
    fn nextest_counts_by_its_own_last_summary() {
        let lines = [
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.34s",
            "     Summary [   3.3s] 9/10 tests run: 4 passed (1 slow, 2 leaky), 2 failed, 2 timed out, 1 exec failed, 1 skipped",
            "        FAIL [   0.349s] (40/72) testkit::leaky fails",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.34s",
        ];
        assert_eq!(count(Counts::see_nextest, &lines), (4, 5));
        assert_eq!(
            count(Counts::see_nextest, &["     Summary [ 3.302s] 134 tests run: 134 passed, 1 skipped"]),
            (134, 0)
        );
    }
}
