//! The client against real net-snmp agents, and against devices that mislead.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::{ScopeId, Secret};
use serde_json::{Map, Value, json};
use testkit::{Snmpd, TestRng};

use super::*;
use crate::record::Recorder;
use crate::{CallError, CallTag, Guard};

mod hostile;

const PASSWORD: &str = "a-password-of-the-reader";
const OTHER: &str = "a-passphrase-for-privacy";

fn tag() -> CallTag {
    let scope: ScopeId = "snmp:test".parse().unwrap();
    CallTag { scope, about: None, keep: true }
}

fn oid(text: &str) -> Oid {
    text.parse().unwrap()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

struct Made {
    client: SnmpClient,
    recorder: Arc<Recorder>,
}

fn made_with(kind: &str, secret: &Value, config: SnmpConfig, guard: Guard) -> Made {
    let credentials = SnmpCredentials::from_secret_json(kind, &Secret::new(secret.to_string())).unwrap();
    let recorder = Arc::new(Recorder::default());
    let clock = Arc::new(crypto::system::SystemClock);
    let rng = Arc::new(TestRng::seeded(7));
    Made { client: SnmpClient::new(credentials, config, guard, Arc::clone(&recorder), clock, rng), recorder }
}

fn made(kind: &str, secret: &Value) -> Made {
    // The machine that runs the tests may be busy: what waits is not what is tested.
    let config = SnmpConfig { wait_max: Duration::from_secs(10), ..SnmpConfig::default() };
    made_with(kind, secret, config, Guard::loopback(true))
}

fn user(name: &str, auth: &str, privacy: Option<&str>) -> Made {
    let mut secret = json!({ "username": name, "auth_protocol": auth, "auth_password": PASSWORD });
    if let Some(privacy) = privacy {
        secret["privacy_protocol"] = privacy.into();
        secret["privacy_password"] = OTHER.into();
    }
    made("snmp-v3", &secret)
}

const NAME: &str = "1.3.6.1.2.1.1.5.0";

async fn name(made: &Made, port: u16) -> Result<String, CallError> {
    let found = made.client.get(at(port), &[oid(NAME)], &tag()).await?;
    let (_, value) = &found[0];
    Ok(String::from_utf8_lossy(value.octets().unwrap_or_default()).into_owned())
}

#[tokio::test]
async fn v1_and_v2c_read_the_same_objects_as_snmpbulkwalk_and_each_call_is_recorded() {
    let agent = Snmpd::start("rocommunity lab-community\nsysName dut\nsysLocation row 7\n");
    let printed = std::process::Command::new("snmpbulkwalk")
        .args(["-v2c", "-c", "lab-community", "-On", "-Oq", "-Cr50", &format!("127.0.0.1:{}", agent.port)])
        .args(["1.3.6.1.2.1.2.2.1.2"])
        .env("MIBS", "")
        .output()
        .expect("snmpbulkwalk: run `cargo xtask setup`");
    let theirs: Vec<String> = String::from_utf8_lossy(&printed.stdout)
        .lines()
        .filter_map(|line| Some(line.trim_start_matches('.').split_once(' ')?.0.to_owned()))
        .collect();
    assert!(!theirs.is_empty(), "{}", String::from_utf8_lossy(&printed.stderr));
    for version in ["v1", "v2c"] {
        let made = made("snmp-community", &json!({ "community": "lab-community", "version": version }));
        assert_eq!(name(&made, agent.port).await.unwrap(), "dut");
        let missing = made.client.get(at(agent.port), &[oid("1.3.6.1.2.1.1.99.0"), oid(NAME)], &tag()).await.unwrap();
        assert!(!missing[0].1.is_some() && missing[1].1.octets() == Some(b"dut"), "{version}: {missing:?}");
        let columns = [oid("1.3.6.1.2.1.2.2.1.2"), oid("1.3.6.1.2.1.2.2.1.1"), oid("1.3.6.1.2.1.99.99")];
        let walked = made.client.walk(at(agent.port), &columns, &tag()).await;
        assert_eq!(walked.failed, None, "{version}");
        let ours: Vec<String> = walked.columns[0].iter().map(|(oid, _)| oid.to_string()).collect();
        assert_eq!(ours, theirs, "{version}");
        assert_eq!((walked.columns[1].len(), walked.columns[2].len()), (theirs.len(), 0), "{version}");
        let whole = made.client.walk(at(agent.port), &[oid("1.3.6.1.2.1")], &tag()).await;
        assert_eq!(whole.failed, None, "{version}");
        assert!(whole.columns[0].len() > 200 && whole.columns[0].is_sorted_by(|a, b| a.0 < b.0), "{version}");
        let records = made.recorder.take(&tag().scope);
        assert_eq!(records.len(), 4, "{version}");
        let first = &records[0];
        assert_eq!(first.request.operation, format!("get {NAME}"));
        assert_eq!(first.kept.as_deref(), Some(format!("{NAME} = OCTETS 647574\n").as_bytes()));
        let shown = format!("{records:?}");
        assert!(!shown.contains("lab-community"), "the community is in a record");
    }
}

#[tokio::test]
async fn a_wrong_community_and_a_silent_port_are_told_as_no_answer() {
    let agent = Snmpd::start("rocommunity lab-community\n");
    let config = SnmpConfig { wait_max: Duration::from_millis(500), ..SnmpConfig::default() };
    let made = made_with("snmp-community", &json!({ "community": "other" }), config, Guard::loopback(true));
    assert!(matches!(name(&made, agent.port).await, Err(CallError::Timeout(_))));
    let records = made.recorder.take(&tag().scope);
    assert!(records[0].outcome.as_ref().unwrap_err().contains("no answer"), "{records:?}");
}

#[tokio::test]
async fn every_pair_of_authentication_and_privacy_that_an_agent_knows_reads_it() {
    let ours = ["MD5", "SHA", "SHA-224", "SHA-256", "SHA-384", "SHA-512"];
    let ciphers = [
        ("DES", "DES"),
        ("AES", "AES-128"),
        ("AES-192", "AES-192"),
        ("AES-256", "AES-256"),
        ("AES-192-C", "AES-192-C"),
        ("AES-256-C", "AES-256-C"),
    ];
    let mut config = String::from("sysName dut\n");
    let mut users = Vec::new();
    for auth in ours {
        write!(config, "createUser {auth} {auth} {PASSWORD}\nrouser {auth} auth\n").unwrap();
        users.push((auth.to_owned(), auth, None));
        for (theirs, cipher) in ciphers {
            let user = format!("{auth}-{theirs}");
            write!(config, "createUser {user} {auth} {PASSWORD} {theirs} {OTHER}\nrouser {user} priv\n").unwrap();
            users.push((user, auth, Some(cipher)));
        }
    }
    let agent = Snmpd::start(&config);
    assert_eq!(users.len(), 42);
    for (name_, auth, cipher) in &users {
        let made = user(name_, auth, *cipher);
        let got = name(&made, agent.port).await;
        assert_eq!(got.unwrap_or_else(|error| format!("{error} {}", agent.log())), "dut", "{name_}");
        let walked = made.client.walk(at(agent.port), &[oid("1.3.6.1.2.1.1")], &tag()).await;
        assert!(walked.failed.is_none() && walked.columns[0].len() > 8, "{name_}: {:?}", walked.failed);
    }
}

#[tokio::test]
async fn a_user_without_security_reads_what_the_agent_lets_it() {
    let agent = Snmpd::start("sysName dut\ncreateUser open\nrouser open noauth\n");
    let made = made("snmp-v3", &json!({ "username": "open" }));
    assert_eq!(name(&made, agent.port).await.unwrap(), "dut");
    assert!(made.client.engine_id(at(agent.port)).is_some_and(|id| id.len() >= 5));
}

#[tokio::test]
async fn what_is_wrong_with_a_user_is_told_and_is_this_devices_word_only() {
    let config = format!(
        "createUser reader SHA-256 {PASSWORD} AES {OTHER}\nrouser reader priv\ncreateUser plain SHA-256 {PASSWORD}\nrouser plain auth\n"
    );
    let agent = Snmpd::start(&config);
    let secret = |name: &str, auth: &str, password: &str, privacy: &str, other: &str| {
        json!({ "username": name, "auth_protocol": auth, "auth_password": password,
            "privacy_protocol": privacy, "privacy_password": other })
    };
    for (secret, part) in [
        (secret("nobody", "SHA-256", PASSWORD, "AES", OTHER), "does not know this `username`"),
        (secret("reader", "SHA-256", "hunter2hunter2", "AES", OTHER), "refuses the authentication"),
        (secret("reader", "SHA-512", PASSWORD, "AES", OTHER), "refuses the authentication"),
        (secret("plain", "SHA-256", PASSWORD, "AES", OTHER), "refuses this security level"),
    ] {
        let made = made("snmp-v3", &secret);
        match name(&made, agent.port).await {
            Err(CallError::Denied(why)) => assert!(why.contains(part) && !why.contains("hunter2"), "{why}"),
            other => panic!("{part}: {other:?}"),
        }
    }
    // A wrong key for privacy makes nonsense of the request: net-snmp says so, others keep silent.
    let config = SnmpConfig { wait_max: Duration::from_secs(1), ..SnmpConfig::default() };
    let secret = secret("reader", "SHA-256", PASSWORD, "AES", "hunter2hunter2");
    let made = made_with("snmp-v3", &secret, config, Guard::loopback(true));
    assert!(matches!(name(&made, agent.port).await, Err(CallError::Denied(_) | CallError::Timeout(_))));
}

#[tokio::test]
async fn a_device_that_starts_again_with_another_time_or_engine_is_read_on() {
    let config = |engine: &str| {
        format!(
            "engineID {engine}\ncreateUser reader SHA-256 {PASSWORD} AES {OTHER}\nrouser reader priv\nsysName dut\n"
        )
    };
    let mut agent = Snmpd::start(&config("first-engine"));
    let made = user("reader", "SHA-256", Some("AES"));
    assert_eq!(name(&made, agent.port).await.unwrap(), "dut");
    let first = made.client.engine_id(at(agent.port)).unwrap();
    agent.restart(None);
    assert_eq!(name(&made, agent.port).await.unwrap(), "dut", "boots one more");
    assert_eq!(made.client.engine_id(at(agent.port)).unwrap(), first);
    agent.restart(Some(&config("another-engine")));
    assert_eq!(name(&made, agent.port).await.unwrap(), "dut", "another engine");
    assert_ne!(made.client.engine_id(at(agent.port)).unwrap(), first);
}

#[tokio::test]
async fn attack_64_a_device_at_an_address_that_is_no_target_gets_no_datagram() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let secret = json!({ "community": "hunter2" });
    let made = made_with("snmp-community", &secret, SnmpConfig::default(), Guard::default());
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
    for address in [at(port), mapped] {
        let got = made.client.get(address, &[oid(NAME)], &tag()).await;
        assert!(matches!(got, Err(CallError::Denied(_))), "{got:?}");
        let walked = made.client.walk(address, &[oid(NAME)], &tag()).await;
        assert!(matches!(walked.failed, Some(CallError::Denied(_))));
    }
    assert!(matches!(made.client.resolve("localhost", port).await, Err(CallError::Denied(_))));
    assert!(socket.try_recv(&mut [0; 2_048]).is_err(), "a community was sent");
}

#[test]
fn settings_are_limits_and_say_what_to_change() {
    let read = |value: Value| {
        let Value::Object(map) = value else { panic!("an object") };
        SnmpConfig::from_settings(&map, Duration::from_secs(30))
    };
    let config = read(json!({ "wait_s": "5", "target_timeout_s": 60, "target_mib": 1 })).unwrap();
    assert_eq!((config.wait_max.as_secs(), config.device_time_max.as_secs()), (5, 60));
    assert_eq!(config.device_bytes_max, 1 << 20);
    assert_eq!(read(json!({ "wait_s": 60 })).unwrap().wait_max.as_secs(), 30, "not longer than any call");
    let defaults = SnmpConfig::from_settings(&Map::new(), Duration::from_secs(30)).unwrap();
    assert_eq!(defaults.wait_max, SnmpConfig::default().wait_max);
    for bad in [json!({ "wait_s": 0 }), json!({ "target_mib": "many" }), json!({ "target_timeout_s": 3_601 })] {
        let error = read(bad).unwrap_err().to_string();
        assert!(error.contains("is a whole number from 1 to"), "{error}");
    }
}
