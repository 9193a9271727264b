//! Identity providers, for those who manage the platform.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{DisplayName, Email, Error, Secret};
use store::{NewProvider, ProviderChange, ProviderRow};
use wire::List;
use wire::provider::{Provider, ProviderCreate, ProviderUpdate, ScimTokenCreated};

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;
use crate::{login, scim};

const SCOPES: &str = "openid email profile offline_access";
const TEXT_BYTES_MAX: usize = 512;

fn provider(state: &ApiState, row: ProviderRow) -> Provider {
    Provider {
        redirect_uri: login::redirect_uri(state, &row.name),
        id: row.id,
        name: row.name,
        title: row.title,
        issuer: row.issuer,
        client_id: row.client_id,
        scopes: row.scopes,
        groups_claim: row.groups_claim,
        email_domains: row.email_domains,
        scim: row.scim,
        created_at: row.created_at,
    }
}

fn text(field: &'static str, text: &str, may_be_empty: bool) -> Result<String, Error> {
    let sound =
        text.len() <= TEXT_BYTES_MAX && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.trim() == text;
    if sound && (may_be_empty || !text.is_empty()) {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid(field, "use printable ASCII without white space at its ends, at most 512 bytes"))
    }
}

fn secret(text: String) -> Result<Secret, Error> {
    let secret = Secret::new(text);
    if secret.expose().is_empty() || secret.expose().len() > 4_096 {
        return Err(Error::invalid("client_secret", "give the secret that the provider shows for this client"));
    }
    Ok(secret)
}

fn scopes(given: &str) -> Result<String, Error> {
    let given = text("scopes", given, false)?;
    if given.split(' ').any(|scope| scope == "openid") {
        Ok(given)
    } else {
        Err(Error::invalid("scopes", "`openid` has to be among them"))
    }
}

/// Names of domains, in lower case as addresses are kept.
fn email_domains(given: &str) -> Result<String, Error> {
    let given = text("email_domains", given, true)?.to_lowercase();
    if given.split_whitespace().any(|domain| format!("somebody@{domain}").parse::<Email>().is_err()) {
        return Err(Error::invalid("email_domains", "use names of domains, such as corp.example, separated by spaces"));
    }
    Ok(given)
}

/// An issuer is a URL of HTTPS without query or fragment (OpenID Connect Discovery, section 3); plain HTTP is for a provider on this machine only,
/// where the configuration allows one.
fn issuer(state: &ApiState, given: &str) -> Result<String, Error> {
    let issuer = text("issuer", given, false)?;
    let rest = match issuer.strip_prefix("https://") {
        Some(rest) => Some(rest),
        None if state.oidc().is_ok_and(crate::oidc::Oidc::allows_loopback) => issuer.strip_prefix("http://"),
        None => None,
    };
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', '@', ' ', '\\']) => {
            Ok(issuer)
        }
        _ => Err(Error::invalid("issuer", "use an https URL without query, exactly as the provider's tokens spell it")),
    }
}

/// Every identity provider.
#[utoipa::path(get, path = "/api/v1/providers", tag = "providers", params(Paging), responses((status = 200, description = "providers", body = List<Provider>)))]
pub(crate) async fn provider_list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Provider>>> {
    let permit = caller.platform_permit::<ops::ProviderList>().await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.provider_list(permit, after, limit).await?, |row| provider(&state, row)))
}

/// One identity provider.
#[utoipa::path(get, path = "/api/v1/providers/{provider}", tag = "providers", params(("provider" = String, Path, description = "name or id")),
    responses((status = 200, description = "the provider", body = Provider, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn provider_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<Tagged<Provider>> {
    let permit = caller.platform_permit::<ops::ProviderList>().await?;
    let row = state.store.provider_show(permit, &name).await?;
    let version = row.version();
    Ok(Tagged(provider(&state, row), version))
}

/// Makes an identity provider. Its client secret is sealed and never shown.
#[utoipa::path(post, path = "/api/v1/providers", tag = "providers", request_body = ProviderCreate, responses((status = 201, description = "made", body = Provider)))]
pub(crate) async fn provider_create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<ProviderCreate>,
) -> Answer<(StatusCode, Json<Provider>)> {
    let permit = caller.platform_permit::<ops::ProviderCreate>().await?;
    let client_secret = secret(body.client_secret)?;
    let title: DisplayName = body.title.as_deref().unwrap_or(&body.name).parse()?;
    let new = NewProvider {
        name: body.name.parse()?,
        title,
        issuer: issuer(&state, &body.issuer)?,
        client_id: text("client_id", &body.client_id, false)?,
        client_secret,
        scopes: scopes(body.scopes.as_deref().unwrap_or(SCOPES))?,
        groups_claim: text("groups_claim", body.groups_claim.as_deref().unwrap_or("groups"), true)?,
        email_domains: email_domains(body.email_domains.as_deref().unwrap_or_default())?,
    };
    let row = state.store.provider_create(permit, &new).await?;
    Ok((StatusCode::CREATED, Json(provider(&state, row))))
}

/// Changes an identity provider. Its issuer stays: identities belong to it.
#[utoipa::path(patch, path = "/api/v1/providers/{provider}", tag = "providers", params(("provider" = String, Path, description = "name or id"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")),
    request_body = ProviderUpdate, responses((status = 200, description = "changed", body = Provider), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn provider_update(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path(name): Path<String>,
    Body(body): Body<ProviderUpdate>,
) -> Answer<Json<Provider>> {
    let permit = caller.platform_permit::<ops::ProviderUpdate>().await?;
    let change = ProviderChange {
        client_secret: body.client_secret.map(secret).transpose()?,
        title: body.title.as_deref().map(str::parse).transpose()?,
        client_id: body.client_id.as_deref().map(|given| text("client_id", given, false)).transpose()?,
        scopes: body.scopes.as_deref().map(scopes).transpose()?,
        groups_claim: body.groups_claim.as_deref().map(|given| text("groups_claim", given, true)).transpose()?,
        email_domains: body.email_domains.as_deref().map(email_domains).transpose()?,
    };
    Ok(Json(provider(&state, state.store.provider_update(permit, &name, &change, condition).await?)))
}

/// Removes an identity provider: its users' sessions end, and what its groups gave is gone.
#[utoipa::path(delete, path = "/api/v1/providers/{provider}", tag = "providers", params(("provider" = String, Path, description = "name or id")),
    responses((status = 204, description = "removed")))]
pub(crate) async fn provider_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    let permit = caller.platform_permit::<ops::ProviderDelete>().await?;
    state.store.write_platform(permit).await?.provider_delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes the token by which a provider provisions users and groups (SCIM 2.0). It is shown once; one before it is good no more.
#[utoipa::path(post, path = "/api/v1/providers/{provider}/scim-token", tag = "providers", params(("provider" = String, Path, description = "name or id")),
    responses((status = 201, description = "made", body = ScimTokenCreated)))]
pub(crate) async fn scim_token_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<(StatusCode, Json<ScimTokenCreated>)> {
    let permit = caller.platform_permit::<ops::ScimTokenCreate>().await?;
    let token = scim::new_token(&**state.store.rng());
    state.store.write_platform(permit).await?.scim_token_create(&name, crypto::sha256(token.as_bytes())).await?;
    let url = format!("{}/scim/v2", state.settings.public_url);
    Ok((StatusCode::CREATED, Json(ScimTokenCreated { token, url })))
}

/// Ends provisioning: the token is refused from now on, and what was provisioned stays.
#[utoipa::path(delete, path = "/api/v1/providers/{provider}/scim-token", tag = "providers", params(("provider" = String, Path, description = "name or id")),
    responses((status = 204, description = "ended")))]
pub(crate) async fn scim_token_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    let permit = caller.platform_permit::<ops::ScimTokenDelete>().await?;
    state.store.write_platform(permit).await?.scim_token_delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
