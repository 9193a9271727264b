//! The way through the server: which relay leads to what a token says.

use access::OpCtx;
use domain::{DestinationId, DestinationKind, RelayId, Result, TenantId};
use serde_json::json;

use crate::audit::{Category, Change, Outcome};
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

    /// Writes down that somebody is not let go to a destination, in the log of its tenant: `tenant` is the id or the slug under which it was asked for.
    /// Nothing is written where there is no such destination. `user`: by whose token, where it is one.
    pub async fn tunnel_refused(
        &self,
        ctx: &OpCtx,
        tenant: &str,
        destination: DestinationId,
        user: Option<&str>,
        reason: &str,
    ) -> Result<()> {
        let mut tx = self.db().read().await?;
        let named = match tenant.parse::<TenantId>() {
            Ok(id) => Some(id),
            Err(_) => match tx.row("SELECT id FROM tenant WHERE slug = $1", args![tenant]).await? {
                Some(row) => Some(TenantId::from_uuid(row.uuid(0)?)),
                None => None,
            },
        };
        let Some(tenant) = named else { return Ok(()) };
        enter(&mut tx, tenant).await?;
        let sql = "SELECT id FROM destination WHERE tenant_id = $1 AND id = $2";
        let found = tx.row(sql, args![tenant, destination]).await?;
        drop(tx);
        if found.is_none() {
            return Ok(());
        }
        let change = Change::to(Category::Access, "destination", destination)
            .outcome(Outcome::Deny)
            .detail(json!({"reason": reason, "user": user}));
        self.record(ctx, Some(tenant), "destination_connect", &change).await.map(drop)
    }
}
