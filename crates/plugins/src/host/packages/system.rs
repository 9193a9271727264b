//! The databases of dpkg, rpm and apk.

use std::collections::BTreeMap;

use super::{Package, text};

/// What rpm is asked for: one line per package, fields separated by tabs.
pub(super) const RPM_FORMAT: &str =
    "%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}\\t%{RELEASE}\\t%{ARCH}\\t%{INSTALLTIME}\\t%{VENDOR}\\t%{SOURCERPM}\\n";

/// Stanzas of `Key: value` lines divided by empty lines, with the number of their first line; continuation lines are left out.
fn stanzas(database: &str) -> Vec<(usize, BTreeMap<&str, &str>)> {
    let (mut out, mut stanza, mut first) = (Vec::new(), BTreeMap::new(), 1);
    for (number, line) in (1..).zip(database.lines().chain([""])) {
        if line.trim().is_empty() {
            if !stanza.is_empty() {
                out.push((first, std::mem::take(&mut stanza)));
            }
            first = number + 1;
        } else if !line.starts_with([' ', '\t'])
            && let Some((key, value)) = line.split_once(':')
        {
            stanza.entry(key).or_insert(value.trim());
        }
    }
    out
}

/// Packages of dpkg's status that are installed, and the first lines of stanzas that name none. Files of status.d have no Status.
pub(super) fn dpkg(database: &str, always: bool) -> (Vec<Package>, Vec<usize>) {
    let (mut out, mut wrong) = (Vec::new(), Vec::new());
    for (line, stanza) in stanzas(database) {
        let get = |key: &str| stanza.get(key).copied();
        if !always && get("Status").is_some_and(|status| !status.ends_with(" installed")) {
            continue;
        }
        let Some(mut package) = Package::new(get("Package").unwrap_or_default(), get("Version").unwrap_or_default())
        else {
            wrong.push(line);
            continue;
        };
        package.arch = get("Architecture").map(str::to_owned);
        package.vendor = get("Maintainer").map(str::to_owned);
        // `Source: name (version)`, the version only where it differs.
        let source = get("Source").unwrap_or(&package.name);
        let (source, version) = source.split_once(" (").unwrap_or((source, package.version.as_str()));
        (package.source, package.source_version) =
            (Some(source.to_owned()), Some(version.trim_end_matches(')').to_owned()));
        out.push(package);
    }
    (out, wrong)
}

/// Lines in [`RPM_FORMAT`], and how many are not.
pub(super) fn rpm(output: &str) -> (Vec<Package>, usize) {
    let (mut out, mut wrong) = (Vec::new(), 0);
    for line in output.lines().filter(|line| !line.is_empty()) {
        let row: Vec<&str> = line.split('\t').collect();
        let [name, epoch, version, release, arch, time, vendor, source] = row.as_slice() else {
            wrong += 1;
            continue;
        };
        let version = if *epoch == "0" || *epoch == "(none)" {
            format!("{version}-{release}")
        } else {
            format!("{epoch}:{version}-{release}")
        };
        let Some(mut package) = Package::new(name, &version) else {
            wrong += 1;
            continue;
        };
        let some = |text: &str| (text != "(none)" && !text.is_empty()).then(|| text.to_owned());
        (package.arch, package.vendor, package.source) = (some(arch), some(vendor), some(source));
        package.installed_on = time.parse::<i64>().ok().and_then(|seconds| text::date(seconds.div_euclid(86_400)));
        out.push(package);
    }
    (out, wrong)
}

/// apk's installed database: `P:` name, `V:` version, `A:` architecture, `o:` origin.
pub(super) fn apk(database: &str) -> Vec<Package> {
    let package = |stanza: &BTreeMap<&str, &str>| {
        let get = |key: &str| stanza.get(key).copied();
        let mut package = Package::new(get("P")?, get("V")?)?;
        package.arch = get("A").map(str::to_owned);
        package.source = get("o").map(str::to_owned);
        package.vendor = get("m").map(str::to_owned);
        Some(package)
    };
    stanzas(database).iter().filter_map(|(_, stanza)| package(stanza)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_installed_packages_of_dpkg_count() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nSource: s (2)\nDescription: x\n Package: no\n\n\
                      Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: c\nStatus: install ok installed\n";
        let (got, wrong) = dpkg(status, false);
        assert_eq!(got.len(), 1);
        assert_eq!(
            (got[0].name.as_str(), got[0].source.as_deref(), got[0].source_version.as_deref()),
            ("a", Some("s"), Some("2"))
        );
        assert_eq!(wrong, [13]);
    }

    #[test]
    fn rpm_lines_give_epoch_version_and_date() {
        let (got, wrong) = rpm(
            "bash\t0\t5.1\t2.el9\tx86_64\t1700000000\tRed Hat\tbash.src.rpm\nshadow\t2\t4\t1\t(none)\tx\t(none)\t(none)\nbad\n",
        );
        assert_eq!((got[0].version.as_str(), got[0].installed_on.as_deref()), ("5.1-2.el9", Some("2023-11-14")));
        assert_eq!((got[1].version.as_str(), got[1].arch.as_deref(), wrong), ("2:4-1", None, 1));
    }

    #[test]
    fn apk_stanzas_are_read() {
        let got = apk("C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\no:musl\nF:lib\n\nP:x\n");
        assert_eq!((got.len(), got[0].name.as_str(), got[0].version.as_str()), (1, "musl", "1.2.4-r2"));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(?s)[A-Za-z: \\t\\n()é]{0,200}") {
            let _ = (dpkg(&text, false), dpkg(&text, true), rpm(&text), apk(&text));
        }
    }
}
