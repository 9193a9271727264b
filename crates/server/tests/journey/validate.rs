//! Validating a credential: on the server and through a relay, at real OpenSSH servers.

use serde_json::{Value, json};
use testkit::Sshd;
use testkit::cable::Cable;

use crate::relay_world::{Relay, port};
use crate::world::{Engine, Ran, World};

fn list(world: &World, what: &[&str]) -> Vec<Value> {
    let listed = world.cairn(what.iter().copied().chain(["--all", "-o", "json"])).ok().json();
    listed.as_array().unwrap().clone()
}

fn validate(world: &World, name: &str, targets: &str, more: &[&str]) -> (Ran, Value) {
    let targets = format!("targets={targets}");
    let asked = ["creds", "validate", name, "--set", &targets, "-o", "json"];
    let ran = world.cairn(asked.iter().chain(more));
    let told = ran.json();
    (ran, told)
}

fn outcomes(told: &Value) -> Vec<(String, String)> {
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    told["checks"].as_array().unwrap().iter().map(|check| (text(check, "what"), text(check, "outcome"))).collect()
}

#[test]
fn a_credential_is_tried_here_and_through_a_relay_and_nothing_is_kept_of_what_is_seen() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let world = World::new(Engine::postgres())
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", "true");
    let server = world.start();
    world.first_login(&server);
    for (name, key) in [("good", sshd.read("user")), ("bad", other.read("user"))] {
        let secret = json!({"username": sshd.user(), "private_key": key}).to_string();
        let file = world.private(&format!("{name}.json"), &secret);
        let add = ["creds", "add", "--plugin", "ssh-linux", "--name", name, "--type", "ssh-key", "--from-file"];
        world.cairn(add.iter().copied().chain([file.to_str().unwrap()])).ok();
    }
    let target = format!("127.0.0.1:{}", sshd.port);
    let known = format!("known_hosts=[127.0.0.1]:{} {}", sshd.port, sshd.read("host.pub").trim());
    let known = ["--set", known.as_str()];
    let cable = Cable::to(port(&server));
    let relay = Relay::start(&world, &server, &cable, &[]);
    // The server's switch for its own machine says nothing of the relay's: there the tenant's policy counts.
    world.cairn(["tenants", "target-policy", "--allow", "127.0.0.0/8"]).ok();
    let of_relay = [&known[..], &["--relay", &relay.id]].concat();

    for more in [&known[..], &of_relay] {
        let (ran, told) = validate(&world, "good", &target, more);
        assert_eq!((ran.code, told["status"].as_str()), (0, Some("passed")), "{told}");
        assert_eq!(outcomes(&told), [(target.clone(), "good".to_owned())]);

        // Where the first host refuses, no account is tried at another.
        let two = format!("{target},127.0.0.2:{}", sshd.port);
        let (ran, told) = validate(&world, "bad", &two, more);
        assert_eq!((ran.code, told["status"].as_str()), (1, Some("failed")), "{told}");
        let expect = [(target.as_str(), "denied"), ("1 more targets", "not_tried")];
        assert_eq!(outcomes(&told), expect.map(|(what, outcome)| (what.to_owned(), outcome.to_owned())));
        assert!(told.to_string().contains("does not let"), "{told}");
    }
    // A host that nobody vouches for gets no credential, and special addresses stay closed.
    let (_, told) = validate(&world, "good", &target, &[]);
    assert!(told["status"] == "failed" && told.to_string().contains("is not known"), "{told}");
    let (_, told) = validate(&world, "good", "169.254.169.254", &known);
    assert!(told["status"] == "failed" && !told["checks"].as_array().unwrap().is_empty(), "{told}");

    // A relay that is away is told, and is not waited for.
    let id = relay.id.clone();
    relay.stop();
    let set = format!("targets={target}");
    let ran = world.cairn(["creds", "validate", "good", "--set", &set, "--relay", &id]);
    assert!(ran.code == 1 && ran.err.contains("the relay "), "{}", ran.err);

    for what in ["nodes", "evidence"] {
        assert!(list(&world, &[what, "list"]).is_empty(), "nothing is kept of what was seen");
    }
    let audit = list(&world, &["audit", "list"]);
    let count = |action: &str| audit.iter().filter(|record| record["action"] == action).count();
    let used = audit.iter().filter(|record| record["action"] == "credential_use");
    let used =
        used.filter(|record| record["detail"]["validation"].as_str().is_some_and(|id| id.starts_with("val_"))).count();
    // The one for a relay that is away is refused, or ends at once where the relay has just gone.
    assert_eq!(count("validation_create"), count("validation_run"));
    assert!(
        count("validation_run") >= 6 && used >= 6 && used <= count("validation_run"),
        "each opened it once at most"
    );
    server.stop();
}
