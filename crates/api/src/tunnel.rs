//! The way to a cluster through this server: a request with a destination token goes on over the channel of the cluster's relay, as it is, and the
//! answer comes back.
//!
//! **Not for** what a request may do: the relay's proxy reads it and decides, as it does for those who come directly. Here is decided whether
//! anything goes on at all.
//!
//! Invariants:
//! - nothing is asked of a relay for anybody who has no token of this installation, for this destination, that still rests on a grant, a membership
//!   and a session;
//! - cookies and sessions of this server are no way in, and nothing that comes back can set one: programs behind a cluster are strangers here.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access::ssh::SshUse;
use access::{Actor, Grants, OpCtx};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use domain::{DestinationId, DestinationKind, Error, RelayId, UserId};
use gateway::Verifier;
use gateway::destination_token::Admission;
use gateway::kubernetes::headers::{self, Upgrade};
use gateway::kubernetes::{Refusal, request};
use gateway::places::{Place, Places};
use gateway::tunnel::exchange;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use wire::relay::Connect;

use crate::layers::AtWork;
use crate::reach::reach;
use crate::state::ApiState;

/// Where it begins.
pub(crate) const PATH: &str = "/api/v1/tenants/{tenant}/destinations/{destination}/proxy";
/// Longest time to the beginning of an answer: the relay itself gives up before.
const ANSWER: Duration = Duration::from_secs(100);
/// How far the clocks of two servers may be apart, in seconds.
const LEEWAY_S: i64 = 30;
/// Destinations whose tokens are remembered.
const DOORS_MAX: usize = 1_024;
/// Connections to destinations through this server at a time. Each relay's channel has a bound of its own.
const TUNNELS_MAX: usize = 16 * 1_024;
/// How much is copied at once on a connection that switched protocols, in bytes, in each direction.
const COPY_BYTES: usize = 16 * 1_024;
/// What comes back for a browser to obey, and none of ours: an answer of a cluster is shown, and never acted on.
const STAYS_BEHIND: [HeaderName; 3] = [header::SET_COOKIE, header::ALT_SVC, HeaderName::from_static("clear-site-data")];

/// The routes: whatever is below the path.
pub(crate) fn routes() -> Router<ApiState> {
    let below = format!("{PATH}/{{*rest}}");
    Router::new().route(PATH, any(pass)).route(&format!("{PATH}/"), any(pass)).route(&below, any(pass))
}

/// Who judges the tokens of each destination, and how many go through.
pub(crate) struct Doors {
    verifiers: Mutex<HashMap<DestinationId, Arc<Verifier>>>,
    places: Arc<Places<(UserId, RelayId)>>,
}

/// One connection of a user to a relay.
pub(crate) type Through = Place<(UserId, RelayId)>;

impl Doors {
    pub(crate) fn new(per_user: usize) -> Self {
        Self { verifiers: Mutex::default(), places: Places::new(TUNNELS_MAX, per_user) }
    }

    /// A place for one more connection, so that one user does not take all that a relay has for everybody.
    pub(crate) fn enter(&self, user: UserId, relay: RelayId) -> Result<Through, Refusal> {
        self.places.take((user, relay)).map_err(|full| {
            tracing::warn!(%user, %relay, ?full, "a connection to a destination is one too many");
            Refusal::Unavailable(
                "you have as many connections to this relay as one user may: end some of them".to_owned(),
            )
        })
    }

    async fn of(&self, state: &ApiState, destination: DestinationId) -> Result<Arc<Verifier>, Error> {
        let published = state.token_keys.now(&state.store).await?.published.clone();
        let keys = crypto::es512::KeySet::new(published);
        let mut doors = self.verifiers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = doors.get(&destination) {
            known.replace_keys(keys);
            return Ok(Arc::clone(known));
        }
        if doors.len() >= DOORS_MAX {
            doors.clear();
        }
        let verifier = Verifier::new(state.settings.installation.clone(), destination, keys, LEEWAY_S);
        let verifier = Arc::new(verifier);
        doors.insert(destination, Arc::clone(&verifier));
        Ok(verifier)
    }
}

/// The parts of the path: the tenant, the destination, and what the cluster is asked for.
fn parts(uri: &Uri) -> Option<(&str, &str, Uri)> {
    let mut parts = uri.path().splitn(8, '/').skip(4);
    let (tenant, _, destination, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let path = rest.strip_prefix("proxy")?;
    let path = if path.is_empty() { "/" } else { path };
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Some((tenant, destination, target.parse().ok()?))
}

/// What a token says that is good at a destination now, as far as the token itself tells.
pub(crate) async fn verify(state: &ApiState, destination: DestinationId, token: &str) -> Result<Admission, Error> {
    let verifier = state.tunnels.of(state, destination).await?;
    verifier.admit(token, state.store.clock().now()).map_err(|refusal| {
        tracing::info!(%refusal, "a destination token is refused");
        Error::Forbidden { message: "the token is not accepted here: make another one, or ask for access".to_owned() }
    })
}

/// What a connection rests on that such a token lets in.
pub(crate) fn standing(said: &Admission) -> store::Standing {
    store::Standing {
        tenant: said.tenant,
        user: said.user,
        name: Some(said.name.clone()),
        session: said.session,
        destination: said.destination,
        role: said.role.clone(),
        namespaces: said.namespaces.clone(),
        act_as: said.act_as.clone(),
        // Of which of them the cluster is told its relay knows, and asks.
        groups: Vec::new(),
        ssh: SshUse::default(),
    }
}

fn unavailable(error: &Error) -> Refusal {
    tracing::warn!(%error, "a request to a cluster cannot be judged");
    Refusal::Unavailable("this cannot be decided now: try again".to_owned())
}

async fn pass(State(state): State<ApiState>, request: Request) -> Response {
    let is_resource = parts(request.uri())
        .and_then(|(.., target)| request::resolve(request.method(), target.path(), target.query()).ok())
        .is_none_or(|call| call.is_resource);
    match go(&state, request).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::info!(%refusal, "a request to a cluster goes no further");
            refusal.answer(is_resource).map(Body::from).into_response()
        }
    }
}

/// Writes down who is not let go to a destination: of each burst the first few.
pub(crate) async fn note_refused(
    state: &ApiState,
    from: Option<IpAddr>,
    (tenant, destination): (&str, DestinationId),
    user: Option<&Admission>,
    reason: &str,
) -> Result<(), Error> {
    let Some(more) = state.throttle.refused_token(from, destination, state.store.clock().now()) else { return Ok(()) };
    let part = Actor::System { part: "tunnel" };
    let (clock, rng) = (Arc::clone(state.store.clock()), Arc::clone(state.store.rng()));
    let ctx = OpCtx::user(part, Grants::default(), crate::caller::request(state), from, clock, rng);
    let user = user.map(|said| said.name.as_str());
    state.store.tunnel_refused(&ctx, tenant, destination, user, &format!("{reason}{more}")).await
}

/// Why a token is refused that is none, or none for there.
pub(crate) const NOT_ACCEPTED: &str = "the token is not accepted: forged, for another destination, or its time is over";
/// Why one is refused that was good.
pub(crate) const RESTS_ON_NOTHING: &str = "what the token rests on is gone, or is not for this way";

/// Who goes where, by which relay.
struct Judged {
    user: UserId,
    relay: RelayId,
    destination: DestinationId,
    target: Uri,
}

/// The relay that leads there, for who may go there.
async fn judge(state: &ApiState, from: Option<IpAddr>, headers: &HeaderMap, uri: &Uri) -> Result<Judged, Refusal> {
    let token = headers::bearer(headers)?;
    let (tenant, destination, target) = parts(uri).ok_or(Refusal::Malformed("the address is no path to a cluster"))?;
    let unknown = || {
        Refusal::Unauthenticated("the token is not accepted here: run `cairn use` again, or ask for access".to_owned())
    };
    let destination = destination.parse().map_err(|_| unknown())?;
    let said = match verify(state, destination, token).await {
        Ok(said) => said,
        Err(Error::Forbidden { .. }) => {
            let noted = note_refused(state, from, (tenant, destination), None, NOT_ACCEPTED).await;
            return Err(noted.map_or_else(|error| unavailable(&error), |()| unknown()));
        }
        Err(error) => return Err(unavailable(&error)),
    };
    let relay = state.store.tunnel_find(&standing(&said), DestinationKind::Kubernetes, tenant).await;
    let Some(relay) = relay.map_err(|error| unavailable(&error))? else {
        let noted = note_refused(state, from, (tenant, destination), Some(&said), RESTS_ON_NOTHING).await;
        return Err(noted.map_or_else(|error| unavailable(&error), |()| unknown()));
    };
    Ok(Judged { user: said.user, relay, destination, target })
}

async fn go(state: &ApiState, mut request: Request) -> Result<Response, Refusal> {
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let from: Option<IpAddr> =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|from| from.0.ip().to_canonical());
    let Judged { user, relay, destination, target } = judge(state, from, &headers, &uri).await?;
    let upgrade = Upgrade::asked(request.method(), request.version(), request.headers())?;
    let place = state.tunnels.enter(user, relay)?;
    if let Some(at_work) = request.extensions().get::<AtWork>() {
        at_work.leave();
    }
    let stream = reach(state, relay, &Connect { destination, from }).await?;
    let client = upgrade.map(|_| hyper::upgrade::on(&mut request));
    prepare(request.headers_mut(), upgrade);
    *request.uri_mut() = target;
    *request.version_mut() = Version::HTTP_11;
    request.extensions_mut().clear();
    let answered = tokio::time::timeout(ANSWER, exchange(stream, request)).await;
    let answered = answered.map_err(|_| Refusal::Timeout("the cluster's relay did not answer in time"))?;
    let mut response = answered.map_err(|error| {
        tracing::info!(%error, %relay, "a relay does not pass a request on");
        Refusal::BadGateway("the cluster's relay broke the connection: try again".into())
    })?;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let asked = upgrade.filter(|asked| switched && headers::switches_to(response.headers(), *asked));
    if switched {
        let (Some(_), Some(client)) = (asked, client) else {
            return Err(Refusal::BadGateway("the cluster's relay switched to a protocol that nobody asked for".into()));
        };
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(carry(client, server, place));
        return Ok(returned(response, asked).map(Body::new));
    }
    // As long as the answer comes.
    let held = move |frame| {
        let _place = &place;
        frame
    };
    Ok(returned(response, asked).map(|body| Body::new(body.map_frame(held))))
}

/// The answer with what may come back of its headers.
fn returned<B>(mut response: Response<B>, asked: Option<Upgrade>) -> Response<B> {
    headers::backward(response.headers_mut(), asked);
    for name in STAYS_BEHIND {
        response.headers_mut().remove(name);
    }
    let policy = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// Makes the headers fit for the next hop; what they say is for the relay to judge.
fn prepare(headers: &mut HeaderMap, upgrade: Option<Upgrade>) {
    headers::backward(headers, upgrade);
    // The relay puts the cluster's own in its place.
    headers.insert(header::HOST, HeaderValue::from_static("cluster"));
}

/// Carries bytes between two connections that switched protocols, until one ends.
pub(crate) async fn carry(client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade, _place: Through) {
    let carried = async {
        let (client, server) = tokio::try_join!(client, server).map_err(std::io::Error::other)?;
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, COPY_BYTES, COPY_BYTES).await
    };
    if let Err(error) = carried.await {
        tracing::debug!(%error, "a connection to a cluster ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_is_asked_for_is_what_follows_byte_by_byte() {
        let begin = "/api/v1/tenants/acme/destinations/dst_1/proxy";
        for (rest, expect) in [
            ("", "/"),
            ("/", "/"),
            ("/api/v1/pods?watch=1&continue=eyJ2", "/api/v1/pods?watch=1&continue=eyJ2"),
            ("/api/v1/namespaces/a%2Fb/../pods", "/api/v1/namespaces/a%2Fb/../pods"),
            ("//x", "//x"),
        ] {
            let uri: Uri = format!("{begin}{rest}").parse().unwrap();
            let (tenant, destination, target) = parts(&uri).unwrap();
            assert_eq!((tenant, destination, target.to_string().as_str()), ("acme", "dst_1", expect));
        }
        for wrong in ["/api/v1/tenants/acme/destinations/dst_1", "/api/v1/tenants/acme/destinations/dst_1/proxies/x"] {
            let found = parts(&wrong.parse().unwrap()).map(|(.., target)| target.to_string());
            assert!(found.is_none_or(|target| !target.starts_with('/')), "{wrong}");
        }
    }
}
