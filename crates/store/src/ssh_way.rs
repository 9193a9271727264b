//! Where relays take users to SSH hosts without the server between, by their own word.

use access::{FleetPermit, fleet_ops};
use domain::{RelayId, Result, TenantId, Timestamp};
use serde_json::json;

use crate::Store;
use crate::audit::{self, Category, Change};
use crate::db::{Tx, args};
use crate::unit::enter;

/// Host and port, and the authority to trust there in PEM; empty: those of the user's system.
type Way = (String, String);

/// What a relay says of it: where it takes users, and when the certificate ends that it shows there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshListens {
    /// Host and port, and the authority to trust there in PEM (empty: those of the user's system); none: nobody is to be sent there.
    pub way: Option<Way>,
    /// When its certificate ends, also when it has ended; none: it does not listen, or does not say.
    pub certificate_ends_at: Option<Timestamp>,
}

/// What a relay that is let in said last.
pub(crate) async fn said(tx: &mut Tx, tenant: TenantId, relay: RelayId) -> Result<SshListens> {
    let sql = "SELECT ssh_address, ssh_authority, ssh_certificate_ends_at FROM fleet_unit \
               WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL";
    let Some(row) = tx.row(sql, args![tenant, relay.as_uuid()]).await? else { return Ok(SshListens::default()) };
    let (address, authority) = (row.opt_text(0)?, row.opt_text(1)?);
    let way = address.map(|address| (address, authority.unwrap_or_default()));
    Ok(SshListens { way, certificate_ends_at: row.opt_time(2)? })
}

/// Where a relay that is let in takes users; none: nowhere, or its certificate has ended.
pub(crate) async fn way_of(tx: &mut Tx, tenant: TenantId, relay: RelayId, now: Timestamp) -> Result<Option<Way>> {
    let said = said(tx, tenant, relay).await?;
    Ok(said.way.filter(|_| said.certificate_ends_at.is_none_or(|ends| ends > now)))
}

impl Store {
    /// Where the relay takes users from now on. They are sent there, so it is on the record.
    pub(crate) async fn ssh_way_put(
        &self,
        permit: &FleetPermit<fleet_ops::SshSessionHold>,
        listens: &SshListens,
    ) -> Result<()> {
        let (tenant, relay) = (permit.tenant(), permit.id().as_uuid());
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let (address, authority) = listens.way.clone().unzip();
        let trusts = authority.as_ref().map(|pem| crypto::sha256(pem.as_bytes()).to_hex());
        let detail = json!({
            "ssh_address": address, "authority_sha256": trusts, "certificate_ends_at": listens.certificate_ends_at,
        });
        let sql = "UPDATE fleet_unit SET ssh_address = $3, ssh_authority = $4, ssh_certificate_ends_at = $5 WHERE tenant_id = $1 AND id = $2";
        tx.execute(sql, args![tenant, relay, address, authority, listens.certificate_ends_at]).await?;
        let change = Change::to(Category::Access, "relay", RelayId::from_uuid(relay)).detail(detail);
        audit::append(&mut tx, tenant, permit.ctx(), "ssh_session_hold", &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(())
    }
}
