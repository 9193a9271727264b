//! Connections to SSH hosts through relays, as relays begin and end them.

use access::fleet_ops;
use access::ssh::SshUse;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Error;
use serde_json::json;
use store::{NewSshSession, SshListens, SshSessionBegun as SshBegun, SshSessionEnding};
use wire::recording::RecordingTerms;
use wire::ssh_access::{
    SshSessionBegin, SshSessionBegun, SshSessionEnd, SshSessionForward, SshSessionHeld, SshSessionHold,
};

use crate::destination::check_way;
use crate::fleet_caller::{FleetCaller, FleetFailure};
use crate::page::{self, Path, SignedBody};
use crate::ssh_access::{authorities, key};
use crate::state::ApiState;
use crate::tunnel;

/// Longest reason that is written down, in characters.
const REASON_MAX: usize = 300;

/// Begins a user's connection to an SSH host that hangs on the relay: certificates for the keys that the relay made for it, on the strength of the
/// destination token that the user showed. A token is good for one connection. Only the relay itself, with its credential and a proof.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/ssh-sessions", tag = "destinations", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id")), request_body = SshSessionBegin,
    responses((status = 201, description = "begun", body = SshSessionBegun)))]
pub(crate) async fn ssh_session_begin(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    SignedBody(body, bytes): SignedBody<SshSessionBegin>,
) -> Result<(StatusCode, Json<SshSessionBegun>), FleetFailure> {
    let permit = caller.permit::<fleet_ops::SshSessionBegin>(&id, &bytes).await?;
    let (host_key, client_key) = (key("host_key", &body.host_key)?, key("client_key", &body.client_key)?);
    let said = tunnel::verify(&state, body.destination, &body.token).await?;
    let authority = state.store.ssh_authority().await?;
    let ssh = SshUse { from: body.from.map(|from| from.to_canonical()), takes: None };
    let standing = store::Standing { ssh, ..tunnel::standing(&said) };
    let new = NewSshSession { token: said.jti, from: body.from, host_key, client_key, standing };
    let made = match state.store.ssh_session_begin(permit, &new, &authority).await? {
        SshBegun::New(made) => made,
        SshBegun::Again => {
            metrics::counter!("cairn_ssh_token_reused_total").increment(1);
            tracing::warn!(destination = %body.destination, token = %said.jti, "alarm: a token was used for a second connection, and refused");
            let message = "this token was used for a connection already: each needs a token of its own".to_owned();
            return Err(Error::Conflict { message }.into());
        }
    };
    let begun = SshSessionBegun {
        id: made.id,
        user: said.user,
        name: said.name,
        session: said.session,
        token: said.jti,
        token_expires_at: said.expires,
        until: made.until,
        account: said.role,
        principal: made.principal,
        authorities: authorities(&state.store.ssh_ca_keys().await?),
        address: made.host.address.to_string(),
        host_alias: made.host.alias(),
        host_key: made.host.host_key.to_string(),
        source_networks: made.host.source_networks,
        extensions: made.offer.extensions.iter().map(ToString::to_string).collect(),
        force_command: made.offer.command,
        recording: Some(RecordingTerms { mode: made.recording.0, input: made.recording.1 }),
        special_networks: made.special_networks,
        host_certificate: made.host_certificate,
        client_certificate: made.client_certificate,
    };
    Ok((StatusCode::CREATED, Json(begun)))
}

/// What can be forwarded.
const KINDS: [&str; 6] = ["agent", "x11", "local", "local-socket", "remote", "remote-socket"];
/// Longest place that something is forwarded to, in characters.
const PLACE_MAX: usize = 300;

/// Writes down that something is about to be forwarded on a connection to an SSH host: that it is, and not what passes. Only the relay that began it.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/ssh-sessions/{connection}/forwards", tag = "destinations", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id"), ("connection" = String, Path, description = "the connection's id")),
    request_body = SshSessionForward, responses((status = 204, description = "written down")))]
pub(crate) async fn ssh_session_forward(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path((id, connection)): Path<(String, String)>,
    SignedBody(body, bytes): SignedBody<SshSessionForward>,
) -> Result<StatusCode, FleetFailure> {
    let permit = caller.permit::<fleet_ops::SshSessionForward>(&id, &bytes).await?;
    let connection = page::id(&connection, "connection")?;
    if !KINDS.contains(&body.kind.as_str()) {
        return Err(Error::invalid("kind", format!("use one of {}", KINDS.join(", "))).into());
    }
    let place: String = body.place.chars().filter(|it| !it.is_control()).take(PLACE_MAX).collect();
    let detail = json!({"at": body.at, "kind": body.kind, "place": place});
    state.store.ssh_session_forward(permit, connection, &detail).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Most connections that a relay says it holds.
const HELD_MAX: usize = 2_048;

/// Hears which connections to SSH hosts a relay holds: whatever else it began has ended, as when it was killed and started again. Only the relay itself,
/// about its own. And where it takes users without this server between: in return it gets the keys that verify their tokens.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/ssh-sessions/held", tag = "destinations", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id")), request_body = SshSessionHold,
    responses((status = 200, description = "heard", body = SshSessionHeld)))]
pub(crate) async fn ssh_session_hold(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    SignedBody(body, bytes): SignedBody<SshSessionHold>,
) -> Result<Json<SshSessionHeld>, FleetFailure> {
    let permit = caller.permit::<fleet_ops::SshSessionHold>(&id, &bytes).await?;
    if body.connections.len() > HELD_MAX {
        return Err(Error::Limit { which: "connections in one message", max: HELD_MAX as u64 }.into());
    }
    if let Some(way) = &body.listens {
        check_way(Some(&way.address), &way.authority)?;
    }
    let way = body.listens.map(|way| (way.address, way.authority));
    let listens = SshListens { way, certificate_ends_at: body.certificate_ends_at };
    let ended = state.store.ssh_session_hold(permit, &body.connections, &listens).await?;
    if ended > 0 {
        tracing::info!(relay = id, ended, "connections to hosts are over that their relay does not hold any more");
    }
    let keys = state.token_keys.now(&state.store).await?;
    Ok(Json(SshSessionHeld {
        issuer: state.settings.installation.clone(),
        keys: crypto::es512::KeySet::new(keys.published.clone()).to_json(),
    }))
}

/// Writes down that a connection to an SSH host ended. Only the relay that began it.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/ssh-sessions/{connection}/end", tag = "destinations", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id"), ("connection" = String, Path, description = "the connection's id")),
    request_body = SshSessionEnd, responses((status = 204, description = "ended")))]
pub(crate) async fn ssh_session_end(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path((id, connection)): Path<(String, String)>,
    SignedBody(body, bytes): SignedBody<SshSessionEnd>,
) -> Result<StatusCode, FleetFailure> {
    let permit = caller.permit::<fleet_ops::SshSessionEnd>(&id, &bytes).await?;
    let connection = page::id(&connection, "connection")?;
    let reason: String = body.reason.chars().take(REASON_MAX).collect();
    let detail = json!({
        "reason": reason, "reached": body.reached, "received_bytes": body.received_bytes, "sent_bytes": body.sent_bytes,
    });
    state.store.ssh_session_end(permit, connection, &SshSessionEnding { at: body.at, detail }).await?;
    Ok(StatusCode::NO_CONTENT)
}
