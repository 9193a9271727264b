//! Which special addresses a tenant's jobs may reach.

use access::ops;
use domain::{Network, Result, TenantId};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::condition::{self, Versioned as _};
use crate::db::{Tx, args};
use crate::unit::{Read, Write};

async fn find(tx: &mut Tx, tenant: TenantId) -> Result<Vec<Network>> {
    let row = tx.row("SELECT networks FROM target_policy WHERE tenant_id = $1", args![tenant]).await?;
    row.map_or_else(|| Ok(Vec::new()), |row| row.json(0))
}

impl Read<ops::TargetPolicyShow> {
    /// The networks whose special addresses the tenant allows; by default none.
    pub async fn target_policy_show(&mut self) -> Result<Vec<Network>> {
        let tenant = self.tenant();
        find(&mut self.tx, tenant).await
    }
}

impl Write<ops::TargetPolicyPut> {
    /// Says which special addresses the tenant's jobs may reach, from the next task on.
    pub async fn target_policy_put(mut self, networks: &[Network]) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        condition::alone(&mut self.tx, tenant, "target policy").await?;
        let before = find(&mut self.tx, tenant).await?;
        self.check("tenant's target policy", Some(&before.version()))?;
        let detail = json!({ "special_networks": networks });
        self.tx
            .execute(
                "INSERT INTO target_policy (tenant_id, networks, changed_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (tenant_id) DO UPDATE SET networks = excluded.networks, changed_at = excluded.changed_at",
                args![tenant, json!(networks).to_string(), now],
            )
            .await?;
        self.commit(Change::to(Category::Access, "tenant", tenant).detail(detail)).await.map(drop)
    }
}
