//! A world of its own for each test: a database of each engine, a clock, a seed, a folder for blobs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use access::{OpCtx, Permit, PlatformOperation, PlatformPermit, TenantOperation, ops};
use domain::{Clock as _, TenantId, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use store::{OpenOptions, Store, VaultOptions};
use tempfile::TempDir;
use testkit::{Postgres, TestClock, TestDatabase, TestRng};
use uuid::Uuid;

/// The master key of every world.
const MASTER: [u8; 32] = [7; 32];

/// One test's world on one engine.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) rng: Arc<TestRng>,
    /// The database's server side, on PostgreSQL.
    pub(crate) postgres: Option<TestDatabase<'static>>,
    dir: TempDir,
    /// Servers that were opened, so that each has a witness of its own as it has in a data directory of its own.
    servers: AtomicU32,
}

/// Runs a test in a world on each engine.
pub(crate) async fn each_engine(test: impl AsyncFn(&World)) {
    for on_postgres in [false, true] {
        let postgres = on_postgres.then(|| Postgres::shared().database());
        let world = World::new(postgres).await;
        test(&world).await;
        world.store.close().await;
    }
}

/// Sees whether anything was committed to a SQLite database.
pub(crate) struct Watch {
    connection: SqliteConnection,
    version: i64,
}

impl Watch {
    async fn version(connection: &mut SqliteConnection) -> i64 {
        sqlx::query("PRAGMA data_version").fetch_one(connection).await.unwrap().get(0)
    }

    /// Whether another connection committed since the last look.
    pub(crate) async fn saw_a_commit(&mut self) -> bool {
        let before = std::mem::replace(&mut self.version, Self::version(&mut self.connection).await);
        before != self.version
    }
}

impl World {
    async fn new(postgres: Option<TestDatabase<'static>>) -> Self {
        let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(7)));
        let dir = tempfile::tempdir().unwrap();
        let vault = VaultOptions { witness: Some(dir.path().join("vault-0.witness")), ..VaultOptions::default() };
        let store = Self::open(&dir, postgres.as_ref(), &clock, &rng, MASTER, vault).await.unwrap();
        Self { store, clock, rng, postgres, dir, servers: AtomicU32::new(1) }
    }

    async fn open(
        dir: &TempDir,
        postgres: Option<&TestDatabase<'static>>,
        clock: &Arc<TestClock>,
        rng: &Arc<TestRng>,
        master: [u8; 32],
        vault: VaultOptions,
    ) -> domain::Result<Store> {
        let url = match postgres {
            None => format!("sqlite:{}", dir.path().join("cairn.db").display()),
            Some(database) => database.app_url.clone(),
        };
        let owner_url = postgres.map(|database| database.owner_url.clone());
        let master = crypto::aead::AeadKey::from_bytes(master);
        let blobs = dir.path().join("blobs");
        Store::open(OpenOptions { url, owner_url, master, vault, blobs, clock: clock.clone(), rng: rng.clone() }).await
    }

    /// A server that has the database for itself.
    pub(crate) async fn server_alone(&self) -> Store {
        let store = self.another_server().await;
        store.only_writer();
        store
    }

    /// Another server on the same database.
    pub(crate) async fn another_server(&self) -> Store {
        self.server_with_master(MASTER).await.unwrap()
    }

    /// Another server on the same database, with a master key that may be another one.
    pub(crate) async fn server_with_master(&self, master: [u8; 32]) -> domain::Result<Store> {
        let number = self.servers.fetch_add(1, Ordering::Relaxed);
        let witness = self.witness(&format!("vault-{number}.witness"));
        self.server(master, VaultOptions { witness: Some(witness), ..VaultOptions::default() }).await
    }

    /// Another server on the same database with this vault.
    pub(crate) async fn server(&self, master: [u8; 32], vault: VaultOptions) -> domain::Result<Store> {
        Self::open(&self.dir, self.postgres.as_ref(), &self.clock, &self.rng, master, vault).await
    }

    /// A witness file; `vault-0.witness` is that of the world's own server.
    pub(crate) fn witness(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a tenant's blobs lie.
    pub(crate) fn blobs(&self, tenant: TenantId) -> PathBuf {
        self.dir.path().join("blobs").join(tenant.to_string())
    }

    /// The moment that the clock shows.
    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes a tenant.
    pub(crate) async fn tenant(&self, slug: &str) -> TenantId {
        let ctx = OpCtx::system_platform("test", self.clock.clone(), self.rng.clone());
        let unit = self.store.write_platform(ctx.authorize_platform::<ops::TenantCreate>().unwrap()).await.unwrap();
        unit.tenant_create(&slug.parse().unwrap(), &slug.parse().unwrap(), None).await.unwrap().id
    }

    /// A permit of the platform's own work.
    pub(crate) fn platform<O: PlatformOperation>(&self) -> PlatformPermit<O> {
        OpCtx::system_platform("test", self.clock.clone(), self.rng.clone()).authorize_platform().unwrap()
    }

    /// A permit of somebody who may do everything in a tenant and nothing elsewhere.
    pub(crate) fn permit<O: TenantOperation>(&self, tenant: TenantId) -> Permit<O> {
        OpCtx::system("test", tenant, self.clock.clone(), self.rng.clone()).authorize(tenant).unwrap()
    }

    async fn sqlite(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.dir.path().join("cairn.db")).foreign_keys(true);
        options.connect().await.unwrap()
    }

    /// Holds a SQLite database's write lock, as another program would, until it is dropped; PostgreSQL has no such lock.
    pub(crate) async fn lock(&self) -> Option<SqliteConnection> {
        if self.postgres.is_some() {
            return None;
        }
        let mut connection = self.sqlite().await;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        Some(connection)
    }

    /// A watch on commits; PostgreSQL has none.
    pub(crate) async fn watch(&self) -> Option<Watch> {
        if self.postgres.is_some() {
            return None;
        }
        let mut connection = self.sqlite().await;
        let version = Watch::version(&mut connection).await;
        Some(Watch { connection, version })
    }

    /// A UUID as SQL writes it.
    pub(crate) fn literal(&self, bits: u128) -> String {
        let id = Uuid::from_u128(bits);
        if self.postgres.is_some() { format!("'{id}'::uuid") } else { format!("x'{}'", id.simple()) }
    }

    /// Runs SQL beside the store: on PostgreSQL as the server's role in one tenant. The first column of each row, one a line.
    pub(crate) async fn raw(&self, tenant: TenantId, sql: &str) -> anyhow::Result<String> {
        if let Some(database) = &self.postgres {
            return database.app_sql(&format!("SET cairn.tenant = '{}'; {sql}", tenant.as_uuid()));
        }
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.sqlite().await).await?;
        let texts: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get_unchecked::<String, _>(0)).collect();
        Ok(texts?.join("\n"))
    }

    /// How the engine would answer a question.
    pub(crate) async fn plan(&self, tenant: TenantId, sql: &str) -> String {
        if self.postgres.is_some() {
            return self.raw(tenant, &format!("EXPLAIN {sql}")).await.unwrap();
        }
        let sql = format!("EXPLAIN QUERY PLAN {sql}");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut self.sqlite().await).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("\n")
    }

    /// Changes rows as somebody who owns the database does: past triggers and missing rights.
    pub(crate) async fn tamper(&self, tenant: TenantId, sql: &str) {
        if let Some(database) = &self.postgres {
            let sql =
                format!("ALTER TABLE audit_head DISABLE TRIGGER ALL; SET cairn.tenant = '{}'; {sql}", tenant.as_uuid());
            database.owner_sql(&sql).unwrap();
            return;
        }
        let mut connection = self.sqlite().await;
        let triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'";
        for row in sqlx::query(triggers).fetch_all(&mut connection).await.unwrap() {
            let drop = format!("DROP TRIGGER {}", row.get::<String, _>(0));
            sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
        }
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    }

    /// Where this server remembers the newest checkpoint of each log.
    pub(crate) fn log_heads(&self) -> PathBuf {
        self.dir.path().join("log-heads")
    }

    /// Every row of a table in one tenant, as text.
    pub(crate) async fn rows_of(&self, tenant: TenantId, table: &str) -> Vec<String> {
        let tenant_id = self.literal(tenant.as_uuid().as_u128());
        let row = if self.postgres.is_some() {
            "t::text".to_owned()
        } else {
            let columns = self.raw(tenant, &format!("SELECT name FROM pragma_table_info('{table}')")).await.unwrap();
            columns.lines().map(|column| format!("quote(\"{column}\")")).collect::<Vec<_>>().join(" || ',' || ")
        };
        let sql = format!("SELECT {row} FROM {table} t WHERE tenant_id = {tenant_id}");
        let mut rows: Vec<String> = self.raw(tenant, &sql).await.unwrap().lines().map(str::to_owned).collect();
        rows.sort_unstable();
        rows
    }
}
