//! Data keys: what seals secrets at rest. Never the keys themselves.

use domain::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The data keys of a tenant, or of the platform.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct DataKeys {
    /// Whose; none: the platform's.
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// Oldest first; the last one seals. More than one: a rotation is under way.
    pub keys: Vec<DataKey>,
}

/// A data key.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct DataKey {
    /// Its version.
    pub version: i64,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// How many values it sealed so far.
    pub seals: i64,
    /// How many values are sealed with it now.
    pub values: i64,
}

/// Replaces data keys.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DataKeyRotate {
    /// Of this tenant only; none: of the platform and every tenant.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
}

/// What was replaced.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct DataKeysRotated {
    /// How many data keys. Values are sealed anew in the background.
    pub keys: u64,
}
