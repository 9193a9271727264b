//! The only SQL: SQLite and PostgreSQL, migrations, transactions, the audit log, the vault, the job queue, the graph's rows, findings and
//! evidence.
//!
//! **Not for** decisions: who may (`access`), what changes (`inventory`, `compliance`), what a signature means (`evidence`).
//!
//! Invariants:
//! - a function that touches tenant data takes a [`access::Permit`]; the tenant comes from it and from nowhere else;
//! - on PostgreSQL row-level security says so too, under a role that owns nothing;
//! - a change is kept only by [`Write::commit`], with its audit record, in one transaction;
//! - one SQL text for both engines; what differs is in `db.rs` and `migrate.rs`.

mod api_key;
mod audit;
mod basis;
mod blob;
mod bulk;
mod cli_session;
mod collection;
mod db;
mod device;
mod evaluation;
mod finding;
mod graph;
mod ingest;
mod invitation;
mod job;
mod migrate;
mod open;
mod run;
mod schedule;
mod statement;
mod tenant;
mod unit;
mod user;
mod vault;
mod work;

use std::sync::Arc;

use domain::{Clock, Rng};

pub use api_key::{ApiKeyRow, ApiKeyState, FoundApiKey, LiveApiKey, NewApiKey, NewApiKeySecret};
pub use audit::{AuditFilter, AuditRecord, Category, Change, Outcome};
pub use cli_session::{CLI_SESSION_IDLE_MS, CLI_SESSION_MS, FoundCliSession, NewCliSession};
pub use collection::{CollectedCall, Collection, NewArtifact, NewStatement};
pub use device::{DEVICE_INTERVAL_MS, DEVICE_LOGIN_MS, DeviceLoginRow, DevicePoll, NewDeviceLogin};
pub use evaluation::{ControlFilter, ControlRow, EvaluationRow, FindingCounts, NewAssessment, ScopeStatement};
pub use finding::{FindingFilter, FindingKey, FindingRow, FindingSummary};
pub use graph::{EdgeDirection, EdgeFilter, EdgeRow, NodeCount, NodeFilter, NodeRow, NodeVersion, SnapshotItem};
pub use ingest::{Ingest, ScopeChanges};
pub use invitation::InvitationRow;
pub use job::{CoverageRow, JobDetail, JobFilter, JobRow, NewJob, TaskRow};
pub use open::OpenOptions;
pub use run::{Begun, NewTask, TaskOutcome, TaskRun};
pub use schedule::{NewSchedule, ScheduleRow};
pub use statement::{ArtifactRow, EvidenceFilter, EvidenceRow, Material, MaterialOf, StatementDetail};
pub use tenant::{MemberRow, Placed, TenantRow};
pub use unit::{PlatformWrite, Read, Write};
pub use user::{LiveSession, LoginUser, Membership, NewUser, UserRow};
pub use vault::CredentialRow;
pub use work::{ATTEMPTS_MAX, Claim, JobChange, JobChanges, Lease, WorkKind};

/// A handle on the database, the vault and the blobs; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    db: db::Db,
    master: crypto::aead::AeadKey,
    blobs: std::path::PathBuf,
    signals: work::Signals,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("engine", &self.inner.db.engine()).finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn db(&self) -> &db::Db {
        &self.inner.db
    }

    pub(crate) fn master(&self) -> &crypto::aead::AeadKey {
        &self.inner.master
    }

    /// The clock that it was opened with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The random source that it was opened with.
    pub fn rng(&self) -> &Arc<dyn Rng> {
        &self.inner.rng
    }
}

/// One page of a list and where the next one begins (keyset pagination).
#[derive(Debug, Clone)]
pub struct Page<T, K> {
    /// The items.
    pub items: Vec<T>,
    /// The key of the last item when there are more.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// Makes a page of at most `limit` items from a query that asked for one more.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> K) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = if items.len() > limit {
            items.truncate(limit);
            items.last().map(key)
        } else {
            None
        };
        Self { items, next }
    }
}
