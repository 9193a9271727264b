//! Documents of the relay channel: what the frames of [`crate::frame`] carry.
//!
//! A document is JSON and refuses unknown fields. What a later version adds is negotiated by [`Hello::versions`], not smuggled in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use domain::{Coverage, CredentialId, DestinationId, Digest, JobId, Network, ScopeId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// The WebSocket subprotocol (RFC 6455, section 1.9) of the channel.
pub const SUBPROTOCOL: &str = "cairn-relay.v1";

/// The protocol (ALPN) of a relay with a client certificate: only who offers it first is asked for one, so that no browser ever is. HTTP/1.1.
pub const TLS_PROTOCOL: &[u8] = b"cairn-relay.v1";

/// What a credential is sealed for (HPKE's `info`).
pub const SEALING_USE: &[u8] = b"cairn relay: credential of a task, version 1";

/// The place of a sealed credential (HPKE's `aad`): one job's, so that it opens for no other.
pub fn sealing_place(job: JobId, credential: CredentialId) -> String {
    format!("{job} {credential}")
}

/// What a relay says first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Versions of the frame format that it speaks.
    pub versions: Vec<u8>,
    /// The session that it wants to go on with after a cut.
    #[serde(default)]
    pub session: Option<SessionKey>,
    /// The last numbered frame of that session that came.
    #[serde(default)]
    pub received: u64,
    /// Version of the program.
    pub version: String,
    /// SHA-256 of the program's file.
    pub program: Digest,
    /// The machine that it runs on.
    pub host: String,
    /// The plugins that it can run.
    pub plugins: Vec<String>,
    /// The public key to which credentials of this process are sealed (HPKE, see `crypto::sealed`), in base64url without padding.
    pub sealing_key: String,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// The version that both speak from now on.
    pub version: u8,
    /// The session: the asked for one, or a new one in which nothing has happened.
    pub session: SessionKey,
    /// Whether it is the asked for one.
    pub resumed: bool,
    /// The last numbered frame of that session that came.
    pub received: u64,
    /// After so long without a frame each side asks for a sign of life, in milliseconds.
    pub heartbeat_ms: u32,
    /// How long the session is kept after a cut, in milliseconds.
    pub resume_ms: u32,
}

/// 128 random bits that name a session. Known to its two ends only; `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub [u8; 16]);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[session]")
    }
}

impl Serialize for SessionKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let is_hex = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(&text, 16) {
            Ok(bits) if is_hex => Ok(Self(bits.to_be_bytes())),
            _ => Err(serde::de::Error::custom("a session is 32 hex digits")),
        }
    }
}

/// A credential for one task, which only the relay's process can open.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SealedCredential {
    /// Which credential.
    pub id: CredentialId,
    /// Of which kind it is.
    pub kind: String,
    /// The encapsulated key, in base64url without padding.
    pub enc: String,
    /// The ciphertext, in base64url without padding.
    pub sealed: String,
}

impl std::fmt::Debug for SealedCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedCredential").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "work", rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
    /// Split the job into tasks.
    Plan {},
    /// Run one of them.
    Run {
        /// Its name within the job.
        key: String,
        /// What the plugin needs to know.
        params: Map<String, Value>,
    },
    /// Try what the job would begin with, and show nothing.
    Validate {},
}

/// Begins a stream: one piece of work.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TaskStart {
    /// The job; of a validation, its id's bits.
    pub job: JobId,
    /// What to do for it.
    pub work: Work,
    /// The plugin.
    pub plugin: String,
    /// The job's settings.
    pub config: Map<String, Value>,
    /// What it signs in with.
    pub credential: Option<SealedCredential>,
    /// How long one call may take, in milliseconds.
    pub call_timeout_ms: u64,
    /// Special networks (loopback, link-local, …) that the tenant lets its jobs reach.
    #[serde(default)]
    pub special_networks: Vec<Network>,
    /// Told to relays of earlier versions, which counted the installation's word about its own machine as one about theirs: always false.
    #[serde(default)]
    pub loopback_targets: bool,
}

/// A task of a planned job.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedTask {
    /// Its name within the job.
    pub key: String,
    /// What the plugin needs to know.
    pub params: Map<String, Value>,
}

/// How a scope was read. `R`: one call's record, as `transport` has it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeDone<R> {
    /// The scope.
    pub scope: ScopeId,
    /// How much of it was seen.
    pub coverage: Coverage,
    /// Its calls, in order.
    pub records: Vec<R>,
    /// Which of them evidence needs the bytes of: these came as artifacts before, in this order, each digest once.
    pub kept: Vec<u32>,
}

/// Which host key of a target counts, asked in the middle of a task whose job trusts first contacts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostKeyQuestion {
    /// Counts the task's questions: whoever asks may have given up on one before.
    pub number: u64,
    /// `HOST:PORT`.
    pub target: String,
    /// The key that it shows, where it is not the one that was answered before; one line as OpenSSH has it.
    pub shown: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostKeyAnswer {
    /// The question's.
    pub number: u64,
    /// The key that counts; none before a first contact.
    pub key: Option<String>,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 when not known.
    pub total: u64,
    /// What is going on.
    pub what: String,
}

/// Asks for the relay's log: the lines that it still has, and with `keep` those that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FollowLog {
    /// Go on until the stream is closed.
    pub keep: bool,
}

/// Begins a stream that carries a user's connection to a cluster: bytes of HTTP/1.1 in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Where to.
    pub destination: DestinationId,
    /// From where the user comes, as far as the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
}

/// A line of a relay's log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// When, by the relay's clock.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The part of the program that wrote it.
    pub target: String,
    /// What it says.
    pub text: String,
    /// What it says it about.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Lines that were dropped before this one, since they came faster than they were taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ended {
    /// Done.
    Completed {},
    /// It cannot be done.
    Failed {
        /// Why.
        error: String,
    },
    /// It could not be done now.
    Retry {
        /// Why.
        error: String,
    },
    /// Stopped because it was asked to.
    Cancelled {},
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_key_has_one_spelling_and_is_not_shown() {
        let key = SessionKey([0xab; 16]);
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<SessionKey>(&text).unwrap(), key);
        assert_eq!(format!("{key:?}"), "[session]");
        for bad in ["\"\"", "\"AB\"", &text.to_uppercase(), &text.replacen('a', "+", 1), "7"] {
            assert!(serde_json::from_str::<SessionKey>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_document_with_a_field_that_is_not_known_is_refused() {
        let known = r#"{"done":1,"total":2,"what":"x"}"#;
        assert!(serde_json::from_str::<Progress>(known).is_ok());
        assert!(serde_json::from_str::<Progress>(&known.replace('}', ",\"more\":1}")).is_err());
        assert!(serde_json::from_str::<Ended>(r#"{"outcome":"completed","more":1}"#).is_err());
    }
}
