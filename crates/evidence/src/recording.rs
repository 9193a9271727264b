//! The statement about a recording of a session.

use domain::{DestinationId, Digest, EvidenceId, RecordingId, RelayId, SessionId, TenantId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::statement::Subject;

/// Predicate type of [`RecordingStatement`].
pub const RECORDING_TYPE: &str = "https://cairn.dev/evidence/recording/v1";

/// Who did what where, as a relay recorded it, and whether all of it is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingStatement {
    /// The asciicast.
    #[serde(skip)]
    pub subjects: Vec<Subject>,
    /// Whose evidence it is.
    pub tenant: TenantId,
    /// Its id.
    pub evidence: EvidenceId,
    /// Which recording.
    pub recording: RecordingId,
    /// Whose session it was.
    pub user: UserId,
    /// Their login name.
    pub user_name: String,
    /// Whether the server knew the session to be theirs. Otherwise it is the relay's word.
    pub user_known: bool,
    /// The session that let them in.
    pub session: SessionId,
    /// Where.
    pub destination: DestinationId,
    /// The name that it had then.
    pub destination_name: String,
    /// What the relay said when it began (token, role, from where, which call, what was done), and the grants that gave the role.
    pub about: Value,
    /// The relay that recorded. What is recorded is its word.
    pub relay: RelayId,
    /// Whether what was typed, or sent without a terminal, is in it.
    pub input: bool,
    /// When it began, by the relay's clock.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether everything is recorded that was to be.
    pub complete: bool,
    /// Why it ended.
    pub reason: String,
    /// What else the relay said at the end: exit status, bytes that went by and were left out, SHA-256 of all that was shown.
    pub ending: Value,
    /// Pieces in which it came.
    pub chunks: u64,
    /// The hash over them: each link is SHA-256 of `cairn/recording/v1`, NUL, the link before (32 zero bytes at first) and the piece's SHA-256.
    pub chain: Digest,
    /// Bytes of asciicast.
    pub bytes: u64,
}
