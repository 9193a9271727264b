//! Keys in the hands of an operator: replaced, lost, foreign, and a database that is older than it should be.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::world::{Engine, World, until};

/// Runs `cairn-server keys rotate` on the stopped server's data.
fn rotate(world: &World, arguments: &[&str]) -> Result<String, String> {
    let output = world.command().args(["keys", "rotate"]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    testkit::logs::tee("journey-keys", &text);
    if output.status.success() { Ok(text) } else { Err(text) }
}

fn quiet(engine: Engine) -> World {
    World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false")
}

fn add_credential(world: &World, name: &str) {
    let secret =
        format!("{{\"access_key_id\":\"AKIA\",\"secret_access_key\":\"{}\"}}", testkit::logs::plant("journey-aws"));
    let file = world.private(name, &secret);
    let arguments = ["creds", "add", "--plugin", "aws", "--name", name, "--type", "aws-keys", "--from-file"];
    world.cairn(arguments.iter().map(|text| (*text).to_owned()).chain([file.display().to_string()])).ok();
}

fn platform_actions(world: &World) -> Vec<String> {
    let records = world.cairn(["audit", "list", "--platform", "-o", "json"]).ok().json();
    records.as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_key_can_be_replaced_and_what_was_sealed_and_signed_before_is_good_afterwards() {
    let world = World::new(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    world.job_ended();
    add_credential(&world, "prod");
    let findings = until("findings", || {
        let found = world.cairn(["findings", "list", "--status", "open", "-o", "json"]).ok().json();
        (!found.as_array().unwrap().is_empty()).then_some(found)
    });
    server.stop();
    let (key, evidence) = (world.data().join("master.key"), world.data().join("evidence.pem"));
    let (old_key, old_evidence) = (fs::read(&key).unwrap(), fs::read(&evidence).unwrap());
    let said = rotate(&world, &["--master", "--data", "--evidence"]).unwrap();
    assert!(said.contains("master key was replaced") && said.contains("values sealed anew"), "{said}");
    assert_ne!(fs::read(&key).unwrap(), old_key);
    assert!(!world.data().join("master.key.next").exists());

    let again = world.start();
    // The session is still good: its secret was sealed anew, not made anew.
    world.login(&again);
    assert_ne!(fs::read(&evidence).unwrap(), old_evidence);
    let bundle = world.path("bundle.zip");
    world.cairn(["evidence", "export", findings[0]["id"].as_str().unwrap(), "-o", bundle.to_str().unwrap()]).ok();
    let key = world.cairn(["evidence", "key", "-o", "json"]).ok().json()["fingerprint"].as_str().unwrap().to_owned();
    let verified = ["evidence", "verify", bundle.to_str().unwrap(), "--key-fingerprint", &key, "-o", "json"];
    let report: Value = world.cairn(verified).ok().json();
    assert_eq!(report["earlier_keys"].as_array().unwrap().len(), 1, "{report}");
    again.stop();

    fs::write(world.data().join("master.key"), &old_key).unwrap();
    let text = world.start_refused();
    assert!(text.contains("not the master key"), "{text}");
}

#[test]
fn attack_57_a_new_master_key_that_was_cut_off_is_finished_or_undone_by_the_next_start() {
    for engine in [Engine::Sqlite, Engine::postgres()] {
        let world = quiet(engine);
        let server = world.start();
        world.first_login(&server);
        add_credential(&world, "prod");
        server.stop();
        let (key, next) = (world.data().join("master.key"), world.data().join("master.key.next"));
        let copy = |from: &Path, to: &Path| fs::copy(from, to).unwrap();
        let old = world.path("old.key");
        copy(&key, &old);

        // Killed before the database changed: the new key is there, and nothing needs it.
        copy(&key, &next);
        fs::write(&next, format!("{}\n", "0123456789abcdef".repeat(4))).unwrap();
        let server = world.start();
        assert!(!next.exists());
        server.stop();
        assert_eq!(fs::read(&key).unwrap(), fs::read(&old).unwrap());

        // Killed after it: the old key is still in its place.
        rotate(&world, &["--master"]).unwrap();
        copy(&key, &next);
        copy(&old, &key);
        let server = world.start();
        assert!(!next.exists());
        world.login(&server);
        server.stop();
        assert_ne!(fs::read(&key).unwrap(), fs::read(&old).unwrap());

        // Killed in earnest, as soon as the new key is on the disk; wherever it was, the next start goes on.
        for _ in 0..3 {
            let mut command = world.command();
            command.args(["keys", "rotate", "--master", "--data"]).stderr(Stdio::null()).stdout(Stdio::null());
            let mut child = command.spawn().unwrap();
            while !next.exists() && child.try_wait().unwrap().is_none() {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let server = world.start();
            assert!(!next.exists());
            world.login(&server);
            server.stop();
        }
    }
}

#[test]
fn attack_58_a_master_key_of_another_installation_or_none_at_all_is_refused_wherever_it_comes_from() {
    let good = "0123456789abcdef".repeat(4);
    let world = quiet(Engine::Sqlite).with("CAIRN_KEYS_MASTER", "env:MASTER").with("MASTER", &good);
    let server = world.start();
    world.first_login(&server);
    server.stop();
    assert!(!world.data().join("master.key").exists(), "the key stays where it is");
    let database = world.data().join("cairn.db");
    let before = fs::read(&database).unwrap();
    for (value, expected) in [
        ("fedcba9876543210".repeat(4), "not the master key"),
        ("0".repeat(64), "nobody can guess"),
        ("0123".to_owned(), "64 hex digits"),
        (String::new(), "empty"),
    ] {
        let text = {
            let mut command = world.command();
            let output = command.env("MASTER", &value).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        assert!(text.contains(expected), "{text}");
        assert!(value.is_empty() || !text.contains(&value), "{text}");
        assert_eq!(fs::read(&database).unwrap(), before, "nothing was changed");
    }
    let unset = world.command().env("CAIRN_KEYS_MASTER", "env:NOT_SET").output().unwrap();
    let text = String::from_utf8_lossy(&unset.stderr).into_owned();
    assert!(text.contains("`env`") && text.contains("NOT_SET"), "{text}");
    // Whoever replaces a key that is a reference says where the new one is.
    assert!(rotate(&world, &["--master"]).unwrap_err().contains("--to"));
    let output = world
        .command()
        .env("NEW", "fedcba9876543210".repeat(4))
        .args(["keys", "rotate", "--master", "--to", "env:NEW"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(world.start_refused().contains("not the master key"));
}

#[test]
fn attack_58_a_lost_master_key_is_not_made_anew_over_a_database_of_either_engine() {
    for engine in [Engine::Sqlite, Engine::postgres()] {
        let world = quiet(engine);
        world.start().stop();
        let key = world.data().join("master.key");
        fs::rename(&key, world.path("elsewhere")).unwrap();
        let text = world.start_refused();
        assert!(text.contains("the database exists"), "{text}");
        assert!(!key.exists());
    }
}

#[test]
fn attack_55_a_restored_database_is_refused_until_the_operator_accepts_it() {
    let world = quiet(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    server.stop();
    let (database, copy) = (world.data().join("cairn.db"), world.path("backup.db"));
    fs::copy(&database, &copy).unwrap();
    let server = world.start();
    world.login(&server);
    add_credential(&world, "prod");
    server.stop();
    fs::copy(&copy, &database).unwrap();
    let text = world.start_refused();
    assert!(text.contains("older") && text.contains("--accept-vault-rollback"), "{text}");
    assert_eq!(fs::read(&database).unwrap(), fs::read(&copy).unwrap(), "nothing was changed");

    let mut accepted = world.command();
    accepted.arg("--accept-vault-rollback").stderr(Stdio::null());
    let _ = fs::remove_file(world.path("port"));
    let mut child = accepted.spawn().unwrap();
    until("the start", || fs::read_to_string(world.path("port")).ok());
    let stopped = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success() && child.wait().unwrap().success());
    let server = world.start();
    world.login(&server);
    assert!(platform_actions(&world).contains(&"vault_rollback_accept".to_owned()));
    server.stop();
}
