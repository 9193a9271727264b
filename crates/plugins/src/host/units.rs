//! Services: systemd units from their files, OpenRC run levels, init scripts, inetd.

use std::collections::{BTreeMap, BTreeSet};

use domain::Result;
use serde_json::{Map, json};
use transport::FileKind;

use super::scope::{Scope, Source};
use super::text;

const DIRS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const UNITS: usize = 5_000;
const UNIT_BYTES: usize = 256 * 1_024;
const KINDS: &[&str] = &["service", "socket", "timer"];

fn kind(name: &str) -> Option<&'static str> {
    KINDS.iter().copied().find(|kind| name.rsplit_once('.').is_some_and(|(_, end)| end == *kind))
}

/// Settings of a unit file and its drop-ins: an empty value takes back what was said before; lists keep their first.
#[derive(Debug, Default)]
struct Unit {
    values: BTreeMap<String, String>,
    installable: bool,
}

impl Unit {
    fn read(&mut self, file: &str) {
        for (section, key, value) in text::ini(file) {
            self.installable |= section == "Install";
            let key = format!("{section}.{key}");
            if value.is_empty() {
                self.values.remove(&key);
            } else if key == "Service.ExecStart" {
                self.values.entry(key).or_insert(value);
            } else {
                self.values.insert(key, value);
            }
        }
    }

    fn get(&self, key: &str) -> Option<&String> {
        self.values.get(key)
    }

    /// The program alone: arguments may hold secrets.
    fn executable(&self) -> Option<&str> {
        let line = self.get("Service.ExecStart")?.trim_start_matches(['-', '@', ':', '+', '!', '|']);
        let first = line.split_whitespace().next()?;
        Some(text::unquote(first))
    }
}

/// Which targets and units ask for a unit, by links in `.wants` and `.requires`.
async fn wanted(source: &mut Source<'_>) -> BTreeMap<String, (BTreeSet<String>, bool)> {
    let mut out: BTreeMap<String, (BTreeSet<String>, bool)> = BTreeMap::new();
    for (dir, suffix) in DIRS.iter().flat_map(|dir| [(*dir, "wants"), (*dir, "requires")]) {
        let configured = dir.starts_with("/etc") || dir.starts_with("/run");
        for path in source.glob(&format!("{dir}/*.{suffix}/*")).await {
            let target = text::base(text::parent(&path)).trim_end_matches(".wants").trim_end_matches(".requires");
            let (targets, by_admin) = out.entry(text::base(&path).to_owned()).or_default();
            targets.insert(target.to_owned());
            *by_admin |= configured;
        }
    }
    out
}

/// One node per unit, run-level script or inetd line.
pub(super) async fn collect(scope: &mut Scope<'_>) -> Result<Option<String>> {
    let mut seen = false;
    let wanted = wanted(&mut scope.source).await;
    let mut paths: BTreeMap<String, (String, FileKind)> = BTreeMap::new();
    for dir in DIRS {
        for entry in scope.source.list(dir).await {
            if kind(&entry.name).is_some() && paths.len() < UNITS {
                paths.entry(entry.name.clone()).or_insert((format!("{dir}/{}", entry.name), entry.kind));
            }
        }
    }
    for (name, (path, file_kind)) in &paths {
        seen = true;
        systemd(scope, name, path, *file_kind, &wanted).await?;
    }
    // An instance such as `getty@tty1.service` is a link to its template.
    for name in wanted.keys().filter(|name| kind(name).is_some() && !paths.contains_key(*name) && name.contains('@')) {
        let template =
            name.split_once('@').and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
        if let Some((path, file_kind)) = template.and_then(|template| paths.get(&template)) {
            systemd(scope, name, path, *file_kind, &wanted).await?;
        }
    }
    seen |= scripts(scope, &paths).await?;
    seen |= inetd(scope).await?;
    Ok((!seen).then(|| "there is no systemd, OpenRC, init.d or inetd".into()))
}

async fn systemd(
    scope: &mut Scope<'_>,
    name: &str,
    path: &str,
    file_kind: FileKind,
    wanted: &BTreeMap<String, (BTreeSet<String>, bool)>,
) -> Result<()> {
    let source = &mut scope.source;
    let link = if file_kind == FileKind::Link { source.reach.read_link(path).await.ok() } else { None };
    let masked = link.as_deref() == Some("/dev/null");
    let alias = link
        .as_deref()
        .map(text::base)
        .filter(|target| *target != name && !masked && kind(target).is_some() && !target.contains("@."));
    let mut unit = Unit::default();
    if !masked && let Some(file) = source.peek(path, UNIT_BYTES).await {
        unit.read(&file);
        for dir in DIRS.iter().rev() {
            for drop_in in source.glob(&format!("{dir}/{name}.d/*.conf")).await {
                unit.read(&source.peek(&drop_in, UNIT_BYTES).await.unwrap_or_default());
            }
        }
    }
    let (targets, by_admin) = wanted.get(name).cloned().unwrap_or_default();
    let state = match () {
        () if masked => "masked",
        () if alias.is_some() => "alias",
        () if by_admin => "enabled",
        () if unit.installable => "disabled",
        () => "static",
    };
    let mut hardening = Map::new();
    for key in [
        "NoNewPrivileges",
        "PrivateTmp",
        "ProtectSystem",
        "ProtectHome",
        "CapabilityBoundingSet",
        "PrivateDevices",
        "RestrictNamespaces",
    ] {
        if let Some(value) = unit.get(&format!("Service.{key}")) {
            hardening.insert(text::snake_from_camel(key), value.clone().into());
        }
    }
    let user = unit.get("Service.User").cloned();
    let is_service = kind(name) == Some("service");
    let runs_as = user.clone().or_else(|| {
        (is_service && unit.executable().is_some() && !unit.values.contains_key("Service.DynamicUser"))
            .then(|| "root".into())
    });
    let properties = json!({
        "name": name, "kind": kind(name), "state": state, "enabled": !masked && !targets.is_empty(), "masked": masked,
        "description": unit.get("Unit.Description"), "executable": unit.executable(), "user": runs_as, "group": unit.get("Service.Group"),
        "path": path, "vendor": path.starts_with("/lib/") || path.starts_with("/usr/lib/"), "alias_of": alias, "wanted_by": targets,
        "hardening": is_service.then_some(hardening),
    });
    let id = scope.node("host.service", name, name, properties).await?;
    if let Some(user) = runs_as.filter(|user| !user.contains('%') && !masked) {
        let user = scope.host.node("host.user", &user)?;
        scope.edge(&id, &user, "executes_as").await?;
    }
    Ok(())
}

/// Scripts of /etc/init.d: OpenRC's run levels, or the links of System V.
async fn scripts(scope: &mut Scope<'_>, units: &BTreeMap<String, (String, FileKind)>) -> Result<bool> {
    let openrc = scope.source.exists("/etc/runlevels").await;
    let mut levels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let pattern = if openrc { "/etc/runlevels/*/*" } else { "/etc/rc[2345].d/S*" };
    for path in scope.source.glob(pattern).await {
        let level = text::base(text::parent(&path)).to_owned();
        let name = text::base(&path);
        let name =
            if openrc { name } else { name.trim_start_matches('S').trim_start_matches(|c: char| c.is_ascii_digit()) };
        levels.entry(name.to_owned()).or_default().insert(level);
    }
    let mut seen = false;
    for entry in scope.source.list("/etc/init.d").await.into_iter().take(UNITS) {
        let name = entry.name.as_str();
        if name.starts_with('.')
            || name == "README"
            || entry.kind == FileKind::Dir
            || units.contains_key(&format!("{name}.service"))
        {
            continue;
        }
        let wanted = levels.get(name).cloned().unwrap_or_default();
        let (kind, enabled) = (if openrc { "openrc" } else { "sysv" }, !wanted.is_empty());
        let properties = json!({
            "name": name, "kind": kind, "state": if enabled { "enabled" } else { "disabled" }, "enabled": enabled, "masked": false,
            "path": format!("/etc/init.d/{name}"), "vendor": false, "wanted_by": wanted,
        });
        scope.node("host.service", name, name, properties).await?;
        seen = true;
    }
    Ok(seen)
}

/// `service type protocol wait user program` lines and xinetd's files.
async fn inetd(scope: &mut Scope<'_>) -> Result<bool> {
    let mut seen = false;
    let config = scope.source.config("/etc/inetd.conf").await.unwrap_or_default();
    for (_, line) in text::lines(&config).take(UNITS) {
        if let [name, _, protocol, _, user, program, ..] = line.split_whitespace().collect::<Vec<_>>().as_slice() {
            let properties = json!({
                "name": name, "kind": "inetd", "state": "enabled", "enabled": true, "masked": false, "user": user, "executable": program,
                "path": "/etc/inetd.conf", "vendor": false,
            });
            let id = scope.node("host.service", &format!("inetd:{name}/{protocol}"), name, properties).await?;
            let user = scope.host.node(
                "host.user",
                user.split(['.', ':', '/']).next().filter(|user| !user.is_empty()).unwrap_or("root"),
            )?;
            scope.edge(&id, &user, "executes_as").await?;
            seen = true;
        }
    }
    for path in scope.source.glob("/etc/xinetd.d/*").await {
        let values = text::assignments(&scope.source.config(&path).await.unwrap_or_default());
        let (name, enabled) = (text::base(&path), values.get("disable").is_none_or(|value| value != "yes"));
        let properties = json!({
            "name": name, "kind": "inetd", "state": if enabled { "enabled" } else { "disabled" }, "enabled": enabled, "masked": false,
            "user": values.get("user"), "executable": values.get("server"), "path": path, "vendor": false,
        });
        scope.node("host.service", &format!("xinetd:{name}"), name, properties).await?;
        seen = true;
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_exec_start_in_a_drop_in_replaces_the_program() {
        let mut unit = Unit::default();
        unit.read("[Service]\nExecStart=-/usr/bin/a --password=x\nUser=u\n[Install]\nWantedBy=multi-user.target\n");
        assert_eq!((unit.executable(), unit.installable), (Some("/usr/bin/a"), true));
        unit.read("[Service]\nExecStart=\nExecStart=/usr/bin/b\n");
        assert_eq!(unit.executable(), Some("/usr/bin/b"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).{0,200}") {
            let mut unit = Unit::default();
            unit.read(&text);
            let _ = (unit.executable(), kind(&text));
        }
    }
}
