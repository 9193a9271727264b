//! Listening ports and established connections with the processes behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use domain::{NodeId, Result};
use serde_json::{Value, json};
use transport::{CallError, Socket};

use super::scope::{Scope, Source};
use super::text;

/// Most processes and open files that are looked at to find a socket's owner.
const PROCESSES: usize = 100_000;
const OPEN_FILES: usize = 1_000_000;

/// A process, without what changes from run to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    name: Option<String>,
    executable: Option<String>,
    deleted: bool,
    unit: Option<String>,
}

/// The systemd unit in a line of /proc/PID/cgroup.
fn unit(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find(|path| path.ends_with(".service"))?;
    Some(text::base(path).to_owned())
}

/// The processes that hold the sockets with these inodes.
async fn owners(source: &mut Source<'_>, wanted: &BTreeSet<u64>) -> BTreeMap<u64, Process> {
    let (mut out, mut left) = (BTreeMap::new(), OPEN_FILES);
    let mut pids: Vec<u32> =
        source.list("/proc").await.iter().filter_map(|entry| entry.name.parse().ok()).take(PROCESSES).collect();
    // The lowest pid is the one that opened the socket, as a rule: its children inherit it.
    pids.sort_unstable();
    for pid in pids {
        if out.len() == wanted.len() || left == 0 {
            break;
        }
        // A process may end while it is looked at, and another user's may not be looked into: the sockets that stay without an owner tell.
        let Ok(files) = source.reach.list(&format!("/proc/{pid}/fd"), None).await else { continue };
        let mut process = None;
        for file in files {
            left = left.saturating_sub(1);
            let Ok(target) = source.reach.read_link(&format!("/proc/{pid}/fd/{}", file.name)).await else { continue };
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .and_then(|inode| inode.parse().ok());
            let Some(inode) = inode.filter(|inode| wanted.contains(inode) && !out.contains_key(inode)) else {
                continue;
            };
            if process.is_none() {
                let name = source.value(&format!("/proc/{pid}/comm"), false).await;
                let executable = source.reach.read_link(&format!("/proc/{pid}/exe")).await.ok();
                let deleted = executable.as_deref().is_some_and(|path| path.ends_with(" (deleted)"));
                let executable = executable.map(|path| path.trim_end_matches(" (deleted)").to_owned());
                let unit = source
                    .value(&format!("/proc/{pid}/cgroup"), false)
                    .await
                    .and_then(|text| unit(&text.replace(' ', "\n")));
                process = Some(Process { name, executable, deleted, unit });
            }
            out.extend(process.clone().map(|process| (inode, process)));
        }
    }
    out
}

async fn sockets(scope: &mut Scope<'_>) -> Option<Vec<Socket>> {
    let tag = scope.source.tag(true);
    match scope.source.reach.sockets(&tag).await {
        Ok(sockets) => Some(sockets),
        Err(error @ CallError::NotFound(_)) => {
            scope.source.problem(format!("sockets: {error}"));
            None
        }
        Err(error) => {
            scope.source.failed("sockets", &error);
            None
        }
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// The address without the IPv6 wrapping of IPv4.
fn plain(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Who runs it, as edges.
async fn tie(scope: &mut Scope<'_>, id: &NodeId, user: Option<&String>, process: &Process) -> Result<()> {
    if let Some(user) = user {
        let user = scope.host.node("host.user", user)?;
        scope.edge(id, &user, "executes_as").await?;
    }
    if let Some(unit) = &process.unit {
        let unit = scope.host.node("host.service", unit)?;
        scope.edge(id, &unit, "associated_with").await?;
    }
    Ok(())
}

async fn users(scope: &mut Scope<'_>) -> BTreeMap<u32, String> {
    scope.source.config("/etc/passwd").await.map(|passwd| text::ids(&passwd)).unwrap_or_default()
}

fn note_unknown(source: &mut Source<'_>, unknown: usize, what: &str) {
    if unknown > 0 {
        source.failed("processes", &CallError::Denied(format!("the process of {unknown} {what} could not be seen")));
    }
}

/// TCP sockets that listen and UDP sockets without a peer.
pub(super) async fn listeners(scope: &mut Scope<'_>) -> Result<Option<String>> {
    let Some(sockets) = sockets(scope).await else { return Ok(None) };
    let open: Vec<Socket> = sockets
        .into_iter()
        .filter(|s| s.state == "listen" || (s.protocol == "udp" && s.remote.port() == 0 && s.local.port() != 0))
        .collect();
    let users = users(scope).await;
    let owners = owners(&mut scope.source, &open.iter().map(|socket| socket.inode).collect()).await;
    // Sockets that share a port (SO_REUSEPORT) are one listener; the first owner by name stands for them.
    let mut shown: BTreeMap<String, (Socket, Process)> = BTreeMap::new();
    let mut unknown = 0;
    for socket in open {
        let process = owners.get(&socket.inode).cloned().unwrap_or_default();
        // Inode 0 is a socket of the kernel itself: it has no process.
        unknown += usize::from(socket.inode != 0 && !owners.contains_key(&socket.inode));
        let key = format!("{}:{}:{}", socket.protocol, socket.local.ip(), socket.local.port());
        // Then a process that could not be seen, and the kernel only where nothing else is.
        let rank = |socket: &Socket, process: &Process| (process.name.is_none(), socket.inode == 0, process.clone());
        match shown.get(&key) {
            Some((held, before)) if rank(held, before) <= rank(&socket, &process) => {}
            _ => _ = shown.insert(key, (socket, process)),
        }
    }
    for (key, (socket, process)) in shown {
        let (address, user) = (socket.local.ip(), users.get(&socket.uid));
        let (bare, kernel) = (plain(socket.local), socket.inode == 0);
        let properties = json!({
            "protocol": socket.protocol, "family": family(address), "address": address.to_string(), "port": socket.local.port(),
            "loopback": bare.is_loopback(), "wildcard": bare.is_unspecified(), "process": process.name, "executable": process.executable,
            "executable_deleted": process.executable.is_some().then_some(process.deleted), "user": user, "uid": socket.uid, "unit": process.unit,
            "kernel": kernel.then_some(true),
        });
        let holder = if kernel { "kernel" } else { "?" };
        let name = format!("{} {}", key, process.name.as_deref().unwrap_or(holder));
        let id = scope.node("host.listener", &key, &name, properties).await?;
        tie(scope, &id, user, &process).await?;
    }
    note_unknown(&mut scope.source, unknown, "listening sockets");
    Ok(None)
}

/// Connections, those that differ in a passing port only taken as one.
pub(super) async fn connections(scope: &mut Scope<'_>) -> Result<Option<String>> {
    let Some(sockets) = sockets(scope).await else { return Ok(None) };
    let ports: BTreeSet<(&str, u16)> =
        sockets.iter().filter(|s| s.state == "listen").map(|s| (s.protocol, s.local.port())).collect();
    let live: Vec<&Socket> = sockets.iter().filter(|s| s.state == "established" && s.remote.port() != 0).collect();
    let users = users(scope).await;
    let owners = owners(&mut scope.source, &live.iter().map(|socket| socket.inode).collect()).await;
    let mut shown: BTreeMap<String, (Value, String, Option<&String>, Process)> = BTreeMap::new();
    let mut unknown = 0;
    for socket in live {
        let process = owners.get(&socket.inode).cloned().unwrap_or_default();
        unknown += usize::from(socket.inode != 0 && !owners.contains_key(&socket.inode));
        let (remote, inbound) = (plain(socket.remote), ports.contains(&(socket.protocol, socket.local.port())));
        let name = process.name.clone().unwrap_or_else(|| "unknown".into());
        let end = if inbound { format!("in:{}", socket.local.port()) } else { socket.remote.port().to_string() };
        let user = users.get(&socket.uid);
        let properties = json!({
            "protocol": socket.protocol, "direction": if inbound { "inbound" } else { "outbound" }, "remote_address": remote.to_string(),
            "remote_port": (!inbound).then(|| socket.remote.port()), "local_port": inbound.then(|| socket.local.port()), "process": process.name,
            "executable": process.executable, "user": user, "uid": socket.uid, "unit": process.unit, "remote_private": is_private(remote),
            "loopback": remote.is_loopback(),
        });
        let key = format!("{}:{name}:{remote}:{end}", socket.protocol);
        // Which of several stands for them must not depend on their order.
        match shown.get(&key) {
            Some((_, _, _, before)) if *before <= process => {}
            _ => _ = shown.insert(key, (properties, format!("{name} {remote} {end}"), user, process)),
        }
    }
    for (key, (properties, name, user, process)) in shown {
        let id = scope.node("host.connection", &key, &name, properties).await?;
        tie(scope, &id, user, &process).await?;
    }
    note_unknown(&mut scope.source, unknown, "connections");
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_from_either_cgroup_version() {
        assert_eq!(unit("0::/system.slice/ssh.service\n").as_deref(), Some("ssh.service"));
        assert_eq!(unit("2:cpu:/\n1:name=systemd:/system.slice/a@b.service").as_deref(), Some("a@b.service"));
        assert_eq!(unit("0::/user.slice/x.scope"), None);
        assert_eq!(unit("::"), None);
    }

    #[test]
    fn private_ranges_are_known() {
        for (address, expect) in [("10.1.2.3", true), ("8.8.8.8", false), ("fd00::1", true), ("2001:db8::1", false)] {
            assert_eq!(is_private(address.parse().unwrap()), expect, "{address}");
        }
    }
}
