//! The coverage ledger: what each source last said of each scope, and what its newest job left out.

use std::fmt;
use std::str::FromStr;

use access::ops;
use domain::{EvidenceId, JobId, Result, Timestamp};
use uuid::Uuid;

use crate::Page;
use crate::db::{Row, args};
use crate::unit::Read;

/// What a source last said of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Who read it.
    pub source: String,
    /// What was read.
    pub scope: String,
    /// `not_tried` where a newer job of this source and credential has ended without reading it, `unfinished` where no reading has come to
    /// its end yet, else as `last_verdict`.
    pub verdict: String,
    /// How much the last reading saw: `complete`, `unchanged`, `partial`, `denied`, `throttled`, `failed`, `absent`.
    pub last_verdict: String,
    /// How many readings of it came to their end.
    pub generation: u64,
    /// Why not all.
    pub reason: Option<String>,
    /// When it was last read.
    pub tried_at: Timestamp,
    /// When it was last read completely, alone: until then everything that is open in it was there.
    pub complete_at: Option<Timestamp>,
    /// By which job.
    pub job: Option<JobId>,
    /// The signed statement of that reading.
    pub evidence: Option<EvidenceId>,
}

/// Which rows of the ledger.
#[derive(Debug, Clone, Default)]
pub struct LedgerFilter {
    /// Only of this source.
    pub source: Option<String>,
    /// Only scopes that begin so.
    pub scope: Option<String>,
    /// Only of this kind: what stands behind the scope's last colon.
    pub kind: Option<String>,
    /// Only with this verdict.
    pub verdict: Option<String>,
}

/// Where a row stands in the ledger: by scope, then by source. Neither holds a blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerKey {
    scope: String,
    source: String,
}

impl fmt::Display for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.scope, self.source)
    }
}

impl FromStr for LedgerKey {
    type Err = domain::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (scope, source) =
            text.split_once(' ').ok_or_else(|| domain::Error::invalid("page", "no place in the ledger"))?;
        Ok(Self { scope: scope.to_owned(), source: source.to_owned() })
    }
}

fn ledger_row(row: &Row) -> Result<LedgerRow> {
    Ok(LedgerRow {
        source: row.text(0)?,
        scope: row.text(1)?,
        verdict: row.text(2)?,
        last_verdict: row.text(3)?,
        reason: row.opt_text(4)?,
        tried_at: row.time(5)?,
        complete_at: row.opt_time(6)?,
        job: row.opt_uuid(7)?.map(JobId::from_uuid),
        evidence: row.opt_uuid(8)?.map(EvidenceId::from_uuid),
        generation: row.i64(9)?.unsigned_abs(),
    })
}

/// The newest job that has ended of each plugin and credential; what it did not read of what they read before was not tried.
const LEDGER: &str = "WITH newest AS ( \
       SELECT plugin, COALESCE(credential_id, $2) AS credential, COALESCE(relay_id, $2) AS relay, MAX(created_at) AS at FROM job \
       WHERE tenant_id = $1 AND status IN ('completed', 'partial', 'failed') GROUP BY plugin, COALESCE(credential_id, $2), COALESCE(relay_id, $2)), \
     ledger AS ( \
       SELECT s.source, s.scope, CASE WHEN n.at > j.created_at THEN 'not_tried' ELSE s.verdict END AS verdict, s.verdict AS last_verdict, s.reason, \
         s.seen_at, s.complete_at, c.job_id, c.evidence_id, s.ended \
       FROM scope s \
       LEFT JOIN collection c ON c.tenant_id = s.tenant_id AND c.id = s.collection_id \
       LEFT JOIN job j ON j.tenant_id = c.tenant_id AND j.id = c.job_id \
       LEFT JOIN newest n ON n.plugin = j.plugin AND n.credential = COALESCE(j.credential_id, $2) AND n.relay = COALESCE(j.relay_id, $2) \
       WHERE s.tenant_id = $1 AND (s.scope > $3 OR (s.scope = $3 AND s.source > $4)) \
         AND ($5 = '' OR s.source = $5) AND substr(s.scope, 1, length($6)) = $6 \
         AND ($7 = '' OR s.scope = $7 OR substr(s.scope, length(s.scope) - length($7)) = ':' || $7)) \
     SELECT source, scope, verdict, last_verdict, reason, seen_at, complete_at, job_id, evidence_id, ended FROM ledger \
     WHERE ($8 = '' OR verdict = $8) ORDER BY scope, source LIMIT $9";

impl Read<ops::CoverageList> {
    /// The ledger, by scope and source.
    pub async fn coverage_list(
        &mut self,
        filter: &LedgerFilter,
        after: Option<LedgerKey>,
        limit: u32,
    ) -> Result<Page<LedgerRow, LedgerKey>> {
        let tenant = self.tenant();
        let (scope, source) = after.map_or_else(Default::default, |key| (key.scope, key.source));
        let rows = self
            .tx
            .rows(
                LEDGER,
                args![
                    tenant,
                    Uuid::nil(),
                    scope,
                    source,
                    filter.source.clone().unwrap_or_default(),
                    filter.scope.clone().unwrap_or_default(),
                    filter.kind.clone().unwrap_or_default(),
                    filter.verdict.clone().unwrap_or_default(),
                    i64::from(limit) + 1
                ],
            )
            .await?;
        let items = rows.iter().map(ledger_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &LedgerRow| LedgerKey {
            scope: row.scope.clone(),
            source: row.source.clone(),
        }))
    }
}
