//! The audit log.

use domain::{AuditId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A record of the audit log.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AuditRecord {
    /// Its place in the log, from 0.
    pub seq: u64,
    /// Its id.
    #[schema(value_type = String)]
    pub id: AuditId,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// `authentication`, `authorization`, `credential`, `discovery`, `user`, `evidence`, `access`, `system`.
    pub category: String,
    /// The operation.
    pub action: String,
    /// `success`, `deny`, `fail`.
    pub outcome: String,
    /// Who.
    pub actor: String,
    /// The kind of object.
    pub object_type: String,
    /// Which object.
    pub object_id: String,
    /// The details that the record commits to.
    #[schema(value_type = Object)]
    pub detail: Value,
    /// The exact bytes of the record (canonical JSON).
    pub entry: String,
    /// The record's RFC 6962 leaf hash.
    pub leaf: String,
}
