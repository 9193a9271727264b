//! The audit logs as transparency logs: checkpoints, tiles and entries as C2SP tlog-tiles lays them out, proofs, cosignatures.
//!
//! The same for a tenant's log and for the platform's own, under the tenant's path and under `/api/v1`.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use domain::{Error, EvidenceId, TenantId};
use evidence::checkpoint::Checkpoint;
use evidence::note::{Note, NoteKey};
use evidence::tile::Tile;
use serde::Deserialize;
use store::LogReader;
use wire::List;
use wire::log::{
    Consistency, CosignaturesTaken, Cosigned, Log, LogFault, LogVerification, NewWitness, SignedCheckpoint, Witness,
};

use crate::caller::Caller;
use crate::page::{self, Body, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Records that one call of a verification compares.
const VERIFY_RECORDS: u64 = 16_384;

/// A log, for whoever may read it.
struct Opened {
    reader: LogReader,
    tenant: Option<TenantId>,
}

async fn tenant_log(state: &ApiState, caller: &Caller, tenant: &str) -> Answer<Opened> {
    let permit = caller.permit::<ops::LogRead>(tenant).await?;
    let tenant = Some(permit.tenant());
    Ok(Opened { reader: state.store.read(permit).await?.log(), tenant })
}

async fn platform_log(state: &ApiState, caller: &Caller) -> Answer<Opened> {
    let permit = caller.platform_permit::<ops::PlatformLogRead>().await?;
    Ok(Opened { reader: state.store.platform_log(permit).await?, tenant: None })
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], body).into_response()
}

impl Opened {
    async fn show(mut self, state: &ApiState) -> Answer<Json<Log>> {
        let (origin, key) = (state.store.log_origin(self.tenant), state.store.log_key());
        let vkey = Checkpoint::key(&origin, key).map_err(Error::internal)?.to_string();
        let (pem, fingerprint) = (key.to_pem(), key.fingerprint().to_hex());
        Ok(Json(Log { origin: origin.to_string(), size: self.reader.size().await?, vkey, pem, fingerprint }))
    }

    async fn checkpoint(self, state: &ApiState) -> Answer<Response> {
        let (_, signed) = self.reader.checkpoint(&state.store).await?;
        Ok(text(signed.note.to_string()))
    }

    async fn checkpoints(mut self, state: &ApiState, paging: page::Paging) -> Answer<Json<List<SignedCheckpoint>>> {
        let (below, limit) = (page::after::<u64>(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
        let found = self.reader.checkpoints(&state.store, below.unwrap_or(u64::MAX), limit).await?;
        Ok(page::list(found, |signed| SignedCheckpoint {
            size: signed.checkpoint.size,
            root: signed.checkpoint.root.to_hex(),
            signed_at: signed.at,
            note: signed.note.to_string(),
        }))
    }

    async fn tile(mut self, level: &str, place: &str) -> Answer<Response> {
        let of_entries = level == "entries";
        let tile = Tile::parse(if of_entries { "0" } else { level }, place).ok_or(Error::NotFound { what: "tile" })?;
        let bytes = if of_entries { self.reader.entries(tile).await? } else { self.reader.tile(tile).await? };
        // It never changes; but it is the tenant's, so only the caller's own cache may keep it.
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
        ];
        Ok((headers, bytes).into_response())
    }

    async fn proof(mut self, state: &ApiState, query: ProofQuery) -> Answer<Response> {
        let index = match (query.seq, query.evidence) {
            (Some(seq), None) => number("seq", &seq)?,
            (None, Some(id)) => {
                let id: EvidenceId = page::id(&id, "evidence")?;
                self.reader.place_of_statement(id).await?.ok_or(Error::NotFound { what: "evidence" })?
            }
            _ => {
                let message = "name a record by `seq`, or a statement by `evidence`".to_owned();
                return Err(Error::Invalid { field: None, message }.into());
            }
        };
        Ok(text(self.reader.proof(&state.store, index).await?.to_string()))
    }

    async fn consistency(mut self, query: ConsistencyQuery) -> Answer<Json<Consistency>> {
        let (from, to) = (number("from", &query.from)?, number("to", &query.to)?);
        let hashes = self.reader.consistency(from, to).await?;
        Ok(Json(Consistency { from, to, hashes: hashes.iter().map(|hash| hash.to_hex()).collect() }))
    }

    async fn verify(self, state: &ApiState, query: VerifyQuery) -> Answer<Json<LogVerification>> {
        let from = query.from.map_or(Ok(0), |from| number("from", &from))?;
        let found = self.reader.verify(&state.store, from, VERIFY_RECORDS).await?;
        let faults = found.faults.into_iter().map(|fault| LogFault { seq: fault.seq, problem: fault.problem });
        Ok(Json(LogVerification {
            size: found.size,
            records: found.records,
            checkpoints: found.checkpoints,
            next: found.next,
            faults: faults.collect(),
        }))
    }
}

fn number(field: &'static str, text: &str) -> Result<u64, Error> {
    let number = text.parse::<u64>().ok().filter(|number| *number <= i64::MAX.unsigned_abs());
    number.ok_or_else(|| Error::invalid(field, "use a whole number from 0"))
}

/// Which record.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProofQuery {
    /// The record's place in the log.
    seq: Option<String>,
    /// A signed statement's id.
    evidence: Option<String>,
}

/// Between which sizes.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsistencyQuery {
    /// The smaller size.
    from: String,
    /// The larger size.
    to: String,
}

/// Where to begin.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyQuery {
    /// `next` of the part before; default 0.
    from: Option<String>,
}

/// Each operation twice: on a tenant's log, and on the platform's own.
macro_rules! both {
    ($(
        $(#[doc = $doc:literal])* $name:ident $platform:ident $path:literal ($($kind:ident $argument:ident: $type:ty)?) -> ($status:literal $described:literal $body:ty $(as $content:literal)?) |$log:ident, $state:ident| $call:expr;
    )*) => {$(
        $(#[doc = $doc])*
        #[utoipa::path(get, path = concat!("/api/v1/tenants/{tenant}/log", $path), tag = "log",
            params(("tenant" = String, Path, description = "id or slug") $(, $type)?),
            responses((status = $status, description = $described, body = $body $(, content_type = $content)?)))]
        pub(crate) async fn $name(
            State($state): State<ApiState>,
            caller: Caller,
            Path(tenant): Path<String>,
            $($kind($argument): $kind<$type>,)?
        ) -> Answer<impl IntoResponse> {
            let $log = tenant_log(&$state, &caller, &tenant).await?;
            $call.await
        }

        $(#[doc = $doc])*
        #[utoipa::path(get, path = concat!("/api/v1/log", $path), tag = "log", $(params($type),)?
            responses((status = $status, description = $described, body = $body $(, content_type = $content)?)))]
        pub(crate) async fn $platform(
            State($state): State<ApiState>,
            caller: Caller,
            $($kind($argument): $kind<$type>,)?
        ) -> Answer<impl IntoResponse> {
            let $log = platform_log(&$state, &caller).await?;
            $call.await
        }
    )*};
}

both! {
    /// The log's name, size and key.
    log_read platform_log_read "" () -> (200 "log" Log) |log, state| log.show(&state);
    /// The signed head of the log (C2SP tlog-checkpoint), covering every record that was there before the call, with the witnesses' lines.
    log_checkpoint platform_log_checkpoint "/checkpoint" () -> (200 "checkpoint" String as "text/plain") |log, state| log.checkpoint(&state);
    /// Every checkpoint that was signed, the newest first.
    log_checkpoints platform_log_checkpoints "/checkpoints" (Query query: page::Paging) -> (200 "checkpoints" List<SignedCheckpoint>) |log, state| log.checkpoints(&state, query);
    /// That a record or a statement is in the log (C2SP tlog-proof).
    log_proof platform_log_proof "/proof" (Query query: ProofQuery) -> (200 "proof" String as "text/plain") |log, state| log.proof(&state, query);
    /// That one size of the log is the beginning of another (RFC 6962).
    log_consistency platform_log_consistency "/consistency" (Query query: ConsistencyQuery) -> (200 "proof" Consistency) |log, state| log.consistency(query);
    /// Compares the stored records with what was signed, a part of the log at a time.
    log_verify platform_log_verify "/verify" (Query query: VerifyQuery) -> (200 "findings" LogVerification) |log, state| log.verify(&state, query);
}

/// A tile of the tree, or with the level `entries` a bundle of records (C2SP tlog-tiles).
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/log/tile/{level}/{*place}", tag = "log",
    params(("tenant" = String, Path, description = "id or slug"), ("level" = String, Path, description = "0 to 7, or `entries`"),
        ("place" = String, Path, description = "`<N>[.p/<W>]`, N in groups of three digits")),
    responses((status = 200, description = "tile", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn log_tile(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, level, place)): Path<(String, String, String)>,
) -> Answer<Response> {
    tenant_log(&state, &caller, &tenant).await?.tile(&level, &place).await
}

/// A tile of the platform's tree, or with the level `entries` a bundle of records (C2SP tlog-tiles).
#[utoipa::path(get, path = "/api/v1/log/tile/{level}/{*place}", tag = "log",
    params(("level" = String, Path, description = "0 to 7, or `entries`"),
        ("place" = String, Path, description = "`<N>[.p/<W>]`, N in groups of three digits")),
    responses((status = 200, description = "tile", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn platform_log_tile(
    State(state): State<ApiState>,
    caller: Caller,
    Path((level, place)): Path<(String, String)>,
) -> Answer<Response> {
    platform_log(&state, &caller).await?.tile(&level, &place).await
}

fn note(body: &Cosigned) -> Result<Note, Error> {
    body.checkpoint.parse().map_err(|error: evidence::note::NoteError| Error::invalid("checkpoint", error.to_string()))
}

fn taken(lines: usize) -> Json<CosignaturesTaken> {
    Json(CosignaturesTaken { taken: lines as u64 })
}

/// Hands in what witnesses signed under a checkpoint of the tenant's log.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/log/cosignatures", tag = "log", params(("tenant" = String, Path, description = "id or slug")),
    request_body = Cosigned, responses((status = 200, description = "cosignatures of known witnesses", body = CosignaturesTaken)))]
pub(crate) async fn log_cosign(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<Cosigned>,
) -> Answer<Json<CosignaturesTaken>> {
    let permit = caller.permit::<ops::LogCosign>(&tenant).await?;
    let note = note(&body)?;
    Ok(taken(state.store.write(permit).await?.log_cosign(&note).await?))
}

/// Hands in what witnesses signed under a checkpoint of the platform's log.
#[utoipa::path(post, path = "/api/v1/log/cosignatures", tag = "log",
    request_body = Cosigned, responses((status = 200, description = "cosignatures of known witnesses", body = CosignaturesTaken)))]
pub(crate) async fn platform_log_cosign(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<Cosigned>,
) -> Answer<Json<CosignaturesTaken>> {
    let permit = caller.platform_permit::<ops::PlatformLogCosign>().await?;
    let note = note(&body)?;
    Ok(taken(state.store.write_platform(permit).await?.platform_log_cosign(&note).await?))
}

fn witness(row: store::WitnessRow) -> Witness {
    let (name, vkey) = (row.key.name().to_owned(), row.key.to_string());
    Witness { name, vkey, added_at: row.added_at, added_by: row.added_by }
}

/// The witnesses whose cosignatures are accepted.
#[utoipa::path(get, path = "/api/v1/witnesses", tag = "log", responses((status = 200, description = "witnesses", body = List<Witness>)))]
pub(crate) async fn witness_list(State(state): State<ApiState>, caller: Caller) -> Answer<Json<List<Witness>>> {
    let permit = caller.platform_permit::<ops::WitnessList>().await?;
    Ok(page::whole(state.store.witness_list(permit).await?.into_iter().map(witness).collect()))
}

/// Accepts a witness's cosignatures from now on.
#[utoipa::path(post, path = "/api/v1/witnesses", tag = "log", request_body = NewWitness, responses((status = 201, description = "added", body = Witness)))]
pub(crate) async fn witness_add(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<NewWitness>,
) -> Answer<Response> {
    let permit = caller.platform_permit::<ops::WitnessAdd>().await?;
    let key: NoteKey =
        body.vkey.parse().map_err(|error: evidence::note::NoteError| Error::invalid("vkey", error.to_string()))?;
    let added = state.store.write_platform(permit).await?.witness_add(&key).await?;
    Ok((axum::http::StatusCode::CREATED, Json(witness(added))).into_response())
}

/// Accepts no more cosignatures of a witness.
#[utoipa::path(delete, path = "/api/v1/witnesses/{witness}", tag = "log", params(("witness" = String, Path, description = "its name")),
    responses((status = 204, description = "removed")))]
pub(crate) async fn witness_remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<axum::http::StatusCode> {
    let permit = caller.platform_permit::<ops::WitnessRemove>().await?;
    state.store.write_platform(permit).await?.witness_remove(&name).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}
