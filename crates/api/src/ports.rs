//! What the API asks of the rest of the server: the plugins, which it may not name, and the evaluator, which works in the background too.

use std::sync::Arc;

use access::{Permit, ops};
use async_trait::async_trait;
use compliance::{Frameworks, Ruleset};
use domain::{EvidenceId, FindingId, RecordingId, Result};
use gateway::peer::Ask;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

/// The plugins and the rules that are installed.
pub trait Catalog: Send + Sync {
    /// Every plugin, by name.
    fn plugins(&self) -> &[wire::credential::Plugin];
    /// Checks a job's settings; the error names the setting.
    fn check(&self, plugin: &str, config: &Map<String, Value>) -> Result<()>;
    /// The frameworks that are known.
    fn frameworks(&self) -> &Frameworks;
    /// The title of a control, where the framework's text may be shown.
    fn control_title(&self, framework: &str, control: &str) -> String {
        self.frameworks().control(framework, control).map(|control| control.title.clone()).unwrap_or_default()
    }
    /// The name of a framework for people; its id where there is none.
    fn framework_title(&self, framework: &str) -> String {
        self.frameworks().find(framework).map_or_else(|| framework.to_owned(), |found| found.title.clone())
    }
    /// The rules that are in force.
    fn ruleset(&self) -> Arc<Ruleset>;
}

/// Judging a tenant's graph.
#[async_trait]
pub trait Evaluate: Send + Sync {
    /// Applies every rule to the tenant's graph as it is now.
    async fn evaluate(&self, permit: Permit<ops::EvaluationRun>) -> Result<wire::finding::Evaluation>;
}

/// Taking in what agents report.
#[async_trait]
pub trait Report: Send + Sync {
    /// Checks a report as it came, takes it into the graph, and says whether both sides hold the same.
    async fn report(&self, permit: store::ReportPermit, report: bytes::Bytes) -> Result<wire::report::Answer>;
}

/// Recordings that end, and that somebody takes along.
#[async_trait]
pub trait Record: Send + Sync {
    /// Signs what was told of a recording, and closes it. One that is closed stays as it is.
    async fn close(
        &self,
        permit: Permit<ops::RecordingClose>,
        id: RecordingId,
        end: store::RecordingEnding,
    ) -> Result<()>;
    /// The bundle of a recording as a ZIP file's bytes, in a temporary file that is gone when it is closed.
    async fn export(&self, permit: Permit<ops::RecordingExport>, id: RecordingId) -> Result<std::fs::File>;
}

/// What a bundle is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One finding.
    Finding(FindingId),
    /// One control of a framework.
    Control {
        /// The framework.
        framework: String,
        /// The control.
        control: String,
    },
    /// Every control of a framework that was judged.
    Framework(String),
    /// One statement, with what it rests on.
    Statement(EvidenceId),
}

/// Putting signed statements and their artifacts into one file.
#[async_trait]
pub trait Export: Send + Sync {
    /// The bundle as a ZIP file's bytes, in a temporary file that is gone when it is closed.
    async fn export(&self, permit: Permit<ops::EvidenceExport>, subject: Subject) -> Result<std::fs::File>;
}

/// A connection to a relay: bytes in both directions, each with an end of its own.
pub trait PeerStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> PeerStream for S {}

/// Why a relay is not reached by way of another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerLost {
    /// That server takes no connections of others.
    NotReached,
    /// It does not answer, at this address.
    Away(String),
    /// The relay does not hang there any more.
    Elsewhere,
    /// It does, and no connection can be made to it.
    Refused(String),
}

/// The other servers of the same database.
#[async_trait]
pub trait Peers: Send + Sync {
    /// A connection to a relay that hangs on another server.
    async fn reach(&self, server: Uuid, ask: &Ask) -> Result<Box<dyn PeerStream>, PeerLost>;
}

/// The certificates that this server shows.
pub trait Certify: Send + Sync {
    /// The certificate of this installation's own authority (PEM), where that is what a client has to trust which reaches this server by this
    /// name or address. None: a certificate that others issued, or a name that another one answers to.
    fn authority(&self, name: &str) -> Option<String>;
}
