//! Recordings that are read, closed with a signed statement, and deleted when their time is over.

use access::{Permit, PlatformPermit, ops};
use bytes::Bytes;
use crypto::aead::{self, AeadKey};
use domain::recording::{CHAIN_BEGIN, DURATION_MS_MAX, SILENCE_MS_MAX, chain};
use domain::{Digest, Error, RecordingId, Result, TenantId, Timestamp};
use serde_json::{Value, json};

use crate::audit::{Category, Change, Outcome};
use crate::blob::Blobs;
use crate::collection::{About, NewStatement, statement_insert};
use crate::db::{Row, args};
use crate::job::stored;
use crate::recording::{RecordingPolicy, RecordingRow, find, key, place_of, policy, recording_row, recording_sql};
use crate::statement::{ArtifactRow, StatementDetail, detail};
use crate::unit::{Read, Write, enter};
use crate::vault::cell::{self, RECORDING};
use crate::{Page, Store, backup, destination, packed};

/// Which recordings.
#[derive(Debug, Clone, Default)]
pub struct RecordingFilter {
    /// Only of this user, by login name or id.
    pub user: Option<String>,
    /// Only of this destination, by name or id.
    pub destination: Option<String>,
    /// Only sessions that began at this moment or later.
    pub since: Option<Timestamp>,
    /// Only sessions that began before this moment.
    pub until: Option<Timestamp>,
}

/// Where a page of recordings begins: those before this moment, and of those of this moment the ones with a smaller id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordingKey {
    /// When the session began.
    pub began_at: Timestamp,
    /// Its id.
    pub id: RecordingId,
}

/// Why a recording is to be closed by the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingOver {
    /// Nothing was heard of it for too long.
    Silent,
    /// It goes on for longer than a session may.
    TooLong,
}

/// How many recordings are looked after at once.
pub const RECORDINGS_AT_ONCE: usize = 100;

/// Reads the asciicast of a recording, piece by piece.
pub struct RecordingReader {
    blobs: Blobs,
    tenant: TenantId,
    id: RecordingId,
    key: AeadKey,
    /// Digests of the pieces as they came and as they are kept.
    chunks: Vec<(Digest, Digest)>,
    at: usize,
}

impl RecordingReader {
    /// The next piece, checked against its digest; none after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some((digest, blob)) = self.chunks.get(self.at).copied() else { return Ok(None) };
        self.at += 1;
        let changed = || Error::internal(format!("piece {} of recording {} was changed", self.at, self.id));
        let sealed = self.blobs.load(blob).await?;
        let packed = aead::open(&self.key, &place_of(self.tenant, self.id, self.at as u64), &sealed);
        let bytes = packed::inflate(packed.map_err(|_| changed())?.expose())?;
        if crypto::sha256(&bytes) != digest {
            return Err(changed());
        }
        Ok(Some(bytes.into()))
    }

    /// SHA-256 of everything, once the hash over the pieces is the one that was counted.
    async fn whole(&mut self, counted: Digest) -> Result<Digest> {
        let (mut hash, mut link) = (crypto::Sha256::new(), CHAIN_BEGIN);
        while let Some(bytes) = self.next().await? {
            hash.update(&bytes);
            link = crypto::sha256(&chain(&link, &crypto::sha256(&bytes)));
        }
        if link == counted {
            Ok(hash.finish())
        } else {
            Err(Error::internal(format!("the pieces of recording {} are not those that were counted", self.id)))
        }
    }
}

async fn reader(
    tx: &mut crate::db::Tx,
    store: &Store,
    tenant: TenantId,
    id: RecordingId,
) -> Result<(RecordingRow, RecordingReader)> {
    let (row, sealed) = find(tx, tenant, id).await?;
    let key = key(tx, store, tenant, id, &sealed).await?;
    let sql = "SELECT digest, blob FROM recording_chunk WHERE tenant_id = $1 AND recording_id = $2 ORDER BY number";
    let rows = tx.rows(sql, args![tenant, id]).await?;
    let chunks: Vec<_> = rows.iter().map(|row| Ok((row.digest(0)?, row.digest(1)?))).collect::<Result<_>>()?;
    if chunks.len() as u64 != row.chunks {
        return Err(Error::internal(format!("pieces of recording {id} are missing")));
    }
    Ok((row, RecordingReader { blobs: Blobs::of(store, tenant), tenant, id, key, chunks, at: 0 }))
}

impl Read<ops::RecordingList> {
    /// Recordings, newest first, and the policy that says how long they are kept.
    pub async fn recording_list(
        &mut self,
        filter: &RecordingFilter,
        after: Option<RecordingKey>,
        limit: u32,
    ) -> Result<(Page<RecordingRow, RecordingKey>, RecordingPolicy)> {
        let tenant = self.tenant();
        let destination = match &filter.destination {
            None => None,
            Some(named) => match destination::find(&mut self.tx, tenant, named).await {
                Ok(row) => Some(row.id.as_uuid()),
                // One that is gone may have recordings under its name.
                Err(Error::NotFound { .. }) => {
                    Some(named.parse::<domain::DestinationId>().map_or(uuid::Uuid::nil(), |id| id.as_uuid()))
                }
                Err(error) => return Err(error),
            },
        };
        let user = filter.user.as_deref().unwrap_or_default();
        let user_id = user.parse::<domain::UserId>().map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = self
            .tx
            .rows(
                recording_sql!(
                    "AND (began_at < $10 OR began_at = $10 AND id < $2) AND ($3 = '' OR user_name = $3 OR user_id = $4) \
                     AND ($5 IS NULL OR destination_id = $5 OR destination_name = $6) \
                     AND began_at >= $7 AND began_at < $8 ORDER BY began_at DESC, id DESC LIMIT $9"
                ),
                args![
                    tenant,
                    after.map_or(uuid::Uuid::max(), |key| key.id.as_uuid()),
                    user,
                    user_id,
                    destination,
                    filter.destination.clone().unwrap_or_default(),
                    filter.since.map_or(i64::MIN, Timestamp::as_millis),
                    filter.until.map_or(i64::MAX, Timestamp::as_millis),
                    i64::from(limit) + 1,
                    after.map_or(i64::MAX, |key| key.began_at.as_millis())
                ],
            )
            .await?;
        let items = rows.iter().map(recording_row).collect::<Result<_>>()?;
        let policy = policy(&mut self.tx, tenant).await?;
        let key = |row: &RecordingRow| RecordingKey { began_at: row.began_at, id: row.id };
        Ok((Page::cut(items, limit, key), policy))
    }

    /// One recording.
    pub async fn recording_show(&mut self, id: RecordingId) -> Result<(RecordingRow, RecordingPolicy)> {
        let tenant = self.tenant();
        Ok((find(&mut self.tx, tenant, id).await?.0, policy(&mut self.tx, tenant).await?))
    }
}

/// Who looked at what.
fn seen(row: &RecordingRow) -> Change {
    let detail = json!({"user": row.user, "destination": row.destination_name, "sha256": row.sha256});
    Change::to(Category::Access, "recording", row.id).detail(detail)
}

impl Write<ops::RecordingRead> {
    /// Lets the actor see a recording, as far as it is now. That they did is in the audit log before they get a byte.
    pub async fn recording_read(mut self, id: RecordingId) -> Result<(RecordingRow, RecordingReader)> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        let (row, reader) = reader(&mut self.tx, &store, tenant, id).await?;
        self.commit(seen(&row)).await?;
        Ok((row, reader))
    }
}

/// What goes into the bundle of a recording.
pub struct RecordingMaterial {
    /// The recording.
    pub row: RecordingRow,
    /// Its statement.
    pub statement: StatementDetail,
    /// That it is in the tenant's log.
    pub proof: Option<evidence::LogProof>,
    /// The asciicast, as an artifact.
    pub artifact: ArtifactRow,
    /// Its bytes.
    pub reader: RecordingReader,
}

impl Write<ops::RecordingExport> {
    /// What a bundle about a recording is made of. That it was asked for is in the audit log.
    pub async fn recording_export(mut self, id: RecordingId) -> Result<RecordingMaterial> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        let (row, reader) = reader(&mut self.tx, &store, tenant, id).await?;
        let (Some(evidence), Some(digest), Some(signature), Some(key_id)) =
            (row.evidence, row.sha256, row.signature.clone(), row.key_id.clone())
        else {
            return Err(Error::conflict("the recording goes on: there is a signed statement once it has ended"));
        };
        let statement = detail(&mut self.tx, tenant, evidence).await?;
        self.commit(seen(&row)).await?;
        let proof = store.statement_proofs(tenant, &[evidence]).await?.remove(&evidence);
        let artifact = ArtifactRow { digest, size: row.bytes, signature, key_id, about: String::new() };
        Ok(RecordingMaterial { row, statement, proof, artifact, reader })
    }
}

/// How a recording ended.
#[derive(Debug, Clone)]
pub struct RecordingEnding {
    /// When.
    pub at: Timestamp,
    /// Whether there was a session.
    pub began: bool,
    /// Whether everything is recorded that was to be.
    pub complete: bool,
    /// Why.
    pub reason: String,
    /// How many pieces the relay told, and the hash over them by its count.
    pub counted: Option<(u64, Digest)>,
    /// What else the relay says: `exit`, `output`, `output_sha256`, `input`, `input_sha256`.
    pub more: Value,
}

/// The signatures at its end.
#[derive(Debug, Clone)]
pub struct RecordingSignatures {
    /// SHA-256 of the asciicast.
    pub sha256: Digest,
    /// Ed25519 over its 32 bytes.
    pub signature: [u8; 64],
    /// About it.
    pub statement: NewStatement,
}

/// Of what was last heard before this moment nothing was heard for too long.
fn silent_since(now: Timestamp) -> Timestamp {
    now.plus_millis(-SILENCE_MS_MAX)
}

/// What began before this moment goes on for longer than a session may; its relay ends it before the server does.
fn too_long_since(now: Timestamp) -> Timestamp {
    now.plus_millis(-DURATION_MS_MAX.cast_signed() - SILENCE_MS_MAX)
}

fn behind(after: Option<RecordingId>) -> uuid::Uuid {
    after.map_or(uuid::Uuid::nil(), |id| id.as_uuid())
}

fn at_once() -> i64 {
    i64::try_from(RECORDINGS_AT_ONCE).unwrap_or(i64::MAX)
}

impl Store {
    /// A recording that is to be closed, with the SHA-256 of its asciicast; none where it is closed. Only the relay's own, where one asks.
    pub async fn recording_closing(
        &self,
        permit: &Permit<ops::RecordingClose>,
        id: RecordingId,
    ) -> Result<Option<(RecordingRow, Digest)>> {
        let tenant = permit.tenant();
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let (row, mut reader) = reader(&mut tx, self, tenant, id).await?;
        drop(tx);
        let is_own = match permit.ctx().actor() {
            access::Actor::Relay { id, .. } => *id == row.relay,
            _ => true,
        };
        if !is_own {
            return Err(Error::NotFound { what: "recording" });
        }
        if row.state != "open" {
            return Ok(None);
        }
        let whole = reader.whole(row.chain).await?;
        Ok(Some((row, whole)))
    }

    /// Recordings of a tenant that nobody ends, behind this id: the first [`RECORDINGS_AT_ONCE`] of them, in the order of their ids.
    pub async fn recordings_to_close(
        &self,
        permit: &Permit<ops::RecordingDelete>,
        after: Option<RecordingId>,
    ) -> Result<Vec<(RecordingId, RecordingOver)>> {
        let (tenant, now) = (permit.tenant(), self.clock().now());
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let sql = "SELECT id, heard_at FROM recording WHERE tenant_id = $1 AND state = 'open' AND (heard_at < $2 OR began_at < $3) AND id > $4 \
                   ORDER BY id LIMIT $5";
        let silent = silent_since(now);
        let rows = tx.rows(sql, args![tenant, silent, too_long_since(now), behind(after), at_once()]).await?;
        let over = |row: &Row| {
            let why = if row.time(1)? < silent { RecordingOver::Silent } else { RecordingOver::TooLong };
            Ok((RecordingId::from_uuid(row.uuid(0)?), why))
        };
        rows.iter().map(over).collect()
    }

    /// Recordings of a tenant that are kept no longer, behind this id: the first [`RECORDINGS_AT_ONCE`] of them, in the order of their ids. Also
    /// those that should have been closed and cannot be.
    pub async fn recordings_kept_no_longer(
        &self,
        permit: &Permit<ops::RecordingDelete>,
        after: Option<RecordingId>,
    ) -> Result<Vec<RecordingId>> {
        let (tenant, now) = (permit.tenant(), self.clock().now());
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let kept = policy(&mut tx, tenant).await?.keeps_until(Timestamp::from_millis(0)).as_millis();
        let sql = "SELECT id FROM recording WHERE tenant_id = $1 AND began_at < $2 AND (state <> 'open' OR heard_at < $3 OR began_at < $4) \
                   AND id > $5 ORDER BY id LIMIT $6";
        let values =
            args![tenant, now.plus_millis(-kept), silent_since(now), too_long_since(now), behind(after), at_once()];
        let rows = tx.rows(sql, values).await?;
        rows.iter().map(|row| row.uuid(0).map(RecordingId::from_uuid)).collect()
    }

    /// The tenants that may have recordings.
    pub async fn recording_tenants(&self, _permit: PlatformPermit<ops::TenantList>) -> Result<Vec<TenantId>> {
        let mut tx = self.db().read().await?;
        backup::tenants(&mut tx).await
    }

    /// Deletes a recording whose time is over: its key first, without which its pieces are worth nothing. Its statement and the records stay.
    pub async fn recording_delete(&self, permit: Permit<ops::RecordingDelete>, id: RecordingId) -> Result<()> {
        let (tenant, blobs) = (permit.tenant(), Blobs::of(self, permit.tenant()));
        let mut unit = self.write(permit).await?;
        let (row, _) = find(&mut unit.tx, tenant, id).await?;
        let gone = remove(&mut unit, id).await?;
        let detail = json!({"user": row.user, "destination": row.destination_name, "began_at": row.began_at, "sha256": row.sha256});
        unit.commit(Change::to(Category::Access, "recording", id).detail(detail)).await?;
        blobs.remove(gone).await
    }
}

/// Removes the rows and the key of a recording; the blobs that are then nobody's.
async fn remove(unit: &mut Write<ops::RecordingDelete>, id: RecordingId) -> Result<Vec<Digest>> {
    let (tenant, store) = (unit.tenant(), unit.store.clone());
    let sql = "DELETE FROM recording_chunk WHERE tenant_id = $1 AND recording_id = $2 RETURNING blob";
    let gone = unit.tx.rows(sql, args![tenant, id]).await?.iter().map(|row| row.digest(0)).collect::<Result<_>>()?;
    unit.tx.execute("DELETE FROM recording WHERE tenant_id = $1 AND id = $2", args![tenant, id]).await?;
    cell::forget(&mut unit.tx, &store, &RECORDING, tenant, &id.as_uuid().into()).await?;
    Ok(gone)
}

impl Write<ops::RecordingClose> {
    /// Closes a recording with its signatures. One that is closed already, or that grew meanwhile, is left as it is; whether it was closed.
    pub async fn recording_close(
        mut self,
        row: &RecordingRow,
        end: &RecordingEnding,
        signed: &RecordingSignatures,
    ) -> Result<bool> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let mut ending = end.more.clone();
        if let Value::Object(ending) = &mut ending {
            ending.insert("reason".to_owned(), json!(end.reason));
            ending.insert("complete".to_owned(), json!(end.complete));
        }
        let closed = self
            .tx
            .execute(
                "UPDATE recording SET state = $3, ended_at = $4, ending = $5, sha256 = $6, signature = $7, key_id = $8, evidence_id = $9 \
                 WHERE tenant_id = $1 AND id = $2 AND state = 'open' AND chunks = $10",
                args![
                    tenant,
                    row.id,
                    if end.complete { "ended" } else { "cut_off" },
                    end.at,
                    ending.to_string(),
                    signed.sha256,
                    signed.signature.to_vec(),
                    signed.statement.key_id.to_hex(),
                    signed.statement.id.as_uuid(),
                    stored(row.chunks)
                ],
            )
            .await?;
        if closed == 0 {
            return Ok(false);
        }
        statement_insert(&mut self, &signed.statement, About::default(), now).await?;
        let mut detail = json!({
            "user": row.user,
            "destination": row.destination_name,
            "complete": end.complete,
            "reason": end.reason,
            "chunks": row.chunks,
            "chain": row.chain,
            "sha256": signed.sha256,
            "statement": signed.statement.id,
        });
        if let (Value::Object(detail), false) = (&mut detail, end.complete) {
            detail.insert("alarm".to_owned(), true.into());
        }
        let outcome = if end.complete { Outcome::Success } else { Outcome::Fail };
        self.commit(Change::to(Category::Access, "recording", row.id).outcome(outcome).detail(detail)).await?;
        Ok(true)
    }

    /// Forgets a recording of a session that the destination did not let begin. One that has ended, or of which something was told, is no such
    /// recording and stays; whether it was forgotten.
    pub async fn recording_discard(mut self, row: &RecordingRow, reason: &str) -> Result<bool> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        let sql = "DELETE FROM recording WHERE tenant_id = $1 AND id = $2 AND state = 'open' AND chunks = 0";
        if self.tx.execute(sql, args![tenant, row.id]).await? == 0 {
            return Ok(false);
        }
        cell::forget(&mut self.tx, &store, &RECORDING, tenant, &row.id.as_uuid().into()).await?;
        let detail = json!({"user": row.user, "destination": row.destination_name, "began": false, "reason": reason});
        self.commit(Change::to(Category::Access, "recording", row.id).detail(detail)).await?;
        Ok(true)
    }
}
