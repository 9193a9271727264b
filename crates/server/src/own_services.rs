//! Where this installation's own services listen: no tenant's jobs call them from here (`transport::guard`).

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use store::{PeerKey, Store};
use transport::guard::Services;

/// How long the name of the database or of another server may take to be found.
const LOOKUP: Duration = Duration::from_secs(3);

/// What is known of them when the server starts; what moves is looked up for each task.
pub(crate) struct OwnServices {
    store: Store,
    /// Where this server listens.
    ports: Vec<u16>,
    /// What the rows of other servers are proved by, where there are others.
    peers: Option<PeerKey>,
    /// `discovery.own_targets`.
    allowed: Vec<SocketAddr>,
    /// What was found last, for when a name cannot be looked up.
    found: Mutex<Vec<SocketAddr>>,
}

impl OwnServices {
    pub(crate) async fn new(store: &Store, ports: Vec<u16>, allowed: &[SocketAddr]) -> domain::Result<Self> {
        let peers = if store.is_shared() { Some(store.peer_key().await?) } else { None };
        Ok(Self { store: store.clone(), ports, peers, allowed: allowed.to_vec(), found: Mutex::default() })
    }

    /// Where they are now. The database is taken for another one's neighbour: where it is on this machine, its port is refused at each of the
    /// machine's addresses.
    pub(crate) async fn now(&self) -> domain::Result<Services> {
        let mut places: Vec<(String, u16)> = self.store.database_place().into_iter().collect();
        let own = self.store.database_place().map(|(_, port)| port);
        if let Some(key) = &self.peers {
            for peer in self.store.peer_list(key).await? {
                let Some((host, port)) = transport::guard::host_and_port(&peer.address, 0) else { continue };
                // Others have what this one has at the same ports, as a rule.
                places.extend(self.ports.iter().chain([&port]).map(|port| (host.clone(), *port)));
            }
        }
        let (mut found, mut missed) = (Vec::new(), false);
        for (host, port) in places {
            let looked = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host.as_str(), port))).await;
            match looked {
                Ok(Ok(addresses)) => found.extend(addresses),
                _ => missed = true,
            }
        }
        {
            let mut last = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            if missed {
                found.extend(last.iter().copied());
            }
            // Each once: as long as something cannot be looked up, what was found before is among them each time.
            found.sort_unstable();
            found.dedup();
            last.clone_from(&found);
        }
        let is_here = |at: &SocketAddr| at.ip().is_loopback() || std::net::UdpSocket::bind((at.ip(), 0)).is_ok();
        let database = own.filter(|port| found.iter().any(|at| at.port() == *port && is_here(at)));
        let here = self.ports.iter().copied().chain(database);
        Ok(Services::here(here).elsewhere(found).but(&self.allowed))
    }
}
