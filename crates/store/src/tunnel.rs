//! The way through the server: which relay leads to what a token says.

use domain::{RelayId, Result};

use crate::db::args;
use crate::unit::enter;
use crate::{Standing, Store};

impl Store {
    /// The relay of the cluster that a token of ours is for, if what the token rests on stands at this moment. `tenant`: the id or the slug under
    /// which it was asked for.
    pub async fn tunnel_find(&self, standing: &Standing, tenant: &str) -> Result<Option<RelayId>> {
        let until = self.standing_until(std::slice::from_ref(standing)).await?;
        if until.first().copied().flatten().is_none() {
            return Ok(None);
        }
        let mut tx = self.db().read().await?;
        enter(&mut tx, standing.tenant).await?;
        let row = tx
            .row(
                "SELECT d.relay_id, t.slug FROM destination d JOIN tenant t ON t.id = d.tenant_id \
                 WHERE d.tenant_id = $1 AND d.id = $2 AND d.kind = 'kubernetes'",
                args![standing.tenant, standing.destination],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let is_named = row.text(1)? == tenant || standing.tenant.to_string() == tenant;
        if is_named { row.uuid(0).map(|id| Some(RelayId::from_uuid(id))) } else { Ok(None) }
    }
}
