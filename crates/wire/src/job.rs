//! Discovery jobs.

use domain::{CredentialId, JobId, RelayId, ScheduleId, TaskId, Timestamp};
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
    /// What it saw of each scope.
    pub coverage: Vec<ScopeCoverage>,
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
    /// The next start.
    #[schema(value_type = String)]
    pub next_at: Timestamp,
}
