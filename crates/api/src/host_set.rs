//! Sets of SSH hosts as destinations.

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::Labels;
use store::HostSetRow;
use wire::List;
use wire::destination::{Destination, HostSet, HostSetPut};

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::destination::destination;
use crate::page::{self, Body, Paging, Path};
use crate::problem::Answer;
use crate::state::ApiState;

fn host_set(row: HostSetRow) -> HostSet {
    HostSet {
        id: row.destination.id,
        name: row.destination.name.to_string(),
        selector: row.selector.as_map().clone(),
        hosts: row.hosts,
        roles: row.roles.iter().map(ToString::to_string).collect(),
        grants: row.grants,
    }
}

/// A set of SSH hosts, with how many are in it now.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/destinations/{destination}/host-set", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name")),
    responses((status = 200, description = "the set", body = HostSet, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn host_set_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
) -> Answer<Tagged<HostSet>> {
    let permit = caller.permit::<ops::HostSetShow>(&tenant).await?;
    let row = state.store.read(permit).await?.host_set_show(&named).await?;
    let version = row.destination.version();
    Ok(Tagged(host_set(row), version))
}

/// Says which hosts a set has. Makes a destination of kind `set` where there is none of this name.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/destinations/{destination}/host-set", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name; a new one's name is 1 to 63 of `a-z`, `0-9`, `-`"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now"), ("If-None-Match" = Option<String>, Header, description = "`*`: only where there is none, otherwise 412")),
    request_body = HostSetPut, responses((status = 200, description = "the set", body = HostSet), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn host_set_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path((tenant, named)): Path<(String, String)>,
    Body(body): Body<HostSetPut>,
) -> Answer<Json<HostSet>> {
    let permit = caller.permit::<ops::HostSetPut>(&tenant).await?;
    let selector = Labels::new(body.selector)?;
    let row = state.store.write(permit).await?.only_if(condition).host_set_put(&named, &selector).await?;
    Ok(Json(host_set(row)))
}

/// The hosts that are in a set at this moment.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/destinations/{destination}/host-set/hosts", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name"), Paging),
    responses((status = 200, description = "hosts", body = List<Destination>)))]
pub(crate) async fn host_set_hosts(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
    page::Query(paging): page::Query<Paging>,
) -> Answer<Json<List<Destination>>> {
    let permit = caller.permit::<ops::HostSetShow>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.host_set_hosts(&named, after, limit).await?, destination))
}
