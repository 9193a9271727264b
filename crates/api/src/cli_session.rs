//! Sessions of the command line: how a request that brings a `cs_` token becomes a caller, and how one begins.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crypto::cli_session::CliToken;
use crypto::constant_time_eq;
use domain::{DisplayName, Error};
use store::{LiveSession, NewCliSession};
use wire::cli_session::{CliSessionCreate, CliSessionCreated};

use crate::caller::{Caller, Use};
use crate::page::Body;
use crate::problem::Answer;
use crate::session;
use crate::state::ApiState;

/// The session whose token this is, if it is alive at this moment.
pub(crate) async fn authenticate(state: &ApiState, token: &str, use_of: Use) -> Result<LiveSession, Error> {
    let token = CliToken::parse(token).ok_or(Error::Unauthenticated)?;
    let found = state.store.cli_session_find(token.id()).await?.ok_or(Error::Unauthenticated)?;
    if !constant_time_eq(&found.secret_hash.0, &token.secret_hash().0) {
        return Err(Error::Unauthenticated);
    }
    use_of.session(&state.store, found.session).await?.ok_or(Error::Unauthenticated)
}

/// A new token, and what is stored of it.
pub(crate) fn new_token(state: &ApiState, client: DisplayName) -> (CliToken, NewCliSession) {
    let token = CliToken::generate(&**state.store.rng());
    let new = NewCliSession { lookup: token.id().to_owned(), secret_hash: token.secret_hash(), client };
    (token, new)
}

/// What the client is told, this once.
pub(crate) fn created(state: &ApiState, token: &CliToken, session: &LiveSession) -> CliSessionCreated {
    CliSessionCreated {
        token: token.expose().to_owned(),
        expires_at: session.expires_at,
        me: session::me(state, session),
    }
}

/// Makes a session of the command line for whoever has just signed in. One of these makes no other: else a stolen one would never end.
#[utoipa::path(post, path = "/api/v1/cli-sessions", tag = "sessions", request_body = CliSessionCreate,
    responses((status = 201, description = "made", body = CliSessionCreated)))]
pub(crate) async fn cli_session_create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<CliSessionCreate>,
) -> Answer<(StatusCode, Json<CliSessionCreated>)> {
    caller.may_work()?;
    let from = caller.session()?.id;
    if caller.is_cli() {
        return Err(Error::Forbidden { message: "sign in again to get a new session".to_owned() }.into());
    }
    let (token, new) = new_token(&state, client(&body.client)?);
    let ctx = caller.ctx();
    let session = state.store.cli_session_create(from, ctx.request(), ctx.ip(), &new).await?;
    Ok((StatusCode::CREATED, Json(created(&state, &token, &session))))
}

/// What a client calls itself.
pub(crate) fn client(text: &str) -> Result<DisplayName, Error> {
    text.parse()
        .map_err(|_| Error::invalid("client", "use 1 to 128 printable characters without white space at the ends"))
}
