//! What a sign-in needs besides the user: where the account signed in from before, and another stored form of its password. Like everything
//! about a sign-in, it comes before there is a permit.

use std::net::IpAddr;

use access::OpCtx;
use domain::{Email, Result, UserId};

use crate::Store;
use crate::audit::{self, Category, Change};
use crate::db::args;
use crate::unit::{enter, platform_tenant};

/// Sign-ins older than this do not make a network a known one: 90 days.
const REMEMBERED_MS: i64 = 90 * 24 * 3_600_000;

impl Store {
    /// The addresses from which an account began its latest sessions; none where there is no such account.
    pub async fn signed_in_from(&self, email: &Email) -> Result<Vec<IpAddr>> {
        let mut tx = self.db().read().await?;
        let rows = tx
            .rows(
                "SELECT s.ip FROM session s JOIN app_user u ON u.id = s.user_id \
                 WHERE u.email = $1 AND s.created_at > $2 AND s.ip IS NOT NULL ORDER BY s.created_at DESC LIMIT 200",
                args![email.as_str(), self.clock().now().plus_millis(-REMEMBERED_MS)],
            )
            .await?;
        rows.iter().map(|row| row.parse(0)).collect()
    }

    /// Keeps the same password in another stored form. `before` is the form that it was just verified against: if that changed meanwhile,
    /// nothing happens. Sessions go on, since the password is the same.
    pub async fn password_rehash(&self, ctx: &OpCtx, user: UserId, before: &str, after: &str) -> Result<()> {
        let mut tx = self.db().write().await?;
        let changed = tx
            .execute(
                "UPDATE app_user SET password_hash = $3 WHERE id = $1 AND password_hash = $2",
                args![user, before, after],
            )
            .await?;
        if changed == 0 {
            return Ok(());
        }
        enter(&mut tx, platform_tenant()).await?;
        let change = Change::to(Category::User, "user", user);
        audit::append(&mut tx, platform_tenant(), ctx, "password_rehash", &change).await?;
        tx.commit().await
    }
}
