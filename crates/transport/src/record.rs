//! What was asked, and what was answered: the process half of evidence.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use domain::{Clock, Digest, ScopeId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::call::{CallError, CallTag, DirEntry, FileStat, Socket};

/// The request of a call, without anything secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// `aws`, `file`, `command`, `netlink`.
    pub system: String,
    /// Where it went: an origin such as `https://ec2.us-east-1.amazonaws.com`, or a host id.
    pub endpoint: String,
    /// The operation, path or argv.
    pub operation: String,
    /// SHA-256 of the request's parameters (query and body, before signing).
    pub params_digest: Digest,
}

/// The answer of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseRecord {
    /// HTTP status; 200 for files and commands that could be read.
    pub status: u16,
    /// The `Date` header, where there is one.
    pub date: Option<String>,
    /// The target's own request id, where there is one.
    pub request_id: Option<String>,
    /// SHA-256 of the body.
    pub digest: Digest,
    /// Bytes of the body.
    pub size: u64,
    /// SHA-256 of the server's TLS leaf certificate, where the connection had one.
    pub tls_leaf: Option<Digest>,
}

/// One call: in order, also when it failed. A relay sends it as it is, and the bytes beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The scope that it was made for.
    pub scope: ScopeId,
    /// The one resource that it asked about, if any.
    pub about: Option<String>,
    /// What was asked.
    pub request: RequestRecord,
    /// What was answered, or why nothing was.
    pub outcome: Result<ResponseRecord, String>,
    /// When the first try began.
    pub started: Timestamp,
    /// When the last try ended.
    pub finished: Timestamp,
    /// Tries beyond the first.
    pub retries: u32,
    /// The raw bytes, where evidence needs them.
    #[serde(skip)]
    pub kept: Option<Bytes>,
}

/// Collects a task's records; the task's runner takes them out by scope when the scope is done.
#[derive(Debug, Default)]
pub struct Recorder {
    records: Mutex<Vec<CallRecord>>,
}

impl Recorder {
    /// Adds a record.
    pub fn push(&self, record: CallRecord) {
        self.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(record);
    }

    /// Takes the records of one scope, in the order in which they were made.
    pub fn take(&self, scope: &ScopeId) -> Vec<CallRecord> {
        let mut records = self.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (taken, left) = records.drain(..).partition(|record| record.scope == *scope);
        *records = left;
        taken
    }
}

/// What a call to a host asked, for its record.
pub(crate) struct Asked<'a> {
    pub(crate) system: &'static str,
    pub(crate) operation: String,
    pub(crate) tag: &'a CallTag,
    pub(crate) started: Timestamp,
}

/// The records of calls to one host.
pub(crate) struct HostRecords {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) recorder: Arc<Recorder>,
    /// The host in records.
    pub(crate) endpoint: String,
}

impl HostRecords {
    pub(crate) fn asked<'a>(&self, system: &'static str, operation: impl Into<String>, tag: &'a CallTag) -> Asked<'a> {
        Asked { system, operation: operation.into(), tag, started: self.clock.now() }
    }

    pub(crate) fn push(&self, asked: Asked<'_>, finished: Timestamp, outcome: Result<(&Bytes, Digest), &CallError>) {
        let kept = outcome.ok().filter(|_| asked.tag.keep).map(|(body, _)| body.clone());
        let outcome = outcome.map(|(body, digest)| (u64::try_from(body.len()).unwrap_or(u64::MAX), digest));
        self.push_sized(asked, finished, outcome, kept);
    }

    /// Records a call by the size and the digest of what was read.
    pub(crate) fn push_sized(
        &self,
        asked: Asked<'_>,
        finished: Timestamp,
        outcome: Result<(u64, Digest), &CallError>,
        kept: Option<Bytes>,
    ) {
        let Asked { system, operation, tag, started } = asked;
        let outcome = outcome.map_err(ToString::to_string).map(|(size, digest)| ResponseRecord {
            status: 200,
            date: None,
            request_id: None,
            digest,
            size,
            tls_leaf: None,
        });
        let params_digest = crypto::sha256(operation.as_bytes());
        self.recorder.push(CallRecord {
            scope: tag.scope.clone(),
            about: tag.about.clone(),
            request: RequestRecord {
                system: system.to_owned(),
                endpoint: self.endpoint.clone(),
                operation,
                params_digest,
            },
            outcome,
            started,
            finished,
            retries: 0,
            kept,
        });
    }

    /// Records a small fact as text: what evidence keeps of a call that returns no bytes.
    pub(crate) fn fact<T>(
        &self,
        asked: Asked<'_>,
        finished: Timestamp,
        result: Result<T, CallError>,
        text: impl FnOnce(&T) -> String,
    ) -> Result<T, CallError> {
        match &result {
            Ok(value) => {
                let body = Bytes::from(text(value));
                self.push(asked, finished, Ok((&body, crypto::sha256(&body))));
            }
            Err(error) => self.push(asked, finished, Err(error)),
        }
        result
    }
}

/// A directory as evidence keeps it.
pub(crate) fn entries_text(entries: &[DirEntry]) -> String {
    entries.iter().map(|entry| format!("{:?} {}\n", entry.kind, entry.name).to_lowercase()).collect()
}

/// A file's metadata as evidence keeps it.
pub(crate) fn stat_text(s: &FileStat) -> String {
    format!("kind={:?} mode={:04o} uid={} gid={} size={} mtime={}\n", s.kind, s.mode, s.uid, s.gid, s.size, s.mtime_s)
        .to_lowercase()
}

/// The table of sockets as evidence keeps it.
pub(crate) fn sockets_text(list: &[Socket]) -> String {
    list.iter().fold(String::new(), |mut text, s| {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{} {} {} {} uid={} inode={}", s.protocol, s.state, s.local, s.remote, s.uid, s.inode);
        text
    })
}
