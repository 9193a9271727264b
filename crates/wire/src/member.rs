//! Members of a tenant.

use domain::{InvitationId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Gives somebody a role in the tenant: a member has it at once; whoever is none is invited.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberPut {
    /// The login name.
    pub email: String,
    /// `system-admin`, `tenant-admin`, `security-analyst`, `auditor` or `read-only`.
    pub role: String,
}

/// What giving a role led to.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct MemberPlaced {
    /// `member`, or `invited`: the role waits until somebody signs in as that address, whether there is an account or not.
    pub state: String,
    /// The login name.
    pub email: String,
    /// The role.
    pub role: String,
    /// The member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub user: Option<UserId>,
    /// The invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub invitation: Option<InvitationId>,
    /// Until when the invitation waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
}

/// A role that waits for somebody to sign in.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Invitation {
    /// Its id.
    #[schema(value_type = String)]
    pub id: InvitationId,
    /// Who is invited.
    pub email: String,
    /// To what.
    pub role: String,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Until when it waits.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
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

/// Whom the id of a user means, for who sees it in the tenant's data.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct MemberName {
    /// The user.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The login name.
    pub email: String,
    /// The name.
    pub name: String,
}
