//! Who reaches what: what is stored, put before the decision of `access::grant`; destination tokens; and whether what an open connection rests on
//! still stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use access::grant::Held;
use access::ssh::{self, SshBounds, SshOffer, SshUse};
use access::{FleetPermit, MemberOperation, MemberPermit, fleet_ops, member_ops};
use domain::{
    AuditId, DestinationId, DestinationKind, DestinationRole, DestinationTokenId, Error, Lent, Result, SessionId, Slug,
    TenantId, Timestamp, UserId,
};
use serde_json::json;

use crate::audit::{self, Category, Change};
use crate::bulk::Batch;
use crate::db::{Tx, args};
use crate::destination::{self, DestinationRow};
use crate::known::{At, Known, know, know_all};
use crate::ssh_way::way_of;
use crate::unit::{enter, platform_tenant};
use crate::{Store, grant, host_set, ssh_access};

/// How long a destination token is good at most, in milliseconds.
const TOKEN_MS: i64 = 5 * 60_000;
/// Most names that one token lends: it is a header of each request.
const LENT_MAX: usize = 100;
/// Most bytes of the lists in a token, as JSON: with the rest of it and the signature it stays under what verifiers take
/// (`crypto::jwt::TOKEN_BYTES_MAX`).
const LISTS_BYTES_MAX: usize = 5_000;
/// How often whoever holds connections asks whether something changed: an end has to be noticed within two seconds.
const POLL: Duration = Duration::from_millis(400);

/// How many connections are judged with one set of statements.
const AT_ONCE: usize = 1_000;

/// A change of a member for themselves, with what it is made in.
pub(crate) struct MemberWrite<O> {
    pub(crate) tx: Tx,
    pub(crate) permit: MemberPermit<O>,
    pub(crate) store: Store,
}

impl Store {
    /// Begins a change under a member's permit.
    pub(crate) async fn member_write<O: MemberOperation>(&self, permit: MemberPermit<O>) -> Result<MemberWrite<O>> {
        let mut tx = self.db().write().await?;
        enter(&mut tx, permit.tenant()).await?;
        Ok(MemberWrite { tx, permit, store: self.clone() })
    }
}

impl<O: MemberOperation> MemberWrite<O> {
    /// Keeps the change together with its audit record.
    pub(crate) async fn commit(mut self, change: Change) -> Result<AuditId> {
        let tenant = self.permit.tenant();
        let id = audit::append(&mut self.tx, tenant, self.permit.ctx(), O::NAME, &change).await?;
        self.tx.commit().await?;
        self.store.say_log_grew(tenant);
        Ok(id)
    }
}

/// What a destination token is to say.
#[derive(Debug, Clone)]
pub struct DestinationTokenRow {
    /// Its id.
    pub id: DestinationTokenId,
    /// The destination.
    pub destination: DestinationRow,
    /// The user's login name.
    pub name: String,
    /// The user's groups, sorted.
    pub groups: Vec<Slug>,
    /// As what.
    pub role: DestinationRole,
    /// Only in these namespaces; none: everywhere.
    pub namespaces: Option<Vec<Slug>>,
    /// As whom else the user may act.
    pub act_as: Vec<Lent>,
    /// Of a host: where its relay takes users without the server between, and the authority to trust there.
    pub ssh_way: Option<(String, String)>,
    /// When it is issued, to the second.
    pub issued_at: Timestamp,
    /// Until when it is good, to the second.
    pub expires_at: Timestamp,
}

/// The role that is meant: the one that is named, or the only one.
fn choose(
    mut roles: BTreeMap<DestinationRole, Held>,
    named: Option<&DestinationRole>,
) -> Result<(DestinationRole, Held)> {
    let held = roles.keys().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(", ");
    if let Some(role) = named {
        return roles.remove_entry(role).ok_or_else(|| Error::Forbidden {
            message: format!("no grant gives you `{role}` there now: you hold {held}"),
        });
    }
    match roles.pop_first() {
        Some(only) if roles.is_empty() => Ok(only),
        Some(_) => Err(Error::invalid("role", format!("you hold {held} there: name one of them"))),
        None => Err(Error::NotFound { what: "destination" }),
    }
}

/// A destination that somebody reaches, and as what they asked to.
pub(crate) struct Chosen {
    pub(crate) destination: DestinationRow,
    pub(crate) known: Known,
    pub(crate) role: DestinationRole,
    pub(crate) held: Held,
}

/// The destination by its name or id, in the role that is meant. One that the user does not reach does not exist for them. Whoever asks is about to
/// use what they hold, which is noted.
pub(crate) async fn choose_of(
    tx: &mut Tx,
    (tenant, user): (TenantId, UserId),
    named: &str,
    role: Option<&DestinationRole>,
    now: Timestamp,
) -> Result<Chosen> {
    let destination = destination::find(tx, tenant, named).await?;
    let known = know(tx, tenant, user, At::Place(destination.id), now).await?;
    let roles = known.reach(&destination, now);
    if roles.is_empty() {
        return Err(Error::NotFound { what: "destination" });
    }
    if destination.kind == DestinationKind::Set {
        return Err(host_set::no_host(tx, tenant, &destination).await?);
    }
    let (role, held) = choose(roles, role)?;
    if destination.relay_ended {
        return Err(Error::conflict(format!(
            "the relay of `{}` was revoked: an administrator gives the destination to another one",
            destination.name
        )));
    }
    grant::used(tx, tenant, &known.grants, &held.grants, now).await?;
    Ok(Chosen { destination, known, role, held })
}

impl Store {
    /// What the next destination token of the actor says, recorded as issued. A destination that they do not reach does not exist for them.
    /// `session_ends`: a token never outlives its session.
    pub async fn destination_token_create(
        &self,
        permit: MemberPermit<member_ops::DestinationTokenCreate>,
        named: &str,
        role: Option<&DestinationRole>,
        session_ends: Timestamp,
    ) -> Result<DestinationTokenRow> {
        let (tenant, user, now) = (permit.tenant(), permit.user(), self.clock().now());
        let mut unit = self.member_write(permit).await?;
        let Chosen { destination, known, role, held } =
            choose_of(&mut unit.tx, (tenant, user), named, role, now).await?;
        let ends = [Some(now.plus_millis(TOKEN_MS)), held.until, Some(session_ends)].into_iter().flatten().min();
        let second = |at: Timestamp| Timestamp::from_millis(at.as_seconds().saturating_mul(1_000));
        let (issued_at, expires_at) = (second(now), ends.map_or(now, second));
        if expires_at <= now {
            return Err(Error::conflict("this access ends within a second: ask for more"));
        }
        let names = held.lent.iter().map(|lent| lent.act_as.users.len() + lent.act_as.groups.len());
        if names.sum::<usize>() > LENT_MAX {
            return Err(Error::conflict(format!(
                "`{role}` lends you more than {LENT_MAX} names there: an administrator takes some of these grants"
            )));
        }
        let groups: Vec<Slug> = known.groups.into_values().collect::<BTreeSet<_>>().into_iter().collect();
        let namespaces: Option<Vec<Slug>> = held.namespaces.map(|names| names.into_iter().collect());
        let bytes = json!([groups, namespaces, held.lent]).to_string().len();
        if bytes > LISTS_BYTES_MAX {
            return Err(Error::conflict(format!(
                "your {} groups, and what you hold as `{role}` there, do not fit into a token ({bytes} of {LISTS_BYTES_MAX} bytes): an \
                 administrator takes you out of some groups, or grants it in fewer namespaces or in the whole cluster",
                groups.len()
            )));
        }
        let ssh_way = match destination.relay.filter(|_| destination.kind == DestinationKind::Ssh) {
            Some(relay) => way_of(&mut unit.tx, tenant, relay, now).await?,
            None => None,
        };
        let token = DestinationTokenRow {
            id: DestinationTokenId::generate(&**self.clock(), &**self.rng()),
            name: known.email,
            groups,
            namespaces,
            act_as: held.lent.into_iter().collect(),
            ssh_way,
            // A token counts from whole seconds: it is never good for longer than it says.
            issued_at,
            expires_at: expires_at.min(issued_at.plus_millis(TOKEN_MS)),
            destination,
            role,
        };
        let detail = json!({
            "name": token.destination.name, "role": token.role, "namespaces": token.namespaces, "token": token.id,
            "session": unit.permit.session(), "expires_at": token.expires_at, "grants": held.grants,
            "act_as": (!token.act_as.is_empty()).then_some(&token.act_as),
        });
        let change = Change::to(Category::Access, "destination", token.destination.id).detail(detail);
        unit.commit(change).await?;
        Ok(token)
    }
}

/// What an open connection through Cairn rests on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: UserId,
    /// The login name that they came with, which a cluster knows them by; none: nobody says.
    pub name: Option<String>,
    /// The session that the token came from.
    pub session: SessionId,
    /// Where to.
    pub destination: DestinationId,
    /// As what.
    pub role: DestinationRole,
    /// Only in these namespaces; none: everywhere.
    pub namespaces: Option<Vec<Slug>>,
    /// As whom else the user may act.
    pub act_as: Vec<Lent>,
    /// The user's groups that the destination was told of.
    pub groups: Vec<Slug>,
    /// At a host: what it is used for.
    pub ssh: SshUse,
}

impl Standing {
    /// Whether what is held covers all that this rests on.
    fn is_covered_by(&self, held: &Held) -> bool {
        let reaches = match (&held.namespaces, &self.namespaces) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(held), Some(used)) => used.iter().all(|name| held.contains(name)),
        };
        reaches && self.act_as.iter().all(|used| held.lent.iter().any(|lent| lent.covers(used)))
    }

    /// Until when what is held covers it; the end of time: for good. None: it does not, or not any more.
    fn lasts(&self, held: &Held, bounds: Option<&SshBounds>) -> Option<Timestamp> {
        if !self.is_covered_by(held) {
            return None;
        }
        match bounds {
            None => Some(held.until.unwrap_or(Timestamp::from_millis(i64::MAX))),
            Some(bounds) => ssh::stands(held, bounds, &self.ssh),
        }
    }
}

/// What grants give at a host to who comes from there in a role; none: nothing.
pub(crate) async fn ssh_offer(
    tx: &mut Tx,
    of: &Standing,
    place: &DestinationRow,
    bounds: &SshBounds,
    now: Timestamp,
) -> Result<Option<SshOffer>> {
    let mut roles = know(tx, of.tenant, of.user, At::Place(place.id), now).await?.reach(place, now);
    Ok(roles.remove(&of.role).and_then(|held| ssh::connection(&held, bounds, of.ssh.from)))
}

/// A destination, and of a host its bounds.
type Reachable = (DestinationRow, Option<SshBounds>);

/// Those of the destinations that can be reached.
async fn places_of(
    tx: &mut Tx,
    tenant: TenantId,
    ids: &BTreeSet<DestinationId>,
) -> Result<BTreeMap<DestinationId, Reachable>> {
    let rows = destination::of_ids(tx, tenant, ids.iter().copied()).await?;
    let is_reached = |row: &DestinationRow| !row.relay_ended && row.kind != DestinationKind::Set;
    let rows: Vec<DestinationRow> = rows.into_iter().filter(is_reached).collect();
    let hosts = rows.iter().filter(|row| row.kind == DestinationKind::Ssh).map(|row| row.id);
    let mut bounds = ssh_access::bounds_of(tx, tenant, hosts).await?;
    let reachable = |row: DestinationRow| {
        let bounds = (row.kind == DestinationKind::Ssh).then(|| bounds.remove(&row.id).unwrap_or_default());
        (row.id, (row, bounds))
    };
    Ok(rows.into_iter().map(reachable).collect())
}

/// Until when each of these sessions stands, with whose it is; which is not here does not.
async fn sessions_of(
    tx: &mut Tx,
    ids: impl Iterator<Item = SessionId>,
    now: Timestamp,
) -> Result<BTreeMap<SessionId, (UserId, Timestamp)>> {
    let sql = "SELECT s.id, s.user_id, s.expires_at, s.last_used_at + s.idle_ms FROM v CROSS JOIN session s CROSS JOIN app_user u \
               WHERE s.id = v.key AND u.id = s.user_id AND s.revoked_at IS NULL AND u.disabled_at IS NULL";
    let ids: BTreeSet<u128> = ids.map(|id| id.as_uuid().as_u128()).collect();
    let mut found = BTreeMap::new();
    tx.bulk_rows(&Batch::keys(ids), sql, args![], |row| {
        let ends = row.time(2)?.min(row.time(3)?);
        if ends > now {
            found.insert(SessionId::from_uuid(row.uuid(0)?), (UserId::from_uuid(row.uuid(1)?), ends));
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Until when each of these stands, all of one tenant.
async fn standing_in(
    tx: &mut Tx,
    tenant: TenantId,
    standings: &[&Standing],
    now: Timestamp,
) -> Result<Vec<Option<Timestamp>>> {
    enter(tx, tenant).await?;
    let users = standings.iter().map(|standing| standing.user).collect();
    let places: BTreeSet<DestinationId> = standings.iter().map(|standing| standing.destination).collect();
    let at = match places.first() {
        Some(only) if places.len() == 1 => At::Place(*only),
        _ => At::Places(&places),
    };
    let known = know_all(tx, tenant, &users, at, now).await?;
    let reachable = places_of(tx, tenant, &places).await?;
    let sessions = sessions_of(tx, standings.iter().map(|standing| standing.session), now).await?;
    let until = |standing: &&Standing| {
        let known = known.get(&standing.user).filter(|known| known.is_in(&standing.groups))?;
        // Who is called otherwise now is somebody else to the cluster, with whatever is bound to the name of before.
        if standing.name.as_ref().is_some_and(|name| *name != known.email) {
            return None;
        }
        let (place, bounds) = reachable.get(&standing.destination)?;
        let held = known.reach(place, now).remove(&standing.role)?;
        let lasts = standing.lasts(&held, bounds.as_ref())?;
        let (_, ends) = sessions.get(&standing.session).filter(|(user, _)| *user == standing.user)?;
        Some(lasts.min(*ends))
    };
    Ok(standings.iter().map(until).collect())
}

impl Store {
    /// Says no to who holds a role at a host, but not from where they come.
    pub(crate) async fn ssh_from(&self, of: &Standing) -> Result<()> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, of.tenant).await?;
        let place = match destination::show(&mut tx, of.tenant, of.destination).await {
            Ok(place) if place.kind == DestinationKind::Ssh => place,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let bounds = ssh_access::bounds(&mut tx, of.tenant, place.id).await?;
        let now = self.clock().now();
        let held = know(&mut tx, of.tenant, of.user, At::Place(place.id), now).await?.reach(&place, now);
        let Some(held) = held.get(&of.role) else { return Ok(()) };
        if ssh::connection(held, &bounds, of.ssh.from).is_some() {
            return Ok(());
        }
        let from = of.ssh.from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
        Err(Error::conflict(format!(
            "you come from {from}, and reach `{}` as `{}` from other networks only: go there, or ask an administrator",
            place.name, of.role
        )))
    }

    /// Until when each of these stands if nothing changes, not included; none: it does not stand, or not any more. One answer for each, in
    /// their order. Looking is not using: a connection that is open does not keep its session alive.
    pub async fn standing_until(&self, standings: &[Standing]) -> Result<Vec<Option<Timestamp>>> {
        let now = self.clock().now();
        let mut by_tenant: BTreeMap<TenantId, Vec<(usize, &Standing)>> = BTreeMap::new();
        for (at, standing) in standings.iter().enumerate() {
            by_tenant.entry(standing.tenant).or_default().push((at, standing));
        }
        let mut answers = vec![None; standings.len()];
        let mut tx = self.db().read().await?;
        for (tenant, asked) in by_tenant {
            for asked in asked.chunks(AT_ONCE) {
                let theirs: Vec<&Standing> = asked.iter().map(|(_, standing)| *standing).collect();
                let until = standing_in(&mut tx, tenant, &theirs, now).await?;
                for ((at, _), until) in asked.iter().zip(until) {
                    if let Some(answer) = answers.get_mut(*at) {
                        *answer = until;
                    }
                }
            }
        }
        Ok(answers)
    }

    /// The same for a relay, about its own destinations only: another one's does not stand.
    pub async fn access_check(
        &self,
        permit: FleetPermit<fleet_ops::AccessCheck>,
        standings: &[Standing],
    ) -> Result<Vec<Option<Timestamp>>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        let rows = tx
            .rows(
                "SELECT id FROM destination WHERE tenant_id = $1 AND relay_id = $2",
                args![permit.tenant(), permit.id().as_uuid()],
            )
            .await?;
        let own = rows.iter().map(|row| row.uuid(0).map(DestinationId::from_uuid)).collect::<Result<BTreeSet<_>>>()?;
        drop(tx);
        let is_own = |standing: &Standing| standing.tenant == permit.tenant() && own.contains(&standing.destination);
        let asked: Vec<_> = standings.iter().filter(|standing| is_own(standing)).cloned().collect();
        let mut found = self.standing_until(&asked).await?.into_iter();
        Ok(standings.iter().map(|standing| if is_own(standing) { found.next().flatten() } else { None }).collect())
    }

    /// Notices that something may have changed for those who hold connections in some tenants, on whichever server it was decided.
    pub fn access_changes(&self) -> AccessChanges {
        AccessChanges { store: self.clone(), sizes: BTreeMap::new(), grown: self.log_growth() }
    }
}

/// What a change that takes access away always leaves behind: a record in the log of the tenant, or of the platform. So the logs' sizes say
/// whether something changed, without a second list of what may.
pub struct AccessChanges {
    store: Store,
    sizes: BTreeMap<TenantId, i64>,
    grown: tokio::sync::watch::Receiver<u64>,
}

impl AccessChanges {
    /// Returns the tenants of these whose connections are to be judged anew: at once where this server decided, within half a second where
    /// another one did. Tenants that were not asked about the last time are among them.
    pub async fn next(&mut self, tenants: &BTreeSet<TenantId>) -> BTreeSet<TenantId> {
        loop {
            match self.look(tenants).await {
                Ok(changed) if !changed.is_empty() => return changed,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "whether access changed cannot be asked now"),
            }
            let _ = tokio::time::timeout(POLL, self.grown.changed()).await;
        }
    }

    async fn look(&mut self, tenants: &BTreeSet<TenantId>) -> Result<BTreeSet<TenantId>> {
        if tenants.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut changed = BTreeSet::new();
        let mut tx = self.store.db().read().await?;
        let mut sizes = BTreeMap::new();
        for tenant in tenants.iter().copied().chain([platform_tenant()]) {
            enter(&mut tx, tenant).await?;
            let row = tx.row("SELECT size FROM audit_head WHERE tenant_id = $1", args![tenant]).await?;
            let size = row.map_or(Ok(0), |row| row.i64(0))?;
            if self.sizes.get(&tenant) != Some(&size) {
                changed.insert(tenant);
            }
            sizes.insert(tenant, size);
        }
        self.sizes = sizes;
        // What the platform decides (an account, a provider) concerns every tenant.
        Ok(if changed.contains(&platform_tenant()) { tenants.clone() } else { changed })
    }
}
