//! Signing in.

use domain::{SessionId, TenantId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Signs in.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCreate {
    /// The login name.
    #[schema(example = "admin@localhost")]
    pub email: String,
    /// The password.
    pub password: String,
    /// Whether the token goes into a cookie of this browser instead of into the answer.
    #[serde(default)]
    pub cookie: bool,
}

/// A session that has just begun. The token is shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct SessionCreated {
    /// Send it as `Authorization: Bearer …`. Absent where it went into a cookie.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// When it ends (RFC 3339).
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// Who signed in.
    pub me: Me,
}

/// Who is signed in and what they may do.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Me {
    /// The user.
    #[schema(value_type = String)]
    pub id: UserId,
    /// The login name.
    pub email: String,
    /// The name.
    pub name: String,
    /// The session.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// Whether nothing but changing the password is possible.
    pub must_change_password: bool,
    /// Whether they manage the platform.
    pub platform_admin: bool,
    /// Their tenants.
    pub tenants: Vec<MyTenant>,
}

/// A tenant that the signed-in user is a member of.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct MyTenant {
    /// The tenant.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// The role there.
    pub role: String,
    /// What that role may do there, by permission.
    pub can: Vec<String>,
}

/// Changes the signed-in user's password.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password so far.
    pub old: String,
    /// The new one: 12 characters or more.
    pub new: String,
}
