//! Migrations: forward only, one text for both engines (see the header of `migrations/0001_begin.sql`).

use domain::{Error, Result};

use crate::db::{Db, Engine, Tx, args};

const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("../migrations/0001_begin.sql")),
    (2, include_str!("../migrations/0002_session.sql")),
    (4, include_str!("../migrations/0004_identity_provider.sql")),
    (5, include_str!("../migrations/0005_audit_log.sql")),
    (6, include_str!("../migrations/0006_vault.sql")),
    (9, include_str!("../migrations/0009_collection.sql")),
];

/// Tables that hold no tenant's data although they name a tenant.
const NOT_TENANT_SCOPED: &[&str] = &["work"];

/// The statements of one migration for one engine.
pub(crate) fn translate(text: &str, engine: Engine) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = match engine {
            Engine::Sqlite => line.strip_prefix("--sqlite ").unwrap_or(line),
            Engine::Pg => line.strip_prefix("--pg ").unwrap_or(line),
        };
        if line.trim_start().starts_with("--") {
            continue;
        }
        let line = match engine {
            Engine::Sqlite => map_words(line, |word| match word {
                "UUID" | "BYTEA" => Some("BLOB"),
                "BIGINT" | "BOOLEAN" => Some("INTEGER"),
                _ => None,
            }),
            Engine::Pg => line.replace(") STRICT;", ");"),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn map_words(line: &str, map: impl Fn(&str) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(map(word).unwrap_or(word));
        let separator = after.chars().next().map_or(0, char::len_utf8);
        let (between, next) = after.split_at(separator);
        out.push_str(between);
        rest = next;
    }
    out
}

/// The tables of a migration that carry a `tenant_id`.
fn tenant_tables(text: &str) -> Vec<&str> {
    let mut tables = Vec::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("CREATE TABLE ") {
            current = rest.split_whitespace().next();
        }
        if line.trim_start().starts_with("tenant_id UUID NOT NULL")
            && let Some(table) = current
            && !NOT_TENANT_SCOPED.contains(&table)
        {
            tables.push(table);
        }
    }
    tables
}

/// Row-level security: a row is seen and written only in its own tenant, which every transaction names in `cairn.tenant`
/// (`set_config(.., true)`, so that it ends with the transaction). A user also sees their own memberships, and a sign-in which roles the groups
/// of its provider give.
fn row_level_security(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for table in tenant_tables(text) {
        let own = match table {
            "member" => " OR user_id = NULLIF(current_setting('cairn.user', true), '')::uuid",
            "group_role" => " OR provider_id = NULLIF(current_setting('cairn.provider', true), '')::uuid",
            _ => "",
        };
        let tenant = "tenant_id = NULLIF(current_setting('cairn.tenant', true), '')::uuid";
        let _ = writeln!(
            out,
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {table} FORCE ROW LEVEL SECURITY;\n\
             CREATE POLICY {table}_tenant ON {table} USING ({tenant}{own}) WITH CHECK ({tenant});"
        );
    }
    out
}

/// What the server's role may do: everything to rows, nothing to tables, and to audit rows only add and read.
fn grants(role: &str) -> String {
    let role = role.replace('"', "\"\"");
    format!(
        "GRANT USAGE ON SCHEMA public TO \"{role}\";\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO \"{role}\";\n\
         REVOKE UPDATE, DELETE, TRUNCATE ON audit_record, audit_detail, audit_tile, audit_checkpoint FROM \"{role}\";\n\
         REVOKE DELETE, TRUNCATE ON audit_head FROM \"{role}\";\n\
         REVOKE INSERT, UPDATE, DELETE ON schema_migration FROM \"{role}\";\n"
    )
}

/// The newest version that this program knows.
pub(crate) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, _)| *version)
}

/// The tables that the migrations up to a version make, in the order in which they make them.
pub(crate) fn tables(engine: Engine, upto: i64) -> Vec<String> {
    let texts = MIGRATIONS.iter().filter(|(version, _)| *version <= upto).map(|(_, text)| translate(text, engine));
    let names = |text: String| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next());
        lines.map(str::to_owned).collect()
    };
    texts.flat_map(names).collect()
}

/// Whether a table is under row-level security.
pub(crate) fn is_of_tenants(table: &str) -> bool {
    MIGRATIONS.iter().any(|(_, text)| tenant_tables(text).contains(&table))
}

/// Brings the schema up to date. `role` (PostgreSQL): the role that the server will run as.
pub(crate) async fn migrate(db: &Db, role: Option<&str>) -> Result<()> {
    let mut tx = db.write().await?;
    migrate_in(&mut tx, role, newest()).await?;
    tx.commit().await
}

/// Brings the schema from where it is to version `upto`, in a transaction that goes on.
pub(crate) async fn migrate_in(tx: &mut Tx, role: Option<&str>, upto: i64) -> Result<()> {
    let engine = tx.engine();
    if engine == Engine::Pg {
        // Two servers that start together migrate one after the other.
        tx.execute("SELECT pg_advisory_xact_lock(7165327601)", args![]).await?;
    }
    tx.script("CREATE TABLE IF NOT EXISTS schema_migration (version BIGINT NOT NULL PRIMARY KEY);".to_owned()).await?;
    let applied = match tx.row("SELECT MAX(version) FROM schema_migration", args![]).await? {
        Some(row) => row.opt_i64(0)?.unwrap_or(0),
        None => 0,
    };
    let newest = newest();
    if applied > newest {
        return Err(Error::Unavailable {
            message: format!(
                "the database is of a newer version (schema {applied}, this server knows {newest}): start the newer server"
            ),
            detail: String::new(),
        });
    }
    for (version, text) in MIGRATIONS.iter().filter(|(version, _)| *version > applied && *version <= upto) {
        let mut script = translate(text, engine);
        if engine == Engine::Pg {
            script.push_str(&row_level_security(text));
        }
        tx.script(script).await?;
        tx.execute("INSERT INTO schema_migration (version) VALUES ($1)", args![*version]).await?;
    }
    if let (Engine::Pg, Some(role)) = (engine, role) {
        tx.script(grants(role)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_gets_its_own_types_and_lines() {
        let text = "-- comment\nCREATE TABLE a (\n  id UUID NOT NULL,\n  n BIGINT\n) STRICT;\n--sqlite X;\n--pg Y;\n";
        assert_eq!(
            translate(text, Engine::Sqlite),
            "CREATE TABLE a (\n  id BLOB NOT NULL,\n  n INTEGER\n) STRICT;\nX;\n"
        );
        assert_eq!(translate(text, Engine::Pg), "CREATE TABLE a (\n  id UUID NOT NULL,\n  n BIGINT\n);\nY;\n");
    }

    #[test]
    fn every_table_that_names_a_tenant_is_under_row_level_security() {
        assert!(MIGRATIONS.iter().any(|(_, text)| tenant_tables(text).contains(&"node")));
        for (_, text) in MIGRATIONS {
            let named = text.lines().filter(|line| line.trim_start().starts_with("tenant_id UUID")).count();
            assert_eq!(tenant_tables(text).len(), named);
        }
        assert!(MIGRATIONS.iter().any(|(_, text)| tenant_tables(text).contains(&"node")));
    }
}
