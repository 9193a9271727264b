//! `[discovery]`: the jobs that the server runs.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use domain::Network;
use serde::{Deserialize, Serialize};
use transport::guard::allowable;
use utoipa::ToSchema;

use super::{As, Key};

/// `[discovery]`.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DiscoverySection {
    /// Tasks at work at a time; default 4.
    pub(crate) workers: usize,
    /// How long a worker may hold a task without a sign of life, in seconds; default 30.
    pub(crate) lease_s: u32,
    /// Discover the machine that the server runs on when it starts for the first time; default true.
    pub(crate) own_host: bool,
    /// How long one call to a target may take from connecting to its last byte, in seconds; default 30.
    pub(crate) call_timeout_s: u32,
    /// Memory for the answers of all SSH and SNMP targets that are read at a time, in MiB: each worker's task has an equal share, of which half is for
    /// one target at a time; default 256.
    pub(crate) targets_mib: u64,
    /// Let `endpoint_url` settings name this machine, for test doubles; default false.
    pub(crate) loopback_targets: bool,
    /// Special networks (this machine's own, link-local ones, a metadata service by its one address) that tenants may let this server's own
    /// calls reach by their target policies, such as `169.254.10.0/24`; default none.
    #[schema(value_type = Vec<String>)]
    pub(crate) special_targets: Vec<Network>,
    /// Services of this installation itself that jobs of tenants may call from this server all the same, as `ADDRESS:PORT`: its API, metrics and
    /// peer listeners at this machine's addresses, its PostgreSQL, its other servers; default none.
    #[schema(value_type = Vec<String>)]
    pub(crate) own_targets: Vec<SocketAddr>,
    /// Reports that one agent may send in a minute; more are told to wait; default 120.
    pub(crate) reports_per_min: u32,
    /// A folder of rule packs to use instead of the built-in ones; read again when a file changes.
    #[schema(value_type = Option<String>)]
    pub(crate) packs: Option<PathBuf>,
    /// A folder with a folder for each plugin of others, writable by nobody but root and the server's user; default none.
    #[schema(value_type = Option<String>)]
    pub(crate) plugins_dir: Option<PathBuf>,
    /// Folders besides the system's that those plugins may read and run programs of, such as a Python environment; default none.
    #[schema(value_type = Vec<String>)]
    pub(crate) plugin_runtimes: Vec<PathBuf>,
}

impl Default for DiscoverySection {
    fn default() -> Self {
        Self {
            workers: 4,
            lease_s: 30,
            call_timeout_s: 30,
            targets_mib: 256,
            own_host: true,
            loopback_targets: false,
            special_targets: Vec::new(),
            own_targets: Vec::new(),
            reports_per_min: 120,
            packs: None,
            plugins_dir: None,
            plugin_runtimes: Vec::new(),
        }
    }
}

/// What the environment may set of `[discovery]`.
pub(super) const KEYS: &[Key] = &[
    ("workers", As::Bare),
    ("lease_s", As::Bare),
    ("call_timeout_s", As::Bare),
    ("targets_mib", As::Bare),
    ("own_host", As::Bare),
    ("loopback_targets", As::Bare),
    ("special_targets", As::List),
    ("own_targets", As::List),
    ("reports_per_min", As::Bare),
    ("packs", As::Text),
    ("plugins_dir", As::Text),
    ("plugin_runtimes", As::List),
];

impl DiscoverySection {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !(1..=64).contains(&self.workers) {
            bail!("discovery.workers is {}: use 1 to 64", self.workers);
        }
        if !(5..=600).contains(&self.lease_s) {
            bail!("discovery.lease_s is {}: use 5 to 600 seconds", self.lease_s);
        }
        if !(1..=600).contains(&self.call_timeout_s) {
            bail!("discovery.call_timeout_s is {}: use 1 to 600 seconds", self.call_timeout_s);
        }
        let least = 8 * u64::try_from(self.workers).unwrap_or(u64::MAX);
        if !(least..=1_048_576).contains(&self.targets_mib) {
            bail!(
                "discovery.targets_mib is {}: use {least} (8 for each of discovery.workers) to 1,048,576",
                self.targets_mib
            );
        }
        for network in &self.special_targets {
            if let Err(why) = allowable(network) {
                bail!("discovery.special_targets: `{network}` {why}");
            }
        }
        if !(1..=1_000_000).contains(&self.reports_per_min) {
            bail!("discovery.reports_per_min is {}: use 1 to 1,000,000", self.reports_per_min);
        }
        if let Some(relative) = self.plugin_runtimes.iter().find(|path| !path.is_absolute()) {
            bail!("discovery.plugin_runtimes holds `{}`: use absolute paths", relative.display());
        }
        Ok(())
    }
}
