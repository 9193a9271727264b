//! What findings are looked for by of their nodes: a narrow row for each node that has a finding, because nodes are many and wide (ADR 0070).
//!
//! Invariants:
//! - a node that has a finding has a row, from the transaction on that opens the first;
//! - the row's name is the node's, from the transaction on that renames it.
//!
//! A server of before this table keeps neither, and a finding that opens while its node is renamed may miss the new name: the next evaluation, which
//! reads every finding with its node anyway, puts that right.

use domain::{Result, TenantId};

use crate::bulk::Batch;
use crate::db::{Tx, args};

/// Adds nodes that have none yet. Under the lock of findings.
pub(crate) async fn add(tx: &mut Tx, tenant: TenantId, nodes: impl IntoIterator<Item = u128>) -> Result<()> {
    let mut keys: Vec<u128> = nodes.into_iter().collect();
    keys.sort_unstable();
    keys.dedup();
    tx.bulk(
        &Batch::keys(keys),
        "INSERT INTO finding_node (tenant_id, key, id, name) SELECT n.tenant_id, n.key, n.id, n.name FROM LOOKUP(node n) \
         AND NOT EXISTS (SELECT 1 FROM finding_node s WHERE s.tenant_id = $1 AND s.key = v.key)",
        args![tenant],
    )
    .await
    .map(drop)
}

/// Writes anew what is out of date. Under the lock of findings.
pub(crate) async fn again(tx: &mut Tx, tenant: TenantId, stale: &[u128]) -> Result<()> {
    let sql = "DELETE FROM finding_node WHERE tenant_id = $1 AND key IN (SELECT key FROM v)";
    tx.bulk(&Batch::keys(stale.iter().copied()), sql, args![tenant]).await?;
    add(tx, tenant, stale.iter().copied()).await
}

/// Nodes have new names: `key` and `name` of a batch.
pub(crate) async fn renamed(tx: &mut Tx, tenant: TenantId, batch: &Batch<'_>) -> Result<()> {
    let sql = "UPDATE finding_node SET name = v.name FROM v \
         WHERE finding_node.tenant_id = $1 AND finding_node.key = v.key AND finding_node.name <> v.name";
    tx.bulk(batch, sql, args![tenant]).await.map(drop)
}

/// Nodes are as another scope shows them now: `key` and `heir` of a batch, while the heirs' claims are still there.
pub(crate) async fn handed_over(tx: &mut Tx, tenant: TenantId, batch: &Batch<'_>) -> Result<()> {
    let sql = "UPDATE finding_node SET name = c.name FROM v CROSS JOIN node_claim c \
         WHERE finding_node.tenant_id = $1 AND finding_node.key = v.key AND c.tenant_id = $1 AND c.key = v.key AND c.scope_key = v.heir \
         AND finding_node.name <> c.name";
    tx.bulk(batch, sql, args![tenant]).await.map(drop)
}
