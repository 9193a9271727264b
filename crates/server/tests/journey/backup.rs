//! Backup and restore through the real programs: an installation that works is backed up, and lives on where there was nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::logs;

use crate::world::{Engine, Ran, World, until};

const CALL: [&str; 9] =
    ["jobs", "run", "--plugin", "aws", "--credential", "prod", "--set", "regions=eu-west-1", "--wait"];

fn backup(world: &World, name: &str) -> (PathBuf, Value) {
    let file = world.path(name);
    let report = world.tool(["backup", "--json", "-o", file.to_str().unwrap()]).ok().json();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    (file, report)
}

/// Another machine: nothing there but the master key, which was kept apart, and the same people.
fn elsewhere(from: &World, engine: Engine) -> World {
    let mut world =
        World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false").with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", "true");
    world.password.clone_from(&from.password);
    world.private("password", &from.password);
    world.private("kept.key", &fs::read_to_string(from.data().join("master.key")).unwrap());
    world
}

fn restore(world: &World, file: &Path) -> Ran {
    let (file, key) = (file.to_str().unwrap(), world.path("kept.key"));
    world.tool(["restore", file, "--master-key", key.to_str().unwrap(), "--json"])
}

fn listed(world: &World, arguments: &[&str]) -> Value {
    world.cairn(arguments.iter().copied().chain(["--all", "-o", "json"])).ok().json()
}

fn audited(world: &World, action: &str) -> usize {
    let records = world.cairn(["audit", "list", "--action", action, "-o", "json"]).ok().json();
    records.as_array().unwrap().iter().filter(|record| record["outcome"] == "success").count()
}

fn an_installation_lives_on(from: Engine, to: Engine) {
    let world = World::new(from).with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", "true");
    let server = world.start();
    world.first_login(&server);
    world.job_ended();
    let secret = logs::plant("backup-aws-secret");
    let document = json!({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": secret}).to_string();
    let add = ["creds", "add", "--plugin", "aws", "--name", "prod", "--type", "aws-keys", "--secret-stdin"];
    world.cairn_with(add, &document).ok();
    until("findings", || (!listed(&world, &["findings", "list"]).as_array().unwrap().is_empty()).then_some(()));
    let fingerprint = world.cairn(["evidence", "key", "-o", "json"]).ok().json()["fingerprint"].clone();
    let (nodes, findings) = (listed(&world, &["nodes", "list"]), listed(&world, &["findings", "list"]));

    // While the server works. What comes after it is not in it.
    let (file, report) = backup(&world, "cairn.backup");
    assert!(report["rows"].as_u64().unwrap() > 100 && report["artifacts"].as_u64().unwrap() > 5, "{report}");
    assert_eq!(report["file_bytes"].as_u64().unwrap(), fs::metadata(&file).unwrap().len());
    world
        .cairn_with(
            ["creds", "add", "--plugin", "aws", "--name", "later", "--type", "aws-keys", "--secret-stdin"],
            &document,
        )
        .ok();
    assert_eq!(audited(&world, "backup_create"), 0, "the record is the platform's");
    let inside = world.tool(["backup", "-o", world.data().join("cairn.backup").to_str().unwrap()]);
    assert!(inside.code == 1 && inside.err.contains("write it elsewhere"), "{}", inside.err);
    let again = world.tool(["backup", "-o", file.to_str().unwrap()]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("exists already"), "{}", again.err);
    server.stop();

    // Neither a secret nor the key nor a name is to be seen in the file.
    let bytes = fs::read(&file).unwrap();
    let key = fs::read_to_string(world.data().join("master.key")).unwrap();
    for hidden in [secret.as_str(), &world.password, key.trim(), "admin@localhost", "host.package"] {
        assert!(!bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes()), "{hidden}");
    }

    let other = elsewhere(&world, to);
    restore(&other, &file).ok();
    assert_eq!(fs::metadata(other.data()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read(other.data().join("tls.crt")).unwrap(), fs::read(world.data().join("tls.crt")).unwrap());
    let server = other.start();
    other.login(&server);
    assert_eq!(listed(&other, &["nodes", "list"]), nodes);
    assert_eq!(listed(&other, &["findings", "list"]), findings);
    let credentials = listed(&other, &["creds", "list"]);
    let names: Vec<&str> = credentials.as_array().unwrap().iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["prod"]);
    assert_eq!(other.cairn(["evidence", "key", "-o", "json"]).ok().json()["fingerprint"], fingerprint);

    // All evidence that was there is there, verifies, and still comes with the bytes that it is about.
    let bundle = other.path("framework.zip");
    other.cairn(["evidence", "export", "--framework", "nist-800-53-r5", "-o", bundle.to_str().unwrap()]).ok();
    other
        .cairn(["evidence", "verify", bundle.to_str().unwrap(), "--key-fingerprint", fingerprint.as_str().unwrap()])
        .ok();

    // The credential opens: the job uses it, and only then finds nobody to talk to.
    let before = audited(&other, "credential_use");
    let endpoint = "endpoint_url=http://127.0.0.1:9";
    let ran = other.cairn(CALL.into_iter().chain(["--set", endpoint]));
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(audited(&other, "credential_use") > before);
    assert_eq!(audited(&other, "backup_restore"), 1);
    server.stop();
    // A later start has nothing to accept.
    let log = other.start().stop();
    assert!(!log.contains("was restored"), "{log}");
}

#[test]
fn an_installation_on_sqlite_is_restored_on_an_empty_machine() {
    an_installation_lives_on(Engine::Sqlite, Engine::Sqlite);
}

#[test]
fn an_installation_on_postgresql_is_restored_on_an_empty_machine() {
    an_installation_lives_on(Engine::postgres(), Engine::postgres());
}

#[test]
fn an_installation_on_sqlite_is_restored_into_postgresql() {
    an_installation_lives_on(Engine::Sqlite, Engine::postgres());
}

#[test]
fn attack_74_a_backup_is_refused_where_it_does_not_belong_and_changes_nothing() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let (file, _) = backup(&world, "cairn.backup");
    server.stop();

    let refused = |other: &World, file: &Path, expected: &str| {
        let ran = restore(other, file);
        assert_eq!(ran.code, 1, "{expected}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
    };
    let untouched = |other: &World| {
        assert!(!other.data().exists());
        let left = fs::read_dir(other.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("restoring")).collect();
        assert!(left.is_empty(), "{left:?}");
    };

    let other = elsewhere(&world, Engine::Sqlite);
    let ran = other.tool(["restore", file.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("--master-key"), "{}", ran.err);
    let right = fs::read_to_string(other.path("kept.key")).unwrap();
    other.private("kept.key", &"0123".repeat(16));
    refused(&other, &file, "does not open this backup");
    untouched(&other);
    other.private("kept.key", &right);
    fs::set_permissions(other.path("kept.key"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&other, &file, "chmod 600");
    fs::set_permissions(other.path("kept.key"), fs::Permissions::from_mode(0o600)).unwrap();

    // Damaged near its end: everything before was read by then, and nothing of it stays.
    let whole = fs::read(&file).unwrap();
    let damaged = other.path("damaged.backup");
    let mut bytes = whole.clone();
    let near_the_end = bytes.len() - 40;
    bytes[near_the_end] ^= 1;
    for (bytes, expected) in [
        (bytes.as_slice(), "was changed"),
        (&whole[..near_the_end], "incomplete"),
        (b"PK\x03\x04 and more than that", "no backup"),
    ] {
        fs::write(&damaged, bytes).unwrap();
        refused(&other, &damaged, expected);
        untouched(&other);
    }

    // Over something that is in use: the installation itself, and a folder with anything in it.
    world.private("kept.key", &right);
    let before = fs::read(world.data().join("cairn.db")).unwrap();
    refused(&world, &file, "not empty");
    assert_eq!(fs::read(world.data().join("cairn.db")).unwrap(), before);

    // An empty folder is as good as none, and the server that starts there is the old one.
    fs::create_dir(other.data()).unwrap();
    restore(&other, &file).ok();
    // Under another key it does not start, as before.
    fs::write(other.data().join("master.key"), format!("{}\n", "0123".repeat(16))).unwrap();
    assert!(other.start_refused().contains("not the master key"));
    fs::write(other.data().join("master.key"), &right).unwrap();
    let server = other.start();
    other.login(&server);
    server.stop();
}

#[test]
fn attack_74_a_postgresql_that_is_in_use_is_not_restored_over() {
    let world = World::new(Engine::postgres()).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let (file, _) = backup(&world, "cairn.backup");
    world.private("kept.key", &fs::read_to_string(world.data().join("master.key")).unwrap());
    fs::rename(world.data(), world.path("elsewhere")).unwrap();
    let ran = restore(&world, &file);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("the database is not empty"), "{}", ran.err);
    assert!(!world.data().exists());
    fs::rename(world.path("elsewhere"), world.data()).unwrap();
    world.login(&server);
    server.stop();
}

#[test]
fn a_backup_of_an_installation_that_lacks_an_artifact_says_so() {
    let world = World::new(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    world.job_ended();
    server.stop();
    let mut folder = world.data().join("blobs");
    while folder.is_dir() {
        folder = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    }
    fs::write(&folder, "other bytes").unwrap();
    let (file, copy) = (world.path("cairn.backup"), world.path("copy.key"));
    let ran = world.tool(["backup", "-o", file.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("--skip-damaged"), "{}", ran.err);
    assert!(!file.exists() && !world.path("cairn.backup.unfinished").exists());
    let both = ["backup", "-o", file.to_str().unwrap(), "--skip-damaged", "--with-master-key", copy.to_str().unwrap()];
    let ran = world.tool(both).ok();
    assert!(ran.err.contains("not in it: ten_"), "{}", ran.err);
    assert_eq!(fs::read(&copy).unwrap(), fs::read(world.data().join("master.key")).unwrap());
    let other = elsewhere(&world, Engine::Sqlite);
    assert_eq!(restore(&other, &file).ok().json()["skipped"].as_array().unwrap().len(), 1);
}
