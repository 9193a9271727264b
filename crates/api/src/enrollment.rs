//! Enrolling: tokens that people make, and the exchange of one for a credential.
//!
//! Invariants:
//! - everything that can be wrong with a request is looked at before its token is used up, so that a refused try uses nothing up;
//! - whatever is wrong with a token gets the same answer, but for one: who lost a race for it is told.

use std::sync::Arc;

use access::{Actor, Grants, OpCtx, ops};
use axum::Json;
use axum::extract::{FromRequest as _, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use crypto::constant_time_eq;
use crypto::ed25519::PublicKey;
use crypto::enrollment::EnrollmentToken;
use crypto::possession;
use domain::{AgentId, DisplayName, Error, FleetId, FleetKind, Labels, Limits, RelayId, Timestamp};
use serde::Deserialize;
use serde_json::json;
use store::{Enrollment, EnrollmentTokenRow, EnrollmentTokenState, FoundEnrollmentToken, NewEnrollmentToken, NewUnit};
use wire::List;
use wire::fleet::{
    Enroll, Enrolled, EnrollmentToken as EnrollmentTokenDocument, EnrollmentTokenCreate, EnrollmentTokenCreated, Jwk,
};

use crate::caller::{self, Caller};
use crate::fleet_caller::{self, FleetFailure};
use crate::page::{self, Body, Path, Query, SignedBody};
use crate::problem::Answer;
use crate::state::ApiState;

/// How long a token is good where nobody says.
const TOKEN_S: u32 = 3_600;
const TOKEN_S_MIN: u32 = 60;
/// Longest version of a program, in bytes.
const VERSION_BYTES: usize = 64;

fn document(row: EnrollmentTokenRow) -> EnrollmentTokenDocument {
    EnrollmentTokenDocument {
        id: row.id,
        kind: row.kind.to_string(),
        state: row.state.as_str().to_owned(),
        labels: row.labels.as_map().clone(),
        created_by: row.created_by,
        created_at: row.created_at,
        expires_at: row.expires_at,
        used_at: row.used_at,
        used_by: row.used_by,
    }
}

/// Which tokens to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listed {
    /// Only of this kind: `agent` or `relay`.
    kind: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The tenant's enrollment tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/enrollment-tokens", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), Listed),
    responses((status = 200, description = "tokens", body = List<EnrollmentTokenDocument>)))]
pub(crate) async fn enrollment_token_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(listed): Query<Listed>,
) -> Answer<Json<List<EnrollmentTokenDocument>>> {
    let permit = caller.permit::<ops::EnrollmentTokenList>(&tenant).await?;
    let (after, limit) = (page::after(listed.page.as_deref())?, page::limit(listed.limit.as_deref())?);
    let kind = page::word::<FleetKind>("kind", listed.kind.as_deref())?;
    Ok(page::list(state.store.read(permit).await?.enrollment_token_list(kind, after, limit).await?, document))
}

/// The name or address by which the server was reached.
pub(crate) struct AskedAt(Option<String>);

impl FromRequestParts<ApiState> for AskedAt {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Self::Rejection> {
        let said =
            parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).and_then(|host| host.parse().ok());
        let authority: Option<Authority> = parts.uri.authority().cloned().or(said);
        Ok(Self(authority.map(|it| it.host().trim_matches(['[', ']']).to_ascii_lowercase())))
    }
}

/// Makes a token with which one agent or relay enrolls itself, and shows it this once.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/enrollment-tokens", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug")), request_body = EnrollmentTokenCreate,
    responses((status = 201, description = "made", body = EnrollmentTokenCreated)))]
pub(crate) async fn enrollment_token_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    asked_at: AskedAt,
    Body(body): Body<EnrollmentTokenCreate>,
) -> Answer<(StatusCode, Json<EnrollmentTokenCreated>)> {
    let permit = caller.permit::<ops::EnrollmentTokenCreate>(&tenant).await?;
    let life_s = body.expires_in_s.unwrap_or(TOKEN_S);
    if !(TOKEN_S_MIN..=Limits::ENROLLMENT_TOKEN_S_MAX).contains(&life_s) {
        let max = Limits::ENROLLMENT_TOKEN_S_MAX;
        return Err(Error::invalid("expires_in_s", format!("use {TOKEN_S_MIN} to {max} (a week)")).into());
    }
    let token = EnrollmentToken::generate(&**state.store.rng());
    let new = NewEnrollmentToken {
        lookup: token.id().to_owned(),
        hash: token.secret_hash(),
        kind: body.kind.parse()?,
        labels: Labels::new(body.labels)?,
        expires_at: state.store.clock().now().plus_millis(i64::from(life_s) * 1_000),
    };
    let row = state.store.write(permit).await?.enrollment_token_create(&new).await?;
    let created = EnrollmentTokenCreated {
        enrollment_token: document(row),
        token: token.expose().to_owned(),
        authority: asked_at.0.and_then(|name| state.own_authority(&name)),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revokes an enrollment token that was not used. What one enrolled that was used stays.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/enrollment-tokens/{enrollment_token}", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("enrollment_token" = String, Path, description = "the token's id")),
    responses((status = 204, description = "revoked")))]
pub(crate) async fn enrollment_token_revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::EnrollmentTokenRevoke>(&tenant).await?;
    state.store.write(permit).await?.enrollment_token_revoke(page::id(&id, "enrollment token")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A program's version, which it says itself.
pub(crate) fn version(text: &str) -> Result<String, Error> {
    if !text.is_empty() && text.len() <= VERSION_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid("version", format!("use 1 to {VERSION_BYTES} letters, digits and signs")))
    }
}

fn public_key(jwk: &Jwk) -> Result<PublicKey, Error> {
    let jwk = json!({"kty": jwk.kty, "crv": jwk.crv, "x": jwk.x});
    possession::from_jwk(&jwk)
        .map_err(|_| Error::invalid("public_key", "use an Ed25519 key as a JSON Web Key (RFC 8037)"))
}

/// What a request to enroll says, all of it checked but its token.
struct Asked {
    kind: FleetKind,
    name: DisplayName,
    version: String,
    key: PublicKey,
}

fn asked(body: &Enroll) -> Result<Asked, Error> {
    Ok(Asked {
        kind: body.kind.parse()?,
        name: body.name.parse()?,
        version: version(&body.version)?,
        key: public_key(&body.public_key)?,
    })
}

/// The token that a request brings, if it is good for it.
async fn token(
    state: &ApiState,
    ctx: &OpCtx,
    text: &str,
    kind: FleetKind,
    began: Timestamp,
) -> Result<FoundEnrollmentToken, Error> {
    let given = EnrollmentToken::parse(text).ok_or(Error::Unauthenticated)?;
    let found = state.store.enrollment_token_find(given.id()).await?.ok_or(Error::Unauthenticated)?;
    if !constant_time_eq(given.secret_hash().as_bytes(), found.hash.as_bytes()) {
        return Err(Error::Unauthenticated);
    }
    let reason = match found.state {
        EnrollmentTokenState::Waiting if found.kind == kind => return Ok(found),
        EnrollmentTokenState::Waiting => "another kind",
        // Whoever asked before it was used lost a race, and is no replay.
        EnrollmentTokenState::Used if found.used_at.is_some_and(|used_at| used_at >= began) => {
            state.store.enrollment_raced(ctx, &found).await?;
            return Err(raced());
        }
        other => other.as_str(),
    };
    if state.fleet.is_new(found.id.as_uuid().as_u128(), state.store.clock().now()) {
        state.store.enrollment_refused(ctx, &found, reason).await?;
    }
    Err(Error::Unauthenticated)
}

fn raced() -> Error {
    Error::conflict(
        "the enrollment token was used by somebody else at this moment: if that was not you, revoke what it enrolled",
    )
}

/// Exchanges an enrollment token for a credential that is bound to the caller's key. `DPoP: …` holds a proof by that key of this request,
/// with the token as what goes with it. A refused request does not use the token up.
#[utoipa::path(post, path = "/api/v1/enroll", tag = "fleet", security(()), request_body = Enroll,
    responses((status = 201, description = "enrolled", body = Enrolled)))]
pub(crate) async fn enroll(
    State(state): State<ApiState>,
    request: Request,
) -> Result<(StatusCode, Json<Enrolled>), FleetFailure> {
    let began = state.store.clock().now();
    let (parts, body) = request.into_parts();
    let (proved, ip, request) = (fleet_caller::proof(&parts), caller::address(&parts), caller::request(&state));
    let SignedBody(body, bytes) = SignedBody::<Enroll>::from_request(Request::from_parts(parts, body), &state).await?;
    let asked = asked(&body)?;
    let (key, statement) = proved?;
    let token_digest = crypto::sha256(body.token.as_bytes());
    if key != asked.key || statement.body != crypto::sha256(&bytes) || statement.token != token_digest {
        return Err(Error::Unauthenticated.into());
    }
    fleet_caller::check_time(&state, &statement)?;
    let (clock, rng) = (Arc::clone(state.store.clock()), Arc::clone(state.store.rng()));
    let stranger = Actor::System { part: "enrollment" };
    let ctx = OpCtx::user(stranger, Grants::default(), request, ip, Arc::clone(&clock), Arc::clone(&rng));
    let token = token(&state, &ctx, &body.token, asked.kind, began).await?;
    let id = match asked.kind {
        FleetKind::Agent => FleetId::Agent(AgentId::generate(&*clock, &*rng)),
        FleetKind::Relay => FleetId::Relay(RelayId::generate(&*clock, &*rng)),
    };
    let made = fleet_caller::make(&state, id, token.tenant, &key).await?;
    let new = NewUnit {
        id,
        name: asked.name,
        public_key: *key.as_bytes(),
        version: asked.version,
        credential: made.stored.clone(),
        number: statement.number,
        proof_id: statement.id,
    };
    match state.store.enroll(&ctx, &token, &new).await? {
        Enrollment::Done => {}
        Enrollment::Raced => return Err(raced().into()),
        Enrollment::Ended => return Err(Error::Unauthenticated.into()),
    }
    let enrolled = Enrolled {
        id,
        tenant: token.tenant,
        installation: state.settings.installation.clone(),
        credential: made.credential,
        expires_at: made.stored.expires_at,
    };
    Ok((StatusCode::CREATED, Json(enrolled)))
}
