//! What the decoder takes, it writes in the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::frame::Frame;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((frame, length)) = Frame::read(bytes) {
        let mut out = Vec::new();
        assert!(frame.encode(&mut out).is_ok());
        assert_eq!(Some(out.as_slice()), bytes.get(..length));
    }
});
