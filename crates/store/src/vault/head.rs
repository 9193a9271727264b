//! The head of a scope's vault (a tenant's, or the platform's): a counter that only grows and a sum over all entries, under a keyed hash.
//!
//! The sum is taken over keyed hashes of the entries' tags, modulo 2^256, so one change costs one addition and one subtraction. Without the
//! key nobody can tell what any entry adds, so nobody can make another set of entries with the same sum.

use domain::{Error, Result, TenantId};

use crate::Store;
use crate::db::{Tx, args};
use crate::unit::enter;

/// The sum of no entries.
const EMPTY: [u8; 32] = [0; 32];

/// A head as it stands in the database, its keyed hash checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) scope: TenantId,
    pub(super) counter: i64,
    pub(super) sum: [u8; 32],
}

fn add(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let (mut out, mut carry) = ([0u8; 32], 0u16);
    for ((out, a), b) in out.iter_mut().zip(a).zip(b).rev() {
        let sum = u16::from(*a) + u16::from(*b) + carry;
        *out = sum.to_be_bytes()[1];
        carry = sum >> 8;
    }
    out
}

fn negative(a: &[u8; 32]) -> [u8; 32] {
    let mut one = [0u8; 32];
    one[31] = 1;
    add(&a.map(|byte| !byte), &one)
}

/// What an entry adds to the sum.
fn weight(store: &Store, tag: &[u8]) -> [u8; 32] {
    crypto::hmac_sha256(store.vault().mac(), &[b"cairn/vault/sum/v1".as_slice(), tag].concat())
}

pub(super) fn refused(scope: TenantId, what: &str) -> Error {
    // The alarm: whoever sees it in the log has an intruder in the database, or restored a backup.
    tracing::error!(%scope, what, "the vault refuses to open: its state in the database is not the one that this server left");
    Error::internal(format!("the vault of {scope}: {what}"))
}

impl Head {
    /// Nothing was ever sealed.
    fn fresh(scope: TenantId) -> Self {
        Self { scope, counter: 0, sum: EMPTY }
    }

    /// The keyed hash of this state.
    pub(super) fn tag(&self, store: &Store) -> [u8; 32] {
        let (scope, counter) = (self.scope.as_uuid(), self.counter.to_be_bytes());
        let parts: [&[u8]; 4] = [b"cairn/vault/head/v1", scope.as_bytes(), &counter, &self.sum];
        crypto::hmac_sha256(store.vault().mac(), &parts.concat())
    }

    fn read(store: &Store, scope: TenantId, row: &crate::db::Row) -> Result<Self> {
        let sum = <[u8; 32]>::try_from(row.bytes(1)?).map_err(|_| refused(scope, "its head is no head"))?;
        let head = Self { scope, counter: row.i64(0)?, sum };
        if !crypto::constant_time_eq(&head.tag(store), &row.bytes(2)?) {
            return Err(refused(scope, "its head was written by somebody else"));
        }
        Ok(head)
    }

    fn is_admitted(&self, store: &Store) -> bool {
        store.vault().witness.admit(self.scope, self.counter, &self.tag(store)).is_ok()
    }

    fn admit(self, store: &Store) -> Result<Self> {
        store
            .vault()
            .witness
            .admit(self.scope, self.counter, &self.tag(store))
            .map_err(|what| refused(self.scope, &what))?;
        Ok(self)
    }

    async fn select(tx: &mut Tx, store: &Store, scope: TenantId) -> Result<Option<Self>> {
        let row = tx.row("SELECT counter, sum, tag FROM vault_head WHERE tenant_id = $1", args![scope]).await?;
        row.map(|row| Self::read(store, scope, &row)).transpose()
    }

    /// The head, if the scope has one; refuses one that is older than what this server has seen.
    pub(super) async fn find(tx: &mut Tx, store: &Store, scope: TenantId) -> Result<Option<Self>> {
        let Some(head) = Self::select(tx, store, scope).await? else { return Ok(None) };
        if !head.is_admitted(store) {
            // A transaction that reads on one snapshot may honestly be older than what was committed since: only the newest state counts.
            let mut fresh = store.db().read().await?;
            enter(&mut fresh, scope).await?;
            if let Some(newest) = Self::select(&mut fresh, store, scope).await? {
                newest.admit(store)?;
            }
        }
        Ok(Some(head))
    }

    /// The head, held to the end of the transaction so that changes of one scope's vault follow one another.
    pub(super) async fn lock(tx: &mut Tx, store: &Store, scope: TenantId) -> Result<Self> {
        enter(tx, scope).await?;
        let fresh = Self::fresh(scope);
        let row = tx
            .row(
                "INSERT INTO vault_head (tenant_id, counter, sum, tag) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (tenant_id) DO UPDATE SET counter = vault_head.counter RETURNING counter, sum, tag",
                args![scope, fresh.counter, fresh.sum.to_vec(), fresh.tag(store).to_vec()],
            )
            .await?
            .ok_or_else(|| Error::internal("the vault's head returned nothing"))?;
        Self::read(store, scope, &row)?.admit(store)
    }

    /// Takes one entry out of the sum and puts another in.
    pub(super) fn replace(&mut self, store: &Store, old: Option<&[u8]>, new: Option<&[u8]>) {
        if let Some(tag) = old {
            self.sum = add(&self.sum, &negative(&weight(store, tag)));
        }
        if let Some(tag) = new {
            self.sum = add(&self.sum, &weight(store, tag));
        }
    }

    /// Whether the sum is that of exactly these entries.
    pub(super) fn is_sum_of<'a>(&self, store: &Store, tags: impl Iterator<Item = &'a [u8]>) -> bool {
        let sum = tags.fold(EMPTY, |sum, tag| add(&sum, &weight(store, tag)));
        crypto::constant_time_eq(&sum, &self.sum)
    }

    /// Writes the next state.
    pub(super) async fn advance(mut self, tx: &mut Tx, store: &Store) -> Result<()> {
        self.counter += 1;
        let tag = self.tag(store);
        tx.execute(
            "UPDATE vault_head SET counter = $2, sum = $3, tag = $4 WHERE tenant_id = $1",
            args![self.scope, self.counter, self.sum.to_vec(), tag.to_vec()],
        )
        .await?;
        tx.raised().add(&store.vault().witness, self.scope, self.counter, tag);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_out_what_was_put_in_gives_the_sum_before_also_across_the_carry() {
        let (a, b) = ([0xff; 32], crypto::sha256(b"b").0);
        let both = add(&a, &b);
        assert_eq!(add(&both, &negative(&b)), a);
        assert_eq!(add(&both, &negative(&a)), b);
        assert_eq!(add(&a, &negative(&a)), EMPTY);
        assert_eq!(add(&a, &b), add(&b, &a));
        assert_eq!(negative(&EMPTY), EMPTY);
    }
}
