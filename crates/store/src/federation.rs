//! What a provider's word does here: roles from groups, accounts that it disables and enables, and what is left when it goes.
//!
//! Only `group_role` says which role a group gives, and only memberships that a provider gave are changed by it: a role that somebody gave by hand
//! stays. A provider never touches the platform, and never enables an account that somebody disabled by hand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use access::{OpCtx, Role};
use domain::{ProviderId, Result, TenantId, UserId};
use serde_json::json;

use crate::Store;
use crate::audit::{self, Category, Change};
use crate::bulk::Batch;
use crate::db::{Engine, Tx, args};
use crate::session;
use crate::unit::{enter, platform_tenant};
use crate::user::append_everywhere;
use crate::vault::cell::{self, CLIENT_SECRET, IDENTITY_TOKENS};

/// Lets PostgreSQL show this transaction the roles that the provider's groups give, in whatever tenant.
async fn as_provider(tx: &mut Tx, provider: ProviderId) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.execute("SELECT set_config('cairn.provider', $1, true)", args![provider.as_uuid().to_string()]).await?;
    }
    Ok(())
}

async fn as_user(tx: &mut Tx, user: UserId) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.execute("SELECT set_config('cairn.user', $1, true)", args![user.as_uuid().to_string()]).await?;
    }
    Ok(())
}

/// The user's groups at the provider: those that it provisions, if it provisions any; else those that its last token named. Whom it
/// provisioned and made inactive has none.
pub(crate) async fn groups(tx: &mut Tx, provider: ProviderId, user: UserId) -> Result<BTreeSet<String>> {
    let mut all = groups_of(tx, &BTreeSet::from([user])).await?;
    Ok(all.remove(&user).and_then(|mut providers| providers.remove(&provider)).unwrap_or_default())
}

/// The same of many users at whatever provider: who is absent has none.
pub(crate) async fn groups_of(
    tx: &mut Tx,
    users: &BTreeSet<UserId>,
) -> Result<HashMap<UserId, BTreeMap<ProviderId, BTreeSet<String>>>> {
    // By the last token, and by provisioning.
    let mut named: BTreeMap<(ProviderId, UserId), BTreeSet<String>> = BTreeMap::new();
    let mut provisioned: BTreeMap<ProviderId, Vec<UserId>> = BTreeMap::new();
    let mut inactive = BTreeSet::new();
    let keys = Batch::keys(users.iter().map(|user| user.as_uuid().as_u128()));
    let sql = "SELECT i.user_id, i.provider_id, 'named', i.groups FROM v CROSS JOIN identity i WHERE i.user_id = v.key \
               UNION ALL SELECT s.user_id, s.provider_id, CASE WHEN s.active THEN 'active' ELSE 'inactive' END, '' \
               FROM v CROSS JOIN scim_user s WHERE s.user_id = v.key";
    tx.bulk_rows(&keys, sql, args![], |row| {
        let (user, provider) = (UserId::from_uuid(row.uuid(0)?), ProviderId::from_uuid(row.uuid(1)?));
        match row.text(2)?.as_str() {
            "named" => drop(named.insert((provider, user), row.json(3)?)),
            "active" => provisioned.entry(provider).or_default().push(user),
            _ => {
                inactive.insert((provider, user));
            }
        }
        Ok(())
    })
    .await?;
    let mut found: HashMap<UserId, BTreeMap<ProviderId, BTreeSet<String>>> = HashMap::new();
    let providers: BTreeSet<ProviderId> =
        named.keys().map(|(provider, _)| *provider).chain(provisioned.keys().copied()).collect();
    for provider in providers {
        let provisions = tx.row("SELECT 1 FROM scim_group WHERE provider_id = $1 LIMIT 1", args![provider]).await?;
        if provisions.is_none() {
            continue;
        }
        named.retain(|(by, _), _| *by != provider);
        let members = provisioned.remove(&provider).unwrap_or_default();
        let keys = Batch::keys(members.iter().map(|user| user.as_uuid().as_u128()));
        let sql = "SELECT m.user_id, g.display_name FROM v CROSS JOIN scim_group_member m CROSS JOIN scim_group g \
                   WHERE m.provider_id = $1 AND m.user_id = v.key AND g.provider_id = $1 AND g.id = m.group_id";
        tx.bulk_rows(&keys, sql, args![provider], |row| {
            let names = found.entry(UserId::from_uuid(row.uuid(0)?)).or_default().entry(provider).or_default();
            names.insert(row.text(1)?);
            Ok(())
        })
        .await?;
    }
    for ((provider, user), names) in named {
        if !inactive.contains(&(provider, user)) {
            found.entry(user).or_default().insert(provider, names);
        }
    }
    Ok(found)
}

/// The same for every user of the provider at once: who is absent has none.
pub(crate) async fn all_groups(tx: &mut Tx, provider: ProviderId) -> Result<HashMap<UserId, BTreeSet<String>>> {
    let mut found: HashMap<UserId, BTreeSet<String>> = HashMap::new();
    let provisions = tx.row("SELECT 1 FROM scim_group WHERE provider_id = $1 LIMIT 1", args![provider]).await?;
    if provisions.is_some() {
        let sql = "SELECT m.user_id, g.display_name FROM scim_group_member m \
                   JOIN scim_group g ON g.provider_id = m.provider_id AND g.id = m.group_id WHERE m.provider_id = $1";
        for row in tx.rows(sql, args![provider]).await? {
            found.entry(UserId::from_uuid(row.uuid(0)?)).or_default().insert(row.text(1)?);
        }
    } else {
        for row in tx.rows("SELECT user_id, groups FROM identity WHERE provider_id = $1", args![provider]).await? {
            found.insert(UserId::from_uuid(row.uuid(0)?), row.json(1)?);
        }
    }
    let sql = "SELECT user_id FROM scim_user WHERE provider_id = $1 AND NOT active";
    for row in tx.rows(sql, args![provider]).await? {
        found.remove(&UserId::from_uuid(row.uuid(0)?));
    }
    Ok(found)
}

/// Of several roles in one tenant, the one that holds the others; where none does, the first in the matrix's order.
fn strongest(roles: &[Role]) -> Option<Role> {
    let covers_all = |role: &Role| roles.iter().all(|other| role.covers(*other));
    Role::ALL.into_iter().filter(|role| roles.contains(role)).find(covers_all).or_else(|| roles.iter().min().copied())
}

/// The roles that these groups give, by tenant; in one tenant only, where one is named.
async fn given(
    tx: &mut Tx,
    provider: ProviderId,
    groups: &BTreeSet<String>,
    only: Option<TenantId>,
) -> Result<BTreeMap<TenantId, Role>> {
    let rows = if let Some(tenant) = only {
        tx.rows(
            "SELECT tenant_id, group_name, role FROM group_role WHERE provider_id = $1 AND tenant_id = $2",
            args![provider, tenant],
        )
        .await?
    } else {
        as_provider(tx, provider).await?;
        tx.rows(
            "SELECT g.tenant_id, g.group_name, g.role FROM group_role g JOIN tenant t ON t.id = g.tenant_id \
             WHERE g.provider_id = $1 AND t.deleted_at IS NULL",
            args![provider],
        )
        .await?
    };
    let mut roles: BTreeMap<TenantId, Vec<Role>> = BTreeMap::new();
    for row in rows {
        if groups.contains(&row.text(1)?) {
            roles.entry(TenantId::from_uuid(row.uuid(0)?)).or_default().push(row.parse(2)?);
        }
    }
    Ok(roles.into_iter().filter_map(|(tenant, roles)| Some((tenant, strongest(&roles)?))).collect())
}

/// Whether these groups of a token give a role anywhere. Where the provider provisions groups, a token's count for nothing.
pub(crate) async fn gives_a_role(tx: &mut Tx, provider: ProviderId, groups: &BTreeSet<String>) -> Result<bool> {
    let provisions = tx.row("SELECT 1 FROM scim_group WHERE provider_id = $1 LIMIT 1", args![provider]).await?;
    Ok(provisions.is_none() && !given(tx, provider, groups, None).await?.is_empty())
}

/// A change of one membership by a provider, with its record in the tenant's log.
async fn set_role(
    tx: &mut Tx,
    store: &Store,
    ctx: &OpCtx,
    (tenant, user, provider): (TenantId, UserId, ProviderId),
    before: Option<Role>,
    after: Option<Role>,
) -> Result<()> {
    enter(tx, tenant).await?;
    match after {
        Some(role) => {
            tx.execute(
                "INSERT INTO member (tenant_id, user_id, role, created_at, provider_id) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = excluded.role WHERE member.provider_id = $5",
                args![tenant, user, role.as_str(), store.clock().now(), provider],
            )
            .await?;
        }
        None => {
            tx.execute(
                "DELETE FROM member WHERE tenant_id = $1 AND user_id = $2 AND provider_id = $3",
                args![tenant, user, provider],
            )
            .await?;
        }
    }
    let detail = json!({"provider": provider, "role": after.map(Role::as_str), "before": before.map(Role::as_str)});
    let change = Change::to(Category::User, "member", user).detail(detail);
    audit::append(tx, tenant, ctx, "member_sync", &change).await.map(drop)
}

/// Gives the user exactly the roles that their groups give, in every tenant. Roles given by hand, or by another provider, stay.
pub(crate) async fn apply_roles(
    tx: &mut Tx,
    store: &Store,
    ctx: &OpCtx,
    provider: ProviderId,
    user: UserId,
) -> Result<()> {
    let groups = groups(tx, provider, user).await?;
    let mut wanted = given(tx, provider, &groups, None).await?;
    as_user(tx, user).await?;
    let rows = tx.rows("SELECT tenant_id, role, provider_id FROM member WHERE user_id = $1", args![user]).await?;
    for row in rows {
        let (tenant, role) = (TenantId::from_uuid(row.uuid(0)?), row.parse::<Role>(1)?);
        let wanted = wanted.remove(&tenant);
        if row.opt_uuid(2)? == Some(provider.as_uuid()) && wanted != Some(role) {
            set_role(tx, store, ctx, (tenant, user, provider), Some(role), wanted).await?;
        }
    }
    for (tenant, role) in wanted {
        set_role(tx, store, ctx, (tenant, user, provider), None, Some(role)).await?;
    }
    Ok(())
}

/// Judges the members of one tenant that the provider gave a role anew, after what its groups give there has changed.
pub(crate) async fn judge_members(tx: &mut Tx, ctx: &OpCtx, tenant: TenantId, provider: ProviderId) -> Result<()> {
    let rows = tx
        .rows("SELECT user_id, role FROM member WHERE tenant_id = $1 AND provider_id = $2", args![tenant, provider])
        .await?;
    for row in rows {
        let (user, before) = (UserId::from_uuid(row.uuid(0)?), row.parse::<Role>(1)?);
        let groups = groups(tx, provider, user).await?;
        let after = given(tx, provider, &groups, Some(tenant)).await?.remove(&tenant);
        if after == Some(before) {
            continue;
        }
        match after {
            Some(role) => {
                tx.execute(
                    "UPDATE member SET role = $3 WHERE tenant_id = $1 AND user_id = $2",
                    args![tenant, user, role.as_str()],
                )
                .await?
            }
            None => tx.execute("DELETE FROM member WHERE tenant_id = $1 AND user_id = $2", args![tenant, user]).await?,
        };
        let detail = json!({"provider": provider, "role": after.map(Role::as_str), "before": before.as_str()});
        let change = Change::to(Category::User, "member", user).detail(detail);
        audit::append(tx, tenant, ctx, "member_sync", &change).await?;
    }
    Ok(())
}

/// Ends every session of a user and every sign-in between its steps, now; how many sessions there were.
pub(crate) async fn end_sessions(tx: &mut Tx, store: &Store, user: UserId) -> Result<u64> {
    session::end_all(tx, user, store.clock().now()).await
}

/// Ends a user's sessions and, in the provider's name, their account: nothing of theirs works any more. The last one who manages the
/// platform keeps the account, so that no provider can lock everybody out; the sessions end all the same.
pub(crate) async fn disable(
    tx: &mut Tx,
    store: &Store,
    ctx: &OpCtx,
    provider: ProviderId,
    user: UserId,
    reason: &str,
) -> Result<()> {
    end_sessions(tx, store, user).await?;
    let disabled = tx
        .execute(
            "UPDATE app_user SET disabled_at = $2, disabled_by = $3 WHERE id = $1 AND disabled_at IS NULL AND (NOT platform_admin OR EXISTS \
             (SELECT 1 FROM app_user o WHERE o.platform_admin AND o.disabled_at IS NULL AND o.id <> $1))",
            args![user, store.clock().now(), provider],
        )
        .await?;
    let detail = json!({"provider": provider, "reason": reason, "disabled": disabled == 1});
    let change = Change::to(Category::User, "user", user).detail(detail);
    append_everywhere(tx, ctx, Some(user), "user_disable", &change).await
}

/// Lets a user sign in again whom this provider had disabled.
pub(crate) async fn enable(tx: &mut Tx, ctx: &OpCtx, provider: ProviderId, user: UserId) -> Result<()> {
    let enabled = tx
        .execute(
            "UPDATE app_user SET disabled_at = NULL, disabled_by = NULL WHERE id = $1 AND disabled_at IS NOT NULL AND disabled_by = $2",
            args![user, provider],
        )
        .await?;
    if enabled == 0 {
        return Ok(());
    }
    let change = Change::to(Category::User, "user", user).detail(json!({"provider": provider}));
    append_everywhere(tx, ctx, Some(user), "user_enable", &change).await
}

/// Removes all that a provider brought: sessions of its users end, the roles that it gave are gone.
pub(crate) async fn forget_provider(tx: &mut Tx, store: &Store, ctx: &OpCtx, provider: ProviderId) -> Result<()> {
    let users = tx
        .rows(
            "SELECT user_id FROM identity WHERE provider_id = $1 UNION SELECT user_id FROM scim_user WHERE provider_id = $1",
            args![provider],
        )
        .await?;
    cell::forget(tx, store, &CLIENT_SECRET, platform_tenant(), &provider.as_uuid().into()).await?;
    for row in &users {
        cell::forget(tx, store, &IDENTITY_TOKENS, platform_tenant(), &row.uuid(0)?.into()).await?;
    }
    as_provider(tx, provider).await?;
    tx.execute("DELETE FROM group_role WHERE provider_id = $1", args![provider]).await?;
    for row in users {
        let user = UserId::from_uuid(row.uuid(0)?);
        end_sessions(tx, store, user).await?;
        apply_roles(tx, store, ctx, provider, user).await?;
    }
    for sql in [
        // Nobody is left who could confirm them after a restore.
        "UPDATE app_user SET unconfirmed_since = NULL WHERE unconfirmed_since IS NOT NULL AND id IN \
         (SELECT user_id FROM identity WHERE provider_id = $1 UNION SELECT user_id FROM scim_user WHERE provider_id = $1)",
        "DELETE FROM identity WHERE provider_id = $1",
        "DELETE FROM scim_group_member WHERE provider_id = $1",
        "DELETE FROM scim_group WHERE provider_id = $1",
        "DELETE FROM scim_user WHERE provider_id = $1",
        "UPDATE app_user SET disabled_by = NULL WHERE disabled_by = $1",
        "DELETE FROM identity_provider WHERE id = $1",
    ] {
        tx.execute(sql, args![provider]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_roles_the_one_that_holds_the_others_counts() {
        assert_eq!(strongest(&[]), None);
        assert_eq!(strongest(&[Role::ReadOnly, Role::TenantAdmin, Role::Auditor]), Some(Role::TenantAdmin));
        assert_eq!(strongest(&[Role::Auditor, Role::SecurityAnalyst]), Some(Role::SecurityAnalyst));
        assert_eq!(strongest(&[Role::ReadOnly, Role::Auditor]), Some(Role::Auditor));
    }
}
