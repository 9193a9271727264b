//! Discovery where the server does not reach: real relays on cables that are cut, and two servers on one database.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};

use serde_json::Value;
use testkit::cable::Cable;
use testkit::logs;
use testkit::moto::Moto;

use crate::relay_world::{Relay, api, port, trust_also};
use crate::simulated::{Simulated, Way};
use crate::world::{Engine, World, faketime, until};

fn world(engine: Engine) -> World {
    World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false")
}

/// Begins a job of the relay's own machine; its id.
fn begin(world: &World, extra: &[&str]) -> String {
    let words = ["jobs", "run", "--plugin", "host", "--relay", "rly-1", "-o", "json"];
    let job = world.cairn(words.iter().chain(extra)).ok().json();
    job["id"].as_str().unwrap().to_owned()
}

fn shown(world: &World, job: &str) -> Value {
    world.cairn(["jobs", "show", job, "-o", "json"]).ok().json()
}

/// The job when it has ended, which has to be well.
fn completed(world: &World, job: &str) -> Value {
    let job = until("the job's end", || {
        let job = shown(world, job);
        let is_open = ["queued", "running"].contains(&job["status"].as_str().unwrap());
        (!is_open).then_some(job)
    });
    assert!(["completed", "partial"].contains(&job["status"].as_str().unwrap()), "{job}");
    job
}

fn records(world: &World, action: &str, outcome: &str) -> usize {
    let all = world.cairn(["audit", "list", "--all", "-o", "json"]).ok().json();
    let all = all.as_array().unwrap().clone();
    all.iter().filter(|record| record["action"] == action && record["outcome"] == outcome).count()
}

fn a_task_outlives_its_link_and_its_relay(engine: Engine) {
    let world = world(engine);
    let server = world.start();
    world.first_login(&server);
    let cable = Cable::to(port(&server));
    let mut relay = Relay::start(&world, &server, &cable, &[]);

    // The link is cut in mid-task: the same try goes on over the next link.
    let job = begin(&world, &[]);
    relay.says_times("a task begins", 2);
    cable.cut();
    relay.says("resumed=true");
    let ended = completed(&world, &job);
    assert_eq!(ended["relay"].as_str().unwrap(), relay.id);
    assert_eq!(ended["tasks"][0]["attempt"], 1, "{ended}");
    let nodes = world.cairn(["nodes", "list", "-o", "json"]).ok().json();
    assert!(nodes.as_array().unwrap().len() > 20);

    // The relay is killed in mid-task: another process of it begins the task anew.
    cable.hold(false);
    let job = begin(&world, &[]);
    relay.says_times("a task begins", 4);
    relay.kill();
    let mut relay = Relay::start(&world, &server, &cable, &[]);
    relay.says("a task begins");
    let ended = completed(&world, &job);
    assert!(ended["tasks"][0]["attempt"].as_u64().unwrap() >= 2, "{ended}");

    // A job that is cancelled ends on the relay too.
    let job = begin(&world, &[]);
    let begun = relay.said().matches("a task begins").count();
    relay.says_times("a task begins", begun.max(2));
    let _ = world.cairn(["jobs", "cancel", &job]);
    until("the cancelled job's end", || {
        let status = shown(&world, &job)["status"].as_str().unwrap().to_owned();
        (!["queued", "running"].contains(&status.as_str())).then_some(())
    });

    // Revoked: the connection is cut, and it does not come back.
    let (status, _) = api(&world, &server, "DELETE", &format!("relays/{}", relay.id), None);
    assert_eq!(status, 204);
    relay.says("let in no more");
    relay.says("HTTP 401");
    let refused = world.cairn(["jobs", "run", "--plugin", "host", "--relay", "rly-1"]);
    assert!(refused.code != 0 && refused.err.contains("there is no relay"), "{}", refused.err);
    assert!(records(&world, "relay_connect", "success") >= 2);
    relay.stop();
    server.stop();
}

#[test]
fn a_task_outlives_its_link_and_its_relay_on_sqlite() {
    a_task_outlives_its_link_and_its_relay(Engine::Sqlite);
}

#[test]
fn a_task_outlives_its_link_and_its_relay_on_postgres() {
    a_task_outlives_its_link_and_its_relay(Engine::postgres());
}

#[test]
fn a_cut_for_longer_than_a_lease_costs_a_task_its_try_and_not_the_job() {
    let world = world(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    let cable = Cable::to(port(&server));
    let mut relay = Relay::start(&world, &server, &cable, &[]);
    let job = begin(&world, &[]);
    relay.says_times("a task begins", 2);
    // Nobody answers any more, until the server has let go of the relay.
    cable.plug(None);
    cable.cut();
    until("the end of the relay's session", || {
        let relay = world.cairn(["relays", "show", "rly-1", "-o", "json"]).ok().json();
        relay["server"].is_null().then_some(())
    });
    assert!(["queued", "running"].contains(&shown(&world, &job)["status"].as_str().unwrap()));
    cable.plug(Some(port(&server)));
    relay.says_times("connected", 2);
    let ended = completed(&world, &job);
    assert!(ended["tasks"][0]["attempt"].as_u64().unwrap() >= 2, "{ended}");
    relay.stop();
    server.stop();
}

#[test]
fn a_relay_whose_clock_is_an_hour_off_is_told_the_time_and_works() {
    let world = world(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    let cable = Cable::to(port(&server));
    for by in ["+3600s", "-3600s"] {
        let clock = [("LD_PRELOAD", &*faketime(by)), ("FAKETIME", by)];
        // The second is a start of the same one, whose clock was set back by two hours.
        let relay = Relay::start(&world, &server, &cable, &clock);
        completed(&world, &begin(&world, &[]));
        relay.stop();
    }
    // What is stored is told by the server's clock, and nobody took it for a copy.
    let shown = world.cairn(["relays", "show", "rly-1", "-o", "json"]).ok().json();
    assert_eq!((&shown["state"], &shown["health"]), (&"active".into(), &"online".into()), "{shown}");
    server.stop();
}

#[test]
fn a_job_that_is_started_at_one_server_runs_on_a_relay_of_another_and_outlives_the_server_that_is_killed() {
    let first = world(Engine::postgres());
    let one = first.start();
    first.first_login(&one);
    let second = first.beside();
    let two = second.start();
    trust_also(&first, &second);
    let cable = Cable::to(port(&one));
    let mut relay = Relay::start(&first, &one, &cable, &[]);

    // Started at the second server, done by the relay that hangs on the first.
    second.login(&two);
    completed(&second, &begin(&second, &[]));

    // The first is killed in mid-task; the relay comes to the second, which does the rest.
    let begun = relay.said().matches("a task begins").count();
    let job = begin(&second, &[]);
    relay.says_times("a task begins", begun + 2);
    cable.hold(true);
    cable.plug(Some(port(&two)));
    one.kill();
    cable.cut();
    cable.hold(false);
    let ended = completed(&second, &job);
    assert!(ended["tasks"][0]["attempt"].as_u64().unwrap() >= 2, "{ended}");
    relay.stop();
    two.stop();
}

/// Whether the memory of a process holds these bytes.
fn memory_holds(pid: u32, wanted: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().any(|line| {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        if !rights.starts_with("rw") || memory.seek(SeekFrom::Start(from)).is_err() {
            return false;
        }
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Some ranges cannot be read.
        memory.read_exact(&mut bytes).is_ok() && bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

fn files_under(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_under(&path, found) } else { found.push(path) }
    }
}

/// An AWS job of the relay with this secret.
fn aws_job(world: &World, secret: &str, endpoint: &str, name: &str) -> String {
    let document = serde_json::json!({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": secret});
    world
        .cairn_with(
            ["creds", "add", "--plugin", "aws", "--name", name, "--type", "aws-keys", "--secret-stdin"],
            &document.to_string(),
        )
        .ok();
    let endpoint = format!("endpoint_url={endpoint}");
    let words = ["jobs", "run", "--plugin", "aws", "--credential", name, "--relay", "rly-1", "-o", "json"];
    let job = world.cairn(words.iter().chain(&["--set", "regions=[\"us-east-1\"]", "--set", endpoint.as_str()]));
    job.ok().json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn attack_59_a_credential_that_a_relay_used_is_neither_on_its_disk_nor_in_its_memory() {
    let world = world(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    world.cairn(["tenants", "target-policy", "--allow", "127.0.0.0/8"]).ok();
    let (cable, moto) = (Cable::to(port(&server)), Moto::start());
    let mut relay = Relay::start_read_only(&world, &server, &cable);
    let secret = logs::plant("relay-aws-secret");
    let job = aws_job(&world, &secret, &moto.url, "prod");
    relay.says_times("a task ended", 2);
    let ended = completed(&world, &job);
    assert!(ended["coverage"].as_array().unwrap().iter().any(|scope| scope["coverage"] == "complete"), "{ended}");

    let server_url = format!("https://127.0.0.1:{}/", cable.port());
    assert!(memory_holds(relay.pid(), server_url.as_bytes()), "the search finds what is there");
    assert!(!memory_holds(relay.pid(), secret.as_bytes()), "the credential is still in the relay's memory");
    let mut files = Vec::new();
    for folder in ["relay", "relay-home", "relay-tmp"] {
        files_under(&world.path(folder), &mut files);
    }
    assert!(files.iter().any(|file| file.ends_with("identity.json")));
    for file in files {
        assert!(file.starts_with(world.path("relay")), "{} was written", file.display());
        assert!(logs::scan(fs::read(&file).unwrap()).iter().all(|leak| leak.name != "relay-aws-secret"));
    }
    assert!(!relay.said().contains(&secret));
    relay.stop();
    server.stop();
}

/// Revokes a relay, and says how long its connection was still there.
fn revoked_within(world: &World, server: &crate::world::Server, relay: &mut Relay, path: &str) -> std::time::Duration {
    let began = std::time::Instant::now();
    assert_eq!(api(world, server, "DELETE", path, None).0, 204);
    relay.says("let in no more");
    began.elapsed()
}

#[test]
fn attack_23_a_relay_that_is_revoked_at_another_server_loses_its_connection_and_is_refused() {
    let first = world(Engine::postgres());
    let one = first.start();
    first.first_login(&one);
    let second = first.beside();
    let two = second.start();
    trust_also(&first, &second);
    second.login(&two);
    let cable = Cable::to(port(&one));
    let mut relay = Relay::start(&first, &one, &cable, &[]);
    // Where it does not hang: the other server hears of it in the database.
    let path = format!("relays/{}", relay.id);
    let took = revoked_within(&second, &two, &mut relay, &path);
    println!("revoked at another server, cut after {took:?}");
    // Its process says what to do, and asks no more until somebody did it.
    relay.says("asks again in an hour");
    assert_eq!(relay.said().matches("HTTP 401").count(), 1, "{}", relay.said());
    let shown = first.cairn(["relays", "show", &relay.id, "-o", "json"]).ok().json();
    assert_eq!((&shown["state"], &shown["server"]), (&"revoked".into(), &Value::Null), "{shown}");
    relay.stop();
    two.stop();
    one.stop();
}

#[test]
fn attack_24_a_second_connection_at_another_server_is_refused_with_an_alarm_while_the_first_answers() {
    let first = world(Engine::postgres());
    let one = first.start();
    first.first_login(&one);
    let second = first.beside();
    let two = second.start();
    second.login(&two);
    let way = |world: &World, server| {
        Way::new(port(server), &world.data().join("ca.crt"), &world.path("home").join("config.json"))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (here, elsewhere) = (way(&first, &one), way(&second, &two));
    let fleet = runtime.block_on(Simulated::enroll(here, 0, 1));
    // Within the runtime, in which it stays connected.
    let entered = runtime.enter();
    fleet.link();
    drop(entered);
    until("the relay's connection", || fleet.all_linked().then_some(()));
    // With the relay's own key, and with numbers that it has not used: no copy is to be seen by its proofs.
    let refused = runtime.block_on(fleet.connect_again(&elsewhere)).expect("it is refused");
    assert!(refused.contains("another connection has this identity"), "{refused}");
    let told = second.cairn(["audit", "list", "--all", "--action", "relay_connect", "-o", "json"]).ok().json();
    let denied: Vec<_> = told.as_array().unwrap().iter().filter(|record| record["outcome"] == "deny").collect();
    assert_eq!(denied.len(), 1, "{told}");
    assert_eq!(denied[0]["detail"]["alarm"], true, "{told}");
    // The first one has not even noticed.
    assert!(fleet.all_linked());
    assert_eq!(fleet.counts.welcomed.load(std::sync::atomic::Ordering::Relaxed), 1);
    runtime.shutdown_background();
    two.stop();
    one.stop();
}

#[test]
fn attack_25_a_target_that_is_refused_is_refused_at_the_server_and_at_the_relay() {
    // What the installation lets be a target of its own machine is no word about a relay's.
    let world = world(Engine::Sqlite).with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", "true");
    let server = world.start();
    world.first_login(&server);
    let cable = Cable::to(port(&server));
    let secret = logs::plant("relay-refused-secret");
    let refused = |world: &World, endpoint: &str, name: &str| {
        let job = aws_job(world, &secret, endpoint, name);
        until("the job's end", || {
            let job = shown(world, &job);
            (job["status"] == "failed").then(|| job["error"].as_str().unwrap().to_owned())
        })
    };
    // At the server: an address of the machine that makes the call. The relay is not even asked.
    let relay = Relay::start(&world, &server, &cable, &[("RELAY_NETWORKS", "192.0.2.0/24")]);
    let said = refused(&world, "http://127.0.0.1:9", "one");
    assert!(said.contains("the tenant's target policy does not name it"), "{said}");
    assert!(!relay.said().contains("a task begins"), "{}", relay.said());
    // At the relay: an address that the server has nothing against, outside of the relay's networks.
    let said = refused(&world, "https://198.51.100.7:9", "two");
    assert!(said.contains("RELAY_NETWORKS"), "{said}");
    // What the tenant's policy names is no longer refused at the server. The relay's own networks still are its limit.
    world.cairn(["tenants", "target-policy", "--allow", "127.0.0.1"]).ok();
    let said = refused(&world, "http://127.0.0.1:9", "three");
    assert!(said.contains("RELAY_NETWORKS"), "{said}");
    relay.stop();
    server.stop();
}

#[test]
fn attack_59_neither_server_nor_relay_leaves_a_core_dump_and_a_relay_is_who_it_is_told_to_be() {
    let world = world(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    let cable = Cable::to(port(&server));
    let relay = Relay::start(&world, &server, &cable, &[]);
    for pid in [server.pid(), relay.pid()] {
        assert_eq!(testkit::program::core_limits(pid), ["0", "0"]);
    }
    let id = relay.id.clone();
    relay.stop();

    // Started with the id of another relay, it does not work with the identity of this one.
    let other = domain::RelayId::generate(&crypto::system::SystemClock, &crypto::system::SystemRng).to_string();
    let (code, said) = Relay::begin(&world, &server, &cable, &[("RELAY_ID", other.as_str())]).ended();
    assert!(
        code == Some(1) && said.contains(&format!("RELAY_ID is `{other}`")) && said.contains(&id),
        "{code:?} {said}"
    );
    let relay = Relay::start(&world, &server, &cable, &[("RELAY_ID", id.as_str())]);
    relay.stop();
    server.stop();
}
