//! What changed in a tenant, and what of it its members have seen.

use access::{member_ops, ops};
use axum::Json;
use axum::extract::State;
use domain::{Error, FindingStatus, Severity, TenantId, Timestamp};
use serde::Deserialize;
use store::{COUNTED, FindingChanges as Found, UnitChange as Unit};
use wire::changes::{
    AccessNews, Changes, ChangesSee, ChangesSeen, FailedJob, FindingChanges, FleetChanges, JobChanges, NodeChanges,
    NodeTypeChanges, UnitChange,
};
use wire::graph::SeverityCounts;

use crate::caller::Caller;
use crate::finding::finding_document;
use crate::fleet::silent_ms;
use crate::page::{Body, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// How many agents and relays are named.
const UNITS: usize = 10;

/// Since when.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangesQuery {
    /// A moment (RFC 3339), at most 366 days ago. Default: up to when the caller has seen what changed, or else the last seven days; an API key has
    /// seen nothing and has to say it.
    since: Option<String>,
}

fn counted(found: &Found, status: FindingStatus) -> SeverityCounts {
    let count = |severity| {
        let of = found.counts.iter().filter(|(is, of, _)| *is == status && *of == severity);
        of.map(|(_, _, count)| count).sum()
    };
    SeverityCounts {
        critical: count(Severity::Critical),
        high: count(Severity::High),
        medium: count(Severity::Medium),
        low: count(Severity::Low),
        info: count(Severity::Info),
    }
}

fn findings(state: &ApiState, found: Found) -> Result<FindingChanges, Error> {
    let ruleset = state.catalog.ruleset();
    Ok(FindingChanges {
        opened: counted(&found, FindingStatus::Open),
        accepted: counted(&found, FindingStatus::Accepted),
        resolved: counted(&found, FindingStatus::Resolved),
        more: !found.is_all,
        newest: found.newest.into_iter().map(|row| finding_document(&ruleset, row)).collect::<Result<_, _>>()?,
    })
}

fn nodes((found, is_all): (Vec<store::NodeChanges>, bool)) -> NodeChanges {
    let sum = |of: fn(&store::NodeChanges) -> u64| found.iter().map(of).sum();
    NodeChanges {
        first_seen: sum(|it| it.first_seen),
        changed: sum(|it| it.changed),
        closed: sum(|it| it.closed),
        more: !is_all,
        by_type: found
            .into_iter()
            .map(|of| NodeTypeChanges {
                node_type: of.node_type,
                first_seen: of.first_seen,
                changed: of.changed,
                closed: of.closed,
            })
            .collect(),
    }
}

/// What became of one since then. The worst of what did.
fn became(unit: &Unit, since: Timestamp) -> (&'static str, Timestamp) {
    let later = |at: Option<Timestamp>| at.filter(|at| *at > since);
    match (later(unit.revoked_at), later(unit.cloned_at), unit.silent_since) {
        (Some(at), _, _) => ("revoked", at),
        (None, Some(at), _) => ("cloned", at),
        (None, None, Some(seen)) => ("silent", seen),
        (None, None, None) => ("enrolled", unit.enrolled_at),
    }
}

fn fleet(units: &[Unit], since: Timestamp) -> FleetChanges {
    const ORDER: [&str; 4] = ["cloned", "silent", "revoked", "enrolled"];
    let mut became: Vec<_> = units.iter().map(|unit| (unit, became(unit, since))).collect();
    let count = |word: &str| became.iter().filter(|(_, (what, _))| *what == word).count() as u64;
    let [cloned, silent, revoked, enrolled] = ORDER.map(count);
    became.sort_by_key(|(_, (what, at))| (ORDER.iter().position(|word| word == what), std::cmp::Reverse(*at)));
    let units = became.into_iter().take(UNITS).map(|(unit, (what, at))| UnitChange {
        kind: unit.kind.to_string(),
        name: unit.name.clone(),
        what: what.to_owned(),
        at,
    });
    FleetChanges { enrolled, revoked, cloned, silent, units: units.collect() }
}

/// A permit for one part, if the caller may read it: that they may not is no denial, since they asked for what they may.
fn part<O: access::TenantOperation>(caller: &Caller, tenant: TenantId) -> Option<access::Permit<O>> {
    caller.ctx().authorize::<O>(tenant).ok()
}

/// What changed in the tenant since a moment: each part for whoever may read it. Asking changes nothing of what the caller has seen.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/changes", tag = "changes", params(("tenant" = String, Path, description = "id or slug"), ChangesQuery),
    responses((status = 200, description = "what changed", body = Changes)))]
pub(crate) async fn changes_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<ChangesQuery>,
) -> Answer<Json<Changes>> {
    let permit = caller.permit::<ops::ChangesShow>(&tenant).await?;
    let (tenant, until) = (permit.tenant(), state.store.clock().now());
    let mut read = state.store.read(permit).await?;
    let seen = read.changes_seen().await?;
    let since = match (query.since.as_deref(), seen) {
        (Some(text), _) => {
            let told = |error: domain::TimestampParseError| Error::invalid("since", error.to_string());
            store::changes_since(until, text.parse().map_err(told)?)?
        }
        (None, Some(seen)) => seen,
        (None, None) => {
            return Err(Error::invalid("since", "an API key has seen nothing yet: say since when").into());
        }
    };
    let mut changes =
        Changes { since, until, seen, findings: None, nodes: None, fleet: None, access: None, jobs: None };
    if let Some(part) = part::<ops::FindingList>(&caller, tenant) {
        changes.findings = Some(findings(&state, read.finding_changes(&part, since).await?)?);
    }
    if let Some(part) = part::<ops::NodeList>(&caller, tenant) {
        changes.nodes = Some(nodes(read.node_changes(&part, since).await?));
    }
    if let Some(part) = part::<ops::AgentList>(&caller, tenant) {
        changes.fleet = Some(fleet(&read.unit_changes(&part, since, silent_ms).await?, since));
    }
    if let (Some(requests), Some(grants)) =
        (part::<ops::AccessRequestList>(&caller, tenant), part::<ops::GrantList>(&caller, tenant))
    {
        let of = read.access_changes((&requests, &grants), since).await?;
        changes.access = Some(AccessNews { waiting: of.waiting, made: of.made, taken: of.taken, more: !of.is_all });
    }
    if let Some(part) = part::<ops::JobList>(&caller, tenant) {
        let (failed, newest) = read.job_changes(&part, since).await?;
        let newest = newest.into_iter().map(|job| FailedJob {
            id: job.id,
            plugin: job.plugin,
            finished_at: job.finished_at,
            error: job.error,
        });
        changes.jobs = Some(JobChanges { failed, more: failed >= u64::from(COUNTED), newest: newest.collect() });
    }
    Ok(Json(changes))
}

/// Says that the caller has seen what changed up to a moment: in every browser, and until they say so again. Only forward.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/changes/seen", tag = "changes", params(("tenant" = String, Path, description = "id or slug")),
    request_body = ChangesSee, responses((status = 200, description = "noted", body = ChangesSeen)))]
pub(crate) async fn changes_see(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<ChangesSee>,
) -> Answer<Json<ChangesSeen>> {
    let permit = caller.member_permit::<member_ops::ChangesSee>(&tenant).await?;
    Ok(Json(ChangesSeen { until: state.store.changes_see(permit, body.until).await? }))
}
