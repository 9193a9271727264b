//! The documents that have to be there, and that the tests which they name exist.

use super::{Finding, Source};

pub(super) const SECURITY_MODEL: &str = "docs/SECURITY-MODEL.md";

/// Where pictures of the console's pages are.
pub(super) const PICTURES: &str = "docs/screens";

const NEEDED: [&str; 9] = [
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/ARCHITECTURE.md",
    SECURITY_MODEL,
    "docs/BENCHMARKS.md",
    "docs/adr",
];

/// Documents that are missing.
pub(super) fn present(exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let missing = NEEDED.iter().filter(|path| !exists(path));
    missing.map(|path| Finding { path: (*path).to_owned(), line: 1, message: "does not exist".to_owned() }).collect()
}

/// Pictures of pages that the README does not show, or shows although they are gone.
pub(super) fn pictures(readme: &Source, kept: &[String]) -> Vec<Finding> {
    let shown = |name: &str| readme.text.contains(&format!("]({PICTURES}/{name})"));
    let missing = kept.iter().filter(|name| !shown(name));
    let mut findings: Vec<_> =
        missing.map(|name| readme.finding(1, format!("does not show {PICTURES}/{name}"))).collect();
    for (number, line) in readme.lines() {
        for rest in line.split(&format!("]({PICTURES}/")).skip(1) {
            let name = rest.split(')').next().unwrap_or_default();
            if !kept.iter().any(|kept| kept == name) {
                findings.push(readme.finding(number, format!("{PICTURES}/{name} does not exist")));
            }
        }
    }
    findings
}

/// In each table with a column whose head says `test`: rows whose cell names no test, and named tests that do not exist.
///
/// A test is named by its path in backticks: `store::audit::tests::a_write_commits_only_with_its_record`.
pub(super) fn proofs(document: &Source, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut column = None;
    let mut is_in_table = false;
    let mut tables = 0;
    for (at, line) in document.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.trim_start().starts_with('|') {
            is_in_table = false;
            continue;
        }
        if !is_in_table {
            is_in_table = true;
            column = cells.iter().position(|cell| cell.to_lowercase().contains("test"));
            tables += usize::from(column.is_some());
            continue;
        }
        let Some(cell) = column.and_then(|column| cells.get(column)) else { continue };
        if cell.chars().all(|c| matches!(c, '-' | ':')) && !cell.is_empty() {
            continue;
        }
        let references: Vec<&str> = cell.split('`').skip(1).step_by(2).filter(|text| text.contains("::")).collect();
        if references.is_empty() {
            findings.push(
                document.finding(at, "names no test: write its path in backticks, such as `store::audit::tests::name`"),
            );
        }
        for reference in references {
            if !sources.iter().any(|source| holds_test(source, reference)) {
                findings.push(document.finding(at, format!("there is no test `{reference}`")));
            }
        }
    }
    if tables == 0 {
        findings.push(document.finding(1, "has no table with a column `Test`"));
    }
    findings
}

/// Whether the file has a function of that name below a test attribute, and the path's other parts are its crate, its folders,
/// its file or a module inside of it.
fn holds_test(source: &Source, reference: &str) -> bool {
    let parts: Vec<&str> = reference.split("::").collect();
    let [crate_name, modules @ .., name] = parts.as_slice() else { return false };
    if source.crate_name() != *crate_name {
        return false;
    }
    let in_path =
        |module: &str| source.path.split('/').skip(2).any(|part| part.strip_suffix(".rs").unwrap_or(part) == module);
    let in_text = |module: &str| source.lines().any(|(_, line)| line.trim().starts_with(&format!("mod {module} ")));
    modules.iter().all(|module| in_path(module) || in_text(module)) && has_test(&source.text, name)
}

/// Whether `fn name(` comes with a `#[test]`-like attribute or inside of a `proptest!` above it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declares = |line: &str| {
        line.split("fn ")
            .nth(1)
            .is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', '<'])))
    };
    lines.iter().enumerate().filter(|(_, line)| declares(line)).any(|(at, _)| {
        let above = lines.get(..at).unwrap_or_default().iter().rev();
        above.take_while(|line| line.starts_with("#[") || line.starts_with("//")).any(|line| line.contains("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{shown, source};
    use super::*;

    fn sources() -> Vec<Source> {
        vec![
            source(
                "crates/store/src/audit.rs",
                "fn helper() {}\nmod tests {\n    #[test]\n    fn kept() {}\n    #[tokio::test]\n    // why\n    #[should_panic]\n    async fn awaited() {}\n}\n",
            ),
            source("crates/api/tests/tenants/other.rs", "#[test]\nfn sees_nothing() {}\n"),
        ]
    }

    fn check(cell: &str) -> Vec<String> {
        let text = format!(
            "# Model\n\n| Attack | Test that proves it |\n|---|:---|\n| a | {cell} |\n\n| Other | Table |\n|---|---|\n| x | y |\n"
        );
        shown(proofs(&source("m.md", &text), &sources()))
    }

    #[test]
    fn every_picture_is_shown_and_every_shown_one_is_there() {
        let kept = ["home.png".to_owned(), "new.png".to_owned()];
        let readme = source("README.md", "# Cairn\n![Home](docs/screens/home.png) ![Old](docs/screens/old.png)\n");
        assert_eq!(
            shown(pictures(&readme, &kept)),
            ["README.md:1: does not show docs/screens/new.png", "README.md:2: docs/screens/old.png does not exist"]
        );
    }

    #[test]
    fn tests_that_exist_are_accepted_in_every_place() {
        for good in
            ["`store::audit::tests::kept`", "`store::audit::tests::awaited` and `api::tenants::other::sees_nothing`"]
        {
            assert_eq!(check(good), [""; 0], "{good}");
        }
    }

    #[test]
    fn a_test_that_does_not_exist_is_found() {
        for bad in
            ["store::audit::tests::gone", "store::audit::helper", "store::other::kept", "zoo::audit::kept", "api::kept"]
        {
            assert_eq!(check(&format!("`{bad}`")), [format!("m.md:5: there is no test `{bad}`")]);
        }
    }

    #[test]
    fn a_row_without_a_proof_is_found_and_so_is_a_document_without_a_table() {
        assert!(check("to be written")[0].starts_with("m.md:5: names no test"));
        assert!(check("")[0].starts_with("m.md:5: names no test"));
        assert_eq!(shown(proofs(&source("m.md", "text"), &sources())), ["m.md:1: has no table with a column `Test`"]);
    }

    #[test]
    fn missing_documents_are_found() {
        assert_eq!(shown(present(|path| path != "LICENSE")), ["LICENSE:1: does not exist"]);
    }
}
