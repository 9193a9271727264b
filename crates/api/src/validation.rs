//! Validations: whether a credential can do what a plugin needs. A worker does them; here they are asked for and looked at.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{CredentialId, Error};
use serde::Deserialize;
use store::{NewValidation, ValidationRow};
use wire::List;
use wire::validation::{Check, Validation, ValidationCreate};

use crate::caller::Caller;
use crate::job;
use crate::page::{self, Body, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// After so long without a sign of life a relay counts as away, in milliseconds: a server notes one every 20 s.
const LINK_MS: i64 = 90_000;

fn validation(row: ValidationRow) -> Validation {
    // What looks like a secret is taken out once more: reasons hold words of targets.
    let clean = |text: &str| redact::redact(text).into_owned();
    let check = |check: &domain::Check| Check {
        what: clean(&check.what),
        outcome: check.outcome.to_string(),
        reason: check.reason.as_deref().map(clean),
    };
    Validation {
        id: row.id,
        plugin: row.plugin,
        credential: row.credential,
        relay: row.relay,
        config: row.config,
        status: row.status.to_string(),
        requested_by: row.requested_by,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
        error: row.error.as_deref().map(clean),
        checks: row.checks.iter().map(check).collect(),
    }
}

/// Which validations.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValidationQuery {
    /// Only of this credential, by id.
    credential: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The tenant's validations, the newest first. Of each credential the last twenty are kept.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/validations", tag = "credentials",
    params(("tenant" = String, Path, description = "id or slug"), ValidationQuery),
    responses((status = 200, description = "validations", body = List<Validation>)))]
pub(crate) async fn validation_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<ValidationQuery>,
) -> Answer<Json<List<Validation>>> {
    let permit = caller.permit::<ops::ValidationList>(&tenant).await?;
    let wrong = |_| Error::invalid("credential", "name it by its id, `crd_…`");
    let credential: Option<CredentialId> =
        query.credential.as_deref().map(|id| id.parse().map_err(wrong)).transpose()?;
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let rows = state.store.read(permit).await?.validation_list(credential, after, limit).await?;
    Ok(page::list(rows, validation))
}

/// Tries what a job with these settings would begin with: whether the credential is good, and what it may not do. It takes a minute at most; ask
/// for it until it has ended. One of a credential at a time, ten in ten minutes.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/validations", tag = "credentials", params(("tenant" = String, Path, description = "id or slug")),
    request_body = ValidationCreate, responses((status = 201, description = "queued", body = Validation)))]
pub(crate) async fn validation_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<ValidationCreate>,
) -> Answer<(StatusCode, Json<Validation>)> {
    let permit = caller.permit::<ops::ValidationCreate>(&tenant).await?;
    state.catalog.check(&body.plugin, &body.config)?;
    let credential = job::credential(&state, &caller, &tenant, &body.plugin, body.credential.as_deref()).await?;
    let relay = job::relay(&state, &caller, &tenant, body.relay.as_deref()).await?;
    if let Some(relay) = relay {
        let (link, now) = (state.store.relay_link(relay).await?, state.store.clock().now());
        if link.is_none_or(|link| now.millis_since(link.seen_at) > LINK_MS) {
            let why = "the relay is not connected: a validation does not wait for it";
            return Err(Error::invalid("relay", why).into());
        }
    }
    let new = NewValidation { plugin: body.plugin, credential, relay, config: body.config };
    let row = state.store.write(permit).await?.validation_create(new).await?;
    Ok((StatusCode::CREATED, Json(validation(row))))
}

/// One validation.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/validations/{validation}", tag = "credentials",
    params(("tenant" = String, Path, description = "id or slug"), ("validation" = String, Path, description = "the validation's id")),
    responses((status = 200, description = "validation", body = Validation)))]
pub(crate) async fn validation_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Validation>> {
    let permit = caller.permit::<ops::ValidationList>(&tenant).await?;
    let row = state.store.read(permit).await?.validation_show(page::id(&id, "validation")?).await?;
    Ok(Json(validation(row)))
}
