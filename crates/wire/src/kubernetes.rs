//! What the access proxy in front of a Kubernetes cluster tells about what goes through it.

use domain::Timestamp;
use serde::{Deserialize, Serialize};

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AccessEvent {
    /// Its id, which the API server's own audit log has as `auditID`.
    pub id: String,
    /// When it began, by the proxy's clock.
    pub at: Timestamp,
    /// Who asked, without a prefix.
    pub user: String,
    /// The session of the token.
    pub session: String,
    /// The token's id.
    pub token: String,
    /// As whom, with the prefix, when not as the user itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_as: Option<String>,
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
