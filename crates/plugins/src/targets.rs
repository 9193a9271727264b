//! Which hosts or devices: names, addresses and networks from a job's settings. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::{Error, Network, Result, ScopeId};
use futures::future::BoxFuture;
use futures::stream::{self, TryStreamExt as _};
use serde_json::{Map, Value};
use transport::guard::host_and_port;

use crate::{Checks, JobConfig, TaskSpec, setting};

/// Most targets of a job.
const TARGETS: usize = 4_096;
/// Most targets that a validation asks: a credential that is wrong is wrong sixteen times, and not a whole network's accounts are locked.
const TRIED: usize = 16;

/// A host and the port at which it is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Target {
    /// What its reachability is told under; its facts have scopes of the machine.
    pub(crate) fn scope(&self, what: &str) -> Result<ScopeId> {
        format!("{what}:{self}").parse()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn wrong(item: &str) -> Error {
    let shown: String = item.chars().take(100).flat_map(char::escape_debug).collect();
    Error::invalid(
        "targets",
        format!("`targets`: `{shown}` is no host, HOST:PORT, [IPv6]:PORT or network such as `10.0.0.0/28`"),
    )
}

fn too_many() -> Error {
    Error::Limit { which: "targets of a job", max: TARGETS as u64 }
}

/// The targets in the order of their texts, each once.
pub(crate) fn read(value: Option<&Value>, default_port: u16) -> Result<Vec<Target>> {
    let none =
        || Error::invalid("targets", "`targets` is missing: name what to read, such as `web1.example,10.0.0.0/28`");
    let items = setting::words("targets", value.ok_or_else(none)?)?;
    let mut out = BTreeSet::new();
    for item in &items {
        if item.contains('/') {
            network(item, default_port, &mut out)?;
        } else {
            let (host, port) = host_and_port(item, default_port).ok_or_else(|| wrong(item))?;
            out.insert(Target { host, port });
        }
        if out.len() > TARGETS {
            return Err(too_many());
        }
    }
    if out.is_empty() { Err(none()) } else { Ok(out.into_iter().collect()) }
}

/// A task for each so many targets, with the job's settings.
pub(crate) fn tasks(targets: &[Target], batch: usize, config: &JobConfig) -> Vec<TaskSpec> {
    let tasks = targets.chunks(batch.max(1)).enumerate().map(|(at, targets)| {
        let names: Vec<Value> = targets.iter().map(|target| target.to_string().into()).collect();
        // The key is stable while the list is: a task that is run again is the same task.
        TaskSpec {
            key: format!("targets-{at}"),
            params: Map::from_iter([
                ("targets".to_owned(), names.into()),
                ("config".to_owned(), Value::Object(config.clone())),
            ]),
        }
    });
    tasks.collect()
}

/// Tries the first targets, the very first one alone: where it refuses, no other is asked.
pub(crate) async fn each<'a>(
    targets: &'a [Target],
    at_once: usize,
    checks: &Checks,
    one: impl Fn(&'a Target) -> BoxFuture<'a, Result<()>> + Send + Sync,
) -> Result<()> {
    let Some((first, rest)) = targets.split_first() else { return Ok(()) };
    one(first).await?;
    let refused = checks.all().iter().any(|check| check.outcome == domain::CheckOutcome::Denied);
    let tried = if refused { 0 } else { rest.len().min(TRIED - 1) };
    let others: Vec<_> = rest.iter().take(tried).map(one).map(Ok).collect();
    stream::iter(others).try_for_each_concurrent(at_once.clamp(1, TRIED), |asking| asking).await?;
    if rest.len() > tried {
        let why = if refused {
            "the first target refuses, and no other was asked: a wrong password given often locks accounts".to_owned()
        } else {
            format!("a validation asks {TRIED} targets at most")
        };
        checks.left_out(&format!("{} more targets", rest.len() - tried), &why);
    }
    Ok(())
}

/// The settings of a task: the job's, with the task's own targets.
pub(crate) fn settings_of(task: &TaskSpec) -> JobConfig {
    let mut config = task.params.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    config.insert("targets".to_owned(), task.params.get("targets").cloned().unwrap_or_default());
    config
}

/// Every address of a network that a host can have.
fn network(item: &str, default_port: u16, out: &mut BTreeSet<Target>) -> Result<()> {
    let (item, port) = match item.rsplit_once(':') {
        Some((network, port)) if network.contains('/') => (network, port.parse().map_err(|_| wrong(item))?),
        _ => (item, default_port),
    };
    let network: Network = item.parse()?;
    let (address, prefix) = item.split_once('/').ok_or_else(|| wrong(item))?;
    let first: IpAddr = address.parse().map_err(|_| wrong(item))?;
    let prefix: u32 = prefix.parse().map_err(|_| wrong(item))?;
    let bits = if first.is_ipv4() { 32 } else { 128 } - prefix;
    if bits > 12 {
        return Err(too_many());
    }
    let count = 1u32 << bits;
    for at in 0..count {
        let address: IpAddr = match first {
            // The first address of an IPv4 network is its name and the last reaches everybody.
            IpAddr::V4(_) if count > 2 && (at == 0 || at == count - 1) => continue,
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | at).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | u128::from(at)).into(),
        };
        debug_assert!(network.contains(address), "{address} of {network}");
        out.insert(Target { host: address.to_string(), port });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: Value) -> Vec<String> {
        read(Some(&value), 22).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_addresses_and_networks_become_targets_each_once() {
        assert_eq!(shown(json!("B.example, a, a:22,10.0.0.1:2222")), ["10.0.0.1:2222", "a:22", "b.example:22"]);
        assert_eq!(shown(json!("10.0.0.0/30")), ["10.0.0.1:22", "10.0.0.2:22"]);
        assert_eq!(shown(json!("10.0.0.4/31:2022")), ["10.0.0.4:2022", "10.0.0.5:2022"]);
        assert_eq!(shown(json!(["10.0.0.9/32"])), ["10.0.0.9:22"]);
        assert_eq!(shown(json!("2001:db8::/127,[::1]:23")), ["[2001:db8::]:22", "[2001:db8::1]:22", "[::1]:23"]);
        assert_eq!(shown(json!("10.0.0.0/20")).len(), 4_094);
    }

    #[test]
    fn what_is_no_target_says_so() {
        for (bad, part) in [
            (json!(null), "`targets` is a list of texts"),
            (json!(" , "), "`targets` is empty"),
            (json!("-oProxyCommand=x"), "is no host"),
            (json!("a b"), "is no host"),
            (json!("a:0"), "is no host"),
            (json!("a:70000"), "is no host"),
            (json!("root@a"), "is no host"),
            (json!("10.0.0.1/24"), "bits behind the prefix"),
            (json!("10.0.0.0/8"), "4096"),
            (json!("::/0"), "4096"),
        ] {
            let error = read(Some(&bad), 22).unwrap_err().to_string();
            assert!(error.replace(',', "").contains(part), "{bad}: {error}");
        }
    }
}
