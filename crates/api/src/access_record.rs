//! What relays tell of the calls that went through their proxies.

use axum::extract::State;
use axum::http::StatusCode;
use domain::Error;
use serde_json::{Value, json};
use store::{CallBatch, ClusterCall, Outcome};
use wire::kubernetes::{AccessEvent, AccessRecords, Phase, RECORDS_MAX};

use access::fleet_ops;

use crate::fleet_caller::{FleetCaller, FleetFailure};
use crate::page::{Path, SignedBody};
use crate::state::ApiState;

/// Longest text of a call that is kept whole, in characters.
const TEXT_MAX: usize = 1_000;
/// Most groups of a call that are kept.
const TEXTS_MAX: usize = 32;

/// What became of a call, by its status.
fn outcome(event: &AccessEvent) -> Outcome {
    match event.status {
        101 | 200..=399 => Outcome::Success,
        401 | 403 => Outcome::Deny,
        _ => Outcome::Fail,
    }
}

fn call(event: &AccessEvent) -> ClusterCall {
    let text = |text: &str| Value::from(text.chars().take(TEXT_MAX).collect::<String>());
    let fixed = [
        ("call", text(&event.id)),
        ("user", text(&event.user)),
        ("role", text(&event.role)),
        ("verb", text(&event.verb)),
        ("token", text(&event.token)),
        ("phase", json!(event.phase)),
        ("status", json!(event.status)),
        ("at", json!(event.at)),
        ("duration_ms", json!(event.duration_ms)),
    ];
    let named = [
        ("group", &event.group),
        ("resource", &event.resource),
        ("subresource", &event.subresource),
        ("namespace", &event.namespace),
        ("name", &event.name),
        ("path", &event.path),
    ];
    let named = named.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, text(value)));
    let told = [("acted_as", &event.acted_as), ("reason", &event.reason)];
    let told = told.into_iter().filter_map(|(name, value)| Some((name, text(value.as_ref()?))));
    let upgraded = event.upgraded.then(|| ("upgraded", Value::from(true)));
    let groups = || event.acted_in.iter().take(TEXTS_MAX).map(|name| text(name)).collect();
    let acted_in = (!event.acted_in.is_empty()).then(|| ("acted_in", Value::Array(groups())));
    let detail = fixed.into_iter().chain(named).chain(told).chain(acted_in).chain(upgraded);
    let detail = detail.map(|(name, value)| (name.to_owned(), value)).collect();
    let (user, session, from) = (event.user_id, event.session, event.from);
    // An end is no second try: what it ended had its own outcome.
    let outcome = if event.phase == Phase::Ended { Outcome::Success } else { outcome(event) };
    ClusterCall { user, session, from, outcome, detail }
}

/// Writes down calls that went to a cluster of the relay: each becomes a record of the tenant's audit log. Only the relay itself. A batch that is told
/// twice is written down once.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/access-records", tag = "destinations", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id")), request_body = AccessRecords,
    responses((status = 204, description = "written down")))]
pub(crate) async fn access_record(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    SignedBody(body, bytes): SignedBody<AccessRecords>,
) -> Result<StatusCode, FleetFailure> {
    let permit = caller.permit::<fleet_ops::AccessRecord>(&id, &bytes).await?;
    if body.calls.len() > RECORDS_MAX {
        return Err(Error::Limit { which: "calls in one batch", max: RECORDS_MAX as u64 }.into());
    }
    let is_hex = body.run.len() == 32 && body.run.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = i64::try_from(body.number).ok().filter(|number| is_hex && *number > 0);
    let number = number.ok_or_else(|| Error::invalid("run", "a run is 32 hex digits, and its batches count from 1"))?;
    let calls = body.calls.iter().map(call).collect();
    let batch = CallBatch { destination: body.destination, run: body.run, number, lost: body.lost, calls };
    state.store.access_record(permit, &batch).await?;
    Ok(StatusCode::NO_CONTENT)
}
