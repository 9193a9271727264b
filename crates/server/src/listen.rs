//! Sockets: accepting, the TLS handshake, HTTP/1.1 and HTTP/2, draining.
//!
//! **Not for** what a request means. Here everything that a peer can do without one is bounded: connections in all and per address, the
//! time of a handshake, of a head, of silence and of not reading, and frames that carry no request.

mod guard;
mod meter;
mod watch;

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use api::{Admission, ClientCertificates};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use domain::{Clock, Rng};
use gateway::stall::Stall;
use http::StatusCode;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use self::guard::{Guard, Refuse};
use self::watch::{Watch, Watched};
use crate::config::ServerSection;
use crate::tls::Configs;

/// How often a connection is looked at for silence and for answers that are not taken.
const LOOK: Duration = Duration::from_secs(1);
/// How long a connection that is told to end may take for what is at work.
const PARTING: Duration = Duration::from_secs(2);

/// What one peer may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    connections: usize,
    connections_per_address: usize,
    handshake: Duration,
    headers: Duration,
    idle: Duration,
    stall: Duration,
}

impl Limits {
    /// Those of the configuration. `files`: how many the process may have open, of which some stay for the database and artifacts.
    pub(crate) fn new(section: &ServerSection, files: Option<u64>) -> Self {
        const KEPT_BACK: usize = 128;
        let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
        let most = files.saturating_sub(KEPT_BACK).max(files / 2);
        if section.connections_max > most {
            tracing::warn!(
                connections = most,
                "fewer connections than `server.connections_max`: the process may open only {files} files (`ulimit -n`)"
            );
        }
        Self {
            connections: section.connections_max.min(most),
            connections_per_address: section.connections_per_address,
            handshake: Duration::from_secs(section.handshake_s),
            headers: Duration::from_secs(section.headers_s),
            idle: Duration::from_secs(section.idle_s),
            stall: Duration::from_secs(section.stall_s),
        }
    }

    /// For the listener of metrics: a few scrapers.
    pub(crate) fn few(self) -> Self {
        Self { connections: 64, connections_per_address: 0, ..self }
    }
}

/// What every connection of a listener shares.
struct Front {
    tls: Option<Configs>,
    router: Router,
    limits: Limits,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    refuse: Refuse,
    stop: CancellationToken,
}

fn http1(limits: Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The gate holds a head back until it is complete: this is the limit for a whole head, and for the time between two requests.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.headers).max_buf_size(64 * 1_024).keep_alive(true);
    builder
}

/// See RFC 9113 section 10.5; what these do not bound, `meter` does.
fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(32 * 1_024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .initial_stream_window_size(128 * 1_024)
        .initial_connection_window_size(256 * 1_024)
        .max_send_buf_size(64 * 1_024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Writes the answer to a request that never reached the router.
fn refuse(clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Refuse {
    Arc::new(move |refusal| {
        let answer = api::refusal(&*clock, &*rng, refusal.status, refusal.message);
        let mut bytes = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
        for (name, value) in answer.headers() {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(
            format!("connection: close\r\ncontent-length: {}\r\n\r\n", answer.body().len()).as_bytes(),
        );
        bytes.extend_from_slice(answer.body());
        bytes
    })
}

/// Serves until `stop`, then lets what is at work end within `drain`.
#[expect(clippy::too_many_arguments, reason = "each is a different part of the server")]
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Configs>,
    router: Router,
    limits: Limits,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    stop: CancellationToken,
    drain: Duration,
) {
    let admission = Admission::new("connections", limits.connections, limits.connections_per_address);
    let front = Arc::new(Front {
        tls,
        router,
        limits,
        http1: http1(limits),
        http2: http2(),
        refuse: refuse(clock, rng),
        stop: stop.clone(),
    });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: wait for some to be given back instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(admitted) = admission.admit(peer.ip()) else { continue };
        let front = Arc::clone(&front);
        connections.spawn(async move {
            front.connection(stream, peer).await;
            drop(admitted);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

/// The handshake, by the configuration that fits what the client offers.
async fn shake_hands(stream: Stall<TcpStream>, configs: &Configs) -> std::io::Result<TlsStream<Stall<TcpStream>>> {
    let begun = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let config = configs.of(&begun.client_hello());
    begun.into_stream(config).await
}

impl Front {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let stream = Stall::new(stream, self.limits.stall);
        let Some(configs) = &self.tls else { return self.http(stream, peer, false, None).await };
        let handshake = tokio::select! {
            () = self.stop.cancelled() => return,
            handshake = tokio::time::timeout(self.limits.handshake, shake_hands(stream, configs)) => handshake,
        };
        match handshake {
            Ok(Ok(stream)) => {
                // Told by the handshake, and not by the first bytes: there is no time in which neither protocol's limits hold.
                let session = stream.get_ref().1;
                let protocol = session.alpn_protocol();
                if protocol == Some(crate::tls::ACME_PROTOCOL) {
                    return;
                }
                let is_http2 = protocol == Some(b"h2");
                let shown = session.peer_certificates().map(|chain| chain.iter().map(|der| der.to_vec()).collect());
                self.http(stream, peer, is_http2, shown.map(ClientCertificates)).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
            Err(_) => tracing::debug!(%peer, "handshake took too long"),
        }
    }

    async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        peer: SocketAddr,
        h2: bool,
        shown: Option<ClientCertificates>,
    ) {
        let watch = Watch::new();
        let (router, requests) = (self.router.clone(), Arc::clone(&watch));
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(shown) = &shown {
                request.extensions_mut().insert(shown.clone());
            }
            let (answer, work) = (router.clone().oneshot(request.map(Body::new)), requests.request());
            let watch = Arc::clone(&requests);
            async move {
                let answer = answer.await?;
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    watch.switch();
                }
                Ok::<_, std::convert::Infallible>(answer.map(|body| Watched::new(body, work)))
            }
        });
        let ended = if h2 {
            let io = TokioIo::new(Guard::http2(stream, Arc::clone(&watch)));
            self.drive(self.http2.serve_connection(io, service), http2::Connection::graceful_shutdown, &watch).await
        } else {
            let io = TokioIo::new(Guard::http1(stream, Arc::clone(&watch), Arc::clone(&self.refuse)));
            let served = self.http1.serve_connection(io, service).with_upgrades();
            self.drive(served, http1::UpgradeableConnection::graceful_shutdown, &watch).await
        };
        if let Err(reason) = ended {
            tracing::debug!(%peer, reason, "connection ended");
        }
    }

    /// Runs a connection to its end, and ends it when there is no reason to go on.
    async fn drive<C, E>(&self, connection: C, shut_down: impl Fn(Pin<&mut C>), watch: &Watch) -> Result<(), String>
    where
        C: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        let mut connection = pin!(connection);
        let (mut looks, mut parting) = (tokio::time::interval(LOOK), None);
        let mut stopping = false;
        loop {
            let ends = async {
                match parting {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
                () = ends => return Err("it was told to end and did not".to_owned()),
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    shut_down(connection.as_mut());
                    continue;
                }
                () = watch.condemned(), if parting.is_none() => {}
                _ = looks.tick() => {
                    if watch.is_stalled(self.limits.stall) {
                        return Err("the client does not take its answer".to_owned());
                    }
                    if parting.is_some() || !watch.is_idle(self.limits.idle) {
                        continue;
                    }
                }
            }
            shut_down(connection.as_mut());
            parting = Some(tokio::time::Instant::now() + PARTING);
        }
    }
}

/// Binds, with an error that says what to change.
pub(crate) async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!(
            "cannot listen on `{address}` ({error}): stop what listens there, or set `{key}` to another address"
        )
    })
}
