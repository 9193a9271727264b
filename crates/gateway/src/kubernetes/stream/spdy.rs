//! SPDY/3.1 (draft-mbelshe-httpbis-spdy-00), as much of it as says which stream is what. The client opens streams and calls each by the header
//! `streamtype`; headers are packed by zlib with a dictionary, in one context for a direction.
//!
//! Kubernetes reads most frames by their kind and not by the length that they tell, takes the first of two headers of one name, and begins a block
//! of headers with what the one before it left over. So only what has one reading is read: the frames that clients send, each as long as it has to
//! be, with one `streamtype` and nothing after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};

use super::{Channel, Place, Reader, Seen, Unreadable, Way, fill, told};

/// Longest block of headers, packed or not, in bytes.
const HEADERS_BYTES_MAX: usize = 64 * 1_024;
/// Most streams of a connection: `exec` has five.
const STREAMS_MAX: usize = 1_000;
/// Where the block of headers begins in the body of a frame that opens a stream.
const HEADERS_AT: usize = 10;

const SYN_STREAM: u32 = 1;
const SYN_REPLY: u32 = 2;
const RST_STREAM: u32 = 3;
const SETTINGS: u32 = 4;
const PING: u32 = 6;
const GOAWAY: u32 = 7;
const HEADERS: u32 = 8;
const WINDOW_UPDATE: u32 = 9;

/// The words of the dictionary (section 2.6.10.1), which it holds with their lengths.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow \
    authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 \
    content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since \
    last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer \
    transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// What follows them.
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative \
    Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
    Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
    GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=\
    gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        bytes.extend_from_slice(&u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(REST.as_bytes());
    bytes
}

/// What each stream is, as the client said when it opened it; both directions look here.
type Streams = Arc<Mutex<HashMap<u32, Channel>>>;

/// What is read of a frame.
#[derive(Debug, Clone, Copy)]
enum Frame {
    /// Data of a stream; so many bytes are to come.
    Data(Option<Channel>, usize),
    /// A new stream of the client, with its block of headers.
    Open(usize),
    /// Something that carries nothing of a session.
    Other(usize),
}

/// Reads the frames of one direction.
pub(in crate::kubernetes) struct Spdy {
    way: Way,
    protocol: String,
    streams: Streams,
    head: Vec<u8>,
    body: Vec<u8>,
    frame: Option<Frame>,
    inflate: Decompress,
}

/// Readers for both directions of a connection that switched to this protocol on its streams: from the user and to the user.
pub(in crate::kubernetes) fn both(protocol: &str) -> (Spdy, Spdy) {
    let streams = Streams::default();
    let reader = |way| Spdy {
        way,
        protocol: protocol.to_owned(),
        streams: Arc::clone(&streams),
        head: Vec::new(),
        body: Vec::new(),
        frame: None,
        inflate: Decompress::new(true),
    };
    (reader(Way::Up), reader(Way::Down))
}

fn number(bytes: &[u8], at: usize) -> Result<u32, Unreadable> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or("a frame is too short")?;
    Ok(u32::from_be_bytes(*bytes))
}

impl Spdy {
    /// Reads a head of eight bytes.
    fn begin(&mut self) -> Result<Frame, Unreadable> {
        let head = std::mem::take(&mut self.head);
        let (first, second) = (number(&head, 0)?, number(&head, 4)?);
        let length = usize::try_from(second & 0x00ff_ffff).map_err(|_| "a frame is too long")?;
        if first >> 31 == 0 {
            let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            let channel = streams.get(&first).copied().ok_or("it has data of a stream that nobody opened")?;
            let shown = match (self.way, channel) {
                (Way::Up, Channel::Input | Channel::Size) | (Way::Down, Channel::Output | Channel::Status) => {
                    Some(channel)
                }
                _ => None,
            };
            return Ok(Frame::Data(shown, length));
        }
        if first >> 16 != 0x8003 {
            return Err("its frames are of another version");
        }
        let expect = match (self.way, first & 0xffff) {
            (Way::Up, SYN_STREAM) if length > HEADERS_BYTES_MAX => return Err("its headers are too long"),
            (Way::Up, SYN_STREAM) => return Ok(Frame::Open(length)),
            (Way::Down, SYN_STREAM) => return Err("the cluster opens streams of its own"),
            (_, RST_STREAM | GOAWAY | WINDOW_UPDATE) => 8,
            (_, PING) => 4,
            // What the cluster says of streams and of itself is not needed.
            (Way::Down, SYN_REPLY | SETTINGS | HEADERS) => length,
            _ => return Err("it has frames that no client sends"),
        };
        if length == expect { Ok(Frame::Other(length)) } else { Err("a frame is of another length than its kind") }
    }

    /// Unpacks a block: all are packed in one context.
    fn unpack(&mut self, block: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let mut plain = Vec::with_capacity(HEADERS_BYTES_MAX);
        let before = self.inflate.total_in();
        loop {
            let done = usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX);
            let rest = block.get(done..).unwrap_or_default();
            match self.inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Ok(_) if plain.len() == plain.capacity() => return Err("its headers are too long"),
                Ok(status) => {
                    let is_whole = self.inflate.total_in() - before == block.len() as u64;
                    let goes_on = status != Status::StreamEnd;
                    return if is_whole && goes_on { Ok(plain) } else { Err("its headers end before their frame") };
                }
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&dictionary()).map_err(|_| "its headers are packed otherwise")?;
                }
                Err(_) => return Err("its headers are packed otherwise"),
            }
        }
    }

    /// Notes a stream that the client opens.
    fn open(&mut self, id: u32, plain: &[u8]) -> Result<(), Unreadable> {
        let mut at = 4;
        let mut text = || -> Result<&[u8], Unreadable> {
            let length = usize::try_from(number(plain, at)?).map_err(|_| "its headers are cut short")?;
            let end = (at + 4).checked_add(length).ok_or("its headers are cut short")?;
            let text = plain.get(at + 4..end).ok_or("its headers are cut short")?;
            at = end;
            Ok(text)
        };
        let mut kind = None;
        for _ in 0..number(plain, 0)? {
            let (name, value) = (text()?, text()?);
            // Which of two counts is a matter of who reads.
            if name.eq_ignore_ascii_case(b"streamtype") && kind.replace(value).is_some() {
                return Err("it says twice what a stream is");
            }
        }
        if at != plain.len() {
            return Err("its headers have something after them");
        }
        let channel = match kind {
            Some(b"stdin") => Channel::Input,
            Some(b"stdout" | b"stderr") => Channel::Output,
            Some(b"error") => Channel::Status,
            Some(b"resize") => Channel::Size,
            _ => return Err("it opens a stream that is none of a session"),
        };
        if id == 0 || id >> 31 != 0 {
            return Err("it opens a stream whose number there is not");
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= STREAMS_MAX || streams.insert(id, channel).is_some() {
            return Err("it opens too many streams, or one twice");
        }
        Ok(())
    }
}

/// This stream ends with this frame.
const FIN: u32 = 1 << 24;

impl Reader for Spdy {
    fn place(&self) -> Place {
        match self.frame {
            None if self.head.is_empty() => Place::Between,
            Some(Frame::Data(channel, left)) if channel != Some(Channel::Status) => {
                Place::Within { left: left as u64, begins: false }
            }
            _ => Place::Elsewhere,
        }
    }

    fn last_words(&self, why: &str) -> Option<Vec<u8>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let status = *streams.iter().find(|(_, channel)| **channel == Channel::Status)?.0;
        drop(streams);
        let text = told(&self.protocol, why);
        let length = u32::try_from(text.len()).ok().filter(|length| *length < FIN)?;
        Some([&status.to_be_bytes()[..], &(FIN | length).to_be_bytes(), text.as_slice()].concat())
    }

    fn push(&mut self, mut bytes: &[u8], seen: &mut Seen) -> Result<(), Unreadable> {
        loop {
            let Some(frame) = self.frame.take() else {
                if !fill(&mut self.head, 8, &mut bytes) {
                    return Ok(());
                }
                self.frame = Some(self.begin()?);
                continue;
            };
            match frame {
                Frame::Open(length) => {
                    if !fill(&mut self.body, length, &mut bytes) {
                        self.frame = Some(frame);
                        return Ok(());
                    }
                    let body = std::mem::take(&mut self.body);
                    let plain = self.unpack(body.get(HEADERS_AT..).ok_or("a frame is too short")?)?;
                    self.open(number(&body, 0)?, &plain)?;
                }
                Frame::Data(_, left) | Frame::Other(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    if let (Frame::Data(Some(channel), _), false) = (frame, now.is_empty()) {
                        seen.push((channel, now.to_vec()));
                    }
                    let left = left - now.len();
                    if left > 0 {
                        self.frame = Some(match frame {
                            Frame::Data(channel, _) => Frame::Data(channel, left),
                            _ => Frame::Other(left),
                        });
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    fn length(length: usize) -> [u8; 4] {
        u32::try_from(length).unwrap().to_be_bytes()
    }

    /// A client that opens streams.
    struct Client(Compress);

    impl Client {
        fn new() -> Self {
            let mut compress = Compress::new(Compression::default(), true);
            compress.set_dictionary(&dictionary()).unwrap();
            Self(compress)
        }

        fn open(&mut self, id: u32, kind: &str) -> Vec<u8> {
            self.open_with(id, &headers(&[("streamtype", kind)]))
        }

        fn open_with(&mut self, id: u32, plain: &[u8]) -> Vec<u8> {
            let packed = self.pack(plain, FlushCompress::Sync);
            open_packed(id, &packed)
        }

        fn pack(&mut self, plain: &[u8], flush: FlushCompress) -> Vec<u8> {
            let mut packed = Vec::with_capacity(4_096);
            self.0.compress_vec(plain, &mut packed, flush).unwrap();
            packed
        }
    }

    fn headers(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = length(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(length(text.len()));
            plain.extend(text.as_bytes());
        }
        plain
    }

    fn open_packed(id: u32, packed: &[u8]) -> Vec<u8> {
        let mut body = id.to_be_bytes().to_vec();
        body.extend([0; 6]);
        body.extend(packed);
        control(1, &body)
    }

    fn control(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80, 3, 0, kind];
        frame.extend(length(body.len()));
        frame.extend(body);
        frame
    }

    fn data(id: u32, text: &[u8]) -> Vec<u8> {
        let mut frame = id.to_be_bytes().to_vec();
        frame.extend(length(text.len()));
        frame.extend(text);
        frame
    }

    #[test]
    fn streams_are_what_the_client_calls_them_whatever_their_order_and_in_any_pieces() {
        for step in [1, 7, 1 << 20] {
            let (mut up, mut down) = both("v4.channel.k8s.io");
            let mut client = Client::new();
            let sent = [
                client.open(1, "resize"),
                client.open(3, "error"),
                client.open(5, "stderr"),
                control(6, &[0, 0, 0, 1]),
                client.open(7, "stdin"),
                data(1, b"{\"Width\":120}"),
                data(7, b"ls\r"),
                data(5, b"nobody reads this"),
                control(9, &[0; 8]),
            ];
            let (mut seen, answer) = (Seen::new(), [control(2, &[0; 30]), data(5, b"out"), data(3, b"{}")].concat());
            for piece in sent.concat().chunks(step) {
                up.push(piece, &mut seen).unwrap();
            }
            for piece in answer.chunks(step) {
                down.push(piece, &mut seen).unwrap();
            }
            let of = |channel| {
                seen.iter().filter(|(of, _)| *of == channel).flat_map(|(_, text)| text.clone()).collect::<Vec<_>>()
            };
            assert_eq!(of(Channel::Size), b"{\"Width\":120}");
            assert_eq!(of(Channel::Input), b"ls\r");
            assert_eq!((of(Channel::Output), of(Channel::Status)), (b"out".to_vec(), b"{}".to_vec()));
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_never_passed_over() {
        let check = |what: &str, way: Way, stream: Vec<u8>| {
            let (mut up, mut down) = both("v4.channel.k8s.io");
            let reader = if way == Way::Up { &mut up } else { &mut down };
            assert!(reader.push(&stream, &mut Seen::new()).is_err(), "{what}");
        };
        check("data of no stream", Way::Up, data(1, b"x"));
        check("data of no stream", Way::Down, data(1, b"x"));
        check("another version", Way::Up, vec![0x80, 2, 0, 1, 0, 0, 0, 0]);
        check("headers that are not packed", Way::Up, control(1, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3]));
        check("headers that are too long", Way::Up, vec![0x80, 3, 0, 1, 0, 2, 0, 0]);
        check("a stream of the cluster", Way::Down, control(1, &[0; 30]));
        check("a stream of another kind", Way::Up, Client::new().open(1, "data"));
        let mut client = Client::new();
        check("a stream twice", Way::Up, [client.open(1, "stdin"), client.open(1, "error")].concat());
        let mut bomb = Client::new();
        check("a bomb", Way::Up, bomb.open(1, &"a".repeat(1 << 20)));
    }

    #[test]
    fn last_words_come_whole_wherever_a_stream_is_broken_off() {
        let stream = [data(3, &[b'x'; 300]), control(2, &[0; 12]), data(3, b"y")].concat();
        let mut told_at = 0;
        for cut in 0..=stream.len() {
            let (mut up, mut down) = both("v4.channel.k8s.io");
            let mut client = Client::new();
            assert_eq!(down.last_words("no"), None, "there is nowhere to tell it");
            up.push(&[client.open(1, "error"), client.open(3, "stdout")].concat(), &mut Seen::new()).unwrap();
            let mut seen = Seen::new();
            down.push(&stream[..cut], &mut seen).unwrap();
            let Some(filling) = down.place().filling() else { continue };
            told_at += 1;
            seen.clear();
            down.push(&filling, &mut seen).unwrap();
            assert!(seen.iter().all(|(_, bytes)| bytes.iter().all(|byte| *byte == 0)), "{cut}: it shows nothing");
            seen.clear();
            let words = down.last_words("no").unwrap();
            down.push(&words, &mut seen).unwrap();
            assert_eq!(seen, [(Channel::Status, told("v4.channel.k8s.io", "no"))], "{cut}");
            assert_eq!(words[4], 1, "it is the end of the stream");
        }
        // Not within a head, nor in a frame whose meaning is in all of it.
        assert_eq!(told_at, stream.len() + 1 - (7 + 19 + 7));
    }

    fn refuses(what: &str, sent: &[Vec<u8>]) {
        let (mut up, _) = both("v4.channel.k8s.io");
        let (last, before) = sent.split_last().unwrap();
        up.push(&before.concat(), &mut Seen::new()).unwrap();
        assert!(up.push(last, &mut Seen::new()).is_err(), "{what}");
    }

    /// Kubernetes takes the first.
    #[test]
    fn a_stream_that_is_called_twice_hides_nothing() {
        let twice = headers(&[("streamtype", "stdout"), ("streamtype", "stdin")]);
        refuses("two headers", &[Client::new().open_with(1, &twice)]);
        let spelled = headers(&[("streamtype", "stdout"), ("StreamType", "stdin")]);
        refuses("in another spelling", &[Client::new().open_with(1, &spelled)]);
        refuses("two values", &[Client::new().open(1, "stdout\0stdin")]);
    }

    /// Kubernetes begins the next block with it.
    #[test]
    fn what_a_block_of_headers_leaves_over_hides_nothing() {
        let left = [headers(&[("streamtype", "stdin")]), headers(&[("streamtype", "stdout")])].concat();
        refuses("another block", &[Client::new().open_with(1, &left)]);
        refuses("a byte", &[Client::new().open_with(1, &[headers(&[("streamtype", "stdin")]), vec![0]].concat())]);
        let mut client = Client::new();
        let ended = client.pack(&headers(&[("streamtype", "stdin")]), FlushCompress::Finish);
        refuses("the end of what is packed", &[open_packed(1, &ended)]);
        refuses("bytes after that", &[open_packed(1, &[ended, vec![0; 9]].concat())]);
    }

    /// Kubernetes reads these by their kind, and what is longer for frames of their own.
    #[test]
    fn a_frame_that_tells_another_length_hides_nothing() {
        let hidden = Client::new().open(1, "stdout");
        for (kind, length) in [(3, 8), (6, 4), (7, 8), (9, 8)] {
            let frame = |length| control(kind, &vec![1; length]);
            let (mut up, mut down) = both("v4.channel.k8s.io");
            up.push(&frame(length), &mut Seen::new()).unwrap();
            down.push(&frame(length), &mut Seen::new()).unwrap();
            for other in [0, length - 1, length + 1] {
                refuses("another length", &[frame(other)]);
                assert!(down.push(&frame(other), &mut Seen::new()).is_err(), "{kind} {other}");
            }
            refuses("a frame in a frame", &[control(kind, &[vec![1; length], hidden.clone()].concat())]);
        }
    }

    #[test]
    fn what_no_client_sends_hides_nothing() {
        for kind in [0, 2, 4, 5, 8, 10, 255] {
            refuses("a kind", &[control(kind, &[0; 8])]);
        }
        refuses("no number", &[Client::new().open(0, "stdin")]);
        refuses("a number that is too high", &[Client::new().open(0x8000_0001, "stdin")]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(opens: bool, bytes: Vec<u8>, cuts in prop::collection::vec(0_usize..20, 0..6)) {
            let (mut up, mut down) = both("v4.channel.k8s.io");
            // Also what comes after a stream was opened, and as the body of such a frame.
            let stream = if opens { [Client::new().open(1, "stdin"), control(1, &bytes), bytes].concat() } else { bytes };
            let mut left = stream.as_slice();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (now, rest) = left.split_at(cut.min(left.len()));
                let _ = (up.push(now, &mut Seen::new()), down.push(now, &mut Seen::new()));
                left = rest;
            }
        }
    }
}
