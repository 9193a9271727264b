//! Every column that holds sealed values is known to the vault: rotation would lose what it does not know.

use crate::world::each_engine;
use domain::TenantId;

/// Columns of bytes that hold no secret. A column that does hold one belongs into `COLUMNS` of `vault/cell.rs` instead.
const NOT_SEALED: &[&str] = &[
    "agent_scope.digest",
    "artifact.digest",
    "artifact.signature",
    "audit_checkpoint.root",
    "audit_detail.salt",
    "audit_record.entry",
    "audit_record.leaf",
    "audit_tile.hashes",
    "audit_tile.root",
    // A digest of what the command line holds.
    "cli_session.secret_hash",
    // Sealed by the master key itself, which `master.rs` rotates.
    "data_key.sealed",
    // Digests of a device's two codes.
    "device_login.device_hash",
    "device_login.user_hash",
    // A digest of what was given to others.
    "enrollment_token.hash",
    "evaluation.ruleset",
    "evidence.pae",
    "evidence.signature",
    "evidence_artifact.digest",
    "factor.credential_id",
    "factor.public_key",
    "fleet_unit.public_key",
    // Counts of nodes and edges.
    "graph_summary.body",
    // Digests of what is given to others.
    "identity_provider.scim_token",
    "login_used.state",
    "platform_key.sealed",
    "recording.chain",
    "recording.sha256",
    "recording.signature",
    // Digests of a piece, and of what is kept of it.
    "recording_chunk.blob",
    "recording_chunk.digest",
    "recovery_code.mac",
    // A plugin's own mark, of a program that never sees a credential, and digests.
    "scope.checkpoint",
    "scope.checkpoint_basis",
    "scope.checkpoint_pae",
    // A digest of what a server shows to others, and a MAC.
    "server_peer.certificate",
    "server_peer.proof",
    "signing_key.public",
    "vault_entry.tag",
    "vault_head.sum",
    "vault_head.tag",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_column_of_bytes_is_sealed_and_registered_or_known_to_hold_no_secret() {
    each_engine(async |world| {
        let Some(database) = &world.postgres else { return };
        let sql = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public' \
             AND (data_type = 'bytea' OR column_name LIKE '%sealed%' OR column_name LIKE '%secret%') ORDER BY 1";
        let registered = store::sealed_columns();
        for column in database.owner_sql(sql).unwrap().lines().map(str::trim).filter(|line| !line.is_empty()) {
            assert!(
                registered.contains(&column) || NOT_SEALED.contains(&column),
                "`{column}` is not registered: if it holds sealed values, add it to COLUMNS in store/src/vault/cell.rs, otherwise to NOT_SEALED here"
            );
        }
        for column in registered {
            let (table, column) = column.split_once('.').unwrap();
            let sql = format!("SELECT {column} FROM {table} LIMIT 0");
            world.raw(TenantId::from_uuid(uuid::Uuid::nil()), &sql).await.unwrap();
        }
    })
    .await;
}
