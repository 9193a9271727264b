//! The core of a session: streams with credit over numbered frames that survive their link.
//!
//! Both ends number the frames that matter and keep them until the other end has acknowledged them. A link that breaks loses nothing: the
//! next one begins with both ends saying what came, and the rest is sent again. Within a link a number comes once and in order, because
//! the transport below promises that: a number that came before is dropped and counted, a number that leaves a gap is a broken peer.
//!
//! **Not for** I/O, clocks (time comes in as milliseconds of a monotonic clock) or the handshake.

mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};

use bytes::Bytes;
use wire::frame::{Body, Frame, FrameError, MessageKind, PIECE_BYTES_MAX, Reason};

use self::stream::Stream;

/// Streams of work at a time.
pub const STREAMS_MAX: usize = 64;
/// Tunnels at a time: streams with a small window, so that all of them together may hold 128 MiB.
pub const TUNNELS_MAX: usize = 1_024;
/// How much the other end may send on a stream before it is granted more, in bytes.
const WINDOW: u32 = 1_024 * 1_024;
/// The same on a tunnel. Both ends grant as much as the one that opens the stream does.
const TUNNEL_WINDOW: u32 = 128 * 1_024;
/// How much may be sent without an acknowledgement, in bytes; frames about streams may go beyond it.
const UNACKED_MAX: usize = 4 * 1_024 * 1_024;
/// What a frame that is kept counts beside its bytes: about what it takes in memory.
const FRAME_BYTES: usize = 64;
/// From here on no stream is opened: room for the frames of those that are open is kept back.
const KEPT_MAX: usize = UNACKED_MAX + 1_024 * 1_024;
/// Whoever makes this end keep more, by taking and never acknowledging, is broken.
const KEPT_BROKEN: usize = KEPT_MAX + 1_024 * 1_024;
/// How much of messages a session may hold that nobody has taken, in bytes.
const HELD_MAX: usize = 192 * 1_024 * 1_024;
/// Answers to pings that wait to be sent; a peer that asks faster than it reads is broken.
const ANSWERS_MAX: usize = 64;

/// How time goes by on a link.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// After so long without a frame, ask for a sign of life, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long to wait for it, in milliseconds.
    pub answer_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat_ms: 15_000, answer_ms: 10_000 }
    }
}

/// Why a link, and mostly the session with it, is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// What came is no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// Frames are missing.
    #[error("frame {came} came where {expected} was expected: something between dropped or reordered frames")]
    Gap {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        came: u64,
    },
    /// The peer broke a rule.
    #[error("the peer broke a rule: {0}")]
    Rule(&'static str),
    /// The peer was silent for too long.
    #[error("the peer gives no sign of life")]
    Silent,
    /// The two ends do not agree on what came, so that the session cannot go on.
    #[error("the session cannot be resumed: {0}")]
    Lost(&'static str),
    /// The peer said that it is over.
    #[error("the peer ended the channel ({0}): {1}")]
    Goodbye(Reason, String),
}

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message(MessageKind, Vec<u8>),
    /// The other end closed it.
    Closed(Reason, String),
}

/// What happens between the two ends while a link is there.
#[derive(Debug)]
struct Link {
    /// Which of this session's links it is.
    number: u64,
    heard: u64,
    /// What was asked and when.
    asked: Option<(u64, u64)>,
    /// The latest question that was answered.
    answered: u64,
    answers: VecDeque<Bytes>,
    /// An acknowledgement is due: one for everything that came until it is sent.
    ack: bool,
    /// The first of the kept frames that this link has not sent.
    next: usize,
}

/// One end of a session.
pub struct Session {
    /// Servers open streams, relays do not.
    is_server: bool,
    timing: Timing,
    sent: u64,
    kept: VecDeque<(u64, Bytes)>,
    kept_bytes: usize,
    received: u64,
    opened: u32,
    streams: BTreeMap<u32, Stream>,
    /// How many of them are tunnels.
    tunnels: usize,
    /// Bytes that came and nobody has taken.
    held: usize,
    /// Streams that may have something to send, in turn.
    turn: VecDeque<u32>,
    /// Streams that the other end opened and nobody took yet.
    fresh: VecDeque<u32>,
    questions: u64,
    /// How many links there were.
    links: u64,
    link: Option<Link>,
    duplicates: u64,
}

impl Session {
    /// A server's end.
    pub fn server(timing: Timing) -> Self {
        Self::new(true, timing)
    }

    /// A relay's end.
    pub fn relay(timing: Timing) -> Self {
        Self::new(false, timing)
    }

    fn new(is_server: bool, timing: Timing) -> Self {
        Self {
            is_server,
            timing,
            sent: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            received: 0,
            opened: 0,
            streams: BTreeMap::new(),
            tunnels: 0,
            held: 0,
            turn: VecDeque::new(),
            fresh: VecDeque::new(),
            questions: 0,
            links: 0,
            link: None,
            duplicates: 0,
        }
    }

    /// The last numbered frame that came: what a handshake says.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Numbered frames that came more than once.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Whether there is a link.
    pub fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// Whether this link is the one that is there.
    pub fn is_on(&self, link: u64) -> bool {
        self.link.as_ref().is_some_and(|there| there.number == link)
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// A new link is there, in place of one that may still be; which of the session's links it is. `peer_received`: what the other end has
    /// of this session.
    pub fn link_up(&mut self, now: u64, peer_received: u64) -> Result<u64, Broken> {
        if peer_received > self.sent {
            return Err(Broken::Lost("the peer has frames that were never sent"));
        }
        if self.kept.front().is_some_and(|(first, _)| *first > peer_received + 1) {
            return Err(Broken::Lost("the peer lacks frames that it had acknowledged"));
        }
        self.forget(peer_received);
        self.links += 1;
        self.link = Some(Link {
            number: self.links,
            heard: now,
            asked: None,
            answered: 0,
            answers: VecDeque::new(),
            ack: false,
            next: 0,
        });
        Ok(self.links)
    }

    /// This link is gone; streams and messages wait for the next one, unless that one is there already.
    pub fn link_down(&mut self, link: u64) {
        if self.is_on(link) {
            self.link = None;
        }
    }

    /// Asks for a sign of life now; [`Session::has_answered`] tells when it came.
    pub fn probe(&mut self, now: u64) -> u64 {
        self.questions += 1;
        let question = self.questions;
        if let Some(link) = &mut self.link {
            link.asked.get_or_insert((question, now));
            push(&mut link.answers, &Frame::channel(Body::Ping(question)));
        }
        question
    }

    /// Whether this question, or a later one, was answered on the link that is there.
    pub fn has_answered(&self, question: u64) -> bool {
        self.link.as_ref().is_some_and(|link| link.answered >= question)
    }

    /// Does what time asks for, and says in how many milliseconds to come again.
    pub fn tick(&mut self, now: u64) -> Result<u64, Broken> {
        let Some(link) = &mut self.link else { return Ok(u64::MAX) };
        let Timing { heartbeat_ms, answer_ms } = self.timing;
        let wait = match link.asked {
            Some((_, at)) if now.saturating_sub(at) >= answer_ms && now.saturating_sub(link.heard) >= answer_ms => {
                return Err(Broken::Silent);
            }
            Some((_, at)) => (at.max(link.heard) + answer_ms).saturating_sub(now),
            None if now.saturating_sub(link.heard) >= heartbeat_ms => {
                self.probe(now);
                answer_ms
            }
            None => (link.heard + heartbeat_ms).saturating_sub(now),
        };
        Ok(wait.max(1))
    }

    /// Takes one frame.
    pub fn receive(&mut self, now: u64, bytes: &[u8]) -> Result<(), Broken> {
        let frame = Frame::decode(bytes)?;
        let Some(link) = &mut self.link else { return Err(Broken::Rule("a frame without a link")) };
        link.heard = now;
        match frame.body {
            Body::Hello(_) | Body::Welcome(_) => return Err(Broken::Rule("a second handshake")),
            Body::Goodbye(reason, text) => return Err(Broken::Goodbye(reason, text.to_owned())),
            Body::Ping(question) => {
                if link.answers.len() >= ANSWERS_MAX {
                    return Err(Broken::Rule("pings faster than answers are read"));
                }
                push(&mut link.answers, &Frame::channel(Body::Pong(question)));
                return Ok(());
            }
            Body::Pong(question) => {
                if question > self.questions || question == 0 {
                    return Err(Broken::Rule("an answer to no question"));
                }
                link.answered = link.answered.max(question);
                if link.asked.is_some_and(|(asked, _)| asked <= question) {
                    link.asked = None;
                }
                return Ok(());
            }
            Body::Ack(number) => {
                let transmitted = self.kept.get(link.next).map_or(self.sent, |(number, _)| number - 1);
                if number > transmitted {
                    return Err(Broken::Rule("an acknowledgement of what was not sent"));
                }
                self.forget(number);
                return Ok(());
            }
            _ => {}
        }
        let expected = self.received + 1;
        if frame.number < expected {
            self.duplicates += 1;
            return Ok(());
        }
        if frame.number > expected {
            return Err(Broken::Gap { expected, came: frame.number });
        }
        self.numbered(frame.stream, frame.body)?;
        if self.kept_bytes > KEPT_BROKEN {
            return Err(Broken::Rule("frames come and those of this end are never acknowledged"));
        }
        self.received = expected;
        if let Some(link) = &mut self.link {
            link.ack = true;
        }
        Ok(())
    }

    fn numbered(&mut self, id: u32, body: Body<'_>) -> Result<(), Broken> {
        if let Body::Open(granted) = body {
            if self.is_server {
                return Err(Broken::Rule("a relay opens no streams"));
            }
            if Some(id) != self.opened.checked_add(1) {
                return Err(Broken::Rule("streams are opened one after the other"));
            }
            self.opened = id;
            let window = if granted <= TUNNEL_WINDOW { TUNNEL_WINDOW } else { WINDOW };
            self.begin(id, window, granted)?;
            self.fresh.push_back(id);
            return self.number(id, Body::Credit(window));
        }
        if id > self.opened {
            return Err(Broken::Rule("a stream that was never opened"));
        }
        // A stream that this end has closed: what was on its way is dropped.
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.closed.is_none()) else { return Ok(()) };
        match body {
            Body::Piece { message, last, bytes } => {
                if is_for_relay(message) == self.is_server {
                    return Err(Broken::Rule("a message of the other direction"));
                }
                stream.inbox.piece(message, last, bytes)?;
                self.held += bytes.len();
                if self.held > HELD_MAX {
                    self.held -= stream.inbox.drop_partial();
                    let why = "too much is held for this relay";
                    stream.closed = Some((Reason::Limit, why.to_owned()));
                    stream.readers.wake();
                    stream.writers.wake();
                    return self.number(id, Body::Close(Reason::Limit, why));
                }
                if last {
                    stream.readers.wake();
                }
                self.grant(id)
            }
            Body::Credit(more) => {
                if !stream.outbox.granted(more) {
                    return Err(Broken::Rule("more credit than is allowed"));
                }
                self.may_send(id);
                Ok(())
            }
            Body::Close(reason, text) => {
                stream.outbox.clear();
                self.held -= stream.inbox.drop_partial();
                stream.closed = Some((reason, text.to_owned()));
                stream.readers.wake();
                stream.writers.wake();
                Ok(())
            }
            _ => Err(Broken::Rule("a frame that is about no stream")),
        }
    }

    /// Takes a new stream in, if there is room.
    fn begin(&mut self, id: u32, window: u32, granted: u32) -> Result<(), Broken> {
        self.check_room(window)?;
        let stream = Stream::new(window, granted);
        self.tunnels += usize::from(stream.is_within(TUNNEL_WINDOW));
        self.streams.insert(id, stream);
        Ok(())
    }

    fn check_room(&self, window: u32) -> Result<(), Broken> {
        let (count, max) = if window <= TUNNEL_WINDOW {
            (self.tunnels, TUNNELS_MAX)
        } else {
            (self.streams.len() - self.tunnels, STREAMS_MAX)
        };
        if count < max { Ok(()) } else { Err(Broken::Rule("more streams than are allowed at a time")) }
    }

    /// Forgets a stream with what it held.
    fn forget_stream(&mut self, id: u32) -> Option<Stream> {
        let mut stream = self.streams.remove(&id)?;
        self.tunnels -= usize::from(stream.is_within(TUNNEL_WINDOW));
        self.held -= stream.inbox.held();
        stream.readers.wake();
        stream.writers.wake();
        Some(stream)
    }

    /// Gives back what was taken, when it is worth a frame.
    fn grant(&mut self, id: u32) -> Result<(), Broken> {
        match self.streams.get_mut(&id).and_then(|stream| stream.inbox.grant()) {
            Some(more) => self.number(id, Body::Credit(more)),
            None => Ok(()),
        }
    }

    /// Numbers and keeps a frame until it is acknowledged.
    fn number(&mut self, stream: u32, body: Body<'_>) -> Result<(), Broken> {
        let number = self.sent + 1;
        let mut bytes = Vec::new();
        Frame { stream, number, body }.encode(&mut bytes)?;
        self.sent = number;
        self.kept_bytes += bytes.len() + FRAME_BYTES;
        self.kept.push_back((number, bytes.into()));
        Ok(())
    }

    /// Drops what the other end has.
    fn forget(&mut self, up_to: u64) {
        while self.kept.front().is_some_and(|(number, _)| *number <= up_to) {
            if let Some((_, bytes)) = self.kept.pop_front() {
                self.kept_bytes -= bytes.len() + FRAME_BYTES;
            }
            if let Some(link) = &mut self.link {
                link.next = link.next.saturating_sub(1);
            }
        }
        if self.kept.is_empty() {
            self.kept.shrink_to(8);
        }
    }

    fn may_send(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.has_turn) {
            stream.has_turn = true;
            self.turn.push_back(id);
        }
    }

    /// Opens a stream of work.
    pub fn open(&mut self) -> Result<u32, Broken> {
        self.open_with(WINDOW)
    }

    /// Opens a tunnel: there may be many more of them, each with less on its way.
    pub fn open_tunnel(&mut self) -> Result<u32, Broken> {
        self.open_with(TUNNEL_WINDOW)
    }

    fn open_with(&mut self, window: u32) -> Result<u32, Broken> {
        if !self.is_server {
            return Err(Broken::Rule("a relay opens no streams"));
        }
        self.check_room(window)?;
        if self.kept_bytes > KEPT_MAX {
            return Err(Broken::Rule("the other end acknowledges nothing"));
        }
        let id = self.opened.checked_add(1).ok_or(Broken::Rule("no more stream numbers"))?;
        self.number(id, Body::Open(window))?;
        self.opened = id;
        self.begin(id, window, 0)?;
        Ok(id)
    }

    /// Whoever waits for anything looks again: the session is over.
    pub fn wake_all(&mut self) {
        for stream in self.streams.values_mut() {
            stream.readers.wake();
            stream.writers.wake();
        }
    }

    /// A stream that the other end opened, once.
    pub fn accept(&mut self) -> Option<u32> {
        self.fresh.pop_front()
    }

    /// Queues a message, and says whether there was room for it: try again when something was sent.
    pub fn send(&mut self, id: u32, kind: MessageKind, bytes: &Bytes) -> Result<bool, Broken> {
        if bytes.len() > kind.bytes_max() {
            return Err(Broken::Frame(FrameError::Length { length: bytes.len(), max: kind.bytes_max() }));
        }
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.closed.is_none()) else {
            return Err(Broken::Rule("the stream is closed"));
        };
        if !stream.outbox.push(kind, bytes) {
            return Ok(false);
        }
        self.may_send(id);
        Ok(true)
    }

    /// The same, and who finds no room is woken when there is some.
    pub fn poll_send(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        kind: MessageKind,
        bytes: &Bytes,
    ) -> Poll<Result<(), Broken>> {
        match self.send(id, kind, bytes) {
            Ok(true) => return Poll::Ready(Ok(())),
            Ok(false) => {}
            Err(broken) => return Poll::Ready(Err(broken)),
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.writers.remember(cx);
        }
        Poll::Pending
    }

    /// Whether everything of a stream is on its way, or never will be.
    pub fn poll_sent(&mut self, cx: &Context<'_>, id: u32) -> Poll<()> {
        match self.streams.get_mut(&id) {
            Some(stream) if stream.closed.is_none() && !stream.outbox.is_empty() => {
                stream.writers.remember(cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// What [`Session::take`] gives; who finds nothing is woken when there is something.
    pub fn poll_take(&mut self, cx: &Context<'_>, id: u32) -> Poll<Incoming> {
        if let Some(came) = self.take(id) {
            return Poll::Ready(came);
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.readers.remember(cx);
        }
        Poll::Pending
    }

    /// The next message of a stream, or its end; none while there is neither.
    pub fn take(&mut self, id: u32) -> Option<Incoming> {
        let stream = self.streams.get_mut(&id)?;
        if let Some((kind, bytes)) = stream.inbox.take() {
            self.held -= bytes.len();
            // Cannot fail: a grant is a valid frame.
            let _ = self.grant(id);
            return Some(Incoming::Message(kind, bytes));
        }
        let (reason, text) = stream.closed.clone()?;
        self.forget_stream(id);
        Some(Incoming::Closed(reason, text))
    }

    /// Ends a stream: what was not sent is dropped, what still comes too.
    pub fn close(&mut self, id: u32, reason: Reason, text: &str) {
        let Some(stream) = self.forget_stream(id) else { return };
        if stream.closed.is_none() {
            // Cannot fail: its words are cut to fit.
            let _ = self.number(id, Body::Close(reason, text));
        }
    }

    /// The next frame to send on the link that is there.
    pub fn transmit(&mut self) -> Option<Bytes> {
        let link = self.link.as_mut()?;
        if std::mem::take(&mut link.ack) {
            push(&mut link.answers, &Frame::channel(Body::Ack(self.received)));
        }
        if let Some(answer) = link.answers.pop_front() {
            return Some(answer);
        }
        if link.next >= self.kept.len() {
            self.cut_piece();
        }
        let link = self.link.as_mut()?;
        let (_, frame) = self.kept.get(link.next)?;
        link.next += 1;
        Some(frame.clone())
    }

    /// Makes a numbered frame of the next piece of a message whose turn it is.
    fn cut_piece(&mut self) {
        if self.kept_bytes >= UNACKED_MAX {
            return;
        }
        while let Some(id) = self.turn.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let Some((message, last, bytes)) = stream.outbox.cut(PIECE_BYTES_MAX) else {
                stream.has_turn = false;
                continue;
            };
            if last {
                stream.writers.wake();
            }
            self.turn.push_back(id);
            // Cannot fail: a piece is cut to what a frame may hold.
            let _ = self.number(id, Body::Piece { message, last, bytes: &bytes });
            return;
        }
    }
}

fn push(out: &mut VecDeque<Bytes>, frame: &Frame<'_>) {
    let mut bytes = Vec::new();
    // Frames about the channel have fixed lengths.
    if frame.encode(&mut bytes).is_ok() {
        out.push_back(bytes.into());
    }
}

fn is_for_relay(message: MessageKind) -> bool {
    use MessageKind::{Cancel, Connect, Follow, HostKeyAnswered, Inward, Start};
    matches!(message, Start | Cancel | Follow | HostKeyAnswered | Connect | Inward)
}

#[cfg(test)]
mod tests;
