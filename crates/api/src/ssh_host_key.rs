//! Host keys of SSH targets that are remembered: seen at a first contact, or named by somebody.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{Error, HostPort};
use store::{SshHostKeyRow, SshTarget};
use wire::List;
use wire::ssh_host_key::{SshHostKey, SshHostKeyPin};

use crate::caller::Caller;
use crate::page::{self, Body, Paging, Path};
use crate::problem::Answer;
use crate::state::ApiState;

fn host_key(row: SshHostKeyRow) -> SshHostKey {
    SshHostKey {
        id: row.id,
        target: row.target.to_string(),
        relay: row.relay,
        key: row.key.to_string(),
        fingerprint: row.key.fingerprint(),
        origin: row.origin.as_str().to_owned(),
        created_at: row.created_at,
    }
}

/// The host keys that are remembered for jobs with `host_keys=first-use`.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/ssh-host-keys", tag = "credentials",
    params(("tenant" = String, Path, description = "id or slug"), Paging), responses((status = 200, description = "keys", body = List<SshHostKey>)))]
pub(crate) async fn ssh_host_key_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    page::Query(paging): page::Query<Paging>,
) -> Answer<Json<List<SshHostKey>>> {
    let permit = caller.permit::<ops::SshHostKeyList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.ssh_host_key_list(after, limit).await?, host_key))
}

/// Remembers a key that somebody checked, before a job meets the host. Another key that is remembered already stays, unless it is named as the
/// one that this one replaces.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/ssh-host-keys", tag = "credentials",
    params(("tenant" = String, Path, description = "id or slug")), request_body = SshHostKeyPin,
    responses((status = 201, description = "remembered", body = SshHostKey)))]
pub(crate) async fn ssh_host_key_pin(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<SshHostKeyPin>,
) -> Answer<(StatusCode, Json<SshHostKey>)> {
    let permit = caller.permit::<ops::SshHostKeyPin>(&tenant).await?;
    let wrong =
        "use one line of a public key of type ssh-ed25519, ecdsa-sha2-nistp… or ssh-rsa, such as `ssh-ed25519 AAAA…`";
    let key = body.key.parse().map_err(|_| Error::invalid("key", wrong))?;
    let target: HostPort = body.target.parse().map_err(|error: Error| match error {
        Error::Invalid { message, .. } => Error::invalid("target", message),
        other => other,
    })?;
    let of = SshTarget { relay: body.relay, target: &target };
    Ok((
        StatusCode::CREATED,
        Json(host_key(state.store.write(permit).await?.ssh_host_key_pin(of, &key, body.replaces).await?)),
    ))
}

/// Forgets a host's key: the next contact of a job with `host_keys=first-use` is the first again, and whatever answers then is trusted.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/ssh-host-keys/{ssh_host_key}", tag = "credentials",
    params(("tenant" = String, Path, description = "id or slug"), ("ssh_host_key" = String, Path, description = "id")),
    responses((status = 204, description = "forgotten")))]
pub(crate) async fn ssh_host_key_remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::SshHostKeyRemove>(&tenant).await?;
    let id = page::id(&id, "host key")?;
    state.store.write(permit).await?.ssh_host_key_remove(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
