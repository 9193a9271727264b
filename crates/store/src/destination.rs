//! Destinations: what relays registered, and what administrators say about it.

use std::collections::BTreeSet;

use access::grant::Place;
use access::{FleetPermit, OpCtx, fleet_ops, ops};
use domain::{
    DestinationId, DestinationKind, DestinationRole, Digest, Error, Labels, RelayId, Result, Slug, TenantId, Timestamp,
};
use serde_json::json;

use crate::audit::{self, Category, Change, Outcome};
use crate::bulk::Batch;
use crate::condition::Versioned as _;
use crate::db::{Engine, Row, Tx, args};
use crate::grant_end::Ending;
use crate::host_set::{self, ByLabels};
use crate::ssh_access::{NewSshHost, Way};
use crate::unit::{Read, Write, enter};
use crate::{Page, Store, destination_node, grant_end, selector};

/// Most destinations of a tenant.
const DESTINATIONS_MAX: i64 = 10_000;
/// How old the written last sight may be, in milliseconds.
const SEEN_WRITTEN_MS: i64 = 60_000;

/// A destination.
#[derive(Debug, Clone)]
pub struct DestinationRow {
    /// Its id.
    pub id: DestinationId,
    /// Its name.
    pub name: Slug,
    /// What it is.
    pub kind: DestinationKind,
    /// The relay that it hangs on; none: it is reached without one.
    pub relay: Option<RelayId>,
    /// That relay's name; none where it is gone.
    pub relay_name: Option<String>,
    /// Whether that relay may not come any more.
    pub relay_ended: bool,
    /// What people sort it by.
    pub labels: Labels,
    /// The certificate authority of its proxy, in PEM.
    pub authority: String,
    /// Where its proxy is reached without the server, if it is.
    pub address: Option<String>,
    /// Its namespaces.
    pub namespaces: Vec<Slug>,
    /// The roles that it offers.
    pub roles: Vec<DestinationRole>,
    /// The relay's version.
    pub version: String,
    /// Since when.
    pub created_at: Timestamp,
    /// When its relay last spoke of it, to the minute.
    pub last_seen_at: Timestamp,
    /// SHA-256 of the certificate of the cluster's own authority, by its relay's word.
    pub cluster_sha256: Option<Digest>,
    /// When the certificate of its proxy's own listener ends, by its relay's word.
    pub certificate_ends_at: Option<Timestamp>,
    /// Of a set: what a host of it has.
    pub selector: Option<Labels>,
}

impl DestinationRow {
    /// The same for a decision.
    pub(crate) fn place(&self) -> Place<'_> {
        Place { id: self.id, kind: self.kind, labels: &self.labels }
    }
}

/// What a relay says of a destination.
#[derive(Debug, Clone)]
pub struct NewDestination {
    /// Its name, unique in the tenant.
    pub name: Slug,
    /// What it is.
    pub kind: DestinationKind,
    /// The certificate authority of its proxy, in PEM.
    pub authority: String,
    /// Where its proxy is reached without the server, if it is.
    pub address: Option<String>,
    /// Its namespaces.
    pub namespaces: Vec<Slug>,
    /// The roles that it offers.
    pub roles: Vec<DestinationRole>,
    /// The relay's version.
    pub version: String,
    /// SHA-256 of the certificate of the cluster's own authority.
    pub cluster_sha256: Option<Digest>,
    /// When the certificate of its proxy's own listener ends, where there is one.
    pub certificate_ends_at: Option<Timestamp>,
}

/// What an administrator changes.
#[derive(Debug, Clone, Default)]
pub struct DestinationChange {
    /// Other labels.
    pub labels: Option<Labels>,
    /// Another relay, which registers it from now on.
    pub relay: Option<RelayId>,
}

macro_rules! columns {
    () => {
        "d.id, d.name, d.kind, d.relay_id, r.name, d.labels, d.authority, d.address, d.namespaces, d.roles, d.version, \
         d.created_at, d.last_seen_at, r.revoked_at, r.cloned_at, d.cluster_sha256, d.certificate_ends_at, h.selector"
    };
}
macro_rules! relay {
    () => {
        " ON r.tenant_id = d.tenant_id AND r.id = d.relay_id AND r.kind = 'relay' \
         LEFT JOIN host_set h ON h.tenant_id = d.tenant_id AND h.destination_id = d.id"
    };
}
const COLUMNS: &str = concat!(columns!(), " FROM destination d LEFT JOIN fleet_unit r", relay!());

fn destination_row(row: &Row) -> Result<DestinationRow> {
    let (relay, relay_name) = (row.uuid(3)?, row.opt_text(4)?);
    let relay = (!relay.is_nil()).then(|| RelayId::from_uuid(relay));
    Ok(DestinationRow {
        id: DestinationId::from_uuid(row.uuid(0)?),
        name: row.parse(1)?,
        kind: row.parse(2)?,
        relay,
        relay_ended: relay.is_some()
            && (relay_name.is_none() || row.opt_i64(13)?.is_some() || row.opt_i64(14)?.is_some()),
        relay_name,
        labels: row.json(5)?,
        authority: row.text(6)?,
        address: row.opt_text(7)?,
        namespaces: row.json(8)?,
        roles: row.json(9)?,
        version: row.text(10)?,
        created_at: row.time(11)?,
        last_seen_at: row.time(12)?,
        cluster_sha256: row.opt_text(15)?.and_then(|hex| hex.parse().ok()),
        certificate_ends_at: row.opt_time(16)?,
        selector: if row.opt_text(17)?.is_some() { Some(row.json(17)?) } else { None },
    })
}

pub(crate) async fn show(tx: &mut Tx, tenant: TenantId, id: DestinationId) -> Result<DestinationRow> {
    let sql = format!("SELECT {COLUMNS} WHERE d.tenant_id = $1 AND d.id = $2");
    let rows = tx.rows_built(sql, args![tenant, id]).await?;
    destination_row(rows.first().ok_or(Error::NotFound { what: "destination" })?)
}

/// The destination that a text names, by id or by name: a name cannot look like an id.
pub(crate) async fn find(tx: &mut Tx, tenant: TenantId, named: &str) -> Result<DestinationRow> {
    if let Ok(id) = named.parse::<DestinationId>() {
        return show(tx, tenant, id).await;
    }
    let sql = format!("SELECT {COLUMNS} WHERE d.tenant_id = $1 AND d.name = $2");
    let rows = tx.rows_built(sql, args![tenant, named]).await?;
    destination_row(rows.first().ok_or(Error::NotFound { what: "destination" })?)
}

/// The same, which nobody else changes until the transaction ends.
pub(crate) async fn find_alone(tx: &mut Tx, tenant: TenantId, named: &str) -> Result<DestinationRow> {
    let found = find(tx, tenant, named).await?;
    if tx.engine() == Engine::Sqlite {
        return Ok(found);
    }
    tx.rows("SELECT 1 FROM destination WHERE tenant_id = $1 AND id = $2 FOR UPDATE", args![tenant, found.id]).await?;
    // It may have changed until we were alone with it.
    show(tx, tenant, found.id).await
}

/// These destinations, in no order.
pub(crate) async fn of_ids(
    tx: &mut Tx,
    tenant: TenantId,
    ids: impl Iterator<Item = DestinationId>,
) -> Result<Vec<DestinationRow>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM (SELECT d.* FROM LOOKUP(destination d id)) d LEFT JOIN fleet_unit r",
        relay!()
    );
    let ids = Batch::new().uuid("id", ids.map(|id| id.as_uuid().as_u128()));
    let mut found = Vec::new();
    tx.bulk_rows(&ids, sql, args![tenant], |row| destination_row(row).map(|row| found.push(row))).await?;
    Ok(found)
}

/// Every destination of a tenant, in the order of their names.
pub(crate) async fn all(tx: &mut Tx, tenant: TenantId) -> Result<Vec<DestinationRow>> {
    let sql = format!("SELECT {COLUMNS} WHERE d.tenant_id = $1 ORDER BY d.name");
    tx.rows_built(sql, args![tenant]).await?.iter().map(destination_row).collect()
}

/// Those behind an id in whose labels' text this is.
pub(crate) async fn labelled(
    tx: &mut Tx,
    tenant: TenantId,
    text: &str,
    after: Option<DestinationId>,
) -> Result<Vec<DestinationRow>> {
    let sql = format!(
        "SELECT {COLUMNS} WHERE d.tenant_id = $1 AND d.id > $2 AND replace(d.labels, $3, '') <> d.labels ORDER BY d.id"
    );
    let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
    tx.rows_built(sql, args![tenant, after, text]).await?.iter().map(destination_row).collect()
}

/// Makes the destination of a set of hosts.
pub(crate) async fn put_set(tx: &mut Tx, store: &Store, tenant: TenantId, named: &str) -> Result<DestinationId> {
    let (now, name) = (store.clock().now(), named.parse::<Slug>()?);
    room(tx, tenant).await?;
    let id = DestinationId::generate(&**store.clock(), &**store.rng());
    tx.execute(
        "INSERT INTO destination (tenant_id, id, name, kind, relay_id, labels, authority, namespaces, roles, version, created_at, last_seen_at) \
         VALUES ($1, $2, $3, $4, $5, '{}', '', '[]', '[]', '', $6, $6)",
        args![tenant, id, name.as_str(), DestinationKind::Set.as_str(), uuid::Uuid::nil(), now],
    )
    .await?;
    Ok(id)
}

/// Makes the destination of an SSH host, or takes in what is new about one. Where users reach it is nobody's to know where they come through a relay.
pub(crate) async fn put_host(
    tx: &mut Tx,
    store: &Store,
    tenant: TenantId,
    named: &str,
    before: Option<&DestinationRow>,
    new: &NewSshHost,
) -> Result<DestinationId> {
    let (now, roles) = (store.clock().now(), json!(new.roles).to_string());
    let relay = match new.way {
        Way::Same => before.and_then(|row| row.relay),
        Way::Direct => None,
        Way::Relay(relay) => Some(relay),
    };
    let address = relay.is_none().then(|| new.address.to_string());
    let relay = relay.map_or_else(uuid::Uuid::nil, |relay| relay.as_uuid());
    if let Some(row) = before {
        if row.kind != DestinationKind::Ssh {
            return Err(Error::conflict(format!("the destination `{}` is of kind `{}`", row.name, row.kind)));
        }
        let labels = new.labels.as_ref().unwrap_or(&row.labels);
        let labels = serde_json::to_string(labels).map_err(Error::internal)?;
        tx.execute(
            "UPDATE destination SET labels = $3, roles = $4, address = $5, relay_id = $6, last_seen_at = $7 WHERE tenant_id = $1 AND id = $2",
            args![tenant, row.id, labels, roles, address, relay, now],
        )
        .await?;
        return Ok(row.id);
    }
    let name: Slug = named.parse()?;
    room(tx, tenant).await?;
    let id = DestinationId::generate(&**store.clock(), &**store.rng());
    let labels = serde_json::to_string(&new.labels.clone().unwrap_or_default()).map_err(Error::internal)?;
    tx.execute(
        "INSERT INTO destination (tenant_id, id, name, kind, relay_id, labels, authority, address, namespaces, roles, version, \
         created_at, last_seen_at) VALUES ($1, $2, $3, $4, $5, $6, '', $7, '[]', $8, '', $9, $9)",
        args![
            tenant,
            id,
            name.as_str(),
            DestinationKind::Ssh.as_str(),
            relay,
            labels,
            address,
            roles,
            now
        ],
    )
    .await?;
    Ok(id)
}

/// Refuses one destination too many.
async fn room(tx: &mut Tx, tenant: TenantId) -> Result<()> {
    let count = tx.row("SELECT COUNT(*) FROM destination WHERE tenant_id = $1", args![tenant]).await?;
    if count.map_or(Ok(0), |row| row.i64(0))? >= DESTINATIONS_MAX {
        return Err(Error::conflict(format!("the tenant has {DESTINATIONS_MAX} destinations: delete some first")));
    }
    Ok(())
}

impl Read<ops::DestinationList> {
    /// The tenant's destinations in the order of their ids.
    pub async fn destination_list(
        &mut self,
        after: Option<DestinationId>,
        limit: u32,
    ) -> Result<Page<DestinationRow, DestinationId>> {
        let tenant = self.tenant();
        let sql = format!("SELECT {COLUMNS} WHERE d.tenant_id = $1 AND d.id > $2 ORDER BY d.id LIMIT $3");
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = self.tx.rows_built(sql, args![tenant, after, i64::from(limit) + 1]).await?;
        Ok(Page::cut(rows.iter().map(destination_row).collect::<Result<_>>()?, limit, |row| row.id))
    }

    /// One of them, by id or name, and what goes by its labels now.
    pub async fn destination_show(&mut self, named: &str) -> Result<(DestinationRow, ByLabels)> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = find(&mut self.tx, tenant, named).await?;
        let gives = host_set::by_labels(&mut self.tx, tenant, &row, now).await?;
        Ok((row, gives))
    }
}

impl Write<ops::DestinationUpdate> {
    /// Changes labels, which selectors of grants go by, or gives the destination to another relay.
    /// With it comes what goes by its labels now.
    pub async fn destination_update(
        mut self,
        named: &str,
        change: &DestinationChange,
    ) -> Result<(DestinationRow, ByLabels)> {
        let tenant = self.tenant();
        let now = self.store.clock().now();
        let before = find_alone(&mut self.tx, tenant, named).await?;
        self.check(&format!("destination `{}`", before.name), Some(&before.version()))?;
        may_have(&before, change)?;
        let gave = host_set::by_labels(&mut self.tx, tenant, &before, now).await?;
        if let Some(labels) = &change.labels {
            let text = serde_json::to_string(labels).map_err(Error::internal)?;
            self.tx
                .execute(
                    "UPDATE destination SET labels = $3 WHERE tenant_id = $1 AND id = $2",
                    args![tenant, before.id, text],
                )
                .await?;
        }
        if let Some(relay) = change.relay.filter(|relay| Some(*relay) != before.relay) {
            let sql =
                "SELECT 1 FROM fleet_unit WHERE tenant_id = $1 AND id = $2 AND kind = 'relay' AND revoked_at IS NULL";
            if self.tx.row(sql, args![tenant, relay.as_uuid()]).await?.is_none() {
                return Err(Error::invalid("relay", "there is no such relay"));
            }
            self.tx
                .execute(
                    // Where its proxy is, and by what it is known, was the other relay's word: nobody is sent there any more.
                    "UPDATE destination SET relay_id = $3, authority = '', address = NULL, cluster_sha256 = NULL, \
                     certificate_ends_at = NULL WHERE tenant_id = $1 AND id = $2",
                    args![tenant, before.id, relay.as_uuid()],
                )
                .await?;
        }
        let row = show(&mut self.tx, tenant, before.id).await?;
        destination_node::put(&mut self.tx, tenant, &row, now).await?;
        let gives = host_set::by_labels(&mut self.tx, tenant, &row, now).await?;
        let detail = json!({
            "name": row.name, "labels": row.labels, "relay": row.relay, "by_labels": gives.told(),
            "before": {"labels": before.labels, "relay": before.relay, "by_labels": gave.told()},
        });
        self.commit(Change::to(Category::Access, "destination", row.id).detail(detail)).await?;
        Ok((row, gives))
    }
}

/// Refuses what is said of a set as if it were a host or a cluster.
pub(crate) fn may_have(row: &DestinationRow, change: &DestinationChange) -> Result<()> {
    if row.kind != DestinationKind::Set {
        return Ok(());
    }
    if change.labels.as_ref().is_some_and(|labels| !labels.as_map().is_empty()) {
        let why = format!(
            "`{}` is a set: it has no labels of its own, and its selector says which hosts are in it (`cairn destinations create {} --kind set \
             --selector … --replace`)",
            row.name, row.name
        );
        return Err(Error::invalid("labels", why));
    }
    if change.relay.is_some() {
        let why = format!("`{}` is a set: relays reach its hosts, each its own", row.name);
        return Err(Error::invalid("relay", why));
    }
    Ok(())
}

impl Write<ops::DestinationDelete> {
    /// Forgets a destination with the grants and requests that name it. A relay that is still there registers it anew, with
    /// its own labels: without the grants that named it, but grants by labels cover it again.
    pub async fn destination_delete(mut self, named: &str) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = find(&mut self.tx, tenant, named).await?;
        self.tx
            .execute("DELETE FROM access_request WHERE tenant_id = $1 AND destination_id = $2", args![tenant, row.id])
            .await?;
        let grants = grant_end::end(&mut self.tx, tenant, Ending::Destination(row.id), now).await?;
        self.tx
            .execute("DELETE FROM ssh_host WHERE tenant_id = $1 AND destination_id = $2", args![tenant, row.id])
            .await?;
        self.tx
            .execute("DELETE FROM host_set WHERE tenant_id = $1 AND destination_id = $2", args![tenant, row.id])
            .await?;
        self.tx.execute("DELETE FROM destination WHERE tenant_id = $1 AND id = $2", args![tenant, row.id]).await?;
        destination_node::close(&mut self.tx, tenant, &row, now).await?;
        let detail = json!({"name": row.name, "kind": row.kind.as_str(), "relay": row.relay, "grants": grants});
        self.commit(Change::to(Category::Access, "destination", row.id).detail(detail)).await.map(drop)
    }
}

/// Refuses a name that another relay holds, and records the try: an alarm, since whoever has that name gets its users.
async fn refuse(store: &Store, ctx: &OpCtx, held: &DestinationRow, relay: RelayId, tenant: TenantId) -> Error {
    let detail =
        json!({"alarm": true, "reason": "another relay holds this destination", "name": held.name, "relay": relay});
    let change = Change::to(Category::Access, "destination", held.id).outcome(Outcome::Deny).detail(detail);
    match store.record(ctx, Some(tenant), "destination_register", &change).await {
        Ok(_) => Error::conflict(format!(
            "the destination `{}` hangs on another relay: use another name, or ask an administrator to give it to this relay",
            held.name
        )),
        Err(error) => error,
    }
}

impl Store {
    /// Registers a destination of the relay that asks, or takes in what is new about it. A name belongs to the relay that registered it first.
    /// With it come the roles that are granted there to anybody, also at other hours than now, each with its namespace.
    pub async fn destination_register(
        &self,
        permit: FleetPermit<fleet_ops::DestinationRegister>,
        new: &NewDestination,
    ) -> Result<(DestinationRow, BTreeSet<(DestinationRole, Option<Slug>)>)> {
        let tenant = permit.tenant();
        let row = self.register(permit, new).await?;
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let granted = selector::roles_at(&mut tx, tenant, &row, self.clock().now()).await?;
        Ok((row, granted))
    }

    async fn register(
        &self,
        permit: FleetPermit<fleet_ops::DestinationRegister>,
        new: &NewDestination,
    ) -> Result<DestinationRow> {
        let (tenant, now) = (permit.tenant(), self.clock().now());
        let relay = RelayId::from_uuid(permit.id().as_uuid());
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let known = match find(&mut tx, tenant, new.name.as_str()).await {
            Ok(row) => Some(row),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(held) = known.as_ref().filter(|held| held.relay != Some(relay)) {
            drop(tx);
            return Err(refuse(self, permit.ctx(), held, relay, tenant).await);
        }
        if new.kind != DestinationKind::Kubernetes {
            return Err(Error::invalid(
                "kind",
                "an SSH host, and a set of them, is registered by an administrator (`cairn destinations create … --relay …`), and by no relay",
            ));
        }
        if let Some(held) = known.as_ref().filter(|held| held.kind != new.kind) {
            return Err(Error::conflict(format!("the destination `{}` is of kind `{}`", held.name, held.kind)));
        }
        let changed = known.as_ref().is_none_or(|held| {
            let by_relay = (&held.authority, &held.address, held.certificate_ends_at, held.cluster_sha256);
            by_relay != (&new.authority, &new.address, new.certificate_ends_at, new.cluster_sha256)
                || (&held.namespaces, &held.roles, &held.version) != (&new.namespaces, &new.roles, &new.version)
        });
        if let (Some(held), false) = (&known, changed) {
            if now.millis_since(held.last_seen_at) >= SEEN_WRITTEN_MS {
                tx.execute(
                    "UPDATE destination SET last_seen_at = $3 WHERE tenant_id = $1 AND id = $2",
                    args![tenant, held.id, now],
                )
                .await?;
                tx.commit().await?;
            }
            return Ok(DestinationRow { last_seen_at: now, ..held.clone() });
        }
        let id = known.as_ref().map_or_else(|| DestinationId::generate(&**self.clock(), &**self.rng()), |held| held.id);
        let (namespaces, roles) = (json!(new.namespaces).to_string(), json!(new.roles).to_string());
        let cluster = new.cluster_sha256.map(Digest::to_hex);
        if known.is_none() {
            room(&mut tx, tenant).await?;
            // What its administrator said of the relay holds for what hangs on it, until they say something else.
            let labels = crate::fleet::unit_show(&mut tx, tenant, permit.id(), now).await?.labels;
            let labels = serde_json::to_string(&labels).map_err(Error::internal)?;
            tx.execute(
                "INSERT INTO destination (tenant_id, id, name, kind, relay_id, labels, authority, address, namespaces, roles, version, \
                 created_at, last_seen_at, cluster_sha256, certificate_ends_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14)",
                args![
                    tenant,
                    id,
                    new.name.as_str(),
                    new.kind.as_str(),
                    relay.as_uuid(),
                    labels,
                    new.authority.as_str(),
                    new.address.clone(),
                    namespaces,
                    roles,
                    new.version.as_str(),
                    now,
                    cluster,
                    new.certificate_ends_at
                ],
            )
            .await?;
        } else {
            tx.execute(
                "UPDATE destination SET authority = $3, address = $4, namespaces = $5, roles = $6, version = $7, last_seen_at = $8, \
                 cluster_sha256 = $9, certificate_ends_at = $10 WHERE tenant_id = $1 AND id = $2",
                args![
                    tenant,
                    id,
                    new.authority.as_str(),
                    new.address.clone(),
                    namespaces,
                    roles,
                    new.version.as_str(),
                    now,
                    cluster,
                    new.certificate_ends_at
                ],
            )
            .await?;
        }
        let row = show(&mut tx, tenant, id).await?;
        destination_node::put(&mut tx, tenant, &row, now).await?;
        let detail = json!({
            "name": row.name, "kind": row.kind.as_str(), "new": known.is_none(), "address": row.address,
            "authority_sha256": crypto::sha256(row.authority.as_bytes()), "namespaces": row.namespaces.len(), "roles": row.roles,
            "version": row.version, "certificate_ends_at": row.certificate_ends_at,
        });
        let change = Change::to(Category::Access, "destination", id).detail(detail);
        audit::append(&mut tx, tenant, permit.ctx(), "destination_register", &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(row)
    }
}
