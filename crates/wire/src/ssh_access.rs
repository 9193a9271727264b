//! SSH hosts as destinations, and certificates for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use domain::{
    DestinationId, DestinationRole, DestinationTokenId, Network, RelayId, SessionId, SshCertificateId, SshSessionId,
    Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::destination::ByLabels;
use crate::recording::RecordingTerms;

/// What a connection is switched to on its way to a host, in the header `Upgrade`: from there on it is SSH.
pub const UPGRADE: &str = "cairn-ssh";

/// Says what a host is: makes its destination where there is none of this name, or changes it as a whole.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshHostPut {
    /// Where it is reached: `HOST`, `HOST:PORT` or `[IPv6]:PORT`.
    pub address: String,
    /// Its public host key: `ssh-ed25519 AAAA…`, as in its `/etc/ssh/ssh_host_ed25519_key.pub`.
    pub host_key: String,
    /// Its accounts that can be reached: a role is an account.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<DestinationRole>,
    /// What people sort it by, and selectors of grants go by; absent: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// From which networks certificates for it are good; none: from everywhere.
    #[serde(default)]
    pub source_networks: Vec<String>,
    /// What certificates for it allow, of `permit-pty`, `permit-port-forwarding`, `permit-agent-forwarding`, `permit-X11-forwarding`,
    /// `permit-user-rc`; absent: `permit-pty`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<String>>,
    /// The relay that reaches it, by name or id: users come through the relay, and never to the host itself. Empty: none; absent: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
}

/// A host that is reached with SSH certificates.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct SshHost {
    /// The destination.
    #[schema(value_type = String)]
    pub id: DestinationId,
    /// Its name.
    pub name: String,
    /// Where it is reached: `HOST:PORT`.
    pub address: String,
    /// Its public host key.
    pub host_key: String,
    /// Its accounts that can be reached.
    pub roles: Vec<String>,
    /// What people sort it by, and selectors of grants go by.
    pub labels: BTreeMap<String, String>,
    /// From which networks certificates for it are good; none: from everywhere.
    pub source_networks: Vec<String>,
    /// What certificates for it allow.
    pub extensions: Vec<String>,
    /// The relay through which it is reached; absent: users reach it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub relay: Option<RelayId>,
    /// That relay's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_name: Option<String>,
    /// `relay`, or `direct`: users reach it themselves, nothing records what they do, and a session that is open goes on after its grant has ended.
    #[serde(default)]
    pub way: String,
    /// The keys whose certificates it has to take: the lines of its `TrustedUserCAKeys`.
    pub authorities: Vec<String>,
    /// What its `sshd_config` needs to let holders of a role, and nobody else with a certificate, into the account of that name.
    pub sshd_config: String,
    /// What goes by its labels.
    #[serde(default)]
    pub by_labels: ByLabels,
}

/// A host's certificate.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct SshHostCertificate {
    /// One line, for the file that the host's `HostCertificate` names.
    pub certificate: String,
    /// What it calls the host.
    pub principal: String,
    /// Until when it is good.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// Asks for a certificate of the caller.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshCertificateCreate {
    /// The key to sign, one line as OpenSSH has it: Ed25519 or ECDSA.
    pub public_key: String,
    /// As what; may be absent where only one role is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub role: Option<DestinationRole>,
}

/// A certificate of the caller, and what is needed to use it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct SshCertificate {
    /// Its id, as in the audit log and in that of the host.
    #[schema(value_type = String)]
    pub id: SshCertificateId,
    /// One line, as in a `-cert.pub` file.
    pub certificate: String,
    /// Where to.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// Its name.
    pub name: String,
    /// Where it is reached: `HOST:PORT`.
    pub address: String,
    /// The account: the role that it was made for.
    #[schema(value_type = String)]
    pub account: DestinationRole,
    /// The names that it is good for.
    pub principals: Vec<String>,
    /// The relay through which it goes: the certificate is good there, and not at the host. Absent: straight to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub relay: Option<RelayId>,
    /// What the host is called in its own certificate and in `known_hosts`.
    pub host_alias: String,
    /// The host's registered key.
    pub host_key: String,
    /// The keys that sign certificates of hosts.
    pub authorities: Vec<String>,
    /// Until when it is good.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// Asks for what a relay needs to take a user to a host: at the beginning of each connection, with the destination token that the user showed.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshSessionBegin {
    /// Where to.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// The user's destination token, which is good for one connection.
    pub token: String,
    /// From where the user comes, as far as the relay knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<IpAddr>,
    /// The key that the relay shows the user, made for this connection: Ed25519, one line as OpenSSH has it.
    pub host_key: String,
    /// The key that the relay shows the host, made for this connection.
    pub client_key: String,
}

/// What a relay needs to take a user to a host.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct SshSessionBegun {
    /// The connection.
    #[schema(value_type = String)]
    pub id: SshSessionId,
    /// The user.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The user's login name.
    pub name: String,
    /// The session that the token came from.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// The token's id.
    #[schema(value_type = String)]
    pub token: DestinationTokenId,
    /// Until when the token is good.
    #[schema(value_type = String)]
    pub token_expires_at: Timestamp,
    /// Until when what it rests on stands if nothing changes.
    #[schema(value_type = String)]
    pub until: Timestamp,
    /// The account: the role that the token is for.
    #[schema(value_type = String)]
    pub account: DestinationRole,
    /// The name that the user's certificate has to be good for.
    pub principal: String,
    /// The keys that sign certificates.
    pub authorities: Vec<String>,
    /// Where the host is: `HOST:PORT`.
    pub address: String,
    /// What the host's own certificate calls it.
    pub host_alias: String,
    /// The host's registered key.
    pub host_key: String,
    /// From which networks the user may come; none: from everywhere.
    #[schema(value_type = Vec<String>)]
    pub source_networks: Vec<Network>,
    /// What is allowed besides running a command.
    pub extensions: Vec<String>,
    /// What is run, whatever the user asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
    /// What is to be recorded of sessions there, while the server cannot be asked; absent: the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingTerms>,
    /// Special addresses that the tenant lets its jobs reach, and its relays.
    #[schema(value_type = Vec<String>)]
    pub special_networks: Vec<Network>,
    /// The certificate of the key that the user sees.
    pub host_certificate: String,
    /// The certificate of the key that the host sees.
    pub client_certificate: String,
}

/// Tells that something is about to be forwarded on a connection to a host: once for each place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshSessionForward {
    /// When, by the relay's clock.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// `agent`, `x11`, `local`, `local-socket`, `remote` or `remote-socket`.
    pub kind: String,
    /// Where to, or where it is listened: `HOST:PORT` or a path; of an agent and a screen: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
}

/// Says which connections to hosts a relay holds, and those of which it still has an end to tell: whatever else it began is over. At most 2,048.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshSessionHold {
    /// The connections.
    #[schema(value_type = Vec<String>)]
    pub connections: Vec<SshSessionId>,
    /// Where it takes users without the server between; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listens: Option<SshWay>,
    /// When the certificate ends that it shows there, also when it has ended and `listens` is absent for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub certificate_ends_at: Option<Timestamp>,
}

/// What a relay is told in return: which tokens are worth a question where users come to it without the server between.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct SshSessionHeld {
    /// The `iss` of destination tokens.
    pub issuer: String,
    /// The keys that verify them now, as at `/.well-known/jwks.json`.
    #[schema(value_type = Object)]
    pub keys: serde_json::Value,
}

/// Where users reach a relay without the server between, to go on to the hosts behind it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshWay {
    /// Host and port.
    pub address: String,
    /// The authority to trust there, in PEM; empty: those of the user's system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authority: String,
}

/// What is asked for there: a switch to [`UPGRADE`], with a destination token.
pub fn way_path(destination: DestinationId) -> String {
    format!("/destinations/{destination}/ssh")
}

/// Tells that a connection to a host ended; telling it twice ends it once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshSessionEnd {
    /// When, by the relay's clock.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// Whether the user got as far as the host.
    pub reached: bool,
    /// Bytes from the user, as they were on the line.
    pub received_bytes: u64,
    /// Bytes to the user.
    pub sent_bytes: u64,
}
