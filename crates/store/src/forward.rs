//! How far each destination of audit records has come. A place moves on only after its records were delivered, so a restart sends again
//! rather than leave out.

use std::collections::HashMap;

use access::{Permit, PlatformPermit, ops};
use domain::{Error, Result, TenantId, Timestamp};
use uuid::Uuid;

use crate::audit::{self, AuditRecord};
use crate::db::{Tx, args};
use crate::log::{self, unsigned};
use crate::unit::{enter, platform_tenant};
use crate::{Page, Store};

/// How long a server may hold a place without a sign of life.
const LEASE_MS: i64 = 60_000;

/// A place in a log from which this server, and no other, sends records on.
#[derive(Debug, Clone)]
pub struct ForwardClaim {
    forward: String,
    tenant: TenantId,
    lease: Uuid,
    /// The first record that was not delivered.
    pub next: u64,
    /// How often delivery failed since the last success.
    pub failures: u64,
}

/// How far a destination has come in one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardPlace {
    /// The destination.
    pub forward: String,
    /// The log: a tenant's slug, or `platform`.
    pub log: String,
    /// Records of the log.
    pub size: u64,
    /// Records that were delivered.
    pub delivered: u64,
    /// How often delivery failed since the last success.
    pub failures: u64,
    /// Why it failed last.
    pub error: Option<String>,
    /// When the last delivery was taken.
    pub delivered_at: Option<Timestamp>,
}

impl Store {
    /// How far these destinations have come in every log that they want.
    pub async fn forward_list(
        &self,
        _permit: PlatformPermit<ops::ForwardList>,
        names: &[&str],
        wants: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<ForwardPlace>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let logs = self.logs().await?;
        let mut tx = self.db().read().await?;
        let mut cursors = HashMap::new();
        let sql = "SELECT forward, owner_tenant, next_seq, failures, error, delivered_at FROM audit_cursor";
        for row in tx.rows(sql, args![]).await? {
            cursors.insert((row.text(0)?, row.uuid(1)?), row);
        }
        let mut places = Vec::new();
        for (tenant, log) in logs {
            let wanted: Vec<&str> = names.iter().copied().filter(|name| wants(name, &log)).collect();
            if wanted.is_empty() {
                continue;
            }
            let tenant = tenant.unwrap_or_else(platform_tenant);
            enter(&mut tx, tenant).await?;
            let size = log::size(&mut tx, tenant).await?;
            for forward in wanted {
                let cursor = cursors.get(&(forward.to_owned(), tenant.as_uuid()));
                let mut place = ForwardPlace {
                    forward: forward.to_owned(),
                    log: log.clone(),
                    size,
                    delivered: 0,
                    failures: 0,
                    error: None,
                    delivered_at: None,
                };
                if let Some(row) = cursor {
                    place.delivered = unsigned(row.i64(2)?)?.min(size);
                    place.failures = unsigned(row.i64(3)?)?;
                    (place.error, place.delivered_at) = (row.opt_text(4)?, row.opt_time(5)?);
                }
                places.push(place);
            }
        }
        Ok(places)
    }

    /// The logs that there are: none for the platform's own, and the tenants with their slugs. For parts of the server that work on each.
    pub async fn logs(&self) -> Result<Vec<(Option<TenantId>, String)>> {
        let mut tx = self.db().read().await?;
        let mut logs = vec![(None, "platform".to_owned())];
        for row in tx.rows("SELECT id, slug FROM tenant ORDER BY id", args![]).await? {
            logs.push((Some(TenantId::from_uuid(row.uuid(0)?)), row.text(1)?));
        }
        Ok(logs)
    }

    /// Whether a log has records that a destination did not get.
    pub async fn forward_waits(&self, forward: &str, tenant: Option<TenantId>) -> Result<bool> {
        let tenant = tenant.unwrap_or_else(platform_tenant);
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let size = log::size(&mut tx, tenant).await?;
        let sql = "SELECT next_seq FROM audit_cursor WHERE forward = $1 AND owner_tenant = $2";
        let next = tx.row(sql, args![forward, tenant]).await?.map_or(Ok(0), |row| unsigned(row.i64(0)?))?;
        Ok(next < size)
    }

    /// Claims a destination's place in a log; none while another server holds it.
    pub async fn forward_claim(&self, forward: &str, tenant: Option<TenantId>) -> Result<Option<ForwardClaim>> {
        let tenant = tenant.unwrap_or_else(platform_tenant);
        let now = self.clock().now().as_millis();
        let mut random = [0u8; 16];
        self.rng().fill(&mut random);
        let lease = Uuid::from_bytes(random);
        let mut tx = self.db().write().await?;
        let row = tx
            .row(
                "INSERT INTO audit_cursor (forward, owner_tenant, next_seq, failures, lease_id, lease_until) VALUES ($1, $2, 0, 0, $3, $4) \
                 ON CONFLICT (forward, owner_tenant) DO UPDATE SET lease_id = excluded.lease_id, lease_until = excluded.lease_until \
                 WHERE audit_cursor.lease_until IS NULL OR audit_cursor.lease_until < $5 RETURNING next_seq, failures",
                args![forward, tenant, lease, now + LEASE_MS, now],
            )
            .await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let (next, failures) = (unsigned(row.i64(0)?)?, unsigned(row.i64(1)?)?);
        Ok(Some(ForwardClaim { forward: forward.to_owned(), tenant, lease, next, failures }))
    }

    /// Writes down that everything before `next` was delivered, and holds on to the place.
    pub async fn forward_advance(&self, claim: &mut ForwardClaim, next: u64) -> Result<()> {
        let place = i64::try_from(next).map_err(Error::internal)?;
        let now = self.clock().now();
        let mut tx = self.db().write().await?;
        let moved = tx
            .execute(
                "UPDATE audit_cursor SET next_seq = $4, delivered_at = $5, failures = 0, error = NULL, lease_until = $6 \
                 WHERE forward = $1 AND owner_tenant = $2 AND lease_id = $3",
                args![claim.forward.as_str(), claim.tenant, claim.lease, place, now, now.as_millis() + LEASE_MS],
            )
            .await?;
        if moved == 0 {
            return Err(Error::conflict("another server sends these records now"));
        }
        tx.commit().await?;
        (claim.next, claim.failures) = (next, 0);
        Ok(())
    }

    /// Gives the place back; with the reason, if delivery failed.
    pub async fn forward_release(&self, claim: ForwardClaim, error: Option<&str>) -> Result<()> {
        let mut tx = self.db().write().await?;
        tx.execute(
            "UPDATE audit_cursor SET lease_id = NULL, lease_until = NULL, failures = CASE WHEN $4 = '' THEN failures ELSE failures + 1 END, \
             error = CASE WHEN $4 = '' THEN error ELSE $4 END WHERE forward = $1 AND owner_tenant = $2 AND lease_id = $3",
            args![claim.forward.as_str(), claim.tenant, claim.lease, error.unwrap_or_default()],
        )
        .await?;
        tx.commit().await
    }

    /// Records of a tenant's log in their order, and the log's size.
    pub async fn audit_from(
        &self,
        permit: Permit<ops::AuditList>,
        from: u64,
        limit: u32,
    ) -> Result<(Vec<AuditRecord>, u64)> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        from_place(&mut tx, permit.tenant(), from, limit).await
    }

    /// Records of the platform's own log in their order, and the log's size.
    pub async fn platform_audit_from(
        &self,
        _permit: PlatformPermit<ops::PlatformAuditList>,
        from: u64,
        limit: u32,
    ) -> Result<(Vec<AuditRecord>, u64)> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, platform_tenant()).await?;
        from_place(&mut tx, platform_tenant(), from, limit).await
    }
}

async fn from_place(tx: &mut Tx, tenant: TenantId, from: u64, limit: u32) -> Result<(Vec<AuditRecord>, u64)> {
    let size = log::size(tx, tenant).await?;
    // The page that ends where the wanted one ends, turned round.
    let end = size.min(from.saturating_add(u64::from(limit)));
    let limit = u32::try_from(end.saturating_sub(from)).map_err(Error::internal)?;
    if limit == 0 {
        return Ok((Vec::new(), size));
    }
    let before = Some(i64::try_from(end).map_err(Error::internal)?);
    let Page { mut items, .. } =
        audit::list(tx, tenant, &audit::AuditFilter { before, limit, ..audit::AuditFilter::default() }).await?;
    items.reverse();
    Ok((items, size))
}
