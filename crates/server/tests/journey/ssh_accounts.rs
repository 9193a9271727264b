//! Accounts and `sudo` of a host, made by the script of the command line and used by its unmodified `sshd` and `sudo`. As root, as CI is.

use testkit::Sshd;

use crate::ssh_access::{grant, refused, told};
use crate::world::{Engine, World};

/// Has the host offer these accounts; the script that is printed for them.
fn script(world: &World, sshd: &Sshd, accounts: &[&str], sudo: &[&str]) -> String {
    let (address, key) = (format!("127.0.0.1:{}", sshd.port), sshd.path("host.pub"));
    let mut words = vec![
        "destinations",
        "create",
        "web1",
        &address,
        "--host-key-file",
        key.to_str().unwrap(),
        "--replace",
        "--direct",
    ];
    words.extend(accounts.iter().flat_map(|account| ["--role", account]));
    world.cairn(words).ok();
    let mut words = vec!["destinations", "host", "web1", "--accounts"];
    words.extend(sudo.iter().flat_map(|rule| ["--sudo", rule]));
    world.cairn(words).ok().out
}

/// The same, and the host's root runs it.
fn offer(world: &World, sshd: &Sshd, accounts: &[&str], sudo: &[&str]) {
    let ran = sshd.on_machine(&script(world, sshd, accounts, sudo));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn attack_ssh_an_account_is_made_with_its_sudo_and_locked_with_its_home_when_it_is_a_role_no_more() {
    assert!(rustix::process::geteuid().is_root(), "accounts are made on a copy of this machine: run this test as root");
    let mut sshd = Sshd::start_machine();
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    offer(&world, &sshd, &["cairn-a", "cairn-b"], &["cairn-a", "cairn-b=/usr/bin/id"]);
    sshd.restart_with(&told(&world, "web1", ""));
    grant(&world, "web1", "cairn-a");
    grant(&world, "web1", "cairn-b");

    // Each account is there, with its own home and no more of `sudo` than was said.
    let run = |account: &str, words: &str| world.cairn(["ssh", &format!("{account}@web1"), words]);
    assert_eq!(run("cairn-a", "id -un; echo work >file; cat file").ok().out, "cairn-a\nwork\n");
    assert_eq!(run("cairn-a", "sudo -n whoami").ok().out.trim(), "root");
    assert_eq!(run("cairn-b", "sudo -n /usr/bin/id -un").ok().out.trim(), "root");
    refused(&run("cairn-b", "sudo -n whoami"), "sudo");
    refused(&run("cairn-b", "cat /home/cairn-a/file"), "ermission denied");

    // An account that the script locked is opened by no certificate, however good that is; its home stays.
    let without = script(&world, &sshd, &["cairn-b"], &[]);
    script(&world, &sshd, &["cairn-a", "cairn-b"], &[]);
    run("cairn-a", "true").ok();
    let locked = sshd.on_machine(&without);
    assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stderr));
    refused(&run("cairn-a", "id"), "Permission denied");
    assert_eq!(sshd.on_machine("cat /home/cairn-a/file").stdout, b"work\n");
    assert_eq!(sshd.on_machine("getent shadow cairn-a | cut -d: -f8").stdout, b"1\n", "it is locked");
    refused(&run("cairn-b", "sudo -n /usr/bin/id -un"), "sudo");

    // It is a role again: the same account, with what was in its home.
    offer(&world, &sshd, &["cairn-a", "cairn-b"], &[]);
    assert_eq!(run("cairn-a", "cat file").ok().out, "work\n");
    refused(&run("cairn-a", "sudo -n whoami"), "sudo");

    // Somebody deletes it and makes one of that name, which has another uid: the script neither locks it nor opens it again.
    let on = |words: &str| {
        let ran = sshd.on_machine(words);
        assert!(ran.status.success(), "{words}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr)
    };
    on("userdel cairn-a && useradd --uid 4321 --password '*' --expiredate 2 cairn-a");
    let with = script(&world, &sshd, &["cairn-a", "cairn-b"], &[]);
    for text in [&without, &with] {
        let said = on(text);
        assert_eq!(said.contains("cairn-a is another account"), text == &with, "{said}");
        assert_eq!(on("getent shadow cairn-a | cut -d: -f8; id -u cairn-a"), "2\n4321\n", "it is somebody else's");
    }
    refused(&run("cairn-a", "id"), "Permission denied");
    server.stop();
}
