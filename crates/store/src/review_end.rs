//! How a review of access ends: what nobody decided is decided as its maker said, and all of it becomes signed evidence.
//!
//! Two transactions: the review is closed, after which nothing in it changes; then what it says is written to a file, signed and kept. A server
//! that is killed between the two signs later (`access_reviews_due`).

use std::collections::{BTreeSet, HashMap, HashSet};

use access::{OpCtx, Permit, ops};
use domain::{AccessReviewId, Digest, Error, EvidenceId, GrantId, GroupId, Result, TenantId, Timestamp, UserId};
use evidence::statement::{ReviewStatement, Statement, Subject};
use serde_json::{Value, json};

use crate::access_review::{ReviewDecision, ReviewItemRow, ReviewRow, Taken, decided, items, kept, show, take, tell};
use crate::audit::{Category, Change};
use crate::blob::Blobs;
use crate::collection::{About, NewArtifact, NewStatement, artifact_insert, statement_insert};
use crate::db::{Tx, args};
use crate::everybody::all_places;
use crate::grant::GrantRow;
use crate::unit::enter;
use crate::{Store, grant};

/// What a review is evidence for: accounts are reviewed, and nobody has more than they need.
pub const REVIEW_CONTROLS: [(&str, &str); 2] = [("nist-800-53-r5", "AC-2"), ("nist-800-53-r5", "AC-6")];
/// The role of the key that signs evidence.
const EVIDENCE: &str = "evidence";

impl Store {
    /// Closes a review, decides what nobody did, and signs what it says as evidence. One that is closed but not signed is signed.
    pub async fn access_review_close(
        &self,
        permit: Permit<ops::AccessReviewClose>,
        id: AccessReviewId,
    ) -> Result<ReviewRow> {
        let (tenant, ctx) = (permit.tenant(), permit.ctx().clone());
        let now = self.clock().now();
        let mut unit = self.write(permit).await?;
        let row = show(&mut unit.tx, tenant, id).await?;
        let sql = "UPDATE access_review SET state = 'closed', closed_at = $3, closed_by = $4 WHERE tenant_id = $1 AND id = $2 AND state = 'open'";
        let by = ctx.actor().to_string();
        if unit.tx.execute(sql, args![tenant, id, now, by.as_str()]).await? == 1 {
            let taken = decide_rest(&mut unit.tx, tenant, &row, now).await?;
            let by_default = row.items - row.decided;
            tell(&mut unit.tx, tenant, &ctx, taken).await?;
            let detail =
                json!({"name": row.name, "items": row.items, "undecided": by_default, "became": row.undecided});
            unit.commit(Change::to(Category::Access, "access-review", id).detail(detail)).await?;
        } else if row.state == "attested" {
            return Err(Error::conflict("the review is closed, and its evidence is signed"));
        } else {
            drop(unit);
        }
        self.access_review_attest(&ctx, tenant, id).await
    }

    async fn access_review_attest(&self, ctx: &OpCtx, tenant: TenantId, id: AccessReviewId) -> Result<ReviewRow> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let (row, all) = (show(&mut tx, tenant, id).await?, items(&mut tx, tenant, id).await?);
        let reviewers = tx
            .rows(
                "SELECT user_id FROM access_reviewer WHERE tenant_id = $1 AND review_id = $2 ORDER BY user_id",
                args![tenant, id],
            )
            .await?;
        let reviewers: Vec<UserId> =
            reviewers.iter().map(|row| row.uuid(0).map(UserId::from_uuid)).collect::<Result<_>>()?;
        drop(tx);
        let bytes = serde_json::to_vec_pretty(&document(tenant, &row, &all)).map_err(Error::internal)?;
        let digest = crypto::sha256(&bytes);
        let key = self.signing_key(EVIDENCE).await?;
        let artifact = NewArtifact {
            digest,
            bytes: bytes.into(),
            signature: evidence::sign_artifact_digest(&digest, &key),
            key_id: key.public().fingerprint(),
            about: String::new(),
        };
        Blobs::of(self, tenant).put(self, vec![(digest, artifact.bytes.clone())]).await?;

        let now = self.clock().now();
        let mut unit = self.write(ctx.authorize::<ops::EvidenceCollect>(tenant)?).await?;
        let sql = "UPDATE access_review SET state = 'attested' WHERE tenant_id = $1 AND id = $2 AND state = 'closed'";
        if unit.tx.execute(sql, args![tenant, id]).await? == 0 {
            // Another server was faster.
            return show(&mut unit.tx, tenant, id).await;
        }
        let mut signed = Vec::new();
        for (framework, control) in REVIEW_CONTROLS {
            let evidence = EvidenceId::generate(&**self.clock(), &**self.rng());
            let statement = statement((tenant, evidence), (framework, control), (&row, &all), &reviewers, digest);
            let statement = evidence::sign(&statement.to_json().map_err(Error::internal)?, &key);
            let new = NewStatement {
                id: evidence,
                kind: "attestation",
                pae: statement.pae,
                signature: statement.sig,
                key_id: statement.keyid,
            };
            let about = About { framework: Some(framework), control: Some(control), ..About::default() };
            statement_insert(&mut unit, &new, about, now).await?;
            artifact_insert(&mut unit.tx, tenant, evidence, &artifact, now).await?;
            let sql = "INSERT INTO access_review_evidence (tenant_id, review_id, evidence_id) VALUES ($1, $2, $3)";
            unit.tx.execute(sql, args![tenant, id, evidence]).await?;
            signed.push(evidence);
        }
        let row = show(&mut unit.tx, tenant, id).await?;
        let detail = json!({"name": row.name, "statements": signed, "artifact": digest});
        unit.commit(Change::to(Category::Evidence, "access-review", id).detail(detail)).await?;
        Ok(row)
    }

    /// Reviews whose time is over, and those that were closed and not signed, of all tenants.
    pub async fn access_reviews_due(&self) -> Result<Vec<(TenantId, AccessReviewId)>> {
        let (now, mut due) = (self.clock().now(), Vec::new());
        let mut tx = self.db().read().await?;
        for row in tx.rows("SELECT id FROM tenant WHERE deleted_at IS NULL ORDER BY id", args![]).await? {
            let tenant = TenantId::from_uuid(row.uuid(0)?);
            enter(&mut tx, tenant).await?;
            let sql = "SELECT id FROM access_review WHERE tenant_id = $1 AND (state = 'closed' OR (state = 'open' AND ends_at <= $2)) ORDER BY id";
            for row in tx.rows(sql, args![tenant, now]).await? {
                due.push((tenant, AccessReviewId::from_uuid(row.uuid(0)?)));
            }
        }
        Ok(due)
    }
}

/// Decides what nobody did, and notes what of the kept is gone.
async fn decide_rest(tx: &mut Tx, tenant: TenantId, row: &ReviewRow, now: Timestamp) -> Result<Taken> {
    let mut taken = Taken::new();
    let all = items(tx, tenant, row.id).await?;
    let stay = |item: &&ReviewItemRow| item.decision.unwrap_or(row.undecided) == ReviewDecision::Keep;
    let grants: BTreeSet<GrantId> = all.iter().filter(stay).filter_map(|item| item.grant).collect();
    let grants = grant::of_ids(tx, tenant, grants.into_iter()).await?;
    let grants: HashMap<GrantId, GrantRow> = grants.into_iter().map(|row| (row.grant.id, row)).collect();
    let stays = |item: &ReviewItemRow| kept(item, item.grant.and_then(|id| grants.get(&id)));
    for item in all {
        let key = (tenant, row.id, item.number);
        match (item.decision, item.outcome.as_deref()) {
            (None, _) => {
                let outcome = match row.undecided {
                    ReviewDecision::Keep => stays(&item),
                    ReviewDecision::Revoke => take(tx, (tenant, now), row, &item, &mut taken).await?,
                };
                decided(tx, key, row.undecided, (None, "default"), outcome, now).await?;
            }
            // What was changed since somebody said so.
            (Some(ReviewDecision::Keep), Some(before @ ("kept" | "changed"))) if stays(&item) != before => {
                let sql = "UPDATE access_review_item SET outcome = $4 WHERE tenant_id = $1 AND review_id = $2 AND number = $3";
                tx.execute(sql, args![tenant, row.id, item.number, stays(&item)]).await?;
            }
            _ => {}
        }
    }
    tx.execute(
        "UPDATE access_review_item SET outcome = 'gone' WHERE tenant_id = $1 AND review_id = $2 AND outcome IN ('kept', 'changed') AND grant_id IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM access_grant g WHERE g.tenant_id = access_review_item.tenant_id AND g.id = access_review_item.grant_id)",
        args![tenant, row.id],
    )
    .await?;
    let held = all_places(tx, tenant).await?;
    let members = tx.rows("SELECT user_id FROM member WHERE tenant_id = $1", args![tenant]).await?;
    let members = members.iter().map(|row| row.uuid(0).map(UserId::from_uuid)).collect::<Result<HashSet<_>>>()?;
    let stands = |user: UserId, group: GroupId| {
        members.contains(&user) && held.get(&user).is_some_and(|groups| groups.contains_key(&group))
    };
    let places = "SELECT number, user_id, group_id FROM access_review_item WHERE tenant_id = $1 AND review_id = $2 AND outcome = 'kept' AND kind = 'member'";
    for item in tx.rows(places, args![tenant, row.id]).await? {
        if !stands(UserId::from_uuid(item.uuid(1)?), GroupId::from_uuid(item.uuid(2)?)) {
            let sql = "UPDATE access_review_item SET outcome = 'gone' WHERE tenant_id = $1 AND review_id = $2 AND number = $3";
            tx.execute(sql, args![tenant, row.id, item.i64(0)?]).await?;
        }
    }
    Ok(taken)
}

/// Everything that was reviewed and decided, for the artifact.
fn document(tenant: TenantId, row: &ReviewRow, items: &[ReviewItemRow]) -> Value {
    let one = |item: &ReviewItemRow| {
        json!({
            "number": item.number, "kind": item.kind, "shown": item.shown, "decision": item.decision, "reason": item.reason,
            "decided_at": item.decided_at, "decided_by": item.decided_by, "outcome": item.outcome,
        })
    };
    json!({
        "document": "cairn access review v1", "tenant": tenant, "review": row.id, "name": row.name, "scope": row.scope,
        "reviewers": row.reviewers, "undecided": row.undecided, "created_at": row.created_at, "created_by": row.created_by,
        "ends_at": row.ends_at, "closed_at": row.closed_at, "closed_by": row.closed_by,
        "items": items.iter().map(one).collect::<Vec<_>>(),
    })
}

fn statement(
    (tenant, evidence): (TenantId, EvidenceId),
    (framework, control): (&str, &str),
    (row, items): (&ReviewRow, &[ReviewItemRow]),
    reviewers: &[UserId],
    artifact: Digest,
) -> Statement {
    let with = |outcome: &str| items.iter().filter(|item| item.outcome.as_deref() == Some(outcome)).count() as u64;
    Statement::Review(Box::new(ReviewStatement {
        subjects: vec![Subject::artifact(artifact)],
        tenant,
        evidence,
        framework: framework.to_owned(),
        control: control.to_owned(),
        review: row.id,
        name: row.name.clone(),
        reviewers: reviewers.to_vec(),
        items: items.len() as u64,
        kept: with("kept"),
        changed: with("changed"),
        revoked: with("revoked"),
        gone: with("gone"),
        elsewhere: with("elsewhere"),
        by_default: items.iter().filter(|item| item.decided_by.as_deref() == Some("default")).count() as u64,
        undecided: row.undecided.as_str().to_owned(),
        started: row.created_at,
        finished: row.closed_at.unwrap_or(row.ends_at),
    }))
}
