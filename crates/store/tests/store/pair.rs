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

    /// The database's server side, on PostgreSQL.
    pub(crate) fn postgres(&self) -> Option<&'w testkit::TestDatabase<'static>> {
        self.world.postgres.as_ref()
    }

    /// Every table that names a tenant, but for the queue's.
    pub(crate) async fn tenant_tables(&self) -> Vec<String> {
        let sql = if self.postgres().is_some() {
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
             WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attname = 'tenant_id' ORDER BY 1"
        } else {
            "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) i \
             WHERE m.type = 'table' AND i.name = 'tenant_id' ORDER BY 1"
        };
        self.raw(self.a, sql).await.unwrap().lines().map(str::to_owned).collect()
    }

    /// See [`World::raw`].
    pub(crate) async fn raw(&self, tenant: TenantId, sql: &str) -> anyhow::Result<String> {
        self.world.raw(tenant, sql).await
    }

    /// Every row of a table in a tenant.
    pub(crate) async fn rows_of(&self, tenant: TenantId, table: &str) -> Vec<String> {
        self.world.rows_of(tenant, table).await
    }

    /// Every row of a tenant, in all tables.
    pub(crate) async fn foreign_rows(&self, tenant: TenantId) -> Vec<(String, Vec<String>)> {
        let mut all = Vec::new();
        for table in self.tenant_tables().await {
            all.push((table.clone(), self.rows_of(tenant, &table).await));
        }
        all
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
