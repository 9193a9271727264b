//! The program itself, before it has a server.
#![allow(clippy::expect_used, reason = "test code: where it fails, the test fails")]

use std::process::Command;

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
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn-agent"));
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
