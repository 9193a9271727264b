//! Collectors, one module per source: from transport's replies to observations.
//!
//! **Not for** I/O of any kind (no sockets, no files: [`transport::Reach`] does it), secrets, tenants or history.
//!
//! Invariants:
//! - a plugin cannot obtain a secret: it sees a credential's id at most;
//! - a plugin never says that a scope is complete unless it read its last page;
//! - one scope's failure does not stop another scope.

mod aws;
mod checks;
mod host;
mod network_scan;
mod setting;
mod snmp;
mod ssh_linux;
mod targets;

pub use aws::AwsPlugin;
pub use checks::{Checks, told};
pub use host::HostPlugin;
pub use network_scan::NetworkScanPlugin;
pub use setting::{Setting, SettingKind, check};
pub use snmp::SnmpPlugin;
pub use ssh_linux::SshLinuxPlugin;

use async_trait::async_trait;
use domain::{Coverage, Digest, EdgeObservation, Error, NodeId, Page, Result, ScopeId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use transport::Reach;

/// The plugins that every build has, for servers and relays alike; [`SshLinuxPlugin`] is added where SSH is built in.
pub fn all() -> Result<Vec<std::sync::Arc<dyn Plugin>>> {
    use std::sync::Arc;
    Ok(vec![Arc::new(HostPlugin), Arc::new(NetworkScanPlugin), Arc::new(SnmpPlugin), Arc::new(AwsPlugin::new()?)])
}

/// A job's settings (`--set k=v`), checked by the plugin.
pub type JobConfig = Map<String, Value>;

/// What a plugin is.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// Its name in commands and node ids, e.g. `aws`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Its version; part of every collection's signed statement.
    pub version: &'static str,
    /// Credential types that it can use; empty when it needs none.
    pub credential_types: &'static [&'static str],
    /// Its settings.
    pub settings: &'static [Setting],
    /// Node types that it can show.
    pub node_types: Vec<String>,
}

/// A unit of work that the job queue leases to one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Unique within the job and stable across runs, e.g. `us-east-1`.
    pub key: String,
    /// What `run` needs to know.
    pub params: Map<String, Value>,
}

/// What was there when a checkpoint was left and is not any more.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Removed {
    /// Nodes.
    pub nodes: Vec<NodeId>,
    /// Edges; their properties do not matter.
    pub edges: Vec<EdgeObservation>,
}

/// How a plugin that keeps checkpoints ends a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// How much was seen.
    pub coverage: Coverage,
    /// Only the difference to the scope's checkpoint was shown, and this is gone. What was neither shown nor removed is as it was.
    pub since: Option<Removed>,
    /// What the next run may begin from; empty for none, or with [`Coverage::Unchanged`] to keep the one so far.
    pub checkpoint: Vec<u8>,
    /// Of which program and settings that is: no other ones are offered it.
    pub basis: Digest,
}

/// Where observations go. Implemented by the task runner; ingest is idempotent, so a task may be run again from the start.
#[async_trait]
pub trait Sink: Send {
    /// Hands over a page. Errors end the task (lost lease, cancelled, database away).
    async fn page(&mut self, page: Page) -> Result<()>;
    /// Says how much of a scope was seen; after this the scope gets no more pages in this task.
    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()>;
    /// What this run may begin from in scopes whose names begin with `prefix`, where the same program with the same settings left it.
    async fn checkpoints(&mut self, _prefix: &str, _basis: Digest) -> Result<Vec<(ScopeId, Vec<u8>)>> {
        Ok(Vec::new())
    }
    /// [`Sink::scope_done`] with a checkpoint, or with a difference to one that [`Sink::checkpoints`] gave.
    async fn scope_ended(&mut self, scope: ScopeId, ending: Ending) -> Result<()> {
        if ending.since.is_some() || ending.coverage == Coverage::Unchanged {
            return Err(Error::internal("a difference to a checkpoint that nobody keeps"));
        }
        self.scope_done(scope, ending.coverage).await
    }
    /// Tells people that a scope is being read, and how much of it was seen; where its pages come as they are read, they say it.
    fn reads(&mut self, _scope: &ScopeId, _nodes: u64, _edges: u64) {}
    /// Tells people: `done` of `total` steps (0: not known), and what is going on.
    fn progress(&mut self, done: u64, total: u64, what: &str);
}

/// A source of observations.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// What it is.
    fn manifest(&self) -> Manifest;
    /// SHA-256 of the program that collects, where that is not the one that runs this: signed statements name it.
    fn program(&self) -> Option<Digest> {
        None
    }
    /// Checks a job's settings without any I/O; errors name the setting and what to change.
    fn check(&self, config: &JobConfig) -> Result<()>;
    /// Splits a job into tasks; may make calls.
    async fn plan(&self, config: &JobConfig, reach: &dyn Reach) -> Result<Vec<TaskSpec>>;
    /// Tries what a job with these settings begins with, each thing once, and shows nothing: whether the credential is good, and what it
    /// may not do. What was tried is in `checks`, also when it ends with an error.
    async fn validate(&self, config: &JobConfig, reach: &dyn Reach, checks: &Checks) -> Result<()>;
    /// Runs one task to its end. Problems of single scopes are coverage, not errors.
    async fn run(&self, task: &TaskSpec, reach: &dyn Reach, sink: &mut dyn Sink) -> Result<()>;
}
