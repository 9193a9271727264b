//! The program itself, before it has a server.
#![allow(clippy::expect_used, reason = "test code: where it fails, the test fails")]

use std::process::{Command, Output};

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
