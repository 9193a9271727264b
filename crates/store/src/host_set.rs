//! Sets of SSH hosts as destinations (ADR 0081): a name for the hosts that have some labels at this moment.
//!
//! Invariants:
//! - who is in a set is said by its selector and by the labels of hosts, and is written down nowhere else but in the graph, which gives nobody access;
//! - a grant of a set has the set's selector: both change in one transaction, and a grant is made while the set cannot change;
//! - a set is of hosts: no cluster and no set is in one, whatever its labels.

use std::collections::BTreeSet;

use access::grant::covers;
use access::ops;
use domain::{
    DestinationId, DestinationKind, DestinationRole, Error, Labels, Result, Slug, Target, TenantId, Timestamp,
};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::bulk::Batch;
use crate::condition::{self, Versioned as _};
use crate::db::{Tx, args};
use crate::destination::{self, DestinationRow};
use crate::unit::{Read, Write};
use crate::{Page, Store, destination_node, selector};

/// Most sets of a tenant: each has an edge to each of its hosts.
const SETS_MAX: i64 = 200;
/// Most hosts that an answer names which says that one of them is meant.
const NAMED_MAX: usize = 5;

/// A set.
#[derive(Debug, Clone)]
pub struct HostSetRow {
    /// The destination.
    pub destination: DestinationRow,
    /// What a host of it has.
    pub selector: Labels,
    /// How many hosts are in it now.
    pub hosts: u64,
    /// The accounts that some of them offer.
    pub roles: BTreeSet<DestinationRole>,
    /// How many grants name it.
    pub grants: u64,
}

/// What goes by the labels of a destination now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByLabels {
    /// The sets that it is in, by name.
    pub sets: BTreeSet<Slug>,
    /// How many grants cover it by its labels, or by these sets.
    pub grants: u64,
}

impl ByLabels {
    /// The same for an audit record.
    pub(crate) fn told(&self) -> serde_json::Value {
        json!({"sets": self.sets, "grants": self.grants})
    }
}

/// What goes by the labels of a destination at this moment: whoever changes them changes that.
pub(crate) async fn by_labels(tx: &mut Tx, tenant: TenantId, row: &DestinationRow, now: Timestamp) -> Result<ByLabels> {
    let grants = selector::selecting(tx, tenant, row, now).await?.into_values().sum();
    let sets = sets_of(tx, tenant, row).await?.into_iter().map(|(_, name)| name).collect();
    Ok(ByLabels { sets, grants })
}

/// The sets that a destination is in.
pub(crate) async fn sets_of(tx: &mut Tx, tenant: TenantId, row: &DestinationRow) -> Result<Vec<(DestinationId, Slug)>> {
    if row.kind != DestinationKind::Ssh {
        return Ok(Vec::new());
    }
    let sql = "SELECT h.destination_id, d.name, h.selector FROM (SELECT h.* FROM LOOKUP(host_set h selector_label)) h \
               JOIN destination d ON d.tenant_id = h.tenant_id AND d.id = h.destination_id";
    let begins = selector::begins(&row.labels);
    let batch = Batch::new().text("selector_label", begins.iter().map(String::as_str));
    let mut found = Vec::new();
    tx.bulk_rows(&batch, sql, args![tenant], |set| {
        let id = DestinationId::from_uuid(set.uuid(0)?);
        if covers(&target(id, set.json(2)?)?, row.place()) {
            found.push((id, set.parse(1)?));
        }
        Ok(())
    })
    .await?;
    found.sort_unstable();
    Ok(found)
}

/// What a grant of a set is about.
pub(crate) fn target(id: DestinationId, selector: Labels) -> Result<Target> {
    Target::set(id, selector).map_err(|_| Error::internal("a set without a selector"))
}

/// What a destination has to be to be used as a set.
fn of_set(row: &DestinationRow) -> Result<&Labels> {
    row.selector
        .as_ref()
        .ok_or_else(|| Error::conflict(format!("the destination `{}` is of kind `{}`, and no set", row.name, row.kind)))
}

/// The hosts that a set has at this moment, behind an id, in the order of their ids.
pub(crate) async fn hosts(
    tx: &mut Tx,
    tenant: TenantId,
    (set, selector): (DestinationId, &Labels),
    after: Option<DestinationId>,
) -> Result<Vec<DestinationRow>> {
    let target = target(set, selector.clone())?;
    let text = selector::told_apart(selector).unwrap_or_default();
    let mut rows = destination::labelled(tx, tenant, &text, after).await?;
    rows.retain(|row| covers(&target, row.place()));
    Ok(rows)
}

async fn show(tx: &mut Tx, tenant: TenantId, row: DestinationRow, now: Timestamp) -> Result<HostSetRow> {
    let selector = of_set(&row)?.clone();
    let hosts = hosts(tx, tenant, (row.id, &selector), None).await?;
    let sql = "SELECT COUNT(*) FROM access_grant WHERE tenant_id = $1 AND set_id = $2 AND (expires_at IS NULL OR expires_at > $3)";
    let grants = tx.row(sql, args![tenant, row.id, now]).await?.map_or(Ok(0), |row| row.i64(0))?;
    Ok(HostSetRow {
        selector,
        hosts: u64::try_from(hosts.len()).map_err(Error::internal)?,
        roles: hosts.into_iter().flat_map(|host| host.roles).collect(),
        grants: u64::try_from(grants).map_err(Error::internal)?,
        destination: row,
    })
}

/// Says to who holds a set, and wants to connect to it, which hosts they mean.
pub(crate) async fn no_host(tx: &mut Tx, tenant: TenantId, row: &DestinationRow) -> Result<Error> {
    let hosts = hosts(tx, tenant, (row.id, of_set(row)?), None).await?;
    let named: Vec<String> = hosts.iter().take(NAMED_MAX).map(|host| host.name.to_string()).collect();
    let (named, more) = (named.join(", "), if hosts.len() > NAMED_MAX { ", …" } else { "" });
    Ok(Error::conflict(if named.is_empty() {
        format!("`{}` is a set of hosts, and no host is in it now", row.name)
    } else {
        format!("`{}` is a set of hosts: name one of its hosts: {named}{more}", row.name)
    }))
}

/// Makes a set, or gives it another selector; in a transaction that may hold more. `before`: the destination of this name, which nobody else changes.
pub(crate) async fn put(
    tx: &mut Tx,
    store: &Store,
    tenant: TenantId,
    named: &str,
    before: Option<&DestinationRow>,
    selector: &Labels,
) -> Result<DestinationRow> {
    let now = store.clock().now();
    // A selector without labels is none.
    Target::set(DestinationId::from_uuid(uuid::Uuid::nil()), selector.clone())?;
    let text = json!(selector).to_string();
    let id = if let Some(row) = before {
        of_set(row)?;
        let sql = "UPDATE host_set SET selector = $3, changed_at = $4 WHERE tenant_id = $1 AND destination_id = $2";
        tx.execute(sql, args![tenant, row.id, text.as_str(), now]).await?;
        // What it gives follows at once, also where a connection is open.
        let sql = "UPDATE access_grant SET selector = $3 WHERE tenant_id = $1 AND set_id = $2";
        tx.execute(sql, args![tenant, row.id, text.as_str()]).await?;
        row.id
    } else {
        let count = tx.row("SELECT COUNT(*) FROM host_set WHERE tenant_id = $1", args![tenant]).await?;
        if count.map_or(Ok(0), |row| row.i64(0))? >= SETS_MAX {
            return Err(Error::conflict(format!("the tenant has {SETS_MAX} sets: delete some first")));
        }
        let id = destination::put_set(tx, store, tenant, named).await?;
        let sql = "INSERT INTO host_set (tenant_id, destination_id, selector, changed_at) VALUES ($1, $2, $3, $4)";
        tx.execute(sql, args![tenant, id, text.as_str(), now]).await?;
        id
    };
    let row = destination::show(tx, tenant, id).await?;
    destination_node::put(tx, tenant, &row, now).await?;
    Ok(row)
}

impl Read<ops::HostSetShow> {
    /// A set by its name or id.
    pub async fn host_set_show(&mut self, named: &str) -> Result<HostSetRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = destination::find(&mut self.tx, tenant, named).await?;
        show(&mut self.tx, tenant, row, now).await
    }

    /// The hosts that are in it at this moment, in the order of their ids.
    pub async fn host_set_hosts(
        &mut self,
        named: &str,
        after: Option<DestinationId>,
        limit: u32,
    ) -> Result<Page<DestinationRow, DestinationId>> {
        let tenant = self.tenant();
        let row = destination::find(&mut self.tx, tenant, named).await?;
        let mut hosts = hosts(&mut self.tx, tenant, (row.id, of_set(&row)?), after).await?;
        hosts.truncate(usize::try_from(limit).map_err(Error::internal)?.saturating_add(1));
        Ok(Page::cut(hosts, limit, |row| row.id))
    }
}

impl Write<ops::HostSetPut> {
    /// Says which hosts a set has: makes its destination where there is none of this name.
    pub async fn host_set_put(mut self, named: &str, selector: &Labels) -> Result<HostSetRow> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        // Who takes a name waits for who takes it at the same time.
        condition::alone(&mut self.tx, tenant, &format!("destination {named}")).await?;
        let before = match destination::find_alone(&mut self.tx, tenant, named).await {
            Ok(row) => Some(row),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let name = before.as_ref().map_or(named, |row| row.name.as_str());
        let version = before.as_ref().map(DestinationRow::version);
        self.check(&format!("destination `{}`", name.escape_debug()), version.as_ref())?;
        let row = put(&mut self.tx, &store, tenant, named, before.as_ref(), selector).await?;
        let made = show(&mut self.tx, tenant, row, store.clock().now()).await?;
        let detail = json!({
            "name": made.destination.name, "new": before.is_none(), "selector": made.selector, "hosts": made.hosts, "grants": made.grants,
            "before": before.as_ref().map(|row| json!({"selector": row.selector})),
        });
        self.commit(Change::to(Category::Access, "destination", made.destination.id).detail(detail)).await?;
        Ok(made)
    }
}
