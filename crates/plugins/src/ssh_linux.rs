//! Linux hosts over SSH, without an agent: the collectors of the `host` plugin at the other end of a connection. A host is the same node
//! whether an agent, the `host` plugin or this one saw it.
//!
//! **Not for** the connection, host keys or limits (`transport`).
//!
//! Invariants:
//! - a target that is not reached is the coverage of that target, and closes nothing of any other;
//! - a host is collected completely in memory before a page is shown: a connection that breaks half-way shows nothing and closes nothing;
//! - two targets that are one machine are collected once.

use std::collections::HashSet;
use std::sync::LazyLock;

use async_trait::async_trait;
use domain::{CheckOutcome, Coverage, Error, Page, Result, ScopeId};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use transport::{CallError, CallTag, Reach, RemoteHost, SshReach};

use crate::host::{self, Identity};
use crate::targets::{self, Target};
use crate::{Checks, JobConfig, Manifest, Plugin, Setting, SettingKind, Sink, TaskSpec, setting};

/// Targets of one task.
const BATCH: usize = 64;
/// How often a collector is let run on what is known before what is still missing is asked for one by one.
const GUESSES: usize = 12;

/// What is asked unless the settings say otherwise: all but `go`, for which whole programs would have to cross the network.
const MANAGERS: &str = "dpkg,rpm,apk,pip,npm,cargo,gem";

const SETTINGS: &[Setting] = &[
    Setting::required(
        "targets",
        SettingKind::List,
        "hosts to read, separated by commas: names, addresses or networks (`10.0.0.0/28`), each with `:PORT` where it is not 22; at most 4,096",
        "web1.example,10.0.0.0/28,[2001:db8::7]:2222",
    ),
    Setting::optional(
        "known_hosts",
        SettingKind::Lines,
        "lines of an OpenSSH known_hosts file: keys, `@cert-authority` and `@revoked`, without hashed names",
        "web1.example ssh-ed25519 AAAA...",
    ),
    Setting::optional(
        "host_keys",
        SettingKind::OneOf(&["strict", "first-use"]),
        "what is done with a host that `known_hosts` does not name: `strict` (default) refuses it, `first-use` remembers the key that it shows \
               first and refuses any other from then on",
        "first-use",
    ),
    Setting::optional(
        "jump",
        SettingKind::Text,
        "the host through which every target is reached, with the same credential",
        "bastion.example:22",
    ),
    Setting::optional("sudo", SettingKind::Flag, "read as root by `sudo -n`: true or false (default)", "true"),
    Setting::optional(
        "concurrency",
        SettingKind::Number { least: 1, most: 64 },
        "targets at a time, 1 to 64 (default 16)",
        "8",
    ),
    Setting::optional(
        "target_timeout_s",
        SettingKind::Number { least: 1, most: 3_600 },
        "longest time for one target, in seconds, 1 to 3,600 (default 300)",
        "120",
    ),
    Setting::optional(
        "target_mib",
        SettingKind::Number { least: 1, most: 1_024 },
        "most that one target may send, in MiB, 1 to 1,024 (default 64)",
        "32",
    ),
];

/// With those of the collectors.
static ALL_SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| [SETTINGS, host::SETTINGS].concat());

/// The `ssh-linux` plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct SshLinuxPlugin;

/// A job's settings, checked.
struct Settings {
    targets: Vec<Target>,
    concurrency: usize,
    host: host::Config,
}

fn settings(config: &JobConfig) -> Result<Settings> {
    setting::check("ssh-linux", &ALL_SETTINGS, config)?;
    let targets = targets::read(config.get("targets"), 22)?;
    let concurrency = usize::try_from(setting::number(config, "concurrency", 16)).unwrap_or(1);
    let of_host: Vec<&str> = host::SETTINGS.iter().map(|setting| setting.key).collect();
    let of_host = config.iter().filter(|(key, _)| of_host.contains(&key.as_str()));
    let mut of_host: JobConfig = of_host.map(|(key, value)| (key.clone(), value.clone())).collect();
    of_host.entry("package_managers").or_insert_with(|| MANAGERS.into());
    let host = host::Config::read(&of_host)?;
    Ok(Settings { targets, concurrency, host })
}

fn ssh(reach: &dyn Reach) -> Result<&dyn SshReach> {
    reach.ssh().ok_or_else(|| {
        Error::invalid("credential", "`ssh-linux` needs a credential of type ssh-password, ssh-key or ssh-cert")
    })
}

/// Takes what a guess shows, and forgets it.
struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    async fn page(&mut self, _: Page) -> Result<()> {
        Ok(())
    }

    async fn scope_done(&mut self, _: ScopeId, _: Coverage) -> Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

/// What became of a target.
enum Reached {
    /// Everything that the collectors ask is known.
    Host(Box<dyn RemoteHost>, Identity),
    /// Why not.
    Not(CallError),
}

/// Connects to a target and asks in a few round trips what the collectors will ask.
async fn reached(ssh: &dyn SshReach, target: &Target, config: &host::Config) -> Result<Reached> {
    let tag = CallTag { scope: target.scope("ssh-linux")?, about: None, keep: false };
    let remote = match ssh.connect(&target.host, target.port, &tag).await {
        Ok(remote) => remote,
        Err(error) => return Ok(Reached::Not(error)),
    };
    match guessed(&*remote, config).await? {
        Ok(identity) => Ok(Reached::Host(remote, identity)),
        Err(error) => {
            remote.close().await;
            Ok(Reached::Not(error))
        }
    }
}

async fn guessed(remote: &dyn RemoteHost, config: &host::Config) -> Result<std::result::Result<Identity, CallError>> {
    let mut open = config.steps();
    let mut identity = None;
    for _ in 0..GUESSES {
        remote.guess();
        // Only with every source of the id known is it known which one counts.
        let before = remote.noted();
        let found = host::identity(remote, &config.site).await;
        identity = (remote.noted() == before).then_some(found);
        let known = match &identity {
            Some(Ok(identity)) => identity.clone(),
            Some(Err(_)) => break,
            None => Identity { site: config.site.clone(), machine: "unknown".to_owned() },
        };
        let mut missing = Vec::new();
        for step in open {
            let before = remote.noted();
            remote.guess();
            host::collect(remote, &known, config, &step, &mut Nowhere).await?;
            if remote.noted() > before {
                missing.push(step);
            }
        }
        open = missing;
        if open.is_empty() && identity.is_some() {
            break;
        }
        if let Err(error) = remote.ask().await {
            return Ok(Err(error));
        }
    }
    remote.settle();
    let identity = match identity {
        Some(identity) => identity,
        None => host::identity(remote, &config.site).await,
    };
    Ok(identity.map_err(|error| CallError::Malformed(error.to_string())))
}

/// How a target that was not reached is told.
fn coverage(error: &CallError) -> Coverage {
    let reason = error.to_string();
    match error {
        CallError::Denied(_) => Coverage::Denied { reason },
        _ => Coverage::Failed { reason },
    }
}

#[async_trait]
impl Plugin for SshLinuxPlugin {
    fn manifest(&self) -> Manifest {
        Manifest {
            name: "ssh-linux",
            about: "Linux hosts over SSH, without an agent: what the plugin host reads",
            version: env!("CARGO_PKG_VERSION"),
            credential_types: &["ssh-password", "ssh-key", "ssh-cert"],
            settings: &ALL_SETTINGS,
            node_types: host::node_types(),
        }
    }

    fn check(&self, config: &JobConfig) -> Result<()> {
        settings(config).map(drop)
    }

    async fn plan(&self, config: &JobConfig, reach: &dyn Reach) -> Result<Vec<TaskSpec>> {
        let read = settings(config)?;
        ssh(reach)?;
        Ok(targets::tasks(&read.targets, BATCH, config))
    }

    async fn validate(&self, config: &JobConfig, reach: &dyn Reach, checks: &Checks) -> Result<()> {
        let (mut read, ssh) = (settings(config)?, ssh(reach)?);
        // What every collector begins with is enough: whether it lets in, runs commands, and says which machine it is.
        read.host = read.host.only("machine");
        let (host, sudo) = (&read.host, config.get("sudo").is_some_and(|on| on == true || on == "true"));
        let one = |target| {
            let name = Target::to_string(target);
            async move {
                match reached(ssh, target, host).await? {
                    Reached::Host(remote, identity) => {
                        remote.close().await;
                        let as_root = if sudo { ", read as root" } else { "" };
                        let learned = format!("machine {}{as_root}", identity.machine);
                        checks.add(&name, CheckOutcome::Good, Some(&learned));
                    }
                    Reached::Not(error) => checks.call(&name, &Err::<(), _>(error), None),
                }
                Ok(())
            }
            .boxed()
        };
        targets::each(&read.targets, read.concurrency, checks, one).await
    }

    async fn run(&self, task: &TaskSpec, reach: &dyn Reach, sink: &mut dyn Sink) -> Result<()> {
        let read = settings(&targets::settings_of(task))?;
        let ssh = ssh(reach)?;
        let (config, total) = (&read.host, read.targets.len() as u64);
        let mut work = Vec::new();
        for target in read.targets {
            let one = async move {
                let result = if reach.is_cancelled() {
                    Ok(Reached::Not(CallError::Cancelled))
                } else {
                    reached(ssh, &target, config).await
                };
                (target, result)
            };
            work.push(one.boxed());
        }
        let mut work = stream::iter(work).buffer_unordered(read.concurrency);
        let (mut done, mut machines) = (0u64, HashSet::new());
        while let Some((target, result)) = work.next().await {
            if reach.is_cancelled() {
                return Err(Error::conflict("the job was cancelled"));
            }
            sink.progress(done, total, &target.to_string());
            match result? {
                Reached::Host(remote, identity) => {
                    if machines.insert(identity.machine.clone()) {
                        for step in config.steps() {
                            host::collect(&*remote, &identity, config, &step, sink).await?;
                        }
                    }
                    remote.close().await;
                    sink.scope_done(target.scope("ssh-linux")?, Coverage::Complete).await?;
                }
                // What is wrong with the credential itself is wrong for every target.
                Reached::Not(error @ CallError::Credential(_)) => {
                    return Err(Error::Invalid { field: None, message: error.to_string() });
                }
                Reached::Not(error) => sink.scope_done(target.scope("ssh-linux")?, coverage(&error)).await?,
            }
            done += 1;
        }
        sink.progress(total, total, "done");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(config: Value) -> String {
        let Value::Object(config) = config else { panic!("an object") };
        SshLinuxPlugin.check(&config).map_or_else(|error| error.to_string(), |()| "ok".into())
    }

    #[test]
    fn settings_are_checked_and_errors_say_what_to_change() {
        for (config, part) in [
            (json!({ "targets": "a.example, 10.0.0.0/30", "concurrency": "4", "collectors": "machine" }), "ok"),
            (json!({}), "`targets`"),
            (json!({ "targets": "a", "colour": "red" }), "no setting `colour`"),
            (json!({ "targets": "a", "concurrency": 65 }), "1 to 64"),
            (json!({ "targets": "a", "collectors": "moon" }), "`moon`"),
        ] {
            let got = check(config.clone());
            assert!(got.contains(part), "{config}: {got}");
        }
    }
}
