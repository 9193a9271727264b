//! An agent that reaches nothing but a relay: it enrolls and reports through the relay's listener, and the relay can do nothing in its name.

use testkit::cable::Cable;

use crate::agent::Agent;
use crate::relay_world::{Relay, port};
use crate::world::{Engine, World, until};

/// The server by its name, at a port where it is not: nothing but the relay leads to it.
const NOWHERE: (&str, &str) = ("CAIRN_AGENT_SERVER", "https://localhost:1");

/// A word of the relay's log, such as `address=127.0.0.1:40123`.
fn listens_at(relay: &mut Relay) -> String {
    relay.says("listens for agents");
    let said = relay.said();
    let line = said.lines().find(|line| line.contains("listens for agents")).unwrap();
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("address=")).unwrap();
    word.to_owned()
}

fn through_a_relay(engine: Engine) {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let cable = Cable::to(port(&server));
    let mut relay = Relay::start(&world, &server, &cable, &[("RELAY_LISTEN", "127.0.0.1:0")]);
    let listener = listens_at(&mut relay);
    let token = Agent::token(&world);
    // Without the relay there is no way.
    let lost = Agent::new(&world, &[NOWHERE]).enroll(&server, &token).unwrap_err();
    assert!(lost.contains("cannot be reached"), "{lost}");
    let agent = Agent::new(&world, &[NOWHERE, ("CAIRN_AGENT_RELAY", &listener)]);
    agent.enroll(&server, &token).unwrap();
    let running = agent.run(&server);
    agent.sha256_is("one");
    assert!(cable.carried() > 0, "the server is reached by the relay's own way");

    // The relay is away: reports wait, and the agent says which relay is to blame.
    relay.kill();
    agent.write("two");
    until("a report in the spool", || agent.spools("two").then_some(()));
    let status = until("a word about it", || {
        let status = agent.status(&server);
        status["error"].as_str().is_some_and(|error| error.contains("through the relay at")).then_some(status)
    });
    assert!(status["error"].as_str().unwrap().contains(&listener), "{status}");
    let mut relay = Relay::start(&world, &server, &cable, &[("RELAY_LISTEN", &listener)]);
    agent.sha256_is("two");
    agent.history_is(&["one", "two"]);

    // Revoked at the server, the agent is refused also through the relay.
    world.cairn(["agents", "revoke", "host-1"]).ok();
    agent.write("three");
    until("a word about it", || {
        let status = agent.status(&server);
        status["error"].as_str().is_some_and(|error| error.contains("cairn-agent enroll")).then_some(())
    });
    running.stop();

    // A relay that is let in no more serves nobody.
    world.cairn(["relays", "revoke", "rly-1"]).ok();
    relay.says("asks again in an hour");
    let token = Agent::token(&world);
    let refused = std::fs::remove_dir_all(world.path("agent")).map(|()| agent.enroll(&server, &token)).unwrap();
    assert!(refused.unwrap_err().contains("through the relay at"));
    relay.stop();
    server.stop();
}

#[test]
fn an_agent_that_reaches_only_a_relay_enrolls_and_reports_through_it() {
    through_a_relay(Engine::Sqlite);
}

#[test]
fn an_agent_that_reaches_only_a_relay_enrolls_and_reports_through_it_on_postgresql() {
    through_a_relay(Engine::postgres());
}

#[test]
fn a_relay_that_answers_in_the_servers_place_is_told_nothing() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    // Somebody who listens where the relay is expected, with a certificate for the server's name by another authority.
    let other = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let impostor = other.start();
    let at = format!("127.0.0.1:{}", port(&impostor));
    let token = Agent::token(&world);
    let agent = Agent::new(&world, &[NOWHERE, ("CAIRN_AGENT_RELAY", &at)]);
    let said = agent.enroll(&server, &token).unwrap_err();
    assert!(said.contains("is not valid") && said.contains("nothing was sent"), "{said}");
    let log = impostor.stop();
    assert!(!log.contains("/api/v1/enroll"), "{log}");
    // The token is as good as before.
    let tokens = world.cairn(["agents", "tokens", "list", "-o", "json"]).ok().json();
    assert_eq!(tokens[0]["state"], "waiting", "{tokens}");
    // An address has no name that a certificate could prove in its place.
    let wrong = Agent::new(&world, &[("CAIRN_AGENT_SERVER", "https://127.0.0.1:1"), ("CAIRN_AGENT_RELAY", &at)]);
    let said = wrong.enroll(&server, &token).unwrap_err();
    assert!(said.contains("needs its name"), "{said}");
    server.stop();
}
