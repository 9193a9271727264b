//! A world with two tenants in it, and shorter ways to act in each.

use std::path::PathBuf;
use std::sync::Arc;

use access::{Permit, ReadOperation, TenantOperation, WriteOperation, ops};
use domain::TenantId;
use store::{Read, Store, Write};
use testkit::{TestClock, TestRng};

use crate::world::{self, World};

/// One test's world on one engine, with two tenants.
pub(crate) struct Pair<'w> {
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) rng: Arc<TestRng>,
    /// A tenant.
    pub(crate) a: TenantId,
    /// Another one.
    pub(crate) b: TenantId,
    world: &'w World,
}

/// Runs a test in a world with two tenants on each engine.
pub(crate) async fn each_engine(test: impl AsyncFn(&Pair<'_>)) {
    world::each_engine(async |world| {
        let (a, b) = (world.tenant("a").await, world.tenant("b").await);
        let pair = Pair { store: world.store.clone(), clock: world.clock.clone(), rng: world.rng.clone(), a, b, world };
        test(&pair).await;
    })
    .await;
}

impl<'w> Pair<'w> {
    /// The same world served by another server that has just started.
    pub(crate) async fn with_another_server(&self) -> Pair<'w> {
        let (clock, rng) = (self.clock.clone(), self.rng.clone());
        Pair { store: self.world.another_server().await, clock, rng, a: self.a, b: self.b, world: self.world }
    }

    /// Where a tenant's blobs lie.
    pub(crate) fn blobs(&self, tenant: TenantId) -> PathBuf {
        self.world.blobs(tenant)
    }

    /// Rows of a table in the first tenant.
    pub(crate) async fn count(&self, table: &str) -> usize {
        self.world.rows_of(self.a, table).await.len()
    }

    pub(crate) fn permit<O: TenantOperation>(&self, tenant: TenantId) -> Permit<O> {
        self.world.permit(tenant)
    }

    pub(crate) async fn read<O: TenantOperation + ReadOperation>(&self, tenant: TenantId) -> Read<O> {
        self.store.read(self.permit(tenant)).await.unwrap()
    }

    pub(crate) async fn write<O: TenantOperation + WriteOperation>(&self, tenant: TenantId) -> Write<O> {
        self.store.write(self.permit(tenant)).await.unwrap()
    }

    /// The tenant's audit log, oldest first: action, outcome and detail.
    pub(crate) async fn audit(&self, tenant: TenantId) -> Vec<(String, String, serde_json::Value)> {
        let filter = store::AuditFilter { limit: 500, ..store::AuditFilter::default() };
        let page = self.read::<ops::AuditList>(tenant).await.audit_list(&filter).await.unwrap();
        page.items.into_iter().rev().map(|record| (record.action, record.outcome, record.detail)).collect()
    }
}
