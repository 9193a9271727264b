//! Agents and relays as they are listed, labelled and revoked, and the sign by which whoever serves one hears that it has ended.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use access::{ReadOperation, TenantOperation, WriteOperation, ops};
use domain::{Error, FleetId, FleetKind, Labels, Result, TenantId, Timestamp};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::Instant;
use uuid::Uuid;

use crate::audit::{Category, Change};
use crate::condition::{self, Versioned as _};
use crate::db::{Row, Tx, args};
use crate::unit::{Read, Write, enter};
use crate::{Page, Store};

/// How often a listener asks the database who has ended on other servers: a revocation has to be known everywhere within a second.
const POLL: Duration = Duration::from_millis(400);
/// How far back it asks: further than any clock of ours is off, or a transaction takes.
const LOOK_BACK_MS: i64 = 5 * 60_000;

/// Whether an agent or a relay is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// It is.
    Active,
    /// Its credential's time is over.
    Expired,
    /// Its key was used by somebody else too.
    Cloned,
    /// Somebody revoked it.
    Revoked,
}

impl UnitState {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Cloned => "cloned",
            Self::Revoked => "revoked",
        }
    }

    pub(crate) fn of(now: Timestamp, expires_at: Timestamp, cloned: bool, revoked: bool) -> Self {
        if revoked {
            Self::Revoked
        } else if cloned {
            Self::Cloned
        } else if expires_at <= now {
            Self::Expired
        } else {
            Self::Active
        }
    }
}

/// An agent or a relay as it is listed.
#[derive(Debug, Clone)]
pub struct UnitRow {
    /// Its id.
    pub id: FleetId,
    /// Its name.
    pub name: String,
    /// What people sort it by.
    pub labels: Labels,
    /// Its program's version.
    pub version: String,
    /// The public half of its key.
    pub public_key: Vec<u8>,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// Until when its newest credential is good.
    pub expires_at: Timestamp,
    /// Since when it is revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was noticed that its key is used by somebody else too.
    pub cloned_at: Option<Timestamp>,
    /// When it was last seen, to the minute.
    pub last_seen_at: Option<Timestamp>,
    /// From where.
    pub last_seen_ip: Option<String>,
    /// Whether it is let in.
    pub state: UnitState,
    /// Of a relay: where it takes users to hosts without the server between, by its word.
    pub ssh_address: Option<String>,
    /// When the certificate ends that it shows there.
    pub ssh_certificate_ends_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, kind, name, labels, version, public_key, enrolled_at, expires_at, revoked_at, cloned_at, last_seen_at, \
     last_seen_ip, ssh_address, ssh_certificate_ends_at FROM fleet_unit";

fn unit_row(row: &Row, now: Timestamp) -> Result<UnitRow> {
    let (expires_at, revoked_at, cloned_at) = (row.time(7)?, row.opt_time(8)?, row.opt_time(9)?);
    Ok(UnitRow {
        id: FleetId::of(row.parse(1)?, row.uuid(0)?),
        name: row.text(2)?,
        labels: row.json(3)?,
        version: row.text(4)?,
        public_key: row.bytes(5)?,
        enrolled_at: row.time(6)?,
        expires_at,
        revoked_at,
        cloned_at,
        last_seen_at: row.opt_time(10)?,
        last_seen_ip: row.opt_text(11)?,
        state: UnitState::of(now, expires_at, cloned_at.is_some(), revoked_at.is_some()),
        ssh_address: row.opt_text(12)?,
        ssh_certificate_ends_at: row.opt_time(13)?,
    })
}

pub(crate) async fn unit_show(tx: &mut Tx, tenant: TenantId, id: FleetId, now: Timestamp) -> Result<UnitRow> {
    let sql = format!("SELECT {COLUMNS} WHERE tenant_id = $1 AND id = $2 AND kind = $3");
    let rows = tx.rows_built(sql, args![tenant, id, id.kind().as_str()]).await?;
    unit_row(rows.first().ok_or(Error::NotFound { what: id.kind().as_str() })?, now)
}

/// What `LIKE` looks for in the stored labels; nothing for every unit. A quotation mark inside of a value is stored with a backslash, so that
/// only a whole label is found.
fn label_pattern(label: Option<&(String, String)>) -> String {
    let Some((name, value)) = label else { return String::new() };
    let text = format!("{}:{}", Value::from(name.as_str()), Value::from(value.as_str()));
    format!("%{}%", text.replace('!', "!!").replace('%', "!%").replace('_', "!_"))
}

/// Lists agents or relays: whichever operation it is done under.
async fn list<O: TenantOperation + ReadOperation>(
    unit: &mut Read<O>,
    kind: FleetKind,
    label: Option<&(String, String)>,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Page<UnitRow, Uuid>> {
    let (tenant, now) = (unit.tenant(), unit.store.clock().now());
    let sql = format!(
        "SELECT {COLUMNS} WHERE tenant_id = $1 AND kind = $2 AND id > $3 AND ($4 = '' OR labels LIKE $4 ESCAPE '!') ORDER BY id LIMIT $5"
    );
    let values = args![tenant, kind.as_str(), after.unwrap_or_default(), label_pattern(label), i64::from(limit) + 1];
    let rows = unit.tx.rows_built(sql, values).await?;
    let items = rows.iter().map(|row| unit_row(row, now)).collect::<Result<_>>()?;
    Ok(Page::cut(items, limit, |row: &UnitRow| row.id.as_uuid()))
}

async fn label<O: TenantOperation + WriteOperation>(
    mut unit: Write<O>,
    id: FleetId,
    labels: &Labels,
) -> Result<UnitRow> {
    let (tenant, now) = (unit.tenant(), unit.store.clock().now());
    condition::alone(&mut unit.tx, tenant, &format!("labels {id}")).await?;
    let before = unit_show(&mut unit.tx, tenant, id, now).await?;
    unit.check(&format!("labels of the {} `{}`", id.kind(), before.name), Some(&before.version()))?;
    let text = serde_json::to_string(labels).map_err(Error::internal)?;
    unit.tx
        .execute("UPDATE fleet_unit SET labels = $3 WHERE tenant_id = $1 AND id = $2", args![tenant, id, text])
        .await?;
    let row = unit_show(&mut unit.tx, tenant, id, now).await?;
    let detail = json!({"name": row.name, "labels": labels, "before": before.labels});
    unit.commit(Change::to(Category::Access, id.kind().as_str(), id).detail(detail)).await?;
    Ok(row)
}

async fn revoke<O: TenantOperation + WriteOperation>(mut unit: Write<O>, id: FleetId) -> Result<()> {
    let (tenant, now, store) = (unit.tenant(), unit.store.clock().now(), unit.store.clone());
    let before = unit_show(&mut unit.tx, tenant, id, now).await?;
    unit.tx
        .execute(
            "UPDATE fleet_unit SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL",
            args![tenant, id, now],
        )
        .await?;
    end(&mut unit.tx, id, now).await?;
    let detail = json!({"name": before.name, "before": before.state.as_str()});
    unit.commit(Change::to(Category::Authentication, id.kind().as_str(), id).detail(detail)).await?;
    store.say_ended(id);
    Ok(())
}

macro_rules! both {
    ($list:ident $label:ident $revoke:ident $id:ident $kind:ident $list_fn:ident $show_fn:ident $label_fn:ident $revoke_fn:ident) => {
        impl Read<ops::$list> {
            /// Those of the tenant in the order of their ids, also those that are no more. `label`: only with this name and value.
            pub async fn $list_fn(
                &mut self,
                label: Option<&(String, String)>,
                after: Option<domain::$id>,
                limit: u32,
            ) -> Result<Page<UnitRow, domain::$id>> {
                let page = list(self, FleetKind::$kind, label, after.map(|id| id.as_uuid()), limit).await?;
                Ok(Page { items: page.items, next: page.next.map(domain::$id::from_uuid) })
            }

            /// One of them.
            pub async fn $show_fn(&mut self, id: domain::$id) -> Result<UnitRow> {
                let (tenant, now) = (self.tenant(), self.store.clock().now());
                unit_show(&mut self.tx, tenant, id.into(), now).await
            }
        }

        impl Write<ops::$label> {
            /// Replaces its labels.
            pub async fn $label_fn(self, id: domain::$id, labels: &Labels) -> Result<UnitRow> {
                label(self, id.into(), labels).await
            }
        }

        impl Write<ops::$revoke> {
            /// Ends it for good: its next request is refused on every server, and its connections end. Ending one again changes nothing.
            pub async fn $revoke_fn(self, id: domain::$id) -> Result<()> {
                revoke(self, id.into()).await
            }
        }
    };
}

both!(AgentList AgentLabel AgentRevoke AgentId Agent agent_list agent_show agent_label agent_revoke);
both!(RelayList RelayLabel RelayRevoke RelayId Relay relay_list relay_show relay_label relay_revoke);

/// Notes for other servers that one has ended.
pub(crate) async fn end(tx: &mut Tx, id: FleetId, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO fleet_ending (unit_id, kind, at) VALUES ($1, $2, $3) ON CONFLICT (unit_id) DO UPDATE SET at = excluded.at",
        args![id, id.kind().as_str(), now],
    )
    .await?;
    // Whoever listens looks back by minutes; an hour is plenty.
    tx.execute("DELETE FROM fleet_ending WHERE at < $1", args![now.plus_millis(-3_600_000)]).await.map(drop)
}

/// Notes that all of a tenant have ended, since it was closed.
pub(crate) async fn end_all(tx: &mut Tx, tenant: TenantId, now: Timestamp) -> Result<()> {
    enter(tx, tenant).await?;
    tx.execute(
        "INSERT INTO fleet_ending (unit_id, kind, at) \
         SELECT id, kind, $2 FROM fleet_unit WHERE tenant_id = $1 AND revoked_at IS NULL AND cloned_at IS NULL \
         ON CONFLICT (unit_id) DO UPDATE SET at = excluded.at",
        args![tenant, now],
    )
    .await
    .map(drop)
}

/// Signs within this process that somebody has ended.
pub(crate) struct Endings(broadcast::Sender<FleetId>);

impl Default for Endings {
    fn default() -> Self {
        Self(broadcast::channel(1_024).0)
    }
}

/// Agents and relays that have ended, on whichever server it was decided: whoever serves one cuts its connections.
pub struct FleetEndings {
    store: Store,
    receiver: broadcast::Receiver<FleetId>,
    waiting: VecDeque<FleetId>,
    known: HashSet<(FleetId, Timestamp)>,
    /// When it is to be looked for those of other servers, whatever comes from this one.
    look_at: Instant,
}

impl FleetEndings {
    /// The next one that has ended; may name one twice. Where the database is away, those of other servers come when it is back.
    pub async fn next(&mut self) -> FleetId {
        loop {
            if let Some(id) = self.waiting.pop_front() {
                return id;
            }
            // Too many at once for the channel: they are in the database too. It never closes, since the store holds it.
            if Instant::now() < self.look_at
                && let Ok(Ok(id)) = tokio::time::timeout_at(self.look_at, self.receiver.recv()).await
            {
                return id;
            }
            self.look_at = Instant::now() + POLL;
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "who has ended elsewhere cannot be asked");
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        let since = self.store.clock().now().plus_millis(-LOOK_BACK_MS);
        let mut tx = self.store.db().read().await?;
        let rows =
            tx.rows("SELECT unit_id, kind, at FROM fleet_ending WHERE at >= $1 ORDER BY at", args![since]).await?;
        self.known.retain(|(_, at)| *at >= since);
        for row in &rows {
            let ended = (FleetId::of(row.parse(1)?, row.uuid(0)?), row.time(2)?);
            if self.known.insert(ended) {
                self.waiting.push_back(ended.0);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Hears of agents and relays that end from now on, and of those of the last minutes.
    pub fn fleet_endings(&self) -> FleetEndings {
        FleetEndings {
            store: self.clone(),
            receiver: self.inner.endings.0.subscribe(),
            waiting: VecDeque::new(),
            known: HashSet::new(),
            look_at: Instant::now(),
        }
    }

    pub(crate) fn say_ended(&self, id: FleetId) {
        // Nobody may be listening.
        let _ = self.inner.endings.0.send(id);
    }
}
