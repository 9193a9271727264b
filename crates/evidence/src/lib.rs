//! Evidence that a third party can check: canonical JSON, Merkle hashing, signed statements, and the ZIP bundle that holds them.
//!
//! **Not for** storing anything, deciding what is evidence of what, or making keys. It does no I/O of its own: bundles are written to
//! and read from what the caller hands in.
//!
//! Invariants:
//! - what was signed is what is parsed: [`dsse::verify`] reads the very bytes that the signature covers, never another copy;
//! - the `evidence` key signs exactly two shapes of message, DSSE pre-authentication encodings and 32-byte digests, and neither can be
//!   read as the other ([`artifact`] says why);
//! - the same input gives the same bytes, also for a bundle;
//! - no input makes verification panic, and each refusal names the file that is to blame.
#![warn(missing_docs)]

pub mod artifact;
pub mod bundle;
pub mod checkpoint;
mod container;
pub mod dsse;
pub mod jcs;
pub mod log_bundle;
pub mod merkle;
pub mod note;
pub mod recording;
pub mod statement;
pub mod tile;
pub mod tree;
pub mod verify;

pub use artifact::sign_artifact_digest;
pub use bundle::{BundleError, BundleHead, BundleWriter, Summary};
pub use checkpoint::{Checkpoint, CheckpointError, LogProof, Origin};
pub use dsse::{SignedStatement, pae, sign};
pub use log_bundle::{LogBundleWriter, LogReport, verify_log_bundle};
pub use recording::RecordingStatement;
pub use statement::{AssessmentStatement, CollectionStatement, Statement, StatementError};
pub use verify::{Report, verify_bundle};
