//! A client that chooses every byte and its own address.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::world::{Server, World};

/// Longest wait for an answer or for an end: debug builds on two busy cores are slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Who attacks, and who wants to be served meanwhile.
pub(crate) const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A server under attack.
pub(crate) struct Target {
    pub(crate) server: Server,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    config_h2: Arc<ClientConfig>,
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Target {
    pub(crate) fn start(world: &World) -> Self {
        Self::of(world.start(), world)
    }

    pub(crate) fn of(server: Server, world: &World) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(world.data().join("ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = |protocol: &[u8]| {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        let address = server.url.strip_prefix("https://").unwrap().parse().unwrap();
        Self { server, address, config: config(b"http/1.1"), config_h2: config(b"h2") }
    }

    /// A TCP connection from this address of the loopback network.
    pub(crate) fn tcp(&self, from: Ipv4Addr) -> std::io::Result<TcpStream> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrV4::new(from, 0))?;
        connect(&socket, &self.address)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(crate) fn tls(&self, from: Ipv4Addr) -> Tls {
        self.secured(from, &self.config).unwrap()
    }

    pub(crate) fn try_tls(&self, from: Ipv4Addr) -> std::io::Result<Tls> {
        self.secured(from, &self.config)
    }

    pub(crate) fn tls_h2(&self, from: Ipv4Addr) -> Tls {
        self.secured(from, &self.config_h2).unwrap()
    }

    fn secured(&self, from: Ipv4Addr, config: &Arc<ClientConfig>) -> std::io::Result<Tls> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), self.tcp(from)?);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(tls)
    }

    /// Asks for the state of health as somebody else, who has to be served whatever goes on.
    #[track_caller]
    pub(crate) fn others_are_served(&self) {
        let began = Instant::now();
        let answer = self.ask(OTHER, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
        assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    }

    /// Sends these bytes on a connection of their own, and reads the answer up to the end of the connection.
    pub(crate) fn ask(&self, from: Ipv4Addr, request: &[u8]) -> Answer {
        let mut tls = self.tls(from);
        // Who is refused early may find the connection closed while it still sends.
        let _ = tls.write_all(request).and_then(|()| tls.flush());
        let answers = read_to_end(&mut tls);
        answer(&answers).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&answers)))
    }

    /// Resident memory of the server, in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
    }
}

/// Everything until the connection ends, one way or another.
pub(crate) fn read_to_end(tls: &mut Tls) -> Vec<u8> {
    let (mut bytes, mut part) = (Vec::new(), [0; 16_384]);
    loop {
        match tls.read(&mut part) {
            Ok(0) => return bytes,
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection goes on: {:?}", String::from_utf8_lossy(&bytes))
            }
            Err(_) => return bytes,
        }
    }
}

/// The first whole answer in these bytes.
pub(crate) fn answer(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head: head.to_owned(), body: String::new() };
    let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok())?;
    body.get(..length)?.clone_into(&mut answer.body);
    Some(answer)
}
