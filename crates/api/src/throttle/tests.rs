//! The counters by themselves, on a clock that is set by hand.

use std::time::Duration;

use domain::Clock as _;
use testkit::{TestClock, TestRng};

use super::*;

fn throttle() -> (Arc<Throttle>, TestClock) {
    (Arc::new(Throttle::new(2, &TestRng::seeded(7))), TestClock::default())
}

fn email(text: &str) -> Email {
    text.parse().unwrap()
}

fn ip(n: u32) -> IpAddr {
    IpAddr::V4(n.into())
}

/// How many of `tries` guesses were let through, one after the other, each from an address of its own.
fn let_through(throttle: &Arc<Throttle>, clock: &TestClock, who: &str, from: u32, tries: u32) -> usize {
    (0..tries).filter(|n| throttle.sign_in(&email(who), Some(ip(from + n)), false, clock.now()).is_ok()).count()
}

#[test]
fn past_the_free_tries_each_wait_is_twice_the_one_before_up_to_a_bound() {
    let (throttle, clock) = throttle();
    assert_eq!(let_through(&throttle, &clock, "ann@example.org", 0, 100), 10, "at one moment");
    let mut waits = Vec::new();
    for n in 0..14 {
        let wait = throttle.sign_in(&email("ann@example.org"), Some(ip(1_000 + n)), false, clock.now()).unwrap_err();
        waits.push(wait.ms / 1_000);
        clock.advance(Duration::from_millis(wait.ms.unsigned_abs()));
        drop(throttle.sign_in(&email("ann@example.org"), Some(ip(1_000 + n)), false, clock.now()).unwrap());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
    clock.advance(Duration::from_hours(24));
    assert_eq!(let_through(&throttle, &clock, "ann@example.org", 0, 100), 10, "forgotten after a day");
}

#[test]
fn a_day_of_guessing_at_one_account_from_everywhere_is_about_a_hundred_guesses() {
    let (throttle, clock) = throttle();
    let mut judged = 0;
    for second in 0..24 * 3_600 {
        judged += let_through(&throttle, &clock, "ann@example.org", second, 1);
        clock.advance(Duration::from_secs(1));
    }
    assert!((100..=120).contains(&judged), "{judged}");
}

#[test]
fn who_guesses_elsewhere_cannot_make_the_owner_at_home_wait() {
    let (throttle, clock) = throttle();
    assert_eq!(let_through(&throttle, &clock, "ann@example.org", 1, 100_000), 10);
    for _ in 0..100 {
        throttle.sign_in(&email("ann@example.org"), Some(ip(7)), true, clock.now()).unwrap().was_right();
    }
    // Also where the same network is used up for strangers.
    for n in 0..100 {
        drop(throttle.sign_in(&email(&format!("x{n}@example.org")), Some(ip(7)), false, clock.now()));
    }
    assert!(throttle.sign_in(&email("y@example.org"), Some(ip(7)), false, clock.now()).is_err());
    throttle.sign_in(&email("ann@example.org"), Some(ip(7)), true, clock.now()).unwrap().was_right();
    // And at home it is counted too.
    let tries = (0..100)
        .filter(|_| throttle.sign_in(&email("ann@example.org"), Some(ip(7)), true, clock.now()).is_ok())
        .count();
    assert_eq!(tries, 10);
    let wait = throttle.sign_in(&email("ann@example.org"), Some(ip(7)), true, clock.now()).unwrap_err();
    assert!(wait.ms <= 30_000);
}

#[test]
fn a_right_guess_clears_its_account_and_not_what_its_network_did_to_others() {
    let (throttle, clock) = throttle();
    // An attacker with an account of their own signs in between guesses.
    let mut judged = 0;
    for n in 0..1_000 {
        if let Ok(own) = throttle.sign_in(&email("mallory@example.org"), Some(ip(1)), false, clock.now()) {
            own.was_right();
        }
        judged += usize::from(
            throttle.sign_in(&email(&format!("v{n}@example.org")), Some(ip(1)), false, clock.now()).is_ok(),
        );
    }
    assert_eq!(judged, 30);
    assert_eq!(let_through(&throttle, &clock, "bob@example.org", 100, 9), 9);
    throttle.sign_in(&email("bob@example.org"), Some(ip(200)), false, clock.now()).unwrap().was_right();
    assert_eq!(let_through(&throttle, &clock, "bob@example.org", 300, 100), 10);
}

#[test]
fn guesses_at_once_are_counted_like_guesses_one_after_the_other() {
    let (throttle, clock) = throttle();
    let held: Vec<_> =
        (0..1_000).map(|n| throttle.sign_in(&email("ann@example.org"), Some(ip(n)), false, clock.now())).collect();
    assert_eq!(held.iter().filter(|guess| guess.is_ok()).count(), 10);
}

#[test]
fn an_ipv6_customer_is_one_network_and_an_ipv4_address_has_one_spelling() {
    let network = |text: &str| super::holder(text.parse().unwrap()).to_string();
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(network("2001:db8:1:2:ffff:ffff:ffff:ffff"), network("2001:db8:1:2::"));
    assert_ne!(network("2001:db8:1:3::"), network("2001:db8:1:2::"));
    assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
}

#[test]
fn a_million_names_and_addresses_take_no_more_memory_and_push_out_no_hot_counter() {
    let (throttle, clock) = throttle();
    let size = |throttle: &Throttle| {
        let table = throttle.table();
        (table.0.len(), table.0.capacity())
    };
    let before = size(&throttle);
    assert_eq!(let_through(&throttle, &clock, "victim@example.org", 1, 20), 10);
    for n in 0..1_000_000 {
        drop(throttle.sign_in(&email(&format!("{n}@example.org")), Some(ip(1_000 + n)), false, clock.now()));
    }
    assert_eq!(size(&throttle), before);
    assert!(before.1 * size_of::<[Slot; WAYS]>() < 4 * 1_024 * 1_024);
    assert_eq!(let_through(&throttle, &clock, "victim@example.org", 50, 20), 0, "the flood did not give new tries");
}

#[test]
fn a_burst_is_told_once_and_the_next_burst_again() {
    let (throttle, clock) = throttle();
    let told = |tries: u32| {
        (0..tries)
            .filter(|n| {
                throttle
                    .sign_in(&email("ann@example.org"), Some(ip(*n)), false, clock.now())
                    .is_err_and(|wait| wait.first)
            })
            .count()
    };
    assert_eq!(told(1_000), 1);
    assert_eq!(told(1_000), 0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(told(1_000), 1);
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_wait_longer_than_the_bound() {
    let (throttle, clock) = throttle();
    assert_eq!(let_through(&throttle, &clock, "ann@example.org", 0, 30), 10);
    clock.set(Timestamp::from_millis(0));
    let wait = throttle.sign_in(&email("ann@example.org"), Some(ip(99)), false, clock.now()).unwrap_err();
    assert!(wait.ms <= 1_000, "{wait:?}");
}

#[tokio::test]
async fn a_flood_of_strangers_waits_in_a_short_queue_of_its_own() {
    let (throttle, _) = throttle();
    let (release, released) = tokio::sync::watch::channel(false);
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (throttle, mut released) = (Arc::clone(&throttle), released.clone());
        flood.spawn(async move {
            match throttle.turn().await {
                Ok(_turn) => drop(released.wait_for(|go| *go).await),
                Err(wait) => return Err(wait.ms),
            }
            Ok(())
        });
    }
    for _ in 0..200 - STRANGERS_WAITING {
        assert_eq!(flood.join_next().await.unwrap().unwrap(), Err(1_000));
    }
    release.send(true).unwrap();
    while let Some(ended) = flood.join_next().await {
        assert_eq!(ended.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn whoever_hangs_up_while_their_guess_is_hashed_has_made_no_room_for_another() {
    let (throttle, _) = throttle();
    let turn = throttle.turn().await.unwrap();
    let (begun, wait_begun) = std::sync::mpsc::sync_channel::<()>(0);
    let (end, wait_end) = std::sync::mpsc::sync_channel::<()>(0);
    // As a handler does it: the turn is inside of the work, and the handler is dropped.
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        begun.send(()).unwrap();
        wait_end.recv().unwrap();
    });
    tokio::task::spawn_blocking(move || wait_begun.recv().unwrap()).await.unwrap();
    drop(work);
    assert_eq!(throttle.strangers.available_permits(), 0);
    tokio::task::spawn_blocking(move || end.send(()).unwrap()).await.unwrap();
    drop(throttle.turn().await.unwrap());
}
