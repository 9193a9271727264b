//! A relay on a hub, and a database that takes its time.

use bytes::BytesMut;
use crypto::aead::AeadKey;
use domain::{Clock as _, Timestamp};
use gateway::session::{Session, Timing};
use gateway::websocket::Side;
use gateway::{Channel, HubSettings, channel};
use store::{OpenOptions, VaultOptions};
use testkit::{Postgres, TestClock, TestRng};
use wire::frame::{Body, Frame, VERSION};
use wire::relay::{Hello, Welcome};

use super::*;

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_mins(1);

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A relay that hangs on this hub, and hears nothing but the end.
async fn hang(relays: &Arc<Relays>, relay: RelayId) {
    let (ours, mut theirs) = tokio::io::duplex(4_096);
    let serving = Arc::clone(relays);
    tokio::spawn(async move { serving.hub.serve(relay, ours, async |_: &Hello| Ok(())).await.map(drop) });
    let hello = Hello {
        versions: vec![VERSION],
        session: None,
        received: 0,
        version: "1".to_owned(),
        program: crypto::sha256(b"program"),
        host: "test".to_owned(),
        plugins: Vec::new(),
        sealing_key: String::new(),
    };
    let (hello, rng, mut rest) = (serde_json::to_vec(&hello).unwrap(), TestRng::seeded(4), BytesMut::new());
    channel::write_first(&mut theirs, Side::Client, Body::Hello(&hello), &rng).await.unwrap();
    let first = channel::read_first(&mut theirs, Side::Client, &mut rest).await.unwrap();
    let Body::Welcome(welcome) = Frame::decode(&first).unwrap().body else { panic!() };
    let received = serde_json::from_slice::<Welcome>(welcome).unwrap().received;
    tokio::spawn(async move {
        let own = Channel::new(Session::relay(Timing::default()));
        own.drive(theirs, Side::Client, rest, received, &rng, &CancellationToken::new()).await
    });
    until("the relay's link", || relays.hub.relay(relay).is_some_and(|it| it.channel.is_linked())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_23_a_relay_is_cut_off_while_the_database_takes_its_time_to_write_down_who_is_alive() {
    let database = Arc::new(Postgres::shared().database());
    let (clock, rng) =
        (Arc::new(TestClock::at(Timestamp::from_millis(1_800_000_000_000))), Arc::new(TestRng::seeded(3)));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(OpenOptions {
        url: database.app_url.clone(),
        owner_url: Some(database.owner_url.clone()),
        master: AeadKey::from_bytes([7; 32]),
        vault: VaultOptions { witness: Some(dir.path().join("witness")), ..VaultOptions::default() },
        blobs: dir.path().join("blobs"),
        clock: clock.clone(),
        rng: rng.clone(),
    });
    let store = store.await.unwrap();
    let relays = Arc::new(Relays::new(HubSettings::default(), rng.clone(), "server".to_owned()));
    let relay = RelayId::generate(&*clock, &*rng);
    hang(&relays, relay).await;

    // Somebody holds the table in which it is written down.
    let holding = Arc::clone(&database);
    let holder = std::thread::spawn(move || {
        // It is ended from outside.
        let _ = holding.owner_sql("BEGIN; LOCK TABLE relay_link IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(300)");
    });
    let locks = |what: &str, granted: &str| {
        let own = "database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let of = format!("relation = 'relay_link'::regclass AND mode = '{what}' AND {granted}");
        database.owner_sql(&format!("SELECT pid FROM pg_locks WHERE {own} AND {of}")).unwrap().trim().to_owned()
    };
    until("the lock", || !locks("AccessExclusiveLock", "granted").is_empty()).await;
    let stop = CancellationToken::new();
    let kept = tokio::spawn(keep(store.clone(), Arc::clone(&relays), Arc::default(), stop.clone()));
    until("a look that waits", || !locks("RowExclusiveLock", "NOT granted").is_empty()).await;
    let (unit, at) = (relay.as_uuid(), clock.now().as_millis());
    let ended = format!("INSERT INTO fleet_ending (unit_id, kind, at) VALUES ('{unit}', 'relay', {at})");
    database.owner_sql(&ended).unwrap();
    until("the end of the relay's connection", || relays.hub.relay(relay).is_none()).await;
    assert!(!locks("RowExclusiveLock", "NOT granted").is_empty(), "the look still waits");
    let pid = locks("AccessExclusiveLock", "granted");
    database.owner_sql(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    holder.join().unwrap();
    stop.cancel();
    kept.await.unwrap();
    store.close().await;
}
