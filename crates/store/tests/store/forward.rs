//! How far each destination of audit records has come, as it is told.

use access::{OpCtx, PlatformPermit, ops};
use store::ForwardPlace;

use crate::pair::{Pair, each_engine};

fn permit(world: &Pair<'_>) -> PlatformPermit<ops::ForwardList> {
    OpCtx::system_platform("test", world.clock.clone(), world.rng.clone()).authorize_platform().unwrap()
}

async fn places(world: &Pair<'_>, wants: impl Fn(&str, &str) -> bool) -> Vec<ForwardPlace> {
    world.store.forward_list(permit(world), &["siem", "vault"], wants).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_log_that_a_destination_wants_is_told_with_what_waits_and_why() {
    each_engine(async |world| {
        for name in ["one", "two"] {
            world.credential_named(world.a, name).await;
        }
        assert!(world.store.forward_list(permit(world), &[], |_, _| true).await.unwrap().is_empty());
        let logs = world.store.logs().await.unwrap();
        let tenant = Some(world.a);
        let slug = logs.iter().find(|(id, _)| *id == tenant).map(|(_, slug)| slug.clone()).unwrap();
        let wants = |forward: &str, log: &str| forward == "siem" || log == "platform";
        let before = places(world, wants).await;
        assert_eq!(before.iter().filter(|place| place.forward == "siem").count(), logs.len());
        let vault: Vec<&str> =
            before.iter().filter(|place| place.forward == "vault").map(|place| place.log.as_str()).collect();
        assert_eq!(vault, ["platform"]);
        assert!(before.iter().all(|place| (place.delivered, place.failures) == (0, 0) && place.delivered_at.is_none()));
        let of = |all: &[ForwardPlace]| {
            all.iter().find(|place| place.forward == "siem" && place.log == slug).cloned().unwrap()
        };
        let size = of(&before).size;
        assert!(size > 1, "the tenant has {size} records");

        // One is taken, then delivery fails twice.
        let mut claim = world.store.forward_claim("siem", tenant).await.unwrap().unwrap();
        world.store.forward_advance(&mut claim, 1).await.unwrap();
        world.store.forward_release(claim, Some("the collector answered 503")).await.unwrap();
        let claim = world.store.forward_claim("siem", tenant).await.unwrap().unwrap();
        world.store.forward_release(claim, Some("it does not answer")).await.unwrap();
        let failing = of(&places(world, wants).await);
        assert_eq!((failing.size, failing.delivered, failing.failures), (size, 1, 2));
        assert_eq!(failing.error.as_deref(), Some("it does not answer"));
        assert!(failing.delivered_at.is_some());

        // What goes through again leaves no reason behind.
        let mut claim = world.store.forward_claim("siem", tenant).await.unwrap().unwrap();
        world.store.forward_advance(&mut claim, size).await.unwrap();
        world.store.forward_release(claim, None).await.unwrap();
        let well = of(&places(world, wants).await);
        assert_eq!((well.delivered, well.failures, well.error), (size, 0, None));
        // The other logs are where they were.
        let others = |all: Vec<ForwardPlace>| -> Vec<ForwardPlace> {
            all.into_iter().filter(|place| place.log != slug && place.log != "platform").collect()
        };
        assert_eq!(others(places(world, wants).await), others(before));
    })
    .await;
}
