//! Recordings of sessions at destinations: what a relay tells of them, what readers get, and what a tenant wants recorded.

use std::net::IpAddr;

pub use domain::recording::{
    BYTES_MAX, CHAIN_BEGIN, CHUNK_BYTES_MAX, DURATION_MS_MAX, RecordingMode, SILENCE_MS_MAX, chain,
};
use domain::{DestinationId, Digest, EvidenceId, RecordingId, RelayId, SessionId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of what is recorded: asciicast, version 2 (a line of JSON that says what it is, then one line for each event).
pub const MEDIA_TYPE: &str = "application/x-asciicast";
/// How often a relay gives a sign of life while nothing happens, in milliseconds.
pub const SIGN_OF_LIFE_MS: u64 = 60_000;

/// What is to be recorded of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct RecordingTerms {
    /// `off`, `best-effort` (a session that cannot be recorded goes on, and the audit log says so) or `required` (it does not begin, or is closed).
    #[schema(value_type = String)]
    pub mode: RecordingMode,
    /// Whether what is typed on a terminal is recorded too. It holds passwords. Without a terminal nothing echoes what is sent, so there it is recorded in any case.
    pub input: bool,
}

/// What a tenant wants recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordingPolicy {
    /// `exec` and `attach` in clusters: `off`, `best-effort` or `required`.
    #[schema(value_type = String)]
    pub kubernetes: RecordingMode,
    /// Sessions on hosts that are reached through a relay, likewise.
    #[schema(value_type = String)]
    pub ssh: RecordingMode,
    /// Whether what is typed on a terminal is recorded too. It holds passwords. Without a terminal nothing echoes what is sent, so there it is recorded in any case.
    pub input: bool,
    /// How long recordings are kept, in days: 1 to 36,500.
    pub retention_days: u32,
}

/// What somebody does at a destination.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RecordingTarget {
    /// `exec` or `attach` in a cluster.
    Kubernetes {
        /// `exec` or `attach`.
        action: String,
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The container; empty: the pod's only one, or its first.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        container: String,
        /// What is run, word by word.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        command: Vec<String>,
        /// Whether on a terminal that shows what is typed. One whose output nobody asked for shows nothing.
        tty: bool,
    },
    /// A session on a host.
    Ssh {
        /// The account.
        account: String,
        /// What is run; empty: a shell.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        command: String,
        /// Whether on a terminal that shows what is typed. One that was asked for without echo does not.
        tty: bool,
    },
}

impl RecordingTarget {
    /// Whether on a terminal that shows what is typed.
    pub fn is_tty(&self) -> bool {
        match self {
            Self::Kubernetes { tty, .. } | Self::Ssh { tty, .. } => *tty,
        }
    }
}

/// Begins a recording; telling it twice begins one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordingBegin {
    /// Its id, which the relay chose.
    #[schema(value_type = String)]
    pub id: RecordingId,
    /// When the session began, by the relay's clock.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Where.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// Whose session it is, by the token or the certificate that they showed.
    pub user: String,
    /// The same by id.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// The session that let them in.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// The id of the token or the certificate.
    pub token: String,
    /// As what they came.
    pub role: String,
    /// From where, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<IpAddr>,
    /// The id of the call or connection in the other records; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call: String,
    /// What they do.
    pub target: RecordingTarget,
}

/// How much went by in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Passed {
    /// Bytes that went by.
    pub bytes: u64,
    /// Of these, the ones that were left out of the recording.
    pub left_out: u64,
}

/// Ends a recording; telling it twice ends it once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordingEnd {
    /// When, by the relay's clock.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Whether there was a session: the destination let nobody in otherwise, and there is nothing to keep.
    pub began: bool,
    /// Whether everything is recorded that was to be.
    pub complete: bool,
    /// Why it ended.
    pub reason: String,
    /// With which status the command ended, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// Pieces that were told.
    pub chunks: u64,
    /// The hash over all of them ([`chain`] by the server's count, which has to be the same).
    #[schema(value_type = String)]
    pub chain: Digest,
    /// What the user saw.
    pub output: Passed,
    /// SHA-256 of what the user saw, byte by byte, also where it was left out.
    #[schema(value_type = String)]
    pub output_sha256: Digest,
    /// What the user sent. Its bytes are counted, and recorded only where the tenant says so or nothing shows them.
    pub input: Passed,
    /// SHA-256 of what the user sent, byte by byte, where it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub input_sha256: Option<Digest>,
}

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// The session goes on.
    Open,
    /// It ended.
    Ended,
    /// It ended, or the recording did before it, and not everything is recorded.
    CutOff,
}

/// A recording.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Recording {
    /// Its id.
    #[schema(value_type = String)]
    pub id: RecordingId,
    /// How far it is.
    pub state: RecordingState,
    /// Whose session it is.
    pub user: String,
    /// The same by id.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// Whether this server knows that the session was theirs. Otherwise it is the relay's word.
    pub user_known: bool,
    /// The session that let them in.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// The id of the token or the certificate.
    pub token: String,
    /// The grants that they held there in that role when it began.
    pub grants: Vec<String>,
    /// From where, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<IpAddr>,
    /// Where.
    #[schema(value_type = String)]
    pub destination: DestinationId,
    /// The name that it had then.
    pub destination_name: String,
    /// As what they came.
    pub role: String,
    /// What they did.
    pub target: RecordingTarget,
    /// The id of the call in the other records.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call: String,
    /// Who recorded.
    #[schema(value_type = String)]
    pub relay: RelayId,
    /// Whether what was typed, or sent without a terminal, is in it.
    pub input: bool,
    /// When the session began, by the relay's clock.
    #[schema(value_type = String)]
    pub began_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// With which status the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// Pieces that are kept.
    pub chunks: u64,
    /// Bytes of asciicast.
    pub bytes: u64,
    /// Bytes that went by and were left out.
    pub left_out: u64,
    /// SHA-256 of the asciicast, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub sha256: Option<Digest>,
    /// The signed statement about it, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub evidence: Option<EvidenceId>,
    /// When it is deleted, by the policy as it is now.
    #[schema(value_type = String)]
    pub kept_until: Timestamp,
}
