//! The program itself, before it has a server.
#![allow(clippy::expect_used, reason = "test code: where it fails, the test fails")]

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, Command, Output, Stdio};

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

/// Waits until the program has dialed the listener; where it ends before that, the test does.
fn dialed(listener: &TcpListener, program: &mut Child) -> TcpStream {
    listener.set_nonblocking(true).expect("a socket that does not wait");
    loop {
        if let Ok((stream, _)) = listener.accept() {
            return stream;
        }
        let ended = program.try_wait().expect("its state");
        assert!(ended.is_none(), "it ended before it dialed: {ended:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn attack_59_a_relay_leaves_no_core_dump_and_no_process_of_its_user_looks_into_it() {
    assert!(rustix::process::geteuid().is_root(), "this test starts the relay as another user: run it as root");
    // A server that says nothing: the relay waits for it with its token in its memory.
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "a token of nobody").expect("a file");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    for path in [folder.path(), &token] {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).expect("its owner");
    }
    // It may look into folders of others: where it was built is perhaps not everybody's.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args(["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search"]);
    let mut relay = command
        .arg(env!("CARGO_BIN_EXE_cairn-relay"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("RELAY_SERVER", format!("https://127.0.0.1:{port}"))
        .env("RELAY_TOKEN", format!("file:{}", token.display()))
        .env("RELAY_DATA_DIR", folder.path().join("identity"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let _stream = dialed(&listener, &mut relay);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", relay.id())).expect("its limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("the line");
    // The memory of what may be dumped is its user's in /proc, and of everything else root's.
    let owner = std::fs::metadata(format!("/proc/{}/mem", relay.id())).expect("its memory").uid();
    relay.kill().expect("it runs");
    relay.wait().expect("it ended");
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert_eq!(owner, 0);
}
