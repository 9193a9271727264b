//! Connections to SSH hosts of which nobody tells the end: their relay was killed, or is let in no more.
//!
//! Invariants:
//! - a connection that may still be open has no end: a relay cuts what is open a minute after it last heard of its server and its token's end, so one that
//!   was silent for longer holds nothing; and what a relay says that it holds is not ended;
//! - a connection is lost once, and not after its end was told;
//! - that it was lost is a guess: the end that its relay tells afterwards is written down as well, once.

use access::{FleetPermit, OpCtx, fleet_ops};
use domain::{DestinationId, RelayId, Result, SshSessionId, TenantId, Timestamp};
use serde_json::json;

use crate::Store;
use crate::audit::{self, Category, Change};
use crate::db::{Row, Tx, args};
use crate::ssh_way::{self, SshListens};
use crate::unit::enter;

/// After so long a relay that says nothing holds no connection any more, in milliseconds: a token is good for five minutes, and what is open goes on for a
/// minute without a server. And a minute for clocks.
const SILENT_MS: i64 = 7 * 60_000;
/// How old a connection is of which a relay would know, in milliseconds: it waits up to 8 s to be told of one, and 3 s for what it holds to be heard. The
/// rest is for clocks of several servers, and for a relay or a database that is slow.
const YOUNG_MS: i64 = 60_000;
/// The end, in the table, of one that was lost: nobody knows when it was.
pub(crate) const LOST: i64 = 0;
/// Most that are ended in one transaction.
const BATCH: i64 = 200;

/// A connection of which no end was told.
struct Lost {
    id: SshSessionId,
    destination: DestinationId,
    relay: RelayId,
    role: String,
    token: String,
    began_at: Timestamp,
}

const COLUMNS: &str = "s.id, s.destination_id, s.relay_id, s.role, s.token_id, s.began_at FROM ssh_session s";

fn lost(row: &Row) -> Result<Lost> {
    Ok(Lost {
        id: SshSessionId::from_uuid(row.uuid(0)?),
        destination: DestinationId::from_uuid(row.uuid(1)?),
        relay: RelayId::from_uuid(row.uuid(2)?),
        role: row.text(3)?,
        token: domain::DestinationTokenId::from_uuid(row.uuid(4)?).to_string(),
        began_at: row.time(5)?,
    })
}

/// Ends a connection, if nobody did.
async fn end(tx: &mut Tx, tenant: TenantId, ctx: &OpCtx, one: &Lost, reason: &str) -> Result<bool> {
    let sql = "UPDATE ssh_session SET ended_at = $3 WHERE tenant_id = $1 AND id = $2 AND ended_at IS NULL";
    if tx.execute(sql, args![tenant, one.id, LOST]).await? == 0 {
        return Ok(false);
    }
    let detail = json!({
        "role": one.role, "relay": one.relay, "connection": one.id, "token": one.token, "began_at": one.began_at, "ended_at": null, "reason": reason,
        "lost": true,
    });
    let change = Change::to(Category::Access, "destination", one.destination).detail(detail);
    audit::append(tx, tenant, ctx, "ssh_session_end", &change).await?;
    Ok(true)
}

impl Store {
    /// What a relay holds: whatever else it began, and a moment ago did, is over. How many that were.
    pub async fn ssh_session_hold(
        &self,
        permit: FleetPermit<fleet_ops::SshSessionHold>,
        held: &[SshSessionId],
        listens: &SshListens,
    ) -> Result<usize> {
        let (tenant, relay, now) = (permit.tenant(), permit.id().as_uuid(), self.clock().now());
        let sql = format!(
            "SELECT {COLUMNS} WHERE s.tenant_id = $1 AND s.relay_id = $2 AND s.ended_at IS NULL AND s.began_at < $3 ORDER BY s.id"
        );
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let rows = tx.rows_built(sql, args![tenant, relay, now.plus_millis(-YOUNG_MS)]).await?;
        let known = ssh_way::said(&mut tx, tenant, RelayId::from_uuid(relay)).await?;
        drop(tx);
        if known != *listens {
            self.ssh_way_put(&permit, listens).await?;
        }
        let mut over = rows.iter().map(lost).collect::<Result<Vec<_>>>()?;
        over.retain(|one| !held.contains(&one.id));
        self.ssh_sessions_end(tenant, permit.ctx(), &over, "its relay does not hold it any more").await
    }

    /// Ends the connections of relays that were silent for so long that they hold none, and of those that are let in no more. How many there were.
    pub async fn ssh_sessions_lost(&self) -> Result<usize> {
        let (now, mut ended) = (self.clock().now(), 0);
        let mut tx = self.db().read().await?;
        let mut all: Vec<(TenantId, Vec<Lost>)> = Vec::new();
        for row in tx.rows("SELECT id FROM tenant WHERE deleted_at IS NULL ORDER BY id", args![]).await? {
            let tenant = TenantId::from_uuid(row.uuid(0)?);
            enter(&mut tx, tenant).await?;
            let sql = format!(
                "SELECT {COLUMNS} JOIN fleet_unit u ON u.tenant_id = s.tenant_id AND u.id = s.relay_id WHERE s.tenant_id = $1 AND s.ended_at IS NULL \
                 AND s.began_at < $2 AND (u.last_seen_at IS NULL OR u.last_seen_at < $3 OR u.revoked_at < $2) ORDER BY s.id LIMIT $4"
            );
            let values = args![tenant, now.plus_millis(-YOUNG_MS), now.plus_millis(-SILENT_MS), BATCH];
            let lost = tx.rows_built(sql, values).await?.iter().map(lost).collect::<Result<Vec<_>>>()?;
            if !lost.is_empty() {
                all.push((tenant, lost));
            }
        }
        drop(tx);
        for (tenant, lost) in all {
            let ctx = OpCtx::system("ssh-sessions", tenant, self.clock().clone(), self.rng().clone());
            ended += self.ssh_sessions_end(tenant, &ctx, &lost, "its relay was lost").await?;
        }
        Ok(ended)
    }

    async fn ssh_sessions_end(&self, tenant: TenantId, ctx: &OpCtx, over: &[Lost], reason: &str) -> Result<usize> {
        if over.is_empty() {
            return Ok(0);
        }
        let (mut tx, mut ended) = (self.db().write().await?, 0);
        enter(&mut tx, tenant).await?;
        for one in over {
            ended += usize::from(end(&mut tx, tenant, ctx, one, reason).await?);
        }
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(ended)
    }
}
