//! Discovery jobs.

use domain::{CredentialId, EvidenceId, JobId, JobLineId, RelayId, ScheduleId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Starts a job.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobCreate {
    /// The plugin.
    #[schema(example = "host")]
    pub plugin: String,
    /// The credential's id or name, where the plugin needs one.
    #[serde(default)]
    pub credential: Option<String>,
    /// The relay that does it, by id or name; without one a server does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The plugin's settings.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
}

/// A job.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Job {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// The plugin.
    pub plugin: String,
    /// The credential.
    #[schema(value_type = Option<String>)]
    pub credential: Option<CredentialId>,
    /// The schedule that started it.
    #[schema(value_type = Option<String>)]
    pub schedule: Option<ScheduleId>,
    /// The relay that does it.
    #[schema(value_type = Option<String>)]
    pub relay: Option<RelayId>,
    /// The plugin's settings.
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
    /// `queued`, `running`, `completed`, `partial`, `failed`, `cancelled`.
    pub status: String,
    /// Who asked for it.
    pub requested_by: String,
    /// When it was asked for.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When it began.
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// Steps done and steps in all, over all tasks.
    pub done: u64,
    /// Steps in all; 0 while not known.
    pub total: u64,
}

/// A job with its tasks and the coverage of its scopes.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct JobDetail {
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// What it saw of each scope, of the first 2,000; `…/jobs/{job}/scopes` has all, and those that are being read.
    pub coverage: Vec<ScopeCoverage>,
    /// How far it is with each kind of thing: a service of a cloud, a kind of thing at a host or a device.
    #[serde(default)]
    #[schema(required = true)]
    pub parts: Vec<JobPart>,
}

/// Scopes by how they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ScopeCounts {
    /// Read wholly: `complete`, `unchanged` or `absent`.
    pub whole: u64,
    /// `partial` or `throttled`.
    pub partial: u64,
    /// `denied`.
    pub denied: u64,
    /// `failed`.
    pub failed: u64,
    /// Nodes that they showed.
    pub nodes: u64,
    /// Edges that they showed.
    pub edges: u64,
}

/// What a job saw of one kind of thing.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct JobPart {
    /// What begins the kinds of its scopes, e.g. `ec2`, `packages`.
    pub name: String,
    /// Its scopes that came to their end.
    pub scopes: ScopeCounts,
    /// When the first of them was begun.
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    /// When the last of them ended.
    #[schema(value_type = String)]
    pub finished_at: Timestamp,
}

/// A task.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Task {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TaskId,
    /// What it is, e.g. `us-east-1`.
    pub key: String,
    /// `queued`, `running`, `completed`, `failed`, `cancelled`.
    pub status: String,
    /// How often it was begun.
    pub attempt: u32,
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 while not known.
    pub total: u64,
    /// What it is doing.
    pub message: String,
    /// Why it failed.
    pub error: Option<String>,
    /// When this try began.
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    /// Its scopes that came to their end.
    #[serde(default)]
    #[schema(required = true)]
    pub scopes: ScopeCounts,
}

/// One scope of a job: as it was read, or as it is being read.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct JobScope {
    /// The scope.
    pub scope: String,
    /// What kind of thing that is: what stands behind its last colon.
    pub kind: String,
    /// The key of the task that reads it.
    pub task: String,
    /// `reading`, or how it was read: `complete`, `unchanged`, `partial`, `denied`, `throttled`, `failed`, `absent`.
    pub state: String,
    /// Why it is not complete.
    pub reason: Option<String>,
    /// Nodes that it showed so far.
    pub nodes: u64,
    /// Edges that it showed so far.
    pub edges: u64,
    /// Calls that it took; 0 while it is being read.
    pub calls: u64,
    /// When it was begun.
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    /// When it came to its end.
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    /// The signed statement of how it was read.
    #[schema(value_type = Option<String>)]
    pub evidence: Option<EvidenceId>,
}

/// A line of a job's log: plain text, in one line, whoever's words it holds.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct JobLine {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobLineId,
    /// When it was written.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The key of the task that it is about, if it is about one.
    pub task: Option<String>,
    /// The scope that it is about, if it is about one.
    pub scope: Option<String>,
    /// What it says.
    pub text: String,
}

/// What a job saw of a scope.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct ScopeCoverage {
    /// The scope.
    pub scope: String,
    /// `complete`, `unchanged`, `partial`, `denied`, `throttled`, `failed`, `absent`.
    pub coverage: String,
    /// Why it is not complete.
    pub reason: Option<String>,
    /// Nodes that it showed.
    pub nodes: u64,
    /// Edges that it showed.
    pub edges: u64,
}

/// Repeats a job.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCreate {
    /// The plugin.
    pub plugin: String,
    /// The credential's id or name, where the plugin needs one.
    #[serde(default)]
    pub credential: Option<String>,
    /// The relay that does it, by id or name; without one a server does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The plugin's settings.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
    /// Seconds from one start to the next: 60 or more.
    pub interval_s: u64,
}

/// A schedule.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Schedule {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ScheduleId,
    /// The plugin.
    pub plugin: String,
    /// The credential.
    #[schema(value_type = Option<String>)]
    pub credential: Option<CredentialId>,
    /// The relay that does it.
    #[schema(value_type = Option<String>)]
    pub relay: Option<RelayId>,
    /// The plugin's settings.
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
    /// Seconds from one start to the next.
    pub interval_s: u64,
    /// The next start; while it is paused, when that would have been.
    #[schema(value_type = String)]
    pub next_at: Timestamp,
    /// Whether it starts nothing until somebody lets it go on.
    pub paused: bool,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Changes a schedule; what is left out stays.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleUpdate {
    /// The credential's id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The relay that does it, by id or name; an empty text: a server does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The plugin's settings, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub config: Option<Map<String, Value>>,
    /// Seconds from one start to the next: 60 or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u64>,
    /// Whether it starts nothing until somebody lets it go on. What falls into a pause is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}
