//! Tenants.

use domain::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a tenant.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantCreate {
    /// 1 to 63 of a-z, 0-9 and -.
    #[schema(example = "acme")]
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// The login name of an existing user who becomes its first administrator.
    #[serde(default)]
    pub admin: Option<String>,
}

/// A tenant.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Tenant {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// Which special addresses (this machine's own, link-local ones, metadata services) the tenant's jobs may reach. All others need no naming.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetPolicy {
    /// Networks such as `169.254.10.0/24` or `127.0.0.1`, 64 at most; a metadata service only by its one address.
    pub special_networks: Vec<String>,
}
