//! Round trips, single wrong bytes, and arbitrary bytes.

use proptest::prelude::*;

use super::*;

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

fn samples() -> Vec<Frame<'static>> {
    let on = |number, body| Frame { stream: 7, number, body };
    vec![
        Frame::channel(Body::Hello(b"{}")),
        Frame::channel(Body::Welcome(b"{\"a\":1}")),
        Frame::channel(Body::Goodbye(Reason::Taken, "über")),
        Frame::channel(Body::Ping(u64::MAX)),
        Frame::channel(Body::Pong(1)),
        Frame::channel(Body::Ack(0)),
        on(1, Body::Open(CREDIT_MAX)),
        on(2, Body::Credit(1)),
        on(3, Body::Close(Reason::Cancelled, "")),
        on(4, Body::Piece { message: MessageKind::Page, last: false, bytes: b"x" }),
        on(u64::MAX, Body::Piece { message: MessageKind::Cancel, last: true, bytes: b"" }),
    ]
}

#[test]
fn every_frame_comes_back_as_it_was() {
    for frame in samples() {
        let bytes = encoded(&frame);
        assert_eq!(Frame::decode(&bytes), Ok(frame));
        let mut two = bytes.clone();
        two.extend_from_slice(&bytes);
        assert_eq!(Frame::read(&two), Ok((frame, bytes.len())));
        assert_eq!(Frame::decode(&two), Err(FrameError::Trailing));
    }
}

#[test]
fn a_frame_that_is_cut_off_anywhere_is_short_and_nothing_else() {
    for frame in samples() {
        let bytes = encoded(&frame);
        for length in 0..bytes.len() {
            assert!(matches!(Frame::read(&bytes[..length]), Err(FrameError::Short { .. })), "{frame:?} at {length}");
        }
    }
}

#[test]
fn a_length_over_the_limit_is_refused_by_the_header_alone() {
    for frame in samples() {
        let mut bytes = encoded(&frame);
        bytes.truncate(HEADER_BYTES);
        for length in [u32::MAX, u32::try_from(FRAME_BYTES_MAX).unwrap() + 1] {
            bytes[16..20].copy_from_slice(&length.to_be_bytes());
            assert!(matches!(Frame::read(&bytes), Err(FrameError::Length { .. })), "{frame:?}");
        }
    }
}

#[test]
fn a_wrong_byte_in_a_header_is_refused_with_its_name() {
    let ping = encoded(&Frame::channel(Body::Ping(1)));
    let piece = encoded(&Frame {
        stream: 1,
        number: 1,
        body: Body::Piece { message: MessageKind::Log, last: true, bytes: b"x" },
    });
    for (sample, at, byte, expect) in [
        (&ping, 0, 2, FrameError::Version(2)),
        (&ping, 0, b'{', FrameError::Version(b'{')),
        (&ping, 1, 0, FrameError::Unknown("kind of frame")),
        (&ping, 1, 255, FrameError::Unknown("kind of frame")),
        (&ping, 2, 1, FrameError::Field("last mark")),
        (&ping, 3, 1, FrameError::Field("message")),
        (&ping, 7, 1, FrameError::Field("stream")),
        (&ping, 15, 1, FrameError::Field("number")),
        (&ping, 19, 7, FrameError::Field("length")),
        (&ping, 19, 9, FrameError::Length { length: 9, max: 8 }),
        (&piece, 2, 2, FrameError::Field("last mark")),
        (&piece, 3, 0, FrameError::Unknown("kind of message")),
        (&piece, 7, 0, FrameError::Field("stream")),
        (&piece, 15, 0, FrameError::Field("number")),
    ] {
        let mut bytes = sample.clone();
        bytes[at] = byte;
        assert_eq!(Frame::read(&bytes), Err(expect), "byte {at} = {byte}");
    }
    let mut empty = piece[..HEADER_BYTES].to_vec();
    (empty[2], empty[19]) = (0, 0);
    assert_eq!(
        Frame::decode(&empty),
        Err(FrameError::Field("length")),
        "a piece that carries nothing and ends nothing"
    );
}

#[test]
fn what_a_peer_would_refuse_is_not_sent() {
    let refused = |frame: Frame<'_>| frame.encode(&mut Vec::new()).unwrap_err();
    let long = vec![0; PIECE_BYTES_MAX + 1];
    let on = |body| Frame { stream: 1, number: 1, body };
    let piece = Body::Piece { message: MessageKind::Page, last: true, bytes: &long };
    assert!(matches!(refused(on(piece)), FrameError::Length { .. }));
    assert_eq!(refused(Frame::channel(Body::Open(1))), FrameError::Field("stream"));
    assert_eq!(refused(on(Body::Ping(1))), FrameError::Field("stream"));
    assert_eq!(refused(on(Body::Credit(0))), FrameError::Field("credit"));
    assert_eq!(refused(on(Body::Open(CREDIT_MAX + 1))), FrameError::Field("credit"));
    let bytes = encoded(&on(Body::Close(Reason::Done, &"ü".repeat(WORDS_BYTES_MAX))));
    assert!(
        matches!(Frame::decode(&bytes), Ok(Frame { body: Body::Close(_, text), .. }) if text.len() == WORDS_BYTES_MAX)
    );
}

fn bodies() -> impl Strategy<Value = (u8, Vec<u8>, u64, bool, String)> {
    (0u8..10, prop::collection::vec(any::<u8>(), 0..300), any::<u64>(), any::<bool>(), ".{0,90}")
}

fn body<'a>(kind: u8, bytes: &'a [u8], value: u64, last: bool, text: &'a str) -> Body<'a> {
    let at = |length: usize| usize::try_from(value % length as u64).unwrap();
    let message = MessageKind::ALL[at(MessageKind::ALL.len())].0;
    let reason = Reason::ALL[at(Reason::ALL.len())].0;
    let credit = 1 + u32::try_from(value % u64::from(CREDIT_MAX)).unwrap();
    match kind {
        0 => Body::Hello(bytes),
        1 => Body::Welcome(bytes),
        2 => Body::Goodbye(reason, text),
        3 => Body::Ping(value),
        4 => Body::Pong(value),
        5 => Body::Ack(value),
        6 => Body::Open(credit),
        7 => Body::Credit(credit),
        8 => Body::Close(reason, text),
        _ => Body::Piece { message, last, bytes },
    }
}

proptest! {
    #[test]
    fn what_may_be_sent_comes_back((kind, bytes, value, last, text) in bodies(), stream: u32, number: u64) {
        let frame = Frame { stream, number, body: body(kind, &bytes, value, last, &text) };
        let mut out = Vec::new();
        if frame.encode(&mut out).is_ok() {
            prop_assert_eq!(Frame::decode(&out), Ok(frame));
        } else {
            prop_assert!(out.is_empty(), "what is refused leaves nothing behind");
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_and_what_it_takes_is_written_in_that_one_way(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok((frame, length)) = Frame::read(&bytes) {
            prop_assert_eq!(encoded(&frame), &bytes[..length]);
        }
    }

    #[test]
    fn a_frame_with_one_byte_changed_is_refused_or_written_in_that_one_way(at in 0usize..40, byte: u8, which in 0usize..11) {
        let mut bytes = encoded(&samples()[which]);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok((frame, length)) = Frame::read(&bytes) {
            prop_assert_eq!(encoded(&frame), &bytes[..length]);
        }
    }
}
