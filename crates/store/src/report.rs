//! What agents report: which machine an agent speaks for, and which state of each scope the graph holds of it.
//!
//! Invariants:
//! - a machine has one agent; another one takes it over only when the first is let in no more;
//! - of one agent one report is taken in at a time, and none that is older than one that was;
//! - while a report is taken in, the scopes that it touches count as not known, so that one that is cut short is asked for anew;
//! - a report that changes nothing writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use access::{FleetPermit, fleet_ops};
use domain::{AgentId, Digest, Error, FleetId, Result, TenantId};
use serde_json::json;
use uuid::Uuid;

use crate::blob::Blobs;
use crate::collection::{About, Collection, artifact_insert, statement_insert};
use crate::db::{Tx, Value, args};
use crate::fleet_credential::{by_tenant, ids};
use crate::job::stored;
use crate::unit::{enter, look};
use crate::work::{self, WorkKind};
use crate::{Category, Change, Store};

/// How long one report may be taken in: longer than a request may take, so that two never are at once.
const BUSY_MS: i64 = 120_000;
/// How long after a change the tenant is judged: what comes in meanwhile is judged along.
const NUDGE_MS: i64 = 5_000;
/// Most scopes of a machine.
const SCOPES: usize = 64;

/// An agent that is asked about.
pub(crate) type Question = (TenantId, AgentId);

/// The right to take in an agent's report.
pub type ReportPermit = FleetPermit<fleet_ops::AgentReport>;

/// What is known of an agent's reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportState {
    /// Its machine; empty before its first report.
    pub machine: String,
    /// Its newest run.
    pub epoch: u64,
    /// The newest report of that run.
    pub sequence: u64,
    /// The state of each scope that is known.
    pub scopes: BTreeMap<String, Digest>,
}

/// A report that is being taken in. Dropped before it has ended, as where its request is given up, it is given back.
pub struct ReportLease {
    store: Store,
    tenant: TenantId,
    id: Uuid,
    machine: String,
    epoch: u64,
    sequence: u64,
    is_over: bool,
}

impl std::fmt::Debug for ReportLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "report {}.{} of {}", self.epoch, self.sequence, self.machine)
    }
}

impl ReportLease {
    /// Gives it back: the report is not taken in, and the next one need not wait.
    pub async fn release(mut self) {
        self.give_back().await;
        self.is_over = true;
    }

    async fn give_back(&self) {
        let released = async {
            let mut tx = self.store.db().write().await?;
            enter(&mut tx, self.tenant).await?;
            tx.execute(
                "UPDATE agent_machine SET busy_id = NULL, busy_until = NULL \
                 WHERE tenant_id = $1 AND machine = $2 AND busy_id = $3",
                args![self.tenant, self.machine.as_str(), self.id],
            )
            .await?;
            tx.commit().await
        };
        if let Err(error) = released.await {
            tracing::debug!(%error, machine = self.machine, "the agent's next report waits for the time of this one to end");
        }
    }
}

impl Drop for ReportLease {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Outside of a runtime nobody is left to write: the lease runs out by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let own =
                Self { store: self.store.clone(), machine: std::mem::take(&mut self.machine), is_over: true, ..*self };
            runtime.spawn(async move { own.give_back().await });
        }
    }
}

/// What is to be done with a report.
#[derive(Debug)]
pub enum ReportBegun {
    /// Nothing: it is older than what was taken, or the same again.
    Known(ReportState),
    /// Take it in, against this state of before.
    Take(ReportLease, ReportState),
}

fn agent(permit: &ReportPermit) -> AgentId {
    match permit.id() {
        FleetId::Agent(id) => id,
        FleetId::Relay(id) => AgentId::from_uuid(id.as_uuid()),
    }
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

async fn state(tx: &mut Tx, tenant: TenantId, agent: AgentId) -> Result<ReportState> {
    let row = tx
        .row(
            "SELECT machine, epoch, sequence FROM agent_machine WHERE tenant_id = $1 AND agent_id = $2",
            args![tenant, agent.as_uuid()],
        )
        .await?;
    let Some(row) = row else { return Ok(ReportState::default()) };
    let machine = row.text(0)?;
    let (epoch, sequence) = (number(row.i64(1)?), number(row.i64(2)?));
    let sql = "SELECT name, digest FROM agent_scope WHERE tenant_id = $1 AND machine = $2 AND digest IS NOT NULL";
    let mut scopes = BTreeMap::new();
    for row in tx.rows(sql, args![tenant, machine.as_str()]).await? {
        scopes.insert(row.text(0)?, row.digest(1)?);
    }
    Ok(ReportState { machine, epoch, sequence, scopes })
}

/// Whether an agent is let in.
async fn is_live(tx: &mut Tx, tenant: TenantId, agent: Uuid, now: domain::Timestamp) -> Result<bool> {
    let row = tx
        .row(
            "SELECT 1 FROM fleet_unit WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL AND cloned_at IS NULL AND expires_at > $3",
            args![tenant, agent, now],
        )
        .await?;
    Ok(row.is_some())
}

/// Makes sure that the agent is the one that speaks for the machine; what is to be recorded if it was not before.
async fn claim(
    tx: &mut Tx,
    (tenant, agent): (TenantId, AgentId),
    machine: &str,
    now: domain::Timestamp,
) -> Result<Option<Change>> {
    // Another one may take it between the look and the claim: then it is looked at once more.
    for _ in 0..2 {
        let row = tx
            .row("SELECT agent_id FROM agent_machine WHERE tenant_id = $1 AND machine = $2", args![tenant, machine])
            .await?;
        let holder = row.map(|row| row.uuid(0)).transpose()?;
        if holder == Some(agent.as_uuid()) {
            return Ok(None);
        }
        if let Some(other) = holder
            && is_live(tx, tenant, other, now).await?
        {
            return Err(Error::conflict(format!(
                "another agent ({}) reports this machine: revoke it first, or give this machine an id of its own \
                 (`systemd-machine-id-setup` after removing /etc/machine-id)",
                AgentId::from_uuid(other)
            )));
        }
        let own = state(tx, tenant, agent).await?;
        if !own.machine.is_empty() {
            return Err(Error::conflict(format!(
                "this agent speaks for the machine `{}`: enroll anew on another one",
                own.machine
            )));
        }
        let taken = match holder {
            None => {
                let sql = "INSERT INTO agent_machine (tenant_id, machine, agent_id, epoch, sequence) VALUES ($1, $2, $3, 0, 0) \
                           ON CONFLICT (tenant_id, machine) DO NOTHING";
                tx.execute(sql, args![tenant, machine, agent.as_uuid()]).await?
            }
            Some(before) => {
                let sql = "UPDATE agent_machine SET agent_id = $3, epoch = 0, sequence = 0, busy_id = NULL, busy_until = NULL \
                           WHERE tenant_id = $1 AND machine = $2 AND agent_id = $4";
                tx.execute(sql, args![tenant, machine, agent.as_uuid(), before]).await?
            }
        };
        if taken > 0 {
            let sql = "UPDATE agent_scope SET digest = NULL WHERE tenant_id = $1 AND machine = $2";
            tx.execute(sql, args![tenant, machine]).await?;
            return Ok(Some(Change::to(Category::Discovery, "agent", agent).detail(json!({"machine": machine}))));
        }
    }
    Err(Error::Throttled { wait_s: 1 })
}

impl Store {
    /// What is known of the agent's reports. Those who ask at the same moment are answered by one look.
    pub async fn report_state(&self, permit: &ReportPermit) -> Result<ReportState> {
        let question = (permit.tenant(), agent(permit));
        if let Some(known) = self.inner.fleet.report(question, self.written_state()) {
            return Ok(known);
        }
        self.inner.reports.ask(question, |questions| self.report_states(questions)).await
    }

    async fn report_states(&self, questions: Vec<Question>) -> Result<Vec<ReportState>> {
        let mut answers = vec![ReportState::default(); questions.len()];
        let now = self.written_state();
        for (tenant, places) in by_tenant(questions.iter().map(|question| question.0)) {
            let mut values = vec![Value::from(tenant)];
            let asked = |place: &usize| questions.get(*place).map(|(_, agent)| agent.as_uuid());
            values.extend(places.iter().filter_map(asked).map(Value::from));
            let sql = format!(
                "SELECT m.agent_id, m.machine, m.epoch, m.sequence, s.name, s.digest FROM agent_machine m \
                 LEFT JOIN agent_scope s ON s.tenant_id = m.tenant_id AND s.machine = m.machine AND s.digest IS NOT NULL \
                 WHERE m.tenant_id = $1 AND m.agent_id IN {}",
                ids(&mut values)
            );
            let mut states: BTreeMap<Uuid, ReportState> = BTreeMap::new();
            for row in look(self, tenant, sql, &values).await? {
                let state = states.entry(row.uuid(0)?).or_default();
                if state.machine.is_empty() {
                    state.machine = row.text(1)?;
                    (state.epoch, state.sequence) = (number(row.i64(2)?), number(row.i64(3)?));
                }
                if let Some(name) = row.opt_text(4)? {
                    state.scopes.insert(name, row.digest(5)?);
                }
            }
            for place in &places {
                let state = asked(place).and_then(|agent| states.get(&agent));
                if let (Some(answer), Some(state)) = (answers.get_mut(*place), state) {
                    answer.clone_from(state);
                }
                if let (Some(question), Some(answer)) = (questions.get(*place), answers.get(*place)) {
                    self.inner.fleet.keep_report(*question, now, answer);
                }
            }
        }
        Ok(answers)
    }

    /// Begins to take in a report that touches these scopes.
    pub async fn report_begin(
        &self,
        permit: &ReportPermit,
        machine: &str,
        (epoch, sequence): (u64, u64),
        touched: &[&str],
    ) -> Result<ReportBegun> {
        let (tenant, agent) = (permit.tenant(), agent(permit));
        let mut unit = self.write(permit.ingest()).await?;
        let now = self.clock().now();
        let change = claim(&mut unit.tx, (tenant, agent), machine, now).await?;
        let before = state(&mut unit.tx, tenant, agent).await?;
        if (epoch, sequence) <= (before.epoch, before.sequence) {
            return Ok(ReportBegun::Known(before));
        }
        let known: BTreeSet<&str> = before.scopes.keys().map(String::as_str).chain(touched.iter().copied()).collect();
        if known.len() > SCOPES {
            return Err(Error::Limit { which: "scopes of one agent", max: SCOPES as u64 });
        }
        let mut id = [0u8; 16];
        self.rng().fill(&mut id);
        let id = Uuid::from_bytes(id);
        let taken = unit
            .tx
            .execute(
                "UPDATE agent_machine SET busy_id = $3, busy_until = $4 \
                 WHERE tenant_id = $1 AND machine = $2 AND (busy_until IS NULL OR busy_until <= $5)",
                args![tenant, machine, id, now.plus_millis(BUSY_MS), now],
            )
            .await?;
        if taken == 0 {
            return Err(Error::Throttled { wait_s: 10 });
        }
        for name in touched {
            unit.tx
                .execute(
                    "INSERT INTO agent_scope (tenant_id, machine, name) VALUES ($1, $2, $3) \
                     ON CONFLICT (tenant_id, machine, name) DO UPDATE SET digest = NULL",
                    args![tenant, machine, *name],
                )
                .await?;
        }
        // Before it is there: whoever gives up meanwhile gives it back.
        let (store, machine, is_over) = (self.clone(), machine.to_owned(), false);
        let lease = ReportLease { store, tenant, id, machine, epoch, sequence, is_over };
        match change {
            // Who speaks for a machine is worth a record; what it says is recorded where the graph changes.
            Some(change) => _ = unit.commit(change).await?,
            None => unit.tx.commit().await?,
        }
        Ok(ReportBegun::Take(lease, before))
    }

    /// Ends it: these scopes are in these states now, and those that are not collected any more are forgotten. `changed`: the graph is
    /// judged soon.
    pub async fn report_end(
        &self,
        permit: &ReportPermit,
        mut lease: ReportLease,
        states: &BTreeMap<String, Digest>,
        forget: &[String],
        changed: bool,
    ) -> Result<ReportState> {
        let (tenant, now) = (permit.tenant(), self.clock().now());
        let machine = lease.machine.as_str();
        let mut unit = self.write(permit.ingest()).await?;
        let held = unit
            .tx
            .execute(
                "UPDATE agent_machine SET epoch = $4, sequence = $5, busy_id = NULL, busy_until = NULL \
                 WHERE tenant_id = $1 AND machine = $2 AND busy_id = $3",
                args![tenant, machine, lease.id, stored(lease.epoch), stored(lease.sequence)],
            )
            .await?;
        if held == 0 {
            return Err(Error::conflict("the report took too long: send it again"));
        }
        for (name, digest) in states {
            unit.tx
                .execute(
                    "UPDATE agent_scope SET digest = $4 WHERE tenant_id = $1 AND machine = $2 AND name = $3",
                    args![tenant, machine, name.as_str(), *digest],
                )
                .await?;
        }
        for name in forget {
            unit.tx
                .execute(
                    "DELETE FROM agent_scope WHERE tenant_id = $1 AND machine = $2 AND name = $3",
                    args![tenant, machine, name.as_str()],
                )
                .await?;
        }
        if changed {
            work::nudge(&mut unit.tx, tenant, WorkKind::Evaluate, now.plus_millis(NUDGE_MS)).await?;
        }
        let state = state(&mut unit.tx, tenant, agent(permit)).await?;
        unit.tx.commit().await?;
        lease.is_over = true;
        Ok(state)
    }

    /// Which of these kept replies are there already.
    pub async fn artifacts_known(&self, permit: &ReportPermit, digests: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        let mut known = BTreeSet::new();
        for digest in digests {
            let sql = "SELECT 1 FROM artifact WHERE tenant_id = $1 AND digest = $2";
            if tx.row(sql, args![permit.tenant(), *digest]).await?.is_some() {
                known.insert(*digest);
            }
        }
        Ok(known)
    }

    /// Keeps what an agent saw of a scope, as [`Store::collection_add`] does for a task. `known`: replies that it rests on and that are
    /// there already.
    pub async fn report_collection_add(
        &self,
        permit: &ReportPermit,
        collection: Collection,
        known: &BTreeSet<Digest>,
    ) -> Result<()> {
        let tenant = permit.tenant();
        let bytes = collection.artifacts.iter().map(|artifact| (artifact.digest, artifact.bytes.clone())).collect();
        Blobs::of(self, tenant).put(self, bytes).await?;
        let (scope, statement) = (collection.scope.as_str(), &collection.statement);
        let key = Uuid::from_u128(inventory::ScopeKey::of(&collection.source, &collection.scope).0);
        let mut unit = self.write(permit.collect()).await?;
        let now = self.clock().now();
        statement_insert(&mut unit, statement, About { scope: Some(scope), ..About::default() }, now).await?;
        for artifact in &collection.artifacts {
            artifact_insert(&mut unit.tx, tenant, statement.id, artifact, now).await?;
        }
        for digest in known {
            unit.tx
                .execute(
                    "INSERT INTO evidence_artifact (tenant_id, evidence_id, digest, about) VALUES ($1, $2, $3, '') \
                     ON CONFLICT (tenant_id, evidence_id, digest, about) DO NOTHING",
                    args![tenant, statement.id, *digest],
                )
                .await?;
        }
        unit.tx
            .execute(
                "INSERT INTO collection (tenant_id, id, agent_id, scope_key, scope, coverage, reason, nodes, edges, call_count, \
                 started_at, finished_at, evidence_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                args![
                    tenant,
                    collection.id,
                    agent(permit).as_uuid(),
                    key,
                    scope,
                    collection.coverage.as_str(),
                    collection.coverage.reason().map(str::to_owned),
                    stored(collection.nodes),
                    stored(collection.edges),
                    stored(collection.calls),
                    collection.started,
                    collection.finished,
                    statement.id.as_uuid()
                ],
            )
            .await?;
        let detail = json!({
            "scope": scope,
            "coverage": collection.coverage.as_str(),
            "calls": collection.calls,
            "artifacts": collection.artifacts.len() + known.len(),
            "statement": statement.id,
            "statement_sha256": crypto::sha256(&statement.pae),
        });
        unit.commit(Change::to(Category::Evidence, "collection", collection.id).detail(detail)).await.map(drop)
    }
}
