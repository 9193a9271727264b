//! Which certificates a tenant's relays have to show, and whether one that connects does.
//!
//! Invariant: what counts is the chain of the TLS connection that this server ended itself. No header says anything about it.

use std::sync::Arc;

use access::{FleetPermit, fleet_ops, ops};
use axum::Json;
use axum::extract::State;
use axum::http::Extensions;
use crypto::client_certificate::Authorities;
use domain::{Error, Timestamp};
use serde_json::json;
use store::{Category, Change, Outcome};
use wire::fleet::RelayPolicy;

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::page::{Body, Path};
use crate::problem::Answer;
use crate::state::ApiState;

/// Longest list of authorities, in bytes.
const AUTHORITIES_BYTES: usize = 64 * 1_024;

/// The certificates that a client showed in the TLS handshake of its connection, its own first (DER). The listener puts them into a request's
/// extensions.
#[derive(Debug, Clone)]
pub struct ClientCertificates(pub Arc<[Vec<u8>]>);

/// Which certificates the tenant's relays have to show.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/relay-policy", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug")), responses((status = 200, description = "the policy", body = RelayPolicy, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn relay_policy_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Tagged<RelayPolicy>> {
    let permit = caller.permit::<ops::RelayPolicyShow>(&tenant).await?;
    let policy = state.store.read(permit).await?.relay_policy_show().await?;
    let version = policy.version();
    Ok(Tagged(document(policy), version))
}

/// Says which certificates the tenant's relays have to show. Every relay of the tenant is cut off within a second and comes back under the new
/// terms.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/relay-policy", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")), request_body = RelayPolicy,
    responses((status = 200, description = "changed", body = RelayPolicy), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn relay_policy_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path(tenant): Path<String>,
    Body(body): Body<RelayPolicy>,
) -> Answer<Json<RelayPolicy>> {
    let permit = caller.permit::<ops::RelayPolicyPut>(&tenant).await?;
    let authorities = body.authorities.trim();
    if authorities.len() > AUTHORITIES_BYTES {
        return Err(Error::Limit { which: "bytes of authorities", max: AUTHORITIES_BYTES as u64 }.into());
    }
    if !authorities.is_empty() {
        Authorities::of_pem(authorities).map_err(|wrong| Error::invalid("authorities", wrong))?;
    } else if body.certificate_required {
        return Err(
            Error::invalid("authorities", "a certificate of nobody cannot be required: name an authority").into()
        );
    }
    let policy =
        store::RelayPolicy { authorities: authorities.to_owned(), certificate_required: body.certificate_required };
    state.store.write(permit).await?.only_if(condition).relay_policy_put(&policy).await?;
    Ok(Json(document(policy)))
}

fn document(policy: store::RelayPolicy) -> RelayPolicy {
    RelayPolicy { authorities: policy.authorities, certificate_required: policy.certificate_required }
}

/// What a relay showed, for the record of its connection.
pub(crate) struct Shown {
    /// SHA-256 of its certificate.
    pub(crate) sha256: Option<domain::Digest>,
    /// Whether the tenant's authorities vouch for it; none where the tenant has none.
    pub(crate) vouched_for: Option<bool>,
}

/// Judges the certificate of a relay that connects, by the authorities of its own tenant; refuses it where the tenant requires another one.
pub(crate) async fn check(
    state: &ApiState,
    permit: &FleetPermit<fleet_ops::RelayConnect>,
    extensions: &Extensions,
) -> Result<(store::RelayPolicy, Shown), Error> {
    let policy = state.store.relay_policy(permit).await?;
    let chain = extensions.get::<ClientCertificates>().map(|shown| Arc::clone(&shown.0)).unwrap_or_default();
    let sha256 = chain.first().map(|own| crypto::sha256(own));
    if policy.authorities.is_empty() {
        return Ok((policy, Shown { sha256, vouched_for: None }));
    }
    let now = state.store.clock().now();
    let judged = judge(&policy.authorities, &chain, now);
    let Err(wrong) = judged else { return Ok((policy, Shown { sha256, vouched_for: Some(true) })) };
    if !policy.certificate_required {
        return Ok((policy, Shown { sha256, vouched_for: Some(false) }));
    }
    if state.fleet.is_new(permit.id().as_uuid().as_u128(), now) {
        let detail = json!({"reason": wrong, "certificate_sha256": sha256});
        let change = Change::to(Category::Access, "relay", permit.id()).outcome(Outcome::Deny).detail(detail);
        state.store.record(permit.ctx(), Some(permit.tenant()), "relay_connect", &change).await?;
    }
    Err(Error::Forbidden { message: wrong })
}

fn judge(authorities: &str, chain: &[Vec<u8>], now: Timestamp) -> Result<(), String> {
    if chain.is_empty() {
        return Err("this tenant's relays have to show a client certificate, and none came: set RELAY_CLIENT_CERT and RELAY_CLIENT_KEY; \
            a proxy that ends TLS before the server takes it away"
            .to_owned());
    }
    let authorities = Authorities::of_pem(authorities).map_err(|wrong| format!("the tenant's authorities: {wrong}"))?;
    authorities.verify(chain, now.as_seconds().unsigned_abs()).map_err(|wrong| {
        format!(
            "the client certificate is none that this tenant's authorities vouch for ({wrong}): set RELAY_CLIENT_CERT to one of theirs, \
             with the certificates in between"
        )
    })
}
