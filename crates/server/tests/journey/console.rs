//! The web console in a real browser: Playwright's tests of `ui/tests`, against the real server by its real certificate.
//!
//! They need Node and Chromium, and a console that was built before the server, so they run by `cargo xtask browser` only, which is a step
//! of `cargo xtask test`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::{HeldPort, logs};

use crate::ssh_access::grant;
use crate::ssh_host::Host;
use crate::world::{Engine, World, until};

/// Walks through the console: all of it, or the part that says that it is for both engines.
fn walk(engine: Engine, arguments: &[&str]) {
    // Passkeys are for a name, and the server has to know its own.
    let (held, silent) = (HeldPort::at(Ipv4Addr::LOCALHOST), HeldPort::at(Ipv4Addr::LOCALHOST));
    let port = held.number;
    let url = format!("https://localhost:{port}");
    let world = World::new(engine)
        .with("CAIRN_SESSION_PASSKEY_ORIGIN", &url)
        .with("CAIRN_SERVER_PUBLIC_URL", &url)
        // The identity provider of the tests is this machine.
        .with("CAIRN_IDENTITY_LOOPBACK", "true");
    // Nobody listens there: what waits, and why, is to be seen.
    world.private(
        "cairn.toml",
        &format!(
            "[[audit.forward]]\nname = \"siem\"\nkind = \"syslog\"\nurl = \"tls://127.0.0.1:{}\"\nloopback = true\nlogs = [\"platform\", \"default\"]\n",
            silent.number
        ),
    );
    let server = world.start_on(&port.to_string());
    let first_password = fs::read_to_string(world.path("first-password")).unwrap();
    let mut command = playwright(&world, &url);
    command
        .args(arguments)
        .env("CAIRN_TEST_FIRST_PASSWORD", first_password)
        .env("CAIRN_TEST_CLI", Path::new(env!("CARGO_BIN_EXE_cairn-server")).with_file_name("cairn"))
        .env("CAIRN_TEST_RELAY", Path::new(env!("CARGO_BIN_EXE_cairn-server")).with_file_name("cairn-relay"))
        .env("CAIRN_TEST_AGENT", Path::new(env!("CARGO_BIN_EXE_cairn-server")).with_file_name("cairn-agent"));
    if !arguments.is_empty() {
        // One picture of each page is enough.
        command.env_remove("CAIRN_SCREENS");
    }
    let well = run(command);
    server.stop();
    assert!(well, "the browser tests failed: see above");
}

/// Playwright, for a server and its administrator.
fn playwright(world: &World, url: &str) -> Command {
    let ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui").canonicalize().unwrap();
    let playwright = ui.join("node_modules/.bin/playwright");
    assert!(playwright.exists(), "Playwright is not installed: run `cargo xtask browser`");
    let authority = world.fingerprint();
    let authority: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&authority[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let mut command = Command::new(playwright);
    command
        .arg("test")
        .current_dir(&ui)
        .env("CAIRN_TEST_URL", url)
        .env("CAIRN_TEST_AUTHORITY", STANDARD.encode(authority))
        .env("NODE_EXTRA_CA_CERTS", world.data().join("ca.crt"))
        .env("CAIRN_TEST_PASSWORD", &world.password)
        .stdin(Stdio::null());
    command
}

/// Whether all went well.
fn run(mut command: Command) -> bool {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    logs::tee("browser", &said);
    eprintln!("{said}");
    output.status.success()
}

/// Somebody is at a real host by a real `ssh`, and somebody else looks at it in the browser. As root, as the journeys by SSH are.
fn replay(engine: Engine) {
    let mut host = Host::start(engine, "");
    let (_cable, _relay) = host.relay(&[]);
    host.allow();
    host.register(&["--relay", "rly-1"]);
    let Host { sshd: _sshd, user, world, server } = host;
    grant(&world, "web1", &user);
    // No window shows this terminal, so that it says a size of no columns and no rows.
    let script = "stty size; printf '\\033[31mred\\033[0m and plain\\r\\n'; sleep 1; echo last words of $(id -un)";
    let said = world.cairn(["ssh", "web1", "-tt", script]).ok().out;
    assert!(said.contains("0 0") && said.contains(&format!("last words of {user}")), "{said}");
    let id = until("the recording's end", || {
        let all = world.cairn(["recordings", "list", "--all", "-o", "json"]).ok().json();
        let sealed = all.as_array().unwrap().iter().find(|one| one["evidence"].is_string())?.clone();
        Some(sealed["id"].as_str().unwrap().to_owned())
    });
    let mut command = playwright(&world, &server.url);
    command.arg("g-replay").env("CAIRN_TEST_RECORDING", id).env("CAIRN_TEST_HOST_USER", &user);
    let well = run(command);
    server.stop();
    assert!(well, "the browser tests failed: see above");
}

#[test]
#[ignore = "needs Node, Chromium and the built console: `cargo xtask browser`"]
fn a_person_walks_through_the_console_on_sqlite() {
    // Names of files, such as `1-first-day a-lists`, while one of them is written.
    let only = std::env::var_os("CAIRN_TEST_WALKS").unwrap_or_default();
    walk(Engine::Sqlite, &only.to_string_lossy().split_whitespace().collect::<Vec<_>>());
}

#[test]
#[ignore = "needs Node, Chromium and the built console: `cargo xtask browser`"]
fn a_person_walks_through_the_console_on_postgres() {
    walk(Engine::postgres(), &["--grep", "@both"]);
}

#[test]
#[ignore = "needs Node, Chromium and the built console: `cargo xtask browser`"]
fn a_session_at_a_real_host_is_replayed_and_its_bundle_verified_on_sqlite() {
    replay(Engine::Sqlite);
}

#[test]
#[ignore = "needs Node, Chromium and the built console: `cargo xtask browser`"]
fn a_session_at_a_real_host_is_replayed_and_its_bundle_verified_on_postgres() {
    replay(Engine::postgres());
}
