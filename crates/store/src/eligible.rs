//! Eligible grants (ADR 0079): they give nothing, and say what may be asked for. What somebody else approves is a grant of its own, with an end.
//!
//! Invariants:
//! - nothing here is a part of what decides what somebody holds, but for taking something back: [`forget_unfounded`];
//! - what was approved under an eligible grant gives access while that one lets its holder ask for it, and not a moment longer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use access::grant::{Asker, Wanted, covers, fits, holds, may_ask};
use access::{MemberPermit, member_ops, ops};
use domain::{ActAs, Grant, GrantId, GroupId, Result, TenantId, Timestamp, UserId};

use crate::bulk::Batch;
use crate::db::{Tx, args};
use crate::destination::{self, DestinationRow};
use crate::grant::{self, COLUMNS, GrantRow, columns, live, live_columns, names};
use crate::known::{At, Known, know};
use crate::unit::{Read, enter};
use crate::{Page, Store, group, selector};

/// The eligible grants that name a user or one of these groups, and have not expired, in no order.
async fn of_user(
    tx: &mut Tx,
    (tenant, user): (TenantId, UserId),
    groups: impl Iterator<Item = GroupId>,
    now: Timestamp,
) -> Result<Vec<GrantRow>> {
    let alive = "(a.expires_at IS NULL OR a.expires_at > $2)";
    let own = format!("SELECT {COLUMNS} WHERE a.tenant_id = $1 AND {alive} AND a.may_user_id = $3");
    let rows = tx.rows_built(own, args![tenant, now, user]).await?;
    let mut found = rows.iter().map(grant::grant_row).collect::<Result<Vec<_>>>()?;
    let shared = concat!(
        "SELECT ",
        columns!(),
        " FROM (SELECT a.* FROM LOOKUP(access_grant a may_group_id) AND (a.expires_at IS NULL OR a.expires_at > $2)) a",
        names!()
    );
    let groups = Batch::new().uuid("may_group_id", groups.map(|id| id.as_uuid().as_u128()));
    tx.bulk_rows(&groups, shared, args![tenant, now], |row| grant::grant_row(row).map(|row| found.push(row))).await?;
    Ok(found)
}

/// Whether an eligible grant lets somebody ask for something at a place.
fn lets(base: &Grant, known: &Known, place: &DestinationRow, wanted: Wanted<'_>, now: Timestamp) -> bool {
    let groups: BTreeSet<GroupId> = known.groups.keys().copied().collect();
    let asker = Asker { user: known.user, groups: &groups, is_member: known.is_member };
    may_ask(base, asker, place.place(), wanted, now)
}

/// The eligible grant under which somebody asks for something; none: none covers it. Of several one that holds at this hour, for longest, the oldest.
pub(crate) async fn covering(
    tx: &mut Tx,
    (tenant, user): (TenantId, UserId),
    place: &DestinationRow,
    wanted: Wanted<'_>,
    now: Timestamp,
) -> Result<Option<GrantId>> {
    let known = know(tx, tenant, user, At::Place(place.id), now).await?;
    let all = of_user(tx, (tenant, user), known.groups.keys().copied(), now).await?;
    let fit = all.into_iter().filter(|row| lets(&row.grant, &known, place, wanted, now));
    Ok(fit.map(|row| (Reverse(holds(&row.grant, now)), row.grant.id)).min().map(|(_, id)| id))
}

/// The eligible grant that something was asked for under, if it lets ask for it still, with the names that it may lend.
pub(crate) async fn standing(
    tx: &mut Tx,
    (tenant, user): (TenantId, UserId),
    id: GrantId,
    place: &DestinationRow,
    wanted: Wanted<'_>,
    now: Timestamp,
) -> Result<Option<Grant>> {
    let known = know(tx, tenant, user, At::Place(place.id), now).await?;
    let Some(mut base) = of_ids(tx, tenant, [id].into_iter(), now).await?.remove(&id) else { return Ok(None) };
    if !lets(&base, &known, place, wanted, now) {
        return Ok(None);
    }
    let mut lent = ActAs::default();
    for name in base.act_as.users {
        if grant::is_nobody_elses(tx, tenant, &name).await? {
            lent.users.insert(name);
        }
    }
    for name in base.act_as.groups {
        match group::find(tx, tenant, name.as_str()).await {
            Ok(_) => drop(lent.groups.insert(name)),
            Err(domain::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // Kubernetes impersonates no group without a user.
    base.act_as = if lent.users.is_empty() { ActAs::default() } else { lent };
    Ok(Some(base))
}

/// Notes that something was approved under an eligible grant.
pub(crate) async fn used(tx: &mut Tx, tenant: TenantId, id: GrantId, now: Timestamp) -> Result<()> {
    let sql = "UPDATE access_grant SET last_used_at = $3 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, args![tenant, id, now]).await.map(drop)
}

/// Those of these grants that have not expired.
async fn of_ids(
    tx: &mut Tx,
    tenant: TenantId,
    ids: impl Iterator<Item = GrantId>,
    now: Timestamp,
) -> Result<HashMap<GrantId, Grant>> {
    let sql = concat!(
        "SELECT ",
        live_columns!(),
        " FROM LOOKUP(access_grant a id) AND (a.expires_at IS NULL OR a.expires_at > $2)"
    );
    let ids = Batch::new().uuid("id", ids.map(|id| id.as_uuid().as_u128()));
    let mut found = HashMap::new();
    tx.bulk_rows(&ids, sql, args![tenant, now], |row| {
        let grant = live(row)?;
        found.insert(grant.id, grant);
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Takes back what was approved under an eligible grant from whom that one does not let ask for it now: it was taken, it ended or says something else,
/// they are not in its group any more, or it does not select the place any more.
pub(crate) async fn forget_unfounded(
    tx: &mut Tx,
    tenant: TenantId,
    known: &mut BTreeMap<UserId, Known>,
    now: Timestamp,
) -> Result<()> {
    let resting = || known.values().flat_map(|one| &one.grants).filter(|live| live.rests_on.is_some());
    let ids: BTreeSet<GrantId> = resting().filter_map(|live| live.rests_on).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let named = |grant: &Grant| match grant.target {
        domain::Target::Destination(id) | domain::Target::Set { id, .. } => Some(id),
        domain::Target::Labels(_) => None,
    };
    let places: BTreeSet<_> = resting().filter_map(|live| named(&live.grant)).collect();
    let bases = of_ids(tx, tenant, ids.into_iter(), now).await?;
    let places = destination::of_ids(tx, tenant, places.into_iter()).await?;
    let places: HashMap<_, _> = places.into_iter().map(|row| (row.id, row)).collect();
    for one in known.values_mut() {
        let mut grants = std::mem::take(&mut one.grants);
        grants.retain_mut(|live| {
            let Some(id) = live.rests_on else { return true };
            let place = named(&live.grant).and_then(|id| places.get(&id));
            let (Some(base), Some(place)) = (bases.get(&id), place) else { return false };
            let grant = &live.grant;
            let wanted = Wanted { role: &grant.role, namespace: grant.namespace.as_ref() };
            let (has, may) = (&grant.act_as, &base.act_as);
            let says = base.hours == grant.hours
                && base.ssh == grant.ssh
                && has.users.is_subset(&may.users)
                && has.groups.is_subset(&may.groups);
            if !says || !lets(base, one, place, wanted, now) {
                return false;
            }
            let ends = [grant.expires_at, base.expires_at].into_iter().flatten().min();
            if ends != grant.expires_at {
                Arc::make_mut(live).grant.expires_at = ends;
            }
            true
        });
        one.grants = grants;
    }
    Ok(())
}

/// A page of grants, in the order of their ids.
fn page(mut all: Vec<GrantRow>, after: Option<GrantId>, limit: u32) -> Page<GrantRow, GrantId> {
    all.retain(|row| after.is_none_or(|after| row.grant.id > after));
    all.sort_unstable_by_key(|row| row.grant.id);
    all.truncate(usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1));
    Page::cut(all, limit, |row: &GrantRow| row.grant.id)
}

async fn asked_by(tx: &mut Tx, (tenant, user): (TenantId, UserId), now: Timestamp) -> Result<Vec<GrantRow>> {
    let known = know(tx, tenant, user, At::Places(&BTreeSet::new()), now).await?;
    let all = of_user(tx, (tenant, user), known.groups.keys().copied(), now).await?;
    Ok(if known.is_member { all } else { Vec::new() })
}

impl Store {
    /// The eligible grants by which the actor may ask for access, in the order of their ids.
    pub async fn eligible_list(
        &self,
        permit: MemberPermit<member_ops::EligibleList>,
        after: Option<GrantId>,
        limit: u32,
    ) -> Result<Page<GrantRow, GrantId>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        let all = asked_by(&mut tx, (permit.tenant(), permit.user()), self.clock().now()).await?;
        Ok(page(all, after, limit))
    }
}

impl Read<ops::AccessWhat> {
    /// The eligible grants by which a member, by login name or id, may ask for access, in the order of their ids.
    pub async fn eligible_what(
        &mut self,
        named: &str,
        after: Option<GrantId>,
        limit: u32,
    ) -> Result<Page<GrantRow, GrantId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let user = grant::member(&mut self.tx, tenant, named).await?;
        Ok(page(asked_by(&mut self.tx, (tenant, user), now).await?, after, limit))
    }
}

impl Read<ops::AccessWho> {
    /// The eligible grants by which access to a destination (by name or id), or to what of the graph is one (by its node), may be asked for, in the
    /// order of their ids.
    pub async fn eligible_who(
        &mut self,
        named: &str,
        after: Option<GrantId>,
        limit: u32,
    ) -> Result<Page<GrantRow, GrantId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let tx = &mut self.tx;
        let mut found: BTreeMap<GrantId, GrantRow> = BTreeMap::new();
        for place in crate::access_view::places(tx, tenant, named).await? {
            for row in selector::eligible_at(tx, tenant, &place, now).await? {
                if covers(&row.grant.target, place.place()) && fits(&row.grant, place.kind) {
                    found.insert(row.grant.id, row);
                }
            }
        }
        Ok(page(found.into_values().collect(), after, limit))
    }
}
