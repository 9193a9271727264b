//! Roles and what they hold.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A role.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// The permissions that it gives in the tenant in which it is held.
    pub permissions: Vec<String>,
    /// Those of them that an API key with this role has not: they are for people.
    pub not_by_key: Vec<String>,
}
