//! Groups of a tenant, grants, access requests, and what a tenant says about them.

use std::collections::BTreeMap;

use domain::{
    AccessRequestId, ActName, DestinationId, DestinationRole, GrantId, GroupId, Hours, Network, Slug, SshExtension,
    Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A group of the tenant.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Group {
    /// Its id.
    #[schema(value_type = String)]
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// The provider whose group feeds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// That group, as the provider spells it; absent: members are kept here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_group: Option<String>,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A group with who is in it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GroupDetail {
    /// The group.
    #[serde(flatten)]
    pub group: Group,
    /// Who is in it now.
    pub members: Vec<GroupMember>,
}

/// Somebody in a group.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GroupMember {
    /// The user.
    #[schema(value_type = String)]
    pub user: UserId,
    /// Their login name.
    pub email: String,
}

/// Makes a group: with members that are kept here, or fed by a provider's group.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupCreate {
    /// Its name: 1 to 63 of `a-z`, `0-9`, `-`.
    pub name: String,
    /// The provider whose group feeds it, with `provider_group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// That group, exactly as the provider spells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_group: Option<String>,
}

/// Lets somebody reach something: either `user` or `group`, and either `destination` or `labels`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantCreate {
    /// A member's login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A group's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// As what.
    #[schema(value_type = String)]
    pub role: DestinationRole,
    /// A destination's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Every destination that has all of these labels, also those that come later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<Slug>,
    /// Only in these hours, such as `mon-fri 08:00-18:00 +01:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub hours: Option<Hours>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    /// As whom else its holder may act in a cluster (`kubectl --as`): members' login names, or names of the form `deploy-bot`; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub as_users: Vec<ActName>,
    /// In which groups of the tenant, together with one of these users (`kubectl --as-group`); at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub as_groups: Vec<Slug>,
    /// At hosts: only from these networks; absent: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
    /// At hosts: what it lends of what the host allows, such as `permit-pty`; absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub extensions: Option<Vec<SshExtension>>,
    /// At hosts: what is run, whatever the user asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
    /// Whether it is eligible only: it lets nobody reach anything by itself. Whom it names may ask for what it says, and somebody else approves it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub approval: bool,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A grant.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Grant {
    /// Its id.
    #[schema(value_type = String)]
    pub id: GrantId,
    /// A member's login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A group's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// As what.
    pub role: String,
    /// A destination's name, also a set's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Every destination that has all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Where the destination is a set: the labels that a host of it has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<BTreeMap<String, String>>,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only in these hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    /// As whom else its holder may act in a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub as_users: Vec<String>,
    /// In which groups, together with one of these users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub as_groups: Vec<String>,
    /// At hosts: only from these networks; absent: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
    /// At hosts: what it lends of what the host allows, such as `permit-pty`; absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub extensions: Option<Vec<SshExtension>>,
    /// At hosts: what is run, whatever the user asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
    /// Whether it is eligible only: it gives nothing by itself, and lets ask for what it says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub approval: bool,
    /// The eligible grant that it was approved under, without which it gives nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rests_on: Option<GrantId>,
    /// Why.
    pub reason: String,
    /// `manual`, `file`, `request` or `break-glass`.
    pub origin: String,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was used last, to the hour; of an eligible one when something was approved under it; absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Timestamp>,
    /// The file (`cairn apply`) that keeps it; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// Asks for access, or breaks glass.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRequestCreate {
    /// Where to: a destination's name.
    pub destination: String,
    /// As what.
    #[schema(value_type = String)]
    pub role: DestinationRole,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<Slug>,
    /// For how long, in seconds; at least 60.
    pub duration_s: u32,
    /// Why.
    pub reason: String,
}

/// Somebody who asks for access.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AccessRequest {
    /// Its id.
    #[schema(value_type = String)]
    pub id: AccessRequestId,
    /// Who asks.
    #[schema(value_type = String)]
    pub user: UserId,
    /// Their login name.
    pub email: String,
    /// Where to.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// Its name.
    pub name: String,
    /// As what.
    pub role: String,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// For how long from the approval, in seconds.
    pub duration_s: i64,
    /// Why.
    pub reason: String,
    /// `pending`, `approved`, `denied`, `withdrawn` or `expired`.
    pub state: String,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Until when it waits for an answer.
    #[schema(value_type = String)]
    pub closes_at: Timestamp,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub decided_at: Option<Timestamp>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// With what words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// What was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub grant: Option<GrantId>,
    /// The eligible grant that it was asked for under, all of whose limits what is granted keeps; absent: none covered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub eligible: Option<GrantId>,
}

/// Answers a request.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRequestAnswer {
    /// What to say to who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What a tenant says about access that is not simply granted.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessPolicy {
    /// The longest time that may be asked for, in seconds: 60 to 2,592,000 (30 days).
    pub request_s_max: u32,
    /// What may be asked for; absent: `any`.
    #[serde(default, skip_serializing_if = "Requestable::is_any")]
    pub requests: Requestable,
    /// Who may break glass; absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
}

/// What members may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Requestable {
    /// Anything: any role of any destination.
    #[default]
    Any,
    /// Only what an eligible grant of theirs covers.
    Eligible,
}

impl Requestable {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

/// Who may take access at once and without approval.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// The group's name.
    pub group: String,
    /// For how long at most, in seconds: 60 to 43,200 (12 h).
    pub s_max: u32,
}

/// Whether the caller may take access at once and without approval, at this moment.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct BreakGlassMine {
    /// For how long at most, in seconds; absent: they may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s_max: Option<u32>,
    /// Why they may not; absent: they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
