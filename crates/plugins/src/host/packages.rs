//! Installed packages: one scope per package manager, from its own database.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use domain::Result;
use serde_json::{Value, json};
use transport::CallError;

use super::scope::Scope;
use super::text;

mod language;
mod system;

const PACKAGES: usize = 100_000;
/// dpkg's status file of a large desktop is about 10 MB.
const DATABASE_BYTES: usize = 64 * 1_024 * 1_024;
const RPM_TIMEOUT: Duration = Duration::from_mins(1);
const SMALL: usize = 512 * 1_024;
const BINARY_BYTES: usize = 64 * 1_024 * 1_024;
/// How deep node_modules may nest.
const NPM_DEPTH: usize = 6;

/// Every manager that can be asked for.
pub(super) const MANAGERS: &[&str] = &["dpkg", "rpm", "apk", "pip", "npm", "cargo", "gem", "go"];

/// One installed package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    arch: Option<String>,
    source: Option<String>,
    source_version: Option<String>,
    vendor: Option<String>,
    installed_on: Option<String>,
    location: Option<String>,
}

impl Package {
    fn new(name: &str, version: &str) -> Option<Self> {
        let ok = |text: &str| !text.is_empty() && text.len() <= 300;
        (ok(name) && ok(version)).then(|| Self {
            name: name.to_owned(),
            version: version.to_owned(),
            ..Self::default()
        })
    }

    fn at(mut self, location: &str) -> Self {
        self.location = Some(location.to_owned());
        self
    }
}

/// Percent-encoding of the package-url specification: letters, digits and `.-_~` stay, and `/` where it divides.
fn encoded(text: &str, keep: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) || keep.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The package URL (ECMA-427).
fn purl(manager: &str, distribution: &str, package: &Package) -> String {
    let version = encoded(&package.version, "");
    let name = &package.name;
    let path = match manager {
        "dpkg" => format!("deb/{}/{}", encoded(distribution, ""), encoded(name, "")),
        "rpm" => format!("rpm/{}/{}", encoded(distribution, ""), encoded(name, "")),
        "apk" => format!("apk/{}/{}", encoded(distribution, ""), encoded(name, "")),
        "pip" => format!("pypi/{}", encoded(&name.to_ascii_lowercase().replace('_', "-"), "")),
        "go" => format!("golang/{}", encoded(&name.to_ascii_lowercase(), "/")),
        other => format!("{other}/{}", encoded(name, "/")),
    };
    let arch = package.arch.as_deref().map(|arch| format!("?arch={}", encoded(arch, ""))).unwrap_or_default();
    format!("pkg:{path}@{version}{arch}")
}

/// Collects one manager's packages.
pub(super) async fn collect(scope: &mut Scope<'_>, manager: &str) -> Result<Option<String>> {
    let (there, mut packages) = match manager {
        "dpkg" => dpkg(scope).await,
        "rpm" => rpm(scope).await,
        "apk" => apk(scope).await,
        "pip" => pip(scope).await,
        "npm" => npm(scope).await,
        "cargo" => cargo(scope).await,
        "gem" => gem(scope).await,
        _ => go(scope).await,
    };
    if packages.len() > PACKAGES {
        scope.source.problem(format!("more than {PACKAGES} packages"));
        packages.truncate(PACKAGES);
    }
    let release = text::assignments(&scope.source.config("/etc/os-release").await.unwrap_or_default());
    let distribution = release.get("ID").map_or("linux", String::as_str);
    for package in &packages {
        let arch = package.arch.as_deref().map(|arch| format!(":{arch}")).unwrap_or_default();
        // One rpm name may be installed in several versions (kernels), and one library in several places.
        let place = match (&package.location, manager) {
            (Some(location), _) => format!("@{location}"),
            (None, "rpm") => format!("@{}", package.version),
            _ => String::new(),
        };
        let resource = format!("{manager}:{}{arch}{place}", package.name);
        let properties = json!({
            "manager": manager, "name": package.name, "version": package.version, "arch": package.arch, "source": package.source,
            "source_version": package.source_version, "vendor": package.vendor, "installed_on": package.installed_on,
            "location": package.location, "purl": purl(manager, distribution, package),
        });
        scope.node("host.package", &resource, &format!("{} {}", package.name, package.version), properties).await?;
    }
    Ok((!there && packages.is_empty()).then(|| format!("{manager} is not used here")))
}

type Found = (bool, Vec<Package>);

async fn dpkg(scope: &mut Scope<'_>) -> Found {
    let mut databases = vec!["/var/lib/dpkg/status".to_owned()];
    databases.extend(
        scope.source.glob("/var/lib/dpkg/status.d/*").await.into_iter().filter(|path| !path.ends_with(".md5sums")),
    );
    let (mut there, mut out) = (false, Vec::new());
    for path in databases {
        let Some(reply) = scope.source.bytes(&path, DATABASE_BYTES, true).await else { continue };
        there = true;
        let (packages, wrong) = system::dpkg(&text::lossy(&reply.body), path.contains("status.d"));
        out.extend(packages);
        for line in wrong.into_iter().take(3) {
            scope.source.problem(format!("{path}:{line}: a package without name or version"));
        }
    }
    (there, out)
}

async fn rpm(scope: &mut Scope<'_>) -> Found {
    let tag = scope.source.tag(true);
    let argv = ["rpm", "-qa", "--queryformat", system::RPM_FORMAT];
    match scope.source.reach.command(&argv, DATABASE_BYTES, RPM_TIMEOUT, &tag).await {
        Ok(output) if output.code == 0 => {
            let (packages, wrong) = system::rpm(&text::lossy(&output.stdout.body));
            if wrong > 0 {
                scope.source.problem(format!("rpm -qa: {wrong} lines are not as asked for"));
            }
            (true, packages)
        }
        Ok(output) => {
            scope.source.problem(format!("rpm -qa: exit code {}: {}", output.code, output.stderr.trim()));
            (true, Vec::new())
        }
        Err(CallError::NotFound(_)) => {
            let databases = [
                "/var/lib/rpm/rpmdb.sqlite",
                "/var/lib/rpm/Packages",
                "/var/lib/rpm/Packages.db",
                "/usr/lib/sysimage/rpm/rpmdb.sqlite",
            ];
            if scope.source.any_exists(&databases).await {
                scope.source.problem("there is an rpm database but no rpm program to read it");
            }
            (false, Vec::new())
        }
        Err(error) => {
            scope.source.failed("rpm -qa", &error);
            (true, Vec::new())
        }
    }
}

async fn apk(scope: &mut Scope<'_>) -> Found {
    for path in ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"] {
        if let Some(reply) = scope.source.bytes(path, DATABASE_BYTES, true).await {
            return (true, system::apk(&text::lossy(&reply.body)));
        }
    }
    (false, Vec::new())
}

async fn globs(scope: &mut Scope<'_>, patterns: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    let mut real = BTreeSet::new();
    for pattern in patterns {
        for path in scope.source.glob(pattern).await {
            // `/lib` and `/usr/lib` are often one directory.
            let key = path.strip_prefix("/usr").unwrap_or(&path).to_owned();
            if real.insert(key) {
                out.push(path);
            }
        }
    }
    out
}

async fn pip(scope: &mut Scope<'_>) -> Found {
    let dirs = globs(
        scope,
        &[
            "/usr/lib/python*/dist-packages",
            "/usr/lib/python*/site-packages",
            "/usr/lib64/python*/site-packages",
            "/usr/local/lib/python*/dist-packages",
            "/usr/local/lib/python*/site-packages",
            "/opt/*/lib/python*/site-packages",
            "/root/.local/lib/python*/site-packages",
            "/home/*/.local/lib/python*/site-packages",
            "/root/.pyenv/versions/*/lib/python*/site-packages",
            "/home/*/.pyenv/versions/*/lib/python*/site-packages",
            "/root/.local/share/pipx/venvs/*/lib/python*/site-packages",
            "/home/*/.local/share/pipx/venvs/*/lib/python*/site-packages",
        ],
    )
    .await;
    let mut out = Vec::new();
    for dir in &dirs {
        for entry in scope.source.list(dir).await {
            out.extend(language::python(&entry.name).map(|package| package.at(dir)));
        }
    }
    (!dirs.is_empty(), out)
}

async fn npm(scope: &mut Scope<'_>) -> Found {
    let roots = globs(
        scope,
        &[
            "/usr/lib/node_modules",
            "/usr/local/lib/node_modules",
            "/opt/*/lib/node_modules",
            "/usr/share/nodejs",
            "/root/.nvm/versions/node/*/lib/node_modules",
            "/home/*/.nvm/versions/node/*/lib/node_modules",
            "/root/.npm-global/lib/node_modules",
            "/home/*/.npm-global/lib/node_modules",
        ],
    )
    .await;
    let there = !roots.is_empty();
    let mut waiting: Vec<(String, usize)> = roots.into_iter().rev().map(|root| (root, 0)).collect();
    let (mut out, mut there_now) = (Vec::new(), false);
    while let Some((dir, depth)) = waiting.pop() {
        if out.len() >= PACKAGES {
            break;
        }
        for entry in scope.source.list(&dir).await {
            let path = format!("{dir}/{}", entry.name);
            if entry.kind == transport::FileKind::File || entry.name.starts_with('.') {
                continue;
            }
            if entry.name.starts_with('@') {
                waiting.push((path, depth));
                continue;
            }
            there_now = true;
            if let Some(manifest) = scope.source.peek(&format!("{path}/package.json"), SMALL).await {
                match language::npm(&manifest) {
                    Some(package) => out.push(package.at(&path)),
                    // A directory of tests or examples has a manifest without name and version.
                    None if serde_json::from_str::<Value>(&manifest).is_ok() => {}
                    None => scope.source.problem(format!("{path}/package.json: not JSON")),
                }
            }
            // A link may lead anywhere, also to itself.
            if entry.kind == transport::FileKind::Dir && depth < NPM_DEPTH {
                let nested = format!("{path}/node_modules");
                if scope.source.reach.list(&nested, None).await.is_ok_and(|entries| !entries.is_empty()) {
                    waiting.push((nested, depth + 1));
                }
            }
        }
    }
    (there || there_now, out)
}

async fn cargo(scope: &mut Scope<'_>) -> Found {
    let (mut there, mut out) = (false, Vec::new());
    for path in
        globs(scope, &["/root/.cargo/.crates2.json", "/home/*/.cargo/.crates2.json", "/usr/local/cargo/.crates2.json"])
            .await
    {
        let Some(state) = scope.source.peek(&path, DATABASE_BYTES).await else { continue };
        there = true;
        match language::cargo(&state) {
            Some(packages) => out.extend(packages.into_iter().map(|package| package.at(text::parent(&path)))),
            None => scope.source.problem(format!("{path}: not the JSON of cargo install")),
        }
    }
    (there, out)
}

async fn gem(scope: &mut Scope<'_>) -> Found {
    let dirs = globs(
        scope,
        &[
            "/usr/lib/ruby/gems/*/specifications",
            "/usr/lib/ruby/gems/*/specifications/default",
            "/var/lib/gems/*/specifications",
            "/usr/local/lib/ruby/gems/*/specifications",
            "/usr/local/lib/ruby/gems/*/specifications/default",
            "/usr/share/gems/specifications",
            "/usr/share/rubygems-integration/*/specifications",
            "/usr/local/bundle/specifications",
            "/root/.gem/ruby/*/specifications",
            "/home/*/.gem/ruby/*/specifications",
            "/root/.local/share/gem/ruby/*/specifications",
            "/home/*/.local/share/gem/ruby/*/specifications",
        ],
    )
    .await;
    let (mut there, mut out) = (false, Vec::new());
    for dir in &dirs {
        let entries = scope.source.list(dir).await;
        there |= !entries.is_empty();
        out.extend(entries.iter().filter_map(|entry| language::gem(&entry.name)).map(|package| package.at(dir)));
    }
    (there, out)
}

async fn go(scope: &mut Scope<'_>) -> Found {
    let (mut there, mut out) = (false, Vec::new());
    if let Some(version) = scope.source.peek("/usr/local/go/VERSION", 4_096).await {
        there = true;
        let version = version.lines().next().unwrap_or_default().trim_start_matches("go").to_owned();
        out.extend(Package::new("toolchain", &version).map(|package| package.at("/usr/local/go")));
    }
    for path in globs(scope, &["/root/go/bin/*", "/home/*/go/bin/*", "/usr/local/bin/*", "/usr/local/sbin/*"]).await {
        let tag = scope.source.tag(false);
        // A script, a link to nowhere or a larger binary is no Go program that could be told.
        let Ok(reply) = scope.source.reach.part(&path, language::GO_INFO, BINARY_BYTES, &tag).await else { continue };
        for package in language::go(&reply.body) {
            there = true;
            out.push(package.at(&path));
        }
    }
    (there, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_encoded() {
        let mut package = Package::new("libstdc++6", "12.2.0-14+deb12u1").unwrap();
        package.arch = Some("amd64".into());
        assert_eq!(purl("dpkg", "debian", &package), "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64");
        let package = Package::new("@angular/core", "17.0.0").unwrap();
        assert_eq!(purl("npm", "debian", &package), "pkg:npm/%40angular/core@17.0.0");
        let package = Package::new("Foo_Bar", "1").unwrap();
        assert_eq!(purl("pip", "debian", &package), "pkg:pypi/foo-bar@1");
    }
}
