//! Frames of the relay channel (version 1): what a WebSocket message between a server and a relay holds.
//!
//! ```text
//!  0        1        2        3        4             8                 16            20
//! +--------+--------+--------+--------+-------------+-----------------+-------------+---------
//! | version|  kind  | last   | message|   stream    |     number      |   length    | payload
//! +--------+--------+--------+--------+-------------+-----------------+-------------+---------
//!    u8       u8       u8       u8        u32 BE          u64 BE          u32 BE
//! ```
//!
//! There is one way to write each frame: what a kind does not use is zero, and anything else is refused. A payload's limit depends on its
//! kind and is checked on the header, before anything of the payload is read or allocated. The decoder borrows and never allocates.
//!
//! **Not for** order, acknowledgement or credit: that is `gateway`'s session.

use std::fmt;

/// The version of this format, the first byte of every frame.
pub const VERSION: u8 = 1;
/// Bytes of a header.
pub const HEADER_BYTES: usize = 20;
/// Longest piece of a message in one frame, in bytes.
pub const PIECE_BYTES_MAX: usize = 32 * 1_024;
/// Longest document of a handshake, in bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 16 * 1_024;
/// Longest words of a goodbye or of a stream's end, in bytes.
pub const WORDS_BYTES_MAX: usize = 512;
/// Longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + PIECE_BYTES_MAX;
/// Most bytes that one frame may grant.
pub const CREDIT_MAX: u32 = 64 * 1_024 * 1_024;

/// What a message on a stream is; each has its own longest length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// To the relay: what to do ([`crate::relay::TaskStart`]).
    Start,
    /// To the relay: stop soon.
    Cancel,
    /// To the relay: send your log on this stream ([`crate::relay::FollowLog`]).
    Follow,
    /// To the relay: the answer to [`MessageKind::HostKeyAsked`] ([`crate::relay::HostKeyAnswer`]).
    HostKeyAnswered,
    /// To the relay: a connection of a user to its cluster begins ([`crate::relay::Connect`]).
    Connect,
    /// To the relay: bytes of that connection; none: there are no more.
    Inward,
    /// To the server: a job's tasks.
    Planned,
    /// To the server: a page of observations.
    Page,
    /// To the server: the bytes of a reply that evidence needs.
    Artifact,
    /// To the server: how much of a scope was seen, and by which calls.
    ScopeDone,
    /// To the server: how far it is.
    Progress,
    /// To the server: a line of the log ([`crate::relay::LogLine`]), while somebody follows.
    Log,
    /// To the server: which host key counts ([`crate::relay::HostKeyQuestion`]). One question at a time.
    HostKeyAsked,
    /// To the server: what a validation has tried: a list of [`domain::Check`].
    Checked,
    /// To the server: how it ended. The last message of its stream.
    Ended,
    /// To the server: bytes of a user's connection; none: there are no more.
    Outward,
}

impl MessageKind {
    /// Every kind with its byte and its longest message, in bytes.
    const ALL: [(Self, u8, usize); 16] = [
        (Self::Start, 1, 2 * 1_024 * 1_024),
        (Self::Cancel, 2, 16),
        (Self::Follow, 3, 64),
        (Self::HostKeyAnswered, 4, 8 * 1_024),
        (Self::Connect, 5, 1_024),
        (Self::Inward, 6, PIECE_BYTES_MAX),
        (Self::Planned, 16, 8 * 1_024 * 1_024),
        (Self::Page, 17, 16 * 1_024 * 1_024),
        (Self::Artifact, 18, 64 * 1_024 * 1_024),
        (Self::ScopeDone, 19, 16 * 1_024 * 1_024),
        (Self::Progress, 20, 4 * 1_024),
        (Self::Log, 21, 8 * 1_024),
        (Self::Ended, 22, 8 * 1_024),
        (Self::HostKeyAsked, 23, 8 * 1_024),
        (Self::Outward, 24, PIECE_BYTES_MAX),
        (Self::Checked, 25, 2 * 1_024 * 1_024),
    ];

    fn row(self) -> (u8, usize) {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or((0, 0), |(_, byte, max)| (*byte, *max))
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == byte).map(|(kind, ..)| *kind)
    }

    /// Longest message of this kind, in bytes, over all its pieces.
    pub fn bytes_max(self) -> usize {
        self.row().1
    }
}

/// Why somebody ends a stream or the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// All is done, or the program stops.
    Done,
    /// The peer speaks no version of this format that we speak.
    Version,
    /// The peer broke the rules of this format.
    Protocol,
    /// Another connection has this identity and is alive.
    Taken,
    /// The identity was revoked.
    Revoked,
    /// A limit was reached.
    Limit,
    /// The job was cancelled or its lease was lost.
    Cancelled,
}

impl Reason {
    const ALL: [(Self, u16); 7] = [
        (Self::Done, 0),
        (Self::Version, 1),
        (Self::Protocol, 2),
        (Self::Taken, 3),
        (Self::Revoked, 4),
        (Self::Limit, 5),
        (Self::Cancelled, 6),
    ];

    fn code(self) -> u16 {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map_or(0, |(_, code)| *code)
    }

    fn of(code: u16) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == code).map(|(reason, _)| *reason)
    }
}

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// First, to the server: a [`crate::relay::Hello`].
    Hello(&'a [u8]),
    /// First, to the relay: a [`crate::relay::Welcome`].
    Welcome(&'a [u8]),
    /// Last: the channel ends, and why.
    Goodbye(Reason, &'a str),
    /// Answer this with the same number.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// Every numbered frame up to this one has come.
    Ack(u64),
    /// A stream begins (server to relay). It may send as many bytes as it is granted here.
    Open(u32),
    /// A piece of a message.
    Piece {
        /// What the message is.
        message: MessageKind,
        /// Whether it ends with this piece.
        last: bool,
        /// The bytes; none only in a message's last piece.
        bytes: &'a [u8],
    },
    /// So many bytes more may be sent on this stream.
    Credit(u32),
    /// The stream ends for both sides, and why.
    Close(Reason, &'a str),
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its stream, from 1; 0 for frames about the channel itself.
    pub stream: u32,
    /// Its place among the numbered frames of its sender, from 1; 0 for frames that are not repeated after a cut.
    pub number: u64,
    /// What it says.
    pub body: Body<'a>,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is not complete. Never said of bytes whose header is refused.
    #[error("a frame of {wanted} bytes is cut off")]
    Short {
        /// Bytes of the whole frame, or of a header where that is not there yet.
        wanted: usize,
    },
    /// It is of another version.
    #[error("frames of version {0} are not understood")]
    Version(u8),
    /// There is no such kind of frame, message or reason.
    #[error("unknown {0}")]
    Unknown(&'static str),
    /// A field holds what this kind of frame does not allow there.
    #[error("the {0} of this frame is not allowed")]
    Field(&'static str),
    /// It is longer than its kind may be.
    #[error("a payload of {length} bytes is over this frame's limit of {max}")]
    Length {
        /// What it says.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// Bytes follow it.
    #[error("bytes follow the frame")]
    Trailing,
    /// Its words are not UTF-8.
    #[error("the words of this frame are not UTF-8")]
    Text,
}

/// What a kind's header may say.
struct Rule {
    /// About one stream, and not about the channel.
    on_stream: bool,
    numbered: bool,
    min: usize,
    max: usize,
}

const fn rule(on_stream: bool, numbered: bool, min: usize, max: usize) -> Rule {
    Rule { on_stream, numbered, min, max }
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WELCOME: u8 = 2;
    pub(super) const GOODBYE: u8 = 3;
    pub(super) const PING: u8 = 4;
    pub(super) const PONG: u8 = 5;
    pub(super) const ACK: u8 = 6;
    pub(super) const OPEN: u8 = 16;
    pub(super) const PIECE: u8 = 17;
    pub(super) const CREDIT: u8 = 18;
    pub(super) const CLOSE: u8 = 19;
}

fn rule_of(kind: u8) -> Option<Rule> {
    Some(match kind {
        kind::HELLO | kind::WELCOME => rule(false, false, 2, HANDSHAKE_BYTES_MAX),
        kind::GOODBYE => rule(false, false, 2, 2 + WORDS_BYTES_MAX),
        kind::PING | kind::PONG | kind::ACK => rule(false, false, 8, 8),
        kind::OPEN | kind::CREDIT => rule(true, true, 4, 4),
        kind::PIECE => rule(true, true, 0, PIECE_BYTES_MAX),
        kind::CLOSE => rule(true, true, 2, 2 + WORDS_BYTES_MAX),
        _ => return None,
    })
}

/// A header whose every field was checked but for the payload's content.
struct Header {
    kind: u8,
    last: bool,
    message: Option<MessageKind>,
    stream: u32,
    number: u64,
    length: usize,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let short = FrameError::Short { wanted: HEADER_BYTES };
        // What is there already is judged first: a peer of another version is told so whatever it sends next.
        let version = *bytes.first().ok_or(short)?;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let [_, kind, last, message] = array::<4>(bytes, 0).ok_or(short)?;
        let stream = u32::from_be_bytes(array(bytes, 4).ok_or(short)?);
        let number = u64::from_be_bytes(array(bytes, 8).ok_or(short)?);
        let length = u32::from_be_bytes(array(bytes, 16).ok_or(short)?);
        let rule = rule_of(kind).ok_or(FrameError::Unknown("kind of frame"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > rule.max {
            return Err(FrameError::Length { length, max: rule.max });
        }
        if length < rule.min {
            return Err(FrameError::Field("length"));
        }
        if rule.on_stream != (stream > 0) {
            return Err(FrameError::Field("stream"));
        }
        if rule.numbered != (number > 0) {
            return Err(FrameError::Field("number"));
        }
        let is_piece = kind == kind::PIECE;
        let (last, message) = match (is_piece, last, message) {
            (false, 0, 0) => (false, None),
            (true, 0, _) if length == 0 => return Err(FrameError::Field("length")),
            (true, 0 | 1, byte) => {
                (last == 1, Some(MessageKind::of(byte).ok_or(FrameError::Unknown("kind of message"))?))
            }
            (true, ..) | (false, 1.., _) => return Err(FrameError::Field("last mark")),
            (false, 0, _) => return Err(FrameError::Field("message")),
        };
        Ok(Self { kind, last, message, stream, number, length })
    }
}

fn words(payload: &[u8]) -> Result<(Reason, &str), FrameError> {
    let code = u16::from_be_bytes(array(payload, 0).ok_or(FrameError::Field("length"))?);
    let text = std::str::from_utf8(payload.get(2..).unwrap_or_default()).map_err(|_| FrameError::Text)?;
    Ok((Reason::of(code).ok_or(FrameError::Unknown("reason"))?, text))
}

fn number(payload: &[u8]) -> Result<u64, FrameError> {
    array(payload, 0).map(u64::from_be_bytes).ok_or(FrameError::Field("length"))
}

fn credit(payload: &[u8]) -> Result<u32, FrameError> {
    match array(payload, 0).map(u32::from_be_bytes) {
        Some(credit @ 1..=CREDIT_MAX) => Ok(credit),
        _ => Err(FrameError::Field("credit")),
    }
}

impl<'a> Frame<'a> {
    /// A frame about the channel.
    pub const fn channel(body: Body<'a>) -> Self {
        Self { stream: 0, number: 0, body }
    }

    /// Reads the frame at the beginning of `bytes`, and says how long it is.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, usize), FrameError> {
        let header = Header::parse(bytes)?;
        let wanted = HEADER_BYTES + header.length;
        let payload = bytes.get(HEADER_BYTES..wanted).ok_or(FrameError::Short { wanted })?;
        let body = match header.kind {
            kind::HELLO => Body::Hello(payload),
            kind::WELCOME => Body::Welcome(payload),
            kind::GOODBYE => words(payload).map(|(reason, text)| Body::Goodbye(reason, text))?,
            kind::PING => Body::Ping(number(payload)?),
            kind::PONG => Body::Pong(number(payload)?),
            kind::ACK => Body::Ack(number(payload)?),
            kind::OPEN => Body::Open(credit(payload)?),
            kind::CREDIT => Body::Credit(credit(payload)?),
            kind::CLOSE => words(payload).map(|(reason, text)| Body::Close(reason, text))?,
            _ => {
                let message = header.message.ok_or(FrameError::Unknown("kind of frame"))?;
                Body::Piece { message, last: header.last, bytes: payload }
            }
        };
        Ok((Self { stream: header.stream, number: header.number, body }, wanted))
    }

    /// Reads bytes that are one frame and nothing else.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let (frame, length) = Self::read(bytes)?;
        if length == bytes.len() { Ok(frame) } else { Err(FrameError::Trailing) }
    }

    /// Appends the frame to `out`, or says why it may not be sent.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let head: [u8; 8];
        let (mut last, mut message) = (0, 0);
        let (kind, head, tail): (u8, &[u8], &[u8]) = match self.body {
            Body::Hello(document) => (kind::HELLO, &[], document),
            Body::Welcome(document) => (kind::WELCOME, &[], document),
            Body::Ping(value) | Body::Pong(value) | Body::Ack(value) => {
                head = value.to_be_bytes();
                let kind = match self.body {
                    Body::Ping(_) => kind::PING,
                    Body::Pong(_) => kind::PONG,
                    _ => kind::ACK,
                };
                (kind, &head[..], &[])
            }
            Body::Open(value) | Body::Credit(value) => {
                let [a, b, c, d] = value.to_be_bytes();
                head = [a, b, c, d, 0, 0, 0, 0];
                let kind = if matches!(self.body, Body::Open(_)) { kind::OPEN } else { kind::CREDIT };
                (kind, head.get(..4).unwrap_or_default(), &[])
            }
            Body::Goodbye(reason, text) | Body::Close(reason, text) => {
                let [a, b] = reason.code().to_be_bytes();
                head = [a, b, 0, 0, 0, 0, 0, 0];
                let kind = if matches!(self.body, Body::Goodbye(..)) { kind::GOODBYE } else { kind::CLOSE };
                (kind, head.get(..2).unwrap_or_default(), cut(text).as_bytes())
            }
            Body::Piece { message: kind, last: is_last, bytes } => {
                (last, message) = (u8::from(is_last), kind.row().0);
                (kind::PIECE, &[], bytes)
            }
        };
        let length = head.len() + tail.len();
        let length = u32::try_from(length).map_err(|_| FrameError::Length { length, max: FRAME_BYTES_MAX })?;
        let mut header = [VERSION, kind, last, message].to_vec();
        header.extend_from_slice(&self.stream.to_be_bytes());
        header.extend_from_slice(&self.number.to_be_bytes());
        header.extend_from_slice(&length.to_be_bytes());
        // Held to the rules of the reader: what we send is what a peer accepts.
        Header::parse(&header)?;
        if matches!(self.body, Body::Open(granted) | Body::Credit(granted) if !(1..=CREDIT_MAX).contains(&granted)) {
            return Err(FrameError::Field("credit"));
        }
        for part in [&header, head, tail] {
            out.extend_from_slice(part);
        }
        Ok(())
    }
}

/// At most [`WORDS_BYTES_MAX`] bytes of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(WORDS_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Version => "no common version",
            Self::Protocol => "the rules of the channel were broken",
            Self::Taken => "another connection has this identity",
            Self::Revoked => "the identity was revoked",
            Self::Limit => "a limit was reached",
            Self::Cancelled => "cancelled",
        })
    }
}

#[cfg(test)]
mod tests;
