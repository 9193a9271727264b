//! WebSocket (RFC 6455) with a channel's number before each message (`v5.channel.k8s.io` and those before it).
//!
//! Kubernetes takes each frame for a message of its own, also where a message comes in several, so one in several is not understood.

use super::{Channel, Place, Reader, Seen, Unreadable, Way, fill, told};

/// The subprotocols whose channels are read. Those in base64 are for browsers of old.
const READ: [&str; 6] =
    ["", "channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"];

/// Longest payload of a frame of the connection itself, in bytes.
const CONTROL_BYTES_MAX: u8 = 125;

/// The frame at hand.
#[derive(Debug)]
struct Frame {
    left: u64,
    mask: Option<[u8; 4]>,
    at: usize,
    data: Data,
}

/// What is in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    /// Something of the connection itself.
    None,
    /// A channel's number is still to come.
    Begun,
    /// What belongs to a channel that is recorded, or to another one.
    Of(Option<Channel>),
}

/// Reads the frames of one direction.
#[derive(Debug)]
pub(in crate::kubernetes) struct WebSocket {
    way: Way,
    protocol: String,
    head: Vec<u8>,
    frame: Option<Frame>,
}

/// How long a head is, once its first two bytes are there.
fn head_length(head: &[u8]) -> usize {
    let Some(second) = head.get(1) else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

/// Why a session of another subprotocol is not recorded.
pub(in crate::kubernetes) const UNREAD: Unreadable = "its subprotocol is none that is read";

/// Whether the channels of a subprotocol are read.
pub(in crate::kubernetes) fn reads(protocol: &str) -> bool {
    READ.contains(&protocol)
}

impl WebSocket {
    /// For this direction of a connection that switched to this subprotocol.
    pub(in crate::kubernetes) fn new(way: Way, protocol: &str) -> Result<Self, Unreadable> {
        if !reads(protocol) {
            return Err(UNREAD);
        }
        Ok(Self { way, protocol: protocol.to_owned(), head: Vec::new(), frame: None })
    }

    fn channel(&self, number: u8) -> Option<Channel> {
        match (self.way, number) {
            (Way::Up, 0) => Some(Channel::Input),
            (Way::Up, 4) => Some(Channel::Size),
            (Way::Down, 1 | 2) => Some(Channel::Output),
            (Way::Down, 3) => Some(Channel::Status),
            // The other side passes these over as well.
            _ => None,
        }
    }

    /// Reads a whole head.
    fn begin(&mut self) -> Result<Frame, Unreadable> {
        let head = std::mem::take(&mut self.head);
        let [first, second, rest @ ..] = head.as_slice() else { return Err("a frame without a head") };
        if first & 0x70 != 0 {
            return Err("its frames are of an extension");
        }
        let data = match (first & 0x80 != 0, first & 0x0f) {
            (true, 1 | 2) => Data::Begun,
            (true, 8..=10) if second & 0x7f <= CONTROL_BYTES_MAX => Data::None,
            (false, _) | (true, 0) => return Err("a message of it is in several frames"),
            _ => return Err("its frames are of a kind that there is not"),
        };
        let masked = if second & 0x80 == 0 { 0 } else { 4 };
        let (long, key) = rest.split_at(rest.len().saturating_sub(masked));
        let left = if long.is_empty() {
            u64::from(second & 0x7f)
        } else {
            long.iter().fold(0, |length, byte| length << 8 | u64::from(*byte))
        };
        if left >> 63 != 0 {
            return Err("a frame is longer than one can be");
        }
        Ok(Frame { left, mask: key.try_into().ok(), at: 0, data })
    }

    /// Takes in bytes of the frame's payload.
    fn payload(&self, frame: &mut Frame, bytes: &[u8], seen: &mut Seen) {
        let key = frame.mask;
        let plain = bytes.iter().enumerate().map(|(index, byte)| {
            let key = key.and_then(|key| key.get((frame.at + index) % 4).copied());
            byte ^ key.unwrap_or(0)
        });
        let mut plain: Vec<u8> = plain.collect();
        frame.at = (frame.at + bytes.len()) % 4;
        frame.left -= bytes.len() as u64;
        if frame.data == Data::Begun && !plain.is_empty() {
            frame.data = Data::Of(self.channel(plain.remove(0)));
        }
        if let Data::Of(Some(channel)) = frame.data
            && !plain.is_empty()
        {
            seen.push((channel, plain));
        }
    }
}

/// The channel that says how a command ended.
const STATUS: u8 = 3;
/// The end of a connection that ends as it should (RFC 6455, section 7.4.1): clients read what came before it then.
const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe8];

impl Reader for WebSocket {
    fn place(&self) -> Place {
        match &self.frame {
            None if self.head.is_empty() => Place::Between,
            Some(Frame { left, mask: None, data, .. }) if *data != Data::Of(Some(Channel::Status)) => {
                Place::Within { left: *left, begins: *data == Data::Begun }
            }
            _ => Place::Elsewhere,
        }
    }

    fn last_words(&self, why: &str) -> Option<Vec<u8>> {
        let payload = [vec![STATUS], told(&self.protocol, why)].concat();
        let length = u16::try_from(payload.len()).ok()?;
        let head = match u8::try_from(length) {
            Ok(short @ 0..126) => vec![0x82, short],
            _ => [&[0x82, 126], length.to_be_bytes().as_slice()].concat(),
        };
        Some([head.as_slice(), payload.as_slice(), &CLOSE].concat())
    }

    fn push(&mut self, mut bytes: &[u8], seen: &mut Seen) -> Result<(), Unreadable> {
        loop {
            let Some(mut frame) = self.frame.take() else {
                // The length of a head is in the head.
                if !fill(&mut self.head, 2, &mut bytes) {
                    return Ok(());
                }
                let length = head_length(&self.head);
                if !fill(&mut self.head, length, &mut bytes) {
                    return Ok(());
                }
                self.frame = Some(self.begin()?);
                continue;
            };
            let now = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(now);
            self.payload(&mut frame, payload, seen);
            bytes = rest;
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let masked = if key.is_some() { 0x80 } else { 0 };
        let mut out = vec![first];
        match payload.len() {
            short @ 0..126 => out.push(masked | u8::try_from(short).unwrap()),
            long @ 126..65_536 => {
                out.push(masked | 0x7e);
                out.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
            }
            longer => {
                out.push(masked | 0x7f);
                out.extend_from_slice(&(longer as u64).to_be_bytes());
            }
        }
        out.extend(key.into_iter().flatten());
        let key = key.unwrap_or_default();
        out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
        out
    }

    fn read(way: Way, stream: &[u8], cuts: &[usize]) -> Result<Vec<(Channel, Vec<u8>)>, Unreadable> {
        let mut reader = WebSocket::new(way, "v5.channel.k8s.io")?;
        let (mut seen, mut left) = (Seen::new(), stream);
        for cut in cuts {
            let (now, rest) = left.split_at((*cut).min(left.len()));
            reader.push(now, &mut seen)?;
            left = rest;
        }
        reader.push(left, &mut seen)?;
        // Pieces of one channel are one.
        let mut whole: Seen = Vec::new();
        for (channel, bytes) in seen {
            match whole.last_mut() {
                Some((last, text)) if *last == channel => text.extend(bytes),
                _ => whole.push((channel, bytes)),
            }
        }
        Ok(whole)
    }

    #[test]
    fn channels_are_told_apart_between_pings() {
        let key = Some([1, 2, 3, 4]);
        let up = [
            frame(0x82, key, b"\0ls\r"),
            frame(0x89, key, b"ping"),
            frame(0x82, key, b"\x04{\"Width\":1}"),
            frame(0x82, key, b""),
            frame(0x81, key, b"\0exit\r"),
            frame(0x8a, key, b""),
            frame(0x82, key, b"\xff\0"),
        ];
        assert_eq!(
            read(Way::Up, &up.concat(), &[]).unwrap(),
            [
                (Channel::Input, b"ls\r".to_vec()),
                (Channel::Size, b"{\"Width\":1}".to_vec()),
                (Channel::Input, b"exit\r".to_vec())
            ]
        );
        let long = [vec![1], vec![b'x'; 70_000]].concat();
        let down = [frame(0x82, None, &long), frame(0x81, None, b"\x02err"), frame(0x82, None, b"\x03{}")].concat();
        let seen = read(Way::Down, &down, &[]).unwrap();
        assert_eq!(
            seen.iter().map(|(channel, text)| (*channel, text.len())).collect::<Vec<_>>(),
            [(Channel::Output, 70_003), (Channel::Status, 2)]
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_never_passed_over() {
        for (what, stream) in [
            ("an extension", frame(0xc2, None, b"\x01x")),
            ("an opcode that there is not", frame(0x83, None, b"\x01x")),
            ("a control frame in pieces", frame(0x09, None, b"")),
            ("a control frame that is too long", frame(0x89, None, &[b'x'; 126])),
        ] {
            assert!(read(Way::Down, &stream, &[]).is_err(), "{what}");
        }
        assert!(WebSocket::new(Way::Up, "base64.channel.k8s.io").is_err());
    }

    #[test]
    fn last_words_come_whole_wherever_a_stream_is_broken_off() {
        let long = [vec![1], vec![b'x'; 300]].concat();
        let stream = [frame(0x82, None, &long), frame(0x89, None, b"ping"), frame(0x81, None, b"\x02err")].concat();
        for protocol in ["v4.channel.k8s.io", "v5.channel.k8s.io", "channel.k8s.io"] {
            for why in ["no".to_owned(), "n".repeat(500)] {
                let mut told_at = 0;
                for cut in 0..=stream.len() {
                    let mut reader = WebSocket::new(Way::Down, protocol).unwrap();
                    let mut seen = Seen::new();
                    reader.push(&stream[..cut], &mut seen).unwrap();
                    // Only what nobody else can end is left as it is: the head of a frame.
                    let Some(filling) = reader.place().filling() else { continue };
                    told_at += 1;
                    let words = reader.last_words(&why).unwrap();
                    seen.clear();
                    reader.push(&filling, &mut seen).unwrap();
                    assert!(
                        seen.iter().all(|(_, bytes)| bytes.iter().all(|byte| *byte == 0)),
                        "{cut}: it shows nothing"
                    );
                    assert_eq!(reader.place(), Place::Between);
                    seen.clear();
                    reader.push(&words, &mut seen).unwrap();
                    assert_eq!(seen, [(Channel::Status, told(protocol, &why))], "{cut}");
                    assert!(words.ends_with(&CLOSE));
                }
                assert_eq!(told_at, stream.len() + 1 - (3 + 1 + 1), "{protocol}");
            }
        }
        let status = String::from_utf8(told("v5.channel.k8s.io", "no")).unwrap();
        assert!(status.contains("\"message\":\"no\"") && status.contains("\"Failure\""), "{status}");
        assert_eq!(told("", "no"), b"no");
        // In what says how the command ended nothing is filled in.
        let mut reader = WebSocket::new(Way::Down, "v5.channel.k8s.io").unwrap();
        reader.push(&frame(0x82, None, b"\x03{\"status\"")[..6], &mut Seen::new()).unwrap();
        assert_eq!(reader.place(), Place::Elsewhere);
        let mut reader = WebSocket::new(Way::Down, "v5.channel.k8s.io").unwrap();
        reader.push(&[&[0x82, 0x7f][..], &(1_u64 << 40).to_be_bytes(), b"\x01x"].concat(), &mut Seen::new()).unwrap();
        assert_eq!(reader.place().filling(), None, "nor as much as somebody likes");
    }

    /// Kubernetes would take `\x01x` for a message of its own, in which the first byte names another channel.
    #[test]
    fn a_message_in_several_frames_hides_nothing() {
        let key = Some([1, 2, 3, 4]);
        for (what, stream) in [
            ("its beginning", frame(0x02, key, b"\x09")),
            ("a beginning without bytes", frame(0x01, key, b"")),
            ("more of it", frame(0x00, key, b"\0rm")),
            ("its end", frame(0x80, key, b"\0rm")),
        ] {
            assert!(read(Way::Up, &stream, &[]).is_err(), "{what}");
        }
    }

    #[test]
    fn a_length_that_is_negative_for_others_hides_nothing() {
        let head = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4], b"\0x"].concat();
        assert_eq!(read(Way::Up, &head(1 << 62), &[]).unwrap(), [(Channel::Input, b"x".to_vec())]);
        for length in [1 << 63, u64::MAX] {
            assert!(read(Way::Up, &head(length), &[]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_a_stream_comes(
            messages in prop::collection::vec((0_u8..6, prop::collection::vec(any::<u8>(), 0..300)), 0..8),
            cuts in prop::collection::vec(0_usize..200, 0..12),
        ) {
            let frames = messages.iter().map(|(channel, text)| frame(0x82, Some([9, 8, 7, 6]), &[&[*channel], text.as_slice()].concat()));
            let stream = frames.collect::<Vec<_>>().concat();
            prop_assert_eq!(read(Way::Up, &stream, &cuts), read(Way::Up, &stream, &[]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cuts in prop::collection::vec(0_usize..20, 0..6)) {
            let _ = read(Way::Up, &bytes, &cuts);
        }
    }
}
