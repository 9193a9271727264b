//! `cargo xtask tidy`: the rules of the house that neither rustc nor clippy knows.
//!
//! Each check is a pure function from files to findings; this module reads the files and prints `file:line: message`.

mod documents;
mod edges;
mod sources;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::workspace::Workspace;

/// A text file of the workspace.
#[derive(Debug, Clone)]
struct Source {
    /// From the workspace's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// `store` of `crates/store/src/lib.rs`.
    fn crate_name(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default()
    }

    fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }

    /// The lines, counted from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Runs all checks; findings are an error.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    if let Some(arg) = args.first() {
        bail!("`tidy` takes no option `{arg}`");
    }
    let files = read(&workspace.root)?;
    let with_extension = |extension: &str| -> Vec<Source> {
        let ends = |file: &&Source| Path::new(&file.path).extension().is_some_and(|have| have == extension);
        files.iter().filter(ends).cloned().collect()
    };
    let (rust, manifests) = (with_extension("rs"), with_extension("toml"));
    let exceptions = workspace.root.join(sources::EXCEPTIONS);
    let exceptions = Source {
        path: sources::EXCEPTIONS.to_owned(),
        text: fs::read_to_string(&exceptions).with_context(|| workspace.shown(&exceptions).to_string())?,
    };

    for (path, lines) in sources::long(&rust) {
        println!("note: {path} has {lines} lines: would two files read better?");
    }
    let mut findings = edges::check(&manifests);
    findings.extend(edges::lints_inherited(&manifests));
    findings.extend(sources::sizes(&rust, &exceptions));
    findings.extend(sources::headers(&rust));
    findings.extend(sources::names(&rust));
    findings.extend(sources::promises(&files));
    findings.extend(documents::present(|path| workspace.root.join(path).exists()));
    if let Ok(text) = fs::read_to_string(workspace.root.join("README.md")) {
        let entries = fs::read_dir(workspace.root.join(documents::PICTURES)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let is_picture = |name: &String| Path::new(name).extension().is_some_and(|have| have == "png");
        let kept: Vec<String> = names.filter(is_picture).collect();
        findings.extend(documents::pictures(&Source { path: "README.md".to_owned(), text }, &kept));
    }
    if let Ok(text) = fs::read_to_string(workspace.root.join(documents::SECURITY_MODEL)) {
        findings.extend(documents::proofs(&Source { path: documents::SECURITY_MODEL.to_owned(), text }, &rust));
    }
    let linked = crate::fips::linked(workspace)?.into_iter();
    findings.extend(linked.map(|message| Finding { path: "Cargo.lock".to_owned(), line: 1, message }));
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("1 rule is broken"),
        n => bail!("{n} rules are broken"),
    }
}

/// All Rust, TOML, shell and TypeScript files under `crates/` and `ui/`, in order.
fn read(root: &Path) -> anyhow::Result<Vec<Source>> {
    const EXTENSIONS: [&str; 5] = ["rs", "toml", "sh", "ts", "tsx"];
    const NOT_OURS: [&str; 3] = ["target", "node_modules", "dist"];
    let mut files = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("ui")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.with_context(|| folder.display().to_string())?;
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type()?.is_dir() {
                if !NOT_OURS.iter().any(|skip| name == *skip) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|have| EXTENSIONS.iter().any(|extension| have == *extension)) {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let shown = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.push(Source { path: shown, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[cfg(test)]
fn shown(findings: Vec<Finding>) -> Vec<String> {
    findings.iter().map(Finding::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_every_folder_but_not_in_build_output() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "crates/a/src/deep/x.rs",
            "crates/a/Cargo.toml",
            "crates/a/target/y.rs",
            "crates/a/data.json",
            "ui/node_modules/z.ts",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        let paths: Vec<String> = read(dir.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["crates/a/Cargo.toml", "crates/a/src/deep/x.rs"]);
    }
}
