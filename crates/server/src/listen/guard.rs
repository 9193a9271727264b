//! A connection's plaintext with the checks of [`Gate`] (HTTP/1.1) or [`Meter`] (HTTP/2) on the way in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use gateway::gate::{Gate, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::meter::Meter;
use super::watch::Watch;

const READ_BYTES: usize = 16 * 1_024;

/// How long what still comes is taken and thrown away after the last answer: a connection that is closed with bytes unread is reset, and
/// the client may never see the answer.
const LINGER: Duration = Duration::from_secs(2);

/// Makes the whole answer to what is refused, as bytes of HTTP/1.1.
pub(super) type Refuse = Arc<dyn Fn(Refusal) -> Vec<u8> + Send + Sync>;

enum Check {
    Gate {
        gate: Gate,
        passed: Bytes,
        /// The end for the HTTP library; our answer is sent when it has sent its own.
        refused: Option<Bytes>,
        refuse: Refuse,
        lingering: Option<Pin<Box<Sleep>>>,
    },
    Meter {
        meter: Meter,
        ended: bool,
    },
}

/// The plaintext side of a connection.
pub(super) struct Guard<S> {
    inner: S,
    check: Check,
    watch: Arc<Watch>,
}

impl<S> Guard<S> {
    pub(super) fn http1(inner: S, watch: Arc<Watch>, refuse: Refuse) -> Self {
        let (passed, refused, lingering) = (Bytes::new(), None, None);
        Self { inner, check: Check::Gate { gate: Gate::new(), passed, refused, refuse, lingering }, watch }
    }

    /// Takes back what the HTTP library read and did not use.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        if let Check::Gate { passed, .. } = &mut self.check
            && !bytes.is_empty()
        {
            *passed = [bytes, std::mem::take(passed)].concat().into();
        }
    }

    pub(super) fn http2(inner: S, watch: Arc<Watch>) -> Self {
        Self { inner, check: Check::Meter { meter: Meter::new(Instant::now()), ended: false }, watch }
    }
}

/// Takes in what comes until some of it may go on, or is refused. False: nothing comes any more.
fn poll_pass<S: AsyncRead + Unpin>(
    inner: &mut S,
    cx: &mut Context<'_>,
    (gate, passed, refused): (&mut Gate, &mut Bytes, &mut Option<Bytes>),
    refuse: &Refuse,
) -> Poll<io::Result<bool>> {
    while passed.is_empty() && refused.is_none() {
        let mut bytes = [0; READ_BYTES];
        let mut came = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut *inner).poll_read(cx, &mut came))?;
        if came.filled().is_empty() {
            return Poll::Ready(Ok(false));
        }
        let mut through = Vec::new();
        if let Err(refusal) = gate.pass(came.filled(), &mut through) {
            *refused = Some(if refusal.before_request { refuse(refusal).into() } else { Bytes::new() });
        }
        *passed = through.into();
    }
    Poll::Ready(Ok(true))
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Waits until there is something for the HTTP library. False: nothing comes any more.
    pub(super) async fn wait(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| match &mut self.check {
            Check::Gate { gate, passed, refused, refuse, .. } => {
                poll_pass(&mut self.inner, cx, (gate, passed, refused), refuse)
            }
            Check::Meter { .. } => Poll::Ready(Ok(true)),
        })
        .await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.check {
            Check::Meter { ended: true, .. } => Poll::Pending,
            Check::Meter { meter, ended } => {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                if !meter.count(buf.filled().get(before..).unwrap_or_default(), Instant::now()) {
                    // Nothing more is read; what is at work may end, and the client is told to go.
                    *ended = true;
                    buf.set_filled(before);
                    metrics::counter!("cairn_http2_floods_total").increment(1);
                    this.watch.condemn();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(()))
            }
            // Another protocol bounds what comes by itself.
            Check::Gate { passed, .. } if passed.is_empty() && this.watch.is_switched() => {
                Pin::new(&mut this.inner).poll_read(cx, buf)
            }
            Check::Gate { gate, passed, refused, refuse, .. } => {
                if !ready!(poll_pass(&mut this.inner, cx, (gate, passed, refused), refuse))? {
                    return Poll::Ready(Ok(()));
                }
                if passed.is_empty() && refused.as_ref().is_some_and(|answer| !answer.is_empty()) {
                    // The end would cut off a request that is at work. One whose body is at fault must not wait for itself.
                    ready!(this.watch.poll_quiet(cx));
                }
                let now = passed.split_to(passed.len().min(buf.remaining()));
                buf.put_slice(&now);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.watch.written(false);
        let wrote = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        if let Check::Meter { meter, .. } = &mut self.check {
            meter.sent(wrote);
        }
        Poll::Ready(Ok(wrote))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.watch.written(true);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.is_switched() {
            return Pin::new(&mut this.inner).poll_shutdown(cx);
        }
        let Check::Gate { gate, refused, lingering, .. } = &mut this.check else {
            return Pin::new(&mut this.inner).poll_shutdown(cx);
        };
        if lingering.is_none() {
            if let Some(answer) = refused {
                while !answer.is_empty() {
                    let wrote = ready!(Pin::new(&mut this.inner).poll_write(cx, answer))?;
                    answer.advance(wrote);
                }
                ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
            }
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            if refused.is_none() && gate.is_between_requests() {
                return Poll::Ready(Ok(()));
            }
        }
        let lingering = lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        loop {
            if lingering.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; READ_BYTES];
            let mut came = ReadBuf::new(&mut bytes);
            match Pin::new(&mut this.inner).poll_read(cx, &mut came) {
                Poll::Ready(Ok(())) if !came.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
