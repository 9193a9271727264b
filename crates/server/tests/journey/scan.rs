//! A network, scanned by the real server, which stands in a network namespace with a cable to it, or by a relay there that a server sees only by
//! another cable. Needs root, as CI is.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;

use serde_json::Value;
use testkit::Lab;
use testkit::cable::Cable;

use crate::relay_world::{Relay, port};
use crate::world::{Engine, Ran, World, until};

const FTP: &str = "10.61.0.9:2121";

fn list(world: &World, what: &[&str]) -> Vec<Value> {
    let listed = world.cairn(what.iter().copied().chain(["--all", "-o", "json"])).ok().json();
    listed.as_array().unwrap().clone()
}

fn run(world: &World, set: &[&str]) -> Ran {
    let mut job = vec!["jobs", "run", "--plugin", "network-scan", "--wait", "-o", "json"];
    job.extend(set.iter().flat_map(|set| ["--set", set]));
    world.cairn(job)
}

/// Scans the network of the tests; with `--relay NAME`, by a relay.
fn scan(world: &World, by: &[&str]) -> Value {
    let set = ["--set", "targets=10.61.0.0/24", "--set", "ports=2121,2200-2300", "--set", "rate=100000"];
    let job = ["jobs", "run", "--plugin", "network-scan", "--wait", "-o", "json"];
    world.cairn(job.iter().chain(&set).chain(by)).json()
}

/// The open nodes, without when their scope was last read: that is no fact of theirs.
fn open(world: &World, kind: &str) -> Vec<Value> {
    let mut nodes = list(world, &["nodes", "list", "--type", kind]);
    nodes.retain(|node| node["closed_at"].is_null());
    for node in &mut nodes {
        node.as_object_mut().unwrap().remove("discovered_at");
    }
    nodes
}

fn addresses(world: &World) -> BTreeSet<String> {
    open(world, "network.address").iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

fn reasons(job: &Value) -> String {
    let coverage = job["coverage"].as_array().unwrap().iter();
    coverage.filter_map(|scope| scope["reason"].as_str()).collect::<Vec<_>>().join("\n")
}

/// A network with hosts `10.61.0.8` to `.11`, one of which greets as an FTP server.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.hosts("ip route add local 10.61.0.8/30 dev lo; ip route add blackhole 10.61.0.0/24");
    lab.there(|| {
        let listener = TcpListener::bind(FTP).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(b"220 ftp.example ready 12:00:07\r\n"));
            }
        });
    });
    lab
}

fn world(engine: Engine) -> World {
    World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false")
}

#[test]
fn a_network_is_scanned_and_judged_and_only_what_is_proven_gone_is_closed() {
    let lab = lab();
    lab.here(|| {
        let world = world(Engine::Sqlite);
        let server = world.start();
        world.first_login(&server);
        walk(&lab, &world, &[]);
        server.stop();
    });
}

#[test]
fn a_network_that_only_a_relay_reaches_is_scanned_and_judged_and_only_what_is_proven_gone_is_closed() {
    let lab = lab();
    let world = world(Engine::postgres());
    let server = world.start();
    world.first_login(&server);
    let near = lab.here(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let relay = Relay::start_under(&lab.here_words(), &world, &server, &Cable::from(near, port(&server)));
    walk(&lab, &world, &["--relay", "rly-1"]);
    relay.stop();
    server.stop();
}

fn walk(lab: &Lab, world: &World, by: &[&str]) {
    let first = scan(world, by);
    assert_eq!(first["status"], "completed", "{first:#}");
    let hosts = |from: u8, to: u8| (from..to).map(|n| format!("10.61.0.{n}")).collect::<BTreeSet<String>>();
    assert_eq!(addresses(world), hosts(8, 12));
    let services = open(world, "network.service");
    assert_eq!(services.len(), 1, "{services:?}");
    assert_eq!(services[0]["properties"]["banner"], "220 ftp.example ready *");
    until("the finding about FTP", || {
        let findings = list(world, &["findings", "list", "--status", "open"]);
        findings.into_iter().find(|finding| finding["rule"] == "network-ftp")
    });

    // The same once more: no version of a node is written.
    let before = open(world, "network.address");
    assert_eq!(scan(world, by)["status"], "completed");
    assert_eq!((open(world, "network.address"), open(world, "network.service")), (before.clone(), services.clone()));

    // All of it falls silent: that is how a cut cable looks too, and nothing is closed.
    lab.hosts("ip route del local 10.61.0.8/30 dev lo");
    let cut = scan(world, by);
    assert_eq!(cut["status"], "partial", "{cut:#}");
    assert!(reasons(&cut).contains("nothing answered"), "{cut:#}");
    assert_eq!((open(world, "network.address"), open(world, "network.service")), (before.clone(), services.clone()));

    // Half of it cannot be asked: nothing is closed there, nor elsewhere.
    lab.hosts("ip route add local 10.61.0.8/31 dev lo");
    lab.near("ip route add unreachable 10.61.0.10/31");
    let half = scan(world, by);
    assert_eq!(half["status"], "partial", "{half:#}");
    assert!(reasons(&half).contains("could not be sent"), "{half:#}");
    assert_eq!(addresses(world), hosts(8, 12));
    lab.near("ip route del unreachable 10.61.0.10/31");

    // Two hosts are gone while others answer: they are closed, and so is nothing else.
    let gone = scan(world, by);
    assert_eq!(gone["status"], "completed", "{gone:#}");
    assert_eq!(addresses(world), hosts(8, 10));
    assert_eq!(open(world, "network.service"), services);
}

#[test]
fn targets_that_must_not_be_scanned_end_in_an_error_that_says_why() {
    let lab = Lab::new();
    lab.here(|| {
        let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
        let server = world.start();
        world.first_login(&server);
        for (target, why) in [
            ("10.0.0.0/8", "more than 1048576 addresses: split it"),
            ("8.8.8.8", "only private networks are scanned"),
            ("10.0.0.1/8", "the bits behind the prefix must be zero"),
        ] {
            let refused = run(&world, &[&format!("targets={target}")]);
            assert!(refused.code != 0 && refused.err.contains(why), "{target}: {} {}", refused.out, refused.err);
        }
        for (target, why) in [
            ("127.0.0.1", "an address of this machine itself"),
            ("169.254.1.0/30", "a link-local address"),
            ("169.254.169.254", "a cloud's metadata service"),
            ("100.100.100.192/28", "`exclude`"),
        ] {
            let refused = run(&world, &[&format!("targets={target}"), "ports=80"]);
            let job = refused.json();
            assert!(refused.code != 0 && job["status"] == "failed" && reasons(&job).contains(why), "{target}: {job:#}");
        }
        assert!(addresses(&world).is_empty());
        server.stop();
    });
}
