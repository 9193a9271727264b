//! Against a strict double, through the real listener.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use rustls_pki_types::ServerName;
use testkit::TestClock;
use time::OffsetDateTime;

use super::double::{Double, Faults};
use super::*;
use crate::tls::probe::handshake;

const NAMES: [&str; 2] = ["a.example.com", "cairn.example.com"];

struct World {
    dir: tempfile::TempDir,
    data: Arc<DataDir>,
    clock: Arc<TestClock>,
    config: Config,
    certificates: Arc<Certificates>,
    address: SocketAddr,
    double: Arc<Double>,
    stop: CancellationToken,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = Arc::new(DataDir::open(&dir.path().join("data")).unwrap());
        let clock = Arc::new(TestClock::default());
        let mut config = Config::default();
        config.server.names = NAMES.map(str::to_owned).to_vec();
        config.server.names.push("192.0.2.1".to_owned());
        let certificates = Certificates::open(&config.server, Arc::clone(&data), clock.clone()).unwrap();
        let tls = crate::tls::server_configs(Arc::clone(&certificates), true).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(crate::listen::serve(
            listener,
            Some(tls),
            axum::Router::new(),
            crate::listen::Limits::new(&config.server, None),
            clock.clone(),
            Arc::new(testkit::TestRng::seeded(7)),
            stop.clone(),
            Duration::from_secs(1),
        ));
        let double = Double::start(address, clock.clone()).await;
        config.acme.directory = Some(format!("{}/directory", double.url));
        config.acme.terms_agreed = true;
        Self { dir, data, clock, config, certificates, address, double, stop }
    }

    fn acme(&self) -> Acme {
        let (data, certificates) = (Arc::clone(&self.data), Arc::clone(&self.certificates));
        let mut acme = Acme::open(&self.config, data, certificates, self.clock.clone()).unwrap().unwrap();
        acme.retries = RetryPolicy::new().initial_delay(Duration::from_millis(5)).timeout(Duration::from_secs(20));
        acme
    }

    async fn served(&self, name: &str) -> CertificateDer<'static> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        handshake(self.address, name, &[b"h2"]).await.unwrap().0.remove(0)
    }

    fn advance_days(&self, days: u64) {
        self.clock.advance(Duration::from_hours(24 * days));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn is_ours(certificate: &CertificateDer<'_>) -> bool {
    names_of(certificate).unwrap().contains("localhost")
}

#[tokio::test]
async fn a_certificate_is_ordered_proven_served_and_renewed_while_serving() {
    let world = World::new().await;
    let mut acme = world.acme();
    assert!(is_ours(&world.served("cairn.example.com").await), "until there is another one");
    world.double.misbehave(Faults { bad_nonces: 2, ..Faults::default() });
    acme.step().await.unwrap();
    let first = world.served("cairn.example.com").await;
    assert_eq!(names_of(&first).unwrap().into_iter().collect::<Vec<_>>(), NAMES);
    assert_eq!(world.served("A.example.COM").await, first);
    assert!(is_ours(&world.served("localhost").await), "the ordered one is not for this name");
    for file in ["acme.key", "acme-account.json", "ca.key", "tls.key"] {
        let mode = std::fs::metadata(world.dir.path().join("data").join(file)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    // The next start serves it at once, and uses the same account.
    drop(acme);
    let mut acme = world.acme();
    assert_eq!(acme.step().await.unwrap(), LOOK);
    world.advance_days(59);
    acme.step().await.unwrap();
    assert_eq!(world.served("cairn.example.com").await, first);
    world.advance_days(2);
    acme.step().await.unwrap();
    let second = world.served("cairn.example.com").await;
    assert_ne!(second, first);
    assert_eq!(world.double.seen(), (1, 2, Vec::new()), "one account, two orders");
}

#[tokio::test]
async fn the_servers_own_suggestion_of_when_to_renew_is_followed() {
    let world = World::new().await;
    let start = OffsetDateTime::from_unix_timestamp(world.clock.now().as_seconds() + 10 * 86_400).unwrap();
    world.double.suggest((start, start + Duration::from_hours(1)));
    let mut acme = world.acme();
    acme.step().await.unwrap();
    let first = world.served("cairn.example.com").await;
    world.advance_days(9);
    assert!(acme.step().await.unwrap() > Duration::ZERO);
    assert_eq!(world.served("cairn.example.com").await, first);
    world.advance_days(2);
    assert_eq!(acme.step().await.unwrap(), Duration::ZERO);
    assert_ne!(world.served("cairn.example.com").await, first);
    let (_, _, replaced) = world.double.seen();
    assert_eq!(replaced, [CertificateIdentifier::try_from(&first).unwrap().to_string()]);
}

#[tokio::test]
async fn a_name_that_cannot_be_proven_says_why_and_what_is_served_stays() {
    let world = World::new().await;
    let mut acme = world.acme();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.double.aim(nobody);
    let error = format!("{:#}", acme.step().await.unwrap_err());
    assert!(error.contains("example.com") && error.contains("refused"), "{error}");
    assert!(is_ours(&world.served("cairn.example.com").await));
    world.double.aim(world.address);
    acme.step().await.unwrap();
    let first = world.served("cairn.example.com").await;

    world.advance_days(70);
    for faults in [
        Faults { limited: true, ..Faults::default() },
        Faults { challenge: Some("dns-01"), ..Faults::default() },
        Faults { other_name: Some("www.example.org".to_owned()), ..Faults::default() },
        Faults { bad_nonces: 1_000, ..Faults::default() },
    ] {
        world.double.misbehave(faults.clone());
        let error = format!("{:#}", acme.step().await.unwrap_err());
        assert!(!error.is_empty(), "{faults:?}");
        assert_eq!(world.served("cairn.example.com").await, first, "{faults:?}");
    }
    world.double.misbehave(Faults::default());
    acme.step().await.unwrap();
    assert_ne!(world.served("cairn.example.com").await, first);
}

#[tokio::test]
async fn an_account_is_bound_to_the_one_that_the_operator_has_at_the_server() {
    let mut world = World::new().await;
    let key = testkit::logs::plant("acme-external-account-key");
    let leaked: &'static [u8] = Box::leak(key.clone().into_bytes().into_boxed_slice());
    world.double.misbehave(Faults { external: Some(("kid-7", leaked)), ..Faults::default() });
    assert!(format!("{:#}", world.acme().step().await.unwrap_err()).contains("no ACME account"));
    let file = world.dir.path().join("eab.key");
    write_private(&file, format!("{}\n", URL_SAFE_NO_PAD.encode(&key)).as_bytes()).unwrap();
    world.config.acme.eab_key_id = Some("kid-7".to_owned());
    world.config.acme.eab_key_file = Some(file);
    world.acme().step().await.unwrap();
    assert!(!is_ours(&world.served("cairn.example.com").await));
}

#[tokio::test]
async fn only_a_challenge_that_is_under_way_is_answered() {
    let world = World::new().await;
    world.acme().step().await.unwrap();
    for name in ["cairn.example.com", "localhost", "www.example.org"] {
        let name = ServerName::try_from(name).unwrap();
        assert!(handshake(world.address, name, &[b"acme-tls/1"]).await.is_err());
    }
}

#[test]
fn the_next_try_is_later_than_the_last_one_was() {
    let waits: Vec<u64> = (0..40).map(|failures| after_failure(failures).as_secs()).collect();
    assert_eq!(waits[..4], [60, 120, 240, 480]);
    assert!(waits.iter().all(|wait| *wait <= LOOK.as_secs()) && waits.is_sorted());
}

#[test]
fn only_dns_names_of_the_world_are_ordered() {
    let names = ["b.example.com", "*.example.com", "192.0.2.1", "::1", "localhost", "A.example.com", "b.example.com"];
    assert_eq!(orderable(&names.map(str::to_owned)), ["a.example.com", "b.example.com"]);
    for (url, expect) in [
        ("https://127.0.0.1:1/dir", true),
        ("https://[::1]/dir", true),
        ("https://localhost/dir", true),
        ("https://acme.example/dir", false),
        ("https://127.0.0.1.example/dir", false),
    ] {
        assert_eq!(is_loopback(url), expect, "{url}");
    }
}

#[test]
fn a_certificate_is_renewed_at_its_own_moment_of_the_window() {
    let moments: Vec<i64> = (0..200_u8).map(|n| within(crypto::sha256(&[n]), 1_000_000, 1_655_360)).collect();
    assert!(moments.iter().all(|at| (1_000_000..=1_655_360).contains(at)));
    assert!(moments.iter().collect::<std::collections::BTreeSet<_>>().len() > 150);
    assert_eq!(within(crypto::sha256(b"x"), 5, 1), 5);
}
