//! What is asked of somebody at a terminal; `script` (of every Debian) gives the terminal.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::world::{NEW_PASSWORD, PASSWORD, World};

/// Runs `cairn` in a terminal and gives each answer when its question has come. The exit code, and all that was on the screen.
fn converse(world: &World, args: &[&str], dialogue: &[(&str, &str)]) -> (i32, String) {
    let line = [&[env!("CARGO_BIN_EXE_cairn")], args].concat().join(" ");
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env_clear()
        .env("CAIRN_HOME", world.home())
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{e}: `script` is in the package bsdutils"));
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut screen, mut from) = (Vec::new(), 0);
    let mut piece = [0; 4_096];
    for (question, answer) in dialogue {
        loop {
            let text = String::from_utf8_lossy(&screen[from..]).into_owned();
            if text.contains(question) {
                break;
            }
            let count = stdout.read(&mut piece).unwrap();
            assert!(count > 0, "`{question}` was not asked in {}", String::from_utf8_lossy(&screen));
            screen.extend_from_slice(&piece[..count]);
        }
        from = screen.len();
        stdin.write_all(format!("{answer}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }
    stdout.read_to_end(&mut screen).unwrap();
    (child.wait().unwrap().code().unwrap(), String::from_utf8(screen).unwrap())
}

#[test]
fn a_first_login_asks_for_trust_and_for_passwords_without_echo() {
    let world = World::new(|_| None);
    let url = world.server.url();
    let (code, screen) = converse(
        &world,
        &["login", &url],
        &[
            ("Trust this server? [y/N]", "y"),
            ("Login name:", "ann@example.com"),
            ("Password of ann@example.com:", PASSWORD),
            ("New password:", NEW_PASSWORD),
            ("New password again:", NEW_PASSWORD),
        ],
    );
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains(&world.identity.fingerprint()) && screen.contains("signed in to"), "{screen}");
    assert!(!screen.contains(PASSWORD) && !screen.contains(NEW_PASSWORD), "{screen}");
    world.run(&["whoami"]).expect(0);
}

#[test]
fn no_is_no() {
    let world = World::new(|_| None);
    let (code, screen) = converse(&world, &["login", &world.server.url()], &[("Trust this server? [y/N]", "")]);
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("nothing was sent"), "{screen}");
    assert!(world.server.seen().is_empty() && !world.home().exists());
}

#[test]
fn two_different_new_passwords_change_nothing() {
    let world = World::new(|_| None);
    let (url, fingerprint) = (world.server.url(), world.identity.fingerprint());
    let old = world.file("old", PASSWORD);
    let login = ["login", &url, "--user", "ann@example.com", "--trust", &fingerprint, "--password-file", &old];
    let (code, screen) =
        converse(&world, &login, &[("New password:", NEW_PASSWORD), ("New password again:", "another")]);
    assert_eq!(code, 1, "{screen}");
    assert_eq!(world.server.lines(), ["POST /api/v1/sessions"]);
}

#[test]
fn a_table_fits_the_terminal_and_is_whole_in_a_pipe() {
    let long = "x".repeat(300);
    let world = World::signed_in(move |request| {
        let rule = serde_json::json!({"id": "r", "severity": "low", "title": long, "node_types": [], "pack": "p"});
        request.path.ends_with("/rules").then(|| crate::double::Reply::Json(200, serde_json::json!({"items": [rule]})))
    });
    // `script` makes a terminal of unknown width when it has none itself: `stty` gives it one.
    let line = format!("stty cols 60; {} rules list", env!("CARGO_BIN_EXE_cairn"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env_clear()
        .env("CAIRN_HOME", world.home())
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let screen = String::from_utf8(output.stdout).unwrap();
    assert!(screen.contains("xxx…"), "{screen}");
    let widest = screen.lines().map(|line| line.trim_end().chars().count()).max();
    assert_eq!(widest, Some(60), "{screen}");
    assert!(world.run(&["rules", "list"]).expect(0).out.contains(&"x".repeat(300)));
}
