//! Hashing, sealing, signing, tokens and passwords: the only crate that names a cryptographic library.
//!
//! **Not for** policy: who may hold which key, what a claim means, when a key is rotated. Key storage belongs to `store`, the
//! meaning of statements to `evidence`.
//!
//! Invariants:
//! - comparing secrets takes the same time wherever they differ;
//! - what fails to verify returns an error that says nothing about the secret, and no part of the plaintext;
//! - a value of a key type is usable: weak keys are refused where they enter;
//! - time and randomness are handed in, except that [`system`] implements the two traits over the operating system, and that
//!   [`ed25519::SigningKey::generate`], [`es512::SigningKey`] and [`sealed`] use the library's own generator.
#![warn(missing_docs)]

pub mod aead;
pub mod api_key;
mod checked;
pub mod cli_session;
pub mod client_certificate;
pub mod device;
pub mod ed25519;
pub mod enrollment;
mod error;
pub mod es512;
pub mod fips;
mod hash;
pub mod jws;
pub mod jwt;
pub mod password;
pub mod pinned;
pub mod possession;
pub mod sealed;
pub mod ssh;
mod strict_json;
pub mod system;
pub mod tls;
pub mod token;
pub mod totp;
pub mod usm;
#[cfg(test)]
mod vectors;
pub mod verify;
pub mod websocket;

pub use error::CryptoError;
pub use hash::{Sha256, constant_time_eq, hmac_sha256, sha256};

#[cfg(test)]
mod test_rng {
    //! Repeatable bytes for tests: SHA-256 of a counter.

    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    pub(crate) struct CountingRng(AtomicU64);

    impl domain::Rng for CountingRng {
        fn fill(&self, out: &mut [u8]) {
            for chunk in out.chunks_mut(32) {
                let block = crate::sha256(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                chunk.copy_from_slice(&block.0[..chunk.len()]);
            }
        }
    }
}
