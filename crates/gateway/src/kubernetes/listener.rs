//! The direct way in: a TLS listener in front of a proxy.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Proxy;
use crate::places::{Places, holder};
use crate::stall::Stall;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 12_000;
/// Of these, from one address: whoever has not signed in yet must not keep everybody else out. A whole office may share one.
pub const PER_ADDRESS: usize = 1_024;
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
    /// How many connections one address may have at a time, at most; [`PER_ADDRESS`] where nothing else is known.
    pub per_address: usize,
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
        let (places, connections) = (Places::new(CONNECTIONS_MAX, self.per_address), TaskTracker::new());
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
            let Ok(place) = places.take(holder(peer.ip())) else { continue };
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

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn attack_69_one_address_takes_no_more_than_its_part_without_signing_in() {
        crypto::tls::install();
        let (_, certificate, key) = testkit::kube::certificates();
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let tls = Arc::new(tls);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener { socket, tls: Box::new(move || Arc::clone(&tls)), stall: STALL, per_address: 2 };
        let stop = CancellationToken::new();
        let taking = tokio::spawn(listener.take(|_, _| std::future::pending::<()>(), stop.clone()));
        // Two that say nothing, and a third, which is closed at once.
        let silent = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        // From elsewhere there is a place still: another address of this machine.
        let other = tokio::net::TcpSocket::new_v4().unwrap();
        other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = other.connect(address).await.unwrap();
        let came = tokio::time::timeout(Duration::from_millis(300), other.read(&mut [0; 1])).await;
        assert!(came.is_err(), "{came:?}");
        drop(silent);
        stop.cancel();
        taking.await.unwrap();
    }
}
