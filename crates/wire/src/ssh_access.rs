//! SSH hosts as destinations, and certificates for them.

use std::collections::BTreeMap;

use domain::{DestinationId, DestinationRole, SshCertificateId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// The keys whose certificates it has to take: the lines of its `TrustedUserCAKeys`.
    pub authorities: Vec<String>,
    /// What its `sshd_config` needs to let holders of a role, and nobody else with a certificate, into the account of that name.
    pub sshd_config: String,
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
