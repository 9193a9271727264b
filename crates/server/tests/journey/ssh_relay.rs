//! Access to a host behind a relay: the real server, relay, command line, `ssh`, `scp` and `sshd`. As root, as CI is.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::relay_world::Relay;
use crate::ssh_access::{create, grant, refused, ssh};
use crate::ssh_host::Host;
use crate::world::{Engine, World, until};

pub(crate) fn records(world: &World, action: &str) -> Vec<Value> {
    let all = world.cairn(["audit", "list", "--all", "-o", "json"]).ok().json();
    let is = |record: &&Value| record["action"] == action && record["outcome"] == "success";
    all.as_array().unwrap().iter().filter(is).cloned().collect()
}

fn through_the_relay_alone(engine: Engine) {
    let mut host = Host::start(engine, "");
    let (_cable, relay) = host.relay(&[]);
    assert_eq!(host.register(&["--relay", "rly-1"])["relay_name"], "rly-1");
    let Host { mut sshd, user, world, server } = host;

    refused(&world.cairn(["ssh", "web1", "id", "-un"]), "destination");
    let given = grant(&world, "web1", &user);
    // This machine is no target of a relay unless the tenant says so.
    refused(&world.cairn(["ssh", "web1", "id", "-un"]), "an address of this machine itself");
    world.cairn(["tenants", "target-policy", "--allow", "127.0.0.0/8"]).ok();
    assert_eq!(world.cairn(["ssh", "web1", "id", "-un"]).ok().out.trim(), user);
    assert_eq!(world.cairn(["ssh", "web1", "exit 7"]).code, 7);
    let terminal = world.cairn(["ssh", "web1", "-tt", "tty"]).ok().out;
    assert!(terminal.contains("/dev/pts/"), "{terminal}");
    let log = sshd.read("log");
    assert!(log.contains("connection=sss_") && log.contains("admin@localhost"), "{log}");

    // The certificate is worth nothing at the host itself.
    let around = ["-o", "ProxyCommand=none", "-o", "HostKeyAlias=x", "-o", "StrictHostKeyChecking=no"];
    let around = world.cairn(["ssh", "web1"].iter().chain(&around).chain(&["id"]));
    refused(&around, "Permission denied");
    refused(&world.cairn(["ssh", "daemon@web1", "id"]), "no grant gives you `daemon`");

    // Plain ssh and scp by the configuration that is written.
    world.cairn(["ssh", "--include"]).ok();
    let config = world.path("home").join("ssh").join("config");
    let (well, said) = ssh(&world, &config, &["web1.cairn", "id", "-un"]);
    assert!(well && said.contains(&user), "{said}");
    std::fs::write(world.path("file"), "content").unwrap();
    let copied = Command::new("scp")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", world.path("nobodys-home"))
        .env("CAIRN_HOME", world.path("home"))
        .arg("-F")
        .arg(&config)
        .args(["-q".into(), world.path("file"), format!("web1.cairn:{}", world.path("copy").display()).into()])
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}\n{}", String::from_utf8_lossy(&copied.stderr), relay.said());
    assert_eq!(std::fs::read_to_string(world.path("copy")).unwrap(), "content");

    // Somebody of another tenant knows no such host.
    world.cairn(["tenants", "create", "other", "--admin", "admin@localhost"]).ok();
    refused(&world.cairn(["--tenant", "other", "ssh", "web1", "id"]), "destination");

    // Another host in its place gets nothing.
    sshd.change_host_key();
    refused(&world.cairn(["ssh", "web1", "echo secret"]), "not the host that was registered");
    create(&world, "web1", &sshd, &[]);

    // What is open ends with the grant, with a word that says why.
    let mark = world.path("alive");
    let script = format!("while echo x; do touch {}; sleep 0.05; done", mark.display());
    let mut open = world.cairn_command(["ssh", "web1", &script]);
    let open = open.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("an open session", || mark.exists().then_some(()));
    world.cairn(["grants", "delete", &given]).ok();
    let gone = Instant::now();
    let ended = open.wait_with_output().unwrap();
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("cut off: the grant"), "{said}");
    refused(&world.cairn(["ssh", "web1", "id"]), "destination");

    // Who was where, from when to when, and what was shown.
    let ends = until("the ends of all connections", || {
        let (begun, ended) = (records(&world, "ssh_session_begin"), records(&world, "ssh_session_end"));
        (begun.len() == ended.len()).then_some(ended)
    });
    assert!(ends.len() >= 6, "{ends:?}");
    let is = |reason: &str| ends.iter().any(|end| end["detail"]["reason"].as_str().unwrap().contains(reason));
    assert!(
        is("the grant") && is("the user left") && ends[0]["actor"].to_string().contains("admin@localhost"),
        "{ends:?}"
    );
    let recordings = world.cairn(["recordings", "list", "--all", "-o", "json"]).ok().json();
    let shown = recordings.as_array().unwrap().iter().any(|one| one.to_string().contains("id -un"));
    assert!(shown, "{recordings}");

    // A relay that is let in no more takes nobody anywhere.
    grant(&world, "web1", &user);
    world.cairn(["relays", "revoke", &relay.id]).ok();
    refused(&world.cairn(["ssh", "web1", "id"]), "revoked");
    drop(relay);
    server.stop();
}

#[test]
fn attack_ssh_a_host_behind_a_relay_is_reached_through_it_alone_on_the_record_and_until_the_grant_is_gone() {
    through_the_relay_alone(Engine::Sqlite);
}

#[test]
fn attack_ssh_a_host_behind_a_relay_is_reached_through_it_alone_on_the_record_and_until_the_grant_is_gone_on_postgresql()
 {
    through_the_relay_alone(Engine::postgres());
}

fn what_a_grant_lends(engine: Engine) {
    let mut host = Host::start(engine, "AllowTcpForwarding yes");
    let (cable, relay) = host.relay(&[]);
    host.allow();
    host.register(&["--relay", "rly-1", "--extension", "permit-pty", "--extension", "permit-port-forwarding"]);
    let Host { sshd, user, world, server } = host;
    let give = |more: &[&str]| {
        let words = ["grants", "create", &user, "--user", "admin@localhost", "--destination", "web1", "-o", "json"];
        let made = world.cairn(words.iter().copied().chain(more.iter().copied())).ok().json();
        made["id"].as_str().unwrap().to_owned()
    };
    // Only from somewhere else: the user is told so.
    let away = give(&["--network", "10.0.0.0/8"]);
    refused(&world.cairn(["ssh", "web1", "id"]), "you come from 127.0.0.1");
    world.cairn(["grants", "delete", &away]).ok();

    // From here ports, from everywhere a terminal.
    give(&["--extension", "permit-pty"]);
    let here = give(&["--network", "127.0.0.0/8"]);
    let to = format!("127.0.0.1:{}", sshd.port);
    let mut open = world.cairn_command(["ssh", "web1", "-W", &to]);
    let mut open = open.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut banner = [0u8; 15];
    std::io::Read::read_exact(open.stdout.as_mut().unwrap(), &mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-OpenSSH");
    let forwards = records(&world, "ssh_session_forward");
    assert_eq!(
        (&forwards[0]["detail"]["kind"], forwards[0]["detail"]["place"].as_str()),
        (&"local".into(), Some(to.as_str()))
    );
    world.cairn(["grants", "delete", &here]).ok();
    let gone = Instant::now();
    // Whoever waits lets go of its input, and `ssh` would leave by itself: it is cut off while it is held.
    let typing = open.stdin.take();
    let ended = open.wait().unwrap();
    assert!(gone.elapsed() < Duration::from_secs(5) && !ended.success(), "{:?} {ended}", gone.elapsed());
    drop(typing);
    // What the other grant gives goes on.
    assert_eq!(world.cairn(["ssh", "web1", "id", "-un"]).ok().out.trim(), user);
    refused(&world.cairn(["ssh", "web1", "-W", &to]), "prohibited");

    // A forced command runs in place of what is asked for, and the record says so.
    for grant in world.cairn(["grants", "list", "--all", "-o", "json"]).ok().json().as_array().unwrap() {
        world.cairn(["grants", "delete", grant["id"].as_str().unwrap()]).ok();
    }
    give(&["--force-command", "echo forced", "--extension", "none"]);
    let ran = world.cairn(["ssh", "web1", "id", "-un"]).ok();
    assert_eq!(ran.out.trim(), "forced");
    let shown = until("its recording", || {
        let all = world.cairn(["recordings", "list", "--all", "-o", "json"]).ok().out;
        all.contains("echo forced (asked for: id -un)").then_some(all)
    });
    assert!(!shown.is_empty());

    // A relay that is killed tells no end: it comes back, and does not hold what was open.
    for grant in world.cairn(["grants", "list", "--all", "-o", "json"]).ok().json().as_array().unwrap() {
        world.cairn(["grants", "delete", grant["id"].as_str().unwrap()]).ok();
    }
    grant(&world, "web1", &user);
    let mark = world.path("alive");
    let script = format!("while echo x; do touch {}; sleep 0.05; done", mark.display());
    let mut open = world.cairn_command(["ssh", "web1", &script]);
    let mut open = open.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("an open session", || mark.exists().then_some(()));
    relay.kill();
    assert!(!open.wait().unwrap().success());
    let relay = Relay::start(&world, &server, &cable, &[]);
    let lost = until("the end of what was open", || {
        records(&world, "ssh_session_end").into_iter().find(|end| end["detail"]["lost"] == true)
    });
    assert!(lost["detail"]["reason"].as_str().unwrap().contains("does not hold it any more"), "{lost}");
    drop(relay);
    server.stop();
}

#[test]
fn attack_ssh_what_a_grant_lends_from_its_networks_ends_with_it_on_open_connections() {
    what_a_grant_lends(Engine::Sqlite);
}

#[test]
fn attack_ssh_what_a_grant_lends_from_its_networks_ends_with_it_on_open_connections_on_postgresql() {
    what_a_grant_lends(Engine::postgres());
}
