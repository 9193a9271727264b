//! Connections to SSH hosts through relays, as relays begin and end them.

use access::fleet_ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;
use store::{NewSshSession, SshSessionEnding};
use wire::ssh_access::{SshSessionBegin, SshSessionBegun, SshSessionEnd};

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
    let new =
        NewSshSession { token: said.jti, from: body.from, host_key, client_key, standing: tunnel::standing(&said) };
    let made = state.store.ssh_session_begin(permit, &new, &authority).await?;
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
        extensions: made.host.extensions,
        special_networks: made.special_networks,
        host_certificate: made.host_certificate,
        client_certificate: made.client_certificate,
    };
    Ok((StatusCode::CREATED, Json(begun)))
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
