//! What a relay works on and what it says, as whoever runs the fleet looks at it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use testkit::cable::Cable;
use testkit::logs;

use crate::relay_world::{Relay, api, port, trust_also};
use crate::world::{Engine, World, until};

/// `cairn relays logs rly-1 --follow`.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    fn start(world: &World) -> Self {
        let mut command = world.cairn_command(["relays", "logs", "rly-1", "--follow", "-o", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::sync_channel(10_000);
        let pipe = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                logs::tee("journey-relay-log", &line);
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The first line from here on that says this.
    fn hears(&self, text: &str) -> Value {
        until(&format!("the log saying `{text}`"), || {
            self.lines
                .try_iter()
                .map(|line| serde_json::from_str::<Value>(&line).unwrap())
                .find(|line| line["text"] == text)
        })
    }

    /// How it ended by itself: its code and what it said of it.
    fn ends(mut self) -> (i32, String) {
        let status = until("the follower's end", || self.child.try_wait().unwrap());
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut said).unwrap();
        (status.code().unwrap(), said)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn begin(world: &World) -> String {
    let words = ["jobs", "run", "--plugin", "host", "--relay", "rly-1", "-o", "json"];
    world.cairn(words).ok().json()["id"].as_str().unwrap().to_owned()
}

fn shown(world: &World) -> Value {
    world.cairn(["relays", "show", "rly-1", "-o", "json"]).ok().json()
}

#[test]
fn a_relays_tasks_and_log_are_seen_and_the_log_ends_with_the_relay() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let cable = Cable::to(port(&server));
    let mut relay = Relay::start(&world, &server, &cable, &[]);

    let follower = Follower::start(&world);
    assert_eq!(follower.hears("connected")["level"], "info", "what was said before is there");
    // Held in mid-task: the task stands at the relay.
    let job = begin(&world);
    let line = follower.hears("a task begins");
    assert_eq!(line["fields"]["job"], job.as_str(), "{line}");
    relay.says_times("a task begins", 2);
    cable.hold(true);
    let working = until("a running task", || {
        let relay = shown(&world);
        (relay["running_tasks"] == 1).then_some(relay)
    });
    assert_eq!((&working["tasks"][0]["job"], &working["tasks"][0]["plugin"]), (&job.as_str().into(), &"host".into()));
    assert!(working["server"].as_str().unwrap().ends_with(&format!(":{}", port(&server))), "{working}");
    let listed = world.cairn(["relays", "list", "-o", "json"]).ok().json();
    assert_eq!(listed[0]["running_tasks"], 1, "{listed}");
    cable.hold(false);
    until("the task's end", || (shown(&world)["running_tasks"] == 0).then_some(()));
    follower.hears("a task ended");

    // Without --follow it ends where the relay's memory does.
    let had = world.cairn(["relays", "logs", "rly-1"]).ok().out;
    assert!(had.contains("connected resumed=false") && had.contains(&job), "{had}");

    // A few at a time, each in the audit log with who it was.
    let more: Vec<_> = (0..3).map(|_| Follower::start(&world)).collect();
    for one in &more {
        one.hears("connected");
    }
    let refused = world.cairn(["relays", "logs", "rly-1"]);
    assert!(refused.code != 0 && refused.err.contains("follow this relay already"), "{}", refused.err);
    drop(more);
    let records = world.cairn(["audit", "list", "--action", "relay_follow", "-o", "json"]).ok().json();
    assert_eq!(records.as_array().unwrap().len(), 6, "{records}");
    assert!(records.as_array().unwrap().iter().all(|record| record["object_id"] == relay.id.as_str()));

    // It ends with the relay, and says so.
    let (status, _) = api(&world, &server, "DELETE", &format!("relays/{}", relay.id), None);
    assert_eq!(status, 204);
    let (code, said) = follower.ends();
    assert!(code != 0 && said.contains("revoked"), "{code}: {said}");
    relay.says("let in no more");
    let gone = world.cairn(["relays", "logs", &relay.id]);
    assert!(gone.code != 0 && gone.err.contains("not connected"), "{}", gone.err);
    relay.stop();
    server.stop();
}

#[test]
fn the_log_of_a_relay_that_hangs_on_another_server_is_asked_for_there() {
    let first = World::new(Engine::postgres()).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let one = first.start();
    first.first_login(&one);
    let second = first.beside();
    let two = second.start();
    trust_also(&first, &second);
    second.login(&two);
    let cable = Cable::to(port(&one));
    let relay = Relay::start(&first, &one, &cable, &[]);
    let said = second.cairn(["relays", "logs", "rly-1"]);
    assert!(said.code != 0 && said.err.contains(&format!(":{}`", port(&one))), "{}", said.err);
    assert!(shown(&second)["server"].as_str().unwrap().ends_with(&format!(":{}", port(&one))));
    assert!(first.cairn(["relays", "logs", "rly-1"]).ok().out.contains("connected"));
    relay.stop();
    two.stop();
    one.stop();
}
