//! Asks PostgreSQL what every request asks in one message.
//!
//! To see whose session or key a request brings, row-level security first has to be told whose rows may be seen, and that is in the database too.
//! As statements of a transaction that would be four round trips for each request. Here they are one: the statements are prepared on each
//! connection, and a message of several `EXECUTE` runs as one transaction, with whose end the setting ends. SQLite needs only the last one.

use domain::{Error, Result};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, PgPool, Row as _};

use crate::db::{Row, Tries, Value, failed};

/// One question.
pub(crate) struct Question {
    /// Names its prepared statements.
    pub(crate) name: &'static str,
    /// The type of its one parameter.
    pub(crate) kind: &'static str,
    /// What tells row-level security whose rows may be seen: each is one row where the next can find something, and none otherwise.
    pub(crate) enter: &'static [&'static str],
    /// What is asked.
    pub(crate) sql: &'static str,
}

/// A parameter as a literal. None: of a form that nothing in the database has.
fn literal(value: &Value) -> Result<Option<String>> {
    match value {
        Value::Uuid(id) => Ok(Some(format!("'{id}'"))),
        Value::Text(text) => Ok(text.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| format!("'{text}'"))),
        other => Err(Error::internal(format!("{other:?} cannot be asked at once"))),
    }
}

impl Question {
    fn statements(&self) -> impl Iterator<Item = &'static str> {
        self.enter.iter().copied().chain([self.sql])
    }

    /// The rows of the answer.
    pub(crate) async fn ask(&self, pool: &PgPool, value: &Value) -> Result<Vec<Row>> {
        let Some(literal) = literal(value)? else { return Ok(Vec::new()) };
        let name = self.name;
        let steps = self.statements().enumerate().map(|(at, _)| format!("EXECUTE {name}_{at}({literal});"));
        let message = steps.collect::<Vec<_>>().concat();
        let mut tries = Tries::default();
        let rows = loop {
            match self.send(pool, &message).await {
                Err(error) if tries.again(&error) => {}
                rows => break rows.map_err(failed)?,
            }
        };
        debug_assert!(
            rows.iter().take(self.enter.len()).all(|row| row.len() == 1),
            "one column says that it may go on"
        );
        Ok(rows.into_iter().skip(self.enter.len()).map(Row::Pg).collect())
    }

    async fn send(&self, pool: &PgPool, message: &str) -> std::result::Result<Vec<PgRow>, sqlx::Error> {
        let mut connection = pool.acquire().await?;
        let send = || sqlx::raw_sql(AssertSqlSafe(message.to_owned()));
        match send().fetch_all(&mut *connection).await {
            Err(error) if is_unprepared(&error) => {
                self.prepare(&mut connection).await?;
                send().fetch_all(&mut *connection).await
            }
            rows => rows,
        }
    }

    async fn prepare(&self, connection: &mut PgConnection) -> std::result::Result<(), sqlx::Error> {
        let (name, kind) = (self.name, self.kind);
        let all = self.statements().enumerate().map(|(at, sql)| format!("PREPARE {name}_{at}({kind}) AS {sql};"));
        let all = all.collect::<Vec<_>>().concat();
        sqlx::raw_sql(AssertSqlSafe(all)).execute(connection).await.map(drop)
    }
}

/// Whether this connection has not been asked before.
fn is_unprepared(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(inner) if inner.code().as_deref() == Some("26000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_no_sql_becomes_a_literal() {
        assert_eq!(literal(&Value::from("aZ09")).unwrap().as_deref(), Some("'aZ09'"));
        for text in ["'", "a'b", "\\", "a b", "a;b", "é", "$1"] {
            assert_eq!(literal(&Value::from(text)).unwrap(), None, "{text}");
        }
        literal(&Value::from(1)).unwrap_err();
    }

    #[tokio::test]
    async fn what_a_message_entered_ends_with_it_and_a_cut_connection_is_replaced() {
        const QUESTION: Question = Question {
            name: "who",
            kind: "text",
            enter: &["SELECT set_config('cairn.api_key', $1, true)"],
            sql: "SELECT current_setting('cairn.api_key', true)",
        };
        let database = testkit::Postgres::shared().database();
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).test_before_acquire(false);
        let pool = pool.connect(&database.app_url).await.unwrap();
        let left = async || -> Option<String> {
            sqlx::query_scalar("SELECT current_setting('cairn.api_key', true)").fetch_one(&pool).await.unwrap()
        };
        for value in ["a1", "b2"] {
            let rows = QUESTION.ask(&pool, &Value::from(value)).await.unwrap();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].text(0).unwrap(), value);
            assert_eq!(left().await, Some(String::new()), "whoever gets the connection next is in nobody's tenant");
        }
        let _ = sqlx::raw_sql("SELECT pg_terminate_backend(pg_backend_pid())").execute(&pool).await;
        assert_eq!(QUESTION.ask(&pool, &Value::from("c3")).await.unwrap()[0].text(0).unwrap(), "c3");
        assert!(QUESTION.ask(&pool, &Value::from("'")).await.unwrap().is_empty());
    }
}
