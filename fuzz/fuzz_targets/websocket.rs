//! The WebSocket reader never panics and always comes to an end.
#![no_main]

use bytes::BytesMut;
use gateway::websocket::{Side, read, read_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for side in [Side::Server, Side::Client] {
        let mut buffer = BytesMut::from(bytes);
        while let Ok(Ok(_)) = read(side, &mut buffer) {}
    }
    let _ = read_answer("dGhlIHNhbXBsZSBub25jZQ==", &mut BytesMut::from(bytes));
});
