//! Relays as the queue sees them: which one a job names, and on which server each hangs.
//!
//! A relay hangs on one server at a time. Placed work is claimed only there, and a server that takes a relay over asks the one before first.

use access::ops;
use domain::{Error, RelayId, Result, TenantId, Timestamp};
use uuid::Uuid;

use crate::Store;
use crate::db::{Engine, Tx, args};
use crate::unit::{Read, enter};

/// Where a relay hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLink {
    /// The server's process.
    pub server: Uuid,
    /// When that server last knew it alive.
    pub seen_at: Timestamp,
}

/// Refuses a relay that is not there, or that is let in no more.
pub(crate) async fn check_relay(tx: &mut Tx, tenant: TenantId, relay: Option<RelayId>) -> Result<()> {
    let Some(relay) = relay else { return Ok(()) };
    let row = tx
        .row(
            "SELECT name, revoked_at IS NOT NULL OR cloned_at IS NOT NULL FROM fleet_unit \
             WHERE tenant_id = $1 AND id = $2 AND kind = 'relay'",
            args![tenant, relay.as_uuid()],
        )
        .await?
        .ok_or(Error::NotFound { what: "relay" })?;
    if row.bool(1)? {
        let name = row.text(0)?;
        return Err(Error::invalid("relay", format!("the relay `{name}` is revoked: name another one")));
    }
    Ok(())
}

impl Read<ops::JobList> {
    /// The relay that somebody names by id or by name, if it is let in.
    pub async fn relay_resolve(&mut self, named: &str) -> Result<Option<RelayId>> {
        let id = named.parse::<RelayId>().map_or_else(|_| Uuid::nil(), |id| id.as_uuid());
        let tenant = self.tenant();
        let row = self
            .tx
            .row(
                "SELECT id FROM fleet_unit WHERE tenant_id = $1 AND kind = 'relay' AND (id = $2 OR name = $3) \
                 AND revoked_at IS NULL AND cloned_at IS NULL",
                args![tenant, id, named],
            )
            .await?;
        row.map(|row| row.uuid(0).map(RelayId::from_uuid)).transpose()
    }
}

impl Store {
    /// Where a relay hangs, as far as is known.
    pub async fn relay_link(&self, relay: RelayId) -> Result<Option<RelayLink>> {
        let mut tx = self.db().read().await?;
        let row = tx.row("SELECT server, seen_at FROM relay_link WHERE relay_id = $1", args![relay.as_uuid()]).await?;
        row.map(|row| Ok(RelayLink { server: row.uuid(0)?, seen_at: row.time(1)? })).transpose()
    }

    /// Notes that a relay hangs on this server now, and wakes whoever waits for its work.
    pub async fn relay_linked(&self, tenant: TenantId, relay: RelayId, server: Uuid) -> Result<()> {
        let mut tx = self.db().write().await?;
        let now = self.clock().now();
        tx.execute(
            "INSERT INTO relay_link (relay_id, owner_tenant, server, linked_at, seen_at) VALUES ($1, $2, $3, $4, $4) \
             ON CONFLICT (relay_id) DO UPDATE SET server = excluded.server, linked_at = excluded.linked_at, seen_at = excluded.seen_at",
            args![relay.as_uuid(), tenant, server, now],
        )
        .await?;
        enter(&mut tx, tenant).await?;
        seen(&mut tx, tenant, relay, now).await?;
        tx.commit().await?;
        self.say_work_queued();
        Ok(())
    }

    /// Notes that a relay does not hang on this server any more; nothing when it hangs elsewhere already.
    pub async fn relay_unlinked(&self, relay: RelayId, server: Uuid) -> Result<()> {
        let mut tx = self.db().write().await?;
        tx.execute("DELETE FROM relay_link WHERE relay_id = $1 AND server = $2", args![relay.as_uuid(), server])
            .await?;
        tx.commit().await
    }

    /// Notes that a relay is alive; false when it hangs on another server by now.
    pub async fn relay_seen(&self, relay: RelayId, server: Uuid) -> Result<bool> {
        let mut tx = self.db().write().await?;
        let now = self.clock().now();
        let row = tx
            .row(
                "UPDATE relay_link SET seen_at = $3 WHERE relay_id = $1 AND server = $2 RETURNING owner_tenant",
                args![relay.as_uuid(), server, now],
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        let tenant = TenantId::from_uuid(row.uuid(0)?);
        enter(&mut tx, tenant).await?;
        seen(&mut tx, tenant, relay, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Asks the server on which a relay hangs to look whether it is alive (PostgreSQL; on SQLite there is no other server).
    pub async fn relay_ask(&self, relay: RelayId) -> Result<()> {
        let mut tx = self.db().write().await?;
        if tx.engine() == Engine::Pg {
            let text = relay.as_uuid().to_string();
            tx.execute("SELECT pg_notify($1, $2)", args![crate::signal::RELAYS, text]).await?;
        }
        tx.commit().await
    }
}

async fn seen(tx: &mut Tx, tenant: TenantId, relay: RelayId, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE fleet_unit SET last_seen_at = $3 WHERE tenant_id = $1 AND id = $2",
        args![tenant, relay.as_uuid(), now],
    )
    .await
    .map(drop)
}
