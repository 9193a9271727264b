//! Signing in.

use domain::{SessionId, TenantId, Timestamp};
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
}

/// A session that has just begun. The token is shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct SessionCreated {
    /// Send it as `Authorization: Bearer …`.
    pub token: String,
    /// When it ends (RFC 3339).
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// Who signed in.
    pub me: Me,
}

/// Who asks and what they may do.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Me {
    /// `user`, or `api-key`: then there is no login name and no session, and the role is the key's.
    pub kind: String,
    /// The user's or the key's.
    pub id: String,
    /// The login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The name.
    pub name: String,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// When the session or the key ends; without it when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
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
