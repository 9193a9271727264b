//! Signed calls to AWS over HTTPS: own signatures ([`sigv4`]), endpoints ([`endpoint`]), credentials ([`credentials`]), error
//! reading ([`error`]) and pacing ([`pace`]) around one HTTP client ([`AwsClient`]).
//!
//! **Not for** knowing what an operation means or what its reply holds (`plugins`).
//!
//! Invariants:
//! - the credential never leaves: errors and records hold the target's words with every secret cut out;
//! - no address that is link-local, a metadata service, or (unless allowed) this machine is ever connected to;
//! - a reply is never decompressed, never followed elsewhere, and never longer in memory than the limit.

mod client;
pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod pace;
pub mod sign;
pub mod sigv4;

pub use client::{AwsClient, AwsConfig};
pub use credentials::AwsCredentials;
pub use pace::Pacer;
