//! Every kind of store and provider, against files, doubles that check what they are asked, and moto.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: where it fails, the test fails"
)]

#[path = "stores/aws.rs"]
mod aws;
#[path = "stores/double.rs"]
mod double;
#[path = "stores/kubernetes.rs"]
mod kubernetes;
#[path = "stores/local.rs"]
mod local;
#[path = "stores/vault.rs"]
mod vault;
