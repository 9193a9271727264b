//! Recordings of sessions: what a tenant may want, their limits, and the hash that chains their pieces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error};

/// Longest piece that is told at once, in bytes.
pub const CHUNK_BYTES_MAX: usize = 256 * 1_024;
/// Longest recording, in bytes of asciicast.
pub const BYTES_MAX: u64 = 64 * 1_024 * 1_024;
/// Longest time that one recording goes on, in milliseconds: a day.
pub const DURATION_MS_MAX: u64 = 24 * 3_600_000;
/// A recording of which nothing is heard for so long is cut off, in milliseconds. A relay gives a sign of life much more often.
pub const SILENCE_MS_MAX: i64 = 10 * 60_000;
/// How long recordings are kept unless the tenant says otherwise, in days: a little more than a year, so that a yearly audit finds all of them.
pub const RETENTION_DAYS: u32 = 400;
/// The longest that they can be kept, in days: a hundred years.
pub const RETENTION_DAYS_MAX: u32 = 36_500;

/// Whether sessions are recorded, and what becomes of one that cannot be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingMode {
    /// They are not.
    Off,
    /// They are; one that cannot be recorded goes on, and the audit log says so.
    #[default]
    BestEffort,
    /// They are; one that cannot be recorded does not begin, or is closed.
    Required,
}

impl RecordingMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Off, Self::BestEffort, Self::Required];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::BestEffort => "best-effort",
            Self::Required => "required",
        }
    }
}

impl fmt::Display for RecordingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RecordingMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            Error::invalid("mode", format!("`{}` is none of `off`, `best-effort` and `required`", text.escape_debug()))
        })
    }
}

/// Before the first piece.
pub const CHAIN_BEGIN: Digest = Digest([0; 32]);

/// What is hashed for a chain's next link: the link before it and the digest of the piece.
pub fn chain(before: &Digest, chunk: &Digest) -> Vec<u8> {
    [b"cairn/recording/v1\0".as_slice(), before.as_bytes(), chunk.as_bytes()].concat()
}
