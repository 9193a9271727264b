//! The way from a test to the suite's log, as other crates use it. It also gives `cargo xtask test` something to search: an empty
//! search would look like a clean one.

use std::io::Write as _;
use std::process::{Command, Stdio};

use testkit::logs;

#[test]
fn tracing_lines_pipes_and_responses_reach_the_suite_log_without_the_planted_secret() {
    let watch = logs::watch();
    let secret = logs::plant("suite log self-test");
    logs::capture();
    tracing::info!(length = secret.len(), "a line about a secret, not the secret");
    logs::tee("self-test response", br#"{"secret":"***"}"#);

    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let reader = logs::tee_pipe("self-test process", child.stdout.take().unwrap());
    child.stdin.take().unwrap().write_all(b"one\ntwo").unwrap();
    child.wait().unwrap();
    assert_eq!(reader.join().unwrap(), "one\ntwo");
    drop(watch);

    let dir =
        std::env::var_os("CAIRN_SUITE_LOG").map_or_else(|| testkit::suite::target_dir().join("suite-log"), Into::into);
    let read = |name: &str| std::fs::read_to_string(dir.join(format!("{name}.{}.log", std::process::id()))).unwrap();
    assert!(read("tracing").contains("a line about a secret, not the secret"));
    assert!(read("self-test-response").contains("***") && read("self-test-process").ends_with("two\n"));
    assert!(logs::scan(format!("before\n{secret}")).iter().any(|leak| leak.form == "plain" && leak.line == 2));
}
