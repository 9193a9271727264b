//! Destinations, and what a relay says of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use domain::{
    DestinationId, DestinationRole, DestinationTokenId, GrantId, Lent, Network, NodeId, RelayId, SessionId, Slug,
    SshExtension, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::grant::BreakGlass;
use crate::recording::RecordingTerms;
use crate::ssh_access::SshWay;

/// A cluster or host that is reached through Cairn.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Destination {
    /// Its id.
    #[schema(value_type = String)]
    pub id: DestinationId,
    /// Its name.
    pub name: String,
    /// `kubernetes`, `ssh`, or `set`: the SSH hosts that have some labels.
    pub kind: String,
    /// Of a set: the labels that a host of it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<BTreeMap<String, String>>,
    /// The relay that it hangs on; absent where it is reached without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub relay: Option<RelayId>,
    /// That relay's name; absent where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_name: Option<String>,
    /// Of a host: `relay`, or `direct`: users reach it themselves, nothing records what they do, and a session that is open goes on after its grant
    /// has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// What people sort it by, and selectors of grants go by.
    pub labels: BTreeMap<String, String>,
    /// The certificate authority of its proxy, in PEM.
    pub authority: String,
    /// Where its proxy is reached without the server, if it is: host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When the certificate ends that its proxy shows there; once it has ended nobody is sent there. Absent: its relay does not listen, or does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub certificate_ends_at: Option<Timestamp>,
    /// Its namespaces.
    pub namespaces: Vec<String>,
    /// The roles that it offers.
    pub roles: Vec<String>,
    /// The relay's version.
    pub version: String,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When its relay last spoke of it, to the minute.
    #[schema(value_type = String)]
    pub last_seen_at: Timestamp,
    /// What it is in the asset graph.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// What goes by its labels; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_labels: Option<ByLabels>,
}

/// What goes by the labels of a destination: whoever changes them changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ByLabels {
    /// The sets that it is in, by name.
    pub sets: Vec<String>,
    /// How many grants cover it by its labels, or by these sets.
    pub grants: u64,
}

/// Says which hosts are in a set: makes its destination where there is none of this name.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostSetPut {
    /// The labels that a host of it has, at least one.
    pub selector: BTreeMap<String, String>,
}

/// A set of SSH hosts: those that have some labels, at each moment. A grant of it is one of each of them; nobody connects to it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct HostSet {
    /// The destination.
    #[schema(value_type = String)]
    pub id: DestinationId,
    /// Its name.
    pub name: String,
    /// The labels that a host of it has.
    pub selector: BTreeMap<String, String>,
    /// How many hosts are in it now.
    pub hosts: u64,
    /// The accounts that some of them offer.
    pub roles: Vec<String>,
    /// How many grants name it.
    pub grants: u64,
}

/// Changes a destination; what is absent stays.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationUpdate {
    /// All of its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The relay that registers it from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub relay: Option<RelayId>,
}

/// What a relay says of a destination that hangs on it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationRegister {
    /// Its name, unique in the tenant: 1 to 63 of `a-z`, `0-9`, `-`.
    pub name: String,
    /// `kubernetes` or `ssh`.
    pub kind: String,
    /// The certificate authority of its proxy, in PEM; empty where it has none of its own.
    pub authority: String,
    /// Where its proxy is reached without the server, if it is: host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its namespaces.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub namespaces: Vec<Slug>,
    /// The roles that it offers.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<DestinationRole>,
    /// The relay's version.
    pub version: String,
    /// SHA-256 of the certificate of the cluster's own authority, in hex: by it a cluster that was discovered is known again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_sha256: Option<String>,
    /// When the certificate of its proxy's own listener ends, where there is one, also when it has ended and no address is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub certificate_ends_at: Option<Timestamp>,
}

/// A role that is granted at a destination to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct RoleGranted {
    /// The role.
    #[schema(value_type = String)]
    pub role: DestinationRole,
    /// The namespace; absent: the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub namespace: Option<Slug>,
}

/// What a proxy needs to judge tokens for a destination.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct DestinationRegistered {
    /// The destination: the `aud` of its tokens.
    #[schema(value_type = String)]
    pub id: DestinationId,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The keys that verify them now, as at `/.well-known/jwks.json`.
    #[schema(value_type = Object)]
    pub keys: serde_json::Value,
    /// The roles that grants give to anybody there, now or at other hours; absent: the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Vec<RoleGranted>>,
    /// What is to be recorded of sessions there, while the server cannot be asked.
    #[serde(default)]
    pub recording: RecordingTerms,
}

/// What an open connection rests on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The user.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The login name that they came with; absent: nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The session that the token came from.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// Where to.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// As what.
    #[schema(value_type = String)]
    pub role: DestinationRole,
    /// Only in these namespaces; absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub namespaces: Option<Vec<Slug>>,
    /// As whom else the user may act; absent: as nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub act_as: Vec<Lent>,
    /// The user's groups that the destination was told of; absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub groups: Vec<Slug>,
    /// At a host: what it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshStanding>,
}

/// What an open connection to a host takes of what grants give.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshStanding {
    /// From where the user comes, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<IpAddr>,
    /// What is allowed besides running a command.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub extensions: Vec<SshExtension>,
    /// What is run, whatever the user asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
}

/// Asks whether open connections may stay open: at most 1,000 at a time.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessCheck {
    /// What each rests on.
    pub standings: Vec<Standing>,
}

/// Whether they may, in the order in which it was asked.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AccessChecked {
    /// Until when each may stay open if nothing changes; null: not any more.
    #[schema(value_type = Vec<Option<String>>)]
    pub until: Vec<Option<Timestamp>>,
}

/// Asks for a destination token.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationTokenCreate {
    /// As what; may be absent where only one role is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub role: Option<DestinationRole>,
}

/// A destination token, which is shown once.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct DestinationTokenCreated {
    /// Its id, as in the audit log.
    #[schema(value_type = String)]
    pub id: DestinationTokenId,
    /// The token: a JWT, ES512.
    pub token: String,
    /// Where to.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// As what.
    #[schema(value_type = String)]
    pub role: DestinationRole,
    /// Only in these namespaces; absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub namespaces: Option<Vec<Slug>>,
    /// Of a host: where its relay takes users without the server between; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<SshWay>,
    /// Until when it is good.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// A destination that somebody reaches.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Reach {
    /// Where to.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// Its name.
    pub name: String,
    /// `kubernetes` or `ssh`.
    pub kind: String,
    /// As what.
    pub role: String,
    /// Only in these namespaces; absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// As whom else they may act there; absent: as nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub act_as: Vec<Lent>,
    /// Until when all of it holds; absent: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub until: Option<Timestamp>,
    /// The certificate authority of its proxy, in PEM.
    pub authority: String,
    /// Where its proxy is reached without the server, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it comes from; absent where somebody asks about themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<Why>,
}

/// A page of who reaches a destination, or of what somebody reaches, with who takes access besides.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AccessList<T> {
    /// The items.
    pub items: Vec<T>,
    /// Send it as `page` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
    /// Who may break glass, and so reach every destination in any role at once and without approval: on each page. Of a destination: a group's members,
    /// whoever they are; of a member: absent where they may not. Absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
}

/// A grant that access comes from.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Why {
    /// The grant.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// Through which group; absent: it names the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// By which labels; absent: it names the destination, or a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// By which set of hosts; absent: by none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
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
    /// At hosts: only from these networks; absent: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
    /// At hosts: what it lends of what the host allows; absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub extensions: Option<Vec<SshExtension>>,
    /// At hosts: what is run, whatever is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
    /// `manual`, `file`, `request` or `break-glass`.
    pub origin: String,
    /// Who granted it: of a request, who approved it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was used last, to the hour; absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Timestamp>,
}

/// Somebody who reaches a destination.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Reacher {
    /// The user.
    #[schema(value_type = String)]
    pub user: UserId,
    /// Their login name.
    pub email: String,
    /// What they are in the tenant, which gives nothing at a destination.
    pub tenant_role: String,
    /// Where to.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// Its name.
    pub name: String,
    /// As what.
    pub role: String,
    /// Only in these namespaces; absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// As whom else they may act there; absent: as nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub act_as: Vec<Lent>,
    /// Until when all of it holds; absent: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub until: Option<Timestamp>,
    /// The grants that it comes from.
    pub grants: Vec<String>,
    /// The same, with what each says.
    pub why: Vec<Why>,
    /// Through what, in a few words: `direct`, or the groups' names.
    pub through: Vec<String>,
}
