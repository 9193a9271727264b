//! The way of a new user through the real programs: `cairn-server` over real TLS, `cairn` beside it, both databases, real peers.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: where it fails, the test fails"
)]

#[path = "journey/access.rs"]
mod access;
#[path = "journey/account.rs"]
mod account;
#[path = "journey/first_minute.rs"]
mod first_minute;
#[path = "journey/world.rs"]
mod world;
#[path = "journey/wrong_turns.rs"]
mod wrong_turns;
