//! The plugin `ssh-linux` over a real OpenSSH server, beside the plugin `host` on the same machine.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support/open.rs"]
mod open;

use std::collections::BTreeSet;

use domain::{Coverage, ScopeId};
use open::{Kept, collected, map, reach};
use plugins::{HostPlugin, SshLinuxPlugin};
use serde_json::{Value, json};
use testkit::Sshd;

fn credential(server: &Sshd) -> (&'static str, Value) {
    ("ssh-key", json!({ "username": server.user(), "private_key": server.read("user") }))
}

#[tokio::test]
async fn a_host_over_ssh_is_the_same_nodes_with_the_same_facts_as_the_host_itself() {
    let server = Sshd::start();
    // What changes from minute to minute while other tests run is left out.
    let collectors = "machine,accounts,sudo,mounts,services,packages,firewall,integrity";
    let config = map(json!({
        "targets": format!("127.0.0.1:{}", server.port), "known_hosts": server.known_host("127.0.0.1"),
        "collectors": collectors, "site": "lab",
    }));
    let (over_ssh, recorder) = reach("ssh-linux", &config, Some(credential(&server)));
    let far = collected(&SshLinuxPlugin, &config, &over_ssh).await.unwrap();
    let managers = "dpkg,rpm,apk,pip,npm,cargo,gem";
    let config = map(json!({ "collectors": collectors, "site": "lab", "package_managers": managers }));
    let near = collected(&HostPlugin, &config, &reach("host", &config, None).0).await.unwrap();
    let names = |kept: &Kept| kept.nodes.keys().cloned().collect::<BTreeSet<_>>();
    let (far_names, near_names) = (names(&far), names(&near));
    let differ: Vec<_> = far_names.symmetric_difference(&near_names).collect();
    assert!(differ.is_empty(), "{} such as {:?}", differ.len(), differ.iter().take(5).collect::<Vec<_>>());
    assert!(far.nodes.len() > 100, "{}", far.nodes.len());
    let changed: Vec<_> = far.nodes.iter().filter(|(id, properties)| near.nodes[*id] != **properties).collect();
    // A mount's free space may have crossed a step meanwhile.
    let changed: Vec<_> = changed.iter().filter(|(id, _)| !id.contains(":host.mount:")).collect();
    for (id, properties) in &changed {
        let (Value::Object(far), Value::Object(near)) = (properties, &near.nodes[*id]) else { panic!() };
        for (key, value) in far.iter().filter(|(key, value)| near.get(*key) != Some(value)) {
            eprintln!("{id} {key}: {value:.300} here {:.300?}", near.get(key));
        }
    }
    assert!(changed.is_empty(), "{} nodes", changed.len());
    for (scope, coverage) in &near.scopes {
        assert_eq!(far.scopes.get(scope).map(Coverage::as_str), Some(coverage.as_str()), "{scope}");
    }
    let target: ScopeId = format!("ssh-linux:127.0.0.1:{}", server.port).parse().unwrap();
    assert_eq!(far.scopes[target.as_str()], Coverage::Complete);
    assert_eq!(recorder.take(&target).len(), 1, "signing in is on record");
}

#[tokio::test]
async fn a_target_that_is_dead_or_refuses_is_its_own_coverage_and_one_machine_is_read_once() {
    let server = Sshd::start();
    let port = server.port;
    let known = |host: &str| server.known_host(host);
    let other = server.known_host("127.0.0.4").replace(server.read("host.pub").trim(), server.read("other.pub").trim());
    let config = map(json!({
        "targets": format!("127.0.0.1:{port},127.0.0.2:{port},127.0.0.3:1,127.0.0.4:{port}"),
        "known_hosts": format!("{}\n{}\n{other}", known("127.0.0.1"), known("127.0.0.2")),
        "collectors": "mounts",
    }));
    let (over_ssh, _) = reach("ssh-linux", &config, Some(credential(&server)));
    let kept = collected(&SshLinuxPlugin, &config, &over_ssh).await.unwrap();
    let of = |host: &str, port: u16| kept.scopes[&format!("ssh-linux:{host}:{port}")].as_str();
    assert_eq!((of("127.0.0.1", port), of("127.0.0.2", port)), ("complete", "complete"));
    assert_eq!((of("127.0.0.3", 1), of("127.0.0.4", port)), ("failed", "denied"));
    let machines: Vec<_> = kept.scopes.keys().filter(|scope| scope.ends_with(":mounts")).collect();
    assert_eq!(machines.len(), 1, "{machines:?}");
}

#[tokio::test]
async fn a_credential_that_is_of_no_use_anywhere_ends_the_task_and_says_why() {
    let server = Sshd::start();
    let config = map(json!({
        "targets": format!("127.0.0.1:{}", server.port), "known_hosts": server.known_host("127.0.0.1"),
    }));
    let secret = json!({ "username": server.user(), "private_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n" });
    let (over_ssh, _) = reach("ssh-linux", &config, Some(("ssh-key", secret)));
    let error = collected(&SshLinuxPlugin, &config, &over_ssh).await.err().unwrap().to_string();
    assert!(error.contains("`private_key` cannot be read") && !error.contains("hunter2"), "{error}");
}
