//! Signed checkpoints of the logs: made when they are asked for and soon after a log grew, kept for ever, and never one that takes back
//! an earlier one.
//!
//! Before the key signs, the tree must continue the last checkpoint in the database **and** the last one that this machine remembers (a
//! file beside the data): whoever rolls the database back, or changes it together with its checkpoints, meets the second. Then nothing
//! is signed and an error is logged, until a person has looked at it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crypto::ed25519::{PublicKey, SigningKey};
use domain::{Digest, Error, EvidenceId, Result, TenantId, Timestamp};
use evidence::checkpoint::{Checkpoint, LogProof, Origin};
use evidence::note::{Note, NoteSignature};
use tokio::sync::watch;

use crate::db::{Tx, args};
use crate::log::{self, LogReader, damaged, unsigned};
use crate::unit::{enter, platform_tenant};
use crate::{Page, Store};

/// The log key and what was signed with it.
pub(crate) struct LogKey {
    pub(crate) key: SigningKey,
    installation: String,
    /// Where the newest checkpoint of each log is remembered outside the database.
    heads: PathBuf,
    remembered: Mutex<BTreeMap<TenantId, (u64, Digest)>>,
    grown: Mutex<BTreeSet<TenantId>>,
    grew: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogKey {
    pub(crate) fn new(key: SigningKey, installation: String, heads: PathBuf) -> Self {
        let (remembered, grown) = (Mutex::default(), Mutex::default());
        Self { key, installation, heads, remembered, grown, grew: watch::Sender::new(0) }
    }

    pub(crate) fn origin(&self, tenant: TenantId) -> Origin {
        Origin::new(&self.installation, (tenant != platform_tenant()).then_some(tenant))
    }

    fn head_file(&self, tenant: TenantId) -> PathBuf {
        self.heads.join(tenant.as_uuid().hyphenated().to_string())
    }

    /// The newest checkpoint that this machine knows of, from memory or from its file.
    pub(crate) fn recall(&self, tenant: TenantId) -> Result<Option<(u64, Digest)>> {
        if let Some(known) = lock(&self.remembered).get(&tenant) {
            return Ok(Some(*known));
        }
        let path = self.head_file(tenant);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::internal(format!("`{}`: {error}", path.display()))),
        };
        let note = text.parse::<Note>().ok();
        let known = note.and_then(|note| Checkpoint::open(&note, &self.key.public()).ok());
        match known.filter(|known| known.origin == self.origin(tenant)) {
            Some(known) => Ok(Some((known.size, known.root))),
            None => Err(alarm(tenant, format!("`{}` is not a checkpoint that this server signed", path.display()))),
        }
    }

    /// Remembers a checkpoint outside the database; written whole or not at all.
    fn remember(&self, tenant: TenantId, checkpoint: &Checkpoint, note: &str) -> std::io::Result<()> {
        let mut remembered = lock(&self.remembered);
        if remembered.get(&tenant).is_some_and(|(size, _)| *size >= checkpoint.size) {
            return Ok(());
        }
        std::fs::create_dir_all(&self.heads)?;
        let path = self.head_file(tenant);
        let draft = path.with_extension("new");
        let mut file = std::fs::File::create(&draft)?;
        std::io::Write::write_all(&mut file, note.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&draft, &path)?;
        remembered.insert(tenant, (checkpoint.size, checkpoint.root));
        Ok(())
    }
}

/// What an operator must see: a log is not the continuation of what was signed.
fn alarm(tenant: TenantId, what: impl std::fmt::Display) -> Error {
    tracing::error!(%tenant, %what, "ALARM: the audit log does not continue what was signed; no checkpoint is signed");
    Error::Unavailable {
        message: "the audit log does not continue its last signed checkpoint, so none is signed: the database was rolled back or changed; \
                  ask the administrator to compare it with a backup"
            .to_owned(),
        detail: what.to_string(),
    }
}

/// A signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// The note, with the cosignatures of witnesses that there are.
    pub note: Note,
    /// When it was signed.
    pub at: Timestamp,
}

pub(crate) fn row_checkpoint(row: &crate::db::Row, origin: &Origin, key: &PublicKey) -> Result<SignedCheckpoint> {
    let (size, root, at) = (unsigned(row.i64(0)?)?, row.digest(1)?, row.time(3)?);
    let note: Note = row.text(2)?.parse().map_err(damaged)?;
    let checkpoint = Checkpoint::open(&note, key).map_err(damaged)?;
    if checkpoint != (Checkpoint { origin: origin.clone(), size, root }) {
        return Err(damaged(format_args!("the checkpoint of {size} leaves says something else than its row")));
    }
    Ok(SignedCheckpoint { checkpoint, note, at })
}

const NEWEST: &str = "SELECT size, root, note, signed_at FROM audit_checkpoint WHERE tenant_id = $1 AND size <= $2 ORDER BY size DESC LIMIT 1";

pub(crate) async fn newest(tx: &mut Tx, key: &LogKey, tenant: TenantId, most: i64) -> Result<Option<SignedCheckpoint>> {
    let row = tx.row(NEWEST, args![tenant, most]).await?;
    row.map(|row| row_checkpoint(&row, &key.origin(tenant), &key.key.public())).transpose()
}

async fn add_cosignatures(tx: &mut Tx, tenant: TenantId, signed: &mut SignedCheckpoint) -> Result<()> {
    let size = i64::try_from(signed.checkpoint.size).map_err(Error::internal)?;
    let sql = "SELECT line FROM audit_cosignature WHERE tenant_id = $1 AND size = $2 ORDER BY vkey LIMIT 32";
    for row in tx.rows(sql, args![tenant, size]).await? {
        let line: NoteSignature = row.text(0)?.parse().map_err(damaged)?;
        signed.note.signatures.push(line);
    }
    Ok(())
}

impl Store {
    /// The public half of the key that signs checkpoints.
    pub fn log_key(&self) -> PublicKey {
        self.log_signing().key.public()
    }

    /// The name of a tenant's log; of the platform's own without one.
    pub fn log_origin(&self, tenant: Option<TenantId>) -> Origin {
        self.log_signing().origin(tenant.unwrap_or_else(platform_tenant))
    }

    pub(crate) fn say_log_grew(&self, tenant: TenantId) {
        let signing = self.log_signing();
        lock(&signing.grown).insert(tenant);
        signing.grew.send_modify(|times| *times = times.wrapping_add(1));
    }

    /// Tells of every time that a log grew by this server.
    pub fn log_growth(&self) -> watch::Receiver<u64> {
        self.log_signing().grew.subscribe()
    }

    /// Signs a checkpoint of every log that grew since the last time; `all`: of every log of the installation that has none of its size.
    /// The first failure is returned when every log had its turn.
    pub async fn sign_checkpoints(&self, all: bool) -> Result<()> {
        let mut due = std::mem::take(&mut *lock(&self.log_signing().grown));
        if all {
            let mut tx = self.db().read().await?;
            due.insert(platform_tenant());
            for row in tx.rows("SELECT id FROM tenant", args![]).await? {
                due.insert(TenantId::from_uuid(row.uuid(0)?));
            }
        }
        let mut first = Ok(());
        for tenant in due {
            if let Err(error) = self.sign_checkpoint(tenant).await {
                lock(&self.log_signing().grown).insert(tenant);
                first = first.and(Err(error));
            }
        }
        first
    }

    /// That statements are in the tenant's log, against one checkpoint. For the holder of a permit to export them: a proof tells nothing
    /// of other records.
    pub(crate) async fn statement_proofs(
        &self,
        tenant: TenantId,
        ids: &[EvidenceId],
    ) -> Result<BTreeMap<EvidenceId, LogProof>> {
        self.sign_checkpoint(tenant).await?;
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let mut reader = LogReader { tx, tenant };
        let signed = reader.checkpoint_at(self, u64::MAX).await?;
        let mut proofs = BTreeMap::new();
        for id in ids {
            if let Some(index) = reader.place_of_statement(*id).await? {
                let hashes = reader.inclusion(index, signed.checkpoint.size).await?;
                proofs.insert(*id, LogProof { index, hashes, checkpoint: signed.note.clone() });
            }
        }
        Ok(proofs)
    }

    /// A checkpoint that covers everything that was committed before: the stored one, or one that is signed now.
    pub(crate) async fn sign_checkpoint(&self, tenant: TenantId) -> Result<SignedCheckpoint> {
        let signing = self.log_signing();
        // Before the snapshot: what somebody else signs and remembers meanwhile may be ahead of it.
        let known = signing.recall(tenant)?;
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let size = log::size(&mut tx, tenant).await?;
        let last = newest(&mut tx, signing, tenant, i64::MAX).await.map_err(|error| as_alarm(tenant, error))?;
        let root = log::root(&mut tx, tenant, size).await.map_err(|error| as_alarm(tenant, error))?;
        let earlier = last.iter().map(|last| (last.checkpoint.size, last.checkpoint.root)).chain(known);
        for (earlier, expected) in earlier {
            if earlier > size {
                return Err(alarm(tenant, format!("{earlier} records were signed, {size} are left")));
            }
            let found = if earlier == size {
                root
            } else {
                log::root(&mut tx, tenant, earlier).await.map_err(|error| as_alarm(tenant, error))?
            };
            if found != expected {
                return Err(alarm(tenant, format!("the first {earlier} records are not those that were signed")));
            }
        }
        drop(tx);
        let (signed, is_new) = match last {
            Some(last) if last.checkpoint.size == size => (last, false),
            _ => {
                let checkpoint = Checkpoint { origin: signing.origin(tenant), size, root };
                let note = checkpoint.sign(&signing.key).map_err(Error::internal)?;
                (SignedCheckpoint { checkpoint, note, at: self.clock().now() }, true)
            }
        };
        let text = signed.note.to_string();
        if is_new {
            let mut tx = self.db().write().await?;
            enter(&mut tx, tenant).await?;
            tx.execute(
                "INSERT INTO audit_checkpoint (tenant_id, size, root, note, signed_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (tenant_id, size) DO NOTHING",
                args![tenant, i64::try_from(size).map_err(Error::internal)?, root, text.as_str(), signed.at],
            )
            .await?;
            tx.commit().await?;
        }
        signing.remember(tenant, &signed.checkpoint, &text).map_err(|error| Error::Unavailable {
            message: "the newest checkpoint cannot be written beside the data: check the disk".to_owned(),
            detail: error.to_string(),
        })?;
        Ok(signed)
    }
}

/// A tree that cannot be read is one that was changed; a database that does not answer is only that.
fn as_alarm(tenant: TenantId, error: Error) -> Error {
    match error {
        Error::Internal { detail } => alarm(tenant, detail),
        other => other,
    }
}

impl LogReader {
    /// The newest signed checkpoint of at most `size` leaves, with its cosignatures.
    pub async fn checkpoint_at(&mut self, store: &Store, size: u64) -> Result<SignedCheckpoint> {
        let most = i64::try_from(size).unwrap_or(i64::MAX);
        let mut signed = newest(&mut self.tx, store.log_signing(), self.tenant, most)
            .await?
            .ok_or(Error::NotFound { what: "checkpoint" })?;
        add_cosignatures(&mut self.tx, self.tenant, &mut signed).await?;
        Ok(signed)
    }

    /// Signs a checkpoint that covers everything up to now, and reads on behind it.
    pub async fn checkpoint(self, store: &Store) -> Result<(Self, SignedCheckpoint)> {
        let tenant = self.tenant;
        drop(self);
        store.sign_checkpoint(tenant).await?;
        let mut tx = store.db().read().await?;
        enter(&mut tx, tenant).await?;
        let mut reader = Self { tx, tenant };
        let signed = reader.checkpoint_at(store, u64::MAX).await?;
        Ok((reader, signed))
    }

    /// The proof that the record at `index` is in the log, against a checkpoint that is signed now if there is none that covers it.
    pub async fn proof(self, store: &Store, index: u64) -> Result<LogProof> {
        let (mut reader, signed) = self.checkpoint(store).await?;
        let hashes = reader.inclusion(index, signed.checkpoint.size).await?;
        Ok(LogProof { index, hashes, checkpoint: signed.note })
    }

    /// Signed checkpoints, the newest first, of fewer than `below` leaves.
    pub async fn checkpoints(&mut self, store: &Store, below: u64, limit: u32) -> Result<Page<SignedCheckpoint, u64>> {
        let below = i64::try_from(below).unwrap_or(i64::MAX);
        let sql = "SELECT size, root, note, signed_at FROM audit_checkpoint WHERE tenant_id = $1 AND size < $2 ORDER BY size DESC LIMIT $3";
        let rows = self.tx.rows(sql, args![self.tenant, below, i64::from(limit) + 1]).await?;
        let signing = store.log_signing();
        let origin = signing.origin(self.tenant);
        let items = rows.iter().map(|row| row_checkpoint(row, &origin, &signing.key.public()));
        Ok(Page::cut(items.collect::<Result<_>>()?, limit, |signed| signed.checkpoint.size))
    }
}
