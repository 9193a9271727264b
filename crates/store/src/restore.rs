//! Writing a backup into an empty database, in one transaction: all of it or nothing.
//!
//! The schema is first brought to the backup's version, the rows go in, and only then it is brought up to date: what later migrations do
//! to rows, they do to these too.
//!
//! What a restore changes of what was backed up: every session and every sign-in between its steps is ended (what was ended after the
//! backup would live again), with what identity providers would be asked with about their users; API keys of those users are suspended until
//! their provider confirms them; work that was held goes back to the queue; the log of the platform and of every tenant says that they were
//! restored; and a sealed mark tells the first start that this going back in time was meant.

use std::collections::BTreeSet;

use access::{OpCtx, PlatformPermit, ops};
use crypto::aead::{self, AeadKey};
use domain::{BackupId, Digest, Error, Result, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::audit::{self, Category, Change};
use crate::backup::{KEPT, take_time, tenants};
use crate::db::{Db, Engine, Tx, Value, args};
use crate::open::{APP_ROLE, current_user, make_app_role};
use crate::table::{self, Kind, Table};
use crate::unit::{PlatformWrite, enter, platform_tenant};
use crate::{OpenOptions, Schema, Store, migrate, vault};

/// Bytes of lines in one statement, where it has more than one row.
const CHUNK_BYTES: usize = 4 * 1_024 * 1_024;
/// Values in one statement: both engines take more.
const CHUNK_VALUES: usize = 16_384;

/// The name of the sealed mark in `installation`.
const MARK: &str = "restored";

/// What a restored database says of itself until its first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The backup.
    pub backup: BackupId,
    /// When it was taken: what happened later is not there.
    pub taken_at: Timestamp,
    /// When it was restored.
    pub restored_at: Timestamp,
}

/// The table that is being written.
struct Current {
    table: Table,
    columns: Vec<(String, Kind)>,
    tenant_column: Option<usize>,
    tenant: Option<Uuid>,
    values: Vec<Value>,
    rows: usize,
    bytes: usize,
}

impl Current {
    fn rows_max(&self, engine: Engine) -> usize {
        let most = if engine == Engine::Sqlite { 64 } else { 1_024 };
        (CHUNK_VALUES / self.columns.len().max(1)).clamp(1, most)
    }
}

/// A database that is being restored; dropping it undoes everything.
pub struct Restore {
    db: Db,
    tx: Tx,
    role: Option<String>,
    master: AeadKey,
    ctx: OpCtx,
    tables: Vec<Table>,
    seen: BTreeSet<String>,
    current: Option<Current>,
    artifacts: Vec<(TenantId, Digest)>,
    rows: u64,
}

/// Refuses a database that holds anything.
async fn refuse_used(tx: &mut Tx) -> Result<()> {
    let sql = match tx.engine() {
        Engine::Sqlite => "SELECT name FROM sqlite_master LIMIT 1",
        Engine::Pg => {
            "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') LIMIT 1"
        }
    };
    match tx.row(sql, args![]).await? {
        None => Ok(()),
        Some(row) => Err(Error::conflict(format!(
            "the database is not empty (it holds `{}`): restore into an empty one; nothing was changed",
            row.text(0)?
        ))),
    }
}

impl Restore {
    /// Begins a restore of a backup with the schema `schema` into an empty database.
    pub async fn begin(
        options: OpenOptions,
        permit: PlatformPermit<ops::BackupRestore>,
        schema: &Schema,
    ) -> Result<Self> {
        if let Some(unknown) = schema.unknown() {
            return Err(Error::invalid(
                "backup",
                format!(
                    "it has schema {unknown}, and this version knows {}: restore it with the version that made it, or a newer one",
                    Schema::known()
                ),
            ));
        }
        let first = Db::open(&options.url, None).await?;
        let (db, role) = match (first.engine(), options.owner_url) {
            (Engine::Sqlite, _) => (first, None),
            (Engine::Pg, Some(owner_url)) => {
                let role = current_user(&first).await?;
                first.close().await;
                (Db::open(&owner_url, None).await?, Some(role))
            }
            (Engine::Pg, None) => {
                make_app_role(&first).await?;
                (first, Some(APP_ROLE.to_owned()))
            }
        };
        let mut tx = db.write().await?;
        take_time(&mut tx).await?;
        refuse_used(&mut tx).await?;
        migrate::migrate_in(&mut tx, role.as_deref(), schema).await?;
        let tables = table::tables(&mut tx, schema).await?;
        Ok(Self {
            db,
            tx,
            role,
            master: options.master,
            ctx: permit.ctx().clone(),
            tables,
            seen: BTreeSet::new(),
            current: None,
            artifacts: Vec::new(),
            rows: 0,
        })
    }

    /// Takes the next line of a table, in the order in which [`Store::backup`] gave them.
    pub async fn line(&mut self, name: &str, line: &[u8]) -> Result<()> {
        if self.current.as_ref().is_none_or(|current| current.table.name != name) {
            return self.turn_to(name, line).await;
        }
        let engine = self.tx.engine();
        let Some(current) = &mut self.current else { return Err(Error::internal("no table is open")) };
        let values = current.table.values(&current.columns, line)?;
        let tenant = match current.tenant_column.and_then(|at| values.get(at)) {
            Some(Value::Uuid(id)) => Some(*id),
            Some(Value::Bytes(bytes)) => Uuid::from_slice(bytes).ok(),
            _ => None,
        };
        if current.table.of_tenants && tenant != current.tenant {
            self.flush().await?;
            let id = tenant.ok_or_else(|| Error::invalid("backup", format!("a row of `{name}` names no tenant")))?;
            enter(&mut self.tx, TenantId::from_uuid(id)).await?;
        }
        let Some(current) = &mut self.current else { return Err(Error::internal("no table is open")) };
        current.tenant = tenant;
        current.values.extend(values);
        current.rows += 1;
        current.bytes += line.len();
        if current.rows >= current.rows_max(engine) || current.bytes >= CHUNK_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn turn_to(&mut self, name: &str, head: &[u8]) -> Result<()> {
        self.flush().await?;
        let table = self.tables.iter().find(|table| table.name == name).cloned();
        let table = table.ok_or_else(|| Error::invalid("backup", format!("it holds an unknown table `{name}`")))?;
        if !self.seen.insert(name.to_owned()) {
            return Err(Error::invalid("backup", format!("it holds the table `{name}` twice")));
        }
        let columns = table.columns_of(head)?;
        let tenant_column = columns.iter().position(|(name, _)| name == "tenant_id");
        self.current =
            Some(Current { table, columns, tenant_column, tenant: None, values: Vec::new(), rows: 0, bytes: 0 });
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.rows == 0 {
            return Ok(());
        }
        let sql = current.table.insert(&current.columns, current.rows);
        self.tx.execute_built(&sql, &current.values).await?;
        self.rows += current.rows as u64;
        (current.rows, current.bytes) = (0, 0);
        current.values.clear();
        Ok(())
    }

    /// How many rows were written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Every artifact that a row names, once all lines are in.
    pub async fn artifacts(&mut self) -> Result<&[(TenantId, Digest)]> {
        self.flush().await?;
        self.artifacts.clear();
        for tenant in tenants(&mut self.tx).await? {
            enter(&mut self.tx, tenant).await?;
            let rows = self.tx.rows(KEPT, args![tenant]).await?;
            for row in rows {
                self.artifacts.push((tenant, row.digest(0)?));
            }
        }
        Ok(&self.artifacts)
    }

    /// Brings the schema up to date, says in the logs what happened, and keeps everything.
    pub async fn finish(mut self, backup: BackupId, taken_at: Timestamp) -> Result<()> {
        self.flush().await?;
        if let Some(missing) = self.tables.iter().find(|table| !self.seen.contains(&table.name)) {
            return Err(Error::invalid("backup", format!("it lacks the table `{}`", missing.name)));
        }
        migrate::migrate_in(&mut self.tx, self.role.as_deref(), &Schema::known()).await?;
        let now = self.ctx.clock().now();
        self.tx.execute("UPDATE session SET revoked_at = $1 WHERE revoked_at IS NULL", args![now]).await?;
        self.tx.execute("DELETE FROM sign_in", args![]).await?;
        self.tx.execute("DELETE FROM device_login", args![]).await?;
        // A provider that renews its tokens takes an old one for a stolen one. Whoever signs in again brings a new one.
        self.tx.execute("UPDATE identity SET tokens = NULL", args![]).await?;
        // Nobody asks it about them until then, so whom it has dismissed since the backup would go on with their API keys.
        self.tx
            .execute(
                "UPDATE app_user SET unconfirmed_since = $1 WHERE id IN (SELECT user_id FROM identity UNION SELECT user_id FROM scim_user)",
                args![now],
            )
            .await?;
        self.tx
            .execute(
                "UPDATE work SET lease_id = NULL, lease_owner = NULL, lease_until = NULL WHERE lease_id IS NOT NULL",
                args![],
            )
            .await?;
        let mark = Restored { backup, taken_at, restored_at: now };
        let sealed = aead::seal(
            &self.master,
            &mark_place(),
            &serde_json::to_vec(&mark).map_err(Error::internal)?,
            self.ctx.rng(),
        )
        .map_err(Error::internal)?;
        self.tx
            .execute(
                "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                args![MARK, sealed],
            )
            .await?;
        let change = Change::to(Category::System, "backup", backup)
            .detail(json!({"taken_at": taken_at, "sessions": "ended", "keys_of_provider_users": "suspended"}));
        for tenant in tenants(&mut self.tx).await? {
            enter(&mut self.tx, tenant).await?;
            audit::append(&mut self.tx, tenant, &self.ctx, "backup_restore", &change).await?;
        }
        let Self { db, tx, .. } = self;
        tx.commit().await?;
        db.close().await;
        Ok(())
    }
}

fn mark_place() -> Vec<u8> {
    vault::place(&[b"installation", MARK.as_bytes()])
}

/// The mark of a restored database that has not been started yet. It is sealed, so that who can write to the database cannot make one.
async fn mark(tx: &mut Tx, store: &Store) -> Result<Option<Restored>> {
    let Some(row) = tx.row("SELECT value FROM installation WHERE name = $1", args![MARK]).await? else {
        return Ok(None);
    };
    let opened = store.vault().masters.open(&mark_place(), &row.bytes(0)?, "the mark of a restore")?;
    serde_json::from_slice(opened.expose()).map(Some).map_err(Error::internal)
}

impl Store {
    /// Whether the database was restored and not started since: going back in time was meant then.
    pub async fn restored(&self) -> Result<Option<Restored>> {
        mark(&mut self.db().read().await?, self).await
    }
}

impl PlatformWrite<ops::RestoreAccept> {
    /// Takes the mark away, with a record: from here on an older database is noticed again.
    pub async fn restore_accept(mut self) -> Result<Option<Restored>> {
        let store = self.store.clone();
        let Some(restored) = mark(&mut self.tx, &store).await? else { return Ok(None) };
        enter(&mut self.tx, platform_tenant()).await?;
        self.tx.execute("DELETE FROM installation WHERE name = $1", args![MARK]).await?;
        let detail = json!({"taken_at": restored.taken_at, "restored_at": restored.restored_at});
        self.commit(Change::to(Category::System, "backup", restored.backup).detail(detail)).await?;
        Ok(Some(restored))
    }
}
