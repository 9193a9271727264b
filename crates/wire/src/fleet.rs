//! Agents and relays: tokens that enroll them, enrolling and renewing, and how they are listed.

use std::collections::BTreeMap;

use domain::{EnrollmentTokenId, FleetId, JobId, TaskId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a token with which one agent or relay enrolls itself.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollmentTokenCreate {
    /// What it enrolls: `agent` or `relay`.
    #[schema(example = "agent")]
    pub kind: String,
    /// What the enrolled one is labelled with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How long it is good, in seconds, from a minute to a week; default one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u32>,
}

/// An enrollment token, without its secret.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct EnrollmentToken {
    /// Its id.
    #[schema(value_type = String)]
    pub id: EnrollmentTokenId,
    /// What it enrolls: `agent` or `relay`.
    pub kind: String,
    /// `waiting`, `used`, `expired` or `revoked`.
    pub state: String,
    /// What the enrolled one is labelled with.
    pub labels: BTreeMap<String, String>,
    /// Who made it: the id of a user or an API key.
    pub created_by: String,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Until when it is good.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// When it was used.
    #[schema(value_type = Option<String>)]
    pub used_at: Option<Timestamp>,
    /// Which agent or relay it enrolled.
    #[schema(value_type = Option<String>)]
    pub used_by: Option<FleetId>,
}

/// A new token. This is the only time that it is shown.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct EnrollmentTokenCreated {
    /// The token.
    pub enrollment_token: EnrollmentToken,
    /// `et_…`: single use, even if many use it at once.
    pub token: String,
    /// The certificate of the installation's own authority (PEM), where that is what an agent or relay has to trust which reaches the server by
    /// the name that this was asked at. Absent: a certificate that others issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl std::fmt::Debug for EnrollmentTokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollmentTokenCreated")
            .field("enrollment_token", &self.enrollment_token)
            .finish_non_exhaustive()
    }
}

/// A public key as a JSON Web Key (RFC 8037).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The key's 32 bytes in base64url.
    pub x: String,
}

/// Exchanges an enrollment token for a credential. Goes with a proof (`DPoP: …`) by the key.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// `et_…`.
    pub token: String,
    /// What enrolls itself: `agent` or `relay`.
    pub kind: String,
    /// Its name, once among the tenant's agents or relays.
    #[schema(example = "web-01.example.com")]
    pub name: String,
    /// The key that it made and keeps.
    pub public_key: Jwk,
    /// Its program's version.
    pub version: String,
}

impl std::fmt::Debug for Enroll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enroll").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Who was enrolled, and the credential that it shows from now on, always with a proof by its key: without the key it is good for nothing.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct Enrolled {
    /// `agt_…` or `rly_…`.
    #[schema(value_type = String)]
    pub id: FleetId,
    /// Its tenant.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The installation that its proofs are for.
    pub installation: String,
    /// The credential: send it as `Authorization: DPoP …`.
    pub credential: String,
    /// Until when it is good.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Enrolled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolled").field("id", &self.id).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Asks for the next credential. The one so far is good until the new one is used.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The program's version.
    pub version: String,
}

/// The next credential.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct Renewed {
    /// The credential.
    pub credential: String,
    /// Until when it is good.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewed").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// An agent or a relay.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FleetUnit {
    /// `agt_…` or `rly_…`.
    #[schema(value_type = String)]
    pub id: FleetId,
    /// Its name.
    pub name: String,
    /// `active`, `expired`, `revoked`, or `cloned`: somebody else used its key, so that neither is let in any more.
    pub state: String,
    /// `online`, `silent` for longer than it should be, or `unseen`; absent where it is not active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// What people sort it by.
    pub labels: BTreeMap<String, String>,
    /// Its program's version.
    pub version: String,
    /// Whether that is older than this server's; absent where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<bool>,
    /// The thumbprint of its key (RFC 7638).
    pub key: String,
    /// When it was enrolled.
    #[schema(value_type = String)]
    pub enrolled_at: Timestamp,
    /// Until when its credential is good, unless it renews it.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// When it was last seen, to the minute.
    #[schema(value_type = Option<String>)]
    pub last_seen_at: Option<Timestamp>,
    /// From where.
    pub last_seen_ip: Option<String>,
    /// Since when it is revoked.
    #[schema(value_type = Option<String>)]
    pub revoked_at: Option<Timestamp>,
    /// When it was noticed that its key is used by somebody else too.
    #[schema(value_type = Option<String>)]
    pub cloned_at: Option<Timestamp>,
    /// How many tasks it works on; relays only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_tasks: Option<u64>,
    /// Where a relay takes users to SSH hosts without the server between, by its word; absent: nowhere, or not now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_address: Option<String>,
    /// When the certificate ends that it shows there, also when it has ended and nobody is sent there; absent: it does not listen, or does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ssh_certificate_ends_at: Option<Timestamp>,
}

/// What a tenant asks of its relays besides their keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayPolicy {
    /// Who vouches for the client certificates of relays: certificates in PEM, 64 KiB and 16 at most; empty: nobody is asked for one.
    pub authorities: String,
    /// Whether a relay is refused that shows none of theirs.
    pub certificate_required: bool,
}

/// A relay with what it does.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct RelayDetail {
    /// The relay.
    #[serde(flatten)]
    pub unit: FleetUnit,
    /// The server that it hangs on, as far as is known.
    pub server: Option<String>,
    /// Since when.
    #[schema(value_type = Option<String>)]
    pub connected_at: Option<Timestamp>,
    /// What it works on, the oldest first; at most 200.
    pub tasks: Vec<RelayTask>,
}

/// A task that a relay works on.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct RelayTask {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TaskId,
    /// Its job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// The plugin.
    pub plugin: String,
    /// What it is, e.g. `us-east-1`.
    pub key: String,
    /// How often it was begun.
    pub attempt: u32,
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 when not known.
    pub total: u64,
    /// What is going on.
    pub message: String,
    /// Since when.
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Timestamp>,
}

/// Replaces the labels of an agent or a relay.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsPut {
    /// All of them.
    pub labels: BTreeMap<String, String>,
}
