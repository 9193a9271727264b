//! Scans of networks that are made for it: on the near side of a cable this program, on the far side as many hosts as it takes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};

use domain::Timestamp;
use testkit::{Lab, TestClock};

use super::*;

fn scanner(guard: Guard) -> (Scanner, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (Scanner::new(guard, Arc::new(TestClock::at(Timestamp::from_millis(0))), Arc::clone(&recorder)), recorder)
}

fn tag() -> CallTag {
    CallTag { scope: "s".parse().unwrap(), about: None, keep: true }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn how(echo: bool, ports: &[u16]) -> SweepHow {
    SweepHow { echo, ports: ports.to_vec(), packets_per_s: 200_000 }
}

#[test]
fn every_live_host_of_a_large_network_is_found_and_no_other() {
    let lab = Lab::new();
    lab.hosts("ip route add local 10.50.0.0/21 dev lo; ip route add blackhole 10.50.0.0/16");
    let all: Vec<IpAddr> = (0..1u32 << 14).map(|n| IpAddr::V4((0x0a32_0000 + n).into())).collect();
    let (scanner, recorder) = scanner(Guard::default());
    let swept = lab.here(|| block(scanner.sweep(&all, &how(true, &[]), &tag()))).unwrap();
    assert_eq!(swept.doubt, None);
    // The last address of the local route is its broadcast address to nobody: a /21 of lo answers whole.
    assert_eq!(swept.alive, all[..1 << 11]);
    let record = recorder.take(&tag().scope).remove(0);
    let said = String::from_utf8(record.kept.unwrap().to_vec()).unwrap();
    assert!(said.starts_with("# icmp echo: 2048 of 16384 answered") && said.contains("all decided"), "{said:.200}");
}

#[test]
fn ports_are_found_open_over_both_families_and_a_host_without_icmp_by_tcp() {
    let lab = Lab::new();
    lab.hosts("ip route add local 10.50.0.0/24 dev lo; ip -6 route add local fd50::/120 dev lo; echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all");
    let listeners = lab.there(|| [TcpListener::bind("[::]:4433").unwrap(), TcpListener::bind("[::]:2222").unwrap()]);
    let hosts = ips(&["10.50.0.1", "10.50.0.77", "fd50::5"]);
    let ports: Vec<u16> = (2_000..5_000).collect();
    let (scanner, _) = scanner(Guard::default());
    let (echoed, swept, scanned) = lab.here(|| {
        block(async {
            let echoed = scanner.sweep(&hosts, &how(true, &[]), &tag()).await.unwrap();
            let swept = scanner.sweep(&hosts, &how(true, &[22, 2_222]), &tag()).await.unwrap();
            (echoed, swept, scanner.ports(&hosts, &ports, 200_000, &tag()).await.unwrap())
        })
    });
    assert_eq!(echoed.alive, ips(&["fd50::5"]), "ICMP of IPv4 is ignored");
    assert_eq!((swept.alive, swept.doubt), (hosts.clone(), None));
    let expect: Vec<SocketAddr> =
        hosts.iter().flat_map(|host| [2_222, 4_433].map(|port| SocketAddr::new(*host, port))).collect();
    assert_eq!((scanned.open, scanned.doubt), (expect, None));
    drop(listeners);
}

#[test]
fn no_turn_is_longer_than_its_probes_and_every_port_of_every_address_has_one() {
    let both = families(&ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"]));
    let ports: Vec<u16> = (1..=5).collect();
    for probes in [1, 2, 3, 7, 10, 100] {
        let turns = turns(&both, &ports, probes);
        assert!(turns.iter().all(|(_, some, ports)| some.len() * ports.len() <= probes), "{probes}: {turns:?}");
        let mut all: Vec<SocketAddr> = turns
            .iter()
            .flat_map(|(_, some, ports)| {
                some.iter().flat_map(|at| ports.iter().map(|port| SocketAddr::new(*at, *port)))
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 20, "{probes}");
    }
    assert_eq!((addresses_at_once(10), addresses_at_once(1_000_000)), (600, ADDRESSES_MAX));
}

#[test]
fn more_addresses_than_a_call_may_have_are_refused_before_the_first_packet() {
    let (scanner, recorder) = scanner(Guard::default());
    let all: Vec<IpAddr> = (0..=1u32 << 16).map(|n| IpAddr::V4((0x0a32_0000 + n).into())).collect();
    for result in [
        block(scanner.sweep(&all, &how(true, &[80]), &tag())).map(drop),
        block(scanner.ports(&all, &[80], 1_000, &tag())).map(drop),
    ] {
        assert_eq!(result, Err(CallError::TooLarge { max: ADDRESSES_MAX }));
    }
    let refused = recorder.take(&tag().scope);
    assert!(refused.len() == 2 && refused.iter().all(|record| record.outcome.is_err()), "{refused:?}");
}

#[test]
fn a_machine_that_accepts_every_connection_fills_no_memory_and_is_told() {
    let all =
        |from: usize| (from..usize::MAX).map(|n| SocketAddr::from(([10, 0, 0, 1], u16::try_from(n % 65_536).unwrap())));
    let mut open = Vec::new();
    assert_eq!(keep_bounded(&mut open, all(0).take(OPEN_MAX - 1)), None);
    assert_eq!(keep_bounded(&mut open, all(0).take(1)), None, "as many as there may be are no reason for doubt");
    let capacity = open.capacity();
    let why = keep_bounded(&mut open, all(0)).unwrap();
    assert!(why.contains("more than 262144 open ports: something accepts every connection"), "{why}");
    assert_eq!((open.len(), open.capacity()), (OPEN_MAX, capacity), "nothing was taken beyond the limit");
}

#[test]
fn a_scan_holds_a_bit_per_probe_whatever_it_is_asked() {
    // Twice the probes of a turn, and both maps of them.
    let both = families(&(0..1u32 << 16).map(|n| IpAddr::V4((0x0a32_0000 + n).into())).collect::<Vec<_>>());
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    let longest = turns(&both, &ports, PROBES).into_iter().map(|(_, some, ports)| some.len() * ports.len()).max();
    let bytes = 2 * bitmap::Bitmap::new(longest.unwrap()).bytes();
    assert!(longest.unwrap() <= PROBES && bytes <= 1 << 20, "{longest:?} {bytes}");
}

#[test]
fn public_and_special_addresses_get_no_packet() {
    let (scanner, _) = scanner(Guard::default());
    for (address, why) in [
        ("8.8.8.8", "only private networks are scanned"),
        ("2001:4860:4860::8888", "only private networks"),
        ("::ffff:127.0.0.1", "this machine"),
        ("::ffff:8.8.8.8", "only private networks"),
        ("64:ff9b::a00:1", "only private networks"),
        ("127.0.0.1", "this machine"),
        ("169.254.169.254", "metadata"),
        ("224.0.0.1", "multicast"),
        ("100.100.100.200", "metadata"),
    ] {
        let error = block(scanner.ports(&ips(&[address]), &[80], 10, &tag())).unwrap_err();
        assert!(matches!(&error, CallError::Denied(text) if text.contains(why)), "{address}: {error}");
    }
}

#[test]
fn connections_decide_the_same_as_syns() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [open.local_addr().unwrap().port(), closed.local_addr().unwrap().port()];
    drop(closed);
    let outcome = block(connect::run(&ips(&["127.0.0.1"]), &ports, Keys::Ports, 1_000));
    assert_eq!((outcome.yes.iter().collect::<Vec<_>>(), outcome.answered.ones(), outcome.doubt), (vec![0], 2, None));
}

#[tokio::test]
async fn a_greeting_is_bounded_and_a_certificate_is_read_whoever_made_it() {
    let talker = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = talker.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in talker.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(&vec![b'x'; 100_000]));
        }
    });
    let (scanner, _) = scanner(Guard::loopback(true));
    let greeted = scanner.greet(&[(at, false)], &tag()).await.unwrap().remove(0);
    assert_eq!(greeted.greeting.unwrap().len(), GREETING_BYTES);

    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["web.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crypto::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(acceptor.clone().accept(stream));
        }
    });
    let shown = scanner.greet(&[(at, true)], &tag()).await.unwrap().remove(0).tls.unwrap().unwrap();
    assert_eq!((shown.negotiated.as_str(), shown.accepted.into_iter().collect::<Vec<_>>()), ("1.3", vec!["1.3"]));
    let facts = shown.certificate.unwrap();
    assert_eq!(
        (facts.names, facts.key_type.as_str(), facts.key_bits),
        (vec!["web.example".to_owned()], "ec", Some(256))
    );
    assert!(facts.is_self_signed && facts.sha256 == crypto::sha256(certificate.der()));
}

/// OpenSSL's server with old versions allowed.
struct OldTls {
    child: Child,
    at: SocketAddr,
    /// It ends when nobody takes what it says.
    _said: BufReader<ChildStdout>,
}

impl OldTls {
    fn start(folder: &std::path::Path, version: &str) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", version])
            .args(["-cipher", "ALL:@SECLEVEL=0"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`cargo xtask setup` installs openssl");
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let at = said.by_ref().lines().find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse().ok());
        let at = at.expect("`openssl s_server` says where it listens");
        Self { child, at, _said: said }
    }
}

impl Drop for OldTls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_of_yesterday_is_seen_to_take_tls_1_0_and_1_1_and_its_certificate_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["old.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
    let (scanner, _) = scanner(Guard::loopback(true));
    for (version, negotiated, accepted) in [
        ("-tls1", "1.0", vec!["1.0"]),
        ("-tls1_1", "1.1", vec!["1.1"]),
        ("-no_tls1_3", "1.2", vec!["1.0", "1.1", "1.2"]),
        ("-tls1_3", "1.3", vec!["1.3"]),
    ] {
        let server = OldTls::start(folder.path(), version);
        let shown = block(scanner.greet(&[(server.at, true)], &tag())).unwrap().remove(0).tls.unwrap().unwrap();
        assert_eq!((shown.negotiated.as_str(), shown.accepted.into_iter().collect::<Vec<_>>()), (negotiated, accepted));
        // Of TLS 1.3 it is read too, since that handshake is brought to its end.
        assert_eq!(shown.certificate.unwrap().names, ["old.example"], "{version}");
    }
}
