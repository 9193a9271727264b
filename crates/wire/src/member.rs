//! Members of a tenant.

use domain::{Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Gives a user a role in the tenant.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberPut {
    /// The login name.
    pub email: String,
    /// `system-admin`, `tenant-admin`, `security-analyst`, `auditor` or `read-only`.
    pub role: String,
    /// The name of a user who does not exist yet: they are made, and the answer shows a one-time password.
    #[serde(default)]
    pub name: Option<String>,
}

/// A member that was added. A one-time password is shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct MemberAdded {
    /// The user.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The role.
    pub role: String,
    /// Only for a user who was just made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time_password: Option<String>,
}

/// A member.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Member {
    /// The user.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The login name.
    pub email: String,
    /// The name.
    pub name: String,
    /// The role.
    pub role: String,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Whether they cannot sign in.
    pub disabled: bool,
}
