//! Who reaches what, looked at from either end: the same decision as everywhere (`access::grant`), put to many at once.
//!
//! Reading is bounded by statements, not by members: one for the members, a few for their groups, one for the grants.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use access::grant::{Asker, Held, Place, decide};
use access::{MemberPermit, Role, member_ops, ops};
use domain::{
    DestinationId, DestinationRole, Error, Grant, GroupId, NodeId, ProviderId, Result, Slug, Subject, Target, TenantId,
    Timestamp, UserId,
};
use inventory::NodeKey;
use uuid::Uuid;

use crate::db::{Row, Tx, args};
use crate::destination::{self, DestinationRow};
use crate::grant::{self, GrantRow};
use crate::reach::{Known, know};
use crate::unit::{Read, enter};
use crate::{Store, federation};

/// A destination that somebody reaches, and how.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The destination.
    pub destination: DestinationRow,
    /// By role.
    pub roles: BTreeMap<DestinationRole, Held>,
    /// The grants that this comes from.
    pub grants: Vec<GrantRow>,
}

/// Somebody who reaches a destination, and how.
#[derive(Debug, Clone)]
pub struct Reacher {
    /// The user.
    pub user: UserId,
    /// Their login name.
    pub email: String,
    /// What they are in the tenant, which gives nothing at a destination.
    pub role: Role,
    /// The destination.
    pub destination: DestinationRow,
    /// By role.
    pub roles: BTreeMap<DestinationRole, Held>,
    /// The grants that this comes from.
    pub grants: Vec<GrantRow>,
}

/// The rows of the grants that something is held by.
fn behind<'a>(roles: &BTreeMap<DestinationRole, Held>, rows: impl Iterator<Item = &'a GrantRow>) -> Vec<GrantRow> {
    let held: BTreeSet<_> = roles.values().flat_map(|held| &held.grants).collect();
    rows.filter(|row| held.contains(&row.grant.id)).cloned().collect()
}

/// What somebody reaches of these destinations, in their order.
fn reached(known: &Known, all: Vec<DestinationRow>, now: Timestamp) -> Vec<Reached> {
    let groups: BTreeSet<GroupId> = known.groups.keys().copied().collect();
    let asker = Asker { user: known.user, groups: &groups, is_member: known.is_member };
    let (mut named, mut by_labels): (HashMap<DestinationId, Vec<Grant>>, Vec<Grant>) = (HashMap::new(), Vec::new());
    for row in &known.grants {
        match &row.grant.target {
            Target::Destination(id) => named.entry(*id).or_default().push(row.grant.clone()),
            Target::Labels(_) => by_labels.push(row.grant.clone()),
        }
    }
    let mut out = Vec::new();
    for place in all {
        let mut grants = named.remove(&place.id).unwrap_or_default();
        grants.extend(by_labels.iter().cloned());
        let roles = decide(asker, Place { id: place.id, kind: place.kind, labels: &place.labels }, &grants, now);
        if !roles.is_empty() {
            let grants = behind(&roles, known.grants.iter());
            out.push(Reached { destination: place, roles, grants });
        }
    }
    out
}

async fn reached_by(tx: &mut Tx, tenant: TenantId, user: UserId, now: Timestamp) -> Result<Vec<Reached>> {
    let known = know(tx, tenant, user, now).await?;
    if known.grants.is_empty() {
        return Ok(Vec::new());
    }
    let all = destination::all(tx, tenant).await?;
    Ok(reached(&known, all, now))
}

impl Store {
    /// What the actor reaches at this moment, in the order of the destinations' names.
    pub async fn reach_list(&self, permit: MemberPermit<member_ops::ReachList>) -> Result<Vec<Reached>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        reached_by(&mut tx, permit.tenant(), permit.user(), self.clock().now()).await
    }
}

impl Read<ops::AccessWhat> {
    /// What a member, by login name or id, reaches at this moment.
    pub async fn access_what(&mut self, named: &str) -> Result<Vec<Reached>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let user = grant::member(&mut self.tx, tenant, named).await?;
        reached_by(&mut self.tx, tenant, user, now).await
    }
}

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

/// Who of these reaches a destination by these grants.
fn reachers(all: &[Somebody], place: &DestinationRow, grants: &[GrantRow], now: Timestamp) -> Vec<Reacher> {
    let mut by_subject: HashMap<Subject, Vec<&GrantRow>> = HashMap::new();
    for row in grants {
        by_subject.entry(row.grant.subject).or_default().push(row);
    }
    let mut out = Vec::new();
    for one in all {
        let subjects = one.groups.keys().copied().map(Subject::Group).chain([Subject::User(one.user)]);
        let rows: Vec<&GrantRow> = subjects.filter_map(|subject| by_subject.get(&subject)).flatten().copied().collect();
        if rows.is_empty() {
            continue;
        }
        let groups: BTreeSet<GroupId> = one.groups.keys().copied().collect();
        let asker = Asker { user: one.user, groups: &groups, is_member: true };
        let theirs: Vec<Grant> = rows.iter().map(|row| row.grant.clone()).collect();
        let roles = decide(asker, Place { id: place.id, kind: place.kind, labels: &place.labels }, &theirs, now);
        if !roles.is_empty() {
            let grants = behind(&roles, rows.into_iter());
            let (user, email, role) = (one.user, one.email.clone(), one.role);
            out.push(Reacher { user, email, role, destination: place.clone(), roles, grants });
        }
    }
    out
}

/// The destinations that a text means: one by its name or id, or those that a node of the graph is.
async fn places(tx: &mut Tx, tenant: TenantId, named: &str) -> Result<Vec<DestinationRow>> {
    let Ok(node) = named.parse::<NodeId>() else { return Ok(vec![destination::find(tx, tenant, named).await?]) };
    if node.provider() == "cairn" {
        let id: DestinationId = node.resource().parse().map_err(|_| Error::NotFound { what: "destination" })?;
        return Ok(vec![destination::show(tx, tenant, id).await?]);
    }
    let rows = tx
        .rows(
            "SELECT n.id FROM edge e JOIN node n ON n.tenant_id = e.tenant_id AND n.key = e.source_key \
             WHERE e.target_key = $2 AND e.tenant_id = $1 AND e.closed_at IS NULL AND n.closed_at IS NULL AND e.type IN ('same_as', 'reached_at') \
             AND n.type IN ('cairn.kubernetes_cluster', 'cairn.ssh_host') ORDER BY n.id",
            args![tenant, Uuid::from_u128(NodeKey::of(&node).0)],
        )
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let shown: NodeId = row.parse(0)?;
        let id = shown.resource().parse().map_err(|_| Error::internal("a destination's node without its id"))?;
        match destination::show(tx, tenant, id).await {
            Ok(row) => found.push(row),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() { Err(Error::NotFound { what: "destination" }) } else { Ok(found) }
}

impl Read<ops::AccessWho> {
    /// Who reaches a destination (by name or id), or what of the graph is one (by its node), at this moment, in the order of their login names.
    pub async fn access_who(&mut self, named: &str) -> Result<Vec<Reacher>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let places = places(&mut self.tx, tenant, named).await?;
        let all = everybody(&mut self.tx, tenant).await?;
        let mut out = Vec::new();
        for place in &places {
            let mut grants = grant::alive_at(&mut self.tx, tenant, place, now).await?;
            grant::forget_strangers(&mut self.tx, tenant, &mut grants).await?;
            out.extend(reachers(&all, place, &grants, now));
        }
        Ok(out)
    }
}
