//! Validations: whether a credential can do what a plugin needs.

use domain::{CredentialId, RelayId, Timestamp, ValidationId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Asks for a validation: what a job with these settings would begin with is tried, and nothing is stored of what it shows.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidationCreate {
    /// The plugin.
    #[schema(example = "aws")]
    pub plugin: String,
    /// The credential's id or name, where the plugin needs one.
    #[serde(default)]
    pub credential: Option<String>,
    /// The relay that does it, by id or name; without one a server does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The plugin's settings: they say what is tried, e.g. in which regions, of which services, at which targets.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
}

/// A validation.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Validation {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ValidationId,
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
    /// `queued`, `running`; then `passed` (all that was tried is answered), `incomplete` (some is) or `failed` (nothing is).
    pub status: String,
    /// Who asked for it.
    pub requested_by: String,
    /// When it was asked for.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When it began.
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Timestamp>,
    /// When it ended. One that nobody begins within three minutes, or that is at work for 90 s, has failed.
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    /// Why it did not come to its end.
    pub error: Option<String>,
    /// What was tried, once it has ended; at most 500.
    pub checks: Vec<Check>,
}

/// One thing that was tried: a call, a host, a device.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Check {
    /// What was tried, e.g. `ec2:DescribeInstances` or `web1.example:22`.
    pub what: String,
    /// `good`, `denied` (the target refuses it to this credential), `failed` (there is no answer) or `not_tried`.
    pub outcome: String,
    /// Why it is not good, or what was learned.
    pub reason: Option<String>,
}
