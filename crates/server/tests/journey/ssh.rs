//! A host over SSH: a real OpenSSH server, from `creds add` to findings.

use serde_json::{Value, json};
use testkit::Sshd;

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
