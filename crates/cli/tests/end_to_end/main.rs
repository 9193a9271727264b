//! The real binary against a real HTTPS server: what scripts rely on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: where the harness fails, the test fails"
)]

mod double;
mod jobs;
mod proof;
mod proving;
mod reaching;
mod signing_in;
mod terminal;
mod trusting;
mod world;

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use double::{Reply, Request};
use world::{NEW_PASSWORD, PASSWORD, World, id, wire_form};

fn nothing(_: &Request) -> Option<Reply> {
    None
}

fn node(number: usize, name: &str) -> Value {
    wire_form::<wire::node::Node>(json!({
        "id": format!("host:global:host.package:{number}"), "type": "host.package", "provider": "host", "region": "global",
        "name": name, "properties": {"z": 1, "a": [true]}, "tags": {},
        "first_seen": "2026-11-22T03:00:00.000Z", "discovered_at": "2026-11-22T03:00:00.000Z",
        "valid_from": "2026-11-22T03:00:00.000Z", "closed_at": null,
    }))
}

/// A list of this many nodes, in pages.
fn nodes(total: usize) -> impl Fn(&Request) -> Option<Reply> {
    move |request| {
        (request.line() == "GET /api/v1/tenants/acme/nodes").then(|| {
            let limit: usize = request.parameter("limit").unwrap().parse().unwrap();
            assert!(limit <= 500);
            let from: usize = request.parameter("page").map_or(0, |page| page.parse().unwrap());
            let to = (from + limit).min(total);
            let items: Vec<Value> = (from..to).map(|number| node(number, &format!("n{number}"))).collect();
            let next = (to < total).then(|| to.to_string());
            Reply::Json(200, serde_json::to_value(wire::List { items, next_page: next }).unwrap())
        })
    }
}

#[test]
fn a_first_login_changes_the_password_and_keeps_the_session_privately() {
    let world = World::new(nothing);
    let (old, new) = (world.file("old", &format!("{PASSWORD}\n")), world.file("new", NEW_PASSWORD));
    let (url, fingerprint) = (world.server.url(), world.identity.fingerprint());
    let login = ["login", &url, "--user", "ann@example.com", "--password-file", &old, "--trust", &fingerprint];
    world.run(&login).expect(1).says("--new-password-file");
    let config = world.home().join("config.json");
    assert!(!config.exists(), "no session is kept that can do nothing");

    world
        .run(&[&login[..], &["--new-password-file", &new]].concat())
        .expect(0)
        .says("the password is changed")
        .says("tenant: acme");
    let change = world.server.seen().into_iter().find(|request| request.line() == "POST /api/v1/me/password").unwrap();
    assert_eq!(change.json(), json!({"old": PASSWORD, "new": NEW_PASSWORD}));
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(world.home()), mode(config.clone())), (0o700, 0o600));

    let whoami = world.run(&["whoami", "-o", "json"]).expect(0);
    assert_eq!(whoami.json(), world::me(false), "exactly the API's document");
    assert!(world.run(&["whoami"]).expect(0).out.contains("ann@example.com"));

    world.run(&["logout"]).expect(0);
    assert!(world.server.lines().contains(&"DELETE /api/v1/sessions/current".to_owned()));
    assert!(!std::fs::read_to_string(&config).unwrap().contains(world::TOKEN));
    world.run(&["whoami"]).expect(1).says("hint: cairn login https://127.0.0.1");
}

#[test]
fn a_password_can_come_from_the_standard_input_and_never_without_being_given() {
    let world = World::new(nothing);
    let (url, fingerprint) = (world.server.url(), world.identity.fingerprint());
    let login = ["login", &url, "--user", "ann@example.com", "--trust", &fingerprint];
    world.run(&login).expect(2).says("--password-file");
    world.run_with(&[&login[..], &["--password-file", "-"]].concat(), NEW_PASSWORD, &[]).expect(0);
    world
        .run_with(&[&login[..], &["--password-file", "-"]].concat(), "wrong", &[])
        .expect(1)
        .says("request req_7")
        .says("the name or the password is wrong, or the account is disabled");
    world.run(&[&login[..], &["--password-file", "-", "--new-password-file", "-"]].concat()).expect(2);
    let password = world.file("password", NEW_PASSWORD);
    world
        .run(&[&login[..], &["--password-file", &password, "--tenant", "other"]].concat())
        .expect(1)
        .says("not a member");
}

#[test]
fn an_ended_session_says_to_log_in_again() {
    let world = World::signed_in(|request| {
        (request.line() == "GET /api/v1/tenants/acme/findings")
            .then(|| Reply::problem(401, "unauthenticated", "the session has ended"))
    });
    let run = world.run(&["findings", "list"]).expect(1);
    assert_eq!(
        run.err,
        format!("error: the session has ended (request req_7)\nhint: cairn login {}\n", world.server.url())
    );
    assert_eq!(run.out, "");
}

#[test]
fn errors_of_the_server_are_shown_harmlessly_with_the_request() {
    let world = World::signed_in(|request| {
        (request.line() == "GET /api/v1/tenants/acme/jobs/x")
            .then(|| Reply::problem(404, "not_found", "no\u{1b}[2J\nerror: such\u{202e} thing"))
    });
    let run = world.run(&["jobs", "show", "x"]).expect(1);
    assert_eq!(run.err, "error: no\u{fffd}[2J error: such\u{fffd} thing (request req_7)\n");
}

#[test]
fn a_session_that_others_may_read_is_refused() {
    let world = World::signed_in(nothing);
    std::fs::set_permissions(world.home().join("config.json"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let before = world.server.seen().len();
    world.run(&["whoami"]).expect(1).says("hint: chmod 600");
    assert_eq!(world.server.seen().len(), before);
}

#[test]
fn lists_are_the_items_of_all_pages_up_to_the_limit() {
    let world = World::signed_in(nodes(1_203));
    let count = |args: &[&str]| {
        let run = world.run(&[&["nodes", "list", "-o", "json"], args].concat()).expect(0);
        (run.json().as_array().unwrap().len(), run.err)
    };
    assert_eq!(count(&[]), (100, "100 shown, there are more: --all, or --limit N\n".to_owned()));
    assert_eq!(count(&["--limit", "700", "--quiet"]), (700, String::new()));
    assert_eq!(count(&["--limit", "1203"]), (1_203, String::new()));
    assert_eq!(count(&["--all"]), (1_203, String::new()));

    let run = world.run(&["nodes", "list", "--limit", "1", "-o", "json"]).expect(0);
    assert_eq!(run.json(), json!([node(0, "n0")]));
    let run = world.run(&["nodes", "list", "--limit", "2", "-o", "yaml"]).expect(0);
    assert_eq!(serde_saphyr::from_str::<Value>(&run.out).unwrap(), json!([node(0, "n0"), node(1, "n1")]));
}

#[test]
fn a_list_that_does_not_end_is_refused() {
    let world = World::signed_in(|request| {
        request.path.ends_with("/rules").then(|| Reply::Json(200, json!({"items": [], "next_page": "again"})))
    });
    world.run(&["rules", "list", "--all"]).expect(1).says("does not end");
}

#[test]
fn filters_and_ids_reach_the_server_as_they_were_given() {
    let world = World::signed_in(|request| {
        let list = Reply::Json(200, json!({"items": []}));
        match request.line().as_str() {
            "GET /api/v1/tenants/other/nodes" | "GET /api/v1/tenants/acme/edges" => Some(list),
            "GET /api/v1/tenants/acme/nodes/aws%3Aus-east-1%3Aaws.s3.bucket%3Aa%2Fb" => {
                Some(Reply::Json(200, node(0, "b")))
            }
            _ => None,
        }
    });
    world.run(&["nodes", "list", "--type", "host.*", "--closed", "--tenant", "other"]).expect(0).says("none");
    world.run_with(&["nodes", "list"], "", &[("CAIRN_TENANT", "other")]).expect(0);
    world.run(&["nodes", "show", "aws:us-east-1:aws.s3.bucket:a/b"]).expect(0);
    world.run(&["edges", "list", "--node", "host:global:host.user:a b&c", "--direction", "in"]).expect(0);
    let queries: Vec<String> = world
        .server
        .seen()
        .into_iter()
        .filter(|request| !request.query.is_empty())
        .map(|request| request.query)
        .collect();
    assert_eq!(
        queries,
        [
            "type=host.*&closed=true&limit=100",
            "limit=100",
            "node=host%3Aglobal%3Ahost.user%3Aa+b%26c&direction=in&limit=100"
        ]
    );
    world.run(&["nodes", "show", ".."]).expect(2);
}

#[test]
fn names_of_assets_cannot_forge_lines_of_a_table() {
    let world = World::signed_in(|request| {
        let name = "a\u{1b}[31m\nhost.package  forged\u{202e}\u{9b}2J";
        request.path.ends_with("/nodes").then(|| Reply::Json(200, json!({"items": [node(0, name)]})))
    });
    for format in ["table", "json", "yaml"] {
        let run = world.run(&["nodes", "list", "-o", format]).expect(0);
        assert!(!run.out.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{run:#?}");
    }
    assert_eq!(world.run(&["nodes", "list"]).expect(0).out.lines().count(), 2);
}

#[test]
fn secrets_come_from_files_and_the_standard_input() {
    let world = World::signed_in(|request| match request.line().as_str() {
        "GET /api/v1/plugins" => Some(Reply::Json(
            200,
            json!({"items": [wire_form::<wire::credential::Plugin>(json!({
                "name": "aws", "about": "AWS", "version": "1", "settings": [], "node_types": [],
                "credential_types": [{"name": "aws-keys", "required": ["access_key_id", "secret_access_key"], "optional": ["session_token"]}],
            }))]}),
        )),
        "POST /api/v1/tenants/acme/credentials" => Some(Reply::Json(
            201,
            wire_form::<wire::credential::Credential>(json!({
                "id": id("crd"), "plugin": "aws", "name": "prod", "type": "aws-keys", "created_at": "2026-11-22T03:00:00.000Z",
                "created_by": "ann", "last_used_at": null,
            })),
        )),
        _ => None,
    });
    let add = ["creds", "add", "--plugin", "aws", "--name", "prod"];
    let key = world.file("key", "planted-key\n");
    let stored = || world.server.seen().into_iter().rfind(|request| request.method == "POST").unwrap().json();
    let expect = json!({"plugin": "aws", "name": "prod", "type": "aws-keys", "secret": {"access_key_id": "AK", "secret_access_key": "planted-key"}});

    let from_file = format!("secret_access_key={key}");
    let run = world
        .run_with(
            &[&add[..], &["--secret-file", &from_file, "--secret-stdin"]].concat(),
            r#"{"access_key_id":"AK"}"#,
            &[],
        )
        .expect(0);
    assert!(!run.out.contains("planted") && !run.err.contains("planted"));
    assert_eq!(stored(), expect);

    let object = world.file("object", r#"{"access_key_id":"AK","secret_access_key":"planted-key"}"#);
    world.run(&[&add[..], &["--type", "aws-keys", "--from-file", &object]].concat()).expect(0);
    assert_eq!(stored(), expect);

    let before = world.server.lines().iter().filter(|line| line.starts_with("POST")).count();
    world.run(&add).expect(2).says("needs access_key_id, secret_access_key");
    world
        .run(&[&add[..], &["--secret-file", &format!("acess_key_id={key}")]].concat())
        .expect(2)
        .says("no field `acess_key_id`");
    world.run(&[&add[..], &["--type", "aws-role"]].concat()).expect(2).says("one of aws-keys");
    let run = world.run_with(&[&add[..], &["--secret-stdin"]].concat(), "{planted", &[]).expect(1);
    assert!(!run.err.contains("{planted"));
    assert_eq!(world.server.lines().iter().filter(|line| line.starts_with("POST")).count(), before);
}

#[test]
fn what_destroys_asks_first() {
    let world = World::signed_in(|request| {
        (request.line() == "DELETE /api/v1/tenants/acme").then_some(Reply::Json(204, Value::Null))
    });
    world.run(&["tenants", "delete", "acme"]).expect(1).says("--yes");
    assert!(world.requests().is_empty());
    world.run(&["tenants", "delete", "acme", "--yes"]).expect(0);
}

#[test]
fn mistakes_of_the_command_line_are_exit_code_2_and_reach_no_server() {
    let world = World::new(nothing);
    for line in [
        "",
        "nodes",
        "nodes list --limit 0",
        "nodes list --limit 5 --all",
        "nodes list -o xml",
        "nodes list --no-such-option",
        "edges list --direction in",
        "findings accept f --reason r --until soon",
        "findings list --severity bad",
        "users update ann@example.com",
        "users update u --disable --enable",
        "jobs run",
        "jobs run --plugin aws --set novalue",
        "schedules create --plugin aws --every 5s",
        "evidence export -o f",
        "evidence export fnd_1 --control AC-6 -o f",
        "evidence export fnd_1",
        "login https://127.0.0.1:1 --trust abc",
        "login http://127.0.0.1:1",
        "login https://ann:pw@127.0.0.1:1",
        "completion powershell",
        "members add a@b --role king",
    ] {
        let run = world.run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(run.code, 2, "{line}: {run:#?}");
        assert_eq!(run.out, "", "{line}");
        assert!(!run.err.is_empty(), "{line}");
    }
    assert!(world.server.seen().is_empty());
}

#[test]
fn help_version_and_completion_need_no_home_and_no_server() {
    for (args, expect) in [
        (&["--version"][..], concat!("cairn ", env!("CARGO_PKG_VERSION"))),
        (&["--help"], "Exit codes: 0 done"),
        (&["jobs", "run", "--help"], "--wait"),
        (&["completion", "bash"], "_cairn"),
        (&["completion", "zsh"], "#compdef cairn"),
        (&["completion", "fish"], "complete -c cairn"),
    ] {
        let run = world::run(std::path::Path::new("/nonexistent"), args, "", &[]).expect(0);
        assert!(run.out.contains(expect), "{args:?}: {run:#?}");
        assert_eq!(run.err, "");
    }
}

#[test]
fn a_reader_that_went_away_is_quiet() {
    let world = World::signed_in(nodes(5_000));
    let mut child = world::command(&world.home())
        .args(["nodes", "list", "--all", "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn a_server_that_is_away_is_named() {
    let world = World::signed_in(nothing);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    world
        .run(&["login", &url, "--user", "a@b"])
        .expect(1)
        .says(&format!("cannot reach {url}"))
        .says("Connection refused");
    world.run(&["whoami", "--server", &url]).expect(1).says(&format!("hint: cairn login {url}"));
}
