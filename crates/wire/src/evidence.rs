//! Evidence.

use domain::{EvidenceId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A signed statement.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Evidence {
    /// Its id.
    #[schema(value_type = String)]
    pub id: EvidenceId,
    /// `api-response`, `config`, `scan` or `null-result` (collections), `assessment`, `attestation` or `recording`.
    pub kind: String,
    /// The scope that it tells the collection of.
    pub scope: Option<String>,
    /// The framework of the control that it judges.
    pub framework: Option<String>,
    /// The control that it judges.
    pub control: Option<String>,
    /// SHA-256 of the public key (SPKI) that signed it.
    pub key: String,
    /// Its artifacts' SHA-256, where one statement is shown; a list leaves them out.
    pub artifacts: Vec<String>,
    /// When it was signed.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// The public key that evidence is signed with.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct EvidenceKey {
    /// SHA-256 of the SPKI.
    pub fingerprint: String,
    /// The key (PEM).
    pub pem: String,
}
