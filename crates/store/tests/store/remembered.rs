//! Who asks: what is remembered of them until something is written, and what is left of who went away.

use access::{Actor, Grants, OpCtx, own};
use domain::RequestId;
use store::{LiveSession, Store};

use crate::factor::{row, start};
use crate::world::{World, each_engine};

/// A session of somebody new, made at this server.
async fn session(world: &World, store: &Store, email: &str) -> LiveSession {
    let user = crate::api_key::user(world, email).await;
    store.session_create(&row(world, user).await, &start(world)).await.unwrap()
}

/// Renames everybody behind the back of every server, as no server would.
async fn rename(world: &World, name: &str) {
    world
        .raw(domain::TenantId::from_uuid(uuid::Uuid::nil()), &format!("UPDATE app_user SET name = '{name}'"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_remembered_only_until_something_is_written_and_only_where_nobody_else_writes() {
    each_engine(async |world| {
        let name =
            async |store: &Store, live: &LiveSession| store.session_live(live.id).await.unwrap().unwrap().user.name;
        let shared = &world.store;
        let live = session(world, shared, "ann@example.org").await;
        name(shared, &live).await;
        rename(world, "Beth").await;
        assert_eq!(name(shared, &live).await, "Beth", "who shares a database remembers nothing");
        if world.postgres.is_some() {
            return;
        }
        let alone = world.server_alone().await;
        let before = name(&alone, &live).await;
        rename(world, "Carol").await;
        assert_eq!(name(&alone, &live).await, before, "what was read is good until something is written here");
        // Any write at all ends what is remembered, at once.
        session(world, &alone, "carl@example.org").await;
        assert_eq!(name(&alone, &live).await, "Carol");
        alone.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_just_answered_from_memory_ends_at_once() {
    each_engine(async |world| {
        if world.postgres.is_some() {
            return;
        }
        let alone = world.server_alone().await;
        for number in 0..10 {
            let live = session(world, &alone, &format!("u{number}@example.org")).await;
            let asking: Vec<_> = (0..4)
                .map(|_| {
                    let (store, id) = (alone.clone(), live.id);
                    tokio::spawn(async move {
                        while store.session_live(id).await.unwrap().is_some() {
                            tokio::task::yield_now().await;
                        }
                    })
                })
                .collect();
            for _ in 0..20 {
                assert!(alone.session_live(live.id).await.unwrap().is_some());
            }
            let actor = Actor::User { id: live.user.id, email: live.user.email.clone(), session: live.id };
            let request = RequestId::generate(&*world.clock, &*world.rng);
            let ctx = OpCtx::user(actor, Grants::default(), request, None, world.clock.clone(), world.rng.clone());
            alone.sessions_end(ctx.authorize_own::<own::SessionsEnd>().unwrap(), true).await.unwrap();
            assert!(alone.session_live(live.id).await.unwrap().is_none(), "an ended session was let in");
            for asks in asking {
                asks.await.unwrap();
            }
        }
        alone.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_33_who_goes_away_while_they_ask_leaves_nobody_inside_their_transaction() {
    each_engine(async |world| {
        let live = session(world, &world.store, "ann@example.org").await;
        // However far the question has come, whoever gets its connection next can write, and sees what was written.
        for polls in 1..16 {
            for _ in 0..4 {
                let mut asks = Box::pin(world.store.session_live(live.id));
                for _ in 0..polls {
                    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(asks.as_mut().poll(cx)));
                    if polled.await.is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            for number in 0..6 {
                let live = session(world, &world.store, &format!("u{polls}-{number}@example.org")).await;
                assert!(world.store.session_live(live.id).await.unwrap().is_some());
            }
        }
    })
    .await;
}
