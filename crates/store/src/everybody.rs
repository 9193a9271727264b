//! Everybody of a tenant with their groups, for a review of all of its access.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use access::Role;
use domain::{Error, GroupId, ProviderId, Result, Slug, TenantId, UserId};
use uuid::Uuid;

use crate::db::{Row, Tx, args};
use crate::federation;

/// A member whose account is not disabled.
#[derive(Debug, Clone)]
pub(crate) struct Somebody {
    pub(crate) user: UserId,
    pub(crate) email: String,
    pub(crate) role: Role,
    pub(crate) groups: BTreeMap<GroupId, Slug>,
}

/// Who is in which groups at this moment, whether they can reach anything or not.
pub(crate) async fn all_places(tx: &mut Tx, tenant: TenantId) -> Result<HashMap<UserId, BTreeMap<GroupId, Slug>>> {
    let mut groups: HashMap<UserId, BTreeMap<GroupId, Slug>> = HashMap::new();
    let entry = |row: &Row| Ok::<_, Error>((GroupId::from_uuid(row.uuid(0)?), row.parse::<Slug>(1)?));
    let kept = tx
        .rows(
            "SELECT g.id, g.name, m.user_id FROM access_group_member m JOIN access_group g ON g.tenant_id = m.tenant_id AND g.id = m.group_id \
             WHERE m.tenant_id = $1 AND g.provider_group IS NULL",
            args![tenant],
        )
        .await?;
    for row in &kept {
        let (id, name) = entry(row)?;
        groups.entry(UserId::from_uuid(row.uuid(2)?)).or_default().insert(id, name);
    }
    let fed = tx
        .rows(
            "SELECT g.id, g.name, g.provider_id, g.provider_group FROM access_group g JOIN identity_provider p ON p.id = g.provider_id \
             WHERE g.tenant_id = $1 AND g.provider_group IS NOT NULL ORDER BY g.provider_id",
            args![tenant],
        )
        .await?;
    let mut asked: Option<(Uuid, HashMap<UserId, BTreeSet<String>>)> = None;
    for row in &fed {
        let (provider, theirs) = (row.uuid(2)?, row.text(3)?);
        if asked.as_ref().is_none_or(|(known, _)| *known != provider) {
            asked = Some((provider, federation::all_groups(tx, ProviderId::from_uuid(provider)).await?));
        }
        let (id, name) = entry(row)?;
        for (user, _) in asked.iter().flat_map(|(_, users)| users).filter(|(_, names)| names.contains(&theirs)) {
            groups.entry(*user).or_default().insert(id, name.clone());
        }
    }
    Ok(groups)
}

/// Every member who can reach anything, with their groups at this moment, in the order of their login names.
pub(crate) async fn everybody(tx: &mut Tx, tenant: TenantId) -> Result<Vec<Somebody>> {
    let rows = tx
        .rows(
            "SELECT u.id, u.email, m.role FROM member m JOIN app_user u ON u.id = m.user_id JOIN tenant t ON t.id = m.tenant_id \
             WHERE m.tenant_id = $1 AND u.disabled_at IS NULL AND t.deleted_at IS NULL ORDER BY u.email",
            args![tenant],
        )
        .await?;
    let mut groups = all_places(tx, tenant).await?;
    rows.iter()
        .map(|row| {
            let user = UserId::from_uuid(row.uuid(0)?);
            let groups = groups.remove(&user).unwrap_or_default();
            Ok(Somebody { user, email: row.text(1)?, role: row.parse(2)?, groups })
        })
        .collect()
}
