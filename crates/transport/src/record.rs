//! What was asked, and what was answered: the process half of evidence.

use std::sync::Mutex;

use bytes::Bytes;
use domain::{Digest, ScopeId, Timestamp};
use serde::{Deserialize, Serialize};

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

/// One call: in order, also when it failed.
#[derive(Debug, Clone)]
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
