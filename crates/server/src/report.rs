//! Agents' reports: checked whole, then taken into the graph by the same way as a task's pages, with a signed statement for each scope that
//! changed.
//!
//! **Not for** knowing who reports: `api` does, and the permit says it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::ports::Catalog as _;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::{CollectionId, Digest, Error, EvidenceId, FleetId, NodeId, Result, ScopeId, Timestamp};
use evidence::statement::{
    CollectionStatement, Collector, EvidenceKind, NODES_MAX, NodeList, Request, Response, Source, Statement, Subject,
    Times,
};
use inventory::state_digest;
use store::{Collection, Gone, Ingest, NewArtifact, NewStatement, ReportBegun, ReportPermit, ReportState, Store};
use wire::report::{ARTIFACT_BYTES, Answer, Call, Head, Line, Outcome, Scope};

use crate::catalog::Installed;
use crate::sign::Signer;

mod read;

/// A report that is no longer than this when it is packed, as those are that say that nothing changed, is checked where it came in: even a
/// bomb of this size unpacks to a mebibyte.
const SMALL_BYTES: usize = 1_024;
/// How long an answer waits for a report to be given back.
const RELEASE: std::time::Duration = std::time::Duration::from_secs(1);
/// Longest that a report can have waited: a year.
const SPOOLED_MS: i64 = 366 * 86_400_000;

/// Takes reports in.
pub(crate) struct Reports {
    store: Store,
    installed: Arc<Installed>,
    signer: Arc<Signer>,
}

/// What a report says of the scope at hand.
#[derive(Default)]
struct Told {
    ids: Vec<NodeId>,
    types: BTreeSet<String>,
    pages: u64,
    items: u64,
    gone: Gone,
    calls: Vec<Call>,
    artifacts: BTreeMap<Digest, Bytes>,
}

impl Told {
    fn note(&mut self, page: &domain::Page) {
        self.pages += 1;
        self.items += (page.nodes.len() + page.edges.len()) as u64;
        for node in &page.nodes {
            if self.ids.len() < NODES_MAX {
                self.ids.push(node.id.clone());
            }
            if !self.types.contains(node.id.node_type()) {
                self.types.insert(node.id.node_type().to_owned());
            }
        }
    }
}

impl Reports {
    pub(crate) fn new(store: Store, installed: Arc<Installed>, signer: Arc<Signer>) -> Self {
        Self { store, installed, signer }
    }

    /// The statement of how an agent collected a scope, and the artifacts that it rests on and that came along.
    fn statement(
        &self,
        permit: &ReportPermit,
        (head, scope, id): (&Head, &Scope, &ScopeId),
        told: &Told,
        known: &BTreeSet<Digest>,
        evidence: EvidenceId,
    ) -> CollectionStatement {
        let ruleset = self.installed.ruleset();
        let rules: Vec<_> = ruleset
            .rules()
            .iter()
            .filter(|rule| rule.node_types.iter().any(|kind| told.types.contains(kind)))
            .collect();
        let controls: BTreeSet<String> = rules
            .iter()
            .flat_map(|rule| rule.controls.iter().flat_map(|(of, ids)| ids.iter().map(move |id| format!("{of}:{id}"))))
            .collect();
        let subjects: BTreeSet<Digest> = told.artifacts.keys().chain(known).copied().collect();
        let kind = match told.calls.first().map(|call| call.system.as_str()) {
            _ if scope.nodes == 0 && scope.coverage.may_close() => EvidenceKind::NullResult,
            Some("file") => EvidenceKind::Config,
            _ => EvidenceKind::Scan,
        };
        let request = |call: &Call| Request {
            operation: call.operation.clone(),
            params_digest: crypto::sha256(call.operation.as_bytes()),
            response: call.digest.map(|digest| Response {
                status: 200,
                date: None,
                request_id: None,
                digest,
                size: call.size,
            }),
            error: call.error.clone(),
            retries: 0,
            started: call.started,
            finished: call.finished,
        };
        CollectionStatement {
            subjects: subjects.into_iter().map(Subject::artifact).collect(),
            tenant: permit.tenant(),
            evidence,
            kind,
            source: Source {
                system: "agent".to_owned(),
                account: None,
                region: None,
                endpoints: vec![head.machine.clone()],
                tls_leaf_sha256: Vec::new(),
            },
            scope: id.clone(),
            coverage: scope.coverage.clone(),
            requests: told.calls.iter().map(request).collect(),
            pages: told.pages,
            items: told.items,
            nodes: NodeList { ids: told.ids.clone(), total: scope.nodes },
            controls: controls.into_iter().collect(),
            rules: rules.iter().map(|rule| rule.id.clone()).collect(),
            collector: Collector {
                name: "cairn-agent/host".to_owned(),
                version: head.program.version.clone(),
                artifact_sha256: head.program.sha256,
                config_sha256: head.program.config_sha256,
                host: head.program.host.clone(),
                relay: None,
            },
            times: Times {
                started: scope.started,
                finished: scope.finished,
                clock_source: "agent".to_owned(),
                offset_ms: head.clock_offset_ms,
            },
            prev: None,
            seq: head.sequence,
            job: None,
            task: None,
            agent: match permit.id() {
                FleetId::Agent(id) => Some(id),
                FleetId::Relay(_) => None,
            },
            since: None,
        }
    }

    /// Ends a scope of a report.
    async fn scope(
        &self,
        permit: &ReportPermit,
        ingest: &mut Ingest,
        head: &Head,
        scope: &Scope,
        told: Told,
    ) -> Result<()> {
        let (ctx, id) = (permit.ctx(), read::scope_id(&head.machine, &scope.name)?);
        let named: BTreeSet<Digest> =
            told.calls.iter().filter(|call| call.kept).filter_map(|call| call.digest).collect();
        let absent = named.into_iter().filter(|digest| !told.artifacts.contains_key(digest)).collect();
        let known = self.store.artifacts_known(permit, &absent).await?;
        let evidence = EvidenceId::generate(ctx.clock(), ctx.rng());
        let statement = self.statement(permit, (head, scope, &id), &told, &known, evidence);
        let kind = statement.kind.as_str();
        let signed = self.signer.sign(&Statement::Collection(Box::new(statement)))?;
        let artifacts = told.artifacts.iter().map(|(digest, bytes)| NewArtifact {
            digest: *digest,
            bytes: bytes.clone(),
            signature: self.signer.sign_artifact(digest),
            key_id: signed.keyid,
            about: String::new(),
        });
        // By our clock, corrected: rows of all collectors are compared by time, and an agent's clock may be an hour ahead. Whatever it says,
        // it is a time that somebody can have collected at.
        let now = ctx.clock().now();
        let ours = |time: Timestamp| {
            let ours = time.plus_millis(head.clock_offset_ms.unwrap_or(0).saturating_neg());
            ours.clamp(now.plus_millis(-SPOOLED_MS), now)
        };
        let collection = Collection {
            id: CollectionId::generate(ctx.clock(), ctx.rng()),
            source: read::source_id(&head.machine)?,
            scope: id.clone(),
            coverage: scope.coverage.clone(),
            nodes: scope.nodes,
            edges: scope.edges,
            calls: scope.calls,
            artifacts: artifacts.collect(),
            statement: NewStatement {
                id: evidence,
                kind,
                pae: signed.pae.clone(),
                signature: signed.sig,
                key_id: signed.keyid,
            },
            since: None,
            started: ours(scope.started),
            finished: ours(scope.finished),
        };
        let collected = collection.id;
        self.store.report_collection_add(permit, collection, &known).await?;
        let changes = match scope.base {
            None => ingest.finish(&id, &scope.coverage, collected).await?,
            Some(_) => ingest.finish_part(&id, &scope.coverage, collected, &told.gone).await?,
        };
        if changes.overlapped {
            return Err(Error::conflict(
                "another report of this machine was taken in at the same time: send the whole",
            ));
        }
        Ok(())
    }

    /// Takes the scopes in whose base is what we hold; the states that they are in then.
    async fn take(
        &self,
        permit: &ReportPermit,
        machine: &str,
        report: Bytes,
        before: &ReportState,
    ) -> Result<BTreeMap<String, Digest>> {
        let mut lines = read::Lines::new(report);
        let mut ingest = self.store.ingest(permit.ingest(), read::source_id(machine)?).await?;
        let (mut states, mut head, mut at): (_, Option<Head>, Option<(Scope, ScopeId, Told)>) =
            (BTreeMap::new(), None, None);
        loop {
            let line = lines.next()?;
            let ends = matches!(line, None | Some(Line::Scope(_) | Line::End(_)));
            if ends && let (Some((scope, _, told)), Some(head)) = (at.take(), &head) {
                self.scope(permit, &mut ingest, head, &scope, told).await?;
                states.insert(scope.name, scope.digest);
            }
            match line {
                None | Some(Line::End(_)) => return Ok(states),
                Some(Line::Head(line)) => head = Some(line),
                Some(Line::Scope(scope)) => {
                    let is_ours = scope.base.is_none_or(|base| before.scopes.get(&scope.name) == Some(&base));
                    let machine = head.as_ref().map(|head| head.machine.as_str()).unwrap_or_default();
                    if is_ours {
                        let id = read::scope_id(machine, &scope.name)?;
                        at = Some((scope, id, Told::default()));
                    }
                }
                Some(inside) => {
                    let Some((_, id, told)) = &mut at else { continue };
                    match inside {
                        Line::Page(items) => {
                            let page = read::page(id, items);
                            told.note(&page);
                            ingest.page(&page).await?;
                        }
                        Line::Gone(gone) => {
                            let (nodes, edges) = read::keys(&gone)?;
                            told.gone.nodes.extend(nodes);
                            told.gone.edges.extend(edges);
                        }
                        Line::Calls(calls) => told.calls.extend(calls),
                        Line::Artifact(artifact) => {
                            let bytes = STANDARD.decode(&artifact.base64).unwrap_or_default();
                            if bytes.len() <= ARTIFACT_BYTES {
                                told.artifacts.insert(crypto::sha256(&bytes), bytes.into());
                            }
                        }
                        Line::Head(_) | Line::Scope(_) | Line::End(_) => {}
                    }
                }
            }
        }
    }
}

fn answer(result: Outcome, state: ReportState) -> Answer {
    let scopes = if result == Outcome::Resend { state.scopes } else { BTreeMap::new() };
    Answer { result, epoch: state.epoch, sequence: state.sequence, scopes, interval_s: None }
}

/// Whether both sides hold the same.
fn settled(state: ReportState, theirs: Digest) -> Answer {
    let ours = state_digest(state.scopes.iter().map(|(name, digest)| (name.as_str(), *digest)));
    answer(if ours == theirs { Outcome::Accepted } else { Outcome::Resend }, state)
}

#[async_trait]
impl api::ports::Report for Reports {
    async fn report(&self, permit: ReportPermit, report: Bytes) -> Result<Answer> {
        let bytes = report.clone();
        let outline = if report.len() <= SMALL_BYTES {
            read::check(bytes)?
        } else {
            tokio::task::spawn_blocking(move || read::check(bytes)).await.map_err(Error::internal)??
        };
        let head = &outline.head;
        if outline.scopes.is_empty() && outline.end.forget.is_empty() {
            let state = self.store.report_state(&permit).await?;
            if !state.machine.is_empty() && state.machine != head.machine {
                let own = state.machine;
                return Err(Error::conflict(format!(
                    "this agent speaks for the machine `{own}`: enroll anew on another one"
                )));
            }
            return Ok(settled(state, outline.end.state));
        }
        let touched: Vec<&str> = outline.scopes.iter().map(|scope| scope.name.as_str()).collect();
        let number = (head.epoch, head.sequence);
        let (lease, before) = match self.store.report_begin(&permit, &head.machine, number, &touched).await? {
            ReportBegun::Known(state) => return Ok(answer(Outcome::Known, state)),
            ReportBegun::Take(lease, before) => (lease, before),
        };
        let mut states = match self.take(&permit, &head.machine, report, &before).await {
            Ok(states) => states,
            Err(error) => {
                // Before the answer, if that is soon: the agent comes again as soon as it may.
                let _ = tokio::time::timeout(RELEASE, lease.release()).await;
                return Err(error);
            }
        };
        let changed = !states.is_empty();
        // What was not taken is as it was.
        for name in touched {
            if let (false, Some(held)) = (states.contains_key(name), before.scopes.get(name)) {
                states.insert(name.to_owned(), *held);
            }
        }
        let state = self.store.report_end(&permit, lease, &states, &outline.end.forget, changed).await?;
        Ok(settled(state, outline.end.state))
    }
}
