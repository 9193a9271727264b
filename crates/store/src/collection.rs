//! What a task brought back for one scope: coverage, kept artifacts, and the signed statement of how it was collected, call by call.

use access::{Operation, Permit, ops};
use bytes::Bytes;
use domain::{
    CollectionId, Coverage, Digest, Error, EvidenceId, JobId, LineLevel, Result, ScopeId, SourceId, TenantId, Timestamp,
};
use inventory::ScopeKey;
use serde_json::json;
use uuid::Uuid;

use crate::Store;
use crate::audit::{Category, Change, StatementLeaf};
use crate::blob::Blobs;
use crate::db::{Tx, args};
use crate::job::stored;
use crate::job_line::{self, NewLine};
use crate::packed::pack;
use crate::unit::Write;
use crate::work::{self, Claim};

/// Collected bytes to keep.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// The bytes as they came.
    pub bytes: Bytes,
    /// Ed25519 over the digest's 32 bytes.
    pub signature: [u8; 64],
    /// SHA-256 of the signing key's SPKI.
    pub key_id: Digest,
    /// The one resource that the call asked about; empty for a call about many.
    pub about: String,
}

/// A signed statement to keep.
#[derive(Debug, Clone)]
pub struct NewStatement {
    /// Its id, which the statement names too.
    pub id: EvidenceId,
    /// `api-response`, `config`, `scan`, `null-result`, `assessment`, `attestation`, `recording`.
    pub kind: &'static str,
    /// The exact bytes that were signed.
    pub pae: Vec<u8>,
    /// Ed25519 over `pae`.
    pub signature: [u8; 64],
    /// SHA-256 of the signing key's SPKI.
    pub key_id: Digest,
}

/// What a task saw of one scope.
#[derive(Debug, Clone)]
pub struct Collection {
    /// Its id.
    pub id: CollectionId,
    /// Who read it.
    pub source: SourceId,
    /// The scope.
    pub scope: ScopeId,
    /// How much of it was seen.
    pub coverage: Coverage,
    /// Nodes that it showed.
    pub nodes: u64,
    /// Edges that it showed.
    pub edges: u64,
    /// Calls that were made; the statement says each.
    pub calls: u64,
    /// What is kept of the replies.
    pub artifacts: Vec<NewArtifact>,
    /// The signed statement of all this.
    pub statement: NewStatement,
    /// The statement of the reading before, where this one showed only the difference to it.
    pub since: Option<EvidenceId>,
    /// When the first call began.
    pub started: Timestamp,
    /// When the last call ended.
    pub finished: Timestamp,
}

/// What a statement is about, beside its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) scope: Option<&'a str>,
    pub(crate) framework: Option<&'a str>,
    pub(crate) control: Option<&'a str>,
    pub(crate) finding: Option<Uuid>,
}

/// Writes a statement. Statements are only ever added; the unit's commit makes each a leaf of the log.
pub(crate) async fn statement_insert<O: Operation>(
    unit: &mut Write<O>,
    new: &NewStatement,
    about: About<'_>,
    now: Timestamp,
) -> Result<()> {
    let tenant = unit.tenant();
    unit.statements.push(StatementLeaf { id: new.id, pae: crypto::sha256(&new.pae), at: now });
    unit.tx.execute(
        "INSERT INTO evidence (tenant_id, id, kind, scope, framework, control, finding_id, pae, signature, key_id, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        args![
            tenant,
            new.id,
            new.kind,
            about.scope.map(str::to_owned),
            about.framework.map(str::to_owned),
            about.control.map(str::to_owned),
            about.finding,
            pack(&new.pae)?,
            new.signature.to_vec(),
            new.key_id.to_hex(),
            now
        ],
    )
    .await
    .map(drop)
}

pub(crate) async fn artifact_insert(
    tx: &mut Tx,
    tenant: TenantId,
    evidence: EvidenceId,
    new: &NewArtifact,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO artifact (tenant_id, digest, size, signature, key_id, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (tenant_id, digest) DO NOTHING",
        args![tenant, new.digest, stored(new.bytes.len() as u64), new.signature.to_vec(), new.key_id.to_hex(), now],
    )
    .await?;
    tx.execute(
        "INSERT INTO evidence_artifact (tenant_id, evidence_id, digest, about) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, evidence_id, digest, about) DO NOTHING",
        args![tenant, evidence, new.digest, new.about.as_str()],
    )
    .await
    .map(drop)
}

/// What the job's log says of it.
fn told(collection: &Collection) -> (LineLevel, String) {
    let (coverage, seen) = (collection.coverage.as_str(), [collection.nodes, collection.edges, collection.calls]);
    let [nodes, edges, calls] = seen;
    match collection.coverage.reason() {
        Some(why) if !collection.coverage.is_whole() => (LineLevel::Warn, format!("{coverage}: {why}")),
        Some(why) => (LineLevel::Info, format!("{coverage}: {why}")),
        None => (LineLevel::Info, format!("{coverage}: nodes {nodes}, edges {edges}, calls {calls}")),
    }
}

impl Store {
    /// Keeps what a task saw of a scope: blobs first, then every row in one transaction with its audit record. When a task is run again its
    /// collection takes the place of the earlier one; the earlier statement stays. Bytes that are kept already take no more room.
    ///
    /// A method of the store and not of [`crate::Write`], so that no transaction is open while files are written and synced.
    pub async fn collection_add(
        &self,
        permit: Permit<ops::EvidenceCollect>,
        claim: &Claim,
        collection: Collection,
    ) -> Result<()> {
        let (tenant, task) = (permit.tenant(), claim.task());
        let bytes = collection.artifacts.iter().map(|artifact| (artifact.digest, artifact.bytes.clone())).collect();
        Blobs::of(self, tenant).put(self, bytes).await?;
        let (scope, statement) = (collection.scope.as_str(), &collection.statement);
        let key = Uuid::from_u128(ScopeKey::of(&collection.source, &collection.scope).0);

        let mut unit = self.write(permit).await?;
        work::fence(&mut unit.tx, tenant, claim).await?;
        let now = self.clock().now();
        let job = unit
            .tx
            .row("SELECT job_id, key FROM task WHERE tenant_id = $1 AND id = $2", args![tenant, task])
            .await?
            .ok_or(Error::NotFound { what: "task" })?;
        let (job, task_key) = (job.uuid(0)?, job.text(1)?);
        statement_insert(&mut unit, statement, About { scope: Some(scope), ..About::default() }, now).await?;
        for artifact in &collection.artifacts {
            artifact_insert(&mut unit.tx, tenant, statement.id, artifact, now).await?;
        }
        if let Some(since) = collection.since {
            // All that it rests on, so that a bundle has to look no further.
            let sql = "INSERT INTO evidence_basis (tenant_id, evidence_id, basis_id) SELECT tenant_id, $2, basis_id FROM evidence_basis \
                       WHERE tenant_id = $1 AND evidence_id = $3 UNION SELECT tenant_id, $2, id FROM evidence WHERE tenant_id = $1 AND id = $3";
            unit.tx.execute(sql, args![tenant, statement.id, since]).await?;
        }
        unit.tx
            .execute(
                "INSERT INTO collection (tenant_id, id, job_id, task_id, scope_key, scope, coverage, reason, nodes, edges, \
                 call_count, started_at, finished_at, evidence_id) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
                 ON CONFLICT (tenant_id, task_id, scope_key) DO UPDATE SET id = excluded.id, coverage = excluded.coverage, reason = excluded.reason, \
                 nodes = excluded.nodes, edges = excluded.edges, call_count = excluded.call_count, \
                 started_at = excluded.started_at, finished_at = excluded.finished_at, evidence_id = excluded.evidence_id",
                args![
                    tenant,
                    collection.id,
                    job,
                    task,
                    key,
                    scope,
                    collection.coverage.as_str(),
                    collection.coverage.reason().map(str::to_owned),
                    stored(collection.nodes),
                    stored(collection.edges),
                    stored(collection.calls),
                    collection.started,
                    collection.finished,
                    statement.id.as_uuid()
                ],
            )
            .await?;
        let (level, text) = told(&collection);
        let line = NewLine { level, task: &task_key, scope, text: &text };
        job_line::write(&mut unit.tx, self, tenant, JobId::from_uuid(job), line).await?;
        let detail = json!({
            "scope": scope,
            "coverage": collection.coverage.as_str(),
            "calls": collection.calls,
            "artifacts": collection.artifacts.len(),
            "statement": statement.id,
            "statement_sha256": crypto::sha256(&statement.pae),
            "task": task,
        });
        unit.commit(Change::to(Category::Evidence, "collection", collection.id).detail(detail)).await?;
        self.say_job_changed(tenant, JobId::from_uuid(job));
        Ok(())
    }
}
