//! What another server gets, and what nobody else does, on one PostgreSQL.

use std::sync::Mutex;

use crypto::aead::AeadKey;
use domain::{Clock, DestinationId, RelayId, Rng};
use gateway::HubSettings;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use store::{OpenOptions, VaultOptions};
use testkit::{Postgres, TestClock, TestDatabase, TestRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::relay::Connect;

use super::*;

/// Servers of one database.
struct World {
    database: TestDatabase<'static>,
    clock: Arc<TestClock>,
    rng: Arc<TestRng>,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    stores: Mutex<Vec<Store>>,
}

impl World {
    fn new() -> Self {
        Self {
            database: Postgres::shared().database(),
            clock: Arc::default(),
            rng: Arc::new(TestRng::seeded(3)),
            dir: tempfile::tempdir().unwrap(),
            stop: CancellationToken::new(),
            stores: Mutex::default(),
        }
    }

    async fn store(&self, number: usize) -> Store {
        let store = Store::open(OpenOptions {
            url: self.database.app_url.clone(),
            owner_url: Some(self.database.owner_url.clone()),
            master: AeadKey::from_bytes([7; 32]),
            vault: VaultOptions { witness: Some(self.dir.path().join(number.to_string())), ..VaultOptions::default() },
            blobs: self.dir.path().join("blobs"),
            clock: self.clock.clone(),
            rng: self.rng.clone(),
        });
        let store = store.await.unwrap();
        self.stores.lock().unwrap().push(store.clone());
        store
    }

    /// A server that is published and takes no connections: its row stays as a test left it.
    async fn silent(&self, number: usize) -> Arc<Peers> {
        let store = self.store(number).await;
        let relays = Relays::new(HubSettings::default(), self.rng.clone(), format!("server-{number}"));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let peers = Arc::new(Peers::make(&store, &Arc::new(relays), socket, address).await.unwrap());
        peers.store.peer_publish(&peers.key, &peers.own).await.unwrap();
        peers
    }

    /// A server that others reach. It publishes its row again while it lives.
    async fn server(&self, number: usize) -> Arc<Peers> {
        let peers = self.silent(number).await;
        tokio::spawn(Arc::clone(&peers).keep(self.stop.clone()));
        peers
    }

    fn ask(&self) -> Ask {
        let (clock, rng): (&dyn Clock, &dyn Rng) = (&*self.clock, &*self.rng);
        let connect = Connect { destination: DestinationId::generate(clock, rng), from: None };
        Ask { relay: RelayId::generate(clock, rng), connect }
    }

    async fn close(self) {
        self.stop.cancel();
        let stores = std::mem::take(&mut *self.stores.lock().unwrap());
        for store in stores {
            store.close().await;
        }
    }
}

/// Says what a server says that wants a relay, and hears what comes back, as somebody with this certificate or none.
async fn stranger(
    to: &Peers,
    ask: &Ask,
    shows: Option<(Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>)>,
) -> Option<Answer> {
    let tls = ClientConfig::builder_with_provider(crypto::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(crypto::pinned::only(to.own.certificate));
    let mut tls = match shows {
        // Whatever the key is: that it is the certificate's is for the other side to see.
        Some((chain, key)) => {
            let key = crypto::tls::provider().key_provider.load_private_key(PrivateKeyDer::Pkcs8(key)).unwrap();
            let shown = Arc::new(CertifiedKey::new(chain, key));
            tls.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
        }
        None => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![peer::PROTOCOL.to_vec()];
    let socket = TcpStream::connect(&to.own.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    let mut stream = connector.connect(ServerName::try_from(NAME).unwrap(), socket).await.ok()?;
    peer::ask(&mut stream, ask).await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_one_installation_hear_each_other_and_nobody_else_is_told_anything() {
    let world = World::new();
    let (one, two) = (world.server(1).await, world.server(2).await);
    // They agree that the relay is not there.
    assert_eq!(one.reach(two.own.server, &world.ask()).await.err(), Some(PeerLost::Elsewhere));
    assert_eq!(two.reach(one.own.server, &world.ask()).await.err(), Some(PeerLost::Elsewhere));
    assert_eq!(one.reach(Uuid::from_u128(7), &world.ask()).await.err(), Some(PeerLost::NotReached));

    let ask = world.ask();
    let known = (one.chain.clone(), one.secret.clone_key());
    assert_eq!(stranger(&two, &ask, Some(known)).await, Some(Answer::Elsewhere), "whoever is a server hears an answer");
    assert_eq!(stranger(&two, &ask, None).await, None, "no certificate");
    assert_eq!(stranger(&two, &ask, Some(certificate().unwrap())).await, None, "one that somebody made");
    let own = (two.chain.clone(), two.secret.clone_key());
    assert_eq!(stranger(&two, &ask, Some(own)).await, None, "its own, which is no other server's");
    let stolen = (one.chain.clone(), certificate().unwrap().1);
    assert_eq!(stranger(&two, &ask, Some(stolen)).await, None, "another server's, without its key");
    // Who speaks no TLS is heard for no longer than a handshake.
    let mut plain = TcpStream::connect(&two.own.address).await.unwrap();
    let _ = plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard).await;
    assert!(!heard.windows(4).any(|word| word == b"HTTP"), "{heard:?}");

    // A server that is a server no more: its row is gone, or over.
    let gone = world.silent(3).await;
    two.store.peer_forget(gone.own.server).await.unwrap();
    assert!(matches!(gone.reach(two.own.server, &world.ask()).await.err(), Some(PeerLost::Away(_))));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_where_a_server_was_is_asked_for_nothing() {
    let world = World::new();
    let (one, two) = (world.silent(1).await, world.silent(2).await);
    // Another program has the address now, with a certificate of its own; what it is told is kept.
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (chain, key) = certificate().unwrap();
    let mut tls = ServerConfig::builder_with_provider(crypto::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))
        .unwrap();
    tls.alpn_protocols = vec![peer::PROTOCOL.to_vec()];
    let heard = tokio::spawn(async move {
        let socket = socket.accept().await.unwrap().0;
        let mut heard = Vec::new();
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(tls)).accept(socket).await {
            let _ = stream.read_to_end(&mut heard).await;
        }
        heard
    });
    let moved = ServerPeer { address, ..two.own.clone() };
    two.store.peer_publish(&two.key, &moved).await.unwrap();
    let lost = one.reach(two.own.server, &world.ask()).await.err();
    assert_eq!(lost, Some(PeerLost::Away(moved.address)));
    assert_eq!(heard.await.unwrap(), b"");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_says_nothing_keeps_no_server_away_for_longer_than_a_handshake() {
    let world = World::new();
    let (one, two) = (world.server(1).await, world.server(2).await);
    let mut crowd = Vec::new();
    for _ in 0..STRANGERS_MAX + 8 {
        crowd.push(TcpStream::connect(&two.own.address).await.unwrap());
    }
    // Those who are too many are closed at once, and those who say nothing after a while.
    let last = crowd.last_mut().unwrap();
    let closed = tokio::time::timeout(HANDSHAKE / 2, last.read(&mut [0])).await;
    assert_eq!(closed.expect("long before a handshake is over").unwrap_or(0), 0);
    let first = crowd.first_mut().unwrap();
    assert_eq!(first.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(one.reach(two.own.server, &world.ask()).await.err(), Some(PeerLost::Elsewhere));
    world.close().await;
}

#[test]
fn the_address_for_others_is_the_named_one_or_where_it_listens() {
    let listens = |text: &str| text.parse().unwrap();
    for (named, listen, expect) in [
        (None, "10.0.0.5:8444", Some("10.0.0.5:8444")),
        (None, "0.0.0.0:8444", None),
        (None, "[::]:8444", None),
        (Some("a.internal:8444"), "0.0.0.0:8444", Some("a.internal:8444")),
        (Some("a.internal:0"), "0.0.0.0:50123", Some("a.internal:50123")),
    ] {
        assert_eq!(address(named, listens(listen)).ok().as_deref(), expect, "{named:?} {listen}");
    }
}
