//! A connection to a relay, on whichever server of the database it hangs.

use domain::{Error, RelayId};
use gateway::kubernetes::Refusal;
use gateway::peer::Ask;
use gateway::tunnel::Tunnel;
use gateway::websocket::Side;
use wire::frame::MessageKind;
use wire::relay::Connect;

use crate::ports::{PeerLost, PeerStream};
use crate::state::ApiState;

/// A relay of which nothing was heard for so long is not connected, whatever is written down, in milliseconds: it is noted every 20 seconds.
const SILENT_MS: i64 = 60_000;

fn unavailable(error: &Error) -> Refusal {
    tracing::warn!(%error, "where a relay hangs cannot be seen");
    Refusal::Unavailable("this cannot be decided now: try again".to_owned())
}

fn not_connected() -> Refusal {
    Refusal::Unavailable("the destination's relay is not connected".to_owned())
}

/// Connects to a relay, which is told first what this connection is.
pub(crate) async fn reach(state: &ApiState, relay: RelayId, connect: &Connect) -> Result<Box<dyn PeerStream>, Refusal> {
    // One that moves in between is looked for once more.
    match once(state, relay, connect).await? {
        Some(stream) => Ok(stream),
        None => once(state, relay, connect).await?.ok_or_else(not_connected),
    }
}

/// None: it does not hang where it was said to.
async fn once(state: &ApiState, relay: RelayId, connect: &Connect) -> Result<Option<Box<dyn PeerStream>>, Refusal> {
    let relays = state.relays().map_err(|error| unavailable(&error))?;
    if let Some(connected) = relays.hub.relay(relay).filter(|connected| connected.channel.is_linked()) {
        let ended = |ended: &dyn std::fmt::Display| Refusal::Unavailable(format!("the destination's relay: {ended}"));
        let stream = connected.channel.open_tunnel().map_err(|error| ended(&error))?;
        let beginning = serde_json::to_vec(connect).map_err(|error| ended(&error))?;
        stream.send(MessageKind::Connect, beginning).await.map_err(|error| {
            tracing::info!(%error, %relay, "a relay does not pass a request on");
            Refusal::BadGateway("the destination's relay broke the connection: try again".into())
        })?;
        return Ok(Some(Box::new(Tunnel::new(stream, Side::Server))));
    }
    let link = state.store.relay_link(relay).await.map_err(|error| unavailable(&error))?;
    let now = state.store.clock().now();
    let link = link.filter(|link| link.server != relays.server && now.millis_since(link.seen_at) < SILENT_MS);
    let link = link.ok_or_else(not_connected)?;
    let asked = match state.peers() {
        Some(peers) => peers.reach(link.server, &Ask { relay, connect: *connect }).await,
        None => Err(PeerLost::NotReached),
    };
    let place = link.place;
    match asked {
        Ok(stream) => Ok(Some(stream)),
        Err(PeerLost::Elsewhere) => Ok(None),
        Err(PeerLost::NotReached) => Err(Refusal::Unavailable(format!(
            "the destination's relay hangs on another server, `{place}`: ask that one, or have the servers reach each other (server.peer_listen)"
        ))),
        Err(PeerLost::Away(_)) => Err(Refusal::Unavailable(format!(
            "the destination's relay hangs on another server, `{place}`, which does not answer: a relay comes to another server by itself, try again in \
             a moment"
        ))),
        Err(PeerLost::Refused(why)) => Err(Refusal::Unavailable(format!("the destination's relay: {why}"))),
    }
}
