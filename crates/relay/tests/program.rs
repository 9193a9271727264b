//! The program itself, before it has a server.
#![allow(clippy::expect_used, reason = "test code: where it fails, the test fails")]

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use testkit::program::{Running, private_file_of_nobody};

fn run(pairs: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn-relay"));
    command.env_clear().envs(pairs.iter().copied());
    command.output().expect("the program starts")
}

#[test]
fn what_is_missing_or_wrong_is_said_at_the_start_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("identity");
    let place = place.to_str().expect("a name in UTF-8");
    let server = ("RELAY_SERVER", "https://127.0.0.1:1");
    for (pairs, expect) in [
        (&[][..], "RELAY_SERVER"),
        (&[("RELAY_SERVER", "http://127.0.0.1:1")], "https://"),
        (&[server, ("RELAY_CA_CERT", "/nowhere.pem")], "RELAY_CA_CERT"),
        (&[server, ("RELAY_TOKEN", "file:/nowhere")], "RELAY_TOKEN"),
        (&[server], "RELAY_TOKEN"),
    ] {
        let pairs: Vec<_> = pairs.iter().copied().chain([("RELAY_DATA_DIR", place)]).collect();
        let output = run(&pairs);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(expect), "{expect}: {said}");
        assert!(!std::path::Path::new(place).join("identity.json").exists());
    }
}

#[test]
fn attack_59_a_relay_leaves_no_core_dump_and_no_process_of_its_user_looks_into_it() {
    assert!(rustix::process::geteuid().is_root(), "this test starts the relay as another user: run it as root");
    // A server that says nothing: the relay waits for it with its token in its memory.
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let folder = tempfile::tempdir().expect("a folder");
    let token = private_file_of_nobody(folder.path(), "token", "a token of nobody");
    // It may look into folders of others: where it was built is perhaps not everybody's.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args(["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search"]);
    let mut relay = Running::start(
        command
            .arg(env!("CARGO_BIN_EXE_cairn-relay"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RELAY_SERVER", format!("https://127.0.0.1:{port}"))
            .env("RELAY_TOKEN", format!("file:{}", token.display()))
            .env("RELAY_DATA_DIR", folder.path().join("identity"))
            .stderr(Stdio::null()),
    );
    let _stream = relay.dials(&listener);
    relay.keeps_its_memory_private();
}
