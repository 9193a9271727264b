//! Which build a server is, as it says and as its TLS shows. Runs in both builds: `cargo xtask fips` runs it in the FIPS one.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::world::{Engine, World};

const IS_FIPS: bool = cfg!(feature = "fips");

/// What `openssl s_client` says, with these options, after it asked for `/readyz`.
fn ask(address: &str, options: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", address, "-ign_eof"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A refused handshake closes the pipe.
    let _ =
        child.stdin.take().unwrap().write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let output = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_fips_build_says_so_and_takes_only_approved_tls_and_another_build_does_not_say_so() {
    let world = World::new(Engine::Sqlite);
    let version = world.command().arg("--version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout).contains("FIPS build: AWS-LC-FIPS"), IS_FIPS);
    let server = world.start();
    // A sign-in by the command line of the same build: TLS, sealing, password hashing, sessions.
    world.first_login(&server);
    let address = server.url.strip_prefix("https://").unwrap().to_owned();
    let ready = ask(&address, &["-quiet"]);
    assert!(ready.contains("ready"), "{ready}");
    assert_eq!(ready.contains("ready (FIPS build: AWS-LC-FIPS)"), IS_FIPS, "{ready}");
    for (options, approved) in [
        (&["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", "-groups", "P-256"][..], true),
        (&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-groups", "P-384"], true),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", "-groups", "P-256"], true),
        (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], false),
        (&["-tls1_3", "-groups", "X25519"], false),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], false),
    ] {
        let answer = ask(&address, options);
        assert_eq!(answer.contains("HTTP/1.1 200"), approved || !IS_FIPS, "{options:?}: {answer}");
    }
    server.stop();
}
