//! The log of a job: what began and ended, what was not read and why. Written with what it tells of, in one transaction.
//!
//! Invariants:
//! - a line is one line of plain text, whoever's words it holds, and short;
//! - how many lines a job has is bounded by its tasks, their tries and their scopes; lines are gone after 30 days.

use access::ops;
use domain::{JobId, JobLineId, LineLevel, Result, TenantId, Timestamp, one_line};
use uuid::Uuid;

use crate::db::{Row, Tx, args};
use crate::job::job_find;
use crate::unit::Read;
use crate::{Page, Store};

/// Longest text of a line, in characters.
const TEXT_CHARS: usize = 500;
/// How long lines are kept, in milliseconds.
const KEPT_MS: i64 = 30 * 86_400_000;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLineRow {
    /// Its id; later lines have greater ones, but for lines of one millisecond and of other servers.
    pub id: JobLineId,
    /// When it was written.
    pub at: Timestamp,
    /// How much it matters.
    pub level: LineLevel,
    /// The key of the task that it is about, if it is about one.
    pub task: Option<String>,
    /// The scope that it is about, if it is about one.
    pub scope: Option<String>,
    /// What it says.
    pub text: String,
}

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct LineFilter {
    /// Only those that matter as much, or more.
    pub level: Option<LineLevel>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only about scopes that begin so.
    pub scope: Option<String>,
}

/// A line to be written.
pub(crate) struct NewLine<'a> {
    pub(crate) level: LineLevel,
    pub(crate) task: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) text: &'a str,
}

impl<'a> NewLine<'a> {
    pub(crate) fn of(level: LineLevel, task: &'a str, text: &'a str) -> Self {
        Self { level, task, scope: "", text }
    }
}

pub(crate) async fn write(tx: &mut Tx, store: &Store, tenant: TenantId, job: JobId, line: NewLine<'_>) -> Result<()> {
    let id = JobLineId::generate(&**store.clock(), &**store.rng());
    tx.execute(
        "INSERT INTO job_line (tenant_id, id, job_id, at, level, task, scope, text) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        args![
            tenant,
            id,
            job,
            store.clock().now(),
            line.level.as_str(),
            one_line(line.task, TEXT_CHARS),
            line.scope,
            one_line(line.text, TEXT_CHARS)
        ],
    )
    .await
    .map(drop)
}

/// Forgets the lines of this tenant that are old.
pub(crate) async fn prune(tx: &mut Tx, tenant: TenantId, now: Timestamp) -> Result<()> {
    // Ids begin with their time.
    let before = u128::try_from(now.as_millis().saturating_sub(KEPT_MS)).unwrap_or_default() << 80;
    let sql = "DELETE FROM job_line WHERE tenant_id = $1 AND id < $2";
    tx.execute(sql, args![tenant, Uuid::from_u128(before)]).await.map(drop)
}

fn line_row(row: &Row) -> Result<JobLineRow> {
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(JobLineRow {
        id: JobLineId::from_uuid(row.uuid(0)?),
        at: row.time(1)?,
        level: row.parse(2)?,
        task: filled(row.text(3)?),
        scope: filled(row.text(4)?),
        text: row.text(5)?,
    })
}

impl Read<ops::JobList> {
    /// A job's lines, the newest first.
    pub async fn job_lines(
        &mut self,
        job: JobId,
        filter: &LineFilter,
        after: Option<JobLineId>,
        limit: u32,
    ) -> Result<Page<JobLineRow, JobLineId>> {
        let tenant = self.tenant();
        job_find(&mut self.tx, tenant, job).await?;
        let rows = self
            .tx
            .rows(
                "SELECT id, at, level, task, scope, text FROM job_line WHERE tenant_id = $1 AND job_id = $2 AND id < $3 \
                 AND ($4 = 'debug' OR ($4 = 'info' AND level <> 'debug') OR ($4 = 'warn' AND level IN ('warn', 'error')) \
                   OR ($4 = 'error' AND level = 'error')) \
                 AND ($5 = '' OR task = $5) AND substr(scope, 1, length($6)) = $6 ORDER BY id DESC LIMIT $7",
                args![
                    tenant,
                    job,
                    after.map_or_else(Uuid::max, |id| id.as_uuid()),
                    filter.level.unwrap_or(LineLevel::Debug).as_str(),
                    filter.task.clone().unwrap_or_default(),
                    filter.scope.clone().unwrap_or_default(),
                    i64::from(limit) + 1
                ],
            )
            .await?;
        let items = rows.iter().map(line_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &JobLineRow| row.id))
    }
}
