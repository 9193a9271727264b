//! Requests that are none, over HTTP/1.1: a whole answer, and the end of the connection.

use std::io::Write as _;

use testkit::logs;

use crate::peer::{ATTACKER, Answer, Target, answer, read_to_end};
use crate::world::{Engine, World};

fn target() -> Target {
    Target::start(&World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false"))
}

#[track_caller]
fn check_refusal(answer: &Answer, status: u16, request: &str) {
    assert_eq!(answer.status, status, "{request:?}: {answer:?}");
    for (name, value) in [
        ("connection", "close"),
        ("content-type", "application/json"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{request:?}: {answer:?}");
    }
    assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{answer:?}");
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
    assert!(!problem["message"].as_str().unwrap().is_empty() && problem["code"] == "invalid");
}

#[test]
fn attack_50_a_request_that_two_readers_could_understand_differently_is_refused_and_the_connection_ends() {
    let target = target();
    let secret = logs::plant("smuggled-authorization");
    // What is smuggled would be a request of its own: it must never be answered.
    let smuggled = format!("GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n\r\n");
    let post = |headers: &str| format!("POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
    for (request, status) in [
        (post("Content-Length: 4\r\nTransfer-Encoding: chunked") + "0\r\n\r\n", 400),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 4") + "0\r\n\r\n", 400),
        (post("Content-Length: 4\r\nContent-Length: 5") + "{}{}{", 400),
        (post("Content-Length: 4, 4") + "{}{}", 400),
        (post("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n", 400),
        (post("Transfer-Encoding:\u{b}chunked") + "0\r\n\r\n", 400),
        (post("Transfer-Encoding : chunked") + "0\r\n\r\n", 400),
        (post("X: a\r\n Content-Length: 4"), 400),
        (post("X: a\nContent-Length: 4"), 400),
        (post("Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 4") + "{}{}", 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), 400),
    ] {
        let bytes = [request.as_bytes(), smuggled.as_bytes()].concat();
        let mut tls = target.tls(ATTACKER);
        let _ = tls.write_all(&bytes);
        let came = read_to_end(&mut tls);
        check_refusal(&answer(&came).unwrap(), status, &request);
        let text = String::from_utf8_lossy(&came);
        assert_eq!(text.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count(), 1, "{request:?}: {text}");
    }
    // In a body the request itself is answered, and nothing after it.
    for chunks in ["2;x=y\r\n{}\r\n0\r\n\r\n", "2\n{}\r\n0\r\n\r\n", "2\r\n{}x", "0\r\nX: y\r\n\r\n", "zz\r\n"] {
        let request = post("Content-Type: application/json\r\nTransfer-Encoding: chunked") + chunks + &smuggled;
        let mut tls = target.tls(ATTACKER);
        let _ = tls.write_all(request.as_bytes());
        let came = read_to_end(&mut tls);
        let text = String::from_utf8_lossy(&came);
        assert!(text.matches("HTTP/1.1 ").count() <= 1, "{chunks:?}: {text}");
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{chunks:?}: {text}");
    }
    target.others_are_served();
    target.server.stop();
}

#[test]
fn a_refusal_follows_the_answers_to_what_was_asked_before_it() {
    let target = target();
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3) + "GET / HTTP/1.1\nHost: x\n\n";
    let mut tls = target.tls(ATTACKER);
    tls.write_all(request.as_bytes()).unwrap();
    let came = String::from_utf8(read_to_end(&mut tls)).unwrap();
    let statuses: Vec<&str> = came.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "200", "400"]);
    target.server.stop();
}

#[test]
fn attack_71_what_is_too_long_or_too_many_or_a_bomb_is_refused_at_once() {
    let target = target();
    let before = target.memory_mib();
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let cases = [
        (get(&format!("/{}", "a".repeat(1 << 20)), ""), 414),
        (get(&format!("/healthz?{}", "a=b&".repeat(1_000_000)), ""), 414),
        (get("/healthz", &"x: y\r\n".repeat(1_000_000)), 431),
        (get("/healthz", &format!("Cookie: {}\r\n", "a=b; ".repeat(1_000_000))), 431),
        (get("/healthz", &format!("X: {}\r\n", "y".repeat(1 << 20))), 431),
    ];
    for (request, status) in &cases {
        check_refusal(&target.ask(ATTACKER, request.as_bytes()), *status, &request[..60]);
    }
    // A body that says it is compressed is not unpacked, whatever is in it.
    let bomb = vec![0; 64 * 1_024];
    for coding in ["gzip", "zstd", "br", "deflate", "gzip, gzip"] {
        let head = format!(
            "POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
            bomb.len()
        );
        let answer = target.ask(ATTACKER, &[head.as_bytes(), &bomb].concat());
        assert_eq!(answer.status, 415, "{answer:?}");
    }
    let head =
        "POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let huge = format!("{head}Content-Length: 9999999999\r\n\r\n");
    assert_eq!(target.ask(ATTACKER, huge.as_bytes()).status, 413);
    assert!(target.memory_mib() < before + 64, "{} -> {} MiB", before, target.memory_mib());
    target.others_are_served();
    target.server.stop();
}
