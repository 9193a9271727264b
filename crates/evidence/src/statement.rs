//! What is signed: in-toto Statements (v1) about a collection, a judgement, a recording or a bundle.
//!
//! A statement's JSON is canonical ([`crate::jcs`]); reading one refuses any other spelling, and with it repeated members and trailing
//! bytes. Members that this version does not know are kept out of the way, as in-toto asks, so that later versions may add some.

use domain::{
    AccessReviewId, AgentId, Coverage, Digest, EvidenceId, FindingId, JobId, NodeId, RelayId, ScopeId, TaskId,
    TenantId, Timestamp, UserId,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::artifact::blob_path;
use crate::jcs;
use crate::recording::{RECORDING_TYPE, RecordingStatement};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Predicate type of [`CollectionStatement`].
pub const COLLECTION_TYPE: &str = "https://cairn.dev/evidence/collection/v1";
/// Predicate type of [`AssessmentStatement`].
pub const ASSESSMENT_TYPE: &str = "https://cairn.dev/evidence/assessment/v1";
/// Predicate type of [`BundleStatement`].
pub const BUNDLE_TYPE: &str = "https://cairn.dev/evidence/bundle/v1";
/// Predicate type of [`ReviewStatement`].
pub const REVIEW_TYPE: &str = "https://cairn.dev/evidence/access-review/v1";
/// Most node ids that a statement lists; the total is always given.
pub const NODES_MAX: usize = 1_000;

/// Why bytes are not a statement that this program accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The signature is not of these bytes by this key.
    #[error("the signature does not verify with this key")]
    Signature,
    /// The signed bytes are not a DSSE encoding of an in-toto statement.
    #[error("the signed bytes are not a DSSE encoding of an in-toto statement")]
    Encoding,
    /// The body is not a statement of a known type in canonical JSON.
    #[error("the statement is malformed: {0}")]
    Malformed(String),
    /// It has no canonical form.
    #[error(transparent)]
    Canonical(#[from] jcs::JcsError),
}

/// A file that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its path in a bundle.
    pub name: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

impl Subject {
    /// An artifact, under its place in the blob store.
    pub fn artifact(digest: Digest) -> Self {
        Self { name: blob_path(&digest), digest }
    }
}

#[derive(Serialize, Deserialize)]
struct Sha256Set {
    sha256: Digest,
}

#[derive(Serialize, Deserialize)]
struct SubjectForm {
    name: String,
    digest: Sha256Set,
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SubjectForm { name: self.name.clone(), digest: Sha256Set { sha256: self.digest } }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SubjectForm::deserialize(deserializer).map(|form| Self { name: form.name, digest: form.digest.sha256 })
    }
}

/// What kind of thing was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// Replies of an API.
    ApiResponse,
    /// Configuration files or settings.
    Config,
    /// Output of a scanner or a command.
    Scan,
    /// Asked, and nothing was there.
    NullResult,
}

impl EvidenceKind {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiResponse => "api-response",
            Self::Config => "config",
            Self::Scan => "scan",
            Self::NullResult => "null-result",
        }
    }
}

/// Where it was collected from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `aws`, `host`, …
    pub system: String,
    /// Account or tenant at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Region at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Origins or hosts that were asked, sorted.
    pub endpoints: Vec<String>,
    /// SHA-256 of the servers' leaf certificates, sorted.
    pub tls_leaf_sha256: Vec<Digest>,
}

/// One call to the source, in the order of making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Operation, path or argv.
    pub operation: String,
    /// SHA-256 of the parameters.
    pub params_digest: Digest,
    /// What was answered; absent when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
    /// Why nothing was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Tries beyond the first.
    pub retries: u32,
    /// When the first try began.
    pub started: Timestamp,
    /// When the last try ended.
    pub finished: Timestamp,
}

/// The answer to one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// HTTP status; 200 for files and commands that could be read.
    pub status: u16,
    /// The `Date` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The source's own request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// SHA-256 of the body, kept or not.
    pub digest: Digest,
    /// Bytes of the body.
    pub size: u64,
}

/// Some node ids and how many there are in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeList {
    /// The first [`NODES_MAX`] ids in order.
    pub ids: Vec<NodeId>,
    /// All of them, listed or not.
    pub total: u64,
}

impl NodeList {
    /// Sorts, removes repetitions, counts, and keeps the first [`NODES_MAX`].
    pub fn new(ids: impl IntoIterator<Item = NodeId>) -> Self {
        let mut ids: Vec<NodeId> = ids.into_iter().collect();
        ids.sort();
        ids.dedup();
        let total = ids.len() as u64;
        ids.truncate(NODES_MAX);
        Self { ids, total }
    }
}

/// The program that collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// Program or plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the running binary.
    pub artifact_sha256: Digest,
    /// SHA-256 of the configuration that it ran with.
    pub config_sha256: Digest,
    /// The machine that it ran on.
    pub host: String,
    /// The relay that ran it, where it was not the server. `artifact_sha256` and `host` are what the relay says of itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayId>,
}

/// When it was collected, and by whose clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// When the first call began.
    pub started: Timestamp,
    /// When the last call ended.
    pub finished: Timestamp,
    /// Where the time came from, e.g. `system`.
    pub clock_source: String,
    /// Our clock minus the reference's, in milliseconds, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_ms: Option<i64>,
}

/// What a reading that showed only differences rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The reading before, in the same words as a judgement's input. Together they say what the scope held.
    #[serde(flatten)]
    pub statement: Input,
    /// The nodes that are gone since.
    pub gone: NodeList,
    /// How many edges are.
    pub edges_gone: u64,
}

/// How one scope was collected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectionStatement {
    /// The kept artifacts.
    #[serde(skip)]
    pub subjects: Vec<Subject>,
    /// Whose evidence it is.
    pub tenant: TenantId,
    /// Its id.
    pub evidence: EvidenceId,
    /// What kind of thing was collected.
    pub kind: EvidenceKind,
    /// Where from.
    pub source: Source,
    /// What was asked for.
    pub scope: ScopeId,
    /// How much of it was seen, and why not all. The wire form also has `complete`, which is [`Coverage::may_close`].
    #[serde(flatten)]
    pub coverage: Coverage,
    /// The calls, in order.
    pub requests: Vec<Request>,
    /// Pages that were read.
    pub pages: u64,
    /// Items on those pages.
    pub items: u64,
    /// The nodes that the scope showed.
    pub nodes: NodeList,
    /// Controls that it is evidence for, sorted.
    pub controls: Vec<String>,
    /// Rules that read it, sorted.
    pub rules: Vec<String>,
    /// By which program.
    pub collector: Collector,
    /// When.
    pub times: Times,
    /// Digest of the collector's statement before this one: a gap shows a loss.
    pub prev: Option<Digest>,
    /// Its number in the collector's chain.
    pub seq: u64,
    /// The run, where it was one of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The unit of work in the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The agent that collected by itself and reported it: what it says, it says of the host that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The reading before, where only the difference to it was shown, or that there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
}

/// What was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "judged", rename_all = "snake_case")]
pub enum Judged {
    /// A control of a framework.
    Control {
        /// E.g. `nist-800-53-r5`.
        framework: String,
        /// E.g. `AC-2(3)`.
        control: String,
    },
    /// One finding.
    Finding {
        /// Which.
        finding: FindingId,
        /// The rule that it violates.
        rule: String,
    },
}

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every rule passed on every node.
    Pass,
    /// Some did.
    Partial,
    /// None did, or one that alone decides did not.
    Fail,
    /// There was nothing to judge by.
    NotAssessed,
}

impl Verdict {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Partial => "partial",
            Self::Fail => "fail",
            Self::NotAssessed => "not_assessed",
        }
    }
}

/// How one rule came out, in nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// The rule's id.
    pub rule: String,
    /// Nodes that passed.
    pub passed: u64,
    /// Nodes that failed.
    pub failed: u64,
    /// Nodes that could not be judged.
    pub not_assessed: u64,
}

/// A collection that the judgement rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The collection's evidence id.
    pub evidence: EvidenceId,
    /// [`crate::SignedStatement::digest`] of its statement.
    pub pae_sha256: Digest,
}

/// How one control or one finding was judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssessmentStatement {
    /// The files that it is about: the statements in `inputs` (`ev/<id>.pae`), and any artifact of its own.
    #[serde(skip)]
    pub subjects: Vec<Subject>,
    /// Whose evidence it is.
    pub tenant: TenantId,
    /// Its id.
    pub evidence: EvidenceId,
    /// What was judged.
    #[serde(flatten)]
    pub judged: Judged,
    /// How it came out.
    pub result: Verdict,
    /// By which rules.
    pub rules: Vec<RuleCount>,
    /// The findings that speak against it.
    pub findings: Vec<FindingId>,
    /// The nodes that were judged.
    pub nodes: NodeList,
    /// SHA-256 of the rule pack.
    pub pack_sha256: Digest,
    /// When.
    pub evaluated_at: Timestamp,
    /// On what.
    pub inputs: Vec<Input>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// How a review of access ended, as evidence for one control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewStatement {
    /// The artifact with every item and decision.
    #[serde(skip)]
    pub subjects: Vec<Subject>,
    /// Whose evidence it is.
    pub tenant: TenantId,
    /// Its id.
    pub evidence: EvidenceId,
    /// E.g. `nist-800-53-r5`.
    pub framework: String,
    /// E.g. `AC-2`.
    pub control: String,
    /// The review.
    pub review: AccessReviewId,
    /// What people call it.
    pub name: String,
    /// Who was asked to decide.
    pub reviewers: Vec<UserId>,
    /// Things that give access and were looked at.
    pub items: u64,
    /// Of these, kept.
    pub kept: u64,
    /// Kept, and they say something else than what was reviewed.
    #[serde(default, skip_serializing_if = "is_none")]
    pub changed: u64,
    /// Taken.
    pub revoked: u64,
    /// Taken by somebody else meanwhile.
    pub gone: u64,
    /// To be taken where a group is kept: at its identity provider.
    pub elsewhere: u64,
    /// Those that nobody decided, for whom `undecided` spoke.
    pub by_default: u64,
    /// `keep` or `revoke`.
    pub undecided: String,
    /// When what was reviewed was read.
    pub started: Timestamp,
    /// When it was closed.
    pub finished: Timestamp,
}

/// The program that wrote a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What a bundle holds: every file but the statement's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleStatement {
    /// The files.
    #[serde(skip)]
    pub subjects: Vec<Subject>,
    /// Whose evidence it is.
    pub tenant: TenantId,
    /// When it was exported.
    pub created: Timestamp,
    /// By which program.
    pub program: Program,
}

/// A statement of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// How a scope was collected.
    Collection(Box<CollectionStatement>),
    /// How a control or finding was judged.
    Assessment(Box<AssessmentStatement>),
    /// What was recorded of a session.
    Recording(Box<RecordingStatement>),
    /// How a review of access ended.
    Review(Box<ReviewStatement>),
    /// What a bundle holds.
    Bundle(BundleStatement),
}

/// An in-toto statement.
#[derive(Serialize, Deserialize)]
struct Form<S, P> {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: S,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: P,
}

impl<P: Serialize> Form<&[Subject], P> {
    fn of(predicate_type: &str, subject: &[Subject], predicate: P) -> Result<Vec<u8>, StatementError> {
        let (statement_type, predicate_type) = (STATEMENT_TYPE.to_owned(), predicate_type.to_owned());
        Ok(jcs::of(&Form { statement_type, subject, predicate_type, predicate })?)
    }
}

/// A collection's predicate also says in one word whether it was complete.
#[derive(Serialize)]
struct Complete<'a> {
    complete: bool,
    #[serde(flatten)]
    statement: &'a CollectionStatement,
}

fn malformed(error: impl std::fmt::Display) -> StatementError {
    StatementError::Malformed(error.to_string())
}

impl Statement {
    /// Its id; none for a statement about a bundle.
    pub fn evidence(&self) -> Option<EvidenceId> {
        match self {
            Self::Collection(it) => Some(it.evidence),
            Self::Assessment(it) => Some(it.evidence),
            Self::Recording(it) => Some(it.evidence),
            Self::Review(it) => Some(it.evidence),
            Self::Bundle(_) => None,
        }
    }

    /// The canonical JSON that is to be signed.
    pub fn to_json(&self) -> Result<Vec<u8>, StatementError> {
        match self {
            Self::Collection(it) => {
                let predicate = Complete { complete: it.coverage.may_close(), statement: it };
                Form::of(COLLECTION_TYPE, &it.subjects, predicate)
            }
            Self::Assessment(it) => Form::of(ASSESSMENT_TYPE, &it.subjects, it),
            Self::Recording(it) => Form::of(RECORDING_TYPE, &it.subjects, it),
            Self::Review(it) => Form::of(REVIEW_TYPE, &it.subjects, it),
            Self::Bundle(it) => Form::of(BUNDLE_TYPE, &it.subjects, it),
        }
    }

    /// Reads what [`Statement::to_json`] wrote. Reach it through [`crate::dsse::verify`]: unsigned JSON is no evidence.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, StatementError> {
        let value: Value = serde_json::from_slice(json).map_err(malformed)?;
        if jcs::canonical(&value)? != json {
            return Err(malformed("its JSON is not canonical"));
        }
        let Form::<Vec<Subject>, Value> { statement_type, subject, predicate_type, predicate } =
            serde_json::from_value(value).map_err(malformed)?;
        if statement_type != STATEMENT_TYPE {
            return Err(malformed("it is no in-toto statement of version 1"));
        }
        match predicate_type.as_str() {
            COLLECTION_TYPE => {
                let complete = predicate.get("complete").cloned();
                let mut it: CollectionStatement = serde_json::from_value(predicate).map_err(malformed)?;
                if complete != Some(it.coverage.may_close().into()) {
                    return Err(malformed("`complete` contradicts `coverage`"));
                }
                it.subjects = subject;
                Ok(Self::Collection(Box::new(it)))
            }
            ASSESSMENT_TYPE => {
                let mut it: AssessmentStatement = serde_json::from_value(predicate).map_err(malformed)?;
                it.subjects = subject;
                Ok(Self::Assessment(Box::new(it)))
            }
            RECORDING_TYPE => {
                let mut it: RecordingStatement = serde_json::from_value(predicate).map_err(malformed)?;
                it.subjects = subject;
                Ok(Self::Recording(Box::new(it)))
            }
            REVIEW_TYPE => {
                let mut it: ReviewStatement = serde_json::from_value(predicate).map_err(malformed)?;
                it.subjects = subject;
                Ok(Self::Review(Box::new(it)))
            }
            BUNDLE_TYPE => {
                let mut it: BundleStatement = serde_json::from_value(predicate).map_err(malformed)?;
                it.subjects = subject;
                Ok(Self::Bundle(it))
            }
            _ => Err(malformed("its predicate type is unknown: use the program version that wrote it or a newer one")),
        }
    }
}
