//! What is known of users as the decision sees them: their groups at this moment, and what is granted to them and to these groups. Eligible grants are
//! no part of it: they name nobody in the columns that are looked at here.
//!
//! However many users are asked about, the statements are as many; and what is read is what is theirs, not what the tenant has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use access::grant::{Asker, Held, Place, decide};
use domain::{
    ActName, DestinationId, DestinationRole, Grant, GrantId, GroupId, Result, Slug, Subject, TenantId, Timestamp,
    UserId,
};

use crate::bulk::Batch;
use crate::db::{Row, Tx, args};
use crate::destination::DestinationRow;
use crate::grant::{GrantOrigin, live, live_columns, rests_on};
use crate::{access_request, eligible, group};

/// A grant that has not expired.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) grant: Grant,
    /// When a token or a certificate rested on it last, to the hour.
    pub(crate) last_used_at: Option<Timestamp>,
    /// Whether glass was broken for it.
    is_glass: bool,
    /// The eligible grant that it was approved under.
    pub(crate) rests_on: Option<GrantId>,
}

/// A user as the decision sees them, with what is granted to them.
pub(crate) struct Known {
    pub(crate) user: UserId,
    pub(crate) email: String,
    pub(crate) is_member: bool,
    pub(crate) groups: BTreeMap<GroupId, Slug>,
    /// What was asked for: see [`At`].
    pub(crate) grants: Vec<Arc<Live>>,
}

impl Known {
    fn stranger(user: UserId) -> Self {
        Self { user, email: String::new(), is_member: false, groups: BTreeMap::new(), grants: Vec::new() }
    }

    /// Whether they are in all of these groups.
    pub(crate) fn is_in(&self, groups: &[Slug]) -> bool {
        groups.iter().all(|group| self.groups.values().any(|held| held == group))
    }

    /// What they reach at a place that they were asked about.
    pub(crate) fn reach(&self, place: &DestinationRow, now: Timestamp) -> BTreeMap<DestinationRole, Held> {
        self.reach_by(place.place(), self.grants.iter().map(|live| &live.grant), now)
    }

    /// The same by some of the grants.
    pub(crate) fn reach_by<'g>(
        &self,
        place: Place<'_>,
        grants: impl IntoIterator<Item = &'g Grant>,
        now: Timestamp,
    ) -> BTreeMap<DestinationRole, Held> {
        let groups: BTreeSet<GroupId> = self.groups.keys().copied().collect();
        decide(Asker { user: self.user, groups: &groups, is_member: self.is_member }, place, grants, now)
    }
}

/// Which of their grants are read. Those by labels always are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At<'a> {
    /// All of them.
    Everywhere,
    /// Those that name this destination.
    Place(DestinationId),
    /// Those that name one of these.
    Places(&'a BTreeSet<DestinationId>),
}

/// Most keys that are looked up in one statement on PostgreSQL too: among more than that a list of subjects and of places could come apart.
const KEYS_MAX: usize = 16_000;

/// The three queries of what is granted to subjects of one kind. The one for a place asks for those that name it, and for those by labels, each by
/// all columns of an index.
macro_rules! granted {
    ($subject:literal) => {
        [
            concat!(
                "SELECT ",
                live_columns!(),
                " FROM LOOKUP(access_grant a ",
                $subject,
                ") AND (a.expires_at IS NULL OR a.expires_at > $2)"
            ),
            concat!(
                "SELECT ",
                live_columns!(),
                " FROM v CROSS JOIN access_grant a WHERE a.tenant_id = $1 AND a.",
                $subject,
                " = v.",
                $subject,
                " AND a.destination_id = $3 AND (a.expires_at IS NULL OR a.expires_at > $2) UNION ALL SELECT ",
                live_columns!(),
                " FROM v CROSS JOIN access_grant a WHERE a.tenant_id = $1 AND a.",
                $subject,
                " = v.",
                $subject,
                " AND a.destination_id IS NULL AND (a.expires_at IS NULL OR a.expires_at > $2)"
            ),
            concat!(
                "SELECT ",
                live_columns!(),
                " FROM LOOKUP(access_grant a ",
                $subject,
                ") AND (a.expires_at IS NULL OR a.expires_at > $2) AND (a.destination_id IS NULL OR a.destination_id IN (SELECT ",
                $subject,
                " FROM v))"
            ),
        ]
    };
}

async fn granted(
    tx: &mut Tx,
    tenant: TenantId,
    (column, [everywhere, place, places]): (&'static str, [&'static str; 3]),
    subjects: Vec<u128>,
    (at, now): (At<'_>, Timestamp),
) -> Result<HashMap<Subject, Vec<Arc<Live>>>> {
    let mut found: HashMap<Subject, Vec<Arc<Live>>> = HashMap::new();
    let take = |row: &Row| {
        let grant = live(row)?;
        let of = found.entry(grant.subject).or_default();
        let is_glass = row.parse::<GrantOrigin>(12)? == GrantOrigin::Glass;
        of.push(Arc::new(Live { grant, last_used_at: row.opt_time(11)?, is_glass, rests_on: rests_on(row)? }));
        Ok(())
    };
    let batch = |keys: Vec<u128>| Batch::new().uuid(column, keys);
    match at {
        At::Place(id) => tx.bulk_rows(&batch(subjects), place, args![tenant, now, id], take).await?,
        At::Places(ids) if !subjects.is_empty() && subjects.len() + ids.len() <= KEYS_MAX => {
            let keys = subjects.into_iter().chain(ids.iter().map(|id| id.as_uuid().as_u128())).collect();
            tx.bulk_rows(&batch(keys), places, args![tenant, now], take).await?;
        }
        At::Everywhere | At::Places(_) => {
            tx.bulk_rows(&batch(subjects), everywhere, args![tenant, now], take).await?;
        }
    }
    Ok(found)
}

/// What is known of users in a tenant, whether they are members or not. Each of them is in the answer.
pub(crate) async fn know_all(
    tx: &mut Tx,
    tenant: TenantId,
    users: &BTreeSet<UserId>,
    at: At<'_>,
    now: Timestamp,
) -> Result<BTreeMap<UserId, Known>> {
    let mut known: BTreeMap<UserId, Known> = users.iter().map(|user| (*user, Known::stranger(*user))).collect();
    let keys = Batch::keys(users.iter().map(|user| user.as_uuid().as_u128()));
    let sql = "SELECT m.user_id, u.email FROM v CROSS JOIN member m CROSS JOIN app_user u CROSS JOIN tenant t \
               WHERE m.tenant_id = $1 AND m.user_id = v.key AND u.id = m.user_id AND u.disabled_at IS NULL \
               AND t.id = $1 AND t.deleted_at IS NULL";
    let mut members = BTreeSet::new();
    tx.bulk_rows(&keys, sql, args![tenant], |row| {
        let user = UserId::from_uuid(row.uuid(0)?);
        members.insert(user);
        known.insert(user, Known { email: row.text(1)?, is_member: true, ..Known::stranger(user) });
        Ok(())
    })
    .await?;
    let mut groups = group::of_users(tx, tenant, &members).await?;
    let subjects = members.iter().map(|user| user.as_uuid().as_u128()).collect();
    let own = granted(tx, tenant, ("user_id", granted!("user_id")), subjects, (at, now)).await?;
    let subjects: BTreeSet<u128> = groups.values().flat_map(BTreeMap::keys).map(|id| id.as_uuid().as_u128()).collect();
    let subjects = subjects.into_iter().collect();
    let shared = granted(tx, tenant, ("group_id", granted!("group_id")), subjects, (at, now)).await?;
    for user in &members {
        let Some(one) = known.get_mut(user) else { continue };
        one.groups = groups.remove(user).unwrap_or_default();
        let subjects = one.groups.keys().copied().map(Subject::Group).chain([Subject::User(*user)]);
        let theirs = subjects.filter_map(|subject| own.get(&subject).or(shared.get(&subject)));
        one.grants = theirs.flatten().cloned().collect();
        one.grants.sort_unstable_by_key(|live| live.grant.id);
    }
    forget_glass(tx, tenant, &mut known).await?;
    eligible::forget_unfounded(tx, tenant, &mut known, now).await?;
    forget_strangers(tx, tenant, &mut known).await?;
    Ok(known)
}

/// Takes back broken glass from who may not break it now: it rests on a place in the group that the tenant named, however that was lost.
async fn forget_glass(tx: &mut Tx, tenant: TenantId, known: &mut BTreeMap<UserId, Known>) -> Result<()> {
    if !known.values().any(|one| one.grants.iter().any(|live| live.is_glass)) {
        return Ok(());
    }
    let group = access_request::glass_group(tx, tenant).await?;
    for one in known.values_mut() {
        if group.is_none_or(|group| !one.groups.contains_key(&group)) {
            one.grants.retain(|live| !live.is_glass);
        }
    }
    Ok(())
}

/// What is known of one user.
pub(crate) async fn know(tx: &mut Tx, tenant: TenantId, user: UserId, at: At<'_>, now: Timestamp) -> Result<Known> {
    let mut known = know_all(tx, tenant, &BTreeSet::from([user]), at, now).await?;
    Ok(known.remove(&user).unwrap_or_else(|| Known::stranger(user)))
}

/// Takes back the names that are lent and are those of who is no member any more.
async fn forget_strangers(tx: &mut Tx, tenant: TenantId, known: &mut BTreeMap<UserId, Known>) -> Result<()> {
    let lending = |live: &&mut Arc<Live>| !live.grant.act_as.users.is_empty();
    let mut grants: Vec<&mut Arc<Live>> = known.values_mut().flat_map(|one| &mut one.grants).filter(lending).collect();
    let names = grants.iter().flat_map(|live| &live.grant.act_as.users).filter_map(ActName::email);
    let emails: BTreeSet<String> = names.map(|email| email.to_string()).collect();
    let mut here = HashSet::new();
    let sql = "SELECT u.email FROM v CROSS JOIN app_user u CROSS JOIN member m \
               WHERE u.email = v.email AND u.disabled_at IS NULL AND m.tenant_id = $1 AND m.user_id = u.id";
    let batch = Batch::new().text("email", emails.iter().map(String::as_str));
    tx.bulk_rows(&batch, sql, args![tenant], |row| {
        here.insert(row.text(0)?);
        Ok(())
    })
    .await?;
    let is_somebody_elses = |name: &ActName| name.email().is_some_and(|email| !here.contains(email.as_str()));
    for live in &mut grants {
        if live.grant.act_as.users.iter().any(is_somebody_elses) {
            Arc::make_mut(live).grant.act_as.users.retain(|name| !is_somebody_elses(name));
        }
    }
    Ok(())
}
