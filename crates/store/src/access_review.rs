//! Reviews of access: what gives access is written down as it is, and people say of each thing whether it stays (ADR 0058).
//!
//! Invariants:
//! - nobody decides about what gives access to themselves, alone or through a group;
//! - what is revoked is taken when it is said, with the audit record that taking it by hand leaves;
//! - what was reviewed does not change afterwards: an item is a copy, and a grant that says something else by then is not attested as kept.

use std::collections::{BTreeMap, BTreeSet};

use access::grant::covers;
use access::{MemberOperation, MemberPermit, OpCtx, Permission, member_ops, ops};
use domain::{
    AccessReviewId, DestinationRole, Error, EvidenceId, GrantId, GroupId, Labels, Result, Slug, Subject, TenantId,
    Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::access_request::GlassPolicy;
use crate::audit::{self, Category, Change};
use crate::bulk::Batch;
use crate::db::{Row, Tx, args};
use crate::everybody::{Somebody, everybody};
use crate::grant::{self, GrantRow};
use crate::unit::{Write, enter};
use crate::{Page, Store, access_request, destination, grant_end, group, host_set};

/// Most items of a review.
const ITEMS_MAX: usize = 20_000;
/// Most items that are decided at once.
pub(crate) const DECIDED_MAX: usize = 1_000;
/// Most reviewers.
const REVIEWERS_MAX: usize = 50;
/// The longest that a review may be open, in milliseconds.
const OPEN_MS: i64 = 366 * 24 * 3_600_000;

/// What is reviewed. What is empty does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReviewScope {
    /// Access to these destinations, by name or id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// Access to destinations with all of these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// What these groups have, and who is in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Slug>,
    /// What these members have, by login name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Access in these roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<DestinationRole>,
}

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReviewDecision {
    /// It stays.
    Keep,
    /// It is taken.
    Revoke,
}

impl ReviewDecision {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Revoke => "revoke",
        }
    }
}

impl std::str::FromStr for ReviewDecision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "keep" => Ok(Self::Keep),
            "revoke" => Ok(Self::Revoke),
            other => {
                Err(Error::invalid("decision", format!("`{}` is neither `keep` nor `revoke`", other.escape_debug())))
            }
        }
    }
}

/// A review to begin.
#[derive(Debug, Clone)]
pub struct NewReview {
    /// What people call it.
    pub name: String,
    /// What is reviewed.
    pub scope: ReviewScope,
    /// Who decides, by login name or id.
    pub reviewers: Vec<String>,
    /// What becomes of what nobody decides.
    pub undecided: ReviewDecision,
    /// Until when it is open.
    pub ends_at: Timestamp,
}

/// A review.
#[derive(Debug, Clone)]
pub struct ReviewRow {
    /// Its id.
    pub id: AccessReviewId,
    /// What people call it.
    pub name: String,
    /// What is reviewed.
    pub scope: ReviewScope,
    /// Who decides, by login name.
    pub reviewers: Vec<String>,
    /// What becomes of what nobody decides.
    pub undecided: ReviewDecision,
    /// `open`, `closed`, or `attested` once its evidence is signed.
    pub state: String,
    /// Since when.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Until when it is open.
    pub ends_at: Timestamp,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// By whom.
    pub closed_by: Option<String>,
    /// Items.
    pub items: i64,
    /// Of these, decided.
    pub decided: i64,
    /// Of these, to be taken.
    pub revoked: i64,
    /// The evidence that it ended in.
    pub evidence: Vec<EvidenceId>,
}

/// One thing that gives access, as it was when the review began.
#[derive(Debug, Clone)]
pub struct ReviewItemRow {
    /// Its number in the review, from 1.
    pub number: i64,
    /// `grant`, or `member`: a place in a group that something is granted to, or whose members may break glass.
    pub kind: String,
    /// What it said.
    pub shown: Value,
    /// What was decided.
    pub decision: Option<ReviewDecision>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// By whom.
    pub decided_by: Option<String>,
    /// `kept`, `changed` (kept, and it says something else than was reviewed), `revoked`, `gone`, or `elsewhere`: to be taken where the group is kept.
    pub outcome: Option<String>,
    /// Why the actor may not decide it.
    pub undecidable: Option<String>,
    pub(crate) grant: Option<GrantId>,
    pub(crate) group: Option<GroupId>,
    pub(crate) user: Option<UserId>,
}

impl ReviewItemRow {
    /// Whether it gives access to this user, who is in these groups.
    fn is_of(&self, user: UserId, groups: &BTreeSet<GroupId>) -> bool {
        self.user.map_or_else(|| self.group.is_some_and(|group| groups.contains(&group)), |of| of == user)
    }
}

const ONLY_REVIEWERS: &str = "only the reviewers of a review decide";

fn not_ones_own(number: i64) -> String {
    format!("item {number} gives access to yourself: another reviewer decides about it")
}

const ITEM: &str = "SELECT number, kind, shown, decision, reason, decided_at, decided_by, outcome, grant_id, group_id, user_id \
     FROM access_review_item WHERE tenant_id = $1 AND review_id = $2";

fn item_row(row: &Row) -> Result<ReviewItemRow> {
    let decision = row.opt_text(3)?.map(|text| text.parse()).transpose().map_err(|_| Error::internal("a decision"))?;
    Ok(ReviewItemRow {
        number: row.i64(0)?,
        kind: row.text(1)?,
        shown: row.json(2)?,
        decision,
        reason: row.opt_text(4)?,
        decided_at: row.opt_time(5)?,
        decided_by: row.opt_text(6)?,
        outcome: row.opt_text(7)?,
        undecidable: None,
        grant: row.opt_uuid(8)?.map(GrantId::from_uuid),
        group: row.opt_uuid(9)?.map(GroupId::from_uuid),
        user: row.opt_uuid(10)?.map(UserId::from_uuid),
    })
}

/// Every item, in the order of their numbers.
pub(crate) async fn items(tx: &mut Tx, tenant: TenantId, id: AccessReviewId) -> Result<Vec<ReviewItemRow>> {
    let rows = tx.rows_built(format!("{ITEM} ORDER BY number"), args![tenant, id]).await?;
    rows.iter().map(item_row).collect()
}

const COLUMNS: &str = "r.id, r.name, r.scope, r.undecided, r.state, r.created_at, r.created_by, r.ends_at, r.closed_at, r.closed_by, \
     (SELECT COUNT(*) FROM access_review_item i WHERE i.tenant_id = r.tenant_id AND i.review_id = r.id), \
     (SELECT COUNT(*) FROM access_review_item i WHERE i.tenant_id = r.tenant_id AND i.review_id = r.id AND i.decision IS NOT NULL), \
     (SELECT COUNT(*) FROM access_review_item i WHERE i.tenant_id = r.tenant_id AND i.review_id = r.id AND i.decision = 'revoke') \
     FROM access_review r";

async fn review_row(tx: &mut Tx, tenant: TenantId, row: &Row) -> Result<ReviewRow> {
    let id = AccessReviewId::from_uuid(row.uuid(0)?);
    let reviewers = tx
        .rows(
            "SELECT u.email FROM access_reviewer w JOIN app_user u ON u.id = w.user_id WHERE w.tenant_id = $1 AND w.review_id = $2 \
             ORDER BY u.email",
            args![tenant, id],
        )
        .await?;
    let evidence =
        "SELECT evidence_id FROM access_review_evidence WHERE tenant_id = $1 AND review_id = $2 ORDER BY evidence_id";
    let evidence = tx.rows(evidence, args![tenant, id]).await?;
    Ok(ReviewRow {
        id,
        name: row.text(1)?,
        scope: row.json(2)?,
        reviewers: reviewers.iter().map(|row| row.text(0)).collect::<Result<_>>()?,
        undecided: row.parse(3)?,
        state: row.text(4)?,
        created_at: row.time(5)?,
        created_by: row.text(6)?,
        ends_at: row.time(7)?,
        closed_at: row.opt_time(8)?,
        closed_by: row.opt_text(9)?,
        items: row.i64(10)?,
        decided: row.i64(11)?,
        revoked: row.i64(12)?,
        evidence: evidence.iter().map(|row| row.uuid(0).map(EvidenceId::from_uuid)).collect::<Result<_>>()?,
    })
}

pub(crate) async fn show(tx: &mut Tx, tenant: TenantId, id: AccessReviewId) -> Result<ReviewRow> {
    let sql = format!("SELECT {COLUMNS} WHERE r.tenant_id = $1 AND r.id = $2");
    let rows = tx.rows_built(sql, args![tenant, id]).await?;
    review_row(tx, tenant, rows.first().ok_or(Error::NotFound { what: "review" })?).await
}

/// An item to write.
struct NewItem {
    kind: &'static str,
    grant: Option<GrantId>,
    group: Option<GroupId>,
    user: Option<UserId>,
    shown: Value,
}

/// What is reviewed, found in this tenant.
struct Found {
    destinations: Option<Vec<destination::DestinationRow>>,
    groups: BTreeSet<GroupId>,
    users: BTreeSet<UserId>,
}

fn missing(error: Error, field: &'static str, named: &str) -> Error {
    match error {
        Error::NotFound { what } => {
            Error::invalid(field, format!("there is no {what} `{}` here", named.escape_debug()))
        }
        other => other,
    }
}

async fn found(tx: &mut Tx, tenant: TenantId, scope: &ReviewScope) -> Result<Found> {
    let mut destinations: Option<Vec<_>> = None;
    for named in &scope.destinations {
        let row = destination::find(tx, tenant, named).await.map_err(|error| missing(error, "destinations", named))?;
        let places = destinations.get_or_insert_default();
        if let Some(selector) = &row.selector {
            // Whatever else reaches the hosts that are in it now is access to what is reviewed.
            places.extend(host_set::hosts(tx, tenant, (row.id, selector), None).await?);
        }
        places.push(row);
    }
    if let Some(labels) = &scope.labels {
        let target = domain::Target::labels(labels.clone())?;
        let all = destination::all(tx, tenant).await?;
        let fits = |row: &destination::DestinationRow| covers(&target, row.place());
        destinations.get_or_insert_default().extend(all.into_iter().filter(fits));
    }
    let (mut groups, mut users) = (BTreeSet::new(), BTreeSet::new());
    for named in &scope.groups {
        let row =
            group::find(tx, tenant, named.as_str()).await.map_err(|error| missing(error, "groups", named.as_str()))?;
        groups.insert(row.id);
    }
    for named in &scope.users {
        users.insert(grant::member(tx, tenant, named).await.map_err(|error| missing(error, "users", named))?);
    }
    Ok(Found { destinations, groups, users })
}

/// Everything that gives the access that is reviewed. Who may break glass reaches every destination in any role, so they are in it whatever
/// destinations and roles are reviewed.
fn snapshot(
    scope: &ReviewScope,
    found: &Found,
    grants: Vec<GrantRow>,
    all: &[Somebody],
    glass: Option<&GlassPolicy>,
) -> Vec<NewItem> {
    let of_role = |row: &GrantRow| scope.roles.is_empty() || scope.roles.contains(&row.grant.role);
    let of_place = |row: &GrantRow| {
        found.destinations.as_ref().is_none_or(|places| {
            let is = |to: &destination::DestinationRow| covers(&row.grant.target, to.place());
            places.iter().any(is)
        })
    };
    let everybody = found.groups.is_empty() && found.users.is_empty();
    let mut granted: BTreeMap<GroupId, u64> = BTreeMap::new();
    let mut items = Vec::new();
    for row in grants.into_iter().filter(|row| of_role(row) && of_place(row)) {
        let is_of = match row.grant.subject {
            Subject::User(user) => found.users.contains(&user),
            Subject::Group(group) => {
                *granted.entry(group).or_default() += 1;
                found.groups.contains(&group)
            }
        };
        if everybody || is_of {
            let mut shown = grant::told(&row);
            if let Some(members) = shown.as_object_mut() {
                members.insert("id".to_owned(), json!(row.grant.id));
                members.insert("last_used_at".to_owned(), json!(row.last_used_at));
                members.insert("created_at".to_owned(), json!(row.created_at));
            }
            let (user, group) = match row.grant.subject {
                Subject::User(user) => (Some(user), None),
                Subject::Group(group) => (None, Some(group)),
            };
            items.push(NewItem { kind: "grant", grant: Some(row.grant.id), group, user, shown });
        }
    }
    for one in all {
        for (id, name) in &one.groups {
            let glass = glass.filter(|glass| glass.group == *name);
            let grants = granted.get(id).copied().unwrap_or_default();
            if grants == 0 && glass.is_none() {
                continue;
            }
            let asked = everybody || found.groups.contains(id) || found.users.contains(&one.user);
            let of_group = found.groups.is_empty() || found.groups.contains(id);
            let of_user = found.users.is_empty() || found.users.contains(&one.user);
            if asked && of_group && of_user {
                let mut shown =
                    json!({"user": one.email, "group": name, "grants": grants, "tenant_role": one.role.as_str()});
                if let (Some(glass), Some(shown)) = (glass, shown.as_object_mut()) {
                    shown.insert("break_glass_s_max".to_owned(), json!(glass.ms_max / 1_000));
                }
                items.push(NewItem { kind: "member", grant: None, group: Some(*id), user: Some(one.user), shown });
            }
        }
    }
    items
}

impl Write<ops::AccessReviewCreate> {
    /// Begins a review: writes down what gives the access that is reviewed, as it is now.
    pub async fn access_review_create(mut self, new: &NewReview) -> Result<ReviewRow> {
        let (tenant, store, now) = (self.tenant(), self.store.clone(), self.store.clock().now());
        if new.ends_at <= now || new.ends_at.millis_since(now) > OPEN_MS {
            return Err(Error::invalid("ends_at", "use a time within the next 366 days"));
        }
        if new.reviewers.is_empty() || new.reviewers.len() > REVIEWERS_MAX {
            return Err(Error::invalid("reviewers", format!("name 1 to {REVIEWERS_MAX} members")));
        }
        let found = found(&mut self.tx, tenant, &new.scope).await?;
        let grants = grant::alive(&mut self.tx, tenant, now).await?;
        let all = everybody(&mut self.tx, tenant).await?;
        let glass = access_request::policy(&mut self.tx, tenant).await?.glass;
        let items = snapshot(&new.scope, &found, grants, &all, glass.as_ref());
        if items.is_empty() {
            return Err(Error::invalid("scope", "nothing gives the access that is to be reviewed"));
        }
        if items.len() > ITEMS_MAX {
            let is = items.len();
            return Err(Error::invalid(
                "scope",
                format!("{is} things give that access: review at most {ITEMS_MAX} at once"),
            ));
        }
        let id = AccessReviewId::generate(&**store.clock(), &**store.rng());
        let by = self.permit.ctx().actor().to_string();
        let scope = serde_json::to_string(&new.scope).map_err(Error::internal)?;
        self.tx
            .execute(
                "INSERT INTO access_review (tenant_id, id, name, scope, undecided, state, created_at, created_by, ends_at) \
                 VALUES ($1, $2, $3, $4, $5, 'open', $6, $7, $8)",
                args![tenant, id, new.name.as_str(), scope, new.undecided.as_str(), now, by, new.ends_at],
            )
            .await?;
        for named in &new.reviewers {
            let user =
                grant::member(&mut self.tx, tenant, named).await.map_err(|error| missing(error, "reviewers", named))?;
            let sql = "INSERT INTO access_reviewer (tenant_id, review_id, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            self.tx.execute(sql, args![tenant, id, user]).await?;
        }
        insert_items(&mut self.tx, tenant, id, &items).await?;
        let row = show(&mut self.tx, tenant, id).await?;
        let detail = json!({
            "name": row.name, "scope": row.scope, "reviewers": row.reviewers, "undecided": row.undecided, "ends_at": row.ends_at,
            "items": row.items,
        });
        self.commit(Change::to(Category::Access, "access-review", id).detail(detail)).await?;
        Ok(row)
    }
}

async fn insert_items(tx: &mut Tx, tenant: TenantId, id: AccessReviewId, items: &[NewItem]) -> Result<()> {
    // Batches hold no nulls: the nil id stands for none.
    let bits = |id: Option<uuid::Uuid>| id.map_or(0, |id| id.as_u128());
    let shown: Vec<String> = items.iter().map(|item| item.shown.to_string()).collect();
    let batch = Batch::new()
        .i64("number", (1..).take(items.len()))
        .text("kind", items.iter().map(|item| item.kind))
        .uuid("grant_id", items.iter().map(|item| bits(item.grant.map(|id| id.as_uuid()))))
        .uuid("group_id", items.iter().map(|item| bits(item.group.map(|id| id.as_uuid()))))
        .uuid("user_id", items.iter().map(|item| bits(item.user.map(|id| id.as_uuid()))))
        .text("shown", shown.iter().map(String::as_str));
    let sql = "INSERT INTO access_review_item (tenant_id, review_id, number, kind, grant_id, group_id, user_id, shown) \
               SELECT $1, $2, v.number, v.kind, NULLIF(v.grant_id, $3), NULLIF(v.group_id, $3), NULLIF(v.user_id, $3), v.shown FROM v";
    tx.bulk(&batch, sql, args![tenant, id, uuid::Uuid::nil()]).await.map(drop)
}

/// Whether somebody may see every review, and not only those that they were asked to decide.
fn manages(ctx: &OpCtx, tenant: TenantId) -> bool {
    ctx.role_in(tenant).is_some_and(|role| role.holds(Permission::AccessManage))
}

/// The review, if it is one of this member's; to everybody else it does not exist.
async fn seen<O: MemberOperation>(
    tx: &mut Tx,
    permit: &MemberPermit<O>,
    id: AccessReviewId,
) -> Result<(ReviewRow, bool)> {
    let tenant = permit.tenant();
    let sql = "SELECT 1 FROM access_reviewer WHERE tenant_id = $1 AND review_id = $2 AND user_id = $3";
    let is_reviewer = tx.row(sql, args![tenant, id, permit.user()]).await?.is_some();
    if !is_reviewer && !manages(permit.ctx(), tenant) {
        return Err(Error::NotFound { what: "review" });
    }
    Ok((show(tx, tenant, id).await?, is_reviewer))
}

impl Store {
    /// The reviews that the actor was asked to decide, the newest first; all of them for who manages access.
    pub async fn access_review_list(
        &self,
        permit: MemberPermit<member_ops::AccessReviewList>,
        before: Option<AccessReviewId>,
        limit: u32,
    ) -> Result<Page<ReviewRow, AccessReviewId>> {
        let tenant = permit.tenant();
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let sql = format!(
            "SELECT {COLUMNS} WHERE r.tenant_id = $1 AND r.id < $2 AND ($3 OR EXISTS (SELECT 1 FROM access_reviewer w \
             WHERE w.tenant_id = r.tenant_id AND w.review_id = r.id AND w.user_id = $4)) ORDER BY r.id DESC LIMIT $5"
        );
        let before = before.map_or(uuid::Uuid::max(), |id| id.as_uuid());
        let all = manages(permit.ctx(), tenant);
        let rows = tx.rows_built(sql, args![tenant, before, all, permit.user(), i64::from(limit) + 1]).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push(review_row(&mut tx, tenant, row).await?);
        }
        Ok(Page::cut(items, limit, |row: &ReviewRow| row.id))
    }

    /// One of them.
    pub async fn access_review_show(
        &self,
        permit: MemberPermit<member_ops::AccessReviewShow>,
        id: AccessReviewId,
    ) -> Result<ReviewRow> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        Ok(seen(&mut tx, &permit, id).await?.0)
    }

    /// Its items, in the order of their numbers; only those that nobody decided, or all.
    pub async fn access_review_items(
        &self,
        permit: MemberPermit<member_ops::AccessReviewItems>,
        id: AccessReviewId,
        only_undecided: bool,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Page<ReviewItemRow, i64>> {
        let tenant = permit.tenant();
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let (_, is_reviewer) = seen(&mut tx, &permit, id).await?;
        let own: BTreeSet<GroupId> = group::of_user(&mut tx, tenant, permit.user()).await?.into_keys().collect();
        let sql = format!("{ITEM} AND number > $3 AND (NOT $4 OR decision IS NULL) ORDER BY number LIMIT $5");
        let values = args![tenant, id, after.unwrap_or(0), only_undecided, i64::from(limit) + 1];
        let rows = tx.rows_built(sql, values).await?;
        let mut items = rows.iter().map(item_row).collect::<Result<Vec<_>>>()?;
        for item in &mut items {
            item.undecidable = if is_reviewer {
                item.is_of(permit.user(), &own).then(|| not_ones_own(item.number))
            } else {
                Some(ONLY_REVIEWERS.to_owned())
            };
        }
        Ok(Page::cut(items, limit, |row: &ReviewItemRow| row.number))
    }

    /// Says of some items whether they stay. What is revoked is taken now.
    pub async fn access_review_decide(
        &self,
        permit: MemberPermit<member_ops::AccessReviewDecide>,
        id: AccessReviewId,
        numbers: &[i64],
        decision: ReviewDecision,
        reason: &str,
    ) -> Result<ReviewRow> {
        let (tenant, user, now) = (permit.tenant(), permit.user(), self.clock().now());
        if numbers.is_empty() || numbers.len() > DECIDED_MAX {
            return Err(Error::invalid("items", format!("name 1 to {DECIDED_MAX} items")));
        }
        let mut unit = self.member_write(permit).await?;
        let (row, is_reviewer) = seen(&mut unit.tx, &unit.permit, id).await?;
        if !is_reviewer {
            return Err(Error::Forbidden { message: ONLY_REVIEWERS.to_owned() });
        }
        lock_open(&mut unit.tx, tenant, &row, now).await?;
        let own: BTreeSet<GroupId> = group::of_user(&mut unit.tx, tenant, user).await?.into_keys().collect();
        let (mut taken, mut said) = (Vec::new(), BTreeSet::new());
        for number in numbers.iter().copied().collect::<BTreeSet<i64>>() {
            let sql = format!("{ITEM} AND number = $3");
            let rows = unit.tx.rows_built(sql, args![tenant, id, number]).await?;
            let no_item = || Error::invalid("items", format!("there is no item {number} in this review"));
            let item = item_row(rows.first().ok_or_else(no_item)?)?;
            if decision == ReviewDecision::Revoke && item.decision == Some(decision) {
                // Who took it, when and why stays as it was said.
                continue;
            }
            if item.is_of(user, &own) {
                return Err(Error::Forbidden { message: not_ones_own(number) });
            }
            let outcome = match (decision, item.outcome.as_deref()) {
                (ReviewDecision::Keep, Some("revoked" | "gone")) => {
                    return Err(Error::conflict(format!("item {number} is taken already: grant it anew")));
                }
                (ReviewDecision::Keep, _) => match item.grant {
                    None => "kept",
                    Some(grant) => kept(&item, grant::of_ids(&mut unit.tx, tenant, [grant].into_iter()).await?.first()),
                },
                (ReviewDecision::Revoke, _) => take(&mut unit.tx, (tenant, now), &row, &item, &mut taken).await?,
            };
            decided(&mut unit.tx, (tenant, id, number), decision, (Some(reason), &user.to_string()), outcome, now)
                .await?;
            said.insert(number);
        }
        tell(&mut unit.tx, tenant, unit.permit.ctx(), taken).await?;
        let row = show(&mut unit.tx, tenant, id).await?;
        let detail = json!({
            "name": row.name, "decision": decision, "reason": reason, "items": said.len(), "numbers": said,
        });
        unit.commit(Change::to(Category::Access, "access-review", id).detail(detail)).await?;
        Ok(row)
    }
}

/// Refuses when a review is not open any more, and keeps it from being closed meanwhile.
async fn lock_open(tx: &mut Tx, tenant: TenantId, row: &ReviewRow, now: Timestamp) -> Result<()> {
    let sql =
        "UPDATE access_review SET state = 'open' WHERE tenant_id = $1 AND id = $2 AND state = 'open' AND ends_at > $3";
    if tx.execute(sql, args![tenant, row.id, now]).await? == 0 {
        return Err(Error::conflict("the review is closed: begin another one"));
    }
    Ok(())
}

pub(crate) async fn decided(
    tx: &mut Tx,
    (tenant, id, number): (TenantId, AccessReviewId, i64),
    decision: ReviewDecision,
    (reason, by): (Option<&str>, &str),
    outcome: &str,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE access_review_item SET decision = $4, reason = $5, decided_at = $6, decided_by = $7, outcome = $8 \
         WHERE tenant_id = $1 AND review_id = $2 AND number = $3",
        args![tenant, id, number, decision.as_str(), reason.map(str::to_owned), now, by, outcome],
    )
    .await
    .map(drop)
}

/// What became of something that is kept, by what its grant says now. One that is gone meanwhile is told of at the review's end.
pub(crate) fn kept(item: &ReviewItemRow, now: Option<&GrantRow>) -> &'static str {
    let Some(now) = now.map(grant::told) else { return "kept" };
    // Of whom and of what place it is stays with a grant, whatever they are called.
    let is_name = |key: &str| matches!(key, "user" | "group" | "destination");
    let says = |said: &Value, key: &str| said.get(key).cloned().unwrap_or_default();
    let mut keys = now.as_object().into_iter().flat_map(|said| said.keys()).filter(|key| !is_name(key));
    if keys.all(|key| says(&item.shown, key) == says(&now, key)) { "kept" } else { "changed" }
}

/// What was taken, with the action that taking it by hand is.
pub(crate) type Taken = Vec<(&'static str, Change)>;

/// Takes what an item is about, and says what became of it.
pub(crate) async fn take(
    tx: &mut Tx,
    (tenant, now): (TenantId, Timestamp),
    review: &ReviewRow,
    item: &ReviewItemRow,
    taken: &mut Taken,
) -> Result<&'static str> {
    let by = json!({"id": review.id, "name": review.name, "item": item.number});
    if let Some(id) = item.grant {
        return match grant::show(tx, tenant, id).await {
            Ok(row) => {
                grant_end::take(tx, tenant, id, now).await?;
                let mut detail = grant::told(&row);
                if let Some(members) = detail.as_object_mut() {
                    members.insert("review".to_owned(), by);
                }
                taken.push(("grant_delete", Change::to(Category::Access, "grant", id).detail(detail)));
                Ok("revoked")
            }
            Err(Error::NotFound { .. }) => Ok("gone"),
            Err(error) => Err(error),
        };
    }
    let (Some(id), Some(user)) = (item.group, item.user) else { return Ok("gone") };
    let row = match group::find(tx, tenant, &id.to_string()).await {
        Ok(row) => row,
        Err(Error::NotFound { .. }) => return Ok("gone"),
        Err(error) => return Err(error),
    };
    if row.fed_by.is_some() {
        return Ok("elsewhere");
    }
    if !group::remove(tx, tenant, id, user).await? {
        return Ok("gone");
    }
    let detail = json!({"group": row.name, "user": user, "removed": true, "review": by});
    taken.push(("group_member_remove", Change::to(Category::Access, "group", id).detail(detail)));
    Ok("revoked")
}

/// Writes down what was taken: the last thing that a transaction does but for its own record.
pub(crate) async fn tell(tx: &mut Tx, tenant: TenantId, ctx: &OpCtx, taken: Taken) -> Result<()> {
    for (action, change) in taken {
        audit::append(tx, tenant, ctx, action, &change).await?;
    }
    Ok(())
}
