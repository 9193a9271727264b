//! Who reaches what, looked at from either end: the same decision as everywhere (`access::grant`), put to those that it may concern.
//!
//! An answer is a page. What is read for it is what may be on it: of a user their own and their groups' grants, and the destinations that these name or
//! select; of a destination the grants that name or select it, and their subjects. SQL says who and what may be meant; whether they are is decided
//! by the rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use access::grant::{Held, Place, holds};
use access::{MemberPermit, Role, member_ops, ops};
use domain::{
    DestinationId, DestinationKind, DestinationRole, Error, Grant, GrantId, Labels, NodeId, Result, Slug, Target,
    TenantId, Timestamp, UserId,
};
use inventory::NodeKey;
use uuid::Uuid;

use crate::bulk::Batch;
use crate::db::{Row, Tx, args};
use crate::destination::{self, DestinationRow};
use crate::grant::{self, GrantRow};
use crate::known::{At, know, know_all};
use crate::unit::{Read, enter};
use crate::{Page, Store, selector};

/// How many may be meant are read at once at least: not each of them is.
const AT_ONCE: usize = 100;

/// A destination that somebody reaches in a role, and how.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The destination.
    pub destination: DestinationRow,
    /// As what.
    pub role: DestinationRole,
    /// What that gives.
    pub held: Held,
    /// The grants that this comes from, in the order of their ids.
    pub grants: Vec<GrantRow>,
}

/// Where a page of what somebody reaches ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedKey {
    name: Slug,
    role: DestinationRole,
}

impl fmt::Display for ReachedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.role)
    }
}

impl FromStr for ReachedKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, role) = text.split_once('/').ok_or_else(|| Error::invalid("page", "no page"))?;
        Ok(Self { name: name.parse()?, role: role.parse()? })
    }
}

/// Somebody who reaches a destination in a role, and how.
#[derive(Debug, Clone)]
pub struct Reacher {
    /// The user.
    pub user: UserId,
    /// Their login name.
    pub email: String,
    /// What they are in the tenant, which gives nothing at a destination.
    pub tenant_role: Role,
    /// The destination.
    pub destination: DestinationRow,
    /// As what.
    pub role: DestinationRole,
    /// What that gives.
    pub held: Held,
    /// The grants that this comes from, in the order of their ids.
    pub grants: Vec<GrantRow>,
}

/// Where a page of who reaches something ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReacherKey {
    destination: DestinationId,
    role: DestinationRole,
    email: String,
}

impl fmt::Display for ReacherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.destination, self.role, self.email)
    }
}

impl FromStr for ReacherKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Neither an id nor a role has a slash; an address may.
        let mut parts = text.splitn(3, '/');
        let unfit = || Error::invalid("page", "no page");
        let mut part = || parts.next().ok_or_else(unfit);
        let destination = part()?.parse().map_err(|_| unfit())?;
        Ok(Self { destination, role: part()?.parse()?, email: part()?.to_owned() })
    }
}

/// How many to read for a page that has room for so many more: one more than that says whether there is another page.
fn to_read(limit: u32, found: usize) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(found).saturating_add(2).max(AT_ONCE)
}

fn is_full(limit: u32, found: usize) -> bool {
    u32::try_from(found).is_ok_and(|found| found > limit)
}

/// The rows of the grants behind what is held, by their ids.
async fn behind<'a>(
    tx: &mut Tx,
    tenant: TenantId,
    held: impl Iterator<Item = &'a Held>,
) -> Result<HashMap<GrantId, GrantRow>> {
    let ids: BTreeSet<GrantId> = held.flat_map(|held| held.grants.iter().copied()).collect();
    let rows = grant::of_ids(tx, tenant, ids.into_iter()).await?;
    Ok(rows.into_iter().map(|row| (row.grant.id, row)).collect())
}

fn rows_of(held: &Held, rows: &HashMap<GrantId, GrantRow>) -> Vec<GrantRow> {
    held.grants.iter().filter_map(|id| rows.get(id)).cloned().collect()
}

/// A destination that may be meant.
struct Candidate {
    id: DestinationId,
    kind: DestinationKind,
    labels: Labels,
}

/// The first destinations from a name on that are named, or that may be selected by labels in whose text one of these texts is; at most so many.
async fn candidates(
    tx: &mut Tx,
    tenant: TenantId,
    (named, told): (&BTreeSet<u128>, &BTreeSet<String>),
    (from, most): (&str, usize),
) -> Result<BTreeMap<Slug, Candidate>> {
    const NAMED: &str = "SELECT d.id, d.name, d.kind, d.labels FROM LOOKUP(destination d id) AND d.name BYTEWISE >= $2 \
                         ORDER BY d.name BYTEWISE LIMIT $3";
    const SELECTED: &str = "SELECT d.id, d.name, d.kind, d.labels FROM destination d WHERE d.tenant_id = $1 AND d.name BYTEWISE >= $2 \
                            AND EXISTS (SELECT 1 FROM v WHERE replace(d.labels, v.label, '') <> d.labels) \
                            ORDER BY d.name BYTEWISE LIMIT $3";
    let limit = i64::try_from(most).map_err(Error::internal)?;
    let mut found = BTreeMap::new();
    let mut take = |row: &Row| {
        let one = Candidate { id: DestinationId::from_uuid(row.uuid(0)?), kind: row.parse(2)?, labels: row.json(3)? };
        found.insert(row.parse::<Slug>(1)?, one);
        Ok(())
    };
    let ids = Batch::new().uuid("id", named.iter().copied());
    tx.bulk_rows(&ids, NAMED, args![tenant, from, limit], &mut take).await?;
    let texts = Batch::new().text("label", told.iter().map(String::as_str));
    tx.bulk_rows(&texts, SELECTED, args![tenant, from, limit], &mut take).await?;
    // Each statement brought its first ones: of what comes after, one of them may lack some.
    while found.len() > most {
        found.pop_last();
    }
    Ok(found)
}

/// What a user reaches, behind a key.
async fn reached_by(
    tx: &mut Tx,
    tenant: TenantId,
    user: UserId,
    (after, limit): (Option<&ReachedKey>, u32),
    now: Timestamp,
) -> Result<Page<Reached, ReachedKey>> {
    let known = know(tx, tenant, user, At::Everywhere, now).await?;
    let (mut named, mut by_labels): (HashMap<DestinationId, Vec<&Grant>>, Vec<&Grant>) = (HashMap::new(), Vec::new());
    let mut told = BTreeSet::new();
    for live in known.grants.iter().filter(|live| holds(&live.grant, now).is_some()) {
        match &live.grant.target {
            Target::Destination(id) => named.entry(*id).or_default().push(&live.grant),
            Target::Labels(labels) | Target::Set { hosts: labels, .. } => {
                by_labels.push(&live.grant);
                told.extend(selector::told_apart(labels));
            }
        }
    }
    let ids: BTreeSet<u128> = named.keys().map(|id| id.as_uuid().as_u128()).collect();
    let mut from = after.map_or(String::new(), |key| key.name.to_string());
    let mut is_read: Option<Slug> = None;
    let mut found: Vec<(Slug, DestinationId, DestinationRole, Held)> = Vec::new();
    loop {
        let most = to_read(limit, found.len());
        let next = candidates(tx, tenant, (&ids, &told), (&from, most)).await?;
        let (count, last) = (next.len(), next.keys().last().cloned());
        for (name, one) in next.into_iter().filter(|(name, _)| is_read.as_ref() != Some(name)) {
            // In the order in which a connection is decided.
            let mut grants: Vec<&Grant> = named.get(&one.id).into_iter().flatten().chain(&by_labels).copied().collect();
            grants.sort_unstable_by_key(|grant| grant.id);
            let place = Place { id: one.id, kind: one.kind, labels: &one.labels };
            let roles = known.reach_by(place, grants, now);
            let is_behind = |role: &DestinationRole| after.is_none_or(|key| key.name != name || *role > key.role);
            found.extend(
                roles
                    .into_iter()
                    .filter(|(role, _)| is_behind(role))
                    .map(|(role, held)| (name.clone(), one.id, role, held)),
            );
        }
        if count < most || is_full(limit, found.len()) {
            break;
        }
        from = last.as_ref().map_or(from, Slug::to_string);
        is_read = last;
    }
    let page = Page::cut(found, limit, |(name, _, role, _)| ReachedKey { name: name.clone(), role: role.clone() });
    let ids: BTreeSet<DestinationId> = page.items.iter().map(|(_, id, ..)| *id).collect();
    let places = destination::of_ids(tx, tenant, ids.into_iter()).await?;
    let places: HashMap<DestinationId, DestinationRow> = places.into_iter().map(|row| (row.id, row)).collect();
    let rows = behind(tx, tenant, page.items.iter().map(|(.., held)| held)).await?;
    let one = |(_, id, role, held): (Slug, DestinationId, DestinationRole, Held)| {
        let destination = places.get(&id)?.clone();
        let grants = rows_of(&held, &rows);
        Some(Reached { destination, role, held, grants })
    };
    Ok(Page { items: page.items.into_iter().filter_map(one).collect(), next: page.next })
}

impl Store {
    /// What the actor reaches at this moment, in the order of the destinations' names and of the roles.
    pub async fn reach_list(
        &self,
        permit: MemberPermit<member_ops::ReachList>,
        after: Option<&ReachedKey>,
        limit: u32,
    ) -> Result<Page<Reached, ReachedKey>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        reached_by(&mut tx, permit.tenant(), permit.user(), (after, limit), self.clock().now()).await
    }
}

impl Read<ops::AccessWhat> {
    /// What a member, by login name or id, reaches at this moment, in the order of the destinations' names and of the roles.
    pub async fn access_what(
        &mut self,
        named: &str,
        after: Option<&ReachedKey>,
        limit: u32,
    ) -> Result<Page<Reached, ReachedKey>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let user = grant::member(&mut self.tx, tenant, named).await?;
        reached_by(&mut self.tx, tenant, user, (after, limit), now).await
    }
}

/// The destinations that a text means: one by its name or id, or those that a node of the graph is.
pub(crate) async fn places(tx: &mut Tx, tenant: TenantId, named: &str) -> Result<Vec<DestinationRow>> {
    let Ok(node) = named.parse::<NodeId>() else { return Ok(vec![destination::find(tx, tenant, named).await?]) };
    if node.provider() == "cairn" {
        let id: DestinationId = node.resource().parse().map_err(|_| Error::NotFound { what: "destination" })?;
        return Ok(vec![destination::show(tx, tenant, id).await?]);
    }
    let rows = tx
        .rows(
            "SELECT n.id FROM edge e JOIN node n ON n.tenant_id = e.tenant_id AND n.key = e.source_key \
             WHERE e.target_key = $2 AND e.tenant_id = $1 AND e.closed_at IS NULL AND n.closed_at IS NULL AND e.type IN ('same_as', 'reached_at') \
             AND n.type IN ('cairn.kubernetes_cluster', 'cairn.ssh_host')",
            args![tenant, Uuid::from_u128(NodeKey::of(&node).0)],
        )
        .await?;
    let id = |row: &Row| {
        let shown: NodeId = row.parse(0)?;
        shown.resource().parse::<DestinationId>().map_err(|_| Error::internal("a destination's node without its id"))
    };
    let ids = rows.iter().map(id).collect::<Result<BTreeSet<_>>>()?;
    let mut found = destination::of_ids(tx, tenant, ids.into_iter()).await?;
    found.sort_unstable_by_key(|row| row.id);
    if found.is_empty() { Err(Error::NotFound { what: "destination" }) } else { Ok(found) }
}

/// Those members from a login name on to whom some grant is that names a destination, or to whom one is by a selector, directly or by a group; the
/// first of them. `v`: the selectors, and what each begins with. `may` holds everybody whom `groups_of` would put into one of the groups; also some
/// whom it would not.
const SUBJECTS: &str = ", gives(user_id, group_id) AS ( \
     SELECT a.user_id, a.group_id FROM access_grant a WHERE a.tenant_id = $1 AND a.destination_id = $2 \
     AND (a.expires_at IS NULL OR a.expires_at > $3) AND ($4 AND a.ssh_terms IS NULL OR NOT $4 AND a.namespace IS NULL) \
     UNION ALL SELECT a.user_id, a.group_id FROM access_grant a WHERE a.tenant_id = $1 AND a.set_id = $2 \
     AND (a.expires_at IS NULL OR a.expires_at > $3) \
     UNION ALL SELECT a.user_id, a.group_id FROM v CROSS JOIN access_grant a WHERE a.tenant_id = $1 AND a.selector_label = v.selector_label \
     AND a.selector = v.selector AND (a.expires_at IS NULL OR a.expires_at > $3)), \
   given(group_id) AS (SELECT DISTINCT group_id FROM gives WHERE group_id IS NOT NULL), \
   fed(provider_id, name) AS (SELECT g.provider_id, g.provider_group FROM given CROSS JOIN access_group g \
     WHERE g.tenant_id = $1 AND g.id = given.group_id AND g.provider_group IS NOT NULL), \
   told(provider_id, name) AS (SELECT fed.provider_id, fed.name FROM fed \
     WHERE NOT EXISTS (SELECT 1 FROM scim_group s WHERE s.provider_id = fed.provider_id)), \
   may(user_id) AS (SELECT user_id FROM gives WHERE user_id IS NOT NULL \
     UNION SELECT m.user_id FROM given CROSS JOIN access_group_member m WHERE m.tenant_id = $1 AND m.group_id = given.group_id \
     UNION SELECT m.user_id FROM fed CROSS JOIN scim_group s CROSS JOIN scim_group_member m \
       WHERE s.provider_id = fed.provider_id AND s.display_name = fed.name AND m.provider_id = s.provider_id AND m.group_id = s.id \
     UNION SELECT i.user_id FROM identity i CROSS JOIN EACH_TEXT(i.groups e) WHERE i.provider_id IN (SELECT provider_id FROM told) \
       AND (i.provider_id, e.value) IN (SELECT provider_id, name FROM told)) \
   SELECT u.id, u.email, m.role FROM may CROSS JOIN member m CROSS JOIN app_user u \
   WHERE m.tenant_id = $1 AND m.user_id = may.user_id AND u.id = may.user_id AND u.disabled_at IS NULL AND u.email BYTEWISE >= $5 \
   ORDER BY u.email BYTEWISE LIMIT $6";

/// The first members from a login name on who may reach a destination; at most so many.
async fn subjects(
    tx: &mut Tx,
    tenant: TenantId,
    (place, selectors): (&DestinationRow, &BTreeMap<String, u64>),
    (from, most): (&str, usize),
    now: Timestamp,
) -> Result<BTreeMap<String, (UserId, Role)>> {
    let limit = i64::try_from(most).map_err(Error::internal)?;
    // Of nothing there would be no statement: no selector is empty.
    let texts = || selectors.keys().map(String::as_str).chain([""]);
    let batch = Batch::new().text("selector_label", texts().map(selector::first)).text("selector", texts());
    let is_cluster = place.kind == DestinationKind::Kubernetes;
    let mut found = BTreeMap::new();
    tx.bulk_rows(&batch, SUBJECTS, args![tenant, place.id, now, is_cluster, from, limit], |row| {
        found.insert(row.text(1)?, (UserId::from_uuid(row.uuid(0)?), row.parse(2)?));
        Ok(())
    })
    .await?;
    while found.len() > most {
        found.pop_last();
    }
    Ok(found)
}

/// Somebody who reaches one of the places, before it is told how.
struct Finding {
    place: usize,
    user: UserId,
    email: String,
    tenant_role: Role,
    role: DestinationRole,
    held: Held,
}

/// Who reaches a place, behind a login name and a role there, until the page is full.
async fn reachers(
    tx: &mut Tx,
    tenant: TenantId,
    (at, place): (usize, &DestinationRow),
    (after, limit): (Option<&ReacherKey>, u32),
    now: Timestamp,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let selectors = selector::selecting(tx, tenant, place, now).await?;
    let mut from = after.map_or(String::new(), |key| key.email.clone());
    let mut is_read: Option<String> = None;
    loop {
        let most = to_read(limit, found.len());
        let next = subjects(tx, tenant, (place, &selectors), (&from, most), now).await?;
        let (count, last) = (next.len(), next.keys().last().cloned());
        let next: Vec<_> = next.into_iter().filter(|(email, _)| is_read.as_ref() != Some(email)).collect();
        let users = next.iter().map(|(_, (user, _))| *user).collect();
        let known = know_all(tx, tenant, &users, At::Place(place.id), now).await?;
        for (email, (user, tenant_role)) in next {
            let Some(known) = known.get(&user) else { continue };
            for (role, held) in known.reach(place, now) {
                if after.is_none_or(|key| key.email != email || role > key.role) {
                    found.push(Finding { place: at, user, email: email.clone(), tenant_role, role, held });
                }
            }
        }
        if count < most || is_full(limit, found.len()) {
            return Ok(());
        }
        from = last.clone().unwrap_or(from);
        is_read = last;
    }
}

impl Read<ops::AccessWho> {
    /// Who reaches a destination (by name or id), or what of the graph is one (by its node), at this moment, in the order of the destinations' ids, of
    /// the login names and of the roles.
    pub async fn access_who(
        &mut self,
        named: &str,
        after: Option<&ReacherKey>,
        limit: u32,
    ) -> Result<Page<Reacher, ReacherKey>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let tx = &mut self.tx;
        let places = places(tx, tenant, named).await?;
        let mut found = Vec::new();
        for (at, place) in places.iter().enumerate() {
            if after.is_some_and(|key| place.id < key.destination) {
                continue;
            }
            let within = after.filter(|key| key.destination == place.id);
            reachers(tx, tenant, (at, place), (within, limit), now, &mut found).await?;
            if is_full(limit, found.len()) {
                break;
            }
        }
        let destination = |one: &Finding| places.get(one.place).ok_or_else(|| Error::internal("a place that is none"));
        let keys = found.iter().map(|one| Ok(destination(one)?.id)).collect::<Result<Vec<_>>>()?;
        let found = found.into_iter().zip(keys).collect();
        let page = Page::cut(found, limit, |(one, destination): &(Finding, DestinationId)| ReacherKey {
            destination: *destination,
            role: one.role.clone(),
            email: one.email.clone(),
        });
        let rows = behind(tx, tenant, page.items.iter().map(|(one, _)| &one.held)).await?;
        let one = |(one, _): (Finding, DestinationId)| {
            let destination = destination(&one)?.clone();
            let Finding { user, email, tenant_role, role, held, .. } = one;
            let grants = rows_of(&held, &rows);
            Ok(Reacher { user, email, tenant_role, destination, role, held, grants })
        };
        Ok(Page { items: page.items.into_iter().map(one).collect::<Result<_>>()?, next: page.next })
    }
}
