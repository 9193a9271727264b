//! The tables as the catalog shows them, and rows as lines of JSON: what a backup is made of, the same from both engines.
//!
//! A table's first line is the list of its columns; every further line is a row: `null`, a number (booleans too, 0 or 1), a text, or
//! `{"x": "<hex>"}` for bytes and UUIDs.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Error, Result};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::db::{Engine, Row, Tx, Value, args};
use crate::{Schema, migrate};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Uuid,
    Bytes,
    Text,
    Int,
    Bool,
}

impl Kind {
    fn parse(data_type: &str) -> Option<Self> {
        match data_type {
            "uuid" => Some(Self::Uuid),
            "bytea" | "BLOB" => Some(Self::Bytes),
            "text" | "TEXT" => Some(Self::Text),
            "bigint" | "INTEGER" => Some(Self::Int),
            "boolean" => Some(Self::Bool),
            _ => None,
        }
    }
}

/// A table with its columns in order.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<(String, Kind)>,
    /// Whether each row belongs to a tenant, whom a transaction has to name before it sees or writes it.
    pub(crate) of_tenants: bool,
}

fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

impl Table {
    /// The query of its rows: of tenant `$1`, where it is a table of tenants.
    pub(crate) fn select(&self) -> String {
        let condition = if self.of_tenants { " WHERE tenant_id = $1" } else { "" };
        format!("SELECT {} FROM \"{}\"{condition}", quoted(self.columns.iter().map(|(name, _)| name)), self.name)
    }

    /// The statement that adds `rows` rows with these columns.
    pub(crate) fn insert(&self, columns: &[(String, Kind)], rows: usize) -> String {
        let row = |at: usize| {
            let places = (1..=columns.len()).map(|column| format!("${}", at * columns.len() + column));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        };
        format!(
            "INSERT INTO \"{}\" ({}) VALUES {}",
            self.name,
            quoted(columns.iter().map(|(name, _)| name)),
            (0..rows).map(row).collect::<Vec<_>>().join(", ")
        )
    }

    /// Its first line.
    pub(crate) fn head(&self) -> Vec<u8> {
        Json::from(self.columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()).to_string().into_bytes()
    }

    /// The columns that a first line names, with what they hold here.
    pub(crate) fn columns_of(&self, head: &[u8]) -> Result<Vec<(String, Kind)>> {
        let unfit = || {
            Error::invalid(
                "backup",
                format!("the table `{}` has other columns there than in this version's schema", self.name),
            )
        };
        let names: Vec<String> = serde_json::from_slice(head).map_err(|_| unfit())?;
        let known: BTreeMap<&str, Kind> = self.columns.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let distinct: BTreeSet<&String> = names.iter().collect();
        if distinct.len() != known.len() || names.len() != known.len() {
            return Err(unfit());
        }
        let kind = |name: String| known.get(name.as_str()).copied().map(|kind| (name, kind)).ok_or_else(unfit);
        names.into_iter().map(kind).collect()
    }

    /// A row as a line.
    pub(crate) fn line(&self, row: &Row) -> Result<Vec<u8>> {
        let cell = |(at, (_, kind)): (usize, &(String, Kind))| -> Result<Json> {
            Ok(match kind {
                Kind::Uuid => row.opt_uuid(at)?.map_or(Json::Null, |id| bytes_json(id.as_bytes())),
                Kind::Bytes => row.opt_bytes(at)?.map_or(Json::Null, |bytes| bytes_json(&bytes)),
                Kind::Text => row.opt_text(at)?.map_or(Json::Null, Json::from),
                Kind::Int => row.opt_i64(at)?.map_or(Json::Null, Json::from),
                Kind::Bool => row.opt_bool(at)?.map_or(Json::Null, |flag| Json::from(i64::from(flag))),
            })
        };
        let cells = self.columns.iter().enumerate().map(cell).collect::<Result<Vec<_>>>()?;
        serde_json::to_vec(&cells).map_err(Error::internal)
    }

    /// The values of a line.
    pub(crate) fn values(&self, columns: &[(String, Kind)], line: &[u8]) -> Result<Vec<Value>> {
        let unfit = || Error::invalid("backup", format!("a row of the table `{}` cannot be read", self.name));
        let cells: Vec<Json> = serde_json::from_slice(line).map_err(|_| unfit())?;
        if cells.len() != columns.len() {
            return Err(unfit());
        }
        cells.iter().zip(columns).map(|(cell, (_, kind))| value(cell, *kind).ok_or_else(unfit)).collect()
    }
}

fn bytes_json(bytes: &[u8]) -> Json {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    let mut object = serde_json::Map::new();
    object.insert("x".to_owned(), Json::String(hex));
    Json::Object(object)
}

fn json_bytes(cell: &Json) -> Option<Vec<u8>> {
    let hex = cell.as_object()?.get("x")?.as_str()?;
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok()).collect()
}

fn value(cell: &Json, kind: Kind) -> Option<Value> {
    Some(match (kind, cell) {
        (Kind::Uuid, Json::Null) => Value::OptUuid(None),
        (Kind::Bytes, Json::Null) => Value::OptBytes(None),
        (Kind::Text, Json::Null) => Value::OptText(None),
        (Kind::Int, Json::Null) => Value::OptI64(None),
        (Kind::Bool, Json::Null) => Value::OptBool(None),
        (Kind::Uuid, cell) => Value::Uuid(Uuid::from_slice(&json_bytes(cell)?).ok()?),
        (Kind::Bytes, cell) => Value::Bytes(json_bytes(cell)?),
        (Kind::Text, cell) => Value::Text(cell.as_str()?.to_owned()),
        (Kind::Int, cell) => Value::I64(cell.as_i64()?),
        (Kind::Bool, cell) => Value::Bool(match cell.as_i64()? {
            0 => false,
            1 => true,
            _ => return None,
        }),
    })
}

/// The columns that are written: what the database makes of them it makes again. SQLite leaves the others out by itself.
async fn columns(tx: &mut Tx, table: &str) -> Result<Vec<(String, Kind)>> {
    let sql = match tx.engine() {
        Engine::Sqlite => "SELECT name, type FROM pragma_table_info($1) ORDER BY cid",
        Engine::Pg => {
            "SELECT column_name::text, data_type::text FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position"
        }
    };
    let rows = tx.rows(sql, args![table]).await?;
    let column = |row: &Row| {
        let (name, data_type) = (row.text(0)?, row.text(1)?);
        let kind = Kind::parse(&data_type).ok_or_else(|| {
            Error::internal(format!("a backup cannot hold the column `{name}` of `{table}`: its type is `{data_type}`"))
        })?;
        Ok((name, kind))
    };
    rows.iter().map(column).collect()
}

/// The tables whose rows a table's rows refer to.
async fn refers_to(tx: &mut Tx, table: &str) -> Result<Vec<String>> {
    let sql = match tx.engine() {
        Engine::Sqlite => "SELECT DISTINCT \"table\" FROM pragma_foreign_key_list($1)",
        Engine::Pg => {
            "SELECT DISTINCT t.relname::text FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid \
             JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE k.contype = 'f' AND n.nspname = 'public' AND c.relname = $1"
        }
    };
    let rows = tx.rows(sql, args![table]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// Every table of the catalog but the list of migrations.
async fn present(tx: &mut Tx) -> Result<BTreeSet<String>> {
    let sql = match tx.engine() {
        Engine::Sqlite => {
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND substr(name, 1, 7) <> 'sqlite_'"
        }
        Engine::Pg => {
            "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'public' AND c.relkind = 'r'"
        }
    };
    let mut names = tx.rows(sql, args![]).await?.iter().map(|row| row.text(0)).collect::<Result<BTreeSet<_>>>()?;
    names.remove("schema_migration");
    Ok(names)
}

/// Every table of a database with a schema, each behind those that it refers to. A table that no migration makes is an error: it
/// would be missing from every backup.
pub(crate) async fn tables(tx: &mut Tx, schema: &Schema) -> Result<Vec<Table>> {
    let mut present = present(tx).await?;
    let mut rest = Vec::new();
    for name in migrate::tables(tx.engine(), schema) {
        if present.remove(&name) {
            let needs: Vec<String> = refers_to(tx, &name).await?.into_iter().filter(|other| *other != name).collect();
            rest.push((name, needs));
        }
    }
    if let Some(unknown) = present.first() {
        return Err(Error::internal(format!(
            "the table `{unknown}` is made by no migration, so a backup would lack it"
        )));
    }
    let (mut done, mut out) = (BTreeSet::new(), Vec::new());
    while !rest.is_empty() {
        let at = rest.iter().position(|(_, needs)| needs.iter().all(|other| done.contains(other)));
        let at = at.ok_or_else(|| Error::internal("tables refer to each other in a circle"))?;
        let (name, _) = rest.remove(at);
        let columns = columns(tx, &name).await?;
        done.insert(name.clone());
        out.push(Table { of_tenants: migrate::is_of_tenants(&name), name, columns });
    }
    Ok(out)
}
