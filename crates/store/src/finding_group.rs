//! Findings in groups: how many of them a rule or a node has, of which state and severity.
//!
//! What stands in a framework or a control is in the packs and not in the database: whoever holds the packs adds the rules up.

use access::ops;
use domain::{FindingStatus, Result, Severity};
use uuid::Uuid;

use crate::Page;
use crate::finding::{FindingFilter, Matching};
use crate::job::count;
use crate::unit::Read;

/// What findings are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// The rule that is violated.
    Rule,
    /// The node that violates.
    Node,
}

/// The node of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupNode {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type.
    pub node_type: String,
}

/// Findings that have something in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingGroup {
    /// The rule's id; of a node its key.
    pub key: String,
    /// The node, where they are grouped by it.
    pub node: Option<GroupNode>,
    /// The greatest risk among them.
    pub risk: i64,
    /// How many there are.
    pub count: u64,
    /// By state and severity; what there is none of is left out.
    pub counts: Vec<(FindingStatus, Severity, u64)>,
}

/// Where a group stands: the greatest risk first, then the most findings, then by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingGroupKey {
    /// Its greatest risk.
    pub risk: i64,
    /// Its number of findings.
    pub count: u64,
    /// Its key.
    pub key: String,
}

impl Read<ops::FindingList> {
    /// The groups of the findings that a filter names, the greatest risk first.
    pub async fn finding_groups(
        &mut self,
        by: GroupBy,
        filter: &FindingFilter,
        after: Option<&FindingGroupKey>,
        limit: u32,
    ) -> Result<Page<FindingGroup, FindingGroupKey>> {
        let tenant = self.tenant();
        let mut matching = Matching::new(self.tx.engine(), tenant, filter);
        let behind = match after {
            None => String::new(),
            Some(after) => {
                let risk = matching.bind(after.risk);
                let most = matching.bind(i64::try_from(after.count).unwrap_or(i64::MAX));
                let key = match by {
                    GroupBy::Rule => matching.bind(after.key.as_str()),
                    // A key that is none names no place: then the groups of this risk and number begin anew.
                    GroupBy::Node => matching.bind(after.key.parse::<Uuid>().unwrap_or_default()),
                };
                format!("WHERE risk < {risk} OR (risk = {risk} AND (n < {most} OR (n = {most} AND k > {key})))")
            }
        };
        let limited = matching.bind(i64::from(limit) + 1);
        let (rows, condition) = (matching.rows(), matching.condition());
        let place = format!("{behind} ORDER BY risk DESC, n DESC, k LIMIT {limited}");
        let sql = match by {
            // There are few rules, and all of their parts are read once.
            GroupBy::Rule => format!(
                "WITH part AS (SELECT f.rule_id AS k, f.status AS status, f.severity AS severity, MAX(f.risk) AS risk, COUNT(*) AS n \
                   FROM {rows} GROUP BY f.rule_id, f.status, f.severity), \
                 whole AS (SELECT k, MAX(risk) AS risk, CAST(SUM(n) AS BIGINT) AS n FROM part GROUP BY k), \
                 page AS (SELECT k, risk, n FROM whole {place}) \
                 SELECT page.k, page.risk, page.n, part.status, part.severity, part.n FROM page JOIN part ON part.k = page.k \
                 ORDER BY page.risk DESC, page.n DESC, page.k, part.status, part.severity"
            ),
            // There are many nodes: only those of the page are taken apart.
            GroupBy::Node => format!(
                "WITH whole AS (SELECT f.node_key AS k, MAX(f.risk) AS risk, COUNT(*) AS n FROM {rows} GROUP BY f.node_key), \
                 page AS (SELECT k, risk, n FROM whole {place}) \
                 SELECT page.k, page.risk, page.n, f.status, f.severity, COUNT(*), n.id, n.name, n.type FROM page \
                 CROSS JOIN finding f CROSS JOIN node n WHERE f.node_key = page.k AND n.tenant_id = $1 AND n.key = page.k AND {condition} \
                 GROUP BY page.k, page.risk, page.n, f.status, f.severity, n.id, n.name, n.type \
                 ORDER BY page.risk DESC, page.n DESC, page.k, f.status, f.severity"
            ),
        };
        let rows = self.tx.rows_built(sql, matching.values()).await?;
        let mut groups: Vec<FindingGroup> = Vec::new();
        for row in rows {
            let key = match by {
                GroupBy::Rule => row.text(0)?,
                GroupBy::Node => row.uuid(0)?.to_string(),
            };
            if groups.last().is_none_or(|group| group.key != key) {
                let node = match by {
                    GroupBy::Rule => None,
                    GroupBy::Node => Some(GroupNode { id: row.text(6)?, name: row.text(7)?, node_type: row.text(8)? }),
                };
                groups.push(FindingGroup { key, node, risk: row.i64(1)?, count: count(&row, 2)?, counts: Vec::new() });
            }
            if let Some(group) = groups.last_mut() {
                group.counts.push((row.parse(3)?, row.parse(4)?, count(&row, 5)?));
            }
        }
        Ok(Page::cut(groups, limit, |group: &FindingGroup| FindingGroupKey {
            risk: group.risk,
            count: group.count,
            key: group.key.clone(),
        }))
    }
}
