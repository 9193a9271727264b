//! What a plugin left with a scope for its next run, and when that may still be begun from.
//!
//! Invariants:
//! - a checkpoint is stored in the transaction that ends a reading which was whole and alone in its scope, or not at all;
//! - whatever is written in the scope after that takes it away (`ingest::wrote`), so it is there only while the graph is as it says;
//! - it is offered to the program and the settings that left it, and all of the scope is shown anew after a day or some differences: what a
//!   plugin forgot to tell is put right by then.

use std::collections::HashMap;

use domain::{CollectionId, Coverage, Digest, Error, EvidenceId, Result, ScopeId, Timestamp};
use inventory::ScopeKey;

use crate::db::args;
use crate::ingest::{Gone, Ingest, ScopeChanges};
use crate::unit::enter;

/// How long differences may follow one another before all of a scope is shown again: a day.
const WHOLE_EVERY_MS: i64 = 86_400_000;
/// How many differences may, each with a statement that rests on the one before.
const DIFFERENCES_MAX: i64 = 32;
/// Most bytes that are offered to one run, so that they fit into one message; scopes beyond that are shown whole.
const OFFERED_BYTES: usize = 3 * 1_024 * 1_024;

/// What a run may begin from in a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The scope.
    pub scope: ScopeId,
    /// What the plugin left.
    pub bytes: Vec<u8>,
    /// The statement of the last reading that showed something of the scope.
    pub evidence: EvidenceId,
    /// SHA-256 of what was signed there.
    pub pae_sha256: Digest,
    whole_at: Timestamp,
    differences: i64,
}

/// What a plugin leaves with a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheckpoint {
    /// Its own bytes; empty to leave none, or with [`Coverage::Unchanged`] to keep the one before.
    pub bytes: Vec<u8>,
    /// Of which program and settings it is.
    pub basis: Digest,
    /// The statement of this reading.
    pub evidence: EvidenceId,
    /// SHA-256 of what is signed there.
    pub pae_sha256: Digest,
}

/// The columns of a scope's row.
pub(crate) struct Columns {
    pub(crate) bytes: Vec<u8>,
    pub(crate) basis: Digest,
    pub(crate) evidence: EvidenceId,
    pub(crate) pae_sha256: Digest,
    pub(crate) whole_at: Timestamp,
    pub(crate) differences: i64,
}

/// How a scope is ended.
#[derive(Default)]
pub(crate) struct Ending<'a> {
    /// What is gone, where only the difference was shown.
    pub(crate) gone: Option<&'a Gone>,
    /// Whether that is the difference to an offered checkpoint.
    pub(crate) is_since: bool,
    pub(crate) checkpoint: Option<NewCheckpoint>,
}

impl NewCheckpoint {
    /// What is stored of it with a reading that was alone. `since`: what the reading began from, where it did not show everything.
    pub(crate) fn columns(self, coverage: &Coverage, since: Option<&Checkpoint>, now: Timestamp) -> Option<Columns> {
        let Self { bytes, basis, evidence, pae_sha256 } = self;
        let new = Columns { bytes, basis, evidence, pae_sha256, whole_at: now, differences: 0 };
        let columns = match (coverage, since) {
            (Coverage::Unchanged, Some(since)) => Columns {
                bytes: if new.bytes.is_empty() { since.bytes.clone() } else { new.bytes },
                basis,
                evidence: since.evidence,
                pae_sha256: since.pae_sha256,
                whole_at: since.whole_at,
                differences: since.differences,
            },
            (_, Some(since)) => Columns { whole_at: since.whole_at, differences: since.differences + 1, ..new },
            (_, None) => new,
        };
        (coverage.is_whole() && !columns.bytes.is_empty()).then_some(columns)
    }
}

impl Ingest {
    /// What this run may begin from in the scopes of its source that begin with `prefix`: their last reading saw all of them and was left by
    /// the same program with the same settings (`basis`).
    pub async fn checkpoints(&mut self, prefix: &str, basis: Digest) -> Result<Vec<Checkpoint>> {
        let now = self.ctx.clock().now();
        let mut tx = self.store.db().read().await?;
        enter(&mut tx, self.tenant).await?;
        let rows = tx
            .rows(
                "SELECT scope, checkpoint, checkpoint_evidence, checkpoint_pae, checkpoint_whole_at, checkpoint_differences FROM scope \
                 WHERE tenant_id = $1 AND source = $2 AND substr(scope, 1, length($3)) = $3 AND checkpoint IS NOT NULL \
                   AND checkpoint_basis = $4 AND checkpoint_whole_at > $5 AND checkpoint_whole_at <= $6 AND checkpoint_differences < $7 \
                 ORDER BY scope",
                args![
                    self.tenant,
                    self.source.as_str(),
                    prefix,
                    basis,
                    now.plus_millis(-WHOLE_EVERY_MS),
                    now,
                    DIFFERENCES_MAX
                ],
            )
            .await?;
        let (mut offered, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let checkpoint = Checkpoint {
                scope: row.parse(0)?,
                bytes: row.bytes(1)?,
                evidence: EvidenceId::from_uuid(row.uuid(2)?),
                pae_sha256: row.digest(3)?,
                whole_at: row.time(4)?,
                differences: row.i64(5)?,
            };
            bytes += checkpoint.bytes.len();
            if bytes > OFFERED_BYTES {
                break;
            }
            offered.push(checkpoint);
        }
        let keyed = offered.iter().map(|known| (ScopeKey::of(&self.source, &known.scope), known.clone()));
        let keyed: HashMap<ScopeKey, Checkpoint> = keyed.collect();
        self.offered = keyed;
        Ok(offered)
    }

    /// Ends a scope as [`Ingest::finish`] does, for a plugin that keeps checkpoints. `gone`: only the difference to what [`Ingest::checkpoints`]
    /// offered was shown, as with [`Coverage::Unchanged`]; that closes what is named, and nothing if another run was in the scope since.
    pub async fn finish_since(
        &mut self,
        scope: &ScopeId,
        coverage: &Coverage,
        collection: CollectionId,
        gone: Option<&Gone>,
        checkpoint: NewCheckpoint,
    ) -> Result<ScopeChanges> {
        let ending = Ending { gone, is_since: gone.is_some(), checkpoint: Some(checkpoint) };
        self.end(scope, coverage, collection, ending).await
    }
}

/// A reading that did not show everything, of a scope where nothing was offered.
pub(crate) fn rests_on_nothing(scope: &ScopeId) -> Error {
    Error::invalid("scope", format!("nothing is known that a difference of `{scope}` could be to: show all of it"))
}
