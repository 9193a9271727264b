//! A host over SSH: a real OpenSSH server, from `creds add` to findings.

use serde_json::{Value, json};
use testkit::Sshd;
use testkit::cable::Cable;

use crate::relay_world::{Relay, port};
use crate::world::{Engine, Ran, World};

fn list(world: &World, what: &[&str]) -> Vec<Value> {
    let listed = world.cairn(what.iter().copied().chain(["--all", "-o", "json"])).ok().json();
    listed.as_array().unwrap().clone()
}

fn run(world: &World, targets: &str, known_hosts: &str) -> Ran {
    let set = [
        format!("targets={targets}"),
        format!("known_hosts={known_hosts}"),
        "collectors=machine,accounts,mounts".to_owned(),
    ];
    let mut job = vec!["jobs", "run", "--plugin", "ssh-linux", "--credential", "lab", "--wait", "-o", "json"];
    job.extend(set.iter().flat_map(|set| ["--set", set]));
    world.cairn(job)
}

/// A job that trusts first contacts: how it ended, and the reasons that it gives.
fn met(world: &World, relay: Option<&str>, targets: &str) -> (String, String) {
    let targets = format!("targets={targets}");
    let mut job = vec!["jobs", "run", "--plugin", "ssh-linux", "--credential", "lab", "--wait", "-o", "json"];
    job.extend(["--set", &targets, "--set", "host_keys=first-use", "--set", "collectors=machine"]);
    job.extend(relay.iter().flat_map(|relay| ["--relay", relay]));
    let job = world.cairn(job).json();
    let reasons = job["coverage"].as_array().unwrap().iter().filter_map(|scope| scope["reason"].as_str());
    (job["status"].as_str().unwrap().to_owned(), reasons.collect::<Vec<_>>().join("\n"))
}

fn records(world: &World, action: &str, outcome: &str) -> Vec<Value> {
    let all = list(world, &["audit", "list"]);
    all.into_iter().filter(|record| record["action"] == action && record["outcome"] == outcome).collect()
}

/// The life of a host's key as the server or a relay meets it.
fn first_use(world: &World, relay: Option<&str>) {
    let mut sshd = Sshd::start();
    let target = format!("127.0.0.1:{}", sshd.port);
    let of_relay: Vec<&str> = relay.iter().flat_map(|relay| ["--relay", relay]).collect();
    let remembered = || {
        let keys = list(world, &["host-keys", "list"]);
        keys.into_iter().filter(|key| key["target"] == *target && key["relay"].as_str() == relay).collect::<Vec<_>>()
    };
    let fits = |status: &str, reasons: &str| assert_eq!(status, "completed", "{reasons}");
    let login = |sshd: &Sshd| sshd.read("authorized");
    // All servers of these tests let the same user in: the credential is of the first one.
    std::fs::write(sshd.path("authorized"), login(&sshd) + &std::fs::read_to_string(world.path("lab.pub")).unwrap())
        .unwrap();

    let (status, reasons) = met(world, relay, &target);
    fits(&status, &reasons);
    let first = remembered();
    assert_eq!((first.len(), first[0]["origin"].as_str()), (1, Some("first_contact")), "{first:?}");
    assert!(sshd.read("host.pub").contains(first[0]["key"].as_str().unwrap()));
    let met_before = records(world, "ssh_host_key_meet", "success").len();
    let (status, reasons) = met(world, relay, &target);
    fits(&status, &reasons);
    assert_eq!(records(world, "ssh_host_key_meet", "success").len(), met_before, "a second contact is none");

    // Somebody is in between, or the machine was set up again: it gets no credential, and the key that is known stays.
    let alarms = records(world, "ssh_host_key_meet", "deny").len();
    sshd.change_host_key();
    let (status, reasons) = met(world, relay, &target);
    let told = format!("{} is remembered", first[0]["fingerprint"].as_str().unwrap());
    assert_eq!(status, "failed", "{reasons}");
    assert!(reasons.contains(&told) && reasons.contains(&format!("cairn host-keys remove {target}")), "{reasons}");
    assert_eq!(remembered(), first);
    let alarm = records(world, "ssh_host_key_meet", "deny");
    assert_eq!((alarm.len(), &alarm[0]["detail"]["alarm"]), (alarms + 1, &json!(true)), "{alarm:?}");

    // The administrator checked it.
    let file = sshd.path("host.pub");
    let pin: Vec<&str> = ["host-keys", "pin", &target, "--key-file", file.to_str().unwrap()]
        .into_iter()
        .chain(of_relay.iter().copied())
        .collect();
    let refused = world.cairn(pin.iter().copied());
    assert!(refused.code == 1 && refused.err.contains("remove it first"), "{}", refused.err);
    world.cairn(["host-keys", "remove", &target].iter().chain(&of_relay)).ok();
    world.cairn(pin).ok();
    let (status, reasons) = met(world, relay, &target);
    fits(&status, &reasons);
    assert_eq!(remembered()[0]["origin"], "pinned");
}

#[test]
fn a_host_that_is_met_for_the_first_time_is_remembered_and_refused_with_another_key_directly_and_through_a_relay() {
    let owner = Sshd::start();
    let world = World::new(Engine::Sqlite)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", "true");
    let server = world.start();
    world.first_login(&server);
    std::fs::write(world.path("lab.pub"), owner.read("user.pub")).unwrap();
    let secret = json!({"username": owner.user(), "private_key": owner.read("user")}).to_string();
    let file = world.private("ssh.json", &secret);
    let file = file.to_str().unwrap();
    world
        .cairn(["creds", "add", "--plugin", "ssh-linux", "--name", "lab", "--type", "ssh-key", "--from-file", file])
        .ok();
    // Strict is what is done unless somebody says otherwise.
    let strict = run(&world, &format!("127.0.0.1:{}", owner.port), "");
    assert!(strict.json()["coverage"].to_string().contains("is not known"), "{}", strict.out);

    first_use(&world, None);
    let cable = Cable::to(port(&server));
    let relay = Relay::start(&world, &server, &cable, &[]);
    // The server's switch for its own machine says nothing of the relay's: there the tenant's policy counts.
    world.cairn(["tenants", "target-policy", "--allow", "127.0.0.0/8"]).ok();
    first_use(&world, Some(&relay.id));
    // What the relay met counts at the relay only.
    assert_eq!(list(&world, &["host-keys", "list"]).len(), 2);
    assert!(!std::fs::read_dir(world.path("relay")).unwrap().any(|entry| {
        std::fs::read(entry.unwrap().path()).unwrap().windows(11).any(|bytes| bytes == b"ssh-ed25519")
    }));
    relay.stop();
    server.stop();
}

fn verdicts(world: &World, scope: &str) -> Vec<String> {
    let ledger = list(world, &["coverage", "--source", "ssh-linux"]);
    let of_scope = ledger.iter().filter(|entry| entry["scope"] == scope);
    of_scope.map(|entry| entry["last_verdict"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_host_over_ssh_is_collected_and_judged_and_one_that_is_dead_or_unknown_is_told() {
    let sshd = Sshd::start();
    let world = World::new(Engine::Sqlite)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", "true");
    let server = world.start();
    world.first_login(&server);
    let secret = json!({"username": sshd.user(), "private_key": sshd.read("user")}).to_string();
    let file = world.private("ssh.json", &secret);
    let file = file.to_str().unwrap();
    world
        .cairn(["creds", "add", "--plugin", "ssh-linux", "--name", "lab", "--type", "ssh-key", "--from-file", file])
        .ok();
    let (target, known) = (format!("127.0.0.1:{}", sshd.port), sshd.known_host("127.0.0.1"));
    run(&world, &target, &known).ok();
    let machines = || list(&world, &["nodes", "list", "--type", "host.machine"]);
    let before = machines();
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(list(&world, &["nodes", "list", "--type", "host.user"]).len() > 5);
    assert!(list(&world, &["findings", "list", "--status", "open"]).len() > 5);

    // Once more, with a neighbour that is not there: it closes nothing, and the machine is the same.
    assert_eq!(run(&world, &format!("{target},127.0.0.9:1"), &known).json()["status"], "partial");
    let again = machines();
    assert_eq!((again.len(), &again[0]["id"], &again[0]["closed_at"]), (1, &before[0]["id"], &Value::Null));
    assert_eq!(verdicts(&world, "ssh-linux:127.0.0.9:1"), ["failed"]);

    // A host that is not known gets no credential, and closes nothing either.
    let other = sshd.known_host("192.0.2.1");
    assert_eq!(run(&world, &target, &other).json()["status"], "failed");
    assert_eq!(verdicts(&world, &format!("ssh-linux:{target}")), ["denied"]);
    assert_eq!(machines(), again);
    server.stop();
}
