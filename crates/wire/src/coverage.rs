//! The coverage ledger.

use domain::{EvidenceId, JobId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a source last said of a scope.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct CoverageEntry {
    /// Who reads it: a plugin (`aws`), a plugin on a relay (`network-scan@rly_…`), the agent of a machine (`agent/6f1c…`).
    pub source: String,
    /// What is read, e.g. `aws:123456789012:eu-west-1:ec2.instances`.
    pub scope: String,
    /// What kind of thing that is: what stands behind the scope's last colon.
    pub kind: String,
    /// `complete`, `unchanged` (since a reading that saw all of it), `partial`, `denied`, `throttled`, `failed`, `absent` (the source has no such
    /// thing), `unfinished` (no reading has come to its end yet), or `not_tried`: the newest job of this source and credential left it out.
    pub verdict: String,
    /// The verdict of the last reading, also where it is not the newest job's.
    pub last_verdict: String,
    /// How many readings of it by this source came to their end: two entries with one number show the same reading.
    #[serde(default)]
    #[schema(required = true)]
    pub generation: u64,
    /// Why not all was read.
    pub reason: Option<String>,
    /// When it was last read.
    #[schema(value_type = String)]
    pub tried_at: Timestamp,
    /// When it was last read completely, by one run alone. Only then is closed what is gone.
    #[schema(value_type = Option<String>)]
    pub complete_at: Option<Timestamp>,
    /// The job that last read it.
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// The signed statement of that reading.
    #[schema(value_type = Option<String>)]
    pub evidence: Option<EvidenceId>,
}
