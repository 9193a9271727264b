//! Secret stores and key providers: where the installation's own secrets come from.
//!
//! A configuration value may be a reference `<store>:<id>`; [`Stores`] turns it into the secret. A [`KeyProvider`] keeps the installation's
//! master key wrapped by a key that never leaves another system.
//!
//! **Not for** the credentials that tenants enter (`store`'s vault), nor for writing secrets: stores are only read.
//!
//! Invariants:
//! - an error names the store and what to change, and never a value;
//! - a text is a reference exactly when what stands before its first colon names a store: a password with a colon in it is a password;
//! - a store answers with the whole secret or with an error, never with an empty or a cut one.
#![warn(missing_docs)]

mod aws;
mod encoding;
mod error;
mod kubernetes;
mod local;
mod provider;
mod stores;
mod vault;

pub use error::SecretError;
pub use provider::{KeyProvider, ProviderSettings, WrappedKey, master_key};
pub use stores::{Declaration, Environment, Stores, Surroundings};
