//! Grants as they are stored: made, listed, taken.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use access::ops;
use domain::{
    ActAs, ActName, DestinationId, DestinationKind, DestinationRole, Error, Grant, GrantId, GroupId, Hours, Labels,
    Result, Slug, SshTerms, Subject, Target, TenantId, Timestamp, UserId,
};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::bulk::Batch;
use crate::db::{Row, Tx, args};
use crate::destination::DestinationRow;
use crate::known::Live;
use crate::unit::{Read, Write};
use crate::{Page, Store, destination, grant_end, group, host_set, selector};

/// How old a written last use may be, in milliseconds.
const USED_WRITTEN_MS: i64 = 3_600_000;
/// Most grants of a tenant.
const GRANTS_MAX: i64 = 100_000;

/// Where a grant comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantOrigin {
    /// Somebody made it.
    Manual,
    /// A file of grants.
    File,
    /// A request that was approved.
    Request,
    /// Broken glass.
    Glass,
}

impl GrantOrigin {
    const ALL: [Self; 4] = [Self::Manual, Self::File, Self::Request, Self::Glass];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::File => "file",
            Self::Request => "request",
            Self::Glass => "break-glass",
        }
    }
}

impl std::str::FromStr for GrantOrigin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == text).ok_or_else(|| Error::internal("a grant's origin"))
    }
}

/// A grant with the names of what it is about.
#[derive(Debug, Clone)]
pub struct GrantRow {
    /// What it says.
    pub grant: Grant,
    /// The user's login name or the group's name.
    pub subject_name: String,
    /// The destination's name, if it is about one, also a set.
    pub destination_name: Option<String>,
    /// Why.
    pub reason: String,
    /// Where it comes from.
    pub origin: GrantOrigin,
    /// Since when.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When a token or a certificate rested on it last, to the hour.
    pub last_used_at: Option<Timestamp>,
    /// The file that keeps it.
    pub managed_by: Option<String>,
    /// The eligible grant that it was approved under: it gives nothing without that one.
    pub rests_on: Option<GrantId>,
}

/// A grant to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// For whom: a user by login name, or a group by name.
    pub subject: SubjectName,
    /// As what.
    pub role: DestinationRole,
    /// Where: a destination by name, or every one with these labels.
    pub target: TargetName,
    /// Only in this namespace.
    pub namespace: Option<Slug>,
    /// Only in these hours.
    pub hours: Option<Hours>,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// As whom else its holder may act in a cluster.
    pub act_as: ActAs,
    /// How hosts are reached by it.
    pub ssh: SshTerms,
    /// Why.
    pub reason: String,
    /// Whether it gives nothing by itself, and lets ask for what it says.
    pub approval: bool,
}

/// For whom a grant is, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectName {
    /// A member's login name or id.
    User(String),
    /// A group's name or id.
    Group(String),
}

/// Where a grant is for, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetName {
    /// A destination's name or id.
    Destination(String),
    /// Labels, at least one.
    Labels(Labels),
}

/// What the decision needs of a grant `a`, when it was used last, where it comes from, of an eligible one whom it is for, and what it rests on.
macro_rules! live_columns {
    () => {
        "a.id, a.user_id, a.group_id, a.role, a.destination_id, a.selector, a.namespace, a.hours, a.expires_at, a.act_as, a.ssh_terms, a.last_used_at, \
         a.origin, a.may_user_id, a.may_group_id, a.rests_on, a.set_id"
    };
}
pub(crate) use live_columns;

/// What is told of a grant `a`.
macro_rules! columns {
    () => {
        concat!(
            $crate::grant::live_columns!(),
            ", u.email, g.name, d.name, a.reason, a.created_at, a.created_by, a.managed_by"
        )
    };
}
pub(crate) use columns;
/// The names of what it is about.
macro_rules! names {
    () => {
        " LEFT JOIN app_user u ON u.id = COALESCE(a.user_id, a.may_user_id) \
         LEFT JOIN access_group g ON g.tenant_id = a.tenant_id AND g.id = COALESCE(a.group_id, a.may_group_id) \
         LEFT JOIN destination d ON d.tenant_id = a.tenant_id AND d.id = COALESCE(a.set_id, a.destination_id)"
    };
}
pub(crate) use names;
pub(crate) const COLUMNS: &str = concat!(columns!(), " FROM access_grant a", names!());

fn broken() -> Error {
    Error::internal("a grant without subject or target")
}

/// The grant in the first columns of a row: see `live_columns`.
pub(crate) fn live(row: &Row) -> Result<Grant> {
    let (gives_user, gives_group) = (row.opt_uuid(1)?, row.opt_uuid(2)?);
    let (may_user, may_group) = (row.opt_uuid(13)?, row.opt_uuid(14)?);
    let approval = gives_user.is_none() && gives_group.is_none();
    let subject = match (gives_user.or(may_user), gives_group.or(may_group)) {
        (Some(user), None) => Subject::User(UserId::from_uuid(user)),
        (None, Some(group)) => Subject::Group(GroupId::from_uuid(group)),
        _ => return Err(broken()),
    };
    let target = match (row.opt_uuid(4)?, row.opt_text(5)?) {
        (Some(id), None) => Target::Destination(DestinationId::from_uuid(id)),
        (None, Some(_)) => selector::target(row, 5, 16)?,
        _ => return Err(broken()),
    };
    let namespace = row.opt_text(6)?.map(|text| text.parse()).transpose().map_err(|_| broken())?;
    let hours = row.opt_text(7)?.map(|text| text.parse()).transpose().map_err(|_| broken())?;
    Ok(Grant {
        id: GrantId::from_uuid(row.uuid(0)?),
        subject,
        approval,
        role: row.parse(3)?,
        target,
        namespace,
        hours,
        expires_at: row.opt_time(8)?,
        act_as: if row.opt_text(9)?.is_some() { row.json(9)? } else { ActAs::default() },
        ssh: if row.opt_text(10)?.is_some() { row.json(10)? } else { SshTerms::default() },
    })
}

/// What it rests on: see `live_columns`.
pub(crate) fn rests_on(row: &Row) -> Result<Option<GrantId>> {
    Ok(row.opt_uuid(15)?.map(GrantId::from_uuid))
}

pub(crate) fn grant_row(row: &Row) -> Result<GrantRow> {
    Ok(GrantRow {
        grant: live(row)?,
        last_used_at: row.opt_time(11)?,
        origin: row.parse(12)?,
        rests_on: rests_on(row)?,
        subject_name: row.opt_text(17)?.or(row.opt_text(18)?).ok_or_else(broken)?,
        destination_name: row.opt_text(19)?,
        reason: row.text(20)?,
        created_at: row.time(21)?,
        created_by: row.text(22)?,
        managed_by: row.opt_text(23)?,
    })
}

/// The tenant's grants that have not expired.
pub(crate) async fn alive(tx: &mut Tx, tenant: TenantId, now: Timestamp) -> Result<Vec<GrantRow>> {
    let live = "a.tenant_id = $1 AND (a.expires_at IS NULL OR a.expires_at > $2)";
    let rows = tx.rows_built(format!("SELECT {COLUMNS} WHERE {live} ORDER BY a.id"), args![tenant, now]).await?;
    rows.iter().map(grant_row).collect()
}

/// These grants, as they are told, in no order.
pub(crate) async fn of_ids(tx: &mut Tx, tenant: TenantId, ids: impl Iterator<Item = GrantId>) -> Result<Vec<GrantRow>> {
    let sql = concat!("SELECT ", columns!(), " FROM (SELECT a.* FROM LOOKUP(access_grant a id)) a", names!());
    let ids = Batch::new().uuid("id", ids.map(|id| id.as_uuid().as_u128()));
    let mut found = Vec::new();
    tx.bulk_rows(&ids, sql, args![tenant], |row| grant_row(row).map(|row| found.push(row))).await?;
    Ok(found)
}

/// Notes that grants were used, of those that are `known`: at most once an hour each, and without asking the database whether it is time.
pub(crate) async fn used(
    tx: &mut Tx,
    tenant: TenantId,
    known: &[Arc<Live>],
    held: &BTreeSet<GrantId>,
    now: Timestamp,
) -> Result<()> {
    let due = |live: &&Arc<Live>| {
        held.contains(&live.grant.id) && live.last_used_at.is_none_or(|at| now.millis_since(at) >= USED_WRITTEN_MS)
    };
    let due = Batch::keys(known.iter().filter(due).map(|live| live.grant.id.as_uuid().as_u128()));
    let sql = "UPDATE access_grant SET last_used_at = $2 WHERE tenant_id = $1 AND id IN (SELECT v.key FROM v)";
    tx.bulk(&due, sql, args![tenant, now]).await.map(drop)
}

pub(crate) async fn show(tx: &mut Tx, tenant: TenantId, id: GrantId) -> Result<GrantRow> {
    let sql = format!("SELECT {COLUMNS} WHERE a.tenant_id = $1 AND a.id = $2");
    let rows = tx.rows_built(sql, args![tenant, id]).await?;
    grant_row(rows.first().ok_or(Error::NotFound { what: "grant" })?)
}

/// The member that a text names, by id or by login name: none of these looks like the other. Asked for with one condition, because PostgreSQL looks
/// at every account where a member may be this or that.
pub(crate) async fn member(tx: &mut Tx, tenant: TenantId, named: &str) -> Result<UserId> {
    let row = if let Ok(id) = named.parse::<UserId>() {
        tx.row("SELECT user_id FROM member WHERE tenant_id = $1 AND user_id = $2", args![tenant, id]).await?
    } else {
        tx.row(
            "SELECT m.user_id FROM app_user u JOIN member m ON m.tenant_id = $1 AND m.user_id = u.id WHERE u.email = $2",
            args![tenant, named.to_ascii_lowercase()],
        )
        .await?
    };
    row.ok_or(Error::NotFound { what: "member" })?.uuid(0).map(UserId::from_uuid)
}

/// Whether a name may be lent in this tenant: nobody logs in by it, or a member of this tenant does.
pub(crate) async fn is_nobody_elses(tx: &mut Tx, tenant: TenantId, name: &ActName) -> Result<bool> {
    let Some(email) = name.email() else { return Ok(true) };
    let row = tx
        .row(
            "SELECT 1 FROM member m JOIN app_user u ON u.id = m.user_id WHERE m.tenant_id = $1 AND u.email = $2 AND u.disabled_at IS NULL",
            args![tenant, email.as_str()],
        )
        .await?;
    Ok(row.is_some())
}

/// What is said of hosts is said of a host, or of a set of them: nothing would keep it in a cluster. A set is new enough to refuse what is said of clusters.
pub(crate) fn check_terms(place: &DestinationRow, new: &NewGrant) -> Result<()> {
    if place.kind == DestinationKind::Kubernetes && !new.ssh.is_empty() {
        let message = format!("`{}` is a cluster: networks, extensions and a command are said of hosts", place.name);
        return Err(Error::invalid("networks", message));
    }
    if place.kind == DestinationKind::Set && (new.namespace.is_some() || !new.act_as.is_empty()) {
        let message =
            format!("`{}` is a set of hosts: a namespace and names to act as are said of clusters", place.name);
        return Err(Error::invalid("namespace", message));
    }
    Ok(())
}

/// A namespace's own role is granted in a namespace of a cluster, and nowhere else. `place`: the destination, if one is named.
pub(crate) fn check_role(
    role: &DestinationRole,
    namespace: Option<&Slug>,
    place: Option<&DestinationRow>,
) -> Result<()> {
    let Some(own) = role.of_namespace() else { return Ok(()) };
    if let Some(host) = place.filter(|place| place.kind != DestinationKind::Kubernetes) {
        let what = if host.kind == DestinationKind::Ssh { "host" } else { "set of hosts" };
        let message = format!("`{}` is a {what}, and `{role}` a role of a cluster's namespace", host.name);
        return Err(Error::invalid("role", message));
    }
    if namespace.is_none() {
        let message = format!("`{role}` is the Role `{own}` of a namespace: say in which, or name a cluster role");
        return Err(Error::invalid("namespace", message));
    }
    Ok(())
}

/// What a new grant is about, found in this tenant.
struct Found {
    subject: Subject,
    target: Target,
}

async fn resolve(tx: &mut Tx, tenant: TenantId, new: &NewGrant) -> Result<Found> {
    let gone = |field: &'static str, named: &str, what: &'static str| {
        let text = format!("there is no {what} `{}` here", named.escape_debug());
        move |error: Error| if matches!(error, Error::NotFound { .. }) { Error::invalid(field, text) } else { error }
    };
    let subject = match &new.subject {
        SubjectName::User(named) => {
            Subject::User(member(tx, tenant, named).await.map_err(gone("user", named, "member"))?)
        }
        SubjectName::Group(named) => {
            Subject::Group(group::find(tx, tenant, named).await.map_err(gone("group", named, "group"))?.id)
        }
    };
    let target = match &new.target {
        TargetName::Destination(named) => {
            let found = destination::find(tx, tenant, named).await;
            let mut found = found.map_err(gone("destination", named, "destination"))?;
            check_terms(&found, new)?;
            check_role(&new.role, new.namespace.as_ref(), Some(&found))?;
            if found.kind == DestinationKind::Set {
                // Its selector stays what is written here until the grant is there for who changes it.
                found = destination::find_alone(tx, tenant, &found.id.to_string()).await?;
            }
            match found.selector {
                Some(selector) => host_set::target(found.id, selector)?,
                None => Target::Destination(found.id),
            }
        }
        TargetName::Labels(labels) => {
            check_role(&new.role, new.namespace.as_ref(), None)?;
            Target::labels(labels.clone())?
        }
    };
    for name in &new.act_as.users {
        if !is_nobody_elses(tx, tenant, name).await? {
            return Err(Error::invalid("as_users", format!("there is no member `{name}` here")));
        }
    }
    for name in &new.act_as.groups {
        group::find(tx, tenant, name.as_str()).await.map_err(gone("as_groups", name.as_str(), "group"))?;
    }
    Ok(Found { subject, target })
}

/// One spelling of what a grant says, without its end, its reason and where it comes from.
pub(crate) fn spelled(
    subject: Subject,
    target: &Target,
    role: &DestinationRole,
    (namespace, hours): (Option<&Slug>, Option<&Hours>),
    (act_as, ssh, approval): (&ActAs, &SshTerms, bool),
) -> String {
    let subject = match subject {
        Subject::User(user) => user.to_string(),
        Subject::Group(group) => group.to_string(),
    };
    let target = match target {
        // What a set has now is no part of what is said.
        Target::Destination(id) | Target::Set { id, .. } => json!(id),
        Target::Labels(labels) => json!(labels),
    };
    let mut said = json!([subject, role, target, namespace, hours]).to_string();
    if !act_as.is_empty() {
        said += &json!(act_as).to_string();
    }
    if !ssh.is_empty() {
        said += &json!({ "ssh": ssh }).to_string();
    }
    if approval {
        said += " by approval";
    }
    said
}

/// The same of one that is there.
pub(crate) fn spelling(grant: &Grant) -> String {
    let when = (grant.namespace.as_ref(), grant.hours.as_ref());
    spelled(grant.subject, &grant.target, &grant.role, when, (&grant.act_as, &grant.ssh, grant.approval))
}

/// Says which file keeps a grant, and what that says of its end and its reason.
pub(crate) async fn manage(tx: &mut Tx, tenant: TenantId, id: GrantId, file: &str, new: &NewGrant) -> Result<()> {
    let sql = "UPDATE access_grant SET managed_by = $3, expires_at = $4, reason = $5 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, args![tenant, id, file, new.expires_at, new.reason.as_str()]).await.map(drop)
}

/// How many grants tenants have, as this process counted: counting takes longer the more there are, and the bound is no promise to the last one.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<HashMap<TenantId, (i64, Timestamp)>>);

impl Counted {
    /// How long a count is good for, in which other servers may make some too.
    const GOOD_MS: i64 = 60_000;

    /// Whether there is room for so many by what was counted lately; if so they are counted too, whatever becomes of them.
    fn has_room(&self, tenant: TenantId, more: i64, now: Timestamp) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all
            .get_mut(&tenant)
            .filter(|(count, at)| now.millis_since(*at) < Self::GOOD_MS && count.saturating_add(more) <= GRANTS_MAX);
        known.map(|(count, _)| *count = count.saturating_add(more)).is_some()
    }

    fn set(&self, tenant: TenantId, count: i64, now: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, (count, now));
    }
}

/// Makes room for `more` grants, once in a transaction. What has expired gives nothing, and stands in the way of nothing.
pub(crate) async fn room(tx: &mut Tx, store: &Store, tenant: TenantId, more: i64) -> Result<()> {
    let now = store.clock().now();
    tx.execute("DELETE FROM access_grant WHERE tenant_id = $1 AND expires_at <= $2", args![tenant, now]).await?;
    let counted = &store.inner.grants_counted;
    if counted.has_room(tenant, more, now) {
        return Ok(());
    }
    let count = tx.row("SELECT COUNT(*) FROM access_grant WHERE tenant_id = $1", args![tenant]).await?;
    let count = count.map_or(Ok(0), |row| row.i64(0))?.saturating_add(more);
    if count > GRANTS_MAX {
        return Err(Error::conflict(format!("the tenant may have {GRANTS_MAX} grants: use groups and labels")));
    }
    counted.set(tenant, count, now);
    Ok(())
}

/// With what else a grant may stand beside another one that says the same, and the eligible grant that it was approved under.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub(crate) unique: Option<String>,
    pub(crate) rests_on: Option<GrantId>,
}

/// Makes a grant that there is [`room`] for, in a transaction that may hold more.
pub(crate) async fn insert(
    tx: &mut Tx,
    store: &Store,
    (tenant, by): (TenantId, &str),
    new: &NewGrant,
    origin: GrantOrigin,
    beside: Beside,
) -> Result<GrantRow> {
    let now = store.clock().now();
    let found = resolve(tx, tenant, new).await?;
    let within = (new.namespace.as_ref(), new.hours.as_ref());
    let same = spelled(found.subject, &found.target, &new.role, within, (&new.act_as, &new.ssh, new.approval));
    let same = same + &beside.unique.unwrap_or_default();
    let id = GrantId::generate(&**store.clock(), &**store.rng());
    let (user, of_group) = match found.subject {
        Subject::User(user) => (Some(user.as_uuid()), None),
        Subject::Group(group) => (None, Some(group.as_uuid())),
    };
    // Whom an eligible grant is for stands where nothing looks that decides what somebody holds.
    let ((user, may_user), (of_group, may_group)) =
        if new.approval { ((None, user), (None, of_group)) } else { ((user, None), (of_group, None)) };
    let (to, set, selector) = match &found.target {
        Target::Destination(id) => (Some(id.as_uuid()), None, None),
        Target::Labels(labels) => (None, None, Some(json!(labels).to_string())),
        Target::Set { id, hosts } => (None, Some(id.as_uuid()), Some(json!(hosts).to_string())),
    };
    tx.execute(
        "INSERT INTO access_grant (tenant_id, id, same, user_id, group_id, role, destination_id, selector, namespace, hours, reason, expires_at, \
         origin, created_at, created_by, act_as, ssh_terms, may_user_id, may_group_id, rests_on, set_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
        args![
            tenant,
            id,
            same,
            user,
            of_group,
            new.role.as_str(),
            to,
            selector,
            new.namespace.as_ref().map(ToString::to_string),
            new.hours.as_ref().map(ToString::to_string),
            new.reason.as_str(),
            new.expires_at,
            origin.as_str(),
            now,
            by,
            (!new.act_as.is_empty()).then(|| json!(new.act_as).to_string()),
            (!new.ssh.is_empty()).then(|| json!(new.ssh).to_string()),
            may_user,
            may_group,
            beside.rests_on.map(|id| id.as_uuid()),
            set
        ],
    )
    .await
    .map_err(|error| match error {
        Error::Conflict { .. } => Error::conflict("this is granted already: delete that grant first to change its end or its reason"),
        other => other,
    })?;
    show(tx, tenant, id).await
}

/// A grant for an audit record.
pub(crate) fn told(row: &GrantRow) -> serde_json::Value {
    let kind = match row.grant.subject {
        Subject::User(_) => "user",
        Subject::Group(_) => "group",
    };
    let (labels, hosts) = match &row.grant.target {
        Target::Destination(_) => (None, None),
        Target::Labels(labels) => (Some(labels), None),
        Target::Set { hosts, .. } => (None, Some(hosts)),
    };
    let mut told = json!({
        kind: row.subject_name, "role": row.grant.role, "destination": row.destination_name, "labels": labels,
        "namespace": row.grant.namespace, "hours": row.grant.hours, "expires_at": row.grant.expires_at, "reason": row.reason,
        "origin": row.origin.as_str(), "act_as": (!row.grant.act_as.is_empty()).then_some(&row.grant.act_as),
        "ssh": (!row.grant.ssh.is_empty()).then_some(&row.grant.ssh), "approval": row.grant.approval.then_some(true),
        "rests_on": row.rests_on,
    });
    if let (Some(hosts), Some(members)) = (hosts, told.as_object_mut()) {
        members.insert("hosts".to_owned(), json!(hosts));
    }
    told
}

/// The id of what was looked for, or one that nothing has: a filter by what is not there finds nothing.
fn if_there(found: Result<uuid::Uuid>) -> Result<uuid::Uuid> {
    match found {
        Err(Error::NotFound { .. }) => Ok(uuid::Uuid::nil()),
        other => other,
    }
}

/// Which grants to list.
#[derive(Debug, Clone, Default)]
pub struct GrantFilter {
    /// Only to this member, by login name or id.
    pub user: Option<String>,
    /// Only to this group, by name or id.
    pub group: Option<String>,
    /// Only to this destination, by name or id.
    pub destination: Option<String>,
    /// Only those that were not used since, and are not newer.
    pub unused_since: Option<Timestamp>,
}

impl Read<ops::GrantList> {
    /// The tenant's grants that have not expired, in the order of their ids.
    pub async fn grant_list(
        &mut self,
        filter: &GrantFilter,
        after: Option<GrantId>,
        limit: u32,
    ) -> Result<Page<GrantRow, GrantId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let tx = &mut self.tx;
        let user = match &filter.user {
            None => None,
            Some(named) => Some(if_there(member(tx, tenant, named).await.map(|id| id.as_uuid()))?),
        };
        let of_group = match &filter.group {
            None => None,
            Some(named) => Some(if_there(group::find(tx, tenant, named).await.map(|row| row.id.as_uuid()))?),
        };
        let to = match &filter.destination {
            None => None,
            Some(named) => Some(if_there(destination::find(tx, tenant, named).await.map(|row| row.id.as_uuid()))?),
        };
        let sql = format!(
            "SELECT {COLUMNS} WHERE a.tenant_id = $1 AND a.id > $2 AND (a.expires_at IS NULL OR a.expires_at > $3) \
             AND ($4 OR a.user_id = $5 OR a.may_user_id = $5) AND ($6 OR a.group_id = $7 OR a.may_group_id = $7) \
             AND ($8 OR a.destination_id = $9 OR a.set_id = $9) \
             AND COALESCE(a.last_used_at, a.created_at) < $10 ORDER BY a.id LIMIT $11"
        );
        let values = args![
            tenant,
            after.map_or(uuid::Uuid::nil(), |id| id.as_uuid()),
            now,
            user.is_none(),
            user.unwrap_or_default(),
            of_group.is_none(),
            of_group.unwrap_or_default(),
            to.is_none(),
            to.unwrap_or_default(),
            filter.unused_since.unwrap_or(Timestamp::from_millis(i64::MAX)),
            i64::from(limit) + 1
        ];
        let rows = tx.rows_built(sql, values).await?;
        Ok(Page::cut(rows.iter().map(grant_row).collect::<Result<_>>()?, limit, |row| row.grant.id))
    }

    /// One of them.
    pub async fn grant_show(&mut self, id: GrantId) -> Result<GrantRow> {
        let tenant = self.tenant();
        show(&mut self.tx, tenant, id).await
    }
}

impl Write<ops::GrantCreate> {
    /// Makes a grant.
    pub async fn grant_create(mut self, new: &NewGrant) -> Result<GrantRow> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        let by = self.permit.ctx().actor().to_string();
        room(&mut self.tx, &store, tenant, 1).await?;
        let row = insert(&mut self.tx, &store, (tenant, &by), new, GrantOrigin::Manual, Beside::default()).await?;
        self.commit(Change::to(Category::Access, "grant", row.grant.id).detail(told(&row))).await?;
        Ok(row)
    }
}

impl Write<ops::GrantDelete> {
    /// Takes a grant: what is reached by it alone ends, also where a connection is open.
    pub async fn grant_delete(mut self, id: GrantId) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = show(&mut self.tx, tenant, id).await?;
        let approved = grant_end::take(&mut self.tx, tenant, id, now).await?;
        let mut detail = told(&row);
        if let (true, Some(members)) = (row.grant.approval, detail.as_object_mut()) {
            members.insert("approved_ended".to_owned(), approved.into());
        }
        self.commit(Change::to(Category::Access, "grant", id).detail(detail)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_counted_again_after_a_minute_and_near_the_bound() {
        let (tenant, other) = ([1, 2]).map(|n| TenantId::from_uuid(uuid::Uuid::from_u128(n))).into();
        let (counted, at) = (Counted::default(), Timestamp::from_millis);
        assert!(!counted.has_room(tenant, 1, at(0)), "nobody counted");
        counted.set(tenant, GRANTS_MAX - 2, at(0));
        assert!(counted.has_room(tenant, 1, at(1)));
        assert!(!counted.has_room(other, 1, at(1)));
        assert!(!counted.has_room(tenant, 2, at(1)), "the one that was made is counted");
        assert!(!counted.has_room(tenant, 1, at(Counted::GOOD_MS)), "other servers may have made some");
        assert!(counted.has_room(tenant, 1, at(Counted::GOOD_MS - 1)));
    }
}
