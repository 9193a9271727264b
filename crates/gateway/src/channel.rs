//! The shell around a session: one socket at a time, and handles that wait.
//!
//! Nothing is buffered here but what a socket gives and takes, so that a connection that says nothing costs a few kilobytes.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use domain::Rng;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wire::frame::{Body, Frame, MessageKind, Reason};

use crate::session::{Broken, Incoming, Session};
use crate::websocket::{self, Received, Side};

/// Room for what comes while nothing does, in bytes: a sign of life fits, and a longer frame gets its room when its header is there.
const READ_BYTES: usize = 128;
/// How much is written at once, in bytes.
const WRITE_BYTES: usize = 64 * 1_024;
/// How long the last frames may take.
const PARTING: Duration = Duration::from_secs(2);

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: MessageKind,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The stream, or the session with it, is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}{text}", if text.is_empty() { "" } else { ": " })]
pub struct ChannelEnded {
    /// Why.
    pub reason: Reason,
    /// The words of who ended it.
    pub text: String,
}

/// Why a link is over.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The socket broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The other end closed the socket without a goodbye.
    #[error("the connection was closed")]
    Closed,
    /// What came broke the rules, or the peer said goodbye.
    #[error("{0}")]
    Broken(#[from] Broken),
    /// The bytes are no WebSocket.
    #[error("{0}")]
    WebSocket(#[from] websocket::WebSocketError),
    /// This side ended it.
    #[error("ended here ({0})")]
    Ours(Reason),
}

impl LinkEnd {
    /// Whether the session may go on over another link.
    pub fn may_resume(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Closed | Self::Broken(Broken::Silent | Broken::Gap { .. }))
    }
}

struct Shared {
    session: Mutex<Session>,
    /// There may be something to send.
    write: Notify,
    /// Something came: a stream, or a sign of life. Who waits on a stream is woken by the session.
    changed: Notify,
    /// The session is over.
    over: CancellationToken,
    /// Why; set before `over`.
    ended: Mutex<Option<ChannelEnded>>,
    began: Instant,
}

/// A session that tasks share with its links; cheap to clone.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

impl Channel {
    /// Around a session without a link.
    pub fn new(session: Session) -> Self {
        let shared = Shared {
            session: Mutex::new(session),
            write: Notify::new(),
            changed: Notify::new(),
            over: CancellationToken::new(),
            ended: Mutex::new(None),
            began: Instant::now(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.shared.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.shared.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The last numbered frame that came.
    pub fn received(&self) -> u64 {
        self.session().received()
    }

    /// Whether there is a link.
    pub fn is_linked(&self) -> bool {
        self.session().is_linked()
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.session().streams()
    }

    /// Ends the session: every stream of it, and its link.
    pub fn end(&self, reason: Reason, text: &str) {
        let ended = ChannelEnded { reason, text: text.to_owned() };
        self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ended);
        self.shared.over.cancel();
        self.session().wake_all();
    }

    /// Why the session is over; none while it is not.
    pub fn ended(&self) -> Option<ChannelEnded> {
        if !self.shared.over.is_cancelled() {
            return None;
        }
        self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the session is over.
    pub async fn wait_end(&self) {
        self.shared.over.cancelled().await;
    }

    fn why_ended(&self) -> ChannelEnded {
        self.ended().unwrap_or(ChannelEnded { reason: Reason::Done, text: String::new() })
    }

    /// Opens a stream of work (servers).
    pub fn open(&self) -> Result<StreamHandle, ChannelEnded> {
        self.opened(Session::open)
    }

    /// Opens a tunnel (servers).
    pub fn open_tunnel(&self) -> Result<StreamHandle, ChannelEnded> {
        self.opened(Session::open_tunnel)
    }

    fn opened(&self, open: fn(&mut Session) -> Result<u32, Broken>) -> Result<StreamHandle, ChannelEnded> {
        if self.shared.over.is_cancelled() {
            return Err(self.why_ended());
        }
        let opened = open(&mut self.session());
        let id = opened.map_err(|broken| ChannelEnded { reason: Reason::Limit, text: broken.to_string() })?;
        self.shared.write.notify_one();
        Ok(StreamHandle { channel: self.clone(), id })
    }

    /// Waits for a stream that the other end opens (relays); none when the session is over.
    pub async fn accept(&self) -> Option<StreamHandle> {
        self.wait(Session::accept).await.ok().map(|id| StreamHandle { channel: self.clone(), id })
    }

    /// Asks for a sign of life, and says whether one came in time.
    pub async fn answers(&self, within: Duration) -> bool {
        let question = {
            let now = self.now();
            let mut session = self.session();
            if !session.is_linked() {
                return false;
            }
            session.probe(now)
        };
        self.shared.write.notify_one();
        let answered = self.wait(|session| session.has_answered(question).then_some(()));
        matches!(tokio::time::timeout(within, answered).await, Ok(Ok(())))
    }

    /// Waits until a look at the session finds something.
    async fn wait<T>(&self, mut look: impl FnMut(&mut Session) -> Option<T>) -> Result<T, ChannelEnded> {
        loop {
            // Registered before the look: a change in between is not missed.
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.session()) {
                return Ok(found);
            }
            tokio::select! {
                () = self.shared.over.cancelled() => return Err(self.why_ended()),
                () = changed => {}
            }
        }
    }

    /// A look at a stream by who is woken when it finds nothing; the end of the session ends it.
    fn poll<T>(&self, look: impl FnOnce(&mut Session) -> Poll<T>) -> Poll<Result<T, ChannelEnded>> {
        match look(&mut self.session()) {
            Poll::Ready(found) => Poll::Ready(Ok(found)),
            // Looked at after who waits was noted: whoever ends the session wakes those who were.
            Poll::Pending if self.shared.over.is_cancelled() => Poll::Ready(Err(self.why_ended())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Drives a link to its end. `peer_received` is what the handshake said; `rest` is what the socket gave beyond the handshake; `drop`
    /// ends the link, and not the session.
    pub async fn drive<S>(
        &self,
        socket: S,
        side: Side,
        rest: BytesMut,
        peer_received: u64,
        rng: &dyn Rng,
        drop: &CancellationToken,
    ) -> LinkEnd
    where
        S: AsyncRead + AsyncWrite,
    {
        let now = self.now();
        let linked = {
            let mut session = self.session();
            // Looked at under the lock: a link that gave way to another one does not come up after it.
            if drop.is_cancelled() { None } else { Some(session.link_up(now, peer_received)) }
        };
        let (reader, mut writer) = tokio::io::split(socket);
        let end = match linked {
            None => LinkEnd::Ours(Reason::Done),
            Some(Err(broken)) => return broken.into(),
            Some(Ok(link)) => {
                let pong = Mutex::new(None);
                let end = tokio::select! {
                    end = self.read(link, reader, side, rest, &pong) => end,
                    end = self.write(link, &mut writer, side, &pong, rng) => end,
                    () = self.shared.over.cancelled() => LinkEnd::Ours(self.why_ended().reason),
                    () = drop.cancelled() => LinkEnd::Ours(Reason::Done),
                };
                self.session().link_down(link);
                self.shared.changed.notify_waiters();
                end
            }
        };
        if end.may_resume() {
            // Whoever hears a goodbye takes the session for over.
            return end;
        }
        let (reason, text) = match &end {
            LinkEnd::Ours(reason) => (*reason, self.ended().map(|ended| ended.text).unwrap_or_default()),
            LinkEnd::Broken(Broken::Goodbye(..)) | LinkEnd::Io(_) | LinkEnd::Closed => return end,
            LinkEnd::Broken(broken) => (Reason::Protocol, broken.to_string()),
            LinkEnd::WebSocket(broken) => (Reason::Protocol, broken.to_string()),
        };
        let _ = tokio::time::timeout(PARTING, goodbye(&mut writer, side, reason, &text, rng)).await;
        end
    }

    /// The session, while this link is the one that is there.
    fn on(&self, link: u64) -> Option<MutexGuard<'_, Session>> {
        let session = self.session();
        session.is_on(link).then_some(session)
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        link: u64,
        mut reader: R,
        side: Side,
        mut buffer: BytesMut,
        pong: &Mutex<Option<BytesMut>>,
    ) -> LinkEnd {
        loop {
            let more = match websocket::read(side, &mut buffer) {
                Err(broken) => return broken.into(),
                Ok(Ok(Received::Close)) => return LinkEnd::Closed,
                Ok(Ok(Received::Ping(body))) => {
                    *pong.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
                    self.shared.write.notify_one();
                    continue;
                }
                Ok(Ok(Received::Message(frame))) => {
                    let now = self.now();
                    let Some(mut session) = self.on(link) else { return LinkEnd::Ours(Reason::Done) };
                    if let Err(broken) = session.receive(now, &frame) {
                        return broken.into();
                    }
                    drop(session);
                    self.shared.changed.notify_waiters();
                    self.shared.write.notify_one();
                    continue;
                }
                Ok(Err(more)) => more,
            };
            if buffer.is_empty() && buffer.capacity() != READ_BYTES {
                buffer = BytesMut::with_capacity(READ_BYTES);
            }
            buffer.reserve(more.max(1));
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return LinkEnd::Closed,
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
    }

    async fn write<W: AsyncWrite + Unpin>(
        &self,
        link: u64,
        writer: &mut W,
        side: Side,
        pong: &Mutex<Option<BytesMut>>,
        rng: &dyn Rng,
    ) -> LinkEnd {
        loop {
            let mut out = Vec::new();
            if let Some(body) = pong.lock().unwrap_or_else(PoisonError::into_inner).take() {
                websocket::write_pong(side, &body, rng, &mut out);
            }
            let now = self.now();
            let mut wait = {
                let Some(mut session) = self.on(link) else { return LinkEnd::Ours(Reason::Done) };
                let wait = session.tick(now);
                while out.len() < WRITE_BYTES {
                    let Some(frame) = session.transmit() else { break };
                    websocket::write_message(side, &frame, rng, &mut out);
                }
                match wait {
                    Ok(wait) => wait,
                    Err(broken) => return broken.into(),
                }
            };
            if out.is_empty() {
                // Running out of time is as good as a sign.
                let _ = tokio::time::timeout(Duration::from_millis(wait), self.shared.write.notified()).await;
                continue;
            }
            let wrote = async {
                writer.write_all(&out).await?;
                writer.flush().await
            };
            let mut wrote = std::pin::pin!(wrote);
            // A peer that takes nothing may be gone: a write that waits is no reason not to notice its silence.
            loop {
                match tokio::time::timeout(Duration::from_millis(wait), wrote.as_mut()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => return error.into(),
                    Err(_) => {}
                }
                let now = self.now();
                let Some(mut session) = self.on(link) else { return LinkEnd::Ours(Reason::Done) };
                wait = match session.tick(now) {
                    Ok(wait) => wait,
                    Err(broken) => return broken.into(),
                };
            }
        }
    }
}

/// Says why the channel ends, and closes the socket.
pub async fn goodbye<W: AsyncWrite + Unpin>(
    writer: &mut W,
    side: Side,
    reason: Reason,
    text: &str,
    rng: &dyn Rng,
) -> std::io::Result<()> {
    let (mut frame, mut out) = (Vec::new(), Vec::new());
    Frame::channel(Body::Goodbye(reason, text)).encode(&mut frame).map_err(std::io::Error::other)?;
    websocket::write_message(side, &frame, rng, &mut out);
    websocket::write_close(side, rng, &mut out);
    writer.write_all(&out).await?;
    writer.shutdown().await
}

/// Reads one message before the session begins. What follows it stays in `buffer`.
pub async fn read_first<R: AsyncRead + Unpin>(
    reader: &mut R,
    side: Side,
    buffer: &mut BytesMut,
) -> Result<BytesMut, LinkEnd> {
    loop {
        let more = match websocket::read(side, buffer)? {
            Ok(Received::Message(frame)) => return Ok(frame),
            Ok(Received::Close) => return Err(LinkEnd::Closed),
            Ok(Received::Ping(_)) => continue,
            Err(more) => more,
        };
        buffer.reserve(more);
        if reader.read_buf(buffer).await? == 0 {
            return Err(LinkEnd::Closed);
        }
    }
}

/// Writes one frame before the session begins.
pub async fn write_first<W: AsyncWrite + Unpin>(
    writer: &mut W,
    side: Side,
    body: Body<'_>,
    rng: &dyn Rng,
) -> Result<(), LinkEnd> {
    let (mut frame, mut out) = (Vec::new(), Vec::new());
    Frame::channel(body).encode(&mut frame).map_err(Broken::from)?;
    websocket::write_message(side, &frame, rng, &mut out);
    writer.write_all(&out).await?;
    writer.flush().await?;
    Ok(())
}

/// One stream. Dropping it closes it.
pub struct StreamHandle {
    channel: Channel,
    id: u32,
}

impl StreamHandle {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends a message, once there is room for it.
    pub async fn send(&self, kind: MessageKind, bytes: impl Into<Bytes>) -> Result<(), ChannelEnded> {
        let bytes = bytes.into();
        poll_fn(|cx| self.poll_send(cx, kind, &bytes)).await
    }

    /// The same for who polls.
    pub fn poll_send(&self, cx: &Context<'_>, kind: MessageKind, bytes: &Bytes) -> Poll<Result<(), ChannelEnded>> {
        let sent = self.channel.poll(|session| session.poll_send(cx, self.id, kind, bytes));
        let Poll::Ready(sent) = sent else { return Poll::Pending };
        self.channel.shared.write.notify_one();
        Poll::Ready(sent?.map_err(|broken| {
            let reason = if matches!(broken, Broken::Frame(_)) { Reason::Limit } else { Reason::Done };
            ChannelEnded { reason, text: broken.to_string() }
        }))
    }

    /// Whether everything that was sent is on its way.
    pub fn poll_sent(&self, cx: &Context<'_>) -> Poll<Result<(), ChannelEnded>> {
        self.channel.poll(|session| session.poll_sent(cx, self.id))
    }

    /// The next message.
    pub async fn recv(&self) -> Result<Message, ChannelEnded> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The same for who polls.
    pub fn poll_recv(&self, cx: &Context<'_>) -> Poll<Result<Message, ChannelEnded>> {
        let came = self.channel.poll(|session| session.poll_take(cx, self.id));
        let Poll::Ready(came) = came else { return Poll::Pending };
        // Credit may be due.
        self.channel.shared.write.notify_one();
        Poll::Ready(match came? {
            Incoming::Message(kind, bytes) => Ok(Message { kind, bytes }),
            Incoming::Closed(reason, text) => Err(ChannelEnded { reason, text }),
        })
    }

    /// Closes it, and says why.
    pub fn close(self, reason: Reason, text: &str) {
        self.channel.session().close(self.id, reason, text);
        self.channel.shared.write.notify_one();
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.channel.session().close(self.id, Reason::Done, "");
        self.channel.shared.write.notify_one();
    }
}
