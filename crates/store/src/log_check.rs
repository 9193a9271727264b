//! Comparing a log's tree with its records, on the server: what `verify` finds is where a byte of the database was changed.
//!
//! Every record is hashed again and compared with its leaf, with the tile that holds the leaf, with the columns that are read beside it and
//! with the detail that it commits to; the root over what was hashed is compared with every signed checkpoint on the way. Somebody who
//! owns the database and changes all of these together, tree and all, still cannot sign a checkpoint: then the answer names the
//! checkpoints between which the change lies.

use domain::{Digest, EvidenceId, Result, TenantId};
use evidence::merkle;
use evidence::tile::{TILE_WIDTH, Tile};
use evidence::tree::Frontier;
use serde_json::Value;

use crate::Store;
use crate::audit::{commitment, statement_row};
use crate::db::{Row, Tx, args};
use crate::log::{self, LogReader, computed, unsigned};
use crate::log_sign::LogKey;
use crate::packed::unpack;

/// Most faults that one answer names; the first is what matters.
const FAULTS_MAX: usize = 100;
/// Records in one query.
const PIECE: u64 = TILE_WIDTH;

/// A place where the database does not hold what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFault {
    /// The record, where one is to blame.
    pub seq: Option<u64>,
    /// What is wrong.
    pub problem: String,
}

/// What a part of a log was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFindings {
    /// Leaves of the log.
    pub size: u64,
    /// Records that were compared.
    pub records: u64,
    /// Signed checkpoints that were compared.
    pub checkpoints: u64,
    /// Where to go on; none at the end.
    pub next: Option<u64>,
    /// What does not fit.
    pub faults: Vec<LogFault>,
}

struct Record {
    seq: u64,
    leaf: Digest,
    faults: Vec<String>,
}

/// Compares one row with itself.
fn check_row(tenant: TenantId, row: &Row) -> Result<Record> {
    let (seq, entry) = (row.i64(0)?, row.bytes(9)?);
    let mut faults = Vec::new();
    let mut fault = |problem: &str| faults.push(problem.to_owned());
    let leaf = merkle::leaf_hash(&entry);
    if row.bytes(10)? != leaf.as_bytes() {
        fault("its bytes are not those of its leaf hash");
    }
    let parsed: Value = serde_json::from_slice(&entry).unwrap_or_default();
    if evidence::jcs::canonical(&parsed).ok().as_deref() != Some(entry.as_slice()) {
        fault("its bytes are not canonical JSON");
    }
    let said = |pointer: &str| parsed.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (actor, detail) = (row.text(6)?, row.opt_text(12)?);
    if let Some(id) = parsed.get("ev").and_then(Value::as_str) {
        let columns = [row.text(3)?, row.text(4)?, row.text(5)?, actor, row.text(7)?, row.text(8)?];
        let expected = ["evidence", statement_row::ACTION, "success", statement_row::ACTOR, statement_row::OBJECT, id];
        if columns != expected || EvidenceId::from_uuid(row.uuid(1)?).to_string() != id {
            fault("what is listed of it is not what its bytes say");
        }
        match (row.opt_bytes(13)?, row.opt_i64(14)?) {
            (Some(pae), at) => {
                let pae = unpack(pae).map(|pae| format!("sha256:{}", crypto::sha256(&pae)));
                if pae.ok() != Some(said("/pae")) {
                    fault("the statement that it is about was changed");
                }
                if at != Some(row.i64(2)?) {
                    fault("what is listed of it is not what its statement says");
                }
            }
            (None, _) => fault("the statement that it is about is missing"),
        }
    } else {
        let listed = [
            (row.text(3)?, said("/cat")),
            (row.text(4)?, said("/act")),
            (row.text(5)?, said("/out")),
            (row.text(7)?, said("/obj/type")),
            (row.text(8)?, said("/obj/id")),
            (row.time(2)?.to_string(), said("/t")),
            (domain::AuditId::from_uuid(row.uuid(1)?).to_string(), said("/id")),
            (tenant.to_string(), said("/tenant")),
        ];
        if listed.iter().any(|(column, entry)| column != entry) || parsed.get("seq") != Some(&seq.into()) {
            fault("what is listed of it is not what its bytes say");
        }
        let commit = match (row.opt_bytes(11)?, detail) {
            (Some(salt), Some(detail)) => Some(format!("sha256:{}", commitment(&salt, &actor, &detail))),
            _ => None,
        };
        match commit {
            Some(commit) if commit == said("/commit") => {}
            Some(_) => fault("its actor's name or its detail is not what it commits to"),
            None => fault("its detail is missing"),
        }
    }
    Ok(Record { seq: unsigned(seq)?, leaf, faults })
}

const RECORDS: &str = "SELECT r.seq, r.id, r.at, r.category, r.action, r.outcome, r.actor, r.object_type, r.object_id, r.entry, r.leaf, d.salt, d.detail, \
       e.pae, e.created_at \
     FROM audit_record r LEFT JOIN audit_detail d ON d.tenant_id = r.tenant_id AND d.seq = r.seq \
     LEFT JOIN evidence e ON e.tenant_id = r.tenant_id AND e.id = r.id AND r.action = 'evidence_sign' \
     WHERE r.tenant_id = $1 AND r.seq >= $2 AND r.seq < $3 ORDER BY r.seq";

/// What the database says of a stored tile, beside what its records say.
async fn check_tile(tx: &mut Tx, tenant: TenantId, index: u64, leaves: &[Digest]) -> Result<Vec<LogFault>> {
    let Some(tile) = Tile::of((index + 1) * TILE_WIDTH, 0, index).filter(|_| leaves.len() as u64 == TILE_WIDTH) else {
        return Ok(Vec::new());
    };
    let whole = |problem: String| vec![LogFault { seq: None, problem }];
    let stored = match log::tile(tx, tenant, tile).await {
        Ok(stored) => stored,
        Err(domain::Error::Internal { detail }) => return Ok(whole(detail)),
        Err(other) => return Err(other),
    };
    let differ = stored.iter().zip(leaves).zip(tile.start()..).filter(|((stored, leaf), _)| stored != leaf);
    let mut faults: Vec<LogFault> = differ
        .map(|(_, seq)| LogFault {
            seq: Some(seq),
            problem: format!("it is not the record that `{tile}` holds the hash of"),
        })
        .collect();
    if faults.is_empty() && root_of(tx, tenant, 0, index).await? != Some(merkle::root(leaves)) {
        faults.extend(whole(format!("the root beside `{tile}` is not that of its hashes")));
    }
    // The tiles above that this one completes.
    let (mut level, mut count) = (1u8, index + 1);
    while count.is_multiple_of(TILE_WIDTH) {
        count /= TILE_WIDTH;
        let Some(tile) = Tile::of(count << (8 * u32::from(level)) << 8, level, count - 1) else { break };
        let (stored, below) =
            (log::tile(tx, tenant, tile).await, log::hashes(tx, tenant, level, tile.start(), TILE_WIDTH).await);
        match (stored, below) {
            (Ok(stored), Ok(below))
                if stored == below && root_of(tx, tenant, level, tile.index).await? == Some(merkle::root(&below)) => {}
            (Err(domain::Error::Unavailable { message, detail }), _)
            | (_, Err(domain::Error::Unavailable { message, detail })) => {
                return Err(domain::Error::Unavailable { message, detail });
            }
            _ => faults.extend(whole(format!("`{tile}` is not made of the tiles below it"))),
        }
        level += 1;
    }
    Ok(faults)
}

/// The root that stands beside a stored tile.
async fn root_of(tx: &mut Tx, tenant: TenantId, level: u8, index: u64) -> Result<Option<Digest>> {
    let sql = "SELECT root FROM audit_tile WHERE tenant_id = $1 AND level = $2 AND idx = $3";
    let row = tx.row(sql, args![tenant, i64::from(level), i64::try_from(index).unwrap_or(i64::MAX)]).await?;
    Ok(row.map(|row| row.bytes(0)).transpose()?.and_then(|bytes| bytes.try_into().ok()).map(Digest))
}

/// Signed checkpoints in a range of sizes, each as it stands in its row.
async fn checkpoints(
    tx: &mut Tx,
    tenant: TenantId,
    key: &LogKey,
    after: u64,
    to: u64,
) -> Result<Vec<(u64, Option<Digest>)>> {
    let bound = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    let sql = "SELECT size, root, note, signed_at FROM audit_checkpoint WHERE tenant_id = $1 AND size > $2 AND size <= $3 ORDER BY size";
    let rows = tx.rows(sql, args![tenant, bound(after), bound(to)]).await?;
    let origin = key.origin(tenant);
    rows.iter()
        .map(|row| {
            let good = crate::log_sign::row_checkpoint(row, &origin, &key.key.public()).ok();
            Ok((unsigned(row.i64(0)?)?, good.map(|good| good.checkpoint.root)))
        })
        .collect()
}

impl LogReader {
    /// Compares the records from `from` on (a multiple of 256) with what was signed, at most about `most` of them.
    pub async fn verify(mut self, store: &Store, from: u64, most: u64) -> Result<LogFindings> {
        let from = from - from % TILE_WIDTH;
        let (tenant, size) = (self.tenant, self.size().await?);
        let end = size.min(from.saturating_add(most.max(PIECE)) / PIECE * PIECE).max(size.min(from));
        let end = if size - end < PIECE { size } else { end };
        let mut found =
            LogFindings { size, records: 0, checkpoints: 0, next: (end < size).then_some(end), faults: Vec::new() };
        let mut frontier = match computed(&mut self.tx, tenant, from, |nodes| Frontier::at(from, nodes)).await {
            Ok(frontier) => frontier,
            Err(domain::Error::Internal { detail }) => {
                found.faults.push(LogFault { seq: None, problem: detail });
                return Ok(LogFindings { next: None, ..found });
            }
            Err(other) => return Err(other),
        };
        let (mut at, mut good) = (from, from);
        while at < end {
            let to = end.min(at + PIECE);
            let mut signed =
                checkpoints(&mut self.tx, tenant, store.log_signing(), at, to).await?.into_iter().peekable();
            let bounds = (i64::try_from(at).unwrap_or(i64::MAX), i64::try_from(to).unwrap_or(i64::MAX));
            let rows = self.tx.rows(RECORDS, args![tenant, bounds.0, bounds.1]).await?;
            let mut leaves = Vec::new();
            for row in &rows {
                let record = check_row(tenant, row)?;
                for missing in at + leaves.len() as u64..record.seq {
                    found.faults.push(LogFault { seq: Some(missing), problem: "it is missing".to_owned() });
                    leaves.push(Digest([0; 32]));
                    frontier.push(Digest([0; 32]));
                }
                let seq = Some(record.seq);
                found.faults.extend(record.faults.into_iter().map(|problem| LogFault { seq, problem }));
                leaves.push(record.leaf);
                frontier.push(record.leaf);
                found.records += 1;
                while let Some((size, root)) = signed.next_if(|(size, _)| *size == frontier.size()) {
                    found.checkpoints += 1;
                    match root {
                        Some(root) if root == frontier.root() => good = size,
                        Some(_) => found.faults.push(LogFault {
                            seq: None,
                            problem: format!("the records from {good} to {} are not those that the checkpoint of {size} leaves signs", size - 1),
                        }),
                        None => found.faults.push(LogFault {
                            seq: None,
                            problem: format!("the stored checkpoint of {size} leaves is not what the log signed"),
                        }),
                    }
                }
            }
            for missing in at + leaves.len() as u64..to {
                found.faults.push(LogFault { seq: Some(missing), problem: "it is missing".to_owned() });
                frontier.push(Digest([0; 32]));
            }
            found.faults.extend(check_tile(&mut self.tx, tenant, at / PIECE, &leaves).await?);
            if found.faults.len() > FAULTS_MAX {
                found.faults.truncate(FAULTS_MAX);
                return Ok(LogFindings { next: None, ..found });
            }
            at = to;
        }
        if found.next.is_none() {
            found.faults.extend(self.check_end(store, size).await?);
        }
        Ok(found)
    }

    /// What lies behind the last record, and what was signed of it.
    async fn check_end(&mut self, store: &Store, size: u64) -> Result<Vec<LogFault>> {
        let mut faults = Vec::new();
        let key = store.log_signing();
        for (signed, _) in checkpoints(&mut self.tx, self.tenant, key, size, u64::MAX).await? {
            faults.push(LogFault {
                seq: Some(size),
                problem: format!("a checkpoint of {signed} leaves was signed, but the log ends before this record"),
            });
        }
        let bound = i64::try_from(size).unwrap_or(i64::MAX);
        let sql = "SELECT seq FROM audit_record WHERE tenant_id = $1 AND seq >= $2 ORDER BY seq LIMIT 1";
        if let Some(row) = self.tx.row(sql, args![self.tenant, bound]).await? {
            let problem = "it stands behind the end of the log".to_owned();
            faults.push(LogFault { seq: Some(unsigned(row.i64(0)?)?), problem });
        }
        match key.recall(self.tenant) {
            Ok(Some((known, _))) if known > size => faults.push(LogFault {
                seq: Some(size),
                problem: format!("this server signed {known} leaves, but the log ends before this record"),
            }),
            Ok(Some((known, root))) => {
                let found = log::root(&mut self.tx, self.tenant, known).await;
                if found.ok() != Some(root) {
                    let problem = format!("the first {known} records are not those that this server signed last");
                    faults.push(LogFault { seq: None, problem });
                }
            }
            Ok(None) => {}
            Err(error) => faults.push(LogFault { seq: None, problem: error.to_string() }),
        }
        Ok(faults)
    }
}
