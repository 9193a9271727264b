//! Many rows in one statement, with one SQL text for both engines.
//!
//! A [`Batch`] is a table of values. A statement sees it as the table `v`: on PostgreSQL an `UNNEST` of one array per column (16,384 rows at most; a
//! longer batch is as many statements), on SQLite
//! `VALUES` in chunks of a power of two (so that few statements are prepared), or one blob of keys that is taken apart where a batch has
//! nothing but keys. `$1`, `$2`, … are values that are the same for every row; `$1` is the tenant. A statement that begins with a comma goes on with
//! tables of its own (`, name AS (…) SELECT …`).
//!
//! `LOOKUP(t a)` joins `v` with the rows `a` of table `t` that have the tenant and `v`'s key, one look-up in the primary key for each row of
//! `v`; `LOOKUP(t a x y)` does with the columns `x` and `y` in the place of the key. It ends a statement's `FROM`, and `SAME(t a)` behind it makes
//! these the rows that an `UPDATE` of `t` changes. Left to itself PostgreSQL takes a tenant for a few rows while it has no statistics (its id is
//! compared twice, by the query and by row-level security), and reads all of them for every page or even for every row; SQLite does so too where
//! an index of a tenant's rows holds what is asked for.
//!
//! `BYTEWISE` behind a text compares and sorts it by its bytes, as Rust does, whatever the database was told about languages: parts of an answer
//! that came by several statements fit together. `EACH_TEXT(c e)` is a table of `e.value`, the texts of the JSON list in column `c`.

use std::fmt::Write as _;

use domain::{Error, Result};
use futures::TryStreamExt as _;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, SqlSafeStr, Type};
use uuid::Uuid;

use crate::db::{Engine, Row, Tx, Value, failed, pg_arguments, sqlite_arguments};

/// Rows in one SQLite statement: beyond this, preparing and binding grow and nothing is saved.
const SQLITE_ROWS: usize = 64;
/// Rows in one PostgreSQL statement.
const PG_ROWS: usize = 16_384;
/// Bytes of text in one statement, where it has more than one row.
const CHUNK_BYTES: usize = 8 * 1_024 * 1_024;

enum Column<'a> {
    Uuid(Vec<Uuid>),
    Text(Vec<&'a str>),
    I64(Vec<i64>),
    Bytes(Vec<&'a [u8]>),
}

impl Column<'_> {
    fn sql_type(&self) -> &'static str {
        match self {
            Self::Uuid(_) => "uuid",
            Self::Text(_) => "text",
            Self::I64(_) => "bigint",
            Self::Bytes(_) => "bytea",
        }
    }
}

/// A table of values: columns of one length, each with a name that SQL can use after `v.`.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    columns: Vec<(&'static str, Column<'a>)>,
    rows: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A batch of one column `key`.
    pub(crate) fn keys(keys: impl IntoIterator<Item = u128>) -> Self {
        Self::new().uuid("key", keys)
    }

    fn column(mut self, name: &'static str, column: Column<'a>, rows: usize) -> Self {
        debug_assert!(self.columns.is_empty() || self.rows == rows, "columns of one batch have one length");
        self.rows = rows;
        self.columns.push((name, column));
        self
    }

    pub(crate) fn uuid(self, name: &'static str, values: impl IntoIterator<Item = u128>) -> Self {
        let values: Vec<Uuid> = values.into_iter().map(Uuid::from_u128).collect();
        let rows = values.len();
        self.column(name, Column::Uuid(values), rows)
    }

    pub(crate) fn text(self, name: &'static str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let values: Vec<&str> = values.into_iter().collect();
        let rows = values.len();
        self.column(name, Column::Text(values), rows)
    }

    pub(crate) fn i64(self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        let values: Vec<i64> = values.into_iter().collect();
        let rows = values.len();
        self.column(name, Column::I64(values), rows)
    }

    pub(crate) fn bytes(self, name: &'static str, values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let values: Vec<&[u8]> = values.into_iter().collect();
        let rows = values.len();
        self.column(name, Column::Bytes(values), rows)
    }

    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Bytes of text in some rows.
    fn weight(&self, from: usize, rows: usize) -> usize {
        let texts = self
            .columns
            .iter()
            .filter_map(|(_, column)| if let Column::Text(texts) = column { Some(texts) } else { None });
        texts.flat_map(|texts| texts.iter().skip(from).take(rows)).map(|text| text.len()).sum()
    }

    /// First row and length of each statement's part: up to `most`, less where the texts are long. `of_two`: powers of two, where a statement's text
    /// says how many rows it has.
    fn chunks(&self, most: usize, of_two: bool) -> Vec<(usize, usize)> {
        let (mut chunks, mut from) = (Vec::new(), 0);
        while from < self.rows {
            let left = self.rows - from;
            let mut rows = if left < most && of_two { 1 << left.ilog2() } else { left.min(most) };
            while rows > 1 && self.weight(from, rows) > CHUNK_BYTES {
                rows /= 2;
            }
            chunks.push((from, rows));
            from += rows;
        }
        chunks
    }

    fn only_keys(&self) -> Option<&[Uuid]> {
        match self.columns.as_slice() {
            [(_, Column::Uuid(keys))] => Some(keys),
            _ => None,
        }
    }

    fn sqlite(&self, sql: &str, fixed: &[Value]) -> Result<Vec<(String, SqliteArguments)>> {
        let sql = &looked_up(sql, Engine::Sqlite);
        if let Some(keys) = self.only_keys() {
            let (names, blob) = (self.names(), fixed.len() + 1);
            let sql = format!(
                "WITH RECURSIVE at(i) AS (SELECT 1 UNION ALL SELECT i + 16 FROM at WHERE i + 16 <= length(${blob})), \
                 v({names}) AS (SELECT substr(${blob}, i, 16) FROM at) {sql}"
            );
            let mut arguments = sqlite_arguments(fixed)?;
            add(&mut arguments, keys.iter().flat_map(|key| *key.as_bytes()).collect::<Vec<u8>>())?;
            return Ok(if keys.is_empty() { Vec::new() } else { vec![(sql, arguments)] });
        }
        let mut statements = Vec::new();
        for (from, rows) in self.chunks(SQLITE_ROWS, true) {
            // Nameless parameters come first, because SQLite finds a named one by searching all names.
            let mut arguments = SqliteArguments::default();
            arguments.reserve(rows * self.columns.len() + fixed.len(), 0);
            for row in from..from + rows {
                for (_, column) in &self.columns {
                    match column {
                        Column::Uuid(values) => add(&mut arguments, values.get(row).copied())?,
                        Column::Text(values) => add(&mut arguments, values.get(row).copied())?,
                        Column::I64(values) => add(&mut arguments, values.get(row).copied())?,
                        Column::Bytes(values) => add(&mut arguments, values.get(row).copied())?,
                    }
                }
            }
            let shift = rows * self.columns.len();
            crate::db::sqlite_add(&mut arguments, fixed)?;
            let row = format!("({})", vec!["?"; self.columns.len()].join(","));
            let values = vec![row.as_str(); rows].join(",");
            statements
                .push((format!("WITH v({}) AS (VALUES {values}) {}", self.names(), shifted(sql, shift)), arguments));
        }
        Ok(statements)
    }

    fn pg(&self, sql: &str, fixed: &[Value]) -> Result<Vec<(String, PgArguments)>> {
        let sql = looked_up(sql, Engine::Pg);
        let arrays: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (_, column))| format!("${}::{}[]", fixed.len() + at + 1, column.sql_type()))
            .collect();
        let sql = format!("WITH v({}) AS (SELECT * FROM UNNEST({})) {sql}", self.names(), arrays.join(", "));
        let mut statements = Vec::new();
        for (from, rows) in self.chunks(PG_ROWS, false) {
            let mut arguments = pg_arguments(fixed)?;
            for (_, column) in &self.columns {
                match column {
                    Column::Uuid(values) => arguments.add(values.get(from..from + rows)),
                    Column::Text(values) => arguments.add(values.get(from..from + rows)),
                    Column::I64(values) => arguments.add(values.get(from..from + rows)),
                    Column::Bytes(values) => arguments.add(values.get(from..from + rows)),
                }
                .map_err(Error::internal)?;
            }
            statements.push((sql.clone(), arguments));
        }
        Ok(statements)
    }
}

fn add<'q, T: Encode<'q, sqlx::Sqlite> + Type<sqlx::Sqlite>>(arguments: &mut SqliteArguments, value: T) -> Result<()> {
    arguments.add(value).map_err(Error::internal)
}

/// The statement with each `LOOKUP(t a)` and `SAME(t a)` as the engine has it.
fn looked_up(sql: &str, engine: Engine) -> String {
    let updated = if engine == Engine::Sqlite { updated_by_row(sql) } else { None };
    if let Some(sql) = updated {
        return sql;
    }
    let sql = replaced(sql, "LOOKUP(", |table, alias, columns| {
        let same = |of: &str| same_columns(of, &columns);
        match engine {
            Engine::Sqlite => format!("v CROSS JOIN {table} {alias} ON {alias}.tenant_id = $1 AND {}", same(alias)),
            // A subquery with an offset is not merged into the join: `v` comes first, and what is left to use is the primary key, because
            // row-level security alone says the tenant inside. The query's own word on it stays outside.
            Engine::Pg => format!(
                "v CROSS JOIN LATERAL (SELECT t.ctid AS row_id, t.* FROM {table} t WHERE {} OFFSET 0) {alias} \
             WHERE {alias}.tenant_id = $1",
                same("t")
            ),
        }
    });
    let sql = replaced(&sql, "SAME(", |table, alias, _| format!("AND {table}.ctid = {alias}.row_id"));
    let sql = replaced(&sql, "EACH_TEXT(", |list, alias, _| match engine {
        Engine::Sqlite => format!("json_each({list}) {alias}"),
        Engine::Pg => format!("LATERAL jsonb_array_elements_text({list}::jsonb) {alias}(value)"),
    });
    sql.replace("BYTEWISE", if engine == Engine::Sqlite { "COLLATE BINARY" } else { "COLLATE \"C\"" })
}

/// That the columns, or the key, are those of `v`.
fn same_columns(of: &str, columns: &[&str]) -> String {
    let columns: &[&str] = if columns.is_empty() { &["key"] } else { columns };
    columns.iter().map(|name| format!("{of}.{name} = v.{name}")).collect::<Vec<_>>().join(" AND ")
}

/// An `UPDATE` of what is looked up, as SQLite has it: each row by its number, which a subquery looks up. The number cannot come from a join, because
/// the table that is changed stands before all that is joined: SQLite then reads the whole table for every row of `v`.
fn updated_by_row(sql: &str) -> Option<String> {
    let (before, after) = sql.split_once("LOOKUP(")?;
    let (what, tail) = after.split_once(')')?;
    let (_, rest) = tail.trim_start().strip_prefix("SAME(")?.split_once(')')?;
    let mut words = what.split(' ');
    let (table, alias) = (words.next()?, words.next()?);
    let columns: Vec<&str> = words.collect();
    let before = before.replacen(&format!("UPDATE {table} SET"), &format!("UPDATE {table} AS {alias} SET"), 1);
    let same = same_columns("t", &columns);
    Some(format!(
        "{before}v WHERE {alias}.rowid = (SELECT t.rowid FROM {table} t WHERE t.tenant_id = $1 AND {same}){rest}"
    ))
}

fn replaced(sql: &str, word: &str, with: impl Fn(&str, &str, Vec<&str>) -> String) -> String {
    let mut out = String::with_capacity(sql.len() + 256);
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once(word) {
        let (what, tail) = after.split_once(')').unwrap_or((after, ""));
        let mut words = what.split(' ');
        let table = words.next().unwrap_or(what);
        let alias = words.next().unwrap_or(table);
        out.push_str(before);
        out.push_str(&with(table, alias, words.collect()));
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The statement with `$1` as `$(shift + 1)`, and so on.
fn shifted(sql: &str, shift: usize) -> String {
    let mut out = String::with_capacity(sql.len() + 32);
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('$') {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, tail) = after.split_at(digits);
        let number: usize = number.parse().unwrap_or_default();
        let _ = write!(out, "{before}${}", number + shift);
        rest = tail;
    }
    out.push_str(rest);
    out
}

impl Tx {
    /// Runs a statement over a batch; how many rows it changed. An empty batch runs nothing.
    pub(crate) async fn bulk(&mut self, batch: &Batch<'_>, sql: &'static str, fixed: &[Value]) -> Result<u64> {
        let mut changed = 0;
        match self {
            Self::Sqlite(tx, ..) => {
                for (sql, arguments) in batch.sqlite(sql, fixed)? {
                    let done =
                        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut **tx).await.map_err(failed)?;
                    changed += done.rows_affected();
                }
            }
            Self::Pg(tx, _) => {
                for (sql, arguments) in batch.pg(sql, fixed)? {
                    let done =
                        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut **tx).await.map_err(failed)?;
                    changed += done.rows_affected();
                }
            }
        }
        Ok(changed)
    }

    /// Runs a query over a batch and hands over its rows, in no order.
    pub(crate) async fn bulk_rows(
        &mut self,
        batch: &Batch<'_>,
        sql: &'static str,
        fixed: &[Value],
        mut each: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Sqlite(tx, ..) => {
                for (sql, arguments) in batch.sqlite(sql, fixed)? {
                    let mut rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch(&mut **tx);
                    while let Some(row) = rows.try_next().await.map_err(failed)? {
                        each(&Row::Sqlite(row))?;
                    }
                }
            }
            Self::Pg(tx, _) => {
                for (sql, arguments) in batch.pg(sql, fixed)? {
                    let mut rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch(&mut **tx);
                    while let Some(row) = rows.try_next().await.map_err(failed)? {
                        each(&Row::Pg(row))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands over every row of a query, holding one at a time.
    pub(crate) async fn for_each(
        &mut self,
        sql: impl SqlSafeStr,
        values: &[Value],
        mut each: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Sqlite(tx, ..) => {
                let mut rows = sqlx::query_with(sql, sqlite_arguments(values)?).fetch(&mut **tx);
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    each(&Row::Sqlite(row))?;
                }
            }
            Self::Pg(tx, _) => {
                let mut rows = sqlx::query_with(sql, pg_arguments(values)?).fetch(&mut **tx);
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    each(&Row::Pg(row))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_powers_of_two_and_long_texts_into_less() {
        let batch = Batch::keys(0..150);
        assert_eq!(batch.chunks(64, true), [(0, 64), (64, 64), (128, 16), (144, 4), (148, 2)]);
        assert_eq!(batch.chunks(100, false), [(0, 100), (100, 50)]);
        let long = "x".repeat(CHUNK_BYTES / 3);
        let batch = Batch::new().text("name", vec![long.as_str(); 5]);
        assert_eq!(batch.chunks(64, true), [(0, 2), (2, 2), (4, 1)]);
        assert_eq!(Batch::keys([]).chunks(64, true), []);
    }

    #[test]
    fn a_look_up_goes_by_the_key_or_by_the_columns_that_are_named() {
        let sqlite = |sql| looked_up(sql, Engine::Sqlite);
        assert_eq!(
            sqlite("FROM LOOKUP(node n) AND 1"),
            "FROM v CROSS JOIN node n ON n.tenant_id = $1 AND n.key = v.key AND 1"
        );
        assert_eq!(
            sqlite("UPDATE finding SET x = 1 FROM LOOKUP(finding f rule_id node_key) SAME(finding f)"),
            "UPDATE finding AS f SET x = 1 FROM v WHERE f.rowid = (SELECT t.rowid FROM finding t \
             WHERE t.tenant_id = $1 AND t.rule_id = v.rule_id AND t.node_key = v.node_key)"
        );
        assert_eq!(
            looked_up("UPDATE finding SET x = 1 FROM LOOKUP(finding f id) SAME(finding f)", Engine::Pg),
            "UPDATE finding SET x = 1 FROM v CROSS JOIN LATERAL (SELECT t.ctid AS row_id, t.* FROM finding t WHERE t.id = v.id OFFSET 0) f \
             WHERE f.tenant_id = $1 AND finding.ctid = f.row_id"
        );
    }

    #[test]
    fn fixed_parameters_move_behind_the_rows() {
        assert_eq!(shifted("SELECT $1, v.key, $12 FROM v", 100), "SELECT $101, v.key, $112 FROM v");
        assert_eq!(shifted("SELECT 1", 5), "SELECT 1");
    }
}
