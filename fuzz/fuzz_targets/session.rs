//! A session under frames of a peer that keeps no rules: each two bytes of length, then so many bytes.
#![no_main]

use gateway::session::{Session, Timing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for mut session in [Session::server(Timing::default()), Session::relay(Timing::default())] {
        if session.link_up(0, 0).is_err() {
            return;
        }
        let _ = session.open();
        let mut rest = bytes;
        while let [a, b, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*a, *b])).min(after.len());
            let (frame, next) = after.split_at(length);
            if session.receive(0, frame).is_err() {
                break;
            }
            while session.transmit().is_some() {}
            while session.take(1).is_some() {}
            rest = next;
        }
    }
});
