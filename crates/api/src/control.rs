//! Rules and how the controls stand.

use access::ops;
use axum::Json;
use axum::extract::State;
use compliance::Rule as Installed;
use domain::Error;
use evidence::dsse;
use evidence::statement::{AssessmentStatement, Statement};
use serde::Deserialize;
use store::{ControlFilter, ControlJudgement, ControlRow};
use wire::List;
use wire::control::{Control, ControlDetail, ControlRule, Judgement, JudgementBasis, Rule, RulePatch};

use crate::caller::Caller;
use crate::page::{self, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// A rule's controls as `framework:control`.
pub(crate) fn controls(rule: &Installed) -> Vec<String> {
    rule.controls.iter().flat_map(|(framework, ids)| ids.iter().map(move |id| format!("{framework}:{id}"))).collect()
}

fn document(ruleset: &compliance::Ruleset, rule: &Installed) -> Rule {
    let patches = rule.patches.iter().map(|patch| RulePatch {
        form: patch.form.as_str().to_owned(),
        place: patch.place.clone(),
        text: patch.text.clone(),
    });
    let pack = ruleset.packs().iter().find(|pack| pack.id == rule.pack);
    Rule {
        id: rule.id.clone(),
        pack: rule.pack.clone(),
        title: rule.title.clone(),
        severity: rule.severity.to_string(),
        node_types: rule.node_types.clone(),
        condition: rule.condition_text.clone(),
        remediation: rule.remediation.clone(),
        rationale: rule.rationale.clone(),
        patches: patches.collect(),
        references: rule.references.clone(),
        source: pack.map(|pack| pack.source.clone()).unwrap_or_default(),
        controls: controls(rule),
    }
}

/// The rules that are in force.
#[utoipa::path(get, path = "/api/v1/rules", tag = "controls", responses((status = 200, description = "rules", body = List<Rule>)))]
pub(crate) async fn rule_list(State(state): State<ApiState>, caller: Caller) -> Answer<Json<List<Rule>>> {
    caller.may_work()?;
    let ruleset = state.catalog.ruleset();
    let rules = ruleset.rules().iter().map(|rule| document(&ruleset, rule));
    Ok(page::whole(rules.collect()))
}

/// Which controls.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlQuery {
    /// A framework, e.g. `nist-800-53-r5`.
    framework: Option<String>,
    /// `pass`, `partial`, `fail` or `not_assessed`.
    result: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// Where a page of controls begins: behind this framework and control, whose ids hold no `/`.
struct Key((String, String));

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.0, self.0.1)
    }
}

impl std::str::FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (framework, control) = text.split_once('/').ok_or(())?;
        Ok(Self((framework.to_owned(), control.to_owned())))
    }
}

/// How the controls stand that have rules.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/controls", tag = "controls", params(("tenant" = String, Path, description = "id or slug"), ControlQuery),
    responses((status = 200, description = "controls", body = List<Control>)))]
pub(crate) async fn control_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<ControlQuery>,
) -> Answer<Json<List<Control>>> {
    let permit = caller.permit::<ops::ControlList>(&tenant).await?;
    let filter = ControlFilter { framework: query.framework, result: query.result };
    let (after, limit) = (page::after::<Key>(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let rows = state.store.read(permit).await?.control_list(&filter, after.map(|key| key.0), limit).await?;
    let rows = store::Page { items: rows.items, next: rows.next.map(Key) };
    Ok(page::list(rows, |row: ControlRow| control(&*state.catalog, row)))
}

fn control(catalog: &dyn crate::ports::Catalog, row: ControlRow) -> Control {
    Control {
        title: catalog.control_title(&row.framework, &row.control),
        framework: row.framework,
        control: row.control,
        result: row.result,
        passed: row.passed,
        failed: row.failed,
        errors: row.errors,
        evaluated_at: Some(row.evaluated_at),
        evidence: row.evidence.map(|id| id.to_string()),
    }
}

/// What the judgement says, where this server's key signed it.
fn assessment(state: &ApiState, judgement: &ControlJudgement) -> Option<AssessmentStatement> {
    match dsse::verify(&judgement.pae, &judgement.signature, &state.evidence_key).ok()? {
        Statement::Assessment(assessment) => Some(*assessment),
        _ => None,
    }
}

/// A control's rules by the packs in force, and those that the judgement still knows.
fn rules_of(
    ruleset: &compliance::Ruleset,
    (framework, control): (&str, &str),
    said: Option<&AssessmentStatement>,
) -> Vec<ControlRule> {
    let judged = |id: &str| said.and_then(|said| said.rules.iter().find(|rule| rule.rule == id));
    let supports =
        |rule: &&Installed| rule.controls.get(framework).is_some_and(|ids| ids.iter().any(|id| id == control));
    let installed = ruleset.rules().iter().filter(supports).map(|rule| {
        let counts = judged(&rule.id);
        ControlRule {
            rule: rule.id.clone(),
            title: rule.title.clone(),
            severity: rule.severity.to_string(),
            node_types: rule.node_types.clone(),
            passed: counts.map(|counts| counts.passed),
            failed: counts.map(|counts| counts.failed),
            unknown: counts.map(|counts| counts.not_assessed),
        }
    });
    let mut rules: Vec<ControlRule> = installed.collect();
    // What was judged stays, so that the numbers add up: also of a rule that supports the control no more.
    let gone =
        said.iter().flat_map(|said| &said.rules).filter(|count| !rules.iter().any(|rule| rule.rule == count.rule));
    let gone: Vec<ControlRule> = gone
        .map(|count| {
            let rule = ruleset.rule(&count.rule);
            ControlRule {
                rule: count.rule.clone(),
                title: rule.map_or_else(|| "the rule is no longer installed".to_owned(), |rule| rule.title.clone()),
                severity: rule.map(|rule| rule.severity.to_string()).unwrap_or_default(),
                node_types: rule.map(|rule| rule.node_types.clone()).unwrap_or_default(),
                passed: Some(count.passed),
                failed: Some(count.failed),
                unknown: Some(count.not_assessed),
            }
        })
        .collect();
    rules.extend(gone);
    rules
}

/// One control: its rules and how they judged, who says so, and on what.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/controls/{control}", tag = "controls",
    params(("tenant" = String, Path, description = "id or slug"), ("control" = String, Path, description = "`framework:control`, e.g. `nist-800-53-r5:AC-6`")),
    responses((status = 200, description = "control", body = ControlDetail)))]
pub(crate) async fn control_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<ControlDetail>> {
    let permit = caller.permit::<ops::ControlList>(&tenant).await?;
    let (framework, name) = id.split_once(':').ok_or(Error::NotFound { what: "control" })?;
    let (row, judgement) = state.store.read(permit).await?.control_show(framework, name).await?;
    let said = judgement.as_ref().and_then(|judgement| assessment(&state, judgement));
    let rules = rules_of(&state.catalog.ruleset(), (framework, name), said.as_ref());
    let judgement = judgement.map(|judgement| Judgement {
        evidence: judgement.evidence,
        key: judgement.key_id,
        verified: said.is_some(),
        signed_at: judgement.created_at,
        rules_sha256: said.as_ref().map(|said| said.pack_sha256.to_hex()),
        basis_total: judgement.basis_total,
        basis: judgement
            .basis
            .into_iter()
            .map(|(evidence, scope, kind, signed_at)| JudgementBasis { evidence, scope, kind, signed_at })
            .collect(),
    });
    let framework_title = state.catalog.framework_title(framework);
    Ok(Json(ControlDetail { control: control(&*state.catalog, row), framework_title, rules, judgement }))
}
