//! Recording sessions: the seam between whoever carries one (a proxy) and whoever keeps recordings (a relay tells its server of them).
//!
//! ```text
//! let recording = recorder.begin(about).await?;    // Err: the session must not begin; its text is for the user
//! recording.resize(120, 40).await?;                // Err: close the session; its text is for the user
//! recording.output(bytes).await?;                  // before the bytes go on
//! recording.input(bytes).await?;
//! recording.exit(0);                               // where it is known
//! recording.end("the user left");                  // or drop it: "it was broken off"
//! ```
//!
//! Whoever carries the session calls these and obeys an error, and needs to know nothing of the tenant's policy: with `off` they do nothing, with
//! `best-effort` a failure ends the recording and never the session. [`Recording::fail`] is for a stream that cannot be understood, and
//! [`Recording::refused`] for a session that the destination did not let begin. All take `&self`, so both directions can share it.
//!
//! **Not for** telling the server (the other half is a [`Tape`], which the relay empties), nor for reading a protocol.
//!
//! Invariants:
//! - what is held of a recording, and of all of them together, is bounded: a session whose recording is not taken waits, and fails after a while;
//! - what goes on to the user was taken in before: a session that has to be recorded shows nothing that is not;
//! - what is typed on a terminal is not even held unless the tenant says so; without one nothing echoes it, and it is recorded;
//! - of what is sent to a session that has to be recorded nothing is left out, and a recording of which some is left out is not complete.

mod cast;
mod tape;

use async_trait::async_trait;
use domain::{DestinationId, SessionId, UserId};
use std::net::IpAddr;
use wire::recording::RecordingTarget;

pub use self::cast::Header;
pub use self::tape::{Piece, Recording, Room, Summary, Tape};

/// A session that is to be recorded.
#[derive(Debug, Clone)]
pub struct About {
    /// Where.
    pub destination: DestinationId,
    /// Whose it is, by the token or certificate that they showed.
    pub user: String,
    /// The same by id.
    pub user_id: UserId,
    /// The session that let them in.
    pub session: SessionId,
    /// The id of the token or certificate.
    pub token: String,
    /// As what they came.
    pub role: String,
    /// From where, as far as is known.
    pub from: Option<IpAddr>,
    /// The id of the call or connection in the other records; empty where it has none.
    pub call: String,
    /// What they do.
    pub target: RecordingTarget,
}

/// Why a session must not begin, or not go on. The words are for its user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this session has to be recorded, and cannot be: {0}")]
pub struct Unrecorded(pub String);

/// Keeps recordings.
#[async_trait]
pub trait Recorder: Send + Sync {
    /// Begins the recording of a session, before anything of it goes on.
    async fn begin(&self, about: About) -> Result<Recording, Unrecorded>;
}

/// Records nothing: where nobody keeps recordings.
#[derive(Debug)]
pub struct Nowhere;

#[async_trait]
impl Recorder for Nowhere {
    async fn begin(&self, _: About) -> Result<Recording, Unrecorded> {
        Ok(Recording::none())
    }
}
