//! Host keys of SSH targets that are remembered. The first contact counts: what a host shows later replaces nothing, only somebody
//! does.

use access::ops;
use crypto::ssh::PublicKey;
use domain::{Error, HostPort, RelayId, Result, SshHostKeyId, TenantId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::Page;
use crate::audit::{Category, Change, Outcome};
use crate::db::{Row, Tx, args};
use crate::job::Purpose;
use crate::unit::{Read, Write};

/// Most remembered keys of a tenant.
const KEYS_MAX: i64 = 100_000;

/// How a key came to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeyOrigin {
    /// A job met the host for the first time, and was told to trust that.
    FirstContact,
    /// Somebody named it.
    Pinned,
}

impl HostKeyOrigin {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstContact => "first_contact",
            Self::Pinned => "pinned",
        }
    }
}

impl std::str::FromStr for HostKeyOrigin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = [Self::FirstContact, Self::Pinned].into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| Error::invalid("origin", "use `first_contact` or `pinned`"))
    }
}

/// A remembered key.
#[derive(Debug, Clone)]
pub struct SshHostKeyRow {
    /// Its id.
    pub id: SshHostKeyId,
    /// The relay that reaches the target; none: the server.
    pub relay: Option<RelayId>,
    /// The target.
    pub target: HostPort,
    /// The key.
    pub key: PublicKey,
    /// How it came here.
    pub origin: HostKeyOrigin,
    /// Since when.
    pub created_at: Timestamp,
}

/// A target as somebody reaches it.
#[derive(Debug, Clone, Copy)]
pub struct SshTarget<'a> {
    /// The relay that reaches it; none: the server.
    pub relay: Option<RelayId>,
    /// The target.
    pub target: &'a HostPort,
}

const COLUMNS: &str = "id, relay_id, host, port, public_key, origin, created_at FROM ssh_host_key";

fn host_key_row(row: &Row) -> Result<SshHostKeyRow> {
    let damaged = |what: &str| Error::internal(format!("a remembered host key has a damaged {what}"));
    let relay = row.uuid(1)?;
    let port = u16::try_from(row.i64(3)?).map_err(|_| damaged("port"))?;
    Ok(SshHostKeyRow {
        id: SshHostKeyId::from_uuid(row.uuid(0)?),
        relay: (!relay.is_nil()).then(|| RelayId::from_uuid(relay)),
        target: HostPort::new(&row.text(2)?, port).ok_or_else(|| damaged("host"))?,
        key: row.text(4)?.parse().map_err(|_| damaged("key"))?,
        origin: row.parse(5)?,
        created_at: row.time(6)?,
    })
}

fn place(relay: Option<RelayId>) -> Uuid {
    relay.map_or_else(Uuid::nil, |relay| relay.as_uuid())
}

async fn known(tx: &mut Tx, tenant: TenantId, of: SshTarget<'_>) -> Result<Option<SshHostKeyRow>> {
    let sql = format!("SELECT {COLUMNS} WHERE tenant_id = $1 AND relay_id = $2 AND host = $3 AND port = $4");
    let values = args![tenant, place(of.relay), of.target.host(), i64::from(of.target.port())];
    tx.rows_built(sql, values).await?.first().map(host_key_row).transpose()
}

/// Writes a key down unless one is there. Whoever comes at the same moment waits, and is second.
async fn insert(
    tx: &mut Tx,
    store: &crate::Store,
    tenant: TenantId,
    of: SshTarget<'_>,
    key: &PublicKey,
    origin: HostKeyOrigin,
) -> Result<Option<SshHostKeyRow>> {
    let count = tx.row("SELECT COUNT(*) FROM ssh_host_key WHERE tenant_id = $1", args![tenant]).await?;
    if count.map_or(Ok(0), |row| row.i64(0))? >= KEYS_MAX {
        return Err(Error::conflict(format!("the tenant remembers {KEYS_MAX} host keys: remove some first")));
    }
    let row = SshHostKeyRow {
        id: SshHostKeyId::generate(&**store.clock(), &**store.rng()),
        relay: of.relay,
        target: of.target.clone(),
        key: key.clone(),
        origin,
        created_at: store.clock().now(),
    };
    let inserted = tx
        .execute(
            "INSERT INTO ssh_host_key (tenant_id, id, relay_id, host, port, public_key, origin, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, relay_id, host, port) DO NOTHING",
            args![
                tenant,
                row.id.as_uuid(),
                place(of.relay),
                of.target.host(),
                i64::from(of.target.port()),
                key.to_string(),
                origin.as_str(),
                row.created_at
            ],
        )
        .await?;
    Ok((inserted == 1).then_some(row))
}

/// The same with more to say.
fn told_with(row: &SshHostKeyRow, more: serde_json::Value) -> serde_json::Value {
    match (told(row), more) {
        (serde_json::Value::Object(mut fields), serde_json::Value::Object(more)) => {
            fields.extend(more);
            fields.into()
        }
        (told, _) => told,
    }
}

fn told(row: &SshHostKeyRow) -> serde_json::Value {
    json!({
        "target": row.target.to_string(), "relay": row.relay, "kind": row.key.kind(),
        "fingerprint": row.key.fingerprint(), "origin": row.origin.as_str(),
    })
}

impl Read<ops::SshHostKeyList> {
    /// The remembered keys in the order of their ids.
    pub async fn ssh_host_key_list(
        &mut self,
        after: Option<SshHostKeyId>,
        limit: u32,
    ) -> Result<Page<SshHostKeyRow, SshHostKeyId>> {
        let tenant = self.tenant();
        let sql = format!("SELECT {COLUMNS} WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3");
        let after = after.map_or_else(Uuid::nil, |id| id.as_uuid());
        let rows = self.tx.rows_built(sql, args![tenant, after, i64::from(limit) + 1]).await?;
        Ok(Page::cut(rows.iter().map(host_key_row).collect::<Result<_>>()?, limit, |row| row.id))
    }

    /// What is remembered of a target.
    pub async fn ssh_host_key_of(&mut self, of: SshTarget<'_>) -> Result<Option<SshHostKeyRow>> {
        let tenant = self.tenant();
        known(&mut self.tx, tenant, of).await
    }
}

impl Write<ops::SshHostKeyPin> {
    /// Remembers a key that somebody checked. Another one that is there stays, unless it is the one that this one `replaces`: then no contact comes
    /// between.
    pub async fn ssh_host_key_pin(
        mut self,
        of: SshTarget<'_>,
        key: &PublicKey,
        replaces: Option<SshHostKeyId>,
    ) -> Result<SshHostKeyRow> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        if let Some(relay) = of.relay {
            let sql =
                "SELECT 1 FROM fleet_unit WHERE tenant_id = $1 AND id = $2 AND kind = 'relay' AND revoked_at IS NULL";
            if self.tx.row(sql, args![tenant, relay.as_uuid()]).await?.is_none() {
                return Err(Error::invalid("relay", "there is no such relay"));
            }
        }
        let mut more = json!({});
        if let Some(id) = replaces {
            let before = known(&mut self.tx, tenant, of).await?.filter(|row| row.id == id);
            let sql = "DELETE FROM ssh_host_key WHERE tenant_id = $1 AND id = $2";
            let (Some(before), 1) = (before, self.tx.execute(sql, args![tenant, id.as_uuid()]).await?) else {
                return Err(Error::conflict(format!(
                    "that is not the key that is remembered of `{}`: look again",
                    of.target
                )));
            };
            more = json!({"before": told(&before)});
        }
        let Some(row) = insert(&mut self.tx, &store, tenant, of, key, HostKeyOrigin::Pinned).await? else {
            return Err(Error::conflict(format!(
                "a key of `{}` is remembered already: replace it, or remove it first",
                of.target
            )));
        };
        let detail = told_with(&row, more);
        self.commit(Change::to(Category::Credential, "ssh_host_key", row.id).detail(detail)).await?;
        Ok(row)
    }
}

impl Write<ops::SshHostKeyRemove> {
    /// Forgets a key: the next contact is the first again.
    pub async fn ssh_host_key_remove(mut self, id: SshHostKeyId) -> Result<()> {
        let tenant = self.tenant();
        let sql = format!("SELECT {COLUMNS} WHERE tenant_id = $1 AND id = $2");
        let rows = self.tx.rows_built(sql, args![tenant, id.as_uuid()]).await?;
        let row = host_key_row(rows.first().ok_or(Error::NotFound { what: "host key" })?)?;
        self.tx
            .execute("DELETE FROM ssh_host_key WHERE tenant_id = $1 AND id = $2", args![tenant, id.as_uuid()])
            .await?;
        self.commit(Change::to(Category::Credential, "ssh_host_key", id).detail(told(&row))).await.map(drop)
    }
}

impl Write<ops::SshHostKeyMeet> {
    /// A target of a job or of a validation shows a key that is not the remembered one. The first one ever is remembered; any other changes nothing, and is an alarm.
    /// Answers the key that counts.
    pub async fn ssh_host_key_meet(
        mut self,
        purpose: impl Into<Purpose>,
        of: SshTarget<'_>,
        shown: &PublicKey,
    ) -> Result<SshHostKeyRow> {
        let (tenant, store, purpose) = (self.tenant(), self.store.clone(), purpose.into().told());
        let mut before = known(&mut self.tx, tenant, of).await?;
        if before.is_none() {
            let new = insert(&mut self.tx, &store, tenant, of, shown, HostKeyOrigin::FirstContact).await?;
            if let Some(row) = new {
                let detail = told_with(&row, purpose.into());
                self.commit(Change::to(Category::Credential, "ssh_host_key", row.id).detail(detail)).await?;
                return Ok(row);
            }
            before = known(&mut self.tx, tenant, of).await?;
        }
        // Whoever wrote it down first removed it in this moment: the job comes again.
        let row = before.ok_or_else(|| Error::Unavailable {
            message: "the host's key was removed just now: try again".to_owned(),
            detail: String::new(),
        })?;
        if row.key == *shown {
            return Ok(row);
        }
        let mut more = json!({
            "alarm": true, "reason": "the host shows another key than the remembered one",
            "shown": {"kind": shown.kind(), "fingerprint": shown.fingerprint()},
        });
        if let Some(more) = more.as_object_mut() {
            more.extend(purpose);
        }
        let detail = told_with(&row, more);
        let change = Change::to(Category::Credential, "ssh_host_key", row.id).outcome(Outcome::Deny).detail(detail);
        self.commit(change).await?;
        Ok(row)
    }
}
