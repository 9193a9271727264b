//! Migrations: forward only, one text for both engines (see the header of `migrations/0001_begin.sql`).

use std::fmt;

use domain::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::db::{Db, Engine, Tx, args};

const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("../migrations/0001_begin.sql")),
    (2, include_str!("../migrations/0002_session.sql")),
    (3, include_str!("../migrations/0003_api_key.sql")),
    (4, include_str!("../migrations/0004_identity_provider.sql")),
    (5, include_str!("../migrations/0005_audit_log.sql")),
    (6, include_str!("../migrations/0006_vault.sql")),
    (9, include_str!("../migrations/0009_collection.sql")),
    (10, include_str!("../migrations/0010_fleet.sql")),
    (11, include_str!("../migrations/0011_relay.sql")),
    (12, include_str!("../migrations/0012_report.sql")),
    (13, include_str!("../migrations/0013_target_policy.sql")),
    (14, include_str!("../migrations/0014_relay_policy.sql")),
    (15, include_str!("../migrations/0015_restored_user.sql")),
    (16, include_str!("../migrations/0016_coverage.sql")),
    (17, include_str!("../migrations/0017_access.sql")),
    (18, include_str!("../migrations/0018_access_request.sql")),
    (19, include_str!("../migrations/0019_access_run.sql")),
    (20, include_str!("../migrations/0020_checkpoint.sql")),
    (21, include_str!("../migrations/0021_ssh_host_key.sql")),
    (22, include_str!("../migrations/0022_ssh_access.sql")),
    (23, include_str!("../migrations/0023_recording.sql")),
    (25, include_str!("../migrations/0025_ssh_session.sql")),
    (26, include_str!("../migrations/0026_grant_terms.sql")),
    (27, include_str!("../migrations/0027_access_data.sql")),
    (28, include_str!("../migrations/0028_access_review.sql")),
    (29, include_str!("../migrations/0029_act_as.sql")),
    (30, include_str!("../migrations/0030_server_peer.sql")),
    (31, include_str!("../migrations/0031_graph_map.sql")),
    (32, include_str!("../migrations/0032_home.sql")),
    (33, include_str!("../migrations/0033_finding_group.sql")),
    (34, include_str!("../migrations/0034_discovery.sql")),
    (35, include_str!("../migrations/0035_ssh_session_open.sql")),
    (37, include_str!("../migrations/0037_grant_expiry.sql")),
    (38, include_str!("../migrations/0038_finding_node.sql")),
    (39, include_str!("../migrations/0039_grant_reach.sql")),
    (40, include_str!("../migrations/0040_member_indexes.sql")),
    (41, include_str!("../migrations/0041_listener_certificate.sql")),
    (42, include_str!("../migrations/0042_provider_email_domains.sql")),
    (43, include_str!("../migrations/0043_eligible_grant.sql")),
    (45, include_str!("../migrations/0045_host_set.sql")),
    (46, include_str!("../migrations/0046_ssh_certificate.sql")),
];

/// The migrations that a database has behind it. Not only the newest: a release may bring one with a lower number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema(Vec<i64>);

impl Schema {
    /// What this program knows.
    pub fn known() -> Self {
        Self(MIGRATIONS.iter().map(|(version, _)| *version).collect())
    }

    /// The one that this program does not know, if any; none at all is as unknown.
    pub(crate) fn unknown(&self) -> Option<i64> {
        let known = |version: &i64| MIGRATIONS.iter().any(|(known, _)| known == version);
        if self.0.is_empty() { Some(0) } else { self.0.iter().copied().find(|version| !known(version)) }
    }

    fn has(&self, version: i64) -> bool {
        self.0.contains(&version)
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<String> = self.0.iter().map(i64::to_string).collect();
        f.write_str(&versions.join(", "))
    }
}

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
/// (`set_config(.., true)`, so that it ends with the transaction). A user also sees their own memberships and the invitations to their
/// address, who names the public id of a key or an enrollment token sees that secret's row, and a sign-in which roles the groups of its provider give.
fn row_level_security(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for table in tenant_tables(text) {
        let own = match table {
            "member" => " OR user_id = NULLIF(current_setting('cairn.user', true), '')::uuid",
            "api_key_secret" => " OR lookup = NULLIF(current_setting('cairn.api_key', true), '')",
            "enrollment_token" => " OR lookup = NULLIF(current_setting('cairn.enrollment', true), '')",
            "invitation" => " OR email = NULLIF(current_setting('cairn.email', true), '')",
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

/// The tables that the migrations of a schema make, in the order in which they make them.
pub(crate) fn tables(engine: Engine, schema: &Schema) -> Vec<String> {
    let texts = MIGRATIONS.iter().filter(|(version, _)| schema.has(*version)).map(|(_, text)| translate(text, engine));
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
    migrate_in(&mut tx, role, &Schema::known()).await?;
    tx.commit().await
}

/// The migrations that a database has recorded.
pub(crate) async fn recorded(tx: &mut Tx) -> Result<Schema> {
    let rows = tx.rows("SELECT version FROM schema_migration ORDER BY version", args![]).await?;
    rows.iter().map(|row| row.i64(0)).collect::<Result<_>>().map(Schema)
}

/// Applies every migration of `wanted` that is not recorded yet, in a transaction that goes on.
pub(crate) async fn migrate_in(tx: &mut Tx, role: Option<&str>, wanted: &Schema) -> Result<()> {
    let engine = tx.engine();
    if engine == Engine::Pg {
        // Two servers that start together migrate one after the other.
        tx.execute("SELECT pg_advisory_xact_lock(7165327601)", args![]).await?;
    }
    tx.script("CREATE TABLE IF NOT EXISTS schema_migration (version BIGINT NOT NULL PRIMARY KEY);".to_owned()).await?;
    let applied = recorded(tx).await?;
    if let Some(version) = applied.0.iter().find(|version| !Schema::known().has(**version)) {
        return Err(Error::Unavailable {
            message: format!(
                "the database is of a newer version (schema {version}, this server knows {}): start the newer server",
                Schema::known()
            ),
            detail: String::new(),
        });
    }
    for (version, text) in MIGRATIONS.iter().filter(|(version, _)| wanted.has(*version) && !applied.has(*version)) {
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

    #[tokio::test]
    async fn a_migration_with_a_lower_number_than_the_newest_is_applied_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&format!("sqlite:{}", dir.path().join("cairn.db").display()), None).await.unwrap();
        let mut tx = db.write().await.unwrap();
        migrate_in(&mut tx, None, &Schema(vec![1, 9])).await.unwrap();
        assert_eq!(recorded(&mut tx).await.unwrap(), Schema(vec![1, 9]));
        assert!(tx.rows("SELECT 1 FROM factor", args![]).await.is_err(), "0002 was not wanted");
        tx.commit().await.unwrap();

        migrate(&db, None).await.unwrap();
        let mut tx = db.read().await.unwrap();
        assert_eq!(recorded(&mut tx).await.unwrap(), Schema::known());
        tx.rows("SELECT 1 FROM factor", args![]).await.unwrap();
        drop(tx);
        migrate(&db, None).await.unwrap();
    }

    #[tokio::test]
    async fn a_database_with_a_migration_that_is_not_known_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&format!("sqlite:{}", dir.path().join("cairn.db").display()), None).await.unwrap();
        migrate(&db, None).await.unwrap();
        let mut tx = db.write().await.unwrap();
        tx.execute("INSERT INTO schema_migration (version) VALUES (4711)", args![]).await.unwrap();
        tx.commit().await.unwrap();
        let error = migrate(&db, None).await.unwrap_err();
        assert!(error.to_string().contains("newer version (schema 4711"), "{error}");
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
