//! A private PostgreSQL for tests, and a fresh database in it for each test.
//!
//! One server serves all test processes of a target folder: the first starts it, the last but a few seconds ends it.
//! `CAIRN_TEST_DATABASE_URL` (a superuser's URL) names another server to use instead. Works from sync and async tests;
//! making a database blocks the calling thread for about a tenth of a second.

mod cluster;
mod url;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, bail};

use crate::suite;
use url::Url;

/// The command that a panic names where PostgreSQL is missing.
const INSTALL: &str = "apt-get install -y postgresql";

/// A PostgreSQL server that tests may make databases in.
#[derive(Debug)]
pub struct Postgres {
    psql: PathBuf,
    superuser: Url,
    /// Held while this process lives: the server ends when no process holds it.
    _use: Option<std::fs::File>,
}

impl Postgres {
    /// The server of this run.
    ///
    /// # Panics
    /// Where there is no PostgreSQL 15 or newer, or it does not start: nothing is skipped.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::open().unwrap_or_else(|e| panic!("no PostgreSQL for the tests: {e:#}")))
    }

    fn open() -> anyhow::Result<Self> {
        if let Some(url) = suite::env("CAIRN_TEST_DATABASE_URL") {
            let superuser: Url = url.to_string_lossy().parse().context("CAIRN_TEST_DATABASE_URL")?;
            let psql = newest_bin("psql").unwrap_or_else(|_| PathBuf::from("psql"));
            return Ok(Self { psql, superuser, _use: None });
        }
        let (superuser, in_use) = cluster::attach(&suite::target_dir().join("testkit-postgres"))?;
        Ok(Self { psql: newest_bin("psql")?, superuser, _use: Some(in_use) })
    }

    /// Makes an empty database with its two roles; dropped with the value.
    pub fn database(&self) -> TestDatabase<'_> {
        let name = format!("cairn_{}_{}", std::process::id(), suite::fresh_hex(6));
        let (owner_role, app_role) = (format!("{name}_owner"), format!("{name}_app"));
        let (owner_password, app_password) = (suite::fresh_hex(16), suite::fresh_hex(16));
        let limits = "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION";
        // `file_copy` makes two checkpoints, which another session's work delays: `wal_log` is the steadier one.
        self.superuser_sql(&format!(
            "CREATE ROLE {owner_role} {limits} PASSWORD '{owner_password}';
             CREATE ROLE {app_role} {limits} PASSWORD '{app_password}';
             CREATE DATABASE {name} OWNER {owner_role} TEMPLATE template0 ENCODING 'UTF8' STRATEGY wal_log;
             REVOKE ALL ON DATABASE {name} FROM PUBLIC;
             GRANT CONNECT ON DATABASE {name} TO {app_role};"
        ))
        .unwrap_or_else(|e| panic!("cannot make the database {name}: {e:#}"));
        TestDatabase {
            owner_url: self.superuser.with(&owner_role, &owner_password, &name).to_string(),
            app_url: self.superuser.with(&app_role, &app_password, &name).to_string(),
            name,
            owner_role,
            app_role,
            server: self,
        }
    }

    /// Runs statements as the superuser, outside of any test's database.
    pub fn superuser_sql(&self, sql: &str) -> anyhow::Result<String> {
        psql(&self.psql, &self.superuser, sql)
    }
}

/// An empty database of one test. Its owner runs migrations; the other role owns nothing and bypasses nothing.
#[derive(Debug)]
pub struct TestDatabase<'a> {
    /// For migrations: the role owns the database.
    pub owner_url: String,
    /// For everything else: `LOGIN NOSUPERUSER NOBYPASSRLS`, may connect and owns nothing.
    pub app_url: String,
    /// The database's name.
    pub name: String,
    /// The owner's role, for `GRANT`s.
    pub owner_role: String,
    /// The application's role, for `GRANT`s.
    pub app_role: String,
    server: &'a Postgres,
}

impl TestDatabase<'_> {
    /// Runs statements as the owner; returns `psql`'s unaligned tuples.
    pub fn owner_sql(&self, sql: &str) -> anyhow::Result<String> {
        psql(&self.server.psql, &self.owner_url.parse()?, sql)
    }

    /// Runs statements as the application's role.
    pub fn app_sql(&self, sql: &str) -> anyhow::Result<String> {
        psql(&self.server.psql, &self.app_url.parse()?, sql)
    }
}

impl Drop for TestDatabase<'_> {
    fn drop(&mut self) {
        let Self { name, owner_role, app_role, .. } = self;
        let dropped = self.server.superuser_sql(&format!(
            "DROP DATABASE IF EXISTS {name} WITH (FORCE); DROP ROLE IF EXISTS {app_role}; DROP ROLE IF EXISTS {owner_role};"
        ));
        if let Err(e) = dropped {
            // A panic here would hide the test's own failure; the database goes with its server.
            eprintln!("cannot drop the database {name}: {e:#}");
        }
    }
}

/// Statements go in by stdin and the password by the environment: a process list shows neither.
fn psql(program: &Path, url: &Url, sql: &str) -> anyhow::Result<String> {
    let mut child = Command::new(program)
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &url.without_password()])
        .env("PGPASSWORD", &url.password)
        .env("PGCONNECT_TIMEOUT", "10")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}: install it with `{INSTALL}`", program.display()))?;
    // Where psql ended early its message says why, not the broken pipe.
    let _ = child.stdin.take().context("psql's stdin")?.write_all(sql.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// The program of the newest PostgreSQL (15 or later) that Debian's packages installed.
fn newest_bin(program: &str) -> anyhow::Result<PathBuf> {
    newest_bin_in(Path::new("/usr/lib/postgresql"), program)
}

fn newest_bin_in(root: &Path, program: &str) -> anyhow::Result<PathBuf> {
    let version = |name: &OsStr| name.to_str()?.parse::<u32>().ok().filter(|v| *v >= 15);
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((version(&entry.file_name())?, entry.path().join("bin").join(program))))
        .filter(|(_, path)| path.is_file())
        .max()
        .map(|(_, path)| path)
        .with_context(|| {
            format!(
                "there is no `{program}` of PostgreSQL 15 or newer under {}: run `{INSTALL}` (`cargo xtask setup` does it), \
                 or set CAIRN_TEST_DATABASE_URL to a superuser's URL",
                root.display()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_migrates_and_the_application_role_owns_and_bypasses_nothing() {
        let database = Postgres::shared().database();
        let app = &database.app_role;
        database
            .owner_sql(&format!(
                "CREATE TABLE t (tenant int, x text);
                 ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
                 CREATE POLICY p ON t USING (tenant = current_setting('cairn.tenant')::int);
                 GRANT SELECT, INSERT ON t TO {app};"
            ))
            .unwrap();
        let seen = database.app_sql(
            "SET cairn.tenant = 1; INSERT INTO t VALUES (1, 'ours'); SET cairn.tenant = 2; SELECT count(*) FROM t;",
        );
        assert_eq!(seen.unwrap(), "0");
        assert!(database.app_sql("CREATE TABLE mine (x int)").unwrap_err().to_string().contains("permission denied"));
        assert!(database.app_sql("ALTER TABLE t DISABLE ROW LEVEL SECURITY").is_err());
        let flags = format!("SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = '{app}'");
        assert_eq!(database.app_sql(&flags).unwrap(), "f|f|f");
    }

    #[test]
    fn a_test_sees_neither_another_tests_database_nor_its_roles() {
        let (a, b) = (Postgres::shared().database(), Postgres::shared().database());
        let mut crossed: Url = a.app_url.parse().unwrap();
        crossed.database.clone_from(&b.name);
        let refused = psql(&Postgres::shared().psql, &crossed, "SELECT 1").unwrap_err().to_string();
        assert!(refused.contains("permission denied for database"), "{refused}");
    }

    #[test]
    fn a_database_and_its_roles_end_with_the_value_even_when_in_use() {
        let server = Postgres::shared();
        let database = server.database();
        let name = database.name.clone();
        let url: Url = database.owner_url.parse().unwrap();
        let mut held = Command::new(&server.psql)
            .args(["-X", "-d", &url.without_password(), "-c", "SELECT pg_sleep(600)"])
            .env("PGPASSWORD", &url.password)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
        while server.superuser_sql(&sessions).unwrap() == "0" {
            assert!(held.try_wait().unwrap().is_none(), "the session ended before it began");
        }
        drop(database);
        held.wait().unwrap();
        let left = format!(
            "SELECT (SELECT count(*) FROM pg_database WHERE datname = '{name}') + (SELECT count(*) FROM pg_roles WHERE rolname LIKE '{name}%')"
        );
        assert_eq!(server.superuser_sql(&left).unwrap(), "0");
    }

    #[tokio::test]
    async fn works_inside_an_async_test() {
        let database = Postgres::shared().database();
        assert_eq!(database.app_sql("SELECT current_user").unwrap(), database.app_role);
    }

    #[test]
    fn a_wrong_password_is_refused_and_never_shown() {
        let database = Postgres::shared().database();
        let wrong = Url { password: "not-the-password".to_owned(), ..database.app_url.parse().unwrap() };
        let message = psql(&Postgres::shared().psql, &wrong, "SELECT 1").unwrap_err().to_string();
        assert!(
            message.contains("password authentication failed") && !message.contains("not-the-password"),
            "{message}"
        );
    }

    #[test]
    fn missing_binaries_are_an_error_that_names_the_command() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("14/bin")).unwrap();
        std::fs::write(dir.path().join("14/bin/initdb"), "").unwrap();
        let message = newest_bin_in(dir.path(), "initdb").unwrap_err().to_string();
        assert!(message.contains("`apt-get install -y postgresql` (`cargo xtask setup` does it)"), "{message}");
        for version in ["9", "15", "17"] {
            std::fs::create_dir_all(dir.path().join(version).join("bin")).unwrap();
            std::fs::write(dir.path().join(version).join("bin/initdb"), "").unwrap();
        }
        assert_eq!(newest_bin_in(dir.path(), "initdb").unwrap(), dir.path().join("17/bin/initdb"));
    }
}
