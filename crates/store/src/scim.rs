//! Users and groups that a provider provisions (SCIM 2.0). A provider sees and changes what it provisioned itself, and nothing else.

use std::collections::BTreeSet;

use access::OpCtx;
use domain::{Email, Error, GroupId, ProviderId, Result, Timestamp, UserId};
use serde_json::{Value, json};

use crate::audit::{Category, Change};
use crate::db::{Engine, Row, Tx, args};
use crate::provider::ProviderRow;
use crate::user::append_everywhere;
use crate::{Store, federation, identity};

/// A user as a provider describes them.
#[derive(Debug, Clone)]
pub struct NewScimUser {
    /// Its login name for them, unique there.
    pub user_name: String,
    /// Its own id for them.
    pub external_id: Option<String>,
    /// Whether they may sign in.
    pub active: bool,
    /// Their login name here.
    pub email: Email,
    /// Their name here.
    pub name: String,
    /// What else it says, to be given back.
    pub document: Value,
}

/// A provisioned user.
#[derive(Debug, Clone)]
pub struct ScimUserRow {
    /// The user here.
    pub user: UserId,
    /// The provider's login name for them.
    pub user_name: String,
    /// The provider's own id for them.
    pub external_id: Option<String>,
    /// Whether the provider lets them sign in.
    pub active: bool,
    /// Their login name here.
    pub email: String,
    /// What else the provider said.
    pub document: Value,
    /// Counts changes.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// The groups that they are in.
    pub groups: Vec<(GroupId, String)>,
}

/// A group as a provider describes it.
#[derive(Debug, Clone)]
pub struct NewScimGroup {
    /// Its name.
    pub display_name: String,
    /// The provider's own id for it.
    pub external_id: Option<String>,
    /// Who is in it.
    pub members: BTreeSet<UserId>,
}

/// A provisioned group.
#[derive(Debug, Clone)]
pub struct ScimGroupRow {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub display_name: String,
    /// The provider's own id for it.
    pub external_id: Option<String>,
    /// Counts changes.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// Who is in it.
    pub members: Vec<UserId>,
}

/// What a list is narrowed to; every part that is given has to be equal.
#[derive(Debug, Clone, Default)]
pub struct ScimFilter {
    /// The resource's id.
    pub id: Option<String>,
    /// `userName` or a group's `displayName`, in lower case.
    pub name: Option<String>,
    /// `externalId`.
    pub external_id: Option<String>,
    /// One of `emails.value`, in lower case.
    pub email: Option<String>,
    /// `active`.
    pub active: Option<bool>,
}

/// A part of a list, with how many there are in all.
#[derive(Debug, Clone)]
pub struct ScimPage<T> {
    /// How many match.
    pub total: i64,
    /// Those of this page.
    pub items: Vec<T>,
}

const USER: &str =
    "s.user_id, s.user_name, s.external_id, s.active, u.email, s.document, s.version, s.created_at, s.changed_at";
const USERS: &str = "FROM scim_user s JOIN app_user u ON u.id = s.user_id WHERE s.provider_id = $1 AND ($2 = '' OR s.user_name_key = $2) \
     AND ($3 = '' OR s.external_id = $3) AND ($4 = '' OR u.email = $4) AND ($5 < 0 OR s.active = ($5 = 1)) AND ($6 OR s.user_id = $7)";
const GROUP: &str = "id, display_name, external_id, version, created_at, changed_at";
const GROUPS: &str = "FROM scim_group WHERE provider_id = $1 AND ($2 = '' OR display_name_key = $2) AND ($3 = '' OR external_id = $3) \
     AND ($4 OR id = $5)";

async fn user_row(tx: &mut Tx, provider: ProviderId, row: &Row) -> Result<ScimUserRow> {
    let user = UserId::from_uuid(row.uuid(0)?);
    let groups = tx
        .rows(
            "SELECT g.id, g.display_name FROM scim_group_member m JOIN scim_group g ON g.provider_id = m.provider_id AND g.id = m.group_id \
             WHERE m.provider_id = $1 AND m.user_id = $2 ORDER BY g.id LIMIT 1000",
            args![provider, user],
        )
        .await?;
    Ok(ScimUserRow {
        user,
        user_name: row.text(1)?,
        external_id: row.opt_text(2)?,
        active: row.bool(3)?,
        email: row.text(4)?,
        document: row.json(5)?,
        version: row.i64(6)?,
        created_at: row.time(7)?,
        changed_at: row.time(8)?,
        groups: groups.iter().map(|row| Ok((GroupId::from_uuid(row.uuid(0)?), row.text(1)?))).collect::<Result<_>>()?,
    })
}

async fn group_row(tx: &mut Tx, provider: ProviderId, row: &Row, with_members: bool) -> Result<ScimGroupRow> {
    let id = GroupId::from_uuid(row.uuid(0)?);
    let members = if with_members {
        tx.rows(
            "SELECT user_id FROM scim_group_member WHERE provider_id = $1 AND group_id = $2 ORDER BY user_id",
            args![provider, id],
        )
        .await?
    } else {
        Vec::new()
    };
    Ok(ScimGroupRow {
        id,
        display_name: row.text(1)?,
        external_id: row.opt_text(2)?,
        version: row.i64(3)?,
        created_at: row.time(4)?,
        changed_at: row.time(5)?,
        members: members.iter().map(|row| row.uuid(0).map(UserId::from_uuid)).collect::<Result<_>>()?,
    })
}

async fn show_user(tx: &mut Tx, provider: ProviderId, id: UserId) -> Result<ScimUserRow> {
    let sql = format!(
        "SELECT {USER} FROM scim_user s JOIN app_user u ON u.id = s.user_id WHERE s.provider_id = $1 AND s.user_id = $2"
    );
    let rows = tx.rows_built(sql, args![provider, id]).await?;
    let row = rows.first().ok_or(Error::NotFound { what: "user" })?;
    user_row(tx, provider, row).await
}

/// Whether a provider's group is the first or the last one is for one transaction at a time to say. On SQLite there is only one that writes.
async fn lock_groups(tx: &mut Tx, provider: ProviderId) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.row("SELECT 1 FROM identity_provider WHERE id = $1 FOR UPDATE", args![provider]).await?;
    }
    Ok(())
}

async fn show_group(tx: &mut Tx, provider: ProviderId, id: GroupId) -> Result<ScimGroupRow> {
    let sql = format!("SELECT {GROUP} FROM scim_group WHERE provider_id = $1 AND id = $2");
    let rows = tx.rows_built(sql, args![provider, id]).await?;
    let row = rows.first().ok_or(Error::NotFound { what: "group" })?;
    group_row(tx, provider, row, true).await
}

fn taken(what: &str) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::Conflict { .. } => Error::conflict(format!("{what} is already taken")),
        other => other,
    }
}

fn stale() -> Error {
    Error::conflict("this was changed meanwhile: read it again")
}

/// The account that a newly provisioned user is. An account that this provider did not bring is nobody's to take by naming its address.
async fn account(tx: &mut Tx, store: &Store, provider: ProviderId, new: &NewScimUser) -> Result<UserId> {
    let Some(row) = tx.row("SELECT id, disabled_by FROM app_user WHERE email = $1", args![new.email.as_str()]).await?
    else {
        return identity::user_insert(tx, store, &new.email, &new.name).await;
    };
    let (user, ours) = (UserId::from_uuid(row.uuid(0)?), row.opt_uuid(1)? == Some(provider.as_uuid()));
    let signed_in = tx
        .row("SELECT 1 FROM identity WHERE user_id = $1 AND provider_id = $2", args![user, provider])
        .await?
        .is_some();
    let elsewhere = tx.row("SELECT 1 FROM scim_user WHERE user_id = $1", args![user]).await?.is_some();
    if elsewhere || !(ours || signed_in) {
        return Err(Error::conflict(format!(
            "an account `{}` exists that this provider did not bring: its holder signs in with the provider first",
            new.email
        )));
    }
    Ok(user)
}

impl Store {
    /// Provisions a user.
    pub async fn scim_user_create(
        &self,
        ctx: &OpCtx,
        provider: &ProviderRow,
        new: &NewScimUser,
    ) -> Result<ScimUserRow> {
        let (now, id) = (self.clock().now(), provider.id);
        let mut tx = self.db().write().await?;
        let user = account(&mut tx, self, id, new).await?;
        tx.execute(
            "INSERT INTO scim_user (provider_id, user_id, user_name, user_name_key, external_id, active, document, version, created_at, changed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8)",
            args![
                id,
                user,
                new.user_name.as_str(),
                new.user_name.to_lowercase(),
                new.external_id.clone(),
                new.active,
                new.document.to_string(),
                now
            ],
        )
        .await
        .map_err(taken("this userName"))?;
        let detail = json!({"provider": provider.name, "user_name": new.user_name, "active": new.active});
        let change = Change::to(Category::User, "user", user).detail(detail);
        append_everywhere(&mut tx, ctx, Some(user), "scim_user_create", &change).await?;
        self.apply_active(&mut tx, ctx, id, user, new.active).await?;
        let row = show_user(&mut tx, id, user).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Makes the account what the provider says: who is not active has no session, no key and no role from it.
    async fn apply_active(
        &self,
        tx: &mut Tx,
        ctx: &OpCtx,
        provider: ProviderId,
        user: UserId,
        active: bool,
    ) -> Result<()> {
        if active {
            federation::enable(tx, ctx, provider, user).await?;
        } else {
            federation::disable(tx, self, ctx, provider, user, "not active at the provider").await?;
        }
        federation::apply_roles(tx, self, ctx, provider, user).await
    }

    /// Replaces a provisioned user. `version`: the one that the caller read.
    pub async fn scim_user_put(
        &self,
        ctx: &OpCtx,
        provider: &ProviderRow,
        user: UserId,
        new: &NewScimUser,
        version: i64,
    ) -> Result<ScimUserRow> {
        let (now, id) = (self.clock().now(), provider.id);
        let mut tx = self.db().write().await?;
        let before = show_user(&mut tx, id, user).await?;
        let changed = tx
            .execute(
                "UPDATE scim_user SET user_name = $3, user_name_key = $4, external_id = $5, active = $6, document = $7, changed_at = $8, \
                 version = version + 1 WHERE provider_id = $1 AND user_id = $2 AND version = $9",
                args![
                    id,
                    user,
                    new.user_name.as_str(),
                    new.user_name.to_lowercase(),
                    new.external_id.clone(),
                    new.active,
                    new.document.to_string(),
                    now,
                    version
                ],
            )
            .await
            .map_err(taken("this userName"))?;
        if changed == 0 {
            return Err(stale());
        }
        tx.execute(
            "UPDATE app_user SET email = $2, name = $3 WHERE id = $1",
            args![user, new.email.as_str(), new.name.as_str()],
        )
        .await
        .map_err(taken("this address"))?;
        let detail = json!({
            "provider": provider.name,
            "active": {"before": before.active, "after": new.active},
            "email": {"before": before.email, "after": new.email.as_str()},
        });
        let change = Change::to(Category::User, "user", user).detail(detail);
        append_everywhere(&mut tx, ctx, Some(user), "scim_user_update", &change).await?;
        if before.active != new.active {
            self.apply_active(&mut tx, ctx, id, user, new.active).await?;
        }
        let row = show_user(&mut tx, id, user).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Takes a provisioned user back: the account stays for the log's sake, disabled.
    /// `version`: the one that the caller read, where they said so.
    pub async fn scim_user_delete(
        &self,
        ctx: &OpCtx,
        provider: &ProviderRow,
        user: UserId,
        version: Option<i64>,
    ) -> Result<()> {
        let id = provider.id;
        let mut tx = self.db().write().await?;
        show_user(&mut tx, id, user).await?;
        if let Some(version) = version {
            let sql =
                "UPDATE scim_user SET version = version + 1 WHERE provider_id = $1 AND user_id = $2 AND version = $3";
            if tx.execute(sql, args![id, user, version]).await? == 0 {
                return Err(stale());
            }
        }
        tx.execute("DELETE FROM scim_group_member WHERE provider_id = $1 AND user_id = $2", args![id, user]).await?;
        tx.execute(
            "UPDATE identity SET groups = '[]', tokens = NULL WHERE provider_id = $1 AND user_id = $2",
            args![id, user],
        )
        .await?;
        let change = Change::to(Category::User, "user", user).detail(json!({"provider": provider.name}));
        append_everywhere(&mut tx, ctx, Some(user), "scim_user_delete", &change).await?;
        self.apply_active(&mut tx, ctx, id, user, false).await?;
        // The identity goes too: whoever has this subject next is provisioned or vouched for anew.
        tx.execute("DELETE FROM identity WHERE provider_id = $1 AND user_id = $2", args![id, user]).await?;
        tx.execute("DELETE FROM scim_user WHERE provider_id = $1 AND user_id = $2", args![id, user]).await?;
        tx.commit().await
    }

    /// One provisioned user.
    pub async fn scim_user_show(&self, provider: ProviderId, user: UserId) -> Result<ScimUserRow> {
        show_user(&mut self.db().read().await?, provider, user).await
    }

    /// Provisioned users in the order of their ids, from `skip` on.
    pub async fn scim_user_list(
        &self,
        provider: ProviderId,
        filter: &ScimFilter,
        skip: i64,
        count: i64,
    ) -> Result<ScimPage<ScimUserRow>> {
        let mut tx = self.db().read().await?;
        let id = filter.id.as_deref().map(str::parse::<UserId>);
        if filter.asks_for_nothing() || matches!(id, Some(Err(_))) {
            return Ok(ScimPage { total: 0, items: Vec::new() });
        }
        let id = id.and_then(std::result::Result::ok).map(|id| id.as_uuid());
        let values = args![
            provider,
            filter.name.clone().unwrap_or_default(),
            filter.external_id.clone().unwrap_or_default(),
            filter.email.clone().unwrap_or_default(),
            filter.active.map_or(-1, i64::from),
            id.is_none(),
            id.unwrap_or_default(),
            count,
            skip
        ];
        let (filters, all) = (values.get(..7).unwrap_or_default(), values);
        let rows = tx.rows_built(format!("SELECT COUNT(*) {USERS}"), filters).await?;
        let total = rows.first().map_or(Ok(0), |row| row.i64(0))?;
        let rows = tx.rows_built(format!("SELECT {USER} {USERS} ORDER BY s.user_id LIMIT $8 OFFSET $9"), all).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push(user_row(&mut tx, provider, row).await?);
        }
        Ok(ScimPage { total, items })
    }

    /// Makes a group.
    pub async fn scim_group_create(
        &self,
        ctx: &OpCtx,
        provider: &ProviderRow,
        new: &NewScimGroup,
    ) -> Result<ScimGroupRow> {
        let (now, id) = (self.clock().now(), GroupId::generate(&**self.clock(), &**self.rng()));
        let mut tx = self.db().write().await?;
        lock_groups(&mut tx, provider.id).await?;
        let first =
            tx.row("SELECT 1 FROM scim_group WHERE provider_id = $1 LIMIT 1", args![provider.id]).await?.is_none();
        tx.execute(
            "INSERT INTO scim_group (provider_id, id, display_name, display_name_key, external_id, version, created_at, changed_at) \
             VALUES ($1, $2, $3, $4, $5, 1, $6, $6)",
            args![
                provider.id,
                id,
                new.display_name.as_str(),
                new.display_name.to_lowercase(),
                new.external_id.clone(),
                now
            ],
        )
        .await
        .map_err(taken("this displayName"))?;
        self.set_members(&mut tx, ctx, provider.id, id, &new.members, first).await?;
        let detail = json!({"provider": provider.name, "name": new.display_name, "members": new.members.len()});
        let change = Change::to(Category::User, "group", id).detail(detail);
        append_everywhere(&mut tx, ctx, None, "scim_group_create", &change).await?;
        let row = show_group(&mut tx, provider.id, id).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Replaces a group with its members. `version`: the one that the caller read.
    pub async fn scim_group_put(
        &self,
        ctx: &OpCtx,
        provider: &ProviderRow,
        id: GroupId,
        new: &NewScimGroup,
        version: i64,
    ) -> Result<ScimGroupRow> {
        let mut tx = self.db().write().await?;
        let before = show_group(&mut tx, provider.id, id).await?;
        let changed = tx
            .execute(
                "UPDATE scim_group SET display_name = $3, display_name_key = $4, external_id = $5, changed_at = $6, version = version + 1 \
                 WHERE provider_id = $1 AND id = $2 AND version = $7",
                args![
                    provider.id,
                    id,
                    new.display_name.as_str(),
                    new.display_name.to_lowercase(),
                    new.external_id.clone(),
                    self.clock().now(),
                    version
                ],
            )
            .await
            .map_err(taken("this displayName"))?;
        if changed == 0 {
            return Err(stale());
        }
        let renamed = before.display_name != new.display_name;
        self.set_members(&mut tx, ctx, provider.id, id, &new.members, renamed).await?;
        let detail = json!({
            "provider": provider.name,
            "name": {"before": before.display_name, "after": new.display_name},
            "members": {"before": before.members.len(), "after": new.members.len()},
        });
        let change = Change::to(Category::User, "group", id).detail(detail);
        append_everywhere(&mut tx, ctx, None, "scim_group_update", &change).await?;
        let row = show_group(&mut tx, provider.id, id).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Removes a group; who was in it loses at once what it gave. With the last one go the groups of tokens that counted before the first: they
    /// count again as new tokens name them, and never as old ones did.
    /// `version`: the one that the caller read, where they said so.
    pub async fn scim_group_delete(
        &self,
        ctx: &OpCtx,
        provider: &ProviderRow,
        id: GroupId,
        version: Option<i64>,
    ) -> Result<()> {
        let mut tx = self.db().write().await?;
        lock_groups(&mut tx, provider.id).await?;
        let before = show_group(&mut tx, provider.id, id).await?;
        if version.is_some_and(|version| version != before.version) {
            return Err(stale());
        }
        self.set_members(&mut tx, ctx, provider.id, id, &BTreeSet::new(), false).await?;
        tx.execute("DELETE FROM scim_group WHERE provider_id = $1 AND id = $2", args![provider.id, id]).await?;
        let forgotten = tx
            .execute(
                "UPDATE identity SET groups = '[]' WHERE provider_id = $1 AND groups <> '[]' \
                 AND NOT EXISTS (SELECT 1 FROM scim_group g WHERE g.provider_id = $1)",
                args![provider.id],
            )
            .await?;
        let detail =
            json!({"provider": provider.name, "name": before.display_name, "groups_of_tokens_forgotten": forgotten});
        let change = Change::to(Category::User, "group", id).detail(detail);
        append_everywhere(&mut tx, ctx, None, "scim_group_delete", &change).await?;
        tx.commit().await
    }

    /// Puts exactly these users into a group and gives everybody whom it touches what their groups give. `all`: also those who stay, or, with
    /// the provider's first group, everybody: from then on its groups count and those of its tokens do not.
    async fn set_members(
        &self,
        tx: &mut Tx,
        ctx: &OpCtx,
        provider: ProviderId,
        group: GroupId,
        members: &BTreeSet<UserId>,
        all: bool,
    ) -> Result<()> {
        let rows = tx
            .rows(
                "SELECT user_id FROM scim_group_member WHERE provider_id = $1 AND group_id = $2",
                args![provider, group],
            )
            .await?;
        let before: BTreeSet<UserId> =
            rows.iter().map(|row| row.uuid(0).map(UserId::from_uuid)).collect::<Result<_>>()?;
        for user in before.difference(members) {
            tx.execute(
                "DELETE FROM scim_group_member WHERE provider_id = $1 AND group_id = $2 AND user_id = $3",
                args![provider, group, *user],
            )
            .await?;
        }
        for user in members.difference(&before) {
            tx.execute(
                "INSERT INTO scim_group_member (provider_id, group_id, user_id) VALUES ($1, $2, $3)",
                args![provider, group, *user],
            )
            .await
            .map_err(|error| match error {
                Error::Conflict { .. } => Error::invalid("members", format!("there is no user `{user}`")),
                other => other,
            })?;
        }
        let mut touched: BTreeSet<UserId> = before.symmetric_difference(members).copied().collect();
        if all {
            touched.extend(members);
            let rows = tx.rows("SELECT user_id FROM identity WHERE provider_id = $1", args![provider]).await?;
            for row in rows {
                touched.insert(UserId::from_uuid(row.uuid(0)?));
            }
        }
        for user in touched {
            federation::apply_roles(tx, self, ctx, provider, user).await?;
        }
        Ok(())
    }

    /// One group.
    pub async fn scim_group_show(&self, provider: ProviderId, id: GroupId) -> Result<ScimGroupRow> {
        show_group(&mut self.db().read().await?, provider, id).await
    }

    /// Groups in the order of their ids, from `skip` on.
    pub async fn scim_group_list(
        &self,
        provider: ProviderId,
        filter: &ScimFilter,
        (skip, count): (i64, i64),
        with_members: bool,
    ) -> Result<ScimPage<ScimGroupRow>> {
        let mut tx = self.db().read().await?;
        let id = filter.id.as_deref().map(str::parse::<GroupId>);
        if filter.asks_for_nothing() || matches!(id, Some(Err(_))) {
            return Ok(ScimPage { total: 0, items: Vec::new() });
        }
        let id = id.and_then(std::result::Result::ok).map(|id| id.as_uuid());
        let values = args![
            provider,
            filter.name.clone().unwrap_or_default(),
            filter.external_id.clone().unwrap_or_default(),
            id.is_none(),
            id.unwrap_or_default(),
            count,
            skip
        ];
        let (filters, all) = (values.get(..5).unwrap_or_default(), values);
        let rows = tx.rows_built(format!("SELECT COUNT(*) {GROUPS}"), filters).await?;
        let total = rows.first().map_or(Ok(0), |row| row.i64(0))?;
        let rows = tx.rows_built(format!("SELECT {GROUP} {GROUPS} ORDER BY id LIMIT $6 OFFSET $7"), all).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push(group_row(&mut tx, provider, row, with_members).await?);
        }
        Ok(ScimPage { total, items })
    }
}

impl ScimFilter {
    /// Whether some part is the empty text, which nothing equals.
    fn asks_for_nothing(&self) -> bool {
        [&self.id, &self.name, &self.external_id, &self.email].into_iter().any(|part| part.as_deref() == Some(""))
    }
}
