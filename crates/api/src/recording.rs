//! Recordings of sessions: what relays tell, what people read, and what a tenant wants recorded.

use access::{fleet_ops, ops};
use axum::Json;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::recording::{CHUNK_BYTES_MAX, RETENTION_DAYS_MAX};
use domain::{Error, RecordingId, Timestamp};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use store::{NewRecording, RecordingEnding, RecordingFilter, RecordingReader, RecordingRow};
use tokio_util::io::ReaderStream;
use wire::List;
use wire::recording::{
    MEDIA_TYPE, Passed, Recording, RecordingBegin, RecordingEnd, RecordingPolicy, RecordingState, RecordingTarget,
    RecordingTerms,
};

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::fleet_caller::{FleetCaller, FleetFailure};
use crate::page::{self, Body, Path, Query, SignedBody};
use crate::problem::Answer;
use crate::state::ApiState;

/// Longest text that a relay says of a recording, in characters.
const TEXT_MAX: usize = 1_000;
/// Longest of all that it says together, in bytes.
const ABOUT_BYTES_MAX: usize = 128 * 1_024;

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Begins the recording of a session at a destination of the relay; what is to be recorded. With `off` nothing is. Only the relay itself. Telling it
/// twice begins one.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/recordings", tag = "recordings", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id")), request_body = RecordingBegin,
    responses((status = 200, description = "begun", body = RecordingTerms)))]
pub(crate) async fn recording_begin(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    SignedBody(body, bytes): SignedBody<RecordingBegin>,
) -> Result<Json<RecordingTerms>, FleetFailure> {
    let permit = caller.permit::<fleet_ops::RecordingBegin>(&id, &bytes).await?;
    if bytes.len() > ABOUT_BYTES_MAX {
        return Err(Error::Limit { which: "bytes of what is said of a recording", max: ABOUT_BYTES_MAX as u64 }.into());
    }
    let about = json!({
        "token": bounded(&body.token),
        "role": bounded(&body.role),
        "from": body.from,
        "call": bounded(&body.call),
        "target": body.target,
    });
    let new = NewRecording {
        id: body.id,
        at: body.at,
        destination: body.destination,
        user: bounded(&body.user),
        user_id: body.user_id,
        session: body.session,
        role: body.role,
        about,
    };
    let (mode, input) = state.store.recording_begin(permit, &new).await?;
    Ok(Json(RecordingTerms { mode, input }))
}

/// Keeps the next piece of a recording: whole lines of asciicast (version 2), counted from 1. A piece that is told twice is kept once; one without
/// bytes says that the session goes on. Only the relay that began it.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/recordings/{recording}/chunks/{number}", tag = "recordings", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id"), ("recording" = String, Path, description = "the recording's id"),
        ("number" = u64, Path, description = "the piece's place")),
    request_body(content = Vec<u8>, content_type = "application/x-asciicast", description = "the piece; at most 256 KiB"),
    responses((status = 204, description = "kept")))]
pub(crate) async fn recording_append(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path((id, recording, number)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, FleetFailure> {
    let limit = Error::Limit { which: "bytes of a piece", max: CHUNK_BYTES_MAX as u64 };
    let body = body.map_err(|_| limit.clone())?;
    let permit = caller.permit::<fleet_ops::RecordingAppend>(&id, &body).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !body.is_empty() && kind != MEDIA_TYPE {
        return Err(Error::Invalid { field: None, message: format!("send `Content-Type: {MEDIA_TYPE}`") }.into());
    }
    if body.len() > CHUNK_BYTES_MAX {
        return Err(limit.into());
    }
    let number = number.parse::<u64>().ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| Error::invalid("number", "pieces count from 1"))?;
    state.store.recording_append(permit, page::id(&recording, "recording")?, number, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a recording: what was told of it is signed. Telling it twice ends it once. Only the relay that began it.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/recordings/{recording}/end", tag = "recordings", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id"), ("recording" = String, Path, description = "the recording's id")),
    request_body = RecordingEnd, responses((status = 204, description = "ended")))]
pub(crate) async fn recording_end(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path((id, recording)): Path<(String, String)>,
    SignedBody(body, bytes): SignedBody<RecordingEnd>,
) -> Result<StatusCode, FleetFailure> {
    let permit = caller.permit::<fleet_ops::RecordingEnd>(&id, &bytes).await?;
    let mut more = json!({
        "exit": body.exit,
        "output": body.output,
        "output_sha256": body.output_sha256,
        "input": body.input,
    });
    if let (Some(sha256), Some(more)) = (body.input_sha256, more.as_object_mut()) {
        more.insert("input_sha256".to_owned(), json!(sha256));
    }
    let (at, complete, reason) = (body.at, body.complete, bounded(&body.reason));
    let counted = (body.chunks, body.chain);
    let end = RecordingEnding { at, began: body.began, complete, reason, counted: Some(counted), more };
    state.recordings()?.close(permit.close(), page::id(&recording, "recording")?, end).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct About {
    token: String,
    role: String,
    from: Option<std::net::IpAddr>,
    call: String,
    target: RecordingTarget,
    #[serde(default)]
    grants: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Ending {
    reason: Option<String>,
    #[serde(default)]
    exit: Option<i32>,
    #[serde(default)]
    output: Passed,
    #[serde(default)]
    input: Passed,
}

/// A recording as it is told.
pub fn recording_document(row: RecordingRow, policy: &store::RecordingPolicy) -> Result<Recording, Error> {
    let about: About = serde_json::from_value(row.about).map_err(Error::internal)?;
    let ending: Option<Ending> = row.ending.map(serde_json::from_value).transpose().map_err(Error::internal)?;
    let ending = ending.unwrap_or_default();
    let state = match row.state.as_str() {
        "open" => RecordingState::Open,
        "ended" => RecordingState::Ended,
        _ => RecordingState::CutOff,
    };
    Ok(Recording {
        id: row.id,
        state,
        user: row.user,
        user_id: row.user_id,
        user_known: row.user_known,
        session: row.session,
        token: about.token,
        grants: about.grants,
        from: about.from,
        destination: row.destination,
        destination_name: row.destination_name,
        role: about.role,
        target: about.target,
        call: about.call,
        relay: row.relay,
        input: row.input,
        began_at: row.began_at,
        ended_at: row.ended_at,
        reason: ending.reason,
        exit: ending.exit,
        chunks: row.chunks,
        bytes: row.bytes,
        left_out: ending.output.left_out.saturating_add(ending.input.left_out),
        sha256: row.sha256,
        evidence: row.evidence,
        kept_until: policy.keeps_until(row.began_at),
    })
}

/// Which recordings.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordingQuery {
    /// Of this user: login name or id.
    user: Option<String>,
    /// Of this destination: name or id.
    destination: Option<String>,
    /// Of sessions that began at this moment or later (RFC 3339).
    since: Option<String>,
    /// Of sessions that began before this moment (RFC 3339).
    until: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

fn time(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    let parse = |text: &str| {
        text.parse().map_err(|_| Error::invalid(field, "use a time such as `2026-01-31T12:00:00Z` (RFC 3339)"))
    };
    text.map(parse).transpose()
}

/// Where a page of recordings begins: behind this moment and id.
struct Key(store::RecordingKey);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0.began_at.as_millis(), self.0.id)
    }
}

impl std::str::FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (began, id) = text.split_once('.').ok_or(())?;
        let began_at = Timestamp::from_millis(began.parse().map_err(|_| ())?);
        Ok(Self(store::RecordingKey { began_at, id: id.parse().map_err(|_| ())? }))
    }
}

/// The tenant's recordings, newest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/recordings", tag = "recordings", params(("tenant" = String, Path, description = "id or slug"), RecordingQuery),
    responses((status = 200, description = "recordings", body = List<Recording>)))]
pub(crate) async fn recording_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<RecordingQuery>,
) -> Answer<Json<List<Recording>>> {
    let permit = caller.permit::<ops::RecordingList>(&tenant).await?;
    let filter = RecordingFilter {
        user: query.user,
        destination: query.destination,
        since: time("since", query.since.as_deref())?,
        until: time("until", query.until.as_deref())?,
    };
    let (after, limit) = (page::after::<Key>(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let after = after.map(|key| key.0);
    let (rows, policy) = state.store.read(permit).await?.recording_list(&filter, after, limit).await?;
    let next_page = page::next(rows.next.map(Key));
    let items = rows.items.into_iter().map(|row| recording_document(row, &policy)).collect::<Result<_, _>>()?;
    Ok(Json(List { items, next_page }))
}

/// One recording, without what is recorded.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/recordings/{recording}", tag = "recordings",
    params(("tenant" = String, Path, description = "id or slug"), ("recording" = String, Path, description = "the recording's id")),
    responses((status = 200, description = "recording", body = Recording)))]
pub(crate) async fn recording_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Recording>> {
    let permit = caller.permit::<ops::RecordingList>(&tenant).await?;
    let (row, policy) = state.store.read(permit).await?.recording_show(page::id(&id, "recording")?).await?;
    Ok(Json(recording_document(row, &policy)?))
}

fn pieces(reader: RecordingReader) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::try_unfold(reader, async |mut reader: RecordingReader| match reader.next().await {
        Ok(piece) => Ok(piece.map(|piece| (piece, reader))),
        Err(error) => {
            tracing::error!(%error, ?error, "a recording cannot be read");
            Err(std::io::Error::other("the recording cannot be read"))
        }
    })
}

fn file(name: &str, kind: &str) -> [(header::HeaderName, String); 2] {
    [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\""))]
}

/// What is recorded, as asciicast (version 2): of a session that goes on as far as it is. It may hold whatever was on a screen, so it needs a fresh
/// proof of who asks, and that they looked is in the audit log.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/recordings/{recording}/cast", tag = "recordings",
    params(("tenant" = String, Path, description = "id or slug"), ("recording" = String, Path, description = "the recording's id")),
    responses((status = 200, description = "asciicast", body = Vec<u8>, content_type = "application/x-asciicast")))]
pub(crate) async fn recording_read(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Response> {
    let permit = caller.permit::<ops::RecordingRead>(&tenant).await?;
    let id: RecordingId = page::id(&id, "recording")?;
    let (row, reader) = state.store.write(permit).await?.recording_read(id).await?;
    let length = [(header::CONTENT_LENGTH, row.bytes.to_string())];
    let body = HttpBody::from_stream(pieces(reader));
    Ok((file(&format!("{id}.cast"), MEDIA_TYPE), length, body).into_response())
}

/// A ZIP file with the recording, its signed statement, keys and a script that verifies them with openssl and sh alone. As with the recording itself,
/// a fresh proof is needed and the audit log says who asked.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/recordings/{recording}/bundle", tag = "recordings",
    params(("tenant" = String, Path, description = "id or slug"), ("recording" = String, Path, description = "the recording's id")),
    responses((status = 200, description = "bundle", body = Vec<u8>, content_type = "application/zip")))]
pub(crate) async fn recording_export(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Response> {
    let permit = caller.permit::<ops::RecordingExport>(&tenant).await?;
    let id: RecordingId = page::id(&id, "recording")?;
    let zip = state.recordings()?.export(permit, id).await?;
    let length = [(header::CONTENT_LENGTH, zip.metadata().map_err(Error::internal)?.len().to_string())];
    let body = HttpBody::from_stream(ReaderStream::new(tokio::fs::File::from_std(zip)));
    Ok((file(&format!("{id}.zip"), "application/zip"), length, body).into_response())
}

fn policy(policy: store::RecordingPolicy) -> RecordingPolicy {
    let store::RecordingPolicy { kubernetes, ssh, input, retention_days } = policy;
    RecordingPolicy { kubernetes, ssh, input, retention_days }
}

/// What the tenant wants recorded.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/recording-policy", tag = "recordings",
    params(("tenant" = String, Path, description = "id or slug")), responses((status = 200, description = "the policy", body = RecordingPolicy, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn recording_policy_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Tagged<RecordingPolicy>> {
    let permit = caller.permit::<ops::RecordingPolicyShow>(&tenant).await?;
    let now = state.store.read(permit).await?.recording_policy_show().await?;
    let version = now.version();
    Ok(Tagged(policy(now), version))
}

/// Says what the tenant wants recorded, from the next session on, and how long recordings are kept, also those that there are.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/recording-policy", tag = "recordings",
    params(("tenant" = String, Path, description = "id or slug"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")), request_body = RecordingPolicy,
    responses((status = 200, description = "changed", body = RecordingPolicy), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn recording_policy_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path(tenant): Path<String>,
    Body(body): Body<RecordingPolicy>,
) -> Answer<Json<RecordingPolicy>> {
    let permit = caller.permit::<ops::RecordingPolicyPut>(&tenant).await?;
    if !(1..=RETENTION_DAYS_MAX).contains(&body.retention_days) {
        let message = format!("keep recordings for 1 to {RETENTION_DAYS_MAX} days");
        return Err(Error::invalid("retention_days", message).into());
    }
    let RecordingPolicy { kubernetes, ssh, input, retention_days } = body;
    let new = store::RecordingPolicy { kubernetes, ssh, input, retention_days };
    state.store.write(permit).await?.only_if(condition).recording_policy_put(&new).await?;
    Ok(Json(policy(new)))
}
