//! Where relays take users to SSH hosts without the server between, by their own word.

use access::{FleetPermit, fleet_ops};
use domain::{RelayId, Result, TenantId};
use serde_json::json;

use crate::Store;
use crate::audit::{self, Category, Change};
use crate::db::{Tx, args};
use crate::unit::enter;

/// Host and port, and the authority to trust there in PEM; empty: those of the user's system.
pub(crate) type Way = (String, String);

/// Where a relay that is let in takes users; none: nowhere.
pub(crate) async fn way_of(tx: &mut Tx, tenant: TenantId, relay: RelayId) -> Result<Option<Way>> {
    let sql =
        "SELECT ssh_address, ssh_authority FROM fleet_unit WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL";
    let Some(row) = tx.row(sql, args![tenant, relay.as_uuid()]).await? else { return Ok(None) };
    let (address, authority) = (row.opt_text(0)?, row.opt_text(1)?);
    Ok(address.map(|address| (address, authority.unwrap_or_default())))
}

impl Store {
    /// Where the relay takes users from now on. They are sent there, so it is on the record.
    pub(crate) async fn ssh_way_put(
        &self,
        permit: &FleetPermit<fleet_ops::SshSessionHold>,
        way: Option<&Way>,
    ) -> Result<()> {
        let (tenant, relay) = (permit.tenant(), permit.id().as_uuid());
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let (address, authority) = (way.map(|way| way.0.clone()), way.map(|way| way.1.clone()));
        let trusts = authority.as_ref().map(|pem| crypto::sha256(pem.as_bytes()).to_hex());
        let detail = json!({"ssh_address": address, "authority_sha256": trusts});
        let sql = "UPDATE fleet_unit SET ssh_address = $3, ssh_authority = $4 WHERE tenant_id = $1 AND id = $2";
        tx.execute(sql, args![tenant, relay, address, authority]).await?;
        let change = Change::to(Category::Access, "relay", RelayId::from_uuid(relay)).detail(detail);
        audit::append(&mut tx, tenant, permit.ctx(), "ssh_session_hold", &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(())
    }
}
