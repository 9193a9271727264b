//! Work of relays: on which server it is done, how it is shared out among tenants, and how other servers hear of it.

use std::time::Duration;

use access::ops;
use domain::{RelayId, TenantId};
use store::{Claim, JobRow, NewJob, Store};
use uuid::Uuid;

use crate::job::{LEASE_MS, new_job};
use crate::pair::{Pair, each_engine};
use crate::report::enroll;

const SERVER: Uuid = Uuid::from_u128(1);

/// A relay that hangs on the server of these tests.
async fn relay(pair: &Pair<'_>, tenant: TenantId, name: &str) -> RelayId {
    let id = RelayId::generate(&*pair.clock, &*pair.rng);
    enroll(pair, tenant, name, id.into()).await;
    pair.store.relay_linked(tenant, id, SERVER, "server").await.unwrap();
    id
}

async fn job(pair: &Pair<'_>, tenant: TenantId, relay: RelayId) -> JobRow {
    let new = NewJob { relay: Some(relay), ..new_job() };
    pair.write::<ops::JobCreate>(tenant).await.job_create(new).await.unwrap()
}

async fn claim(store: &Store, each_max: u32) -> Option<Claim> {
    store.work_claim_placed("w1", LEASE_MS, SERVER, each_max).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_much_work_for_its_relays_leaves_room_for_the_others() {
    each_engine(async |pair| {
        let (busy, modest) = (relay(pair, pair.a, "busy").await, relay(pair, pair.b, "modest").await);
        for _ in 0..6 {
            job(pair, pair.a, busy).await;
        }
        let mut held = Vec::new();
        while let Some(claim) = claim(&pair.store, 3).await {
            assert_eq!((claim.tenant, claim.relay), (pair.a, Some(busy)));
            held.push(claim);
        }
        assert_eq!(held.len(), 3, "as much as one may hold here");
        // Whoever has less at work comes first, however long the others have waited.
        pair.clock.advance(Duration::from_secs(1));
        let wanted = job(pair, pair.b, modest).await;
        let theirs = claim(&pair.store, 4).await.unwrap();
        assert_eq!((theirs.tenant, theirs.job()), (pair.b, wanted.id));
        // Another worker's work is no burden of this server's: a server that others look for gets its own share.
        let elsewhere = pair.store.work_claim_placed("w2", LEASE_MS, SERVER, 3).await.unwrap().unwrap();
        assert_eq!(elsewhere.tenant, pair.a);
        // What is given back, and what was lost, makes room.
        assert!(claim(&pair.store, 3).await.is_none());
        pair.store.work_release(&held[0]).await.unwrap();
        assert_eq!(claim(&pair.store, 3).await.unwrap().tenant, pair.a);
        assert!(claim(&pair.store, 3).await.is_none());
        pair.clock.advance(Duration::from_millis(LEASE_MS.unsigned_abs() + 1));
        for _ in 0..4 {
            assert!(claim(&pair.store, 3).await.is_some());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_hears_of_work_and_questions_of_another_one() {
    each_engine(async |pair| {
        // On SQLite there is one server, and everything is heard within it.
        if pair.postgres().is_none() {
            return;
        }
        let other = pair.with_another_server().await;
        let listening = other.store.clone();
        let listening = tokio::spawn(async move { listening.listen().await });
        let mut questions = other.store.relay_questions();
        let asked = relay(pair, pair.a, "asked").await;
        // It listens once it hears the first question; those before are nobody's.
        let heard = tokio::time::timeout(Duration::from_mins(1), async {
            loop {
                pair.store.relay_ask(asked).await.unwrap();
                if let Ok(heard) = tokio::time::timeout(Duration::from_millis(100), questions.recv()).await {
                    break heard.unwrap();
                }
            }
        });
        assert_eq!(heard.await.unwrap(), asked);
        // That it listens is a sign as well, which is taken here; from now on nothing but work is one.
        other.store.work_wait(Duration::from_hours(1)).await;
        let waits = other.store.work_wait(Duration::from_hours(1));
        let mut waits = std::pin::pin!(waits);
        assert!(
            tokio::time::timeout(Duration::from_millis(50), waits.as_mut()).await.is_err(),
            "nothing is there to do"
        );
        job(pair, pair.a, asked).await;
        tokio::time::timeout(Duration::from_mins(1), waits).await.expect("it hears of work");
        listening.abort();
        other.store.close().await;
    })
    .await;
}
