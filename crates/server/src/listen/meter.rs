//! HTTP/2 beside the HTTP library: counts the frames that cost the server work and the client nothing, and ends a connection that
//! sends them out of proportion.
//!
//! The library bounds memory (headers, resets that are pending, small DATA frames) and knows the attacks with a name (CVE-2023-44487
//! rapid reset, CVE-2024-27316 CONTINUATION, CVE-2025-8671 MadeYouReset); floods of SETTINGS, PING, PRIORITY, WINDOW_UPDATE and unknown
//! frames it answers as long as they come. Here each frame that carries no request takes a token; tokens come back with time and with
//! every DATA that we send, which is what an honest client's WINDOW_UPDATEs are about.
//!
//! **Not for** understanding frames: it reads their nine-byte headers (RFC 9113 section 4.1) and passes all bytes on.

use std::time::{Duration, Instant};

/// The client's connection preface comes before its first frame.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
/// Tokens that a connection begins with, and has at most.
const TOKENS: f64 = 2_000.0;
/// Tokens that come back in a second.
const TOKENS_PER_S: f64 = 50.0;
/// Bytes sent that give a token back: an honest client acknowledges at least so many at a time.
const BYTES_PER_TOKEN: f64 = 1_024.0;
/// Resets that a connection may send at once, and how many come back in a second. A browser that leaves a page sends a few dozen.
const RESETS: f64 = 200.0;
const RESETS_PER_S: f64 = 10.0;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;

/// Counts one connection's frames.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Bytes of the preface or of a frame's payload that are to be passed over.
    skip: usize,
    header: Vec<u8>,
    tokens: f64,
    resets: f64,
    counted: Instant,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { skip: PREFACE_BYTES, header: Vec::new(), tokens: TOKENS, resets: RESETS, counted: now }
    }

    /// Counts what came; false when the connection has to end.
    pub(crate) fn count(&mut self, mut input: &[u8], now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted).min(Duration::from_hours(1)).as_secs_f64();
        self.counted = now;
        self.tokens = (self.tokens + passed * TOKENS_PER_S).min(TOKENS);
        self.resets = (self.resets + passed * RESETS_PER_S).min(RESETS);
        while !input.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(input.len());
                self.skip -= skipped;
                input = input.get(skipped..).unwrap_or_default();
                continue;
            }
            let missing = (FRAME_HEADER_BYTES - self.header.len()).min(input.len());
            let (now, rest) = input.split_at(missing);
            self.header.extend_from_slice(now);
            input = rest;
            if let [a, b, c, kind, ..] = self.header[..]
                && self.header.len() == FRAME_HEADER_BYTES
            {
                let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.skip = length;
                self.header.clear();
                match kind {
                    HEADERS => {}
                    // An empty frame may end a body; more of them are a flood.
                    DATA if length > 0 => {}
                    RST_STREAM => self.resets -= 1.0,
                    _ => self.tokens -= 1.0,
                }
            }
        }
        self.tokens >= 0.0 && self.resets >= 0.0
    }

    /// Counts what was sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.tokens = (self.tokens + bytes / BYTES_PER_TOKEN).min(TOKENS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(0, length.into()));
        frame
    }

    /// How many of this frame a new connection may send at once.
    fn allowed(kind: u8, length: u8) -> usize {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        assert!(meter.count(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", start));
        (0..100_000).take_while(|_| meter.count(&frame(kind, length), start)).count()
    }

    #[test]
    fn only_frames_that_carry_no_request_are_counted() {
        for (kind, length, expect) in [
            (HEADERS, 9, 100_000),
            (DATA, 9, 100_000),
            (DATA, 0, 2_000),
            (RST_STREAM, 4, 200),
            (0x2, 5, 2_000),
            (0x4, 0, 2_000),
            (0x6, 8, 2_000),
            (0x8, 4, 2_000),
            (0x9, 1, 2_000),
            (0xfe, 0, 2_000),
        ] {
            assert_eq!(allowed(kind, length), expect, "frame type {kind}");
        }
    }

    #[test]
    fn a_client_that_takes_what_it_asked_for_may_go_on_for_ever() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.count(&[0; PREFACE_BYTES], start);
        for _ in 0..100_000 {
            meter.sent(16_384);
            assert!(meter.count(&[frame(0x8, 4), frame(0x8, 4)].concat(), start), "a window update for 8 KiB");
        }
        for second in 0..10_000 {
            assert!(meter.count(&frame(0x6, 8), start + Duration::from_secs(second)), "a ping each second");
        }
    }

    #[test]
    fn cuts_change_nothing() {
        let start = Instant::now();
        let frames = [&[0; PREFACE_BYTES][..], &frame(0x6, 8), &frame(HEADERS, 200), &frame(0x4, 0)].concat();
        for cut in 1..60 {
            let mut meter = Meter::new(start);
            for part in frames.chunks(cut) {
                assert!(meter.count(part, start));
            }
            assert!((meter.tokens - (TOKENS - 2.0)).abs() < 0.5, "{cut}");
        }
    }
}
