//! An API server whose certificate is no good: nobody gets through, and everybody is told why.

use std::process::Stdio;

use crypto::system::SystemClock;
use domain::Clock as _;
use testkit::kube::Authority;

use super::world::{World, wait_until};

const DAY_S: i64 = 86_400;
const OURS: &[&str] = &["localhost", "127.0.0.1"];

#[test]
fn a_user_is_told_what_is_wrong_with_the_certificate_of_an_api_server_and_reaches_it_once_it_is_renewed() {
    let world = World::start();
    let now = SystemClock.now().as_seconds();
    let issuer = &world.api.issuer;
    let day = |at: i64| domain::Timestamp::from_millis(at * 1_000).to_string();
    let (ended, begins) = (now - 3 * DAY_S, now + 3 * DAY_S);
    let (get, watch) = ("/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/configmaps?watch=true");
    for (certificate, expect) in [
        (issuer.issue_for(OURS, now - 90 * DAY_S, ended), format!("ended at {}", day(ended))),
        (issuer.issue_for(OURS, begins, now + 90 * DAY_S), format!("good from {} on", day(begins))),
        (issuer.issue(&["other.example"]), "another host than the relay was told".to_owned()),
        (Authority::generate().issue(OURS), "another authority than the cluster's".to_owned()),
    ] {
        world.api.set_certificate(certificate);
        // By a connection of its own, and by one that is shared.
        for target in [get, watch] {
            let said = world.fail("alice.edit", &["get", "--raw", target]);
            assert!(
                said.contains("cannot be reached from the relay: its certificate") && said.contains(&expect),
                "{said}"
            );
            assert!(!said.contains("other.example"), "{said}");
        }
        // And before kubectl knows what there is.
        let said = world.fail("alice.edit", &["get", "pods", "-n", "a"]);
        assert!(said.contains(&expect), "{said}");
    }
    assert!(world.api.seen().is_empty(), "no request is sent to whom nobody vouches for");
    world.api.set_certificate(issuer.issue(OURS));
    world.run("alice.edit", &["get", "--raw", get], "");
    let mut watching = world.kubectl("alice.edit", &["get", "--raw", watch]).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the watch is open", || world.api.open() == 1);
    watching.kill().unwrap();
    watching.wait().unwrap();
}
