//! Watches go to the API server over shared connections (HTTP/2, RFC 9113): each says little for hours, and a connection of its own would hold
//! buffers for it all the time.
//!
//! Who does not read holds up nobody else: the window of a connection is as large as those of all streams that it may carry, so that one stream
//! can never take what another needs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, Uri, header, uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::Refusal;
use super::cluster::{Cluster, Vouched, broken, lock};

/// What is spoken on a shared connection, in the words of ALPN.
pub(super) const HTTP2: &[u8] = b"h2";
/// Watches on one connection: below what API servers allow (100 by default since 1.27).
const STREAMS_MAX: usize = 48;
/// How much of one watch may be on its way unread, in bytes.
const STREAM_WINDOW: u32 = 64 * 1_024;
#[expect(clippy::cast_possible_truncation, reason = "48")]
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;
/// A peer that is gone without a word is noticed by its silence: how often it is asked, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// How long a connection is kept without a watch.
const IDLE: Duration = Duration::from_mins(1);

/// A stream's place on its connection. It is given back when this is dropped.
pub(super) struct Lease(#[expect(dead_code, reason = "counted, never read")] Arc<()>);

struct Shared {
    sender: SendRequest<Empty<Bytes>>,
    /// One more than the streams on it.
    streams: Arc<()>,
    used: Instant,
    vouched: Vouched,
}

/// Runs the parts of a connection until nobody vouches for its peer any more. hyper has several, and the one that holds the socket goes on while there are
/// streams, whatever becomes of the others.
#[derive(Clone)]
struct While(Vouched);

impl<F> Executor<F> for While
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, part: F) {
        let vouched = self.0.clone();
        tokio::spawn(async move {
            vouched.run_until_cancelled(part).await;
        });
    }
}

/// The shared connections to one API server.
#[derive(Default)]
pub(super) struct Watches {
    shared: Mutex<Vec<Shared>>,
    /// Who connects; the others wait for what comes of it.
    connecting: tokio::sync::Mutex<()>,
    /// The API server knows no HTTP/2: it is not asked again.
    are_alone: AtomicBool,
}

/// What became of a watch.
pub(super) enum Sent {
    /// The answer's head, and the place that the answer takes.
    Answered(Response<Incoming>, Lease),
    /// Nothing was sent: it needs a connection of its own.
    Alone(Request<Incoming>),
}

impl Watches {
    /// A place on a connection that is there.
    fn lease(&self) -> Option<(SendRequest<Empty<Bytes>>, Lease)> {
        let mut all = lock(&self.shared);
        let in_use = |shared: &Shared| Arc::strong_count(&shared.streams) > 1;
        let is_good = |shared: &Shared| !shared.sender.is_closed() && !shared.vouched.is_cancelled();
        all.retain(|shared| is_good(shared) && (in_use(shared) || shared.used.elapsed() < IDLE));
        let shared = all.iter_mut().find(|shared| Arc::strong_count(&shared.streams) <= STREAMS_MAX)?;
        shared.used = Instant::now();
        Some((shared.sender.clone(), Lease(Arc::clone(&shared.streams))))
    }

    /// Sends a watch to the cluster whose connections these are.
    pub(super) async fn send(&self, request: Request<Incoming>, cluster: &Cluster) -> Result<Sent, Refusal> {
        if self.are_alone.load(Ordering::Relaxed) {
            return Ok(Sent::Alone(request));
        }
        let Some(mut shared) = rewritten(&request) else { return Ok(Sent::Alone(request)) };
        loop {
            let (mut sender, lease) = match self.lease() {
                Some(found) => found,
                None => match self.connected(cluster).await? {
                    Some(made) => made,
                    None => return Ok(Sent::Alone(request)),
                },
            };
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(shared).await {
                Ok(response) => return Ok(Sent::Answered(response, lease)),
                // It closed meanwhile: what was not sent is sent anew.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => shared = unsent,
                    None => return Err(broken(&failed.into_error())),
                },
            }
        }
    }

    /// A place on a connection that is made now; none where the API server knows no HTTP/2.
    async fn connected(&self, cluster: &Cluster) -> Result<Option<(SendRequest<Empty<Bytes>>, Lease)>, Refusal> {
        let _one = self.connecting.lock().await;
        if let Some(found) = self.lease() {
            return Ok(Some(found));
        }
        let (stream, vouched) = cluster.shared_stream().await?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            self.are_alone.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        let parts = While(vouched.clone());
        let mut builder = http2::Builder::new(parts.clone());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        parts.execute(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection with watches ended");
            }
        });
        // Where it is vouched for no more by now, nothing can be asked over it: whoever tries connects anew.
        let shared = Shared { sender: sender.clone(), streams: Arc::default(), used: Instant::now(), vouched };
        let lease = Lease(Arc::clone(&shared.streams));
        lock(&self.shared).push(shared);
        Ok(Some((sender, lease)))
    }
}

/// The same request as HTTP/2 says it: the host is a part of the address. None if it has a body.
fn rewritten(request: &Request<Incoming>) -> Option<Request<Empty<Bytes>>> {
    let headers = request.headers();
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    let host = headers.get(header::HOST)?;
    let mut parts = uri::Parts::default();
    parts.scheme = Some(uri::Scheme::HTTPS);
    parts.authority = Some(uri::Authority::try_from(host.as_bytes()).ok()?);
    parts.path_and_query = request.uri().path_and_query().cloned();
    let mut shared = Request::new(Empty::new());
    *shared.method_mut() = request.method().clone();
    *shared.uri_mut() = Uri::from_parts(parts).ok()?;
    *shared.headers_mut() = headers.clone();
    shared.headers_mut().remove(header::HOST);
    Some(shared)
}
