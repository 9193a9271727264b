//! Calls on a tape: recorded once from real targets, replayed as often as wanted without a network.
//!
//! A tape holds what was asked and what was answered, never what proved who asked: it is kept from `transport`'s side of a call, where a
//! credential is an id. What a service's answers say is on it, so look at a tape before giving it away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::{CredentialId, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use transport::{AwsCall, AwsReach, CallError, CallTag, HostReach, HttpCall, HttpReach, Reach, Reply};

/// Headers that are kept: those that a plugin can need.
const HEADERS: &[&str] = &["content-type", "date", "etag", "last-modified", "link", "location", "retry-after"];
/// Largest tape, in bytes.
const BYTES: u64 = 256 * 1_024 * 1_024;

/// A tape.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tape {
    /// The plugin that asked.
    pub(crate) plugin: String,
    /// The settings that it had.
    pub(crate) settings: Map<String, Value>,
    /// Whether calls were made with a credential.
    pub(crate) authenticated: bool,
    pub(crate) calls: Vec<Taped>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Taped {
    ask: String,
    answer: Answer,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Answer {
    Reply {
        status: u16,
        headers: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        base64: String,
    },
    Error {
        error: String,
        message: String,
    },
}

impl Answer {
    fn of(result: &std::result::Result<Reply, CallError>) -> Self {
        match result {
            Ok(reply) => {
                let headers = reply.headers.iter().filter(|(name, _)| HEADERS.contains(&name.as_str()));
                let (text, base64) = match std::str::from_utf8(&reply.body) {
                    Ok(text) => (text.to_owned(), String::new()),
                    Err(_) => (String::new(), STANDARD.encode(&reply.body)),
                };
                let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
                Self::Reply { status: reply.status, headers, text, base64 }
            }
            Err(error) => {
                let name = match error {
                    CallError::Denied(_) => "denied",
                    CallError::NotFound(_) => "not_found",
                    CallError::Throttled(_) => "throttled",
                    CallError::Credential(_) => "credential",
                    CallError::Malformed(_) => "malformed",
                    _ => "unreachable",
                };
                Self::Error { error: name.to_owned(), message: error.to_string() }
            }
        }
    }

    fn result(&self) -> std::result::Result<Reply, CallError> {
        match self {
            Self::Reply { status, headers, text, base64 } => {
                let body = if base64.is_empty() {
                    Bytes::from(text.clone().into_bytes())
                } else {
                    let decoded = STANDARD.decode(base64);
                    Bytes::from(decoded.map_err(|_| CallError::Malformed("the tape's base64 is none".to_owned()))?)
                };
                Ok(Reply { status: *status, headers: headers.clone(), digest: crypto::sha256(&body), body })
            }
            Self::Error { error, message } => Err(match error.as_str() {
                "denied" => CallError::Denied(message.clone()),
                "not_found" => CallError::NotFound(message.clone()),
                "throttled" => CallError::Throttled(message.clone()),
                "credential" => CallError::Credential(message.clone()),
                "malformed" => CallError::Malformed(message.clone()),
                _ => CallError::Unreachable(message.clone()),
            }),
        }
    }
}

fn broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Invalid { field: None, message: format!("the tape `{}`: {why}", path.display()) }
}

impl Tape {
    /// Reads a tape.
    pub fn read(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).map_err(|error| broken(path, error))?.len();
        if size > BYTES {
            return Err(broken(path, format!("it is larger than {BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| broken(path, error))?;
        serde_json::from_str(&text).map_err(|error| broken(path, error))
    }

    /// Writes a tape.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(Error::internal)?;
        std::fs::write(path, text + "\n").map_err(|error| broken(path, error))
    }
}

/// What a run reaches in a check.
pub(crate) enum Source<'a> {
    /// The world, put on the tape.
    Live(&'a dyn Reach),
    /// The tape.
    Tape,
    /// Nothing: every call is denied.
    Nothing,
}

/// Reaches the world through a tape.
pub(crate) struct Taper<'a> {
    source: Source<'a>,
    credential: Option<CredentialId>,
    tape: Mutex<Tape>,
    /// How often each question was answered from the tape.
    told: Mutex<BTreeMap<String, usize>>,
}

impl<'a> Taper<'a> {
    pub(crate) fn new(source: Source<'a>, credential: Option<CredentialId>, tape: Tape) -> Self {
        Self { source, credential, tape: Mutex::new(tape), told: Mutex::default() }
    }

    pub(crate) fn into_tape(self) -> Tape {
        self.tape.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, ask: String, result: &std::result::Result<Reply, CallError>) {
        let mut tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        tape.calls.push(Taped { ask, answer: Answer::of(result) });
    }

    /// The answers to one question come in the order in which they were recorded; the last one stays.
    fn replay(&self, ask: &str) -> std::result::Result<Reply, CallError> {
        let tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let count = told.entry(ask.to_owned()).or_default();
        let answers: Vec<&Taped> = tape.calls.iter().filter(|taped| taped.ask == ask).collect();
        let answer = answers.get(*count).or(answers.last());
        *count += 1;
        answer
            .ok_or_else(|| CallError::Unreachable(format!("the tape has no such call: {ask}")))
            .and_then(|taped| taped.answer.result())
    }
}

impl Reach for Taper<'_> {
    fn aws(&self) -> Option<&dyn AwsReach> {
        Some(self)
    }

    fn host(&self) -> Option<&dyn HostReach> {
        None
    }

    fn http(&self) -> Option<&dyn HttpReach> {
        Some(self)
    }

    fn credential(&self) -> Option<CredentialId> {
        self.credential
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn denied() -> CallError {
    CallError::Denied("this check denies every call".to_owned())
}

#[async_trait]
impl HttpReach for Taper<'_> {
    async fn call(&self, call: HttpCall, tag: &CallTag) -> std::result::Result<Reply, CallError> {
        let query: Vec<String> = call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let ask = format!(
            "{} {}{}?{} {}",
            call.method,
            call.origin,
            call.path,
            query.join("&"),
            crypto::sha256(&call.body).to_hex()
        );
        match self.source {
            Source::Tape => self.replay(&ask),
            Source::Nothing => Err(denied()),
            Source::Live(reach) => {
                let http = reach.http().ok_or_else(|| CallError::Unreachable("no HTTPS".to_owned()))?;
                let result = http.call(call, tag).await;
                self.keep(ask, &result);
                result
            }
        }
    }
}

#[async_trait]
impl AwsReach for Taper<'_> {
    async fn call(&self, call: AwsCall, tag: &CallTag) -> std::result::Result<Reply, CallError> {
        let ask =
            format!("{}:{} {} {}", call.service, call.operation, call.region, String::from_utf8_lossy(&call.body));
        match self.source {
            Source::Tape => self.replay(&ask),
            Source::Nothing => Err(denied()),
            Source::Live(reach) => {
                let aws = reach.aws().ok_or_else(|| CallError::Credential("no credential for AWS".to_owned()))?;
                let result = aws.call(call, tag).await;
                self.keep(ask, &result);
                result
            }
        }
    }
}
