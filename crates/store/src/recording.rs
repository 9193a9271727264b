//! Recordings of sessions: what a tenant wants recorded, and pieces as relays tell them.
//!
//! Invariants:
//! - each piece is kept once, in its place, under a key of its recording that the vault seals; the hash over all of them is counted here;
//! - only the relay that began a recording adds to it, and nobody adds to one that ended;
//! - a relay's clock decides neither the order of the list nor how long a recording is kept: its word counts as far as it may be so by this server's;
//! - a piece is no record of the audit log: the log has the beginning, and at the end the hash over all of them in a signed statement.

use access::{Actor, FleetPermit, Grants, OpCtx, fleet_ops, ops};
use bytes::Bytes;
use crypto::aead::{self, AeadKey};
use domain::recording::{BYTES_MAX, CHAIN_BEGIN, DURATION_MS_MAX, RETENTION_DAYS, chain};
use domain::{
    DestinationId, DestinationKind, DestinationRole, Digest, Error, RecordingId, RecordingMode, RelayId, RequestId,
    Result, SessionId, TenantId, Timestamp, UserId,
};
use serde_json::{Value, json};

use crate::Store;
use crate::access_record::who;
use crate::audit::{self, Category, Change};
use crate::blob::Blobs;
use crate::condition::{self, Versioned as _};
use crate::db::{Row, Tx, args};
use crate::job::{count, stored};
use crate::known::{At, know};
use crate::unit::{Read, Write, enter};
use crate::vault::cell::{self, RECORDING};
use crate::vault::place;
use crate::{destination, packed};

/// What a tenant wants recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordingPolicy {
    /// In clusters.
    pub kubernetes: RecordingMode,
    /// On hosts.
    pub ssh: RecordingMode,
    /// Whether what is typed is recorded too.
    pub input: bool,
    /// How long recordings are kept, in days.
    pub retention_days: u32,
}

impl Default for RecordingPolicy {
    fn default() -> Self {
        let mode = RecordingMode::BestEffort;
        Self { kubernetes: mode, ssh: mode, input: false, retention_days: RETENTION_DAYS }
    }
}

impl RecordingPolicy {
    /// What counts at a destination of this kind.
    pub fn mode(&self, kind: DestinationKind) -> RecordingMode {
        match kind {
            DestinationKind::Kubernetes => self.kubernetes,
            DestinationKind::Ssh | DestinationKind::Set => self.ssh,
        }
    }

    /// Until when a recording is kept that began at this moment.
    pub fn keeps_until(&self, began: Timestamp) -> Timestamp {
        began.plus_millis(i64::from(self.retention_days) * 86_400_000)
    }
}

/// What a tenant wants recorded.
pub(crate) async fn policy(tx: &mut Tx, tenant: TenantId) -> Result<RecordingPolicy> {
    let row = tx
        .row("SELECT kubernetes, ssh, input, retention_days FROM recording_policy WHERE tenant_id = $1", args![tenant])
        .await?;
    let Some(row) = row else { return Ok(RecordingPolicy::default()) };
    Ok(RecordingPolicy {
        kubernetes: row.parse(0)?,
        ssh: row.parse(1)?,
        input: row.bool(2)?,
        retention_days: u32::try_from(row.i64(3)?).map_err(Error::internal)?,
    })
}

impl Read<ops::RecordingPolicyShow> {
    /// What the tenant wants recorded.
    pub async fn recording_policy_show(&mut self) -> Result<RecordingPolicy> {
        let tenant = self.tenant();
        policy(&mut self.tx, tenant).await
    }
}

impl Write<ops::RecordingPolicyPut> {
    /// Says what the tenant wants recorded, from the next session on, and how long all recordings are kept.
    pub async fn recording_policy_put(mut self, new: &RecordingPolicy) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        condition::alone(&mut self.tx, tenant, "recording policy").await?;
        let before = policy(&mut self.tx, tenant).await?;
        self.check("tenant's recording policy", Some(&before.version()))?;
        self.tx
            .execute(
                "INSERT INTO recording_policy (tenant_id, kubernetes, ssh, input, retention_days, changed_at) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (tenant_id) DO UPDATE SET kubernetes = excluded.kubernetes, ssh = excluded.ssh, input = excluded.input, \
                 retention_days = excluded.retention_days, changed_at = excluded.changed_at",
                args![tenant, new.kubernetes.as_str(), new.ssh.as_str(), new.input, i64::from(new.retention_days), now],
            )
            .await?;
        let shown = |policy: &RecordingPolicy| json!({"kubernetes": policy.kubernetes, "ssh": policy.ssh, "input": policy.input, "retention_days": policy.retention_days});
        let detail = json!({"before": shown(&before), "after": shown(new)});
        self.commit(Change::to(Category::Access, "tenant", tenant).detail(detail)).await.map(drop)
    }
}

/// A recording that a relay begins.
#[derive(Debug, Clone)]
pub struct NewRecording {
    /// Its id.
    pub id: RecordingId,
    /// When the session began, by the relay's clock.
    pub at: Timestamp,
    /// Where.
    pub destination: DestinationId,
    /// Whose session it is, by the relay's word.
    pub user: String,
    /// The same by id.
    pub user_id: UserId,
    /// The session that let them in.
    pub session: SessionId,
    /// As what they came.
    pub role: String,
    /// What else the relay says of it: `token`, `role`, `from`, `call`, `target`.
    pub about: Value,
}

/// A recording.
#[derive(Debug, Clone)]
pub struct RecordingRow {
    /// Its id.
    pub id: RecordingId,
    /// The relay that recorded.
    pub relay: RelayId,
    /// Where.
    pub destination: DestinationId,
    /// The name that it had when the session began.
    pub destination_name: String,
    /// Whose session it is.
    pub user_id: UserId,
    /// Their login name.
    pub user: String,
    /// Whether the session was theirs by what this server knows.
    pub user_known: bool,
    /// The session that let them in.
    pub session: SessionId,
    /// `token`, `role`, `from`, `call`, `target`, by the relay's word, and `grants`.
    pub about: Value,
    /// Whether what was typed is in it.
    pub input: bool,
    /// `open`, `ended` or `cut_off`.
    pub state: String,
    /// When the session began.
    pub began_at: Timestamp,
    /// When it was last heard of.
    pub heard_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Pieces.
    pub chunks: u64,
    /// Bytes of asciicast.
    pub bytes: u64,
    /// The hash over the pieces.
    pub chain: Digest,
    /// How it ended: `reason`, `exit`, `complete`, `output`, `output_sha256`, `input`, `input_sha256`.
    pub ending: Option<Value>,
    /// SHA-256 of the asciicast.
    pub sha256: Option<Digest>,
    /// Ed25519 over its 32 bytes.
    pub signature: Option<Vec<u8>>,
    /// SHA-256 of the signing key's SPKI, in hex.
    pub key_id: Option<String>,
    /// The signed statement.
    pub evidence: Option<domain::EvidenceId>,
}

macro_rules! recording_sql {
    ($rest:literal) => {
        concat!(
            "SELECT id, relay_id, destination_id, destination_name, user_id, user_name, user_known, session_id, about, input, state, \
             began_at, heard_at, ended_at, chunks, bytes, chain, ending, sha256, signature, key_id, evidence_id, sealed \
             FROM recording WHERE tenant_id = $1 ",
            $rest
        )
    };
}
pub(crate) use recording_sql;

pub(crate) fn recording_row(row: &Row) -> Result<RecordingRow> {
    let ending = row.opt_text(17)?.map(|text| serde_json::from_str(&text)).transpose().map_err(Error::internal)?;
    let sha256 = if row.opt_bytes(18)?.is_some() { Some(row.digest(18)?) } else { None };
    Ok(RecordingRow {
        id: RecordingId::from_uuid(row.uuid(0)?),
        relay: RelayId::from_uuid(row.uuid(1)?),
        destination: DestinationId::from_uuid(row.uuid(2)?),
        destination_name: row.text(3)?,
        user_id: UserId::from_uuid(row.uuid(4)?),
        user: row.text(5)?,
        user_known: row.bool(6)?,
        session: SessionId::from_uuid(row.uuid(7)?),
        about: row.json(8)?,
        input: row.bool(9)?,
        state: row.text(10)?,
        began_at: row.time(11)?,
        heard_at: row.time(12)?,
        ended_at: row.opt_time(13)?,
        chunks: count(row, 14)?,
        bytes: count(row, 15)?,
        chain: row.digest(16)?,
        ending,
        sha256,
        signature: row.opt_bytes(19)?,
        key_id: row.opt_text(20)?,
        evidence: row.opt_uuid(21)?.map(domain::EvidenceId::from_uuid),
    })
}

/// One recording, and its sealed key.
pub(crate) async fn find(tx: &mut Tx, tenant: TenantId, id: RecordingId) -> Result<(RecordingRow, Vec<u8>)> {
    let row = tx.row(recording_sql!("AND id = $2"), args![tenant, id]).await?;
    let row = row.ok_or(Error::NotFound { what: "recording" })?;
    Ok((recording_row(&row)?, row.bytes(22)?))
}

/// The key of a recording's pieces.
pub(crate) async fn key(
    tx: &mut Tx,
    store: &Store,
    tenant: TenantId,
    id: RecordingId,
    sealed: &[u8],
) -> Result<AeadKey> {
    let opened = cell::open(tx, store, &RECORDING, tenant, &id.as_uuid().into(), sealed).await?;
    let bytes = <[u8; 32]>::try_from(opened.expose()).map_err(|_| Error::internal("the key of a recording"))?;
    Ok(AeadKey::from_bytes(bytes))
}

/// Where a piece belongs.
pub(crate) fn place_of(tenant: TenantId, id: RecordingId, number: u64) -> Vec<u8> {
    let (tenant, id) = (tenant.as_uuid(), id.as_uuid());
    place(&[b"recording_chunk", tenant.as_bytes(), id.as_bytes(), &number.to_be_bytes()])
}

/// The grants by which somebody holds a role at a destination at this moment.
async fn grants(tx: &mut Tx, tenant: TenantId, new: &NewRecording, now: Timestamp) -> Result<Vec<String>> {
    let Ok(role) = new.role.parse::<DestinationRole>() else { return Ok(Vec::new()) };
    let place = destination::show(tx, tenant, new.destination).await?;
    let mut reach = know(tx, tenant, new.user_id, At::Place(place.id), now).await?.reach(&place, now);
    let held = reach.remove(&role);
    Ok(held.into_iter().flat_map(|held| held.grants).map(|grant| grant.to_string()).collect())
}

/// When a session began as far as a relay's clock may be right: a session that is told now goes on, and none goes on for longer than a recording.
fn may_have_begun(at: Timestamp, now: Timestamp) -> Timestamp {
    at.clamp(now.plus_millis(-DURATION_MS_MAX.cast_signed()), now)
}

/// A relay that adds to a recording, and where it is then.
struct Adding {
    blobs: Blobs,
    chain: Digest,
    digest: Digest,
    blob: (Digest, Bytes),
}

impl Store {
    /// What is to be recorded at a relay's destinations of a kind: whether, and whether input too.
    pub async fn recording_terms(
        &self,
        permit: &FleetPermit<fleet_ops::DestinationRegister>,
        kind: DestinationKind,
    ) -> Result<(RecordingMode, bool)> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        let policy = policy(&mut tx, permit.tenant()).await?;
        Ok((policy.mode(kind), policy.input))
    }

    /// Begins a recording; what is to be recorded. With `off` nothing is kept. Telling it twice begins one.
    pub async fn recording_begin(
        &self,
        permit: FleetPermit<fleet_ops::RecordingBegin>,
        new: &NewRecording,
    ) -> Result<(RecordingMode, bool)> {
        let (tenant, relay, now) = (permit.tenant(), permit.id().as_uuid(), self.clock().now());
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let row = tx
            .row(
                "SELECT name, kind FROM destination WHERE tenant_id = $1 AND id = $2 AND relay_id = $3",
                args![tenant, new.destination, relay],
            )
            .await?;
        let row = row.ok_or(Error::NotFound { what: "destination" })?;
        let (name, kind) = (row.text(0)?, row.parse::<DestinationKind>(1)?);
        let policy = policy(&mut tx, tenant).await?;
        // Where there is no terminal nothing echoes what is sent: it is recorded in any case.
        let is_on_terminal = new.about.pointer("/target/tty").and_then(Value::as_bool).unwrap_or(true);
        let terms = (policy.mode(kind), policy.input || !is_on_terminal);
        if terms.0 == RecordingMode::Off {
            return Ok(terms);
        }
        match find(&mut tx, tenant, new.id).await {
            Ok((before, _)) if before.relay.as_uuid() == relay => return Ok((terms.0, before.input)),
            Ok(_) => return Err(Error::conflict("another recording has this id")),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let actor = who(&mut tx, tenant, new.user_id, new.session).await?;
        let user = match &actor {
            Some(Actor::User { email, .. }) => email.to_string(),
            _ => new.user.clone(),
        };
        let grants = if actor.is_some() { grants(&mut tx, tenant, new, now).await? } else { Vec::new() };
        let mut about = new.about.clone();
        if let Value::Object(about) = &mut about {
            about.insert("grants".to_owned(), json!(grants));
        }
        let sealed = AeadKey::generate(&**self.rng());
        let row_key = new.id.as_uuid().into();
        let sealed = cell::seal(&mut tx, self, &RECORDING, tenant, &row_key, sealed.expose()).await?;
        tx.execute(
            "INSERT INTO recording (tenant_id, id, relay_id, destination_id, destination_name, user_id, user_name, user_known, session_id, \
             about, input, sealed, state, began_at, heard_at, chunks, bytes, chain) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'open', $13, $14, 0, 0, $15)",
            args![
                tenant,
                new.id,
                relay,
                new.destination,
                name.as_str(),
                new.user_id,
                user.as_str(),
                actor.is_some(),
                new.session,
                about.to_string(),
                terms.1,
                sealed.bytes,
                may_have_begun(new.at, now),
                now,
                CHAIN_BEGIN
            ],
        )
        .await?;
        let ctx = match actor {
            Some(actor) => {
                let request = RequestId::generate(&**self.clock(), &**self.rng());
                let from = about.get("from").and_then(Value::as_str).and_then(|text| text.parse().ok());
                OpCtx::user(actor, Grants::default(), request, from, self.clock().clone(), self.rng().clone())
            }
            None => permit.ctx().clone(),
        };
        let mut detail = json!({"destination": name, "relay": permit.id(), "user": user, "mode": terms.0, "input": terms.1, "at_by_relay": new.at});
        if let (Value::Object(detail), Value::Object(about)) = (&mut detail, about) {
            detail.extend(about);
        }
        let change = Change::to(Category::Access, "recording", new.id).detail(detail);
        audit::append(&mut tx, tenant, &ctx, "recording_begin", &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(terms)
    }

    /// Keeps the next piece of a recording. One that is told twice is kept once; one without bytes is a sign of life.
    pub async fn recording_append(
        &self,
        permit: FleetPermit<fleet_ops::RecordingAppend>,
        id: RecordingId,
        number: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let tenant = permit.tenant();
        let Some(adding) = self.recording_adding(&permit, id, number, bytes).await? else { return Ok(()) };
        // The bytes first, the row that names them after: a row never names what a power cut took.
        adding.blobs.put(self, vec![adding.blob.clone()]).await?;
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let taken = tx
            .execute(
                "UPDATE recording SET chunks = $3, bytes = bytes + $4, chain = $5, heard_at = $6 \
                 WHERE tenant_id = $1 AND id = $2 AND state = 'open' AND chunks = $3 - 1",
                args![tenant, id, stored(number), stored(bytes.len() as u64), adding.chain, self.clock().now()],
            )
            .await?;
        if taken == 0 {
            drop(tx);
            adding.blobs.remove(vec![adding.blob.0]).await?;
            return Err(Error::Throttled { wait_s: 1 });
        }
        tx.execute(
            "INSERT INTO recording_chunk (tenant_id, recording_id, number, digest, blob) VALUES ($1, $2, $3, $4, $5)",
            args![tenant, id, stored(number), adding.digest, adding.blob.0],
        )
        .await?;
        tx.commit().await
    }

    /// Whether a piece is the next one, and what is kept of it; none where there is nothing to add.
    async fn recording_adding(
        &self,
        permit: &FleetPermit<fleet_ops::RecordingAppend>,
        id: RecordingId,
        number: u64,
        bytes: &[u8],
    ) -> Result<Option<Adding>> {
        let tenant = permit.tenant();
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let (row, sealed) = find(&mut tx, tenant, id).await?;
        if row.relay.as_uuid() != permit.id().as_uuid() {
            return Err(Error::NotFound { what: "recording" });
        }
        let digest = crypto::sha256(bytes);
        if number <= row.chunks && !bytes.is_empty() {
            let sql = "SELECT digest FROM recording_chunk WHERE tenant_id = $1 AND recording_id = $2 AND number = $3";
            let known = tx.row(sql, args![tenant, id, stored(number)]).await?;
            return match known.map(|row| row.digest(0)).transpose()? {
                Some(known) if known == digest => Ok(None),
                _ => Err(Error::conflict("another piece has this number")),
            };
        }
        if row.state != "open" {
            return Err(Error::conflict("the recording has ended"));
        }
        if bytes.is_empty() {
            drop(tx);
            let mut tx = self.db().write().await?;
            enter(&mut tx, tenant).await?;
            let sql = "UPDATE recording SET heard_at = $3 WHERE tenant_id = $1 AND id = $2 AND state = 'open'";
            tx.execute(sql, args![tenant, id, self.clock().now()]).await?;
            return tx.commit().await.map(|()| None);
        }
        if number != row.chunks + 1 {
            return Err(Error::conflict(format!("the next piece is {}", row.chunks + 1)));
        }
        if row.bytes + bytes.len() as u64 > BYTES_MAX {
            return Err(Error::Limit { which: "bytes of a recording", max: BYTES_MAX });
        }
        let key = key(&mut tx, self, tenant, id, &sealed).await?;
        drop(tx);
        let sealed = aead::seal(&key, &place_of(tenant, id, number), &packed::deflate(bytes)?, &**self.rng());
        let sealed = Bytes::from(sealed.map_err(Error::internal)?);
        Ok(Some(Adding {
            blobs: Blobs::of(self, tenant),
            chain: crypto::sha256(&chain(&row.chain, &digest)),
            digest,
            blob: (crypto::sha256(&sealed), sealed),
        }))
    }
}
