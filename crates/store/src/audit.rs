//! The audit log: appended to in the transaction of the change that it describes, never changed.
//!
//! A record is canonical JSON with every item that AU-3 asks for; what may have to be erased one day (names, addresses, reasons) stands
//! outside it, under a salted commitment. Each record's RFC 6962 leaf hash is stored with it; signed heads come from these leaves.

use access::{Actor, OpCtx, PlatformPermit, ops};
use domain::{AuditId, Digest, Error, Limits, Result, TenantId, Timestamp};
use serde_json::{Value, json};

use crate::db::{Tx, args};
use crate::unit::{Read, enter, platform_tenant};
use crate::{Page, Store};

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
    /// Only records before this place.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u32,
}

/// Appends a record. The tenant's head row is locked from here to the end of the transaction, so records of one tenant are ordered.
pub(crate) async fn append(
    tx: &mut Tx,
    tenant: TenantId,
    ctx: &OpCtx,
    action: &str,
    change: &Change,
) -> Result<AuditId> {
    let size = tx
        .row(
            "INSERT INTO audit_head (tenant_id, size) VALUES ($1, 1) \
             ON CONFLICT (tenant_id) DO UPDATE SET size = audit_head.size + 1 RETURNING size",
            args![tenant],
        )
        .await?
        .ok_or_else(|| Error::internal("audit head returned nothing"))?
        .i64(0)?;
    let seq = size - 1;
    let (id, at) = (AuditId::generate(ctx.clock(), ctx.rng()), ctx.clock().now());
    let mut salt = [0u8; 32];
    ctx.rng().fill(&mut salt);
    let detail = change.detail.to_string();
    let commitment = crypto::sha256(&[&salt[..], detail.as_bytes()].concat());
    let actor = match ctx.actor() {
        Actor::User { id, session, .. } => json!({"type": "user", "id": id, "session": session}),
        Actor::ApiKey { id, .. } => json!({"type": "api-key", "id": id}),
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
        "obj": {"type": change.object_type, "id": change.object_id},
        "out": change.outcome.as_str(),
        "src": ctx.ip().map(|ip| ip.to_string()),
        "req": ctx.request(),
        "commit": format!("sha256:{commitment}"),
    }))
    .map_err(Error::internal)?;
    if entry.len() > Limits::AUDIT_RECORD_BYTES {
        return Err(Error::Limit { which: "bytes of an audit record", max: Limits::AUDIT_RECORD_BYTES as u64 });
    }
    let leaf = evidence::merkle::leaf_hash(&entry);
    let who = match ctx.actor() {
        Actor::User { email, .. } => email.to_string(),
        Actor::ApiKey { id, name, .. } => format!("{name} ({id})"),
        actor @ Actor::System { .. } => actor.to_string(),
    };
    tx.execute(
        "INSERT INTO audit_record (tenant_id, seq, id, at, category, action, outcome, actor, object_type, object_id, entry, leaf) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        args![
            tenant,
            seq,
            id,
            at,
            change.category.as_str(),
            action,
            change.outcome.as_str(),
            who,
            change.object_type,
            change.object_id.as_str(),
            entry,
            leaf
        ],
    )
    .await?;
    tx.execute(
        "INSERT INTO audit_detail (tenant_id, seq, salt, detail) VALUES ($1, $2, $3, $4)",
        args![tenant, seq, salt.to_vec(), detail],
    )
    .await?;
    Ok(id)
}

async fn list(tx: &mut Tx, tenant: TenantId, filter: &AuditFilter) -> Result<Page<AuditRecord, i64>> {
    let limit = i64::from(filter.limit);
    let rows = tx
        .rows(
            "SELECT r.seq, r.id, r.at, r.category, r.action, r.outcome, r.actor, r.object_type, r.object_id, r.entry, r.leaf, d.detail \
             FROM audit_record r JOIN audit_detail d ON d.tenant_id = r.tenant_id AND d.seq = r.seq \
             WHERE r.tenant_id = $1 AND r.seq < $2 AND ($3 = '' OR r.category = $3) AND ($4 = '' OR r.action = $4) \
               AND ($5 = '' OR r.outcome = $5) \
             ORDER BY r.seq DESC LIMIT $6",
            args![
                tenant,
                filter.before.unwrap_or(i64::MAX),
                filter.category.clone().unwrap_or_default(),
                filter.action.clone().unwrap_or_default(),
                filter.outcome.clone().unwrap_or_default(),
                limit + 1
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
