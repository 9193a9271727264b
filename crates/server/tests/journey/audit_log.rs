//! The audit log carried away, verified and forwarded: real collectors, the real command line, a database that is rolled back.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use testkit::{Rsyslogd, logs};

use crate::world::{Engine, World, until};

type Seen = Arc<Mutex<Vec<String>>>;

/// A syslog collector over TLS, and the certificate to trust.
fn syslog_collector() -> (u16, String, Seen) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let made = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], secret)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), Seen::default());
    let collected = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            let mut bytes = Vec::new();
            if stream.read_to_end(&mut bytes).is_err() {
                continue;
            }
            // Octet counting of RFC 5425: the length, a space, the message.
            let mut rest = bytes.as_slice();
            while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
                let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                let message = String::from_utf8(rest[space + 1..space + 1 + length].to_vec()).unwrap();
                logs::tee("journey-syslog", &message);
                collected.lock().unwrap().push(message);
                rest = &rest[space + 1 + length..];
            }
        }
    });
    (port, made.pem(), seen)
}

/// An HTTP event collector that refuses the first delivery, with the token that it wants.
fn event_collector(token: &str) -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), Seen::default());
    let (collected, wanted) = (Arc::clone(&seen), format!("authorization: splunk {}", token.to_lowercase()));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (mut bytes, mut piece) = (Vec::new(), vec![0u8; 65_536]);
            let (head, body) = loop {
                let read = stream.read(&mut piece).unwrap_or_default();
                bytes.extend_from_slice(&piece[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let head = head.to_lowercase();
                let length =
                    head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse::<usize>();
                if body.len() >= length.unwrap() {
                    break (head, body.to_owned());
                }
            };
            assert!(head.contains(&wanted) && head.starts_with("post /services/collector/event"), "the request's head");
            let answer = if number == 0 { "503 Busy" } else { "200 OK" };
            if number > 0 {
                logs::tee("journey-hec", &body);
                collected.lock().unwrap().extend(body.lines().map(str::to_owned));
            }
            let reply = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    (port, seen)
}

/// The places in the tenants' log that were delivered, and whether none is left out.
fn places(seen: &Seen) -> BTreeSet<u64> {
    places_of(&seen.lock().unwrap())
}

fn places_of(messages: &[String]) -> BTreeSet<u64> {
    let of = |message: &String| -> Option<u64> {
        let (_, rest) = message.split_once("/t/")?;
        rest.split("index=\"").nth(1)?.split('"').next()?.parse().ok()
    };
    messages.iter().filter_map(of).collect()
}

/// A certificate for 127.0.0.1, its key and the authority that signed it.
fn certificate() -> [String; 3] {
    let made = |names: Vec<String>, change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        change(&mut params);
        (params, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
    };
    let (authority, authority_key) =
        made(Vec::new(), &|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let (leaf, key) = made(vec!["127.0.0.1".to_owned()], &|_| {});
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(authority, authority_key)).unwrap();
    [authority_pem, leaf.pem(), key.serialize_pem()]
}

#[test]
fn records_reach_a_real_rsyslogd_over_tls_also_those_of_the_time_while_it_was_down() {
    let world = World::new(Engine::postgres()).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let [authority, leaf, key] = certificate();
    let mut collector = Rsyslogd::start(&authority, &leaf, &key);
    let ca = world.private("ca.pem", &authority);
    world.private(
        "cairn.toml",
        &format!(
            "[[audit.forward]]\nname = \"siem\"\nkind = \"syslog\"\nurl = \"tls://127.0.0.1:{}\"\nformat = \"jsonl\"\nloopback = true\nca = {ca:?}\n",
            collector.port
        ),
    );
    let server = world.start();
    world.first_login(&server);
    let arrived = |collector: &Rsyslogd, least: u64| {
        until("records in the collector's file", || {
            places_of(&collector.messages()).last().copied().filter(|last| *last >= least)
        })
    };
    let first = arrived(&collector, 1);

    // What is done while it is down is done, waits, and comes when it is back.
    collector.stop();
    for name in ["one", "two", "three"] {
        world.cairn_secretly(["keys", "create", name, "--role", "read-only", "-o", "json"], "secret");
    }
    let done = world.cairn(["audit", "list", "--action", "api_key_create", "-o", "json"]).ok().json();
    assert_eq!(done.as_array().unwrap().len(), 3);
    collector.start_again();
    arrived(&collector, first + 3);
    let messages = collector.messages();
    let delivered = places_of(&messages);
    assert_eq!(delivered, (0..delivered.len() as u64).collect::<BTreeSet<u64>>(), "every record, and in one piece");
    // PRI and version of RFC 5424, the facility "log audit", then our name and the record as it is.
    for message in &messages {
        logs::tee("journey-rsyslog", message);
        let json = message.split_once('\u{feff}').map(|(head, json)| (head, serde_json::from_str::<Value>(json)));
        assert!(json.is_some_and(|(head, json)| head.starts_with("<1") && json.is_ok()), "{message}");
    }
    // A batch whose end the collector did not tell in order is sent again: the same records, which count once.
    let distinct: BTreeSet<&String> = messages.iter().collect();
    assert_eq!(distinct.iter().filter(|message| message.contains("\"api_key_create\"")).count(), 3, "each of them");
    server.stop();
}

#[test]
fn records_reach_syslog_and_splunk_also_after_a_refusal_and_a_restart_and_none_is_left_out() {
    let world = World::new(Engine::Sqlite);
    let token = logs::plant("hec token");
    let ((syslog, ca, messages), (hec, events)) = (syslog_collector(), event_collector(&token));
    let (ca, token) = (world.private("ca.pem", &ca), world.private("token", &token));
    world.private(
        "cairn.toml",
        &format!(
            "[[audit.forward]]\nname = \"siem\"\nkind = \"syslog\"\nurl = \"tls://127.0.0.1:{syslog}\"\nformat = \"cef\"\nloopback = true\n\
             ca = {ca:?}\n[[audit.forward]]\nname = \"splunk\"\nkind = \"splunk-hec\"\nformat = \"ocsf\"\nlogs = [\"default\"]\nloopback = true\n\
             url = \"http://127.0.0.1:{hec}/services/collector/event\"\ntoken_file = {token:?}\n"
        ),
    );
    let server = world.start();
    world.first_login(&server);
    world.job_ended();
    let first = until("records at the collector", || places(&messages).last().copied().filter(|last| *last > 3));
    server.stop();
    let server = world.start();
    world.login(&server);
    until("more records after a restart", || places(&messages).last().copied().filter(|last| *last > first));
    let delivered = places(&messages);
    let gapless: BTreeSet<u64> = (0..delivered.len() as u64).collect();
    assert_eq!(delivered, gapless, "every record, in spite of the restart");
    let seen = messages.lock().unwrap().clone();
    assert!(
        seen.iter().all(|message| message.starts_with("<1") && message.contains("\u{feff}CEF:0|Cairn|")),
        "{seen:?}"
    );
    assert!(seen.iter().any(|message| message.contains("/platform\" index=\"0\"")), "the platform's log too");
    assert!(seen.iter().any(|message| message.contains("act=session_create outcome=success")), "the sign-in");
    until("events at the collector that was busy", || (!events.lock().unwrap().is_empty()).then_some(()));
    let event: Value = serde_json::from_str(&events.lock().unwrap()[0]).unwrap();
    assert_eq!(
        (&event["fields"]["index"], &event["sourcetype"]),
        (&"0".into(), &"cairn:audit:ocsf".into()),
        "from the first record on"
    );
    assert!(event["event"]["class_uid"].is_u64() && event["source"].as_str().unwrap().contains("/t/"), "{event}");
    // How it goes is told, and where to without what is secret.
    let told = until("nothing waits", || {
        let told = world.cairn(["audit", "forwards", "-o", "json"]).ok().json();
        let well = |it: &Value| it["waiting"] == 0 && it["failures"] == 0 && it["delivered"].as_u64() > Some(3);
        told.as_array().unwrap().iter().all(well).then_some(told)
    });
    let logs = |at: usize| -> Vec<&str> {
        told[at]["logs"].as_array().unwrap().iter().map(|log| log["log"].as_str().unwrap()).collect()
    };
    assert_eq!((logs(0), logs(1)), (vec!["platform", "default"], vec!["default"]));
    let at = |at: usize| (told[at]["name"].as_str().unwrap(), told[at]["address"].as_str().unwrap());
    assert_eq!(at(0), ("siem", format!("tls://127.0.0.1:{syslog}").as_str()));
    assert_eq!(at(1), ("splunk", format!("http://127.0.0.1:{hec}").as_str()));
    let log = server.stop();
    assert!(log.contains("audit records wait") || log.contains("stopped"));
}

#[test]
fn an_auditor_keeps_a_checkpoint_and_a_log_that_was_changed_since_is_found_out() {
    let world = World::new(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    world.job_ended();
    server.stop();
    // The database as it is now comes back later.
    let (database, copy) = (world.data().join("cairn.db"), world.path("copy.db"));
    fs::copy(&database, &copy).unwrap();
    let server = world.start();
    world.login(&server);
    let text = |name: &str| world.path(name).to_str().unwrap().to_owned();
    world.cairn(["audit", "checkpoint", "-o", &text("kept")]).ok();
    let shown = world.cairn(["audit", "checkpoint"]).ok().out;
    assert!(shown.contains("/t/") && shown.contains("\u{2014} "), "{shown}");
    world.cairn(["audit", "export", "-o", &text("log.zip"), "--since", &text("kept")]).ok();
    world.cairn(["audit", "export", "--platform", "-o", &text("platform.zip")]).ok();
    let told = world.cairn(["audit", "verify", "--on-server"]).ok();
    assert!(told.err.contains("verified"), "{}", told.err);
    let found = world.cairn(["audit", "list", "--action", "session_create", "-o", "json"]).ok().json();
    assert!(!found.as_array().unwrap().is_empty());
    server.stop();

    // No server from here on.
    let report = world.cairn(["audit", "verify", &text("log.zip"), "--since", &text("kept"), "-o", "json"]).ok().json();
    let (key, size) = (report["key_fingerprint"].as_str().unwrap().to_owned(), report["size"].as_u64().unwrap());
    assert!(size > 5 && report["statements"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["key_trusted"], true, "the key is the one that was seen first");
    world.cairn(["audit", "verify", &text("log.zip"), "--key-fingerprint", &key]).ok();
    world.cairn(["audit", "verify", &text("platform.zip"), "--key-fingerprint", &key]).ok();
    let other = world.cairn(["audit", "verify", &text("log.zip"), "--key-fingerprint", &"0".repeat(64)]);
    assert_eq!((other.code, other.err.contains("keys/log.pem")), (3, true), "{}", other.err);
    let mut bytes = fs::read(world.path("log.zip")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(world.path("changed.zip"), bytes).unwrap();
    assert_eq!(world.cairn(["audit", "verify", &text("changed.zip")]).code, 3);

    // Somebody puts the old database back. The vault was not written to meanwhile, so it is the log alone that notices: nothing is signed
    // any more, and both sides say why.
    fs::copy(&copy, &database).unwrap();
    let server = world.start();
    world.login(&server);
    let refused = world.cairn(["audit", "checkpoint"]);
    assert!(refused.code != 0 && refused.err.contains("rolled back or changed"), "{}", refused.err);
    let found = world.cairn(["audit", "verify", "--on-server"]);
    assert_eq!(found.code, 3, "{}{}", found.out, found.err);
    assert!(server.stop().contains("ALARM"), "the operator is told");
}
