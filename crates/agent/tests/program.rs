//! The program itself, before it has a server.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code: where it fails, the test fails"
)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::program::{Running, private_file_of_nobody};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cairn-agent");

/// The agent as its systemd unit starts it: another user, who may read every file and do nothing else that needs a right. Needs root.
fn under_its_unit() -> Command {
    assert!(rustix::process::geteuid().is_root(), "this test starts the agent as another user: run it as root");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
    for set in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
        command.args([set, "-all,+dac_read_search"]);
    }
    command.arg(PROGRAM).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// What `run --once --print` prints, line by line.
fn printed(mut command: Command, state: &Path) -> Vec<Value> {
    let output = command
        .env("CAIRN_AGENT_STATE_DIR", state)
        .args(["run", "--once", "--print"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!state.exists(), "what only shows writes nothing");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The nodes of these lines by their ids.
fn nodes(lines: &[Value]) -> BTreeMap<String, Value> {
    let pages = lines.iter().filter_map(|line| line["page"]["nodes"].as_array()).flatten();
    pages.map(|node| (node["id"].as_str().expect("an id").to_owned(), node.clone())).collect()
}

/// The verdict of each scope.
fn verdicts(lines: &[Value]) -> BTreeMap<String, String> {
    let scopes = lines.iter().filter(|line| line["scope"].is_object()).map(|line| &line["scope"]);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    scopes.map(|scope| (text(&scope["name"]), text(&scope["coverage"]["coverage"]))).collect()
}

#[test]
fn what_would_be_sent_is_shown_without_a_server_and_without_leaving_anything_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("CAIRN_HOST_COLLECTORS", "accounts");
    let lines = printed(command, &folder.path().join("state"));
    assert_eq!(lines[0]["head"]["version"], 1);
    assert_eq!(lines[0]["head"]["program"]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(lines[lines.len() - 1]["end"]["state"].as_str().map(str::len), Some(64));
    assert_eq!(verdicts(&lines).into_keys().collect::<Vec<_>>(), ["accounts"]);
    let is_root = |(id, node): &(String, Value)| id.contains(":host.user:") && node["name"] == "root";
    let (_, root) = nodes(&lines).into_iter().find(is_root).expect("an account `root`");
    assert_eq!(root["properties"]["uid"], 0, "{root}");
    let calls = lines.iter().find_map(|line| line["calls"].as_array()).expect("how it was read");
    assert!(calls.iter().any(|call| call.to_string().contains("/etc/passwd")), "{calls:?}");
}

#[test]
fn with_no_right_but_to_read_the_agent_sees_files_of_root_and_says_of_nothing_that_it_was_kept_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (secret, state) = (folder.path().join("of-root"), folder.path().join("state"));
    std::fs::write(&secret, "of root alone").expect("a file");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("its mode");
    let mut command = under_its_unit();
    command.env("CAIRN_HOST_COLLECTORS", "machine,accounts,sudo,mounts,services,integrity,packages");
    command.env("CAIRN_HOST_PACKAGE_MANAGERS", "dpkg").env("CAIRN_HOST_INTEGRITY_PATHS", &secret);
    let lines = printed(command, &state);
    let hash = crypto::sha256(b"of root alone").to_hex();
    let files = nodes(&lines);
    let file = files.values().find(|node| node["name"] == *secret.to_str().expect("a name")).expect("the file's node");
    assert!(file.to_string().contains(&hash), "{file}");
    let verdicts = verdicts(&lines);
    assert!(verdicts.len() >= 6, "{verdicts:?}");
    assert!(verdicts.values().all(|verdict| verdict == "complete" || verdict == "absent"), "{verdicts:?}");
}

#[test]
fn attack_59_the_agent_leaves_no_core_dump_and_no_process_of_its_user_looks_into_it() {
    // A server that says nothing: the agent waits for it with its token in its memory.
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let folder = tempfile::tempdir().expect("a folder");
    let token = private_file_of_nobody(folder.path(), "token", "a token of nobody");
    let mut agent = Running::start(
        under_its_unit()
            .env("CAIRN_AGENT_SERVER", format!("https://127.0.0.1:{port}"))
            .env("CAIRN_AGENT_STATE_DIR", folder.path().join("state"))
            .args(["enroll", "--token-file"])
            .arg(&token)
            .stderr(Stdio::null()),
    );
    let _stream = agent.dials(&listener);
    agent.keeps_its_memory_private();
}

#[test]
fn what_is_missing_is_said_at_the_start_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    for (arguments, expect) in [
        (&["run"][..], "not enrolled"),
        (&["enroll"], "CAIRN_AGENT_SERVER"),
        (&["status"], "not enrolled"),
        (&["run", "--print"], "--once"),
    ] {
        let mut command = Command::new(PROGRAM);
        let output = command
            .env_clear()
            .env("CAIRN_AGENT_STATE_DIR", &state)
            .args(arguments)
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expect), "{arguments:?}: {said}");
        assert!(!state.exists(), "{arguments:?}");
    }
}
