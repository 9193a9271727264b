//! Credentials: their secrets go in and do not come out.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{Error, Secret};
use store::CredentialView;
use wire::List;
use wire::credential::{Credential, CredentialCreate};

use crate::caller::Caller;
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

fn credential(row: CredentialView) -> Credential {
    let CredentialView { credential, validation } = row;
    Credential {
        id: credential.id,
        plugin: credential.plugin,
        name: credential.name,
        kind: credential.kind,
        created_at: credential.created_at,
        created_by: credential.created_by,
        last_used_at: credential.last_used_at,
        validation: validation.as_ref().map(|it| it.id),
        validation_status: validation.as_ref().map(|it| it.status.to_string()),
        validated_at: validation.map(|it| it.created_at),
    }
}

/// The tenant's credentials, without secrets.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/credentials", tag = "credentials",
    params(("tenant" = String, Path, description = "id or slug"), Paging), responses((status = 200, description = "credentials", body = List<Credential>)))]
pub(crate) async fn credential_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Credential>>> {
    let permit = caller.permit::<ops::CredentialList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.credential_list(after, limit).await?, credential))
}

/// Checks the secret's fields against what the plugin says that it needs. Messages name fields, never values.
fn check(state: &ApiState, body: &CredentialCreate) -> Result<(), Error> {
    let plugin = state
        .catalog
        .plugins()
        .iter()
        .find(|plugin| plugin.name == body.plugin)
        .ok_or_else(|| Error::invalid("plugin", format!("there is no plugin `{}`", body.plugin.escape_debug())))?;
    let names = || plugin.credential_types.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>().join(", ");
    let kind = plugin.credential_types.iter().find(|kind| kind.name == body.kind).ok_or_else(|| {
        let known = if plugin.credential_types.is_empty() {
            "it needs no credential".to_owned()
        } else {
            format!("use one of {}", names())
        };
        Error::invalid("type", format!("the plugin `{}` does not know this type: {known}", plugin.name))
    })?;
    if let Some(missing) = kind.required.iter().find(|field| body.secret.get(*field).is_none_or(String::is_empty)) {
        return Err(Error::invalid(
            "secret",
            format!("the field `{missing}` is missing: a `{}` needs {}", kind.name, kind.required.join(", ")),
        ));
    }
    if let Some(unknown) =
        body.secret.keys().find(|field| !kind.required.contains(field) && !kind.optional.contains(field))
    {
        return Err(Error::invalid("secret", format!("a `{}` has no field `{}`", kind.name, unknown.escape_debug())));
    }
    Ok(())
}

/// Seals and stores a credential.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/credentials", tag = "credentials", params(("tenant" = String, Path, description = "id or slug")),
    request_body = CredentialCreate, responses((status = 201, description = "stored", body = Credential)))]
pub(crate) async fn credential_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<CredentialCreate>,
) -> Answer<(StatusCode, Json<Credential>)> {
    let permit = caller.permit::<ops::CredentialCreate>(&tenant).await?;
    let name = body.name.parse()?;
    check(&state, &body)?;
    let secret = Secret::new(serde_json::to_vec(&body.secret).map_err(Error::internal)?);
    let row = state.store.write(permit).await?.credential_create(&body.plugin, &name, &body.kind, &secret).await?;
    Ok((StatusCode::CREATED, Json(credential(CredentialView { credential: row, validation: None }))))
}

/// One credential, without its secret.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/credentials/{credential}", tag = "credentials",
    params(("tenant" = String, Path, description = "id or slug"), ("credential" = String, Path, description = "the credential's id")),
    responses((status = 200, description = "credential", body = Credential)))]
pub(crate) async fn credential_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Credential>> {
    let permit = caller.permit::<ops::CredentialList>(&tenant).await?;
    Ok(Json(credential(state.store.read(permit).await?.credential_show(page::id(&id, "credential")?).await?)))
}

/// Deletes a credential.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/credentials/{credential}", tag = "credentials",
    params(("tenant" = String, Path, description = "id or slug"), ("credential" = String, Path, description = "the credential's id")),
    responses((status = 204, description = "deleted")))]
pub(crate) async fn credential_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::CredentialDelete>(&tenant).await?;
    state.store.write(permit).await?.credential_delete(page::id(&id, "credential")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
