//! What `kubectl` runs, and what it reads: destination tokens that are asked for once, and contexts of the kubeconfig.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use domain::{Clock as _, Timestamp};
use serde_json::json;

use crate::double::Reply;
use crate::world::{World, id, wire_form};

const TOKENS: &str = "POST /api/v1/tenants/acme/destinations/prod/tokens";

fn now() -> Timestamp {
    crypto::system::SystemClock.now()
}

/// A server that gives out numbered tokens which are good for so many seconds.
fn issuing(seconds: i64) -> World {
    let issued = Arc::new(AtomicU32::new(0));
    World::signed_in(move |request| {
        (request.line() == TOKENS).then(|| {
            let number = issued.fetch_add(1, Ordering::SeqCst);
            Reply::Json(
                201,
                wire_form::<wire::destination::DestinationTokenCreated>(json!({
                    "id": id("dtk"), "token": format!("token-{number}"), "destination": id("dst"), "role": "view",
                    "expires_at": now().plus_millis(seconds * 1_000),
                })),
            )
        })
    })
}

#[test]
fn a_token_is_asked_for_once_however_many_commands_run_at_once() {
    let world = issuing(300);
    let add = ["tokens", "add", "prod", "--role", "view"];
    let runs: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..8).map(|_| scope.spawn(|| world.run(&add).expect(0))).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for run in &runs {
        let credential = run.json();
        assert_eq!(credential["apiVersion"], "client.authentication.k8s.io/v1");
        assert_eq!(
            (credential["kind"].as_str(), credential["status"]["token"].as_str()),
            (Some("ExecCredential"), Some("token-0"))
        );
        assert!(credential["status"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(world.requests(), [TOKENS]);
    let folder = world.home().join("tokens");
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Another role is another token, and a new session has none of the old one's.
    assert_eq!(world.run(&["tokens", "add", "prod", "--role", "edit"]).expect(0).json()["status"]["token"], "token-1");
    world.run(&["logout"]).expect(0);
    assert!(std::fs::read_dir(&folder).unwrap().all(|entry| entry.unwrap().path().extension().unwrap() != "json"));
    world.run(&add).expect(1).says("not signed in");
}

#[test]
fn a_token_that_is_about_to_end_is_asked_for_anew() {
    let world = issuing(10);
    let add = ["tokens", "add", "prod"];
    for number in 0..3 {
        assert_eq!(world.run(&add).expect(0).json()["status"]["token"], json!(format!("token-{number}")));
    }
}

#[test]
fn a_program_that_was_refused_with_a_token_gets_another_one_and_all_others_the_one_that_is_kept() {
    let world = issuing(300);
    let add = ["tokens", "add", "prod"];
    let given = || world.run(&add).expect(0).json()["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!((given(), given()), ("token-0".to_owned(), "token-0".to_owned()));
    // A minute later this program, which ran both, comes again: as `kubectl` does after a 401.
    let folder = world.home().join("tokens");
    let kept = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.into_iter().find(|path| path.extension().unwrap() == "json").unwrap();
    let age = || {
        let file = std::fs::File::options().append(true).open(&kept).unwrap();
        let was = file.metadata().unwrap().modified().unwrap();
        file.set_modified(was - std::time::Duration::from_mins(1)).unwrap();
    };
    age();
    assert_eq!((given(), given()), ("token-1".to_owned(), "token-1".to_owned()));
    // Another program was refused nothing.
    age();
    for _ in 0..2 {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "\"$@\"; exit $?", "sh", env!("CARGO_BIN_EXE_cairn")]).args(add);
        let output = shell.env_clear().env("PATH", "/usr/bin:/bin").env("CAIRN_HOME", world.home()).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("\"token-1\""), "{output:?}");
    }
    assert_eq!((given(), given()), ("token-2".to_owned(), "token-2".to_owned()));
    assert_eq!(world.requests(), [TOKENS; 3]);
}

#[test]
fn a_destination_that_is_not_reached_is_told_and_nothing_is_printed() {
    let world = World::signed_in(|request| {
        (request.line() == TOKENS).then(|| Reply::problem(404, "not_found", "there is no such destination"))
    });
    let run = world.run(&["tokens", "add", "prod"]).expect(1).says("no such destination");
    assert_eq!(run.out, "");
}

#[test]
fn contexts_are_written_for_what_is_reached_and_kubectl_is_pointed_to_one() {
    let world = World::signed_in(|request| {
        (request.line() == "GET /api/v1/tenants/acme/reach").then(|| {
            let one = |name: &str, role: &str, namespaces: Option<[&str; 1]>, address: Option<&str>| {
                wire_form::<wire::destination::Reach>(json!({
                    "destination": id("dst"), "name": name, "kind": "kubernetes", "role": role, "namespaces": namespaces, "authority": "PEM",
                    "address": address,
                }))
            };
            let items = [one("prod", "view", Some(["shop"]), None), one("edge", "edit", None, Some("k8s.example:6443"))];
            Reply::Json(200, json!({"items": items}))
        })
    });
    let file = world.path("kube/config");
    let set = [("KUBECONFIG", file.as_str())];
    world.run_with(&["use", "prod.shop"], "", &set).expect(0).says("prod as view");
    let config: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let url = world.server.url();
    let host = url.strip_prefix("https://").unwrap();
    let context = format!("cairn:{host}:acme:prod:view");
    assert_eq!(config["current-context"], json!(context));
    assert_eq!(config["contexts"][0]["name"], json!(context));
    assert_eq!(config["contexts"][0]["context"]["namespace"], "shop");
    let through = format!("{url}/api/v1/tenants/acme/destinations/{}/proxy", id("dst"));
    assert_eq!(config["clusters"][0]["cluster"]["server"], json!(through));
    assert!(
        config["clusters"][0]["cluster"]["certificate-authority-data"]
            .as_str()
            .unwrap()
            .starts_with("LS0tLS1CRUdJTiBD")
    );
    assert_eq!(config["clusters"][1]["cluster"]["server"], "https://k8s.example:6443");
    let exec = &config["users"][0]["user"]["exec"];
    assert_eq!(exec["args"], json!(["tokens", "add", "prod", "--role", "view", "--tenant", "acme", "--server", url]));
    assert!(exec["command"].as_str().unwrap().ends_with("/cairn"));
    world.run_with(&["use", "nowhere"], "", &set).expect(1).says("do not reach");
    world.run_with(&["list"], "", &set).expect(0);
}
