//! SSH hosts as destinations, their certificates, those of who reaches them, and the keys that sign both.

use std::collections::BTreeSet;

use access::{member_ops, ops};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use crypto::ssh::PublicKey;
use domain::{Error, HostPort, Labels, Network, SshExtension};
use store::{ByLabels, NewSshHost, SshHostRow, Way};
use wire::ssh_access::{SshCertificate, SshCertificateCreate, SshHost, SshHostCertificate, SshHostPut};

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::destination::{by_labels, way_word};
use crate::page::{Body, Path};
use crate::problem::Answer;
use crate::state::ApiState;

/// Most roles of a host, and most networks.
const LISTED_MAX: usize = 64;

pub(crate) fn authorities(keys: &[crypto::ed25519::PublicKey]) -> Vec<String> {
    keys.iter().map(|key| PublicKey::of_ed25519(key).to_string()).collect()
}

fn ssh_host((row, gives): (SshHostRow, ByLabels), authorities: Vec<String>) -> SshHost {
    let destination = row.destination;
    SshHost {
        id: destination.id,
        name: destination.name.to_string(),
        address: row.address.to_string(),
        host_key: row.host_key.to_string(),
        roles: destination.roles.iter().map(ToString::to_string).collect(),
        labels: destination.labels.as_map().clone(),
        source_networks: row.source_networks.iter().map(ToString::to_string).collect(),
        extensions: row.extensions.iter().map(ToString::to_string).collect(),
        relay: destination.relay,
        relay_name: destination.relay_name,
        way: way_word(destination.relay.is_some()).to_owned(),
        authorities,
        // The account is the role, and the names are of this host only: with no file of names, every certificate of the authority would let
        // into the account that it names.
        sshd_config: format!(
            "TrustedUserCAKeys /etc/ssh/cairn_ca.pub\nAuthorizedPrincipalsCommand /bin/echo cairn/{}/%u\nAuthorizedPrincipalsCommandUser nobody\n",
            destination.id
        ),
        by_labels: by_labels(gives),
    }
}

pub(crate) fn key(field: &'static str, text: &str) -> Result<PublicKey, Error> {
    let wrong = "use one line of a public key, such as `ssh-ed25519 AAAA…`";
    let key: PublicKey = text.parse().map_err(|_| Error::invalid(field, wrong))?;
    if key.kind() == "ssh-rsa" {
        return Err(Error::invalid(field, "RSA keys are not used: take an Ed25519 or ECDSA key"));
    }
    Ok(key)
}

pub(crate) fn checked(body: SshHostPut, way: Way) -> Result<NewSshHost, Error> {
    let address: HostPort = body.address.parse()?;
    if body.roles.is_empty() || body.roles.len() > LISTED_MAX || body.source_networks.len() > LISTED_MAX {
        return Err(Error::invalid("roles", "name 1 to 64 accounts as roles, and at most 64 networks"));
    }
    let mut source_networks = Vec::new();
    for text in &body.source_networks {
        let network: Network = text.parse().map_err(|_| {
            Error::invalid("source_networks", format!("`{}` is no network such as `10.0.0.0/8`", text.escape_debug()))
        })?;
        source_networks.push(network);
    }
    source_networks.sort_unstable();
    source_networks.dedup();
    let asked = body.extensions.unwrap_or_else(|| vec![SshExtension::Pty.to_string()]);
    let extensions = asked.iter().map(|name| name.parse()).collect::<Result<BTreeSet<SshExtension>, _>>()?;
    let mut roles = body.roles;
    roles.sort_unstable();
    roles.dedup();
    let host_key = key("host_key", &body.host_key)?;
    Ok(NewSshHost {
        address,
        host_key,
        roles,
        labels: body.labels.map(Labels::new).transpose()?,
        source_networks,
        extensions,
        way,
    })
}

/// A host that is reached with SSH certificates, with what it has to be told.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/destinations/{destination}/ssh-host", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name")),
    responses((status = 200, description = "the host", body = SshHost, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn ssh_host_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
) -> Answer<Tagged<SshHost>> {
    let permit = caller.permit::<ops::SshHostShow>(&tenant).await?;
    let row = state.store.read(permit).await?.ssh_host_show(&named).await?;
    let version = row.0.version();
    Ok(Tagged(ssh_host(row, authorities(&state.store.ssh_ca_keys().await?)), version))
}

/// Says what an SSH host is. Makes a destination of kind `ssh` where there is none of this name.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/destinations/{destination}/ssh-host", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name; a new one's name is 1 to 63 of `a-z`, `0-9`, `-`"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now"), ("If-None-Match" = Option<String>, Header, description = "`*`: only where there is none, otherwise 412")),
    request_body = SshHostPut, responses((status = 200, description = "the host", body = SshHost), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn ssh_host_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path((tenant, named)): Path<(String, String)>,
    Body(body): Body<SshHostPut>,
) -> Answer<Json<SshHost>> {
    let permit = caller.permit::<ops::SshHostPut>(&tenant).await?;
    let way = match body.relay.as_deref() {
        None => Way::Same,
        Some("") => Way::Direct,
        named => crate::job::relay(&state, &caller, &tenant, named).await?.map_or(Way::Same, Way::Relay),
    };
    let new = checked(body, way)?;
    let row = state.store.write(permit).await?.only_if(condition).ssh_host_put(&named, &new).await?;
    Ok(Json(ssh_host(row, authorities(&state.store.ssh_ca_keys().await?))))
}

/// Signs the registered key of a host, for 90 days: who has `known_hosts` lines of the authority is never asked whether they know it.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/destinations/{destination}/ssh-host/certificates", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name")),
    responses((status = 201, description = "a certificate", body = SshHostCertificate)))]
pub(crate) async fn ssh_host_certificate_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
) -> Answer<(StatusCode, Json<SshHostCertificate>)> {
    let permit = caller.permit::<ops::SshHostCertificateCreate>(&tenant).await?;
    let authority = state.store.ssh_authority().await?;
    let made = state.store.write(permit).await?.ssh_host_certificate_create(&named, &authority).await?;
    let (row, certificate, expires_at) = made;
    Ok((StatusCode::CREATED, Json(SshHostCertificate { certificate, principal: row.alias(), expires_at })))
}

/// Signs the caller's key for a host, for five minutes at most and no longer than their grant and session. It is good for one account of one host; where
/// the host hangs on a relay, at that relay and not at the host. A
/// destination that the caller does not reach does not exist.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/destinations/{destination}/ssh-certificates", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name")),
    request_body = SshCertificateCreate, responses((status = 201, description = "a certificate", body = SshCertificate)))]
pub(crate) async fn ssh_certificate_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
    Body(body): Body<SshCertificateCreate>,
) -> Answer<(StatusCode, Json<SshCertificate>)> {
    let permit = caller.member_permit::<member_ops::SshCertificateCreate>(&tenant).await?;
    let session = caller.session()?;
    let public_key = key("public_key", &body.public_key)?;
    let made =
        state.store.ssh_certificate_create(permit, &named, body.role.as_ref(), &public_key, session.expires_at).await?;
    let created = SshCertificate {
        id: made.id,
        certificate: made.certificate,
        destination: made.host.destination.id,
        name: made.host.destination.name.to_string(),
        address: made.host.address.to_string(),
        account: made.role,
        principals: made.principals,
        host_alias: made.host.answers_as(),
        relay: made.host.destination.relay,
        host_key: made.host.host_key.to_string(),
        authorities: authorities(&state.store.ssh_ca_keys().await?),
        expires_at: made.expires_at,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// The keys whose SSH certificates are to be taken, one a line: what goes into the file of a host's `TrustedUserCAKeys`. A new key is here a week
/// before it signs.
#[utoipa::path(get, path = "/.well-known/cairn-ssh-ca.pub", tag = "destinations", security(()), responses((status = 200, description = "keys", body = String, content_type = "text/plain")))]
pub(crate) async fn ssh_ca_show(State(state): State<ApiState>) -> Answer<impl IntoResponse> {
    let lines: String =
        authorities(&state.store.ssh_ca_keys().await?).into_iter().map(|key| key + " cairn-ssh-ca\n").collect();
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")];
    Ok((headers, lines))
}
