//! `cargo xtask console`: builds the web console from `ui/` into the folder that `crates/console` embeds, when something changed; and
//! `cargo xtask browser`: its tests in Chromium.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::run;
use crate::setup;
use crate::workspace::Workspace;

const SOURCES: &str = "ui";
const DOCUMENT: &str = "openapi/v1.json";
const BUILT: &str = "crates/console/dist";
/// What was built, as a digest of what it was built from. Hidden files are not embedded.
const STAMP: &str = "crates/console/dist/.built-from";
/// Folders of `ui/` that are no sources of the console.
const NOT_BUILT: [&str; 2] = ["node_modules", "tests"];
/// The oldest Node that builds it: React Router names it, and Debian 13 has it.
const NODE_MIN: u32 = 20;

/// Builds the console, or says that it is as it should be.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    if let Some(arg) = args.first() {
        bail!("`console` takes no option `{arg}`");
    }
    setup::console()?;
    if !build(workspace)? {
        println!("the console is built already: {BUILT}");
    }
    Ok(())
}

/// Installs what it is built with, exactly as the lock file says, and builds it. `false`: nothing changed since the last time.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<bool> {
    let folder = workspace.root.join(SOURCES);
    install(&folder)?;
    let digest = digest(workspace)?;
    let stamp = workspace.root.join(STAMP);
    let is_there = workspace.root.join(BUILT).join("index.html").is_file();
    if is_there && fs::read_to_string(&stamp).is_ok_and(|have| have == digest) {
        return Ok(false);
    }
    println!("building the console (half a minute)");
    let _ = fs::remove_file(&stamp);
    run::check(Command::new("npm").args(["run", "--silent", "build"]).current_dir(&folder))?;
    fs::write(&stamp, digest).with_context(|| STAMP.to_owned())?;
    Ok(true)
}

/// As the oldest Node or newer says of itself: `v20.19.2`.
fn is_new_enough(version: &str) -> bool {
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= NODE_MIN)
}

fn install(folder: &Path) -> anyhow::Result<()> {
    let version = Command::new("node").arg("--version").output().context("cannot start node")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !is_new_enough(&version) {
        bail!(
            "node is {}: the console needs {NODE_MIN} or newer. Debian 13's `nodejs` is; on Debian 12 install `nodejs` from https://deb.nodesource.com/node_20.x",
            version.trim()
        );
    }
    let wanted = fs::read_to_string(folder.join("package-lock.json")).context("ui/package-lock.json")?;
    let stamp = folder.join("node_modules/cairn-lock.json");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    println!("installing what the console is built with from npm (half a minute)");
    // No package runs a script of its own.
    let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run::check(Command::new("npm").args(options).current_dir(folder))?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            // What is generated from the document changes with it.
            if !entry.file_name().to_string_lossy().contains(".gen.") {
                found.push(entry.path());
            }
        } else if !NOT_BUILT.iter().any(|skip| entry.file_name() == *skip) {
            sources(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn digest(workspace: &Workspace) -> anyhow::Result<String> {
    let mut files = vec![workspace.root.join(DOCUMENT)];
    sources(&workspace.root.join(SOURCES), &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        hasher.write(workspace.shown(&file).to_string().as_bytes());
        hasher.write(&fs::read(&file).with_context(|| file.display().to_string())?);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

/// The browser tests: the test of `server` that starts a server on each database and Playwright beside it. `--screens` keeps pictures.
pub(crate) fn browser(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    setup::console()?;
    setup::chromium()?;
    build(workspace)?;
    let mut programs = run::cargo(workspace, &["build", "--locked", "--workspace"]);
    for program in ["cairn-server", "cairn", "cairn-relay", "cairn-agent"] {
        programs.args(["--bin", program]);
    }
    run::check(&mut programs)?;
    run::check(&mut browser_tests(workspace, args))
}

/// The command that runs them. Of the whole workspace, so that what the tests before built is built with the same features.
pub(crate) fn browser_tests(workspace: &Workspace, args: &[String]) -> Command {
    let tests = ["test", "--locked", "--workspace", "--test", "journey", "console::", "--"];
    let mut command = run::cargo(workspace, &tests);
    command.args(["--ignored", "--test-threads", "1", "--nocapture"]);
    if args.iter().any(|arg| arg == "--screens") {
        command.env("CAIRN_SCREENS", workspace.root.join("docs/screens"));
    }
    command.args(args.iter().filter(|arg| *arg != "--screens")).env("CAIRN_REQUIRE_POSTGRES", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_node_is_told_from_a_new_one() {
        for (version, is) in
            [("v20.19.2\n", true), ("v22.1.0", true), ("v18.20.4", false), ("", false), ("node", false)]
        {
            assert_eq!(is_new_enough(version), is, "{version}");
        }
    }

    #[test]
    fn what_is_built_from_changes_with_every_source_but_not_with_tests() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: dir.path().to_path_buf(), target: dir.path().join("target") };
        for folder in ["ui/src/api", "ui/tests", "ui/node_modules/x", "openapi"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let write = |path: &str, text: &str| fs::write(dir.path().join(path), text).unwrap();
        write("openapi/v1.json", "{}");
        write("ui/src/main.tsx", "1");
        let mut last = digest(&workspace).unwrap();
        for (path, changes) in [
            ("ui/src/main.tsx", true),
            ("openapi/v1.json", true),
            ("ui/package-lock.json", true),
            ("ui/src/api/schema.gen.ts", false),
            ("ui/tests/a.spec.ts", false),
            ("ui/node_modules/x/index.js", false),
        ] {
            write(path, "other");
            let now = digest(&workspace).unwrap();
            assert_eq!(now != last, changes, "{path}");
            last = now;
        }
    }
}
