//! Served through the real listener, with a clock that is set by hand.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use rustls_pki_types::ServerName;
use testkit::TestClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::tls::probe::{connect, handshake};

struct World {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    certificates: Arc<Certificates>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl World {
    async fn new(change: impl FnOnce(&Path, &mut ServerSection)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut section = ServerSection::default();
        change(dir.path(), &mut section);
        let data = Arc::new(DataDir::open(&dir.path().join("data")).unwrap());
        let clock = Arc::new(TestClock::default());
        let certificates = Certificates::open(&section, data, clock.clone()).unwrap();
        let tls = crate::tls::server_configs(Arc::clone(&certificates), false).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(crate::listen::serve(
            listener,
            Some(tls),
            axum::Router::new().route("/", axum::routing::get(|| async { "here" })),
            crate::listen::Limits::new(&section, None),
            clock.clone(),
            Arc::new(testkit::TestRng::seeded(7)),
            stop.clone(),
            Duration::from_secs(1),
        ));
        Self { dir, clock, certificates, address, stop }
    }

    async fn served(&self) -> CertificateDer<'static> {
        handshake(self.address, localhost(), &[b"h2"]).await.unwrap().0.remove(0)
    }

    /// Looks as often as it takes for files to be seen unchanged.
    fn look(&self) {
        self.certificates.look();
        self.certificates.look();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

async fn get(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
    }
    String::from_utf8(answer).unwrap()
}

/// A self-signed pair in two files, as another program would put them there.
fn put_pair(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write_private(&dir.join("own.key"), made.signing_key.serialize_pem().as_bytes()).unwrap();
    write_private(&dir.join("own.crt"), made.cert.pem().as_bytes()).unwrap();
    made.cert.der().clone()
}

#[tokio::test]
async fn a_certificate_is_renewed_while_connections_go_on() {
    let world = World::new(|_, _| {}).await;
    let mut connection = connect(world.address, localhost(), &[b"http/1.1"]).await.unwrap();
    assert!(get(&mut connection).await.starts_with("HTTP/1.1 200"));
    let (first, fingerprint) = (world.served().await, world.certificates.fingerprint().unwrap());
    world.certificates.look();
    assert_eq!(world.served().await, first, "nothing is due");
    world.clock.advance(Duration::from_hours(61 * 24));
    world.certificates.look();
    let second = world.served().await;
    assert_ne!(second, first);
    assert_eq!(world.certificates.fingerprint(), Some(fingerprint), "what clients pin stays");
    assert!(get(&mut connection).await.starts_with("HTTP/1.1 200"), "the connection of before goes on");
    assert!(crate::authority::term_of(&second).unwrap().1 > world.clock.now().as_seconds() + 80 * 86_400);
}

#[tokio::test]
async fn the_own_authority_is_told_for_names_at_which_it_is_what_clients_have_to_trust() {
    use api::ports::Certify as _;
    let world = World::new(|_, section| section.names = vec!["cairn.example.com".to_owned()]).await;
    let pem = world.certificates.authority("localhost").unwrap();
    let told = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert!(verifies(&world.served().await, &[], &told, &*world.clock));
    assert_eq!(fs::read_to_string(world.certificates.data.join("ca.crt")).unwrap().replace("\r\n", "\n"), pem);
    assert_eq!(world.certificates.authority("cairn.example.com").as_ref(), Some(&pem));
    assert_eq!(world.certificates.authority("127.0.0.1").as_ref(), Some(&pem));
    // Of somebody who stands in front, and whatever else one may write into a header.
    for name in ["proxy.example.com", "", "localhost:8443", "*"] {
        assert_eq!(world.certificates.authority(name), None, "{name}");
    }
    // From an ACME server there is another certificate for one of the names.
    let made = rcgen::generate_simple_self_signed(["cairn.example.com".to_owned()]).unwrap();
    let pair = certified(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    world.certificates.serve_ordered(pair);
    assert_eq!(world.certificates.authority("cairn.example.com"), None);
    assert_eq!(world.certificates.authority("localhost"), Some(pem));
    // Files that are somebody's.
    let world = World::new(|dir, section| {
        put_pair(dir);
        (section.certificate, section.certificate_key) = (Some(dir.join("own.crt")), Some(dir.join("own.key")));
    })
    .await;
    assert_eq!(world.certificates.authority("localhost"), None);
}

#[tokio::test]
async fn other_names_and_a_certificate_that_signed_itself_lead_to_another_one_at_the_next_start() {
    let world = World::new(|_, _| {}).await;
    let (first, fingerprint) = (world.served().await, world.certificates.fingerprint());
    let (dir, data) = (&world.dir, Arc::clone(&world.certificates.data));
    let mut section = ServerSection::default();
    let again = Certificates::open(&section, Arc::clone(&data), world.clock.clone()).unwrap();
    assert_eq!(again.base().cert[0], first, "the same names: the same certificate");
    section.names = vec!["cairn.example.com".to_owned()];
    let again = Certificates::open(&section, Arc::clone(&data), world.clock.clone()).unwrap();
    assert!(names_of(&again.base().cert[0]).unwrap().contains("cairn.example.com"));
    assert_eq!(again.fingerprint(), fingerprint);

    // As versions before the authority left it.
    let old = put_pair(dir.path());
    for (from, to) in [("own.crt", "tls.crt"), ("own.key", "tls.key")] {
        fs::copy(dir.path().join(from), data.join(to)).unwrap();
    }
    let again = Certificates::open(&section, Arc::clone(&data), world.clock.clone()).unwrap();
    assert_ne!(again.base().cert[0], old);
    assert_eq!(again.fingerprint(), fingerprint);
    let kept = read_pair(&data.join("tls.crt"), &data.join("tls.key")).unwrap();
    assert_eq!(kept.cert, again.base().cert, "what is served is what is kept");
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_bad_ones_change_nothing() {
    let mut first = None;
    let world = World::new(|dir, section| {
        first = Some(put_pair(dir));
        section.certificate = Some(dir.join("own.crt"));
        section.certificate_key = Some(dir.join("own.key"));
    })
    .await;
    let dir = world.dir.path();
    assert_eq!(world.served().await, first.unwrap());
    let second = put_pair(dir);
    world.certificates.look();
    assert_ne!(world.served().await, second, "whoever writes them may not be done");
    world.look();
    assert_eq!(world.served().await, second);
    for bad in ["nonsense", "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        write_private(&dir.join("own.crt"), bad.as_bytes()).unwrap();
        world.look();
        assert_eq!(world.served().await, second, "{bad:?}");
    }
    // A certificate whose key is another one's, and a key that others may read.
    let third = put_pair(dir);
    let key = fs::read(dir.join("own.key")).unwrap();
    put_pair(dir);
    write_private(&dir.join("own.key"), &key).unwrap();
    world.look();
    assert_eq!(world.served().await, second);
    let open = put_pair(dir);
    fs::set_permissions(dir.join("own.key"), fs::Permissions::from_mode(0o644)).unwrap();
    world.look();
    assert_eq!(world.served().await, second);
    assert_ne!(third, open);
    let last = put_pair(dir);
    world.look();
    assert_eq!(world.served().await, last);
}
