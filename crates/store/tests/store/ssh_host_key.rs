//! Host keys that are remembered: the first contact counts, and nothing replaces it.

use access::ops;
use crypto::ssh::PublicKey;
use domain::{Error, HostPort, JobId, RelayId};
use serde_json::json;
use store::{HostKeyOrigin, SshHostKeyRow, SshTarget};

use crate::pair::{Pair, each_engine};

fn key() -> PublicKey {
    PublicKey::of_ed25519(&crypto::ed25519::SigningKey::generate().unwrap().public())
}

async fn meet(pair: &Pair<'_>, of: SshTarget<'_>, shown: &PublicKey) -> domain::Result<SshHostKeyRow> {
    let job = JobId::generate(&*pair.clock, &*pair.rng);
    pair.write::<ops::SshHostKeyMeet>(pair.a).await.ssh_host_key_meet(job, of, shown).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_contact_is_remembered_and_another_key_is_an_alarm_that_changes_nothing() {
    each_engine(async |pair| {
        let (target, first, second): (HostPort, _, _) = ("Web1.example".parse().unwrap(), key(), key());
        let server = SshTarget { relay: None, target: &target };
        let met = meet(pair, server, &first).await.unwrap();
        assert_eq!((met.key.clone(), met.origin), (first.clone(), HostKeyOrigin::FirstContact));
        let records = pair.audit(pair.a).await.len();
        assert_eq!(meet(pair, server, &first).await.unwrap().id, met.id);
        assert_eq!(pair.audit(pair.a).await.len(), records, "who meets the same host again changes nothing");

        assert_eq!(meet(pair, server, &second).await.unwrap().key, first);
        let (action, outcome, detail) = pair.audit(pair.a).await.pop().unwrap();
        assert_eq!((action.as_str(), outcome.as_str()), ("ssh_host_key_meet", "deny"));
        assert_eq!((&detail["alarm"], &detail["target"]), (&json!(true), &json!("web1.example:22")));
        assert_eq!(detail["fingerprint"], json!(first.fingerprint()));
        assert_eq!(detail["shown"]["fingerprint"], json!(second.fingerprint()));
        assert_eq!(pair.count("ssh_host_key").await, 1);

        // Elsewhere the same address is another machine, and other ports and tenants have their own.
        let relay = Some(RelayId::generate(&*pair.clock, &*pair.rng));
        let port: HostPort = "web1.example:2222".parse().unwrap();
        for of in [SshTarget { relay, target: &target }, SshTarget { relay: None, target: &port }] {
            assert_eq!(meet(pair, of, &second).await.unwrap().key, second);
        }
        let theirs = pair.read::<ops::SshHostKeyList>(pair.b).await.ssh_host_key_of(server).await.unwrap();
        assert!(theirs.is_none());

        // Pinning replaces nothing either; removing lets the next be the first.
        let pinned = pair.write::<ops::SshHostKeyPin>(pair.a).await.ssh_host_key_pin(server, &second, None).await;
        assert!(matches!(pinned, Err(Error::Conflict { .. })), "{pinned:?}");
        let foreign = pair.write::<ops::SshHostKeyRemove>(pair.b).await.ssh_host_key_remove(met.id).await;
        assert!(matches!(foreign, Err(Error::NotFound { .. })), "{foreign:?}");
        pair.write::<ops::SshHostKeyRemove>(pair.a).await.ssh_host_key_remove(met.id).await.unwrap();
        let pinned =
            pair.write::<ops::SshHostKeyPin>(pair.a).await.ssh_host_key_pin(server, &second, None).await.unwrap();
        assert_eq!(pinned.origin, HostKeyOrigin::Pinned);
        assert_eq!(meet(pair, server, &first).await.unwrap().key, second);
        let nowhere = pair.write::<ops::SshHostKeyPin>(pair.a).await;
        let of = SshTarget { relay, target: &port };
        assert!(matches!(nowhere.ssh_host_key_pin(of, &first, None).await, Err(Error::Invalid { .. })));
        let page = pair.read::<ops::SshHostKeyList>(pair.a).await.ssh_host_key_list(None, 2).await.unwrap();
        assert_eq!((page.items.len(), page.next.is_some()), (2, true));
        let rest = pair.read::<ops::SshHostKeyList>(pair.a).await.ssh_host_key_list(page.next, 2).await.unwrap();
        assert_eq!((rest.items.len(), rest.next.is_some()), (1, false));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_replaced_in_one_step_by_whoever_names_the_one_that_is_there() {
    each_engine(async |pair| {
        let (target, first, second): (HostPort, _, _) = ("web1.example".parse().unwrap(), key(), key());
        let server = SshTarget { relay: None, target: &target };
        let met = meet(pair, server, &first).await.unwrap();
        let port: HostPort = "web1.example:2222".parse().unwrap();
        let elsewhere = meet(pair, SshTarget { relay: None, target: &port }, &first).await.unwrap();
        for wrong in [elsewhere.id, met.id] {
            // A key of another port, and one of this tenant's that another tenant names.
            let tenant = if wrong == met.id { pair.b } else { pair.a };
            let pin = pair.write::<ops::SshHostKeyPin>(tenant).await;
            let refused = pin.ssh_host_key_pin(server, &second, Some(wrong)).await;
            assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
        }
        assert_eq!(pair.count("ssh_host_key").await, 2, "what is refused takes nothing away");
        let pin = pair.write::<ops::SshHostKeyPin>(pair.a).await;
        let row = pin.ssh_host_key_pin(server, &second, Some(met.id)).await.unwrap();
        assert_eq!((row.key.clone(), row.origin), (second.clone(), HostKeyOrigin::Pinned));
        let (action, _, detail) = pair.audit(pair.a).await.pop().unwrap();
        assert_eq!((action.as_str(), &detail["fingerprint"]), ("ssh_host_key_pin", &json!(second.fingerprint())));
        assert_eq!(detail["before"]["fingerprint"], json!(first.fingerprint()));
        assert_eq!(meet(pair, server, &second).await.unwrap().id, row.id);
        // Whoever looked before that does not replace what they did not see.
        let pin = pair.write::<ops::SshHostKeyPin>(pair.a).await;
        let stale = pin.ssh_host_key_pin(server, &first, Some(met.id)).await;
        assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_first_contacts_at_once_with_different_keys_one_wins() {
    each_engine(async |pair| {
        for round in 0..8 {
            let target: HostPort = format!("h{round}.example").parse().unwrap();
            let of = SshTarget { relay: None, target: &target };
            let (a, b) = (key(), key());
            let (met_a, met_b) = tokio::join!(meet(pair, of, &a), meet(pair, of, &b));
            let (met_a, met_b) = (met_a.unwrap(), met_b.unwrap());
            assert_eq!((met_a.id, &met_a.key), (met_b.id, &met_b.key), "both are told of the one that counts");
            assert!(met_a.key == a || met_a.key == b);
            let records = pair.audit(pair.a).await;
            let outcomes: Vec<_> = records.iter().rev().take(2).map(|(_, outcome, _)| outcome.as_str()).collect();
            assert_eq!(outcomes, ["deny", "success"], "the second one is an alarm");
        }
    })
    .await;
}
