//! Which certificates a tenant's relays have to show.

use access::{FleetPermit, fleet_ops, ops};
use domain::{Result, TenantId};
use serde_json::json;

use crate::Store;
use crate::audit::{Category, Change};
use crate::condition::{self, Versioned as _};
use crate::db::{Tx, args};
use crate::unit::{Read, Write, enter};

/// What a tenant asks of its relays besides their keys. The default: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayPolicy {
    /// Who vouches for their certificates, in PEM; empty: nobody is asked for one.
    pub authorities: String,
    /// Whether one without is refused.
    pub certificate_required: bool,
}

async fn find(tx: &mut Tx, tenant: TenantId) -> Result<RelayPolicy> {
    let sql = "SELECT authorities, certificate_required FROM relay_policy WHERE tenant_id = $1";
    let Some(row) = tx.row(sql, args![tenant]).await? else { return Ok(RelayPolicy::default()) };
    Ok(RelayPolicy { authorities: row.text(0)?, certificate_required: row.bool(1)? })
}

impl Store {
    /// What the tenant of a relay that connects asks of it.
    pub async fn relay_policy(&self, permit: &FleetPermit<fleet_ops::RelayConnect>) -> Result<RelayPolicy> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        find(&mut tx, permit.tenant()).await
    }
}

impl Read<ops::RelayPolicyShow> {
    /// What the tenant asks of its relays.
    pub async fn relay_policy_show(&mut self) -> Result<RelayPolicy> {
        let tenant = self.tenant();
        find(&mut self.tx, tenant).await
    }
}

impl Write<ops::RelayPolicyPut> {
    /// Says what the tenant asks of its relays. Those that are connected are cut off, on every server, and come back under the new terms.
    pub async fn relay_policy_put(mut self, policy: &RelayPolicy) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        condition::alone(&mut self.tx, tenant, "relay policy").await?;
        let before = find(&mut self.tx, tenant).await?;
        self.check("tenant's relay policy", Some(&before.version()))?;
        self.tx
            .execute(
                "INSERT INTO relay_policy (tenant_id, authorities, certificate_required, changed_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (tenant_id) DO UPDATE SET authorities = excluded.authorities, \
                 certificate_required = excluded.certificate_required, changed_at = excluded.changed_at",
                args![tenant, policy.authorities.as_str(), policy.certificate_required, now],
            )
            .await?;
        self.tx
            .execute(
                "INSERT INTO fleet_ending (unit_id, kind, at) SELECT id, kind, $2 FROM fleet_unit \
                 WHERE tenant_id = $1 AND kind = 'relay' AND revoked_at IS NULL AND cloned_at IS NULL \
                 ON CONFLICT (unit_id) DO UPDATE SET at = excluded.at",
                args![tenant, now],
            )
            .await?;
        let authorities = crypto::sha256(policy.authorities.as_bytes());
        let authorities = (!policy.authorities.is_empty()).then_some(authorities);
        let detail = json!({"authorities_sha256": authorities, "certificate_required": policy.certificate_required});
        self.commit(Change::to(Category::Access, "tenant", tenant).detail(detail)).await.map(drop)
    }
}
