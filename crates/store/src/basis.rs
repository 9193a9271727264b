//! What a judgement rests on: which scopes show which types of nodes, and which findings stand open.

use std::collections::{BTreeMap, BTreeSet};

use access::ops;
use domain::{FindingId, Result};

use crate::Write;
use crate::db::args;
use crate::packed::unpack;

/// The signed judgement in force of a control.
#[derive(Debug, Clone)]
pub struct StandingJudgement {
    /// The exact bytes that were signed.
    pub pae: Vec<u8>,
    /// Ed25519 over them.
    pub signature: Vec<u8>,
}

impl Write<ops::EvaluationRun> {
    /// The judgements in force, by framework and control.
    pub async fn judgements_standing(&mut self) -> Result<BTreeMap<(String, String), StandingJudgement>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                "SELECT r.framework, r.control, e.pae, e.signature FROM control_result r \
                 JOIN evidence e ON e.tenant_id = r.tenant_id AND e.id = r.evidence_id WHERE r.tenant_id = $1",
                args![tenant],
            )
            .await?;
        let judgement = |row: &crate::db::Row| {
            let standing = StandingJudgement { pae: unpack(row.bytes(2)?)?, signature: row.bytes(3)? };
            Ok(((row.text(0)?, row.text(1)?), standing))
        };
        rows.iter().map(judgement).collect()
    }

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
