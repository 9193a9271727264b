//! The two engines behind one small interface: one SQL text with `$1` parameters, values in, rows out.
//!
//! Times are `i64` milliseconds, ids are UUIDs (a 16-byte BLOB on SQLite), JSON is text. What differs between the engines is here and in
//! `migrate.rs`, and nowhere else.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use domain::{Error, Result};
use log::LevelFilter;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{
    Arguments, AssertSqlSafe, ConnectOptions as _, Connection as _, PgPool, Postgres, Row as _, Sqlite, SqlitePool,
    Transaction,
};
use uuid::Uuid;

use crate::at_once::Question;
use crate::remembered::Changes;
use crate::vault::Raised;

/// A value to bind.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Uuid(Uuid),
    OptUuid(Option<Uuid>),
    Text(String),
    OptText(Option<String>),
    I64(i64),
    OptI64(Option<i64>),
    Bool(bool),
    Bytes(Vec<u8>),
    OptBool(Option<bool>),
    OptBytes(Option<Vec<u8>>),
}

macro_rules! from {
    ($($type:ty => $variant:ident $convert:expr;)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(($convert)(value))
            }
        }
    )*};
}
from! {
    Uuid => Uuid |v| v;
    Option<Uuid> => OptUuid |v| v;
    &str => Text |v: &str| v.to_owned();
    String => Text |v| v;
    Option<String> => OptText |v| v;
    i64 => I64 |v| v;
    Option<i64> => OptI64 |v| v;
    bool => Bool |v| v;
    Vec<u8> => Bytes |v| v;
    &[u8] => Bytes |v: &[u8]| v.to_vec();
    domain::Timestamp => I64 |v: domain::Timestamp| v.as_millis();
    Option<domain::Timestamp> => OptI64 |v: Option<domain::Timestamp>| v.map(domain::Timestamp::as_millis);
    domain::Digest => Bytes |v: domain::Digest| v.0.to_vec();
    domain::TenantId => Uuid |v: domain::TenantId| v.as_uuid();
    domain::UserId => Uuid |v: domain::UserId| v.as_uuid();
    domain::ChallengeId => Uuid |v: domain::ChallengeId| v.as_uuid();
    domain::SignInId => Uuid |v: domain::SignInId| v.as_uuid();
    domain::FactorId => Uuid |v: domain::FactorId| v.as_uuid();
    domain::SessionId => Uuid |v: domain::SessionId| v.as_uuid();
    domain::CredentialId => Uuid |v: domain::CredentialId| v.as_uuid();
    domain::JobId => Uuid |v: domain::JobId| v.as_uuid();
    domain::TaskId => Uuid |v: domain::TaskId| v.as_uuid();
    domain::ScheduleId => Uuid |v: domain::ScheduleId| v.as_uuid();
    domain::JobLineId => Uuid |v: domain::JobLineId| v.as_uuid();
    domain::ValidationId => Uuid |v: domain::ValidationId| v.as_uuid();
    domain::CollectionId => Uuid |v: domain::CollectionId| v.as_uuid();
    domain::EvidenceId => Uuid |v: domain::EvidenceId| v.as_uuid();
    domain::FindingId => Uuid |v: domain::FindingId| v.as_uuid();
    domain::ApiKeyId => Uuid |v: domain::ApiKeyId| v.as_uuid();
    domain::InvitationId => Uuid |v: domain::InvitationId| v.as_uuid();
    domain::DeviceLoginId => Uuid |v: domain::DeviceLoginId| v.as_uuid();
    Option<domain::UserId> => OptUuid |v: Option<domain::UserId>| v.map(|id| id.as_uuid());
    domain::AuditId => Uuid |v: domain::AuditId| v.as_uuid();
    Option<bool> => OptBool |v| v;
    Option<Vec<u8>> => OptBytes |v| v;
    domain::ProviderId => Uuid |v: domain::ProviderId| v.as_uuid();
    domain::GroupId => Uuid |v: domain::GroupId| v.as_uuid();
    domain::GroupRoleId => Uuid |v: domain::GroupRoleId| v.as_uuid();
    domain::FleetId => Uuid |v: domain::FleetId| v.as_uuid();
    domain::EnrollmentTokenId => Uuid |v: domain::EnrollmentTokenId| v.as_uuid();
    domain::FleetCredentialId => Uuid |v: domain::FleetCredentialId| v.as_uuid();
    domain::DestinationId => Uuid |v: domain::DestinationId| v.as_uuid();
    domain::GrantId => Uuid |v: domain::GrantId| v.as_uuid();
    domain::RecordingId => Uuid |v: domain::RecordingId| v.as_uuid();
    domain::SshSessionId => Uuid |v: domain::SshSessionId| v.as_uuid();
    domain::DestinationTokenId => Uuid |v: domain::DestinationTokenId| v.as_uuid();
    domain::AccessRequestId => Uuid |v: domain::AccessRequestId| v.as_uuid();
    domain::AccessReviewId => Uuid |v: domain::AccessReviewId| v.as_uuid();
}

/// Binds values of any kind: `args![id, "text", 7]`.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::db::Value::from($value)),*] };
}
pub(crate) use args;

/// A row of either engine.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Pg(PgRow),
}

macro_rules! column {
    ($($name:ident -> $type:ty;)*) => {$(
        pub(crate) fn $name(&self, index: usize) -> Result<$type> {
            match self {
                Self::Sqlite(row) => row.try_get(index),
                Self::Pg(row) => row.try_get(index),
            }
            .map_err(failed)
        }
    )*};
}

impl Row {
    column! {
        uuid -> Uuid;
        opt_uuid -> Option<Uuid>;
        text -> String;
        opt_text -> Option<String>;
        i64 -> i64;
        opt_i64 -> Option<i64>;
        bool -> bool;
        bytes -> Vec<u8>;
        opt_bool -> Option<bool>;
        opt_bytes -> Option<Vec<u8>>;
    }

    /// A time.
    pub(crate) fn time(&self, index: usize) -> Result<domain::Timestamp> {
        self.i64(index).map(domain::Timestamp::from_millis)
    }

    /// A time or none.
    pub(crate) fn opt_time(&self, index: usize) -> Result<Option<domain::Timestamp>> {
        Ok(self.opt_i64(index)?.map(domain::Timestamp::from_millis))
    }

    /// A text that parses into a domain type; a text that does not is a broken database.
    pub(crate) fn parse<T: FromStr>(&self, index: usize) -> Result<T> {
        let text = self.text(index)?;
        text.parse()
            .map_err(|_| Error::internal(format!("column {index} holds a value that this version does not know")))
    }

    /// A JSON text.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, index: usize) -> Result<T> {
        serde_json::from_str(&self.text(index)?).map_err(|error| Error::internal(format!("column {index}: {error}")))
    }

    /// A SHA-256 digest.
    pub(crate) fn digest(&self, index: usize) -> Result<domain::Digest> {
        let bytes = self.bytes(index)?;
        <[u8; 32]>::try_from(bytes.as_slice())
            .map(domain::Digest)
            .map_err(|_| Error::internal(format!("column {index} is no digest")))
    }
}

/// A database of either engine.
#[derive(Debug, Clone)]
pub(crate) enum Db {
    /// One writer, several readers.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
        changes: Arc<Changes>,
    },
    Pg(PgPool),
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Pg,
}

/// A transaction of either engine; dropping it rolls back.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>, Raised, Arc<Changes>),
    Pg(Transaction<'static, Postgres>, Raised),
}

/// Whether a connection may be used again. Some failures, such as a full disk, make SQLite undo the transaction by itself; the driver's own
/// rollback then fails, and it would refuse every further transaction on this connection.
async fn is_fit(connection: &mut SqliteConnection) -> std::result::Result<bool, sqlx::Error> {
    // A rollback that was only asked for is done when this is answered.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Maps an engine's error to what the caller can do about it.
pub(crate) fn failed(error: sqlx::Error) -> Error {
    let unavailable = |message: &str, error: &sqlx::Error| Error::Unavailable {
        message: message.to_owned(),
        detail: error.to_string(),
    };
    match &error {
        sqlx::Error::Database(inner) => {
            let code = inner.code().unwrap_or_default();
            if inner.is_unique_violation() {
                return Error::conflict("this already exists");
            }
            if inner.is_foreign_key_violation() {
                return Error::conflict(
                    "something that this refers to does not exist, or something still refers to this",
                );
            }
            // SQLite's extended codes end in the primary code: 5 busy, 6 locked, 8 read-only, 10 I/O, 13 full.
            let primary = inner
                .try_downcast_ref::<sqlx::sqlite::SqliteError>()
                .and(code.parse::<i32>().ok())
                .map(|code| code & 0xff);
            match (primary, &*code) {
                (Some(5 | 6), _) | (_, "40001" | "40P01" | "55P03") => {
                    unavailable("the database is busy: try again", &error)
                }
                (Some(13), _) | (_, "53100") => unavailable(
                    "the database's disk is full: free some space, then try again; nothing was changed",
                    &error,
                ),
                (Some(8), _) | (_, "25006") => {
                    unavailable("the database is read-only: check the disk and its permissions", &error)
                }
                (Some(10), _) => unavailable(
                    "the database's disk cannot be read or written: check whether it is full, and that it works",
                    &error,
                ),
                // The server is being stopped, starts, or somebody ended the connection.
                (_, "57P01" | "57P02" | "57P03" | "08003" | "08006") => {
                    unavailable("the database cannot be reached: check that it runs", &error)
                }
                (_, "57014") => unavailable("the database took too long: try a smaller request", &error),
                _ => Error::internal(&error),
            }
        }
        sqlx::Error::PoolTimedOut => unavailable("the database is busy: try again", &error),
        // `Protocol`: a connection that is cut while it is made looks like an answer of nothing.
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
            unavailable("the database cannot be reached: check that it runs", &error)
        }
        _ => Error::internal(&error),
    }
}

macro_rules! bind_all {
    ($arguments:ident, $values:expr) => {
        for value in $values {
            match value {
                Value::Uuid(value) => $arguments.add(*value),
                Value::OptUuid(value) => $arguments.add(*value),
                Value::Text(value) => $arguments.add(value.as_str()),
                Value::OptText(value) => $arguments.add(value.as_deref()),
                Value::I64(value) => $arguments.add(*value),
                Value::OptI64(value) => $arguments.add(*value),
                Value::Bool(value) => $arguments.add(*value),
                Value::Bytes(value) => $arguments.add(value.as_slice()),
                Value::OptBool(value) => $arguments.add(*value),
                Value::OptBytes(value) => $arguments.add(value.as_deref()),
            }
            .map_err(|error| Error::internal(error))?;
        }
    };
}

pub(crate) fn sqlite_add(arguments: &mut SqliteArguments, values: &[Value]) -> Result<()> {
    bind_all!(arguments, values);
    Ok(())
}

pub(crate) fn sqlite_arguments(values: &[Value]) -> Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    sqlite_add(&mut arguments, values)?;
    Ok(arguments)
}

pub(crate) fn pg_arguments(values: &[Value]) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    bind_all!(arguments, values);
    Ok(arguments)
}

/// Connections to PostgreSQL that one server keeps.
const PG_CONNECTIONS: u32 = 16;

/// How often what begins an exchange with PostgreSQL is tried. That is also how a kept connection is asked whether it lives, since asking before
/// would cost every request a round trip: one that was cut is put away, and the next is tried, until there is one that works or none left.
pub(crate) struct Tries(u32);

impl Default for Tries {
    fn default() -> Self {
        Self(PG_CONNECTIONS)
    }
}

impl Tries {
    /// Whether to try once more after this.
    pub(crate) fn again(&mut self, error: &sqlx::Error) -> bool {
        let again = self.0 > 0 && was_cut(error);
        self.0 = self.0.saturating_sub(1);
        again
    }
}

/// Begins a transaction on PostgreSQL.
async fn begin_pg(
    pool: &PgPool,
    sql: &'static str,
) -> std::result::Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    // In a task of its own, which goes on when nobody waits any more: the driver would put a connection back whose transaction has begun and was
    // not answered, and whoever got it next would be inside that transaction, on its snapshot.
    let begun = tokio::spawn(async move {
        let mut tries = Tries::default();
        loop {
            match pool.begin_with(sql).await {
                Err(error) if tries.again(&error) => {}
                begun => return begun,
            }
        }
    });
    begun.await.unwrap_or_else(|error| Err(sqlx::Error::Io(std::io::Error::other(error))))
}

/// Whether a connection ended, by its own or by the server's word (class 57P: the server stops, starts, or somebody ended it).
fn was_cut(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(inner) => inner.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// Page cache of each reading connection on SQLite: 512 KiB. The system caches the file.
const READER_CACHE: &str = "-512";

/// How much of a SQLite database the writer may hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriterCache {
    /// SQLite's default, 2 MiB.
    Usual,
    /// 192 MiB, while large pages come in: keys are hashes, so a page of observations touches some 35,000 pages of a large database, and
    /// each that does not fit is written and read again many times in one transaction.
    Large,
}

impl Db {
    /// Where PostgreSQL is.
    pub(crate) fn place(&self) -> Option<(String, u16)> {
        let Self::Pg(pool) = self else { return None };
        let options = pool.connect_options();
        let host = options.get_host();
        let is_socket = host.starts_with('/') || options.get_socket().is_some();
        Some((if is_socket { "localhost" } else { host }.to_owned(), options.get_port()))
    }

    /// Opens `sqlite:PATH` (made when absent) or `postgres://…`. Only slow statements are logged. `role`: PostgreSQL role to become on every connection.
    pub(crate) async fn open(url: &str, role: Option<&str>) -> Result<Self> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url)
                .map_err(|_| Error::invalid("database.url", "use `postgres://user:password@host/database`"))?
                .application_name("cairn-server")
                .options([
                    ("statement_timeout", "60000"),
                    ("lock_timeout", "10000"),
                    ("idle_in_transaction_session_timeout", "60000"),
                ])
                .log_statements(LevelFilter::Off);
            let set_role = role.map(|role| format!("SET ROLE \"{}\"", role.replace('"', "\"\"")));
            let pool = PgPoolOptions::new()
                .max_connections(PG_CONNECTIONS)
                .acquire_timeout(Duration::from_secs(10))
                .test_before_acquire(false)
                .after_connect(move |connection, _| {
                    let set_role = set_role.clone();
                    Box::pin(async move {
                        if let Some(set_role) = set_role {
                            sqlx::query(AssertSqlSafe(set_role)).execute(connection).await?;
                        }
                        Ok(())
                    })
                })
                .connect_with(options)
                .await
                .map_err(failed)?;
            return Ok(Self::Pg(pool));
        }
        let Some(path) = url.strip_prefix("sqlite:") else {
            return Err(Error::invalid(
                "database.url",
                "use `sqlite:PATH` or `postgres://user:password@host/database`",
            ));
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            .log_statements(LevelFilter::Off);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            .test_before_acquire(false)
            .after_release(|connection, _| Box::pin(is_fit(connection)))
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .test_before_acquire(false)
            .after_release(|connection, _| Box::pin(is_fit(connection)))
            .connect_with(options.pragma("query_only", "ON").pragma("cache_size", READER_CACHE))
            .await
            .map_err(failed)?;
        Ok(Self::Sqlite { writer, readers, changes: Arc::default() })
    }

    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Sqlite { .. } => Engine::Sqlite,
            Self::Pg(_) => Engine::Pg,
        }
    }

    /// Names the state that a look which begins now sees, at least; none where others write too.
    pub(crate) fn state(&self) -> Option<u64> {
        match self {
            Self::Sqlite { changes, .. } => changes.state(),
            Self::Pg(_) => None,
        }
    }

    /// Begins a transaction that may write. On SQLite it takes the write lock at once, so that it cannot fail half-way for want of it.
    pub(crate) async fn write(&self) -> Result<Tx> {
        match self {
            Self::Sqlite { writer, changes, .. } => writer.begin_with("BEGIN IMMEDIATE").await.map(|tx| {
                changes.begun();
                Tx::Sqlite(tx, Raised::default(), Arc::clone(changes))
            }),
            Self::Pg(pool) => begin_pg(pool, "BEGIN").await.map(|tx| Tx::Pg(tx, Raised::default())),
        }
        .map_err(failed)
    }

    /// Sets the writer's cache, and gives back what it held beyond that.
    pub(crate) async fn writer_cache(&self, cache: WriterCache) -> Result<()> {
        let kib = match cache {
            WriterCache::Usual => 2_000,
            WriterCache::Large => 192 * 1_024,
        };
        if let Self::Sqlite { writer, .. } = self {
            let sql = AssertSqlSafe(format!("PRAGMA cache_size = -{kib}; PRAGMA shrink_memory"));
            sqlx::raw_sql(sql).execute(writer).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Begins a transaction that only reads, on one snapshot.
    pub(crate) async fn read(&self) -> Result<Tx> {
        match self {
            Self::Sqlite { readers, changes, .. } => {
                readers.begin().await.map(|tx| Tx::Sqlite(tx, Raised::default(), Arc::clone(changes)))
            }
            Self::Pg(pool) => begin_pg(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await
                .map(|tx| Tx::Pg(tx, Raised::default())),
        }
        .map_err(failed)
    }

    /// Every row of one query that names its tenant, on a snapshot of its own, where the engine needs no transaction to be told whose rows it
    /// may show: three times fewer errands for SQLite's threads. None on PostgreSQL.
    pub(crate) async fn rows_alone(&self, sql: &str, values: &[Value]) -> Result<Option<Vec<Row>>> {
        let Self::Sqlite { readers, .. } = self else { return Ok(None) };
        let rows = sqlx::query_with(AssertSqlSafe(sql.to_owned()), sqlite_arguments(values)?).fetch_all(readers).await;
        rows.map(|rows| Some(rows.into_iter().map(Row::Sqlite).collect())).map_err(failed)
    }

    /// The rows that answer one question of what every request asks, on a snapshot of its own.
    pub(crate) async fn at_once(&self, question: &Question, value: Value) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite { readers, .. } => sqlx::query_with(question.sql, sqlite_arguments(&[value])?)
                .fetch_all(readers)
                .await
                .map(|rows| rows.into_iter().map(Row::Sqlite).collect())
                .map_err(failed),
            Self::Pg(pool) => question.ask(pool, &value).await,
        }
    }

    /// Closes every connection; SQLite folds its write-ahead log into the file.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Pg(pool) => pool.close().await,
        }
    }
}

impl Tx {
    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(..) => Engine::Sqlite,
            Self::Pg(..) => Engine::Pg,
        }
    }

    /// Runs a statement; how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64> {
        match self {
            Self::Sqlite(tx, ..) => sqlx::query_with(sql, sqlite_arguments(values)?)
                .execute(&mut **tx)
                .await
                .map(|done| done.rows_affected()),
            Self::Pg(tx, _) => {
                sqlx::query_with(sql, pg_arguments(values)?).execute(&mut **tx).await.map(|done| done.rows_affected())
            }
        }
        .map_err(failed)
    }

    /// Runs a statement whose text this crate put together from constants and its own catalog (never from input).
    pub(crate) async fn execute_built(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(tx, ..) => sqlx::query_with(sql, sqlite_arguments(values)?)
                .execute(&mut **tx)
                .await
                .map(|done| done.rows_affected()),
            Self::Pg(tx, _) => {
                sqlx::query_with(sql, pg_arguments(values)?).execute(&mut **tx).await.map(|done| done.rows_affected())
            }
        }
        .map_err(failed)
    }

    /// Runs a script of several statements without parameters.
    pub(crate) async fn script(&mut self, sql: String) -> Result<()> {
        match self {
            Self::Sqlite(tx, ..) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await.map(drop),
            Self::Pg(tx, _) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await.map(drop),
        }
        .map_err(failed)
    }

    /// Every row of a query.
    pub(crate) async fn rows(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite(tx, ..) => sqlx::query_with(sql, sqlite_arguments(values)?)
                .fetch_all(&mut **tx)
                .await
                .map(|rows| rows.into_iter().map(Row::Sqlite).collect()),
            Self::Pg(tx, _) => sqlx::query_with(sql, pg_arguments(values)?)
                .fetch_all(&mut **tx)
                .await
                .map(|rows| rows.into_iter().map(Row::Pg).collect()),
        }
        .map_err(failed)
    }

    /// Every row of a query whose text this crate put together from constants (never from input).
    pub(crate) async fn rows_built(&mut self, sql: String, values: &[Value]) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite(tx, ..) => sqlx::query_with(AssertSqlSafe(sql), sqlite_arguments(values)?)
                .fetch_all(&mut **tx)
                .await
                .map(|rows| rows.into_iter().map(Row::Sqlite).collect()),
            Self::Pg(tx, _) => sqlx::query_with(AssertSqlSafe(sql), pg_arguments(values)?)
                .fetch_all(&mut **tx)
                .await
                .map(|rows| rows.into_iter().map(Row::Pg).collect()),
        }
        .map_err(failed)
    }

    /// The first row of a query, if it has one.
    pub(crate) async fn row(&mut self, sql: &'static str, values: &[Value]) -> Result<Option<Row>> {
        match self {
            Self::Sqlite(tx, ..) => sqlx::query_with(sql, sqlite_arguments(values)?)
                .fetch_optional(&mut **tx)
                .await
                .map(|row| row.map(Row::Sqlite)),
            Self::Pg(tx, _) => {
                sqlx::query_with(sql, pg_arguments(values)?).fetch_optional(&mut **tx).await.map(|row| row.map(Row::Pg))
            }
        }
        .map_err(failed)
    }

    /// The heads of the vault that this transaction raises.
    pub(crate) fn raised(&mut self) -> &mut Raised {
        match self {
            Self::Sqlite(_, raised, _) | Self::Pg(_, raised) => raised,
        }
    }

    /// Keeps what was done, and then tells the witness outside of the database how far the vault has come.
    pub(crate) async fn commit(self) -> Result<()> {
        let raised = match self {
            Self::Sqlite(tx, raised, changes) => {
                let committing = changes.committing();
                let committed = tx.commit().await.map(|()| raised);
                committing.over();
                committed
            }
            Self::Pg(tx, raised) => tx.commit().await.map(|()| raised),
        }
        .map_err(failed)?;
        raised.tell();
        Ok(())
    }

    /// Commits what changes nothing that is remembered (`fleet_memory`), but for what the caller has forgotten itself.
    pub(crate) async fn commit_unremarked(self) -> Result<()> {
        match self {
            Self::Sqlite(tx, ..) => tx.commit().await,
            Self::Pg(tx, _) => tx.commit().await,
        }
        .map_err(failed)
    }
}
