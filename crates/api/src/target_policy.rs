//! Which special addresses a tenant's jobs may reach.

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::{Error, Limits, Network};
use transport::guard::allowable;
use wire::tenant::TargetPolicy;

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::page::{Body, Path};
use crate::problem::Answer;
use crate::state::ApiState;

/// Which special addresses the tenant's jobs may reach.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/target-policy", tag = "tenants",
    params(("tenant" = String, Path, description = "id or slug")), responses((status = 200, description = "the policy", body = TargetPolicy, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn target_policy_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Tagged<TargetPolicy>> {
    let permit = caller.permit::<ops::TargetPolicyShow>(&tenant).await?;
    let networks = state.store.read(permit).await?.target_policy_show().await?;
    Ok(Tagged(document(&networks), networks.version()))
}

/// Says which special addresses the tenant's jobs may reach, from their next task on. Where a server itself makes the calls,
/// `discovery.special_targets` of its configuration has to name them too; a relay is the tenant's own.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/target-policy", tag = "tenants",
    params(("tenant" = String, Path, description = "id or slug"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")), request_body = TargetPolicy,
    responses((status = 200, description = "changed", body = TargetPolicy), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn target_policy_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path(tenant): Path<String>,
    Body(body): Body<TargetPolicy>,
) -> Answer<Json<TargetPolicy>> {
    let permit = caller.permit::<ops::TargetPolicyPut>(&tenant).await?;
    let networks = networks(&body)?;
    state.store.write(permit).await?.only_if(condition).target_policy_put(&networks).await?;
    Ok(Json(document(&networks)))
}

/// The networks in their order, each once.
fn networks(body: &TargetPolicy) -> Result<Vec<Network>, Error> {
    if body.special_networks.len() > Limits::TARGET_NETWORKS {
        let most = format!("name at most {} networks", Limits::TARGET_NETWORKS);
        return Err(Error::invalid("special_networks", most));
    }
    let mut networks = Vec::new();
    for text in &body.special_networks {
        let network: Network = text.parse()?;
        allowable(&network).map_err(|why| Error::invalid("special_networks", format!("`{network}` {why}")))?;
        networks.push(network);
    }
    networks.sort_unstable();
    networks.dedup();
    Ok(networks)
}

fn document(networks: &[Network]) -> TargetPolicy {
    TargetPolicy { special_networks: networks.iter().map(Network::to_string).collect() }
}
