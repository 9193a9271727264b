//! Servers of one database among each other: each says in the database where it is reached and by which certificate it is known, and takes
//! connections of the others to relays that hang here.
//!
//! **Not for** what a user may do: the server that the user came to judged the token, and the relay does again.
//!
//! Invariants:
//! - both sides show the certificate that the database names for a living server of this installation, and prove its key; its row is proved by a key
//!   that is sealed. Who reaches the port and has no such certificate is told nothing and costs a handshake and a look at the database;
//! - the key of a certificate is made by a process for itself, is never written anywhere, and ends with it;
//! - connections, handshakes, and their times are bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::Relays;
use api::ports::{PeerLost, PeerStream, Peers as Port};
use async_trait::async_trait;
use domain::Digest;
use gateway::peer::{self, Answer, Ask};
use gateway::stall::Stall;
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use socket2::{SockRef, TcpKeepalive};
use store::{PEER_LEASE_MS, PeerKey, ServerPeer, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::config::Config;

/// Connections of other servers at a time; a relay takes fewer.
const CONNECTIONS_MAX: usize = 4_096;
/// Of these, how many may not have said who they are.
const STRANGERS_MAX: usize = 128;
/// How long it may take to say who one is, and what one wants.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long another server may take to be reached and to answer.
const REACHED: Duration = Duration::from_secs(5);
/// How long another server may not take what is sent to it.
const STALL: Duration = Duration::from_mins(1);
/// A server that vanished without a word is noticed by its silence: when its machine is asked first, how often again, and after how many times it is gone.
const ALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(10)).with_retries(3);
/// How often a server gives a sign of life.
const PUBLISHED: Duration = Duration::from_millis(PEER_LEASE_MS.unsigned_abs() / 6);
/// A name that nobody looks at: who is meant is in the certificate.
const NAME: &str = "cairn-peer";

/// Makes a connection say what there is at once, and end when nobody is at its other end any more.
fn lively(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_tcp_keepalive(&ALIVE)
}

/// This server among the others.
pub(crate) struct Peers {
    store: Store,
    relays: Arc<Relays>,
    key: PeerKey,
    own: ServerPeer,
    chain: Vec<CertificateDer<'static>>,
    secret: PrivatePkcs8KeyDer<'static>,
    socket: TcpListener,
    port: u16,
    acceptor: TlsAcceptor,
}

/// Where others reach a server that listens here.
fn address(named: Option<&str>, listens: SocketAddr) -> anyhow::Result<String> {
    let Some(named) = named else {
        ensure!(
            !listens.ip().is_unspecified(),
            "server.peer_listen is `{listens}`, which is no address for others: set server.peer_address to HOST:PORT"
        );
        return Ok(listens.to_string());
    };
    // Port 0 listens on some port, and the name's is that one.
    Ok(named.strip_suffix(":0").map_or_else(|| named.to_owned(), |host| format!("{host}:{}", listens.port())))
}

impl Peers {
    /// Makes its certificate and listens, where the configuration says so.
    pub(crate) async fn open(
        config: &Config,
        store: &Store,
        relays: &Arc<Relays>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(listen) = config.server.peer_listen else { return Ok(None) };
        ensure!(
            store.is_shared(),
            "server.peer_listen is set, and a database in a file has one server: unset it, or set database.url to PostgreSQL"
        );
        let socket = crate::listen::bind(listen, "server.peer_listen").await?;
        let address = address(config.server.peer_address.as_deref(), socket.local_addr()?)?;
        Self::make(store, relays, socket, address).await.map(Arc::new).map(Some)
    }

    async fn make(store: &Store, relays: &Arc<Relays>, socket: TcpListener, address: String) -> anyhow::Result<Self> {
        let (chain, secret) = certificate()?;
        let certificate = crypto::sha256(chain.first().context("a chain begins with its certificate")?);
        let mut tls = ServerConfig::builder_with_provider(crypto::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(crypto::client_certificate::ask())
            .with_single_cert(chain.clone(), PrivateKeyDer::Pkcs8(secret.clone_key()))?;
        tls.alpn_protocols = vec![peer::PROTOCOL.to_vec()];
        // Each connection proves anew who is at its other end.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(Self {
            port: socket.local_addr()?.port(),
            store: store.clone(),
            relays: Arc::clone(relays),
            key: store.peer_key().await?,
            own: ServerPeer { server: relays.server, address, certificate },
            chain,
            secret,
            socket,
            acceptor: TlsAcceptor::from(Arc::new(tls)),
        })
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Says where it is reached, and takes connections, until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        tracing::info!(address = self.own.address, "other servers reach this one");
        let (places, strangers) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(Semaphore::new(STRANGERS_MAX)));
        let (connections, mut looks) = (TaskTracker::new(), tokio::time::interval(PUBLISHED));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                _ = looks.tick() => {
                    if let Err(error) = self.store.peer_publish(&self.key, &self.own).await {
                        tracing::warn!(%error, "other servers are not told where this one is reached");
                    }
                    continue;
                }
                accepted = self.socket.accept() => accepted,
            };
            let (socket, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of another server");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Who is one too many is closed at once.
            let (Ok(place), Ok(stranger)) =
                (Arc::clone(&places).try_acquire_owned(), Arc::clone(&strangers).try_acquire_owned())
            else {
                continue;
            };
            let (this, stop) = (Arc::clone(&self), stop.clone());
            connections.spawn(async move {
                let served = async {
                    let known = tokio::time::timeout(HANDSHAKE, this.know(socket)).await;
                    drop(stranger);
                    let (stream, ask) = known.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    let connected = this.relays.hub.relay(ask.relay).filter(|it| it.channel.is_linked());
                    peer::serve(stream, connected, &ask).await
                };
                let ended = tokio::select! {
                    ended = served => ended,
                    () = stop.cancelled() => Ok(()),
                };
                if let Err(error) = ended {
                    tracing::debug!(%error, %from, "a connection of another server ended");
                }
                drop(place);
            });
        }
        connections.close();
        connections.wait().await;
        if let Err(error) = self.store.peer_forget(self.own.server).await {
            tracing::debug!(%error, "other servers look for this one until its lease is over");
        }
    }

    /// Who is at the other end, and what it wants. Nothing is said to anybody before.
    async fn know(&self, socket: TcpStream) -> io::Result<(server::TlsStream<Stall<TcpStream>>, Ask)> {
        lively(&socket)?;
        let mut stream = self.acceptor.accept(Stall::new(socket, STALL)).await?;
        let shown =
            stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|der| crypto::sha256(der));
        let stranger =
            || io::Error::new(io::ErrorKind::PermissionDenied, "it shows no certificate of a server of ours");
        let shown: Digest = shown.ok_or_else(stranger)?;
        let known = self.store.peer_of_certificate(&self.key, shown).await.map_err(io::Error::other)?;
        let known = known.filter(|known| known.server != self.own.server).ok_or_else(stranger)?;
        let ask = peer::asked(&mut stream).await?;
        tracing::debug!(server = %known.server, relay = %ask.relay, "another server asks for a relay");
        Ok((stream, ask))
    }

    async fn connect(&self, to: &ServerPeer) -> io::Result<client::TlsStream<Stall<TcpStream>>> {
        let mut tls = ClientConfig::builder_with_provider(crypto::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(crypto::pinned::only(to.certificate))
            .with_client_auth_cert(self.chain.clone(), PrivateKeyDer::Pkcs8(self.secret.clone_key()))
            .map_err(io::Error::other)?;
        tls.alpn_protocols = vec![peer::PROTOCOL.to_vec()];
        tls.resumption = Resumption::disabled();
        let socket = TcpStream::connect(&to.address).await?;
        lively(&socket)?;
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(tls)).connect(name, Stall::new(socket, STALL)).await
    }
}

#[async_trait]
impl Port for Peers {
    async fn reach(&self, server: Uuid, ask: &Ask) -> Result<Box<dyn PeerStream>, PeerLost> {
        let found = self.store.peer_find(&self.key, server).await.map_err(|error| {
            tracing::warn!(%error, %server, "where another server is reached cannot be seen");
            PeerLost::Away(error.to_string())
        })?;
        let to = found.ok_or(PeerLost::NotReached)?;
        let reached = tokio::time::timeout(REACHED, async {
            let mut stream = self.connect(&to).await?;
            let answer = peer::ask(&mut stream, ask).await?;
            Ok::<_, io::Error>((stream, answer))
        });
        let away = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, %server, address = to.address, "another server is not reached");
            PeerLost::Away(to.address.clone())
        };
        match reached.await {
            Ok(Ok((stream, Answer::Open))) => Ok(Box::new(stream)),
            Ok(Ok((_, Answer::Elsewhere))) => Err(PeerLost::Elsewhere),
            Ok(Ok((_, Answer::Refused(why)))) => Err(PeerLost::Refused(why)),
            Ok(Err(error)) => Err(away(&error)),
            Err(_) => Err(away(&"it does not answer in time")),
        }
    }
}

/// A certificate of this process.
fn certificate() -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>)> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let made = rcgen::CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    Ok((vec![made.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der())))
}

#[cfg(test)]
mod tests;
