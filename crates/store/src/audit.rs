//! The audit log: appended to in the transaction of the change that it describes, never changed.
//!
//! A record is canonical JSON with every item that AU-3 asks for; what may have to be erased one day (names, addresses, reasons) stands
//! outside it, under a salted commitment. Each record's RFC 6962 leaf hash is stored with it; signed heads come from these leaves.

use access::{Actor, OpCtx, PlatformPermit, ops};
use domain::{AuditId, Digest, Error, EvidenceId, Limits, Result, TenantId, Timestamp};
use serde_json::{Value, json};

use crate::bulk::Batch;
use crate::db::{Tx, args};
use crate::unit::{PlatformWrite, Read, Write, enter, platform_tenant};
use crate::{Page, Store};

/// Longest name of an object in a record, in bytes.
const OBJECT_ID_BYTES: usize = 1_024;

/// What kind of event a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Sign-ins, sign-outs, revocations.
    Authentication,
    /// Denials.
    Authorization,
    /// Credentials made, deleted, used.
    Credential,
    /// Jobs and what they brought.
    Discovery,
    /// Users, tenants, members.
    User,
    /// Artifacts, statements, findings and their judgement.
    Evidence,
    /// Access to destinations.
    Access,
    /// The installation.
    System,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 8] = [
        Self::Authentication,
        Self::Authorization,
        Self::Credential,
        Self::Discovery,
        Self::User,
        Self::Evidence,
        Self::Access,
        Self::System,
    ];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Credential => "credential",
            Self::Discovery => "discovery",
            Self::User => "user",
            Self::Evidence => "evidence",
            Self::Access => "access",
            Self::System => "system",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused.
    Deny,
    /// It was tried and failed.
    Fail,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Deny => "deny",
            Self::Fail => "fail",
        }
    }
}

/// What a change did, for its audit record. Never holds a secret.
#[derive(Debug, Clone)]
pub struct Change {
    category: Category,
    outcome: Outcome,
    object_type: &'static str,
    object_id: String,
    detail: Value,
}

impl Change {
    /// A change that was made to one object.
    pub fn to(category: Category, object_type: &'static str, object_id: impl std::fmt::Display) -> Self {
        Self { category, outcome: Outcome::Success, object_type, object_id: object_id.to_string(), detail: Value::Null }
    }

    /// The same with another outcome.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same with details: what changed, from what to what, why.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }
}

/// A record as it is listed.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// Its place in the tenant's log, from 0.
    pub seq: i64,
    /// Its id.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// The category's spelling.
    pub category: String,
    /// The operation.
    pub action: String,
    /// `success`, `deny`, `fail`.
    pub outcome: String,
    /// Who.
    pub actor: String,
    /// The kind of object.
    pub object_type: String,
    /// Which object.
    pub object_id: String,
    /// The exact canonical bytes.
    pub entry: Vec<u8>,
    /// RFC 6962 leaf hash of `entry`.
    pub leaf: Digest,
    /// The details that the entry commits to.
    pub detail: Value,
}

/// Which records to list; newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only this category.
    pub category: Option<String>,
    /// Only this operation.
    pub action: Option<String>,
    /// Only this outcome.
    pub outcome: Option<String>,
    /// Only by actors whose name or id holds this.
    pub actor: Option<String>,
    /// Only about this object.
    pub object: Option<String>,
    /// Only records that hold this text, in any case of letters, in their operation, actor, object or detail.
    pub text: Option<String>,
    /// Only records from this moment on.
    pub since: Option<Timestamp>,
    /// Only records before this moment.
    pub until: Option<Timestamp>,
    /// Only records before this place.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u32,
}

/// A statement that was stored and becomes a leaf of the log beside the record of the change.
#[derive(Debug)]
pub(crate) struct StatementLeaf {
    pub(crate) id: EvidenceId,
    /// SHA-256 of the bytes that were signed.
    pub(crate) pae: Digest,
    /// When it was stored.
    pub(crate) at: Timestamp,
}

/// What a statement's leaf is listed as. The leaf itself holds the statement's id and digest only.
pub(crate) mod statement_row {
    pub(crate) const ACTION: &str = "evidence_sign";
    pub(crate) const ACTOR: &str = "system:evidence";
    pub(crate) const OBJECT: &str = "evidence";
}

/// What a record commits to: SHA-256 of the salt and of this, which can be erased without the record.
pub(crate) fn committed(who: &str, detail: &str) -> String {
    format!(r#"{{"detail":{detail},"who":{}}}"#, Value::from(who))
}

/// `commit` of a record.
pub(crate) fn commitment(salt: &[u8], who: &str, detail: &str) -> Digest {
    crypto::sha256(&[salt, committed(who, detail).as_bytes()].concat())
}

/// Takes the next `count` places of a log. The head row is locked from here to the end of the transaction, so records of one tenant are
/// ordered and an append is the last thing that a transaction does.
async fn places(tx: &mut Tx, tenant: TenantId, count: usize) -> Result<i64> {
    let count = i64::try_from(count).map_err(Error::internal)?;
    let size = tx
        .row(
            "INSERT INTO audit_head (tenant_id, size) VALUES ($1, $2) \
             ON CONFLICT (tenant_id) DO UPDATE SET size = audit_head.size + excluded.size RETURNING size",
            args![tenant, count],
        )
        .await?
        .ok_or_else(|| Error::internal("audit head returned nothing"))?
        .i64(0)?;
    Ok(size - count)
}

/// Appends a record.
pub(crate) async fn append(
    tx: &mut Tx,
    tenant: TenantId,
    ctx: &OpCtx,
    action: &str,
    change: &Change,
) -> Result<AuditId> {
    append_with(tx, tenant, ctx, action, change, &[]).await
}

/// Appends statements and the record of the change that brought them.
pub(crate) async fn append_with(
    tx: &mut Tx,
    tenant: TenantId,
    ctx: &OpCtx,
    action: &str,
    change: &Change,
    statements: &[StatementLeaf],
) -> Result<AuditId> {
    let written = async {
        let first = places(tx, tenant, statements.len() + 1).await?;
        append_statements(tx, tenant, first, statements).await?;
        let seq = first + i64::try_from(statements.len()).map_err(Error::internal)?;
        let id = append_record(tx, tenant, seq, ctx, action, change).await?;
        crate::log::complete_tiles(tx, tenant, first, seq + 1).await?;
        Ok(id)
    };
    written.await.map_err(unwritten)
}

/// Whatever keeps a record from being written keeps its change from being made; the caller may try again.
fn unwritten(error: Error) -> Error {
    match error {
        Error::Internal { detail } => Error::Unavailable {
            message: "the audit log cannot be written, so nothing was changed: try again, or ask the administrator"
                .to_owned(),
            detail,
        },
        other => other,
    }
}

/// A name that fits into a record: of a longer one its beginning and its digest, so that an attacker who chooses names can neither keep a
/// record from being written nor make two names look like one.
fn bounded_name(name: &str) -> String {
    if name.len() <= OBJECT_ID_BYTES {
        return name.to_owned();
    }
    let begin = name.get(..name.floor_char_boundary(OBJECT_ID_BYTES)).unwrap_or_default();
    format!("{begin}… ({} bytes, sha256:{})", name.len(), crypto::sha256(name.as_bytes()))
}

/// Details as JSON; of more than the limit their beginning and their digest.
fn bounded_detail(detail: &Value) -> String {
    let text = detail.to_string();
    if text.len() <= Limits::AUDIT_RECORD_BYTES {
        return text;
    }
    let begin = text.get(..text.floor_char_boundary(OBJECT_ID_BYTES)).unwrap_or_default();
    let digest = crypto::sha256(text.as_bytes());
    json!({"cut": {"begin": begin, "bytes": text.len(), "sha256": digest}}).to_string()
}

async fn append_statements(tx: &mut Tx, tenant: TenantId, first: i64, statements: &[StatementLeaf]) -> Result<()> {
    if statements.is_empty() {
        return Ok(());
    }
    let entries: Vec<Vec<u8>> =
        statements.iter().map(|leaf| evidence::checkpoint::statement_entry(leaf.id, &leaf.pae)).collect();
    let leaves: Vec<Digest> = entries.iter().map(|entry| evidence::merkle::leaf_hash(entry)).collect();
    let objects: Vec<String> = statements.iter().map(|leaf| leaf.id.to_string()).collect();
    let batch = Batch::new()
        .i64("seq", (first..).take(statements.len()))
        .uuid("id", statements.iter().map(|leaf| leaf.id.as_uuid().as_u128()))
        .i64("at", statements.iter().map(|leaf| leaf.at.as_millis()))
        .text("object_id", objects.iter().map(String::as_str))
        .bytes("entry", entries.iter().map(Vec::as_slice))
        .bytes("leaf", leaves.iter().map(|leaf| leaf.as_bytes().as_slice()));
    tx.bulk(
        &batch,
        "INSERT INTO audit_record (tenant_id, seq, id, at, category, action, outcome, actor, object_type, object_id, entry, leaf) \
         SELECT $1, v.seq, v.id, v.at, $2, $3, $4, $5, $6, v.object_id, v.entry, v.leaf FROM v",
        args![
            tenant,
            Category::Evidence.as_str(),
            statement_row::ACTION,
            Outcome::Success.as_str(),
            statement_row::ACTOR,
            statement_row::OBJECT
        ],
    )
    .await
    .map(drop)
}

/// A record that is ready to be inserted.
struct Ready {
    id: AuditId,
    at: Timestamp,
    category: &'static str,
    outcome: &'static str,
    who: String,
    object_type: &'static str,
    object_id: String,
    entry: Vec<u8>,
    leaf: Digest,
    salt: [u8; 32],
    detail: String,
}

fn ready(tenant: TenantId, seq: i64, ctx: &OpCtx, action: &str, change: &Change) -> Result<Ready> {
    let (id, at) = (AuditId::generate(ctx.clock(), ctx.rng()), ctx.clock().now());
    let mut salt = [0u8; 32];
    ctx.rng().fill(&mut salt);
    let (detail, object_id) = (bounded_detail(&change.detail), bounded_name(&change.object_id));
    let who = match ctx.actor() {
        Actor::User { email, .. } => email.to_string(),
        Actor::ApiKey { id, name, .. } => format!("{name} ({id})"),
        Actor::Agent { id, name, .. } => format!("{name} ({id})"),
        Actor::Relay { id, name, .. } => format!("{name} ({id})"),
        actor @ Actor::System { .. } => actor.to_string(),
    };
    let actor = match ctx.actor() {
        Actor::User { id, session, .. } => json!({"type": "user", "id": id, "session": session}),
        Actor::ApiKey { id, .. } => json!({"type": "api-key", "id": id}),
        Actor::Agent { id, .. } => json!({"type": "agent", "id": id}),
        Actor::Relay { id, .. } => json!({"type": "relay", "id": id}),
        Actor::System { part } => json!({"type": "system", "id": part}),
    };
    let entry = evidence::jcs::canonical(&json!({
        "v": 1,
        "seq": seq,
        "id": id,
        "t": at,
        "tenant": tenant,
        "actor": actor,
        "cat": change.category.as_str(),
        "act": action,
        "obj": {"type": change.object_type, "id": object_id},
        "out": change.outcome.as_str(),
        "src": ctx.ip().map(|ip| ip.to_string()),
        "req": ctx.request(),
        "commit": format!("sha256:{}", commitment(&salt, &who, &detail)),
    }))
    .map_err(Error::internal)?;
    if entry.len() > Limits::AUDIT_RECORD_BYTES {
        return Err(Error::Limit { which: "bytes of an audit record", max: Limits::AUDIT_RECORD_BYTES as u64 });
    }
    let (leaf, object_type) = (evidence::merkle::leaf_hash(&entry), change.object_type);
    let (category, outcome) = (change.category.as_str(), change.outcome.as_str());
    Ok(Ready { id, at, category, outcome, who, object_type, object_id, entry, leaf, salt, detail })
}

async fn append_record(
    tx: &mut Tx,
    tenant: TenantId,
    seq: i64,
    ctx: &OpCtx,
    action: &str,
    change: &Change,
) -> Result<AuditId> {
    let ready = ready(tenant, seq, ctx, action, change)?;
    tx.execute(
        "INSERT INTO audit_record (tenant_id, seq, id, at, category, action, outcome, actor, object_type, object_id, entry, leaf) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        args![
            tenant,
            seq,
            ready.id,
            ready.at,
            ready.category,
            action,
            ready.outcome,
            ready.who,
            ready.object_type,
            ready.object_id,
            ready.entry,
            ready.leaf
        ],
    )
    .await?;
    tx.execute(
        "INSERT INTO audit_detail (tenant_id, seq, salt, detail) VALUES ($1, $2, $3, $4)",
        args![tenant, seq, ready.salt.to_vec(), ready.detail],
    )
    .await?;
    Ok(ready.id)
}

/// Appends many records of one operation, each with who it is about.
pub(crate) async fn append_many(
    tx: &mut Tx,
    tenant: TenantId,
    action: &str,
    changes: &[(OpCtx, Change)],
) -> Result<()> {
    let written = async {
        let first = places(tx, tenant, changes.len()).await?;
        let one = |(seq, (ctx, change)): (i64, &(OpCtx, Change))| ready(tenant, seq, ctx, action, change);
        let all: Vec<Ready> = (first..).zip(changes).map(one).collect::<Result<_>>()?;
        let batch = Batch::new()
            .i64("seq", (first..).take(all.len()))
            .uuid("id", all.iter().map(|ready| ready.id.as_uuid().as_u128()))
            .i64("at", all.iter().map(|ready| ready.at.as_millis()))
            .text("category", all.iter().map(|ready| ready.category))
            .text("outcome", all.iter().map(|ready| ready.outcome))
            .text("actor", all.iter().map(|ready| ready.who.as_str()))
            .text("object_type", all.iter().map(|ready| ready.object_type))
            .text("object_id", all.iter().map(|ready| ready.object_id.as_str()))
            .bytes("entry", all.iter().map(|ready| ready.entry.as_slice()))
            .bytes("leaf", all.iter().map(|ready| ready.leaf.as_bytes().as_slice()));
        tx.bulk(
            &batch,
            "INSERT INTO audit_record (tenant_id, seq, id, at, category, action, outcome, actor, object_type, object_id, entry, leaf) \
             SELECT $1, v.seq, v.id, v.at, v.category, $2, v.outcome, v.actor, v.object_type, v.object_id, v.entry, v.leaf FROM v",
            args![tenant, action],
        )
        .await?;
        let batch = Batch::new()
            .i64("seq", (first..).take(all.len()))
            .bytes("salt", all.iter().map(|ready| ready.salt.as_slice()))
            .text("detail", all.iter().map(|ready| ready.detail.as_str()));
        tx.bulk(
            &batch,
            "INSERT INTO audit_detail (tenant_id, seq, salt, detail) SELECT $1, v.seq, v.salt, v.detail FROM v",
            args![tenant],
        )
        .await?;
        let end = first + i64::try_from(all.len()).map_err(Error::internal)?;
        crate::log::complete_tiles(tx, tenant, first, end).await
    };
    written.await.map_err(unwritten)
}

/// What `LIKE` looks for; nothing for no condition. The signs that mean something to it are escaped.
fn pattern(text: Option<&str>) -> String {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return String::new() };
    let escaped = text.to_lowercase().replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

pub(crate) async fn list(tx: &mut Tx, tenant: TenantId, filter: &AuditFilter) -> Result<Page<AuditRecord, i64>> {
    let limit = i64::from(filter.limit);
    let rows = tx
        .rows(
            "SELECT r.seq, r.id, r.at, r.category, r.action, r.outcome, r.actor, r.object_type, r.object_id, r.entry, r.leaf, COALESCE(d.detail, 'null') \
             FROM audit_record r LEFT JOIN audit_detail d ON d.tenant_id = r.tenant_id AND d.seq = r.seq \
             WHERE r.tenant_id = $1 AND r.seq < $2 AND ($3 = '' OR r.category = $3) AND ($4 = '' OR r.action = $4) \
               AND ($5 = '' OR r.outcome = $5) AND r.at >= $7 AND r.at < $8 AND ($9 = '' OR r.object_id = $9) \
               AND ($10 = '' OR LOWER(r.actor) LIKE $10 ESCAPE '!') \
               AND ($11 = '' OR LOWER(r.action || ' ' || r.actor || ' ' || r.object_id || ' ' || COALESCE(d.detail, '')) LIKE $11 ESCAPE '!') \
             ORDER BY r.seq DESC LIMIT $6",
            args![
                tenant,
                filter.before.unwrap_or(i64::MAX),
                filter.category.clone().unwrap_or_default(),
                filter.action.clone().unwrap_or_default(),
                filter.outcome.clone().unwrap_or_default(),
                limit + 1,
                filter.since.map_or(i64::MIN, Timestamp::as_millis),
                filter.until.map_or(i64::MAX, Timestamp::as_millis),
                filter.object.clone().unwrap_or_default(),
                pattern(filter.actor.as_deref()),
                pattern(filter.text.as_deref())
            ],
        )
        .await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        items.push(AuditRecord {
            seq: row.i64(0)?,
            id: AuditId::from_uuid(row.uuid(1)?),
            at: row.time(2)?,
            category: row.text(3)?,
            action: row.text(4)?,
            outcome: row.text(5)?,
            actor: row.text(6)?,
            object_type: row.text(7)?,
            object_id: row.text(8)?,
            entry: row.bytes(9)?,
            leaf: row.digest(10)?,
            detail: row.json(11)?,
        });
    }
    Ok(Page::cut(items, filter.limit, |record| record.seq))
}

impl Read<ops::AuditList> {
    /// Records of the tenant's log, newest first.
    pub async fn audit_list(&mut self, filter: &AuditFilter) -> Result<Page<AuditRecord, i64>> {
        let tenant = self.tenant();
        list(&mut self.tx, tenant, filter).await
    }
}

impl Write<ops::AuditExport> {
    /// Records in the log that it is exported.
    pub async fn audit_export(self, detail: Value) -> Result<()> {
        let tenant = self.tenant();
        self.commit(Change::to(Category::System, "log", tenant).detail(detail)).await.map(drop)
    }
}

impl PlatformWrite<ops::PlatformAuditExport> {
    /// Records in the platform's own log that it is exported.
    pub async fn platform_audit_export(self, detail: Value) -> Result<()> {
        self.commit(Change::to(Category::System, "log", "platform").detail(detail)).await.map(drop)
    }
}

impl Store {
    /// Records of the platform's own log, newest first.
    pub async fn platform_audit_list(
        &self,
        _permit: PlatformPermit<ops::PlatformAuditList>,
        filter: &AuditFilter,
    ) -> Result<Page<AuditRecord, i64>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, platform_tenant()).await?;
        list(&mut tx, platform_tenant(), filter).await
    }

    /// Records an event that changed nothing else: a sign-in, a denial. `tenant`: none for the platform's own log.
    pub async fn record(
        &self,
        ctx: &OpCtx,
        tenant: Option<TenantId>,
        action: &str,
        change: &Change,
    ) -> Result<AuditId> {
        let tenant = tenant.unwrap_or_else(platform_tenant);
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let id = append(&mut tx, tenant, ctx, action, change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(id)
    }

    /// Records a denial: in the tenant's log for a member whose role lacks the permission, in the platform's for a stranger.
    pub async fn record_denial(
        &self,
        ctx: &OpCtx,
        tenant: Option<TenantId>,
        operation: &'static str,
    ) -> Result<AuditId> {
        let member_of = tenant.filter(|tenant| ctx.role_in(*tenant).is_some());
        let object = tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
        let change = Change::to(Category::Authorization, "operation", operation)
            .outcome(Outcome::Deny)
            .detail(json!({"tenant": object}));
        self.record(ctx, member_of, operation, &change).await
    }
}
