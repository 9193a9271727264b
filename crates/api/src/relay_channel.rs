//! The relay channel: a relay that proved who it is turns its request into the WebSocket over which it gets tasks.

use std::sync::Arc;
use std::time::Duration;

use access::{FleetPermit, fleet_ops};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use domain::{Error, RelayId};
use gateway::{Hub, HubSettings, Refused};
use hyper_util::rt::TokioIo;
use serde_json::json;
use store::{Category, Change, Outcome, RelayPolicy};
use uuid::Uuid;

use crate::fleet_caller::{FleetCaller, FleetFailure};
use crate::page::Path;
use crate::relay_log::Followers;
use crate::relay_policy::{self, Shown};
use crate::state::ApiState;

/// How long another server has to say that a relay hangs on it and is alive.
const ASKED: Duration = Duration::from_secs(4);
/// How often its answer is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// The relays that hang on this server.
pub struct Relays {
    /// By their ids.
    pub hub: Hub<RelayId>,
    /// This process among the servers of one database.
    pub server: Uuid,
    /// How people call it: its host and port.
    place: String,
    /// How many follow the log of each.
    pub(crate) followers: Followers,
}

impl Relays {
    /// Nobody hangs here yet.
    pub fn new(settings: HubSettings, rng: Arc<dyn domain::Rng>, place: String) -> Self {
        let mut bits = [0; 16];
        rng.fill(&mut bits);
        Self { hub: Hub::new(settings, rng), server: Uuid::from_bytes(bits), place, followers: Followers::default() }
    }
}

/// Whether a header's list holds this word.
fn says(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let words = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    words.map(str::trim).any(|found| found.eq_ignore_ascii_case(word))
}

/// The `Sec-WebSocket-Key` of a request that asks for the channel (RFC 6455, section 4.2.1).
fn key_of(headers: &HeaderMap) -> Result<String, Error> {
    let wrong = |what: &str| Err(Error::Invalid { field: None, message: what.to_owned() });
    if !says(headers, &header::CONNECTION, "upgrade") || !says(headers, &header::UPGRADE, "websocket") {
        return wrong("this is the relay channel: ask for it with `Upgrade: websocket` over HTTP/1.1");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return wrong("use version 13 of WebSocket");
    }
    if !says(headers, &header::SEC_WEBSOCKET_PROTOCOL, wire::relay::SUBPROTOCOL) {
        return wrong("use the subprotocol `cairn-relay.v1`: this server speaks no other");
    }
    match headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()) {
        Some(key) if key.len() == 24 => Ok(key.to_owned()),
        _ => wrong("`Sec-WebSocket-Key` is 16 bytes in base64"),
    }
}

/// Turns the request into the relay channel. Only the relay itself may ask, with a proof by its key. A second connection with one identity is
/// refused while the first one is alive.
#[utoipa::path(get, path = "/api/v1/relays/{relay}/channel", tag = "fleet", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id")),
    responses((status = 101, description = "the channel is open (WebSocket, subprotocol `cairn-relay.v1`)")))]
pub(crate) async fn relay_connect(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    mut request: Request,
) -> Result<Response, FleetFailure> {
    let permit = caller.permit::<fleet_ops::RelayConnect>(&id, b"").await?;
    let relay: RelayId = id.parse().map_err(|_| Error::NotFound { what: "relay" })?;
    let key = key_of(request.headers())?;
    let (policy, shown) = relay_policy::check(&state, &permit, request.extensions()).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    let relays = Arc::clone(state.relays()?);
    let coming = Coming { relay, permit, policy, shown };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => serve(&state, &relays, &coming, TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, %relay, "the channel was not opened"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(wire::relay::SUBPROTOCOL));
    let accept = HeaderValue::from_str(&gateway::websocket::accept(&key)).map_err(Error::internal)?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Whether the relay hangs on another server, which says that it is alive.
async fn is_held_elsewhere(state: &ApiState, relays: &Relays, relay: RelayId) -> Result<bool, Error> {
    // What an earlier process left behind is nobody: nobody has to be waited for.
    if !state.store.is_shared() {
        return Ok(false);
    }
    let Some(link) = state.store.relay_link(relay).await?.filter(|link| link.server != relays.server) else {
        return Ok(false);
    };
    state.store.relay_ask(relay).await?;
    let until = tokio::time::Instant::now() + ASKED;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        match state.store.relay_link(relay).await? {
            Some(now) if now.server == link.server && now.seen_at > link.seen_at => return Ok(true),
            Some(now) if now.server == link.server => {}
            // It let go.
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// A relay that proved who it is.
struct Coming {
    relay: RelayId,
    permit: FleetPermit<fleet_ops::RelayConnect>,
    /// The terms that it fulfils.
    policy: RelayPolicy,
    shown: Shown,
}

async fn serve<S>(state: &ApiState, relays: &Relays, coming: &Coming, socket: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (relay, tenant, ctx) = (coming.relay, coming.permit.tenant(), coming.permit.ctx());
    let record = async |change: Change| {
        let recorded = Box::pin(state.store.record(ctx, Some(tenant), "relay_connect", &change));
        if let Err(error) = recorded.await {
            tracing::warn!(%error, %relay, "what became of a relay's connection is not in the audit log");
        }
    };
    let admitted = async |hello: &wire::relay::Hello| {
        let unavailable = |error: Error| Refused::Greeting(error.to_string());
        if is_held_elsewhere(state, relays, relay).await.map_err(unavailable)? {
            return Err(Refused::Taken);
        }
        // Known to the audit log before it gets anything to do.
        let detail = json!({
            "version": hello.version,
            "host": hello.host.chars().take(255).collect::<String>(),
            "program_sha256": hello.program,
            "certificate_sha256": coming.shown.sha256,
            "certificate_vouched_for": coming.shown.vouched_for,
        });
        let change = Change::to(Category::Access, "relay", relay).detail(detail);
        state.store.record(ctx, Some(tenant), "relay_connect", &change).await.map_err(unavailable)?;
        // Both once more: what changed since the request is not heard of where the relay has no place yet.
        if state.store.relay_policy(&coming.permit).await.map_err(unavailable)? != coming.policy {
            return Err(Refused::Ended);
        }
        state.store.relay_linked(tenant, relay, relays.server, &relays.place).await.map_err(unavailable)
    };
    match relays.hub.serve(relay, socket, admitted).await {
        Ok((admitted, connected)) => {
            tracing::info!(%relay, end = %admitted.end, "a relay's connection ended");
            let is_over = admitted.is_over || relays.hub.expire(relay, &connected).await;
            if is_over
                && relays.hub.relay(relay).is_none()
                && let Err(error) = Box::pin(state.store.relay_unlinked(relay, relays.server)).await
            {
                tracing::debug!(%error, %relay, "where the relay hung is not forgotten");
            }
        }
        Err(Refused::Taken) => {
            tracing::warn!(%relay, "a second connection with a relay's identity was refused: the first one is alive");
            let detail = json!({"reason": "another connection with this identity is alive", "alarm": true});
            record(Change::to(Category::Access, "relay", relay).outcome(Outcome::Deny).detail(detail)).await;
        }
        Err(refused) => {
            tracing::info!(%relay, %refused, "a relay was refused");
            let detail = json!({"reason": refused.to_string().chars().take(300).collect::<String>()});
            record(Change::to(Category::Access, "relay", relay).outcome(Outcome::Deny).detail(detail)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(change: (&'static str, Option<&'static str>)) -> HeaderMap {
        let usual = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", wire::relay::SUBPROTOCOL),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let value = |name, usual| if name == change.0 { change.1 } else { Some(usual) };
        let kept = usual.iter().filter_map(|(name, usual)| Some((*name, value(*name, *usual)?)));
        kept.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_a_request_for_this_channel_is_turned_into_it() {
        assert_eq!(key_of(&headers(("", None))).unwrap(), "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in [
            ("connection", Some("close")),
            ("upgrade", Some("h2c")),
            ("upgrade", None),
            ("sec-websocket-version", Some("8")),
            ("sec-websocket-protocol", Some("chat")),
            ("sec-websocket-protocol", None),
            ("sec-websocket-key", Some("short")),
            ("sec-websocket-key", None),
        ] {
            assert!(key_of(&headers((name, value))).is_err(), "{name} {value:?}");
        }
    }
}
