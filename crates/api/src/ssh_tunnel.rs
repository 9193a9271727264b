//! The way to an SSH host through this server: a connection with a destination token goes on over the channel of the host's relay and becomes SSH there.
//!
//! **Not for** what is said on it: the user's `ssh` and the relay speak SSH with each other, and this server carries bytes that it cannot read.
//!
//! Invariants:
//! - nothing is asked of a relay for anybody who has no token of this installation, for this host, that still rests on a grant, a membership and a session.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use access::ssh::SshUse;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use domain::{DestinationKind, Error, Result};
use gateway::kubernetes::Refusal;
use gateway::kubernetes::headers::bearer;
use gateway::tunnel::exchange;
use http_body_util::{BodyExt as _, Empty, Limited};
use wire::relay::Connect;
use wire::ssh_access::UPGRADE;

use crate::layers::AtWork;
use crate::page::Path;
use crate::problem::Answer;
use crate::reach::reach;
use crate::state::ApiState;
use crate::tunnel::{NOT_ACCEPTED, RESTS_ON_NOTHING, carry, note_refused, standing, verify};

/// Where it is asked for.
pub(crate) const PATH: &str = "/api/v1/tenants/{tenant}/destinations/{destination}/ssh";
/// How long the relay may take to begin: it asks this server in between.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest reason of a relay, in bytes.
const REASON_BYTES: usize = 1_024;

/// The route.
pub(crate) fn routes() -> Router<ApiState> {
    Router::new().route(PATH, any(pass))
}

fn asks_for_ssh(request: &Request) -> Result<()> {
    let is = |name: header::HeaderName, word: &str| {
        let mut values = request.headers().get_all(name).iter();
        matches!((values.next(), values.next()), (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(word.as_bytes()))
    };
    let fits = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && is(header::CONNECTION, "upgrade")
        && is(header::UPGRADE, UPGRADE);
    let message = format!(
        "this is a way for SSH: GET with HTTP/1.1, `Connection: Upgrade` and `Upgrade: {UPGRADE}` (`cairn ssh` does)"
    );
    if fits { Ok(()) } else { Err(Error::Invalid { field: None, message }) }
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Unauthenticated(message) | Refusal::Forbidden(message) => Error::Forbidden { message },
        Refusal::Malformed(message) => Error::Invalid { field: None, message: message.to_owned() },
        other => away(&other.to_string()),
    }
}

fn away(message: &str) -> Error {
    Error::Unavailable { message: message.to_owned(), detail: String::new() }
}

fn gone(error: &hyper::Error) -> Error {
    let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
    Error::Unavailable {
        message: "the host's relay broke the connection: try again".to_owned(),
        detail: format!("{error}{why}"),
    }
}

/// What the relay is asked for: it judges the token as for those who come directly.
fn asked(token: &str) -> Result<http::Request<Empty<Bytes>>> {
    let mut request = http::Request::new(Empty::new());
    *request.uri_mut() = Uri::from_static("/ssh");
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("host"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(UPGRADE));
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(Error::internal)?;
    value.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, value);
    Ok(request)
}

async fn pass(
    State(state): State<ApiState>,
    Path((tenant, destination)): Path<(String, String)>,
    mut request: Request,
) -> Answer<Response> {
    asks_for_ssh(&request)?;
    let token = bearer(request.headers()).map_err(refused)?.to_owned();
    let unknown = || Error::NotFound { what: "destination" };
    let destination = destination.parse().map_err(|_| unknown())?;
    let from: Option<IpAddr> =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|from| from.0.ip().to_canonical());
    let said = match verify(&state, destination, &token).await {
        Ok(said) => said,
        Err(error @ Error::Forbidden { .. }) => {
            note_refused(&state, from, (&tenant, destination), None, NOT_ACCEPTED).await?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    let standing = store::Standing { ssh: SshUse { from, takes: None }, ..standing(&said) };
    let found = state.store.tunnel_find(&standing, DestinationKind::Ssh, &tenant).await?;
    let Some(relay) = found else {
        note_refused(&state, from, (&tenant, destination), Some(&said), RESTS_ON_NOTHING).await?;
        return Err(unknown().into());
    };
    let place = state.tunnels.enter(said.user, relay).map_err(refused)?;
    if let Some(at_work) = request.extensions().get::<AtWork>() {
        at_work.leave();
    }
    let connect = Connect { destination, from };
    let stream = reach(&state, relay, &connect).await.map_err(refused)?;
    let answered = tokio::time::timeout(ANSWER, exchange(stream, asked(&token)?)).await;
    let answered = answered.map_err(|_| away("the host's relay did not answer in time: try again"))?;
    let mut response = answered.map_err(|error| gone(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (status, body) = (response.status(), Limited::new(response.into_body(), REASON_BYTES).collect().await);
        let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        let text: String = text.chars().filter(|character| !character.is_control()).collect();
        let message = if text.is_empty() { format!("the host's relay answered {status}") } else { text };
        return Err(match status {
            StatusCode::FORBIDDEN => Error::Forbidden { message },
            StatusCode::CONFLICT => Error::Conflict { message },
            _ => Error::Unavailable { message, detail: String::new() },
        }
        .into());
    }
    let (client, relay) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut response));
    tokio::spawn(carry(client, relay, place));
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(UPGRADE));
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}
