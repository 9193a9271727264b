//! What went through the proxies in front of clusters, as relays tell it: one audit record for each call.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use access::{Actor, FleetPermit, Grants, OpCtx, fleet_ops};
use domain::{DestinationId, Error, RequestId, Result, SessionId, TenantId, UserId};
use serde_json::{Value, json};

use crate::Store;
use crate::audit::{self, Category, Change, Outcome};
use crate::db::{Tx, args};
use crate::unit::enter;

/// What a record of a call is called.
const ACTION: &str = "kubernetes_call";

/// One call.
#[derive(Debug, Clone)]
pub struct ClusterCall {
    /// Who asked.
    pub user: UserId,
    /// The session of their token.
    pub session: SessionId,
    /// From where, as far as is known.
    pub from: Option<IpAddr>,
    /// What became of it.
    pub outcome: Outcome,
    /// What was asked, by the relay's word.
    pub detail: Value,
}

/// Calls that a relay tells together.
#[derive(Debug, Clone)]
pub struct CallBatch {
    /// The cluster.
    pub destination: DestinationId,
    /// The relay's run.
    pub run: String,
    /// The batch's place in it, from 1.
    pub number: i64,
    /// Calls before these that were not written down.
    pub lost: u64,
    /// The calls.
    pub calls: Vec<ClusterCall>,
}

/// The user of a session, as this server knows them: a member of the tenant, since a relay hears nothing of anybody else.
pub(crate) async fn who(tx: &mut Tx, tenant: TenantId, user: UserId, session: SessionId) -> Result<Option<Actor>> {
    let row = tx
        .row(
            "SELECT u.email FROM session s JOIN app_user u ON u.id = s.user_id JOIN member m ON m.user_id = u.id AND m.tenant_id = $3 \
             WHERE s.id = $1 AND s.user_id = $2",
            args![session, user, tenant],
        )
        .await?;
    row.map(|row| Ok(Actor::User { id: user, email: row.parse(0)?, session })).transpose()
}

/// Whether this batch comes for the first time; it is noted then.
async fn is_new(tx: &mut Tx, tenant: TenantId, relay: uuid::Uuid, batch: &CallBatch) -> Result<bool> {
    let row = tx
        .row(
            "INSERT INTO access_run (tenant_id, relay_id, run, taken) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant_id, relay_id) DO UPDATE SET run = excluded.run, taken = excluded.taken \
             WHERE access_run.run <> excluded.run OR access_run.taken < excluded.taken RETURNING taken",
            args![tenant, relay, batch.run.as_str(), batch.number],
        )
        .await?;
    Ok(row.is_some())
}

impl Store {
    /// Writes calls down that went to a cluster of the relay that tells. Each is its user's where the session is theirs; otherwise it is the relay's
    /// word about somebody.
    pub async fn access_record(&self, permit: FleetPermit<fleet_ops::AccessRecord>, batch: &CallBatch) -> Result<()> {
        let (tenant, relay) = (permit.tenant(), permit.id().as_uuid());
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let row = tx
            .row(
                "SELECT name FROM destination WHERE tenant_id = $1 AND id = $2 AND relay_id = $3",
                args![tenant, batch.destination, relay],
            )
            .await?;
        let name = row.ok_or(Error::NotFound { what: "destination" })?.text(0)?;
        if !is_new(&mut tx, tenant, relay, batch).await? {
            return Ok(());
        }
        let mut known: BTreeMap<(UserId, SessionId), Option<Actor>> = BTreeMap::new();
        let mut changes = Vec::with_capacity(batch.calls.len() + 1);
        let to = || Change::to(Category::Access, "destination", batch.destination);
        if batch.lost > 0 {
            let detail = json!({"destination": name, "relay": permit.id(), "lost": batch.lost, "alarm": true});
            changes.push((permit.ctx().clone(), to().outcome(Outcome::Fail).detail(detail)));
        }
        for call in &batch.calls {
            let key = (call.user, call.session);
            if let Entry::Vacant(vacant) = known.entry(key) {
                vacant.insert(who(&mut tx, tenant, call.user, call.session).await?);
            }
            let ctx = match known.get(&key).cloned().flatten() {
                Some(actor) => {
                    let request = RequestId::generate(&**self.clock(), &**self.rng());
                    let (clock, rng) = (self.clock().clone(), self.rng().clone());
                    OpCtx::user(actor, Grants::default(), request, call.from, clock, rng)
                }
                None => permit.ctx().clone(),
            };
            let mut detail = json!({"destination": name, "relay": permit.id()});
            if let (Value::Object(detail), Value::Object(more)) = (&mut detail, call.detail.clone()) {
                detail.extend(more);
            }
            changes.push((ctx, to().outcome(call.outcome).detail(detail)));
        }
        if changes.is_empty() {
            return Ok(());
        }
        audit::append_many(&mut tx, tenant, ACTION, &changes).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(())
    }
}
