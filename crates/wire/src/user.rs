//! Users of the installation.

use domain::{Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a user; the answer shows a one-time password once.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCreate {
    /// The login name.
    pub email: String,
    /// The name.
    pub name: String,
    /// Whether they manage the platform.
    #[serde(default)]
    pub platform_admin: bool,
}

/// Changes a user.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserUpdate {
    /// Whether they cannot sign in.
    #[serde(default)]
    pub disabled: Option<bool>,
    /// Whether they manage the platform.
    #[serde(default)]
    pub platform_admin: Option<bool>,
}

/// A user.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct User {
    /// Their id.
    #[schema(value_type = String)]
    pub id: UserId,
    /// The login name.
    pub email: String,
    /// The name.
    pub name: String,
    /// Whether they manage the platform.
    pub platform_admin: bool,
    /// When they were made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Since when they cannot sign in.
    #[schema(value_type = Option<String>)]
    pub disabled_at: Option<Timestamp>,
}

/// A user that has just been made. The password is shown this once and must be changed at the first sign-in.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct UserCreated {
    /// Their id.
    #[schema(value_type = String)]
    pub id: UserId,
    /// The login name.
    pub email: String,
    /// The one-time password.
    pub one_time_password: String,
}
