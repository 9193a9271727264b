//! One Linux host: from its files, procfs and netlink to observations. The schema is `docs/schema/host.md`.
//!
//! **Not for** reaching the host (that is [`transport::HostReach`]: this machine, or another one) and not for judging what it says.
//!
//! Invariants:
//! - everything read is bounded, and no file content makes a parser panic: hosts are hostile;
//! - what changes by itself (pids, uptime, free memory) is no property: a second run of a quiet host shows the same;
//! - a scope is complete only when nothing in it was refused, cut or not understood;
//! - passwords and their hashes do not reach this module.

use async_trait::async_trait;
use domain::{CheckOutcome, Error, Result};
use serde_json::{Map, Value};
use transport::{CallTag, HostReach, Reach};

use crate::{Checks, JobConfig, Manifest, Plugin, Setting, SettingKind, Sink, TaskSpec, setting};

mod accounts;
mod firewall;
mod hardening;
mod integrity;
mod machine;
mod mounts;
mod packages;
mod scope;
mod sockets;
mod sshd;
mod sudoers;
pub(crate) mod text;
mod units;

pub(crate) use scope::Identity;
use scope::Scope;

/// Most paths of `integrity_paths`.
const INTEGRITY_PATHS: usize = 5_000;
/// Collectors in their order; `packages` stands for one per manager.
const COLLECTORS: &[&str] =
    &["machine", "accounts", "sudo", "mounts", "ports", "services", "packages", "firewall", "connections", "integrity"];
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::optional(
        "site",
        SettingKind::Text,
        "where the host stands: the region of its node ids, 1 to 64 printable characters without `:`; default `local`",
        "fra1",
    ),
    Setting::optional(
        "collectors",
        SettingKind::SomeOf(COLLECTORS),
        "which of machine, accounts, sudo, mounts, ports, services, packages, firewall, connections, integrity to run; default all",
        "machine,accounts",
    ),
    Setting::optional(
        "package_managers",
        SettingKind::SomeOf(packages::MANAGERS),
        "which of dpkg, rpm, apk, pip, npm, cargo, gem, go to ask; default all",
        "dpkg,pip",
    ),
    Setting::optional(
        "integrity_paths",
        SettingKind::List,
        "absolute paths of files whose SHA-256 is watched, at most 5,000; default: accounts, sudo, ssh, PAM and login programs",
        "/etc/passwd,/usr/bin/sudo",
    ),
];

/// The `host` plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostPlugin;

/// A job's settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) site: String,
    collectors: Vec<String>,
    managers: Vec<String>,
    integrity: Vec<String>,
}

impl Config {
    /// The same with one collector alone.
    pub(crate) fn only(self, collector: &str) -> Self {
        Self { collectors: vec![collector.to_owned()], ..self }
    }

    /// The collectors in their order, each package manager one of its own.
    pub(crate) fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = Vec::new();
        for collector in &self.collectors {
            match collector.as_str() {
                "packages" => steps.extend(self.managers.iter().map(|manager| format!("packages.{manager}"))),
                other => steps.push(other.to_owned()),
            }
        }
        steps
    }

    pub(crate) fn read(config: &JobConfig) -> Result<Self> {
        setting::check("host", SETTINGS, config)?;
        let integrity = match config.get("integrity_paths") {
            None => integrity::DEFAULT.iter().map(|path| (*path).to_owned()).collect(),
            Some(value) => integrity_paths(value)?,
        };
        Ok(Self {
            site: setting::site(config)?,
            collectors: setting::some_of(config, "collectors", COLLECTORS)?,
            managers: setting::some_of(config, "package_managers", packages::MANAGERS)?,
            integrity,
        })
    }
}

fn integrity_paths(value: &Value) -> Result<Vec<String>> {
    let paths = setting::words("integrity_paths", value)?;
    let plain = |path: &String| {
        path.starts_with('/')
            && path.len() <= 700
            && !path.chars().any(char::is_control)
            && !path.split('/').any(|part| part == "..")
    };
    if let Some(path) = paths.iter().find(|path| !plain(path)) {
        let shown = text::printable(path, 100);
        let message = format!("`integrity_paths`: `{shown}` is not an absolute path without `..`");
        return Err(Error::invalid("integrity_paths", message));
    }
    if paths.len() > INTEGRITY_PATHS {
        return Err(Error::Limit { which: "integrity paths", max: INTEGRITY_PATHS as u64 });
    }
    Ok(paths)
}

/// The machine's id: the digest's first 16 hex digits, so that the id itself, which systemd asks to keep private, is never stored.
pub(crate) async fn identity(reach: &dyn HostReach, site: &str) -> Result<Identity> {
    let tag = CallTag { scope: "host:plan".parse()?, about: None, keep: false };
    for path in [
        "/etc/machine-id",
        "/var/lib/dbus/machine-id",
        "/sys/class/dmi/id/product_uuid",
        "/etc/hostname",
        "/proc/sys/kernel/hostname",
    ] {
        let Ok(reply) = reach.read(path, 4_096, &tag).await else { continue };
        let id = text::lossy(&reply.body);
        let id = id.trim();
        // An image before its first boot says `uninitialized`, and every such host would be one.
        let unset =
            id.is_empty() || id == "uninitialized" || id == "localhost" || id.bytes().all(|b| b == b'0' || b == b'-');
        if !unset {
            return Ok(Identity { site: site.to_owned(), machine: reply.digest.to_hex().chars().take(16).collect() });
        }
    }
    Err(Error::Unavailable {
        message: "the host has no id: write one to /etc/machine-id with `systemd-machine-id-setup`".into(),
        detail: "neither machine-id nor product_uuid nor a host name".into(),
    })
}

/// Every type of node that the collectors show.
pub(crate) fn node_types() -> Vec<String> {
    let types = [
        "machine",
        "user",
        "group",
        "sudo_rule",
        "mount",
        "listener",
        "connection",
        "service",
        "package",
        "firewall",
        "file",
    ];
    types.iter().map(|name| format!("host.{name}")).collect()
}

impl HostPlugin {
    /// The files whose SHA-256 is watched under these settings.
    pub fn integrity_paths(config: &JobConfig) -> Result<Vec<String>> {
        Config::read(config).map(|config| config.integrity)
    }
}

fn host(reach: &dyn Reach) -> Result<&dyn HostReach> {
    reach.host().ok_or_else(|| Error::Unavailable {
        message: "this task reaches no host".into(),
        detail: "Reach::host is absent".into(),
    })
}

#[async_trait]
impl Plugin for HostPlugin {
    fn manifest(&self) -> Manifest {
        Manifest {
            name: "host",
            about: "a Linux host: system, accounts, settings, ports, services, packages, firewall, file integrity",
            version: env!("CARGO_PKG_VERSION"),
            credential_types: &[],
            settings: SETTINGS,
            node_types: node_types(),
        }
    }

    fn check(&self, config: &JobConfig) -> Result<()> {
        Config::read(config).map(drop)
    }

    async fn plan(&self, config: &JobConfig, reach: &dyn Reach) -> Result<Vec<TaskSpec>> {
        let checked = Config::read(config)?;
        let identity = identity(host(reach)?, &checked.site).await?;
        let params = Map::from_iter([
            ("machine".into(), identity.machine.clone().into()),
            ("config".into(), config.clone().into()),
        ]);
        Ok(vec![TaskSpec { key: identity.machine, params }])
    }

    async fn validate(&self, config: &JobConfig, reach: &dyn Reach, checks: &Checks) -> Result<()> {
        let checked = Config::read(config)?;
        match identity(host(reach)?, &checked.site).await {
            Ok(identity) => {
                let learned = format!("machine {}", identity.machine);
                checks.add("this machine", CheckOutcome::Good, Some(&learned));
            }
            Err(error) => checks.add("this machine", CheckOutcome::Failed, Some(&error.to_string())),
        }
        Ok(())
    }

    async fn run(&self, task: &TaskSpec, reach: &dyn Reach, sink: &mut dyn Sink) -> Result<()> {
        let empty = Map::new();
        let config = Config::read(task.params.get("config").and_then(Value::as_object).unwrap_or(&empty))?;
        let host_reach = host(reach)?;
        let identity = identity(host_reach, &config.site).await?;
        // A task that lands on another machine must not close what the planned one has.
        if task.params.get("machine").and_then(Value::as_str).is_some_and(|planned| planned != identity.machine) {
            return Err(Error::conflict("this task was planned for another machine: start the job again"));
        }
        let steps = config.steps();
        let total = steps.len() as u64;
        for (done, step) in (0u64..).zip(&steps) {
            if reach.is_cancelled() {
                return Err(Error::conflict("the job was cancelled"));
            }
            sink.progress(done, total, step);
            collect(host_reach, &identity, &config, step, sink).await?;
        }
        sink.progress(total, total, "done");
        Ok(())
    }
}

/// Runs one collector to the end of its scope.
pub(crate) async fn collect(
    reach: &dyn HostReach,
    identity: &Identity,
    config: &Config,
    step: &str,
    sink: &mut dyn Sink,
) -> Result<()> {
    let mut scope = Scope::new(reach, identity, step, sink)?;
    let absent = match step {
        "machine" => machine::collect(&mut scope).await?,
        "accounts" => accounts::collect(&mut scope).await?,
        "sudo" => sudoers::collect(&mut scope).await?,
        "mounts" => mounts::collect(&mut scope).await?,
        "ports" => sockets::listeners(&mut scope).await?,
        "services" => units::collect(&mut scope).await?,
        "firewall" => firewall::collect(&mut scope).await?,
        "connections" => sockets::connections(&mut scope).await?,
        "integrity" => integrity::collect(&mut scope, &config.integrity).await?,
        other => packages::collect(&mut scope, other.trim_start_matches("packages.")).await?,
    };
    scope.done(absent).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(config: Value) -> String {
        let Value::Object(config) = config else { panic!("an object") };
        HostPlugin.check(&config).map_or_else(|error| error.to_string(), |()| "ok".into())
    }

    #[test]
    fn settings_are_checked_and_errors_say_what_to_change() {
        use serde_json::json;
        for (config, part) in [
            (json!({}), "ok"),
            (json!({ "package_managers": "dpkg, pip", "site": "fra1", "integrity_paths": ["/etc/passwd"] }), "ok"),
            (json!({ "colour": "red" }), "no setting `colour`: it knows site"),
            (json!({ "package_managers": ["brew"] }), "`brew`, which is unknown: use some of dpkg"),
            (json!({ "package_managers": [] }), "is empty"),
            (json!({ "package_managers": true }), "a list of texts"),
            (json!({ "integrity_paths": "etc/passwd" }), "`etc/passwd` is not an absolute path"),
            (json!({ "integrity_paths": "/etc/../x" }), "without `..`"),
            (json!({ "site": "a:b" }), "without `:`"),
        ] {
            let got = message(config.clone());
            assert!(got.contains(part), "{config}: {got}");
        }
    }
}
