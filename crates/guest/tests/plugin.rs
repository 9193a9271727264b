//! Plugins in their sandbox: programs in Python that are started, confined and spoken to as a server does.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: where it fails, the test fails"
)]

#[path = "plugin/check.rs"]
mod check;
#[path = "plugin/hostile.rs"]
mod hostile;
#[path = "plugin/support.rs"]
mod support;
