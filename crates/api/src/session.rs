//! Signing in and out, one's own sessions and password.

use std::net::IpAddr;

use access::{OpCtx, own};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use crypto::{jwt, password, token};
use domain::{AuthMethod, Email, Error, Limits, RequestId, Rng, Secret};
use serde_json::json;
use store::{LiveSession, Membership, SessionStart, UserRow};
use wire::List;
use wire::session::{
    Me, MyTenant, PasswordChange, SecondStepNeeded, Session, SessionCreate, SessionCreated, SessionsEnd, SessionsEnded,
};

use crate::caller::{self, Caller};
use crate::cookie::{self, SameOrigin};
use crate::page::{self, Body, Paging, Path, Query};
use crate::password::check_new;
use crate::problem::{Answer, Failure};
use crate::second_step;
use crate::state::ApiState;
use crate::throttle;

/// The `aud` of a session's token: no other token of this installation is good for the API.
pub(crate) const AUDIENCE: &str = "cairn-session";

/// Longest name of a client that is kept, in characters.
const AGENT_CHARS_MAX: usize = 256;

/// Who comes, before anybody is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) request: RequestId,
    pub(crate) ip: Option<IpAddr>,
    agent: Option<String>,
}

impl Visitor {
    /// The request.
    pub(crate) fn request(&self) -> RequestId {
        self.request
    }

    /// Where it comes from.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.ip
    }
}

impl FromRequestParts<ApiState> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Self::Rejection> {
        let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let agent = agent.map(|agent| agent.chars().take(AGENT_CHARS_MAX).collect());
        Ok(Self { request: caller::request(state), ip: caller::address(parts), agent })
    }
}

/// How somebody proved who they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignIn {
    /// The first step.
    pub(crate) method: AuthMethod,
    /// Whether a second factor was shown already, here or where the first step was done.
    pub(crate) second_factor: bool,
}

impl SignIn {
    /// A first step, after which users who have a second factor show it.
    pub(crate) const fn one_step(method: AuthMethod) -> Self {
        Self { method, second_factor: false }
    }
}

/// How a sign-in goes on.
pub(crate) enum SignedIn {
    /// There is a session.
    Session(SessionCreated),
    /// The user has a second factor, and there is no session before it is shown.
    SecondStep(SecondStepNeeded),
}

/// Runs password hashing off the async threads, at most one per core at a time.
pub(crate) async fn hashing<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let permit = state.hashing.clone().acquire_owned().await.map_err(Error::internal)?;
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    })
    .await
    .map_err(Error::internal)
}

/// A password that is good for one sign-in: 20 letters and digits, 119 bits.
pub fn one_time_password(rng: &dyn Rng) -> String {
    token::random_token(rng, 20)
}

/// The stored form of a one-time password.
pub fn hash_one_time_password(password: &str, cost: u32, rng: &dyn Rng) -> Result<String, Error> {
    password::hash_password(password, cost, rng).map_err(Error::internal)
}

/// Makes a one-time password and its stored form.
pub(crate) async fn new_one_time_password(state: &ApiState) -> Result<(String, String), Error> {
    let clear = one_time_password(&**state.store.rng());
    let (cost, rng, secret) = (state.settings.bcrypt_cost, state.store.rng().clone(), clear.clone());
    let hash = hashing(state, move || hash_one_time_password(&secret, cost, &*rng)).await??;
    Ok((clear, hash))
}

/// Whether the installation asks for a second factor that this session lacks.
pub(crate) fn lacks_factor(state: &ApiState, session: &LiveSession) -> bool {
    state.settings.second_factor_required && !session.second_factor
}

/// What a caller may do in each of their tenants; `second_factor`: whether they have shown one, or need none.
pub(crate) fn my_tenants(memberships: &[Membership], second_factor: bool) -> Vec<MyTenant> {
    let tenants = memberships.iter().map(|member| MyTenant {
        id: member.tenant,
        slug: member.slug.clone(),
        name: member.name.clone(),
        role: member.role.to_string(),
        can: access::Permission::ALL
            .iter()
            .filter(|right| member.role.holds(**right))
            .map(ToString::to_string)
            .collect(),
        needs_second_factor: member.second_factor_required && !second_factor,
    });
    tenants.collect()
}

/// What a user is told about themselves.
pub(crate) fn me(state: &ApiState, session: &LiveSession) -> Me {
    Me {
        kind: "user".to_owned(),
        id: session.user.id.to_string(),
        email: Some(session.user.email.to_string()),
        name: session.user.name.clone(),
        session: Some(session.id),
        expires_at: Some(session.expires_at),
        idle_ends_at: Some(session.idle_ends_at),
        idle_ms: Some(session.idle_ms),
        must_change_password: session.user.must_change_password,
        platform_admin: session.user.platform_admin,
        has_second_factor: session.has_factor,
        has_password: session.has_password,
        must_add_second_factor: lacks_factor(state, session),
        tenants: my_tenants(&session.memberships, session.second_factor),
    }
}

fn refused() -> Failure {
    // One answer for an unknown user, a wrong password and a disabled user.
    Error::Unauthenticated.into()
}

/// Signs in with a password; a user who has a second factor is asked for it next.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "sessions", security(()), request_body = SessionCreate,
    responses((status = 201, description = "signed in", body = SessionCreated),
        (status = 202, description = "the password is right, and a second factor is needed", body = SecondStepNeeded)))]
pub(crate) async fn session_create(
    State(state): State<ApiState>,
    visitor: Visitor,
    origin: SameOrigin,
    Body(body): Body<SessionCreate>,
) -> Answer<Response> {
    if body.cookie {
        // Another site must not sign its own account in here.
        origin.check()?;
    }
    let by_cookie = body.cookie;
    Ok(match sign_in(&state, &visitor, body).await? {
        SignedIn::Session(session) => {
            (StatusCode::CREATED, cookie::hand_over(&state, session, by_cookie)?).into_response()
        }
        SignedIn::SecondStep(needed) => {
            (StatusCode::ACCEPTED, cookie::hold_over(&state, needed, by_cookie)?).into_response()
        }
    })
}

/// The first step by a password, with all that it checks.
pub(crate) async fn sign_in(state: &ApiState, visitor: &Visitor, body: SessionCreate) -> Result<SignedIn, Failure> {
    let cost = state.settings.bcrypt_cost;
    let password = Secret::new(body.password.into_bytes());
    if password.expose().len() > Limits::PASSWORD_BYTES_MAX {
        return Err(Error::Limit { which: "bytes of a password", max: Limits::PASSWORD_BYTES_MAX as u64 }.into());
    }
    let email: Email = body.email.parse()?;
    let found = state.store.login_user(&email).await?;
    let ctx = OpCtx::user(
        access::Actor::System { part: "login" },
        access::Grants::default(),
        visitor.request,
        visitor.ip,
        state.store.clock().clone(),
        state.store.rng().clone(),
    );
    let user_id = found.as_ref().map(|found| found.user.id);
    let (guess, turn) = throttle::admit_sign_in(state, &ctx, &email, user_id).await?;
    let stored = found.as_ref().and_then(|found| found.password_hash.clone());
    let (before_hash, pbkdf2, rng) = (stored.clone(), state.settings.pbkdf2, state.store.rng().clone());
    let (matches, renewed) = hashing(state, move || {
        let _turn = turn;
        if let (Some(stored), Some(password)) = (stored, password.expose_str()) {
            let matches = password::verify_password(password, &stored);
            let renew = matches && pbkdf2 && !password::is_pbkdf2(&stored);
            (matches, renew.then(|| password::hash_password_pbkdf2(password, &*rng)))
        } else {
            // An unknown user costs the same time as a known one.
            if pbkdf2 {
                password::spend_like_pbkdf2();
            } else {
                password::spend_like(cost);
            }
            (false, None)
        }
    })
    .await?;
    let user = found.map(|found| found.user);
    let refusal = match &user {
        None => Some("unknown user"),
        Some(_) if !matches => Some("wrong password"),
        Some(user) if user.disabled_at.is_some() => Some("disabled user"),
        Some(_) => None,
    };
    let user = match (refusal, user) {
        (None, Some(user)) => user,
        (refusal, user) => {
            state.store.login_refused(&ctx, &email, user.map(|user| user.id), refusal.unwrap_or("refused")).await?;
            return Err(refused());
        }
    };
    guess.was_right();
    if let (Some(before), Some(after)) = (before_hash, renewed) {
        state.store.password_rehash(&ctx, user.id, &before, &after).await?;
    }
    issue(state, &user, SignIn::one_step(AuthMethod::Password), visitor).await
}

/// What a session begins with.
pub(crate) fn start(state: &ApiState, sign_in: SignIn, visitor: &Visitor) -> SessionStart {
    SessionStart {
        method: sign_in.method,
        second_factor: sign_in.second_factor,
        request: visitor.request,
        ip: visitor.ip,
        agent: visitor.agent.clone(),
        lifetime_ms: state.settings.session_ms,
        idle_ms: state.settings.idle_ms,
    }
}

/// What follows for a user who has proved who they are: a session, or the demand for their second factor. Every first step ends here.
pub(crate) async fn issue(
    state: &ApiState,
    user: &UserRow,
    sign_in: SignIn,
    visitor: &Visitor,
) -> Result<SignedIn, Failure> {
    let start = start(state, sign_in, visitor);
    if !sign_in.second_factor
        && let Some(pending) = state.store.sign_in_begin(user, &start).await?
    {
        return Ok(SignedIn::SecondStep(second_step::needed(state, &pending)));
    }
    let session = state.store.session_create(user, &start).await?;
    Ok(SignedIn::Session(created(state, &session)))
}

/// A session that has just begun, and its token.
pub(crate) fn created(state: &ApiState, session: &LiveSession) -> SessionCreated {
    let now = state.store.clock().now();
    let claims = json!({
        "iss": state.settings.installation,
        "aud": AUDIENCE,
        "sub": session.user.id,
        "sid": session.id,
        "iat": now.as_seconds(),
        "exp": session.expires_at.as_seconds(),
    });
    let token = jwt::sign_hs256(&claims, state.jwt_secret.expose());
    SessionCreated { token, expires_at: session.expires_at, me: me(state, session) }
}

/// Whether this is the password of who calls. A wrong one is recorded.
pub(crate) async fn is_password_of(state: &ApiState, caller: &Caller, given: String) -> Result<bool, Failure> {
    let user = &caller.session()?.user;
    let subject = user.id.to_string();
    let guess = throttle::guess(state, caller.ctx(), throttle::OWN_SECRET, "session_prove", &subject).await?;
    let found = state.store.login_user(&user.email).await?;
    let stored = found.and_then(|found| found.password_hash).ok_or_else(|| {
        Error::invalid("password", "you have no password here: sign in again, which is a fresh proof too")
    })?;
    let is_right = hashing(state, move || password::verify_password(&given, &stored)).await?;
    if is_right {
        guess.was_right();
    } else {
        state.store.login_refused(caller.ctx(), &user.email, Some(user.id), "wrong password for a fresh proof").await?;
    }
    Ok(is_right)
}

/// One's own live sessions.
#[utoipa::path(get, path = "/api/v1/me/sessions", tag = "sessions", params(Paging), responses((status = 200, description = "sessions", body = List<Session>)))]
pub(crate) async fn session_list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Session>>> {
    let permit = caller.own_permit::<own::SessionList>().await?;
    let current = permit.session();
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.session_list(permit, after, limit).await?, |row| Session {
        id: row.id,
        current: row.id == current,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: row.expires_at,
        ip: row.ip,
        agent: row.agent,
        method: row.method.to_string(),
        second_factor: row.second_factor,
    }))
}

/// Ends one of one's own sessions.
#[utoipa::path(delete, path = "/api/v1/me/sessions/{session}", tag = "sessions", params(("session" = String, Path, description = "the session's id")),
    responses((status = 204, description = "ended")))]
pub(crate) async fn session_end(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let permit = caller.own_permit::<own::SessionEnd>().await?;
    state.store.session_end(permit, page::id(&id, "session")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs out everywhere, here too or not.
#[utoipa::path(post, path = "/api/v1/me/sessions/end", tag = "sessions", request_body = SessionsEnd,
    responses((status = 200, description = "ended", body = SessionsEnded)))]
pub(crate) async fn sessions_end(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<SessionsEnd>,
) -> Answer<Json<SessionsEnded>> {
    let permit = caller.own_permit::<own::SessionsEnd>().await?;
    Ok(Json(SessionsEnded { ended: state.store.sessions_end(permit, body.including_current).await? }))
}

/// Signs out: the session's token is refused from now on.
#[utoipa::path(delete, path = "/api/v1/sessions/current", tag = "sessions", responses((status = 204, description = "signed out")))]
pub(crate) async fn session_revoke(State(state): State<ApiState>, caller: Caller) -> Answer<(StatusCode, HeaderMap)> {
    caller.session()?;
    state.store.session_revoke(caller.ctx()).await?;
    let mut headers = HeaderMap::new();
    if caller.by_cookie() {
        headers.insert(header::SET_COOKIE, cookie::clear(cookie::SESSION)?);
    }
    Ok((StatusCode::NO_CONTENT, headers))
}

/// Who asks, and what they may do.
#[utoipa::path(get, path = "/api/v1/me", tag = "sessions", responses((status = 200, description = "the caller", body = Me)))]
pub(crate) async fn me_show(caller: Caller) -> Json<Me> {
    Json(caller.me())
}

/// Changes one's own password and ends one's other sessions.
#[utoipa::path(post, path = "/api/v1/me/password", tag = "sessions", request_body = PasswordChange, responses((status = 204, description = "changed")))]
pub(crate) async fn password_change(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<PasswordChange>,
) -> Answer<StatusCode> {
    let own = caller.session()?;
    check_new(&body.new, &[own.user.email.as_str(), &own.user.name])?;
    if body.new == body.old {
        return Err(Error::invalid("new", "use a password other than the one so far").into());
    }
    let subject = own.user.id.to_string();
    let guess = throttle::guess(&state, caller.ctx(), throttle::OWN_SECRET, "password_change", &subject).await?;
    let found = state.store.login_user(&own.user.email).await?;
    let before = found.and_then(|found| found.password_hash).ok_or(Error::Unauthenticated)?;
    let (cost, pbkdf2) = (state.settings.bcrypt_cost, state.settings.pbkdf2);
    let (rng, stored) = (state.store.rng().clone(), before.clone());
    let after = hashing(&state, move || {
        if !password::verify_password(&body.old, &stored) {
            return Ok(None);
        }
        if pbkdf2 {
            Ok(Some(password::hash_password_pbkdf2(&body.new, &*rng)))
        } else {
            password::hash_password(&body.new, cost, &*rng).map(Some)
        }
    })
    .await?
    .map_err(Error::internal)?;
    let Some(after) = after else {
        state.store.login_refused(caller.ctx(), &own.user.email, Some(own.user.id), "wrong old password").await?;
        return Err(Error::invalid("old", "this is not the password so far").into());
    };
    guess.was_right();
    state.store.password_change(caller.ctx(), &before, &after).await?;
    Ok(StatusCode::NO_CONTENT)
}
