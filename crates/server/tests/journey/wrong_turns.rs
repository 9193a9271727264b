//! One wrong turn of each kind: a clear error, and nothing is changed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::world::{Engine, World};

#[test]
fn another_master_key_stops_the_start_and_changes_nothing() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    server.stop();
    let (key, database) = (world.data().join("master.key"), world.data().join("cairn.db"));
    let (right, before) = (fs::read(&key).unwrap(), fs::read(&database).unwrap());

    fs::write(&key, format!("{}\n", "0123".repeat(16))).unwrap();
    let text = world.start_refused();
    assert!(text.contains("not the master key"), "{text}");
    assert_eq!(fs::read(&database).unwrap(), before);

    fs::remove_file(&key).unwrap();
    let text = world.start_refused();
    assert!(text.contains("master key") && text.contains("the database exists"), "{text}");
    assert!(!key.exists(), "no new key is made over an old database");

    fs::write(&key, &right).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let text = world.start_refused();
    assert!(text.contains("chmod 600"), "{text}");

    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let server = world.start();
    world.login(&server);
    server.stop();
}

#[test]
fn a_stop_that_is_asked_for_at_once_is_a_clean_stop() {
    let world = World::new(Engine::Sqlite);
    // The first host's discovery is under way: it goes back to the queue.
    assert!(world.start().stop().contains("stopped"));
    let again = world.start();
    world.first_login(&again);
    let job = world.job_ended();
    assert!(["completed", "partial"].contains(&job["status"].as_str().unwrap()), "{job}");
    again.stop();
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let mut server = world.start();
    let text = world.start_refused();
    assert!(text.contains("another cairn-server holds"), "{text}");
    assert!(server.is_alive());
    server.stop();
}

#[test]
fn a_role_that_row_level_security_does_not_bind_is_refused() {
    let Engine::Postgres(database) = Engine::postgres() else { unreachable!() };
    let owner = database.owner_url.clone();
    let world = World::new(Engine::Postgres(database)).with("CAIRN_DATABASE_URL", &owner);
    let text = world.start_refused();
    assert!(text.contains("bypasses row-level security"), "{text}");
}

#[test]
fn mistakes_on_the_command_line_say_what_to_change() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let failures = [
        (vec!["jobs", "run", "--plugin", "azure"], "no plugin `azure`"),
        (vec!["jobs", "run", "--plugin", "aws"], "needs a credential"),
        (vec!["jobs", "run", "--plugin", "aws", "--credential", "nobody"], "no credential `nobody`"),
        (vec!["jobs", "run", "--plugin", "host", "--set", "sight=x"], "sight"),
        (vec!["nodes", "show", "not-a-node"], "provider"),
        (vec!["nodes", "show", "aws:us-east-1:aws.ec2.instance:i-0"], "no such node"),
        (vec!["jobs", "show", "job_00000000000000000000000000"], "no such job"),
        (vec!["findings", "show", "fnd_00000000000000000000000000"], "no such finding"),
        (vec!["evidence", "export", "--control", "ZZ-99", "-o", "never.zip"], "no such"),
    ];
    for (arguments, expected) in failures {
        let ran = world.cairn(&arguments);
        assert_eq!(ran.code, 1, "{arguments:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(expected), "{arguments:?}: {}", ran.err);
    }
    let wrong = world.private("wrong", "not the password at all");
    let url = server.url.clone();
    let ran = world.cairn(["login", &url, "--user", "admin@localhost", "--password-file", wrong.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    server.stop();
}

#[test]
fn the_doctor_changes_nothing_and_says_what_is_wrong() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let doctor = |arguments: &[&str]| {
        let output = world.command().arg("doctor").args(arguments).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        testkit::logs::tee("journey-doctor", &text);
        (output.status.code(), text)
    };
    let (code, text) = doctor(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the first start makes it"), "{text}");
    assert!(!world.data().exists(), "it makes nothing");

    let server = world.start();
    let (code, text) = doctor(&["-o", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ok"], true);
    let checks: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(
        checks,
        [
            "configuration",
            "data directory",
            "secrets",
            "database",
            "certificate",
            "clock",
            "disk",
            "open files",
            "listener"
        ]
    );
    server.stop();

    let data = world.data();
    let failing = |expect: &str| {
        let (code, text) = doctor(&[]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.lines().any(|line| line.contains("FAILED") && line.contains(expect)), "{expect}: {text}");
    };
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    failing("chmod 700");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(data.join("ca.key"), fs::Permissions::from_mode(0o604)).unwrap();
    failing("ca.key");
    fs::set_permissions(data.join("ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let key = fs::read(data.join("master.key")).unwrap();
    fs::write(data.join("master.key"), format!("{}\n", "0123".repeat(16))).unwrap();
    failing("not the master key");
    fs::write(data.join("master.key"), key).unwrap();
    fs::write(data.join("tls.crt"), "nonsense").unwrap();
    failing("tls.crt");
    let future = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(1_030 * 366 * 24);
    fs::File::options().write(true).open(data.join("cairn.db")).unwrap().set_modified(future).unwrap();
    failing("newest file");
    let output = world.command().env("CAIRN_SERVER_IDLE_S", "0").arg("doctor").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("idle_s"));
}

#[test]
fn a_database_that_another_program_holds_is_told_and_the_next_change_works() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let hold = "import sqlite3, sys\n\
                c = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                c.execute('BEGIN IMMEDIATE')\n\
                print('held', flush=True)\n\
                sys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", hold])
        .arg(world.data().join("cairn.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`python3`: run `cargo xtask setup`");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "held");
    let make = || world.cairn(["tenants", "create", "other"]);
    let refused = make();
    assert!(refused.code == 1 && refused.err.contains("the database is busy: try again"), "{}", refused.err);
    world.cairn(["creds", "list"]).ok();
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    make().ok();
    server.stop();
}

#[test]
fn an_endless_rule_is_an_error_of_its_own_and_a_bad_pack_is_refused_with_its_line() {
    let long = format!("[{}]", vec!["1"; 100].join(", "));
    let endless = format!("{long}.all(a, {long}.all(b, {long}.all(c, {long}.all(d, a == b))))");
    let rule = |id: &str, condition: &str| {
        format!(
            "- id: {id}\n  title: Test\n  severity: low\n  node_type: host.machine\n  condition: |\n    {condition}\n  message: no\n  \
             remediation: none\n  controls:\n    nist-800-53-r5: [SC-28]\n"
        )
    };
    let pack =
        |rules: &[String]| format!("pack:\n  id: ours\n  version: \"1\"\n  title: Ours\nrules:\n{}", rules.concat());
    let world = World::new(Engine::Sqlite);
    let packs = world.path("packs");
    fs::create_dir(&packs).unwrap();
    fs::write(
        packs.join("ours.yaml"),
        pack(&[rule("ours-endless", &endless), rule("ours-plain", "node.name != \"\"")]),
    )
    .unwrap();
    let world = world.with("CAIRN_DISCOVERY_PACKS", packs.to_str().unwrap());
    let server = world.start();
    world.first_login(&server);
    world.job_ended();
    let done = world.cairn(["controls", "evaluate", "-o", "json"]).ok().json();
    assert_eq!((&done["rules"], &done["errors"], &done["passed"]), (&2.into(), &1.into(), &1.into()), "{done}");
    server.stop();

    fs::write(packs.join("ours.yaml"), pack(&[rule("ours-wrong", "node.name ===")])).unwrap();
    let ran = world.tool(["config", "check"]);
    assert!(
        ran.code == 1 && ran.err.contains("ours.yaml") && ran.err.contains("line") || ran.err.contains("ours.yaml:"),
        "{}",
        ran.err
    );
}
