//! Validations: whether a credential can do what a plugin needs, asked once and without reading anything into the graph.
//!
//! One of each credential at a time, and few in a while: a target that is asked with a wrong password locks the account. One is tried once.

use access::ops;
use domain::{Check, CredentialId, Error, RelayId, Result, TenantId, Timestamp, ValidationId, ValidationStatus};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Page;
use crate::audit::{Category, Change, Outcome};
use crate::db::{Row, Tx, args};
use crate::job::check_credential;
use crate::relay::check_relay;
use crate::unit::{Read, Write};
use crate::work::{self, Claim, WorkKind};

/// For how long one may wait for a server or a relay, in milliseconds.
const WAIT_MS: i64 = 3 * 60_000;
/// For how long one may be at work, in milliseconds: whoever does it ends it after a minute.
const RUN_MS: i64 = 90_000;
/// Over how long those are counted that were asked for, in milliseconds.
const COUNTED_MS: i64 = 10 * 60_000;
/// Most of one credential in that time.
const OF_CREDENTIAL: i64 = 10;
/// Most of a tenant in that time.
const OF_TENANT: i64 = 60;
/// Those of one credential that are kept, the newest.
const KEPT: i64 = 20;
/// How much earlier than other work one is due: somebody waits for it.
const AHEAD_MS: i64 = 3_600_000;
/// How many of a tenant go before other work at a time: more would keep the jobs of other tenants waiting.
const AHEAD: i64 = 2;

const LATE: &str = "nobody took it up in time: every server is busy, or the relay is not connected";
const LOST: &str = "the server that did it ended before it: ask again";
/// Which of the tenant `$1` have no end and must have had one by `$2`.
const OVERDUE: &str = "tenant_id = $1 AND finished_at IS NULL AND COALESCE(started_at + $3, created_at + $4) <= $2";

/// What to validate.
#[derive(Debug, Clone)]
pub struct NewValidation {
    /// The plugin; its settings were checked by the caller.
    pub plugin: String,
    /// What it signs in with, if it needs to.
    pub credential: Option<CredentialId>,
    /// The relay that does it; without one any server does.
    pub relay: Option<RelayId>,
    /// The plugin's settings.
    pub config: Map<String, Value>,
}

/// A validation.
#[derive(Debug, Clone)]
pub struct ValidationRow {
    /// Its id.
    pub id: ValidationId,
    /// The plugin.
    pub plugin: String,
    /// What it signs in with.
    pub credential: Option<CredentialId>,
    /// The relay that does it.
    pub relay: Option<RelayId>,
    /// The plugin's settings.
    pub config: Map<String, Value>,
    /// Where it stands.
    pub status: ValidationStatus,
    /// Who asked for it.
    pub requested_by: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it did not come to its end.
    pub error: Option<String>,
    /// What was tried.
    pub checks: Vec<Check>,
}

macro_rules! validation_sql {
    ($rest:literal) => {
        concat!(
            "SELECT id, plugin, credential_key, relay_id, config, status, requested_by, created_at, started_at, finished_at, error, checks \
             FROM validation WHERE tenant_id = $1 ",
            $rest
        )
    };
}

fn key_of(credential: Option<CredentialId>) -> Uuid {
    credential.map_or_else(Uuid::nil, |id| id.as_uuid())
}

fn validation_row(row: &Row, now: Timestamp) -> Result<ValidationRow> {
    let mut read = ValidationRow {
        id: ValidationId::from_uuid(row.uuid(0)?),
        plugin: row.text(1)?,
        credential: Some(row.uuid(2)?).filter(|key| !key.is_nil()).map(CredentialId::from_uuid),
        relay: row.opt_uuid(3)?.map(RelayId::from_uuid),
        config: row.json(4)?,
        status: row.parse(5)?,
        requested_by: row.text(6)?,
        created_at: row.time(7)?,
        started_at: row.opt_time(8)?,
        finished_at: row.opt_time(9)?,
        error: row.opt_text(10)?,
        checks: row.json(11)?,
    };
    if let Some((at, why)) = overdue(read.created_at, read.started_at, read.finished_at, now) {
        (read.status, read.error) = (ValidationStatus::Failed, Some(why.to_owned()));
        read.finished_at = Some(at);
    }
    Ok(read)
}

/// When one must have had its end and has none, and why. Whoever asks for the next one writes it down.
fn overdue(
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<(Timestamp, &'static str)> {
    let (until, why) = match started_at {
        Some(at) => (at.plus_millis(RUN_MS), LOST),
        None => (created_at.plus_millis(WAIT_MS), LATE),
    };
    (finished_at.is_none() && until <= now).then_some((until, why))
}

/// The newest validation of a credential: how it went, not what was tried.
#[derive(Debug, Clone)]
pub struct NewestValidation {
    /// Its id.
    pub id: ValidationId,
    /// Where it stands.
    pub status: ValidationStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// What a query has from the column `at` on: `id, status, created_at, started_at, finished_at`, all null where there is none.
pub(crate) fn newest_validation(row: &Row, at: usize, now: Timestamp) -> Result<Option<NewestValidation>> {
    let Some(id) = row.opt_uuid(at)? else { return Ok(None) };
    let created_at = row.time(at + 2)?;
    let status = match overdue(created_at, row.opt_time(at + 3)?, row.opt_time(at + 4)?, now) {
        Some(_) => ValidationStatus::Failed,
        None => row.parse(at + 1)?,
    };
    Ok(Some(NewestValidation { id: ValidationId::from_uuid(id), status, created_at }))
}

async fn find(tx: &mut Tx, tenant: TenantId, id: ValidationId, now: Timestamp) -> Result<ValidationRow> {
    let row = tx.row(validation_sql!("AND id = $2"), args![tenant, id]).await?;
    validation_row(&row.ok_or(Error::NotFound { what: "validation" })?, now)
}

/// Forgets what was tried with a credential that is gone.
pub(crate) async fn forget(tx: &mut Tx, tenant: TenantId, credential: CredentialId) -> Result<()> {
    tx.execute(
        "DELETE FROM work WHERE owner_tenant = $1 AND kind = 'validate' AND id IN \
         (SELECT id FROM validation WHERE tenant_id = $1 AND credential_key = $2)",
        args![tenant, credential.as_uuid()],
    )
    .await?;
    let sql = "DELETE FROM validation WHERE tenant_id = $1 AND credential_key = $2";
    tx.execute(sql, args![tenant, credential.as_uuid()]).await.map(drop)
}

impl Write<ops::ValidationCreate> {
    /// Queues a validation.
    pub async fn validation_create(mut self, new: NewValidation) -> Result<ValidationRow> {
        let (tenant, now, key) = (self.tenant(), self.store.clock().now(), key_of(new.credential));
        let tx = &mut self.tx;
        check_credential(tx, tenant, &new.plugin, new.credential).await?;
        check_relay(tx, tenant, new.relay).await?;
        let overdue = args![tenant, now, RUN_MS, WAIT_MS];
        let sql = format!(
            "DELETE FROM work WHERE owner_tenant = $1 AND kind = 'validate' AND id IN (SELECT id FROM validation WHERE {OVERDUE})"
        );
        tx.execute_built(&sql, overdue).await?;
        let sql = format!(
            "UPDATE validation SET status = 'failed', error = CASE WHEN started_at IS NULL THEN $5 ELSE $6 END, \
             finished_at = COALESCE(started_at + $3, created_at + $4) WHERE {OVERDUE}"
        );
        tx.execute_built(&sql, args![tenant, now, RUN_MS, WAIT_MS, LATE, LOST]).await?;
        let row = tx
            .row(
                "SELECT COUNT(*), COALESCE(SUM(CASE WHEN credential_key = $2 THEN 1 ELSE 0 END), 0), \
                 COALESCE(MIN(created_at), $4), \
                 COALESCE(SUM(CASE WHEN finished_at IS NULL THEN 1 ELSE 0 END), 0) FROM validation WHERE tenant_id = $1 AND created_at > $3",
                args![tenant, key, now.plus_millis(-COUNTED_MS), now],
            )
            .await?
            .ok_or_else(|| Error::internal("counting returned nothing"))?;
        if row.i64(0)? >= OF_TENANT || row.i64(1)? >= OF_CREDENTIAL {
            let wait_ms = (row.time(2)?.plus_millis(COUNTED_MS)).millis_since(now).max(1_000);
            return Err(Error::Throttled { wait_s: (wait_ms / 1_000).unsigned_abs() });
        }
        let due_at = if row.i64(3)? < AHEAD { now.plus_millis(-AHEAD_MS) } else { now };
        let id = ValidationId::generate(&**self.store.clock(), &**self.store.rng());
        let requested_by = self.permit.ctx().actor().to_string();
        tx.execute(
            "INSERT INTO validation (tenant_id, id, plugin, credential_key, relay_id, config, status, requested_by, created_at, checks) \
             VALUES ($1, $2, $3, $4, $5, $6, 'queued', $7, $8, '[]')",
            args![
                tenant,
                id,
                new.plugin.as_str(),
                key,
                new.relay.map(|id| id.as_uuid()),
                json!(new.config).to_string(),
                requested_by.as_str(),
                now
            ],
        )
        .await
        .map_err(|error| match error {
            Error::Conflict { .. } => Error::conflict("this credential is being validated already: wait until that has ended"),
            other => other,
        })?;
        tx.execute(
            "DELETE FROM validation WHERE tenant_id = $1 AND credential_key = $2 AND finished_at IS NOT NULL AND id <= \
             (SELECT id FROM validation WHERE tenant_id = $1 AND credential_key = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)",
            args![tenant, key, KEPT],
        )
        .await?;
        work::push_placed(tx, tenant, WorkKind::Validate, id.as_uuid(), due_at, new.relay).await?;
        let row = find(tx, tenant, id, now).await?;
        let detail =
            json!({"plugin": row.plugin, "credential": row.credential, "relay": row.relay, "config": row.config});
        let store = self.store.clone();
        self.commit(Change::to(Category::Credential, "validation", id).detail(detail)).await?;
        store.say_work_queued();
        Ok(row)
    }
}

impl Read<ops::ValidationList> {
    /// Validations, the newest first; of one credential, where one is named.
    pub async fn validation_list(
        &mut self,
        credential: Option<CredentialId>,
        after: Option<ValidationId>,
        limit: u32,
    ) -> Result<Page<ValidationRow, ValidationId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let sql = validation_sql!("AND id < $2 AND ($3 IS NULL OR credential_key = $3) ORDER BY id DESC LIMIT $4");
        let values = args![
            tenant,
            after.map_or_else(Uuid::max, |id| id.as_uuid()),
            credential.map(|id| id.as_uuid()),
            i64::from(limit) + 1
        ];
        let rows = self.tx.rows(sql, values).await?;
        let items = rows.iter().map(|row| validation_row(row, now)).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &ValidationRow| row.id))
    }

    /// One validation.
    pub async fn validation_show(&mut self, id: ValidationId) -> Result<ValidationRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        find(&mut self.tx, tenant, id, now).await
    }
}

impl Write<ops::ValidationRun> {
    /// Begins a validation under a worker's claim. None: it is over, which is written down.
    pub async fn validation_started(mut self, claim: &Claim) -> Result<Option<ValidationRow>> {
        let (tenant, now, id) = (self.tenant(), self.store.clock().now(), claim.validation());
        work::fence(&mut self.tx, tenant, claim).await?;
        let row = match find(&mut self.tx, tenant, id, now).await {
            Ok(row) => row,
            // Its credential is gone, and it with it.
            Err(Error::NotFound { .. }) => {
                work::remove(&mut self.tx, claim.id).await?;
                self.tx.commit().await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // Once: a second try with a wrong password is one too many, also where a server that stopped gave it back.
        if row.status.is_final() || row.started_at.is_some() || claim.attempt > 1 {
            let why = row.error.unwrap_or_else(|| LOST.to_owned());
            self.validation_finished(claim, &[], Some(&why)).await?;
            return Ok(None);
        }
        let sql = "UPDATE validation SET status = 'running', started_at = $3 WHERE tenant_id = $1 AND id = $2";
        self.tx.execute(sql, args![tenant, id, now]).await?;
        self.tx.commit().await?;
        Ok(Some(ValidationRow { status: ValidationStatus::Running, started_at: Some(now), ..row }))
    }

    /// Ends a validation. `error`: why it did not come to its end.
    pub async fn validation_finished(mut self, claim: &Claim, checks: &[Check], error: Option<&str>) -> Result<()> {
        let (tenant, now, id) = (self.tenant(), self.store.clock().now(), claim.validation());
        work::fence(&mut self.tx, tenant, claim).await?;
        work::remove(&mut self.tx, claim.id).await?;
        let of = ValidationStatus::of(checks);
        let status = match error {
            Some(_) if of == ValidationStatus::Passed => ValidationStatus::Incomplete,
            _ => of,
        };
        let text = serde_json::to_string(checks).map_err(Error::internal)?;
        self.tx
            .execute(
                "UPDATE validation SET status = $3, finished_at = $4, error = $5, checks = $6 WHERE tenant_id = $1 AND id = $2",
                args![tenant, id, status.as_str(), now, error.map(str::to_owned), text],
            )
            .await?;
        let outcome = if status == ValidationStatus::Failed { Outcome::Fail } else { Outcome::Success };
        let good = checks.iter().filter(|check| check.outcome == domain::CheckOutcome::Good).count();
        let detail = json!({"status": status, "checks": checks.len(), "good": good, "error": error});
        self.commit(Change::to(Category::Credential, "validation", id).outcome(outcome).detail(detail)).await.map(drop)
    }
}
