//! What the package managers of programming languages leave on disk.

use serde_json::Value;
use transport::Part;

use super::Package;

/// Where Go's build information is in an ELF file: the linker aligns it to 16 bytes.
pub(super) const GO_INFO: Part<'static> =
    Part { begins: b"\x7fELF", marker: b"\xff Go buildinf:", length: 1_024 * 1_024 };

/// `name-version.dist-info` (PEP 376, PEP 427) or `name-version[-py3.11].egg-info`.
pub(super) fn python(entry: &str) -> Option<Package> {
    let stem = entry.strip_suffix(".dist-info").or_else(|| entry.strip_suffix(".egg-info"))?;
    let mut parts = stem.split('-');
    Package::new(parts.next()?, parts.next()?)
        .filter(|package| package.version.starts_with(|c: char| c.is_ascii_digit()))
}

/// `name` and `version` of a package.json.
pub(super) fn npm(manifest: &str) -> Option<Package> {
    let manifest: Value = serde_json::from_str(manifest).ok()?;
    Package::new(manifest.get("name")?.as_str()?, manifest.get("version")?.as_str()?)
}

/// Keys `name version (source)` of cargo's `.crates2.json`.
pub(super) fn cargo(state: &str) -> Option<Vec<Package>> {
    let state: Value = serde_json::from_str(state).ok()?;
    let installs = state.get("installs")?.as_object()?;
    Some(
        installs
            .keys()
            .filter_map(|key| {
                let mut words = key.split(' ');
                Package::new(words.next()?, words.next()?)
            })
            .collect(),
    )
}

/// `name-version[-platform].gemspec`: the version is the first part after the name that begins with a digit and holds no letter first.
pub(super) fn gem(entry: &str) -> Option<Package> {
    let stem = entry.strip_suffix(".gemspec")?;
    let at = stem.match_indices('-').map(|(at, _)| at).find(|at| {
        let version = stem.get(at + 1..).and_then(|rest| rest.split('-').next()).unwrap_or_default();
        version.starts_with(|c: char| c.is_ascii_digit())
            && version.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
    })?;
    let (name, rest) = (stem.get(..at)?, stem.get(at + 1..)?);
    let (version, platform) =
        rest.split_once('-').map_or((rest, None), |(version, platform)| (version, Some(platform)));
    let mut package = Package::new(name, version)?;
    package.arch = platform.map(str::to_owned);
    Some(package)
}

/// Go's build information (Go 1.18 and later), from its marker on: the main module, its dependencies and the standard library.
pub(super) fn go(info: &[u8]) -> Vec<Package> {
    let Some(header) = info.get(..32).filter(|header| header.starts_with(GO_INFO.marker)) else { return Vec::new() };
    // Bit 1: the strings follow, each with its length in front.
    if header.get(15).is_none_or(|flags| flags & 2 == 0) {
        return Vec::new();
    }
    let mut rest = info.get(32..).unwrap_or_default();
    let (Some(version), Some(modules)) = (string(&mut rest, GO_INFO.length), string(&mut rest, GO_INFO.length)) else {
        return Vec::new();
    };
    let version = String::from_utf8_lossy(version).trim_start_matches("go").to_owned();
    let mut out: Vec<Package> =
        Package::new("stdlib", version.split(' ').next().unwrap_or_default()).into_iter().collect();
    // Sixteen bytes stand before and after the text so that it can be found in a core dump.
    let text = modules.get(16..modules.len().saturating_sub(16)).unwrap_or_default();
    for line in String::from_utf8_lossy(text).lines() {
        let words: Vec<&str> = line.split('\t').collect();
        match words.as_slice() {
            ["mod" | "dep", name, version, ..] => out.extend(Package::new(name, version)),
            // The module before was replaced by this one.
            ["=>", name, version, ..] => {
                out.pop();
                out.extend(Package::new(name, version));
            }
            _ => {}
        }
    }
    out
}

/// Takes a string with its length as a varint in front.
fn string<'a>(rest: &mut &'a [u8], max: usize) -> Option<&'a [u8]> {
    let (mut length, mut shift) = (0usize, 0u32);
    loop {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 28 {
            return None;
        }
    }
    if length > max || length > rest.len() {
        return None;
    }
    let (taken, after) = rest.split_at(length);
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(package: Option<Package>) -> Option<(String, String)> {
        package.map(|package| (package.name, package.version))
    }

    #[test]
    fn directory_and_file_names_give_name_and_version() {
        let expect = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(pair(python("PyJWT-2.6.0.egg-info")), expect("PyJWT", "2.6.0"));
        assert_eq!(pair(python("requests-2.31.0.dist-info")), expect("requests", "2.31.0"));
        assert_eq!(pair(python("x-1.0-py3.11.egg-info")), expect("x", "1.0"));
        assert_eq!(pair(python("requests")), None);
        assert_eq!(pair(gem("net-http-0.3.2.gemspec")), expect("net-http", "0.3.2"));
        assert_eq!(pair(gem("nokogiri-1.15.4-x86_64-linux.gemspec")), expect("nokogiri", "1.15.4"));
        assert_eq!(pair(npm(r#"{"name":"@a/b","version":"1.0.0"}"#)), expect("@a/b", "1.0.0"));
        assert_eq!(cargo(r#"{"installs":{"ripgrep 14.1.0 (registry+https://x)":{}}}"#).unwrap()[0].name, "ripgrep");
    }

    #[test]
    fn go_build_information_is_found_in_a_binary() {
        let modules = format!(
            "{}path\tx\nmod\texample.com/x\tv1.2.0\th1:\ndep\tgolang.org/x/net\tv0.1.0\th1:\n=>\tfork.example/net\tv0.2.0\t\n{}",
            "0".repeat(16),
            "0".repeat(16)
        );
        let mut binary = b"\x7fELF".to_vec();
        binary.resize(64, 0);
        binary.extend(b"\xff Go buildinf:\x08\x02");
        binary.resize(96, 0);
        binary.push(8);
        binary.extend(b"go1.21.3");
        let length = u8::try_from(modules.len() & 0x7f).unwrap() | 0x80;
        binary.extend([length, u8::try_from(modules.len() >> 7).unwrap()]);
        binary.extend(modules.as_bytes());
        let names: Vec<String> = go(GO_INFO.of(&binary).unwrap())
            .into_iter()
            .map(|package| format!("{}@{}", package.name, package.version))
            .collect();
        assert_eq!(names, ["stdlib@1.21.3", "example.com/x@v1.2.0", "fork.example/net@v0.2.0"]);
        assert!(go(GO_INFO.of(&binary[..100]).unwrap()).is_empty());
        binary[0] = b'#';
        assert!(GO_INFO.of(&binary).is_none());
    }

    proptest! {
        #[test]
        fn no_input_makes_a_parser_panic(text in "(?s).{0,100}", bytes: Vec<u8>) {
            let _ = (python(&text), npm(&text), cargo(&text), gem(&text), go(&bytes));
            let mut blob = b"\x7fELF            \xff Go buildinf:\x08\x02                ".to_vec();
            blob.extend(&bytes);
            let _ = GO_INFO.of(&blob).map(go);
        }
    }
}
