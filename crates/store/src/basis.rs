//! What a judgement rests on: which scopes show which types of nodes, and which findings stand open.

use std::collections::{BTreeMap, BTreeSet};

use access::ops;
use domain::{FindingId, Result};

use crate::Write;
use crate::db::args;

impl Write<ops::EvaluationRun> {
    /// The scopes that show open nodes of each type.
    pub async fn scopes_by_type(&mut self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                "SELECT DISTINCT n.type, s.scope FROM node n JOIN scope s ON s.tenant_id = n.tenant_id AND s.key = n.scope_key \
                 WHERE n.tenant_id = $1 AND n.observed AND n.closed_at IS NULL",
                args![tenant],
            )
            .await?;
        let mut scopes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows {
            scopes.entry(row.text(0)?).or_default().insert(row.text(1)?);
        }
        Ok(scopes)
    }

    /// The ids of findings that stand open or accepted, by rule and node id.
    pub async fn findings_standing(&mut self) -> Result<BTreeMap<(String, String), FindingId>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                "SELECT f.rule_id, n.id, f.id FROM finding f JOIN node n ON n.tenant_id = f.tenant_id AND n.key = f.node_key \
                 WHERE f.tenant_id = $1 AND f.status <> 'resolved'",
                args![tenant],
            )
            .await?;
        rows.iter().map(|row| Ok(((row.text(0)?, row.text(1)?), FindingId::from_uuid(row.uuid(2)?)))).collect()
    }
}
