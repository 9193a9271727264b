//! Devices over SNMP: real net-snmp agents, from `creds add` to findings, and a second run that writes nothing. By the server itself, and by
//! a relay which alone may reach them.

use serde_json::{Value, json};
use testkit::cable::Cable;
use testkit::{Snmpd, logs};

use crate::relay_world::{Relay, port};
use crate::world::{Engine, Ran, World};

/// A server, and who makes its calls.
struct Site {
    world: World,
    relay: Option<Relay>,
}

impl std::ops::Deref for Site {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

fn list(world: &World, what: &[&str]) -> Vec<Value> {
    let listed = world.cairn(what.iter().copied().chain(["--all", "-o", "json"])).ok().json();
    listed.as_array().unwrap().clone()
}

fn run(site: &Site, credential: &str, targets: &str) -> Ran {
    let targets = format!("targets={targets}");
    // What the machine that runs the tests does meanwhile is left out.
    let set = ["--set", &targets, "--set", "collectors=interfaces,addresses,neighbors,components", "--set", "wait_s=5"];
    let job = ["jobs", "run", "--plugin", "snmp", "--credential", credential, "--wait", "-o", "json"];
    let by: &[&str] = if site.relay.is_some() { &["--relay", "rly-1"] } else { &[] };
    site.cairn(job.iter().chain(&set).chain(by))
}

fn verdict(site: &Site, scope: &str) -> Option<String> {
    let source = site.relay.as_ref().map_or_else(|| "snmp".to_owned(), |relay| format!("snmp@{}", relay.id));
    let ledger = list(site, &["coverage", "--source", &source]);
    let entry = ledger.iter().find(|entry| entry["scope"] == scope)?;
    entry["last_verdict"].as_str().map(str::to_owned)
}

/// Every node with the moment since which it is as it is; without interfaces that other tests of this machine make and remove.
fn nodes(world: &World) -> Vec<Value> {
    let all = list(world, &["nodes", "list"]);
    let quiet = all.iter().filter(|node| {
        let id = node["id"].as_str().unwrap();
        !(id.contains(":snmp.interface:") || id.contains(":snmp.address:"))
            || id.ends_with("/lo")
            || id.ends_with("/127.0.0.1")
    });
    quiet.map(|node| json!([node["id"], node["valid_from"]])).collect()
}

#[test]
fn devices_over_snmp_are_collected_and_judged_and_a_second_run_writes_nothing_on_sqlite() {
    walk(Engine::Sqlite, false);
}

#[test]
fn devices_over_snmp_are_collected_and_judged_and_a_second_run_writes_nothing_on_postgres() {
    walk(Engine::postgres(), false);
}

#[test]
fn devices_over_snmp_are_collected_and_judged_through_a_relay() {
    walk(Engine::postgres(), true);
}

fn walk(engine: Engine, through_a_relay: bool) {
    let password = logs::plant("a password of an SNMP user");
    let config = format!(
        "engineID a-device-of-a-journey\nsysName dut\nrocommunity public\ncreateUser reader SHA-256 {password} AES {password}\nrouser reader priv\n\
         override .1.3.6.1.2.1.47.1.1.1.1.5.1 integer 3\noverride .1.3.6.1.2.1.47.1.1.1.1.7.1 octet_str \"Switch 1\"\n"
    );
    let mut device = Snmpd::start(&config);
    let world = World::new(engine)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", if through_a_relay { "false" } else { "true" });
    let server = world.start();
    world.first_login(&server);
    let relay = through_a_relay.then(|| {
        // The tenant's own machines are its own to name.
        world.cairn(["tenants", "target-policy", "--allow", "127.0.0.0/8"]).ok();
        Relay::start(&world, &server, &Cable::to(port(&server)), &[])
    });
    let world = Site { world, relay };
    let add = |name: &str, kind: &str, secret: &Value| {
        let add = ["creds", "add", "--plugin", "snmp", "--name", name, "--type", kind, "--secret-stdin"];
        world.cairn_with(add, &secret.to_string())
    };
    let user = json!({
        "username": "reader", "auth_protocol": "SHA-256", "auth_password": password,
        "privacy_protocol": "AES", "privacy_password": password,
    });
    add("secure", "snmp-v3", &user).ok();
    add("plain", "snmp-community", &json!({ "community": "public" })).ok();
    let target = format!("127.0.0.1:{}", device.port);

    // Once with a neighbour that is not there: it closes nothing, and is told.
    assert_eq!(run(&world, "secure", &format!("{target},127.0.0.9:1")).json()["status"], "partial");
    assert_eq!(verdict(&world, "snmp-target:127.0.0.9:1").as_deref(), Some("failed"));
    assert_eq!(verdict(&world, &format!("snmp-target:{target}")).as_deref(), Some("complete"));
    let chassis = list(&world, &["nodes", "list", "--type", "snmp.chassis"]);
    assert_eq!((chassis.len(), &chassis[0]["name"]), (1, &json!("dut")), "{chassis:?}");
    assert!(!list(&world, &["nodes", "list", "--type", "snmp.interface"]).is_empty());
    assert_eq!(list(&world, &["nodes", "list", "--type", "snmp.component"]).len(), 1);

    let before = nodes(&world);
    run(&world, "secure", &target).ok();
    assert_eq!(nodes(&world), before, "the second run wrote something");

    // The same device by a community that everybody knows is the same node, and a finding until it is read with v3 again.
    let open = |world: &Site| -> Vec<String> {
        let findings = list(world, &["findings", "list", "--status", "open"]);
        findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
    };
    assert!(!open(&world).contains(&"snmp-version-3".to_owned()));
    run(&world, "plain", &target).ok();
    for rule in ["snmp-version-3", "snmp-default-community"] {
        assert!(open(&world).contains(&rule.to_owned()), "{rule} is not in {:?}", open(&world));
    }
    run(&world, "secure", &target).ok();
    assert!(!open(&world).contains(&"snmp-version-3".to_owned()));
    assert_eq!(list(&world, &["nodes", "list", "--type", "snmp.chassis"]).len(), 1);

    // What the device no longer shows is closed by a walk that came to its end, and by nothing else.
    let id = chassis[0]["id"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    device.restart(config.split("override").next());
    run(&world, "secure", &target).ok();
    assert_eq!(verdict(&world, &format!("snmp:{id}:components")).as_deref(), Some("absent"));
    assert_eq!(list(&world, &["nodes", "list", "--type", "snmp.component"]).len(), 0);
    assert_eq!(list(&world, &["nodes", "list", "--type", "snmp.chassis"]).len(), 1);
    drop(device);
    assert_eq!(run(&world, "secure", &target).json()["status"], "failed");
    assert_eq!(
        list(&world, &["nodes", "list", "--type", "snmp.chassis"]).len(),
        1,
        "a dead device is not a closed one"
    );
    if let Some(relay) = world.relay {
        relay.stop();
    }
    server.stop();
}
