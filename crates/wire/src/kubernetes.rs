//! What the access proxy in front of a Kubernetes cluster tells about what goes through it.

use std::net::IpAddr;

use domain::{DestinationId, SessionId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was answered, or refused.
    Done,
    /// Its answer has begun and goes on: a watch, a log, `exec`.
    Began,
    /// What had begun is over.
    Ended,
}

/// A call to a cluster's API: who, what, and what became of it. Never what was sent or answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessEvent {
    /// Its id, which the API server's own audit log has as `auditID`.
    pub id: String,
    /// When it began, by the proxy's clock.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Who asked, without a prefix.
    pub user: String,
    /// The same by id.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// The session of the token.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// The token's id.
    pub token: String,
    /// The role that it was given for.
    pub role: String,
    /// From where, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<IpAddr>,
    /// As whom, with the prefix, when not as the user itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_as: Option<String>,
    /// In which groups, with the prefix, when not as the user itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acted_in: Vec<String>,
    /// `get`, `list`, `watch`, `create`, ...
    pub verb: String,
    /// The API group; empty for the core.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource, in plural.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Such as `exec`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// The namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The path, where it is about no resource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Whether it asked for another protocol.
    pub upgraded: bool,
    /// How far it is.
    pub phase: Phase,
    /// The answer's status; 0 where the client went away before there was one.
    pub status: u16,
    /// How long it took so far, in milliseconds.
    pub duration_ms: u64,
    /// Why it was refused, or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Most calls that are told at once.
pub const RECORDS_MAX: usize = 256;

/// What a relay tells of calls to its cluster. A batch that is told twice is written down once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRecords {
    /// Where to.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// The run of the relay that tells: 32 hex digits.
    pub run: String,
    /// The batch's place in that run, from 1.
    pub number: u64,
    /// Calls that were not written down before these, since nothing more could be held.
    #[serde(default)]
    pub lost: u64,
    /// The calls, in order; at most 256.
    pub calls: Vec<AccessEvent>,
}
