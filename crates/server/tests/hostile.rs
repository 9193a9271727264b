//! Peers that mean harm, against the real `cairn-server` over real TLS: what they may take is bounded, and others are served meanwhile.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: where it fails, the test fails"
)]

#[path = "hostile/framing.rs"]
mod framing;
#[path = "hostile/http2.rs"]
mod http2;
#[path = "hostile/peer.rs"]
mod peer;
#[path = "hostile/posture.rs"]
mod posture;
#[path = "hostile/slow.rs"]
mod slow;
#[path = "journey/world.rs"]
#[allow(dead_code, reason = "shared with the journey, which uses the rest")]
mod world;
