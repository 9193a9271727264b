//! The tree over a log's records: its stored tiles, and what is computed from them.
//!
//! A record's leaf hash stands in its row. When 256 of them are there a tile is written beside them, once, in the transaction of the last
//! one; so an append costs nothing but its row, every 256th a little more, and any root or proof needs a handful of tiles.
//!
//! **Not for** signing (`log_sign.rs`) and not for comparing the tree with the records (`log_check.rs`).

use access::{PlatformPermit, ops};
use domain::{Digest, Error, Result, TenantId};
use evidence::merkle;
use evidence::tile::{TILE_WIDTH, Tile, Tiles, Wanted, bundle_bytes, tile_bytes, tile_hashes};
use evidence::tree::{self, Nodes, TreeError};

use crate::Store;
use crate::db::{Tx, args};
use crate::unit::{Read, enter, platform_tenant};

pub(crate) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::internal(format!("the audit log's tree is damaged: {what}"))
}

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(Error::internal)
}

pub(crate) fn unsigned(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(Error::internal)
}

/// Leaves of a log.
pub(crate) async fn size(tx: &mut Tx, tenant: TenantId) -> Result<u64> {
    match tx.row("SELECT size FROM audit_head WHERE tenant_id = $1", args![tenant]).await? {
        Some(row) => unsigned(row.i64(0)?),
        None => Ok(0),
    }
}

/// Hashes `from..from + count` of a level, read from the rows that they are made of.
pub(crate) async fn hashes(tx: &mut Tx, tenant: TenantId, level: u8, from: u64, count: u64) -> Result<Vec<Digest>> {
    let (start, end) = (signed(from)?, signed(from + count)?);
    let rows = if level == 0 {
        let sql = "SELECT leaf FROM audit_record WHERE tenant_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq";
        tx.rows(sql, args![tenant, start, end]).await?
    } else {
        let sql =
            "SELECT root FROM audit_tile WHERE tenant_id = $1 AND level = $4 AND idx >= $2 AND idx < $3 ORDER BY idx";
        tx.rows(sql, args![tenant, start, end, i64::from(level) - 1]).await?
    };
    if rows.len() as u64 != count {
        return Err(damaged(format_args!("level {level} has not every hash of {from} to {}", from + count)));
    }
    rows.iter().map(|row| row.digest(0)).collect()
}

/// The hashes of a tile, from its row where it is full.
pub(crate) async fn tile(tx: &mut Tx, tenant: TenantId, tile: Tile) -> Result<Vec<Digest>> {
    if u64::from(tile.width) == TILE_WIDTH {
        let sql = "SELECT hashes FROM audit_tile WHERE tenant_id = $1 AND level = $2 AND idx = $3";
        if let Some(row) = tx.row(sql, args![tenant, i64::from(tile.level), signed(tile.index)?]).await? {
            let stored = tile_hashes(&row.bytes(0)?).filter(|hashes| hashes.len() as u64 == TILE_WIDTH);
            return stored.ok_or_else(|| damaged(format_args!("{tile} is not 256 hashes")));
        }
    }
    hashes(tx, tenant, tile.level, tile.start(), tile.width.into()).await
}

/// Writes the tiles that are full now and were not when the log had `before` leaves.
pub(crate) async fn complete_tiles(tx: &mut Tx, tenant: TenantId, before: i64, size: i64) -> Result<()> {
    let (mut before, mut size) = (unsigned(before)? / TILE_WIDTH, unsigned(size)? / TILE_WIDTH);
    let mut level = 0u8;
    while before < size {
        // Where a log is older than its tiles they are caught up here, once.
        let sql = "SELECT MAX(idx) FROM audit_tile WHERE tenant_id = $1 AND level = $2";
        let last = tx.row(sql, args![tenant, i64::from(level)]).await?;
        let last = last.map(|row| row.opt_i64(0)).transpose()?.flatten();
        let from = last.map_or(Ok(0), |last| unsigned(last).map(|last| last + 1))?;
        for index in from..size {
            let hashes = hashes(tx, tenant, level, index * TILE_WIDTH, TILE_WIDTH).await?;
            let (root, bytes) = (merkle::root(&hashes), tile_bytes(&hashes));
            tx.execute(
                "INSERT INTO audit_tile (tenant_id, level, idx, root, hashes) VALUES ($1, $2, $3, $4, $5)",
                args![tenant, i64::from(level), signed(index)?, root, bytes],
            )
            .await?;
        }
        (before, size) = (from.min(before) / TILE_WIDTH, size / TILE_WIDTH);
        level += 1;
    }
    Ok(())
}

/// Runs a computation over the tree of `size` with the tiles that it needs.
pub(crate) async fn computed<T>(
    tx: &mut Tx,
    tenant: TenantId,
    size: u64,
    computation: impl Fn(&mut dyn Nodes) -> Result<T, TreeError>,
) -> Result<T> {
    let mut tiles = Tiles::default();
    for wanted in Wanted::by(size, &computation).map_err(damaged)? {
        tiles.insert(wanted.level, wanted.index, tile(tx, tenant, wanted).await?);
    }
    computation(&mut tiles).map_err(damaged)
}

/// The root over the first `size` leaves.
pub(crate) async fn root(tx: &mut Tx, tenant: TenantId, size: u64) -> Result<Digest> {
    computed(tx, tenant, size, |nodes| tree::root(size, nodes)).await
}

/// Reads one log on one snapshot: a tenant's, or the platform's own.
pub struct LogReader {
    pub(crate) tx: Tx,
    pub(crate) tenant: TenantId,
}

impl Read<ops::LogRead> {
    /// The tenant's log.
    pub fn log(self) -> LogReader {
        let tenant = self.tenant();
        LogReader { tx: self.tx, tenant }
    }
}

impl Store {
    /// The platform's own log.
    pub async fn platform_log(&self, _permit: PlatformPermit<ops::PlatformLogRead>) -> Result<LogReader> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, platform_tenant()).await?;
        Ok(LogReader { tx, tenant: platform_tenant() })
    }
}

fn no_such_place() -> Error {
    Error::NotFound { what: "part of the log" }
}

impl LogReader {
    /// Leaves of the log.
    pub async fn size(&mut self) -> Result<u64> {
        size(&mut self.tx, self.tenant).await
    }

    async fn check_tile(&mut self, tile: Tile) -> Result<()> {
        let size = self.size().await?;
        let there = Tile::of(size, tile.level, tile.index).ok_or_else(no_such_place)?;
        if tile.width <= there.width { Ok(()) } else { Err(no_such_place()) }
    }

    /// A tile's bytes, full or partial.
    pub async fn tile(&mut self, wanted: Tile) -> Result<Vec<u8>> {
        self.check_tile(wanted).await?;
        Ok(tile_bytes(&tile(&mut self.tx, self.tenant, wanted).await?))
    }

    /// The bytes of a bundle of entries.
    pub async fn entries(&mut self, wanted: Tile) -> Result<Vec<u8>> {
        self.check_tile(wanted).await?;
        let (start, end) = (signed(wanted.start())?, signed(wanted.start() + u64::from(wanted.width))?);
        let sql = "SELECT entry FROM audit_record WHERE tenant_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq";
        let rows = self.tx.rows(sql, args![self.tenant, start, end]).await?;
        if rows.len() != usize::from(wanted.width) {
            return Err(damaged("an entry is missing"));
        }
        let entries: Vec<Vec<u8>> = rows.iter().map(|row| row.bytes(0)).collect::<Result<_>>()?;
        bundle_bytes(entries.iter().map(Vec::as_slice)).ok_or_else(|| damaged("an entry is too long"))
    }

    /// The proof that the entry at `index` is in the tree of `size`.
    pub async fn inclusion(&mut self, index: u64, size: u64) -> Result<Vec<Digest>> {
        if size > self.size().await? || index >= size {
            return Err(no_such_place());
        }
        computed(&mut self.tx, self.tenant, size, |nodes| tree::inclusion(index, size, nodes)).await
    }

    /// The proof that the tree of `old` leaves is the beginning of the tree of `new`.
    pub async fn consistency(&mut self, old: u64, new: u64) -> Result<Vec<Digest>> {
        if new > self.size().await? || old > new {
            return Err(no_such_place());
        }
        computed(&mut self.tx, self.tenant, new, |nodes| tree::consistency(old, new, nodes)).await
    }

    /// Where a statement's leaf stands; none for a statement that was stored before statements became leaves.
    pub async fn place_of_statement(&mut self, id: domain::EvidenceId) -> Result<Option<u64>> {
        statement_place(&mut self.tx, self.tenant, id).await
    }
}

/// Where a statement's leaf stands.
pub(crate) async fn statement_place(tx: &mut Tx, tenant: TenantId, id: domain::EvidenceId) -> Result<Option<u64>> {
    let sql = "SELECT seq FROM audit_record WHERE tenant_id = $1 AND id = $2 AND action = 'evidence_sign'";
    match tx.row(sql, args![tenant, id]).await? {
        Some(row) => Ok(Some(unsigned(row.i64(0)?)?)),
        None => Ok(None),
    }
}
