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

mod access_file;
mod access_file_apply;
mod access_file_host;
mod access_record;
mod access_request;
mod access_review;
mod access_view;
mod api_key;
mod at_once;
mod audit;
mod backup;
mod basis;
mod blob;
mod bulk;
mod changes;
mod checkpoint;
mod cli_session;
mod collection;
mod condition;
mod coverage;
mod db;
mod destination;
mod destination_node;
mod device;
mod eligible;
mod enrollment;
mod evaluation;
mod everybody;
mod factor;
mod federation;
mod finding;
mod finding_change;
mod finding_group;
mod finding_node;
mod fleet;
mod fleet_credential;
mod fleet_memory;
mod forward;
mod gather;
mod grant;
mod grant_end;
mod graph;
mod graph_draw;
mod graph_map;
mod group;
mod group_role;
mod host_set;
mod identity;
mod ingest;
mod invitation;
mod job;
mod job_line;
mod known;
mod log;
mod log_check;
mod log_sign;
mod migrate;
mod open;
mod packed;
mod policy;
mod posture;
mod prove;
mod provider;
mod reach;
mod recording;
mod recording_read;
mod relay;
mod relay_policy;
mod remembered;
mod report;
mod restore;
mod review_end;
mod run;
mod schedule;
mod scim;
mod second_step;
mod selector;
mod server_peer;
mod session;
mod sign_in;
mod signal;
mod ssh_access;

mod ssh_host_key;
mod ssh_session;
mod ssh_session_lost;
mod ssh_way;
mod statement;
mod table;
mod target_policy;
mod tenant;
mod tunnel;
mod unit;
mod user;
mod validation;
mod vault;
mod witness;
mod work;

use std::sync::Arc;

use domain::{Clock, Rng};

pub use access_file::{AccessFile, FileChange, FileGroup, FileOptions, FilePlan};
pub use access_file_host::FileHost;
pub use access_record::{CallBatch, ClusterCall};
pub use access_request::{AccessPolicy, GlassPolicy, NO_GLASS, NewRequest, RequestRow, RequestState};
pub use access_review::{NewReview, ReviewDecision, ReviewItemRow, ReviewRow, ReviewScope};
pub use access_view::{Reached, ReachedKey, Reacher, ReacherKey};
pub use api_key::{ApiKeyRow, ApiKeyState, FoundApiKey, LiveApiKey, NewApiKey, NewApiKeySecret};
pub use audit::{AuditFilter, AuditRecord, Category, Change, Outcome};
pub use backup::{Artifact, Backup, schema_of};
pub use basis::StandingJudgement;
pub use blob::artifact_path;
pub use changes::{AccessNumbers, COUNTED, FailedJob, FindingChanges, NodeChanges, UnitChange, since as changes_since};
pub use checkpoint::{Checkpoint, NewCheckpoint};
pub use cli_session::{CLI_SESSION_IDLE_MS, CLI_SESSION_MS, FoundCliSession, NewCliSession};
pub use collection::{Collection, NewArtifact, NewStatement};
pub use condition::Versioned;
pub use coverage::{LedgerFilter, LedgerKey, LedgerRow};
pub use destination::{DestinationChange, DestinationRow, NewDestination};
pub use device::{DEVICE_INTERVAL_MS, DEVICE_LOGIN_MS, DeviceLoginRow, DevicePoll, NewDeviceLogin};
pub use enrollment::{
    Enrollment, EnrollmentTokenRow, EnrollmentTokenState, FoundEnrollmentToken, NewEnrollmentToken, NewFleetCredential,
    NewUnit,
};
pub use evaluation::{
    CONTROL_BASIS, ControlFilter, ControlJudgement, ControlRow, EvaluationRow, FindingCounts, NewAssessment,
    ScopeStatement,
};
pub use factor::{FactorRow, NewPasskey};
pub use finding::{FindingFilter, FindingKey, FindingRow, FindingSummary, TypeRules};
pub use finding_change::{FINDINGS_MATCHED, FINDINGS_NAMED, FindingChanging, FindingSelection, FindingVerb, Selected};
pub use finding_group::{FindingGroup, FindingGroupKey, GroupBy, GroupNode};
pub use fleet::{FleetEndings, UnitRow, UnitState};
pub use fleet_credential::{CloneSign, FoundUnit, LiveUnit, Seen};
pub use forward::{ForwardClaim, ForwardPlace};
pub use grant::{GrantFilter, GrantOrigin, GrantRow, NewGrant, SubjectName, TargetName};
pub use graph::{
    EdgeDirection, EdgeFilter, EdgeRow, NodeCount, NodeFilter, NodeRow, NodeSource, NodeVersion, SnapshotItem,
};
pub use graph_draw::{Asked, Charted, Drawing, Expansion, NeighborCard, NodeCard, NodeFind, PathFound, Reach};
pub use group::{FedBy, GroupMemberRow, GroupRow};
pub use group_role::GroupRoleRow;
pub use host_set::{ByLabels, HostSetRow};
pub use identity::{DueIdentity, LinkRefusal, Proved};
pub use ingest::{Gone, Ingest, ScopeChanges};
pub use invitation::InvitationRow;
pub use job::{CoverageRow, JobDetail, JobFilter, JobRow, NewJob, Purpose, ScopeFilter, ScopeKey, ScopeRow, TaskRow};
pub use job_line::{JobLineRow, LineFilter};
pub use log::LogReader;
pub use log_check::{LogFault, LogFindings};
pub use log_sign::SignedCheckpoint;
pub use migrate::Schema;
pub use open::OpenOptions;
pub use posture::{PostureDay, PostureRow, Standing as PostureStanding};
pub use prove::{Attempt, FactorProof, PasskeyAnswer};
pub use provider::{NewProvider, ProviderChange, ProviderRow};
pub use reach::{AccessChanges, DestinationTokenRow, Standing};
pub use recording::{NewRecording, RecordingPolicy, RecordingRow};
pub use recording_read::{
    RECORDINGS_AT_ONCE, RecordingEnding, RecordingFilter, RecordingKey, RecordingMaterial, RecordingOver,
    RecordingReader, RecordingSignatures,
};
pub use relay::{RelayLink, RelayTaskRow};
pub use relay_policy::RelayPolicy;
pub use report::{ReportBegun, ReportLease, ReportPermit, ReportState};
pub use restore::{Restore, Restored};
pub use review_end::REVIEW_CONTROLS;
pub use run::{Begun, NewTask, Reading, TaskOutcome, TaskProgress, TaskRun};
pub use schedule::{NewSchedule, ScheduleChange, ScheduleRow};
pub use scim::{NewScimGroup, NewScimUser, ScimFilter, ScimGroupRow, ScimPage, ScimUserRow};
pub use second_step::{Finished, PendingSignIn, SignInMethods};
pub use server_peer::{PEER_LEASE_MS, PeerKey, ServerPeer};
pub use session::{LiveSession, SessionRow, SessionStart};
pub use ssh_access::{NewSshHost, SshAuthority, SshCertificateRow, SshHostRow, Way};
pub use ssh_host_key::{HostKeyOrigin, SshHostKeyRow, SshTarget};
pub use ssh_session::{NewSshSession, SshSessionBegun, SshSessionEnding, SshSessionRow};
pub use ssh_way::SshListens;
pub use statement::{ArtifactRow, EvidenceFilter, EvidenceRow, Material, MaterialOf, StatementDetail};
pub use tenant::{MemberRow, NameRow, Placed, TenantRow};
pub use unit::{PlatformWrite, Read, Write};
pub use user::{LoginUser, Membership, NewUser, UserRow};
pub use validation::{NewValidation, NewestValidation, ValidationRow};
pub use vault::{
    CredentialRow, CredentialView, DataKeyRow, DataKeys, Resealed, RotationOf, SigningKeyRow, TokenKeys, VaultOptions,
    key_fingerprint, sealed_columns,
};
pub use witness::WitnessRow;
pub use work::{ATTEMPTS_MAX, Claim, JobChange, JobChanges, Lease, WorkKind};

/// A handle on the database, the vault and the blobs; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    db: db::Db,
    vault: vault::Slot,
    blobs: std::path::PathBuf,
    /// Set by [`Store::open`] before anybody has the store.
    log: std::sync::OnceLock<log_sign::LogKey>,
    signals: work::Signals,
    endings: fleet::Endings,
    /// Those who ask at the same moment about agents and relays, and what they are told.
    finds: gather::Gather<fleet_credential::Question, FoundUnit>,
    grants_counted: grant::Counted,
    sightings: gather::Gather<fleet_credential::SeenAgain, bool>,
    fleet: fleet_memory::FleetMemory,
    /// Whose sessions and keys were asked for.
    sessions: remembered::Answers<domain::SessionId, session::Found>,
    cli_sessions: remembered::Answers<String, FoundCliSession>,
    api_keys: remembered::Answers<String, api_key::Found>,
    only_writer: std::sync::atomic::AtomicBool,
    reports: gather::Gather<report::Question, ReportState>,
    maps: graph_map::Maps,
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

    pub(crate) fn vault(&self) -> &vault::Vault {
        self.inner.vault.vault()
    }

    pub(crate) fn slot(&self) -> &vault::Slot {
        &self.inner.vault
    }

    #[expect(clippy::expect_used, reason = "`open` sets it before it hands the store out")]
    pub(crate) fn log_signing(&self) -> &log_sign::LogKey {
        self.inner.log.get().expect("the log key is there once the store is open")
    }

    /// Says that no other process writes this database while this one lives, which SQLite itself does not see to: then what was read is good until
    /// this process changes something.
    pub fn only_writer(&self) {
        self.inner.only_writer.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Names the state that a look which begins now sees, at least; none where others write too.
    pub(crate) fn written_state(&self) -> Option<u64> {
        let alone = self.inner.only_writer.load(std::sync::atomic::Ordering::Relaxed);
        alone.then(|| self.db().state()).flatten()
    }

    /// Whether other servers may use the same database: SQLite is for one.
    pub fn is_shared(&self) -> bool {
        self.inner.db.engine() == db::Engine::Pg
    }

    /// Host and port of PostgreSQL, as it is connected to; `localhost` where that is a socket in a folder. None: the database is a file.
    pub fn database_place(&self) -> Option<(String, u16)> {
        self.inner.db.place()
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
