//! Where audit records are sent, and how far each place has come.

use domain::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A place that audit records are sent to. The configuration says where; this says how it is doing.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Forward {
    /// Its name in the configuration.
    pub name: String,
    /// `syslog` or `splunk-hec`.
    pub kind: String,
    /// Where it is: scheme, host and port.
    pub address: String,
    /// `jsonl`, `cef` or `ocsf`.
    pub format: String,
    /// Records that it has taken.
    pub delivered: u64,
    /// Records that wait for it.
    pub waiting: u64,
    /// The most deliveries in a row that failed, of its logs; 0 where all goes well.
    pub failures: u64,
    /// Why the last one of these failed.
    pub error: Option<String>,
    /// When it last took something.
    #[schema(value_type = Option<String>)]
    pub delivered_at: Option<Timestamp>,
    /// Each log that goes there.
    pub logs: Vec<ForwardLog>,
}

/// How far one log has come.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct ForwardLog {
    /// The tenant's slug, or `platform` for the installation's own log.
    pub log: String,
    /// Its records that were taken.
    pub delivered: u64,
    /// Its records that wait.
    pub waiting: u64,
    /// Deliveries in a row that failed.
    pub failures: u64,
    /// Why the last one failed.
    pub error: Option<String>,
    /// When something of it was last taken.
    #[schema(value_type = Option<String>)]
    pub delivered_at: Option<Timestamp>,
}
