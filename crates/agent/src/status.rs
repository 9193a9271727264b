//! How the agent is: written by the one that runs, read by `cairn-agent status`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crypto::system::SystemClock;
use domain::{Clock as _, Timestamp};
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::run::ago;

const FILE: &str = "status.json";

/// How one scope was collected last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ScopeStatus {
    pub(crate) coverage: String,
    pub(crate) reason: Option<String>,
    pub(crate) nodes: usize,
    /// What the last run cost, in milliseconds of a core.
    pub(crate) cpu_ms: f64,
    /// How often it runs.
    pub(crate) every_s: u64,
}

/// How the agent is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// Whether the agent that wrote this runs still, found out by who reads it.
    pub(crate) running: bool,
    pub(crate) pid: u32,
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) server: String,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) collected_at: Option<Timestamp>,
    pub(crate) accepted_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    /// Why the last try to report failed.
    pub(crate) error: Option<String>,
    /// When it is tried again.
    pub(crate) retry_at: Option<Timestamp>,
    /// Why the state directory takes nothing.
    pub(crate) disk: Option<String>,
    /// Why the credential is not renewed though it is time.
    pub(crate) renewal: Option<String>,
    pub(crate) spooled: usize,
    pub(crate) spooled_bytes: u64,
    /// Reports that were given up.
    pub(crate) dropped: u64,
    pub(crate) resident_bytes: u64,
    /// Seconds of a core since the start.
    pub(crate) cpu_s: f64,
    pub(crate) scopes: BTreeMap<String, ScopeStatus>,
}

/// Whether this process is an agent's.
fn is_agent(pid: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    pid != 0 && name.trim_end() == "cairn-agent"
}

impl Status {
    /// Writes it down; where the disk has no room for a second file, over the first one: a full disk is when somebody looks.
    pub(crate) fn write(&mut self, state: &Path) -> std::io::Result<()> {
        let path = state.join(FILE);
        let text = |status: &Self| serde_json::to_vec_pretty(status).map_err(std::io::Error::other);
        match disk::replace(&path, &text(self)?) {
            Err(error) if disk::is_full(&error) => {
                self.disk.get_or_insert_with(|| error.to_string());
                disk::overwrite(&path, &text(self)?)
            }
            done => done,
        }
    }

    /// As it was written last.
    pub(crate) fn read(state: &Path) -> anyhow::Result<Self> {
        let path = state.join(FILE);
        let text = std::fs::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound if !state.join("identity").exists() => {
                anyhow::anyhow!("this host is not enrolled: run `cairn-agent enroll`")
            }
            ErrorKind::NotFound => {
                anyhow::anyhow!("the agent has not run yet: start it (`systemctl start cairn-agent`)")
            }
            ErrorKind::PermissionDenied => {
                anyhow::anyhow!("cannot read `{}`: {error}; look as root or as the agent's user", path.display())
            }
            _ => anyhow::anyhow!("cannot read `{}`: {error}", path.display()),
        })?;
        let mut status: Self = serde_json::from_slice(&text)
            .map_err(|error| anyhow::anyhow!("`{}` is no status: {error}; try again", path.display()))?;
        status.running = is_agent(status.pid);
        Ok(status)
    }

    /// For people.
    pub(crate) fn show(&self, out: &mut impl Write) -> std::io::Result<()> {
        let state = if self.running { "running" } else { "not running; this is how it was" };
        writeln!(out, "agent      {} ({}), {state}", self.id, self.version)?;
        writeln!(out, "server     {}", self.server)?;
        writeln!(out, "collected  {}", ago(self.collected_at))?;
        writeln!(out, "accepted   {}", ago(self.accepted_at))?;
        writeln!(out, "waiting    {} reports, {} bytes; {} given up", self.spooled, self.spooled_bytes, self.dropped)?;
        writeln!(out, "memory     {} KiB resident", self.resident_bytes / 1_024)?;
        for (what, why) in [("error", &self.error), ("disk", &self.disk), ("renewal", &self.renewal)] {
            if let Some(why) = why {
                writeln!(out, "{what:<10} {why}")?;
            }
        }
        if let (Some(at), true) = (self.retry_at, self.running) {
            writeln!(out, "next try   in {} s", at.millis_since(SystemClock.now()).max(0) / 1_000)?;
        }
        for (name, scope) in &self.scopes {
            let reason = scope.reason.as_deref().unwrap_or_default();
            writeln!(
                out,
                "{name:<16} {:<9} {:>6} nodes  {:>7.0} ms  every {} s  {reason}",
                scope.coverage, scope.nodes, scope.cpu_ms, scope.every_s
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_why_there_is_no_status_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let said = || Status::read(dir.path()).unwrap_err().to_string();
        assert!(said().contains("run `cairn-agent enroll`"), "{}", said());
        std::fs::create_dir(dir.path().join("identity")).unwrap();
        assert!(said().contains("has not run yet"), "{}", said());
        std::fs::write(dir.path().join(FILE), "{\"id\":").unwrap();
        assert!(said().contains("try again"), "{}", said());
        // One of an older version lacks what is new.
        std::fs::write(dir.path().join(FILE), "{}").unwrap();
        assert!(!Status::read(dir.path()).unwrap().running);
    }

    #[test]
    fn an_agent_that_was_killed_is_not_said_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        // Its number is free, or somebody else's: this test's own is.
        for pid in [gone.id(), std::process::id()] {
            Status { pid, running: true, ..Status::default() }.write(dir.path()).unwrap();
            let status = Status::read(dir.path()).unwrap();
            let mut shown = Vec::new();
            status.show(&mut shown).unwrap();
            assert!(!status.running && String::from_utf8(shown).unwrap().contains("not running"));
        }
    }
}
