//! What tests of every layer share: a private PostgreSQL, a settable clock, a seeded random source, golden files, and a log
//! of the whole suite that is searched for planted secrets.
//!
//! **Not for** production code (`[dev-dependencies]` only), and not for doubles of our own crates: tests use the real ones.
//!
//! Invariants:
//! - nothing is skipped: what a test needs and does not find is a panic that names the command which installs it. The one exception is a real API server
//!   ([`kube_apiserver`]): its tests say that they did nothing;
//! - nothing listens on another address than 127.0.0.1 nor on a fixed port, and nothing reaches the internet;
//! - nothing outlives the suite: a server that a test started ends with it, also when the test process is killed.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test code: where the harness fails, the test fails"
)]

pub mod authenticator;
pub mod cable;
pub mod chart;
pub mod clock;
pub mod golden;
pub mod kube;
pub mod kube_apiserver;
pub mod lab;
pub mod logs;
pub mod moto;
pub mod oidc;
pub mod port;
pub mod postgres;
pub mod program;
pub mod python_plugin;
pub mod rng;
pub mod rsyslogd;
pub mod snmpd;
pub mod sshd;
pub mod suite;

pub use clock::TestClock;
pub use kube::KubeApi;
pub use kube_apiserver::KubeApiserver;
pub use lab::Lab;
pub use moto::Moto;
pub use oidc::OidcProvider;
pub use port::HeldPort;
pub use postgres::{Postgres, TestDatabase};
pub use rng::TestRng;
pub use rsyslogd::Rsyslogd;
pub use snmpd::Snmpd;
pub use sshd::Sshd;
