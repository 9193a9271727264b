//! `[log]`: what the server says of its work, and `[audit]`: where audit records are sent.

use std::path::PathBuf;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{As, Key};

/// `[log]`.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives by target; default `info`.
    pub(crate) level: String,
    /// `text` or `json`; default `text`.
    pub(crate) format: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: "text".to_owned() }
    }
}

/// What the environment may set of `[log]`.
pub(super) const KEYS: &[Key] = &[("level", As::Text), ("format", As::Text)];

impl LogSection {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !["text", "json"].contains(&self.format.as_str()) {
            bail!("log.format is `{}`: use text or json", self.format.escape_debug());
        }
        Ok(())
    }
}

/// `[audit]`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditSection {
    /// Where audit records are sent, each as a `[[audit.forward]]`; default nowhere.
    #[serde(default)]
    pub(crate) forward: Vec<ForwardSection>,
}

/// How records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardKind {
    /// RFC 5424 messages over TLS (RFC 5425).
    Syslog,
    /// Splunk's HTTP event collector.
    SplunkHec,
}

/// `[[audit.forward]]`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForwardSection {
    /// Its name: under it the database keeps how far it has come, so a new name begins at the first record.
    pub(crate) name: String,
    /// `syslog` or `splunk-hec`.
    pub(crate) kind: ForwardKind,
    /// `tls://HOST:PORT` for syslog, the collector's whole HTTPS address for Splunk.
    pub(crate) url: String,
    /// `jsonl`, `cef` or `ocsf`; default `jsonl`.
    #[serde(default = "default_format")]
    pub(crate) format: String,
    /// Slugs of tenants, `platform`, or `*` for all; default all.
    #[serde(default = "default_logs")]
    pub(crate) logs: Vec<String>,
    /// PEM file of certificate authorities to trust beside the public ones.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) ca: Option<PathBuf>,
    /// Splunk: file (0600) that holds the token.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) token_file: Option<PathBuf>,
    /// Whether the destination may be this machine; default false.
    #[serde(default)]
    pub(crate) loopback: bool,
}

fn default_format() -> String {
    "jsonl".to_owned()
}

fn default_logs() -> Vec<String> {
    vec!["*".to_owned()]
}

impl AuditSection {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for (at, forward) in self.forward.iter().enumerate() {
            if forward.name.is_empty() || forward.name.len() > 64 {
                bail!("audit.forward: give each a name of 1 to 64 characters");
            }
            if self.forward.iter().skip(at + 1).any(|other| other.name == forward.name) {
                bail!("audit.forward: two are named `{}`", forward.name.escape_debug());
            }
        }
        Ok(())
    }
}
