//! Credentials.

use std::collections::BTreeMap;

use domain::{CredentialId, Timestamp, ValidationId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Stores a credential. Its secret goes in and never comes out.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialCreate {
    /// The plugin that it is for.
    #[schema(example = "aws")]
    pub plugin: String,
    /// Its name, unique for the plugin.
    #[schema(example = "prod")]
    pub name: String,
    /// Its type: one that the plugin lists.
    #[serde(rename = "type")]
    #[schema(example = "aws-keys")]
    pub kind: String,
    /// The secret's fields, e.g. `access_key_id` and `secret_access_key`.
    pub secret: BTreeMap<String, String>,
}

/// A credential without its secret.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Credential {
    /// Its id.
    #[schema(value_type = String)]
    pub id: CredentialId,
    /// The plugin that it is for.
    pub plugin: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was stored.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When a job last used it.
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Timestamp>,
    /// Its newest validation, if it was ever tried.
    #[schema(value_type = Option<String>)]
    pub validation: Option<ValidationId>,
    /// Where that stands, as in the validation itself.
    pub validation_status: Option<String>,
    /// When that was asked for.
    #[schema(value_type = Option<String>)]
    pub validated_at: Option<Timestamp>,
}

/// A plugin.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// One line.
    pub about: String,
    /// Its version.
    pub version: String,
    /// Credential types that it can use.
    pub credential_types: Vec<CredentialType>,
    /// Its settings.
    pub settings: Vec<PluginSetting>,
    /// Node types that it can show.
    pub node_types: Vec<String>,
}

/// A credential type and the fields of its secret.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct CredentialType {
    /// Its name, e.g. `aws-keys`.
    pub name: String,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Fields that may be there.
    pub optional: Vec<String>,
    /// Which of both are texts of several lines.
    #[serde(default)]
    pub several_lines: Vec<String>,
}

/// What the value of a setting is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettingKind {
    /// A text of one line.
    #[default]
    Text,
    /// A text of several lines.
    Lines,
    /// Texts: an array, or one text with commas between.
    List,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
}

/// A setting of a plugin.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
pub struct PluginSetting {
    /// Its key.
    pub key: String,
    /// What it does.
    pub help: String,
    /// An example.
    pub example: String,
    /// What its value is.
    #[serde(default)]
    pub kind: SettingKind,
    /// Whether a job has to give it.
    #[serde(default)]
    pub required: bool,
    /// The values that it, or each item of a list, can have; empty: any that the plugin takes.
    #[serde(default)]
    pub choices: Vec<String>,
    /// The smallest number.
    #[serde(default)]
    pub least: Option<i64>,
    /// The largest number.
    #[serde(default)]
    pub most: Option<i64>,
}
