//! Cells: single values that are sealed at rest, wherever they stand, and the one list of the columns that hold them.
//!
//! A sealed cell is `2 || key version (8) || row version (8) || sealed value` ([`crypto::aead`]). Tenant, table and column, row and both
//! versions are its associated data. `vault_entry` knows the newest version of each cell, and the head ([`super::head`]) knows the entries:
//! a cell that was moved, changed, or put back in an older version does not open.
//!
//! To keep something sealed in a table: add its column to [`COLUMNS`], write what [`seal`] returns, read with [`open`], and call [`forget`]
//! when the row goes. Rotation, the check at the start and the test over the schema then know it.

use std::collections::BTreeMap;

use crypto::aead;
use domain::{Error, Result, Secret, TenantId};
use uuid::Uuid;

use super::head::{Head, refused};
use super::{key, place};
use crate::Store;
use crate::db::{Tx, Value, args};
use crate::unit::{enter, platform_tenant};

const FORMAT: u8 = 2;

/// Which row of a table a cell stands in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowKey {
    /// A row that is known by a UUID.
    Uuid(Uuid),
    /// A row that is known by a text.
    Text(String),
}

impl std::fmt::Display for RowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uuid(id) => write!(f, "{id}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<&RowKey> for Value {
    fn from(row: &RowKey) -> Self {
        match row {
            RowKey::Uuid(id) => Self::Uuid(*id),
            RowKey::Text(text) => Self::Text(text.clone()),
        }
    }
}

impl From<Uuid> for RowKey {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl From<&str> for RowKey {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// How rows of a table are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyed {
    /// By a UUID.
    Uuid,
    /// By a text.
    Text,
}

/// A column that holds sealed values.
#[derive(Debug)]
pub(crate) struct Column {
    /// `table.column`.
    pub(crate) name: &'static str,
    /// Whether its rows belong to tenants; the others belong to the platform.
    pub(crate) of_tenants: bool,
    /// How its rows are known.
    pub(crate) keyed: Keyed,
    /// Every row's key and value that is not NULL; `$1` is the tenant, where rows belong to tenants.
    pub(crate) scan: &'static str,
    /// One row's value: `$1` the row, `$2` the tenant.
    pub(crate) find: &'static str,
    /// Writes one row's value, if it is still the old one: `$1` the row, `$2` the new value, `$3` the old one, `$4` the tenant.
    pub(crate) swap: &'static str,
    /// What else the row says about its key: `$1` the row, `$2` the key's version, `$3` the tenant.
    pub(crate) note: Option<&'static str>,
}

/// A tenant's credentials.
pub(crate) static CREDENTIAL: Column = Column {
    name: "credential.sealed",
    of_tenants: true,
    keyed: Keyed::Uuid,
    scan: "SELECT id, sealed FROM credential WHERE tenant_id = $1",
    find: "SELECT sealed FROM credential WHERE id = $1 AND tenant_id = $2",
    swap: "UPDATE credential SET sealed = $2 WHERE id = $1 AND sealed = $3 AND tenant_id = $4",
    // The foreign key to `data_key` keeps the database from dropping a key that is needed, whoever asks.
    note: Some("UPDATE credential SET key_version = $2 WHERE id = $1 AND tenant_id = $3"),
};

/// Secrets of the installation: the JWT secret, the installation's id. Those that the master key itself seals are not among them.
pub(crate) static INSTALLATION: Column = Column {
    name: "installation.value",
    of_tenants: false,
    keyed: Keyed::Text,
    scan: "SELECT name, value FROM installation WHERE name NOT IN ('master_check', 'vault_mac', 'restored')",
    find: "SELECT value FROM installation WHERE name = $1",
    swap: "UPDATE installation SET value = $2 WHERE name = $1 AND value = $3",
    note: None,
};

/// Private halves of signing keys; the row is `role/version`.
pub(crate) static SIGNING_KEY: Column = Column {
    name: "signing_key.sealed",
    of_tenants: false,
    keyed: Keyed::Text,
    scan: "SELECT role || '/' || version, sealed FROM signing_key WHERE sealed IS NOT NULL",
    find: "SELECT sealed FROM signing_key WHERE role || '/' || version = $1",
    swap: "UPDATE signing_key SET sealed = $2 WHERE role || '/' || version = $1 AND sealed = $3",
    note: None,
};

/// What proves us to an identity provider.
pub(crate) static CLIENT_SECRET: Column = Column {
    name: "identity_provider.client_secret",
    of_tenants: false,
    keyed: Keyed::Uuid,
    scan: "SELECT id, client_secret FROM identity_provider",
    find: "SELECT client_secret FROM identity_provider WHERE id = $1",
    swap: "UPDATE identity_provider SET client_secret = $2 WHERE id = $1 AND client_secret = $3",
    note: None,
};

/// What an identity provider can be asked with about one of its users; the row is the user, who has one identity at most.
pub(crate) static IDENTITY_TOKENS: Column = Column {
    name: "identity.tokens",
    of_tenants: false,
    keyed: Keyed::Uuid,
    scan: "SELECT user_id, tokens FROM identity WHERE tokens IS NOT NULL",
    find: "SELECT tokens FROM identity WHERE user_id = $1 AND tokens IS NOT NULL",
    swap: "UPDATE identity SET tokens = $2 WHERE user_id = $1 AND tokens = $3",
    note: None,
};

/// What an authenticator app makes its codes from, and whose it is. Users are no tenant's, so it is the platform's.
pub(crate) static FACTOR: Column = Column {
    name: "factor.sealed",
    of_tenants: false,
    keyed: Keyed::Uuid,
    scan: "SELECT id, sealed FROM factor WHERE sealed IS NOT NULL",
    find: "SELECT sealed FROM factor WHERE id = $1 AND sealed IS NOT NULL",
    swap: "UPDATE factor SET sealed = $2 WHERE id = $1 AND sealed = $3",
    note: None,
};

/// The keys of recordings' pieces.
pub(crate) static RECORDING: Column = Column {
    name: "recording.sealed",
    of_tenants: true,
    keyed: Keyed::Uuid,
    scan: "SELECT id, sealed FROM recording WHERE tenant_id = $1",
    find: "SELECT sealed FROM recording WHERE id = $1 AND tenant_id = $2",
    swap: "UPDATE recording SET sealed = $2 WHERE id = $1 AND sealed = $3 AND tenant_id = $4",
    note: None,
};

/// Every column that holds sealed values. What is not here would be lost with the first rotation, so a test compares it with the schema.
pub(crate) static COLUMNS: [&Column; 7] =
    [&CREDENTIAL, &INSTALLATION, &SIGNING_KEY, &CLIENT_SECRET, &IDENTITY_TOKENS, &FACTOR, &RECORDING];

impl Column {
    /// The columns whose rows belong to tenants, or those of the platform.
    pub(crate) fn of(scope: TenantId) -> impl Iterator<Item = &'static Column> {
        COLUMNS.into_iter().filter(move |column| column.of_tenants == (scope != platform_tenant()))
    }

    /// Every row's key and value.
    pub(super) async fn scan(&self, tx: &mut Tx, scope: TenantId) -> Result<Vec<(RowKey, Vec<u8>)>> {
        let rows =
            if self.of_tenants { tx.rows(self.scan, args![scope]).await? } else { tx.rows(self.scan, args![]).await? };
        let row = |row: &crate::db::Row| {
            let key = match self.keyed {
                Keyed::Uuid => RowKey::Uuid(row.uuid(0)?),
                Keyed::Text => RowKey::Text(row.text(0)?),
            };
            Ok((key, row.bytes(1)?))
        };
        rows.iter().map(row).collect()
    }

    /// The row that an entry names.
    pub(super) fn row_key(&self, text: &str) -> Result<RowKey> {
        match self.keyed {
            Keyed::Uuid => text.parse().map(RowKey::Uuid).map_err(Error::internal),
            Keyed::Text => Ok(RowKey::Text(text.to_owned())),
        }
    }

    async fn find(&self, tx: &mut Tx, scope: TenantId, row: &RowKey) -> Result<Option<Vec<u8>>> {
        let found = if self.of_tenants {
            tx.row(self.find, args![row, scope]).await?
        } else {
            tx.row(self.find, args![row]).await?
        };
        found.map(|row| row.bytes(0)).transpose()
    }
}

/// A sealed value, to be written into its row.
pub(crate) struct Sealed {
    /// What to write.
    pub(crate) bytes: Vec<u8>,
    /// The version of the data key that it is sealed with.
    pub(crate) key_version: i64,
}

struct Versions {
    key: i64,
    row: i64,
}

fn split(sealed: &[u8]) -> Option<(Versions, &[u8])> {
    let rest = sealed.strip_prefix(&[FORMAT])?;
    let (key, rest) = rest.split_first_chunk::<8>()?;
    let (row, rest) = rest.split_first_chunk::<8>()?;
    Some((Versions { key: i64::from_be_bytes(*key), row: i64::from_be_bytes(*row) }, rest))
}

/// The keyed hash of an entry: of the place, which holds both versions, and of the sealed bytes.
fn tag(store: &Store, place: &[u8], sealed: &[u8]) -> [u8; 32] {
    let digest = crypto::sha256(sealed);
    let parts: [&[u8]; 3] = [b"cairn/vault/entry/v1", place, digest.as_bytes()];
    crypto::hmac_sha256(store.vault().mac(), &parts.concat())
}

const FIND_ENTRY: &str =
    "SELECT row_version, key_version, tag FROM vault_entry WHERE tenant_id = $1 AND cell = $2 AND row_id = $3";

/// Takes a scope's vault before the audit log is locked: whoever changes cells after a record locks in this order, as everybody else does.
pub(crate) async fn lock(tx: &mut Tx, store: &Store, scope: TenantId) -> Result<()> {
    Head::lock(tx, store, scope).await.map(drop)
}

/// Seals a value for its cell and enters the new version. The caller writes the returned bytes into the row in the same transaction.
/// `scope` is the tenant of the row, or [`platform_tenant`].
pub(crate) async fn seal(
    tx: &mut Tx,
    store: &Store,
    column: &Column,
    scope: TenantId,
    row: &RowKey,
    plaintext: &[u8],
) -> Result<Sealed> {
    let head = Head::lock(tx, store, scope).await?;
    seal_under(tx, store, column, head, row, plaintext).await
}

async fn seal_under(
    tx: &mut Tx,
    store: &Store,
    column: &Column,
    mut head: Head,
    row: &RowKey,
    plaintext: &[u8],
) -> Result<Sealed> {
    let scope = head.scope;
    let data_key = key::for_sealing(tx, store, scope).await?;
    let (row_version, row_id) = (head.counter + 1, row.to_string());
    let aad = place::cell(scope, column.name, &row_id, data_key.version, row_version);
    let value = aead::seal(&data_key.key, &aad, plaintext, &**store.rng()).map_err(Error::internal)?;
    let bytes = [&[FORMAT], data_key.version.to_be_bytes().as_slice(), &row_version.to_be_bytes(), &value].concat();
    let new = tag(store, &aad, &bytes);
    let old = tx.row(FIND_ENTRY, args![scope, column.name, row_id.as_str()]).await?;
    let old = old.map(|row| row.bytes(2)).transpose()?;
    tx.execute(
        "INSERT INTO vault_entry (tenant_id, cell, row_id, row_version, key_version, tag) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (tenant_id, cell, row_id) DO UPDATE SET row_version = excluded.row_version, \
         key_version = excluded.key_version, tag = excluded.tag",
        args![scope, column.name, row_id, row_version, data_key.version, new.to_vec()],
    )
    .await?;
    head.replace(store, old.as_deref(), Some(&new));
    head.advance(tx, store).await?;
    Ok(Sealed { bytes, key_version: data_key.version })
}

/// Opens what stands in a cell. Anything but the newest version in its own place is refused.
pub(crate) async fn open(
    tx: &mut Tx,
    store: &Store,
    column: &Column,
    scope: TenantId,
    row: &RowKey,
    sealed: &[u8],
) -> Result<Secret> {
    enter(tx, scope).await?;
    if Head::find(tx, store, scope).await?.is_none() {
        return Err(refused(scope, "it has no head"));
    }
    let row_id = row.to_string();
    let entry = tx.row(FIND_ENTRY, args![scope, column.name, row_id.as_str()]).await?;
    let entry = match &entry {
        Some(entry) => Some((entry.i64(0)?, entry.i64(1)?, entry.bytes(2)?)),
        None => None,
    };
    let (versions, value) = check(store, column, scope, &row_id, sealed, entry.as_ref())?;
    let data_key = key::by_version(tx, store, scope, versions.key).await?;
    let aad = place::cell(scope, column.name, &row_id, versions.key, versions.row);
    aead::open(&data_key.key, &aad, value)
        .map_err(|_| refused(scope, &format!("`{}` of {row_id} does not open", column.name)))
}

/// Compares a cell with its entry (row version, key version, tag).
fn check<'a>(
    store: &Store,
    column: &Column,
    scope: TenantId,
    row_id: &str,
    sealed: &'a [u8],
    entry: Option<&(i64, i64, Vec<u8>)>,
) -> Result<(Versions, &'a [u8])> {
    let no = |what: &str| refused(scope, &format!("`{}` of {row_id} {what}", column.name));
    let (versions, value) = split(sealed).ok_or_else(|| no("is not a sealed value"))?;
    let (row, key, known) = entry.ok_or_else(|| no("was not written by this server"))?;
    if versions.row != *row || versions.key != *key {
        return Err(no(&format!("is version {}, but version {row} is the newest", versions.row)));
    }
    let aad = place::cell(scope, column.name, row_id, *key, *row);
    if !crypto::constant_time_eq(&tag(store, &aad, sealed), known) {
        return Err(no("was changed or moved"));
    }
    Ok((versions, value))
}

/// Forgets a cell whose row goes. Without it the entry stays until the next rotation clears it away.
pub(crate) async fn forget(tx: &mut Tx, store: &Store, column: &Column, scope: TenantId, row: &RowKey) -> Result<()> {
    let mut head = Head::lock(tx, store, scope).await?;
    let gone = tx
        .row(
            "DELETE FROM vault_entry WHERE tenant_id = $1 AND cell = $2 AND row_id = $3 RETURNING tag",
            args![scope, column.name, row.to_string()],
        )
        .await?;
    let Some(gone) = gone else { return Ok(()) };
    head.replace(store, Some(&gone.bytes(0)?), None);
    head.advance(tx, store).await
}

/// Seals a cell anew under the newest key: what stands there is opened first. Returns false when the row is gone, and forgets it.
pub(super) async fn reseal(tx: &mut Tx, store: &Store, column: &Column, scope: TenantId, row: &RowKey) -> Result<bool> {
    let head = Head::lock(tx, store, scope).await?;
    let Some(old) = column.find(tx, scope, row).await? else {
        forget(tx, store, column, scope, row).await?;
        return Ok(false);
    };
    let plaintext = open(tx, store, column, scope, row, &old).await?;
    let sealed = seal_under(tx, store, column, head, row, plaintext.expose()).await?;
    write(tx, column, scope, row, &old, &sealed).await?;
    Ok(true)
}

async fn write(tx: &mut Tx, column: &Column, scope: TenantId, row: &RowKey, old: &[u8], sealed: &Sealed) -> Result<()> {
    let new = sealed.bytes.as_slice();
    let written = if column.of_tenants {
        tx.execute(column.swap, args![row, new, old, scope]).await?
    } else {
        tx.execute(column.swap, args![row, new, old]).await?
    };
    if written != 1 {
        return Err(Error::Unavailable {
            message: "the row was changed meanwhile: try again".to_owned(),
            detail: format!("{} of {row}", column.name),
        });
    }
    match column.note {
        Some(note) => tx.execute(note, args![row, sealed.key_version, scope]).await.map(drop),
        None => Ok(()),
    }
}

/// Takes a value into the vault that stands in its row in another form; `plaintext` is what it holds.
pub(super) async fn adopt(
    tx: &mut Tx,
    store: &Store,
    column: &Column,
    scope: TenantId,
    row: &RowKey,
    old: &[u8],
    plaintext: &Secret,
) -> Result<()> {
    let sealed = seal(tx, store, column, scope, row, plaintext.expose()).await?;
    write(tx, column, scope, row, old, &sealed).await
}

/// Entries by cell and row: row version, key version and tag.
type Entries = BTreeMap<(String, String), (i64, i64, Vec<u8>)>;

/// Every entry of a scope, once they add up to what its head says.
pub(super) async fn entries(tx: &mut Tx, store: &Store, head: &Head) -> Result<Entries> {
    let scope = head.scope;
    let mut entries = Entries::new();
    let rows = tx
        .rows("SELECT cell, row_id, row_version, key_version, tag FROM vault_entry WHERE tenant_id = $1", args![scope])
        .await?;
    for row in rows {
        entries.insert((row.text(0)?, row.text(1)?), (row.i64(2)?, row.i64(3)?, row.bytes(4)?));
    }
    if !head.is_sum_of(store, entries.values().map(|(_, _, tag)| tag.as_slice())) {
        return Err(refused(scope, "its entries are not those that this server left"));
    }
    Ok(entries)
}

/// Checks every cell of a scope against its entry and the entries against the head; the cells whose rows are gone.
pub(super) async fn check_all(tx: &mut Tx, store: &Store, scope: TenantId) -> Result<u64> {
    let Some(head) = Head::find(tx, store, scope).await? else { return Ok(0) };
    let mut entries = entries(tx, store, &head).await?;
    for column in Column::of(scope) {
        for (row, sealed) in column.scan(tx, scope).await? {
            let row_id = row.to_string();
            let entry = entries.remove(&(column.name.to_owned(), row_id.clone()));
            check(store, column, scope, &row_id, &sealed, entry.as_ref())?;
        }
    }
    Ok(entries.len() as u64)
}
