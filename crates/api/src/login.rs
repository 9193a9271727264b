//! Signing in with an identity provider: the way there, the way back, and asking again whether the provider still stands by its users.
//!
//! The way there leaves a sealed cookie in the browser that holds the state, the nonce and the PKCE verifier; the way back needs that cookie, the
//! same state, and is good once. Whatever goes wrong ends at the sign-in page without a reason: the reason is in the audit log. A user who has a second
//! factor here is asked for it there, unless the provider says that it asked for one.

use access::{Actor, Grants, OpCtx};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::aead::{self, AeadKey};
use crypto::token::random_token;
use domain::{AuthMethod, Error, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::DueIdentity;
use wire::List;
use wire::provider::LoginProvider;

use crate::cookie;
use crate::oidc::{Asked, Flow, OidcError, form};
use crate::page::{self, Path, Query};
use crate::problem::{Answer, Failure};
use crate::session::{self, SignIn, SignedIn, Visitor};
use crate::state::ApiState;

/// How long somebody may take to sign in there, in seconds.
const FLOW_SECONDS: i64 = 600;
/// A provider is asked again after this long at the latest; the task that asks comes by once a minute.
const RECHECK_MS: i64 = 14 * 60_000;
/// How soon it is asked again when it did not answer.
const RETRY_MS: i64 = 60_000;
/// After this long without an answer the sessions end.
const UNCONFIRMED_MS: i64 = 60 * 60_000;

/// What the browser keeps while its user signs in.
#[derive(Serialize, Deserialize)]
struct Begun {
    provider: String,
    state: String,
    nonce: String,
    verifier: String,
    next: String,
    until: i64,
}

/// What has to be registered at the provider.
pub(crate) fn redirect_uri(state: &ApiState, provider: &str) -> String {
    format!("{}/api/v1/login/{provider}/callback", state.settings.public_url)
}

/// The key of the cookie. No JSON Web Token's signed text and no page's place begins like this.
fn cookie_key(state: &ApiState) -> AeadKey {
    AeadKey::from_bytes(crypto::hmac_sha256(state.jwt_secret.expose(), b"cairn/login/v1\0"))
}

/// Somebody who is not signed in.
fn stranger(state: &ApiState, visitor: &Visitor) -> OpCtx {
    OpCtx::user(
        Actor::System { part: "login" },
        Grants::default(),
        visitor.request(),
        visitor.ip(),
        state.store.clock().clone(),
        state.store.rng().clone(),
    )
}

fn go(to: &str, mut headers: HeaderMap, cookies: &[HeaderValue]) -> Result<Response, Failure> {
    headers.insert(header::LOCATION, HeaderValue::from_str(to).map_err(Error::internal)?);
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie.clone());
    }
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// Back to the sign-in page: `refused`, `expired` (begin again) or `unavailable` is all that it learns.
fn back(why: &'static str) -> Answer<Response> {
    go(&format!("/login?error={why}"), HeaderMap::new(), &[cookie::clear(cookie::LOGIN)?])
}

/// The identity providers that one can sign in with.
#[utoipa::path(get, path = "/api/v1/login", tag = "sessions", security(()), responses((status = 200, description = "providers", body = List<LoginProvider>)))]
pub(crate) async fn login_list(State(state): State<ApiState>) -> Answer<Json<List<LoginProvider>>> {
    let all = state.store.login_providers().await?;
    Ok(page::whole(all.into_iter().map(|row| LoginProvider { name: row.name, title: row.title }).collect()))
}

/// Where to go after the sign-in.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    /// A path of this server; anything else means `/`.
    next: Option<String>,
}

/// Begins a sign-in: sends the browser to the provider.
#[utoipa::path(get, path = "/api/v1/login/{provider}", tag = "sessions", security(()), params(("provider" = String, Path, description = "its name"), Begin),
    responses((status = 303, description = "to the provider, or back to the sign-in page")))]
pub(crate) async fn login_begin(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Query(begin): Query<Begin>,
) -> Answer<Response> {
    let (provider, client_secret) = match state.store.login_provider(&name).await {
        Ok(found) => found,
        Err(Error::NotFound { .. }) => return back("refused"),
        Err(other) => return Err(other.into()),
    };
    let (rng, now) = (&**state.store.rng(), state.store.clock().now());
    let begun = Begun {
        provider: provider.name.clone(),
        state: random_token(rng, 43),
        nonce: random_token(rng, 43),
        verifier: random_token(rng, 64),
        next: begin.next.filter(|next| cookie::is_local_page(next)).unwrap_or_else(|| "/".to_owned()),
        until: now.as_seconds() + FLOW_SECONDS,
    };
    let redirect = redirect_uri(&state, &provider.name);
    let flow = Flow { nonce: &begun.nonce, verifier: &begun.verifier, redirect_uri: &redirect };
    let asked = Asked { provider: &provider, client_secret: &client_secret, now };
    let to = match state.oidc()?.authorization_url(&asked, &begun.state, &flow).await {
        Ok(to) => to,
        Err(error) => {
            tracing::warn!(provider = provider.name, %error, "a sign-in cannot begin");
            return back("unavailable");
        }
    };
    let text = serde_json::to_vec(&begun).map_err(Error::internal)?;
    let sealed = aead::seal(&cookie_key(&state), cookie::LOGIN.as_bytes(), &text, rng).map_err(Error::internal)?;
    let kept = cookie::set(cookie::LOGIN, &URL_SAFE_NO_PAD.encode(sealed), FLOW_SECONDS)?;
    go(&to, HeaderMap::new(), &[kept])
}

/// What the provider sends with the browser. Providers add more; what counts may be there once.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Callback {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// The sign-in that this browser has begun, if the answer belongs to it.
fn begun(state: &ApiState, headers: &HeaderMap, provider: &str, answer: &Callback) -> Result<Begun, &'static str> {
    let sealed = cookie::find(headers, cookie::LOGIN).ok().flatten().ok_or("no sign-in was begun in this browser")?;
    let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| "the sign-in's cookie was changed")?;
    let text = aead::open(&cookie_key(state), cookie::LOGIN.as_bytes(), &sealed)
        .map_err(|_| "the sign-in's cookie was changed")?;
    let begun: Begun = serde_json::from_slice(text.expose()).map_err(|_| "the sign-in's cookie was changed")?;
    let same = |said: &str| crypto::constant_time_eq(said.as_bytes(), begun.state.as_bytes());
    if begun.provider != provider {
        Err("the sign-in was begun with another provider")
    } else if !answer.state.as_deref().is_some_and(same) {
        Err("the state is missing or of another sign-in")
    } else if begun.until <= state.store.clock().now().as_seconds() {
        Err("the sign-in took too long")
    } else {
        Ok(begun)
    }
}

/// Ends a sign-in: what the provider says is checked, and a browser session begins, or waits for the user's second factor.
#[utoipa::path(get, path = "/api/v1/login/{provider}/callback", tag = "sessions", security(()),
    params(("provider" = String, Path, description = "its name")),
    responses((status = 303, description = "to the page that was asked for, or back to the sign-in page: for the second step, or to begin again")))]
pub(crate) async fn login_callback(
    State(state): State<ApiState>,
    visitor: Visitor,
    Path(name): Path<String>,
    headers: HeaderMap,
    answer: Result<axum::extract::Query<Callback>, axum::extract::rejection::QueryRejection>,
) -> Answer<Response> {
    let ctx = stranger(&state, &visitor);
    let store = &state.store;
    let Ok((provider, client_secret)) = store.login_provider(&name).await else { return back("refused") };
    let refuse = async |reason: &str, why: &'static str| -> Answer<Response> {
        store.provider_login_refused(&ctx, &provider.name, None, reason, json!({})).await?;
        back(why)
    };
    let Ok(axum::extract::Query(answer)) = answer else { return refuse("the answer is not one", "refused").await };
    let begun = match begun(&state, &headers, &provider.name, &answer) {
        Ok(begun) => begun,
        Err(reason) => return refuse(reason, "expired").await,
    };
    // From here on the state is used up, whatever comes.
    let until = Timestamp::from_millis(begun.until.saturating_mul(1_000));
    if !store.login_state_use(crypto::sha256(begun.state.as_bytes()), until).await? {
        return refuse("the state was used before", "expired").await;
    }
    let asked = Asked { provider: &provider, client_secret: &client_secret, now: store.clock().now() };
    let redirect = redirect_uri(&state, &provider.name);
    let flow = Flow { nonce: &begun.nonce, verifier: &begun.verifier, redirect_uri: &redirect };
    let oidc = state.oidc()?;
    let proved = async {
        oidc.check_issuer(&asked, answer.iss.as_deref()).await?;
        match (&answer.error, &answer.code) {
            (None, Some(code)) => oidc.redeem(&asked, code, &flow).await,
            _ => Err(OidcError::Refused("the provider refused the sign-in".to_owned())),
        }
    };
    let proved = match proved.await {
        Ok(proved) => proved,
        Err(error @ OidcError::Unavailable(_)) => return refuse(&error.to_string(), "unavailable").await,
        Err(error) => return refuse(&error.to_string(), "refused").await,
    };
    let Ok(user) = store.identity_login(&ctx, &provider, &proved).await? else { return back("refused") };
    let sign_in = SignIn { method: AuthMethod::Oidc, second_factor: proved.second_factor };
    let over = cookie::clear(cookie::LOGIN)?;
    match session::issue(&state, &user, sign_in, &visitor).await? {
        SignedIn::Session(session) => go(&begun.next, cookie::hand_over(&state, session, true)?.0, &[over]),
        SignedIn::SecondStep(needed) => {
            // No session yet: the page asks for one of these, and sends it with the cookie that it cannot read.
            let page = form(&[("second_step", &needed.methods.join(",")), ("next", &begun.next)]);
            go(&format!("/login?{page}"), cookie::hold_over(&state, needed, true)?.0, &[over])
        }
    }
}

/// Asks the providers about every identity that was not confirmed for a quarter of an hour, one after the other; how many were asked about.
/// Called about once a minute. Several servers share the work.
pub async fn recheck(state: &ApiState) -> Result<usize, Error> {
    let mut asked = 0;
    while !*state.draining.borrow() {
        let now = state.store.clock().now();
        let (before, tried) = (now.plus_millis(-RECHECK_MS), now.plus_millis(-RETRY_MS));
        let Some(due) = state.store.identity_due(before, tried).await? else { return Ok(asked) };
        recheck_one(state, &due).await?;
        asked += 1;
    }
    Ok(asked)
}

async fn recheck_one(state: &ApiState, due: &DueIdentity) -> Result<(), Error> {
    let store = &state.store;
    let ctx = OpCtx::system_platform("identity-check", store.clock().clone(), store.rng().clone());
    let (provider, client_secret) = store.login_provider(&due.provider.to_string()).await?;
    let asked = Asked { provider: &provider, client_secret: &client_secret, now: store.clock().now() };
    match state.oidc()?.ask_again(&asked, &due.subject, &due.tokens).await {
        Ok(confirmed) => {
            store.identity_confirmed(&ctx, due, confirmed.groups.as_ref(), confirmed.tokens.as_ref()).await
        }
        Err(error @ OidcError::Gone) => store.identity_lost(&ctx, due, &error.to_string(), true).await,
        Err(OidcError::Refused(reason)) => store.identity_lost(&ctx, due, &reason, false).await,
        Err(OidcError::Unavailable(reason)) => {
            tracing::warn!(provider = provider.name, reason, "a provider cannot be asked about its users");
            let silent_ms = store.clock().now().as_millis().saturating_sub(due.checked_at.as_millis());
            if silent_ms >= UNCONFIRMED_MS {
                store.identity_unconfirmed(&ctx, due, &reason).await?;
            }
            Ok(())
        }
    }
}
