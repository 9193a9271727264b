//! Signing in and out, and one's own password.

use std::net::IpAddr;

use access::OpCtx;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use crypto::{jwt, password, token};
use domain::{Email, Error, Limits, RequestId, Rng, Secret};
use serde_json::json;
use store::{LiveSession, UserRow};
use wire::session::{Me, MyTenant, PasswordChange, SessionCreate, SessionCreated};

use crate::caller::{self, Caller};
use crate::cookie::{self, SameOrigin};
use crate::page::Body;
use crate::password::check_new;
use crate::problem::{Answer, Failure};
use crate::state::ApiState;
use crate::throttle;

/// The `aud` of a session's token: no other token of this installation is good for the API.
pub(crate) const AUDIENCE: &str = "cairn-session";

/// The address of the caller, before anybody is signed in.
pub(crate) struct Address(Option<IpAddr>);

impl Address {
    /// The address.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.0
    }
}

impl FromRequestParts<ApiState> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Self::Rejection> {
        Ok(Self(caller::address(parts)))
    }
}

/// Runs password hashing off the async threads, at most one per core at a time.
async fn hashing<T: Send + 'static>(state: &ApiState, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
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

fn me(session: &LiveSession) -> Me {
    let tenants = session.memberships.iter().map(|member| MyTenant {
        id: member.tenant,
        slug: member.slug.clone(),
        name: member.name.clone(),
        role: member.role.to_string(),
        can: access::Permission::ALL
            .iter()
            .filter(|right| member.role.holds(**right))
            .map(ToString::to_string)
            .collect(),
    });
    Me {
        id: session.user.id,
        email: session.user.email.to_string(),
        name: session.user.name.clone(),
        session: session.id,
        must_change_password: session.user.must_change_password,
        platform_admin: session.user.platform_admin,
        tenants: tenants.collect(),
    }
}

fn refused() -> Failure {
    // One answer for an unknown user, a wrong password and a disabled user.
    Error::Unauthenticated.into()
}

/// Signs in with a password.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "sessions", security(()), request_body = SessionCreate,
    responses((status = 201, description = "signed in", body = SessionCreated)))]
pub(crate) async fn session_create(
    State(state): State<ApiState>,
    Address(ip): Address,
    origin: SameOrigin,
    Body(body): Body<SessionCreate>,
) -> Answer<(StatusCode, HeaderMap, Json<SessionCreated>)> {
    if body.cookie {
        // Another site must not sign its own account in here.
        origin.check()?;
    }
    let request = caller::request(&state);
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
        request,
        ip,
        state.store.clock().clone(),
        state.store.rng().clone(),
    );
    let user_id = found.as_ref().map(|found| found.user.id);
    let (guess, turn) = throttle::admit_sign_in(&state, &ctx, &email, user_id).await?;
    let stored = found.as_ref().and_then(|found| found.password_hash.clone());
    let (before_hash, pbkdf2, rng) = (stored.clone(), state.settings.pbkdf2, state.store.rng().clone());
    let (matches, renewed) = hashing(&state, move || {
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
    let mut session = issue(&state, &user, request, ip).await?;
    let mut headers = HeaderMap::new();
    if body.cookie {
        let seconds = session.expires_at.as_seconds() - state.store.clock().now().as_seconds();
        // In the cookie only, where no script reads it.
        let token = std::mem::take(&mut session.token);
        headers.insert(header::SET_COOKIE, cookie::set(cookie::SESSION, &token, seconds)?);
    }
    Ok((StatusCode::CREATED, headers, Json(session)))
}

/// A new session of a user who has proved who they are, and its token. Every way to sign in ends here.
pub(crate) async fn issue(
    state: &ApiState,
    user: &UserRow,
    request: RequestId,
    ip: Option<IpAddr>,
) -> Result<SessionCreated, Failure> {
    let session = state.store.session_create(user, request, ip, state.settings.session_ms).await?;
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
    Ok(SessionCreated { token, expires_at: session.expires_at, me: me(&session) })
}

/// Signs out: the session's token is refused from now on.
#[utoipa::path(delete, path = "/api/v1/sessions/current", tag = "sessions", responses((status = 204, description = "signed out")))]
pub(crate) async fn session_revoke(State(state): State<ApiState>, caller: Caller) -> Answer<(StatusCode, HeaderMap)> {
    state.store.session_revoke(caller.ctx()).await?;
    let mut headers = HeaderMap::new();
    if caller.by_cookie() {
        headers.insert(header::SET_COOKIE, cookie::clear(cookie::SESSION)?);
    }
    Ok((StatusCode::NO_CONTENT, headers))
}

/// Who is signed in, and what they may do.
#[utoipa::path(get, path = "/api/v1/me", tag = "sessions", responses((status = 200, description = "the caller", body = Me)))]
pub(crate) async fn me_show(caller: Caller) -> Json<Me> {
    Json(me(caller.session()))
}

/// Changes one's own password and ends one's other sessions.
#[utoipa::path(post, path = "/api/v1/me/password", tag = "sessions", request_body = PasswordChange, responses((status = 204, description = "changed")))]
pub(crate) async fn password_change(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<PasswordChange>,
) -> Answer<StatusCode> {
    let own = &caller.session().user;
    check_new(&body.new, &[own.email.as_str(), &own.name])?;
    if body.new == body.old {
        return Err(Error::invalid("new", "use a password other than the one so far").into());
    }
    let subject = caller.session().user.id.to_string();
    let guess = throttle::guess(&state, caller.ctx(), throttle::OWN_SECRET, "password_change", &subject).await?;
    let found = state.store.login_user(&caller.session().user.email).await?;
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
        state
            .store
            .login_refused(
                caller.ctx(),
                &caller.session().user.email,
                Some(caller.session().user.id),
                "wrong old password",
            )
            .await?;
        return Err(Error::invalid("old", "this is not the password so far").into());
    };
    guess.was_right();
    state.store.password_change(caller.ctx(), &before, &after).await?;
    Ok(StatusCode::NO_CONTENT)
}
