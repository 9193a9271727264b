//! The shell: takes connections, asks the core about each request, and streams between its client and the API server.
//!
//! Nothing is held but what a socket gives and takes, in both directions, so a slow reader slows its sender. There is no limit to how long an
//! answer lasts: a watch lives for hours. It ends with its client, its API server, or its token's cut.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Clock, DestinationId, Rng};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wire::kubernetes::{AccessEvent, Phase};

use super::cluster::{Carrier, Cluster};
use super::headers::{self, Upgrade};
use super::live::{Confirm, Live, Place};
use super::recorded::{self, Session};
use super::request::{self, Call};
use super::stream::websocket;
use super::{Admit, Identity, Refusal, Roles};
use crate::gate::Gate;
use crate::recording::{About, Recorder, Recording, Unrecorded};

/// Longest time of a request's head, and of silence between two requests.
const HEAD: Duration = Duration::from_mins(1);
/// How much is copied at once on a connection that switched protocols, in bytes, in each direction.
const COPY_BYTES: usize = 16 * 1_024;

/// What is spoken on the streams of a SPDY connection.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Where what happens is written down.
pub trait Record: Send + Sync {
    /// Whether what begins now can be written down; where it has to be and cannot, nothing begins.
    fn check(&self) -> Result<(), Refusal>;
    /// Writes down what a token of this destination let in. It does not wait.
    fn record(&self, destination: DestinationId, event: AccessEvent);
}

/// A proxy in front of one cluster.
pub struct Proxy {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Who verifies tokens.
    pub admit: Box<dyn Admit>,
    /// Who is asked when a token is first used.
    pub confirm: Box<dyn Confirm>,
    /// As which groups the cluster knows roles.
    pub roles: Arc<dyn Roles>,
    /// Where calls are written down.
    pub record: Arc<dyn Record>,
    /// Where sessions are recorded.
    pub recorder: Box<dyn Recorder>,
    /// The tokens in use.
    pub live: Arc<Live>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For the ids of requests.
    pub rng: Arc<dyn Rng>,
}

impl Proxy {
    /// Serves one connection, direct or through a tunnel, to its end, and what it was switched to. `from`: who is at its other end.
    pub async fn serve<S>(self: Arc<Self>, stream: S, from: Option<IpAddr>, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let switched = Arc::new(AtomicBool::new(false));
        let gated = Gated {
            inner: stream,
            gate: Gate::new(),
            passed: Bytes::new(),
            switched: Arc::clone(&switched),
            ended: false,
        };
        let service = service_fn(move |request: Request<Incoming>| {
            let (proxy, switched) = (Arc::clone(&self), Arc::clone(&switched));
            async move {
                let response = proxy.answer(request, from).await;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    switched.store(true, Ordering::Release);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 * 1_024).half_close(false);
        let connection = builder.serve_connection(TokioIo::new(gated), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's connection ended");
        }
    }

    /// Answers one request.
    async fn answer(self: &Arc<Self>, request: Request<Incoming>, from: Option<IpAddr>) -> Response<Outgoing> {
        let mut story = Story { proxy: Arc::clone(self), from, began: Instant::now(), event: None, is_resource: true };
        match self.pass(request, &mut story).await {
            Ok(response) => response,
            Err(refusal) => {
                story.tell(Phase::Done, refusal.status().0.as_u16(), Some(&refusal.to_string()));
                refused(&refusal, story.is_resource)
            }
        }
    }

    async fn pass(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        story: &mut Story,
    ) -> Result<Response<Outgoing>, Refusal> {
        let place = self.live.enter(&*self.admit, headers::bearer(request.headers())?, self.clock.now())?;
        let target = request.uri().path_and_query().cloned().ok_or(Refusal::Malformed("the address is not a path"))?;
        let call = request::resolve(request.method(), target.path(), target.query());
        let id = request_id(&*self.rng);
        let event = self.event(&place, call.as_ref().unwrap_or(&Call::default()), &id);
        story.event = Some((place.token().admission().destination, AccessEvent { from: story.from, ..event }));
        let call = call?;
        story.is_resource = call.is_resource;
        place.confirm(&*self.confirm).await?;
        let identity = Identity::decide(place.token().admission(), &call, request.headers(), &*self.roles)?;
        let upgrade = Upgrade::asked(request.method(), request.version(), request.headers())?;
        self.record.check()?;
        if let Some((_, event)) = &mut story.event {
            let text = |name: &HeaderValue| String::from_utf8_lossy(name.as_bytes()).into_owned();
            if identity.is_another() {
                event.acted_as = Some(text(identity.user()));
                event.acted_in = identity.groups().iter().map(text).collect();
            }
            event.upgraded = upgrade.is_some();
        }
        let recording = self.recording(&call, target.query(), upgrade, &place, (&id, story.from)).await?;
        let id = HeaderValue::from_str(&id).map_err(|_| Refusal::Unavailable("no id for the request".to_owned()))?;
        let credential = self.cluster.credential()?;
        let mut on =
            headers::forward(request.headers(), &identity, upgrade, self.cluster.authority(), &id, &credential);
        let recording = recording.map(|recording| readable(recording, &mut on)).transpose()?.flatten();
        let client = upgrade.map(|_| hyper::upgrade::on(&mut request));
        *request.headers_mut() = on;
        *request.uri_mut() = http::Uri::from(target);
        *request.version_mut() = http::Version::HTTP_11;
        request.extensions_mut().clear();

        let cut = place.cut().clone();
        // A watch over WebSocket is an upgrade, which HTTP/1.1 alone knows.
        let is_shared = call.verb == "watch" && upgrade.is_none();
        let sent = self.cluster.send(request, is_shared, call.subresource == "proxy");
        let (mut response, carrier) = tokio::select! {
            sent = sent => sent?,
            () = cut.cancelled() => return Err(cut_off(&place)),
        };
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched {
            let (Some(upgrade), Some(client)) =
                (upgrade.filter(|asked| headers::switches_to(response.headers(), *asked)), client)
            else {
                return Err(Refusal::BadGateway("the API server switched to a protocol that nobody asked for".into()));
            };
            let server = hyper::upgrade::on(&mut response);
            headers::backward(response.headers_mut(), Some(upgrade));
            let taped = recording.map(|recording| tape(recording, upgrade, response.headers())).transpose()?;
            story.tell(Phase::Began, 101, None);
            let story = story.take();
            self.live.carry(carry(client, server, place, story, taped.flatten()));
            return Ok(response.map(|_| Outgoing::Whole(Full::default())));
        }
        headers::backward(response.headers_mut(), None);
        *response.version_mut() = http::Version::HTTP_11;
        let status = response.status().as_u16();
        if let Some(recording) = recording {
            recording.refused(&format!("the cluster answered {status}"));
        }
        let is_long = call.verb == "watch" || call.subresource == "log" || call.subresource == "proxy";
        story.tell(if is_long { Phase::Began } else { Phase::Done }, status, None);
        let story = is_long.then(|| story.take());
        Ok(response.map(|body| {
            let cut = Box::pin(cut.cancelled_owned());
            Outgoing::Stream(Box::new(Stream {
                body,
                carrier: Some(carrier),
                cut,
                place,
                story,
                proxy: Arc::clone(self),
            }))
        }))
    }

    /// Begins the recording of a session, if it is one, before anything of it goes on.
    async fn recording(
        &self,
        call: &Call,
        query: Option<&str>,
        upgrade: Option<Upgrade>,
        place: &Place,
        (id, from): (&str, Option<IpAddr>),
    ) -> Result<Option<Recording>, Refusal> {
        let (target, is_read) = match recorded::session(call, query, upgrade) {
            None => return Ok(None),
            Some(Session::Read(target)) => (target, true),
            Some(Session::Unread(target)) => (target, false),
        };
        let admission = place.token().admission();
        let about = About {
            destination: admission.destination,
            user: admission.user.clone(),
            user_id: admission.user_id,
            session: admission.session,
            token: admission.jti.clone(),
            role: admission.grants.first().map(|grant| grant.role.clone()).unwrap_or_default(),
            from,
            call: id.to_owned(),
            target,
        };
        let unrecorded = |error: Unrecorded| Refusal::Unavailable(error.to_string());
        let recording = self.recorder.begin(about).await.map_err(unrecorded)?;
        if !is_read {
            // Trying again helps nobody.
            let refused = |error: Unrecorded| Refusal::Forbidden(error.to_string());
            recording.fail("it goes to a kubelet, whose stream is not read").map_err(refused)?;
            recording.end("it goes to a kubelet");
            return Ok(None);
        }
        Ok(Some(recording))
    }

    fn event(&self, place: &Place, call: &Call, id: &str) -> AccessEvent {
        let admission = place.token().admission();
        AccessEvent {
            id: id.to_owned(),
            at: self.clock.now(),
            user: admission.user.clone(),
            user_id: admission.user_id,
            session: admission.session,
            token: admission.jti.clone(),
            role: admission.grants.first().map(|grant| grant.role.clone()).unwrap_or_default(),
            from: None,
            acted_as: None,
            acted_in: Vec::new(),
            verb: call.verb.to_owned(),
            group: call.group.clone(),
            resource: call.resource.clone(),
            subresource: call.subresource.clone(),
            namespace: call.namespace.clone(),
            name: call.name.clone(),
            path: if call.is_resource { String::new() } else { call.path.clone() },
            upgraded: false,
            phase: Phase::Done,
            status: 0,
            duration_ms: 0,
            reason: None,
        }
    }
}

/// What is written down about one request.
struct Story {
    proxy: Arc<Proxy>,
    from: Option<IpAddr>,
    began: Instant,
    /// With the destination that it is of. None: nobody is known who asked, or another one tells the rest.
    event: Option<(DestinationId, AccessEvent)>,
    /// Whether the request is about a resource.
    is_resource: bool,
}

impl Story {
    fn tell(&mut self, phase: Phase, status: u16, reason: Option<&str>) {
        let Some((destination, mut event)) = self.event.take() else { return };
        event.status = status;
        let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let reason = reason.map(str::to_owned);
        self.proxy.record.record(destination, AccessEvent { phase, duration_ms, reason, ..event.clone() });
        // Only what has begun has an end that is still to be told.
        if phase == Phase::Began {
            self.event = Some((destination, event));
        }
    }

    fn take(&mut self) -> Self {
        let event = self.event.take();
        Self {
            proxy: Arc::clone(&self.proxy),
            from: self.from,
            began: self.began,
            event,
            is_resource: self.is_resource,
        }
    }
}

impl Drop for Story {
    /// Whose client went away before there was an answer is told as well: what was sent on may have been done.
    fn drop(&mut self) {
        let status = self.event.as_ref().map_or(0, |(_, event)| event.status);
        let phase = if status == 0 { Phase::Done } else { Phase::Ended };
        self.tell(phase, status, Some("it was broken off"));
    }
}

fn cut_off(place: &Place) -> Refusal {
    Refusal::Unauthenticated(format!("cut off: {}", place.token().why_cut().unwrap_or_default()))
}

/// An id in the form that API servers use (RFC 9562).
fn request_id(rng: &dyn Rng) -> String {
    let mut bits = [0; 16];
    rng.fill(&mut bits);
    let bits = (u128::from_be_bytes(bits) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// The answer to a refusal.
fn refused(refusal: &Refusal, is_resource: bool) -> Response<Outgoing> {
    refusal.answer(is_resource).map(|body| Outgoing::Whole(Full::from(body)))
}

/// Leaves of what a session may be spoken in only what can be read, before anything of it goes on: a command runs from then on. None where it goes on
/// without being recorded.
fn readable(recording: Recording, on: &mut HeaderMap) -> Result<Option<Recording>, Refusal> {
    // What is packed is not read.
    on.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    let Some(asked) = on.get(header::SEC_WEBSOCKET_PROTOCOL) else { return Ok(Some(recording)) };
    let asked = asked.to_str().unwrap_or_default().split(',').map(str::trim);
    let read: Vec<&str> = asked.filter(|protocol| websocket::reads(protocol)).collect();
    if read.is_empty() {
        recording.fail(websocket::UNREAD).map_err(|error| Refusal::Forbidden(error.to_string()))?;
        return Ok(None);
    }
    let read = HeaderValue::from_str(&read.join(", ")).map_err(|_| Refusal::Malformed("a subprotocol is no word"))?;
    on.insert(header::SEC_WEBSOCKET_PROTOCOL, read);
    Ok(Some(recording))
}

/// A session that is recorded, and what reads it.
type Taped = (Recording, recorded::Readers);

/// What reads a session that switched to this; none where it goes on without being recorded.
fn tape(recording: Recording, upgrade: Upgrade, headers: &HeaderMap) -> Result<Option<Taped>, Refusal> {
    let name = match upgrade {
        Upgrade::Spdy => STREAM_PROTOCOL,
        Upgrade::WebSocket => header::SEC_WEBSOCKET_PROTOCOL,
    };
    let protocol = headers.get(name).map_or(Ok(""), HeaderValue::to_str);
    match recorded::readers(upgrade, protocol.unwrap_or("?")) {
        Ok(readers) => Ok(Some((recording, readers))),
        Err(why) => {
            recording.fail(why).map_err(|error| Refusal::Forbidden(error.to_string()))?;
            Ok(None)
        }
    }
}

/// Carries bytes between two connections that switched protocols, until one ends or the token is cut.
async fn carry(
    client: hyper::upgrade::OnUpgrade,
    server: hyper::upgrade::OnUpgrade,
    place: Place,
    mut story: Story,
    taped: Option<Taped>,
) {
    let (recording, readers) = taped.unzip();
    let carried = async {
        let (client, server) = tokio::try_join!(client, server).map_err(io::Error::other)?;
        if let (Some(recording), Some(readers)) = (&recording, readers) {
            return recorded::carry(client, server, readers, recording).await;
        }
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, COPY_BYTES, COPY_BYTES).await.map(drop)
    };
    let reason = tokio::select! {
        carried = carried => carried.err().map(|error| error.to_string()),
        () = place.cut().cancelled() => Some(place.token().why_cut().unwrap_or_default().to_owned()),
    };
    if let Some(recording) = recording {
        recording.end(reason.as_deref().unwrap_or("the session ended"));
    }
    story.tell(Phase::Ended, 101, reason.as_deref());
}

/// What a client gets.
enum Outgoing {
    Whole(Full<Bytes>),
    Stream(Box<Stream>),
}

/// An answer on its way.
struct Stream {
    body: Incoming,
    carrier: Option<Carrier>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
    /// Told at the end.
    story: Option<Story>,
    proxy: Arc<Proxy>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Stream(stream) => {
                if stream.cut.as_mut().poll(cx).is_ready() {
                    // Not a regular end: the client must not take what it has for everything.
                    return Poll::Ready(Some(Err(io::Error::other("the token was cut"))));
                }
                let frame = ready!(Pin::new(&mut stream.body).poll_frame(cx));
                if frame.is_none() {
                    stream.give_back();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(stream) => stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(stream) => stream.body.size_hint(),
        }
    }
}

impl Stream {
    fn give_back(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            self.proxy.cluster.give_back(carrier);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
        if let Some(mut story) = self.story.take() {
            let status = story.event.as_ref().map_or(0, |(_, event)| event.status);
            story.tell(Phase::Ended, status, self.place.token().why_cut());
        }
    }
}

/// A connection whose requests pass the gate before the HTTP library sees them.
struct Gated<S> {
    inner: S,
    gate: Gate,
    passed: Bytes,
    switched: Arc<AtomicBool>,
    ended: bool,
}

/// Bytes that are no request: the library answers them with 400 and closes.
const NO_REQUEST: &[u8] = b"\0\r\n\r\n";

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.passed.is_empty() && this.switched.load(Ordering::Acquire) {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        while this.passed.is_empty() {
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; COPY_BYTES];
            let mut came = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut through = Vec::new();
            if let Err(refusal) = this.gate.pass(came.filled(), &mut through) {
                this.ended = true;
                if refusal.before_request {
                    through.extend_from_slice(NO_REQUEST);
                } else {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal.message)));
                }
            }
            this.passed = through.into();
        }
        let now = this.passed.split_to(this.passed.len().min(buf.remaining()));
        buf.put_slice(&now);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
