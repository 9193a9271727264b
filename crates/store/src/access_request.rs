//! Access that is asked for and approved by somebody else, and broken glass: access that somebody takes in an emergency, with an alarm.

use std::collections::BTreeSet;

use access::grant::Wanted;
use access::{Actor, MemberPermit, member_ops, ops};
use domain::{
    AccessRequestId, DestinationId, DestinationRole, Error, GrantId, GroupId, Result, Slug, TenantId, Timestamp, UserId,
};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::condition::{self, Versioned as _};
use crate::db::{Row, Tx, args};
use crate::grant::{self, Beside, GrantOrigin, GrantRow, NewGrant, SubjectName, TargetName};
use crate::known::{At, know};
use crate::unit::{Read, Write, enter};
use crate::{Page, Store, destination, eligible, group};

/// How long a request waits for an answer, in milliseconds.
const WAITS_MS: i64 = 24 * 3_600_000;
/// Most requests of one user that wait.
const WAITING_MAX: i64 = 20;
/// What a tenant without a policy allows to ask for, in milliseconds.
const REQUEST_MS: i64 = 12 * 3_600_000;

/// What a tenant says about access that is not simply granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPolicy {
    /// The longest time that may be asked for, in milliseconds.
    pub request_ms_max: i64,
    /// Whether only what an eligible grant covers may be asked for; else anything.
    pub eligible_only: bool,
    /// Who may break glass, and for how long; none: nobody.
    pub glass: Option<GlassPolicy>,
}

/// Who may break glass, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlassPolicy {
    /// The group's name.
    pub group: Slug,
    /// The longest time, in milliseconds.
    pub ms_max: i64,
}

/// Whether a request waits, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// It waits.
    Pending,
    /// It was approved.
    Approved,
    /// It was denied.
    Denied,
    /// Who asked took it back.
    Withdrawn,
    /// Nobody answered in time.
    Expired,
}

impl RequestState {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct RequestRow {
    /// Its id.
    pub id: AccessRequestId,
    /// Who asks.
    pub user: UserId,
    /// Their login name.
    pub email: String,
    /// Where to.
    pub destination: DestinationId,
    /// Its name.
    pub destination_name: String,
    /// As what.
    pub role: DestinationRole,
    /// Only in this namespace.
    pub namespace: Option<Slug>,
    /// For how long from the approval, in milliseconds.
    pub duration_ms: i64,
    /// Why.
    pub reason: String,
    /// What became of it.
    pub state: RequestState,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when it waits.
    pub closes_at: Timestamp,
    /// When it was answered.
    pub decided_at: Option<Timestamp>,
    /// By whom.
    pub decided_by: Option<String>,
    /// With what words.
    pub answer: Option<String>,
    /// What was granted.
    pub grant: Option<GrantId>,
    /// The eligible grant that it was asked for under, all of whose limits what is granted keeps; none: none covered it.
    pub eligible: Option<GrantId>,
}

/// What is asked for, or taken.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Where to, by name or id.
    pub destination: String,
    /// As what.
    pub role: DestinationRole,
    /// Only in this namespace.
    pub namespace: Option<Slug>,
    /// For how long, in milliseconds.
    pub duration_ms: i64,
    /// Why.
    pub reason: String,
}

const COLUMNS: &str = "q.id, q.user_id, u.email, q.destination_id, d.name, q.role, q.namespace, q.duration_ms, q.reason, q.state, q.created_at, \
     q.closes_at, q.decided_at, q.decided_by, q.answer, q.grant_id, q.eligible_id FROM access_request q JOIN app_user u ON u.id = q.user_id \
     JOIN destination d ON d.tenant_id = q.tenant_id AND d.id = q.destination_id";

fn request_row(row: &Row, now: Timestamp) -> Result<RequestRow> {
    let closes_at = row.time(11)?;
    let state = match row.text(9)?.as_str() {
        "pending" if closes_at <= now => RequestState::Expired,
        "pending" => RequestState::Pending,
        "approved" => RequestState::Approved,
        "denied" => RequestState::Denied,
        "withdrawn" => RequestState::Withdrawn,
        _ => return Err(Error::internal("a request's state")),
    };
    let namespace = row.opt_text(6)?.map(|text| text.parse()).transpose();
    Ok(RequestRow {
        id: AccessRequestId::from_uuid(row.uuid(0)?),
        user: UserId::from_uuid(row.uuid(1)?),
        email: row.text(2)?,
        destination: DestinationId::from_uuid(row.uuid(3)?),
        destination_name: row.text(4)?,
        role: row.parse(5)?,
        namespace: namespace.map_err(|_| Error::internal("a request's namespace"))?,
        duration_ms: row.i64(7)?,
        reason: row.text(8)?,
        state,
        created_at: row.time(10)?,
        closes_at,
        decided_at: row.opt_time(12)?,
        decided_by: row.opt_text(13)?,
        answer: row.opt_text(14)?,
        grant: row.opt_uuid(15)?.map(GrantId::from_uuid),
        eligible: row.opt_uuid(16)?.map(GrantId::from_uuid),
    })
}

async fn show(tx: &mut Tx, tenant: TenantId, id: AccessRequestId, now: Timestamp) -> Result<RequestRow> {
    let sql = format!("SELECT {COLUMNS} WHERE q.tenant_id = $1 AND q.id = $2");
    let rows = tx.rows_built(sql, args![tenant, id]).await?;
    request_row(rows.first().ok_or(Error::NotFound { what: "access request" })?, now)
}

/// The group whose members may break glass.
pub(crate) async fn glass_group(tx: &mut Tx, tenant: TenantId) -> Result<Option<GroupId>> {
    let row = tx.row("SELECT glass_group_id FROM access_policy WHERE tenant_id = $1", args![tenant]).await?;
    Ok(row.map(|row| row.opt_uuid(0)).transpose()?.flatten().map(GroupId::from_uuid))
}

pub(crate) async fn policy(tx: &mut Tx, tenant: TenantId) -> Result<AccessPolicy> {
    let row = tx
        .row(
            "SELECT p.request_ms_max, g.name, p.glass_ms_max, p.eligible_only FROM access_policy p \
             LEFT JOIN access_group g ON g.tenant_id = p.tenant_id AND g.id = p.glass_group_id WHERE p.tenant_id = $1",
            args![tenant],
        )
        .await?;
    let Some(row) = row else {
        return Ok(AccessPolicy { request_ms_max: REQUEST_MS, eligible_only: false, glass: None });
    };
    let group = row.opt_text(1)?.map(|name| name.parse()).transpose().map_err(|_| Error::internal("a group's name"))?;
    let ms_max = row.i64(2)?;
    let glass = group.map(|group| GlassPolicy { group, ms_max });
    Ok(AccessPolicy { request_ms_max: row.i64(0)?, eligible_only: row.bool(3)?, glass })
}

/// What is said to who may not break glass: nothing of who may, or whether anybody does.
pub const NO_GLASS: &str = "this tenant does not let you break glass: ask for access instead";

/// What the tenant's policy lets this user do about glass, at this moment.
async fn glass_of(tx: &mut Tx, tenant: TenantId, user: UserId) -> Result<Option<GlassPolicy>> {
    let groups = group::of_user(tx, tenant, user).await?;
    let allowed = policy(tx, tenant).await?.glass;
    Ok(allowed.filter(|glass| groups.values().any(|name| *name == glass.group)))
}

/// Closes a request that waits; whether it did: of two answers at once, one counts.
async fn close(
    tx: &mut Tx,
    (tenant, id, now): (TenantId, AccessRequestId, Timestamp),
    state: RequestState,
    (by, answer): (&str, Option<&str>),
) -> Result<()> {
    let closed = tx
        .execute(
            "UPDATE access_request SET state = $3, decided_at = $4, decided_by = $5, answer = $6 \
             WHERE tenant_id = $1 AND id = $2 AND state = 'pending' AND closes_at > $4",
            args![tenant, id, state.as_str(), now, by, answer.map(str::to_owned)],
        )
        .await?;
    if closed == 0 {
        Err(Error::conflict("the request waits no longer: it was answered, taken back, or too late"))
    } else {
        Ok(())
    }
}

fn told(row: &RequestRow) -> serde_json::Value {
    json!({
        "user": row.user, "destination": row.destination_name, "role": row.role, "namespace": row.namespace, "duration_ms": row.duration_ms,
        "reason": row.reason, "answer": row.answer, "grant": row.grant, "eligible": row.eligible,
    })
}

fn too_long(max_ms: i64) -> Error {
    Error::invalid("duration_s", format!("the longest that this tenant allows is {} s", max_ms / 1_000))
}

/// What a tenant says that lets nobody ask but by an eligible grant. Whether there is such a destination it does not tell.
fn not_eligible(new: &NewRequest) -> Error {
    let namespace = new.namespace.as_ref().map_or_else(String::new, |name| format!(" in `{name}`"));
    let message = format!(
        "this tenant lets you ask only for what an eligible grant of yours covers, and none covers `{}`{namespace} at `{}` (`cairn requests eligible` \
         lists yours): ask an administrator for one",
        new.role,
        new.destination.escape_debug()
    );
    Error::Forbidden { message }
}

impl Store {
    /// Asks for access for the actor: under an eligible grant where one covers it, and else where the tenant lets people ask for anything.
    pub async fn access_request_create(
        &self,
        permit: MemberPermit<member_ops::AccessRequestCreate>,
        new: &NewRequest,
    ) -> Result<RequestRow> {
        let (tenant, user, now) = (permit.tenant(), permit.user(), self.clock().now());
        let mut unit = self.member_write(permit).await?;
        let AccessPolicy { request_ms_max: max_ms, eligible_only, .. } = policy(&mut unit.tx, tenant).await?;
        let to = match destination::find(&mut unit.tx, tenant, &new.destination).await {
            Ok(to) => Some(to),
            Err(Error::NotFound { .. }) if eligible_only => None,
            Err(error) => return Err(error),
        };
        let wanted = Wanted { role: &new.role, namespace: new.namespace.as_ref() };
        let eligible = match &to {
            Some(to) => eligible::covering(&mut unit.tx, (tenant, user), to, wanted, now).await?,
            None => None,
        };
        let Some(to) = to.filter(|_| eligible.is_some() || !eligible_only) else {
            let ctx = unit.permit.ctx().clone();
            drop(unit);
            let detail = json!({
                "destination": new.destination, "role": new.role, "namespace": new.namespace, "reason": new.reason,
                "duration_ms": new.duration_ms,
            });
            let change = Change::to(Category::Access, "destination", &new.destination);
            let change = change.outcome(crate::Outcome::Deny).detail(detail);
            self.record(&ctx, Some(tenant), "access_request_create", &change).await?;
            return Err(not_eligible(new));
        };
        grant::check_role(&new.role, new.namespace.as_ref(), Some(&to))?;
        if new.duration_ms > max_ms {
            return Err(too_long(max_ms));
        }
        let waiting = "SELECT COUNT(*) FROM access_request WHERE tenant_id = $1 AND user_id = $2 AND state = 'pending' AND closes_at > $3";
        let waiting = unit.tx.row(waiting, args![tenant, user, now]).await?;
        if waiting.map_or(Ok(0), |row| row.i64(0))? >= WAITING_MAX {
            return Err(Error::conflict(format!(
                "{WAITING_MAX} of your requests wait already: withdraw those that you do not need"
            )));
        }
        let id = AccessRequestId::generate(&**self.clock(), &**self.rng());
        unit.tx
            .execute(
                "INSERT INTO access_request (tenant_id, id, user_id, destination_id, role, namespace, duration_ms, reason, state, created_at, \
                 closes_at, eligible_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', $9, $10, $11)",
                args![
                    tenant,
                    id,
                    user,
                    to.id,
                    new.role.as_str(),
                    new.namespace.as_ref().map(ToString::to_string),
                    new.duration_ms,
                    new.reason.as_str(),
                    now,
                    now.plus_millis(WAITS_MS),
                    eligible.map(|id| id.as_uuid())
                ],
            )
            .await?;
        let row = show(&mut unit.tx, tenant, id, now).await?;
        unit.commit(Change::to(Category::Access, "access-request", id).detail(told(&row))).await?;
        Ok(row)
    }

    /// The actor's own requests, the newest first.
    pub async fn access_request_mine(
        &self,
        permit: MemberPermit<member_ops::AccessRequestMine>,
        before: Option<AccessRequestId>,
        limit: u32,
    ) -> Result<Page<RequestRow, AccessRequestId>> {
        let (tenant, now) = (permit.tenant(), self.clock().now());
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let sql = format!(
            "SELECT {COLUMNS} WHERE q.tenant_id = $1 AND q.user_id = $2 AND q.id < $3 ORDER BY q.id DESC LIMIT $4"
        );
        let before = before.map_or(uuid::Uuid::max(), |id| id.as_uuid());
        let rows = tx.rows_built(sql, args![tenant, permit.user(), before, i64::from(limit) + 1]).await?;
        let items = rows.iter().map(|row| request_row(row, now)).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &RequestRow| row.id))
    }

    /// Takes back a request of the actor's own that waits.
    pub async fn access_request_withdraw(
        &self,
        permit: MemberPermit<member_ops::AccessRequestWithdraw>,
        id: AccessRequestId,
    ) -> Result<()> {
        let (tenant, user, now) = (permit.tenant(), permit.user(), self.clock().now());
        let mut unit = self.member_write(permit).await?;
        let row = show(&mut unit.tx, tenant, id, now).await?;
        if row.user != user {
            return Err(Error::NotFound { what: "access request" });
        }
        close(&mut unit.tx, (tenant, id, now), RequestState::Withdrawn, (&user.to_string(), None)).await?;
        unit.commit(Change::to(Category::Access, "access-request", id).detail(told(&row))).await.map(drop)
    }

    /// For how long the actor may break glass at the most, in milliseconds; `None`: not at all.
    pub async fn glass_show(&self, permit: MemberPermit<member_ops::GlassShow>) -> Result<Option<i64>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        Ok(glass_of(&mut tx, permit.tenant(), permit.user()).await?.map(|glass| glass.ms_max))
    }

    /// Takes access at once and without approval, for a short time, where the tenant lets the actor do so. It is an alarm.
    pub async fn glass_break(
        &self,
        permit: MemberPermit<member_ops::GlassBreak>,
        new: &NewRequest,
    ) -> Result<GrantRow> {
        let (tenant, user, now) = (permit.tenant(), permit.user(), self.clock().now());
        let by = permit.ctx().actor().to_string();
        let mut unit = self.member_write(permit).await?;
        // Before anything is looked for: who may not is told nothing, and is on the record whatever they named.
        let Some(allowed) = glass_of(&mut unit.tx, tenant, user).await? else {
            let change = Change::to(Category::Access, "destination", &new.destination)
                .outcome(crate::Outcome::Deny)
                .detail(show_refusal(new));
            let ctx = unit.permit.ctx().clone();
            drop(unit);
            self.record(&ctx, Some(tenant), "glass_break", &change).await?;
            return Err(Error::Forbidden { message: format!("{NO_GLASS} (`cairn requests create`)") });
        };
        let to = destination::find(&mut unit.tx, tenant, &new.destination).await?;
        if new.duration_ms > allowed.ms_max {
            return Err(too_long(allowed.ms_max));
        }
        let grant = NewGrant {
            subject: SubjectName::User(user.to_string()),
            role: new.role.clone(),
            target: TargetName::Destination(to.id.to_string()),
            namespace: new.namespace.clone(),
            hours: None,
            expires_at: Some(now.plus_millis(new.duration_ms)),
            act_as: domain::ActAs::default(),
            ssh: domain::SshTerms::default(),
            reason: new.reason.clone(),
            approval: false,
        };
        // Beside any other grant, but not beside another broken glass for the same.
        let unique = Beside { unique: Some("break-glass".to_owned()), rests_on: None };
        grant::room(&mut unit.tx, self, tenant, 1).await?;
        let row = grant::insert(&mut unit.tx, self, (tenant, &by), &grant, GrantOrigin::Glass, unique).await?;
        let mut detail = grant::told(&row);
        if let Some(members) = detail.as_object_mut() {
            members.insert("alarm".to_owned(), true.into());
        }
        unit.commit(Change::to(Category::Access, "grant", row.grant.id).detail(detail)).await?;
        Ok(row)
    }
}

fn show_refusal(new: &NewRequest) -> serde_json::Value {
    json!({"alarm": true, "destination": new.destination, "role": new.role, "namespace": new.namespace, "reason": new.reason})
}

impl Read<ops::AccessRequestList> {
    /// The tenant's requests, the newest first; only those that wait, or all.
    pub async fn access_request_list(
        &mut self,
        only_pending: bool,
        before: Option<AccessRequestId>,
        limit: u32,
    ) -> Result<Page<RequestRow, AccessRequestId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let sql = format!(
            "SELECT {COLUMNS} WHERE q.tenant_id = $1 AND q.id < $2 AND (NOT $3 OR (q.state = 'pending' AND q.closes_at > $4)) \
             ORDER BY q.id DESC LIMIT $5"
        );
        let before = before.map_or(uuid::Uuid::max(), |id| id.as_uuid());
        let rows = self.tx.rows_built(sql, args![tenant, before, only_pending, now, i64::from(limit) + 1]).await?;
        let items = rows.iter().map(|row| request_row(row, now)).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &RequestRow| row.id))
    }

    /// One of them.
    pub async fn access_request_show(&mut self, id: AccessRequestId) -> Result<RequestRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        show(&mut self.tx, tenant, id, now).await
    }
}

impl Write<ops::AccessRequestApprove> {
    /// The eligible grant that a request was made under, as it is now; none where it was made under none.
    async fn eligible(&mut self, row: &RequestRow, only: bool, now: Timestamp) -> Result<Option<domain::Grant>> {
        let Some(id) = row.eligible else {
            let why = "the tenant lets people ask only for what an eligible grant covers since this was asked: deny it, or grant it by hand";
            return if only { Err(Error::conflict(why)) } else { Ok(None) };
        };
        let tenant = self.tenant();
        let place = destination::show(&mut self.tx, tenant, row.destination).await?;
        let wanted = Wanted { role: &row.role, namespace: row.namespace.as_ref() };
        let base = eligible::standing(&mut self.tx, (tenant, row.user), id, &place, wanted, now).await?;
        let gone = || {
            Error::conflict(
                "the eligible grant that this was asked for under lets them ask no more: deny it, and they ask again",
            )
        };
        base.map(Some).ok_or_else(gone)
    }

    /// Grants what was asked for, from now on for as long as was asked. Somebody else than the asker does, and a person: a key of the asker's
    /// own would be the asker.
    pub async fn access_request_approve(mut self, id: AccessRequestId, answer: Option<&str>) -> Result<RequestRow> {
        let (tenant, now, store) = (self.tenant(), self.store.clock().now(), self.store.clone());
        let row = show(&mut self.tx, tenant, id, now).await?;
        let Actor::User { id: by, .. } = self.permit.ctx().actor() else {
            return Err(Error::Forbidden { message: "a request is approved by a person: sign in".to_owned() });
        };
        if *by == row.user {
            return Err(Error::Forbidden {
                message: "nobody approves their own request: ask somebody else".to_owned(),
            });
        }
        // The tenant may allow less since it was asked.
        let AccessPolicy { request_ms_max: max_ms, eligible_only, .. } = policy(&mut self.tx, tenant).await?;
        if row.duration_ms > max_ms {
            return Err(too_long(max_ms));
        }
        let by = by.to_string();
        let base = self.eligible(&row, eligible_only, now).await?;
        let ends = [Some(now.plus_millis(row.duration_ms)), base.as_ref().and_then(|base| base.expires_at)];
        close(&mut self.tx, (tenant, id, now), RequestState::Approved, (&by, answer)).await?;
        let grant = NewGrant {
            subject: SubjectName::User(row.user.to_string()),
            role: row.role.clone(),
            target: TargetName::Destination(row.destination.to_string()),
            namespace: row.namespace.clone(),
            hours: base.as_ref().and_then(|base| base.hours.clone()),
            expires_at: ends.into_iter().flatten().min(),
            act_as: base.as_ref().map(|base| base.act_as.clone()).unwrap_or_default(),
            ssh: base.map(|base| base.ssh).unwrap_or_default(),
            reason: row.reason.clone(),
            approval: false,
        };
        grant::room(&mut self.tx, &store, tenant, 1).await?;
        let beside = Beside { unique: Some(id.to_string()), rests_on: row.eligible };
        let made = grant::insert(&mut self.tx, &store, (tenant, &by), &grant, GrantOrigin::Request, beside).await?;
        if let Some(id) = row.eligible {
            eligible::used(&mut self.tx, tenant, id, now).await?;
        }
        self.tx
            .execute(
                "UPDATE access_request SET grant_id = $3 WHERE tenant_id = $1 AND id = $2",
                args![tenant, id, made.grant.id],
            )
            .await?;
        let row = show(&mut self.tx, tenant, id, now).await?;
        self.commit(Change::to(Category::Access, "access-request", id).detail(told(&row))).await?;
        Ok(row)
    }
}

impl Write<ops::AccessRequestDeny> {
    /// Refuses a request.
    pub async fn access_request_deny(mut self, id: AccessRequestId, answer: Option<&str>) -> Result<RequestRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let by = self.permit.ctx().actor().to_string();
        show(&mut self.tx, tenant, id, now).await?;
        close(&mut self.tx, (tenant, id, now), RequestState::Denied, (&by, answer)).await?;
        let row = show(&mut self.tx, tenant, id, now).await?;
        self.commit(Change::to(Category::Access, "access-request", id).detail(told(&row))).await?;
        Ok(row)
    }
}

impl Read<ops::AccessPolicyShow> {
    /// What the tenant says about access that is not simply granted.
    pub async fn access_policy_show(&mut self) -> Result<AccessPolicy> {
        let tenant = self.tenant();
        policy(&mut self.tx, tenant).await
    }
}

impl Read<ops::AccessWho> {
    /// Who may break glass, and so reaches every destination.
    pub async fn glass_who(&mut self) -> Result<Option<GlassPolicy>> {
        let tenant = self.tenant();
        Ok(policy(&mut self.tx, tenant).await?.glass)
    }
}

impl Read<ops::AccessWhat> {
    /// The same where a member, by login name or id, is one of these now.
    pub async fn glass_what(&mut self, named: &str) -> Result<Option<GlassPolicy>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let Some(glass) = policy(&mut self.tx, tenant).await?.glass else { return Ok(None) };
        let user = grant::member(&mut self.tx, tenant, named).await?;
        let known = know(&mut self.tx, tenant, user, At::Places(&BTreeSet::new()), now).await?;
        let may = known.is_member && known.is_in(std::slice::from_ref(&glass.group));
        Ok(may.then_some(glass))
    }
}

impl Write<ops::AccessPolicyPut> {
    /// Says it.
    pub async fn access_policy_put(mut self, new: &AccessPolicy) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        condition::alone(&mut self.tx, tenant, "access policy").await?;
        let before = policy(&mut self.tx, tenant).await?;
        self.check("tenant's access policy", Some(&before.version()))?;
        let group: Option<GroupId> = match &new.glass {
            None => None,
            Some(glass) => match group::find(&mut self.tx, tenant, glass.group.as_str()).await {
                Ok(row) => Some(row.id),
                Err(Error::NotFound { .. }) => return Err(Error::invalid("group", "there is no such group")),
                Err(error) => return Err(error),
            },
        };
        let glass_ms = new.glass.as_ref().map_or(0, |glass| glass.ms_max);
        self.tx
            .execute(
                "INSERT INTO access_policy (tenant_id, request_ms_max, glass_group_id, glass_ms_max, changed_at, eligible_only) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id) DO UPDATE SET request_ms_max = excluded.request_ms_max, \
                 glass_group_id = excluded.glass_group_id, glass_ms_max = excluded.glass_ms_max, changed_at = excluded.changed_at, \
                 eligible_only = excluded.eligible_only",
                args![tenant, new.request_ms_max, group.map(|id| id.as_uuid()), glass_ms, now, new.eligible_only],
            )
            .await?;
        let detail = json!({
            "request_ms_max": new.request_ms_max, "break_glass_group": new.glass.as_ref().map(|glass| &glass.group), "break_glass_ms_max": glass_ms,
            "eligible_only": new.eligible_only,
        });
        self.commit(Change::to(Category::Access, "tenant", tenant).detail(detail)).await.map(drop)
    }
}
