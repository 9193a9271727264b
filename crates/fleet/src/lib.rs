//! What an agent and a relay are to the server: the key that they make and keep, enrolling, the credential that is bound to the key, the proof
//! that goes with every request, and the TLS that they speak.
//!
//! **Not for** what they say to the server (`agent`, `relay`), nor for how it is judged there (`api`, `store`).
//!
//! Invariants:
//! - the private key never leaves its folder, which only its owner may use, and two processes never use one folder at once;
//! - a proof's number is never used twice, also after a crash: what was not written down as used up is not used;
//! - a file is replaced as a whole and durably before what it says is relied on;
//! - there is no way to a connection without a verified certificate: the system's roots, or the authorities that were named instead.
#![warn(missing_docs)]

mod backoff;
mod client;
mod error;
mod folder;
mod identity;
mod numbers;
mod tls;
mod token;
mod under_way;

pub use backoff::{Backoff, between};
pub use client::{Answer, Client, Connection, Enrolling, SERVER_TIME};
pub use error::{Error, Result};
pub use folder::Folder;
pub use identity::{Identity, Signed};
pub use tls::{ClientCertificate, Tls, Trust};
pub use token::{read_key, read_token};
