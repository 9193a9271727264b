//! A second factor from the command line, against the real server: enrolled, asked for, proved with, reset.

use crypto::system::SystemClock;
use crypto::totp;
use domain::Clock as _;

use crate::world::{Engine, World};

/// The step of this moment; codes of the one before and the one behind it are taken too.
fn step() -> u64 {
    (SystemClock.now().as_seconds() / totp::STEP_S).unsigned_abs()
}

fn unbase32(text: &str) -> Vec<u8> {
    let (mut out, mut buffer, mut bits) = (Vec::new(), 0u32, 0);
    for letter in text.bytes() {
        let five = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).unwrap();
        buffer = buffer << 5 | u32::try_from(five).unwrap();
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(buffer >> bits & 0xff).unwrap());
        }
    }
    out
}

#[test]
fn a_second_factor_is_enrolled_asked_for_and_good_for_a_fresh_proof() {
    let world =
        World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false").with("CAIRN_SESSION_STEP_UP_MIN", "1");
    let server = world.start();
    world.first_login(&server);
    let made = world.cairn(["factors", "add-totp", "-o", "json"]).ok().json();
    let secret = unbase32(made["secret"].as_str().unwrap());
    let file = world.private("code", &totp::code(&secret, step()));
    let code = file.to_str().unwrap();
    let id = made["id"].as_str().unwrap();
    let codes = world.cairn(["factors", "confirm", id, "--code-file", code, "-o", "json"]).ok().json();
    assert_eq!(codes["recovery_codes"].as_array().unwrap().len(), 10);
    world.cairn(["logout"]).ok();

    let password = world.path("password");
    let login = ["login", &server.url, "--user", "admin@localhost", "--password-file", password.to_str().unwrap()];
    let refused = world.cairn(login);
    assert!(refused.code == 1 && refused.err.contains("--code-file"), "{}", refused.err);
    // The code that confirmed the app was used.
    let refused = world.cairn(login.into_iter().chain(["--code-file", code]));
    assert!(refused.code == 1 && refused.err.contains("the code is wrong"), "{}", refused.err);
    world.private("code", &totp::code(&secret, step() + 1));
    world.cairn(login.into_iter().chain(["--code-file", code])).ok();
    let sessions = world.cairn(["sessions", "list", "-o", "json"]).ok().json();
    assert_eq!((sessions.as_array().unwrap().len(), &sessions[0]["second_factor"]), (1, &serde_json::json!(true)));
    assert!(sessions[0]["agent"].as_str().unwrap().starts_with("cairn "), "{sessions}");

    // A recovery code once, and never again.
    world.private("code", codes["recovery_codes"][0].as_str().unwrap());
    world.cairn(login.into_iter().chain(["--code-file", code])).ok();
    assert_eq!(world.cairn(login.into_iter().chain(["--code-file", code])).code, 1);
    world.cairn(["sessions", "revoke-all", "--including-this"]).ok();
    assert_eq!(world.cairn(["whoami"]).code, 1);
    server.stop();
}
