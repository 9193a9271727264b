//! Errors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error of the API.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Look for it in the server's log.
    pub request_id: String,
    /// `invalid`, `unauthenticated`, `forbidden`, `not_found`, `conflict`, `limit`, `unavailable`, `internal`.
    pub code: String,
    /// What to change.
    pub message: String,
    /// The field to blame, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
