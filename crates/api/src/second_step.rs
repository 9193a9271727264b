//! The second step of a sign-in, and the fresh proof in a session.

use access::own;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use crypto::jwt::{self, Claims};
use domain::{AuthMethod, Error, SignInId};
use serde_json::json;
use store::{Attempt, FactorProof, PendingSignIn};
use wire::session::{
    PasskeyAnswer, PasskeyAsk, PasskeyChallenge, PasskeySignIn, SecondStep, SecondStepNeeded, SessionCreated, StepUp,
    SteppedUp,
};

use crate::caller::Caller;
use crate::cookie::{self, SameOrigin};
use crate::page::Body;
use crate::passkey::{self, Purpose};
use crate::problem::{Answer, Failure};
use crate::session::{self, SignIn, Visitor};
use crate::state::ApiState;

/// The `aud` of the token between the two steps: the API takes it for nothing else.
const AUDIENCE: &str = "cairn-second-step";

/// The answer to a first step that is not enough.
pub(crate) fn needed(state: &ApiState, pending: &PendingSignIn) -> SecondStepNeeded {
    let claims = json!({
        "iss": state.settings.installation,
        "aud": AUDIENCE,
        "jti": pending.id,
        "iat": state.store.clock().now().as_seconds(),
        "exp": pending.expires_at.as_seconds(),
    });
    let offered = [
        (pending.methods.totp, "totp"),
        (pending.methods.passkey && state.settings.relying_party.is_some(), "passkey"),
        (pending.methods.recovery_code, "recovery-code"),
    ];
    SecondStepNeeded {
        token: jwt::sign_hs256(&claims, state.jwt_secret.expose()),
        expires_at: pending.expires_at,
        methods: offered.iter().filter(|(offered, _)| *offered).map(|(_, name)| (*name).to_owned()).collect(),
    }
}

/// The sign-in that a token between the two steps names.
fn sign_in_of(state: &ApiState, token: &str) -> Result<SignInId, Error> {
    let claims = jwt::verify_hs256(token, state.jwt_secret.expose()).map_err(|_| Error::Unauthenticated)?;
    let claims = Claims::new(&claims);
    claims.check_times(state.store.clock().now().as_seconds()).map_err(|_| Error::Unauthenticated)?;
    let ours = claims.text("iss") == Some(state.settings.installation.as_str()) && claims.text("aud") == Some(AUDIENCE);
    let id = claims.text("jti").filter(|_| ours).and_then(|id| id.parse().ok());
    id.ok_or(Error::Unauthenticated)
}

/// The one proof that was sent.
fn proof(
    state: &ApiState,
    purpose: &Purpose,
    code: Option<String>,
    recovery_code: Option<String>,
    passkey: Option<&PasskeyAnswer>,
) -> Result<FactorProof, Error> {
    match (code, recovery_code, passkey) {
        (Some(code), None, None) => Ok(FactorProof::Totp(code)),
        (None, Some(code), None) => Ok(FactorProof::Recovery(code)),
        (None, None, Some(answer)) => passkey::answer(state, purpose, answer).map(FactorProof::Passkey),
        _ => Err(Error::Invalid {
            field: None,
            message: "send one proof: `code`, `recovery_code` or `passkey`".to_owned(),
        }),
    }
}

/// The second step of a sign-in: a code of an authenticator app, a recovery code, or a passkey.
#[utoipa::path(post, path = "/api/v1/sessions/second-step", tag = "sessions", security(()), request_body = SecondStep,
    responses((status = 201, description = "signed in", body = SessionCreated)))]
pub(crate) async fn session_confirm(
    State(state): State<ApiState>,
    visitor: Visitor,
    origin: SameOrigin,
    headers: HeaderMap,
    Body(body): Body<SecondStep>,
) -> Answer<(StatusCode, HeaderMap, Json<SessionCreated>)> {
    if body.cookie {
        origin.check()?;
    }
    let (by_cookie, token) = (body.cookie, cookie::second_step_token(&headers, body.token, body.cookie)?);
    let created = confirm(&state, &visitor, SecondStep { token, ..body }).await?;
    let (headers, created) = cookie::hand_over(&state, created, by_cookie)?;
    Ok((StatusCode::CREATED, headers, created))
}

/// The second step, with all that it checks.
pub(crate) async fn confirm(state: &ApiState, visitor: &Visitor, body: SecondStep) -> Result<SessionCreated, Failure> {
    let id = sign_in_of(state, &body.token)?;
    let purpose = Purpose::SecondStep(id.to_string());
    let proof = proof(state, &purpose, body.code, body.recovery_code, body.passkey.as_ref())?;
    let start = session::start(state, SignIn::one_step(AuthMethod::Password), visitor);
    finished(state, state.store.sign_in_finish(id, &proof, start).await?)
}

fn finished(state: &ApiState, finished: store::Finished) -> Result<SessionCreated, Failure> {
    match finished {
        Attempt::Proved(session) => Ok(session::created(state, &session)),
        Attempt::Refused => Err(Error::Unauthenticated.into()),
        Attempt::Wait { wait_s } => Err(Error::Throttled { wait_s }.into()),
    }
}

/// A challenge to a passkey: for the second step of a sign-in, or, without one, for a sign-in by the passkey alone.
#[utoipa::path(post, path = "/api/v1/sessions/passkey-challenge", tag = "sessions", security(()), request_body = PasskeyAsk,
    responses((status = 200, description = "a challenge", body = PasskeyChallenge)))]
pub(crate) async fn passkey_challenge(
    State(state): State<ApiState>,
    headers: HeaderMap,
    Body(body): Body<PasskeyAsk>,
) -> Answer<Json<PasskeyChallenge>> {
    let party = passkey::party(&state)?;
    if body.token.is_none() && !body.cookie {
        return Ok(Json(passkey::ask(&state, &Purpose::SignIn, passkey::request_options(party, None))));
    }
    let token = cookie::second_step_token(&headers, body.token.unwrap_or_default(), body.cookie)?;
    let id = sign_in_of(&state, &token)?;
    let known = state.store.passkey_ids(state.store.sign_in_waiting(id).await?).await?;
    let purpose = Purpose::SecondStep(id.to_string());
    Ok(Json(passkey::ask(&state, &purpose, passkey::request_options(party, Some(&known)))))
}

/// Signs in with a passkey alone, whose authenticator verified its user.
#[utoipa::path(post, path = "/api/v1/sessions/passkey", tag = "sessions", security(()), request_body = PasskeySignIn,
    responses((status = 201, description = "signed in", body = SessionCreated)))]
pub(crate) async fn session_create_by_passkey(
    State(state): State<ApiState>,
    visitor: Visitor,
    origin: SameOrigin,
    Body(body): Body<PasskeySignIn>,
) -> Answer<(StatusCode, HeaderMap, Json<SessionCreated>)> {
    if body.cookie {
        origin.check()?;
    }
    let answer = PasskeyAnswer { state: body.state, credential: body.credential };
    let answer = passkey::answer(&state, &Purpose::SignIn, &answer)?;
    let start = session::start(&state, SignIn { method: AuthMethod::Passkey, second_factor: true }, &visitor);
    let created = finished(&state, state.store.sign_in_by_passkey(answer, start).await?)?;
    let (headers, created) = cookie::hand_over(&state, created, body.cookie)?;
    Ok((StatusCode::CREATED, headers, created))
}

/// A challenge to one of one's passkeys, for a fresh proof in this session.
#[utoipa::path(post, path = "/api/v1/sessions/current/passkey-challenge", tag = "sessions",
    responses((status = 200, description = "a challenge", body = PasskeyChallenge)))]
pub(crate) async fn passkey_ask(State(state): State<ApiState>, caller: Caller) -> Answer<Json<PasskeyChallenge>> {
    let permit = caller.own_permit::<own::PasskeyAsk>().await?;
    let known = state.store.passkey_ids(permit.user()).await?;
    let purpose = Purpose::StepUp(permit.session().to_string());
    Ok(Json(passkey::ask(&state, &purpose, passkey::request_options(passkey::party(&state)?, Some(&known)))))
}

/// Proves anew who one is, for what needs a fresh proof: by a second factor, or by the password where there is none.
#[utoipa::path(post, path = "/api/v1/sessions/current/step-up", tag = "sessions", request_body = StepUp,
    responses((status = 200, description = "the proof counts", body = SteppedUp)))]
pub(crate) async fn session_prove(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<StepUp>,
) -> Answer<Json<SteppedUp>> {
    let permit = caller.own_permit::<own::SessionProve>().await?;
    let at = if let Some(password) = body.password {
        if body.code.is_some() || body.recovery_code.is_some() || body.passkey.is_some() {
            return Err(Error::invalid("password", "send one proof").into());
        }
        if caller.session()?.has_factor {
            let message = "you have a second factor: send its `code`, a `recovery_code` or a `passkey` instead";
            return Err(Error::invalid("password", message).into());
        }
        if !session::is_password_of(&state, &caller, password).await? {
            return Err(Error::invalid("password", "this is not your password").into());
        }
        state.store.session_prove(permit).await?
    } else {
        let purpose = Purpose::StepUp(permit.session().to_string());
        let proof = proof(&state, &purpose, body.code, body.recovery_code, body.passkey.as_ref())?;
        match state.store.session_prove_by_factor(permit, &proof).await? {
            Attempt::Proved(at) => at,
            Attempt::Refused => {
                let message = "this proof is wrong or was used already";
                return Err(Failure::from(Error::Invalid { field: None, message: message.to_owned() }));
            }
            Attempt::Wait { wait_s } => return Err(Error::Throttled { wait_s }.into()),
        }
    };
    Ok(Json(SteppedUp { fresh_until: at.plus_millis(state.settings.step_up_ms) }))
}
