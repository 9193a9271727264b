//! Linux hosts over SSH: one connection for each, over which everything is read by scripts that are fed to a shell ([`script`]).
//!
//! **Not for** understanding what is read: that is the `host` plugin's work, over the same [`crate::HostReach`] as the machine itself.
//!
//! Invariants:
//! - a host is signed in to only after its key was recognised as one that the job's settings name, or as the one of its first
//!   contact where they say so;
//! - a credential is sent to the job's targets and its jump host, and to no address that the guard refuses;
//! - nothing is written at the target, and no password's hash or private key leaves this module;
//! - what a target sends is bounded in bytes and time, and its text is cut and cleaned before it is an error.

mod connect;
mod credential;
mod host;
mod known_hosts;
mod script;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{Clock, Rng};
use serde_json::{Map, Value};

pub use credential::SshCredentials;
pub use known_hosts::KnownHosts;

use crate::budget::{Budget, Share};
use crate::call::{CallError, CallTag, RemoteHost, SshReach};
use crate::guard::{Guard, host_and_port};
use crate::host_keys::{HostKeys, NoHostKeys};
use crate::local::words;
use crate::record::Recorder;

/// What is done with a host that no line of `known_hosts` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeyPolicy {
    /// It is refused.
    Strict,
    /// Its key is remembered when it is met for the first time; from then on it is refused with any other.
    FirstUse,
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct SshConfig {
    /// Keys and authorities that the job's settings name.
    pub known_hosts: KnownHosts,
    /// What is done with the others.
    pub host_keys: HostKeyPolicy,
    /// The host through which all others are reached.
    pub jump: Option<(String, u16)>,
    /// Whether the shell runs as root by `sudo -n`.
    pub sudo: bool,
    /// Longest time to connect and sign in, and longest silence.
    pub call_timeout: Duration,
    /// Longest time for one target.
    pub target_timeout: Duration,
    /// Most bytes that one target may send.
    pub target_bytes: usize,
}

/// Port of SSH.
pub const PORT: u16 = 22;

impl SshConfig {
    /// From a job's settings `known_hosts`, `host_keys`, `jump`, `sudo`, `target_timeout_s`, `target_mib`; errors say what to change.
    pub fn from_settings(settings: &Map<String, Value>, call_timeout: Duration) -> Result<Self, CallError> {
        let wrong = |why: &str| CallError::Malformed(why.to_owned());
        let text = |key: &str| match settings.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(wrong(&format!("`{key}` is a text"))),
        };
        let number = |key: &str, default: u64, most: u64| match settings.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .or_else(|| value.as_str()?.parse().ok())
                .filter(|number| (1..=most).contains(number))
                .ok_or_else(|| wrong(&format!("`{key}` is a whole number from 1 to {most}"))),
        };
        let jump = match text("jump")? {
            None => None,
            Some(jump) => Some(host_and_port(jump, PORT).ok_or_else(|| wrong("`jump` is HOST or HOST:PORT"))?),
        };
        let sudo = match settings.get("sudo") {
            None => false,
            Some(Value::Bool(sudo)) => *sudo,
            Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => return Err(wrong("`sudo` is true or false")),
        };
        let host_keys = match text("host_keys")? {
            None | Some("strict") => HostKeyPolicy::Strict,
            Some("first-use") => HostKeyPolicy::FirstUse,
            Some(_) => return Err(wrong("`host_keys` is `strict` or `first-use`")),
        };
        let mebibytes = usize::try_from(number("target_mib", 64, 1_024)?).unwrap_or(64);
        Ok(Self {
            known_hosts: KnownHosts::parse(text("known_hosts")?.unwrap_or_default())?,
            host_keys,
            jump,
            sudo,
            call_timeout,
            target_timeout: Duration::from_secs(number("target_timeout_s", 300, 3_600)?),
            target_bytes: mebibytes * 1_024 * 1_024,
        })
    }
}

/// Signs in to hosts with one credential.
pub struct SshClient {
    pub(crate) credentials: SshCredentials,
    pub(crate) config: SshConfig,
    pub(crate) guard: Guard,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) host_keys: Arc<dyn HostKeys>,
    pub(crate) memory: Arc<Share>,
}

impl SshClient {
    /// A client.
    pub fn new(
        credentials: SshCredentials,
        config: SshConfig,
        guard: Guard,
        recorder: Arc<Recorder>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let memory = Budget::default().share();
        Self { credentials, config, guard, recorder, clock, rng, host_keys: Arc::new(NoHostKeys), memory }
    }

    /// The same with a share of this memory for what its hosts answer.
    #[must_use]
    pub fn drawing_on(self, budget: &Budget) -> Self {
        Self { memory: budget.share(), ..self }
    }

    /// The same with a memory of host keys.
    #[must_use]
    pub fn remembering(self, host_keys: Arc<dyn HostKeys>) -> Self {
        Self { host_keys, ..self }
    }
}

#[async_trait]
impl SshReach for SshClient {
    async fn connect(&self, host: &str, port: u16, tag: &CallTag) -> Result<Box<dyn RemoteHost>, CallError> {
        let reached = self.host(host, port, tag).await?;
        Ok(Box::new(reached))
    }
}

#[cfg(test)]
mod tests;
