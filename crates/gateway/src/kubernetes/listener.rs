//! The direct way in: a TLS listener in front of a proxy.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Proxy;
use crate::stall::Stall;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 12_000;
/// Longest time of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a peer may not take what is sent to it.
const STALL: Duration = Duration::from_mins(1);
/// How long what is at work may take when the listener stops.
const DRAIN: Duration = Duration::from_secs(5);

/// A socket and how TLS is spoken on it.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// The configuration of now: certificates are replaced while it serves. Only HTTP/1.1 is spoken.
    pub tls: Box<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>,
}

impl Listener {
    /// Serves until `stop`.
    pub async fn serve(self, proxy: Arc<Proxy>, stop: CancellationToken) {
        let (places, connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Who is one too many is closed at once.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (acceptor, proxy, stop) = (TlsAcceptor::from((self.tls)()), Arc::clone(&proxy), stop.clone());
            connections.spawn(async move {
                connection(socket, peer.ip().to_canonical(), &acceptor, proxy, stop).await;
                drop(place);
            });
        }
        connections.close();
        let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    }
}

async fn connection(
    socket: TcpStream,
    peer: IpAddr,
    acceptor: &TlsAcceptor,
    proxy: Arc<Proxy>,
    stop: CancellationToken,
) {
    let _ = socket.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(Stall::new(socket, STALL))).await {
        Ok(Ok(stream)) => proxy.serve(stream, Some(peer), stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "handshake failed"),
        Err(_) => tracing::debug!("handshake took too long"),
    }
}
