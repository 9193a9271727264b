//! Host keys of SSH targets that are remembered.

use domain::{RelayId, SshHostKeyId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A remembered host key: jobs with `host_keys=first-use` refuse the target with any other.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct SshHostKey {
    /// Its id.
    #[schema(value_type = String)]
    pub id: SshHostKeyId,
    /// The target: `HOST:PORT`.
    pub target: String,
    /// The relay that reaches it; absent: the server itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub relay: Option<RelayId>,
    /// The key, one line as OpenSSH has it.
    pub key: String,
    /// Its fingerprint, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// `first_contact`: a job met it first; `pinned`: somebody named it.
    pub origin: String,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// Remembers a key that somebody checked.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshHostKeyPin {
    /// The target: `HOST`, `HOST:PORT` or `[IPv6]:PORT`.
    pub target: String,
    /// The key: `ssh-ed25519 AAAA…`, as in the host's `/etc/ssh/ssh_host_ed25519_key.pub`.
    pub key: String,
    /// The relay that reaches the target; absent: the server itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub relay: Option<RelayId>,
    /// The id of the remembered key in whose place it comes, in one step; absent: no key of the target is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub replaces: Option<SshHostKeyId>,
}
