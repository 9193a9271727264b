//! What goes on on a connection: how many requests are at work, since when none is, and whether the client takes its answers.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

/// Longest piece of an answer that is handed out at once: what a client does not take stays in pieces of this size.
const PIECE_BYTES: usize = 16 * 1_024;

/// How long a connection that is told to end may take for what is at work, in milliseconds.
const PARTING_MS: u64 = 2_000;
/// The same where whoever is at the other end is let in no more: it is gone within a second of that.
const CUT_MS: u64 = 400;

/// One connection.
#[derive(Debug)]
pub(super) struct Watch {
    state: Mutex<State>,
    condemned: Notify,
    /// How long it may take to end once it is condemned, in milliseconds.
    parting_ms: AtomicU64,
    /// Who waits for the last request to end.
    quiet: AtomicWaker,
    /// Whether the connection speaks another protocol now.
    switched: AtomicBool,
    /// Whether everything that was written is on its way.
    flushed: AtomicBool,
    askers: api::Askers,
}

#[derive(Debug)]
struct State {
    requests: usize,
    idle_since: Instant,
    /// Answers of which a piece is handed out and not yet asked for the next, since when.
    untaken: HashMap<u64, Instant>,
    next: u64,
}

impl Watch {
    pub(super) fn new() -> Arc<Self> {
        let state = State { requests: 0, idle_since: Instant::now(), untaken: HashMap::new(), next: 0 };
        Arc::new(Self {
            state: Mutex::new(state),
            condemned: Notify::new(),
            parting_ms: AtomicU64::new(PARTING_MS),
            quiet: AtomicWaker::new(),
            switched: AtomicBool::new(false),
            flushed: AtomicBool::new(true),
            askers: api::Askers::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer that is about to be sent switches protocols: what comes after this is no HTTP.
    pub(super) fn switch(&self) {
        self.switched.store(true, Ordering::Release);
    }

    /// Whether the connection speaks another protocol.
    pub(super) fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Acquire)
    }

    /// Ends the connection, politely.
    pub(super) fn condemn(&self) {
        self.condemned.notify_one();
    }

    /// For how long what is at work may go on once it is condemned.
    pub(super) fn parting(&self) -> Duration {
        Duration::from_millis(self.parting_ms.load(Ordering::Acquire))
    }

    /// Waits until the connection is condemned.
    pub(super) async fn condemned(&self) {
        self.condemned.notified().await;
    }

    /// Ready when no request is at work.
    pub(super) fn poll_quiet(&self, cx: &Context<'_>) -> Poll<()> {
        self.quiet.register(cx.waker());
        if self.state().requests == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether no request has been at work for longer than this.
    pub(super) fn is_idle(&self, limit: Duration) -> bool {
        let state = self.state();
        state.requests == 0 && state.idle_since.elapsed() > limit
    }

    /// For how long no request has been at work.
    pub(super) fn idle_for(&self) -> Duration {
        self.state().idle_since.elapsed()
    }

    /// Something is being written, or all of it is on its way.
    pub(super) fn written(&self, flushed: bool) {
        self.flushed.store(flushed, Ordering::Release);
    }

    /// Whether nothing is held of the connection but what comes next: a request was answered, the answer is on its way, and for a while nothing
    /// has been at work.
    pub(super) fn may_rest(&self, after: Duration) -> bool {
        let state = self.state();
        let served = state.next > 0 && state.requests == 0 && state.idle_since.elapsed() > after;
        served && !self.is_switched() && self.flushed.load(Ordering::Acquire)
    }

    /// Whether an answer has not been taken for longer than this.
    pub(super) fn is_stalled(&self, limit: Duration) -> bool {
        self.state().untaken.values().any(|since| since.elapsed() > limit)
    }

    /// A request begins.
    pub(super) fn request(self: &Arc<Self>) -> AtWork {
        let mut state = self.state();
        state.requests += 1;
        state.next += 1;
        AtWork { watch: Arc::clone(self), id: state.next }
    }
}

impl api::Connection for Watch {
    fn end(&self) {
        self.parting_ms.store(CUT_MS, Ordering::Release);
        self.condemn();
    }

    fn askers(&self) -> &api::Askers {
        &self.askers
    }
}

/// A request that is at work until its answer is taken, or it is dropped.
#[derive(Debug)]
pub(super) struct AtWork {
    watch: Arc<Watch>,
    id: u64,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut state = self.watch.state();
        state.requests = state.requests.saturating_sub(1);
        state.untaken.remove(&self.id);
        state.idle_since = Instant::now();
        drop(state);
        self.watch.quiet.wake();
    }
}

/// An answer's body in small pieces, watched.
#[derive(Debug)]
pub(super) struct Watched<B> {
    inner: B,
    rest: Bytes,
    asked: bool,
    work: AtWork,
}

impl<B> Watched<B> {
    pub(super) fn new(inner: B, work: AtWork) -> Self {
        work.watch.state().untaken.insert(work.id, Instant::now());
        Self { inner, rest: Bytes::new(), asked: false, work }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // To be asked for more means that what was handed out is taken.
        let this = &mut *self;
        this.asked = true;
        let frame = if this.rest.is_empty() {
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        this.rest = data;
                        Frame::data(this.rest.split_to(this.rest.len().min(PIECE_BYTES)))
                    }
                    Err(frame) => frame,
                },
                other => {
                    // The answer waits for us, or is over: the client is not to blame.
                    this.work.watch.state().untaken.remove(&this.work.id);
                    return other;
                }
            }
        } else {
            Frame::data(this.rest.split_to(this.rest.len().min(PIECE_BYTES)))
        };
        this.work.watch.state().untaken.insert(this.work.id, Instant::now());
        Poll::Ready(Some(Ok(frame)))
    }

    /// Once asked, only the question for what comes after the last piece ends it: only then that one is taken.
    fn is_end_stream(&self) -> bool {
        !self.asked && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty, Full};

    use super::*;

    #[tokio::test]
    async fn an_answer_is_handed_out_in_pieces_and_its_last_one_counts_until_it_is_taken() {
        let watch = Watch::new();
        let mut body = Watched::new(Full::new(Bytes::from(vec![7; PIECE_BYTES + 1])), watch.request());
        assert_eq!(body.size_hint().exact(), Some(PIECE_BYTES as u64 + 1));
        for expect in [PIECE_BYTES, 1] {
            assert!(!body.is_end_stream());
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), expect);
            assert!(watch.is_stalled(Duration::ZERO) && !watch.is_idle(Duration::ZERO));
        }
        assert!(body.frame().await.is_none());
        assert!(!watch.is_stalled(Duration::ZERO));
        drop(body);
        assert!(watch.is_idle(Duration::ZERO));
    }

    #[test]
    fn an_answer_without_a_body_ends_at_once_and_one_that_waits_for_us_does_not_count() {
        let watch = Watch::new();
        assert!(Watched::new(Empty::<Bytes>::new(), watch.request()).is_end_stream());
        let waiting = futures::stream::pending::<Result<Frame<Bytes>, std::convert::Infallible>>();
        let mut body = Watched::new(http_body_util::StreamBody::new(waiting), watch.request());
        assert!(watch.is_stalled(Duration::ZERO), "nobody asked for it yet");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
        assert!(!watch.is_stalled(Duration::ZERO));
    }
}
