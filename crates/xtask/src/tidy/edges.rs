//! Which crate may depend on which, and that each takes the workspace's lints.

use super::{Finding, Source};

const CORE: &[&str] = &["domain"];

/// The allowed edges. Links point downward only: a crate names crates of earlier rows.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("redact", &[]),
    ("crypto", CORE),
    ("access", CORE),
    ("webauthn", &["domain", "crypto"]),
    ("wire", CORE),
    ("evidence", &["domain", "crypto", "wire"]),
    ("inventory", &["domain", "crypto"]),
    ("compliance", &["domain", "crypto", "inventory"]),
    ("transport", &["domain", "crypto"]),
    ("secrets", &["domain", "crypto", "transport"]),
    ("plugins", &["domain", "wire", "transport"]),
    ("guest", &["domain", "crypto", "transport", "plugins"]),
    ("store", &["domain", "access", "crypto", "webauthn", "evidence", "inventory", "compliance"]),
    ("gateway", &["domain", "access", "crypto", "wire"]),
    ("bastion", &["domain", "crypto", "wire", "gateway"]),
    ("console", &[]),
    (
        "api",
        &[
            "domain",
            "access",
            "crypto",
            "webauthn",
            "wire",
            "evidence",
            "inventory",
            "compliance",
            "secrets",
            "transport",
            "store",
            "gateway",
            "redact",
        ],
    ),
    (
        "server",
        &[
            "domain",
            "access",
            "crypto",
            "webauthn",
            "wire",
            "evidence",
            "inventory",
            "compliance",
            "secrets",
            "transport",
            "plugins",
            "guest",
            "store",
            "gateway",
            "redact",
            "api",
            "console",
        ],
    ),
    ("fleet", &["domain", "crypto", "wire"]),
    ("relay", &["domain", "crypto", "wire", "transport", "plugins", "gateway", "bastion", "fleet", "redact"]),
    ("agent", &["domain", "crypto", "wire", "inventory", "transport", "plugins", "fleet"]),
    ("cli", &["domain", "crypto", "wire", "evidence", "guest"]),
    // Dev only; in `[dev-dependencies]` every crate may name `testkit`.
    ("testkit", CORE),
    // Dev only: nothing depends on it but `fuzz`.
    ("fuzzing", &["domain", "crypto", "webauthn", "wire", "evidence", "compliance", "transport", "guest", "gateway"]),
    ("xtask", &[]),
];

/// What the tests of a crate may name besides, to run the real thing instead of a double.
const ALLOWED_IN_TESTS: &[(&str, &[&str])] = &[("plugins", &["compliance", "crypto"]), ("server", &["fleet"])];

/// Edges that are not listed, and crates that the list does not know.
pub(super) fn check(manifests: &[Source]) -> Vec<Finding> {
    let ours: Vec<&str> = crates(manifests).map(Source::crate_name).collect();
    let mut findings = Vec::new();
    for manifest in crates(manifests) {
        let name = manifest.crate_name();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            findings.push(manifest.finding(
                1,
                format!("the crate `{name}` is not in the list of xtask's tidy/edges.rs: add it with what it may use"),
            ));
            continue;
        };
        let table = match manifest.text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(e) => {
                findings.push(manifest.finding(1, format!("not TOML: {}", e.message())));
                continue;
            }
        };
        for (section, dependency) in dependencies(&table) {
            let is_ours = ours.contains(&dependency.as_str()) || ALLOWED.iter().any(|(known, _)| *known == dependency);
            let in_tests = || {
                let listed =
                    ALLOWED_IN_TESTS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, more)| more);
                section == "dev-dependencies" && (dependency == "testkit" || listed.contains(&dependency.as_str()))
            };
            if is_ours && !allowed.contains(&dependency.as_str()) && !in_tests() {
                let line = line_of(manifest, &section, &dependency);
                findings.push(manifest.finding(line, format!("`{name}` may not depend on `{dependency}`")));
            }
        }
    }
    findings
}

/// Crates that do not say `[lints] workspace = true`.
pub(super) fn lints_inherited(manifests: &[Source]) -> Vec<Finding> {
    let inherits = |manifest: &Source| {
        let table = manifest.text.parse::<toml::Table>().unwrap_or_default();
        table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    crates(manifests).filter(|m| !inherits(m)).map(|m| m.finding(1, "add `[lints]` with `workspace = true`")).collect()
}

fn crates(manifests: &[Source]) -> impl Iterator<Item = &Source> {
    manifests.iter().filter(|m| matches!(m.path.split('/').collect::<Vec<_>>()[..], ["crates", _, "Cargo.toml"]))
}

/// The package of each dependency (also a renamed one) with its section, in all sections and for all targets.
fn dependencies(table: &toml::Table) -> Vec<(String, String)> {
    const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = table.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    let tables = targets.filter_map(toml::Value::as_table).chain(std::iter::once(table));
    let mut found = Vec::new();
    for table in tables {
        for section in SECTIONS {
            let entries = table.get(section).and_then(toml::Value::as_table).into_iter().flatten();
            found.extend(entries.map(|(key, value)| {
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                (section.to_owned(), package.to_owned())
            }));
        }
    }
    found
}

fn line_of(manifest: &Source, section: &str, dependency: &str) -> usize {
    let names = |line: &str| line.trim_start().starts_with(dependency) || line.contains(&format!("\"{dependency}\""));
    let mut inside = false;
    for (at, line) in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains(section);
        } else if inside && names(line) {
            return at;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::super::{shown, source};
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn manifest(name: &str, rest: &str) -> Source {
        source(&format!("crates/{name}/Cargo.toml"), &format!("{LINTS}{rest}"))
    }

    #[test]
    fn an_upward_edge_is_found_in_every_kind_of_section() {
        let found = check(&[
            manifest("domain", "[dependencies]\nstore.workspace = true\n"),
            manifest(
                "store",
                "[dependencies]\ndomain.workspace = true\n[dev-dependencies]\ntestkit.workspace = true\nserde = \"1\"\n",
            ),
            manifest("cli", "[build-dependencies]\nrenamed = { package = \"store\", path = \"../store\" }\n"),
            manifest("agent", "[target.'cfg(unix)'.dependencies]\nstore = { path = \"../store\" }\n"),
            manifest("wire", "[dependencies]\ntestkit.workspace = true\n"),
        ]);
        assert_eq!(
            shown(found),
            [
                "crates/domain/Cargo.toml:4: `domain` may not depend on `store`",
                "crates/cli/Cargo.toml:4: `cli` may not depend on `store`",
                "crates/agent/Cargo.toml:4: `agent` may not depend on `store`",
                "crates/wire/Cargo.toml:4: `wire` may not depend on `testkit`",
            ]
        );
    }

    #[test]
    fn an_unknown_crate_and_a_broken_manifest_are_found() {
        let found = shown(check(&[manifest("zoo", ""), manifest("wire", "[dependencies\n")]));
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("`zoo` is not in the list") && found[1].contains("not TOML"), "{found:?}");
    }

    #[test]
    fn lints_have_to_be_inherited() {
        let own = source("crates/wire/Cargo.toml", "[lints.clippy]\nall = \"allow\"\n");
        let elsewhere = source("crates/wire/tests/data/Cargo.toml", "");
        assert_eq!(
            shown(lints_inherited(&[own, manifest("domain", ""), elsewhere])),
            ["crates/wire/Cargo.toml:1: add `[lints]` with `workspace = true`"]
        );
    }

    #[test]
    fn the_list_itself_points_downward() {
        for (at, (name, allowed)) in ALLOWED.iter().enumerate() {
            for below in *allowed {
                assert!(ALLOWED[..at].iter().any(|(known, _)| known == below), "{name} -> {below}");
            }
        }
    }
}
