//! A server is killed and started again, and everybody comes back at once. `cargo xtask bench fleet` does the same with more of them.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::relay_world::port;
use crate::simulated::{Simulated, Way};
use crate::world::{Engine, World};

/// As many as a debug build enrolls and takes back within 20 s on two cores; 1,000 and 100 took 38 s, 27 of them of CPU. All 10,000 agents and
/// 1,000 relays come back in `cargo xtask bench fleet` (docs/BENCHMARKS.md).
const AGENTS: usize = 400;
const RELAYS: usize = 60;
/// Longest wait for all of them: debug builds on two busy cores are slow.
const PATIENCE: Duration = Duration::from_mins(5);

async fn all(what: &str, mut look: impl FnMut() -> bool) {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everybody of a kind, as an operator sees them.
fn listed(world: &World, noun: &str) -> Vec<Value> {
    world.cairn([noun, "list", "--all", "-o", "json"]).ok().json().as_array().unwrap().clone()
}

fn storm(engine: Engine) {
    let world = World::new(engine)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        // All come from one address here.
        .with("CAIRN_SERVER_CONNECTIONS_PER_ADDRESS", "4096");
    let server = world.start();
    world.first_login(&server);
    let at = port(&server);
    let way = Way::new(at, &world.data().join("ca.crt"), &world.path("home").join("config.json"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let fleet = runtime.block_on(async {
        let fleet = Simulated::enroll(way, AGENTS, RELAYS).await;
        fleet.link();
        fleet.start();
        fleet.check_in();
        all("the first check-in of all", || fleet.all_back()).await;
        fleet
    });
    server.kill();
    let began = Instant::now();
    // They do not wait for the server: it comes up among those who look for it.
    fleet.check_in();
    let server = world.start_on(&at.to_string());
    let health = runtime.block_on(async {
        let stop = CancellationToken::new();
        let watched = async {
            all("the return of all", || fleet.all_back()).await;
            stop.cancel();
        };
        tokio::join!(fleet.healthz(stop.clone()), watched).0
    });
    eprintln!("all were back {:?} after the kill; {health:?}; peak {} kB", began.elapsed(), server.peak_kb());
    assert!(health.since.is_some() && health.failed == 0, "{health:?}");
    assert!(server.peak_kb() < 400_000, "{} kB", server.peak_kb());
    let refused = fleet.counts.refused.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(refused, 0, "nobody was refused for good");
    // None is lost, none is there twice, none is taken for a copy.
    world.login(&server);
    for (noun, many) in [("agents", AGENTS), ("relays", RELAYS)] {
        let units = listed(&world, noun);
        let here = units.iter().filter(|unit| unit["state"] == "active" && unit["health"] == "online").count();
        assert_eq!((units.len(), here), (many, many), "{noun}");
    }
    for action in ["relay_connect", "agent_use", "relay_use", "agent_clone", "relay_clone"] {
        let records = world.cairn(["audit", "list", "--all", "--action", action, "-o", "json"]).ok().json();
        let denied = records.as_array().unwrap().iter().filter(|record| record["outcome"] != "success").count();
        assert_eq!(denied, 0, "{action}: {records}");
    }
    server.stop();
}

#[test]
fn everybody_comes_back_to_a_server_that_was_killed_and_nobody_is_lost_or_there_twice() {
    storm(Engine::Sqlite);
}

#[test]
fn everybody_comes_back_to_a_server_that_was_killed_on_postgresql_as_well() {
    storm(Engine::postgres());
}
