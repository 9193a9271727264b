//! The direct way in: a TLS listener in front of a proxy.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Proxy;
use crate::stall::Stall;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 12_000;
/// Longest time of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a peer of a proxy may not take what is sent to it.
pub const STALL: Duration = Duration::from_mins(1);
/// How long what is at work may take when the listener stops.
const DRAIN: Duration = Duration::from_secs(5);

/// A socket and how TLS is spoken on it.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// The configuration of now: certificates are replaced while it serves. Only HTTP/1.1 is spoken.
    pub tls: Box<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>,
    /// How long a peer may not take what is sent to it.
    pub stall: Duration,
}

impl Listener {
    /// Serves a proxy until `stop`.
    pub async fn serve(self, proxy: Arc<Proxy>, stop: CancellationToken) {
        let each = stop.clone();
        let serve = move |stream, peer| Arc::clone(&proxy).serve(stream, Some(peer), each.clone());
        self.take(serve, stop).await;
    }

    /// Takes connections until `stop`, each with its peer's address once TLS is spoken.
    pub async fn take<F, S>(self, serve: F, stop: CancellationToken)
    where
        F: Fn(TlsStream<Stall<TcpStream>>, IpAddr) -> S + Clone + Send + 'static,
        S: Future<Output = ()> + Send,
    {
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
            let _ = socket.set_nodelay(true);
            let (acceptor, serve) = (TlsAcceptor::from((self.tls)()), serve.clone());
            let socket = Stall::new(socket, self.stall);
            connections.spawn(async move {
                connection(socket, peer.ip().to_canonical(), &acceptor, serve).await;
                drop(place);
            });
        }
        connections.close();
        let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    }
}

async fn connection<F, S>(socket: Stall<TcpStream>, peer: IpAddr, acceptor: &TlsAcceptor, serve: F)
where
    F: Fn(TlsStream<Stall<TcpStream>>, IpAddr) -> S,
    S: Future<Output = ()>,
{
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => serve(stream, peer).await,
        Ok(Err(error)) => tracing::debug!(%error, "handshake failed"),
        Err(_) => tracing::debug!("handshake took too long"),
    }
}
