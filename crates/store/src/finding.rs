//! Findings as people see them and what they do to them: accept, reopen, resolve. What an evaluation does to them is in `evaluation.rs`.
//!
//! States: open -> accepted (with a reason and an end) or resolved by hand; accepted -> open again or resolved; resolved -> open again.
//! A finding that was resolved or reopened by hand against the facts does not stay so: the next evaluation opens it if the node still
//! fails, and resolves it if the node complies.

use std::cmp::Reverse;

use access::ops;
use domain::{Error, FindingId, FindingStatus, NodeId, Result, Severity, TenantId, Timestamp};
use inventory::NodeKey;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::audit::{Category, Change};
use crate::bulk::Batch;
use crate::db::{Engine, Row, Tx, Value as DbValue, args};
use crate::job::count;
use crate::unit::{Read, Write};
use crate::{Page, graph_map};

/// Longest reason of an acceptance, in characters.
const REASON_CHARS: usize = 1_000;
/// Longest acceptance: a leap year.
const ACCEPTED_MS_MAX: i64 = 366 * 86_400_000;

/// A finding.
#[derive(Debug, Clone)]
pub struct FindingRow {
    /// Its id.
    pub id: FindingId,
    /// The rule that the node violates.
    pub rule_id: String,
    /// The node.
    pub node_id: String,
    /// The node's type.
    pub node_type: String,
    /// The node's name.
    pub node_name: String,
    /// Where it stands.
    pub status: FindingStatus,
    /// How bad it is.
    pub severity: Severity,
    /// 0 to 100.
    pub risk: i64,
    /// In one line.
    pub message: String,
    /// The values that made it fail.
    pub values: Value,
    /// When it was first found.
    pub first_seen: Timestamp,
    /// When its state or facts last changed.
    pub changed_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// Why: `fixed`, `node_closed`, `rule_removed`, `manual`.
    pub resolution: Option<String>,
    /// Who accepted it.
    pub accepted_by: Option<String>,
    /// Why.
    pub accepted_reason: Option<String>,
    /// Until when.
    pub accepted_until: Option<Timestamp>,
}

/// Which findings to list.
#[derive(Debug, Clone, Default)]
pub struct FindingFilter {
    /// Only in this state.
    pub status: Option<FindingStatus>,
    /// Only this severity.
    pub severity: Option<Severity>,
    /// Only of this rule.
    pub rule: Option<String>,
    /// Only of these rules: those of a framework or a control, which the packs say and no table.
    pub rules: Option<Vec<String>>,
    /// Only of this node.
    pub node: Option<NodeId>,
    /// Only of nodes of this type.
    pub node_type: Option<String>,
    /// What the rules say about that type, so that hardly a node has to be looked at.
    pub type_rules: TypeRules,
    /// Only with this in the message, the rule's id or the node's name or id; letters A to Z in either case.
    pub text: Option<String>,
}

/// Which rules have to do with a type of node.
#[derive(Debug, Clone, Default)]
pub struct TypeRules {
    /// Rules that judge nothing else.
    pub only: Vec<String>,
    /// Rules that never judge it.
    pub never: Vec<String>,
}

/// Where a finding stands in the order of the list: riskiest first, then by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FindingKey {
    /// Its risk.
    pub risk: i64,
    /// Its id.
    pub id: FindingId,
}

/// How many findings there are of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingSummary {
    /// By state and severity; what there is none of is left out.
    pub counts: Vec<(FindingStatus, Severity, u64)>,
}

impl FindingSummary {
    /// Findings in a state.
    pub fn in_status(&self, status: FindingStatus) -> u64 {
        self.counts.iter().filter(|(of, _, _)| *of == status).map(|(_, _, count)| count).sum()
    }
}

macro_rules! finding_columns {
    () => {
        "f.id, f.rule_id, n.id, n.type, n.name, f.status, f.severity, f.risk, f.message, f.facts, f.first_seen, f.changed_at, \
         f.resolved_at, f.resolution, f.accepted_by, f.accepted_reason, f.accepted_until"
    };
}

pub(crate) use finding_columns;

/// The same columns of findings whose ids are a batch.
const SHOWN: &str = "SELECT f.id, f.rule_id, (SELECT n.id FROM node n WHERE n.tenant_id = $1 AND n.key = f.node_key), \
     (SELECT n.type FROM node n WHERE n.tenant_id = $1 AND n.key = f.node_key), \
     (SELECT n.name FROM node n WHERE n.tenant_id = $1 AND n.key = f.node_key), f.status, f.severity, f.risk, f.message, f.facts, f.first_seen, \
     f.changed_at, f.resolved_at, f.resolution, f.accepted_by, f.accepted_reason, f.accepted_until FROM LOOKUP(finding f id)";

/// The findings of a tenant that a filter names, as what stands behind `FROM`. Only what is asked for stands in it, so that the engine can tell
/// what it needs: nothing of a node where nothing is asked about it.
pub(crate) struct Matching {
    conditions: String,
    values: Vec<DbValue>,
}

impl Matching {
    pub(crate) fn new(engine: Engine, tenant: TenantId, filter: &FindingFilter) -> Self {
        let mut this = Self { conditions: String::new(), values: vec![tenant.into()] };
        // The list goes by risk, the groups by rule or node: an index of few columns in that order is read, whatever is asked for. An index by
        // status, severity or rule would be taken for a filter that leaves nearly everything, and all that would have to be sorted: `|| ''`
        // keeps it out of the choice. A node has few findings, so its index is good.
        if let Some(status) = filter.status {
            let value = this.bind(status.as_str());
            this.and(&format!("f.status || '' = {value}"));
        }
        if let Some(severity) = filter.severity {
            let value = this.bind(severity.as_str());
            this.and(&format!("f.severity || '' = {value}"));
        }
        if let Some(rule) = &filter.rule {
            let value = this.bind(rule.as_str());
            this.and(&format!("f.rule_id || '' = {value}"));
        }
        if let Some(rules) = &filter.rules {
            let any = this.is_one_of(rules);
            this.and(&any);
        }
        if let Some(node) = &filter.node {
            let value = this.bind(node_key(node));
            this.and(&format!("f.node_key = {value}"));
        }
        if let Some(node_type) = &filter.node_type {
            let TypeRules { only, never } = &filter.type_rules;
            let (never, only) = (this.is_one_of(never), this.is_one_of(only));
            let value = this.bind(node_type.as_str());
            // Looked at for a rule of several types only.
            this.and(&format!(
                "NOT ({never}) AND ({only} OR EXISTS (SELECT 1 FROM node t WHERE t.tenant_id = $1 AND t.key = f.node_key AND t.type = {value}))"
            ));
        }
        if let Some(text) = filter.text.as_deref().filter(|text| !text.is_empty()) {
            let value = this.bind(containing(Some(text)));
            let has = |column: &str| match engine {
                // It takes A to Z in either case by itself.
                Engine::Sqlite => format!("{column} LIKE {value} ESCAPE '\\'"),
                Engine::Pg => format!("LOWER({column} COLLATE \"C\") LIKE {value} ESCAPE '\\'"),
            };
            // Messages are in none of the narrow indexes. SQLite would look up each row in the order of an index: it reads them once, as they lie.
            let message = match engine {
                Engine::Sqlite => format!(
                    "(f.rule_id, f.node_key) IN (SELECT m.rule_id, m.node_key FROM finding m WHERE m.tenant_id = $1 AND {})",
                    has("m.message")
                ),
                Engine::Pg => has("f.message"),
            };
            // The nodes that have findings are looked through once, and only where a finding itself does not hold the text.
            this.and(&format!(
                "({message} OR {} OR f.node_key IN (SELECT s.key FROM finding_node s WHERE s.tenant_id = $1 AND ({} OR {})))",
                has("f.rule_id"),
                has("s.name"),
                has("s.id")
            ));
        }
        this
    }

    fn is_one_of(&mut self, rules: &[String]) -> String {
        let values: Vec<String> = rules.iter().map(|rule| self.bind(rule.as_str())).collect();
        if values.is_empty() { "1 = 0".to_owned() } else { format!("f.rule_id || '' IN ({})", values.join(", ")) }
    }

    /// Binds a value; how the statement names it.
    pub(crate) fn bind(&mut self, value: impl Into<DbValue>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Takes a condition of constants and bound values.
    pub(crate) fn and(&mut self, condition: &str) {
        self.conditions.push_str(" AND ");
        self.conditions.push_str(condition);
    }

    /// What stands behind `FROM`: the finding is `f`.
    pub(crate) fn rows(&self) -> String {
        format!("finding f WHERE {}", self.condition())
    }

    /// The condition alone.
    pub(crate) fn condition(&self) -> String {
        format!("f.tenant_id = $1{}", self.conditions)
    }

    /// How many there are of each state and severity, in the order of an index by rule.
    pub(crate) fn counts(&self) -> String {
        format!(
            "SELECT status, severity, CAST(SUM(n) AS BIGINT) FROM (SELECT f.rule_id AS rule_id, f.status AS status, f.severity AS severity, \
             COUNT(*) AS n FROM {} GROUP BY f.rule_id, f.status, f.severity) part GROUP BY status, severity",
            self.rows()
        )
    }

    pub(crate) fn values(&self) -> &[DbValue] {
        &self.values
    }
}

pub(crate) fn finding_row(row: &Row) -> Result<FindingRow> {
    Ok(FindingRow {
        id: FindingId::from_uuid(row.uuid(0)?),
        rule_id: row.text(1)?,
        node_id: row.text(2)?,
        node_type: row.text(3)?,
        node_name: row.text(4)?,
        status: row.parse(5)?,
        severity: row.parse(6)?,
        risk: row.i64(7)?,
        message: row.text(8)?,
        values: row.json(9)?,
        first_seen: row.time(10)?,
        changed_at: row.time(11)?,
        resolved_at: row.opt_time(12)?,
        resolution: row.opt_text(13)?,
        accepted_by: row.opt_text(14)?,
        accepted_reason: row.opt_text(15)?,
        accepted_until: row.opt_time(16)?,
    })
}

pub(crate) fn node_key(id: &NodeId) -> Uuid {
    Uuid::from_u128(NodeKey::of(id).0)
}

async fn find(tx: &mut Tx, tenant: TenantId, id: FindingId) -> Result<FindingRow> {
    let sql = concat!(
        "SELECT ",
        finding_columns!(),
        " FROM finding f JOIN node n ON n.tenant_id = f.tenant_id AND n.key = f.node_key WHERE f.tenant_id = $1 AND f.id = $2"
    );
    let row = tx.row(sql, args![tenant, id]).await?.ok_or(Error::NotFound { what: "finding" })?;
    finding_row(&row)
}

/// One at a time changes a tenant's findings, so that an evaluation and a person do not pass each other. SQLite has one writer anyway.
pub(crate) async fn lock_findings(tx: &mut Tx, tenant: TenantId) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.execute("SELECT pg_advisory_xact_lock(71653276, hashtext($1))", args![tenant.to_string()]).await?;
    }
    Ok(())
}

/// A pattern for `LIKE` that finds the text itself.
pub(crate) fn containing(text: Option<&str>) -> String {
    let mut out = String::from("%");
    for c in text.unwrap_or_default().to_ascii_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('%');
    out
}

impl Read<ops::FindingList> {
    /// Findings, riskiest first.
    pub async fn finding_list(
        &mut self,
        filter: &FindingFilter,
        after: Option<FindingKey>,
        limit: u32,
    ) -> Result<Page<FindingRow, FindingKey>> {
        let tenant = self.tenant();
        let mut matching = Matching::new(self.tx.engine(), tenant, filter);
        if let Some(after) = after {
            let (risk, id) = (matching.bind(after.risk), matching.bind(after.id));
            matching.and(&format!("f.risk <= {risk} AND (f.risk < {risk} OR f.id > {id})"));
        }
        let limited = matching.bind(i64::from(limit) + 1);
        // The page first, by the narrow index alone; then what is shown of it, by look-ups: in one statement either engine may read all findings to find
        // those of the page among them.
        let sql = format!("SELECT f.id FROM {} ORDER BY f.risk DESC, f.id LIMIT {limited}", matching.rows());
        let rows = self.tx.rows_built(sql, matching.values()).await?;
        let ids = rows.iter().map(|row| Ok(row.uuid(0)?.as_u128())).collect::<Result<Vec<_>>>()?;
        let mut items: Vec<FindingRow> = Vec::with_capacity(ids.len());
        self.tx
            .bulk_rows(&Batch::new().uuid("id", ids), SHOWN, args![tenant], |row| {
                items.push(finding_row(row)?);
                Ok(())
            })
            .await?;
        items.sort_unstable_by_key(|row| (Reverse(row.risk), row.id.as_uuid()));
        Ok(Page::cut(items, limit, |row: &FindingRow| FindingKey { risk: row.risk, id: row.id }))
    }

    /// One finding.
    pub async fn finding_show(&mut self, id: FindingId) -> Result<FindingRow> {
        let tenant = self.tenant();
        find(&mut self.tx, tenant, id).await
    }

    /// How many there are of each kind.
    pub async fn finding_summary(&mut self) -> Result<FindingSummary> {
        let tenant = self.tenant();
        let all = Matching::new(self.tx.engine(), tenant, &FindingFilter::default());
        let rows = self.tx.rows_built(all.counts(), all.values()).await?;
        let mut counts = Vec::with_capacity(rows.len());
        for row in rows {
            counts.push((row.parse(0)?, row.parse(1)?, count(&row, 2)?));
        }
        counts.sort_unstable();
        Ok(FindingSummary { counts })
    }
}

/// Locks and finds a finding that somebody wants to change, and refuses what its state does not allow.
async fn change_from(
    tx: &mut Tx,
    tenant: TenantId,
    id: FindingId,
    allowed: &[FindingStatus],
    why: &str,
) -> Result<FindingRow> {
    lock_findings(tx, tenant).await?;
    let finding = find(tx, tenant, id).await?;
    if allowed.contains(&finding.status) {
        Ok(finding)
    } else {
        Err(Error::conflict(format!("this finding is {}: {why}", finding.status)))
    }
}

fn changed(before: &FindingRow, after: FindingStatus, more: Value) -> Change {
    record(before.id, (&before.rule_id, &before.node_id), (before.status, after), more)
}

/// What is recorded of a change to a finding, by itself or with others.
pub(crate) fn record(
    id: FindingId,
    (rule, node): (&str, &str),
    (before, after): (FindingStatus, FindingStatus),
    more: Value,
) -> Change {
    let mut detail = json!({"rule": rule, "node": node, "before": before, "after": after});
    if let (Some(detail), Value::Object(more)) = (detail.as_object_mut(), more) {
        detail.extend(more);
    }
    Change::to(Category::Evidence, "finding", id).detail(detail)
}

/// The reason of an acceptance, checked, and its end.
pub(crate) fn acceptance(reason: &str, until: Timestamp, now: Timestamp) -> Result<&str> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS || reason.chars().any(|c| c.is_control() && c != '\n')
    {
        return Err(Error::invalid("reason", "say why the risk is accepted, in 1 to 1,000 characters"));
    }
    if until <= now || until.millis_since(now) > ACCEPTED_MS_MAX {
        return Err(Error::invalid("until", "use a time in the future, at most one year from now"));
    }
    Ok(reason)
}

impl Write<ops::FindingAccept> {
    /// Accepts the risk of an open finding until a time: then the next evaluation opens it again. The reason is required.
    pub async fn finding_accept(mut self, id: FindingId, reason: &str, until: Timestamp) -> Result<FindingRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let reason = acceptance(reason, until, now)?;
        let before =
            change_from(&mut self.tx, tenant, id, &[FindingStatus::Open], "reopen it before you accept its risk")
                .await?;
        let by = self.permit.ctx().actor().to_string();
        self.tx
            .execute(
                "UPDATE finding SET status = 'accepted', changed_at = $3, status_at = $3, accepted_by = $4, accepted_reason = $5, accepted_until = $6 \
                 WHERE tenant_id = $1 AND id = $2",
                args![tenant, id, now, by, reason, until],
            )
            .await?;
        graph_map::changed(&mut self.tx, tenant, graph_map::Part::Findings).await?;
        let after = find(&mut self.tx, tenant, id).await?;
        self.commit(changed(&before, after.status, json!({"reason": reason, "until": until}))).await?;
        Ok(after)
    }
}

impl Write<ops::FindingReopen> {
    /// Opens an accepted or resolved finding again. If the node complies, the next evaluation resolves it.
    pub async fn finding_reopen(mut self, id: FindingId) -> Result<FindingRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let allowed = [FindingStatus::Accepted, FindingStatus::Resolved];
        let before = change_from(&mut self.tx, tenant, id, &allowed, "there is nothing to reopen").await?;
        self.tx
            .execute(
                "UPDATE finding SET status = 'open', changed_at = $3, status_at = $3, resolved_at = NULL, resolution = NULL, accepted_by = NULL, \
                 accepted_reason = NULL, accepted_until = NULL WHERE tenant_id = $1 AND id = $2",
                args![tenant, id, now],
            )
            .await?;
        graph_map::changed(&mut self.tx, tenant, graph_map::Part::Findings).await?;
        let after = find(&mut self.tx, tenant, id).await?;
        let was = json!({"reason": before.accepted_reason, "until": before.accepted_until});
        self.commit(changed(&before, after.status, json!({"accepted": was}))).await?;
        Ok(after)
    }
}

impl Write<ops::FindingResolve> {
    /// Resolves an open or accepted finding by hand. If the node still fails, the next evaluation opens it again.
    pub async fn finding_resolve(mut self, id: FindingId) -> Result<FindingRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let allowed = [FindingStatus::Open, FindingStatus::Accepted];
        let before = change_from(&mut self.tx, tenant, id, &allowed, "there is nothing to resolve").await?;
        self.tx
            .execute(
                "UPDATE finding SET status = 'resolved', changed_at = $3, status_at = $3, resolved_at = $3, resolution = 'manual', accepted_by = NULL, \
                 accepted_reason = NULL, accepted_until = NULL WHERE tenant_id = $1 AND id = $2",
                args![tenant, id, now],
            )
            .await?;
        graph_map::changed(&mut self.tx, tenant, graph_map::Part::Findings).await?;
        let after = find(&mut self.tx, tenant, id).await?;
        self.commit(changed(&before, after.status, json!({}))).await?;
        Ok(after)
    }
}
