//! SSH hosts as a file says them.
//!
//! Invariants:
//! - a file makes a host where there is no destination of that name; one that is there stays as it is, and what differs is told;
//! - a name that is a cluster's is refused: grants to a host would be grants to that cluster.

use std::collections::BTreeSet;

use domain::{DestinationKind, Error, Labels, RelayId, Result, Slug};
use serde_json::{Value, json};

use crate::access_file::{Planner, Step, refused, within};
use crate::db::{Tx, args};
use crate::destination::{self, DestinationRow};
use crate::ssh_access::{self, NewSshHost, SshHostRow};
use crate::{Way, relay};

/// A host as a file says it.
#[derive(Debug, Clone)]
pub struct FileHost {
    /// The destination's name.
    pub name: Slug,
    /// What is said of it; its `labels` and its `way` are not said here.
    pub host: NewSshHost,
    /// The relay that reaches it, by name or id; none: a new one is reached by its users themselves.
    pub relay: Option<String>,
}

impl Planner<'_> {
    pub(crate) async fn hosts(&mut self) -> Result<()> {
        let (file, mut named) = (self.file, BTreeSet::new());
        for (at, new) in file.hosts.iter().enumerate() {
            if !named.insert(&new.name) {
                return Err(refused("hosts", at, format!("`{}` is there twice", new.name)));
            }
            match destination::find(self.tx, self.tenant, new.name.as_str()).await {
                Ok(row) if row.kind != DestinationKind::Ssh => {
                    let why = format!("the destination `{}` is there and is of kind `{}`", row.name, row.kind);
                    return Err(within("hosts", at, Error::conflict(why)));
                }
                Ok(row) => self.host_stays(new, row).await?,
                Err(Error::NotFound { .. }) => {
                    let relay = self.host_relay(at, new).await?;
                    let after = json!({
                        "address": new.host.address.to_string(), "host_key": new.host.host_key.to_string(), "roles": new.host.roles,
                        "source_networks": new.host.source_networks, "extensions": new.host.extensions, "relay": new.relay,
                    });
                    self.hosts_made.insert(new.name.to_string());
                    self.push("create", "host", new.name.to_string(), (Value::Null, after), Step::Host(at, relay));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sets of hosts: one that is there has the file's selector from now on, as a destination has its labels; none is taken.
    pub(crate) async fn sets(&mut self) -> Result<()> {
        let (file, mut named) = (self.file, BTreeSet::new());
        for (at, (name, selector)) in file.sets.iter().enumerate() {
            if !named.insert(name) || self.hosts_made.contains(name.as_str()) {
                return Err(refused("sets", at, format!("`{name}` is there twice")));
            }
            if selector.as_map().is_empty() {
                return Err(refused("sets", at, "name at least one label: no label at all would mean every host"));
            }
            let after = json!({"selector": selector});
            match destination::find(self.tx, self.tenant, name.as_str()).await {
                Ok(row) => match &row.selector {
                    None => {
                        let why = format!("the destination `{}` is there and is of kind `{}`", row.name, row.kind);
                        return Err(within("sets", at, Error::conflict(why)));
                    }
                    Some(held) if held == selector => {}
                    Some(held) => {
                        let before = json!({"selector": held});
                        self.push("update", "set", name.to_string(), (before, after), Step::Set(at));
                    }
                },
                Err(Error::NotFound { .. }) => {
                    self.hosts_made.insert(name.to_string());
                    self.push("create", "set", name.to_string(), (Value::Null, after), Step::Set(at));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn host_relay(&mut self, at: usize, new: &FileHost) -> Result<Option<RelayId>> {
        let Some(named) = &new.relay else { return Ok(None) };
        let found = relay::resolve(self.tx, self.tenant, named).await?;
        let missing = || refused("hosts", at, format!("there is no relay `{}`", named.escape_debug()));
        found.map(Some).ok_or_else(missing)
    }

    /// Tells what a host that is there has of its own.
    async fn host_stays(&mut self, new: &FileHost, row: DestinationRow) -> Result<()> {
        let other = match ssh_access::host(self.tx, self.tenant, row).await {
            Ok(held) => differs(&held, new),
            // Nobody said yet where it is.
            Err(Error::Conflict { .. }) => vec!["no address and no key"],
            Err(error) => return Err(error),
        };
        if !other.is_empty() {
            self.waiting.push(format!(
                "the host {} is there with {}, and stays so: hosts are changed by hand (`cairn destinations create {} --replace`)",
                new.name,
                other.join(", "),
                new.name
            ));
        }
        Ok(())
    }

    /// The labels of a destination that the file itself makes.
    pub(crate) fn labels_of_made(&mut self, name: &str, labels: &Labels) {
        if !labels.as_map().is_empty() {
            let step = Step::LabelsOfMade(name.to_owned(), labels.clone());
            self.push("update", "destination", name.to_owned(), (json!({}), json!(labels)), step);
        }
    }
}

fn differs(held: &SshHostRow, new: &FileHost) -> Vec<&'static str> {
    let relay = |named: &String| {
        held.destination.relay_name.as_ref() == Some(named)
            || held.destination.relay.is_some_and(|id| id.to_string() == *named)
    };
    let is = [
        ("another address", held.address == new.host.address),
        ("another key", held.host_key == new.host.host_key),
        ("other roles", held.destination.roles == new.host.roles),
        ("other networks", held.source_networks == new.host.source_networks),
        ("other extensions", held.extensions == new.host.extensions),
        ("another relay", new.relay.as_ref().is_none_or(relay)),
    ];
    is.into_iter().filter(|(_, same)| !same).map(|(what, _)| what).collect()
}

/// Makes a host.
pub(crate) async fn make(
    tx: &mut Tx,
    store: &crate::Store,
    tenant: domain::TenantId,
    new: &FileHost,
    relay: Option<RelayId>,
) -> Result<SshHostRow> {
    let way = relay.map_or(Way::Direct, Way::Relay);
    let host = NewSshHost { way, ..new.host.clone() };
    ssh_access::put(tx, store, tenant, new.name.as_str(), None, &host).await
}

/// The hosts that are there, as a file says them.
pub(crate) async fn written(tx: &mut Tx, tenant: domain::TenantId, all: &[DestinationRow]) -> Result<Vec<FileHost>> {
    let sql =
        "SELECT destination_id, address, host_key, source_networks, extensions FROM ssh_host WHERE tenant_id = $1";
    let rows = tx.rows(sql, args![tenant]).await?;
    let mut known = std::collections::BTreeMap::new();
    for row in &rows {
        known.insert(domain::DestinationId::from_uuid(row.uuid(0)?), row);
    }
    let mut hosts = Vec::with_capacity(known.len());
    for destination in all {
        let Some(row) = known.get(&destination.id) else { continue };
        let host_key = row.text(2)?.parse().map_err(|_| Error::internal("an SSH host has a damaged key"))?;
        hosts.push(FileHost {
            name: destination.name.clone(),
            host: NewSshHost {
                address: row.parse(1)?,
                host_key,
                roles: destination.roles.clone(),
                labels: None,
                source_networks: row.json(3)?,
                extensions: row.json(4)?,
                way: Way::Same,
            },
            relay: destination.relay_name.clone(),
        });
    }
    Ok(hosts)
}
