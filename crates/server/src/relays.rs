//! Looking after the relays that hang here: who is alive, who has ended (agents too), about whom another server asks.

use std::sync::Arc;
use std::time::Duration;

use api::{Connections, Relays};
use domain::{FleetId, RelayId};
use store::Store;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use wire::frame::Reason;

/// How often it is written down who is alive.
const SEEN: Duration = Duration::from_secs(20);

/// How often is looked for connections to hosts whose relay was lost.
const SWEEP: Duration = Duration::from_mins(1);

/// Looks after them until `stop`, and lets them go then, so that they come back to another server at once.
pub(crate) async fn keep(store: Store, relays: Arc<Relays>, connections: Arc<Connections>, stop: CancellationToken) {
    // Each on its own: whoever is let in no more is cut off also while the database takes its time for the rest.
    let kept = async {
        tokio::join!(
            cut(&store, &relays, &connections),
            questions(&store, &relays),
            looks(&store, &relays),
            sweeps(&store)
        )
    };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = kept => {}
    }
    let held = relays.hub.keys();
    relays.hub.end_all("the server stops");
    for relay in held {
        if let Err(error) = store.relay_unlinked(relay, relays.server).await {
            tracing::debug!(%error, %relay, "where the relay hung is not forgotten");
        }
    }
}

/// Ends the connections of those who are let in no more.
async fn cut(store: &Store, relays: &Relays, connections: &Connections) {
    let mut endings = store.fleet_endings();
    loop {
        let ended = endings.next().await;
        let cut = connections.end(ended);
        if cut > 0 {
            tracing::info!(unit = %ended, connections = cut, "connections were cut: who asked over them is let in no more");
        }
        if let FleetId::Relay(relay) = ended
            && relays.hub.end(relay, Reason::Revoked, "the relay is let in no more")
        {
            tracing::info!(%relay, "a relay's channel was cut: it is let in no more");
        }
    }
}

async fn questions(store: &Store, relays: &Arc<Relays>) {
    let mut questions = store.relay_questions();
    loop {
        match questions.recv().await {
            Ok(relay) => drop(tokio::spawn(answer(store.clone(), Arc::clone(relays), relay))),
            // Whoever asked asks again.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn looks(store: &Store, relays: &Relays) {
    let mut looks = tokio::time::interval(SEEN);
    loop {
        looks.tick().await;
        for relay in relays.hub.keys() {
            write_down(store, relays, relay).await;
        }
    }
}

async fn sweeps(store: &Store) {
    let mut sweeps = tokio::time::interval(SWEEP);
    loop {
        sweeps.tick().await;
        match store.ssh_sessions_lost().await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "connections to hosts are over whose relays were lost"),
            Err(error) => tracing::warn!(%error, "connections of lost relays cannot be ended now"),
        }
    }
}

/// Writes down that a relay is alive, if it is; a relay that another server took over is let go.
async fn write_down(store: &Store, relays: &Relays, relay: RelayId) {
    if !relays.hub.relay(relay).is_some_and(|connected| connected.channel.is_linked()) {
        return;
    }
    match store.relay_seen(relay, relays.server).await {
        Ok(true) => {}
        Ok(false) => {
            relays.hub.end(relay, Reason::Taken, "the relay hangs on another server");
        }
        Err(error) => tracing::debug!(%error, %relay, "a relay's sign of life was not written down"),
    }
}

/// Another server asks: only a relay that answers now is written down as alive.
async fn answer(store: Store, relays: Arc<Relays>, relay: RelayId) {
    if relays.hub.answers(relay).await {
        write_down(&store, &relays, relay).await;
    }
}

#[cfg(test)]
mod tests;
