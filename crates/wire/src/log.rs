//! The audit log as a transparency log: its name and key, proofs, witnesses, and what a check of it found.

use domain::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A log.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Log {
    /// Its name, which is the first line of its checkpoints.
    pub origin: String,
    /// Records in it.
    pub size: u64,
    /// The key that signs its checkpoints, as C2SP signed-note writes it.
    pub vkey: String,
    /// The same key (PEM).
    pub pem: String,
    /// SHA-256 of the key's SPKI.
    pub fingerprint: String,
}

/// That one size of a log is the beginning of another (RFC 6962).
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Consistency {
    /// The smaller size.
    pub from: u64,
    /// The larger size.
    pub to: u64,
    /// The hashes, each in hex.
    pub hashes: Vec<String>,
}

/// A signed checkpoint of the past.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct SignedCheckpoint {
    /// Records that it covers.
    pub size: u64,
    /// The root over them, in hex.
    pub root: String,
    /// When it was signed.
    #[schema(value_type = String)]
    pub signed_at: Timestamp,
    /// The signed note.
    pub note: String,
}

/// A place where the database does not hold what was signed.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct LogFault {
    /// The record, where one is to blame.
    pub seq: Option<u64>,
    /// What is wrong.
    pub problem: String,
}

/// What a part of a log was found to be.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct LogVerification {
    /// Records in the log.
    pub size: u64,
    /// Records that were compared.
    pub records: u64,
    /// Signed checkpoints that were compared.
    pub checkpoints: u64,
    /// Where to go on; none at the end.
    pub next: Option<u64>,
    /// What does not fit.
    pub faults: Vec<LogFault>,
}

/// A checkpoint with the cosignatures of witnesses.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cosigned {
    /// The signed note with the witnesses' lines under it (C2SP tlog-cosignature).
    pub checkpoint: String,
}

/// How many cosignatures were taken.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct CosignaturesTaken {
    /// Lines of known witnesses.
    pub taken: u64,
}

/// A witness to accept.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWitness {
    /// Its name and key, as C2SP signed-note writes them, of type 4.
    pub vkey: String,
}

/// A witness whose cosignatures are accepted.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Witness {
    /// Its name.
    pub name: String,
    /// Its name and key.
    pub vkey: String,
    /// When it was added.
    #[schema(value_type = String)]
    pub added_at: Timestamp,
    /// By whom.
    pub added_by: String,
}
