//! Access as a file: what `cairn apply` reads and `cairn access export` writes.

use std::collections::BTreeMap;

use domain::DestinationRole;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::grant::GrantCreate;

/// Groups, grants and what belongs to them, as a file says it.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessFile {
    /// The form of the file: 1.
    pub version: u32,
    /// The file's name, 1 to 63 of `a-z`, `0-9`, `-`: what it makes is its own, and what another file made it leaves alone.
    pub name: String,
    /// Who is invited to the tenant, and to what role. Members keep the role that they have, and nobody is taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<FileMember>,
    /// Groups of the tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<FileGroup>,
    /// Roles in the tenant that groups of identity providers give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_roles: Vec<FileGroupRole>,
    /// SSH hosts, which become destinations where there is none of that name. One that is there stays as it is, and none is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<FileHost>,
    /// Sets of SSH hosts, which are destinations: one that is there has the file's selector from now on, and none is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<FileSet>,
    /// What is said of destinations that are there, or that the file makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<FileDestination>,
    /// Who may reach what. As in `cairn grants create`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<GrantCreate>,
}

/// Somebody who is invited.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileMember {
    /// The login name.
    pub email: String,
    /// The role in the tenant.
    pub role: String,
}

/// A group.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileGroup {
    /// Its name: 1 to 63 of `a-z`, `0-9`, `-`.
    pub name: String,
    /// The provider whose group feeds it, with `provider_group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// That group, exactly as the provider spells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_group: Option<String>,
    /// Members, by login name; of a group that no provider feeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
}

/// A role that a provider's group gives in the tenant.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileGroupRole {
    /// The provider's name.
    pub provider: String,
    /// The group, exactly as the provider spells it.
    pub group: String,
    /// The role.
    pub role: String,
}

/// An SSH host. As in `cairn destinations create`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileHost {
    /// Its name: 1 to 63 of `a-z`, `0-9`, `-`.
    pub name: String,
    /// Where it is reached: `HOST`, `HOST:PORT` or `[IPv6]:PORT`.
    pub address: String,
    /// Its public host key: `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// Its accounts that can be reached: a role is an account.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<DestinationRole>,
    /// From which networks certificates for it are good; none: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_networks: Vec<String>,
    /// What certificates for it allow; absent: `permit-pty`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<String>>,
    /// The relay that reaches it, by name or id; absent: its users reach it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
}

/// A set of SSH hosts.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSet {
    /// Its name: 1 to 63 of `a-z`, `0-9`, `-`.
    pub name: String,
    /// The labels that a host of it has, at least one.
    pub selector: BTreeMap<String, String>,
}

/// A destination.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileDestination {
    /// Its name.
    pub name: String,
    /// All of its labels.
    pub labels: BTreeMap<String, String>,
}

/// Asks what differs between a file and what is there, or to make it so.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessFileApply {
    /// The file.
    pub file: AccessFile,
    /// Whether what the file made earlier and does not name any more is taken.
    #[serde(default)]
    pub prune: bool,
    /// Whether what names a user or a destination that is not there waits, instead of being refused.
    #[serde(default)]
    pub missing_waits: bool,
    /// To apply: the `digest` of the difference that was shown, the only one that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What differs.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AccessFilePlan {
    /// The differences, in the order in which they are made.
    pub changes: Vec<AccessFileChange>,
    /// What is not done now, and why.
    pub waiting: Vec<String>,
    /// Names this difference.
    pub digest: String,
}

/// One difference.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AccessFileChange {
    /// `create`, `update`, `adopt` (it is there, and the file takes it over), `invite` or `delete`.
    pub action: String,
    /// `member`, `group`, `group-member`, `group-role`, `host`, `set`, `destination` or `grant`.
    pub kind: String,
    /// What it is about.
    pub name: String,
    /// How it is.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub before: serde_json::Value,
    /// How it will be.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub after: serde_json::Value,
}
