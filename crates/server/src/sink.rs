//! Where a task's observations go: pages into the graph, and for each finished scope a signed statement of how it was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use access::{OpCtx, ops};
use async_trait::async_trait;
use compliance::Ruleset;
use domain::{
    CollectionId, Coverage, Digest, Error, EvidenceId, JobId, NodeId, Page, RelayId, Result, ScopeId, SourceId,
    TenantId, Timestamp,
};
use evidence::statement::{
    CollectionStatement, Collector, EvidenceKind, Input, NODES_MAX, NodeList, Request, Response, Since, Source,
    Statement, Subject, Times,
};
use inventory::{EdgeKey, NodeKey};
use plugins::{Ending, Manifest, Removed, Sink};
use store::{Checkpoint, Claim, Collection, Gone, Ingest, NewArtifact, NewCheckpoint, NewStatement, Reading, Store};
use tokio_util::sync::CancellationToken;
use transport::{CallRecord, Recorder};
use wire::relay::Hello;

use crate::sign::Signer;

/// Most scopes of a task that are told as being read.
const READING_MAX: usize = 200;

/// How far a task is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) message: String,
    /// The scopes that are being read: nodes and edges so far, and since when.
    pub(crate) reading: BTreeMap<ScopeId, (u64, u64, Timestamp)>,
}

impl Progress {
    /// What is told of the scopes that are being read.
    pub(crate) fn shown(&self) -> Vec<Reading> {
        let shown = self.reading.iter().take(READING_MAX).map(|(scope, &(nodes, edges, started))| Reading {
            scope: scope.clone(),
            nodes,
            edges,
            started,
        });
        shown.collect()
    }
}

/// What a task has shown of a scope so far.
#[derive(Default)]
struct Shown {
    pages: u64,
    nodes: u64,
    edges: u64,
    ids: Vec<NodeId>,
    types: BTreeSet<String>,
}

/// What a sink is made of.
pub(crate) struct TaskParts {
    pub(crate) store: Store,
    pub(crate) signer: Arc<Signer>,
    pub(crate) ruleset: Arc<Ruleset>,
    pub(crate) ctx: OpCtx,
    pub(crate) job: JobId,
    pub(crate) claim: Claim,
    pub(crate) manifest: Manifest,
    /// SHA-256 of the plugin's own program, where it is not this one.
    pub(crate) program: Option<Digest>,
    /// Who reads.
    pub(crate) source: SourceId,
    /// SHA-256 of the job's settings and the task's parameters.
    pub(crate) config_sha256: Digest,
    pub(crate) recorder: Arc<Recorder>,
    /// Lost or cancelled: nothing more is written.
    pub(crate) over: CancellationToken,
    pub(crate) progress: Arc<Mutex<Progress>>,
    /// The relay that collects, and what it says of itself.
    pub(crate) relay: Option<(RelayId, Arc<Hello>)>,
}

/// The statements of one task, each naming the one before: a missing one shows.
#[derive(Debug, Default)]
struct Chain {
    prev: Option<Digest>,
    seq: u64,
}

/// The sink of one task.
pub(crate) struct StoreSink {
    task: TaskParts,
    ingest: Ingest,
    chain: Chain,
    shown: BTreeMap<ScopeId, Shown>,
    /// What the plugin was told that it may begin from.
    offered: BTreeMap<ScopeId, Checkpoint>,
}

impl StoreSink {
    pub(crate) async fn new(task: TaskParts) -> Result<Self> {
        let permit = task.ctx.authorize::<ops::GraphIngest>(task.claim.tenant)?;
        let ingest = task.store.ingest(permit, task.source.clone()).await?;
        Ok(Self { task, ingest, chain: Chain::default(), shown: BTreeMap::new(), offered: BTreeMap::new() })
    }

    fn tenant(&self) -> TenantId {
        self.task.claim.tenant
    }

    /// The types of nodes that the task's plugin can show.
    pub(crate) fn node_types(&self) -> BTreeSet<String> {
        self.task.manifest.node_types.iter().cloned().collect()
    }

    fn check(&self) -> Result<()> {
        if self.task.over.is_cancelled() { Err(Error::conflict("the task was stopped")) } else { Ok(()) }
    }

    /// What a scope that showed only a difference rests on.
    fn since(&self, scope: &ScopeId, removed: &Removed) -> Result<Since> {
        let offered = self.offered.get(scope);
        let offered = offered.ok_or_else(|| Error::internal("a difference to a checkpoint that was not offered"))?;
        Ok(Since {
            statement: Input { evidence: offered.evidence, pae_sha256: offered.pae_sha256 },
            gone: NodeList::new(removed.nodes.iter().cloned()),
            edges_gone: removed.edges.len() as u64,
        })
    }

    fn statement(
        &self,
        id: EvidenceId,
        (scope, coverage, since): (&ScopeId, &Coverage, Option<Since>),
        shown: &Shown,
        records: &[CallRecord],
        times: Times,
    ) -> CollectionStatement {
        let rules: Vec<_> = self
            .task
            .ruleset
            .rules()
            .iter()
            .filter(|rule| rule.node_types.iter().any(|kind| shown.types.contains(kind)))
            .collect();
        let controls: BTreeSet<String> = rules
            .iter()
            .flat_map(|rule| {
                rule.controls.iter().flat_map(|(framework, ids)| ids.iter().map(move |id| format!("{framework}:{id}")))
            })
            .collect();
        let mut subjects: Vec<_> = records
            .iter()
            .filter(|record| record.kept.is_some())
            .filter_map(digest_of)
            .map(Subject::artifact)
            .collect();
        subjects.sort_by_key(|subject| subject.digest);
        subjects.dedup_by_key(|subject| subject.digest);
        let relay = self.task.relay.as_ref();
        CollectionStatement {
            subjects,
            tenant: self.tenant(),
            evidence: id,
            kind: kind(records, shown.nodes == 0 && coverage.may_close() && since.is_none()),
            source: source(scope, records),
            scope: scope.clone(),
            coverage: coverage.clone(),
            requests: records.iter().map(request).collect(),
            pages: shown.pages,
            items: shown.nodes + shown.edges,
            nodes: NodeList { ids: shown.ids.clone(), total: shown.nodes },
            controls: controls.into_iter().collect(),
            rules: rules.iter().map(|rule| rule.id.clone()).collect(),
            collector: Collector {
                name: format!("cairn/{}", self.task.manifest.name),
                version: self.task.manifest.version.to_owned(),
                artifact_sha256: relay.map_or_else(
                    || self.task.program.unwrap_or(self.task.signer.program()),
                    |(_, hello)| hello.program,
                ),
                config_sha256: self.task.config_sha256,
                host: relay
                    .map_or_else(|| self.task.signer.host(), |(_, hello)| &hello.host)
                    .chars()
                    .take(255)
                    .collect(),
                relay: relay.map(|(relay, _)| *relay),
            },
            times,
            prev: self.chain.prev,
            seq: self.chain.seq,
            job: Some(self.task.job),
            task: Some(self.task.claim.task()),
            agent: None,
            since,
        }
    }

    async fn end(&mut self, scope: ScopeId, coverage: Coverage, ending: Option<Ending>) -> Result<()> {
        self.check()?;
        let (shown, records) = (self.shown.remove(&scope).unwrap_or_default(), self.task.recorder.take(&scope));
        self.task.progress.lock().unwrap_or_else(PoisonError::into_inner).reading.remove(&scope);
        let now = self.task.ctx.clock().now();
        let started: Timestamp = records.iter().map(|record| record.started).min().unwrap_or(now);
        let finished: Timestamp = records.iter().map(|record| record.finished).max().unwrap_or(now);
        let id = EvidenceId::generate(self.task.ctx.clock(), self.task.ctx.rng());
        let times = Times { started, finished, clock_source: "system".to_owned(), offset_ms: None };
        let since = ending.as_ref().and_then(|ending| ending.since.as_ref());
        let since = since.map(|removed| self.since(&scope, removed)).transpose()?;
        let rests_on = since.as_ref().map(|since| since.statement.evidence);
        let statement = self.statement(id, (&scope, &coverage, since), &shown, &records, times);
        let kind = statement.kind.as_str();
        let signed = self.task.signer.sign(&Statement::Collection(Box::new(statement)))?;
        let mut artifacts = Vec::new();
        for record in &records {
            if let (Some(bytes), Some(digest)) = (&record.kept, digest_of(record)) {
                artifacts.push(NewArtifact {
                    digest,
                    bytes: bytes.clone(),
                    signature: self.task.signer.sign_artifact(&digest),
                    key_id: signed.keyid,
                    about: record.about.clone().unwrap_or_default(),
                });
            }
        }
        let digest = signed.digest();
        let collection_id = CollectionId::generate(self.task.ctx.clock(), self.task.ctx.rng());
        let collection = Collection {
            id: collection_id,
            source: self.task.source.clone(),
            scope: scope.clone(),
            coverage: coverage.clone(),
            nodes: shown.nodes,
            edges: shown.edges,
            calls: records.len() as u64,
            artifacts,
            statement: NewStatement { id, kind, pae: signed.pae, signature: signed.sig, key_id: signed.keyid },
            since: rests_on,
            started,
            finished,
        };
        let permit = self.task.ctx.authorize::<ops::EvidenceCollect>(self.tenant())?;
        self.task.store.collection_add(permit, &self.task.claim, collection).await?;
        self.chain = Chain { prev: Some(digest), seq: self.chain.seq + 1 };
        let changes = match ending {
            None => self.ingest.finish(&scope, &coverage, collection_id).await?,
            Some(Ending { since, checkpoint, basis, .. }) => {
                let gone = since.as_ref().map(gone);
                let left = NewCheckpoint { bytes: checkpoint, basis, evidence: id, pae_sha256: digest };
                self.ingest.finish_since(&scope, &coverage, collection_id, gone.as_ref(), left).await?
            }
        };
        if changes.overlapped {
            tracing::info!(scope = scope.as_str(), "another run read this scope at the same time: nothing was closed");
        }
        if let Some(reason) = coverage.reason() {
            tracing::info!(scope = scope.as_str(), coverage = coverage.as_str(), reason, "scope not complete");
        }
        Ok(())
    }
}

/// Keys of what is gone.
fn gone(removed: &Removed) -> Gone {
    let edge = |edge: &domain::EdgeObservation| {
        let (source, target) = (NodeKey::of(&edge.source), NodeKey::of(&edge.target));
        EdgeKey::of(source, &edge.edge_type, target, &edge.discriminator)
    };
    Gone { nodes: removed.nodes.iter().map(NodeKey::of).collect(), edges: removed.edges.iter().map(edge).collect() }
}

fn digest_of(record: &CallRecord) -> Option<Digest> {
    record.outcome.as_ref().ok().map(|response| response.digest)
}

fn kind(records: &[CallRecord], nothing: bool) -> EvidenceKind {
    if nothing {
        return EvidenceKind::NullResult;
    }
    match records.first().map(|record| record.request.system.as_str()) {
        Some("file") => EvidenceKind::Config,
        Some("command" | "netlink" | "scan") => EvidenceKind::Scan,
        _ => EvidenceKind::ApiResponse,
    }
}

/// `aws:<account>:<region>:…` says account and region; a host's scope says neither.
fn source(scope: &ScopeId, records: &[CallRecord]) -> Source {
    let parts: Vec<&str> = scope.as_str().splitn(4, ':').collect();
    let (account, region) = match parts.as_slice() {
        [_, account, region, _] => (Some((*account).to_owned()), Some((*region).to_owned())),
        _ => (None, None),
    };
    let endpoints: BTreeSet<_> = records.iter().map(|record| record.request.endpoint.clone()).collect();
    let leaves: BTreeSet<_> = records.iter().filter_map(|record| record.outcome.as_ref().ok()?.tls_leaf).collect();
    Source {
        system: parts.first().copied().unwrap_or_default().to_owned(),
        account,
        region,
        endpoints: endpoints.into_iter().collect(),
        tls_leaf_sha256: leaves.into_iter().collect(),
    }
}

fn request(record: &CallRecord) -> Request {
    Request {
        operation: record.request.operation.clone(),
        params_digest: record.request.params_digest,
        response: record.outcome.as_ref().ok().map(|response| Response {
            status: response.status,
            date: response.date.clone(),
            request_id: response.request_id.clone(),
            digest: response.digest,
            size: response.size,
        }),
        error: record.outcome.as_ref().err().cloned(),
        retries: record.retries,
        started: record.started,
        finished: record.finished,
    }
}

#[async_trait]
impl Sink for StoreSink {
    async fn page(&mut self, page: Page) -> Result<()> {
        self.check()?;
        let shown = self.shown.entry(page.scope.clone()).or_default();
        shown.pages += 1;
        shown.nodes += page.nodes.len() as u64;
        shown.edges += page.edges.len() as u64;
        let (nodes, edges) = (shown.nodes, shown.edges);
        for node in &page.nodes {
            if shown.ids.len() < NODES_MAX {
                shown.ids.push(node.id.clone());
            }
            if !shown.types.contains(node.id.node_type()) {
                shown.types.insert(node.id.node_type().to_owned());
            }
        }
        self.reads(&page.scope, nodes, edges);
        self.ingest.page(&page).await.map(drop)
    }

    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        self.end(scope, coverage, None).await
    }

    async fn checkpoints(&mut self, prefix: &str, basis: Digest) -> Result<Vec<(ScopeId, Vec<u8>)>> {
        let offered = self.ingest.checkpoints(prefix, basis).await?;
        self.offered = offered.into_iter().map(|known| (known.scope.clone(), known)).collect();
        Ok(self.offered.values().map(|known| (known.scope.clone(), known.bytes.clone())).collect())
    }

    async fn scope_ended(&mut self, scope: ScopeId, ending: Ending) -> Result<()> {
        self.end(scope, ending.coverage.clone(), Some(ending)).await
    }

    fn reads(&mut self, scope: &ScopeId, nodes: u64, edges: u64) {
        let now = self.task.ctx.clock().now();
        let mut progress = self.task.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = progress.reading.entry(scope.clone()).or_insert((0, 0, now));
        (reading.0, reading.1) = (nodes, edges);
    }

    fn progress(&mut self, done: u64, total: u64, what: &str) {
        let mut progress = self.task.progress.lock().unwrap_or_else(PoisonError::into_inner);
        (progress.done, progress.total, progress.message) = (done, total, what.to_owned());
    }
}
