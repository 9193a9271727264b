//! Places: what a sealed value is bound to. Every part is length-prefixed, so that no two places share a spelling.

use domain::{CredentialId, FactorId, TenantId, UserId};

/// A place of these parts.
pub(crate) fn place(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = b"cairn/sealed/v1".to_vec();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Where a data key stands.
pub(super) fn data_key(scope: TenantId, version: i64) -> Vec<u8> {
    place(&[b"data_key", scope.as_uuid().as_bytes(), b"sealed", &version.to_be_bytes()])
}

/// Where a secret of the installation stands that the master key itself seals.
pub(super) fn installation(name: &str) -> Vec<u8> {
    place(&[b"installation", name.as_bytes()])
}

/// Where a credential stood before migration 6.
pub(super) fn legacy_credential(tenant: TenantId, id: CredentialId, version: i64) -> Vec<u8> {
    place(&[b"credential", tenant.as_uuid().as_bytes(), id.as_uuid().as_bytes(), b"sealed", &version.to_be_bytes()])
}

/// Where an authenticator app's secret stood before migration 15.
pub(super) fn legacy_factor(user: UserId, id: FactorId) -> Vec<u8> {
    place(&[b"factor", user.as_uuid().as_bytes(), id.as_uuid().as_bytes(), b"sealed"])
}

/// Where a cell stands: tenant, table and column, row, key version and row version.
pub(super) fn cell(scope: TenantId, cell: &str, row: &str, key_version: i64, row_version: i64) -> Vec<u8> {
    let (key_version, row_version) = (key_version.to_be_bytes(), row_version.to_be_bytes());
    place(&[b"cell", scope.as_uuid().as_bytes(), cell.as_bytes(), row.as_bytes(), &key_version, &row_version])
}
