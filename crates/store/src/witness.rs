//! Witnesses: others who follow the logs and sign what they saw (C2SP tlog-cosignature), so that a log cannot show two people two histories.

use access::{PlatformPermit, ops};
use domain::{Error, Result, TenantId, Timestamp};
use evidence::checkpoint::Checkpoint;
use evidence::note::{KeyKind, Note, NoteError, NoteKey, NoteSignature};
use serde_json::json;

use crate::Store;
use crate::audit::{Category, Change};
use crate::db::{Tx, args};
use crate::log_sign::{LogKey, newest};
use crate::unit::{PlatformWrite, Write, platform_tenant};

/// A witness whose cosignatures are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessRow {
    /// Its name and key, as C2SP signed-note writes them, of type 4.
    pub key: NoteKey,
    /// When it was added.
    pub added_at: Timestamp,
    /// By whom.
    pub added_by: String,
}

/// Most witnesses of an installation.
const WITNESSES_MAX: usize = 32;

async fn witnesses(tx: &mut Tx) -> Result<Vec<WitnessRow>> {
    let rows = tx.rows("SELECT vkey, added_at, added_by FROM audit_witness ORDER BY name, vkey", args![]).await?;
    rows.iter()
        .map(|row| Ok(WitnessRow { key: row.parse(0)?, added_at: row.time(1)?, added_by: row.text(2)? }))
        .collect()
}

impl Store {
    /// The witnesses of the installation, by name.
    pub async fn witness_list(&self, _permit: PlatformPermit<ops::WitnessList>) -> Result<Vec<WitnessRow>> {
        witnesses(&mut self.db().read().await?).await
    }
}

impl PlatformWrite<ops::WitnessAdd> {
    /// Accepts a witness's cosignatures from now on.
    pub async fn witness_add(mut self, key: &NoteKey) -> Result<WitnessRow> {
        if key.kind() != KeyKind::Cosignature {
            return Err(Error::invalid("vkey", "this is a log's key: a witness's has the type 4"));
        }
        if *key.public() == self.store.log_key() {
            return Err(Error::invalid("vkey", "this is the key of the log itself"));
        }
        let known = witnesses(&mut self.tx).await?;
        if known.len() >= WITNESSES_MAX {
            return Err(Error::Limit { which: "witnesses", max: WITNESSES_MAX as u64 });
        }
        if known.iter().any(|known| known.key.public() == key.public() || known.key.name() == key.name()) {
            return Err(Error::conflict("a witness of this name or with this key is there already"));
        }
        let (at, by) = (self.store.clock().now(), self.permit.ctx().actor().to_string());
        let sql = "INSERT INTO audit_witness (vkey, name, added_at, added_by) VALUES ($1, $2, $3, $4)";
        self.tx.execute(sql, args![key.to_string(), key.name(), at, by.as_str()]).await?;
        let detail = json!({"vkey": key.to_string(), "fingerprint": key.public().fingerprint()});
        self.commit(Change::to(Category::System, "witness", key.name()).detail(detail)).await?;
        Ok(WitnessRow { key: key.clone(), added_at: at, added_by: by })
    }
}

impl PlatformWrite<ops::WitnessRemove> {
    /// Accepts no more cosignatures of a witness; those that there are stay.
    pub async fn witness_remove(mut self, name: &str) -> Result<()> {
        if self.tx.execute("DELETE FROM audit_witness WHERE name = $1", args![name]).await? == 0 {
            return Err(Error::NotFound { what: "witness" });
        }
        self.commit(Change::to(Category::System, "witness", name)).await.map(drop)
    }
}

/// A cosignature that was checked.
struct Cosigned {
    size: i64,
    vkey: String,
    line: String,
    at: Timestamp,
}

/// Checks lines of cosignatures under one of this log's checkpoints. Lines of keys that are no witness's are not taken, and when no line
/// is left that is an error.
async fn check_cosignatures(
    tx: &mut Tx,
    key: &LogKey,
    tenant: TenantId,
    now: Timestamp,
    note: &Note,
) -> Result<Vec<Cosigned>> {
    let refuse = |message: String| Error::invalid("checkpoint", message);
    let checkpoint = Checkpoint::open(note, &key.key.public()).map_err(|error| refuse(error.to_string()))?;
    let size = i64::try_from(checkpoint.size).map_err(Error::internal)?;
    let known = newest(tx, key, tenant, size).await?.filter(|known| known.checkpoint == checkpoint);
    if known.is_none() {
        return Err(refuse("this log has signed no such checkpoint".to_owned()));
    }
    let mut cosigned = Vec::new();
    for witness in witnesses(tx).await? {
        let time = match note.verify(&witness.key) {
            Ok(time) => time,
            Err(NoteError::NotSigned(_)) => continue,
            Err(error) => return Err(refuse(error.to_string())),
        };
        let at = i64::try_from(time).ok().and_then(|seconds| seconds.checked_mul(1_000)).map(Timestamp::from_millis);
        let at = at.filter(|at| at.as_millis() <= now.as_millis() + FUTURE_MS);
        let at = at.ok_or_else(|| refuse(format!("`{}` signed at a time that has not come", witness.key.name())))?;
        let is_by = |line: &&NoteSignature| line.name == witness.key.name() && line.id == witness.key.id();
        let line = note.signatures.iter().find(is_by).map(ToString::to_string).unwrap_or_default();
        cosigned.push(Cosigned { size, vkey: witness.key.to_string(), line, at });
    }
    if cosigned.is_empty() {
        return Err(refuse("it carries no cosignature of a witness that is known here".to_owned()));
    }
    Ok(cosigned)
}

/// How far a witness's clock may be ahead.
const FUTURE_MS: i64 = 5 * 60_000;

async fn keep_cosignatures(tx: &mut Tx, tenant: TenantId, now: Timestamp, cosigned: &[Cosigned]) -> Result<()> {
    for Cosigned { size, vkey, line, at } in cosigned {
        tx.execute(
            "INSERT INTO audit_cosignature (tenant_id, size, vkey, line, cosigned_at, received_at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (tenant_id, size, vkey) DO UPDATE SET line = excluded.line, cosigned_at = excluded.cosigned_at, \
             received_at = excluded.received_at WHERE excluded.cosigned_at > audit_cosignature.cosigned_at",
            args![tenant, *size, vkey.as_str(), line.as_str(), *at, now],
        )
        .await?;
    }
    Ok(())
}

fn cosign_change(tenant: TenantId, cosigned: &[Cosigned]) -> Change {
    let detail: Vec<_> =
        cosigned.iter().map(|one| json!({"size": one.size, "vkey": one.vkey, "time": one.at})).collect();
    Change::to(Category::System, "log", tenant).detail(json!({"cosignatures": detail}))
}

impl Write<ops::LogCosign> {
    /// Keeps what witnesses signed under one of the tenant's checkpoints; returns how many lines.
    pub async fn log_cosign(mut self, note: &Note) -> Result<usize> {
        let (tenant, now, store) = (self.tenant(), self.store.clock().now(), self.store.clone());
        let cosigned = check_cosignatures(&mut self.tx, store.log_signing(), tenant, now, note).await?;
        keep_cosignatures(&mut self.tx, tenant, now, &cosigned).await?;
        self.commit(cosign_change(tenant, &cosigned)).await?;
        Ok(cosigned.len())
    }
}

impl PlatformWrite<ops::PlatformLogCosign> {
    /// Keeps what witnesses signed under one of the platform's checkpoints; returns how many lines.
    pub async fn platform_log_cosign(mut self, note: &Note) -> Result<usize> {
        let (tenant, now, store) = (platform_tenant(), self.store.clock().now(), self.store.clone());
        let cosigned = check_cosignatures(&mut self.tx, store.log_signing(), tenant, now, note).await?;
        keep_cosignatures(&mut self.tx, tenant, now, &cosigned).await?;
        self.commit(cosign_change(tenant, &cosigned)).await?;
        Ok(cosigned.len())
    }
}
