//! Sockets: accepting, the TLS handshake, HTTP/1.1 and HTTP/2, draining.
//!
//! **Not for** what a request means. Here everything that a peer can do without one is bounded: connections in all and per address, the
//! time of a handshake, of a head, of silence and of not reading, and frames that carry no request.

mod guard;
mod meter;
mod watch;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
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
/// How long an HTTP/1.1 connection is kept ready for the next request before it rests.
const READY: Duration = Duration::from_millis(900);

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
    /// Connections between two requests that hold next to nothing.
    resting: AtomicUsize,
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
        resting: AtomicUsize::new(0),
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

/// The handshake, by the configuration that fits what the client offers. A session is 2 KiB: it is on the heap, so that it is there once and not
/// in every step that hands it on.
async fn shake_hands(stream: Stall<TcpStream>, configs: &Configs) -> std::io::Result<Box<TlsStream<Stall<TcpStream>>>> {
    let begun = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let config = configs.of(&begun.client_hello());
    begun.into_stream(config).await.map(Box::new)
}

impl Front {
    /// What only a part of a connection's life needs is on the heap for that part: a connection that waits is small.
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let stream = Stall::new(stream, self.limits.stall);
        let Some(configs) = &self.tls else { return self.http(stream, peer, false, None).await };
        let handshake = tokio::select! {
            () = self.stop.cancelled() => return,
            handshake = tokio::time::timeout(self.limits.handshake, Box::pin(shake_hands(stream, configs))) => handshake,
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
        let service = move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(api::Carrier(Arc::clone(&requests) as Arc<dyn api::Connection>));
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
        };
        let ended = if h2 {
            let io = TokioIo::new(Guard::http2(stream, Arc::clone(&watch)));
            let served = Box::pin(self.http2.serve_connection(io, service_fn(service)));
            Box::pin(self.drive(served, http2::Connection::graceful_shutdown, &watch, false)).await.map(drop)
        } else {
            let guard = Guard::http1(stream, Arc::clone(&watch), Arc::clone(&self.refuse));
            self.http1(guard, service, &watch).await
        };
        if let Err(reason) = ended {
            tracing::debug!(%peer, reason, "connection ended");
        }
    }

    /// Serves requests, and between them rests with nothing but the guard: the HTTP library holds 16 KiB for each connection that it serves.
    async fn http1<S, F, A>(&self, mut guard: Guard<S>, service: F, watch: &Watch) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Fn(Request<Incoming>) -> A + Clone + Unpin + Send + 'static,
        A: Future<Output = Result<http::Response<Watched<Body>>, std::convert::Infallible>> + Send + 'static,
    {
        loop {
            let io = TokioIo::new(guard);
            let served = Box::pin(self.http1.serve_connection(io, service_fn(service.clone())).with_upgrades());
            let shut_down = http1::UpgradeableConnection::graceful_shutdown;
            let Some(resting) = Box::pin(self.drive(served, shut_down, watch, true)).await? else { return Ok(()) };
            // None: it speaks another protocol by now.
            let Some(parts) = Pin::into_inner(resting).into_parts() else { return Ok(()) };
            guard = parts.io.into_inner();
            guard.put_back(parts.read_buf);
            let limit = self.limits.headers.min(self.limits.idle).saturating_sub(watch.idle_for());
            self.resting.fetch_add(1, Ordering::Relaxed);
            let comes = tokio::select! {
                comes = tokio::time::timeout(limit, guard.wait()) => comes.map_err(|_| "it was idle".to_owned()),
                () = self.stop.cancelled() => Ok(Ok(false)),
                () = watch.condemned() => Ok(Ok(false)),
            };
            self.resting.fetch_sub(1, Ordering::Relaxed);
            match comes {
                Ok(Ok(true)) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Ok(Ok(false)) | Err(_) => {
                    let _ = tokio::time::timeout(watch.parting(), guard.shutdown()).await;
                    return comes.map(drop);
                }
            }
        }
    }

    /// Runs a connection to its end, and ends it when there is no reason to go on. `may_rest`: gives it back when it has nothing to do.
    async fn drive<C, E>(
        &self,
        mut connection: Pin<Box<C>>,
        shut_down: impl Fn(Pin<&mut C>),
        watch: &Watch,
        may_rest: bool,
    ) -> Result<Option<Pin<Box<C>>>, String>
    where
        C: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
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
                biased;
                ended = connection.as_mut() => return ended.map(|()| None).map_err(|error| error.to_string()),
                () = ends => return Err("it was told to end and did not".to_owned()),
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    shut_down(connection.as_mut());
                    continue;
                }
                () = watch.condemned() => {}
                _ = looks.tick() => {
                    if watch.is_stalled(self.limits.stall) {
                        return Err("the client does not take its answer".to_owned());
                    }
                    if may_rest && parting.is_none() && !stopping && watch.may_rest(READY) {
                        return Ok(Some(connection));
                    }
                    if parting.is_some() || !watch.is_idle(self.limits.idle) {
                        continue;
                    }
                }
            }
            shut_down(connection.as_mut());
            // Told again, it may have less time than it had: never more.
            let until = tokio::time::Instant::now() + watch.parting();
            parting = Some(parting.map_or(until, |before: tokio::time::Instant| before.min(until)));
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

#[cfg(test)]
mod tests {
    use domain::Clock;
    use testkit::{TestClock, TestRng};
    use tokio::io::{AsyncReadExt as _, DuplexStream};

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    fn front() -> Arc<Front> {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::default());
        let minute = Duration::from_mins(1);
        let limits = Limits {
            connections: 9,
            connections_per_address: 9,
            handshake: minute,
            headers: minute,
            idle: minute,
            stall: minute,
        };
        Arc::new(Front {
            tls: None,
            router: Router::new().route("/", axum::routing::get(async || "here")),
            limits,
            http1: http1(limits),
            http2: http2(),
            refuse: refuse(clock, Arc::new(TestRng::default())),
            resting: AtomicUsize::new(0),
            stop: CancellationToken::new(),
        })
    }

    fn connect(front: &Arc<Front>) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 * 1_024);
        let front = Arc::clone(front);
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        (near, tokio::spawn(async move { front.http(far, peer, false, None).await }))
    }

    /// Reads up to the end of an answer.
    async fn read_until(stream: &mut DuplexStream, end: &[u8]) -> String {
        let mut came = Vec::new();
        while !came.ends_with(end) {
            let byte = stream.read_u8().await.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&came)));
            came.push(byte);
        }
        String::from_utf8(came).unwrap()
    }

    async fn rests(front: &Front) {
        while front.resting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_rests_is_taken_up_where_it_was() {
        let front = front();
        let (mut stream, served) = connect(&front);
        stream.write_all(HEAD).await.unwrap();
        assert!(read_until(&mut stream, b"here").await.starts_with("HTTP/1.1 200"));
        rests(&front).await;
        // A head that comes byte by byte, and two at once.
        for byte in HEAD {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(read_until(&mut stream, b"here").await.starts_with("HTTP/1.1 200"));
        rests(&front).await;
        stream.write_all(&HEAD.repeat(2)).await.unwrap();
        for _ in 0..2 {
            assert!(read_until(&mut stream, b"here").await.starts_with("HTTP/1.1 200"));
        }
        // What is refused is answered, and the connection ends.
        rests(&front).await;
        stream.write_all(b"GET / HTTP/1.1\n").await.unwrap();
        let refused = read_until(&mut stream, b"}").await;
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("CR LF"), "{refused}");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        drop(stream);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_rests_ends_with_its_client_and_with_the_server() {
        let front = front();
        let (mut left, left_served) = connect(&front);
        left.write_all(HEAD).await.unwrap();
        read_until(&mut left, b"here").await;
        rests(&front).await;
        drop(left);
        left_served.await.unwrap();
        assert_eq!(front.resting.load(Ordering::Relaxed), 0);
        let (mut stream, served) = connect(&front);
        stream.write_all(HEAD).await.unwrap();
        read_until(&mut stream, b"here").await;
        rests(&front).await;
        front.stop.cancel();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        served.await.unwrap();
    }

    /// Answers one request on each of two connections, the first of which rests by then, and ends both as [`api::Connection`] does.
    #[tokio::test]
    async fn attack_23_a_connection_whose_owner_is_let_in_no_more_ends_at_rest_between_requests_and_at_work() {
        let (held, work) =
            (Arc::<std::sync::Mutex<Vec<api::Carrier>>>::default(), Arc::new(tokio::sync::Notify::new()));
        let (holds, at_work) = (Arc::clone(&held), Arc::clone(&work));
        let hold = async move |request: Request<Body>| {
            holds.lock().unwrap().push(request.extensions().get::<api::Carrier>().unwrap().clone());
            "here"
        };
        let stays = async move || {
            at_work.notify_one();
            std::future::pending::<&str>().await
        };
        let router = Router::new().route("/", axum::routing::get(hold)).route("/stays", axum::routing::get(stays));
        let mut own = Arc::into_inner(front()).unwrap();
        own.router = router;
        let front = Arc::new(own);
        let (mut resting, resting_served) = connect(&front);
        resting.write_all(HEAD).await.unwrap();
        read_until(&mut resting, b"here").await;
        rests(&front).await;
        let (mut fresh, fresh_served) = connect(&front);
        let (mut busy, busy_served) = connect(&front);
        for stream in [&mut fresh, &mut busy] {
            stream.write_all(HEAD).await.unwrap();
            read_until(stream, b"here").await;
        }
        busy.write_all(b"GET /stays HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        work.notified().await;
        let carriers = std::mem::take(&mut *held.lock().unwrap());
        assert_eq!(carriers.len(), 3);
        for carrier in carriers {
            carrier.0.end();
        }
        for (mut stream, served) in [(resting, resting_served), (fresh, fresh_served), (busy, busy_served)] {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            served.await.unwrap();
        }
    }
}
