//! Rotation of data keys while the server serves: a new version takes over at once, values are sealed anew in small transactions, and the old
//! version goes when no value needs it.
//!
//! There is no state of a rotation but the keys and the entries themselves, so one that was killed is taken up where it ended, by any server,
//! and two at once do the same work twice at worst.

use access::{PlatformPermit, ops};
use domain::{Error, Result, TenantId};
use serde_json::{Value, json};

use super::cell::{self, COLUMNS};
use super::head::Head;
use super::key::{self, DataKeyRow};
use crate::Store;
use crate::audit::{self, Category, Change};
use crate::db::{Tx, args};
use crate::unit::{PlatformWrite, Write, enter, platform_tenant};

/// Values that one transaction seals anew.
const BATCH: i64 = 64;

/// What one step of sealing anew did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that are sealed with the newest key now.
    pub values: u64,
    /// Versions of the data key that were dropped, because nothing needs them.
    pub dropped: u64,
}

impl Resealed {
    /// Whether there was nothing left to do.
    pub fn is_done(self) -> bool {
        self == Self::default()
    }
}

async fn batch(tx: &mut Tx, store: &Store, scope: TenantId) -> Result<(Resealed, Option<Change>)> {
    // Whoever seals holds the head: no value that is being sealed with the older key is overlooked when that key is dropped.
    Head::lock(tx, store, scope).await?;
    let newest = key::newest(tx, scope).await?;
    let rows = tx
        .rows(
            "SELECT cell, row_id FROM vault_entry WHERE tenant_id = $1 AND key_version < $2 ORDER BY cell, row_id LIMIT $3",
            args![scope, newest, BATCH],
        )
        .await?;
    let mut values = 0;
    for row in rows {
        let name = row.text(0)?;
        let Some(column) = COLUMNS.iter().find(|column| column.name == name) else {
            // Of a column that a newer server knows: its key stays until that server has moved the value.
            continue;
        };
        let row = column.row_key(&row.text(1)?)?;
        cell::reseal(tx, store, column, scope, &row).await?;
        values += 1;
    }
    let dropped = if values == 0 { key::drop_unused(tx, scope).await? } else { Vec::new() };
    let done = Resealed { values, dropped: dropped.len() as u64 };
    let object = scope_name(scope);
    let change = (!done.is_done()).then(|| {
        Change::to(Category::System, "data_key", object)
            .detail(json!({"version": newest, "values": values, "dropped": dropped}))
    });
    Ok((done, change))
}

fn scope_name(scope: TenantId) -> String {
    if scope == platform_tenant() { "platform".to_owned() } else { scope.to_string() }
}

impl Write<ops::DataKeyReseal> {
    /// One step of sealing the tenant's values anew under the newest key, and then of dropping the older ones.
    pub async fn data_key_reseal(mut self) -> Result<Resealed> {
        let tenant = self.tenant();
        let (done, change) = batch(&mut self.tx, &self.store, tenant).await?;
        if let Some(change) = change {
            self.commit(change).await?;
        }
        Ok(done)
    }
}

/// Whose data key is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationOf {
    /// The platform's and every tenant's.
    All,
    /// One tenant's.
    Tenant(TenantId),
}

impl PlatformWrite<ops::DataKeyRotate> {
    /// Makes the next data keys, which seal from now on; how many. What older ones sealed is sealed anew afterwards, step by step. The platform's
    /// administrator learns nothing of a tenant by it, and the tenant's own log says that it happened.
    pub async fn data_key_rotate(mut self, of: RotationOf) -> Result<u64> {
        let (store, ctx) = (self.store.clone(), self.permit.ctx().clone());
        let tx = &mut self.tx;
        let (scopes, object) = match of {
            RotationOf::Tenant(tenant) => {
                let known = tx.row("SELECT 1 FROM tenant WHERE id = $1", args![tenant]).await?;
                known.ok_or(Error::NotFound { what: "tenant" })?;
                (vec![tenant], tenant.to_string())
            }
            RotationOf::All => {
                let rows = tx.rows("SELECT id FROM tenant ORDER BY id", args![]).await?;
                let tenants =
                    rows.iter().map(|row| row.uuid(0).map(TenantId::from_uuid)).collect::<Result<Vec<_>>>()?;
                ([vec![platform_tenant()], tenants].concat(), "all".to_owned())
            }
        };
        let mut own = Value::Null;
        for scope in &scopes {
            enter(tx, *scope).await?;
            let made = key::create(tx, &store, *scope).await?;
            let fingerprint = super::master::fingerprint(made.key.expose());
            let detail = json!({"version": made.version, "fingerprint": fingerprint});
            if *scope == platform_tenant() {
                own = detail;
            } else {
                let change = Change::to(Category::System, "data_key", scope).detail(detail);
                audit::append(tx, *scope, &ctx, "data_key_rotate", &change).await?;
            }
        }
        let change =
            Change::to(Category::System, "data_keys", object).detail(json!({"keys": scopes.len(), "platform": own}));
        self.commit(change).await?;
        Ok(scopes.len() as u64)
    }
}

impl PlatformWrite<ops::PlatformKeyReseal> {
    /// One step of sealing the platform's values anew under the newest key, and then of dropping the older ones.
    pub async fn platform_key_reseal(mut self) -> Result<Resealed> {
        let (done, change) = batch(&mut self.tx, &self.store, platform_tenant()).await?;
        if let Some(change) = change {
            self.commit(change).await?;
        }
        Ok(done)
    }
}

/// The data keys of a tenant, or of the platform (no tenant).
#[derive(Debug, Clone)]
pub struct DataKeys {
    /// Whose.
    pub tenant: Option<TenantId>,
    /// Oldest first.
    pub keys: Vec<DataKeyRow>,
}

impl Store {
    /// Every data key of the installation, without the keys: what seals, what still opens, what waits for its rotation.
    pub async fn data_key_list(&self, _permit: PlatformPermit<ops::DataKeyList>) -> Result<Vec<DataKeys>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, platform_tenant()).await?;
        let mut all = vec![DataKeys { tenant: None, keys: key::list(&mut tx, platform_tenant()).await? }];
        for row in tx.rows("SELECT id FROM tenant ORDER BY id", args![]).await? {
            let tenant = TenantId::from_uuid(row.uuid(0)?);
            enter(&mut tx, tenant).await?;
            all.push(DataKeys { tenant: Some(tenant), keys: key::list(&mut tx, tenant).await? });
        }
        Ok(all)
    }
}
