//! The two directions of a stream: pieces to messages under a window, and messages to pieces under credit.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::Bytes;
use wire::frame::{CREDIT_MAX, MessageKind, Reason};

use super::Broken;

/// Messages that wait to be sent; whoever has more waits itself.
const OUTBOX_MESSAGES: usize = 2;
/// The least that a piece costs of a window, in bytes: it takes memory of its own, so that many small ones are not free.
const PIECE_COST_MIN: u32 = 256;

/// What a piece costs of its stream's window. Both ends count the same.
fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).max(PIECE_COST_MIN)
}

/// One stream.
pub(super) struct Stream {
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) closed: Option<(Reason, String)>,
    /// Whether it has a place in turn.
    pub(super) has_turn: bool,
    /// Who waits for a message, or for the end.
    pub(super) readers: Wakers,
    /// Who waits for room.
    pub(super) writers: Wakers,
}

impl Stream {
    pub(super) fn new(window: u32, granted: u32) -> Self {
        Self {
            inbox: Inbox::new(window),
            outbox: Outbox::new(granted),
            closed: None,
            has_turn: false,
            readers: Wakers::default(),
            writers: Wakers::default(),
        }
    }

    /// Whether its window is this or smaller.
    pub(super) fn is_within(&self, window: u32) -> bool {
        self.inbox.window <= window
    }
}

/// Who waits for something of a stream: mostly nobody or one.
#[derive(Default)]
pub(super) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(super) fn remember(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|known| known.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    pub(super) fn wake(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

/// What came and was not taken.
pub(super) struct Inbox {
    window: u32,
    /// How much the other end may still send.
    allowed: u32,
    /// How much came since the last grant.
    owed: u32,
    partial: Option<(MessageKind, Vec<u8>)>,
    whole: VecDeque<(MessageKind, Vec<u8>)>,
    held: usize,
}

impl Inbox {
    pub(super) fn new(window: u32) -> Self {
        Self { window, allowed: window, owed: 0, partial: None, whole: VecDeque::new(), held: 0 }
    }

    /// Takes a piece. Its message grows by what came, never by what was announced.
    pub(super) fn piece(&mut self, kind: MessageKind, last: bool, bytes: &[u8]) -> Result<(), Broken> {
        let cost = cost(bytes.len());
        self.allowed = self.allowed.checked_sub(cost).ok_or(Broken::Rule("more was sent than was granted"))?;
        self.owed += cost;
        let (of, message) = self.partial.get_or_insert_with(|| (kind, Vec::new()));
        if *of != kind {
            return Err(Broken::Rule("a message that changes its kind"));
        }
        if message.len() + bytes.len() > kind.bytes_max() {
            return Err(Broken::Rule("a message that is longer than its kind may be"));
        }
        message.extend_from_slice(bytes);
        self.held += bytes.len();
        if last && let Some(whole) = self.partial.take() {
            self.whole.push_back(whole);
        }
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<(MessageKind, Vec<u8>)> {
        let (kind, bytes) = self.whole.pop_front()?;
        self.held -= bytes.len();
        Some((kind, bytes))
    }

    /// Bytes that came and nobody has taken.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Drops what has no end yet, and says how much that was.
    pub(super) fn drop_partial(&mut self) -> usize {
        let dropped = self.partial.take().map_or(0, |(_, bytes)| bytes.len());
        self.held -= dropped;
        dropped
    }

    /// What to give back: nothing while a message waits to be taken, so that whoever is slow slows the sender.
    pub(super) fn grant(&mut self) -> Option<u32> {
        if !self.whole.is_empty() || self.owed < self.window / 4 {
            return None;
        }
        self.allowed += self.owed;
        Some(std::mem::take(&mut self.owed))
    }
}

/// What is to be sent.
pub(super) struct Outbox {
    credit: u32,
    messages: VecDeque<(MessageKind, Bytes)>,
}

impl Outbox {
    pub(super) fn new(credit: u32) -> Self {
        Self { credit, messages: VecDeque::new() }
    }

    /// Adds credit; false when it is more than a peer may grant.
    pub(super) fn granted(&mut self, more: u32) -> bool {
        match self.credit.checked_add(more) {
            Some(credit) if credit <= CREDIT_MAX => {
                self.credit = credit;
                true
            }
            _ => false,
        }
    }

    /// Queues a message; false when there is no room.
    pub(super) fn push(&mut self, kind: MessageKind, bytes: &Bytes) -> bool {
        let room = self.messages.len() < OUTBOX_MESSAGES;
        if room {
            self.messages.push_back((kind, bytes.clone()));
        }
        room
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
    }

    /// The next piece within the credit: its kind, whether it is the message's last, its bytes.
    pub(super) fn cut(&mut self, max: usize) -> Option<(MessageKind, bool, Bytes)> {
        if self.credit < PIECE_COST_MIN {
            return None;
        }
        let (kind, rest) = self.messages.front_mut()?;
        let length = rest.len().min(max).min(usize::try_from(self.credit).unwrap_or(usize::MAX));
        let (kind, piece) = (*kind, rest.split_to(length));
        let last = rest.is_empty();
        if last {
            self.messages.pop_front();
        }
        self.credit -= cost(length);
        Some((kind, last, piece))
    }
}
