//! API keys in the database: who sees which rows.

use access::{Actor, Freshness, Grants, OpCtx, Role, ops};
use domain::{RequestId, SessionId, TenantId, UserId};
use store::{FoundApiKey, NewApiKey, NewApiKeySecret, NewUser};

use crate::world::{World, each_engine};

pub(crate) async fn user(world: &World, email: &str) -> UserId {
    let ctx = OpCtx::system_platform("test", world.clock.clone(), world.rng.clone());
    let new = NewUser { name: "N".parse().unwrap(), password_hash: "none".to_owned(), platform_admin: false };
    let unit = world.store.write_platform(ctx.authorize_platform::<ops::UserCreate>().unwrap()).await.unwrap();
    unit.user_create(&email.parse().unwrap(), &new).await.unwrap()
}

pub(crate) async fn key(world: &World, tenant: TenantId, owner: UserId, lookup: &str) {
    let actor = Actor::User {
        id: owner,
        email: "a@example.org".parse().unwrap(),
        session: SessionId::generate(&*world.clock, &*world.rng),
    };
    let grants = Grants { platform_admin: false, tenants: vec![(tenant, Role::TenantAdmin)] };
    let request = RequestId::generate(&*world.clock, &*world.rng);
    let ctx = OpCtx::user(actor, grants, request, None, world.clock.clone(), world.rng.clone());
    let new = NewApiKey { name: lookup.parse().unwrap(), role: Role::ReadOnly, networks: vec![], expires_at: None };
    let secret = NewApiKeySecret { lookup: lookup.to_owned(), hash: "none".to_owned() };
    let unit = world
        .store
        .write(ctx.with_freshness(Freshness::Fresh).authorize::<ops::ApiKeyCreate>(tenant).unwrap())
        .await
        .unwrap();
    unit.api_key_create(&new, &secret).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_33_who_names_a_secret_sees_that_row_and_no_other() {
    each_engine(async |world| {
        let (a, b) = (world.tenant("a").await, world.tenant("b").await);
        let owner = user(world, "a@example.org").await;
        key(world, a, owner, "aaaaaaaaaaa1").await;
        key(world, a, owner, "aaaaaaaaaaa2").await;
        key(world, b, owner, "bbbbbbbbbbb1").await;
        // Its owner is no member, so it is refused; what matters is that it was found in its tenant.
        let found = world.store.api_key_find("aaaaaaaaaaa1", None).await.unwrap();
        assert!(matches!(found, FoundApiKey::Refused { tenant, reason: "owner", .. } if tenant == a), "{found:?}");
        for other in ["", "aaaaaaaaaaa3", "%", "AAAAAAAAAAA1"] {
            assert!(matches!(world.store.api_key_find(other, None).await.unwrap(), FoundApiKey::Unknown), "{other}");
        }
        let Some(database) = &world.postgres else { return };
        let last = |text: String| text.trim().rsplit('\n').next().unwrap().to_owned();
        let sees = |setting: &str| {
            let sql = format!("{setting} SELECT string_agg(lookup, ' ' ORDER BY lookup) FROM api_key_secret");
            last(database.app_sql(&sql).unwrap())
        };
        assert_eq!(sees(""), "", "who names nothing sees nothing");
        assert_eq!(sees("SET cairn.api_key = '';"), "");
        assert_eq!(sees("SET cairn.api_key = 'bbbbbbbbbbb1';"), "bbbbbbbbbbb1");
        let key_rows = "SET cairn.api_key = 'bbbbbbbbbbb1'; SELECT count(*) FROM api_key";
        assert_eq!(last(database.app_sql(key_rows).unwrap()), "0", "the key itself only in its tenant");
        // Seeing is not writing.
        let write = "SET cairn.api_key = 'bbbbbbbbbbb1'; UPDATE api_key_secret SET hash = 'x'";
        let refused = database.app_sql(write).unwrap_err().to_string();
        assert!(refused.contains("row-level security"), "{refused}");
    })
    .await;
}
