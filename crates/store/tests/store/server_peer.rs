//! Servers of one database name themselves to each other, and nobody else does.

use domain::Digest;
use store::{PEER_LEASE_MS, ServerPeer};
use uuid::Uuid;

use crate::pair::{Pair, each_engine};

fn peer(n: u8) -> ServerPeer {
    ServerPeer { server: Uuid::from_bytes([n; 16]), address: format!("10.0.0.{n}:8444"), certificate: Digest([n; 32]) }
}

async fn rows(pair: &Pair<'_>) -> String {
    pair.raw(pair.a, "SELECT address FROM server_peer ORDER BY address").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_found_by_its_id_and_its_certificate_while_it_gives_signs_of_life() {
    each_engine(async |pair| {
        // Two that start together agree on the key.
        let other = pair.with_another_server().await;
        let (key, theirs) = tokio::join!(pair.store.peer_key(), other.store.peer_key());
        let (key, theirs) = (key.unwrap(), theirs.unwrap());
        pair.store.peer_publish(&key, &peer(1)).await.unwrap();
        let half = std::time::Duration::from_millis(PEER_LEASE_MS.unsigned_abs() / 2 + 1);
        pair.clock.advance(half);
        other.store.peer_publish(&theirs, &peer(2)).await.unwrap();
        for n in [1, 2] {
            assert_eq!(other.store.peer_find(&theirs, peer(n).server).await.unwrap(), Some(peer(n)));
            assert_eq!(pair.store.peer_of_certificate(&key, peer(n).certificate).await.unwrap(), Some(peer(n)));
        }
        let mut all = pair.store.peer_list(&key).await.unwrap();
        all.sort_by(|one, two| one.address.cmp(&two.address));
        assert_eq!(all, [peer(1), peer(2)]);
        pair.clock.advance(half);
        assert_eq!(pair.store.peer_list(&key).await.unwrap(), [peer(2)]);
        assert_eq!(other.store.peer_find(&theirs, peer(1).server).await.unwrap(), None, "it is silent");
        assert_eq!(other.store.peer_of_certificate(&theirs, peer(1).certificate).await.unwrap(), None);
        assert_eq!(other.store.peer_find(&theirs, peer(2).server).await.unwrap(), Some(peer(2)));
        pair.store.peer_forget(peer(2).server).await.unwrap();
        assert_eq!(other.store.peer_find(&theirs, peer(2).server).await.unwrap(), None);
        pair.clock.advance(std::time::Duration::from_hours(25));
        pair.store.peer_publish(&key, &peer(3)).await.unwrap();
        assert_eq!(rows(pair).await.trim(), "10.0.0.3:8444", "what is long gone goes");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_writes_to_the_database_names_no_server_and_moves_none() {
    each_engine(async |pair| {
        let key = pair.store.peer_key().await.unwrap();
        let hex = |n: u8| {
            let bytes = format!("{n:02x}").repeat(32);
            if pair.postgres().is_some() { format!("'\\x{bytes}'::bytea") } else { format!("x'{bytes}'") }
        };
        for change in [
            "address = '10.6.6.6:8444'".to_owned(),
            format!("certificate = {}", hex(6)),
            "until = until + 1".to_owned(),
            format!("proof = {}", hex(0)),
        ] {
            pair.store.peer_publish(&key, &peer(1)).await.unwrap();
            assert!(pair.store.peer_find(&key, peer(1).server).await.unwrap().is_some());
            let _ = pair.raw(pair.a, &format!("UPDATE server_peer SET {change} RETURNING address")).await.unwrap();
            assert_eq!(pair.store.peer_find(&key, peer(1).server).await.unwrap(), None, "{change}");
            for certificate in [Digest([1; 32]), Digest([6; 32])] {
                assert_eq!(pair.store.peer_of_certificate(&key, certificate).await.unwrap(), None, "{change}");
            }
        }
    })
    .await;
}
