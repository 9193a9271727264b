//! Access to a host by SSH: certificates of the server, an unmodified OpenSSH server and client, the real command line. As root, as CI is: `sshd` runs
//! its command for principals as another user.

use std::process::Command;

use serde_json::Value;
use testkit::Sshd;

use crate::ssh_host::Host;
use crate::world::{Engine, Ran, World};

/// What the host's `sshd` is told, from what the command line prints.
pub(crate) fn told(world: &World, name: &str, more: &str) -> String {
    let authorities = world.path("cairn_ca.pub");
    std::fs::write(&authorities, world.cairn(["destinations", "host", name, "--authorities"]).ok().out).unwrap();
    let lines = world.cairn(["destinations", "host", name, "--sshd-config"]).ok().out;
    assert!(lines.contains("/etc/ssh/cairn_ca.pub"), "{lines}");
    let lines = lines.replace("/etc/ssh/cairn_ca.pub", authorities.to_str().unwrap());
    // No key of the account's own lets in.
    format!("LogLevel INFO\nAuthorizedKeysFile none\n{lines}{more}\n")
}

pub(crate) fn create(world: &World, name: &str, sshd: &Sshd, more: &[&str]) -> Value {
    let (address, key) = (format!("127.0.0.1:{}", sshd.port), sshd.path("host.pub"));
    let user = sshd.user();
    let words = [
        "destinations",
        "create",
        name,
        &address,
        "--host-key-file",
        key.to_str().unwrap(),
        "--role",
        &user,
        "--replace",
    ];
    world.cairn(words.iter().copied().chain(more.iter().copied()).chain(["-o", "json"])).ok().json()
}

pub(crate) fn grant(world: &World, name: &str, role: &str) -> String {
    let made =
        world.cairn(["grants", "create", role, "--user", "admin@localhost", "--destination", name, "-o", "json"]).ok();
    made.json()["id"].as_str().unwrap().to_owned()
}

pub(crate) fn refused(ran: &Ran, why: &str) {
    assert!(ran.code != 0 && ran.err.contains(why), "{}: {}\n{}", ran.code, ran.out, ran.err);
}

fn certificates(world: &World) -> Vec<Value> {
    let all = world.cairn(["audit", "list", "--all", "-o", "json"]).ok().json();
    let all = all.as_array().unwrap().clone();
    all.into_iter()
        .filter(|record| record["action"] == "ssh_certificate_create" && record["outcome"] == "success")
        .collect()
}

/// Plain `ssh` with a configuration of this test.
pub(crate) fn ssh(world: &World, config: &std::path::Path, words: &[&str]) -> (bool, String) {
    let output = Command::new("ssh")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", world.path("nobodys-home"))
        .env("CAIRN_HOME", world.path("home"))
        .arg("-F")
        .arg(config)
        .args(words)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn one_account_of_one_host(engine: Engine) {
    let mut host = Host::start(engine, "");
    let made = host.register(&["--direct"]);
    let Host { mut sshd, user, world, server } = host;

    // Without a grant there is no such host; with one there is, and what the command ends with comes through.
    refused(&world.cairn(["ssh", "web1", "id", "-un"]), "destination");
    assert!(certificates(&world).is_empty());
    let given = grant(&world, "web1", &user);
    assert_eq!(world.cairn(["ssh", "web1", "id", "-un"]).ok().out.trim(), user);
    assert_eq!(world.cairn(["ssh", "web1", "exit 7"]).code, 7);
    let left: Vec<_> = std::fs::read_dir(world.path("home").join("ssh")).unwrap().collect();
    assert!(left.is_empty(), "nothing is left of a session: {left:?}");

    // Both logs tell of the same certificate.
    let record = &certificates(&world)[0];
    let id = record["detail"]["certificate"].as_str().unwrap();
    // Nothing records what its holder does there, which is told where recording is wanted.
    assert_eq!((&record["detail"]["recorded"], &record["detail"]["alarm"]), (&false.into(), &true.into()), "{record}");
    let log = sshd.read("log");
    assert!(log.contains(&format!("certificate={id}")) && log.contains("admin@localhost"), "{log}");
    assert_eq!(record["detail"]["grants"][0].as_str().unwrap(), given);

    // The same key in another account, a name that is none, a host of the same authority that somebody else administers.
    let other = world.cairn(["ssh", "web1", "-l", "daemon", "id"]);
    refused(&other, "Permission denied");
    refused(&world.cairn(["ssh", "daemon@web1", "id"]), "no grant gives you `daemon`");
    world.cairn(["tenants", "create", "other", "--admin", "admin@localhost"]).ok();
    let theirs = |words: &[&str]| world.cairn(["--tenant", "other"].iter().chain(words));
    let (address, key) = (format!("127.0.0.1:{}", sshd.port), sshd.path("host.pub"));
    let key = key.to_str().unwrap();
    theirs(&["destinations", "create", "mine", &address, "--host-key-file", key, "--role", &user, "--direct"]).ok();
    theirs(&["grants", "create", &user, "--user", "admin@localhost", "--destination", "mine"]).ok();
    refused(&theirs(&["ssh", "mine", "id"]), "Permission denied");
    refused(&theirs(&["ssh", "web1", "id"]), "destination");

    // A host that is another one gets nothing; one with a certificate of the authority is known by that, without a line for its key.
    sshd.change_host_key();
    refused(&world.cairn(["ssh", "web1", "id"]), "Host key verification failed");
    create(&world, "web1", &sshd, &[]);
    let signed = world.cairn(["destinations", "host", "web1", "--certificate"]).ok().out;
    std::fs::write(sshd.path("host-cert.pub"), &signed).unwrap();
    sshd.restart_with(&format!("HostCertificate {}", sshd.path("host-cert.pub").display()));
    let known = world.path("authorities_only");
    let authority = std::fs::read_to_string(world.path("cairn_ca.pub")).unwrap();
    let alias = made["id"].as_str().unwrap();
    std::fs::write(&known, format!("@cert-authority {alias} {authority}")).unwrap();
    let only = format!("UserKnownHostsFile={}", known.display());
    assert_eq!(world.cairn(["ssh", "web1", "-o", &only, "id", "-un"]).ok().out.trim(), user);
    // The key is replaced, and whoever has the old one with its certificate is not the host any more.
    let (kept, new) = (sshd.read("host.pub"), crypto::ed25519::SigningKey::generate().unwrap().public());
    std::fs::write(sshd.path("host.pub"), crypto::ssh::PublicKey::of_ed25519(&new).to_string()).unwrap();
    create(&world, "web1", &sshd, &[]);
    refused(&world.cairn(["ssh", "web1", "id"]), "Host key verification failed");
    std::fs::write(sshd.path("host.pub"), kept).unwrap();
    create(&world, "web1", &sshd, &[]);

    // Plain `ssh` by the configuration that is written: it asks once for a certificate while that is good.
    let said = world.cairn(["ssh", "--include"]).ok().err;
    assert!(said.contains("Include "), "{said}");
    let config = world.path("home").join("ssh").join("config");
    let before = certificates(&world).len();
    for _ in 0..2 {
        let (well, said) = ssh(&world, &config, &["web1.cairn", "id", "-un"]);
        assert!(well && said.trim() == user, "{said}");
    }
    assert_eq!(certificates(&world).len(), before + 1);

    // From where it may be used is forced.
    create(&world, "web1", &sshd, &["--source-network", "10.0.0.0/8"]);
    refused(&world.cairn(["ssh", "web1", "id"]), "Permission denied");
    create(&world, "web1", &sshd, &["--source-network", "127.0.0.0/8"]);
    world.cairn(["ssh", "web1", "id"]).ok();

    world.cairn(["grants", "delete", &given]).ok();
    refused(&world.cairn(["ssh", "web1", "id"]), "destination");
    world.cairn(["logout"]).ok();
    assert!(!world.path("home").join("ssh").exists());
    server.stop();
}

#[test]
fn attack_ssh_a_certificate_opens_one_account_of_one_host_and_only_while_a_grant_says_so() {
    one_account_of_one_host(Engine::Sqlite);
}

#[test]
fn attack_ssh_a_certificate_opens_one_account_of_one_host_and_only_while_a_grant_says_so_on_postgresql() {
    one_account_of_one_host(Engine::postgres());
}
