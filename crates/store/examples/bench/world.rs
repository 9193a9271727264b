//! What the benchmarks of the store begin with: a database of their own, and a tenant in it.

use std::path::Path;
use std::sync::Arc;

use access::{OpCtx, ops};
use domain::TenantId;
use store::{OpenOptions, Store};
use testkit::{TestClock, TestRng};

/// A store on a database, and the platform's own context.
pub(crate) async fn open(url: String, owner_url: Option<String>, dir: &Path) -> (Store, OpCtx) {
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(1)));
    let options = OpenOptions {
        url,
        owner_url,
        master: crypto::aead::AeadKey::from_bytes([1; 32]),
        vault: store::VaultOptions::default(),
        blobs: dir.to_owned(),
        clock: Arc::clone(&clock) as _,
        rng: Arc::clone(&rng) as _,
    };
    (Store::open(options).await.unwrap(), OpCtx::system_platform("bench", clock, rng))
}

/// Its tenant, and who does everything there.
pub(crate) async fn tenant(store: &Store, platform: &OpCtx) -> (TenantId, OpCtx) {
    let unit = store.write_platform(platform.authorize_platform::<ops::TenantCreate>().unwrap()).await.unwrap();
    let tenant = unit.tenant_create(&"bench".parse().unwrap(), &"bench".parse().unwrap(), None).await.unwrap().id;
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(2)));
    (tenant, OpCtx::system("bench", tenant, clock, rng))
}
