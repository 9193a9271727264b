//! What changed in a tenant since a moment, in numbers and with the newest few; and up to when each member has seen it (ADR 0063).
//!
//! Invariants:
//! - each part is read under a permit of its own, beside that to ask at all;
//! - a part costs what changed, not what there is, and no more than [`COUNTED`] rows: what is beyond is told as "or more";
//! - asking moves nothing: what somebody has seen is what they said so of.

use access::{Permit, TenantOperation, member_ops, ops};
use domain::{Error, FindingStatus, FleetKind, JobId, Result, Severity, Timestamp};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::db::{Value, args};
use crate::finding::{finding_columns, finding_row};
use crate::job::count;
use crate::unit::Read;
use crate::{FindingRow, Store};

/// Most rows that are counted of one thing.
pub const COUNTED: u32 = 100_000;
/// How many of the newest are named.
const NAMED: i64 = 5;
/// How far back somebody can ask, in milliseconds: a leap year.
const SINCE_MS_MAX: i64 = 366 * 86_400_000;
/// How far back is shown to a member who has not yet said that they have seen anything, in milliseconds.
const FIRST_MS: i64 = 7 * 86_400_000;

/// Findings whose status changed, where they stand now.
#[derive(Debug, Clone)]
pub struct FindingChanges {
    /// By state and severity; what there is none of is left out.
    pub counts: Vec<(FindingStatus, Severity, u64)>,
    /// Whether all were counted.
    pub is_all: bool,
    /// Those that opened last.
    pub newest: Vec<FindingRow>,
}

/// Nodes of one type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeChanges {
    /// The type.
    pub node_type: String,
    /// First seen since then; of these some may be gone again.
    pub first_seen: u64,
    /// Seen before, and otherwise than then or there again.
    pub changed: u64,
    /// No longer there.
    pub closed: u64,
}

/// An agent or a relay that is new or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitChange {
    /// What it is.
    pub kind: FleetKind,
    /// Its name.
    pub name: String,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was noticed that its key is used by somebody else too.
    pub cloned_at: Option<Timestamp>,
    /// When it was last seen, of one that fell silent since then and still is.
    pub silent_since: Option<Timestamp>,
}

/// Access in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccessNumbers {
    /// Requests that wait, however old they are.
    pub waiting: u64,
    /// Grants that were made and still stand.
    pub made: u64,
    /// Grants that somebody took, or that went with what they were about.
    pub taken: u64,
    /// Whether all were counted.
    pub is_all: bool,
}

/// A job that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedJob {
    /// The job.
    pub id: JobId,
    /// Its plugin.
    pub plugin: String,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Why.
    pub error: Option<String>,
}

fn is_all(counted: u64) -> bool {
    counted < u64::from(COUNTED)
}

/// The moment that is asked for, if it can be.
pub fn since(now: Timestamp, asked: Timestamp) -> Result<Timestamp> {
    if asked > now || now.millis_since(asked) > SINCE_MS_MAX {
        return Err(Error::invalid("since", "use a time in the past, at most 366 days ago"));
    }
    Ok(asked)
}

impl Read<ops::ChangesShow> {
    fn same<O: TenantOperation>(&self, part: &Permit<O>) -> Result<()> {
        if part.tenant() == self.tenant() { Ok(()) } else { Err(Error::NotFound { what: "tenant" }) }
    }

    /// Up to when the actor has seen what changed here: as they said, or else the last week, since they became a member. None for whoever is no
    /// person.
    pub async fn changes_seen(&mut self) -> Result<Option<Timestamp>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let access::Actor::User { id, .. } = self.permit.ctx().actor() else { return Ok(None) };
        let sql = "SELECT changes_seen_at, created_at FROM member WHERE tenant_id = $1 AND user_id = $2";
        let Some(row) = self.tx.row(sql, args![tenant, *id]).await? else { return Ok(None) };
        let first = row.time(1)?.max(now.plus_millis(-FIRST_MS));
        let seen = row.opt_time(0)?.unwrap_or(first);
        Ok(Some(seen.max(now.plus_millis(-SINCE_MS_MAX)).min(now)))
    }

    /// Findings that opened, were accepted or resolved.
    pub async fn finding_changes(
        &mut self,
        part: &Permit<ops::FindingList>,
        since: Timestamp,
    ) -> Result<FindingChanges> {
        self.same(part)?;
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                "SELECT c.status, c.severity, COUNT(*) FROM (SELECT status, severity FROM finding WHERE tenant_id = $1 AND changed_at > $2 \
                 AND COALESCE(status_at, changed_at) > $2 ORDER BY changed_at DESC LIMIT $3) c GROUP BY c.status, c.severity",
                args![tenant, since, i64::from(COUNTED)],
            )
            .await?;
        let mut counts = Vec::with_capacity(rows.len());
        for row in rows {
            counts.push((row.parse(0)?, row.parse(1)?, count(&row, 2)?));
        }
        counts.sort_unstable();
        let newest = self
            .tx
            .rows(
                concat!(
                    "SELECT ",
                    finding_columns!(),
                    " FROM finding f JOIN node n ON n.tenant_id = f.tenant_id AND n.key = f.node_key WHERE f.tenant_id = $1 \
                     AND f.changed_at > $2 AND COALESCE(f.status_at, f.changed_at) > $2 AND f.status = 'open' \
                     ORDER BY COALESCE(f.status_at, f.changed_at) DESC, f.id LIMIT $3"
                ),
                args![tenant, since, NAMED],
            )
            .await?;
        let is_all = is_all(counts.iter().map(|(_, _, count)| count).sum());
        Ok(FindingChanges { counts, is_all, newest: newest.iter().map(finding_row).collect::<Result<_>>()? })
    }

    /// Nodes by type that were first seen, changed or were closed; and whether all were counted.
    pub async fn node_changes(
        &mut self,
        part: &Permit<ops::NodeList>,
        since: Timestamp,
    ) -> Result<(Vec<NodeChanges>, bool)> {
        self.same(part)?;
        let values: &[Value] = args![self.tenant(), since, i64::from(COUNTED)];
        let mut found: std::collections::BTreeMap<String, NodeChanges> = std::collections::BTreeMap::new();
        let mut counted = [0, 0];
        let rows = self
            .tx
            .rows(
                "SELECT c.type, c.is_new, COUNT(*) FROM (SELECT type, CAST(CASE WHEN first_seen > $2 THEN 1 ELSE 0 END AS BIGINT) AS is_new FROM node \
                 WHERE tenant_id = $1 AND valid_from > $2 AND observed AND (closed_at IS NULL OR first_seen > $2) \
                 ORDER BY valid_from DESC LIMIT $3) c GROUP BY c.type, c.is_new",
                values,
            )
            .await?;
        for row in rows {
            let (of, number) = (found.entry(row.text(0)?).or_default(), count(&row, 2)?);
            *(if row.i64(1)? == 1 { &mut of.first_seen } else { &mut of.changed }) += number;
            counted[0] += number;
        }
        let rows = self
            .tx
            .rows(
                "SELECT c.type, COUNT(*) FROM (SELECT type FROM node WHERE tenant_id = $1 AND closed_at > $2 AND observed \
                 ORDER BY closed_at DESC LIMIT $3) c GROUP BY c.type",
                values,
            )
            .await?;
        for row in rows {
            let number = count(&row, 1)?;
            found.entry(row.text(0)?).or_default().closed += number;
            counted[1] += number;
        }
        let changes = found.into_iter().map(|(node_type, of)| NodeChanges { node_type, ..of }).collect();
        Ok((changes, counted.into_iter().all(is_all)))
    }

    /// Agents and relays that were enrolled, revoked, copied, or fell silent since then, by kind and name. `silent_ms`: for how long one of a kind may say
    /// nothing.
    pub async fn unit_changes(
        &mut self,
        part: &Permit<ops::AgentList>,
        since: Timestamp,
        silent_ms: impl Fn(FleetKind) -> i64,
    ) -> Result<Vec<UnitChange>> {
        self.same(part)?;
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let mut changes = Vec::new();
        for kind in [FleetKind::Agent, FleetKind::Relay] {
            // Who was seen last just before then was not silent yet.
            let [after, until] = [since, now].map(|at| at.plus_millis(-silent_ms(kind)));
            let rows = self
                .tx
                .rows(
                    "SELECT name, enrolled_at, revoked_at, cloned_at, last_seen_at FROM fleet_unit WHERE tenant_id = $1 AND kind = $2 \
                     AND (enrolled_at > $3 OR revoked_at > $3 OR cloned_at > $3 \
                          OR (revoked_at IS NULL AND cloned_at IS NULL AND last_seen_at > $4 AND last_seen_at <= $5)) ORDER BY name LIMIT $6",
                    args![tenant, kind.as_str(), since, after, until, i64::from(COUNTED)],
                )
                .await?;
            for row in rows {
                let (revoked_at, cloned_at) = (row.opt_time(2)?, row.opt_time(3)?);
                let is_in = revoked_at.is_none() && cloned_at.is_none();
                changes.push(UnitChange {
                    kind,
                    name: row.text(0)?,
                    enrolled_at: row.time(1)?,
                    revoked_at,
                    cloned_at,
                    silent_since: row.opt_time(4)?.filter(|seen| is_in && *seen > after && *seen <= until),
                });
            }
        }
        Ok(changes)
    }

    /// Requests that wait, and grants that were made or taken.
    pub async fn access_changes(
        &mut self,
        parts: (&Permit<ops::AccessRequestList>, &Permit<ops::GrantList>),
        since: Timestamp,
    ) -> Result<AccessNumbers> {
        self.same(parts.0)?;
        self.same(parts.1)?;
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let sql = "SELECT \
             (SELECT COUNT(*) FROM (SELECT 1 FROM access_request WHERE tenant_id = $1 AND state = 'pending' AND closes_at > $3 LIMIT $4) c), \
             (SELECT COUNT(*) FROM (SELECT 1 FROM access_grant WHERE tenant_id = $1 AND created_at > $2 \
               AND (expires_at IS NULL OR expires_at > $3) LIMIT $4) c), \
             (SELECT COUNT(*) FROM (SELECT 1 FROM access_grant_end WHERE tenant_id = $1 AND ended_at > $2 LIMIT $4) c)";
        let row = self.tx.row(sql, args![tenant, since, now, i64::from(COUNTED)]).await?;
        let row = row.ok_or_else(|| Error::internal("no counts"))?;
        let [waiting, made, taken] = [count(&row, 0)?, count(&row, 1)?, count(&row, 2)?];
        Ok(AccessNumbers { waiting, made, taken, is_all: [waiting, made, taken].into_iter().all(is_all) })
    }

    /// How many jobs failed, and the newest of them.
    pub async fn job_changes(
        &mut self,
        part: &Permit<ops::JobList>,
        since: Timestamp,
    ) -> Result<(u64, Vec<FailedJob>)> {
        self.same(part)?;
        let tenant = self.tenant();
        let counted = self
            .tx
            .row(
                "SELECT COUNT(*) FROM (SELECT 1 FROM job WHERE tenant_id = $1 AND status = 'failed' AND finished_at > $2 LIMIT $3) c",
                args![tenant, since, i64::from(COUNTED)],
            )
            .await?;
        let failed = counted.map_or(Ok(0), |row| count(&row, 0))?;
        let rows = self
            .tx
            .rows(
                "SELECT id, plugin, finished_at, error FROM job WHERE tenant_id = $1 AND status = 'failed' AND finished_at > $2 \
                 ORDER BY finished_at DESC, id DESC LIMIT $3",
                args![tenant, since, NAMED],
            )
            .await?;
        let mut newest = Vec::with_capacity(rows.len());
        for row in rows {
            newest.push(FailedJob {
                id: JobId::from_uuid(row.uuid(0)?),
                plugin: row.text(1)?,
                finished_at: row.time(2)?,
                error: row.opt_text(3)?,
            });
        }
        Ok((failed, newest))
    }
}

impl Store {
    /// Notes that the actor has seen what changed in the tenant up to a moment, and answers up to when they have: an earlier moment than they said
    /// before changes nothing.
    pub async fn changes_see(
        &self,
        permit: access::MemberPermit<member_ops::ChangesSee>,
        until: Timestamp,
    ) -> Result<Timestamp> {
        let (tenant, user, now) = (permit.tenant(), permit.user(), self.clock().now());
        if until > now {
            return Err(Error::invalid("until", "use the `until` of the answer that was seen: this is in the future"));
        }
        let mut unit = self.member_write(permit).await?;
        let sql = "UPDATE member SET changes_seen_at = $3 WHERE tenant_id = $1 AND user_id = $2 AND COALESCE(changes_seen_at, $3) <= $3";
        unit.tx.execute(sql, args![tenant, user, until]).await?;
        let sql = "SELECT changes_seen_at FROM member WHERE tenant_id = $1 AND user_id = $2";
        let row = unit.tx.row(sql, args![tenant, user]).await?.ok_or(Error::NotFound { what: "tenant" })?;
        let seen = row.opt_time(0)?.ok_or(Error::NotFound { what: "tenant" })?;
        unit.commit(Change::to(Category::User, "member", user).detail(json!({"until": seen}))).await?;
        Ok(seen)
    }
}
