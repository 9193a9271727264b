//! How frameworks stand, and stood day by day.

use std::collections::{BTreeMap, BTreeSet};

use access::ops;
use axum::Json;
use axum::extract::State;
use compliance::Ruleset;
use serde::Deserialize;
use wire::List;
use wire::posture::{Posture, PostureDay};

use crate::caller::Caller;
use crate::page::{self, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Days of history: a leap year at most.
const DAYS_MAX: u32 = 366;
const DAYS_DEFAULT: u32 = 90;

/// How much of the history.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostureQuery {
    /// Days of history with today: 1 to 366, default 90.
    days: Option<String>,
}

/// The rules of each framework's controls.
fn rules(ruleset: &Ruleset) -> BTreeMap<String, BTreeSet<String>> {
    let mut rules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in ruleset.rules() {
        for framework in rule.controls.keys() {
            rules.entry(framework.clone()).or_default().insert(rule.id.clone());
        }
    }
    rules
}

fn day(of: store::PostureDay) -> PostureDay {
    let standing = of.standing;
    let mut day = of.day.to_string();
    day.truncate("2026-05-01".len());
    PostureDay {
        day,
        percent: standing.percent(),
        pass: standing.pass,
        partial: standing.partial,
        fail: standing.fail,
        not_assessed: standing.not_assessed,
        open_findings: standing.open_findings,
    }
}

/// How each framework stands whose controls were judged, and how it stood day by day.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/posture", tag = "controls", params(("tenant" = String, Path, description = "id or slug"), PostureQuery),
    responses((status = 200, description = "frameworks", body = List<Posture>)))]
pub(crate) async fn posture_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<PostureQuery>,
) -> Answer<Json<List<Posture>>> {
    let permit = caller.permit::<ops::ControlList>(&tenant).await?;
    let days = page::number("days", query.days.as_deref(), DAYS_DEFAULT, DAYS_MAX)?;
    let rules = rules(&state.catalog.ruleset());
    let rows = state.store.read(permit).await?.posture_list(&rules, days).await?;
    let rows = rows.into_iter().map(|row| Posture {
        framework: row.framework,
        percent: row.now.percent(),
        pass: row.now.pass,
        partial: row.now.partial,
        fail: row.now.fail,
        not_assessed: row.now.not_assessed,
        open_findings: row.now.open_findings,
        evaluated_at: row.evaluated_at,
        history: row.history.into_iter().map(day).collect(),
    });
    Ok(page::whole(rows.collect()))
}
