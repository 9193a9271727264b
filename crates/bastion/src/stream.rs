//! The two sockets of a connection: counted, slowed where what they bring is not taken, and ended where the connection is cut.
//!
//! SSH slows a sender by windows, which the library opens again for whatever comes, and reading and writing of a connection are one task of it. If that task
//! waited for the other side, both could wait for each other for ever (`cat file | ssh host cat`). So everything that comes is queued, and reading is what
//! waits:
//! - of the host, until there is room: it then waits for its socket;
//! - of the user, a moment for each read, with windows that open no more: what still comes is mostly the user's own word that they have read something, which is
//!   what the other direction may wait for. Who sends beyond their windows is cut off.
//!
//! All connections together have a bound as well ([`Crowd`]): from half of it on, who holds more than a small part is not asked for more, and at all of it
//! whoever still sends more is cut off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How much a peer may send on a channel before it was taken.
pub(crate) const WINDOW_BYTES: u32 = 512 * 1_024;
/// From here on nobody is asked for more.
const FULL_BYTES: usize = 1024 * 1_024;
/// Who is beyond this does not keep to the windows: those of all channels that filled up at once (10 sessions, 22 that are forwarded), and a little.
const OVERFULL_BYTES: usize = 18 * 1024 * 1_024;
/// What each connection may hold however much others do.
const PART_BYTES: usize = 64 * 1_024;
/// How long a reader of the user's side waits each time where nothing is taken.
const PAUSE: Duration = Duration::from_millis(20);

/// What the queues of all connections hold together: each is bounded, and many that are slow at once must not take the memory of everybody.
#[derive(Debug)]
pub struct Crowd {
    bytes: AtomicUsize,
    max: usize,
}

impl Default for Crowd {
    /// 128 MiB.
    fn default() -> Self {
        Self::new(128 * 1_024 * 1_024)
    }
}

impl Crowd {
    /// One that holds so many bytes, and of each connection that is not slow a little more.
    pub fn new(max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), max }
    }

    /// Whether nobody who holds more than their part may hold more.
    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= self.max
    }

    /// Whether nobody who holds more than their part is asked for more.
    fn is_pressed(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= self.max / 2
    }
}

/// What all queues of one direction hold.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    less: Notify,
    crowd: Arc<Crowd>,
}

impl Backlog {
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.crowd.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn remove(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.crowd.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.less.notify_waiters();
        }
    }

    /// Only what it holds itself is waited for: a connection that holds its part goes on whatever others hold.
    pub(crate) fn is_full(&self) -> bool {
        let own = self.bytes.load(Ordering::Acquire);
        own >= FULL_BYTES || (own >= PART_BYTES && self.crowd.is_pressed())
    }

    fn is_overfull(&self) -> bool {
        let own = self.bytes.load(Ordering::Acquire);
        own >= OVERFULL_BYTES || (own >= PART_BYTES && self.crowd.is_full())
    }
}

/// What went over the user's socket, and what of it is not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    received: AtomicU64,
    sent: AtomicU64,
    /// Most that may be received; 0: no limit.
    most: AtomicU64,
    pub(crate) from_user: Arc<Backlog>,
    pub(crate) from_host: Arc<Backlog>,
}

impl Meters {
    /// Those of a connection among others.
    pub(crate) fn among(crowd: &Arc<Crowd>) -> Self {
        let backlog = || Arc::new(Backlog { crowd: Arc::clone(crowd), ..Backlog::default() });
        Self { from_user: backlog(), from_host: backlog(), ..Self::default() }
    }

    pub(crate) fn limit(&self, most: u64) {
        self.most.store(most, Ordering::Release);
    }

    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.received.load(Ordering::Acquire), self.sent.load(Ordering::Acquire))
    }

    fn note(&self, bytes: usize) -> io::Result<()> {
        let all = self.received.fetch_add(bytes as u64, Ordering::AcqRel) + bytes as u64;
        let most = self.most.load(Ordering::Acquire);
        if most > 0 && all > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many bytes before signing in"));
        }
        if self.from_user.is_overfull() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "more bytes than the windows let in, or than there is room for",
            ));
        }
        Ok(())
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is over")
}

/// The user's socket.
pub(crate) struct Metered<S> {
    inner: S,
    meters: Arc<Meters>,
    pause: Option<Pin<Box<Sleep>>>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, meters: Arc<Meters>, over: CancellationToken) -> Self {
        Self { inner, meters, pause: None, over: Box::pin(over.cancelled_owned()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        if this.meters.from_user.is_full()
            && this.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE))).as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf)?;
        if read.is_ready() {
            this.pause = None;
            this.meters.note(buf.filled().len() - before)?;
        }
        read.map(Ok)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        let wrote = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &wrote {
            self.meters.sent.fetch_add(*bytes as u64, Ordering::AcqRel);
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The host's socket.
pub(crate) struct Paced<S> {
    inner: S,
    backlog: Arc<Backlog>,
    less: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Paced<S> {
    pub(crate) fn new(inner: S, backlog: Arc<Backlog>, over: CancellationToken) -> Self {
        Self { inner, backlog, less: None, over: Box::pin(over.cancelled_owned()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        while this.backlog.is_full() {
            let backlog = Arc::clone(&this.backlog);
            let waiting = this.less.get_or_insert_with(|| {
                Box::pin(async move {
                    loop {
                        let less = backlog.less.notified();
                        let mut less = std::pin::pin!(less);
                        less.as_mut().enable();
                        if !backlog.is_full() {
                            return;
                        }
                        less.await;
                    }
                })
            });
            if waiting.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.less = None;
        }
        this.less = None;
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_connections_hold_is_bounded_and_who_holds_little_goes_on() {
        let crowd = Arc::new(Crowd::new(1024 * 1_024));
        let many: Vec<_> = (0..4).map(|_| Meters::among(&crowd)).collect();
        for meters in &many {
            assert!(!meters.from_user.is_full());
            meters.from_user.add(200 * 1_024);
        }
        let (first, modest) = (&many[0], Meters::among(&crowd));
        modest.from_host.add(1_024);
        assert!(first.from_user.is_full() && !first.from_user.is_overfull(), "from half on, slowly");
        assert!(!modest.from_host.is_full() && modest.note(1).is_ok());
        many[1].from_host.add(400 * 1_024);
        assert!(first.note(1).is_err() && modest.note(1).is_ok(), "at all of it, only those who hold little");
        assert!(!modest.from_host.is_full());
        many[1].from_host.remove(400 * 1_024);
        many[2].from_user.remove(200 * 1_024);
        many[3].from_user.remove(200 * 1_024);
        assert!(!first.from_user.is_full() && first.note(1).is_ok());
        first.from_user.remove(200 * 1_024);
        many[1].from_user.remove(200 * 1_024);
        modest.from_host.remove(1_024);
        assert_eq!(crowd.bytes.load(Ordering::Acquire), 0);
    }
}
