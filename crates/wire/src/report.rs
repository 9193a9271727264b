//! What an agent reports: lines of JSON, one [`Line`] each, packed by gzip (RFC 1952; members may follow each other).
//!
//! A report is a [`Head`], the scopes that changed - each [`Scope`] with its pages, what is gone, and the calls that showed it -, and an
//! [`End`]. One without scopes says that nothing changed. A scope is a delta against the state that its `base` names, or the whole without
//! one; a receiver that holds another state asks for the whole in its [`Answer`].
//!
//! Lines instead of one document, so that both ends hold one page at a time whatever the size of the inventory.

use std::collections::BTreeMap;

use domain::{Coverage, Digest, EdgeObservation, NodeObservation, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version of this form that this program writes; a receiver refuses others by name.
pub const VERSION: u32 = 1;
/// The media type. Not a content coding: what is signed and bounded is what is sent.
pub const MEDIA_TYPE: &str = "application/gzip";
/// Most bytes of a report as it is sent.
pub const SENT_BYTES: usize = domain::Limits::BODY_BYTES;
/// Most bytes of a report unpacked.
pub const UNPACKED_BYTES: usize = 16 * 1_024 * 1_024;
/// Most bytes of a line.
pub const LINE_BYTES: usize = 1_024 * 1_024;
/// Most scopes of a report, and of an agent.
pub const SCOPES: usize = 64;
/// Most calls that one scope tells; the rest is counted.
pub const CALLS: usize = 20_000;
/// Most bytes of a kept reply that is sent along; of a longer one its digest only.
pub const ARTIFACT_BYTES: usize = 128 * 1_024;

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// The first line.
    Head(Head),
    /// A scope begins.
    Scope(Scope),
    /// New and changed items of the scope.
    Page(Page),
    /// What the scope no longer shows.
    Gone(Gone),
    /// How the scope was read.
    Calls(Vec<Call>),
    /// A reply that evidence keeps.
    Artifact(Artifact),
    /// The last line.
    End(End),
}

/// Who reports, and which report it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`VERSION`].
    pub version: u32,
    /// Which machine: 16 hex digits, the beginning of a digest of its id.
    pub machine: String,
    /// The agent's run: larger after every start.
    pub epoch: u64,
    /// The report's number in the run, from 1; one without changes has that of the report before it, or 0.
    pub sequence: u64,
    /// When it was put together, by the agent's clock.
    pub at: Timestamp,
    /// The agent's clock minus the server's, in milliseconds, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// The agent.
    pub program: Program,
}

/// The program that reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// SHA-256 of the running binary.
    pub sha256: Digest,
    /// SHA-256 of the settings that it collects with.
    pub config_sha256: Digest,
    /// The machine's name.
    pub host: String,
}

/// A scope that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The collector, e.g. `packages.dpkg`: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`.
    pub name: String,
    /// The state that this is a delta against; without one it is the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// The state after it.
    pub digest: Digest,
    /// How much was seen.
    pub coverage: Coverage,
    /// Nodes that the scope shows in all.
    pub nodes: u64,
    /// Edges that the scope shows in all.
    pub edges: u64,
    /// Calls that were made in all.
    pub calls: u64,
    /// When the first call began, by the agent's clock.
    pub started: Timestamp,
    /// When the last call ended.
    pub finished: Timestamp,
}

/// Items of a scope.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// New nodes, and nodes with other content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeObservation>,
    /// New edges, and edges with other content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<EdgeObservation>,
}

/// Keys (32 hex digits) of what a scope that was seen completely no longer shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// Of nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Of edges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<String>,
}

/// A call that the collector made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// `file`, `command`, `netlink`.
    pub system: String,
    /// The path, argv or operation.
    pub operation: String,
    /// SHA-256 of what came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Bytes of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Why nothing came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether evidence keeps the reply: it is among the artifacts of this report or of an earlier one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kept: bool,
    /// When it began, by the agent's clock.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The bytes of a kept reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Base64 (RFC 4648, section 4) of the bytes.
    pub base64: String,
}

/// The report is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Scopes that the agent no longer collects: their nodes stay, and nobody closes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forget: Vec<String>,
    /// The digest of the states of all its scopes after this report.
    pub state: Digest,
}

/// What the receiver says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// `accepted`; `known`: an older or a repeated report, of which nothing was taken; `resend`: send the whole of every scope whose state
    /// is not in `scopes`.
    pub result: Outcome,
    /// The newest run that the receiver knows. One's own has to be as large: begin a larger one otherwise.
    pub epoch: u64,
    /// The newest report of that run.
    pub sequence: u64,
    /// With `resend`: what the receiver holds, by scope.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub scopes: BTreeMap<String, Digest>,
    /// How often the receiver wants to hear from the agent, in seconds, where it minds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u64>,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Taken, and both sides hold the same.
    Accepted,
    /// Older than what the receiver has, or the same again.
    Known,
    /// The receiver holds something else.
    Resend,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> serde_json::Result<Line> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let digest = Digest([7; 32]);
        let scope = Scope {
            name: "packages.dpkg".to_owned(),
            base: Some(digest),
            digest,
            coverage: Coverage::Partial { reason: "denied".to_owned() },
            nodes: 2,
            edges: 1,
            calls: 1,
            started: Timestamp::from_millis(1),
            finished: Timestamp::from_millis(2),
        };
        let line = Line::Scope(scope);
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(read(&text).unwrap(), line);
        assert!(text.starts_with(r#"{"scope":{"name":"packages.dpkg","base":"0707"#), "{text}");
    }

    #[test]
    fn a_line_of_another_kind_or_with_more_in_it_is_refused() {
        for text in [
            r#"{"sudo":{}}"#,
            r#"{"page":{"nodes":[],"tenant":"ten_1"}}"#,
            r#"{"end":{"state":"zz"}}"#,
            r#"{"page":{},"end":{}}"#,
            "[]",
            "",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn attack_26_a_million_levels_are_refused_without_a_million_frames() {
        let deep = format!(
            r#"{{"page":{{"nodes":[{{"id":"a:r:a.x:1","name":"n","properties":{{"p":{}"#,
            "[".repeat(1_000_000)
        );
        let error = read(&deep).unwrap_err().to_string();
        assert!(error.contains("recursion limit"), "{error}");
    }
}
