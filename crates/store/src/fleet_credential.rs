//! Credentials of agents and relays: who comes with one, what was used of its proofs, and the next one.
//!
//! Every proof carries a number that its signer never uses twice. The unit's row holds the greatest that was written down, and the id of that
//! proof: a server writes it down before the next ones are more than a few ahead, so that every server knows about where its signer is
//! (ADR 0029). A credential that was replaced by one that was used since is a copy's, if it comes back.

use std::collections::BTreeMap;

use access::{Actor, FleetOperation, FleetPermit, OpCtx};
use domain::{DisplayName, Error, FleetCredentialId, FleetId, Result, TenantId, Timestamp};
use serde_json::json;

use crate::Store;
use crate::audit::{self, Category, Change, Outcome};
use crate::db::{Row, Tx, Value, args};
use crate::enrollment::NewFleetCredential;
use crate::fleet::{self, UnitState};
use crate::unit::{enter, look};

/// How long a credential is good after the next one was used: for requests that were under way.
const OVERLAP_MS: i64 = 10 * 60_000;
/// How many replaced credentials are remembered, so that one that comes back is known for a copy's.
const REMEMBERED: i64 = 8;

/// An agent or a relay that is let in, if its secret and its proof are right.
#[derive(Debug, Clone)]
pub struct LiveUnit {
    /// Its id.
    pub id: FleetId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: DisplayName,
    /// Its program's version.
    pub version: String,
    /// The public half of its key.
    pub public_key: Vec<u8>,
    /// Which credential it named.
    pub credential: FleetCredentialId,
    /// That credential's stored form.
    pub hash: String,
    /// Whether that credential was used before.
    pub used_before: bool,
    /// The number of the last proof that was written down.
    pub number: i64,
    /// And its id.
    pub proof_id: String,
    /// When it was last seen, to the minute.
    pub last_seen_at: Option<Timestamp>,
    /// From where.
    pub last_seen_ip: Option<String>,
}

impl LiveUnit {
    /// As whom it acts.
    pub fn actor(&self) -> Actor {
        let (name, tenant) = (self.name.clone(), self.tenant);
        match self.id {
            FleetId::Agent(id) => Actor::Agent { id, name, tenant },
            FleetId::Relay(id) => Actor::Relay { id, name, tenant },
        }
    }
}

/// Whom a credential names.
#[derive(Debug, Clone)]
pub enum FoundUnit {
    /// Nobody.
    Unknown,
    /// Somebody who is not let in; why is for the log only.
    Refused {
        /// Why.
        reason: &'static str,
    },
    /// Somebody whose credential was replaced: whoever brings it has a copy of what was there before.
    Superseded(Box<LiveUnit>),
    /// Somebody who is let in.
    Live(Box<LiveUnit>),
}

/// What is written down of a request.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The number of its proof.
    pub number: i64,
    /// And its id.
    pub proof_id: &'a str,
    /// Its program's version.
    pub version: &'a str,
}

/// How a server came to know that a key is used by more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneSign {
    /// Two proofs with one number.
    SameNumber,
    /// A proof with a number from long before.
    OldNumber,
    /// A credential that was replaced.
    OldCredential,
}

impl CloneSign {
    const fn as_str(self) -> &'static str {
        match self {
            Self::SameNumber => "two proofs with one number",
            Self::OldNumber => "a proof with a number from long before",
            Self::OldCredential => "a credential that was replaced",
        }
    }
}

/// What is written down of somebody who was seen before, from the same address.
#[derive(Debug, Clone)]
pub(crate) struct SeenAgain {
    tenant: TenantId,
    id: FleetId,
    pub(crate) number: i64,
    pub(crate) proof_id: String,
    pub(crate) ip: Option<String>,
    pub(crate) version: String,
}

impl SeenAgain {
    /// Within the tenant. False: a later one was there before, or it ended.
    async fn write(&self, tx: &mut Tx, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE fleet_unit SET number = $3, proof_id = $4, last_seen_at = $5, last_seen_ip = $6, version = $7 \
             WHERE tenant_id = $1 AND id = $2 AND number < $3 AND revoked_at IS NULL AND cloned_at IS NULL";
        let (proof, version) = (self.proof_id.as_str(), self.version.as_str());
        tx.execute(sql, args![self.tenant, self.id, self.number, proof, now, self.ip.clone(), version])
            .await
            .map(|changed| changed > 0)
    }
}

pub(crate) async fn insert(
    tx: &mut Tx,
    tenant: TenantId,
    unit: FleetId,
    new: &NewFleetCredential,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO fleet_credential (tenant_id, id, unit_id, hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        args![tenant, new.id, unit, new.hash.as_str(), now, new.expires_at],
    )
    .await
    .map(drop)
}

/// A credential that is looked up: its tenant, whose it is, its id.
pub(crate) type Question = (TenantId, FleetId, FleetCredentialId);

const FOUND: &str = "SELECT u.name, u.version, u.public_key, u.revoked_at, u.cloned_at, u.number, u.proof_id, u.last_seen_at, \
     u.last_seen_ip, c.hash, c.expires_at, c.first_used_at, c.superseded_at, t.deleted_at, c.id, u.id, u.kind \
     FROM fleet_credential c JOIN fleet_unit u ON u.tenant_id = c.tenant_id AND u.id = c.unit_id JOIN tenant t ON t.id = c.tenant_id \
     WHERE c.tenant_id = $1 AND c.id IN ";

fn found(row: &Row, (tenant, id, credential): Question, now: Timestamp) -> Result<FoundUnit> {
    let superseded_at = row.opt_time(12)?;
    let (cloned, revoked) = (row.opt_time(4)?.is_some(), row.opt_time(3)?.is_some());
    let state = UnitState::of(now, row.time(10)?, cloned, revoked);
    let reason = match state {
        UnitState::Revoked => "revoked",
        UnitState::Cloned => "cloned",
        UnitState::Expired => "expired",
        UnitState::Active if row.opt_time(13)?.is_some() => "tenant closed",
        UnitState::Active => {
            let live = Box::new(LiveUnit {
                id,
                tenant,
                name: row.parse(0)?,
                version: row.text(1)?,
                public_key: row.bytes(2)?,
                credential,
                hash: row.text(9)?,
                used_before: row.opt_time(11)?.is_some(),
                number: row.i64(5)?,
                proof_id: row.text(6)?,
                last_seen_at: row.opt_time(7)?,
                last_seen_ip: row.opt_text(8)?,
            });
            let replaced = superseded_at.is_some_and(|at| now.millis_since(at) >= OVERLAP_MS);
            return Ok(if replaced { FoundUnit::Superseded(live) } else { FoundUnit::Live(live) });
        }
    };
    Ok(FoundUnit::Refused { reason })
}

/// When somebody who is let in is so no more, if nothing changes.
fn live_until(row: &Row) -> Result<Timestamp> {
    let (expires, superseded) = (row.time(10)?, row.opt_time(12)?);
    Ok(superseded.map_or(expires, |at| expires.min(at.plus_millis(OVERLAP_MS))))
}

/// The places of those who ask, by their tenants.
pub(crate) fn by_tenant(tenants: impl Iterator<Item = TenantId>) -> BTreeMap<TenantId, Vec<usize>> {
    let mut places: BTreeMap<TenantId, Vec<usize>> = BTreeMap::new();
    for (place, tenant) in tenants.enumerate() {
        places.entry(tenant).or_default().push(place);
    }
    places
}

/// `($2, $3, …)` for so many ids, as one of few texts: engines keep what they made of a text.
pub(crate) fn ids(values: &mut Vec<Value>) -> String {
    if let (true, Some(last)) = (values.len() > 1, values.last().cloned()) {
        values.resize((values.len() - 1).next_power_of_two() + 1, last);
    }
    let numbers: Vec<String> = (2..=values.len()).map(|number| format!("${number}")).collect();
    format!("({})", numbers.join(", "))
}

impl Store {
    /// Whom a credential names that this installation signed for this tenant. The caller still has to check the secret and the proof. Those who ask
    /// at the same moment are answered by one look, which is not older than any of their questions; where only this server writes, what was read
    /// since the last change is as new.
    pub async fn fleet_find(&self, tenant: TenantId, id: FleetId, credential: FleetCredentialId) -> Result<FoundUnit> {
        let question = (tenant, id, credential);
        if let Some(unit) = self.inner.fleet.unit(question, self.written_state(), self.clock().now()) {
            return Ok(FoundUnit::Live(Box::new(unit)));
        }
        self.inner.finds.ask((tenant, id, credential), |questions| self.find_all(questions)).await
    }

    async fn find_all(&self, questions: Vec<Question>) -> Result<Vec<FoundUnit>> {
        let (now, state) = (self.clock().now(), self.written_state());
        let mut answers = vec![FoundUnit::Unknown; questions.len()];
        for (tenant, places) in by_tenant(questions.iter().map(|question| question.0)) {
            let asked = |place: &usize| questions.get(*place).copied();
            let mut values = vec![Value::from(tenant)];
            values.extend(places.iter().filter_map(asked).map(|(_, _, credential)| Value::from(credential)));
            let sql = [FOUND, &ids(&mut values)].concat();
            for row in look(self, tenant, sql, &values).await? {
                let whose = (FleetId::of(row.parse(16)?, row.uuid(15)?), FleetCredentialId::from_uuid(row.uuid(14)?));
                for place in &places {
                    if let (Some(question), Some(answer)) = (asked(place), answers.get_mut(*place))
                        && (question.1, question.2) == whose
                    {
                        *answer = found(&row, question, now)?;
                        if let FoundUnit::Live(unit) = &*answer {
                            self.inner.fleet.keep_unit(question, state, live_until(&row)?, unit);
                        }
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Writes down that a proof was used, with where its signer is seen and what it runs; `false` where one with this number or a greater one was before, on
    /// whichever server. The first use of a credential ends those before it; a use from another address is in the audit log. Those who are only
    /// seen again at the same moment are written down in one transaction; each waits for it.
    pub async fn fleet_seen(&self, ctx: &OpCtx, unit: &LiveUnit, seen: &Seen<'_>) -> Result<bool> {
        let ip = ctx.ip().map(|ip| ip.to_canonical().to_string());
        if unit.used_before && unit.last_seen_ip == ip {
            let again = SeenAgain {
                tenant: unit.tenant,
                id: unit.id,
                number: seen.number,
                proof_id: seen.proof_id.to_owned(),
                ip,
                version: seen.version.to_owned(),
            };
            let (question, now) = ((unit.tenant, unit.id, unit.credential), self.clock().now());
            let written = self.inner.sightings.ask(again.clone(), |seen| self.seen_again(seen)).await;
            match &written {
                // What is remembered is not later than what was written.
                Ok(true) => self.inner.fleet.saw_unit(question, &again, now),
                _ => self.inner.fleet.forget_unit(question),
            }
            return written;
        }
        let now = self.clock().now();
        let mut tx = self.db().write().await?;
        enter(&mut tx, unit.tenant).await?;
        let seen = SeenAgain {
            tenant: unit.tenant,
            id: unit.id,
            number: seen.number,
            proof_id: seen.proof_id.to_owned(),
            ip: ip.clone(),
            version: seen.version.to_owned(),
        };
        if !seen.write(&mut tx, now).await? {
            return Ok(false);
        }
        if !unit.used_before {
            tx.execute(
                "UPDATE fleet_credential SET first_used_at = $3 WHERE tenant_id = $1 AND id = $2 AND first_used_at IS NULL",
                args![unit.tenant, unit.credential, now],
            )
            .await?;
            tx.execute(
                "UPDATE fleet_credential SET superseded_at = $4 \
                 WHERE tenant_id = $1 AND unit_id = $2 AND id <> $3 AND superseded_at IS NULL AND first_used_at IS NOT NULL",
                args![unit.tenant, unit.id, unit.credential, now],
            )
            .await?;
        }
        let moved = unit.last_seen_ip != ip;
        if moved {
            let kind = unit.id.kind().as_str();
            let change =
                Change::to(Category::Authentication, kind, unit.id).detail(json!({"before": unit.last_seen_ip}));
            audit::append(&mut tx, unit.tenant, ctx, if kind == "agent" { "agent_use" } else { "relay_use" }, &change)
                .await?;
        }
        tx.commit().await?;
        if moved {
            self.say_log_grew(unit.tenant);
        }
        Ok(true)
    }

    async fn seen_again(&self, all: Vec<SeenAgain>) -> Result<Vec<bool>> {
        let (now, mut written) = (self.clock().now(), vec![false; all.len()]);
        // In the order of their ids, as on every server: two of them never wait for each other.
        let mut order: Vec<(usize, &SeenAgain)> = all.iter().enumerate().collect();
        order.sort_by_key(|(_, seen)| (seen.tenant, seen.id, seen.number));
        let (mut tx, mut inside) = (self.db().write().await?, None);
        for (place, seen) in order {
            if inside != Some(seen.tenant) {
                enter(&mut tx, seen.tenant).await?;
                inside = Some(seen.tenant);
            }
            if let Some(written) = written.get_mut(place) {
                *written = seen.write(&mut tx, now).await?;
            }
        }
        // It concerns those alone who wait for it, who change or forget what is remembered of them.
        tx.commit_unremarked().await?;
        Ok(written)
    }

    /// Lets in neither of two who use one key, and says so in the audit log: once, whichever server sees it.
    pub async fn fleet_cloned(&self, ctx: &OpCtx, unit: &LiveUnit, sign: CloneSign, number: i64) -> Result<()> {
        let now = self.clock().now();
        let mut tx = self.db().write().await?;
        enter(&mut tx, unit.tenant).await?;
        let first = tx
            .execute(
                "UPDATE fleet_unit SET cloned_at = $3 WHERE tenant_id = $1 AND id = $2 AND cloned_at IS NULL AND revoked_at IS NULL",
                args![unit.tenant, unit.id, now],
            )
            .await?;
        if first == 0 {
            return Ok(());
        }
        fleet::end(&mut tx, unit.id, now).await?;
        let detail = json!({
            "alarm": true, "reason": sign.as_str(), "name": unit.name.as_str(), "number": number, "number_before": unit.number,
            "last_seen_at": unit.last_seen_at, "last_seen_ip": unit.last_seen_ip,
        });
        let kind = unit.id.kind().as_str();
        let change = Change::to(Category::Authentication, kind, unit.id).outcome(Outcome::Deny).detail(detail);
        audit::append(&mut tx, unit.tenant, ctx, if kind == "agent" { "agent_clone" } else { "relay_clone" }, &change)
            .await?;
        tx.commit().await?;
        self.say_log_grew(unit.tenant);
        self.say_ended(unit.id);
        tracing::warn!(unit = %unit.id, reason = sign.as_str(), "an agent or relay was cloned: neither copy is let in");
        Ok(())
    }

    /// Records that one of the fleet tried what it may not.
    pub async fn fleet_denied(&self, ctx: &OpCtx, unit: &LiveUnit, operation: &str, reason: &str) -> Result<()> {
        let change = Change::to(Category::Authorization, "operation", operation)
            .outcome(Outcome::Deny)
            .detail(json!({"reason": reason}));
        self.record(ctx, Some(unit.tenant), operation, &change).await.map(drop)
    }

    /// Makes the next credential of whoever holds the permit. The one so far is good until the new one is used; one that was never used is
    /// none any more.
    pub async fn fleet_renew<O: FleetOperation>(
        &self,
        permit: FleetPermit<O>,
        used: FleetCredentialId,
        new: &NewFleetCredential,
        version: &str,
    ) -> Result<()> {
        let (tenant, id, now) = (permit.tenant(), permit.id(), self.clock().now());
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let live = tx
            .execute(
                "UPDATE fleet_unit SET expires_at = $3, version = $4 \
                 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL AND cloned_at IS NULL",
                args![tenant, id, new.expires_at, version],
            )
            .await?;
        if live == 0 {
            return Err(Error::Unauthenticated);
        }
        tx.execute(
            "DELETE FROM fleet_credential WHERE tenant_id = $1 AND unit_id = $2 AND id <> $3 AND first_used_at IS NULL",
            args![tenant, id, used],
        )
        .await?;
        tx.execute(
            "DELETE FROM fleet_credential WHERE tenant_id = $1 AND unit_id = $2 AND superseded_at IS NOT NULL AND id NOT IN \
             (SELECT id FROM fleet_credential WHERE tenant_id = $1 AND unit_id = $2 AND superseded_at IS NOT NULL \
              ORDER BY superseded_at DESC, id DESC LIMIT $3)",
            args![tenant, id, REMEMBERED],
        )
        .await?;
        insert(&mut tx, tenant, id, new, now).await?;
        let detail = json!({"expires_at": new.expires_at, "version": version});
        let change = Change::to(Category::Authentication, id.kind().as_str(), id).detail(detail);
        audit::append(&mut tx, tenant, permit.ctx(), O::NAME, &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(())
    }
}
