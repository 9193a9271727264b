//! What an evaluation writes: findings, control results and signed assessments, in one transaction with one audit record.
//!
//! Evaluate first, on a snapshot and without a transaction; then open the write, take [`Write::finding_current`], diff, apply, finish. The
//! write waits for nobody but other writers of findings.

use access::ops;
use compliance::{ControlOutcome, ControlResult, CurrentFinding, Facts, FindingChange, Resolution};
use domain::{Digest, Error, EvidenceId, FindingId, NodeId, Result, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::audit::{Category, Change};
use crate::bulk::Batch;
use crate::collection::{About, NewStatement, statement_insert};
use crate::db::{Row, args};
use crate::finding::{lock_findings, node_key};
use crate::job::{count, stored};
use crate::packed::unpack;
use crate::unit::{Read, Write};
use crate::{Page, finding_node, graph_map, posture};

/// How many findings an evaluation changed how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct FindingCounts {
    /// New ones.
    pub opened: u64,
    /// Open again.
    pub reopened: u64,
    /// Same state, other facts.
    pub updated: u64,
    /// Resolved.
    pub resolved: u64,
}

/// An evaluation in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationRow {
    /// The moment that it judged.
    pub at: Timestamp,
    /// Digest of the rules.
    pub ruleset: Digest,
    /// Rules.
    pub rules: u64,
    /// Nodes.
    pub nodes: u64,
    /// Pairs of rule and node that passed.
    pub passed: u64,
    /// That failed.
    pub failed: u64,
    /// That could not be judged.
    pub errors: u64,
}

/// A signed judgement to keep: of a control, or of one finding.
#[derive(Debug, Clone)]
pub struct NewAssessment {
    /// The statement.
    pub statement: NewStatement,
    /// Framework and control, where it judges a control.
    pub control: Option<(String, String)>,
    /// The finding, where it judges one.
    pub finding: Option<FindingId>,
    /// The collections' statements that it rests on.
    pub basis: Vec<EvidenceId>,
}

/// The newest readable collection of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeStatement {
    /// The scope.
    pub scope: String,
    /// Its signed statement.
    pub evidence: EvidenceId,
    /// SHA-256 of the signed bytes.
    pub pae_sha256: Digest,
    /// When it was collected.
    pub finished_at: Timestamp,
}

/// Where a control stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRow {
    /// The framework.
    pub framework: String,
    /// The control.
    pub control: String,
    /// `pass`, `partial`, `fail`, `not_assessed`.
    pub result: String,
    /// Nodes that passed, over all rules.
    pub passed: u64,
    /// Nodes that failed.
    pub failed: u64,
    /// Nodes that could not be judged.
    pub errors: u64,
    /// When it was judged.
    pub evaluated_at: Timestamp,
    /// The signed judgement.
    pub evidence: Option<EvidenceId>,
}

/// The signed judgement of a control, and what it rests on.
#[derive(Debug, Clone)]
pub struct ControlJudgement {
    /// Its id.
    pub evidence: EvidenceId,
    /// The exact bytes that were signed.
    pub pae: Vec<u8>,
    /// Ed25519 over `pae`.
    pub signature: Vec<u8>,
    /// SHA-256 of the signing key's SPKI, in hex.
    pub key_id: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// The collections' statements that it rests on: id, scope, kind and time, by scope; at most [`CONTROL_BASIS`].
    pub basis: Vec<(EvidenceId, Option<String>, String, Timestamp)>,
    /// How many those are.
    pub basis_total: u64,
}

/// Most collections that are listed of a control's judgement.
pub const CONTROL_BASIS: u32 = 100;

/// Which controls to list.
#[derive(Debug, Clone, Default)]
pub struct ControlFilter {
    /// Only of this framework.
    pub framework: Option<String>,
    /// Only with this result.
    pub result: Option<String>,
}

const fn result_text(result: ControlResult) -> &'static str {
    match result {
        ControlResult::Pass => "pass",
        ControlResult::Partial => "partial",
        ControlResult::Fail => "fail",
        ControlResult::NotAssessed => "not_assessed",
    }
}

const fn resolution_text(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Fixed => "fixed",
        Resolution::NodeClosed => "node_closed",
        Resolution::RuleRemoved => "rule_removed",
    }
}

fn key(node_id: &str) -> Result<u128> {
    let id: NodeId = node_id
        .parse()
        .map_err(|error| Error::internal(format!("an evaluation names the node `{node_id}`: {error}")))?;
    Ok(node_key(&id).as_u128())
}

/// Findings of one kind of change, column by column.
#[derive(Default)]
struct Columns<'a> {
    rules: Vec<&'a str>,
    nodes: Vec<u128>,
    severities: Vec<&'a str>,
    risks: Vec<i64>,
    messages: Vec<&'a str>,
    values: Vec<String>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, rule: &'a str, node: &str, facts: &'a Facts) -> Result<()> {
        self.rules.push(rule);
        self.nodes.push(key(node)?);
        self.severities.push(facts.severity.as_str());
        self.risks.push(i64::from(facts.risk_score));
        self.messages.push(&facts.message);
        self.values.push(facts.values.to_string());
        Ok(())
    }

    fn batch(&self) -> Batch<'_> {
        Batch::new()
            .text("rule_id", self.rules.iter().copied())
            .uuid("node_key", self.nodes.iter().copied())
            .text("severity", self.severities.iter().copied())
            .i64("risk", self.risks.iter().copied())
            .text("message", self.messages.iter().copied())
            .text("facts", self.values.iter().map(String::as_str))
    }
}

impl Write<ops::EvaluationRun> {
    /// Every finding, for `compliance::diff_findings`. From here to the end of the transaction nobody else changes a finding.
    pub async fn finding_current(&mut self) -> Result<Vec<CurrentFinding>> {
        let tenant = self.tenant();
        lock_findings(&mut self.tx, tenant).await?;
        let (mut current, mut stale) = (Vec::new(), Vec::new());
        self.tx
            .for_each(
                "SELECT f.rule_id, n.id, f.status, f.accepted_until, f.severity, f.risk, f.message, f.facts, \
                   CASE WHEN s.name = n.name THEN NULL ELSE n.key END \
                 FROM finding f CROSS JOIN node n LEFT JOIN finding_node s ON s.tenant_id = f.tenant_id AND s.key = f.node_key \
                 WHERE f.tenant_id = $1 AND n.tenant_id = f.tenant_id AND n.key = f.node_key",
                args![tenant],
                |row| {
                    stale.extend(row.opt_uuid(8)?.map(|key| key.as_u128()));
                    current.push(CurrentFinding {
                        rule_id: row.text(0)?,
                        node_id: row.text(1)?,
                        status: row.parse(2)?,
                        accepted_until: row.opt_time(3)?,
                        facts: Facts {
                            severity: row.parse(4)?,
                            risk_score: u8::try_from(row.i64(5)?).unwrap_or(u8::MAX),
                            message: row.text(6)?,
                            values: row.json(7)?,
                        },
                    });
                    Ok(())
                },
            )
            .await?;
        finding_node::again(&mut self.tx, tenant, &stale).await?;
        Ok(current)
    }

    /// Applies what the diff says. No changes write nothing.
    pub async fn findings_apply(&mut self, changes: &[FindingChange]) -> Result<FindingCounts> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let (mut opened, mut reopened, mut updated) = (Columns::default(), Columns::default(), Columns::default());
        let (mut rules, mut nodes, mut why) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                FindingChange::Open { rule_id, node_id, facts } => opened.push(rule_id, node_id, facts)?,
                FindingChange::Reopen { rule_id, node_id, facts, .. } => reopened.push(rule_id, node_id, facts)?,
                FindingChange::Update { rule_id, node_id, facts } => updated.push(rule_id, node_id, facts)?,
                FindingChange::Resolve { rule_id, node_id, resolution } => {
                    rules.push(rule_id.as_str());
                    nodes.push(key(node_id)?);
                    why.push(resolution_text(*resolution));
                }
            }
        }
        let ids: Vec<u128> = opened
            .rules
            .iter()
            .map(|_| FindingId::generate(&**self.store.clock(), &**self.store.rng()).as_uuid().as_u128())
            .collect();
        if !changes.is_empty() {
            graph_map::changed(&mut self.tx, tenant, graph_map::Part::Findings).await?;
        }
        finding_node::add(&mut self.tx, tenant, opened.nodes.iter().copied()).await?;
        Ok(FindingCounts {
            opened: self
                .tx
                .bulk(
                    &opened.batch().uuid("id", ids),
                    "INSERT INTO finding (tenant_id, id, rule_id, node_key, status, severity, risk, message, facts, first_seen, changed_at, \
                     status_at) SELECT $1, v.id, v.rule_id, v.node_key, 'open', v.severity, v.risk, v.message, v.facts, $2, $2, $2 FROM v",
                    args![tenant, now],
                )
                .await?,
            reopened: self
                .tx
                .bulk(
                    &reopened.batch(),
                    "UPDATE finding SET status = 'open', severity = v.severity, risk = v.risk, message = v.message, facts = v.facts, \
                     changed_at = $2, status_at = $2, resolved_at = NULL, resolution = NULL, accepted_by = NULL, accepted_reason = NULL, \
                     accepted_until = NULL \
                     FROM LOOKUP(finding f rule_id node_key) SAME(finding f)",
                    args![tenant, now],
                )
                .await?,
            updated: self
                .tx
                .bulk(
                    &updated.batch(),
                    "UPDATE finding SET severity = v.severity, risk = v.risk, message = v.message, facts = v.facts, changed_at = $2, \
                     status_at = COALESCE(f.status_at, f.changed_at) \
                     FROM LOOKUP(finding f rule_id node_key) SAME(finding f)",
                    args![tenant, now],
                )
                .await?,
            resolved: self
                .tx
                .bulk(
                    &Batch::new().text("rule_id", rules).uuid("node_key", nodes).text("resolution", why),
                    "UPDATE finding SET status = 'resolved', changed_at = $2, status_at = $2, resolved_at = $2, resolution = v.resolution, \
                     accepted_by = NULL, accepted_reason = NULL, accepted_until = NULL \
                     FROM LOOKUP(finding f rule_id node_key) SAME(finding f)",
                    args![tenant, now],
                )
                .await?,
        })
    }

    /// The newest collection of each scope that brought something, for an assessment to rest on; by scope.
    pub async fn scope_statements(&mut self) -> Result<Vec<ScopeStatement>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                "SELECT c.scope, e.id, e.pae, c.finished_at FROM collection c \
                 JOIN evidence e ON e.tenant_id = c.tenant_id AND e.id = c.evidence_id \
                 WHERE c.tenant_id = $1 AND c.coverage IN ('complete', 'partial', 'absent', 'unchanged') AND NOT EXISTS ( \
                   SELECT 1 FROM collection l WHERE l.tenant_id = c.tenant_id AND l.scope_key = c.scope_key \
                     AND l.coverage IN ('complete', 'partial', 'absent', 'unchanged') \
                     AND (l.finished_at > c.finished_at OR (l.finished_at = c.finished_at AND l.id > c.id))) \
                 ORDER BY c.scope",
                args![tenant],
            )
            .await?;
        let mut scopes = Vec::with_capacity(rows.len());
        for row in rows {
            scopes.push(ScopeStatement {
                scope: row.text(0)?,
                evidence: EvidenceId::from_uuid(row.uuid(1)?),
                pae_sha256: crypto::sha256(&unpack(row.bytes(2)?)?),
                finished_at: row.time(3)?,
            });
        }
        Ok(scopes)
    }

    /// Keeps a signed judgement.
    pub async fn assessment_add(&mut self, new: &NewAssessment) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let about = About {
            scope: None,
            framework: new.control.as_ref().map(|(framework, _)| framework.as_str()),
            control: new.control.as_ref().map(|(_, control)| control.as_str()),
            finding: new.finding.map(|id| id.as_uuid()),
        };
        statement_insert(self, &new.statement, about, now).await?;
        let basis = Batch::new().uuid("id", new.basis.iter().map(|id| id.as_uuid().as_u128()));
        self.tx
            .bulk(
                &basis,
                "INSERT INTO evidence_basis (tenant_id, evidence_id, basis_id) SELECT $1, $2, v.id FROM v",
                args![tenant, new.statement.id],
            )
            .await
            .map(drop)
    }

    /// Puts the control results in the place of those that there are, and notes how each framework stands today. `evidence`: the signed
    /// judgement of each, where there is one.
    pub async fn control_results_put(
        &mut self,
        at: Timestamp,
        results: &[(ControlOutcome, Option<EvidenceId>)],
    ) -> Result<()> {
        let tenant = self.tenant();
        self.tx.execute("DELETE FROM control_result WHERE tenant_id = $1", args![tenant]).await?;
        // The nil id stands for none: batches hold no nulls.
        let rows = Batch::new()
            .text("framework", results.iter().map(|(outcome, _)| outcome.framework.as_str()))
            .text("control", results.iter().map(|(outcome, _)| outcome.control.as_str()))
            .text("result", results.iter().map(|(outcome, _)| result_text(outcome.result)))
            .i64("passed", results.iter().map(|(outcome, _)| stored(outcome.passed)))
            .i64("failed", results.iter().map(|(outcome, _)| stored(outcome.failed)))
            .i64("errors", results.iter().map(|(outcome, _)| stored(outcome.errors)))
            .uuid("evidence_id", results.iter().map(|(_, evidence)| evidence.map_or(0, |id| id.as_uuid().as_u128())));
        self.tx
            .bulk(
                &rows,
                "INSERT INTO control_result (tenant_id, framework, control, result, passed, failed, errors, evaluated_at, evidence_id) \
                 SELECT $1, v.framework, v.control, v.result, v.passed, v.failed, v.errors, $2, NULLIF(v.evidence_id, $3) FROM v",
                args![tenant, at, Uuid::nil()],
            )
            .await?;
        posture::note(&mut self.tx, tenant, at, results.iter().map(|(outcome, _)| outcome)).await
    }

    /// Keeps everything that this unit did, with the evaluation's numbers and one audit record. An evaluation of an earlier moment than the
    /// last one's is refused: its findings would be out of date.
    pub async fn evaluation_finish(mut self, evaluation: &EvaluationRow, counts: FindingCounts) -> Result<()> {
        let tenant = self.tenant();
        lock_findings(&mut self.tx, tenant).await?;
        let newer = self
            .tx
            .row("SELECT 1 FROM evaluation WHERE tenant_id = $1 AND at > $2 LIMIT 1", args![tenant, evaluation.at])
            .await?;
        if newer.is_some() {
            return Err(Error::conflict("a newer evaluation has finished already"));
        }
        let mut random = [0u8; 16];
        self.store.rng().fill(&mut random);
        let id = Uuid::from_bytes(random);
        self.tx
            .execute(
                "INSERT INTO evaluation (tenant_id, id, at, ruleset, rules, nodes, passed, failed, errors) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                args![
                    tenant,
                    id,
                    evaluation.at,
                    evaluation.ruleset,
                    stored(evaluation.rules),
                    stored(evaluation.nodes),
                    stored(evaluation.passed),
                    stored(evaluation.failed),
                    stored(evaluation.errors)
                ],
            )
            .await?;
        let detail = json!({
            "at": evaluation.at,
            "ruleset": evaluation.ruleset,
            "rules": evaluation.rules,
            "nodes": evaluation.nodes,
            "passed": evaluation.passed,
            "failed": evaluation.failed,
            "errors": evaluation.errors,
            "findings": counts,
        });
        self.commit(Change::to(Category::Evidence, "evaluation", id).detail(detail)).await.map(drop)
    }
}

fn control_row(row: &Row) -> Result<ControlRow> {
    Ok(ControlRow {
        framework: row.text(0)?,
        control: row.text(1)?,
        result: row.text(2)?,
        passed: count(row, 3)?,
        failed: count(row, 4)?,
        errors: count(row, 5)?,
        evaluated_at: row.time(6)?,
        evidence: row.opt_uuid(7)?.map(EvidenceId::from_uuid),
    })
}

impl Read<ops::ControlList> {
    /// Control results by framework and control.
    pub async fn control_list(
        &mut self,
        filter: &ControlFilter,
        after: Option<(String, String)>,
        limit: u32,
    ) -> Result<Page<ControlRow, (String, String)>> {
        let tenant = self.tenant();
        let (after_framework, after_control) = after.unwrap_or_default();
        let rows = self
            .tx
            .rows(
                "SELECT framework, control, result, passed, failed, errors, evaluated_at, evidence_id FROM control_result \
                 WHERE tenant_id = $1 AND (framework > $2 OR (framework = $2 AND control > $3)) AND ($4 = '' OR framework = $4) \
                   AND ($5 = '' OR result = $5) ORDER BY framework, control LIMIT $6",
                args![
                    tenant,
                    after_framework,
                    after_control,
                    filter.framework.clone().unwrap_or_default(),
                    filter.result.clone().unwrap_or_default(),
                    i64::from(limit) + 1
                ],
            )
            .await?;
        let items = rows.iter().map(control_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &ControlRow| (row.framework.clone(), row.control.clone())))
    }

    /// One control, with its signed judgement where there is one.
    pub async fn control_show(
        &mut self,
        framework: &str,
        control: &str,
    ) -> Result<(ControlRow, Option<ControlJudgement>)> {
        let tenant = self.tenant();
        let row = self
            .tx
            .row(
                "SELECT framework, control, result, passed, failed, errors, evaluated_at, evidence_id FROM control_result \
                 WHERE tenant_id = $1 AND framework = $2 AND control = $3",
                args![tenant, framework, control],
            )
            .await?
            .ok_or(Error::NotFound { what: "control" })?;
        let row = control_row(&row)?;
        let Some(evidence) = row.evidence else { return Ok((row, None)) };
        let statement = self
            .tx
            .row(
                "SELECT pae, signature, key_id, created_at FROM evidence WHERE tenant_id = $1 AND id = $2",
                args![tenant, evidence],
            )
            .await?;
        let Some(statement) = statement else { return Ok((row, None)) };
        let total = self
            .tx
            .row(
                "SELECT COUNT(*) FROM evidence_basis WHERE tenant_id = $1 AND evidence_id = $2",
                args![tenant, evidence],
            )
            .await?;
        let basis = self
            .tx
            .rows(
                "SELECT e.id, e.scope, e.kind, e.created_at FROM evidence_basis b \
                 JOIN evidence e ON e.tenant_id = b.tenant_id AND e.id = b.basis_id \
                 WHERE b.tenant_id = $1 AND b.evidence_id = $2 ORDER BY e.scope, e.id LIMIT $3",
                args![tenant, evidence, i64::from(CONTROL_BASIS)],
            )
            .await?;
        let basis = basis
            .iter()
            .map(|row| Ok((EvidenceId::from_uuid(row.uuid(0)?), row.opt_text(1)?, row.text(2)?, row.time(3)?)))
            .collect::<Result<_>>()?;
        let judgement = ControlJudgement {
            evidence,
            pae: unpack(statement.bytes(0)?)?,
            signature: statement.bytes(1)?,
            key_id: statement.text(2)?,
            created_at: statement.time(3)?,
            basis,
            basis_total: total.map(|row| count(&row, 0)).transpose()?.unwrap_or_default(),
        };
        Ok((row, Some(judgement)))
    }

    /// The last evaluation in numbers.
    pub async fn evaluation_last(&mut self) -> Result<Option<EvaluationRow>> {
        let tenant = self.tenant();
        let row = self
            .tx
            .row(
                "SELECT at, ruleset, rules, nodes, passed, failed, errors FROM evaluation WHERE tenant_id = $1 ORDER BY at DESC, id LIMIT 1",
                args![tenant],
            )
            .await?;
        row.map(|row| {
            Ok(EvaluationRow {
                at: row.time(0)?,
                ruleset: row.digest(1)?,
                rules: count(&row, 2)?,
                nodes: count(&row, 3)?,
                passed: count(&row, 4)?,
                failed: count(&row, 5)?,
                errors: count(&row, 6)?,
            })
        })
        .transpose()
    }
}
