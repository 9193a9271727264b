//! Judging a tenant's graph: a snapshot, the rules, the findings that change, and a signed judgement of every control.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use access::{Permit, ops};
use api::ports::Catalog as _;
use async_trait::async_trait;
use compliance::{ControlOutcome, ControlResult, Evaluation, Ruleset, Snapshot, SnapshotBuilder};
use domain::{Error, EvidenceId, FindingId, NodeId, Result, TenantId, Timestamp};
use evidence::dsse;
use evidence::statement::{AssessmentStatement, Input, Judged, NodeList, RuleCount, Statement, Verdict};
use store::{EvaluationRow, NewAssessment, NewStatement, ScopeStatement, SnapshotItem, StandingJudgement, Store};

use crate::catalog::Installed;
use crate::sign::Signer;

/// Judges tenants, each by one evaluation at a time.
pub(crate) struct Evaluator {
    store: Store,
    installed: Arc<Installed>,
    signer: Arc<Signer>,
    turns: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
}

/// An evaluation and the snapshot that it is about.
struct Snapped {
    snapshot: Snapshot,
    evaluation: Evaluation,
}

impl Evaluator {
    pub(crate) fn new(store: Store, installed: Arc<Installed>, signer: Arc<Signer>) -> Self {
        Self { store, installed, signer, turns: Mutex::default() }
    }

    fn turn(&self, tenant: TenantId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(tenant).or_default())
    }

    async fn judge(
        &self,
        permit: &Permit<ops::EvaluationRun>,
        ruleset: &Arc<Ruleset>,
        now: Timestamp,
    ) -> Result<Snapped> {
        let read = permit.ctx().authorize::<ops::NodeList>(permit.tenant())?;
        let mut builder = SnapshotBuilder::new();
        builder.scopes_known();
        self.store
            .read(read)
            .await?
            .graph_snapshot(None, |item| {
                match item {
                    SnapshotItem::Node { id, name, tags, properties } => {
                        builder.node(id.as_str(), id.node_type(), name, id.region(), id.provider(), tags, properties);
                    }
                    SnapshotItem::Unread { id } => {
                        builder.unread_node(id.as_str(), id.node_type());
                    }
                    SnapshotItem::Scope { id, read } => {
                        builder.scope(id, read);
                    }
                    SnapshotItem::Edge { source, target, edge_type, properties } => {
                        builder.edge(source, target, edge_type, properties);
                    }
                }
                Ok(())
            })
            .await?;
        let ruleset = Arc::clone(ruleset);
        tokio::task::spawn_blocking(move || {
            let snapshot = builder.build();
            let evaluation = compliance::evaluate(&ruleset, &snapshot, now);
            Snapped { snapshot, evaluation }
        })
        .await
        .map_err(Error::internal)
    }

    /// A judgement that this server's key signed; none where another key did.
    fn read_own(&self, judgement: &StandingJudgement) -> Option<AssessmentStatement> {
        match dsse::verify(&judgement.pae, &judgement.signature, &self.signer.public()).ok()? {
            Statement::Assessment(assessment) => Some(*assessment),
            _ => None,
        }
    }

    async fn run(&self, permit: Permit<ops::EvaluationRun>) -> Result<wire::finding::Evaluation> {
        let tenant = permit.tenant();
        let turn = self.turn(tenant);
        let _turn = turn.lock().await;
        let (ruleset, now) = (self.installed.ruleset(), permit.ctx().clock().now());
        let Snapped { snapshot, evaluation } = self.judge(&permit, &ruleset, now).await?;

        let ctx = permit.ctx().clone();
        let mut unit = self.store.write(permit).await?;
        let changes = compliance::diff_findings(&unit.finding_current().await?, &evaluation, &snapshot);
        let counts = unit.findings_apply(&changes).await?;
        let standing = unit.findings_standing().await?;
        let basis = Basis { by_type: unit.scopes_by_type().await?, statements: unit.scope_statements().await? };
        let in_force = unit.judgements_standing().await?;
        let mut results = Vec::new();
        for outcome in evaluation.controls(&ruleset, self.installed.frameworks()) {
            if outcome.rules.is_empty() {
                continue;
            }
            let mut evidence = None;
            if outcome.result != ControlResult::NotAssessed {
                let id = EvidenceId::generate(ctx.clock(), ctx.rng());
                let inputs = basis.of(&outcome, &ruleset);
                let statement = assessment(tenant, id, &outcome, &evaluation, &ruleset, &standing, &inputs);
                let control = (outcome.framework.clone(), outcome.control.clone());
                if let Some(earlier) = in_force.get(&control).and_then(|earlier| self.read_own(earlier))
                    && still_says(&earlier, &statement)
                {
                    results.push((outcome, Some(earlier.evidence)));
                    continue;
                }
                let signed = self.signer.sign(&Statement::Assessment(Box::new(statement)))?;
                let statement = NewStatement {
                    id,
                    kind: "assessment",
                    pae: signed.pae,
                    signature: signed.sig,
                    key_id: signed.keyid,
                };
                let basis = inputs.iter().map(|input| input.evidence).collect();
                unit.assessment_add(&NewAssessment { statement, control: Some(control), finding: None, basis }).await?;
                evidence = Some(id);
            }
            results.push((outcome, evidence));
        }
        unit.control_results_put(now, &results).await?;
        let sum = |count: fn(&compliance::RuleOutcome) -> u64| evaluation.rules.iter().map(count).sum::<u64>();
        let row = EvaluationRow {
            at: now,
            ruleset: ruleset.digest(),
            rules: ruleset.rules().len() as u64,
            nodes: snapshot.len() as u64,
            passed: sum(|rule| rule.passed),
            failed: sum(|rule| rule.failed),
            errors: sum(|rule| rule.errors),
        };
        unit.evaluation_finish(&row, counts).await?;
        // Whoever looks at the graph next shall not wait until it is read.
        let looking = ctx.authorize::<ops::GraphOverview>(tenant)?;
        if let Err(error) = self.store.graph_prepare(looking).await {
            tracing::warn!(%tenant, %error, "the graph's first look could not be made ready: it is when somebody looks");
        }
        Ok(wire::finding::Evaluation {
            at: row.at,
            rules: row.rules,
            nodes: row.nodes,
            passed: row.passed,
            failed: row.failed,
            errors: row.errors,
            changes: counts.opened + counts.reopened + counts.updated + counts.resolved,
        })
    }
}

#[async_trait]
impl api::ports::Evaluate for Evaluator {
    async fn evaluate(&self, permit: Permit<ops::EvaluationRun>) -> Result<wire::finding::Evaluation> {
        self.run(permit).await
    }
}

/// Which collections a judgement can rest on.
struct Basis {
    by_type: BTreeMap<String, BTreeSet<String>>,
    statements: Vec<ScopeStatement>,
}

impl Basis {
    /// The newest collection of every scope that shows nodes of the types that the control's rules judge.
    fn of<'a>(&'a self, outcome: &ControlOutcome, ruleset: &Ruleset) -> Vec<&'a ScopeStatement> {
        let types = outcome.rules.iter().filter_map(|id| ruleset.rule(id)).flat_map(|rule| &rule.node_types);
        let scopes: BTreeSet<&str> =
            types.filter_map(|kind| self.by_type.get(kind)).flatten().map(String::as_str).collect();
        self.statements.iter().filter(|statement| scopes.contains(statement.scope.as_str())).collect()
    }
}

/// How long a judgement may stand in for later ones that say the same.
const ATTEST_AGAIN_MS: i64 = 24 * 60 * 60 * 1_000;

/// Whether an earlier judgement says what a new one would: the same rules, on the same collections, with the same outcome, not a day ago.
fn still_says(earlier: &AssessmentStatement, new: &AssessmentStatement) -> bool {
    let age = new.evaluated_at.millis_since(earlier.evaluated_at);
    // But for its id and its time, which differ always, and the files, which follow from the inputs.
    let alike = AssessmentStatement {
        evidence: earlier.evidence,
        evaluated_at: earlier.evaluated_at,
        subjects: earlier.subjects.clone(),
        ..new.clone()
    };
    (0..ATTEST_AGAIN_MS).contains(&age) && alike == *earlier
}

fn verdict(result: ControlResult) -> Verdict {
    match result {
        ControlResult::Pass => Verdict::Pass,
        ControlResult::Partial => Verdict::Partial,
        ControlResult::Fail => Verdict::Fail,
        ControlResult::NotAssessed => Verdict::NotAssessed,
    }
}

fn assessment(
    tenant: TenantId,
    id: EvidenceId,
    outcome: &ControlOutcome,
    evaluation: &Evaluation,
    ruleset: &Ruleset,
    standing: &BTreeMap<(String, String), FindingId>,
    inputs: &[&ScopeStatement],
) -> AssessmentStatement {
    let rules = outcome.rules.iter().filter_map(|id| evaluation.rule(id)).map(|rule| RuleCount {
        rule: rule.rule_id.clone(),
        passed: rule.passed,
        failed: rule.failed,
        not_assessed: rule.errors,
    });
    let failures = || evaluation.failures.iter().filter(|failure| outcome.rules.contains(&failure.rule_id));
    let findings: BTreeSet<FindingId> = failures()
        .filter_map(|failure| standing.get(&(failure.rule_id.clone(), failure.node_id.clone())))
        .copied()
        .collect();
    let nodes: BTreeSet<NodeId> = failures().filter_map(|failure| failure.node_id.parse().ok()).collect();
    AssessmentStatement {
        subjects: Vec::new(),
        tenant,
        evidence: id,
        judged: Judged::Control { framework: outcome.framework.clone(), control: outcome.control.clone() },
        result: verdict(outcome.result),
        rules: rules.collect(),
        findings: findings.into_iter().collect(),
        nodes: NodeList::new(nodes),
        pack_sha256: ruleset.digest(),
        evaluated_at: evaluation.now,
        inputs: inputs.iter().map(|input| Input { evidence: input.evidence, pae_sha256: input.pae_sha256 }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use crypto::ed25519::SigningKey;

    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn judgement(evidence: &str, at: Timestamp) -> AssessmentStatement {
        let digest = |text: &[u8]| crypto::sha256(text);
        let id = |text: &str| text.parse::<EvidenceId>().unwrap();
        AssessmentStatement {
            subjects: Vec::new(),
            tenant: format!("ten_{}1", "0".repeat(25)).parse().unwrap(),
            evidence: id(&format!("evd_{}{evidence}", "0".repeat(25))),
            judged: Judged::Control { framework: "nist-800-53-r5".to_owned(), control: "AC-6".to_owned() },
            result: Verdict::Fail,
            rules: vec![RuleCount { rule: "a-rule".to_owned(), passed: 1, failed: 1, not_assessed: 0 }],
            findings: vec![format!("fnd_{}3", "0".repeat(25)).parse().unwrap()],
            nodes: NodeList::new(["aws:r:aws.s3.bucket:b".parse().unwrap()]),
            pack_sha256: digest(b"pack"),
            evaluated_at: at,
            inputs: vec![Input {
                evidence: id(&format!("evd_{}2", "0".repeat(25))),
                pae_sha256: digest(b"collection"),
            }],
        }
    }

    #[test]
    fn a_judgement_stands_for_a_day_and_only_while_everything_in_it_is_the_same() {
        let key = SigningKey::generate().unwrap();
        let signed = dsse::sign(&Statement::Assessment(Box::new(judgement("9", NOON))).to_json().unwrap(), &key);
        let Statement::Assessment(earlier) = dsse::verify(&signed.pae, &signed.sig, &key.public()).unwrap() else {
            panic!("an assessment was signed")
        };
        let later = |ms: i64| judgement("8", NOON.plus_millis(ms));
        assert!(still_says(&earlier, &later(1)));
        assert!(still_says(&earlier, &later(ATTEST_AGAIN_MS - 1)));
        assert!(!still_says(&earlier, &later(ATTEST_AGAIN_MS)));
        assert!(!still_says(&earlier, &later(-1)), "the clock was set back");
        let changes: [fn(&mut AssessmentStatement); 6] = [
            |new| new.result = Verdict::Pass,
            |new| new.rules[0].failed = 2,
            |new| new.findings.clear(),
            |new| new.nodes = NodeList::new([]),
            |new| new.pack_sha256 = crypto::sha256(b"other"),
            |new| new.inputs[0].pae_sha256 = crypto::sha256(b"newer"),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut new = later(1);
            change(&mut new);
            assert!(!still_says(&earlier, &new), "change {at}");
        }
    }
}
