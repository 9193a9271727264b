//! The way through the server: which relay leads to what a token says.

use domain::{DestinationKind, RelayId, Result};

use crate::db::args;
use crate::unit::enter;
use crate::{Standing, Store};

impl Store {
    /// The relay of the destination of this kind that a token of ours is for, if what the token rests on stands at this moment. `tenant`: the id or the
    /// slug under which it was asked for.
    pub async fn tunnel_find(
        &self,
        standing: &Standing,
        kind: DestinationKind,
        tenant: &str,
    ) -> Result<Option<RelayId>> {
        if kind == DestinationKind::Ssh {
            self.ssh_from(standing).await?;
        }
        let until = self.standing_until(std::slice::from_ref(standing)).await?;
        if until.first().copied().flatten().is_none() {
            return Ok(None);
        }
        let mut tx = self.db().read().await?;
        enter(&mut tx, standing.tenant).await?;
        let row = tx
            .row(
                "SELECT d.relay_id, t.slug FROM destination d JOIN tenant t ON t.id = d.tenant_id \
                 WHERE d.tenant_id = $1 AND d.id = $2 AND d.kind = $3",
                args![standing.tenant, standing.destination, kind.as_str()],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let is_named = row.text(1)? == tenant || standing.tenant.to_string() == tenant;
        let relay = row.uuid(0)?;
        Ok((is_named && !relay.is_nil()).then(|| RelayId::from_uuid(relay)))
    }
}
