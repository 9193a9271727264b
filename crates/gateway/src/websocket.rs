//! The part of RFC 6455 that the relay channel needs, without I/O: the upgrade, and whole binary messages.
//!
//! Written here because a general library keeps buffers of 128 KiB for each connection and brings a hash function of its own. There are
//! no extensions (no compression, so nothing unpacks), no text and no fragments: a message is one frame, and its length is checked on
//! its header.

use std::fmt;

use bytes::{Buf as _, BytesMut};
use domain::Rng;
use wire::frame::FRAME_BYTES_MAX;

/// Longest answer to an upgrade that is read, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Longest payload of a control frame (RFC 6455, section 5.5).
const CONTROL_MAX: usize = 125;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// The length follows in two bytes, or in eight.
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Why a connection is no WebSocket of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketError {
    /// Bytes that RFC 6455, or this part of it, does not allow.
    #[error("this is no WebSocket frame of the channel: {0}")]
    Frame(&'static str),
    /// A message that is longer than a frame of the channel.
    #[error("a message of {length} bytes is over the limit of {FRAME_BYTES_MAX}")]
    Length {
        /// What it says.
        length: u64,
    },
    /// The upgrade was answered otherwise.
    #[error("the server does not open the channel: {0}")]
    Refused(Answer),
    /// The answer is no HTTP.
    #[error("the answer to the upgrade is not understood: {0}")]
    Malformed(&'static str),
}

/// What a server answered instead of opening the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long to wait before the next try, in seconds, where it said so.
    pub retry_after_s: Option<u64>,
    /// The server's time, where it refused for the time.
    pub time: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)
    }
}

/// Which end this is: clients mask what they send, servers do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that was asked.
    Server,
    /// The one that asked.
    Client,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(BytesMut),
    /// A ping to be answered with the same bytes.
    Ping(BytesMut),
    /// The end.
    Close,
}

/// Reads the next frame out of `buffer`. None: not all of it is there; the number says how many bytes more are worth room for.
pub fn read(side: Side, buffer: &mut BytesMut) -> Result<Result<Received, usize>, WebSocketError> {
    loop {
        let Some((&first, &second)) = buffer.first().zip(buffer.get(1)) else { return Ok(Err(2)) };
        let (opcode, short) = (first & 0x0f, second & LENGTH_64);
        if first & 0xf0 != FIN {
            return Err(WebSocketError::Frame("fragments and extensions are not used"));
        }
        let max = match opcode {
            BINARY => FRAME_BYTES_MAX,
            CLOSE | PING | PONG => CONTROL_MAX,
            _ => return Err(WebSocketError::Frame("only binary messages are used")),
        };
        if (second & MASKED != 0) != (side == Side::Server) {
            return Err(WebSocketError::Frame("clients mask what they send, and servers do not"));
        }
        let extended = match short {
            LENGTH_16 => 2,
            LENGTH_64 => 8,
            _ => 0,
        };
        let mask_at = 2 + extended;
        let body_at = mask_at + if second & MASKED != 0 { 4 } else { 0 };
        let Some(header) = buffer.get(..body_at) else { return Ok(Err(body_at - buffer.len())) };
        let length = match extended {
            0 => u64::from(short),
            _ => header.iter().skip(2).take(extended).fold(0u64, |length, byte| length << 8 | u64::from(*byte)),
        };
        let least = [(0, 0), (2, 126), (8, 65_536)].iter().find(|(bytes, _)| *bytes == extended).map_or(0, |(_, n)| *n);
        if length < least {
            return Err(WebSocketError::Frame("a length is written in as few bytes as it takes"));
        }
        let length =
            usize::try_from(length).ok().filter(|length| *length <= max).ok_or(WebSocketError::Length { length })?;
        let mask: Option<[u8; 4]> = header.get(mask_at..body_at).and_then(|mask| mask.try_into().ok());
        if buffer.len() < body_at + length {
            return Ok(Err(body_at + length - buffer.len()));
        }
        buffer.advance(body_at);
        let mut body = buffer.split_to(length);
        if let Some(mask) = mask {
            apply(mask, &mut body);
        }
        match opcode {
            BINARY => return Ok(Ok(Received::Message(body))),
            PING => return Ok(Ok(Received::Ping(body))),
            CLOSE => return Ok(Ok(Received::Close)),
            // An answer to a ping that we never send.
            _ => {}
        }
    }
}

fn apply(mask: [u8; 4], body: &mut [u8]) {
    for (byte, mask) in body.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends a frame with this opcode.
fn write(side: Side, opcode: u8, body: &[u8], rng: &dyn Rng, out: &mut Vec<u8>) {
    let masked = if side == Side::Client { MASKED } else { 0 };
    out.push(FIN | opcode);
    match body.len() {
        length @ 0..=125 => out.push(masked | u8::try_from(length).unwrap_or_default()),
        length => {
            if let Ok(length) = u16::try_from(length) {
                out.push(masked | LENGTH_16);
                out.extend_from_slice(&length.to_be_bytes());
            } else {
                out.push(masked | LENGTH_64);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
    }
    if side == Side::Client {
        let mut mask = [0; 4];
        rng.fill(&mut mask);
        out.extend_from_slice(&mask);
        let at = out.len();
        out.extend_from_slice(body);
        apply(mask, out.get_mut(at..).unwrap_or_default());
    } else {
        out.extend_from_slice(body);
    }
}

/// Appends a binary message.
pub fn write_message(side: Side, body: &[u8], rng: &dyn Rng, out: &mut Vec<u8>) {
    write(side, BINARY, body, rng, out);
}

/// Appends the answer to a ping.
pub fn write_pong(side: Side, body: &[u8], rng: &dyn Rng, out: &mut Vec<u8>) {
    write(side, PONG, body, rng, out);
}

/// Appends the end.
pub fn write_close(side: Side, rng: &dyn Rng, out: &mut Vec<u8>) {
    // 1000: normal closure. The reason is in the channel's goodbye.
    write(side, CLOSE, &1_000u16.to_be_bytes(), rng, out);
}

/// A new `Sec-WebSocket-Key`.
pub fn new_key(rng: &dyn Rng) -> String {
    let mut nonce = [0; 16];
    rng.fill(&mut nonce);
    crypto::websocket::key(&nonce)
}

/// What a client sends to ask for the channel. `headers`: its own, checked by the caller to be of one line each.
pub fn request(host: &str, path: &str, key: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: {key}\r\nsec-websocket-protocol: {}\r\n",
        wire::relay::SUBPROTOCOL
    );
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Reads the answer to an upgrade out of `buffer`; false while it is not complete. What follows it stays in the buffer.
pub fn read_answer(key: &str, buffer: &mut BytesMut) -> Result<bool, WebSocketError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() < HEAD_BYTES_MAX => return Ok(false),
        Ok(httparse::Status::Partial) => return Err(WebSocketError::Malformed("its head is too long")),
        Err(_) => return Err(WebSocketError::Malformed("it is no HTTP/1.1")),
    };
    let header = |name: &str| {
        let mut found = answer.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let first = found.next().and_then(|header| std::str::from_utf8(header.value).ok());
        if found.next().is_some() { None } else { first.map(str::trim) }
    };
    let status = answer.code.unwrap_or_default();
    if status != 101 {
        let retry_after_s = header("retry-after").and_then(|value| value.parse().ok());
        let time = header("cairn-time").map(str::to_owned);
        return Err(WebSocketError::Refused(Answer { status, retry_after_s, time }));
    }
    let is = |name: &str, expect: &str| header(name).is_some_and(|value| value.eq_ignore_ascii_case(expect));
    if !is("upgrade", "websocket") || !is("connection", "upgrade") {
        return Err(WebSocketError::Malformed("it does not switch to WebSocket"));
    }
    if header("sec-websocket-accept") != Some(&accept(key)) {
        return Err(WebSocketError::Malformed("it answers another request"));
    }
    if header("sec-websocket-protocol") != Some(wire::relay::SUBPROTOCOL) {
        return Err(WebSocketError::Malformed("it speaks another protocol"));
    }
    if header("sec-websocket-extensions").is_some() {
        return Err(WebSocketError::Malformed("it uses an extension that nobody asked for"));
    }
    buffer.advance(length);
    Ok(true)
}

/// The `Sec-WebSocket-Accept` that answers this key.
pub fn accept(key: &str) -> String {
    crypto::websocket::accept(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testkit::TestRng;

    use super::*;

    fn sent(side: Side, body: &[u8]) -> BytesMut {
        let mut out = Vec::new();
        write_message(side, body, &TestRng::seeded(1), &mut out);
        out.as_slice().into()
    }

    fn other(side: Side) -> Side {
        if side == Side::Client { Side::Server } else { Side::Client }
    }

    #[test]
    fn a_message_of_every_length_comes_back() {
        for side in [Side::Client, Side::Server] {
            for length in [0, 1, 125, 126, 127, FRAME_BYTES_MAX] {
                let body = vec![7; length];
                let mut buffer = sent(side, &body);
                assert_eq!(read(other(side), &mut buffer), Ok(Ok(Received::Message(body.as_slice().into()))));
                assert!(buffer.is_empty());
            }
        }
    }

    #[test]
    fn a_message_that_is_cut_off_asks_for_the_rest() {
        let whole = sent(Side::Client, &[7; 300]);
        for length in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..length]);
            let Ok(Err(more)) = read(Side::Server, &mut buffer) else { panic!("{length}") };
            assert!(more > 0 && length + more <= whole.len(), "{length} {more}");
            assert_eq!(buffer.len(), length, "nothing is taken");
        }
    }

    #[test]
    fn what_is_too_long_or_against_the_rules_is_refused_by_its_header() {
        let refused = |side, bytes: &[u8]| read(side, &mut BytesMut::from(bytes)).unwrap_err();
        let length = (1u64 << 40).to_be_bytes();
        let mut huge = vec![FIN | BINARY, 127];
        huge.extend_from_slice(&length);
        assert_eq!(refused(Side::Client, &huge), WebSocketError::Length { length: 1 << 40 });
        for (side, bytes) in [
            (Side::Client, &[BINARY, 0][..]),
            (Side::Client, &[FIN | 0x40 | BINARY, 0]),
            (Side::Client, &[FIN | 1, 0]),
            (Side::Client, &[FIN, 0]),
            (Side::Client, &[FIN | 0x0b, 0]),
            (Side::Client, &[FIN | BINARY, MASKED, 0, 0, 0, 0]),
            (Side::Server, &[FIN | BINARY, 0]),
            (Side::Client, &[FIN | BINARY, 126, 0, 125]),
            (Side::Client, &[FIN | BINARY, 127, 0, 0, 0, 0, 0, 0, 255, 255]),
            (Side::Client, &[FIN | PING, 126, 0, 126]),
        ] {
            assert!(
                matches!(refused(side, bytes), WebSocketError::Frame(_) | WebSocketError::Length { .. }),
                "{bytes:?}"
            );
        }
    }

    /// RFC 6455, section 1.3.
    #[test]
    fn the_key_of_the_standard_is_accepted_as_it_says() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    fn answer(change: impl Fn(&str) -> String) -> Result<bool, WebSocketError> {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let text = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\
             Sec-WebSocket-Protocol: {}\r\n\r\nrest",
            accept(key),
            wire::relay::SUBPROTOCOL
        );
        let mut buffer = BytesMut::from(change(&text).as_bytes());
        let read = read_answer(key, &mut buffer);
        if read == Ok(true) {
            assert_eq!(&buffer[..], b"rest");
        }
        read
    }

    #[test]
    fn only_the_answer_to_our_own_request_opens_the_channel() {
        assert_eq!(answer(str::to_owned), Ok(true));
        assert_eq!(answer(|text| text[..text.len() - 8].to_owned()), Ok(false));
        for (from, to) in [
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Connection: Upgrade", "Connection: close"),
            ("s3pP", "s3pQ"),
            ("cairn-relay.v1", "chat"),
            ("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate"),
            ("HTTP/1.1", "SMTP"),
        ] {
            assert!(matches!(answer(|text| text.replace(from, to)), Err(WebSocketError::Malformed(_))), "{from}");
        }
        let refused = answer(|text| text.replace("101 Switching Protocols", "503 Busy\r\nRetry-After: 7"));
        assert_eq!(refused, Err(WebSocketError::Refused(Answer { status: 503, retry_after_s: Some(7), time: None })));
        let long = answer(|_| format!("HTTP/1.1 101 X\r\nA: {}", "x".repeat(HEAD_BYTES_MAX)));
        assert!(matches!(long, Err(WebSocketError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), server: bool) {
            let side = if server { Side::Server } else { Side::Client };
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Ok(_)) = read(side, &mut buffer) {}
        }
    }
}
