//! What this machine remembers of audit logs: the key that each was first seen with, and the newest checkpoint.
//!
//! Trust on first use: a log that comes back with another key, or with less than was seen of it, is refused.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use domain::Digest;
use evidence::checkpoint::Checkpoint;
use evidence::note::Note;
use serde::{Deserialize, Serialize};

use crate::config::replace;
use crate::failure::{Exit, Failure, Result};

/// One log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The log key's fingerprint.
    pub(crate) key: Digest,
    /// The newest checkpoint that was seen and verified.
    pub(crate) checkpoint: String,
}

impl Seen {
    /// The checkpoint, where it is one of that log by that key.
    pub(crate) fn note(&self) -> Option<Note> {
        self.checkpoint.parse().ok()
    }
}

/// `logs.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    logs: BTreeMap<String, Seen>,
}

impl Memory {
    /// Reads the file in `home`; a file that is not there is an empty one.
    pub(crate) fn load(home: &Path) -> Result<Self> {
        let path = home.join("logs.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| Failure::file("understand", &path, e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Failure::file("read", &path, e)),
        }
    }

    /// What was seen of a log.
    pub(crate) fn of(&self, origin: &str) -> Option<&Seen> {
        self.logs.get(origin)
    }

    /// Refuses a key that is not the one that the log was first seen with.
    pub(crate) fn check_key(&self, origin: &str, key: Digest) -> Result {
        match self.of(origin) {
            Some(seen) if seen.key != key => Err(Failure::new(format!(
                "THE KEY OF THE LOG {} HAS CHANGED: remembered is {}, shown is {key}",
                origin.escape_debug(),
                seen.key
            ))
            .hint("whoever changed it can have changed the log; where the administrator confirms it, give it as --key-fingerprint")
            .exit(Exit::NotVerified)),
            _ => Ok(()),
        }
    }

    /// Remembers a checkpoint that was verified, if it is of more than is remembered.
    pub(crate) fn keep(&mut self, home: &Path, key: Digest, checkpoint: &Checkpoint, note: &Note) -> Result {
        let known = self.of(checkpoint.origin.as_str()).filter(|seen| seen.key == key);
        let known = known.and_then(Seen::note).and_then(|note| Checkpoint::of(&note).ok());
        if known.is_some_and(|known| known.size >= checkpoint.size) {
            return Ok(());
        }
        self.logs.insert(checkpoint.origin.to_string(), Seen { key, checkpoint: note.to_string() });
        let path = home.join("logs.json");
        let write = || -> std::io::Result<()> {
            let mut text = serde_json::to_vec_pretty(self)?;
            text.push(b'\n');
            replace(&path, |file| file.write_all(&text), true)
        };
        write().map_err(|e| Failure::file("write", &path, e))
    }
}
