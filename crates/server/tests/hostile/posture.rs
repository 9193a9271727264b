//! The posture of TLS, as `openssl` sees it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::peer::Target;
use crate::world::{Engine, World};

/// What `openssl s_client` says with these arguments, and what it was told to send.
fn s_client(target: &Target, world: &World, arguments: &[&str], input: &str) -> (bool, String) {
    let address = target.server.url.strip_prefix("https://").unwrap();
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", address, "-CAfile", world.data().join("ca.crt").to_str().unwrap()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[test]
fn attack_73_only_modern_tls_is_spoken_and_the_certificate_is_what_it_should_be() {
    let world = World::new(Engine::Sqlite)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_SERVER_NAMES", "cairn.example.com");
    let target = Target::start(&world);
    let good = |arguments: &[&str]| {
        let (success, text) = s_client(&target, &world, arguments, "");
        assert!(success && text.contains("Verification: OK"), "{arguments:?}: {text}");
        text
    };
    // `openssl` itself is willing: a refusal is the server's.
    let refused = |arguments: &[&str]| {
        let arguments = [&["-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"][..], arguments].concat();
        let (success, text) = s_client(&target, &world, &arguments, "");
        assert!(!success && text.contains("alert") && text.contains("Cipher is (NONE)"), "{arguments:?}: {text}");
    };
    for version in ["-tls1", "-tls1_1"] {
        refused(&[version]);
    }
    for cipher in [
        "AES128-SHA",
        "AES256-SHA256",
        "AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA384",
        "DHE-RSA-AES128-GCM-SHA256",
        "NULL",
        "aNULL",
        "CAMELLIA128-SHA",
        "PSK-AES128-GCM-SHA256",
    ] {
        let (success, text) = s_client(&target, &world, &["-tls1_2", "-cipher", &format!("{cipher}:@SECLEVEL=0")], "");
        let none = text.contains("Cipher is (NONE)") || text.contains("no cipher match");
        assert!(!success && none, "{cipher}: {text}");
    }
    for cipher in ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"] {
        let text = good(&["-tls1_2", "-cipher", cipher]);
        assert!(text.contains("Compression: NONE") && text.contains("Secure Renegotiation IS supported"), "{text}");
    }
    assert!(good(&["-tls1_3"]).contains("TLSv1.3"));
    for name in ["localhost", "cairn.example.com"] {
        good(&["-servername", name, "-verify_hostname", name]);
    }
    good(&["-verify_ip", "127.0.0.1"]);
    let (_, text) =
        s_client(&target, &world, &["-servername", "www.example.org", "-verify_hostname", "www.example.org"], "");
    assert!(text.contains("hostname mismatch"), "{text}");

    // A client that asks to negotiate anew is not answered with a second handshake.
    let (_, text) = s_client(&target, &world, &["-tls1_2"], "R\n");
    assert!(text.contains("RENEGOTIATING") && text.contains("no renegotiation"), "{text}");

    for secret in ["ca.key", "tls.key"] {
        let mode = fs::metadata(world.data().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let address = target.server.url.clone();
    target.server.stop();
    // A key that others may read stops the start, as every secret does.
    fs::set_permissions(world.data().join("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let text = world.start_refused();
    assert!(text.contains("chmod 600") && text.contains("ca.key"), "{address}: {text}");
}

#[test]
fn attack_73_a_scanner_of_others_finds_nothing_old() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let target = Target::start(&world);
    let scan = Command::new("sslscan")
        .args(["--no-colour", "--xml=-", target.server.url.strip_prefix("https://").unwrap()])
        .output()
        .expect("`sslscan` is not there: run `cargo xtask setup`");
    let text = String::from_utf8_lossy(&scan.stdout);
    let lines = |element: &str| -> Vec<&str> {
        text.lines().map(str::trim).filter(|line| line.starts_with(&format!("<{element} "))).collect()
    };
    let spoken: Vec<&str> = lines("protocol").into_iter().filter(|line| line.contains("enabled=\"1\"")).collect();
    assert_eq!(lines("protocol").len(), 6, "{text}");
    assert_eq!(spoken.len(), 2, "{text}");
    assert!(spoken.iter().all(|line| line.contains("version=\"1.2\"") || line.contains("version=\"1.3\"")), "{text}");
    let ciphers = lines("cipher");
    assert!(ciphers.len() >= 4, "{text}");
    for cipher in ciphers {
        let modern = ["GCM", "CHACHA20_POLY1305", "CHACHA20-POLY1305"].iter().any(|mode| cipher.contains(mode));
        let forward = cipher.contains("TLSv1.3") || cipher.contains("ECDHE-");
        assert!(modern && forward, "{cipher}");
    }
    assert!(!text.contains("vulnerable=\"1\"") && !text.contains("compression supported=\"1\""), "{text}");
    assert!(text.contains("renegotiation supported=\"0\""), "{text}");
    assert!(text.contains("DNS:localhost") && text.contains("IP Address:127.0.0.1"), "{text}");
    assert!(text.contains("<expired>false</expired>") && text.contains("<self-signed>false</self-signed>"), "{text}");
    target.others_are_served();
    target.server.stop();
}
