//! A grant to a group at a host behind a relay: it lets members in, and a place in the group that is gone ends what is open. As root, as CI is.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::granting::Other;
use crate::ssh_access::refused;
use crate::ssh_host::Host;
use crate::ssh_relay::records;
use crate::world::{Engine, World, until};

/// A session that goes on until it is cut, once it has begun.
fn open(world: &World, who: &Other<'_>, mark: &str) -> Child {
    let mark = world.path(mark);
    let script = format!("while echo x; do touch {}; sleep 0.05; done", mark.display());
    let mut session = who.cairn_command(&["ssh", "web1", &script]);
    let session = session.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("an open session", || mark.exists().then_some(()));
    session
}

fn cut(session: Child) {
    let gone = Instant::now();
    let ended = session.wait_with_output().unwrap();
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("cut off: "), "{said}");
}

fn a_group_is_let_in(engine: Engine) {
    let mut host = Host::start(engine, "");
    let (_cable, relay) = host.relay(&[]);
    host.allow();
    host.register(&["--relay", "rly-1"]);
    let Host { sshd: _sshd, user, world, server } = host;
    let bob = Other::new(&world, &server.url, "bob@example.com");
    let ann = Other::new(&world, &server.url, "ann@example.com");
    world.cairn(["groups", "create", "ops"]).ok();
    world.cairn(["grants", "create", &user, "--group", "ops", "--destination", "web1"]).ok();

    // Who is in the group, and nobody else: neither the administrator who made it.
    refused(&bob.cairn(&["ssh", "web1", "id"]), "destination");
    world.cairn(["groups", "add", "ops", "bob@example.com"]).ok();
    world.cairn(["groups", "add", "ops", "ann@example.com"]).ok();
    assert_eq!(bob.cairn(&["ssh", "web1", "id", "-un"]).ok().out.trim(), user);
    refused(&world.cairn(["ssh", "web1", "id"]), "destination");

    // Who leaves the group is cut off, and who stays in it is not.
    let (bobs, mut anns) = (open(&world, &bob, "bob"), open(&world, &ann, "ann"));
    world.cairn(["groups", "remove", "ops", "bob@example.com"]).ok();
    cut(bobs);
    refused(&bob.cairn(&["ssh", "web1", "id"]), "destination");
    assert!(anns.try_wait().unwrap().is_none(), "ann is in the group");
    assert_eq!(ann.cairn(&["ssh", "web1", "id", "-un"]).ok().out.trim(), user);

    // So is everybody when there is no such group any more.
    world.cairn(["groups", "delete", "ops"]).ok();
    cut(anns);
    refused(&ann.cairn(&["ssh", "web1", "id"]), "destination");

    // A set lets in where a host has its labels, for as long as it has them.
    world.cairn(["destinations", "create", "all-web", "--kind", "set", "--selector", "role=web,env=prod"]).ok();
    world.cairn(["grants", "create", &user, "--user", "ann@example.com", "--destination", "all-web"]).ok();
    refused(&ann.cairn(&["ssh", "web1", "id"]), "destination");
    refused(&bob.cairn(&["ssh", "all-web", "id"]), "destination");
    let labelled = world.cairn(["destinations", "labels", "web1", "role=web", "env=prod"]).ok();
    assert!(labelled.err.contains("in: all-web; 1 grant covers it"), "{}", labelled.err);
    assert_eq!(ann.cairn(&["ssh", "web1", "id", "-un"]).ok().out.trim(), user);
    refused(&ann.cairn(&["ssh", "all-web", "id"]), "name one of its hosts: web1");
    let of_set = open(&world, &ann, "ann-by-set");
    world.cairn(["destinations", "labels", "web1", "role=web"]).ok();
    cut(of_set);
    refused(&ann.cairn(&["ssh", "web1", "id"]), "destination");
    let ends = until("the ends of all connections", || {
        let (begun, ended) = (records(&world, "ssh_session_begin"), records(&world, "ssh_session_end"));
        (begun.len() == ended.len()).then_some(ended)
    });
    for email in ["bob@example.com", "ann@example.com"] {
        let told = |end: &&serde_json::Value| end.to_string().contains(email) && end.to_string().contains("grant");
        assert!(ends.iter().any(|end| told(&end)), "{email}: {ends:?}");
    }
    drop(relay);
    server.stop();
}

#[test]
fn attack_ssh_a_grant_to_a_group_lets_its_members_in_and_ends_with_their_place_in_it() {
    a_group_is_let_in(Engine::Sqlite);
}

#[test]
fn attack_ssh_a_grant_to_a_group_lets_its_members_in_and_ends_with_their_place_in_it_on_postgresql() {
    a_group_is_let_in(Engine::postgres());
}
