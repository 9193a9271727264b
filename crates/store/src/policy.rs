//! What a tenant asks of the sessions in which its members come.

use access::ops;
use domain::{Error, Result, TenantId};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::condition::{self, Versioned as _};
use crate::db::{Tx, args};
use crate::unit::{Read, Write};

async fn find(tx: &mut Tx, tenant: TenantId) -> Result<bool> {
    let row = tx.row("SELECT second_factor_required FROM tenant WHERE id = $1", args![tenant]).await?;
    row.ok_or(Error::NotFound { what: "tenant" })?.bool(0)
}

impl Read<ops::SignInPolicyShow> {
    /// Whether the tenant is closed to sessions without a second factor.
    pub async fn sign_in_policy_show(&mut self) -> Result<bool> {
        let tenant = self.tenant();
        find(&mut self.tx, tenant).await
    }
}

impl Write<ops::SignInPolicyPut> {
    /// Closes the tenant to sessions without a second factor, or opens it.
    pub async fn sign_in_policy_put(mut self, second_factor_required: bool) -> Result<()> {
        let tenant = self.tenant();
        condition::alone(&mut self.tx, tenant, "sign-in policy").await?;
        let before = find(&mut self.tx, tenant).await?;
        self.check("tenant's sign-in policy", Some(&before.version()))?;
        self.tx
            .execute(
                "UPDATE tenant SET second_factor_required = $2 WHERE id = $1",
                args![tenant, second_factor_required],
            )
            .await?;
        let detail = json!({"second_factor_required": second_factor_required});
        self.commit(Change::to(Category::User, "tenant", tenant).detail(detail)).await.map(drop)
    }
}
