//! The audit log: appended to with the change, never changed, every record bound to its leaf.

use access::{OpCtx, ops};
use domain::TenantId;
use serde_json::Value;
use store::{AuditFilter, AuditRecord, Category, Change};

use crate::world::{World, each_engine};

async fn records(world: &World, tenant: TenantId) -> Vec<AuditRecord> {
    let mut read = world.store.read(world.permit::<ops::AuditList>(tenant)).await.unwrap();
    let filter = AuditFilter { limit: 500, ..AuditFilter::default() };
    let mut records = read.audit_list(&filter).await.unwrap().items;
    records.reverse();
    records
}

async fn add(world: &World, tenant: TenantId, count: usize) {
    let ctx = OpCtx::system("test", tenant, world.clock.clone(), world.rng.clone());
    for number in 0..count {
        let change = Change::to(Category::System, "thing", number).detail(serde_json::json!({"why": "a test"}));
        world.store.record(&ctx, Some(tenant), "thing_made", &change).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_numbered_without_gaps_and_each_leaf_is_of_its_bytes() {
    each_engine(async |world| {
        let (a, b) = (world.tenant("a").await, world.tenant("b").await);
        add(world, a, 5).await;
        add(world, b, 2).await;
        let seen = records(world, a).await;
        assert_eq!(seen.iter().map(|record| record.seq).collect::<Vec<_>>(), (0..6).collect::<Vec<_>>());
        for record in &seen {
            assert_eq!(record.leaf, evidence::merkle::leaf_hash(&record.entry));
            let entry: Value = serde_json::from_slice(&record.entry).unwrap();
            assert_eq!(evidence::jcs::canonical(&entry).unwrap(), record.entry, "the bytes are canonical");
            assert_eq!((&entry["seq"], &entry["tenant"]), (&Value::from(record.seq), &Value::from(a.to_string())));
            assert_eq!(entry["act"], record.action.as_str());
        }
        assert_eq!(records(world, b).await.len(), 3, "each tenant has a log of its own");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_own_role_cannot_change_or_remove_a_record() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        add(world, a, 2).await;
        let before = world.rows_of(a, "audit_record").await;
        for sql in [
            "UPDATE audit_record SET action = 'nothing' RETURNING action",
            "DELETE FROM audit_record RETURNING action",
            "UPDATE audit_detail SET detail = '{}' RETURNING detail",
            "DELETE FROM audit_detail RETURNING detail",
        ] {
            let error = world.raw(a, sql).await.unwrap_err().to_string();
            assert!(error.contains("permission denied") || error.contains("cannot be"), "{sql}: {error}");
        }
        if world.postgres.is_some() {
            assert!(world.raw(a, "TRUNCATE audit_record CASCADE").await.is_err());
        }
        assert_eq!(world.rows_of(a, "audit_record").await, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_not_committed_leaves_neither_itself_nor_a_record() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let before = records(world, a).await.len();
        let unit = world.store.write(world.permit::<ops::JobCreate>(a)).await.unwrap();
        drop(unit);
        // A change that fails half-way: the second credential of one name.
        for expected in ["ok", "conflict"] {
            let unit = world.store.write(world.permit::<ops::CredentialCreate>(a)).await.unwrap();
            let made =
                unit.credential_create("aws", &"one".parse().unwrap(), "aws-keys", &domain::Secret::new("x")).await;
            assert_eq!(made.map_or_else(|error| error.code(), |_| "ok"), expected);
        }
        assert_eq!(records(world, a).await.len(), before + 1);
    })
    .await;
}
