//! Signed statements and artifacts as people read them, and the material of a bundle.
//!
//! **Not for** making statements (`collection.rs`, `evaluation.rs` keep them) or bundles (`evidence` and `api` do).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use access::ops;
use domain::{Digest, Error, EvidenceId, FindingId, Result, ScopeId, TenantId, Timestamp};
use evidence::LogProof;
use serde_json::json;
use uuid::Uuid;

use crate::Page;
use crate::audit::{Category, Change};
use crate::blob::Blobs;
use crate::db::{Row, Tx, args};
use crate::job::count;
use crate::packed::unpack;
use crate::unit::{Read, Write};

/// A statement without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRow {
    /// Its id.
    pub id: EvidenceId,
    /// `api-response`, `config`, `scan`, `null-result`, `assessment`, `attestation`, `recording`.
    pub kind: String,
    /// The scope that was collected.
    pub scope: Option<String>,
    /// The framework of the control that was judged.
    pub framework: Option<String>,
    /// The control that was judged.
    pub control: Option<String>,
    /// The finding that was judged.
    pub finding: Option<FindingId>,
    /// SHA-256 of the signing key's SPKI, in hex.
    pub key_id: String,
    /// When it was stored.
    pub created_at: Timestamp,
}

/// Collected bytes that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRow {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// Ed25519 over the digest's 32 bytes.
    pub signature: Vec<u8>,
    /// SHA-256 of the signing key's SPKI, in hex.
    pub key_id: String,
    /// The one resource that the call asked about; empty for a call about many.
    pub about: String,
}

/// A statement with all that belongs to it.
#[derive(Debug, Clone)]
pub struct StatementDetail {
    /// What it is.
    pub row: EvidenceRow,
    /// The exact bytes that were signed.
    pub pae: Vec<u8>,
    /// Ed25519 over `pae`.
    pub signature: Vec<u8>,
    /// The artifacts that it names; in material for a finding, those that bear on its node.
    pub artifacts: Vec<ArtifactRow>,
    /// The collections' statements that a judgement rests on.
    pub basis: Vec<EvidenceId>,
}

/// Which statements to list.
#[derive(Debug, Clone, Default)]
pub struct EvidenceFilter {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only judgements by this framework.
    pub framework: Option<String>,
    /// Only judgements of this control.
    pub control: Option<String>,
    /// Only collections of this scope.
    pub scope: Option<ScopeId>,
    /// Only judgements of this finding and collections of the scope that shows its node.
    pub finding: Option<FindingId>,
}

/// What a bundle is to be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaterialOf {
    /// A finding, with the judgements of the controls that its rule is mapped to (framework and control; the packs know them).
    Finding(FindingId, Vec<(String, String)>),
    /// A control of a framework.
    Control(String, String),
    /// Every control of a framework.
    Framework(String),
    /// One statement.
    Statement(EvidenceId),
}

/// What goes into a bundle.
#[derive(Debug, Clone)]
pub struct Material {
    /// The statements, each once, in the order of their ids.
    pub statements: Vec<StatementDetail>,
    /// That they are in the tenant's log, against one checkpoint; of a statement from before statements became leaves there is none.
    pub proofs: BTreeMap<EvidenceId, LogProof>,
    blobs: Blobs,
}

impl Material {
    /// Every artifact once, in the order of digests.
    pub fn artifacts(&self) -> Vec<&ArtifactRow> {
        let mut artifacts: Vec<&ArtifactRow> =
            self.statements.iter().flat_map(|statement| &statement.artifacts).collect();
        artifacts.sort_by_key(|artifact| artifact.digest);
        artifacts.dedup_by_key(|artifact| artifact.digest);
        artifacts
    }

    /// The bytes of one of these artifacts, checked against its digest.
    pub async fn bytes(&self, artifact: &ArtifactRow) -> Result<Vec<u8>> {
        self.blobs.load(artifact.digest).await
    }
}

macro_rules! evidence_sql {
    ($rest:literal) => {
        concat!(
            "SELECT e.id, e.kind, e.scope, e.framework, e.control, e.finding_id, e.key_id, e.created_at, e.pae, e.signature \
             FROM evidence e WHERE e.tenant_id = $1 ",
            $rest
        )
    };
}

fn evidence_row(row: &Row) -> Result<EvidenceRow> {
    Ok(EvidenceRow {
        id: EvidenceId::from_uuid(row.uuid(0)?),
        kind: row.text(1)?,
        scope: row.opt_text(2)?,
        framework: row.opt_text(3)?,
        control: row.opt_text(4)?,
        finding: row.opt_uuid(5)?.map(FindingId::from_uuid),
        key_id: row.text(6)?,
        created_at: row.time(7)?,
    })
}

pub(crate) async fn detail(tx: &mut Tx, tenant: TenantId, id: EvidenceId) -> Result<StatementDetail> {
    let row =
        tx.row(evidence_sql!("AND e.id = $2"), args![tenant, id]).await?.ok_or(Error::NotFound { what: "evidence" })?;
    let rows = tx
        .rows(
            "SELECT a.digest, a.size, a.signature, a.key_id, l.about FROM evidence_artifact l \
             JOIN artifact a ON a.tenant_id = l.tenant_id AND a.digest = l.digest \
             WHERE l.tenant_id = $1 AND l.evidence_id = $2 ORDER BY l.digest, l.about",
            args![tenant, id],
        )
        .await?;
    let mut artifacts = Vec::with_capacity(rows.len());
    for row in rows {
        artifacts.push(ArtifactRow {
            digest: row.digest(0)?,
            size: count(&row, 1)?,
            signature: row.bytes(2)?,
            key_id: row.text(3)?,
            about: row.text(4)?,
        });
    }
    let basis = tx
        .rows(
            "SELECT basis_id FROM evidence_basis WHERE tenant_id = $1 AND evidence_id = $2 ORDER BY basis_id",
            args![tenant, id],
        )
        .await?
        .iter()
        .map(|row| row.uuid(0).map(EvidenceId::from_uuid))
        .collect::<Result<_>>()?;
    Ok(StatementDetail {
        row: evidence_row(&row)?,
        pae: unpack(row.bytes(8)?)?,
        signature: row.bytes(9)?,
        artifacts,
        basis,
    })
}

async fn ids(tx: &mut Tx, sql: &'static str, values: &[crate::db::Value]) -> Result<Vec<EvidenceId>> {
    tx.rows(sql, values).await?.iter().map(|row| row.uuid(0).map(EvidenceId::from_uuid)).collect()
}

impl Read<ops::EvidenceList> {
    /// Statements, newest first.
    pub async fn evidence_list(
        &mut self,
        filter: &EvidenceFilter,
        after: Option<EvidenceId>,
        limit: u32,
    ) -> Result<Page<EvidenceRow, EvidenceId>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                evidence_sql!(
                    "AND e.id < $2 AND ($3 = '' OR e.kind = $3) AND ($4 = '' OR e.framework = $4) AND ($5 = '' OR e.control = $5) \
                     AND ($6 = '' OR e.scope = $6) AND ($7 IS NULL OR e.finding_id = $7 OR e.id IN ( \
                       SELECT c.evidence_id FROM finding f JOIN node n ON n.tenant_id = f.tenant_id AND n.key = f.node_key \
                       JOIN collection c ON c.tenant_id = n.tenant_id AND c.scope_key = n.scope_key \
                       WHERE f.tenant_id = $1 AND f.id = $7)) \
                     ORDER BY e.id DESC LIMIT $8"
                ),
                args![
                    tenant,
                    after.map_or(Uuid::max(), |id| id.as_uuid()),
                    filter.kind.clone().unwrap_or_default(),
                    filter.framework.clone().unwrap_or_default(),
                    filter.control.clone().unwrap_or_default(),
                    filter.scope.as_ref().map_or("", ScopeId::as_str),
                    filter.finding.map(|id| id.as_uuid()),
                    i64::from(limit) + 1
                ],
            )
            .await?;
        let items = rows.iter().map(evidence_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &EvidenceRow| row.id))
    }

    /// One statement with all that belongs to it.
    pub async fn evidence_show(&mut self, id: EvidenceId) -> Result<StatementDetail> {
        let tenant = self.tenant();
        detail(&mut self.tx, tenant, id).await
    }

    /// An artifact's bytes, checked against the digest.
    pub async fn artifact_read(mut self, digest: Digest) -> Result<Vec<u8>> {
        let tenant = self.tenant();
        self.tx
            .row("SELECT 1 FROM artifact WHERE tenant_id = $1 AND digest = $2", args![tenant, digest])
            .await?
            .ok_or(Error::NotFound { what: "artifact" })?;
        let blobs = Blobs::of(&self.store, tenant);
        drop(self);
        blobs.load(digest).await
    }
}

impl Write<ops::EvidenceExport> {
    /// What a bundle about this is made of; that it was asked for is in the audit log.
    ///
    /// A finding: the newest collection of the scope that shows its node, the newest judgement of the finding with what that rests on, the
    /// judgements of the given controls. A control or a framework: the judgements in force and what they rest on, and what was attested. Each statement comes with
    /// every artifact that it names: a statement without its artifacts proves less, and a verifier could not tell what is left out.
    pub async fn evidence_material(mut self, of: &MaterialOf) -> Result<Material> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let tx = &mut self.tx;
        let (mut wanted, kind, object) = match of {
            MaterialOf::Finding(finding, controls) => {
                let row = tx
                    .row(
                        "SELECT n.scope_key FROM finding f \
                         JOIN node n ON n.tenant_id = f.tenant_id AND n.key = f.node_key WHERE f.tenant_id = $1 AND f.id = $2",
                        args![tenant, *finding],
                    )
                    .await?
                    .ok_or(Error::NotFound { what: "finding" })?;
                let mut wanted = ids(
                    tx,
                    "SELECT evidence_id FROM collection WHERE tenant_id = $1 AND scope_key = $2 AND evidence_id IS NOT NULL \
                     AND coverage IN ('complete', 'partial', 'unchanged') ORDER BY finished_at DESC, id DESC LIMIT 1",
                    args![tenant, row.uuid(0)?],
                )
                .await?;
                let judged = ids(
                    tx,
                    "SELECT id FROM evidence WHERE tenant_id = $1 AND finding_id = $2 ORDER BY created_at DESC, id DESC LIMIT 1",
                    args![tenant, *finding],
                )
                .await?;
                for id in &judged {
                    wanted.extend(detail(tx, tenant, *id).await?.basis);
                }
                wanted.extend(judged);
                for (framework, control) in controls {
                    wanted.extend(
                        ids(
                            tx,
                            "SELECT evidence_id FROM control_result WHERE tenant_id = $1 AND framework = $2 AND control = $3 \
                             AND evidence_id IS NOT NULL",
                            args![tenant, framework.as_str(), control.as_str()],
                        )
                        .await?,
                    );
                }
                (wanted, "finding", finding.to_string())
            }
            MaterialOf::Control(framework, control) => {
                let found = judgements(tx, tenant, framework, Some(control), now)
                    .await?
                    .ok_or(Error::NotFound { what: "control" })?;
                (found, "control", format!("{framework}/{control}"))
            }
            MaterialOf::Framework(framework) => {
                let found =
                    judgements(tx, tenant, framework, None, now).await?.ok_or(Error::NotFound { what: "framework" })?;
                (found, "framework", framework.clone())
            }
            MaterialOf::Statement(id) => {
                let detail = detail(tx, tenant, *id).await?;
                // What was shown in a session is for who may read recordings, which is another right.
                if detail.row.kind == "recording" {
                    let message = "a recording's bundle comes with the recording: `cairn recordings download`";
                    return Err(Error::invalid("evidence", message));
                }
                let mut wanted = detail.basis;
                wanted.push(*id);
                (wanted, "statement", id.to_string())
            }
        };
        // What a reading of differences rests on goes along.
        let mut found = BTreeMap::new();
        while let Some(id) = wanted.pop() {
            if let Entry::Vacant(new) = found.entry(id) {
                let detail = detail(tx, tenant, id).await?;
                if detail.row.scope.is_some() {
                    wanted.extend(&detail.basis);
                }
                new.insert(detail);
            }
        }
        let statements = found.into_values().collect();
        let store = self.store.clone();
        let mut material = Material { statements, proofs: BTreeMap::new(), blobs: Blobs::of(&store, tenant) };
        let change = json!({"statements": material.statements.len(), "artifacts": material.artifacts().len()});
        self.commit(Change::to(Category::Evidence, kind, object).detail(change)).await?;
        let ids: Vec<EvidenceId> = material.statements.iter().map(|statement| statement.row.id).collect();
        material.proofs = store.statement_proofs(tenant, &ids).await?;
        Ok(material)
    }
}

/// The judgements in force of a framework's controls (or of one) and what they rest on; none when nothing was ever judged.
async fn judgements(
    tx: &mut Tx,
    tenant: TenantId,
    framework: &str,
    control: Option<&str>,
    now: Timestamp,
) -> Result<Option<Vec<EvidenceId>>> {
    let values = args![tenant, framework, control.unwrap_or_default()];
    let attested = attested(tx, tenant, framework, control, now).await?;
    let known = tx
        .row(
            "SELECT 1 FROM control_result WHERE tenant_id = $1 AND framework = $2 AND ($3 = '' OR control = $3) LIMIT 1",
            values,
        )
        .await?;
    if known.is_none() {
        return Ok((!attested.is_empty()).then_some(attested));
    }
    let mut found = ids(
        tx,
        "SELECT evidence_id FROM control_result WHERE tenant_id = $1 AND framework = $2 AND ($3 = '' OR control = $3) \
           AND evidence_id IS NOT NULL \
         UNION \
         SELECT b.basis_id FROM control_result r JOIN evidence_basis b ON b.tenant_id = r.tenant_id AND b.evidence_id = r.evidence_id \
         WHERE r.tenant_id = $1 AND r.framework = $2 AND ($3 = '' OR r.control = $3)",
        values,
    )
    .await?;
    found.extend(attested);
    Ok(Some(found))
}

/// What people attested of a framework's controls (or of one) in the last 13 months: what is done once a year is always among them.
async fn attested(
    tx: &mut Tx,
    tenant: TenantId,
    framework: &str,
    control: Option<&str>,
    now: Timestamp,
) -> Result<Vec<EvidenceId>> {
    let sql = "SELECT id FROM evidence WHERE tenant_id = $1 AND framework = $2 AND ($3 = '' OR control = $3) AND kind = 'attestation' \
               AND created_at > $4";
    let since = now.plus_millis(-400 * 24 * 3_600_000);
    ids(tx, sql, args![tenant, framework, control.unwrap_or_default(), since]).await
}
